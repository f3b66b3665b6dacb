//! Table `returns`: how often messages came back, in queues that count it. Key: lane and sequence number.
//!
//! Value, format 1: `format u8 │ count u32`. A row goes with its message.

use leveret_protocol::encode;
use redb::TableDefinition;

use super::Reader;

pub(in crate::store) const RETURNS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("returns");

const FORMAT: u8 = 1;

pub(in crate::store) fn encode_value(count: u32) -> Vec<u8> {
    let mut out = vec![FORMAT];
    encode::put_u32(&mut out, count);
    out
}

pub(in crate::store) fn decode(value: &[u8]) -> Option<u32> {
    let mut value = Reader::new(value);
    if value.u8()? != FORMAT {
        return None;
    }
    value.u32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_reads_back_as_written() {
        assert_eq!(decode(&encode_value(77)), Some(77));
        assert_eq!(decode(&[2, 0, 0, 0, 1]), None);
        assert_eq!(decode(&[1, 0]), None);
    }
}
