//! What a connection has not settled of a queue: for operators who ask who holds a message.

use std::collections::HashSet;

use leveret_protocol::{ChannelId, ShortString};

use super::session::Session;
use crate::engine::queue::{MessageId, QueueId};

/// A delivery that is not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) message: MessageId,
    pub(crate) channel: ChannelId,
    /// `None` if it was fetched with basic.get, or its consumer is cancelled.
    pub(crate) consumer_tag: Option<ShortString>,
}

impl Session {
    /// Which of these messages of a queue are not settled here.
    pub(super) fn held_of(&self, queue: QueueId, messages: &HashSet<MessageId>) -> Vec<Held> {
        let mut held = Vec::new();
        for channel in &self.channels {
            for entry in channel.unacked.held_of(queue) {
                let message = MessageId { lane: entry.lane, seq: entry.seq };
                if !messages.contains(&message) {
                    continue;
                }
                let is_its = |consumer: &crate::engine::channel::ChannelConsumer| {
                    consumer.queue == queue && Some(consumer.id) == entry.consumer
                };
                let tag = channel.consumers.iter().find(|(_, consumer)| is_its(consumer));
                let consumer_tag = tag.map(|(tag, _)| tag.clone());
                held.push(Held { message, channel: channel.id, consumer_tag });
            }
        }
        held
    }
}
