//! Consuming: consumers, deliveries, basic.get, acks, and transactions' acks.

use leveret_protocol::{ChannelId, DeliveryTag, Method, ShortString, basic, tx};

use super::delivery::{DeliverHead, encode_get_ok, properties_with_count};
use super::late_acks::asked_timeout_ms;
use super::session::{Progress, Session};
use super::streaming::{check_consumer_arguments, check_stream_consumer, not_by_streams};
use crate::engine::channel::unacked::{Entry, Outcome};
use crate::engine::channel::{ChannelConsumer, Lifecycle};
use crate::engine::directory::Right;
use crate::engine::names::REPLY_QUEUE;
use crate::engine::queue::{ConsumerSpec, Get, QueueId, QueueType};
use crate::engine::statistics::Count;
use crate::engine::stream::{Filter, with_offset};
use crate::error::AmqpError;
use crate::server::clock;
use crate::server::outbox::{Delivery, Event, HoldsQuestion};

impl Session {
    pub(super) fn basic_qos(&mut self, id: ChannelId, index: usize, qos: &basic::Qos) -> Result<Progress, AmqpError> {
        if qos.prefetch_size != 0 {
            return Err(AmqpError::NotImplemented(format!("prefetch_size!=0 ({})", qos.prefetch_size)));
        }
        let channel = &mut self.channels[index];
        if qos.global {
            channel.limit.set(u32::from(qos.prefetch_count));
            self.resume_channel(index);
            self.end_turn();
        } else {
            channel.prefetch = u32::from(qos.prefetch_count);
        }
        self.send(id, basic::QosOk {});
        Ok(Progress::Open)
    }

    pub(super) fn basic_consume(
        &mut self,
        id: ChannelId,
        index: usize,
        consume: basic::Consume,
    ) -> Result<Progress, AmqpError> {
        if consume.queue.as_bytes() == REPLY_QUEUE {
            return self.consume_replies(id, index, consume);
        }
        let tag = if consume.consumer_tag.is_empty() {
            self.registry.names.lock().consumer_tag()
        } else {
            consume.consumer_tag
        };
        if self.channels[index].has_consumer(&tag) {
            return Err(AmqpError::ConsumerTagInUse(tag));
        }
        if let Some(max) = self.registry.live().consumer_max_per_channel
            && self.channels[index].consumers.len() >= max
        {
            return Err(AmqpError::TooManyConsumers { max });
        }
        let cell = self.find_queue(index, &consume.queue, Right::Read)?;
        let (queue, vhost) = (cell.name.clone(), cell.vhost.name.clone());
        let is_quorum = cell.settings().queue_type == QueueType::Quorum;
        check_consumer_arguments(&cell, &consume.arguments)?;
        let priority = match consume.arguments.get("x-priority") {
            None => 0,
            Some(value) => value.as_integer().ok_or_else(|| {
                let kind = value.type_name();
                AmqpError::BadArgument(format!(
                    "invalid arg 'x-priority' for queue '{queue}' in vhost '{vhost}': \"expected integer, got {kind}\""
                ))
            })?,
        };
        let channel = &self.channels[index];
        if is_quorum && channel.limit.is_set() {
            let text = format!("queue '{queue}' in vhost '{vhost}' does not support global qos");
            return Err(AmqpError::NotImplemented(text));
        }
        let spec = ConsumerSpec {
            tag: tag.clone(),
            channel: id,
            no_ack: consume.no_ack,
            // A quorum queue ignores the bit.
            exclusive: consume.exclusive && !is_quorum,
            prefetch: channel.prefetch,
            priority,
            ack_timeout: self.ack_timeout(&cell, asked_timeout_ms(&consume.arguments, &queue, &vhost)?),
            channel_limit: channel.limit.clone(),
            window: self.outbox.window.clone(),
        };
        let arguments = consume.arguments;
        let consumer = if cell.stream.is_some() {
            let start = check_stream_consumer(&cell, &spec, &arguments, self.now)?;
            let filter = Filter::parse(&arguments);
            cell.add_reader(spec, start, filter, &self.outbox, arguments)?
        } else {
            cell.add_consumer(self.now, spec, &self.outbox, arguments)?
        };
        self.channels[index].consumers.insert(tag.clone(), ChannelConsumer { queue: cell.id, id: consumer });
        if !consume.no_wait {
            self.send(id, basic::ConsumeOk { consumer_tag: tag });
        }
        cell.resume(&self.registry, &mut self.work, self.now);
        self.submit();
        Ok(Progress::Open)
    }

    pub(super) fn basic_cancel(&mut self, id: ChannelId, index: usize, cancel: basic::Cancel) -> Progress {
        self.cancel_replies(index, &cancel.consumer_tag);
        let consumer = self.channels[index].consumers.get(cancel.consumer_tag.as_bytes()).copied();
        if let Some(consumer) = consumer
            && let Some(cell) = self.cell(consumer.queue)
        {
            let unused = cell.remove_consumer(&self.registry, &mut self.work, self.now, consumer.id);
            self.submit();
            // What was on its way is sent before cancel-ok; nothing follows it.
            self.take_events();
            if unused {
                self.delete_unused(&cell);
            }
        }
        if let Some(index) = self.channel_index(id) {
            self.channels[index].consumers.remove(cancel.consumer_tag.as_bytes());
        }
        if !cancel.no_wait {
            self.send(id, basic::CancelOk { consumer_tag: cancel.consumer_tag });
        }
        Progress::Open
    }

    pub(super) fn basic_get(&mut self, id: ChannelId, index: usize, get: basic::Get) -> Result<Progress, AmqpError> {
        let cell = self.find_queue(index, &get.queue, Right::Read)?;
        let settings = cell.settings();
        if settings.queue_type == QueueType::Quorum && settings.single_active_consumer {
            let (queue, vhost) = (cell.name.clone(), cell.vhost.name.clone());
            return Err(AmqpError::GetFromSingleActive { queue, vhost });
        }
        let (now, no_ack) = (self.now, get.no_ack);
        let found = cell.turn(&self.registry, &mut self.work, |queue, fx| queue.get(now, no_ack, fx));
        let found = found.ok_or_else(|| not_by_streams("basic.get", &cell))?;
        if matches!(found, Get::Loading) {
            // The connection goes on when the messages are there; whoever brings them wakes it.
            cell.wait_for_load(&self.outbox);
        }
        self.submit();
        match found {
            Get::Message { run, left } => {
                self.count_delivery(index, if no_ack { Count::GetNoAck } else { Count::Get }, &run);
                let entry = Entry { queue: cell.id, seq: run.first_seq, consumer: None, lane: run.lane };
                if let Some(timeout) = self.ack_timeout(&cell, None).filter(|_| !no_ack) {
                    self.watch_acks(index, clock::instant(), timeout);
                }
                let unacked = &mut self.channels[index].unacked;
                let tag = if no_ack { unacked.push_settled(entry) } else { unacked.push(entry) };
                let frame_max = self.frame_max_bytes();
                let message = run.arena.message(run.index);
                let counted = (run.delivery_count > 0).then(|| properties_with_count(&message, run.delivery_count));
                let properties = counted.as_deref().unwrap_or(message.properties());
                let out = &mut self.output;
                encode_get_ok(id, &message, properties, tag.get(), run.redelivered, left, frame_max, out);
                if self.vhost.is_traced() {
                    self.trace_delivery(id, &cell, &run);
                    self.submit();
                }
            }
            Get::Empty => {
                self.channels[index].counts[Count::GetEmpty] += 1;
                self.send(id, basic::GetEmpty::default());
            }
            Get::Loading => {
                self.waiting_get = Some((id, get));
                return Ok(Progress::Waiting);
            }
        }
        Ok(Progress::Open)
    }

    /// Tries a basic.get again that waited for the disk. False while it still waits.
    pub(super) fn retry_get(&mut self) -> Result<bool, super::session::Failure> {
        let Some((id, get)) = self.waiting_get.take() else { return Ok(true) };
        let Some(index) = self.channel_index(id) else { return Ok(true) };
        match self.basic_get(id, index, get) {
            Ok(progress) => Ok(progress != Progress::Waiting),
            Err(error) => {
                self.fail(id, error, (basic::Get::CLASS, basic::Get::METHOD))?;
                Ok(true)
            }
        }
    }

    pub(super) fn frame_max_bytes(&self) -> usize {
        usize::try_from(self.limits.frame_max).unwrap_or(usize::MAX)
    }

    /// An ack, nack or reject came.
    #[inline]
    pub(super) fn settle(
        &mut self,
        index: usize,
        tag: DeliveryTag,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<(), AmqpError> {
        let channel = &mut self.channels[index];
        if channel.is_transactional() {
            return channel.unacked.hold(tag, multiple, outcome);
        }
        if !self.batch.is_empty() {
            // A queue sees a connection's publishes and acks in their order.
            let queue = channel.unacked.queue_of(tag);
            if self.batch.is_for(queue.filter(|_| !multiple)) {
                self.flush_groups();
            }
        }
        let channel = &mut self.channels[index];
        let freed = channel.unacked.settle(tag, multiple, outcome, &mut self.settlements)?;
        self.free(index, freed);
        Ok(())
    }

    /// Deliveries of consumers were settled: the channel's shared limit has room again.
    pub(super) fn free(&mut self, index: usize, count: u32) {
        let limit = &self.channels[index].limit;
        limit.release(count);
        self.limit_freed |= count > 0 && limit.is_set();
    }

    /// Tells the queues what was settled, one lock for neighbours of the same queue.
    pub(super) fn flush_settlements(&mut self) {
        if self.settlements.is_empty() {
            return;
        }
        let mut settlements = std::mem::take(&mut self.settlements);
        let now = self.now;
        for part in settlements.by_queue() {
            let Some(cell) = self.cell(part[0].queue) else { continue };
            if cell.stream.is_some() {
                cell.settle_stream(&self.registry, &mut self.work, part.iter().map(|settlement| settlement.delivered));
                continue;
            }
            cell.turn(&self.registry, &mut self.work, |queue, fx| {
                for settlement in part {
                    match settlement.outcome {
                        Outcome::Ack => queue.ack(now, settlement.delivered, fx),
                        Outcome::Reject => queue.reject(now, settlement.delivered, fx),
                        Outcome::Requeue => queue.requeue(now, settlement.delivered, fx),
                    }
                }
            });
        }
        settlements.clear();
        self.settlements = settlements;
        if std::mem::take(&mut self.limit_freed) {
            for index in 0..self.channels.len() {
                if self.channels[index].limit.is_set() {
                    self.resume_channel(index);
                }
            }
        }
    }

    /// Lets the queues of a channel's consumers look at its limit again. What that causes is submitted with the turn's
    /// other work: a turn is one transaction, and its confirms wait for it.
    fn resume_channel(&mut self, index: usize) {
        let channel = &mut self.channels[index];
        let mut queues: Vec<_> = channel.consumers.values().map(|consumer| consumer.queue).collect();
        queues.sort_unstable();
        queues.dedup();
        // The first may take all the room that there is.
        if let Some(first) = channel.resumed.checked_rem(queues.len()) {
            queues.rotate_left(first);
            channel.resumed = channel.resumed.wrapping_add(1);
        }
        self.resume_queues(queues);
    }

    fn resume_queues(&mut self, queues: Vec<QueueId>) {
        for queue in queues {
            if let Some(cell) = self.cell(queue) {
                cell.resume(&self.registry, &mut self.work, self.now);
            }
        }
    }

    pub(super) fn basic_recover(&mut self, index: usize, requeue: bool) -> Result<(), AmqpError> {
        if !requeue {
            return Err(AmqpError::NotImplemented("requeue=false".to_owned()));
        }
        let freed = self.channels[index].unacked.recover(&mut self.settlements);
        self.free(index, freed);
        self.end_turn();
        Ok(())
    }

    pub(super) fn tx_commit(&mut self, id: ChannelId, index: usize) -> Result<Progress, AmqpError> {
        let held = self.channels[index].take_held()?;
        let refused = self.publish_held(id, held);
        let freed = self.channels[index].unacked.commit(&mut self.settlements);
        self.free(index, freed);
        self.flush_settlements();
        let ticket = self.submit();
        if refused {
            return Err(AmqpError::PartialTxCompletion);
        }
        self.send_durable(id, tx::CommitOk {}, ticket);
        Ok(Progress::Open)
    }

    pub(super) fn tx_rollback(&mut self, id: ChannelId, index: usize) -> Result<Progress, AmqpError> {
        self.channels[index].take_held()?;
        self.channels[index].unacked.roll_back();
        self.send(id, tx::RollbackOk {});
        Ok(Progress::Open)
    }

    /// Takes what others have for this connection: deliveries and cancelled consumers are written down as frames, an order
    /// to close is noted. False when there was nothing.
    pub(super) fn take_events(&mut self) -> bool {
        let mut events = std::mem::take(&mut self.events);
        self.outbox.take(&mut events);
        if events.is_empty() {
            self.events = events;
            return false;
        }
        let mut has_room_again = false;
        self.output.prepare();
        self.traced = self.vhost.is_traced();
        for event in events.drain(..) {
            match event {
                Event::Deliver(delivery) => {
                    has_room_again |= self.outbox.window.remove(delivery.run.size_bytes());
                    self.deliver(&delivery);
                }
                Event::Reply { channel, name, message } => {
                    has_room_again |= self.outbox.window.remove(message.size_bytes());
                    self.deliver_reply(channel, &name, &message);
                }
                Event::Cancelled { channel, tag, consumer, queue } => {
                    self.on_cancelled(channel, &tag, ChannelConsumer { queue, id: consumer });
                }
                Event::Close(error) => self.close_requested = Some(error),
                Event::Inspect(reply) => {
                    // Who asked may have given up waiting.
                    let _gone = reply.send(self.figures());
                }
                Event::Holds(HoldsQuestion { queue, messages, reply }) => {
                    let _gone = reply.send(self.held_of(queue, &messages));
                }
            }
        }
        self.events = events;
        self.delivered_at = None;
        if has_room_again {
            let queues = self.channels.iter().flat_map(|channel| channel.consumers.values());
            let mut queues: Vec<_> = queues.map(|consumer| consumer.queue).collect();
            queues.sort_unstable();
            queues.dedup();
            self.resume_queues(queues);
        }
        true
    }

    #[inline]
    fn deliver(&mut self, delivery: &Delivery) {
        let Delivery { channel, tag, consumer, queue, no_ack, from_stream, ack_timeout, run } = delivery;
        let entry = |seq| Entry { queue: *queue, seq, consumer: Some(*consumer), lane: run.lane };
        let open = self.channel_index(*channel).filter(|at| self.channels[*at].lifecycle == Lifecycle::Open);
        let Some(at) = open else {
            // The channel ended while this was on its way: back to the queue, unless it is settled already.
            if !no_ack {
                for nth in 0..u64::from(run.count) {
                    self.settlements.add(&entry(run.first_seq + nth), Outcome::Requeue);
                }
            }
            return;
        };
        if let Some(timeout) = ack_timeout.filter(|_| !no_ack) {
            let delivered_at = *self.delivered_at.get_or_insert_with(clock::instant);
            self.watch_acks(at, delivered_at, timeout);
        }
        self.count_delivery(at, if *no_ack { Count::DeliverNoAck } else { Count::Deliver }, run);
        let frame_max = self.frame_max_bytes();
        let head = DeliverHead::new(*channel, tag);
        let unacked = &mut self.channels[at].unacked;
        let mut changed = Vec::new();
        for (seq, message) in run.messages() {
            let tag = if *no_ack { unacked.push_settled(entry(seq)) } else { unacked.push(entry(seq)) };
            if *from_stream {
                with_offset(message.properties(), seq, &mut changed);
                head.encode_with(&message, &changed, tag.get(), false, frame_max, &mut self.output);
            } else if run.delivery_count == 0 {
                head.encode(&message, tag.get(), run.redelivered, frame_max, &mut self.output);
            } else {
                let properties = properties_with_count(&message, run.delivery_count);
                head.encode_with(&message, &properties, tag.get(), run.redelivered, frame_max, &mut self.output);
            }
        }
        if self.traced
            && let Some(cell) = self.cell(*queue)
        {
            self.trace_delivery(*channel, &cell, run);
        }
    }

    /// A queue with a consumer of ours is gone.
    fn on_cancelled(&mut self, id: ChannelId, tag: &ShortString, cancelled: ChannelConsumer) {
        let Some(at) = self.channel_index(id) else { return };
        let consumers = &mut self.channels[at].consumers;
        if consumers.get(tag.as_bytes()) != Some(&cancelled) {
            return;
        }
        consumers.remove(tag.as_bytes());
        if self.capabilities.consumer_cancel_notify {
            let cancel = basic::Cancel { consumer_tag: tag.clone(), no_wait: true };
            Method::from(cancel).encode_frame(id, self.output.buffer());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::queue_cell::QueueCell;

    #[test]
    fn queue_cells_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<QueueCell>();
        shared::<Session>();
    }
}
