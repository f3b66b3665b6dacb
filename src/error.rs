//! Why a channel or a connection is closed on the peer: one enum, one mapping to codes and texts.
//!
//! A variant is a fact with its data. Leaf code returns it; the dispatcher alone adds class and method ids and builds the
//! close method. [`AmqpError::text`] gives the whole reply text as RabbitMQ words it, cut to 255 octets.

use std::fmt;

use leveret_protocol::{ChannelId, DeliveryTag, ReplyCode, ShortString};

/// Why a channel or a connection is closed on the peer (spec §4.8.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AmqpError {
    /// No such queue in the vhost.
    QueueNotFound {
        /// Its name as the peer gave it.
        queue: ShortString,
        /// The vhost searched.
        vhost: ShortString,
    },
    /// No such exchange in the vhost.
    ExchangeNotFound {
        /// Its name as the peer gave it.
        exchange: ShortString,
        /// The vhost searched.
        vhost: ShortString,
    },
    /// An empty queue name stands for the channel's last declared queue, and there is none.
    NoPreviouslyDeclaredQueue,
    /// The queue is exclusive to another connection, or redeclared with another exclusive bit.
    QueueLocked {
        /// The queue.
        queue: ShortString,
        /// Its vhost.
        vhost: ShortString,
    },
    /// The queue has an exclusive consumer, or cannot give one.
    QueueInExclusiveUse {
        /// The queue.
        queue: ShortString,
        /// Its vhost.
        vhost: ShortString,
    },
    /// basic.get from a quorum queue with a single active consumer.
    GetFromSingleActive {
        /// The queue.
        queue: ShortString,
        /// Its vhost.
        vhost: ShortString,
    },
    /// Delete if-unused of a queue with consumers.
    QueueInUse {
        /// The queue.
        queue: ShortString,
        /// Its vhost.
        vhost: ShortString,
    },
    /// Delete if-empty of a queue with ready messages.
    QueueNotEmpty {
        /// The queue.
        queue: ShortString,
        /// Its vhost.
        vhost: ShortString,
    },
    /// Delete if-unused of an exchange that is the source of bindings.
    ExchangeInUse {
        /// The exchange.
        exchange: ShortString,
        /// Its vhost.
        vhost: ShortString,
    },
    /// A name that only the broker may give.
    ReservedName {
        /// `queue` or `exchange`.
        kind: &'static str,
        /// The name as the peer gave it.
        name: ShortString,
    },
    /// Declare, delete, bind or unbind of the default exchange.
    DefaultExchange,
    /// Delete of a pre-declared exchange.
    SystemExchange {
        /// The exchange.
        exchange: ShortString,
        /// Its vhost.
        vhost: ShortString,
    },
    /// Publish to an internal exchange.
    InternalExchange {
        /// The exchange.
        exchange: ShortString,
        /// Its vhost.
        vhost: ShortString,
    },
    /// The user has no right to do it. The text is complete.
    AccessRefused(String),
    /// Exchange type that does not exist.
    UnknownExchangeType(ShortString),
    /// The same, told as RabbitMQ 3 does: the connection goes.
    UnknownExchangeTypeV3(ShortString),
    /// A redeclaration that differs from what exists. The text is complete.
    Inequivalent(String),
    /// An argument that the entity cannot have. The text is complete.
    BadArgument(String),
    /// Ack, nack or reject of a tag that is not outstanding.
    UnknownDeliveryTag(DeliveryTag),
    /// A delivery waits for its ack for too long.
    AckTimeout {
        /// The channel.
        channel: ChannelId,
        /// How long it may wait, in milliseconds.
        timeout_ms: u128,
    },
    /// The `expiration` property is not a number of milliseconds in range.
    BadExpiration {
        /// The property.
        value: ShortString,
        /// Why, as an Erlang term.
        why: String,
    },
    /// The `user-id` property names somebody else.
    UserIdMismatch {
        /// The property.
        claimed: ShortString,
        /// Who logged in.
        user: ShortString,
    },
    /// The body is larger than the broker accepts.
    MessageTooLarge {
        /// Announced body size in octets.
        size: u64,
        /// The limit in octets.
        max: u64,
    },
    /// The property list or header table of a publish cannot be decoded.
    UndecodableProperties,
    /// tx.commit or tx.rollback without tx.select.
    NotTransactional,
    /// tx.select on a confirm channel or the reverse; the words are the two modes, from and to.
    CannotSwitchMode {
        /// The mode the channel is in.
        from: &'static str,
        /// The mode asked for.
        to: &'static str,
    },
    /// A queue refused a message of the transaction.
    PartialTxCompletion,
    /// A consumer tag that the channel uses already.
    ConsumerTagInUse(ShortString),
    /// More consumers on a channel than the configuration allows.
    TooManyConsumers {
        /// As many as it allows.
        max: usize,
    },
    /// A feature of the specification that RabbitMQ leaves out, in RabbitMQ's words.
    NotImplemented(String),
    /// The peer sent a method that only servers send, or one that does not exist.
    UnimplementedMethod,
    /// A method on a channel that is not open.
    ChannelNotOpen,
    /// channel.open on an open channel.
    ChannelAlreadyOpen,
    /// More channels than negotiated.
    TooManyChannels {
        /// Channels that are open.
        open: usize,
        /// What was negotiated.
        channel_max: u16,
    },
    /// The broker has as many connections as it takes.
    NodeConnectionLimit(u64),
    /// The broker has as many channels as it takes.
    NodeChannelLimit {
        /// The broker's name.
        node: String,
        /// The limit.
        max: u64,
    },
    /// A connection-level method at the wrong time; the word is the connection's state.
    UnexpectedMethod(&'static str),
    /// A frame that does not follow from the one before (spec §4.2.6). The text is complete.
    UnexpectedFrame(String),
    /// A frame that cannot be read. The text is complete.
    BadFrame(String),
    /// Login refused.
    LoginRefused {
        /// The SASL mechanism tried.
        mechanism: ShortString,
    },
    /// The vhost asked for does not exist.
    VhostNotFound(ShortString),
    /// The vhost cannot be entered: no permission, or a limit is reached. The text is complete.
    VhostRefused(String),
    /// More channels than the user may have.
    UserChannelLimit {
        /// The user.
        user: ShortString,
        /// The limit.
        max: u64,
    },
    /// A limit of the negotiation was ignored by the peer. The text is complete.
    BadTuning(String),
    /// The operator or a shutdown closes the connection; the words are the reason.
    ConnectionForced(String),
    /// Something that must not happen did; the cause is in the log.
    Internal,
}

/// Whether an error ends a channel or its connection (spec §4.8.1: soft and hard errors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Only the channel is closed.
    Channel,
    /// The connection is closed.
    Connection,
}

impl AmqpError {
    /// The reply code.
    pub const fn code(&self) -> ReplyCode {
        match self {
            Self::QueueNotFound { .. } | Self::ExchangeNotFound { .. } | Self::NoPreviouslyDeclaredQueue => {
                ReplyCode::NOT_FOUND
            }
            Self::QueueLocked { .. } | Self::GetFromSingleActive { .. } => ReplyCode::RESOURCE_LOCKED,
            Self::QueueInExclusiveUse { .. }
            | Self::ReservedName { .. }
            | Self::DefaultExchange
            | Self::SystemExchange { .. }
            | Self::InternalExchange { .. }
            | Self::AccessRefused(_)
            | Self::LoginRefused { .. } => ReplyCode::ACCESS_REFUSED,
            Self::QueueInUse { .. }
            | Self::QueueNotEmpty { .. }
            | Self::ExchangeInUse { .. }
            | Self::UnknownExchangeType(_)
            | Self::Inequivalent(_)
            | Self::BadArgument(_)
            | Self::UnknownDeliveryTag(_)
            | Self::AckTimeout { .. }
            | Self::BadExpiration { .. }
            | Self::UserIdMismatch { .. }
            | Self::MessageTooLarge { .. }
            | Self::NotTransactional
            | Self::CannotSwitchMode { .. }
            | Self::PartialTxCompletion => ReplyCode::PRECONDITION_FAILED,
            Self::ConsumerTagInUse(_)
            | Self::TooManyConsumers { .. }
            | Self::VhostNotFound(_)
            | Self::VhostRefused(_)
            | Self::TooManyChannels { .. }
            | Self::UserChannelLimit { .. }
            | Self::NodeConnectionLimit(_)
            | Self::NodeChannelLimit { .. }
            | Self::BadTuning(_) => ReplyCode::NOT_ALLOWED,
            Self::NotImplemented(_) => ReplyCode::NOT_IMPLEMENTED,
            Self::UnimplementedMethod | Self::UnknownExchangeTypeV3(_) => ReplyCode::COMMAND_INVALID,
            Self::ChannelNotOpen | Self::ChannelAlreadyOpen | Self::UnexpectedMethod(_) => ReplyCode::CHANNEL_ERROR,
            Self::UnexpectedFrame(_) => ReplyCode::UNEXPECTED_FRAME,
            Self::BadFrame(_) => ReplyCode::FRAME_ERROR,
            Self::ConnectionForced(_) => ReplyCode::CONNECTION_FORCED,
            Self::UndecodableProperties | Self::Internal => ReplyCode::INTERNAL_ERROR,
        }
    }

    /// Whether the channel or the whole connection goes: by the reply code alone, except for login.
    pub fn severity(&self) -> Severity {
        if self.code().is_hard() || matches!(self, Self::LoginRefused { .. }) {
            Severity::Connection
        } else {
            Severity::Channel
        }
    }

    /// What RabbitMQ 3 answers in its place.
    #[must_use]
    pub fn as_in_v3(self) -> Self {
        if let Self::UnknownExchangeType(kind) = self { Self::UnknownExchangeTypeV3(kind) } else { self }
    }

    /// Whether the close method names no method: framing errors and limits are nobody's fault.
    pub const fn blames_no_method(&self) -> bool {
        matches!(
            self,
            Self::TooManyChannels { .. }
                | Self::AckTimeout { .. }
                | Self::UserChannelLimit { .. }
                | Self::NodeChannelLimit { .. }
                | Self::ConnectionForced(_)
                | Self::LoginRefused { .. }
                | Self::UndecodableProperties
        )
    }

    /// The whole reply text: `NOT_FOUND - no queue 'orders' in vhost '/'`, at most 255 octets.
    pub fn text(&self) -> ShortString {
        let name = self.code().name();
        if matches!(self, Self::UndecodableProperties | Self::Internal) {
            return ShortString::truncated(name);
        }
        ShortString::truncated(&format!("{name} - {self}"))
    }
}

impl fmt::Display for AmqpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueNotFound { queue, vhost } => write!(f, "no queue '{queue}' in vhost '{vhost}'"),
            Self::ExchangeNotFound { exchange, vhost } => write!(f, "no exchange '{exchange}' in vhost '{vhost}'"),
            Self::NoPreviouslyDeclaredQueue => f.write_str("no previously declared queue"),
            Self::QueueLocked { queue, vhost } => write!(
                f,
                "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally \
                 declared on another connection or the exclusive property value does not match that of the original \
                 declaration."
            ),
            Self::QueueInExclusiveUse { queue, vhost } => {
                write!(f, "queue '{queue}' in vhost '{vhost}' in exclusive use")
            }
            Self::GetFromSingleActive { queue, vhost } => write!(
                f,
                "cannot obtain access to locked queue '{queue}' in vhost '{vhost}'. basic.get operations are not \
                 supported by quorum queues with single active consumer"
            ),
            Self::QueueInUse { queue, vhost } => write!(f, "queue '{queue}' in vhost '{vhost}' in use"),
            Self::QueueNotEmpty { queue, vhost } => write!(f, "queue '{queue}' in vhost '{vhost}' not empty"),
            Self::ExchangeInUse { exchange, vhost } => write!(f, "exchange '{exchange}' in vhost '{vhost}' in use"),
            Self::ReservedName { kind, name } => write!(f, "{kind} name '{name}' contains reserved prefix 'amq.*'"),
            Self::DefaultExchange => f.write_str("operation not permitted on the default exchange"),
            Self::SystemExchange { exchange, vhost } => {
                write!(f, "deletion of system exchange '{exchange}' in vhost '{vhost}' not allowed")
            }
            Self::InternalExchange { exchange, vhost } => {
                write!(f, "cannot publish to internal exchange '{exchange}' in vhost '{vhost}'")
            }
            Self::UnknownExchangeType(kind) | Self::UnknownExchangeTypeV3(kind) => {
                write!(f, "unknown exchange type '{kind}'")
            }
            Self::AccessRefused(text)
            | Self::VhostRefused(text)
            | Self::Inequivalent(text)
            | Self::BadArgument(text)
            | Self::NotImplemented(text)
            | Self::UnexpectedFrame(text)
            | Self::BadFrame(text)
            | Self::BadTuning(text)
            | Self::ConnectionForced(text) => f.write_str(text),
            Self::UnknownDeliveryTag(tag) => write!(f, "unknown delivery tag {tag}"),
            Self::AckTimeout { channel, timeout_ms } => write!(
                f,
                "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout_ms} ms. This \
                 timeout value can be configured, see consumers doc guide to learn more"
            ),
            Self::BadExpiration { value, why } => write!(f, "invalid expiration '{value}': {why}"),
            Self::UserIdMismatch { claimed, user } => {
                write!(f, "user_id property set to '{claimed}' but authenticated user was '{user}'")
            }
            Self::MessageTooLarge { size, max } => {
                write!(f, "message size {size} is larger than configured max size {max}")
            }
            Self::UndecodableProperties | Self::Internal => Ok(()),
            Self::NotTransactional => f.write_str("channel is not transactional"),
            Self::CannotSwitchMode { from, to } => write!(f, "cannot switch from {from} to {to} mode"),
            Self::PartialTxCompletion => f.write_str("partial tx completion"),
            Self::TooManyConsumers { max } => write!(f, "reached maximum ({max}) of consumers per channel"),
            Self::ConsumerTagInUse(tag) => write!(f, "attempt to reuse consumer tag '{tag}'"),
            Self::UnimplementedMethod => f.write_str("unimplemented method"),
            Self::ChannelNotOpen => f.write_str("expected 'channel.open'"),
            Self::ChannelAlreadyOpen => f.write_str("second 'channel.open' seen"),
            Self::TooManyChannels { open, channel_max } => {
                write!(f, "number of channels opened ({open}) has reached the negotiated channel_max ({channel_max})")
            }
            Self::UserChannelLimit { user, max } => write!(
                f,
                "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({max})"
            ),
            Self::NodeConnectionLimit(max) => {
                write!(f, "connection refused: node connection limit ({max}) is reached")
            }
            Self::NodeChannelLimit { node, max } => {
                write!(f, "number of channels opened on node '{node}' has reached the maximum allowed limit of ({max})")
            }
            Self::UnexpectedMethod(state) => write!(f, "unexpected method in connection state {state}"),
            Self::LoginRefused { mechanism } => write!(
                f,
                "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
            ),
            Self::VhostNotFound(vhost) => write!(f, "vhost {vhost} not found"),
        }
    }
}

impl std::error::Error for AmqpError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_that_clients_know() {
        let vhost = ShortString::from_static("/");
        let error = AmqpError::QueueNotFound { queue: ShortString::from_static("orders"), vhost };
        assert_eq!(error.text().as_str(), Some("NOT_FOUND - no queue 'orders' in vhost '/'"));
        assert_eq!((error.code(), error.severity()), (ReplyCode::NOT_FOUND, Severity::Channel));
        assert_eq!(AmqpError::Internal.text().as_str(), Some("INTERNAL_ERROR"));
        let refused = AmqpError::LoginRefused { mechanism: ShortString::from_static("PLAIN") };
        assert_eq!(refused.severity(), Severity::Connection);
    }

    #[test]
    fn a_long_text_is_cut_on_a_character_boundary() {
        let queue = ShortString::try_from("ü".repeat(127)).expect("254 octets");
        let text = AmqpError::QueueLocked { queue, vhost: ShortString::from_static("/") }.text();
        assert!(text.len() <= 255 && text.as_str().is_some_and(|text| text.ends_with("...")));
    }
}
