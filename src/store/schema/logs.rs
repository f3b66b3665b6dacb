//! Tables `logs` and `blocks`: what start-up needs to know of streams without reading messages.
//!
//! `logs`. Key: lane. Value, format 1: `format u8 │ first offset u64 │ next offset u64 │ open block: first offset u64 │
//! count u64 │ record octets u64 │ last time u64`. The messages are in `batches`, under the same lane; those below the
//! first offset are being removed.
//!
//! `blocks`: blocks that are full. Key: lane and first offset. Value, format 1: `format u8 │ count u64 │ record octets u64 │
//! last time u64`.

use leveret_protocol::encode;
use redb::TableDefinition;

use super::Reader;
use crate::engine::message::Timestamp;
use crate::engine::stream::Block;

pub(in crate::store) const LOGS: TableDefinition<u64, &[u8]> = TableDefinition::new("logs");
pub(in crate::store) const BLOCKS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("blocks");

const FORMAT: u8 = 1;

/// How far a stream reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct LogState {
    pub(in crate::store) first_seq: u64,
    pub(in crate::store) next_seq: u64,
    pub(in crate::store) open: Block,
}

impl LogState {
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        for number in [self.first_seq, self.next_seq, self.open.first_seq] {
            encode::put_u64(&mut out, number);
        }
        put_block(&mut out, &self.open);
        out
    }

    pub(in crate::store) fn decode(value: &[u8]) -> Option<Self> {
        let mut value = Reader::new(value);
        if value.u8()? != FORMAT {
            return None;
        }
        let (first_seq, next_seq, open_seq) = (value.u64()?, value.u64()?, value.u64()?);
        Some(Self { first_seq, next_seq, open: read_block(&mut value, open_seq)? })
    }
}

pub(in crate::store) fn encode_block(block: &Block) -> Vec<u8> {
    let mut out = vec![FORMAT];
    put_block(&mut out, block);
    out
}

pub(in crate::store) fn decode_block(first_seq: u64, value: &[u8]) -> Option<Block> {
    let mut value = Reader::new(value);
    if value.u8()? != FORMAT {
        return None;
    }
    read_block(&mut value, first_seq)
}

fn put_block(out: &mut Vec<u8>, block: &Block) {
    for number in [block.count, block.record_bytes, block.last_time.as_millis()] {
        encode::put_u64(out, number);
    }
}

fn read_block(value: &mut Reader<'_>, first_seq: u64) -> Option<Block> {
    let (count, record_bytes) = (value.u64()?, value.u64()?);
    Some(Block { first_seq, count, record_bytes, last_time: Timestamp::from_millis(value.u64()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_and_blocks_read_back_as_written() {
        let open = Block { first_seq: 7, count: 2, record_bytes: 99, last_time: Timestamp::from_millis(5) };
        let state = LogState { first_seq: 3, next_seq: 9, open };
        assert_eq!(LogState::decode(&state.encode()), Some(state));
        assert_eq!(decode_block(7, &encode_block(&open)), Some(open));
        assert_eq!((LogState::decode(&[9, 0]), decode_block(7, &[1, 0])), (None, None));
    }
}
