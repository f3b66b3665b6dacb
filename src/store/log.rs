//! What the writer knows of a stream on disk, and what one checkpoint does to it.
//!
//! Messages get their offsets in the order of the journal, without gaps: at once by [`LogCounter`], so that a stream can be
//! told, and again by [`Log`] when the writer hears of them. What was cut off from the front is removed some batches a
//! checkpoint, so that a large segment that goes holds nobody up.

use std::sync::Arc;

use redb::{ReadableTable, Table};

use super::LogUpdate;
use super::schema::batches::{BATCH_BYTES, BatchRun, encode_batch};
use super::schema::logs::{LogState, encode_block};
use super::schema::parts;
use crate::engine::message::Arena;
use crate::engine::queue::{Kept, Loaded};
use crate::engine::stream::Block;

/// Batches removed in one commit.
const REMOVED_MAX: usize = 256;

/// Messages with their offsets.
#[derive(Debug)]
struct Appended {
    first_seq: u64,
    arena: Arc<Arena>,
    index: u32,
    count: u32,
}

/// A stream on disk, and what the checkpoint under way does to it.
#[derive(Debug, Default)]
pub(super) struct Log {
    state: LogState,
    appended: Vec<Appended>,
    /// Blocks that became full.
    full: Vec<Block>,
    pub(super) dirty: bool,
    /// The queue was deleted: everything goes.
    deleted: bool,
    /// There may be batches or blocks below the first offset.
    pub(super) has_rest: bool,
}

/// The tables that a stream is written to.
pub(super) struct LogTables<'txn> {
    pub(super) batches: Table<'txn, (u64, u64), &'static [u8]>,
    pub(super) parts: Table<'txn, &'static [u8], &'static [u8]>,
    pub(super) blocks: Table<'txn, (u64, u64), &'static [u8]>,
    pub(super) logs: Table<'txn, u64, &'static [u8]>,
}

impl Log {
    /// A log found at start; `deleted` when its queue is gone.
    pub(super) fn recovered(state: LogState, deleted: bool) -> Self {
        Self { state, deleted, has_rest: true, ..Self::default() }
    }

    /// Messages came in.
    pub(super) fn append(&mut self, arena: Arc<Arena>, index: u32, count: u32, block_bytes: u64) {
        self.dirty = true;
        let added = Appended { first_seq: self.state.next_seq, arena, index, count };
        self.state.next_seq += u64::from(count);
        count_in(&mut self.state.open, &added, block_bytes, &mut self.full);
        self.appended.push(added);
    }

    /// What lies below an offset goes.
    pub(super) fn truncate(&mut self, below_seq: u64) {
        self.dirty = true;
        self.has_rest = true;
        self.state.first_seq = self.state.first_seq.max(below_seq.min(self.state.open.first_seq));
    }

    /// The queue was deleted.
    pub(super) fn delete(&mut self) {
        *self = Self { dirty: true, deleted: true, has_rest: true, state: self.state, ..Self::default() };
    }

    /// Whether nothing is left of it.
    pub(super) fn is_gone(&self) -> bool {
        self.deleted && !self.has_rest
    }

    /// Writes what the checkpoint does; returns how many octets of batches more there are (or fewer).
    pub(super) fn write(&mut self, lane: u64, tables: &mut LogTables<'_>) -> Result<i64, redb::Error> {
        self.dirty = false;
        let mut grown = 0;
        if !self.deleted {
            grown += self.write_appended(lane, tables)?;
        }
        if self.has_rest {
            grown -= self.remove_rest(lane, tables)?;
        }
        if self.is_gone() {
            tables.logs.remove(lane)?;
        } else {
            tables.logs.insert(lane, self.state.encode(lane).as_slice())?;
        }
        Ok(grown)
    }

    /// Cuts what came in into batches; returns their octets.
    fn write_appended(&mut self, lane: u64, tables: &mut LogTables<'_>) -> Result<i64, redb::Error> {
        let mut written = 0;
        let mut scratch = Vec::new();
        let mut runs: Vec<BatchRun> = Vec::new();
        let mut octets = 0;
        for Appended { first_seq, arena, index, count } in self.appended.drain(..) {
            let mut run = BatchRun { first_seq, arena, index, count: 0 };
            for nth in 0..count {
                let size = run.arena.message(index + nth).record_len();
                if octets > 0 && octets + size > BATCH_BYTES {
                    let first_seq = run.first_seq + u64::from(run.count);
                    let next = BatchRun { first_seq, arena: run.arena.clone(), index: index + nth, count: 0 };
                    runs.push(std::mem::replace(&mut run, next));
                    written += write_batch(lane, &mut runs, &mut scratch, tables)?;
                    octets = 0;
                }
                run.count += 1;
                octets += size;
            }
            runs.push(run);
        }
        written += write_batch(lane, &mut runs, &mut scratch, tables)?;
        for full in self.full.drain(..) {
            tables.blocks.insert((lane, full.first_seq), encode_block(lane, &full).as_slice())?;
        }
        Ok(written)
    }

    /// Removes some of what lies below the first offset; returns how many octets of batches.
    fn remove_rest(&mut self, lane: u64, tables: &mut LogTables<'_>) -> Result<i64, redb::Error> {
        let mut removed = 0;
        let below = if self.deleted { u64::MAX } else { self.state.first_seq };
        // A batch may begin below the first offset and reach beyond it.
        let reaching = if self.deleted { None } else { tables.batches.range((lane, 0)..=(lane, below))?.next_back() };
        let batches_below = reaching.transpose()?.map_or(below, |(key, _)| key.value().1);
        let batches = first_keys(&tables.batches, lane, batches_below)?;
        for key in &batches {
            removed += octets(parts::remove(&mut tables.batches, &mut tables.parts, *key)?);
        }
        let blocks = first_keys(&tables.blocks, lane, below)?;
        for key in &blocks {
            tables.blocks.remove(*key)?;
        }
        self.has_rest = batches.len() == REMOVED_MAX || blocks.len() == REMOVED_MAX;
        Ok(removed)
    }
}

fn first_keys(
    table: &Table<'_, (u64, u64), &'static [u8]>,
    lane: u64,
    below: u64,
) -> Result<Vec<(u64, u64)>, redb::Error> {
    let found = table.range((lane, 0)..(lane, below))?.take(REMOVED_MAX);
    Ok(found.map(|entry| entry.map(|(key, _)| key.value())).collect::<Result<_, _>>()?)
}

/// Writes runs as one batch, if there are any; returns its octets.
fn write_batch(
    lane: u64,
    runs: &mut Vec<BatchRun>,
    scratch: &mut Vec<u8>,
    tables: &mut LogTables<'_>,
) -> Result<i64, redb::Error> {
    runs.retain(|run| run.count > 0);
    if runs.is_empty() {
        return Ok(0);
    }
    let key = encode_batch(lane, runs, scratch);
    parts::insert(&mut tables.batches, &mut tables.parts, key, scratch)?;
    runs.clear();
    Ok(octets(scratch.len()))
}

fn octets(count: usize) -> i64 {
    i64::try_from(count).expect("a batch is far smaller than 8 EiB")
}

/// Counts messages into the open block; those that become full go to `full`.
fn count_in(open: &mut Block, added: &Appended, block_bytes: u64, full: &mut Vec<Block>) {
    for nth in 0..added.count {
        let message = added.arena.message(added.index + nth);
        full.extend(open.add(
            Block {
                first_seq: added.first_seq + u64::from(nth),
                count: 1,
                record_bytes: message.record_len() as u64,
                last_time: message.enqueued_at(),
            },
            block_bytes,
        ));
    }
}

/// Gives a stream its offsets and blocks, ahead of [`Log`], which finds the same.
#[derive(Debug, Default)]
pub(super) struct LogCounter {
    next_seq: u64,
    open: Block,
}

impl LogCounter {
    /// Goes on where a stream stands.
    pub(super) fn after(state: &LogState) -> Self {
        Self { next_seq: state.next_seq, open: state.open }
    }

    /// Counts messages in; what the stream is to be told.
    pub(super) fn append(&mut self, arena: Arc<Arena>, index: u32, count: u32, block_bytes: u64) -> LogUpdate {
        let added = Appended { first_seq: self.next_seq, arena, index, count };
        self.next_seq += u64::from(count);
        let mut blocks = Vec::new();
        count_in(&mut self.open, &added, block_bytes, &mut blocks);
        blocks.push(self.open);
        let Appended { first_seq, arena, .. } = added;
        LogUpdate { parts: vec![Loaded { first_seq, arena, index, count, kept: Kept::Memory }], blocks }
    }
}
