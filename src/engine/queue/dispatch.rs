//! Who gets the next message: consumers, their prefetch limits and the rotation among them.
//!
//! A consumer is *eligible* while it may take a message now: its prefetch limit is not used up, its channel's limit is not,
//! and its connection still takes octets. Eligible consumers stand in one line for each priority; the highest priority
//! that has anybody goes first, and within it everybody gets one message in turn, or, while very many are ready, some in a row.
//! A consumer that may not take leaves the line and joins its end again when it may. Those that waited for the same thing
//! join it in the order in which they left.
//!
//! A slot of a channel's limit that becomes free belongs to every queue of that channel's consumers, not to the one whose
//! message was settled: that one waits until the connection lets all of them look, one after the other (`resume_all`).
//!
//! Not here: which message is next (`lane`), what a connection does with it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use leveret_protocol::{ChannelId, ShortString};

use super::stall::HeldBy;
use crate::engine::message::Timestamp;

/// A consumer's number, unique in its queue for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(u32);

impl ConsumerId {
    /// For tests and for keys built from parts.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }
}

/// The prefetch limit that all consumers of a channel share (`basic.qos` with `global`).
#[derive(Debug, Default)]
pub struct ChannelLimit {
    limit: AtomicU32,
    unacked: AtomicU32,
}

impl ChannelLimit {
    /// Sets the limit; 0 lifts it.
    pub fn set(&self, limit: u32) {
        self.limit.store(limit, Ordering::Release);
    }

    /// The limit; 0 without one.
    pub fn get(&self) -> u32 {
        self.limit.load(Ordering::Acquire)
    }

    /// Whether there is a limit at all.
    pub fn is_set(&self) -> bool {
        self.limit.load(Ordering::Acquire) != 0
    }

    /// Deliveries that still fit; `u32::MAX` without a limit.
    pub(crate) fn room(&self) -> u32 {
        match self.limit.load(Ordering::Acquire) {
            0 => u32::MAX,
            limit => limit.saturating_sub(self.unacked.load(Ordering::Acquire)),
        }
    }

    /// Counts deliveries that wait for an ack. Two queues may overshoot the limit together: the claim is re-checked.
    pub(crate) fn claim(&self, wanted: u32) -> u32 {
        if !self.is_set() {
            self.unacked.fetch_add(wanted, Ordering::AcqRel);
            return wanted;
        }
        let mut granted = 0;
        let claimed = self.unacked.fetch_update(Ordering::AcqRel, Ordering::Acquire, |unacked| {
            granted = wanted.min(self.limit.load(Ordering::Acquire).saturating_sub(unacked));
            Some(unacked + granted)
        });
        debug_assert!(claimed.is_ok(), "the closure always answers");
        granted
    }

    /// Gives back deliveries that were settled.
    pub fn release(&self, count: u32) {
        let released = self
            .unacked
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |unacked| Some(unacked.saturating_sub(count)));
        debug_assert!(released.is_ok(), "the closure always answers");
    }
}

/// How much a connection still takes: deliveries queued for its socket, in octets.
#[derive(Debug)]
pub struct Window {
    queued_bytes: AtomicUsize,
    limit_bytes: usize,
}

impl Window {
    /// A window of this many octets.
    pub const fn new(limit_bytes: usize) -> Self {
        Self { queued_bytes: AtomicUsize::new(0), limit_bytes }
    }

    /// Whether another delivery may be queued.
    pub fn has_room(&self) -> bool {
        self.queued_bytes.load(Ordering::Acquire) < self.limit_bytes
    }

    /// Octets that are queued.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Acquire)
    }

    /// Counts octets queued.
    pub fn add(&self, bytes: usize) {
        self.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts octets taken out; true when that made room again.
    pub fn remove(&self, bytes: usize) -> bool {
        let before = self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        before >= self.limit_bytes && before - bytes < self.limit_bytes
    }
}

/// What a consumer asks for when it subscribes.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    /// Its tag.
    pub tag: ShortString,
    /// The channel it belongs to.
    pub channel: ChannelId,
    /// Deliveries settle themselves.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Unacked deliveries at most; 0 for no limit.
    pub prefetch: u32,
    /// `x-priority`.
    pub priority: i64,
    /// Within which time its deliveries have to be acked; `None` for no limit.
    pub ack_timeout: Option<Duration>,
    /// The limit it shares with its channel.
    pub channel_limit: Arc<ChannelLimit>,
    /// How much its connection still takes.
    pub window: Arc<Window>,
}

#[derive(Debug)]
struct Consumer {
    spec: ConsumerSpec,
    unacked: u32,
    /// Since when it has something unacked and has acked nothing.
    waits_since: Option<Timestamp>,
    in_line: bool,
    /// When it last left its line, as a number that rises.
    left: u64,
}

impl Consumer {
    /// Messages that it may take now.
    fn room(&self) -> u32 {
        if !self.spec.window.has_room() {
            return 0;
        }
        let channel_room = self.spec.channel_limit.room();
        if self.spec.no_ack {
            return if channel_room == 0 { 0 } else { u32::MAX };
        }
        let own_room = if self.spec.prefetch == 0 { u32::MAX } else { self.spec.prefetch.saturating_sub(self.unacked) };
        own_room.min(channel_room)
    }

    /// Why it has no room.
    fn held_by(&self) -> Option<HeldBy> {
        if !self.spec.no_ack && self.spec.prefetch != 0 && self.unacked >= self.spec.prefetch {
            Some(HeldBy::Prefetch)
        } else if self.spec.channel_limit.room() == 0 {
            Some(HeldBy::ChannelLimit)
        } else if !self.spec.window.has_room() {
            Some(HeldBy::Socket)
        } else {
            None
        }
    }
}

/// A consumer as listings see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed<'a> {
    pub(super) id: ConsumerId,
    /// What it asked for.
    pub(super) spec: &'a ConsumerSpec,
    /// Its unacked deliveries.
    pub(super) unacked: u32,
    /// It is one that gets messages.
    pub(super) active: bool,
    pub(super) held_by: Option<HeldBy>,
    /// Since when it has something unacked and has acked nothing.
    pub(super) waits_since: Option<Timestamp>,
}

/// A consumer's turn: who, and how many messages in a row it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Whose turn it is.
    pub consumer: ConsumerId,
    /// How many.
    pub max: u32,
    /// Deliveries settle themselves.
    pub no_ack: bool,
}

/// The consumers of a queue.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    all: HashMap<ConsumerId, Consumer>,
    /// Eligible consumers by priority, highest first.
    lines: BTreeMap<Reverse<i64>, VecDeque<ConsumerId>>,
    /// With a single active consumer: everybody in order of subscription, the active one first.
    single_active: Option<VecDeque<ConsumerId>>,
    /// The single active consumer makes way for one of higher priority once it has nothing unacked (quorum queues).
    makes_way: bool,
    next_id: u32,
    exclusive: bool,
    /// How often a consumer left its line.
    left: u64,
    /// What each turn of this round brings, and how many turns of it are to come.
    share: u32,
    turns: usize,
    /// What the turn of the first in line still brings.
    rest: u32,
}

/// Most messages handed to one consumer before the next look at its window.
const RUN_MAX: u32 = 1024;
/// Rounds in which what is ready is shared out evenly, if it is more than a few for each: messages that go together cost much
/// less than the same ones apart, and the rounds that become smaller leave everybody with as many as one by one would.
const ROUNDS: u64 = 4;
const SHARE_MAX: u64 = 64;

impl Consumers {
    /// No consumers yet; `single_active` for `x-single-active-consumer`, `makes_way` if priority decides who that is.
    pub(super) fn new(single_active: bool, makes_way: bool) -> Self {
        Self { single_active: single_active.then(VecDeque::new), makes_way, ..Self::default() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Each consumer in the order of subscription.
    pub(super) fn iter(&self) -> impl Iterator<Item = Listed<'_>> {
        let mut all: Vec<_> = self.all.iter().collect();
        all.sort_by_key(|(id, _)| **id);
        let active = self.single_active.as_ref().map(|line| line.front().copied());
        all.into_iter().map(move |(id, consumer)| Listed {
            id: *id,
            spec: &consumer.spec,
            unacked: consumer.unacked,
            active: active.is_none_or(|active| active == Some(*id)),
            held_by: consumer.held_by(),
            waits_since: consumer.waits_since,
        })
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether somebody may take a message now, as far as is known.
    pub(super) fn anybody_takes(&self) -> bool {
        self.lines.values().any(|line| !line.is_empty())
    }

    /// Whether a new consumer would be refused: somebody is exclusive, or it wants to be and is not alone.
    pub(super) fn refuses(&self, exclusive: bool) -> bool {
        self.exclusive || (exclusive && (!self.all.is_empty() || self.single_active.is_some()))
    }

    /// Adds a consumer at the end of its line.
    pub(super) fn add(&mut self, spec: ConsumerSpec) -> ConsumerId {
        let id = ConsumerId(self.next_id);
        self.next_id += 1;
        self.exclusive = spec.exclusive;
        self.all.insert(id, Consumer { spec, unacked: 0, waits_since: None, in_line: false, left: 0 });
        if let Some(order) = &mut self.single_active {
            order.push_back(id);
        }
        self.make_way();
        self.resume(id);
        id
    }

    /// The one that waits with a higher priority than the active consumer has.
    fn successor(&self) -> Option<usize> {
        let order = self.single_active.as_ref().filter(|_| self.makes_way)?;
        let priority = |at: usize| self.all[&order[at]].spec.priority;
        let best = (1..order.len()).max_by_key(|at| (priority(*at), Reverse(*at)))?;
        (priority(best) > priority(0)).then_some(best)
    }

    /// Has the active consumer take no more if one of higher priority waits, and puts that in its place when nothing is
    /// unacked.
    fn make_way(&mut self) {
        let Some(successor) = self.successor() else { return };
        let Some(order) = &mut self.single_active else { return };
        let active = order[0];
        let Some(consumer) = self.all.get_mut(&active) else { return };
        let (priority, free) = (consumer.spec.priority, consumer.unacked == 0);
        if std::mem::take(&mut consumer.in_line) {
            self.leave_line(active, priority);
        }
        if free && let Some(order) = &mut self.single_active {
            let next = order.remove(successor);
            order.extend(next);
            order.rotate_right(1);
            if let Some(next) = next {
                self.resume(next);
            }
        }
    }

    /// Removes a consumer; what it has unacked stays unacked.
    pub(super) fn remove(&mut self, id: ConsumerId) -> bool {
        let Some(consumer) = self.all.remove(&id) else { return false };
        self.exclusive = false;
        if consumer.in_line {
            self.leave_line(id, consumer.spec.priority);
        }
        let mut next_active = None;
        if let Some(order) = &mut self.single_active {
            let was_active = order.front() == Some(&id);
            order.retain(|other| *other != id);
            if was_active {
                let best = (0..order.len()).max_by_key(|at| (self.all[&order[*at]].spec.priority, Reverse(*at)));
                if let Some(active) = best.and_then(|at| order.remove(at)) {
                    order.push_front(active);
                    next_active = Some(active);
                }
            }
        }
        if let Some(active) = next_active {
            self.resume(active);
        }
        true
    }

    /// What a consumer asked for when it subscribed.
    pub(super) fn spec(&self, id: ConsumerId) -> Option<&ConsumerSpec> {
        self.all.get(&id).map(|consumer| &consumer.spec)
    }

    /// Whose turn it is, and for how many of the messages that are ready.
    pub(super) fn next(&mut self, ready: u64) -> Option<Turn> {
        loop {
            let mut line = self.lines.first_entry()?;
            let Some(&id) = line.get().front() else {
                line.remove();
                continue;
            };
            let in_line = line.get().len();
            let consumer = self.all.get_mut(&id).expect("a consumer in line exists");
            let room = consumer.room();
            if room == 0 {
                consumer.in_line = false;
                self.left += 1;
                consumer.left = self.left;
                line.get_mut().pop_front();
                self.rest = 0;
                continue;
            }
            let wanted = if in_line == 1 {
                RUN_MAX
            } else {
                if self.rest == 0 {
                    if self.turns == 0 {
                        let share = (ready / (in_line as u64 * ROUNDS)).clamp(1, SHARE_MAX);
                        (self.share, self.turns) = (u32::try_from(share).unwrap_or(1), in_line);
                    }
                    self.turns -= 1;
                    self.rest = self.share;
                }
                self.rest
            };
            return Some(Turn { consumer: id, max: wanted.min(room), no_ack: consumer.spec.no_ack });
        }
    }

    /// Claims up to `count` deliveries for the consumer whose turn it is; returns how many it may have.
    pub(super) fn claim(&mut self, now: Timestamp, id: ConsumerId, count: u32) -> u32 {
        let consumer = self.all.get_mut(&id).expect("a consumer whose turn it is exists");
        if consumer.spec.no_ack {
            return count;
        }
        let granted = consumer.spec.channel_limit.claim(count);
        consumer.unacked += granted;
        consumer.waits_since.get_or_insert(now);
        granted
    }

    /// Gives back claims that found no message.
    pub(super) fn unclaim(&mut self, id: ConsumerId, count: u32) {
        let consumer = self.all.get_mut(&id).expect("a consumer whose turn it is exists");
        if !consumer.spec.no_ack && count > 0 {
            consumer.unacked -= count;
            consumer.spec.channel_limit.release(count);
        }
    }

    /// The consumer got so many messages: if its turn brings no more, the next in its line has the next one.
    pub(super) fn rotate(&mut self, id: ConsumerId, count: u32) {
        self.rest = self.rest.saturating_sub(count);
        let Some(consumer) = self.all.get(&id).filter(|_| self.rest == 0) else { return };
        if let Some(line) = self.lines.get_mut(&Reverse(consumer.spec.priority))
            && line.len() > 1
            && line.front() == Some(&id)
        {
            line.rotate_left(1);
        }
    }

    /// Deliveries of this consumer were settled.
    pub(super) fn settled(&mut self, now: Timestamp, id: ConsumerId, count: u32) {
        if let Some(consumer) = self.all.get_mut(&id) {
            consumer.unacked = consumer.unacked.saturating_sub(count);
            consumer.waits_since = (consumer.unacked > 0).then_some(now);
            let shares = consumer.spec.channel_limit.is_set();
            self.make_way();
            if !shares {
                self.resume(id);
            }
        }
    }

    /// Lets a consumer join its line again if it may take messages now.
    pub(super) fn resume(&mut self, id: ConsumerId) {
        if self.single_active.as_ref().is_some_and(|order| order.front() != Some(&id)) {
            return;
        }
        if self.makes_way && self.successor().is_some() {
            return;
        }
        let Some(consumer) = self.all.get_mut(&id) else { return };
        if !consumer.in_line && consumer.room() > 0 {
            consumer.in_line = true;
            self.lines.entry(Reverse(consumer.spec.priority)).or_default().push_back(id);
        }
    }

    /// The consumers that wait for their connection or their channel, not for messages.
    pub(super) fn resume_all(&mut self) {
        let mut waiting: Vec<_> = self.all.iter().map(|(id, consumer)| (consumer.left, *id)).collect();
        waiting.sort_unstable();
        for (_, id) in waiting {
            self.resume(id);
        }
    }

    fn leave_line(&mut self, id: ConsumerId, priority: i64) {
        if let Some(line) = self.lines.get_mut(&Reverse(priority)) {
            line.retain(|other| *other != id);
            if line.is_empty() {
                self.lines.remove(&Reverse(priority));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1);

    fn spec(prefetch: u32, priority: i64) -> ConsumerSpec {
        ConsumerSpec {
            tag: ShortString::from_static("c"),
            channel: ChannelId::new(1),
            no_ack: false,
            exclusive: false,
            prefetch,
            priority,
            ack_timeout: None,
            channel_limit: Arc::default(),
            window: Arc::new(Window::new(1 << 20)),
        }
    }

    fn deliver(consumers: &mut Consumers) -> Option<ConsumerId> {
        let turn = consumers.next(1)?;
        assert_eq!(consumers.claim(NOW, turn.consumer, 1), 1);
        consumers.rotate(turn.consumer, 1);
        Some(turn.consumer)
    }

    #[test]
    fn equal_consumers_take_turns() {
        let mut consumers = Consumers::new(false, false);
        let [a, b, c] = [(); 3].map(|()| consumers.add(spec(0, 0)));
        let order: Vec<_> = (0..7).filter_map(|_| deliver(&mut consumers)).collect();
        assert_eq!(order, [a, b, c, a, b, c, a]);
    }

    #[test]
    fn of_many_messages_everybody_gets_some_in_a_row_and_as_many_in_all() {
        let mut consumers = Consumers::new(false, false);
        let both = [(); 2].map(|()| consumers.add(spec(0, 0)));
        let (mut ready, mut runs) = (100_u32, Vec::new());
        while ready > 0 {
            let turn = consumers.next(ready.into()).expect("both take");
            // What lies together ends now and then.
            let there = 30 - (100 - ready) % 30;
            let count = consumers.claim(NOW, turn.consumer, turn.max.min(ready).min(there));
            consumers.rotate(turn.consumer, count);
            ready -= count;
            runs.push((turn.consumer, count));
        }
        let of = |id: ConsumerId| runs.iter().filter(|(other, _)| *other == id).map(|(_, count)| count).sum::<u32>();
        assert_eq!(both.map(of), [50, 50]);
        assert_eq!((runs[0], runs[1], runs[2], runs[3]), ((both[0], 12), (both[1], 12), (both[0], 6), (both[0], 3)));
    }

    #[test]
    fn the_highest_priority_takes_all_until_it_is_full() {
        let mut consumers = Consumers::new(false, false);
        let low = consumers.add(spec(1, 0));
        let high = consumers.add(spec(2, 10));
        let order: Vec<_> = (0..4).filter_map(|_| deliver(&mut consumers)).collect();
        assert_eq!(order, [high, high, low]);
        consumers.settled(NOW, high, 1);
        assert_eq!(deliver(&mut consumers), Some(high));
    }

    #[test]
    fn a_channel_limit_is_shared() {
        let mut consumers = Consumers::new(false, false);
        let limit = Arc::new(ChannelLimit::default());
        limit.set(3);
        let ids = [(); 2].map(|()| consumers.add(ConsumerSpec { channel_limit: limit.clone(), ..spec(0, 0) }));
        let got = std::iter::from_fn(|| deliver(&mut consumers)).count();
        assert_eq!(got, 3);
        limit.release(1);
        consumers.settled(NOW, ids[0], 1);
        assert_eq!(deliver(&mut consumers), None, "others may wait for the slot, too");
        consumers.resume_all();
        assert!(deliver(&mut consumers).is_some());
        assert_eq!(deliver(&mut consumers), None);
    }

    #[test]
    fn consumers_take_turns_at_the_slots_of_a_channel_limit() {
        let mut consumers = Consumers::new(false, false);
        let limit = Arc::new(ChannelLimit::default());
        limit.set(1);
        let [a, b, c] = [(); 3].map(|()| consumers.add(ConsumerSpec { channel_limit: limit.clone(), ..spec(0, 0) }));
        let mut order = Vec::new();
        while order.len() < 7 {
            let taken = deliver(&mut consumers).expect("a slot is free");
            assert_eq!(deliver(&mut consumers), None);
            order.push(taken);
            limit.release(1);
            consumers.settled(NOW, taken, 1);
            consumers.resume_all();
        }
        assert_eq!(order, [a, b, c, a, b, c, a]);
    }

    #[test]
    fn only_the_single_active_consumer_gets_messages() {
        let mut consumers = Consumers::new(true, false);
        let first = consumers.add(spec(0, 0));
        let second = consumers.add(spec(0, 0));
        let third = consumers.add(spec(0, 5));
        assert_eq!((deliver(&mut consumers), deliver(&mut consumers)), (Some(first), Some(first)));
        consumers.remove(first);
        assert_eq!(deliver(&mut consumers), Some(third));
        consumers.remove(third);
        assert_eq!(deliver(&mut consumers), Some(second));
    }

    #[test]
    fn the_single_active_consumer_makes_way_when_it_has_nothing_unacked() {
        let mut consumers = Consumers::new(true, true);
        let first = consumers.add(spec(0, 0));
        assert_eq!(deliver(&mut consumers), Some(first));
        let equal = consumers.add(spec(0, 0));
        assert_eq!(deliver(&mut consumers), Some(first));
        let higher = consumers.add(spec(0, 5));
        assert_eq!(deliver(&mut consumers), None);
        consumers.resume_all();
        consumers.settled(NOW, first, 1);
        assert_eq!(deliver(&mut consumers), None);
        consumers.settled(NOW, first, 1);
        assert_eq!(deliver(&mut consumers), Some(higher));
        consumers.remove(higher);
        assert_eq!(deliver(&mut consumers), Some(first));
        consumers.remove(first);
        assert_eq!(deliver(&mut consumers), Some(equal));
    }

    #[test]
    fn a_full_window_parks_a_consumer_until_it_is_resumed() {
        let mut consumers = Consumers::new(false, false);
        let window = Arc::new(Window::new(100));
        let id = consumers.add(ConsumerSpec { window: window.clone(), ..spec(0, 0) });
        window.add(100);
        assert_eq!(deliver(&mut consumers), None);
        assert!(window.remove(1));
        consumers.resume(id);
        assert_eq!(deliver(&mut consumers), Some(id));
    }
}
