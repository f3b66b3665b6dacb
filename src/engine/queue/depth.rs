//! A deep lane: which of its messages leave memory, and how they come back.
//!
//! A pass ([`Lane::spill`]) forgets the bodies of what the store has and what is not needed soon, and asks for what nobody
//! has yet to be spilled, so that a later pass can forget it. Needed soon are the next messages from the cursor on, the
//! first of those that came back, and what was delivered last. Neighbours on disk become one segment, so neither the
//! middle of a deep queue nor a million unacked messages cost much memory.
//!
//! What was spilled is settled with the store from the moment it is asked for, whether or not the bodies are still here.

use std::collections::VecDeque;

use super::lane::{Fate, Lane, Loaded};
use super::segment::{Kept, Place, Resident, Segment, SpillTicket, Tally, narrow};
use super::{QueueEffect, Run};

/// Windows below this are for brokers that are short of memory: segments are cut to keep to it.
pub(super) const SMALL_WINDOW_BYTES: usize = 64 * 1024;

/// What a pass over a queue may do.
#[derive(Clone, Copy, Debug)]
pub struct SpillPlan {
    /// Octets that may stay in memory ahead of the cursor, and as much again of what came back and was delivered.
    pub window_bytes: usize,
    /// Ask for what only memory has to be spilled.
    pub spill_memory: bool,
    /// Up to this ticket what was spilled can be read back.
    pub spilled: u64,
}

/// What a pass leaves of its plan for the next lane.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub(super) plan: SpillPlan,
    /// Octets that may still stay ahead of a cursor.
    pub(super) room: usize,
    /// Somebody waits for the next message: it stays, whatever it costs.
    pub(super) keep_head: bool,
    pub(super) ticket: SpillTicket,
    pub(super) fx: &'a mut Vec<QueueEffect>,
}

/// A request to read messages back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) from_seq: u64,
    /// All below this number were on disk when it was made; later ones the answer may not know.
    pub(super) until: u64,
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
    /// The messages there, ascending.
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

impl Lane {
    /// Forgets bodies that are on disk and not needed soon. `is_stored` says of a ticket whether the store has on disk
    /// what it took under it.
    pub(super) fn spill(&mut self, pass: &mut Pass<'_>, is_stored: &impl Fn(u64) -> bool) {
        if pass.plan.window_bytes < SMALL_WINDOW_BYTES {
            self.cut_at_cursor();
        }
        let window = pass.plan.window_bytes;
        let below = self.segments.iter().take_while(|segment| segment.end_seq() <= self.cursor);
        let mut delivered_rest: usize = below.map(Segment::resident_bytes).sum();
        let mut returned_room = window;
        let (mut keep_returned, mut keep_ahead) = (pass.keep_head, pass.keep_head);
        let mut kept: VecDeque<Segment> = VecDeque::with_capacity(self.segments.len().min(64));
        for mut segment in std::mem::take(&mut self.segments) {
            let size = segment.resident_bytes();
            let is_below = segment.end_seq() <= self.cursor;
            let is_ahead = segment.first_seq >= self.cursor;
            if is_below {
                delivered_rest -= size;
            }
            if segment.resident().is_some() {
                let near = if is_ahead {
                    pass.room > 0 || keep_ahead
                } else if !is_below {
                    true
                } else if self.returned.within(segment.first_seq, segment.end_seq() - 1).next().is_some() {
                    let near = returned_room > 0 || keep_returned;
                    keep_returned = false;
                    returned_room = returned_room.saturating_sub(size);
                    near
                } else {
                    delivered_rest < window / 2
                };
                if !near {
                    if segment.can_be_read_back(is_stored, pass.plan.spilled) {
                        self.resident_bytes -= size;
                        if is_ahead {
                            segment.leave_ahead();
                        } else {
                            segment.park();
                        }
                    } else if pass.plan.spill_memory {
                        ask_for(self.number(), &mut segment, pass);
                    }
                }
                if is_ahead && segment.resident().is_some() {
                    pass.room = pass.room.saturating_sub(size);
                }
            }
            keep_ahead &= !is_ahead;
            let rest = match kept.back_mut() {
                Some(last) => last.join(segment),
                None => Some(segment),
            };
            kept.extend(rest);
        }
        // A lane that is wholly on disk is one segment; there may be very many.
        kept.shrink_to(if kept.len() > 1 { kept.len() * 2 + 8 } else { kept.len() });
        self.has_disk = kept.iter().any(|segment| segment.resident().is_none());
        self.has_parked = kept.iter().any(|segment| matches!(segment.place, Place::Parked(_)));
        self.segments = kept;
    }

    /// Cuts the segment that the cursor stands in, so that each part can leave.
    fn cut_at_cursor(&mut self) {
        let Some(at) = self.find(self.cursor) else { return };
        if self.segments[at].first_seq == self.cursor || self.segments[at].resident().is_none() {
            return;
        }
        let Some(segment) = self.segments.remove(at) else { return };
        self.resident_bytes -= segment.resident_bytes();
        let position = self.cursor - segment.first_seq;
        let (below, ahead) = segment.split(position);
        let parts = [Some(below), ahead].into_iter().flatten().filter(|part| part.live() > 0);
        self.insert(at, parts.collect());
    }

    /// Puts segments where one was removed; returns the place after them.
    fn insert(&mut self, at: usize, segments: Vec<Segment>) -> usize {
        let end = at + segments.len();
        for (nth, segment) in segments.into_iter().enumerate() {
            self.resident_bytes += segment.resident_bytes();
            self.segments.insert(at + nth, segment);
        }
        end
    }

    /// The first messages to be read back: those that are to leave, those that came back, then those ahead of the cursor;
    /// of the latter two only if fewer than `ahead_bytes` in memory come before them, which are counted off.
    pub(super) fn missing(&self, ahead_bytes: &mut usize) -> Option<Missing> {
        if self.has_parked {
            if let Some(from_seq) = self.awaited.iter().find_map(super::ranges::Ranges::first) {
                return Some(self.missing_from(from_seq));
            }
            let mut looked_at = 0;
            for (first, last) in self.returned.iter() {
                let first = first.max(looked_at);
                let start = self.segments.partition_point(|segment| segment.end_seq() <= first);
                for segment in self.segments.range(start..).take_while(|segment| segment.first_seq <= last) {
                    if segment.resident().is_none() {
                        return Some(self.missing_from(first.max(segment.first_seq)));
                    }
                    looked_at = segment.end_seq();
                    *ahead_bytes = ahead_bytes.saturating_sub(segment.resident_bytes());
                    if *ahead_bytes == 0 {
                        return None;
                    }
                }
            }
        }
        let start = self.segments.partition_point(|segment| segment.end_seq() <= self.cursor);
        for segment in self.segments.range(start..) {
            if segment.resident().is_none() {
                return Some(self.missing_from(segment.first_seq));
            }
            *ahead_bytes = ahead_bytes.saturating_sub(segment.resident_bytes());
            if *ahead_bytes == 0 {
                return None;
            }
        }
        None
    }

    fn missing_from(&self, from_seq: u64) -> Missing {
        let start = self.segments.partition_point(|segment| segment.end_seq() <= from_seq);
        let on_disk = self.segments.range(start..).take_while(|segment| segment.resident().is_none());
        Missing { from_seq, until: on_disk.last().map_or(from_seq, Segment::end_seq) }
    }

    /// Takes messages read back: all that the store has of this lane in a range. Of those delivered before only what came
    /// back or is to leave is taken.
    ///
    /// What a segment promised there and the store did not have is gone, at the latest when all of it was read. If there are
    /// more than it promised, they were miscounted: the disk is right.
    pub(super) fn load(&mut self, answer: &Answer) -> Difference {
        let mut difference = Difference::default();
        let mut at = self.segments.partition_point(|segment| segment.end_seq() <= answer.from_seq);
        while let Some(segment) = self.segments.get(at).filter(|segment| segment.first_seq < answer.complete_below) {
            at = match segment.place {
                Place::Resident(_) => at + 1,
                Place::Parked(_) => self.unpark(at, answer, &mut difference),
                // Neighbours before it were spilled and joined meanwhile: this is no answer for all of it.
                Place::Ahead { .. } if segment.first_seq < answer.from_seq => at + 1,
                Place::Ahead { .. } => self.fill(at, answer, &mut difference),
            };
        }
        difference
    }

    /// Brings back what is ahead of the cursor; returns the place after it.
    fn fill(&mut self, at: usize, answer: &Answer, difference: &mut Difference) -> usize {
        let mut rest = self.segments.remove(at).expect("there is one");
        let end = rest.end_seq().min(answer.complete_below);
        let Place::Ahead { mut durable, mut spilled } = rest.place else { return at };
        let mut found = Vec::new();
        for part in overlapping(&answer.loaded, rest.first_seq, end) {
            let tally = if part.kept == Kept::Durable { &mut durable } else { &mut spilled };
            let from = part.first_seq.max(rest.first_seq);
            let to = (part.first_seq + u64::from(part.count)).min(end) - 1;
            let live = rest.marks.live_runs(from - rest.first_seq, to - rest.first_seq);
            let live = live.map(|(first, last)| (rest.first_seq + first, rest.first_seq + last));
            for (first, last) in live.flat_map(|(first, last)| self.withdrawn.outside(first, last)) {
                let segment = resident(part, first, last + 1 - first);
                let more = tally.take_off(Tally { count: last + 1 - first, body_bytes: segment.body_bytes });
                self.ready += more.count;
                self.ready_body_bytes += more.body_bytes;
                difference.count += signed(more.count);
                difference.body_bytes += signed(more.body_bytes);
                found.push(segment);
            }
        }
        for gone in answer.gone.iter().filter(|gone| (rest.first_seq..end).contains(&gone.seq)) {
            if durable.count == 0 {
                break;
            }
            let body_bytes = gone.body_bytes.min(durable.body_bytes);
            durable.take_off(Tally { count: 1, body_bytes });
            self.count_out(Tally { count: 1, body_bytes });
        }
        let next = self.insert(at, found);
        self.withdrawn.remove_range(rest.first_seq, end - 1);
        if end < rest.end_seq() {
            rest.marks = rest.marks.part(end - rest.first_seq, rest.marks.span() - 1);
            rest.first_seq = end;
            rest.place = Place::Ahead { durable, spilled };
            // What follows came no earlier, and mostly not much later.
            rest.arrived = next.checked_sub(1).and_then(|last| self.segments[last].newest()).or(rest.arrived);
            self.segments.insert(next, rest);
            return next + 1;
        }
        self.count_out(durable);
        self.count_out(spilled);
        difference.lost += durable.count + spilled.count;
        difference.count -= signed(durable.count);
        difference.body_bytes -= signed(durable.body_bytes);
        next
    }

    /// Ready messages are not there.
    pub(super) fn count_out(&mut self, tally: Tally) {
        self.ready -= tally.count;
        self.ready_body_bytes -= tally.body_bytes;
    }

    /// Brings back what is wanted of a parked segment; returns the place after it.
    fn unpark(&mut self, at: usize, answer: &Answer, difference: &mut Difference) -> usize {
        let segment = &self.segments[at];
        let from = answer.from_seq.max(segment.first_seq);
        let to = answer.complete_below.min(segment.end_seq()) - 1;
        let sets = std::iter::once(&self.returned).chain(&self.awaited);
        let mut wanted: Vec<_> = sets.flat_map(|set| set.within(from, to)).collect();
        if wanted.is_empty() {
            return at + 1;
        }
        wanted.sort_unstable();
        let segment = self.segments.remove(at).expect("there is one");
        let (start, mut next, mut parts, mut missed) = (segment.first_seq, segment.first_seq, Vec::new(), Vec::new());
        for (first, last) in wanted {
            if first > next {
                parts.extend(segment.parked_part(next - start, first - 1 - start));
            }
            next = first;
            for part in overlapping(&answer.loaded, first, last + 1) {
                let from = part.first_seq.max(next);
                let to = (part.first_seq + u64::from(part.count) - 1).min(last);
                if from > to {
                    continue;
                }
                missed.extend(next..from);
                parts.push(resident(part, from, to + 1 - from));
                next = to + 1;
            }
            missed.extend(next..=last);
            next = last + 1;
        }
        if next < segment.end_seq() {
            parts.extend(segment.parked_part(next - start, segment.marks.span() - 1));
        }
        for seq in missed {
            let body_bytes = segment.live_body_bytes(seq - start, seq - start);
            self.forget_lost(seq, body_bytes);
            // The store has counted out what it knows to be gone.
            if !answer.gone.iter().any(|gone| gone.seq == seq) {
                difference.lost += 1;
                if segment.kept(seq - start) == Some(Kept::Durable) {
                    difference.count -= 1;
                    difference.body_bytes -= signed(body_bytes);
                }
            }
        }
        self.insert(at, parts)
    }

    /// A message that was delivered before and is wanted again is not on disk.
    fn forget_lost(&mut self, seq: u64, body_bytes: u64) {
        if self.returned.remove(seq) {
            self.count_out(Tally { count: 1, body_bytes });
        } else {
            self.unacked -= 1;
        }
        for awaited in &mut self.awaited {
            awaited.remove(seq);
        }
        self.forget_returns(seq, seq);
    }

    /// From which message among `first_seq..=last_seq` on unacked ones have to wait for their fate, because its body has to
    /// be read before, or because others wait already: they leave in order.
    pub(super) fn waits_from(&self, first_seq: u64, last_seq: u64, fate: Fate) -> Option<u64> {
        if !self.awaited[fate as usize].is_empty() {
            return Some(first_seq);
        }
        if !self.has_parked {
            return None;
        }
        let start = self.segments.partition_point(|segment| segment.end_seq() <= first_seq);
        let mut all = self.segments.range(start..).take_while(|segment| segment.first_seq <= last_seq);
        all.find_map(|segment| {
            let from = first_seq.saturating_sub(segment.first_seq);
            let live = segment.marks.next_live(from).map(|position| segment.first_seq + position);
            live.filter(|seq| matches!(segment.place, Place::Parked(_)) && *seq <= last_seq)
        })
    }

    /// Unacked messages leave as soon as their bodies have been read; returns how many.
    pub(super) fn await_bodies(&mut self, first_seq: u64, last_seq: u64, fate: Fate) -> u64 {
        let start = self.segments.partition_point(|segment| segment.end_seq() <= first_seq);
        let mut count = 0;
        for segment in self.segments.range(start..).take_while(|segment| segment.first_seq <= last_seq) {
            let from = first_seq.saturating_sub(segment.first_seq);
            let to = (last_seq - segment.first_seq).min(segment.marks.span() - 1);
            let live = segment.marks.live_runs(from, to).flat_map(|(first, last)| first..=last);
            for seq in live.map(|position| segment.first_seq + position) {
                let waits = self.awaited.iter().any(|awaited| awaited.contains(seq));
                if seq < self.cursor && !waits && !self.returned.contains(seq) {
                    self.awaited[fate as usize].insert(seq);
                    count += 1;
                }
            }
        }
        count
    }

    /// Whether messages leave as soon as their bodies have been read.
    pub(super) fn awaits_bodies(&self) -> bool {
        self.awaited.iter().any(|awaited| !awaited.is_empty())
    }

    /// The messages that are to leave and whose bodies are here now.
    pub(super) fn take_awaited(&mut self) -> Vec<(Fate, Run)> {
        let mut found = Vec::new();
        for fate in Fate::ALL {
            let all = self.awaited[fate as usize].iter().flat_map(|(first, last)| first..=last);
            // In order: those behind one that is not here wait for it.
            found.extend(all.map_while(|seq| Some((fate, self.single(seq)?))));
        }
        found.sort_by_key(|(_, run)| run.first_seq);
        for (fate, run) in &found {
            self.awaited[*fate as usize].remove(run.first_seq);
        }
        found
    }
}

/// Counters are sums of what is on a disk.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Asks for a segment that only memory has to be spilled.
fn ask_for(lane: u8, segment: &mut Segment, pass: &mut Pass<'_>) {
    let (first_seq, span) = (segment.first_seq, segment.marks.span());
    let Place::Resident(resident) = &mut segment.place else { return };
    if resident.kept != Kept::Memory {
        return;
    }
    resident.kept = Kept::Spilled;
    resident.taken = Some(pass.ticket.clone());
    for (first, last) in segment.marks.live_runs(0, span - 1) {
        pass.fx.push(QueueEffect::Spill {
            lane,
            first_seq: first_seq + first,
            arena: resident.arena.clone(),
            index: resident.index + narrow(first),
            count: narrow(last + 1 - first),
            ticket: pass.ticket.clone(),
        });
    }
}

/// The parts of an answer that have something of `from..end`.
fn overlapping(loaded: &[Loaded], from: u64, end: u64) -> impl Iterator<Item = &Loaded> {
    let start = loaded.partition_point(|part| part.first_seq + u64::from(part.count) <= from);
    loaded[start..].iter().take_while(move |part| part.first_seq < end)
}

/// Messages of an answer in memory again. A few of a large arena get one of their own, so that they do not hold it all.
fn resident(part: &Loaded, first_seq: u64, span: u64) -> Segment {
    let index = part.index + narrow(first_seq - part.first_seq);
    let (arena, index) = if span * 2 < u64::from(part.arena.count()) {
        (part.arena.excerpt(index, narrow(span)), 0)
    } else {
        (part.arena.clone(), index)
    };
    Segment::of(first_seq, Resident { arena, index, kept: part.kept, taken: None }, super::Marks::new(span))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::queue::lane::Take;
    use crate::engine::queue::lane::tests::{arena, push, take};

    const ALL: u64 = u64::MAX;

    fn pass(lane: &mut Lane, window_bytes: usize, spilled: Option<u64>) -> Vec<QueueEffect> {
        let plan = SpillPlan { window_bytes, spill_memory: spilled.is_some(), spilled: spilled.unwrap_or(0) };
        let mut fx = Vec::new();
        let mut pass = Pass { plan, room: window_bytes, keep_head: false, ticket: SpillTicket::default(), fx: &mut fx };
        lane.spill(&mut pass, &|_| true);
        fx
    }

    fn part(first_seq: u64, count: u32) -> Loaded {
        Loaded { first_seq, arena: arena(count), index: 0, count, kept: Kept::Durable }
    }

    /// Loads; returns how many are lost.
    fn load(lane: &mut Lane, from_seq: u64, complete_below: u64, loaded: Vec<Loaded>) -> u64 {
        lane.load(&Answer { from_seq, complete_below, loaded, gone: Vec::new() }).lost
    }

    fn missing(lane: &Lane) -> Option<(u64, u64)> {
        lane.missing(&mut usize::MAX.clone()).map(|missing| (missing.from_seq, missing.until))
    }

    #[test]
    fn a_spilled_middle_is_one_segment_and_loads_back_in_order() {
        let mut lane = Lane::default();
        for _ in 0..10 {
            push(&mut lane, 100);
        }
        pass(&mut lane, 1, None);
        assert_eq!(lane.segments.len(), 2);
        assert_eq!(take(&mut lane, 1000), (0, 100, false));
        assert!(matches!(lane.take(1, u64::MAX), Take::OnDisk));
        assert_eq!(load(&mut lane, 100, 150, vec![part(100, 50)]), 0);
        assert_eq!(take(&mut lane, 1000), (100, 50, false));
        assert!(matches!(lane.take(1, u64::MAX), Take::OnDisk));
        assert_eq!(load(&mut lane, 150, ALL, vec![]), 850);
        assert!(matches!(lane.take(1, u64::MAX), Take::Empty));
        assert_eq!(lane.ready(), 0);
    }

    #[test]
    fn neighbours_are_joined_across_what_left_and_it_does_not_come_back() {
        let mut lane = Lane::default();
        for _ in 0..4 {
            push(&mut lane, 10);
        }
        for seq in 20..30 {
            assert!(lane.settle_ready(seq, &mut Vec::new()).is_some());
        }
        pass(&mut lane, 1, None);
        assert_eq!(lane.segments.len(), 2);
        assert_eq!(take(&mut lane, 10).0, 0);
        // The disk still has 20..30, whose settlement is not committed.
        assert_eq!(load(&mut lane, 10, ALL, vec![part(10, 10), part(20, 10), part(30, 10)]), 0);
        assert_eq!(take(&mut lane, 100), (10, 10, false));
        assert_eq!(take(&mut lane, 100), (30, 10, false));
        assert_eq!((lane.ready(), lane.unacked()), (0, 30));
    }

    #[test]
    fn messages_spilled_while_others_are_read_are_not_taken_for_lost() {
        let mut lane = Lane::default();
        for _ in 0..3 {
            push(&mut lane, 10);
        }
        pass(&mut lane, 1, None);
        assert_eq!(missing(&lane), Some((10, 30)));
        assert_eq!(load(&mut lane, 10, 20, vec![part(10, 10), part(20, 10)]), 0);
        assert_eq!(missing(&lane), Some((20, 30)));
        // While 20.. are read, 10.. leave memory again.
        pass(&mut lane, 1, None);
        assert_eq!(load(&mut lane, 20, ALL, vec![part(20, 10)]), 0);
        assert_eq!(missing(&lane), Some((10, 30)));
        assert_eq!(load(&mut lane, 10, ALL, vec![part(10, 10), part(20, 10)]), 0);
        assert_eq!(lane.ready(), 30);
        for first in [0, 10, 20] {
            assert_eq!(take(&mut lane, 100), (first, 10, false));
        }
    }

    #[test]
    fn what_only_memory_has_leaves_it_when_it_was_spilled() {
        let mut lane = Lane::default();
        for _ in 0..3 {
            let arena = arena(10);
            let bytes = arena.body_bytes();
            lane.push(arena, 0, 10, bytes, Kept::Memory);
        }
        lane.settle_ready(4, &mut Vec::new()).expect("ready");
        assert!(pass(&mut lane, 0, None).is_empty());
        let asked = pass(&mut lane, 0, Some(0));
        let runs: Vec<_> = asked
            .iter()
            .map(|effect| {
                let QueueEffect::Spill { first_seq, count, ticket, .. } = effect else { panic!("{effect:?}") };
                ticket.set(1);
                (*first_seq, *count)
            })
            .collect();
        assert_eq!(runs, [(0, 4), (5, 5), (10, 10), (20, 10)]);
        assert!(lane.resident_bytes() > 0 && pass(&mut lane, 0, Some(0)).is_empty());
        assert!(lane.resident_bytes() > 0, "it is not written yet");
        pass(&mut lane, 0, Some(1));
        assert_eq!((lane.resident_bytes(), lane.segments.len(), lane.ready()), (0, 1, 29));
        let spilled = |first_seq, count| Loaded { kept: Kept::Spilled, ..part(first_seq, count) };
        assert_eq!(load(&mut lane, 0, ALL, vec![spilled(0, 4), spilled(5, 25)]), 0);
        assert_eq!(take(&mut lane, 100), (0, 4, false));
        let mut out = Vec::new();
        assert_eq!(lane.purge(&mut out), 25);
        lane.settle_unacked(0, 3, &mut out);
        assert!(out.iter().all(|settled| settled.kept == Kept::Spilled), "{out:?}");
    }

    #[test]
    fn unacked_messages_are_parked_and_settled_from_marks_and_sizes() {
        let mut lane = Lane::default();
        for _ in 0..100 {
            push(&mut lane, 10);
        }
        let sizes = lane.body_bytes();
        while let Take::Run(_) = lane.take(1000, u64::MAX) {}
        pass(&mut lane, 0, None);
        assert_eq!((lane.resident_bytes(), lane.segments.len(), lane.unacked()), (0, 1, 1000));
        assert_eq!(lane.body_bytes(), sizes);
        let mut out = Vec::new();
        lane.settle_unacked(5, 9, &mut out);
        lane.settle_unacked(0, 7, &mut out);
        let told: Vec<_> =
            out.iter().map(|left| (left.first_seq, left.last_seq, left.count, left.body_bytes)).collect();
        assert_eq!(told, [(5, 9, 5, 5), (0, 4, 5, 5)]);
        assert_eq!(lane.body_bytes(), sizes - 10);
        lane.settle_unacked(10, 999, &mut out);
        assert_eq!((lane.segments.len(), lane.unacked(), lane.body_bytes()), (0, 0, 0));
    }

    #[test]
    fn of_parked_messages_only_what_came_back_is_read_again() {
        let mut lane = Lane::default();
        for _ in 0..10 {
            push(&mut lane, 10);
        }
        while let Take::Run(_) = lane.take(1000, u64::MAX) {}
        pass(&mut lane, 0, None);
        lane.settle_unacked(30, 39, &mut Vec::new());
        assert_eq!((missing(&lane), lane.requeue(12, 13), lane.requeue(95, 95)), (None, 2, 1));
        assert!(matches!(lane.take(1, u64::MAX), Take::OnDisk));
        assert_eq!(missing(&lane), Some((12, 100)));
        assert_eq!(load(&mut lane, 12, 90, vec![part(12, 78)]), 0);
        assert_eq!((take(&mut lane, 9), take(&mut lane, 9)), ((12, 1, true), (13, 1, true)));
        assert_eq!(missing(&lane), Some((95, 100)));
        assert_eq!((lane.resident_bytes() > 0, lane.unacked(), lane.ready()), (true, 89, 1));
        // It is not there: it is lost, and nobody waits for it any more.
        assert_eq!(load(&mut lane, 95, ALL, vec![]), 1);
        assert_eq!((lane.ready(), lane.unacked()), (0, 89));
        let mut out = Vec::new();
        lane.settle_unacked(0, 99, &mut out);
        assert_eq!((lane.unacked(), out.iter().map(|settled| settled.count).sum::<u64>()), (0, 89));
    }

    #[test]
    fn a_few_messages_of_a_large_batch_do_not_hold_it_in_memory() {
        let mut lane = Lane::default();
        push(&mut lane, 1000);
        take(&mut lane, 1000);
        pass(&mut lane, 0, None);
        lane.requeue(500, 500);
        let batch = part(0, 1000);
        load(&mut lane, 500, ALL, vec![batch.clone()]);
        assert_eq!(Arc::strong_count(&batch.arena), 1);
        let Take::Run(run) = lane.take(1, u64::MAX) else { panic!("it is here") };
        assert_eq!((run.arena.count(), run.arena.message(run.index).body()), (1, b"500".as_slice()));
    }

    fn recovered(count: u64) -> Lane {
        let (head_seq, next_seq, body_bytes) = (0, 30, count);
        let found = crate::engine::queue::RecoveredLane { head_seq, next_seq, count, body_bytes, ..Default::default() };
        Lane::recovered(&found)
    }

    #[test]
    fn messages_that_are_gone_are_counted_out_at_once() {
        let mut lane = recovered(30);
        let gone = (10..20).map(|seq| Gone { seq, body_bytes: 1 }).collect();
        let answer = Answer { from_seq: 0, complete_below: 20, loaded: vec![part(0, 10)], gone };
        // The store has counted them out itself.
        assert_eq!(lane.load(&answer), Difference::default());
        assert_eq!((lane.ready(), lane.ready_body_bytes()), (20, 20));
        let answer = Answer { from_seq: 20, complete_below: ALL, loaded: vec![part(20, 10)], gone: Vec::new() };
        assert_eq!(lane.load(&answer), Difference::default());
        assert_eq!((take(&mut lane, 99).0, take(&mut lane, 99).0, lane.ready()), (0, 20, 0));
    }

    #[test]
    fn what_nobody_could_count_is_missed_in_the_end_and_told() {
        let mut lane = recovered(30);
        let answer = Answer { from_seq: 0, complete_below: 20, loaded: vec![part(0, 10)], gone: Vec::new() };
        assert_eq!(lane.load(&answer), Difference::default());
        let answer = Answer { from_seq: 20, complete_below: ALL, loaded: vec![part(20, 10)], gone: Vec::new() };
        assert_eq!(lane.load(&answer), Difference { lost: 10, count: -10, body_bytes: -10 });
        assert_eq!((lane.ready(), lane.ready_body_bytes()), (20, 20));
    }

    #[test]
    fn more_messages_than_were_counted_are_all_delivered() {
        let mut lane = recovered(15);
        let loaded = vec![part(0, 10), part(10, 10)];
        let answer = Answer { from_seq: 0, complete_below: 20, loaded, gone: Vec::new() };
        assert_eq!(lane.load(&answer), Difference { lost: 0, count: 5, body_bytes: 5 });
        assert_eq!((lane.ready(), lane.ready_body_bytes()), (20, 20));
        let answer = Answer { from_seq: 20, complete_below: ALL, loaded: vec![part(20, 10)], gone: Vec::new() };
        assert_eq!(lane.load(&answer), Difference { lost: 0, count: 10, body_bytes: 10 });
        for first in [0, 10, 20] {
            assert_eq!(take(&mut lane, 100), (first, 10, false));
        }
        assert_eq!((lane.ready(), lane.ready_body_bytes(), lane.unacked()), (0, 0, 30));
    }
}
