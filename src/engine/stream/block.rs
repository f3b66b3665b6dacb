//! Blocks: what a stream knows of its messages without having them in memory.
//!
//! A block is a stretch of the log of about [`BLOCK_BYTES`]. Retention and offsets by time go by blocks, so that a start
//! reads some octets for each megabyte, and no message. The last block is *open*: it grows until it is full.

use crate::engine::message::Timestamp;

/// Octets of records after which a block is full, if the stream's segments are not smaller.
pub const BLOCK_BYTES: u64 = 1024 * 1024;

/// A stretch of a stream's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Offset of the first message.
    pub first_seq: u64,
    /// How many messages.
    pub count: u64,
    /// Octets of their records.
    pub record_bytes: u64,
    /// The time of the latest message.
    pub last_time: Timestamp,
}

impl Block {
    /// The offset after the last message.
    pub const fn end_seq(&self) -> u64 {
        self.first_seq + self.count
    }

    /// Adds messages that follow to the open block `self`, or begins the next one if it is full. Returns the block that
    /// was finished by that.
    pub fn add(&mut self, messages: Self, full_bytes: u64) -> Option<Self> {
        if self.count == 0 {
            *self = messages;
            return None;
        }
        if self.record_bytes >= full_bytes.min(BLOCK_BYTES) {
            return Some(std::mem::replace(self, messages));
        }
        self.count += messages.count;
        self.record_bytes += messages.record_bytes;
        self.last_time = self.last_time.max(messages.last_time);
        None
    }
}

/// A stream as the store found it at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredLog {
    /// The offset that the next message gets.
    pub next_seq: u64,
    /// Its blocks, ascending, without gaps.
    pub blocks: Vec<Block>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first_seq: u64, count: u64, record_bytes: u64, millis: u64) -> Block {
        Block { first_seq, count, record_bytes, last_time: Timestamp::from_millis(millis) }
    }

    #[test]
    fn a_block_grows_until_it_is_full_and_keeps_the_latest_time() {
        let mut open = Block::default();
        assert_eq!(open.add(block(5, 2, 60, 9), 100), None);
        assert_eq!(open.add(block(7, 1, 60, 4), 100), None);
        assert_eq!(open, block(5, 3, 120, 9));
        assert_eq!(open.add(block(8, 1, 10, 11), 100), Some(block(5, 3, 120, 9)));
        assert_eq!((open, open.end_seq()), (block(8, 1, 10, 11), 9));
    }
}
