//! Direct reply-to: consuming from, declaring and cancelling the pseudo-queue `amq.rabbitmq.reply-to` (RabbitMQ extension).
//!
//! A channel has at most one reply consumer, with a name that nobody can guess: whoever knows it may send to it.

use std::sync::Arc;

use leveret_protocol::{ChannelId, ShortString, basic, queue};

use super::delivery::DeliverHead;
use super::session::{Progress, Session};
use crate::engine::channel::unacked::Entry;
use crate::engine::channel::{Lifecycle, ReplyConsumer};
use crate::engine::message::Arena;
use crate::engine::names::{REPLY_QUEUE, is_reply_name, reply_name};
use crate::engine::queue::QueueId;
use crate::error::AmqpError;

/// What stands for a queue in the deliveries of replies. No queue has this number.
const NO_QUEUE: QueueId = QueueId::new(0);

impl Session {
    /// basic.consume from the pseudo-queue.
    pub(super) fn consume_replies(
        &mut self,
        id: ChannelId,
        index: usize,
        consume: basic::Consume,
    ) -> Result<Progress, AmqpError> {
        let channel = &self.channels[index];
        if channel.has_consumer(&consume.consumer_tag) {
            return Err(AmqpError::ConsumerTagInUse(consume.consumer_tag));
        }
        if !consume.no_ack {
            return Err(AmqpError::BadArgument("reply consumer cannot acknowledge".to_owned()));
        }
        if channel.reply_consumer.is_some() {
            return Err(AmqpError::BadArgument("reply consumer already set".to_owned()));
        }
        let tag = if consume.consumer_tag.is_empty() {
            self.registry.names.lock().consumer_tag()
        } else {
            consume.consumer_tag
        };
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|cause| {
            tracing::error!(%cause, "the system gives no random numbers");
            AmqpError::Internal
        })?;
        let name = reply_name(u128::from_be_bytes(random));
        self.registry.replies.add(name.clone(), self.vhost.name.clone(), self.outbox.clone(), id);
        self.channels[index].reply_consumer = Some(ReplyConsumer { tag: tag.clone(), name });
        if !consume.no_wait {
            self.send(id, basic::ConsumeOk { consumer_tag: tag });
        }
        Ok(Progress::Open)
    }

    /// Ends the channel's reply consumer, if this is its tag.
    pub(super) fn cancel_replies(&mut self, index: usize, tag: &ShortString) {
        if self.channels[index].reply_consumer.as_ref().is_some_and(|consumer| consumer.tag == *tag) {
            // What has come already is sent before cancel-ok; nothing follows it.
            self.take_events();
            self.end_replies(index);
        }
    }

    /// Ends the channel's reply consumer, if it has one.
    pub(super) fn end_replies(&mut self, index: usize) {
        if let Some(consumer) = self.channels[index].reply_consumer.take() {
            self.registry.replies.remove(&consumer.name);
        }
    }

    /// queue.declare of the pseudo-queue or of a reply consumer's name; `None` if the name is neither.
    pub(super) fn declare_reply_queue(
        &mut self,
        id: ChannelId,
        index: usize,
        name: &ShortString,
        no_wait: bool,
    ) -> Option<Result<Progress, AmqpError>> {
        if name.as_bytes() != REPLY_QUEUE {
            if !is_reply_name(name.as_bytes()) {
                return None;
            }
            if !self.registry.replies.exists(&self.vhost.name, name) {
                let (queue, vhost) = (name.clone(), self.vhost.name.clone());
                return Some(Err(AmqpError::QueueNotFound { queue, vhost }));
            }
        }
        self.channels[index].declared(name.clone());
        if !no_wait {
            self.send(id, queue::DeclareOk { queue: name.clone(), message_count: 0, consumer_count: 1 });
        }
        Some(Ok(Progress::Open))
    }

    /// A reply came: it is delivered unless its consumer is gone.
    pub(super) fn deliver_reply(&mut self, channel: ChannelId, name: &ShortString, message: &Arc<Arena>) {
        let Some(at) = self.channel_index(channel) else { return };
        let channel = &mut self.channels[at];
        let Some(consumer) = channel.reply_consumer.as_ref().filter(|consumer| consumer.name == *name) else { return };
        if channel.lifecycle != Lifecycle::Open {
            return;
        }
        let head = DeliverHead::new(channel.id, &consumer.tag);
        let tag = channel.unacked.push_settled(Entry { queue: NO_QUEUE, seq: 0, consumer: None, lane: 0 });
        let frame_max = self.frame_max_bytes();
        head.encode(&message.message(0), tag.get(), false, frame_max, &mut self.output);
    }
}
