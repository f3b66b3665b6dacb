//! A segment: a stretch of consecutive sequence numbers of a lane, and where its messages are.
//!
//! ```text
//!  Resident ──stored, not needed soon, never delivered──► Ahead  ──read back──► Resident
//!           ──stored, delivered (unacked or come back)──► Parked ──read back, if wanted──► Resident
//! ```
//!
//! Of a parked message its size is known and how it is stored, so that it can be settled without its body.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::marks::Marks;
use crate::engine::message::{Arena, Timestamp};

/// Where a message is besides memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nowhere.
    Memory,
    /// Spilled: the store keeps it as long as the broker runs.
    Spilled,
    /// Stored, or about to be: it survives.
    Durable,
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
    /// Where they were besides memory.
    pub kept: Kept,
}

/// The ticket under which the store took what one pass over a lane spilled; 0 as long as it has not.
#[derive(Clone, Debug, Default)]
pub struct SpillTicket(Arc<AtomicU64>);

impl SpillTicket {
    /// The store took the messages under this ticket.
    pub fn set(&self, ticket: u64) {
        self.0.store(ticket, Ordering::Release);
    }

    /// The ticket; 0 without one.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What is known of messages that only the disk has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) body_bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.body_bytes += other.body_bytes;
    }

    fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Subtracts; returns what was more than there was.
    pub(super) fn take_off(&mut self, other: Self) -> Self {
        let count = other.count.saturating_sub(self.count);
        let body_bytes = other.body_bytes.saturating_sub(self.body_bytes);
        self.count -= other.count - count;
        self.body_bytes -= other.body_bytes - body_bytes;
        Self { count, body_bytes }
    }
}

/// A parked message: the size of its body, and how it is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stub(u32);

impl Stub {
    const SPILLED: u32 = 1 << 31;

    fn new(body_len: usize, kept: Kept) -> Self {
        // No body is larger than 512 MiB.
        let size = u32::try_from(body_len).unwrap_or(u32::MAX) & !Self::SPILLED;
        Self(if kept == Kept::Durable { size } else { size | Self::SPILLED })
    }

    pub(super) fn body_bytes(self) -> u64 {
        u64::from(self.0 & !Self::SPILLED)
    }

    pub(super) fn kept(self) -> Kept {
        if self.0 & Self::SPILLED == 0 { Kept::Durable } else { Kept::Spilled }
    }
}

/// Messages in memory.
#[derive(Clone, Debug)]
pub(super) struct Resident {
    pub(super) arena: Arc<Arena>,
    /// Index of the first one in the arena.
    pub(super) index: u32,
    pub(super) kept: Kept,
    /// Of those that were spilled and not read back.
    pub(super) taken: Option<SpillTicket>,
}

#[derive(Debug)]
pub(super) enum Place {
    Resident(Resident),
    /// Never delivered, and wholly at or above the cursor. There may be fewer messages than the marks leave room for.
    Ahead {
        durable: Tally,
        spilled: Tally,
    },
    /// Delivered, and wholly below the cursor: one stub a position.
    Parked(Vec<Stub>),
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first_seq: u64,
    pub(super) marks: Marks,
    /// Of a resident segment: of all its messages, settled or not. Of a parked one: of those not settled.
    pub(super) body_bytes: u64,
    pub(super) place: Place,
    /// When the first of its messages came, if they are on disk and that is known.
    pub(super) arrived: Option<Timestamp>,
}

impl Segment {
    pub(super) fn end_seq(&self) -> u64 {
        self.first_seq + self.marks.span()
    }

    /// Messages not settled.
    pub(super) fn live(&self) -> u64 {
        match self.place {
            Place::Resident(_) | Place::Parked(_) => self.marks.live(),
            Place::Ahead { durable, spilled } => durable.count + spilled.count,
        }
    }

    /// The messages if they are in memory.
    pub(super) fn resident(&self) -> Option<&Resident> {
        match &self.place {
            Place::Resident(resident) => Some(resident),
            Place::Ahead { .. } | Place::Parked(_) => None,
        }
    }

    /// Settles what is live at positions `from..=to` and tells it, run by run: what left before was told before, and the
    /// store may hear of it later than of this.
    pub(super) fn settle(&mut self, from: u64, to: u64, out: &mut Vec<Settled>) {
        let first_seq = self.first_seq;
        let tell = |from: u64, to: u64, tally: Tally, kept: Kept| {
            let (first_seq, last_seq) = (first_seq + from, first_seq + to);
            Settled { first_seq, last_seq, count: tally.count, body_bytes: tally.body_bytes, kept }
        };
        if let Place::Ahead { durable, spilled } = &mut self.place {
            // Only purge reaches such a segment, and always the whole of it.
            let told = [(durable.take(), Kept::Durable), (spilled.take(), Kept::Spilled)];
            out.extend(
                told.iter().filter(|(tally, _)| tally.count > 0).map(|(tally, kept)| tell(from, to, *tally, *kept)),
            );
            return;
        }
        let mut next = self.marks.next_live(from);
        while let Some(first) = next
            && first <= to
        {
            let mut last = self.marks.live_until(first, to);
            let mut kept = Kept::Durable;
            match &self.place {
                Place::Resident(resident) => kept = resident.kept,
                Place::Parked(stubs) => {
                    let run = &stubs[slot(first)..=slot(last)];
                    kept = run[0].kept();
                    let same = run.iter().take_while(|stub| stub.kept() == kept).count() as u64;
                    last = first + same - 1;
                }
                Place::Ahead { .. } => {}
            }
            let body_bytes = self.live_body_bytes(first, last);
            let count = self.marks.settle(first, last);
            if matches!(self.place, Place::Parked(_)) {
                self.body_bytes -= body_bytes;
            }
            out.push(tell(first, last, Tally { count, body_bytes }, kept));
            next = self.marks.next_live(last + 1);
        }
    }

    /// Octets of the unsettled bodies at positions `from..=to`.
    pub(super) fn live_body_bytes(&self, from: u64, to: u64) -> u64 {
        let whole = from == 0 && to + 1 == self.marks.span();
        let live = (from..=to).filter(|position| !self.marks.is_settled(*position));
        match &self.place {
            Place::Ahead { durable, spilled } => durable.body_bytes + spilled.body_bytes,
            Place::Parked(_) if whole => self.body_bytes,
            Place::Parked(stubs) => live.map(|position| stubs[slot(position)].body_bytes()).sum(),
            Place::Resident(_) if whole && self.marks.live() == to + 1 => self.body_bytes,
            Place::Resident(Resident { arena, index, .. }) => {
                live.map(|position| arena.message(index + narrow(position)).body_len() as u64).sum()
            }
        }
    }

    /// How the message at this position is kept; `None` if only the disk knows.
    pub(super) fn kept(&self, position: u64) -> Option<Kept> {
        match &self.place {
            Place::Resident(resident) => Some(resident.kept),
            Place::Parked(stubs) => Some(stubs[slot(position)].kept()),
            Place::Ahead { .. } => None,
        }
    }

    /// Octets of memory that the messages hold: their share of the arena.
    pub(super) fn resident_bytes(&self) -> usize {
        match &self.place {
            Place::Resident(Resident { arena, .. }) => arena.share_bytes(narrow(self.marks.span())),
            Place::Ahead { .. } | Place::Parked(_) => 0,
        }
    }

    /// Whether the bodies can be read back: `is_stored` says so of a ticket of the store, `spilled` up to which ticket
    /// spilled messages are on disk.
    pub(super) fn can_be_read_back(&self, is_stored: &impl Fn(u64) -> bool, spilled: u64) -> bool {
        let Some(Resident { arena, kept, taken, .. }) = self.resident() else { return false };
        match kept {
            Kept::Memory => false,
            Kept::Durable => is_stored(arena.ticket()),
            Kept::Spilled => taken.as_ref().is_none_or(|taken| (1..=spilled).contains(&taken.get())),
        }
    }

    /// Forgets the bodies, which are on disk: of messages that were never delivered.
    pub(super) fn leave_ahead(&mut self) {
        let Some(&Resident { kept, .. }) = self.resident() else { return };
        self.arrived = self.oldest();
        let tally = Tally { count: self.marks.live(), body_bytes: self.live_body_bytes(0, self.marks.span() - 1) };
        let none = Tally::default();
        let (durable, spilled) = if kept == Kept::Durable { (tally, none) } else { (none, tally) };
        self.place = Place::Ahead { durable, spilled };
    }

    /// When the first message that is not settled came.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let Some(Resident { arena, index, .. }) = self.resident() else { return self.arrived };
        let first = self.marks.next_live(0)?;
        Some(arena.message(index + narrow(first)).enqueued_at())
    }

    /// When the last message came, if it is in memory.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        let Resident { arena, index, .. } = self.resident()?;
        Some(arena.message(index + narrow(self.marks.span() - 1)).enqueued_at())
    }

    /// Forgets the bodies, which are on disk: of messages that were delivered.
    pub(super) fn park(&mut self) {
        self.arrived = self.oldest();
        let Some(Resident { arena, index, kept, .. }) = self.resident() else { return };
        let stub = |position| Stub::new(arena.message(index + narrow(position)).body_len(), *kept);
        let stubs = (0..self.marks.span()).map(stub).collect();
        self.body_bytes = self.live_body_bytes(0, self.marks.span() - 1);
        self.place = Place::Parked(stubs);
    }

    /// Takes in the neighbour behind it, if both are on disk in the same way and it does not grow too large; gives it
    /// back if not.
    pub(super) fn join(&mut self, mut other: Self) -> Option<Self> {
        let gap = other.first_seq - self.end_seq();
        match (&mut self.place, &mut other.place) {
            (Place::Ahead { durable, spilled }, Place::Ahead { durable: more, spilled: spilled_more })
                if gap <= GAP_MAX =>
            {
                durable.add(*more);
                spilled.add(*spilled_more);
            }
            (Place::Parked(stubs), Place::Parked(more))
                if gap <= PARKED_GAP_MAX && self.marks.span() + gap + other.marks.span() <= PARKED_MAX =>
            {
                stubs.extend((0..gap).map(|_| Stub::new(0, Kept::Durable)));
                stubs.append(more);
                self.body_bytes += other.body_bytes;
            }
            _ => return Some(other),
        }
        self.marks.join(gap, &other.marks);
        None
    }

    /// Cuts the segment, which is resident, in two: what stands from this position on is the second.
    pub(super) fn split(self, position: u64) -> (Self, Option<Self>) {
        let Some(resident) = self.resident().cloned().filter(|_| position > 0 && position < self.marks.span()) else {
            return (self, None);
        };
        let piece = |from: u64, to: u64| {
            let index = resident.index + narrow(from);
            Self::of(self.first_seq + from, Resident { index, ..resident.clone() }, self.marks.part(from, to))
        };
        (piece(0, position - 1), Some(piece(position, self.marks.span() - 1)))
    }

    /// A resident segment with these marks.
    pub(super) fn of(first_seq: u64, resident: Resident, marks: Marks) -> Self {
        let Resident { arena, index, .. } = &resident;
        let body_bytes = (0..marks.span()).map(|nth| arena.message(index + narrow(nth)).body_len() as u64).sum();
        Self { first_seq, marks, body_bytes, place: Place::Resident(resident), arrived: None }
    }

    /// What positions `from..=to` of a parked segment leave of it; `None` if nothing there is live.
    pub(super) fn parked_part(&self, from: u64, to: u64) -> Option<Self> {
        let Place::Parked(stubs) = &self.place else { return None };
        let from = self.marks.next_live(from).filter(|first| *first <= to)?;
        let marks = self.marks.part(from, to);
        let stubs = stubs[slot(from)..=slot(to)].to_vec();
        let body_bytes = self.live_body_bytes(from, to);
        let (first_seq, arrived) = (self.first_seq + from, self.arrived);
        Some(Self { first_seq, marks, body_bytes, place: Place::Parked(stubs), arrived })
    }
}

/// Numbers that may be missing between segments that become one; each costs a bit.
const GAP_MAX: u64 = 64 * 1024;
/// The same for parked ones, where each costs four octets.
const PARKED_GAP_MAX: u64 = 16;
/// Positions of a parked segment at most: it goes as a whole when all of it is settled.
const PARKED_MAX: u64 = 4096;

/// Positions of resident segments index an arena, whose length fits.
pub(super) fn narrow(position: u64) -> u32 {
    u32::try_from(position).expect("an arena has at most u32::MAX messages")
}

fn slot(position: u64) -> usize {
    usize::try_from(position).expect("a parked segment is small")
}
