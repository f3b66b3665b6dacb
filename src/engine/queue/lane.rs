//! A lane: the messages of one queue (of one priority) in the order of their sequence numbers.
//!
//! A lane is a run of segments. A segment is a stretch of consecutive sequence numbers whose messages stand side by side in
//! one arena, or on disk. Handing out and settling work on whole runs of a segment, so what a queue does for a thousand
//! messages costs little more than what it does for one.
//!
//! ```text
//!            settled │ unacked │ ready, delivered before (returned) │      never delivered        │
//!  segments  [gone]    [resident …………………………………………………………………………] [spilled ……………………] [resident]
//!                                                       cursor ───────┘                      next_seq ─┘
//! ```
//!
//! Invariants: segments ascend and do not overlap; a message below the cursor is settled, unacked or in `returned`; a
//! message at or above it is settled (expired, purged) or ready. A spilled segment lies wholly at or above the cursor and
//! has no settled message. Every message is in exactly one of ready, unacked, settled.
//! Not here: consumers (`dispatch`), expiry (`expiry`), the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::RecoveredLane;
use super::marks::Marks;
use crate::engine::message::{Arena, Message};

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

/// Sequence numbers that left the lane, for the store and for the queue's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// First sequence number.
    pub first_seq: u64,
    /// Last sequence number. None between was settled before, unless the messages were on disk only.
    pub last_seq: u64,
    /// Messages that left now.
    pub count: u64,
    /// Octets of their bodies.
    pub body_bytes: u64,
    /// They are (or are about to be) on disk.
    pub durable: bool,
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
}

/// A message that cannot be read back from disk, though it should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its sequence number.
    pub seq: u64,
    /// Octets of its body.
    pub body_bytes: u64,
}

/// What the disk has of a lane.
#[derive(Debug)]
pub struct Answer {
    /// From this sequence number on.
    pub from_seq: u64,
    /// Everything below this one was looked at.
    pub complete_below: u64,
    /// The live messages there, ascending.
    pub loaded: Vec<Loaded>,
    /// Messages that were counted and cannot be read: the store has counted them out.
    pub gone: Vec<Gone>,
}

/// How what the disk had differs from what was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Messages that should have been there and that nobody knew of that they are gone.
    pub lost: u64,
    /// What the store has to add to its count.
    pub count: i64,
    /// What it has to add to the octets of bodies.
    pub body_bytes: i64,
}

#[derive(Debug)]
enum Place {
    Resident { arena: Arc<Arena>, index: u32 },
    Spilled,
}

#[derive(Debug)]
struct Segment {
    first_seq: u64,
    /// A spilled segment may hold fewer messages than it covers numbers: see `live`.
    marks: Marks,
    /// Messages of a spilled segment.
    spilled: u64,
    body_bytes: u64,
    durable: bool,
    place: Place,
}

impl Segment {
    fn end_seq(&self) -> u64 {
        self.first_seq + self.marks.span()
    }

    /// Messages not settled.
    fn live(&self) -> u64 {
        match self.place {
            Place::Resident { .. } => self.marks.live(),
            Place::Spilled => self.spilled,
        }
    }

    /// Settles what is live at positions `from..=to` and tells it, run by run: what left before was told before, and the
    /// store may hear of it later than of this.
    fn settle(&mut self, from: u64, to: u64, out: &mut Vec<Settled>) {
        if matches!(self.place, Place::Spilled) {
            // Only purge reaches a spilled segment, and always the whole of it.
            let count = std::mem::take(&mut self.spilled);
            out.extend((count > 0).then(|| self.settled(from, to, count, self.body_bytes)));
            return;
        }
        let mut next = self.marks.next_live(from);
        while let Some(first) = next
            && first <= to
        {
            let last = self.marks.live_until(first, to);
            let body_bytes = self.live_body_bytes(first, last);
            let count = self.marks.settle(first, last);
            out.push(self.settled(first, last, count, body_bytes));
            next = self.marks.next_live(last + 1);
        }
    }

    fn settled(&self, from: u64, to: u64, count: u64, body_bytes: u64) -> Settled {
        let (first_seq, last_seq) = (self.first_seq + from, self.first_seq + to);
        Settled { first_seq, last_seq, count, body_bytes, durable: self.durable }
    }

    /// Octets of the unsettled bodies at positions `from..=to`.
    fn live_body_bytes(&self, from: u64, to: u64) -> u64 {
        match &self.place {
            Place::Spilled => self.body_bytes,
            Place::Resident { .. } if from == 0 && to + 1 == self.marks.span() && self.marks.live() == to + 1 => {
                self.body_bytes
            }
            Place::Resident { arena, index } => (from..=to)
                .filter(|position| !self.marks.is_settled(*position))
                .map(|position| arena.message(index + narrow(position)).body_len() as u64)
                .sum(),
        }
    }

    fn resident_bytes(&self) -> usize {
        match &self.place {
            Place::Resident { arena, .. } => arena.size_bytes(),
            Place::Spilled => 0,
        }
    }
}

/// Positions of resident segments index an arena, whose length fits.
fn narrow(position: u64) -> u32 {
    u32::try_from(position).expect("an arena has at most u32::MAX messages")
}

/// Counters are sums of what is on a disk.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The messages of one queue and priority.
#[derive(Debug, Default)]
pub(super) struct Lane {
    number: u8,
    segments: VecDeque<Segment>,
    next_seq: u64,
    cursor: u64,
    returned: BTreeSet<u64>,
    /// How often messages came back, in queues that count it.
    returns: BTreeMap<u64, u32>,
    /// Messages below this number were delivered before a restart, as far as the broker knows.
    redelivered_below: u64,
    ready: u64,
    ready_body_bytes: u64,
    unacked: u64,
    resident_bytes: usize,
}

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
            lane.segments.push_back(Segment {
                first_seq: head_seq,
                marks: Marks::new(next_seq - head_seq),
                spilled: count,
                body_bytes,
                durable: true,
                place: Place::Spilled,
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

    /// Appends `count` messages of `arena` from `index` on; returns the first one's number.
    pub(super) fn push(&mut self, arena: Arc<Arena>, index: u32, count: u32, body_bytes: u64, durable: bool) -> u64 {
        let first_seq = self.next_seq;
        let span = u64::from(count);
        self.next_seq += span;
        self.ready += span;
        self.ready_body_bytes += body_bytes;
        self.resident_bytes += arena.size_bytes();
        self.segments.push_back(Segment {
            first_seq,
            marks: Marks::new(span),
            spilled: 0,
            body_bytes,
            durable,
            place: Place::Resident { arena, index },
        });
        first_seq
    }

    /// Takes the next ready messages, at most `max` of them and not many more than `max_bytes` of bodies: they become
    /// unacked. At least one, if one is ready and in memory.
    pub(super) fn take(&mut self, max: u32, max_bytes: u64) -> Take {
        if let Some(&seq) = self.returned.first() {
            let at = self.find(seq).expect("a returned message is in a segment");
            let Place::Resident { arena, index } = &self.segments[at].place else { return Take::OnDisk };
            let index = index + narrow(seq - self.segments[at].first_seq);
            let arena = arena.clone();
            self.returned.pop_first();
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
        let Place::Resident { arena, index } = &segment.place else { return Take::OnDisk };
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
            Some(&seq) => {
                let at = self.find(seq)?;
                (at, seq - self.segments[at].first_seq)
            }
            None => self.at_cursor()?,
        };
        let segment = &self.segments[at];
        match &segment.place {
            Place::Resident { arena, index } => {
                Some((segment.first_seq + position, arena.message(index + narrow(position))))
            }
            Place::Spilled => None,
        }
    }

    /// Segment and position of the first unsettled message at or above the cursor.
    fn at_cursor(&self) -> Option<(usize, u64)> {
        let mut at = self.segments.partition_point(|segment| segment.end_seq() <= self.cursor);
        while let Some(segment) = self.segments.get(at) {
            if let Some(position) = segment.marks.next_live(self.cursor.saturating_sub(segment.first_seq)) {
                return Some((at, position));
            }
            at += 1;
        }
        None
    }

    fn find(&self, seq: u64) -> Option<usize> {
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
        if seq < self.cursor && !self.returned.contains(&seq) {
            return None;
        }
        let segment = &self.segments[self.find(seq)?];
        let position = seq - segment.first_seq;
        if segment.marks.is_settled(position) {
            return None;
        }
        let run = self.single(seq)?;
        self.returned.remove(&seq);
        let before = out.len();
        self.settle(seq, seq, out);
        for settled in &out[before..] {
            self.ready -= settled.count;
            self.ready_body_bytes -= settled.body_bytes;
        }
        Some(run)
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
            self.segments.shrink_to(64);
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
            if seq >= self.cursor || segment.marks.is_settled(position) || !self.returned.insert(seq) {
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

    fn forget_returns(&mut self, first_seq: u64, last_seq: u64) {
        while let Some((&seq, _)) = self.returns.range(first_seq..=last_seq).next() {
            self.returns.remove(&seq);
        }
    }

    /// How often this message came back.
    fn return_count(&self, seq: u64) -> u32 {
        self.returns.get(&seq).copied().unwrap_or(0)
    }

    /// Counts one return of an unacked message: how many there were with it. `None` if the message is not unacked.
    pub(super) fn count_return(&mut self, seq: u64) -> Option<u32> {
        let segment = &self.segments[self.find(seq)?];
        if seq >= self.cursor || segment.marks.is_settled(seq - segment.first_seq) || self.returned.contains(&seq) {
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

    /// Whether this message is stored, or about to be.
    pub(super) fn is_durable(&self, seq: u64) -> bool {
        self.find(seq).is_some_and(|at| self.segments[at].durable)
    }

    /// The one message with this number if it is in memory and not settled.
    pub(super) fn single(&self, seq: u64) -> Option<Run> {
        let segment = &self.segments[self.find(seq)?];
        let position = seq - segment.first_seq;
        match &segment.place {
            Place::Resident { arena, index } if !segment.marks.is_settled(position) => {
                let index = index + narrow(position);
                let body_bytes = arena.message(index).body_len() as u64;
                let arena = arena.clone();
                let lane = self.number;
                let (redelivered, delivery_count) = (false, 0);
                Some(Run { arena, index, count: 1, lane, first_seq: seq, redelivered, delivery_count, body_bytes })
            }
            Place::Resident { .. } | Place::Spilled => None,
        }
    }

    /// Where the first spilled message stands, if fewer than `ahead_bytes` are in memory between the cursor and it.
    pub(super) fn spilled_ahead(&self, ahead_bytes: usize) -> Option<u64> {
        let mut resident = 0;
        let start = self.segments.partition_point(|segment| segment.end_seq() <= self.cursor);
        for segment in self.segments.range(start..) {
            if matches!(segment.place, Place::Spilled) {
                return Some(segment.first_seq);
            }
            resident += segment.resident_bytes();
            if resident >= ahead_bytes {
                return None;
            }
        }
        None
    }

    /// Drops every ready message; unacked ones stay. Returns how many left.
    pub(super) fn purge(&mut self, out: &mut Vec<Settled>) -> u64 {
        let purged = self.ready;
        let returned = std::mem::take(&mut self.returned);
        for seq in returned {
            self.settle(seq, seq, out);
        }
        if self.next_seq > self.cursor {
            let (cursor, last) = (self.cursor, self.next_seq - 1);
            self.settle(cursor, last, out);
        }
        self.cursor = self.next_seq;
        self.ready = 0;
        self.ready_body_bytes = 0;
        purged
    }

    /// Forgets the bodies of stored messages that will not be needed soon: all but the next `window_bytes`.
    ///
    /// `is_stored` says of a ticket whether the store has it on disk. Neighbours that were spilled become one segment, so
    /// what lies between the head and the tail of a deep queue costs no memory.
    pub(super) fn spill(&mut self, window_bytes: usize, is_stored: impl Fn(u64) -> bool) {
        let mut window = 0;
        let mut kept: VecDeque<Segment> = VecDeque::with_capacity(self.segments.len().min(1024));
        for mut segment in self.segments.drain(..) {
            if let Place::Resident { arena, .. } = &segment.place {
                let untouched = segment.first_seq >= self.cursor && segment.marks.live() == segment.marks.span();
                if untouched && window >= window_bytes && segment.durable && is_stored(arena.ticket()) {
                    self.resident_bytes -= segment.resident_bytes();
                    segment.spilled = segment.marks.live();
                    segment.place = Place::Spilled;
                } else if segment.first_seq >= self.cursor {
                    window += segment.resident_bytes();
                }
            }
            match (kept.back_mut(), &segment.place) {
                // Never across a gap: what lies between left the queue, but perhaps not yet the disk.
                (Some(last), Place::Spilled)
                    if matches!(last.place, Place::Spilled) && last.end_seq() == segment.first_seq =>
                {
                    last.marks = Marks::new(segment.end_seq() - last.first_seq);
                    last.spilled += segment.spilled;
                    last.body_bytes += segment.body_bytes;
                }
                _ => kept.push_back(segment),
            }
        }
        self.segments = kept;
    }

    /// Takes messages read back from disk: all that the store has of this lane in a range.
    ///
    /// What a spilled segment promised there and the store did not have is gone, at the latest when all of it was read. If
    /// there are more than it promised, they were miscounted: the disk is right.
    pub(super) fn load(&mut self, answer: Answer) -> Difference {
        let Answer { from_seq, complete_below, loaded, gone } = answer;
        let mut difference = Difference::default();
        let Some(at) = self.find(from_seq) else { return difference };
        // Neighbours before it may have been spilled and joined meanwhile: then this is no answer for all of it.
        if !matches!(self.segments[at].place, Place::Spilled) || self.segments[at].first_seq < from_seq {
            return difference;
        }
        let mut rest = self.segments.remove(at).expect("found above");
        let end = rest.end_seq().min(complete_below);
        let mut insert_at = at;
        for part in loaded {
            if part.first_seq >= end || part.first_seq < rest.first_seq {
                continue;
            }
            let span = u64::from(part.count).min(end - part.first_seq);
            let mut segment = Segment {
                first_seq: part.first_seq,
                marks: Marks::new(span),
                spilled: 0,
                body_bytes: 0,
                durable: true,
                place: Place::Resident { arena: part.arena, index: part.index },
            };
            if let Place::Resident { arena, index } = &segment.place {
                segment.body_bytes =
                    (0..span).map(|nth| arena.message(index + narrow(nth)).body_len() as u64).sum::<u64>();
            }
            self.resident_bytes += segment.resident_bytes();
            let miscounted = (span.saturating_sub(rest.spilled), segment.body_bytes.saturating_sub(rest.body_bytes));
            self.count_in(miscounted, &mut difference);
            rest.spilled = rest.spilled.saturating_sub(span);
            rest.body_bytes = rest.body_bytes.saturating_sub(segment.body_bytes);
            self.segments.insert(insert_at, segment);
            insert_at += 1;
        }
        for gone in gone {
            if (rest.first_seq..end).contains(&gone.seq) && rest.spilled > 0 {
                let body_bytes = gone.body_bytes.min(rest.body_bytes);
                rest.spilled -= 1;
                rest.body_bytes -= body_bytes;
                self.count_out(1, body_bytes);
            }
        }
        if end < rest.end_seq() {
            rest.marks = Marks::new(rest.end_seq() - end);
            rest.first_seq = end;
            self.segments.insert(insert_at, rest);
            return difference;
        }
        self.count_out(rest.spilled, rest.body_bytes);
        difference.lost += rest.spilled;
        difference.count -= signed(rest.spilled);
        difference.body_bytes -= signed(rest.body_bytes);
        difference
    }

    /// Ready messages were found that nobody had counted.
    fn count_in(&mut self, (count, body_bytes): (u64, u64), difference: &mut Difference) {
        self.ready += count;
        self.ready_body_bytes += body_bytes;
        difference.count += signed(count);
        difference.body_bytes += signed(body_bytes);
    }

    /// Ready messages are not there.
    fn count_out(&mut self, count: u64, body_bytes: u64) {
        self.ready -= count;
        self.ready_body_bytes -= body_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::message::{ArenaBuilder, Body, MessageParts, Timestamp};

    fn arena(count: u32) -> Arc<Arena> {
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

    fn push(lane: &mut Lane, count: u32) -> u64 {
        let arena = arena(count);
        let bytes = arena.body_bytes();
        lane.push(arena, 0, count, bytes, true)
    }

    fn take(lane: &mut Lane, max: u32) -> (u64, u32, bool) {
        match lane.take(max, u64::MAX) {
            Take::Run(run) => (run.first_seq, run.count, run.redelivered),
            other @ (Take::OnDisk | Take::Empty) => panic!("expected a run, got {other:?}"),
        }
    }

    /// How many were lost.
    fn load(lane: &mut Lane, from_seq: u64, complete_below: u64, loaded: Vec<Loaded>) -> u64 {
        lane.load(Answer { from_seq, complete_below, loaded, gone: Vec::new() }).lost
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
    fn a_spilled_middle_is_one_segment_and_loads_back_in_order() {
        let mut lane = Lane::default();
        for _ in 0..10 {
            push(&mut lane, 100);
        }
        lane.spill(1, |_| true);
        assert_eq!(lane.segments.len(), 2);
        assert_eq!(take(&mut lane, 1000), (0, 100, false));
        assert!(matches!(lane.take(1, u64::MAX), Take::OnDisk));
        let loaded = vec![Loaded { first_seq: 100, arena: arena(50), index: 0, count: 50 }];
        assert_eq!(load(&mut lane, 100, 150, loaded), 0);
        assert_eq!(take(&mut lane, 1000), (100, 50, false));
        assert!(matches!(lane.take(1, u64::MAX), Take::OnDisk));
        assert_eq!(load(&mut lane, 150, u64::MAX, Vec::new()), 850);
        assert!(matches!(lane.take(1, u64::MAX), Take::Empty));
        assert_eq!(lane.ready(), 0);
    }

    #[test]
    fn spilled_neighbours_are_not_joined_across_what_left() {
        let mut lane = Lane::default();
        for _ in 0..4 {
            push(&mut lane, 10);
        }
        for seq in 20..30 {
            assert!(lane.settle_ready(seq, &mut Vec::new()).is_some());
        }
        lane.spill(1, |_| true);
        assert_eq!(take(&mut lane, 10).0, 0);
        // The disk still has 20..30, whose settlement is not committed.
        let loaded = vec![Loaded { first_seq: 10, arena: arena(30), index: 0, count: 30 }];
        assert_eq!(load(&mut lane, 10, u64::MAX, loaded), 0);
        assert_eq!(take(&mut lane, 100), (10, 10, false));
        assert!(matches!(lane.take(100, u64::MAX), Take::OnDisk));
        let loaded = vec![Loaded { first_seq: 30, arena: arena(10), index: 0, count: 10 }];
        assert_eq!(load(&mut lane, 30, u64::MAX, loaded), 0);
        assert_eq!(take(&mut lane, 100), (30, 10, false));
    }

    #[test]
    fn messages_spilled_while_others_are_read_are_not_taken_for_lost() {
        let mut lane = Lane::default();
        for _ in 0..3 {
            push(&mut lane, 10);
        }
        lane.spill(1, |_| true);
        assert_eq!(lane.spilled_ahead(usize::MAX), Some(10));
        let part = |first_seq| Loaded { first_seq, arena: arena(10), index: 0, count: 10 };
        let all = |first_seq| [10, 20].into_iter().filter(|first| *first >= first_seq).map(part).collect();
        assert_eq!(load(&mut lane, 10, 20, all(10)), 0);
        assert_eq!(lane.spilled_ahead(usize::MAX), Some(20));
        // While 20.. are read, 10.. leave memory again.
        lane.spill(1, |_| true);
        assert_eq!(load(&mut lane, 20, u64::MAX, all(20)), 0);
        assert_eq!(lane.spilled_ahead(usize::MAX), Some(10));
        assert_eq!(load(&mut lane, 10, u64::MAX, all(10)), 0);
        assert_eq!(lane.ready(), 30);
        for first in [0, 10, 20] {
            assert_eq!(take(&mut lane, 100), (first, 10, false));
        }
    }

    fn recovered(count: u64) -> Lane {
        let found = RecoveredLane {
            lane: 0,
            head_seq: 0,
            next_seq: 30,
            count,
            body_bytes: count,
            redelivered_below: 0,
            expiring: false,
            returns: Vec::new(),
        };
        Lane::recovered(&found)
    }

    fn part(first_seq: u64) -> Loaded {
        let (arena, index, count) = (arena(10), 0, 10);
        Loaded { first_seq, arena, index, count }
    }

    #[test]
    fn messages_that_are_gone_are_counted_out_at_once() {
        let mut lane = recovered(30);
        let gone = (10..20).map(|seq| Gone { seq, body_bytes: 1 }).collect();
        let answer = Answer { from_seq: 0, complete_below: 20, loaded: vec![part(0)], gone };
        // The store has counted them out itself.
        assert_eq!(lane.load(answer), Difference::default());
        assert_eq!((lane.ready(), lane.ready_body_bytes()), (20, 20));
        let answer = Answer { from_seq: 20, complete_below: u64::MAX, loaded: vec![part(20)], gone: Vec::new() };
        assert_eq!(lane.load(answer), Difference::default());
        assert_eq!((take(&mut lane, 99).0, take(&mut lane, 99).0, lane.ready()), (0, 20, 0));
    }

    #[test]
    fn what_nobody_could_count_is_missed_in_the_end_and_told() {
        let mut lane = recovered(30);
        let answer = Answer { from_seq: 0, complete_below: 20, loaded: vec![part(0)], gone: Vec::new() };
        assert_eq!(lane.load(answer), Difference::default());
        let answer = Answer { from_seq: 20, complete_below: u64::MAX, loaded: vec![part(20)], gone: Vec::new() };
        assert_eq!(lane.load(answer), Difference { lost: 10, count: -10, body_bytes: -10 });
        assert_eq!((lane.ready(), lane.ready_body_bytes()), (20, 20));
    }

    #[test]
    fn more_messages_than_were_counted_are_all_delivered() {
        let mut lane = recovered(15);
        let answer = Answer { from_seq: 0, complete_below: 20, loaded: vec![part(0), part(10)], gone: Vec::new() };
        assert_eq!(lane.load(answer), Difference { lost: 0, count: 5, body_bytes: 5 });
        assert_eq!((lane.ready(), lane.ready_body_bytes()), (20, 20));
        let answer = Answer { from_seq: 20, complete_below: u64::MAX, loaded: vec![part(20)], gone: Vec::new() };
        assert_eq!(lane.load(answer), Difference { lost: 0, count: 10, body_bytes: 10 });
        for first in [0, 10, 20] {
            assert_eq!(take(&mut lane, 100), (first, 10, false));
        }
        assert_eq!((lane.ready(), lane.ready_body_bytes(), lane.unacked()), (0, 0, 30));
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
