//! A stream: an append-only log that any number of consumers read, each at its own place (RabbitMQ's `x-queue-type=stream`).
//!
//! The store gives messages their offsets when it writes them, and tells the stream after the commit ([`Stream::committed`]);
//! so the order of the log is that of the store, there are no gaps, and nobody reads what a crash could take back.
//! In memory are some MiB of what was written last or read lately, shared by all readers; what else a reader needs is
//! brought from disk ([`StreamEffect::Read`]), one read at a time.
//!
//! Invariants: a reader gets every message from its start on that it wants, in order, once, as long as retention leaves it;
//! it never has more unacked than its prefetch; only a prefix of whole blocks is ever removed, never the last segment.
//! Not here: the store, sockets, what the arguments of a declaration may be (`queue::settings`).

mod block;
mod cache;
mod figures;
mod headers;
mod look;
#[cfg(test)]
mod model;
mod offset;
mod reader;
mod settings;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use crate::engine::message::Timestamp;
use crate::engine::queue::{ConsumerId, ConsumerSpec, Delivered, Loaded, Run};

pub use block::{BLOCK_BYTES, Block, RecoveredLog};
pub use headers::{FILTER_VALUE, OFFSET, filter_value, with_offset};
pub use offset::OffsetSpec;
pub use reader::Filter;
pub use settings::Retention;

use cache::Cache;
use reader::Reader;

/// Octets of messages that a stream keeps in memory for all its readers.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Octets that one read brings at most.
const READ_MAX_BYTES: usize = 1024 * 1024;
/// Octets that one read brings at least, however many readers share the memory: about one batch of the store.
const READ_MIN_BYTES: usize = 64 * 1024;
/// Octets of bodies handed to one consumer in one run before its window is looked at again.
const RUN_MAX_BYTES: u64 = 256 * 1024;
/// With more readers than this nothing is read before a reader is there: it might be forgotten again before it is used.
const READ_AHEAD_READERS: usize = 4;

/// What a stream wants done.
#[derive(Debug)]
pub enum StreamEffect {
    /// Hand these messages to a consumer's connection.
    Deliver {
        /// Who gets them.
        consumer: ConsumerId,
        /// The messages.
        run: Run,
    },
    /// Bring messages from disk.
    Read {
        /// From this offset on.
        from_seq: u64,
        /// About how many octets.
        max_bytes: usize,
    },
    /// Remove what lies below this offset from the store.
    Truncate {
        /// The first offset that stays.
        below_seq: u64,
    },
}

/// A read that is under way.
#[derive(Clone, Copy, Debug)]
struct Reading {
    from_seq: u64,
    /// What was committed when it began: below this, what it does not find is not there.
    until_seq: u64,
}

/// The first segment as far as it is known: blocks from the front.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    blocks: usize,
    record_bytes: u64,
    last_time: Timestamp,
}

/// A stream.
#[derive(Debug)]
pub struct Stream {
    retention: Retention,
    first_seq: u64,
    next_seq: u64,
    blocks: VecDeque<Block>,
    head: Head,
    count: u64,
    record_bytes: u64,
    cache: Cache,
    /// Stretches that the store should have had and did not: first offset, and the one after the last.
    holes: BTreeMap<u64, u64>,
    readers: BTreeMap<ConsumerId, Reader>,
    next_id: u32,
    reading: Option<Reading>,
    /// For whom the last read was.
    served: ConsumerId,
    deleted: bool,
}

impl Stream {
    /// A stream with what the store has of it.
    pub fn new(retention: Retention, log: &RecoveredLog) -> Self {
        let mut stream = Self {
            retention,
            first_seq: log.blocks.first().map_or(log.next_seq, |block| block.first_seq),
            next_seq: log.next_seq,
            blocks: VecDeque::new(),
            head: Head::default(),
            count: 0,
            record_bytes: 0,
            cache: Cache::new(CACHE_BYTES),
            holes: BTreeMap::new(),
            readers: BTreeMap::new(),
            next_id: 0,
            reading: None,
            served: ConsumerId::new(0),
            deleted: false,
        };
        for block in &log.blocks {
            stream.add_block(*block);
        }
        stream
    }

    /// Messages stored.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Octets of their records.
    pub fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// How many consumers read it.
    pub fn reader_count(&self) -> usize {
        self.readers.len()
    }

    /// Octets of memory that its messages hold.
    pub fn resident_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Octets after which the store begins another block.
    pub fn block_bytes(&self) -> u64 {
        self.retention.segment_bytes.min(BLOCK_BYTES)
    }

    /// Whether the stream was deleted: it delivers nothing any more.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Other limits hold from now on.
    pub fn set_retention(&mut self, now: Timestamp, retention: Retention, fx: &mut Vec<StreamEffect>) {
        self.retention = retention;
        self.head = Head::default();
        self.trim(now, fx);
    }

    /// Messages were committed, and these blocks changed or came by that.
    pub fn committed(&mut self, now: Timestamp, parts: Vec<Loaded>, blocks: &[Block], fx: &mut Vec<StreamEffect>) {
        if self.deleted {
            return;
        }
        for block in blocks {
            self.add_block(*block);
        }
        for part in parts {
            self.next_seq = self.next_seq.max(part.first_seq + u64::from(part.count));
            self.cache.insert(part);
        }
        self.serve_all(fx);
        self.trim(now, fx);
    }

    fn add_block(&mut self, block: Block) {
        if let Some(last) = self.blocks.back_mut()
            && last.first_seq == block.first_seq
        {
            self.count -= last.count;
            self.record_bytes -= last.record_bytes;
            *last = block;
        } else {
            self.blocks.push_back(block);
        }
        self.count += block.count;
        self.record_bytes += block.record_bytes;
    }

    /// Adds a consumer. [`Stream::resume`] starts its deliveries, so that consume-ok can be sent first.
    pub fn add_reader(&mut self, spec: ConsumerSpec, start: OffsetSpec, filter: Option<Filter>) -> ConsumerId {
        let id = ConsumerId::new(self.next_id);
        self.next_id += 1;
        let (position, not_before) = self.place(start);
        let reader = Reader { spec, position, unacked: 0, not_before, filter, read_ahead_at: None };
        self.readers.insert(id, reader);
        id
    }

    fn place(&self, start: OffsetSpec) -> (u64, Option<Timestamp>) {
        match start {
            OffsetSpec::First => (self.first_seq, None),
            OffsetSpec::Last => (self.next_seq.saturating_sub(1).max(self.first_seq), None),
            OffsetSpec::Next => (self.next_seq, None),
            OffsetSpec::Offset(seq) => (seq.max(self.first_seq), None),
            OffsetSpec::Time(time) => match self.blocks.iter().find(|block| block.last_time >= time) {
                Some(block) => (block.first_seq, Some(time)),
                None => (self.next_seq, None),
            },
        }
    }

    /// Removes a consumer.
    pub fn remove_reader(&mut self, id: ConsumerId) {
        self.readers.remove(&id);
    }

    /// Deliveries were settled, in whatever way: their consumer has credit again. Call [`Stream::resume`] after it.
    pub fn settle(&mut self, delivered: Delivered) {
        if let Some(reader) = delivered.consumer.and_then(|id| self.readers.get_mut(&id)) {
            let count = delivered.last_seq - delivered.first_seq + 1;
            reader.unacked = reader.unacked.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// Consumers have credit again, or their connections may take messages.
    pub fn resume(&mut self, fx: &mut Vec<StreamEffect>) {
        self.serve_all(fx);
    }

    /// Messages came from disk: all that the store has from `from_seq` on, below `complete_below`. Returns how many that
    /// should have been there are lost.
    pub fn loaded(
        &mut self,
        from_seq: u64,
        complete_below: u64,
        loaded: Vec<Loaded>,
        fx: &mut Vec<StreamEffect>,
    ) -> u64 {
        if self.deleted {
            return 0;
        }
        let mut lost = 0;
        if let Some(reading) = self.reading.take_if(|reading| reading.from_seq == from_seq) {
            let end = complete_below.min(reading.until_seq);
            let mut seq = from_seq.max(self.first_seq);
            for part in &loaded {
                lost += self.add_hole(seq, part.first_seq.min(end));
                seq = seq.max(part.first_seq + u64::from(part.count));
            }
            lost += self.add_hole(seq, end);
        }
        for part in loaded {
            if part.first_seq + u64::from(part.count) > self.first_seq {
                self.cache.insert(part);
            }
        }
        self.serve_all(fx);
        lost
    }

    fn add_hole(&mut self, from_seq: u64, to_seq: u64) -> u64 {
        if from_seq >= to_seq {
            return 0;
        }
        self.holes.insert(from_seq, to_seq);
        to_seq - from_seq
    }

    /// Retention by age.
    pub fn handle_timeout(&mut self, now: Timestamp, fx: &mut Vec<StreamEffect>) {
        self.trim(now, fx);
    }

    /// When [`Stream::handle_timeout`] next has something to do.
    pub fn deadline(&self) -> Option<Timestamp> {
        let max_age_ms = self.retention.max_age_ms?;
        self.head_is_whole().then(|| self.head.last_time.plus_millis(max_age_ms.saturating_add(1)))
    }

    /// Ends the stream; the caller cancels its consumers.
    pub fn delete(&mut self) {
        *self = Self::new(self.retention, &RecoveredLog { next_seq: self.next_seq, blocks: Vec::new() });
        self.deleted = true;
    }

    fn serve_all(&mut self, fx: &mut Vec<StreamEffect>) {
        let Self { readers, cache, holes, first_seq, next_seq, .. } = self;
        for (id, reader) in readers.iter_mut() {
            reader.position = reader.position.max(*first_seq);
            serve(*id, reader, *next_seq, cache, holes, fx);
        }
        self.read(fx);
        self.cache.evict();
    }

    /// Asks for what a reader waits for, or soon will.
    fn read(&mut self, fx: &mut Vec<StreamEffect>) {
        if self.reading.is_some() {
            return;
        }
        let Some((id, from_seq)) = self.missing().or_else(|| self.missing_soon()) else { return };
        self.served = id;
        self.reading = Some(Reading { from_seq, until_seq: self.next_seq });
        let share = CACHE_BYTES / 2 / self.readers.len().max(1);
        fx.push(StreamEffect::Read { from_seq, max_bytes: share.clamp(READ_MIN_BYTES, READ_MAX_BYTES) });
    }

    /// Who could take messages that are not in memory: everybody in turn.
    fn missing(&self) -> Option<(ConsumerId, u64)> {
        let after = self.readers.range((Bound::Excluded(self.served), Bound::Unbounded));
        let mut in_turn = after.chain(self.readers.range(..=self.served));
        // Served before: who still has room is at the end of the log, or where something is missing.
        let waiting = in_turn.find(|(_, reader)| reader.position < self.next_seq && reader.room() > 0);
        waiting.map(|(id, reader)| (*id, reader.position))
    }

    /// What the next credit of a reader will ask for. Once for each place, or a slow reader had it read again and again.
    fn missing_soon(&mut self) -> Option<(ConsumerId, u64)> {
        if self.readers.len() > READ_AHEAD_READERS {
            return None;
        }
        for (id, reader) in &mut self.readers {
            if reader.position >= self.next_seq || reader.read_ahead_at.is_some_and(|at| at == reader.position) {
                continue;
            }
            reader.read_ahead_at = Some(reader.position);
            let gap = self.cache.gap_after(reader.position, READ_MAX_BYTES / 2);
            if let Some(from_seq) = gap.filter(|seq| *seq < self.next_seq && !self.holes.contains_key(seq)) {
                return Some((*id, from_seq));
            }
        }
        None
    }

    fn head_is_whole(&self) -> bool {
        self.head.record_bytes >= self.retention.segment_bytes && self.head.blocks > 0
    }

    /// Removes segments that are too old or too many.
    fn trim(&mut self, now: Timestamp, fx: &mut Vec<StreamEffect>) {
        let Retention { max_age_ms, max_bytes, segment_bytes } = self.retention;
        let before = self.first_seq;
        loop {
            // The last block may still grow and belongs to the segment that always stays.
            while self.head.record_bytes < segment_bytes.max(1) && self.head.blocks + 1 < self.blocks.len() {
                let block = self.blocks[self.head.blocks];
                self.head.blocks += 1;
                self.head.record_bytes += block.record_bytes;
                self.head.last_time = self.head.last_time.max(block.last_time);
            }
            if !self.head_is_whole() {
                break;
            }
            let too_old = max_age_ms.is_some_and(|age| self.head.last_time.plus_millis(age) < now);
            let too_many = max_bytes.is_some_and(|max| self.record_bytes > max);
            if !too_old && !too_many {
                break;
            }
            for block in self.blocks.drain(..self.head.blocks) {
                self.count -= block.count;
                self.record_bytes -= block.record_bytes;
            }
            self.head = Head::default();
            self.first_seq = self.blocks.front().map_or(self.next_seq, |block| block.first_seq);
        }
        if self.first_seq > before {
            self.cache.forget_below(self.first_seq);
            self.holes.retain(|_, to_seq| *to_seq > self.first_seq);
            fx.push(StreamEffect::Truncate { below_seq: self.first_seq });
        }
    }
}

/// Hands a reader what it may take and what is in memory.
fn serve(
    id: ConsumerId,
    reader: &mut Reader,
    next_seq: u64,
    cache: &mut Cache,
    holes: &BTreeMap<u64, u64>,
    fx: &mut Vec<StreamEffect>,
) {
    while reader.position < next_seq {
        let room = reader.room();
        if room == 0 {
            return;
        }
        let Some(part) = cache.find(reader.position) else {
            match holes.range(..=reader.position).next_back() {
                Some((_, to_seq)) if *to_seq > reader.position => reader.position = *to_seq,
                _ => return,
            }
            continue;
        };
        let skipped = u32::try_from(reader.position - part.first_seq).expect("within a part");
        let (mut index, end) = (part.index + skipped, part.index + part.count);
        if !reader.takes_all() {
            while index < end && !reader.wants(&part.arena.message(index)) {
                index += 1;
                reader.position += 1;
            }
        }
        let (mut count, mut body_bytes) = (0, 0);
        while count < room && index + count < end && body_bytes < RUN_MAX_BYTES {
            let message = part.arena.message(index + count);
            if !reader.takes_all() && !reader.wants(&message) {
                break;
            }
            body_bytes += message.body_len() as u64;
            count += 1;
        }
        if count == 0 {
            continue;
        }
        let granted = reader.spec.channel_limit.claim(count);
        for nth in granted..count {
            body_bytes -= part.arena.message(index + nth).body_len() as u64;
        }
        if granted == 0 {
            return;
        }
        let first_seq = reader.position;
        let run = Run {
            arena: part.arena.clone(),
            index,
            count: granted,
            lane: 0,
            first_seq,
            redelivered: false,
            delivery_count: 0,
            body_bytes,
        };
        reader.position += u64::from(granted);
        reader.unacked += granted;
        reader.spec.window.add(run.size_bytes());
        fx.push(StreamEffect::Deliver { consumer: id, run });
    }
}
