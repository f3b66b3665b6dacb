//! Tables `logs` and `blocks`: what start-up needs to know of streams without reading messages.
//!
//! `logs`. Key: lane. Content: `first offset u64 │ next offset u64 │ open block: first offset u64 │ count u64 │ record octets
//! u64 │ last time u64`. The messages are in `batches`, under the same lane; those below the
//! first offset are being removed.
//!
//! `blocks`: blocks that are full. Key: lane and first offset. Content: `count u64 │ record octets u64 │ last time u64`.

use redb::TableDefinition;

use super::Reader;
use super::seal::{Record, open};
use crate::engine::message::Timestamp;
use crate::engine::stream::Block;

pub(in crate::store) const LOGS: TableDefinition<u64, &[u8]> = TableDefinition::new(NAME);
pub(in crate::store) const BLOCKS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new(BLOCKS_NAME);

const NAME: &str = "logs";
const BLOCKS_NAME: &str = "blocks";

/// How far a stream reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct LogState {
    pub(in crate::store) first_seq: u64,
    pub(in crate::store) next_seq: u64,
    pub(in crate::store) open: Block,
}

impl LogState {
    pub(in crate::store) fn encode(&self, lane: u64) -> Vec<u8> {
        let record = Record::new().u64(self.first_seq).u64(self.next_seq).u64(self.open.first_seq);
        with_block(record, &self.open).seal(NAME, lane)
    }

    /// Reads it; `None` when it is damaged or cannot be.
    pub(in crate::store) fn decode(lane: u64, value: &[u8]) -> Option<Self> {
        let mut value = open(NAME, lane, value)?;
        let (first_seq, next_seq, open_seq) = (value.u64()?, value.u64()?, value.u64()?);
        let open = read_block(&mut value, open_seq)?;
        let is_possible =
            first_seq <= next_seq && next_seq < 1 << 56 && (open.count == 0 || open.end_seq() <= next_seq);
        is_possible.then_some(Self { first_seq, next_seq, open })
    }
}

pub(in crate::store) fn encode_block(lane: u64, block: &Block) -> Vec<u8> {
    with_block(Record::new(), block).seal(BLOCKS_NAME, (lane, block.first_seq))
}

/// Reads a block; `None` when it is damaged.
pub(in crate::store) fn decode_block(key: (u64, u64), value: &[u8]) -> Option<Block> {
    read_block(&mut open(BLOCKS_NAME, key, value)?, key.1)
}

fn with_block(record: Record, block: &Block) -> Record {
    record.u64(block.count).u64(block.record_bytes).u64(block.last_time.as_millis())
}

fn read_block(value: &mut Reader<'_>, first_seq: u64) -> Option<Block> {
    let (count, record_bytes) = (value.u64()?, value.u64()?);
    first_seq.checked_add(count)?;
    Some(Block { first_seq, count, record_bytes, last_time: Timestamp::from_millis(value.u64()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_and_blocks_read_back_as_written() {
        let open = Block { first_seq: 7, count: 2, record_bytes: 99, last_time: Timestamp::from_millis(5) };
        let state = LogState { first_seq: 3, next_seq: 9, open };
        assert_eq!(LogState::decode(4, &state.encode(4)), Some(state));
        assert_eq!(decode_block((4, 7), &encode_block(4, &open)), Some(open));
        assert_eq!((LogState::decode(5, &state.encode(4)), LogState::decode(4, &[9, 0])), (None, None));
        assert_eq!((decode_block((4, 8), &encode_block(4, &open)), decode_block((4, 7), &[1, 0])), (None, None));
        let impossible = LogState { first_seq: 10, ..state };
        assert_eq!(LogState::decode(4, &impossible.encode(4)), None);
    }
}
