//! Random numbers that a seed determines (`SplitMix64`), so that a failure can be tried again.

/// A generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// As [`Random::between`], for numbers of things in memory.
    pub fn count(&mut self, low: usize, high: usize) -> usize {
        let (low, high) = (u64::try_from(low).expect("64 bits"), u64::try_from(high).expect("64 bits"));
        usize::try_from(self.between(low, high)).expect("at most high")
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }

    /// A generator of its own for a part of the work.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }
}
