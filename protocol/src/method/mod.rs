//! Methods: ids and arguments (spec §1.4–1.9 and 4.2.4, with RabbitMQ's extensions).
//!
//! One module per class, one struct per method, its fields named as in the spec. Access tickets are read, not kept, and
//! written as 0. A method decodes only if its arguments are used up to the last octet, as in RabbitMQ; short strings must be
//! UTF-8, except in methods that carry content.
//! Not here: which method is allowed when (the broker), content headers (`properties`).

/// Defines a method: `Name(class, method, "wire.name")[traits] { arguments in wire order }`, the braces being absent if
/// there are no arguments. Consecutive `bool`s share octets.
macro_rules! method {
    (
        $(#[$doc:meta])*
        $name:ident($class:literal, $method:literal, $wire_name:literal)[$($trait:ident),*] {
            $($(#[$field_doc:meta])* $field:ident: $type:ty,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[allow(clippy::struct_excessive_bools, reason = "the bits are the spec's")]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)+
        }

        method!(@impl $name($class, $method, $wire_name)[$($trait),*] { $($field)+ });
    };
    (
        $(#[$doc:meta])*
        $name:ident($class:literal, $method:literal, $wire_name:literal)[$($trait:ident),*]
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name;

        method!(@impl $name($class, $method, $wire_name)[$($trait),*] {});
    };
    (@impl $name:ident($class:literal, $method:literal, $wire_name:literal)[$($trait:ident),*] { $($field:ident)* }) => {
        impl $name {
            /// The class id.
            pub const CLASS: $crate::ids::ClassId = $crate::ids::ClassId::new($class);
            /// The method id.
            pub const METHOD: $crate::ids::MethodId = $crate::ids::MethodId::new($method);
            /// The name as the spec writes it.
            pub const NAME: &'static str = $wire_name;
            /// Whether a content follows.
            pub const HAS_CONTENT: bool = Self::TRAITS.has_content;
            /// Whether only a server may send it.
            pub const SERVER_ONLY: bool = Self::TRAITS.server_only;

            const TRAITS: $crate::method::Traits = $crate::method::Traits::NONE$(.$trait())*;

            /// Decodes the octets after the ids, all of which must belong to the arguments.
            #[inline]
            pub fn decode(arguments: &[u8]) -> Result<Self, $crate::error::DecodeError> {
                let mut reader = $crate::wire::Reader::new(arguments, !Self::HAS_CONTENT);
                Self::read(&mut reader)
                    .and_then(|method| reader.finish().map(|()| method))
                    .map_err(|error| error.of(Self::CLASS, Self::METHOD, arguments))
            }

            /// Appends the arguments, without the ids.
            #[inline]
            pub fn encode_arguments(&self, out: &mut Vec<u8>) {
                self.write(&mut $crate::wire::Writer::new(out));
            }

            /// The arguments by name, in wire order.
            pub fn arguments_mut(&mut self) -> Vec<(&'static str, $crate::method::ArgumentMut<'_>)> {
                let Self { $($field),* } = self;
                vec![$((stringify!($field), $crate::wire::Field::as_argument($field))),*]
            }

            #[inline]
            fn read(reader: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::FieldError> {
                if Self::TRAITS.has_ticket {
                    reader.read::<u16>()?;
                }
                Ok(Self { $($field: reader.read()?),* })
            }

            #[inline]
            fn write(&self, writer: &mut $crate::wire::Writer<'_>) {
                if Self::TRAITS.has_ticket {
                    writer.write(&0_u16);
                }
                let Self { $($field),* } = self;
                $(writer.write($field);)*
            }
        }
    };
}

pub mod access;
pub mod basic;
pub mod channel;
pub mod confirm;
pub mod connection;
pub mod exchange;
pub mod queue;
pub mod tx;

use nom::IResult;
use nom::number::complete::be_u16;

use crate::encode::{begin_frame, end_frame, put_u16};
use crate::error::DecodeError;
use crate::frame::FrameKind;
use crate::ids::{ChannelId, ClassId, DeliveryTag, MethodId, ReplyCode};
use crate::string::{LongString, ShortString};
use crate::value::FieldTable;

/// An argument of a method whose type is known only at run time.
#[derive(Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the types of arguments")]
pub enum ArgumentMut<'a> {
    Bit(&'a mut bool),
    U8(&'a mut u8),
    U16(&'a mut u16),
    U32(&'a mut u32),
    U64(&'a mut u64),
    ClassId(&'a mut ClassId),
    MethodId(&'a mut MethodId),
    ReplyCode(&'a mut ReplyCode),
    DeliveryTag(&'a mut DeliveryTag),
    ShortString(&'a mut ShortString),
    LongString(&'a mut LongString),
    Table(&'a mut FieldTable),
}

/// What sets one method apart from another besides its arguments.
#[derive(Clone, Copy)]
struct Traits {
    has_ticket: bool,
    has_content: bool,
    server_only: bool,
}

impl Traits {
    const NONE: Self = Self { has_ticket: false, has_content: false, server_only: false };

    /// The arguments begin with an access ticket.
    const fn ticket(self) -> Self {
        Self { has_ticket: true, ..self }
    }

    /// A content follows.
    const fn content(self) -> Self {
        Self { has_content: true, ..self }
    }

    /// Only a server may send it.
    const fn server(self) -> Self {
        Self { server_only: true, ..self }
    }
}

/// The enum of all methods, and what it passes on to the method at hand.
macro_rules! all_methods {
    ($($variant:ident($module:ident::$name:ident),)*) => {
        /// Any method of any class.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Method {
            $(
                #[doc = concat!("See [`", stringify!($module), "::", stringify!($name), "`].")]
                $variant($module::$name),
            )*
        }

        impl Method {
            /// Decodes the payload of a method frame: class id, method id, arguments.
            pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
                let (arguments, ids) = ids(payload).map_err(|_| DecodeError::TooShort)?;
                match ids {
                    $(($module::$name::CLASS, $module::$name::METHOD) => {
                        $module::$name::decode(arguments).map(Self::$variant)
                    })*
                    (class, method) => Err(DecodeError::UnknownMethod { class, method }),
                }
            }

            /// Class and method id.
            pub const fn ids(&self) -> (ClassId, MethodId) {
                match self {
                    $(Self::$variant(_) => ($module::$name::CLASS, $module::$name::METHOD),)*
                }
            }

            /// The name as the spec writes it: `queue.declare`.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $module::$name::NAME,)*
                }
            }

            /// The method of that name with all arguments at zero, false or empty.
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $($module::$name::NAME => Some($module::$name::default().into()),)*
                    _ => None,
                }
            }

            /// The arguments by name, in wire order: for tools that read methods from text or show them.
            pub fn arguments_mut(&mut self) -> Vec<(&'static str, ArgumentMut<'_>)> {
                match self {
                    $(Self::$variant(method) => method.arguments_mut(),)*
                }
            }

            /// Whether a content follows the method.
            pub const fn has_content(&self) -> bool {
                match self {
                    $(Self::$variant(_) => $module::$name::HAS_CONTENT,)*
                }
            }

            /// Whether only a server may send the method.
            pub const fn is_from_server_only(&self) -> bool {
                match self {
                    $(Self::$variant(_) => $module::$name::SERVER_ONLY,)*
                }
            }

            fn encode_arguments(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(method) => method.encode_arguments(out),)*
                }
            }
        }

        $(impl From<$module::$name> for Method {
            fn from(method: $module::$name) -> Self {
                Self::$variant(method)
            }
        })*
    };
}

all_methods! {
    ConnectionStart(connection::Start),
    ConnectionStartOk(connection::StartOk),
    ConnectionSecure(connection::Secure),
    ConnectionSecureOk(connection::SecureOk),
    ConnectionTune(connection::Tune),
    ConnectionTuneOk(connection::TuneOk),
    ConnectionOpen(connection::Open),
    ConnectionOpenOk(connection::OpenOk),
    ConnectionClose(connection::Close),
    ConnectionCloseOk(connection::CloseOk),
    ConnectionBlocked(connection::Blocked),
    ConnectionUnblocked(connection::Unblocked),
    ConnectionUpdateSecret(connection::UpdateSecret),
    ConnectionUpdateSecretOk(connection::UpdateSecretOk),
    ChannelOpen(channel::Open),
    ChannelOpenOk(channel::OpenOk),
    ChannelFlow(channel::Flow),
    ChannelFlowOk(channel::FlowOk),
    ChannelClose(channel::Close),
    ChannelCloseOk(channel::CloseOk),
    AccessRequest(access::Request),
    AccessRequestOk(access::RequestOk),
    ExchangeDeclare(exchange::Declare),
    ExchangeDeclareOk(exchange::DeclareOk),
    ExchangeDelete(exchange::Delete),
    ExchangeDeleteOk(exchange::DeleteOk),
    ExchangeBind(exchange::Bind),
    ExchangeBindOk(exchange::BindOk),
    ExchangeUnbind(exchange::Unbind),
    ExchangeUnbindOk(exchange::UnbindOk),
    QueueDeclare(queue::Declare),
    QueueDeclareOk(queue::DeclareOk),
    QueueBind(queue::Bind),
    QueueBindOk(queue::BindOk),
    QueuePurge(queue::Purge),
    QueuePurgeOk(queue::PurgeOk),
    QueueDelete(queue::Delete),
    QueueDeleteOk(queue::DeleteOk),
    QueueUnbind(queue::Unbind),
    QueueUnbindOk(queue::UnbindOk),
    BasicQos(basic::Qos),
    BasicQosOk(basic::QosOk),
    BasicConsume(basic::Consume),
    BasicConsumeOk(basic::ConsumeOk),
    BasicCancel(basic::Cancel),
    BasicCancelOk(basic::CancelOk),
    BasicPublish(basic::Publish),
    BasicReturn(basic::Return),
    BasicDeliver(basic::Deliver),
    BasicGet(basic::Get),
    BasicGetOk(basic::GetOk),
    BasicGetEmpty(basic::GetEmpty),
    BasicAck(basic::Ack),
    BasicReject(basic::Reject),
    BasicRecoverAsync(basic::RecoverAsync),
    BasicRecover(basic::Recover),
    BasicRecoverOk(basic::RecoverOk),
    BasicNack(basic::Nack),
    ConfirmSelect(confirm::Select),
    ConfirmSelectOk(confirm::SelectOk),
    TxSelect(tx::Select),
    TxSelectOk(tx::SelectOk),
    TxCommit(tx::Commit),
    TxCommitOk(tx::CommitOk),
    TxRollback(tx::Rollback),
    TxRollbackOk(tx::RollbackOk),
}

impl Method {
    /// Appends the payload of a method frame: class id, method id, arguments.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_ids(out, self.ids());
        self.encode_arguments(out);
    }

    /// Appends the whole frame.
    pub fn encode_frame(&self, channel: ChannelId, out: &mut Vec<u8>) {
        let mark = begin_frame(out, FrameKind::Method, channel);
        self.encode(out);
        end_frame(out, mark);
    }
}

/// The ids at the start of a method frame's payload.
#[inline]
pub fn peek_ids(payload: &[u8]) -> Option<(ClassId, MethodId)> {
    ids(payload).ok().map(|(_, ids)| ids)
}

#[inline]
fn ids(payload: &[u8]) -> IResult<&[u8], (ClassId, MethodId), ()> {
    let (payload, class) = be_u16(payload)?;
    let (payload, method) = be_u16(payload)?;
    Ok((payload, (ClassId::new(class), MethodId::new(method))))
}

#[inline]
fn put_ids(out: &mut Vec<u8>, (class, method): (ClassId, MethodId)) {
    put_u16(out, class.get());
    put_u16(out, method.get());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::FieldValue;

    /// Checks both directions.
    fn check(method: impl Into<Method>, payload: &[u8]) {
        let method = method.into();
        let mut out = Vec::new();
        method.encode(&mut out);
        assert_eq!(out, payload, "{method:?}");
        assert_eq!(Method::decode(payload), Ok(method));
    }

    #[test]
    fn queue_declare_packs_its_bits() {
        check(
            queue::Declare {
                queue: ShortString::from_static("q"),
                durable: true,
                no_wait: true,
                arguments: FieldTable::from_iter([(ShortString::from_static("k"), FieldValue::Int8(1))]),
                ..queue::Declare::default()
            },
            b"\0\x32\0\x0A\0\0\x01q\x12\0\0\0\x04\x01kb\x01",
        );
    }

    #[test]
    fn methods_and_their_arguments_have_names() {
        let mut method = Method::named("exchange.unbind").expect("there is such a method");
        for (name, argument) in method.arguments_mut() {
            match (name, argument) {
                ("source", ArgumentMut::ShortString(source)) => *source = ShortString::from_static("x"),
                ("no_wait", ArgumentMut::Bit(no_wait)) => *no_wait = true,
                ("destination" | "routing_key", ArgumentMut::ShortString(_)) | ("arguments", ArgumentMut::Table(_)) => {
                }
                unknown => panic!("{unknown:?}"),
            }
        }
        let unbind = exchange::Unbind { source: ShortString::from_static("x"), no_wait: true, ..Default::default() };
        assert_eq!(method, unbind.into());
        assert_eq!(Method::named("exchange.unbound"), None);
    }

    #[test]
    fn exchange_unbind_ok_has_the_odd_id() {
        check(exchange::UnbindOk, &[0, 40, 0, 51]);
    }

    #[test]
    fn a_close_carries_the_failed_method() {
        check(
            channel::Close {
                reply_code: ReplyCode::NOT_FOUND,
                reply_text: ShortString::from_static("NO"),
                class_id: ClassId::new(50),
                method_id: MethodId::new(10),
            },
            b"\0\x14\0\x28\x01\x94\x02NO\0\x32\0\x0A",
        );
    }

    #[test]
    fn a_frame_is_payload_in_its_envelope() {
        let mut out = Vec::new();
        Method::from(tx::Select).encode_frame(ChannelId::new(3), &mut out);
        assert_eq!(out, [1, 0, 3, 0, 0, 0, 4, 0, 90, 0, 10, 0xCE]);
        assert_eq!(peek_ids(&out[7..]), Some((tx::Select::CLASS, tx::Select::METHOD)));
    }

    #[test]
    fn tickets_are_read_and_written_as_zero() {
        let payload = b"\0\x3C\0\x46\0\x01\x01q\x01";
        let method = Method::decode(payload).expect("a ticket of 1 is legal");
        assert_eq!(method, basic::Get { queue: ShortString::from_static("q"), no_ack: true }.into());
        let mut out = Vec::new();
        method.encode(&mut out);
        assert_eq!(out, b"\0\x3C\0\x46\0\0\x01q\x01");
    }

    #[test]
    fn wrong_payloads_are_told_apart() {
        let check = |payload: &[u8], text: &str| {
            let error = Method::decode(payload).expect_err("the payload is wrong");
            assert_eq!(error.to_string(), text, "{payload:?}");
        };
        check(&[0, 10, 0], "method frame without class and method id");
        check(&[0, 10, 0, 12], "unimplemented method");
        check(&[0, 50, 0, 10, 0, 0, 5, 113], "cannot decode <<0,0,5,113>>");
        check(&[0, 90, 0, 10, 0], "cannot decode <<0>>");
        check(b"\0\x14\0\x0A\x01\xFF", "Malformed UTF-8 in shortstr");
        check(b"\0\x32\0\x0A\0\0\0\0\0\0\0\x03\x01kQ", "cannot decode table");
        check(b"\0\x32\0\x0A\0\0\0\0\0\0\0\x04\x01kV", "cannot decode <<0,0,0,0,0,0,0,4,1,107,86>>");
    }

    #[test]
    fn names_of_a_publish_may_be_any_octets() {
        let publish = basic::Publish {
            routing_key: ShortString::try_from(&[0xFF, 0xFE][..]).expect("short"),
            ..basic::Publish::default()
        };
        check(publish, b"\0\x3C\0\x28\0\0\0\x02\xFF\xFE\0");
    }

    #[test]
    fn directions_and_contents_are_known() {
        assert!(Method::from(queue::DeclareOk::default()).is_from_server_only());
        assert!(Method::from(basic::Deliver::default()).is_from_server_only());
        assert!(!Method::from(basic::Ack::default()).is_from_server_only());
        assert!(!Method::from(connection::CloseOk).is_from_server_only());
        assert!(Method::from(basic::Publish::default()).has_content());
        assert!(!Method::from(basic::GetEmpty::default()).has_content());
        assert_eq!(Method::from(basic::RecoverAsync::default()).name(), "basic.recover-async");
    }
}
