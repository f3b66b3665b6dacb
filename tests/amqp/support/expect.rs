//! What must come next, with messages that say what came instead.

use std::ops::Deref;
use std::time::Duration;

use leveret_protocol::{
    BasicProperties, ClassId, Method, MethodId, ReplyCode, ShortString, access, basic, channel, confirm, connection,
    exchange, queue, tx,
};

use super::{Arrived, Client, DEADLINE};

/// A method that a broker may send.
pub trait Expected: Sized {
    const NAME: &'static str;

    fn from_method(method: Method) -> Option<Self>;
}

macro_rules! expected {
    ($($variant:ident($module:ident::$name:ident),)*) => {
        $(impl Expected for $module::$name {
            const NAME: &'static str = $module::$name::NAME;

            fn from_method(method: Method) -> Option<Self> {
                if let Method::$variant(method) = method { Some(method) } else { None }
            }
        })*
    };
}

expected! {
    ConnectionStart(connection::Start),
    ConnectionTune(connection::Tune),
    ConnectionOpenOk(connection::OpenOk),
    ConnectionClose(connection::Close),
    ConnectionCloseOk(connection::CloseOk),
    ConnectionBlocked(connection::Blocked),
    ConnectionUnblocked(connection::Unblocked),
    ConnectionUpdateSecretOk(connection::UpdateSecretOk),
    ChannelOpenOk(channel::OpenOk),
    ChannelFlowOk(channel::FlowOk),
    ChannelClose(channel::Close),
    ChannelCloseOk(channel::CloseOk),
    AccessRequestOk(access::RequestOk),
    ExchangeDeclareOk(exchange::DeclareOk),
    ExchangeDeleteOk(exchange::DeleteOk),
    ExchangeBindOk(exchange::BindOk),
    ExchangeUnbindOk(exchange::UnbindOk),
    QueueDeclareOk(queue::DeclareOk),
    QueueBindOk(queue::BindOk),
    QueuePurgeOk(queue::PurgeOk),
    QueueDeleteOk(queue::DeleteOk),
    QueueUnbindOk(queue::UnbindOk),
    BasicQosOk(basic::QosOk),
    BasicConsumeOk(basic::ConsumeOk),
    BasicCancel(basic::Cancel),
    BasicCancelOk(basic::CancelOk),
    BasicReturn(basic::Return),
    BasicDeliver(basic::Deliver),
    BasicGetOk(basic::GetOk),
    BasicGetEmpty(basic::GetEmpty),
    BasicAck(basic::Ack),
    BasicNack(basic::Nack),
    BasicRecoverOk(basic::RecoverOk),
    ConfirmSelectOk(confirm::SelectOk),
    TxSelectOk(tx::SelectOk),
    TxCommitOk(tx::CommitOk),
    TxRollbackOk(tx::RollbackOk),
}

/// A method with its content; its fields are the method's.
#[derive(Clone, Debug)]
pub struct Received<M> {
    pub method: M,
    pub properties: BasicProperties,
    /// Property flags and list, octet for octet.
    pub property_octets: Vec<u8>,
    pub body: Vec<u8>,
    /// The payload lengths of its body frames.
    pub frame_lens: Vec<usize>,
}

impl<M> Deref for Received<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.method
    }
}

impl<M: Expected> Received<M> {
    pub(super) fn from_arrived(arrived: Arrived) -> Option<Self> {
        let content = arrived.content?;
        let method = M::from_method(arrived.method)?;
        Some(Self {
            method,
            properties: content.properties,
            property_octets: content.property_octets,
            body: content.body,
            frame_lens: content.frame_lens,
        })
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}

impl Received<basic::Deliver> {
    pub const fn tag(&self) -> u64 {
        self.method.delivery_tag.get()
    }
}

impl Received<basic::GetOk> {
    pub const fn tag(&self) -> u64 {
        self.method.delivery_tag.get()
    }
}

impl Client {
    /// The next method on the channel, which must be this one.
    #[track_caller]
    pub fn expect<M: Expected>(&mut self, channel: u16) -> M {
        let arrived = self.arrives_on(channel, M::NAME);
        let shown = arrived.to_string();
        M::from_method(arrived.method).unwrap_or_else(|| panic!("expected {} but came {shown}", M::NAME))
    }

    /// The next method on the channel, which must be this one, with its content.
    #[track_caller]
    pub fn expect_content<M: Expected>(&mut self, channel: u16) -> Received<M> {
        let arrived = self.arrives_on(channel, M::NAME);
        let shown = arrived.to_string();
        Received::from_arrived(arrived).unwrap_or_else(|| panic!("expected {} but came {shown}", M::NAME))
    }

    #[track_caller]
    pub fn expect_deliver(&mut self, channel: u16) -> Received<basic::Deliver> {
        self.expect_content(channel)
    }

    /// Deliveries with these bodies, in this order.
    #[track_caller]
    pub fn expect_deliveries(&mut self, channel: u16, bodies: &[&str]) -> Vec<Received<basic::Deliver>> {
        let mut deliveries = Vec::new();
        for _ in bodies {
            deliveries.push(self.expect_deliver(channel)); // not in a closure, for which the caller could not be tracked
        }
        let came: Vec<&str> = deliveries.iter().map(Received::text).collect();
        assert_eq!(came, bodies, "bodies of the deliveries on channel {channel}");
        deliveries
    }

    #[track_caller]
    pub fn expect_return(&mut self, channel: u16) -> Received<basic::Return> {
        self.expect_content(channel)
    }

    /// Sends a method and takes its answer, which must come next on the channel.
    #[track_caller]
    pub fn call<M: Expected>(&mut self, channel: u16, method: impl Into<Method>) -> M {
        self.send(channel, method);
        self.expect(channel)
    }

    /// Sends a method and takes what comes next on the channel.
    #[track_caller]
    pub fn rpc(&mut self, channel: u16, method: impl Into<Method>) -> Method {
        self.send(channel, method);
        self.arrives_on(channel, "an answer").method
    }

    /// The broker closes the channel for this reason; `text` is the explanation after the code's name. Answers close-ok.
    #[track_caller]
    pub fn expect_channel_close(&mut self, channel: u16, code: u16, text: &str, ids: (u16, u16)) {
        let close: channel::Close = self.expect(channel);
        let came = (close.reply_code, close.reply_text, close.class_id, close.method_id);
        assert_eq!(came, close_fields(code, text, ids), "channel.close on channel {channel}");
        self.send(channel, channel::CloseOk);
    }

    /// The broker closes the channel with this code. Answers close-ok.
    #[track_caller]
    pub fn expect_channel_close_code(&mut self, channel: u16, code: u16) -> ShortString {
        let close: channel::Close = self.expect(channel);
        assert_eq!(close.reply_code.get(), code, "channel.close on channel {channel}: {close:?}");
        self.send(channel, channel::CloseOk);
        close.reply_text
    }

    /// The broker closes the connection for this reason; `text` is the explanation after the code's name, empty if there is
    /// none. Answers close-ok.
    #[track_caller]
    pub fn expect_connection_close(&mut self, code: u16, text: &str, ids: (u16, u16)) {
        let close: connection::Close = self.expect(0);
        let came = (close.reply_code, close.reply_text, close.class_id, close.method_id);
        assert_eq!(came, close_fields(code, text, ids), "connection.close");
        self.try_send_bytes(&super::method_frame(0, connection::CloseOk));
    }

    /// The broker closes the connection with this code. Answers close-ok.
    #[track_caller]
    pub fn expect_connection_close_code(&mut self, code: u16) -> ShortString {
        let close: connection::Close = self.expect(0);
        assert_eq!(close.reply_code.get(), code, "{close:?}");
        self.try_send_bytes(&super::method_frame(0, connection::CloseOk));
        close.reply_text
    }

    /// Nothing but heartbeats comes, on any channel, for as long.
    #[track_caller]
    pub fn expect_nothing_for(&mut self, time: Duration) {
        if let Some(arrived) = self.next(time) {
            panic!("expected nothing for {time:?} but came {arrived}");
        }
        assert!(!self.is_closed(), "expected nothing for {time:?} but the broker closed the socket");
    }

    /// The broker closes the socket, having sent nothing that was not asked for.
    #[track_caller]
    pub fn expect_eof(&mut self) {
        self.expect_eof_within(DEADLINE);
    }

    #[track_caller]
    pub fn expect_eof_within(&mut self, time: Duration) {
        let arrived = self.next(time).map(|arrived| arrived.to_string());
        assert_eq!(arrived, None, "expected the end of the connection");
        assert!(self.is_closed(), "the socket is still open after {time:?}");
    }

    /// What comes next on the channel; that the connection ends instead fails the test.
    #[track_caller]
    pub(super) fn arrives_on(&mut self, channel: u16, wanted: &str) -> Arrived {
        let closes = |arrived: &Arrived| matches!(arrived.method, Method::ConnectionClose(_));
        let next = self.next_matching(DEADLINE, |arrived| arrived.channel == channel || closes(arrived));
        let Some(arrived) = next else {
            let why = if self.is_closed() { "the broker closed the socket" } else { "nothing came in time" };
            panic!("expected {wanted} on channel {channel} but {why}; {}", self.left_over());
        };
        assert!(
            arrived.channel == channel || !closes(&arrived),
            "expected {wanted} on channel {channel} but came {arrived}"
        );
        arrived
    }
}

/// The fields of a close method as RabbitMQ words them.
fn close_fields(code: u16, text: &str, (class, method): (u16, u16)) -> (ReplyCode, ShortString, ClassId, MethodId) {
    let code = ReplyCode::new(code);
    let text = if text.is_empty() { code.name().to_owned() } else { format!("{} - {text}", code.name()) };
    (code, ShortString::truncated(&text), ClassId::new(class), MethodId::new(method))
}
