//! Table `lanes`: what start-up needs to know of a lane's messages without reading them. Key: queue number << 8 | lane.
//!
//! Content: `head_seq u64 │ next_seq u64 │ count u64 │ body octets u64 │ delivered below u64 │ expiring u8`. `expiring` is 1
//! when a message may have an expiration of its own.
//! Everything below `head_seq` is settled; messages below `delivered below` were handed out before the last orderly stop.

use redb::TableDefinition;

use super::seal::{Record, open};

pub(in crate::store) const LANES: TableDefinition<u64, &[u8]> = TableDefinition::new(NAME);

const NAME: &str = "lanes";

/// What numbers and octets stay below: sums of them do not overflow.
const MAX: u64 = 1 << 56;

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
    pub(in crate::store) fn encode(&self, lane: u64) -> Vec<u8> {
        let record = Record::new().u64(self.head_seq).u64(self.next_seq).u64(self.count).u64(self.body_bytes);
        record.u64(self.delivered_below).u8(u8::from(self.expiring)).seal(NAME, lane)
    }

    /// Reads counters; `None` when they are damaged or cannot be.
    pub(in crate::store) fn decode(lane: u64, value: &[u8]) -> Option<Self> {
        let mut value = open(NAME, lane, value)?;
        let state = Self {
            head_seq: value.u64()?,
            next_seq: value.u64()?,
            count: value.u64()?,
            body_bytes: value.u64()?,
            delivered_below: value.u64()?,
            expiring: value.u8()? != 0,
        };
        // What a store of format 1 has was not checked when it was sealed.
        let span = state.next_seq.checked_sub(state.head_seq)?;
        let is_possible = state.count <= span && state.next_seq < MAX && state.body_bytes < MAX;
        is_possible.then_some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_read_back_as_written() {
        let state =
            LaneState { head_seq: 1, next_seq: 5, count: 3, body_bytes: 77, delivered_below: 2, expiring: true };
        assert_eq!(LaneState::decode(7, &state.encode(7)), Some(state));
        assert_eq!((LaneState::decode(8, &state.encode(7)), LaneState::decode(7, &[9, 0])), (None, None));
    }

    #[test]
    fn counters_that_contradict_each_other_are_not_believed() {
        for (head_seq, next_seq, count) in [(5, 4, 0), (5, 10, 6)] {
            let state = LaneState { head_seq, next_seq, count, ..LaneState::default() };
            assert_eq!(LaneState::decode(7, &state.encode(7)), None);
        }
    }
}
