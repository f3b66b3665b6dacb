//! Deliveries whose ack does not come: their channel is closed, or their consumer cancelled, and they go back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use leveret_protocol::{ChannelId, FieldTable, Method, ShortString, basic};
use tracing::info;

use super::session::{Failure, NO_IDS, Session};
use crate::config::Compat;
use crate::engine::channel::Lifecycle;
use crate::engine::channel::ack_timeout::look_interval;
use crate::engine::channel::unacked::Entry;
use crate::engine::queue::{ConsumerId, QueueId, QueueType};
use crate::error::AmqpError;
use crate::server::clock;
use crate::server::queue_cell::QueueCell;

impl Session {
    /// Within which time deliveries of a queue have to be acked: what the consumer asked for counts, else what the queue
    /// says, else the configuration. 0 stands for no limit.
    pub(super) fn ack_timeout(&self, cell: &Arc<QueueCell>, asked_ms: Option<u64>) -> Option<Duration> {
        match asked_ms.or(cell.settings().consumer_timeout_ms) {
            Some(0) => None,
            Some(timeout_ms) => Some(Duration::from_millis(timeout_ms)),
            None => self.registry.live().consumer_timeout,
        }
    }

    /// Deliveries that come now on a channel have to be acked within this time.
    #[inline]
    pub(super) fn watch_acks(&mut self, index: usize, now: Instant, timeout: Duration) {
        self.channels[index].unacked.note_time(now, timeout);
        let look_at = now + look_interval(timeout);
        if self.acks_due.is_none_or(|due| look_at < due) {
            self.acks_due = Some(look_at);
        }
    }

    /// Looks for acks that are overdue, and when to look again.
    pub(super) fn look_for_late_acks(&mut self, now: Instant) -> Result<(), Failure> {
        self.now = clock::now();
        self.end_turn();
        let open = |session: &Self, at: &usize| session.channels[*at].lifecycle == Lifecycle::Open;
        let channels: Vec<_> =
            (0..self.channels.len()).filter(|at| open(self, at)).map(|at| self.channels[at].id).collect();
        for id in channels {
            while let Some(index) = self.channel_index(id).filter(|at| open(self, at))
                && let Some(late) = self.channels[index].unacked.overdue(now)
            {
                let Entry { queue, consumer, .. } = late.entry;
                match consumer {
                    Some(consumer) if self.cancels_late_consumers(queue) => {
                        self.cancel_late_consumer(id, queue, consumer);
                    }
                    Some(_) | None => {
                        let error = AmqpError::AckTimeout { channel: id, timeout_ms: late.timeout.as_millis() };
                        self.fail(id, error, NO_IDS)?;
                    }
                }
            }
        }
        let timeouts = self.channels.iter().filter_map(|channel| channel.unacked.shortest_timeout());
        self.acks_due = timeouts.map(|timeout| now + look_interval(timeout)).min();
        Ok(())
    }

    /// Quorum queues cancel a consumer that can be told of it, as since RabbitMQ 4.3; all else closes the channel.
    fn cancels_late_consumers(&mut self, queue: QueueId) -> bool {
        self.registry.config.compat == Compat::V4
            && self.capabilities.consumer_cancel_notify
            && self.cell(queue).is_some_and(|cell| cell.settings().queue_type == QueueType::Quorum)
    }

    fn cancel_late_consumer(&mut self, id: ChannelId, queue: QueueId, consumer: ConsumerId) {
        if let Some(cell) = self.cell(queue) {
            cell.remove_consumer(&self.registry, &mut self.work, self.now, consumer);
            self.submit();
            // What was on its way goes back with the rest.
            self.take_events();
        }
        let Some(index) = self.channel_index(id) else { return };
        let channel = &mut self.channels[index];
        let freed = channel.unacked.lapse(queue, consumer, &mut self.settlements);
        let known = |tag: &&ShortString| {
            channel.consumers.get(tag.as_bytes()).is_some_and(|known| (known.queue, known.id) == (queue, consumer))
        };
        let tag = channel.consumers.keys().find(known).cloned();
        if let Some(tag) = tag {
            info!(connection = self.id.get(), channel = id.get(), consumer = %tag, "consumer cancelled: its acks are late");
            channel.consumers.remove(tag.as_bytes());
            let cancel = basic::Cancel { consumer_tag: tag, no_wait: true };
            Method::from(cancel).encode_frame(id, self.output.buffer());
        }
        self.free(index, freed);
        self.end_turn();
    }
}

/// The argument `x-consumer-timeout` of a consumer, in milliseconds.
pub(super) fn asked_timeout_ms(
    arguments: &FieldTable,
    queue: &ShortString,
    vhost: &ShortString,
) -> Result<Option<u64>, AmqpError> {
    let Some(value) = arguments.get("x-consumer-timeout") else { return Ok(None) };
    let why = match value.as_integer() {
        None => format!("\"expected integer, got {}\"", value.type_name()),
        Some(number) => match u64::try_from(number) {
            Ok(timeout_ms) => return Ok(Some(timeout_ms)),
            Err(_) => format!("{{value_negative,{number}}}"),
        },
    };
    Err(AmqpError::BadArgument(format!(
        "invalid arg 'x-consumer-timeout' for queue '{queue}' in vhost '{vhost}': {why}"
    )))
}
