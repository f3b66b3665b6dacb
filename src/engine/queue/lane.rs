//! A lane: the messages of one queue (of one priority) in the order of their sequence numbers.
//!
//! A lane is a run of segments. A segment is a stretch of consecutive sequence numbers whose messages stand side by side in
//! one arena, or on disk. Handing out and settling work on whole runs of a segment, so what a queue does for a thousand
//! messages costs little more than what it does for one.
//!
//! ```text
//!            settled │ unacked │ ready, delivered before (returned) │      never delivered        │
//!  segments  [gone]    [parked ………………………………………………] [resident ………]   [resident] [ahead ………] [resident]
//!                                                       cursor ───────┘                      next_seq ─┘
//! ```
//!
//! Invariants: segments ascend and do not overlap; a message below the cursor is settled, unacked or in `returned`; a
//! message at or above it is settled (expired, purged) or ready. A segment on disk lies wholly at or above the cursor
//! (*ahead*) or wholly below it (*parked*). An unacked message that is to leave but whose body has to be read before is in
//! `awaited`; it counts as unacked until then, and is parked. What an operator took out of a segment ahead is in `withdrawn`
//! until that is read or gone. Every message is in exactly one of ready, unacked, settled.
//! Not here: what leaves memory and comes back (`depth`), consumers (`dispatch`), expiry (`expiry`), the store.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::RecoveredLane;
use super::delivery_times::DeliveryTimes;
use super::marks::Marks;
use super::ranges::Ranges;
use super::scattered::Scattered;
use super::segment::{Kept, Place, Resident, Segment, Settled, Tally, narrow};
use crate::engine::message::{Arena, Message, Timestamp};

/// A run of consecutive messages of one segment, handed out together.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where the messages are.
    pub arena: Arc<Arena>,
    /// Index of the first one in the arena.
    pub index: u32,
    /// How many.
    pub count: u32,
    /// Lane of the queue (its priority; 0 without priorities).
    pub lane: u8,
    /// Sequence number of the first one.
    pub first_seq: u64,
    /// All of them were delivered before.
    pub redelivered: bool,
    /// How often the message came back, if the queue counts that; a run of one then.
    pub delivery_count: u32,
    /// Sum of the body sizes in octets.
    pub body_bytes: u64,
}

impl Run {
    /// Octets that the run keeps in a connection's outbox: bodies, and about what stands around them.
    pub fn size_bytes(&self) -> usize {
        usize::try_from(self.body_bytes).unwrap_or(usize::MAX).saturating_add(self.count as usize * 64)
    }

    /// The run's messages with their sequence numbers.
    pub fn messages(&self) -> impl Iterator<Item = (u64, Message<'_>)> {
        (0..self.count).map(|nth| (self.first_seq + u64::from(nth), self.arena.message(self.index + nth)))
    }
}

/// What [`Lane::take`] found.
#[derive(Debug)]
pub(super) enum Take {
    /// The next ready messages, now unacked.
    Run(Run),
    /// The next ready message is on disk.
    OnDisk,
    /// Nothing is ready.
    Empty,
}

/// Messages read back from disk: consecutive sequence numbers that stand side by side in an arena.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// First sequence number.
    pub first_seq: u64,
    /// Where they are.
    pub arena: Arc<Arena>,
    /// Index of the first one in the arena.
    pub index: u32,
    /// How many.
    pub count: u32,
    /// Where they were.
    pub kept: Kept,
}

/// What becomes of an unacked message as soon as its body has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was rejected, and is dead-lettered.
    Rejected,
    /// It came back too often, and is dead-lettered.
    TooOften,
    /// It goes to the tail.
    ToTail,
}

impl Fate {
    pub(super) const ALL: [Self; 3] = [Self::Rejected, Self::TooOften, Self::ToTail];
}

/// The messages of one queue and priority.
#[derive(Debug, Default)]
pub(super) struct Lane {
    number: u8,
    pub(super) segments: VecDeque<Segment>,
    next_seq: u64,
    pub(super) cursor: u64,
    /// Delivered before and ready again.
    pub(super) returned: Ranges,
    /// Unacked messages that leave when their bodies have been read, by [`Fate`].
    pub(super) awaited: [Ranges; 3],
    /// Messages taken out of segments on disk ahead of the cursor; their marks do not say it.
    pub(super) withdrawn: Scattered,
    /// There may be segments on disk.
    pub(super) has_disk: bool,
    /// There may be parked segments.
    pub(super) has_parked: bool,
    /// How often messages came back, in queues that count it.
    returns: BTreeMap<u64, u32>,
    /// Messages below this number were delivered before a restart, as far as the broker knows.
    redelivered_below: u64,
    pub(super) ready: u64,
    pub(super) ready_body_bytes: u64,
    pub(super) unacked: u64,
    pub(super) resident_bytes: usize,
    /// When what waits for an ack was handed out.
    times: Option<Box<DeliveryTimes>>,
}

/// Messages looked at to find the one that waits longest for its ack.
const UNACKED_STEPS_MAX: u32 = 4096;
/// Segments that an empty lane keeps room for: each of very many queues has one.
const SEGMENTS_KEPT: usize = 4;

impl Lane {
    /// An empty lane with this number.
    pub(super) fn new(number: u8) -> Self {
        Self { number, ..Self::default() }
    }

    /// Its number: the priority of its messages.
    pub(super) fn number(&self) -> u8 {
        self.number
    }

    /// A lane found at start: `count` messages somewhere in `head_seq..next_seq`, all on disk.
    pub(super) fn recovered(found: &RecoveredLane) -> Self {
        let RecoveredLane { lane: number, head_seq, next_seq, count, body_bytes, redelivered_below, .. } = *found;
        let returns = found.returns.iter().copied().collect();
        let mut lane = Self { number, next_seq, cursor: head_seq, redelivered_below, returns, ..Self::default() };
        if count > 0 {
            lane.has_disk = true;
            lane.segments.push_back(Segment {
                first_seq: head_seq,
                marks: Marks::new(next_seq - head_seq),
                body_bytes: 0,
                place: Place::Ahead { durable: Tally { count, body_bytes }, spilled: Tally::default() },
                arrived: None,
            });
            lane.ready = count;
            lane.ready_body_bytes = body_bytes;
        }
        lane
    }

    /// Messages that wait.
    pub(super) fn ready(&self) -> u64 {
        self.ready
    }

    /// Octets of the bodies that wait.
    pub(super) fn ready_body_bytes(&self) -> u64 {
        self.ready_body_bytes
    }

    /// Octets of all bodies, ready and unacked. Walks the segments, and the messages of those that are settled in part.
    pub(super) fn body_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.live_body_bytes(0, segment.marks.span().saturating_sub(1))).sum()
    }

    /// Messages delivered and not settled.
    pub(super) fn unacked(&self) -> u64 {
        self.unacked
    }

    /// Octets of memory that the lane's messages hold.
    pub(super) fn resident_bytes(&self) -> usize {
        self.resident_bytes
    }

    /// Messages below this number were delivered before.
    pub(super) fn delivered_below(&self) -> u64 {
        self.cursor.max(self.redelivered_below)
    }

    /// The number that the next message gets.
    pub(super) fn end_seq(&self) -> u64 {
        self.next_seq
    }

    /// Whether a message was delivered before a restart, as far as is known.
    pub(super) fn is_from_former_life(&self, seq: u64) -> bool {
        seq < self.redelivered_below
    }

    /// Appends `count` messages of `arena` from `index` on; returns the first one's number.
    pub(super) fn push(&mut self, arena: Arc<Arena>, index: u32, count: u32, body_bytes: u64, kept: Kept) -> u64 {
        let first_seq = self.next_seq;
        let span = u64::from(count);
        self.next_seq += span;
        self.ready += span;
        self.ready_body_bytes += body_bytes;
        let place = Place::Resident(Resident { arena, index, kept, taken: None });
        let segment = Segment { first_seq, marks: Marks::new(span), body_bytes, place, arrived: None };
        self.resident_bytes += segment.resident_bytes();
        if self.segments.capacity() == 0 {
            // Most queues of a broker with very many hold little.
            self.segments.reserve_exact(1);
        }
        self.segments.push_back(segment);
        first_seq
    }

    /// Takes the next ready messages, at most `max` of them and not many more than `max_bytes` of bodies: they become
    /// unacked. At least one, if one is ready and in memory.
    pub(super) fn take(&mut self, max: u32, max_bytes: u64) -> Take {
        if let Some(seq) = self.returned.first() {
            let at = self.find(seq).expect("a returned message is in a segment");
            let Some(Resident { arena, index, .. }) = self.segments[at].resident() else { return Take::OnDisk };
            let index = index + narrow(seq - self.segments[at].first_seq);
            let arena = arena.clone();
            self.returned.remove(seq);
            let body_bytes = arena.message(index).body_len() as u64;
            self.note_taken(1, body_bytes);
            return Take::Run(Run {
                arena,
                index,
                count: 1,
                lane: self.number,
                first_seq: seq,
                redelivered: true,
                delivery_count: self.return_count(seq),
                body_bytes,
            });
        }
        let Some((at, position)) = self.at_cursor() else { return Take::Empty };
        let segment = &self.segments[at];
        let Some(Resident { arena, index, .. }) = segment.resident() else { return Take::OnDisk };
        let mut limit = (segment.marks.span() - position).min(u64::from(max));
        let first_seq = segment.first_seq + position;
        let mut redelivered = first_seq < self.redelivered_below;
        if redelivered {
            limit = limit.min(self.redelivered_below - first_seq);
        }
        let mut delivery_count = 0;
        if !self.returns.is_empty()
            && let Some((&seq, &count)) = self.returns.range(first_seq..first_seq + limit).next()
        {
            // A message with a count goes alone: it came back before a restart, or went to the tail.
            (limit, delivery_count) = if seq == first_seq { (1, count) } else { (seq - first_seq, 0) };
            redelivered |= delivery_count > 0;
        }
        let (count, body_bytes) =
            if limit == segment.marks.live() && limit == segment.marks.span() && segment.body_bytes <= max_bytes {
                (limit, segment.body_bytes)
            } else {
                let (mut count, mut body_bytes) = (0, 0);
                while count < limit && body_bytes < max_bytes && !segment.marks.is_settled(position + count) {
                    body_bytes += arena.message(index + narrow(position + count)).body_len() as u64;
                    count += 1;
                }
                (count, body_bytes)
            };
        let run = Run {
            arena: arena.clone(),
            index: index + narrow(position),
            count: narrow(count),
            lane: self.number,
            first_seq,
            redelivered,
            delivery_count,
            body_bytes,
        };
        self.cursor = first_seq + count;
        self.note_taken(count, body_bytes);
        Take::Run(run)
    }

    fn note_taken(&mut self, count: u64, body_bytes: u64) {
        self.ready -= count;
        self.ready_body_bytes -= body_bytes;
        self.unacked += count;
    }

    /// The oldest ready message, if it is in memory.
    pub(super) fn peek(&self) -> Option<(u64, Message<'_>)> {
        let (at, position) = match self.returned.first() {
            Some(seq) => {
                let at = self.find(seq)?;
                (at, seq - self.segments[at].first_seq)
            }
            None => self.at_cursor()?,
        };
        let segment = &self.segments[at];
        let Resident { arena, index, .. } = segment.resident()?;
        Some((segment.first_seq + position, arena.message(index + narrow(position))))
    }

    /// Place of the segment with the oldest ready message, by its number.
    fn head(&self) -> Option<(usize, u64)> {
        if let Some(seq) = self.returned.first() {
            return Some((self.find(seq)?, seq));
        }
        let (at, position) = self.at_cursor()?;
        Some((at, self.segments[at].first_seq + position))
    }

    /// When the oldest ready message came; `None` if only the disk knows, or nothing is ready.
    pub(super) fn oldest_ready(&self) -> Option<Timestamp> {
        let (at, seq) = self.head()?;
        let segment = &self.segments[at];
        match segment.resident() {
            Some(Resident { arena, index, .. }) => {
                Some(arena.message(index + narrow(seq - segment.first_seq)).enqueued_at())
            }
            None => segment.arrived,
        }
    }

    /// The number of the oldest ready message, or of one before it, if only the disk knows when it came.
    pub(super) fn head_on_disk(&self) -> Option<u64> {
        let (at, seq) = self.head()?;
        let segment = &self.segments[at];
        (segment.resident().is_none() && segment.arrived.is_none()).then_some(seq)
    }

    /// The first message at or behind this number came at this time.
    pub(super) fn learn_arrival(&mut self, seq: u64, arrived: Timestamp) {
        if let Some(at) = self.find(seq)
            && self.segments[at].resident().is_none()
        {
            self.segments[at].arrived = Some(arrived);
        }
    }

    /// Messages were handed out that wait for an ack from now on.
    #[inline]
    pub(super) fn note_handed_out(&mut self, now: Timestamp, run: &Run) {
        let until = run.first_seq + u64::from(run.count);
        let settled_below = self.segments.front().map_or(until, |first| first.first_seq);
        let times = self.times.get_or_insert_default();
        if self.unacked == u64::from(run.count) {
            times.clear();
        }
        times.note(now, run.first_seq, until, settled_below);
    }

    /// These messages wait no longer for an ack: tells for how long they did, in milliseconds, and how many.
    #[inline]
    pub(super) fn note_returned(
        &mut self,
        now: Timestamp,
        first_seq: u64,
        last_seq: u64,
        waited: impl FnMut(u64, u64),
    ) {
        if let Some(times) = &mut self.times {
            times.waited(now, first_seq, last_seq, waited);
            times.forget(first_seq, last_seq);
        }
    }

    /// About when this unacked message was handed out.
    pub(super) fn handed_out_at(&self, seq: u64) -> Option<Timestamp> {
        self.times.as_ref().and_then(|times| times.of(seq))
    }

    /// When the message was handed out that waits longest for its ack. Looks at what stands first, and at no more than
    /// some thousand messages.
    pub(super) fn oldest_unacked(&self) -> Option<Timestamp> {
        let times = self.times.as_ref().filter(|_| self.unacked > 0)?;
        let mut oldest: Option<Timestamp> = None;
        let mut steps = 0;
        for segment in self.segments.iter().take_while(|segment| segment.first_seq < self.cursor) {
            let mut position = 0;
            while let Some(live) = segment.marks.next_live(position) {
                let seq = segment.first_seq + live;
                steps += 1;
                if seq >= self.cursor || steps > UNACKED_STEPS_MAX {
                    return oldest;
                }
                if let Some((_, last)) = self.returned.within(seq, u64::MAX).next().filter(|(first, _)| *first == seq) {
                    position = last + 1 - segment.first_seq;
                    continue;
                }
                oldest = oldest.into_iter().chain(times.of(seq)).min();
                if !times.is_again(seq) {
                    return oldest;
                }
                position = live + 1;
            }
        }
        oldest
    }

    /// Segment and position of the first unsettled message at or above the cursor.
    pub(super) fn at_cursor(&self) -> Option<(usize, u64)> {
        let mut at = self.segments.partition_point(|segment| segment.end_seq() <= self.cursor);
        while let Some(segment) = self.segments.get(at) {
            if let Some(position) = segment.marks.next_live(self.cursor.saturating_sub(segment.first_seq)) {
                return Some((at, position));
            }
            at += 1;
        }
        None
    }

    pub(super) fn find(&self, seq: u64) -> Option<usize> {
        let at = self.segments.partition_point(|segment| segment.end_seq() <= seq);
        self.segments.get(at).filter(|segment| segment.first_seq <= seq).map(|_| at)
    }

    /// Settles the unacked messages `first_seq..=last_seq`; tells what left, a part a segment.
    pub(super) fn settle_unacked(&mut self, first_seq: u64, last_seq: u64, out: &mut Vec<Settled>) {
        let before = out.len();
        self.settle(first_seq, last_seq, out);
        for settled in &out[before..] {
            self.unacked -= settled.count;
        }
    }

    /// Settles one ready message (it expired or was dropped); `None` if it is not ready or not in memory.
    pub(super) fn settle_ready(&mut self, seq: u64, out: &mut Vec<Settled>) -> Option<Run> {
        if seq < self.cursor && !self.returned.contains(seq) {
            return None;
        }
        let segment = &self.segments[self.find(seq)?];
        let position = seq - segment.first_seq;
        if segment.marks.is_settled(position) {
            return None;
        }
        let run = self.single(seq)?;
        self.returned.remove(seq);
        self.settle_waiting(seq, out);
        Some(run)
    }

    /// Settles one message that came back, in memory or not; false if it did not.
    pub(super) fn settle_returned(&mut self, seq: u64, out: &mut Vec<Settled>) -> bool {
        let came_back = self.returned.remove(seq);
        if came_back {
            self.settle_waiting(seq, out);
        }
        came_back
    }

    fn settle_waiting(&mut self, seq: u64, out: &mut Vec<Settled>) {
        let before = out.len();
        self.settle(seq, seq, out);
        for settled in &out[before..] {
            self.ready -= settled.count;
            self.ready_body_bytes -= settled.body_bytes;
        }
    }

    fn settle(&mut self, first_seq: u64, last_seq: u64, out: &mut Vec<Settled>) {
        if !self.returns.is_empty() {
            self.forget_returns(first_seq, last_seq);
        }
        let start = self.segments.partition_point(|segment| segment.end_seq() <= first_seq);
        let mut at = start;
        while let Some(segment) = self.segments.get_mut(at) {
            if segment.first_seq > last_seq {
                break;
            }
            let from = first_seq.saturating_sub(segment.first_seq);
            let to = (last_seq - segment.first_seq).min(segment.marks.span() - 1);
            segment.settle(from, to, out);
            if segment.live() == 0 {
                self.resident_bytes -= segment.resident_bytes();
                // Mostly the first; in the middle it is rare, and few segments are moved.
                self.segments.remove(at);
                continue;
            }
            at += 1;
        }
        if self.segments.is_empty() {
            self.segments.shrink_to(SEGMENTS_KEPT);
        }
    }

    /// Puts unacked messages back to their place; they will be delivered again. Returns how many there were.
    pub(super) fn requeue(&mut self, first_seq: u64, last_seq: u64) -> u64 {
        let mut count = 0;
        let mut body_bytes = 0;
        for seq in first_seq..=last_seq {
            let Some(at) = self.find(seq) else { continue };
            let segment = &self.segments[at];
            let position = seq - segment.first_seq;
            if seq >= self.cursor
                || segment.marks.is_settled(position)
                || self.is_awaited(seq)
                || !self.returned.insert(seq)
            {
                continue;
            }
            count += 1;
            body_bytes += segment.live_body_bytes(position, position);
        }
        self.unacked -= count;
        self.ready += count;
        self.ready_body_bytes += body_bytes;
        count
    }

    pub(super) fn forget_returns(&mut self, first_seq: u64, last_seq: u64) {
        while let Some((&seq, _)) = self.returns.range(first_seq..=last_seq).next() {
            self.returns.remove(&seq);
        }
    }

    /// How often this message came back.
    pub(super) fn return_count(&self, seq: u64) -> u32 {
        self.returns.get(&seq).copied().unwrap_or(0)
    }

    /// Which of `count` messages from `first_seq` on came back more often than `limit`.
    pub(super) fn returned_more_than(&self, limit: u32, first_seq: u64, count: u64) -> impl Iterator<Item = u64> {
        let known = self.returns.range(first_seq..first_seq + count);
        known.filter(move |(_, returns)| **returns > limit).map(|(seq, _)| *seq)
    }

    /// Counts one return of an unacked message: how many there were with it. `None` if the message is not unacked.
    pub(super) fn count_return(&mut self, seq: u64) -> Option<u32> {
        let segment = &self.segments[self.find(seq)?];
        if seq >= self.cursor
            || segment.marks.is_settled(seq - segment.first_seq)
            || self.returned.contains(seq)
            || self.is_awaited(seq)
        {
            return None;
        }
        let count = self.returns.entry(seq).or_insert(0);
        *count = count.saturating_add(1);
        Some(*count)
    }

    /// Notes how often a message came back that got this number now.
    pub(super) fn set_returns(&mut self, seq: u64, count: u32) {
        self.returns.insert(seq, count);
    }

    /// Where this message, which was delivered, is besides memory.
    pub(super) fn kept(&self, seq: u64) -> Option<Kept> {
        let segment = &self.segments[self.find(seq)?];
        segment.kept(seq - segment.first_seq)
    }

    fn is_awaited(&self, seq: u64) -> bool {
        self.awaited.iter().any(|awaited| awaited.contains(seq))
    }

    /// The one message with this number if it is in memory and not settled.
    pub(super) fn single(&self, seq: u64) -> Option<Run> {
        let segment = &self.segments[self.find(seq)?];
        let position = seq - segment.first_seq;
        let Resident { arena, index, .. } = segment.resident().filter(|_| !segment.marks.is_settled(position))?;
        let index = index + narrow(position);
        let body_bytes = arena.message(index).body_len() as u64;
        let arena = arena.clone();
        let lane = self.number;
        let (redelivered, delivery_count) = (false, 0);
        Some(Run { arena, index, count: 1, lane, first_seq: seq, redelivered, delivery_count, body_bytes })
    }

    /// Drops every ready message; unacked ones stay. Returns how many left.
    pub(super) fn purge(&mut self, out: &mut Vec<Settled>) -> u64 {
        let purged = self.ready;
        let returned = std::mem::take(&mut self.returned);
        for (first, last) in returned.iter() {
            self.settle(first, last, out);
        }
        if self.next_seq > self.cursor {
            let (cursor, last) = (self.cursor, self.next_seq - 1);
            self.settle(cursor, last, out);
        }
        self.withdrawn = Scattered::default();
        self.cursor = self.next_seq;
        self.ready = 0;
        self.ready_body_bytes = 0;
        purged
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::message::{ArenaBuilder, Body, MessageParts, Timestamp};

    pub(in crate::engine::queue) fn arena(count: u32) -> Arc<Arena> {
        let mut builder = ArenaBuilder::new();
        for nth in 0..count {
            builder.push(&MessageParts {
                exchange: b"",
                routing_key: b"q",
                properties: &[0, 0],
                body: Body::Borrowed(nth.to_string().as_bytes()),
                persistent: true,
                priority: 0,
                expiration_ms: None,
                broker_deaths: false,
                enqueued_at: Timestamp::from_millis(0),
            });
        }
        builder.finish()
    }

    pub(in crate::engine::queue) fn push(lane: &mut Lane, count: u32) -> u64 {
        let arena = arena(count);
        let bytes = arena.body_bytes();
        lane.push(arena, 0, count, bytes, Kept::Durable)
    }

    pub(in crate::engine::queue) fn take(lane: &mut Lane, max: u32) -> (u64, u32, bool) {
        match lane.take(max, u64::MAX) {
            Take::Run(run) => (run.first_seq, run.count, run.redelivered),
            other @ (Take::OnDisk | Take::Empty) => panic!("expected a run, got {other:?}"),
        }
    }

    #[test]
    fn messages_leave_in_order_and_in_runs() {
        let mut lane = Lane::default();
        push(&mut lane, 5);
        push(&mut lane, 3);
        assert_eq!(take(&mut lane, 3), (0, 3, false));
        assert_eq!(take(&mut lane, 10), (3, 2, false));
        assert_eq!(take(&mut lane, 10), (5, 3, false));
        assert!(matches!(lane.take(1, u64::MAX), Take::Empty));
        assert_eq!((lane.ready(), lane.unacked()), (0, 8));
        let mut out = Vec::new();
        lane.settle_unacked(0, 7, &mut out);
        assert_eq!(out.iter().map(|settled| settled.count).sum::<u64>(), 8);
        assert_eq!((lane.unacked(), lane.resident_bytes()), (0, 0));
    }

    #[test]
    fn requeued_messages_return_to_their_old_places() {
        let mut lane = Lane::default();
        push(&mut lane, 6);
        take(&mut lane, 5);
        for seq in [3, 1, 0] {
            assert_eq!(lane.requeue(seq, seq), 1);
        }
        assert_eq!((lane.ready(), lane.unacked()), (4, 2));
        assert_eq!(take(&mut lane, 9), (0, 1, true));
        assert_eq!(take(&mut lane, 9), (1, 1, true));
        assert_eq!(take(&mut lane, 9), (3, 1, true));
        assert_eq!(take(&mut lane, 9), (5, 1, false));
    }

    #[test]
    fn settling_out_of_order_keeps_the_rest() {
        let mut lane = Lane::default();
        push(&mut lane, 130);
        take(&mut lane, 130);
        let mut out = Vec::new();
        lane.settle_unacked(64, 65, &mut out);
        lane.settle_unacked(1, 1, &mut out);
        assert_eq!(lane.unacked(), 127);
        assert_eq!(lane.requeue(0, 129), 127);
        assert_eq!(lane.ready(), 127);
    }

    #[test]
    fn a_message_that_came_back_is_handed_out_alone_with_its_count() {
        let mut lane = Lane::default();
        push(&mut lane, 4);
        take(&mut lane, 1);
        assert_eq!((lane.count_return(0), lane.count_return(1)), (Some(1), None));
        assert_eq!(lane.requeue(0, 0), 1);
        assert_eq!(lane.count_return(0), None);
        lane.set_returns(2, 7);
        let mut counts = Vec::new();
        while let Take::Run(run) = lane.take(9, u64::MAX) {
            counts.push((run.first_seq, run.count, run.delivery_count, run.redelivered));
        }
        assert_eq!(counts, [(0, 1, 1, true), (1, 1, 0, false), (2, 1, 7, true), (3, 1, 0, false)]);
        lane.settle_unacked(0, 3, &mut Vec::new());
        assert!(lane.returns.is_empty());
    }

    #[test]
    fn purge_does_not_tell_again_what_left_before() {
        let mut lane = Lane::default();
        push(&mut lane, 5);
        lane.settle_ready(2, &mut Vec::new()).expect("ready");
        let mut out = Vec::new();
        assert_eq!(lane.purge(&mut out), 4);
        let told: Vec<_> = out.iter().map(|settled| (settled.first_seq, settled.last_seq, settled.count)).collect();
        assert_eq!(told, [(0, 1, 2), (3, 4, 2)]);
    }

    #[test]
    fn purge_keeps_unacked_messages() {
        let mut lane = Lane::default();
        push(&mut lane, 10);
        take(&mut lane, 4);
        lane.requeue(2, 2);
        let mut out = Vec::new();
        assert_eq!(lane.purge(&mut out), 7);
        assert_eq!((lane.ready(), lane.unacked()), (0, 3));
        lane.requeue(0, 3);
        assert_eq!(lane.ready(), 3);
    }
}
