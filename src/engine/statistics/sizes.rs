//! How large messages are.

/// Upper bounds of the buckets in octets, as RabbitMQ has them; one more bucket takes the rest.
pub const BOUNDS_BYTES: [u64; 8] = [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000];

/// How many bodies fell into each bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageSizes {
    buckets: [u64; BOUNDS_BYTES.len() + 1],
    sum_bytes: u64,
}

impl MessageSizes {
    /// Notes a body of this size.
    #[inline]
    pub fn note(&mut self, bytes: u64) {
        let bucket = BOUNDS_BYTES.iter().position(|bound| bytes <= *bound).unwrap_or(BOUNDS_BYTES.len());
        self.buckets[bucket] += 1;
        self.sum_bytes += bytes;
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        for (mine, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += more;
        }
        self.sum_bytes += other.sum_bytes;
    }

    /// How many bodies were noted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Octets of all bodies.
    pub fn sum_bytes(&self) -> u64 {
        self.sum_bytes
    }

    /// For each bound how many bodies are not above it.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let sums = self.buckets.iter().scan(0, |sum, bucket| {
            *sum += bucket;
            Some(*sum)
        });
        BOUNDS_BYTES.into_iter().zip(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fall_into_buckets() {
        let mut sizes = MessageSizes::default();
        for bytes in [0, 100, 101, 2_000_000_000] {
            sizes.note(bytes);
        }
        let all: Vec<_> = sizes.cumulative().map(|(_, count)| count).collect();
        assert_eq!((all, sizes.count()), (vec![2, 3, 3, 3, 3, 3, 3, 3], 4));
        assert_eq!(sizes.sum_bytes(), 2_000_000_201);
    }
}
