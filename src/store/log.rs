//! What the writer knows of a stream on disk, and what one commit does to it.
//!
//! The writer gives messages their offsets: in the order of its transactions, without gaps. What was cut off from the front
//! is removed some batches a commit, so that a large segment that goes holds nobody up.

use std::sync::Arc;

use redb::{ReadableTable, Table};

use super::schema::batches::{BATCH_BYTES, BatchRun, encode_batch};
use super::schema::logs::{LogState, encode_block};
use super::{LogSink, LogUpdate};
use crate::engine::message::{Arena, Timestamp};
use crate::engine::queue::Loaded;
use crate::engine::stream::Block;

/// Batches removed in one commit.
const REMOVED_MAX: usize = 256;

/// Messages to be given offsets.
#[derive(Debug)]
struct Appended {
    arena: Arc<Arena>,
    index: u32,
    count: u32,
}

/// A stream on disk, and what the commit under way does to it.
#[derive(Debug, Default)]
pub(super) struct Log {
    state: LogState,
    appended: Vec<Appended>,
    full_bytes: u64,
    sink: Option<Arc<dyn LogSink>>,
    pub(super) dirty: bool,
    /// The queue was deleted: everything goes.
    deleted: bool,
    /// There may be batches or blocks below the first offset.
    pub(super) has_rest: bool,
}

/// The tables that a stream is written to.
pub(super) struct LogTables<'txn> {
    pub(super) batches: Table<'txn, (u64, u64), &'static [u8]>,
    pub(super) blocks: Table<'txn, (u64, u64), &'static [u8]>,
    pub(super) logs: Table<'txn, u64, &'static [u8]>,
}

/// What to tell a stream after the commit.
pub(super) type News = (Arc<dyn LogSink>, LogUpdate);

impl Log {
    /// A log found at start; `deleted` when its queue is gone.
    pub(super) fn recovered(state: LogState, deleted: bool) -> Self {
        Self { state, deleted, has_rest: true, ..Self::default() }
    }

    /// Messages came in.
    pub(super) fn append(
        &mut self,
        arena: Arc<Arena>,
        index: u32,
        count: u32,
        block_bytes: u64,
        sink: Arc<dyn LogSink>,
    ) {
        self.dirty = true;
        self.full_bytes = block_bytes;
        self.sink = Some(sink);
        self.appended.push(Appended { arena, index, count });
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

    /// Writes what the commit does; returns what to tell the stream after it.
    pub(super) fn write(&mut self, lane: u64, tables: &mut LogTables<'_>) -> Result<Option<News>, redb::Error> {
        self.dirty = false;
        let mut update = LogUpdate::default();
        if !self.deleted {
            self.write_appended(lane, tables, &mut update)?;
        }
        if self.has_rest {
            self.remove_rest(lane, tables)?;
        }
        if self.is_gone() {
            tables.logs.remove(lane)?;
        } else {
            tables.logs.insert(lane, self.state.encode(lane).as_slice())?;
        }
        Ok(self.sink.take().filter(|_| !update.parts.is_empty()).map(|sink| (sink, update)))
    }

    /// Cuts what came in into batches, and counts it into blocks.
    fn write_appended(
        &mut self,
        lane: u64,
        tables: &mut LogTables<'_>,
        update: &mut LogUpdate,
    ) -> Result<(), redb::Error> {
        if self.appended.is_empty() {
            return Ok(());
        }
        let mut next = Block { first_seq: self.state.next_seq, ..Block::default() };
        let mut runs: Vec<BatchRun> = Vec::new();
        let mut scratch = Vec::new();
        for Appended { arena, index, count } in std::mem::take(&mut self.appended) {
            let first_seq = self.state.next_seq;
            self.state.next_seq += u64::from(count);
            let mut run = BatchRun { first_seq, arena: arena.clone(), index, count: 0 };
            for nth in 0..count {
                let message = arena.message(index + nth);
                let record_bytes = message.record_len() as u64;
                if next.count > 0 && next.record_bytes + record_bytes > BATCH_BYTES as u64 {
                    let seq = run.first_seq + u64::from(run.count);
                    if run.count > 0 {
                        runs.push(run);
                    }
                    run = BatchRun { first_seq: seq, arena: arena.clone(), index: index + nth, count: 0 };
                    self.write_batch(lane, &runs, next, &mut scratch, tables, update)?;
                    runs.clear();
                    next = Block { first_seq: seq, ..Block::default() };
                }
                run.count += 1;
                next.count += 1;
                next.record_bytes += record_bytes;
                next.last_time = next.last_time.max(message.enqueued_at());
            }
            if run.count > 0 {
                runs.push(run);
            }
            update.parts.push(Loaded { first_seq, arena, index, count });
        }
        self.write_batch(lane, &runs, next, &mut scratch, tables, update)?;
        update.blocks.push(self.state.open);
        Ok(())
    }

    fn write_batch(
        &mut self,
        lane: u64,
        runs: &[BatchRun],
        messages: Block,
        scratch: &mut Vec<u8>,
        tables: &mut LogTables<'_>,
        update: &mut LogUpdate,
    ) -> Result<(), redb::Error> {
        if messages.count == 0 {
            return Ok(());
        }
        let key = encode_batch(lane, runs, scratch);
        tables.batches.insert(key, scratch.as_slice())?;
        if let Some(full) = self.state.open.add(messages, self.full_bytes) {
            tables.blocks.insert((lane, full.first_seq), encode_block(lane, &full).as_slice())?;
            update.blocks.push(full);
        }
        Ok(())
    }

    /// Removes some of what lies below the first offset.
    fn remove_rest(&mut self, lane: u64, tables: &mut LogTables<'_>) -> Result<(), redb::Error> {
        let below = if self.deleted { u64::MAX } else { self.state.first_seq };
        let batches = first_keys(&tables.batches, lane, below)?;
        for key in &batches {
            tables.batches.remove(*key)?;
        }
        let blocks = first_keys(&tables.blocks, lane, below)?;
        for key in &blocks {
            tables.blocks.remove(*key)?;
        }
        self.has_rest = batches.len() == REMOVED_MAX || blocks.len() == REMOVED_MAX;
        Ok(())
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

/// Offsets and blocks of a stream that no disk has.
#[derive(Debug, Default)]
pub(super) struct LogCounter {
    next_seq: u64,
    open: Block,
}

impl LogCounter {
    /// Counts messages in; what the stream is to be told.
    pub(super) fn append(&mut self, arena: Arc<Arena>, index: u32, count: u32, block_bytes: u64) -> LogUpdate {
        let first_seq = self.next_seq;
        self.next_seq += u64::from(count);
        let mut messages =
            Block { first_seq, count: u64::from(count), record_bytes: 0, last_time: Timestamp::default() };
        for message in (index..index + count).map(|at| arena.message(at)) {
            messages.record_bytes += message.record_len() as u64;
            messages.last_time = messages.last_time.max(message.enqueued_at());
        }
        let mut blocks: Vec<_> = self.open.add(messages, block_bytes).into_iter().collect();
        blocks.push(self.open);
        LogUpdate { parts: vec![Loaded { first_seq, arena, index, count }], blocks }
    }
}
