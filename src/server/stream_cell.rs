//! Streams in their cells: what publishers, consumers and the store do with them.
//!
//! A publish locks nothing: it leaves with the turn's transaction, and the stream hears of it after the commit, on the
//! store's thread, which turns the crank of the stream as a connection would.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use leveret_protocol::FieldTable;

use super::clock;
use super::outbox::{Delivery, Event, Outbox};
use super::queue_cell::{Body, CellState, Outlet, QueueCell};
use super::registry::{Registry, VhostCell};
use super::work::Work;
use crate::engine::message::{Arena, Timestamp};
use crate::engine::queue::{ConsumerId, ConsumerSpec, Delivered, QueueSettings};
use crate::engine::statistics::Count;
use crate::engine::stream::{Filter, OffsetSpec, RecoveredLog, Retention, Stream, StreamEffect};
use crate::engine::vhost::QueueRecord;
use crate::error::AmqpError;
use crate::panics::StopOnPanic;
use crate::store::{LaneKey, LoadRequest, LogSink, LogUpdate, Op};

/// What a publish to a stream needs.
#[derive(Debug)]
pub(super) struct StreamLink {
    /// As [`Stream::block_bytes`].
    block_bytes: AtomicU64,
    /// Made by the first publish.
    sink: OnceLock<Arc<dyn LogSink>>,
}

/// Hands what was committed to a stream that is still there.
#[derive(Debug)]
struct Sink {
    registry: Weak<Registry>,
    cell: Weak<QueueCell>,
}

impl LogSink for Sink {
    fn committed(&self, update: LogUpdate) {
        let (Some(registry), Some(cell)) = (self.registry.upgrade(), self.cell.upgrade()) else { return };
        let mut work = Work::default();
        let now = clock::now();
        let count = update.parts.iter().map(|part| u64::from(part.count)).sum();
        cell.count_in_stream(&[Count::Publish, Count::DiskWrites], count);
        cell.turn_stream(&registry, &mut work, |stream, fx| stream.committed(now, update.parts, &update.blocks, fx));
        registry.finish(&mut work, None);
    }
}

impl QueueCell {
    /// A cell with a stream.
    pub(super) fn with_stream(
        record: &QueueRecord,
        settings: Arc<QueueSettings>,
        log: &RecoveredLog,
        vhost: Arc<VhostCell>,
    ) -> Self {
        let stream = Stream::new(Retention::of(&settings), log);
        let link = StreamLink { block_bytes: AtomicU64::new(stream.block_bytes()), sink: OnceLock::new() };
        Self::holding(record, Body::Stream(Box::new(stream)), settings, Some(link), vhost)
    }

    /// Takes in the messages of an arena, all persistent or all not. Returns the indexes of those that it refused.
    pub(super) fn publish(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        work: &mut Work,
        now: Timestamp,
        arena: &Arc<Arena>,
        persistent: bool,
    ) -> Vec<u32> {
        let Some(link) = &self.stream else {
            let refused = self.turn(registry, work, |queue, fx| queue.publish(now, arena, persistent, fx));
            return refused.unwrap_or_default();
        };
        self.log(link, registry, work, arena);
        Vec::new()
    }

    /// The same for messages that have left another queue already: none is refused.
    pub(super) fn admit(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        work: &mut Work,
        now: Timestamp,
        arena: &Arc<Arena>,
        persistent: bool,
    ) {
        match &self.stream {
            Some(link) => self.log(link, registry, work, arena),
            None => {
                self.turn(registry, work, |queue, fx| queue.admit(now, arena, persistent, fx));
            }
        }
    }

    /// Has messages appended to a stream.
    fn log(self: &Arc<Self>, link: &StreamLink, registry: &Arc<Registry>, work: &mut Work, arena: &Arc<Arena>) {
        let sink = link
            .sink
            .get_or_init(|| Arc::new(Sink { registry: Arc::downgrade(registry), cell: Arc::downgrade(self) }))
            .clone();
        work.ops.push(Op::Log {
            lane: LaneKey::new(self.id, 0),
            arena: arena.clone(),
            index: 0,
            count: arena.count(),
            block_bytes: link.block_bytes.load(Ordering::Relaxed),
            sink,
        });
    }

    /// Locks the stream, lets `input` turn the crank, and passes on what it caused. `None` if it is no stream.
    pub(super) fn turn_stream<R>(
        self: &Arc<Self>,
        registry: &Registry,
        work: &mut Work,
        input: impl FnOnce(&mut Stream, &mut Vec<StreamEffect>) -> R,
    ) -> Option<R> {
        self.stream.as_ref()?;
        let _trust = StopOnPanic("a stream");
        let mut guard = self.state.lock();
        guard.mark_changed(self, &registry.statistics);
        let CellState { body, outlets, armed, stream_recent, .. } = &mut *guard;
        let Body::Stream(stream) = body else { return None };
        let mut effects = Vec::new();
        let result = input(stream, &mut effects);
        for effect in effects {
            match effect {
                StreamEffect::Deliver { consumer, run } => {
                    stream_recent.get_or_insert_default().counts[Count::Deliver] += u64::from(run.count);
                    if let Some(outlet) = outlets.get(&consumer) {
                        outlet.outbox.push(Event::Deliver(Delivery {
                            channel: outlet.channel,
                            tag: outlet.tag.clone(),
                            consumer,
                            queue: self.id,
                            no_ack: outlet.no_ack,
                            ack_timeout: outlet.ack_timeout,
                            from_stream: true,
                            run,
                        }));
                    }
                }
                StreamEffect::Read { from_seq, max_bytes } => work.reads.push((self.clone(), from_seq, max_bytes)),
                StreamEffect::Truncate { below_seq } => {
                    work.ops.push(Op::Truncate { lane: LaneKey::new(self.id, 0), below_seq });
                }
            }
        }
        if let Some(deadline) = stream.deadline()
            && armed.is_none_or(|armed| deadline < armed)
        {
            *armed = Some(deadline);
            registry.timer.arm(deadline, self.id);
        }
        Some(result)
    }

    /// Other limits hold from now on.
    pub(super) fn apply_retention(
        self: &Arc<Self>,
        registry: &Registry,
        work: &mut Work,
        now: Timestamp,
        retention: Retention,
    ) {
        let block_bytes = self.turn_stream(registry, work, |stream, fx| {
            stream.set_retention(now, retention, fx);
            stream.block_bytes()
        });
        if let (Some(link), Some(block_bytes)) = (&self.stream, block_bytes) {
            link.block_bytes.store(block_bytes, Ordering::Relaxed);
        }
    }

    /// Messages stored in a stream.
    pub(super) fn stream_count(&self) -> u64 {
        match &self.state.lock().body {
            Body::Stream(stream) => stream.count(),
            Body::Queue(_) => 0,
        }
    }

    /// Adds a consumer unless the stream is gone. Its deliveries start with [`QueueCell::resume`].
    pub(super) fn add_reader(
        &self,
        spec: ConsumerSpec,
        start: OffsetSpec,
        filter: Option<Filter>,
        outbox: &Arc<Outbox>,
        arguments: FieldTable,
    ) -> Result<ConsumerId, AmqpError> {
        let mut state = self.state.lock();
        let Body::Stream(stream) = &mut state.body else { return Err(AmqpError::Internal) };
        if stream.is_deleted() {
            return Err(AmqpError::QueueNotFound { queue: self.name.clone(), vhost: self.vhost.name.clone() });
        }
        let outlet = Outlet::new(&spec, outbox, arguments);
        let id = stream.add_reader(spec, start, filter);
        state.outlets.insert(id, outlet);
        Ok(id)
    }

    /// Deliveries were settled, in whatever way: consumers have credit again.
    pub(super) fn settle_stream(
        self: &Arc<Self>,
        registry: &Registry,
        work: &mut Work,
        settled: impl Iterator<Item = Delivered>,
    ) {
        let mut count = 0;
        self.turn_stream(registry, work, |stream, fx| {
            for delivered in settled {
                count += delivered.last_seq + 1 - delivered.first_seq;
                stream.settle(delivered);
            }
            stream.resume(fx);
        });
        self.count_in_stream(&[Count::Ack], count);
    }

    /// Says so in the log when messages are missing that should be on disk.
    pub(super) fn report_lost(&self, lost: u64) {
        if lost > 0 {
            tracing::error!(queue = %self.name, vhost = %self.vhost.name, lost, "stored messages are missing");
        }
    }
}

impl Registry {
    /// Brings messages of a stream from disk.
    pub(super) fn read_stream(self: &Arc<Self>, cell: Arc<QueueCell>, from_seq: u64, max_bytes: usize) {
        let registry = self.clone();
        self.store.load(LoadRequest {
            lane: LaneKey::new(cell.id, 0),
            from_seq,
            max_bytes,
            latest: true,
            window: None,
            reply: Box::new(move |reply| {
                let mut work = Work::default();
                let read = reply.loaded.iter().map(|part| u64::from(part.count)).sum();
                cell.count_in_stream(&[Count::DiskReads], read);
                let lost = cell.turn_stream(&registry, &mut work, |stream, fx| {
                    stream.loaded(from_seq, reply.complete_below, reply.loaded, fx)
                });
                cell.report_lost(lost.unwrap_or(0).saturating_sub(reply.known_gone));
                registry.finish(&mut work, None);
            }),
        });
    }
}
