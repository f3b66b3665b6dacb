//! What a stream has in memory: the latest messages, and what readers had brought from disk.
//!
//! All readers share it. Parts that nobody used for longest are forgotten first, once there is more than a limit; those
//! that the store cannot give back stay.
//!
//! Invariant: parts do not overlap.

use std::collections::BTreeMap;

use crate::engine::queue::Loaded;

#[derive(Debug)]
struct Cached {
    part: Loaded,
    /// The larger, the later it was used.
    used: u64,
}

/// Messages in memory, by offset.
#[derive(Debug)]
pub(super) struct Cache {
    parts: BTreeMap<u64, Cached>,
    bytes: usize,
    clock: u64,
    limit_bytes: usize,
    /// Octets at which to look for something to forget.
    evict_at: usize,
}

fn end_seq(part: &Loaded) -> u64 {
    part.first_seq + u64::from(part.count)
}

fn narrow(count: u64) -> u32 {
    u32::try_from(count).expect("a part of an arena")
}

impl Cache {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { parts: BTreeMap::new(), bytes: 0, clock: 0, limit_bytes, evict_at: limit_bytes }
    }

    /// Octets in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds messages, or those of them that fill a gap.
    pub(super) fn insert(&mut self, mut part: Loaded) {
        if let Some((_, before)) = self.parts.range(..=part.first_seq).next_back() {
            let covered = end_seq(&before.part).saturating_sub(part.first_seq);
            if covered >= u64::from(part.count) {
                return;
            }
            part.first_seq += covered;
            part.index += narrow(covered);
            part.count -= narrow(covered);
        }
        if let Some((&next, _)) = self.parts.range(part.first_seq..).next() {
            part.count = part.count.min(narrow((next - part.first_seq).min(u64::from(u32::MAX))));
        }
        if part.count == 0 {
            return;
        }
        self.clock += 1;
        self.bytes += part.arena.size_bytes();
        self.parts.insert(part.first_seq, Cached { part, used: self.clock });
    }

    /// The part with this message, if it is in memory.
    pub(super) fn find(&mut self, seq: u64) -> Option<&Loaded> {
        self.clock += 1;
        let (_, cached) = self.parts.range_mut(..=seq).next_back()?;
        if seq >= end_seq(&cached.part) {
            return None;
        }
        cached.used = self.clock;
        Some(&cached.part)
    }

    /// The same for who only looks.
    pub(super) fn peek(&self, seq: u64) -> Option<&Loaded> {
        let (_, cached) = self.parts.range(..=seq).next_back()?;
        Some(&cached.part).filter(|part| seq < end_seq(part))
    }

    /// The first offset from `seq` on that is in memory.
    pub(super) fn next_from(&self, seq: u64) -> Option<u64> {
        self.parts.range(seq..).next().map(|(first, _)| *first)
    }

    /// The first offset from `seq` on that is not in memory, as far as `max_bytes` are; `None` if so much is.
    pub(super) fn gap_after(&self, mut seq: u64, max_bytes: usize) -> Option<u64> {
        let (first, _) = self.parts.range(..=seq).next_back()?;
        let mut bytes = 0;
        for cached in self.parts.range(first..).map(|(_, cached)| &cached.part).take(AHEAD_PARTS) {
            if cached.first_seq > seq {
                return Some(seq);
            }
            seq = seq.max(end_seq(cached));
            bytes += cached.arena.size_bytes();
            if bytes >= max_bytes {
                return None;
            }
        }
        (self.parts.range(seq..).next().is_none()).then_some(seq)
    }

    /// Forgets what lies below an offset.
    pub(super) fn forget_below(&mut self, seq: u64) {
        while let Some(entry) = self.parts.first_entry()
            && end_seq(&entry.get().part) <= seq
        {
            self.bytes -= entry.remove().part.arena.size_bytes();
        }
    }

    /// Forgets what was not used for long, if there is too much. Down to three quarters, so that it is seldom.
    pub(super) fn evict(&mut self) {
        if self.bytes <= self.evict_at {
            return;
        }
        // A ticket says that the store has it.
        let stored = self.parts.iter().filter(|(_, cached)| cached.part.arena.ticket() != 0);
        let mut oldest: Vec<_> = stored.map(|(first, cached)| (cached.used, *first)).collect();
        oldest.sort_unstable();
        for (_, first) in oldest {
            if self.bytes <= self.limit_bytes / 4 * 3 {
                break;
            }
            if let Some(cached) = self.parts.remove(&first) {
                self.bytes -= cached.part.arena.size_bytes();
            }
        }
        self.evict_at = self.limit_bytes.max(self.bytes + self.limit_bytes / 4);
    }
}

/// Parts looked at ahead of a reader: more need not be counted.
const AHEAD_PARTS: usize = 256;
