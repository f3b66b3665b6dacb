//! Which lane a message goes to: the priority levels of a queue (RabbitMQ extensions).

use super::{QueueSettings, QueueType};
use crate::engine::message::Message;

/// The priority levels of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Levels {
    /// Priorities mean nothing.
    One,
    /// A classic queue's `x-max-priority`: nothing said is 0, what is above counts as the highest.
    UpTo(u8),
    /// 32 levels, as in RabbitMQ 4.3: nothing said is 4, what is above 31 counts as 31.
    Quorum,
}

const QUORUM_HIGHEST: u8 = 31;
const QUORUM_USUAL: u8 = 4;

impl Levels {
    /// The levels that these settings mean.
    pub(super) fn of(settings: &QueueSettings) -> Self {
        match (settings.queue_type, settings.max_priority) {
            (QueueType::Quorum, _) => Self::Quorum,
            (QueueType::Classic | QueueType::Stream, None) => Self::One,
            (QueueType::Classic | QueueType::Stream, Some(max)) => Self::UpTo(max),
        }
    }

    /// The level of a message that says nothing.
    pub(super) const fn usual(self) -> u8 {
        match self {
            Self::One | Self::UpTo(_) => 0,
            Self::Quorum => QUORUM_USUAL,
        }
    }

    /// The level of a message.
    pub(super) fn level(self, message: &Message<'_>) -> u8 {
        match self {
            Self::One => 0,
            Self::UpTo(max) => message.priority().min(max),
            Self::Quorum if message.has_priority() => message.priority().min(QUORUM_HIGHEST),
            Self::Quorum => QUORUM_USUAL,
        }
    }
}
