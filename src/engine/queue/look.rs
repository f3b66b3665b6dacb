//! A look at messages without taking them, and taking chosen ones out (what operators do to a queue).
//!
//! A look changes nothing: no message is marked as delivered, none comes to memory. What only the disk has is not found by
//! it; the look says where that begins, whoever looks has it read, and the queue says which of what was read is still
//! there, and how it stands ([`Queue::seen_on_disk`]).
//!
//! Invariant: only a ready message is taken out, and only once, however many try; a message that only the disk has too.
//! Not here: which messages are wanted (`condition`), where they go.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::lane::{Lane, Loaded};
use super::segment::{Kept, Place, Segment, Settled, Tally, narrow};
use super::{Queue, QueueEffect, tell_store};
use crate::engine::message::{Arena, Message, Timestamp};
use crate::engine::statistics::Count;

/// Messages that one look goes over at most, wanted or not: it happens under the queue's lock.
const LOOK_MAX: u32 = 4096;

/// A message's place in its queue, which it keeps until it leaves: lane and sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Lane of the queue.
    pub lane: u8,
    /// Its sequence number there; of a stream its offset.
    pub seq: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.lane, self.seq)
    }
}

impl FromStr for MessageId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(lane, seq)| Some((lane.parse().ok()?, seq.parse().ok()?)));
        let (lane, seq) = parts.ok_or_else(|| format!("'{text}' is no message id: one looks like 0:17"))?;
        Ok(Self { lane, seq })
    }
}

/// How a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits.
    Ready,
    /// It was delivered and is not settled.
    Unacked,
}

/// Which messages a look is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Those that wait.
    pub ready: bool,
    /// Those that were delivered.
    pub unacked: bool,
}

impl Wanted {
    fn takes(self, standing: Standing) -> bool {
        match standing {
            Standing::Ready => self.ready,
            Standing::Unacked => self.unacked,
        }
    }
}

/// A message as it was found.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its place.
    pub id: MessageId,
    /// How it stands.
    pub standing: Standing,
    /// It was delivered before, as far as is known; not counting the delivery that it is in now.
    pub redelivered: bool,
    /// How often it came back, if the queue counts that.
    pub delivery_count: u32,
    /// About when an unacked message was handed out, if that is known.
    pub delivered_at: Option<Timestamp>,
    /// Where it is.
    pub arena: Arc<Arena>,
    /// Its index there.
    pub index: u32,
    /// Where it is besides memory.
    pub kept: Kept,
}

impl Seen {
    /// The message.
    pub fn message(&self) -> Message<'_> {
        self.arena.message(self.index)
    }

    /// The same as one to be taken out.
    pub fn pick(&self) -> Pick {
        Pick { id: self.id, body_bytes: self.message().body_len() as u64, kept: self.kept }
    }
}

/// What comes after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    End,
    /// The next look starts here.
    At(MessageId),
    /// Messages that only the disk has.
    Disk {
        /// The first of them.
        from: MessageId,
        /// From this sequence number on, others may be in memory.
        until_seq: u64,
    },
}

/// What a look found: in the order of delivery, the highest lane first.
#[derive(Clone, Debug)]
pub struct Look {
    /// The messages.
    pub seen: Vec<Seen>,
    /// What comes after them.
    pub next: Next,
}

/// A message to be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Its place.
    pub id: MessageId,
    /// Octets of its body.
    pub body_bytes: u64,
    /// Where it was found besides memory.
    pub kept: Kept,
}

impl Queue {
    /// Looks at messages in memory, from a place on, `max` at most.
    pub fn look(&self, from: Option<MessageId>, wanted: Wanted, max: usize) -> Look {
        let mut seen = Vec::new();
        let mut left = LOOK_MAX;
        for lane in self.lanes.iter().rev() {
            let from_seq = match from {
                Some(from) if lane.number() > from.lane => continue,
                Some(from) if lane.number() == from.lane => from.seq,
                Some(_) | None => 0,
            };
            if let Some(next) = lane.look(from_seq, wanted, max, &mut left, &mut seen) {
                return Look { seen, next };
            }
        }
        Look { seen, next: Next::End }
    }

    /// Which of the messages that were read from the disk are still there, below a sequence number.
    pub fn seen_on_disk(&self, lane: u8, loaded: &[Loaded], below_seq: u64, wanted: Wanted) -> Vec<Seen> {
        let Some(slot) = self.lane(lane) else { return Vec::new() };
        let parts = loaded.iter().take_while(|part| part.first_seq < below_seq);
        let all = parts.flat_map(|part| (0..part.count).map(move |nth| (part.first_seq + u64::from(nth), part, nth)));
        all.take_while(|(seq, ..)| *seq < below_seq)
            .filter_map(|(seq, part, nth)| slot.seen(seq, wanted, &part.arena, part.index + nth, part.kept))
            .collect()
    }

    /// For each lane its number and the sequence number of the next message that comes.
    pub fn ends(&self) -> Vec<(u8, u64)> {
        self.lanes.iter().map(|lane| (lane.number(), lane.end_seq())).collect()
    }

    /// Takes messages out: those of them that are ready. Says of each whether it was taken.
    pub fn withdraw(&mut self, now: Timestamp, picks: &[Pick], fx: &mut Vec<QueueEffect>) -> Vec<bool> {
        let mut out = Vec::new();
        let mut taken = Vec::with_capacity(picks.len());
        for pick in picks {
            taken.push(self.lane_mut(pick.id.lane).is_some_and(|slot| slot.withdraw(pick, &mut out)));
            tell_store(pick.id.lane, &out, fx);
            out.clear();
        }
        if taken.contains(&true) {
            self.moved_at = now;
            if self.ready() == 0 {
                self.note_blocked(now, false);
            }
        }
        // Others are at the head now.
        self.expire(now, fx);
        taken
    }

    /// Whether the queue would take so many messages more, with so many octets of bodies, without refusing one.
    pub fn has_room_for(&self, count: u64, body_bytes: u64) -> bool {
        !self.settings.refuses_when_full()
            || !(self.settings.max_length.is_some_and(|max| self.ready() + count > max)
                || self.settings.max_length_bytes.is_some_and(|max| self.ready_body_bytes() + body_bytes > max))
    }

    /// Takes in messages as a publish does, and refuses none: they have left another queue already.
    pub fn admit(&mut self, now: Timestamp, arena: &Arc<Arena>, persistent: bool, fx: &mut Vec<QueueEffect>) {
        if self.deleted {
            return;
        }
        self.expire(now, fx);
        self.count(Count::Publish, u64::from(arena.count()));
        self.append(arena, 0, arena.count(), self.kept_when(persistent), fx);
        self.dispatch(now, fx);
        self.trim(fx);
        self.expire(now, fx);
    }
}

impl Lane {
    /// Looks at messages in memory from a sequence number on; `None` at the end of the lane.
    fn look(&self, from_seq: u64, wanted: Wanted, max: usize, left: &mut u32, seen: &mut Vec<Seen>) -> Option<Next> {
        let id = |seq| MessageId { lane: self.number(), seq };
        let start = self.segments.partition_point(|segment| segment.end_seq() <= from_seq);
        for segment in self.segments.range(start..) {
            let first_seq = from_seq.max(segment.first_seq);
            if *left == 0 {
                return Some(Next::At(id(first_seq)));
            }
            *left -= 1;
            match &segment.place {
                Place::Resident(resident) => {
                    let mut next = segment.marks.next_live(first_seq - segment.first_seq);
                    while let Some(position) = next {
                        let seq = segment.first_seq + position;
                        if *left == 0 || seen.len() >= max {
                            return Some(Next::At(id(seq)));
                        }
                        *left -= 1;
                        seen.extend(self.seen(
                            seq,
                            wanted,
                            &resident.arena,
                            resident.index + narrow(position),
                            resident.kept,
                        ));
                        next = segment.marks.next_live(position + 1);
                    }
                }
                Place::Ahead { .. } if wanted.ready => {
                    return Some(Next::Disk { from: id(first_seq), until_seq: segment.end_seq() });
                }
                Place::Parked(_) => {
                    if let Some(seq) = self.first_parked(segment, first_seq, wanted) {
                        return Some(Next::Disk { from: id(seq), until_seq: segment.end_seq() });
                    }
                }
                Place::Ahead { .. } => {}
            }
        }
        None
    }

    /// The first message of a parked segment from a sequence number on that is wanted.
    fn first_parked(&self, segment: &Segment, first_seq: u64, wanted: Wanted) -> Option<u64> {
        let runs = segment.marks.live_runs(first_seq - segment.first_seq, segment.marks.span() - 1);
        let mut all = runs.flat_map(|(first, last)| first..=last).map(|position| segment.first_seq + position);
        all.find(|seq| wanted.takes(if self.returned.contains(*seq) { Standing::Ready } else { Standing::Unacked }))
    }

    /// A message as it stands now; `None` if it is gone or not wanted.
    fn seen(&self, seq: u64, wanted: Wanted, arena: &Arc<Arena>, index: u32, kept: Kept) -> Option<Seen> {
        let standing = self.standing(seq).filter(|standing| wanted.takes(*standing))?;
        let delivery_count = self.return_count(seq);
        let redelivered = delivery_count > 0
            || match standing {
                Standing::Ready => seq < self.delivered_below(),
                Standing::Unacked => self.is_from_former_life(seq),
            };
        let delivered_at = if standing == Standing::Unacked { self.handed_out_at(seq) } else { None };
        let (id, arena) = (MessageId { lane: self.number(), seq }, arena.clone());
        Some(Seen { id, standing, redelivered, delivery_count, delivered_at, arena, index, kept })
    }

    fn standing(&self, seq: u64) -> Option<Standing> {
        let segment = &self.segments[self.find(seq)?];
        if segment.marks.is_settled(seq - segment.first_seq) || self.withdrawn.contains(seq) {
            return None;
        }
        Some(if seq >= self.cursor || self.returned.contains(seq) { Standing::Ready } else { Standing::Unacked })
    }

    /// Takes out a message if it is ready.
    fn withdraw(&mut self, pick: &Pick, out: &mut Vec<Settled>) -> bool {
        let seq = pick.id.seq;
        if self.standing(seq) != Some(Standing::Ready) {
            return false;
        }
        let Some(at) = self.find(seq) else { return false };
        match self.segments[at].place {
            Place::Resident(_) => self.settle_ready(seq, out).is_some(),
            Place::Parked(_) => self.settle_returned(seq, out),
            Place::Ahead { .. } => self.withdraw_ahead(at, pick, out),
        }
    }

    /// Takes out a message that was never delivered and that only the disk has.
    fn withdraw_ahead(&mut self, at: usize, pick: &Pick, out: &mut Vec<Settled>) -> bool {
        let seq = pick.id.seq;
        let segment = &mut self.segments[at];
        let Place::Ahead { durable, spilled } = &mut segment.place else { return false };
        let tally = if pick.kept == Kept::Durable { durable } else { spilled };
        if tally.count == 0 {
            // The disk has more than was counted: it is found when it is read for a consumer.
            return false;
        }
        let left = Tally { count: 1, body_bytes: pick.body_bytes.min(tally.body_bytes) };
        tally.take_off(left);
        let position = seq - segment.first_seq;
        if segment.marks.is_prefix_only() && position == segment.marks.prefix() {
            segment.marks.settle(position, position);
            // When the next one came, only the disk knows.
            segment.arrived = None;
        } else {
            self.withdrawn.insert(seq);
        }
        let (first_seq, end_seq, emptied) = (segment.first_seq, segment.end_seq(), segment.live() == 0);
        if emptied {
            self.segments.remove(at);
            self.withdrawn.remove_range(first_seq, end_seq - 1);
        }
        self.count_out(left);
        self.forget_returns(seq, seq);
        out.push(Settled { first_seq: seq, last_seq: seq, count: 1, body_bytes: left.body_bytes, kept: pick.kept });
        true
    }
}
