//! A queue: a synchronous state machine. Inputs are method calls with the time; what they cause leaves as
//! [`QueueEffect`]s, to be acted on after the queue's lock is released (deliveries: before, to keep their order).
//!
//! Invariants: a message is in exactly one of ready, unacked, settled; a consumer's unacked messages never exceed its
//! prefetch limit; an expired message is never delivered; what a durable queue settles or takes in is told to the store by
//! an effect of the same call.
//! Not here: exchanges, the store, sockets, locks.

mod delivery_times;
mod depth;
mod dispatch;
mod effective;
mod expiry;
mod figures;
mod lane;
mod levels;
mod look;
mod marks;
#[cfg(test)]
mod model;
mod paging;
mod ranges;
mod returns;
mod scattered;
mod segment;
mod settings;
mod stall;

use std::sync::Arc;

use crate::engine::message::{Arena, Timestamp};
use crate::engine::statistics::{Count, Recent};

pub use depth::SpillPlan;
pub use depth::{Answer, Difference, Gone};
pub use dispatch::{ChannelLimit, ConsumerId, ConsumerSpec, Window};
pub use figures::{ConsumerFigures, QueueAges, QueueFigures};
pub use lane::{Loaded, Run};
pub use look::{Look, MessageId, Next, Pick, Seen, Standing, Wanted};
pub use marks::Marks;
pub use segment::{Kept, Settled, SpillTicket};
pub use settings::{
    DeadLetterStrategy, ExpiryMode, Overflow, QueueSettings, QueueType, StreamSettings, TTL_MAX_MS, check_equivalent,
};
pub(crate) use settings::{age_in_seconds, compare_argument, print_value};
pub use stall::{HeldBy, Stall};

use dispatch::Consumers;
use expiry::Deadlines;
use lane::{Fate, Lane, Take};
use levels::Levels;

/// A queue's number; never reused, and what everything durable refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(u64);

impl QueueId {
    /// The queue with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Deliveries to one consumer that stand side by side in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Who has them; `None` for basic.get.
    pub consumer: Option<ConsumerId>,
    /// Lane of the queue.
    pub lane: u8,
    /// First sequence number.
    pub first_seq: u64,
    /// Last sequence number.
    pub last_seq: u64,
}

/// Why a message is dead-lettered (RabbitMQ extension).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathReason {
    /// Nacked or rejected without requeue.
    Rejected,
    /// Its time to live is over.
    Expired,
    /// Dropped from the head of a full queue, or refused by it.
    MaxLen,
    /// It came back more often than the queue's delivery limit allows.
    DeliveryLimit,
}

impl DeathReason {
    /// The word in the `x-death` header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLen => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }

    /// What is counted, by whether the queue dead-letters.
    const fn count(self, dead_letters: bool) -> Count {
        match (self, dead_letters) {
            (Self::Rejected, true) => Count::Rejected,
            (Self::Expired, true) => Count::Expired,
            (Self::MaxLen, true) => Count::MaxLen,
            (Self::DeliveryLimit, true) => Count::DeliveryLimit,
            (Self::Rejected, false) => Count::DroppedRejected,
            (Self::Expired, false) => Count::DroppedExpired,
            (Self::MaxLen, false) => Count::DroppedMaxLen,
            (Self::DeliveryLimit, false) => Count::DroppedDeliveryLimit,
        }
    }
}

/// What a queue wants done.
#[derive(Debug)]
pub enum QueueEffect {
    /// Hand these messages to a consumer's connection.
    Deliver {
        /// Who gets them.
        consumer: ConsumerId,
        /// The messages.
        run: Run,
    },
    /// Store these messages.
    Append {
        /// Lane of the queue.
        lane: u8,
        /// Sequence number of the first one.
        first_seq: u64,
        /// Where they are.
        arena: Arc<Arena>,
        /// Index of the first one in the arena.
        index: u32,
        /// How many.
        count: u32,
    },
    /// Keep these messages on disk as long as the broker runs: memory is to forget them.
    Spill {
        /// Lane of the queue.
        lane: u8,
        /// Sequence number of the first one.
        first_seq: u64,
        /// Where they are.
        arena: Arc<Arena>,
        /// Index of the first one in the arena.
        index: u32,
        /// How many.
        count: u32,
        /// To be told when the store took them.
        ticket: SpillTicket,
    },
    /// Remove these messages from where they are kept besides memory.
    Settled {
        /// Lane of the queue.
        lane: u8,
        /// What left.
        settled: Settled,
    },
    /// Store how often this message came back.
    Returned {
        /// Lane of the queue.
        lane: u8,
        /// Its sequence number.
        seq: u64,
        /// How often.
        count: u32,
    },
    /// Publish these messages to the queue's dead-letter exchange.
    DeadLetter {
        /// The messages.
        run: Run,
        /// Why.
        reason: DeathReason,
    },
    /// Bring messages back from disk.
    Load {
        /// Lane of the queue.
        lane: u8,
        /// From this sequence number on.
        from_seq: u64,
        /// About how many octets.
        max_bytes: usize,
    },
}

/// What [`Queue::get`] found.
#[derive(Debug)]
pub enum Get {
    /// The oldest ready message, and how many are ready after it.
    Message {
        /// One message.
        run: Run,
        /// Ready messages left.
        left: u64,
    },
    /// No message is ready.
    Empty,
    /// The oldest ready message is on its way from disk: ask again when it is there.
    Loading,
}

/// What a timeout found besides expired messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutOutcome {
    /// The queue goes on.
    Kept,
    /// Nobody used the queue for its `x-expires`: delete it.
    QueueExpired,
}

/// A lane as the store found it at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredLane {
    /// Which lane of the queue.
    pub lane: u8,
    /// Everything below is settled.
    pub head_seq: u64,
    /// The number that the next message gets.
    pub next_seq: u64,
    /// Messages stored.
    pub count: u64,
    /// Octets of their bodies.
    pub body_bytes: u64,
    /// Messages below this number were delivered before.
    pub redelivered_below: u64,
    /// A message may have an expiration of its own.
    pub expiring: bool,
    /// Messages that came back, and how often.
    pub returns: Vec<(u64, u32)>,
}

/// Octets of bodies handed to one consumer in one run before its window is looked at again.
const RUN_MAX_BYTES: u64 = 256 * 1024;
/// Octets of messages kept in memory ahead of the cursor while the rest of a deep queue is on disk.
pub const WINDOW_BYTES: usize = 2 * 1024 * 1024;

/// A queue.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each with its own life")]
pub struct Queue {
    settings: Arc<QueueSettings>,
    durable: bool,
    /// Those in use, by number.
    lanes: Vec<Lane>,
    consumers: Consumers,
    had_consumer: bool,
    deadlines: Deadlines,
    last_used: Timestamp,
    /// Messages are being read back: all below this number were on disk when they were asked for.
    loading: Option<u64>,
    /// A basic.get waits for them.
    get_waits: bool,
    /// Octets of messages to keep in memory ahead of the cursor.
    window_bytes: usize,
    /// Deadlines that the last look at all of them left.
    deadlines_kept: usize,
    /// It may have messages that the store keeps as long as the broker runs.
    spills: bool,
    deleted: bool,
    /// What happened since somebody took it.
    recent: Option<Box<Recent>>,
    /// Since when nobody takes what is ready although there are consumers.
    blocked_since: Option<Timestamp>,
    /// When a message left last.
    moved_at: Timestamp,
    /// Nobody gets anything for now.
    paused: bool,
}

impl Queue {
    /// An empty queue.
    pub fn new(settings: impl Into<Arc<QueueSettings>>, durable: bool, now: Timestamp) -> Self {
        let settings = settings.into();
        let lanes = vec![Lane::new(Levels::of(&settings).usual())];
        let by_priority = settings.queue_type == QueueType::Quorum;
        let consumers = Consumers::new(settings.single_active_consumer, by_priority);
        Self {
            settings,
            durable,
            lanes,
            consumers,
            had_consumer: false,
            deadlines: Deadlines::default(),
            last_used: now,
            loading: None,
            get_waits: false,
            window_bytes: WINDOW_BYTES,
            deadlines_kept: 0,
            spills: false,
            deleted: false,
            recent: None,
            blocked_since: None,
            moved_at: now,
            paused: false,
        }
    }

    /// Holds deliveries to consumers back, or not any more; [`Queue::resume`] has them go on.
    #[inline]
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    #[inline]
    fn count(&mut self, what: Count, messages: u64) {
        self.recent.get_or_insert_default().counts[what] += messages;
    }

    /// Messages died: they are dead-lettered, if the queue does that.
    fn count_dead(&mut self, reason: DeathReason, messages: u64) {
        self.count(reason.count(self.settings.dead_letters()), messages);
    }

    /// Messages are handed out; the `settled` ones need no ack.
    #[inline]
    fn note_handed_out(&mut self, now: Timestamp, run: &Run, what: Count, settled: bool) {
        let count = u64::from(run.count);
        let recent = self.recent.get_or_insert_default();
        recent.counts[what] += count;
        if run.redelivered {
            recent.counts[Count::Redeliver] += count;
        } else {
            // The messages of a run came together, or nearly so.
            let arrived = run.arena.message(run.index).enqueued_at();
            recent.time_in_queue.note(now.as_millis().saturating_sub(arrived.as_millis()), count);
        }
        self.moved_at = now;
        if !settled && let Some(slot) = self.lane_mut(run.lane) {
            slot.note_handed_out(now, run);
        }
    }

    /// Messages are ready that nobody takes, or not.
    #[inline]
    fn note_blocked(&mut self, now: Timestamp, blocked: bool) {
        if blocked {
            self.blocked_since.get_or_insert(now);
        } else if let Some(since) = self.blocked_since.take() {
            let blocked_ms = now.as_millis().saturating_sub(since.as_millis());
            self.recent.get_or_insert_default().blocked_ms += blocked_ms;
        }
    }

    /// A durable queue with what the store has of it.
    pub fn recovered(settings: impl Into<Arc<QueueSettings>>, lanes: &[RecoveredLane], now: Timestamp) -> Self {
        let mut queue = Self::new(settings, true, now);
        for lane in lanes {
            *queue.lane_or_new(lane.lane) = Lane::recovered(lane);
        }
        queue
    }

    fn find_lane(&self, number: u8) -> Result<usize, usize> {
        match self.lanes.as_slice() {
            [only] if only.number() == number => Ok(0),
            lanes => lanes.binary_search_by_key(&number, Lane::number),
        }
    }

    fn lane(&self, number: u8) -> Option<&Lane> {
        self.find_lane(number).ok().map(|at| &self.lanes[at])
    }

    fn lane_mut(&mut self, number: u8) -> Option<&mut Lane> {
        self.find_lane(number).ok().map(|at| &mut self.lanes[at])
    }

    /// A lane that comes to be with its first message.
    fn lane_or_new(&mut self, number: u8) -> &mut Lane {
        let at = self.find_lane(number).unwrap_or_else(|at| {
            self.lanes.insert(at, Lane::new(number));
            at
        });
        &mut self.lanes[at]
    }

    /// Messages that wait.
    pub fn ready(&self) -> u64 {
        self.lanes.iter().map(Lane::ready).sum()
    }

    /// Messages delivered and not settled.
    pub fn unacked(&self) -> u64 {
        self.lanes.iter().map(Lane::unacked).sum()
    }

    /// A number that rises with every message that a consumer is given for the first time.
    pub fn taken(&self) -> u64 {
        self.lanes.iter().map(Lane::delivered_below).sum()
    }

    /// How many consumers it has.
    pub fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// Whether messages in it survive a restart.
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// Whether the queue was deleted: it takes nothing in any more.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// What its arguments ask for.
    pub fn settings(&self) -> &Arc<QueueSettings> {
        &self.settings
    }

    /// Whether the store may keep messages of it that do not survive: they have to be removed when the queue is.
    pub fn spills(&self) -> bool {
        self.spills
    }

    /// Octets of memory that its messages hold.
    pub fn resident_bytes(&self) -> usize {
        self.lanes.iter().map(Lane::resident_bytes).sum()
    }

    /// For each lane its number, and below which sequence number messages were delivered before, here or in a life past.
    pub fn delivered_marks(&self) -> impl Iterator<Item = (u8, u64)> {
        self.lanes.iter().map(|lane| (lane.number(), lane.delivered_below()))
    }

    /// Takes in the messages of an arena, all persistent or all not. Returns the indexes of those that it refused.
    pub fn publish(
        &mut self,
        now: Timestamp,
        arena: &Arc<Arena>,
        persistent: bool,
        fx: &mut Vec<QueueEffect>,
    ) -> Vec<u32> {
        if self.deleted {
            return Vec::new();
        }
        self.expire(now, fx);
        let count = arena.count();
        self.count(Count::Publish, u64::from(count));
        let kept = self.kept_when(persistent);
        let mut refused = Vec::new();
        if self.settings.refuses_when_full() {
            for index in 0..count {
                if self.would_overflow(arena.message(index).body_len() as u64) {
                    refused.push(index);
                    if self.settings.overflow() == Overflow::RejectPublishDlx && self.settings.dead_letters() {
                        let run = refused_run(arena, index);
                        self.count_dead(DeathReason::MaxLen, 1);
                        fx.push(QueueEffect::DeadLetter { run, reason: DeathReason::MaxLen });
                    }
                } else {
                    self.append(arena, index, 1, kept, fx);
                    self.dispatch(now, fx);
                }
            }
        } else {
            self.append(arena, 0, count, kept, fx);
            self.dispatch(now, fx);
            self.trim(fx);
        }
        self.expire(now, fx);
        refused
    }

    /// How a message that comes in is kept.
    fn kept_when(&self, persistent: bool) -> Kept {
        let durable = self.durable && (persistent || self.settings.queue_type == QueueType::Quorum);
        if durable { Kept::Durable } else { Kept::Memory }
    }

    fn would_overflow(&self, body_bytes: u64) -> bool {
        self.settings.max_length.is_some_and(|max| self.ready() + 1 > max)
            || self.settings.max_length_bytes.is_some_and(|max| self.ready_body_bytes() + body_bytes > max)
    }

    /// Octets of the bodies that wait.
    pub fn ready_body_bytes(&self) -> u64 {
        self.lanes.iter().map(Lane::ready_body_bytes).sum()
    }

    /// Appends messages `index..index + count` of the arena, each to the lane of its priority.
    fn append(&mut self, arena: &Arc<Arena>, index: u32, count: u32, kept: Kept, fx: &mut Vec<QueueEffect>) {
        let levels = Levels::of(&self.settings);
        let end = index + count;
        let mut first = index;
        while first < end {
            let (lane, mut last) = match levels {
                Levels::One => (0, end),
                Levels::UpTo(_) | Levels::Quorum => (levels.level(&arena.message(first)), first + 1),
            };
            while last < end && levels.level(&arena.message(last)) == lane {
                last += 1;
            }
            let body_bytes = if last - first == arena.count() {
                arena.body_bytes()
            } else {
                (first..last).map(|at| arena.message(at).body_len() as u64).sum()
            };
            let slot = self.lane_or_new(lane);
            let first_seq = slot.push(arena.clone(), first, last - first, body_bytes, kept);
            if arena.any_expiration() && self.settings.expiry_mode == ExpiryMode::OnTime {
                for at in first..last {
                    self.deadlines.add(&arena.message(at), lane, first_seq + u64::from(at - first));
                }
                if self.deadlines.is_stale(self.ready() + self.unacked()) {
                    // What is on disk is remembered again when it comes back.
                    self.forget_deadlines();
                }
            }
            if kept == Kept::Durable {
                let (arena, count) = (arena.clone(), last - first);
                self.count(Count::DiskWrites, u64::from(count));
                fx.push(QueueEffect::Append { lane, first_seq, arena, index: first, count });
            }
            first = last;
        }
    }

    /// Takes the oldest message of the highest priority.
    fn take(&mut self, max: u32) -> Take {
        for lane in self.lanes.iter_mut().rev() {
            match lane.take(max, RUN_MAX_BYTES) {
                Take::Empty => {}
                found @ (Take::Run(_) | Take::OnDisk) => return found,
            }
        }
        Take::Empty
    }

    /// Hands ready messages to consumers as long as both are there.
    fn dispatch(&mut self, now: Timestamp, fx: &mut Vec<QueueEffect>) {
        if self.consumers.is_empty() || self.paused {
            self.blocked_since = None;
            return;
        }
        let mut blocked = false;
        let one_by_one = self.settings.expiry_mode == ExpiryMode::Head;
        loop {
            if one_by_one {
                // Whatever is at the head may be over, whenever it came.
                self.expire_heads(now, fx);
            }
            let ready = self.ready();
            if ready == 0 {
                break;
            }
            let Some(turn) = self.consumers.next(ready) else {
                blocked = true;
                break;
            };
            let most = if one_by_one { 1 } else { turn.max };
            let wanted = most.min(u32::try_from(ready).unwrap_or(u32::MAX));
            let granted = self.consumers.claim(now, turn.consumer, wanted);
            if granted == 0 {
                // Another queue took the last of the channel's limit: the next look finds no room and parks it.
                continue;
            }
            match self.take(granted) {
                Take::Run(run) => {
                    self.consumers.unclaim(turn.consumer, granted - run.count);
                    if let Some(spec) = self.consumers.spec(turn.consumer) {
                        spec.window.add(run.size_bytes());
                    }
                    let what = if turn.no_ack { Count::DeliverNoAck } else { Count::Deliver };
                    self.note_handed_out(now, &run, what, turn.no_ack);
                    if turn.no_ack {
                        self.settle_taken(run.lane, run.first_seq, run.first_seq + u64::from(run.count) - 1, fx);
                    }
                    self.consumers.rotate(turn.consumer, run.count);
                    fx.push(QueueEffect::Deliver { consumer: turn.consumer, run });
                }
                Take::OnDisk | Take::Empty => {
                    self.consumers.unclaim(turn.consumer, granted);
                    break;
                }
            }
        }
        self.note_blocked(now, blocked);
        self.read_ahead(fx);
    }

    /// Settles messages that were taken, telling the store.
    fn settle_taken(&mut self, lane: u8, first_seq: u64, last_seq: u64, fx: &mut Vec<QueueEffect>) -> u64 {
        let mut out = Vec::new();
        if let Some(slot) = self.lane_mut(lane) {
            slot.settle_unacked(first_seq, last_seq, &mut out);
        }
        tell_store(lane, &out, fx)
    }

    /// Takes one message for `basic.get`; with `no_ack` it is settled at once.
    pub fn get(&mut self, now: Timestamp, no_ack: bool, fx: &mut Vec<QueueEffect>) -> Get {
        self.last_used = now;
        self.get_waits = false;
        self.expire(now, fx);
        match self.take(1) {
            Take::Run(run) => {
                self.note_handed_out(now, &run, if no_ack { Count::GetNoAck } else { Count::Get }, no_ack);
                if no_ack {
                    self.settle_taken(run.lane, run.first_seq, run.first_seq, fx);
                }
                Get::Message { run, left: self.ready() }
            }
            Take::Empty => {
                self.count(Count::GetEmpty, 1);
                Get::Empty
            }
            Take::OnDisk => {
                self.get_waits = true;
                self.read_ahead(fx);
                Get::Loading
            }
        }
    }

    /// Whether a new consumer would be refused (RabbitMQ: "in exclusive use").
    pub fn refuses_consumer(&self, exclusive: bool) -> bool {
        self.consumers.refuses(exclusive)
    }

    /// Adds a consumer. [`Queue::resume`] starts its deliveries, so that consume-ok can be sent first.
    pub fn add_consumer(&mut self, now: Timestamp, spec: ConsumerSpec) -> ConsumerId {
        self.had_consumer = true;
        self.last_used = now;
        self.consumers.add(spec)
    }

    /// Removes a consumer; its unacked messages stay with its channel. True when the last one is gone.
    pub fn remove_consumer(&mut self, now: Timestamp, id: ConsumerId, fx: &mut Vec<QueueEffect>) -> bool {
        if !self.consumers.remove(id) {
            return false;
        }
        self.last_used = now;
        self.expire(now, fx);
        self.dispatch(now, fx);
        self.had_consumer && self.consumers.is_empty()
    }

    /// Settles unacked messages: an ack.
    pub fn ack(&mut self, now: Timestamp, delivered: Delivered, fx: &mut Vec<QueueEffect>) {
        let Delivered { lane, first_seq, last_seq, .. } = delivered;
        let mut recent = self.recent.take().unwrap_or_default();
        if let Some(slot) = self.lane_mut(lane) {
            slot.note_returned(now, first_seq, last_seq, |waited_ms, count| recent.ack_latency.note(waited_ms, count));
        }
        self.recent = Some(recent);
        let count = self.settle(now, delivered, fx);
        self.count(Count::Ack, count);
    }

    /// Settles unacked messages, whatever becomes of them; returns how many there were.
    fn settle(&mut self, now: Timestamp, delivered: Delivered, fx: &mut Vec<QueueEffect>) -> u64 {
        let Delivered { consumer, lane, first_seq, last_seq } = delivered;
        let count = self.settle_taken(lane, first_seq, last_seq, fx);
        self.moved_at = now;
        self.freed(now, consumer, count);
        self.expire(now, fx);
        self.dispatch(now, fx);
        count
    }

    /// Settles unacked messages without requeue: they are dead-lettered if the queue says so.
    pub fn reject(&mut self, now: Timestamp, delivered: Delivered, fx: &mut Vec<QueueEffect>) {
        let Delivered { lane, first_seq, last_seq, .. } = delivered;
        let dead_letters = self.settings.dead_letters();
        if let Some(slot) = self.lane_mut(lane) {
            slot.note_returned(now, first_seq, last_seq, |_, _| ());
            if dead_letters {
                let waits_from = slot.waits_from(first_seq, last_seq, Fate::Rejected);
                let before = fx.len();
                for run in (first_seq..waits_from.unwrap_or(last_seq + 1)).filter_map(|seq| slot.single(seq)) {
                    fx.push(QueueEffect::DeadLetter { run, reason: DeathReason::Rejected });
                }
                let dead = (fx.len() - before) as u64;
                self.count_dead(DeathReason::Rejected, dead);
                self.count(Count::Reject, last_seq + 1 - first_seq);
                if let Some(from) = waits_from {
                    return self.reject_later(now, delivered, from, fx);
                }
            }
        }
        let count = self.settle(now, delivered, fx);
        if !dead_letters {
            self.count_dead(DeathReason::Rejected, count);
            self.count(Count::Reject, count);
        }
    }

    fn freed(&mut self, now: Timestamp, consumer: Option<ConsumerId>, count: u64) {
        if let Some(id) = consumer {
            self.consumers.settled(now, id, u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// Consumers' connections or channels may take messages again.
    pub fn resume(&mut self, now: Timestamp, fx: &mut Vec<QueueEffect>) {
        self.consumers.resume_all();
        self.expire(now, fx);
        self.dispatch(now, fx);
    }

    /// Drops every ready message; returns how many.
    pub fn purge(&mut self, fx: &mut Vec<QueueEffect>) -> u64 {
        let mut purged = 0;
        for lane in &mut self.lanes {
            let mut out = Vec::new();
            purged += lane.purge(&mut out);
            tell_store(lane.number(), &out, fx);
        }
        purged
    }

    /// Ends the queue; the caller cancels its consumers. Returns how many messages were ready.
    pub fn delete(&mut self) -> u64 {
        let ready = self.ready();
        self.deleted = true;
        for lane in &mut self.lanes {
            *lane = Lane::new(lane.number());
        }
        self.consumers = Consumers::default();
        ready
    }

    /// The queue was declared again or looked at: for a quorum queue that is no use.
    pub fn touch(&mut self, now: Timestamp) {
        if self.settings.queue_type != QueueType::Quorum {
            self.last_used = now;
        }
    }

    /// New policies: limits count at once, the time to live of what is in the queue is looked at again, and a queue that
    /// expires when unused gets its whole time.
    pub fn apply_settings(
        &mut self,
        now: Timestamp,
        settings: impl Into<Arc<QueueSettings>>,
        fx: &mut Vec<QueueEffect>,
    ) {
        let settings = settings.into();
        if settings.expires_ms != self.settings.expires_ms {
            self.last_used = now;
        }
        self.settings = settings;
        self.expire(now, fx);
        self.trim(fx);
    }

    /// Drops from the head what is over the length limits.
    fn trim(&mut self, fx: &mut Vec<QueueEffect>) {
        if self.settings.overflow() != Overflow::DropHead || !self.settings.has_length_limit() {
            return;
        }
        while self.settings.max_length.is_some_and(|max| self.ready() > max)
            || self.settings.max_length_bytes.is_some_and(|max| self.ready_body_bytes() > max)
        {
            let Some(lane) = self.lanes.iter().rev().find(|lane| lane.ready() > 0) else { return };
            let number = lane.number();
            let Some((seq, _)) = lane.peek() else {
                // The head is on disk: trim again when it is back.
                self.read_head(fx);
                return;
            };
            self.drop_ready(number, seq, DeathReason::MaxLen, fx);
        }
    }

    /// Settles one ready message, dead-lettering it if the queue says so.
    fn drop_ready(&mut self, lane: u8, seq: u64, reason: DeathReason, fx: &mut Vec<QueueEffect>) -> bool {
        let Some(slot) = self.lane_mut(lane) else { return false };
        let mut out = Vec::new();
        let Some(run) = slot.settle_ready(seq, &mut out) else { return false };
        self.count_dead(reason, 1);
        if self.settings.dead_letters() {
            fx.push(QueueEffect::DeadLetter { run, reason });
        }
        tell_store(lane, &out, fx);
        true
    }
}

/// A message that never got a place in the queue.
fn refused_run(arena: &Arc<Arena>, index: u32) -> Run {
    Run {
        arena: arena.clone(),
        index,
        count: 1,
        lane: 0,
        first_seq: 0,
        redelivered: false,
        delivery_count: 0,
        body_bytes: arena.message(index).body_len() as u64,
    }
}

/// Turns what left a lane into store effects; returns how many messages left.
fn tell_store(lane: u8, out: &[Settled], fx: &mut Vec<QueueEffect>) -> u64 {
    let told = out.iter().filter(|settled| settled.kept != Kept::Memory);
    fx.extend(told.map(|&settled| QueueEffect::Settled { lane, settled }));
    out.iter().map(|settled| settled.count).sum()
}
