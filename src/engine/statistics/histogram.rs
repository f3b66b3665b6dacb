//! A histogram of durations with fixed bounds, small enough for every queue to have one: it takes a word until something
//! is noted.

/// Upper bounds of the buckets in milliseconds; one more bucket takes the rest.
pub const BOUNDS_MS: [u64; 16] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 15_000, 60_000, 300_000, 1_800_000, 7_200_000];

/// How often durations fell into each bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram(Option<Box<Buckets>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Buckets {
    counts: [u64; BOUNDS_MS.len() + 1],
    sum_ms: u64,
}

impl Histogram {
    /// Notes `count` times this duration.
    #[inline]
    pub fn note(&mut self, duration_ms: u64, count: u64) {
        // Most are short: the first comparisons decide.
        let bucket = BOUNDS_MS.iter().position(|bound| duration_ms <= *bound).unwrap_or(BOUNDS_MS.len());
        let noted = self.0.get_or_insert_default();
        noted.counts[bucket] += count;
        noted.sum_ms = noted.sum_ms.saturating_add(duration_ms.saturating_mul(count));
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        let Some(other) = &other.0 else { return };
        let noted = self.0.get_or_insert_default();
        for (mine, more) in noted.counts.iter_mut().zip(&other.counts) {
            *mine += more;
        }
        noted.sum_ms = noted.sum_ms.saturating_add(other.sum_ms);
    }

    fn buckets(&self) -> Buckets {
        self.0.as_deref().copied().unwrap_or_default()
    }

    /// How often a duration was noted.
    pub fn count(&self) -> u64 {
        self.buckets().counts.iter().sum()
    }

    /// The sum of all durations.
    pub fn sum_ms(&self) -> u64 {
        self.buckets().sum_ms
    }

    /// For each bound how many durations are not above it.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let sums = self.buckets().counts.into_iter().scan(0, |sum, bucket| {
            *sum += bucket;
            Some(*sum)
        });
        BOUNDS_MS.into_iter().zip(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_its_bucket_and_all_above() {
        let mut histogram = Histogram::default();
        histogram.note(0, 3);
        histogram.note(1, 1);
        histogram.note(30, 2);
        histogram.note(u64::MAX / 4, 1);
        let at = |bound| histogram.cumulative().find(|(at, _)| *at == bound).map(|(_, count)| count);
        assert_eq!((at(1), at(25), at(50), at(7_200_000)), (Some(4), Some(4), Some(6), Some(6)));
        assert_eq!(histogram.count(), 7);
        let mut sum = Histogram::default();
        sum.add(&histogram);
        sum.add(&histogram);
        assert_eq!(sum.count(), 14);
        assert_eq!(sum.sum_ms(), 2 * histogram.sum_ms());
    }
}
