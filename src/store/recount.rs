//! Counters that are damaged are counted anew from the messages, at the start that finds it out.
//!
//! That reads all messages of the queue, but a queue that seems to be empty would give their numbers to others. What only
//! the counters said is lost: what was settled at the head and not yet marked comes back, and all may have been delivered.

use redb::{ReadOnlyTable, ReadTransaction};

use super::LaneKey;
use super::damage::{is_settled, marks_of};
use super::schema::batches::{BATCHES, SETTLED, decode_batch, decode_settled, salvage};
use super::schema::lanes::LaneState;
use super::schema::logs::{BLOCKS, LogState, decode_block};
use super::schema::parts;
use crate::engine::message::Timestamp;
use crate::engine::queue::QueueId;
use crate::engine::stream::Block;

/// More than any disk has.
const RECORD_BYTES_MAX: u64 = 1 << 50;

type Rows = ReadOnlyTable<(u64, u64), &'static [u8]>;

/// The lanes of a queue that have messages.
pub(super) fn lanes_with_messages(txn: &ReadTransaction, queue: QueueId) -> Result<Vec<u64>, redb::Error> {
    let batches = txn.open_table(BATCHES)?;
    let last = LaneKey::new(queue, u8::MAX).get();
    let (mut from, mut found) = (LaneKey::new(queue, 0).get(), Vec::new());
    while let Some(entry) = batches.range((from, 0)..=(last, u64::MAX))?.next() {
        let (lane, _) = entry?.0.value();
        found.push(lane);
        from = lane + 1;
    }
    Ok(found)
}

/// The counters of a lane. Damaged batches count as far as their messages can be told apart: whoever sets them aside
/// counts them out.
pub(super) fn lane(txn: &ReadTransaction, lane: u64) -> Result<LaneState, redb::Error> {
    let batches = txn.open_table(BATCHES)?;
    let settled = txn.open_table(SETTLED)?;
    let parts = parts::open(txn)?;
    let mut state = LaneState { head_seq: u64::MAX, expiring: true, ..LaneState::default() };
    for entry in batches.range((lane, 0)..=(lane, u64::MAX))? {
        let (key, value) = entry?;
        let (key, (_, first_seq)) = (key.value(), key.value());
        state.head_seq = state.head_seq.min(first_seq);
        state.next_seq = state.next_seq.max(first_seq.saturating_add(1));
        let row = settled.get(key)?;
        let marks = row.as_ref().and_then(|row| decode_settled(key, row.value())).map(marks_of);
        let batch = parts::whole(key, value.value(), parts.as_ref())?;
        for message in salvage(key, &batch).unwrap_or_default() {
            state.next_seq = state.next_seq.max(message.seq + 1);
            if !is_settled(first_seq, message.seq, 0, marks.as_ref()) {
                state.count += 1;
                state.body_bytes += message.body_bytes;
            }
        }
    }
    state.head_seq = state.head_seq.min(state.next_seq);
    state.delivered_below = state.next_seq;
    Ok(state)
}

/// How far a stream reaches.
pub(super) fn log(txn: &ReadTransaction, lane: u64) -> Result<LogState, redb::Error> {
    let batches = txn.open_table(BATCHES)?;
    let parts = parts::open(txn)?;
    let blocks = blocks(&txn.open_table(BLOCKS)?, lane, 0, |_| ())?;
    let first_batch = batches.range((lane, 0)..=(lane, u64::MAX))?.next().transpose()?.map(|(key, _)| key.value().1);
    let first_seq = blocks.first().map(|block| block.first_seq).into_iter().chain(first_batch).min().unwrap_or(0);
    let open_seq = blocks.last().map_or(first_seq, Block::end_seq);
    let mut open = Block { first_seq: open_seq, ..Block::default() };
    let mut next_seq = open_seq;
    // A batch may begin in the block before.
    let start = batches.range((lane, 0)..=(lane, open_seq))?.next_back().transpose()?;
    let start = start.map_or(open_seq, |(key, _)| key.value().1);
    for entry in batches.range((lane, start)..=(lane, u64::MAX))? {
        let (key, value) = entry?;
        let key = key.value();
        next_seq = next_seq.max(key.1.saturating_add(1));
        let batch = parts::whole(key, value.value(), parts.as_ref())?;
        open.record_bytes += batch.len() as u64;
        if let Some(last) = salvage(key, &batch).unwrap_or_default().last() {
            next_seq = next_seq.max(last.seq + 1);
        }
        for part in decode_batch(key, batch, 0, |_| false, 1).map(|(_, parts)| parts).unwrap_or_default() {
            for nth in 0..part.count {
                open.last_time = open.last_time.max(part.arena.message(part.index + nth).enqueued_at());
            }
        }
    }
    open.count = next_seq - open_seq;
    Ok(LogState { first_seq, next_seq, open })
}

/// The full blocks of a stream from an offset on; `unreadable` hears of those that are damaged.
pub(super) fn blocks(
    table: &Rows,
    lane: u64,
    first_seq: u64,
    unreadable: impl Fn((u64, u64)),
) -> Result<Vec<Block>, redb::Error> {
    let mut blocks = Vec::new();
    for entry in table.range((lane, first_seq)..=(lane, u64::MAX))? {
        let (key, value) = entry?;
        match decode_block(key.value(), value.value()) {
            Some(block) => blocks.push(block),
            None => unreadable(key.value()),
        }
    }
    Ok(blocks)
}

/// The blocks of a stream, ascending and without gaps, whatever is missing. Nobody knows how large a missing one was: it
/// has no octets, and leaves with the one before it.
pub(super) fn without_gaps(state: &LogState, full: Vec<Block>) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::with_capacity(full.len() + 1);
    let mut next_seq = state.first_seq;
    let end = Block { first_seq: state.next_seq, ..Block::default() };
    for mut block in full.into_iter().chain((state.open.count > 0).then_some(state.open)).chain([end]) {
        if block.end_seq() > state.next_seq || block.first_seq < next_seq {
            continue;
        }
        if block.first_seq > next_seq {
            let last_time = blocks.last().map_or(Timestamp::default(), |before| before.last_time);
            blocks.push(Block { first_seq: next_seq, count: block.first_seq - next_seq, record_bytes: 0, last_time });
        }
        next_seq = block.end_seq();
        block.record_bytes = block.record_bytes.min(RECORD_BYTES_MAX);
        blocks.extend((block.count > 0).then_some(block));
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first_seq: u64, count: u64, record_bytes: u64) -> Block {
        Block { first_seq, count, record_bytes, last_time: Timestamp::from_millis(first_seq) }
    }

    fn missing(first_seq: u64, count: u64, millis: u64) -> Block {
        Block { last_time: Timestamp::from_millis(millis), ..block(first_seq, count, 0) }
    }

    #[test]
    fn missing_blocks_are_filled_in() {
        let check = |first_seq, full: &[Block], open, expected: &[Block]| {
            let state = LogState { first_seq, next_seq: 40, open };
            assert_eq!(without_gaps(&state, full.to_vec()), expected);
        };
        let [a, b, c, open] = [block(0, 10, 100), block(10, 10, 100), block(20, 10, 100), block(30, 10, 50)];
        check(0, &[a, b, c], open, &[a, b, c, open]);
        check(0, &[a, c], open, &[a, missing(10, 10, 0), c, open]);
        check(0, &[b, c], open, &[missing(0, 10, 0), b, c, open]);
        check(0, &[a, b], open, &[a, b, missing(20, 10, 10), open]);
        check(0, &[a, b, c], Block::default(), &[a, b, c, missing(30, 10, 20)]);
        check(10, &[b, c], open, &[b, c, open]);
        check(40, &[], Block::default(), &[]);
        // What cannot be is not believed.
        check(0, &[a, b, block(15, 90, 1), c], open, &[a, b, c, open]);
        check(0, &[a, b, c], block(30, 99, 50), &[a, b, c, missing(30, 10, 20)]);
    }
}
