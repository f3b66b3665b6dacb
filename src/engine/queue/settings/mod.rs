//! What a queue is asked to be: its type, limits, times and dead-lettering (RabbitMQ extensions).
//!
//! The values are those that the arguments gave, or an operator's policies; a plain struct, so that they can be merged.
//! What they come to for a queue of this type is what the methods say.

mod arguments;
mod equivalence;

use std::sync::{Arc, LazyLock};

use leveret_protocol::{FieldTable, ShortString};

use crate::error::AmqpError;

pub(crate) use arguments::age_in_seconds;
pub use equivalence::check_equivalent;
pub(crate) use equivalence::{compare_argument, print_value};

/// Which rules a queue follows (`x-queue-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QueueType {
    /// As AMQP has it.
    #[default]
    Classic,
    /// Always durable, every message stored, deliveries counted.
    Quorum,
    /// A log that is read without being emptied.
    Stream,
}

impl QueueType {
    /// The type that a declaration asks for; `None` for one that there is not.
    pub fn from_arguments(arguments: &FieldTable) -> Option<Self> {
        match arguments.get("x-queue-type") {
            None => Some(Self::Classic),
            Some(value) => Self::from_word(value.as_long_str()?),
        }
    }

    /// The type with this name; the empty one stands for the default.
    pub const fn from_word(word: &[u8]) -> Option<Self> {
        match word {
            b"classic" | b"" | b"undefined" => Some(Self::Classic),
            b"quorum" => Some(Self::Quorum),
            b"stream" => Some(Self::Stream),
            _ => None,
        }
    }

    /// The word in `x-queue-type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }

    /// The name in RabbitMQ's reply texts.
    pub const fn module_name(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
            Self::Stream => "rabbit_stream_queue",
        }
    }

    /// Checks that the broker may name a queue of this type.
    pub fn check_server_named(self) -> Result<(), AmqpError> {
        match self {
            Self::Classic => Ok(()),
            Self::Quorum | Self::Stream => Err(AmqpError::BadArgument(format!(
                "Cannot declare a server-named queue for type {}",
                self.module_name()
            ))),
        }
    }

    /// Checks the properties of a new queue of this type, in RabbitMQ's order.
    pub fn check_properties(
        self,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        queue: &ShortString,
        vhost: &ShortString,
    ) -> Result<(), AmqpError> {
        if self == Self::Classic {
            return Ok(());
        }
        for (has, property) in [(auto_delete, "auto-delete"), (exclusive, "exclusive-owner"), (!durable, "non-durable")]
        {
            if has {
                return Err(AmqpError::BadArgument(format!(
                    "invalid property '{property}' for queue '{queue}' in vhost '{vhost}'"
                )));
            }
        }
        Ok(())
    }
}

/// What a full queue does with one message more (`x-overflow`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Takes it in and drops from the head.
    #[default]
    DropHead,
    /// Refuses it.
    RejectPublish,
    /// Refuses it and dead-letters it.
    RejectPublishDlx,
}

/// How hard a quorum queue tries to get a dead letter through (`x-dead-letter-strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeadLetterStrategy {
    /// A target that refuses it loses it.
    #[default]
    AtMostOnce,
    /// It is kept until the targets have it.
    AtLeastOnce,
}

/// When a message whose time is over leaves (`x-expiry-mode`, Leveret's own).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiryMode {
    /// On time, wherever it stands.
    #[default]
    OnTime,
    /// When it has come to the head, as in RabbitMQ.
    Head,
}

/// What only streams have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamSettings {
    /// `x-max-age` in seconds.
    pub max_age_s: Option<u64>,
    /// `x-stream-max-segment-size-bytes`.
    pub max_segment_size_bytes: Option<u64>,
    /// `x-stream-filter-size-bytes`, 16 to 255.
    pub filter_size_bytes: Option<u8>,
}

/// What a queue is asked to be, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// `x-queue-type`.
    pub queue_type: QueueType,
    /// `x-message-ttl`: milliseconds that a message may wait.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`: milliseconds that the queue may be unused.
    pub expires_ms: Option<u64>,
    /// `x-max-length`: ready messages at most.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`: octets of ready bodies at most.
    pub max_length_bytes: Option<u64>,
    /// `x-overflow`; `None` if nothing was said.
    pub overflow: Option<Overflow>,
    /// `x-dead-letter-exchange`.
    pub dead_letter_exchange: Option<ShortString>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<ShortString>,
    /// `x-dead-letter-strategy`.
    pub dead_letter_strategy: DeadLetterStrategy,
    /// `x-max-priority`.
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-delivery-limit` as it was given: returns that a message survives, negative for no limit.
    pub delivery_limit: Option<i64>,
    /// `x-consumer-timeout`: milliseconds that a delivery may wait for its ack.
    pub consumer_timeout_ms: Option<u64>,
    /// `x-expiry-mode`.
    pub expiry_mode: ExpiryMode,
    /// What only streams have.
    pub stream: StreamSettings,
}

/// Ten years in milliseconds: RabbitMQ's limit on times.
pub const TTL_MAX_MS: u64 = 315_360_000_000;

/// Returns that a message of a quorum queue survives when nobody says otherwise, as in RabbitMQ 4.
const QUORUM_DELIVERY_LIMIT: u32 = 20;

impl QueueSettings {
    /// To be held by the queue and whoever looks at it without its lock. Most queues ask for nothing: those share one.
    pub fn share(self) -> Arc<Self> {
        static NOTHING: LazyLock<Arc<QueueSettings>> = LazyLock::new(Arc::default);
        if self == **NOTHING { NOTHING.clone() } else { Arc::new(self) }
    }

    /// Reads and checks the arguments of a declaration.
    pub fn from_arguments(arguments: &FieldTable, queue: &ShortString, vhost: &ShortString) -> Result<Self, AmqpError> {
        arguments::read(arguments, queue, vhost)
    }

    /// Whether messages that die are published again.
    pub fn dead_letters(&self) -> bool {
        self.dead_letter_exchange.is_some()
    }

    /// Whether the number or size of ready messages is limited.
    pub fn has_length_limit(&self) -> bool {
        self.max_length.is_some() || self.max_length_bytes.is_some()
    }

    /// What happens to one message more than the limits allow. A quorum queue does not dead-letter what it refuses: asked
    /// for that, it drops from its head, as in RabbitMQ.
    pub fn overflow(&self) -> Overflow {
        match (self.queue_type, self.overflow.unwrap_or_default()) {
            (QueueType::Quorum, Overflow::RejectPublishDlx) => Overflow::DropHead,
            (_, overflow) => overflow,
        }
    }

    /// Whether a full queue refuses messages.
    pub fn refuses_when_full(&self) -> bool {
        self.has_length_limit() && self.overflow() != Overflow::DropHead
    }

    /// How often a message may come back; `None` for as often as it likes.
    pub fn return_limit(&self) -> Option<u32> {
        match (self.delivery_limit, self.queue_type) {
            (Some(limit), _) if limit < 0 => None,
            (Some(limit), _) => Some(u32::try_from(limit).unwrap_or(u32::MAX)),
            (None, QueueType::Quorum) => Some(QUORUM_DELIVERY_LIMIT),
            (None, QueueType::Classic | QueueType::Stream) => None,
        }
    }

    /// Whether the queue keeps count of the returns of its messages and tells them to consumers.
    pub fn counts_returns(&self) -> bool {
        match self.queue_type {
            QueueType::Classic => self.delivery_limit.is_some_and(|limit| limit >= 0),
            QueueType::Quorum => true,
            QueueType::Stream => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_queue_limits_returns_unasked() {
        let quorum = QueueSettings { queue_type: QueueType::Quorum, ..QueueSettings::default() };
        assert_eq!(quorum.return_limit(), Some(20));
        assert_eq!(QueueSettings { delivery_limit: Some(-1), ..quorum.clone() }.return_limit(), None);
        assert_eq!(QueueSettings { delivery_limit: Some(3), ..quorum }.return_limit(), Some(3));
        let classic = QueueSettings::default();
        assert!(classic.return_limit().is_none() && !classic.counts_returns());
        assert!(QueueSettings { delivery_limit: Some(0), ..classic }.counts_returns());
    }

    #[test]
    fn a_quorum_queue_does_not_dead_letter_what_it_refuses() {
        let asked = QueueSettings { overflow: Some(Overflow::RejectPublishDlx), ..QueueSettings::default() };
        assert_eq!(asked.overflow(), Overflow::RejectPublishDlx);
        assert_eq!(QueueSettings { queue_type: QueueType::Quorum, ..asked }.overflow(), Overflow::DropHead);
    }
}
