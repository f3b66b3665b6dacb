//! Table `early`: settlements that came before the messages they are about. Key: lane and first sequence number.
//!
//! Connections submit in their own order, so the journal may have an ack before the publish. A checkpoint in between keeps it
//! here, so that a replay of the publish finds it.
//!
//! Content: `last sequence number u64 │ count u64 │ body octets u64`.

use redb::TableDefinition;

use super::seal::{Record, open};
use crate::engine::queue::{Kept, Settled};

pub(in crate::store) const EARLY: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new(NAME);

const NAME: &str = "early";

pub(in crate::store) fn encode_value(lane: u64, settled: &Settled) -> Vec<u8> {
    let record = Record::new().u64(settled.last_seq).u64(settled.count).u64(settled.body_bytes);
    record.seal(NAME, (lane, settled.first_seq))
}

pub(in crate::store) fn decode(key: (u64, u64), value: &[u8]) -> Option<Settled> {
    let mut value = open(NAME, key, value)?;
    let (last_seq, count, body_bytes) = (value.u64()?, value.u64()?, value.u64()?);
    Some(Settled { first_seq: key.1, last_seq, count, body_bytes, kept: Kept::Durable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settlement_reads_back_as_written() {
        let settled = Settled { first_seq: 3, last_seq: 9, count: 5, body_bytes: 77, kept: Kept::Durable };
        assert_eq!(decode((1, 3), &encode_value(1, &settled)), Some(settled));
        assert_eq!(decode((1, 4), &encode_value(1, &settled)), None);
    }
}
