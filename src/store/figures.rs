//! What the store has done: how many writes, how much they held, how long the disk took. Noted once a write.

use std::time::Duration;

/// Upper bounds of the buckets of a sync's time, in microseconds; one more takes the rest.
pub const SYNC_BOUNDS_MICROS: [u64; 12] =
    [50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 100_000, 500_000, 2_000_000];

/// Figures of a store, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Groups of transactions that were made durable together.
    pub commits: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Octets written for them.
    pub octets: u64,
    /// How often a sync took how long, by [`SYNC_BOUNDS_MICROS`].
    syncs: [u64; SYNC_BOUNDS_MICROS.len() + 1],
    /// How long all syncs took.
    pub sync_time: Duration,
    /// Commits of the database.
    pub checkpoints: u64,
    /// How long they took.
    pub checkpoint_time: Duration,
}

impl StoreFigures {
    pub(super) fn note_commit(&mut self, transactions: usize, octets: u64, sync: Duration) {
        self.commits += 1;
        self.transactions += transactions as u64;
        self.octets += octets;
        let bucket = SYNC_BOUNDS_MICROS.iter().position(|bound| sync <= Duration::from_micros(*bound));
        self.syncs[bucket.unwrap_or(SYNC_BOUNDS_MICROS.len())] += 1;
        self.sync_time += sync;
    }

    pub(super) fn note_checkpoint(&mut self, took: Duration) {
        self.checkpoints += 1;
        self.checkpoint_time += took;
    }

    /// For each bound in microseconds how many syncs were not slower.
    pub fn cumulative_syncs(&self) -> impl Iterator<Item = (u64, u64)> {
        let sums = self.syncs.iter().scan(0, |sum, syncs| {
            *sum += syncs;
            Some(*sum)
        });
        SYNC_BOUNDS_MICROS.into_iter().zip(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_sync_counts_in_its_bucket_and_above() {
        let mut figures = StoreFigures::default();
        figures.note_commit(3, 100, Duration::from_micros(40));
        figures.note_commit(1, 50, Duration::from_secs(3));
        figures.note_commit(1, 50, Duration::from_millis(1));
        let all: Vec<_> = figures.cumulative_syncs().map(|(_, count)| count).collect();
        assert_eq!(all, [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!((figures.commits, figures.transactions, figures.octets), (3, 5, 200));
    }
}
