//! Table `lanes`: what start-up needs to know of a lane's messages without reading them. Key: queue number << 8 | lane.
//!
//! Value, format 1: `format u8 │ head_seq u64 │ next_seq u64 │ count u64 │ body octets u64 │ delivered below u64 │
//! expiring u8`. `expiring` is 1 when a message may have an expiration of its own.
//! Everything below `head_seq` is settled; messages below `delivered below` were handed out before the last orderly stop.

use leveret_protocol::encode;
use redb::TableDefinition;

use super::Reader;

pub(in crate::store) const LANES: TableDefinition<u64, &[u8]> = TableDefinition::new("lanes");

const FORMAT: u8 = 1;

/// A lane's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct LaneState {
    pub(in crate::store) head_seq: u64,
    pub(in crate::store) next_seq: u64,
    pub(in crate::store) count: u64,
    pub(in crate::store) body_bytes: u64,
    pub(in crate::store) delivered_below: u64,
    pub(in crate::store) expiring: bool,
}

impl LaneState {
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        for number in [self.head_seq, self.next_seq, self.count, self.body_bytes, self.delivered_below] {
            encode::put_u64(&mut out, number);
        }
        out.push(u8::from(self.expiring));
        out
    }

    pub(in crate::store) fn decode(value: &[u8]) -> Option<Self> {
        let mut value = Reader::new(value);
        if value.u8()? != FORMAT {
            return None;
        }
        Some(Self {
            head_seq: value.u64()?,
            next_seq: value.u64()?,
            count: value.u64()?,
            body_bytes: value.u64()?,
            delivered_below: value.u64()?,
            expiring: value.u8()? != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_read_back_as_written() {
        let state =
            LaneState { head_seq: 1, next_seq: 5, count: 3, body_bytes: 77, delivered_below: 2, expiring: true };
        assert_eq!(LaneState::decode(&state.encode()), Some(state));
        assert_eq!(LaneState::decode(&[9, 0]), None);
    }
}
