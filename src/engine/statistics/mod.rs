//! What is counted: numbers that only grow, each where its event happens, under a lock that is held there anyway.
//!
//! A [`Counts`] is a row of plain numbers. A queue and a connection keep what came since somebody last looked
//! ([`Recent`], a connection its turn); the server adds that up for queue, exchange, channel, vhost and node.
//! Not here: rates (they need a clock), names and shapes of the figures for operators.

mod histogram;
mod samples;
mod sizes;

pub use histogram::{BOUNDS_MS, Histogram};
pub use samples::{RATE_INTERVAL_MS, Rates, Samples};
pub use sizes::{BOUNDS_BYTES, MessageSizes};

/// What a count is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[expect(missing_docs, reason = "the names are RabbitMQ's, and say what they are")]
pub enum Count {
    Publish,
    PublishIn,
    PublishOut,
    Confirm,
    ReturnUnroutable,
    DropUnroutable,
    Deliver,
    DeliverNoAck,
    Get,
    GetNoAck,
    GetEmpty,
    Redeliver,
    Ack,
    DiskReads,
    DiskWrites,
    ReceivedOctets,
    SentOctets,
    /// From here on only totals are asked for, no rates.
    PublishConfirm,
    Reject,
    Requeue,
    Expired,
    MaxLen,
    Rejected,
    DeliveryLimit,
    /// The same four of queues that do not dead-letter.
    DroppedExpired,
    DroppedMaxLen,
    DroppedRejected,
    DroppedDeliveryLimit,
}

/// How many kinds of counts there are.
pub const COUNTS: usize = Count::DroppedDeliveryLimit as usize + 1;

/// The first so many have rates.
pub const RATED: usize = Count::PublishConfirm as usize;

/// A row of counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts([u64; COUNTS]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; COUNTS])
    }
}

impl std::ops::Index<Count> for Counts {
    type Output = u64;

    #[inline]
    fn index(&self, count: Count) -> &u64 {
        &self.0[count as usize]
    }
}

impl std::ops::IndexMut<Count> for Counts {
    #[inline]
    fn index_mut(&mut self, count: Count) -> &mut u64 {
        &mut self.0[count as usize]
    }
}

impl Counts {
    /// Adds another row.
    #[inline]
    pub fn add(&mut self, other: &Self) {
        for (mine, more) in self.0.iter_mut().zip(&other.0) {
            *mine += more;
        }
    }

    /// Those that have rates, in the order of [`Count`].
    pub fn rated(&self) -> &[u64] {
        &self.0[..RATED]
    }

    /// Whether nothing was counted.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    /// Messages handed out in any way.
    pub fn deliver_get(&self) -> u64 {
        self[Count::Deliver] + self[Count::DeliverNoAck] + self[Count::Get] + self[Count::GetNoAck]
    }
}

/// What happened in a queue since somebody last took it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// Events.
    pub counts: Counts,
    /// From the arrival of a message to its delivery.
    pub time_in_queue: Histogram,
    /// From a delivery to its ack.
    pub ack_latency: Histogram,
    /// Milliseconds in which messages waited although there were consumers: none of them took one.
    pub blocked_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_add_up_by_kind() {
        let mut sum = Counts::default();
        assert!(sum.is_zero());
        let mut row = Counts::default();
        row[Count::Deliver] += 2;
        row[Count::GetNoAck] += 1;
        sum.add(&row);
        sum.add(&row);
        assert_eq!((sum[Count::Deliver], sum.deliver_get(), sum[Count::Ack]), (4, 6, 0));
        assert_eq!(sum.rated().len(), RATED);
    }
}
