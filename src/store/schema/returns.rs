//! Table `returns`: how often messages came back, in queues that count it. Key: lane and sequence number.
//!
//! Content: `count u32`. A row goes with its message.

use leveret_protocol::encode;
use redb::TableDefinition;

use super::seal::{Record, open};

pub(in crate::store) const RETURNS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new(NAME);

const NAME: &str = "returns";

pub(in crate::store) fn encode_value(key: (u64, u64), count: u32) -> Vec<u8> {
    let mut record = Record::new();
    encode::put_u32(record.content(), count);
    record.seal(NAME, key)
}

pub(in crate::store) fn decode(key: (u64, u64), value: &[u8]) -> Option<u32> {
    open(NAME, key, value)?.u32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_reads_back_as_written() {
        assert_eq!(decode((5, 6), &encode_value((5, 6), 77)), Some(77));
        assert_eq!(decode((5, 7), &encode_value((5, 6), 77)), None);
        assert_eq!(decode((5, 6), &[2, 0]), None);
    }
}
