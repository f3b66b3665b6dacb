//! A queue cell: the engine's queue in a mutex. Whoever brings an input locks it, turns the crank and takes the effects.
//!
//! Deliveries are put into outboxes under the lock, because only that keeps their order; everything else goes to the
//! caller's [`Work`] and is done after the unlock. Never two cells at once; under a cell only outboxes and the timer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use leveret_protocol::{ChannelId, FieldTable, ShortString};
use parking_lot::{Mutex, RwLock};

use super::outbox::{Delivery, Event, Outbox};
use super::registry::{Registry, VhostCell};
use super::statistics::{Gauges, QueueTotals};
use super::stream_cell::StreamLink;
use super::work::Work;
use crate::engine::message::Timestamp;
use crate::engine::queue::{
    ConsumerFigures, ConsumerId, ConsumerSpec, Queue, QueueEffect, QueueFigures, QueueId, QueueSettings, SpillPlan,
};
use crate::engine::statistics::Recent;
use crate::engine::stream::{Retention, Stream};
use crate::engine::vhost::QueueRecord;
use crate::error::AmqpError;
use crate::panics::StopOnPanic;
use crate::store::{SpillOp, Waiter};

/// Octets of messages in memory at which a queue first tries to leave some to the disk.
const SPILL_STEP_BYTES: usize = 4 * 1024 * 1024;

/// Octets that come before it tries again, while the broker is short of memory.
const SPILL_STEP_MIN_BYTES: usize = 64 * 1024;

/// Where a consumer's deliveries go.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) outbox: Arc<Outbox>,
    pub(super) channel: ChannelId,
    pub(super) tag: ShortString,
    pub(super) no_ack: bool,
    pub(super) ack_timeout: Option<Duration>,
    /// What the consumer was started with, for listings.
    arguments: FieldTable,
}

impl Outlet {
    pub(super) fn new(spec: &ConsumerSpec, outbox: &Arc<Outbox>, arguments: FieldTable) -> Self {
        Self {
            outbox: outbox.clone(),
            channel: spec.channel,
            tag: spec.tag.clone(),
            no_ack: spec.no_ack,
            ack_timeout: spec.ack_timeout,
            arguments,
        }
    }
}

/// What a cell holds.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "queues are on the hot path, and few cells are streams")]
pub(super) enum Body {
    Queue(Queue),
    Stream(Box<Stream>),
}

#[derive(Debug)]
pub(super) struct CellState {
    pub(super) body: Body,
    pub(super) outlets: HashMap<ConsumerId, Outlet>,
    /// The deadline that the timer knows.
    pub(super) armed: Option<Timestamp>,
    spill_at: usize,
    /// What the budget was told of its messages in memory.
    noted: usize,
    /// Connections whose basic.get waits for messages from disk.
    waiting: Vec<Arc<Outbox>>,
    /// It is on the list of those whose figures changed.
    pub(super) dirty: bool,
    /// What its vhost's totals know of it.
    pub(super) told: Gauges,
    pub(super) totals: Option<Box<QueueTotals>>,
    /// What happened in a stream; a queue has its own.
    pub(super) stream_recent: Option<Box<Recent>>,
}

impl CellState {
    /// Leaves to the disk what is not needed soon: what is stored, and what need not survive if the broker is short of memory.
    fn spill(&mut self, registry: &Registry, delays: bool, fx: &mut Vec<QueueEffect>) {
        let Body::Queue(queue) = &mut self.body else { return };
        // In front of a delayed-message exchange the next to leave may be anywhere: all stay in memory.
        if !delays {
            let plan = SpillPlan {
                window_bytes: registry.budget.window(),
                spill_memory: registry.store.spills()
                    && if queue.consumer_count() > 0 {
                        registry.budget.is_exhausted()
                    } else {
                        registry.budget.is_exceeded()
                    },
                spilled: registry.store.spilled(),
            };
            queue.spill(plan, |ticket| registry.store.is_stored(ticket), fx);
        }
        let resident = queue.resident_bytes();
        registry.budget.change(&mut self.noted, resident);
        let step = if registry.budget.is_exceeded() {
            (resident / 8).clamp(SPILL_STEP_MIN_BYTES, SPILL_STEP_BYTES)
        } else {
            SPILL_STEP_BYTES
        };
        self.spill_at = resident + step;
    }
}

/// What a message takes in memory beside its body, about.
const RECORD_BYTES: u64 = 64;

/// A queue with its lock.
#[derive(Debug)]
pub(super) struct QueueCell {
    pub(super) id: QueueId,
    pub(super) name: ShortString,
    pub(super) vhost: Arc<VhostCell>,
    pub(super) auto_delete: bool,
    /// A copy of the queue's, to be read without its lock.
    settings: RwLock<Arc<QueueSettings>>,
    /// Messages wait in it for the delayed-message exchange whose name it has; all of them in memory.
    pub(super) delays: bool,
    /// What a publish to a stream needs; `None` for all other queues.
    pub(super) stream: Option<StreamLink>,
    pub(super) state: Mutex<CellState>,
}

impl QueueCell {
    pub(super) fn new(record: &QueueRecord, queue: Queue, vhost: Arc<VhostCell>) -> Self {
        let settings = queue.settings().clone();
        Self::holding(record, Body::Queue(queue), settings, None, vhost)
    }

    pub(super) fn holding(
        record: &QueueRecord,
        body: Body,
        settings: Arc<QueueSettings>,
        stream: Option<StreamLink>,
        vhost: Arc<VhostCell>,
    ) -> Self {
        Self {
            id: record.id,
            name: record.name.clone(),
            vhost,
            auto_delete: record.auto_delete,
            delays: record.delays,
            settings: RwLock::new(settings),
            stream,
            state: Mutex::new(CellState {
                body,
                outlets: HashMap::new(),
                armed: None,
                spill_at: SPILL_STEP_BYTES,
                noted: 0,
                waiting: Vec::new(),
                dirty: false,
                told: Gauges::default(),
                totals: None,
                stream_recent: None,
            }),
        }
    }

    /// Locks the queue, lets `input` turn the crank, and passes on what it caused. `None` if it is a stream.
    pub(super) fn turn<R>(
        self: &Arc<Self>,
        registry: &Registry,
        work: &mut Work,
        input: impl FnOnce(&mut Queue, &mut Vec<QueueEffect>) -> R,
    ) -> Option<R> {
        let _trust = StopOnPanic("a queue");
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Body::Queue(queue) = &mut state.body else { return None };
        queue.set_window(registry.budget.window());
        queue.pause(registry.is_draining());
        let mut effects = std::mem::take(&mut work.effects);
        let result = input(queue, &mut effects);
        let resident = queue.resident_bytes();
        if resident > state.spill_at {
            state.spill(registry, self.delays, &mut effects);
        } else {
            registry.budget.note(&mut state.noted, resident);
            if state.spill_at > 2 * SPILL_STEP_BYTES && resident + 2 * SPILL_STEP_BYTES < state.spill_at {
                state.spill_at = resident + SPILL_STEP_BYTES;
            }
        }
        self.act(registry, work, state, effects);
        state.mark_changed(self, &registry.statistics);
        Some(result)
    }

    /// Leaves to the disk what is not needed soon, because too much is in memory.
    pub(super) fn leave_to_disk(self: &Arc<Self>, registry: &Registry, work: &mut Work) {
        let _trust = StopOnPanic("a queue");
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut effects = std::mem::take(&mut work.effects);
        state.spill(registry, self.delays, &mut effects);
        self.act(registry, work, state, effects);
    }

    /// Does what the queue wants done under its lock, and leaves the rest to the caller.
    fn act(
        self: &Arc<Self>,
        registry: &Registry,
        work: &mut Work,
        state: &mut CellState,
        mut effects: Vec<QueueEffect>,
    ) {
        let Body::Queue(queue) = &state.body else { return };
        for effect in effects.drain(..) {
            let QueueEffect::Deliver { consumer, run } = effect else {
                work.add(self, effect);
                continue;
            };
            if let Some(outlet) = state.outlets.get(&consumer) {
                outlet.outbox.push(Event::Deliver(Delivery {
                    channel: outlet.channel,
                    tag: outlet.tag.clone(),
                    consumer,
                    queue: self.id,
                    no_ack: outlet.no_ack,
                    ack_timeout: outlet.ack_timeout,
                    from_stream: false,
                    run,
                }));
            }
        }
        work.effects = effects;
        if let Some(deadline) = queue.deadline()
            && state.armed.is_none_or(|armed| deadline < armed)
        {
            state.armed = Some(deadline);
            registry.timer.arm(deadline, self.id);
        }
    }

    /// What its arguments and policies ask for.
    pub(super) fn settings(&self) -> Arc<QueueSettings> {
        self.settings.read().clone()
    }

    /// Its policies changed.
    pub(super) fn apply_settings(
        self: &Arc<Self>,
        registry: &Registry,
        work: &mut Work,
        now: Timestamp,
        settings: Arc<QueueSettings>,
    ) {
        *self.settings.write() = settings.clone();
        if self.stream.is_some() {
            self.apply_retention(registry, work, now, Retention::of(&settings));
        } else {
            self.turn(registry, work, |queue, fx| queue.apply_settings(now, settings, fx));
        }
    }

    /// The timer fired: it has to be armed anew.
    pub(super) fn disarm(&self) {
        self.state.lock().armed = None;
    }

    /// A look at the queue without an input. `None` if it is a stream.
    pub(super) fn read<R>(&self, look: impl FnOnce(&Queue) -> R) -> Option<R> {
        match &self.state.lock().body {
            Body::Queue(queue) => Some(look(queue)),
            Body::Stream(_) => None,
        }
    }

    /// Whether it has consumers, and in memory more that is ready for them than so many octets.
    pub(super) fn has_ready(&self, octets: u64) -> bool {
        let ready = |queue: &Queue| {
            (queue.ready_body_bytes() + RECORD_BYTES * queue.ready()).min(queue.resident_bytes() as u64)
        };
        self.read(|queue| queue.consumer_count() > 0 && ready(queue) > octets).unwrap_or(false)
    }

    /// What it holds.
    pub(super) fn figures(&self) -> QueueFigures {
        match &self.state.lock().body {
            Body::Queue(queue) => queue.figures(),
            Body::Stream(stream) => stream.figures(),
        }
    }

    /// Its consumers in the order of subscription, each with its connection's outbox and its arguments.
    pub(super) fn consumers(&self) -> Vec<(ConsumerFigures, Arc<Outbox>, FieldTable)> {
        let state = self.state.lock();
        let all = match &state.body {
            Body::Queue(queue) => queue.consumer_figures(),
            Body::Stream(stream) => stream.consumer_figures(),
        };
        let all = all.into_iter();
        all.filter_map(|consumer| {
            let outlet = state.outlets.get(&consumer.id)?;
            Some((consumer, outlet.outbox.clone(), outlet.arguments.clone()))
        })
        .collect()
    }

    /// Adds a consumer unless the queue is gone or refuses it. Its deliveries start with [`QueueCell::resume`].
    pub(super) fn add_consumer(
        &self,
        now: Timestamp,
        spec: ConsumerSpec,
        outbox: &Arc<Outbox>,
        arguments: FieldTable,
    ) -> Result<ConsumerId, AmqpError> {
        let mut state = self.state.lock();
        let (name, vhost) = (self.name.clone(), self.vhost.name.clone());
        let Body::Queue(queue) = &mut state.body else { return Err(AmqpError::Internal) };
        if queue.is_deleted() {
            return Err(AmqpError::QueueNotFound { queue: name, vhost });
        }
        if queue.refuses_consumer(spec.exclusive) {
            return Err(AmqpError::QueueInExclusiveUse { queue: name, vhost });
        }
        let outlet = Outlet::new(&spec, outbox, arguments);
        let id = queue.add_consumer(now, spec);
        state.outlets.insert(id, outlet);
        Ok(id)
    }

    /// Lets consumers go on whose connection or channel may take messages again.
    pub(super) fn resume(self: &Arc<Self>, registry: &Registry, work: &mut Work, now: Timestamp) {
        if self.stream.is_some() {
            self.turn_stream(registry, work, Stream::resume);
        } else {
            self.turn(registry, work, |queue, fx| queue.resume(now, fx));
        }
    }

    /// Removes a consumer; true when the queue is to be deleted with it.
    pub(super) fn remove_consumer(
        self: &Arc<Self>,
        registry: &Registry,
        work: &mut Work,
        now: Timestamp,
        id: ConsumerId,
    ) -> bool {
        let last = if self.stream.is_some() {
            self.turn_stream(registry, work, |stream, _| stream.remove_reader(id));
            false
        } else {
            self.turn(registry, work, |queue, fx| queue.remove_consumer(now, id, fx)).unwrap_or(false)
        };
        self.state.lock().outlets.remove(&id);
        last && self.auto_delete
    }

    /// Ends the queue if `allowed` says so: its consumers are told, its messages dropped. Returns how many were ready. A
    /// stream is not asked, and has none (as in RabbitMQ).
    pub(super) fn delete<E>(
        &self,
        registry: &Registry,
        allowed: impl FnOnce(&Queue) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let ready = match &mut state.body {
            Body::Queue(queue) if queue.is_deleted() => return Ok(0),
            Body::Stream(stream) if stream.is_deleted() => return Ok(0),
            Body::Queue(queue) => {
                allowed(queue)?;
                if queue.spills() {
                    registry.store.spill(vec![SpillOp::Dropped(self.id)], None);
                }
                registry.budget.change(&mut state.noted, 0);
                queue.delete()
            }
            Body::Stream(stream) => {
                stream.delete();
                0
            }
        };
        if !self.delays {
            state.leave_statistics(self);
        }
        let mut outlets: Vec<_> = state.outlets.drain().collect();
        outlets.sort_by_key(|(consumer, _)| *consumer);
        for (consumer, outlet) in outlets {
            let (channel, tag) = (outlet.channel, outlet.tag);
            outlet.outbox.push(Event::Cancelled { channel, tag, consumer, queue: self.id });
        }
        for outbox in state.waiting.drain(..) {
            outbox.wake();
        }
        Ok(ready)
    }

    /// Has a connection woken when messages came back from disk.
    pub(super) fn wait_for_load(&self, outbox: &Arc<Outbox>) {
        self.state.lock().waiting.push(outbox.clone());
    }

    /// Messages came back from disk: wakes who waits for them.
    pub(super) fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        for outbox in waiting {
            outbox.wake();
        }
    }
}
