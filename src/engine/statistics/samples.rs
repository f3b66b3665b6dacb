//! Rates of counts that somebody asks for now and then: what the counts were some seconds ago is remembered as they grow.
//!
//! No timer is needed: whoever counts says the time once a turn. Nobody who is idle costs anything.

use super::{Counts, RATED};
use crate::engine::message::Timestamp;

/// Rates are over about this time.
pub const RATE_INTERVAL_MS: u64 = 5000;

/// Events a second, in the order of [`super::Count`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates([f32; RATED]);

impl Default for Rates {
    fn default() -> Self {
        Self([0.0; RATED])
    }
}

impl std::ops::Index<super::Count> for Rates {
    type Output = f32;

    /// 0 for what has no rate.
    fn index(&self, count: super::Count) -> &f32 {
        self.0.get(count as usize).unwrap_or(&0.0)
    }
}

impl Rates {
    /// What came in `interval_ms`.
    #[expect(clippy::cast_precision_loss, reason = "a rate is for people")]
    pub fn of(differences: impl Iterator<Item = u64>, interval_ms: u64) -> Self {
        let seconds = interval_ms.max(1) as f64 / 1000.0;
        let mut rates = Self::default();
        for (rate, difference) in rates.0.iter_mut().zip(differences) {
            #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough")]
            let each = (difference as f64 / seconds) as f32;
            *rate = each;
        }
        rates
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        for (mine, more) in self.0.iter_mut().zip(&other.0) {
            *mine += more;
        }
    }

    /// Whether nothing comes.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|rate| *rate <= 0.0)
    }

    /// Messages handed out in any way.
    pub fn deliver_get(&self) -> f32 {
        use super::Count::{Deliver, DeliverNoAck, Get, GetNoAck};
        [Deliver, DeliverNoAck, Get, GetNoAck].into_iter().map(|count| self[count]).sum()
    }
}

type Sample = (Timestamp, [u64; RATED]);

/// Counts as they were some seconds ago.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// The older one, and one at most an interval old when it was taken.
    taken: Option<Box<[Sample; 2]>>,
    last: Timestamp,
}

fn row(counts: &Counts) -> [u64; RATED] {
    let mut row = [0; RATED];
    row.copy_from_slice(counts.rated());
    row
}

impl Samples {
    /// The counts may have grown since the last call; `counts` is what they are now.
    pub fn note(&mut self, now: Timestamp, counts: &Counts) {
        let age = |at: Timestamp| now.as_millis().saturating_sub(at.as_millis());
        match &mut self.taken {
            // What was counted before the first look counts from here on.
            None => self.taken = Some(Box::new([(before(now), [0; RATED]), (now, row(counts))])),
            Some(taken) if age(taken[1].0) >= RATE_INTERVAL_MS => {
                let [_, newer] = **taken;
                let older = if age(self.last) >= RATE_INTERVAL_MS { (before(now), newer.1) } else { newer };
                **taken = [older, (now, row(counts))];
            }
            Some(_) => {}
        }
        self.last = now;
    }

    /// How fast the counts grow, now that they are `counts`.
    pub fn rates(&self, now: Timestamp, counts: &Counts) -> Rates {
        let age = |at: Timestamp| now.as_millis().saturating_sub(at.as_millis());
        match &self.taken {
            Some(taken) if age(self.last) < RATE_INTERVAL_MS => {
                let (at, older) = &taken[0];
                let differences = counts.rated().iter().zip(older).map(|(now, then)| now.saturating_sub(*then));
                Rates::of(differences, age(*at))
            }
            Some(_) | None => Rates::default(),
        }
    }
}

fn before(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_sub(RATE_INTERVAL_MS))
}

#[cfg(test)]
mod tests {
    use super::super::Count;
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    #[test]
    fn a_steady_flow_has_its_rate_and_a_silent_one_none() {
        let (mut samples, mut counts) = (Samples::default(), Counts::default());
        for nth in 1..=300 {
            counts[Count::Publish] += 10;
            samples.note(at(nth * 100), &counts);
        }
        let rate = samples.rates(at(30_000), &counts)[Count::Publish];
        assert!((95.0..=105.0).contains(&rate), "{rate}");
        assert!(samples.rates(at(40_000), &counts).is_zero());
    }

    #[test]
    fn what_comes_after_a_long_silence_is_not_spread_over_it() {
        let (mut samples, mut counts) = (Samples::default(), Counts::default());
        samples.note(at(0), &counts);
        counts[Count::Ack] = 100;
        samples.note(at(600_000), &counts);
        let rate = samples.rates(at(600_000), &counts)[Count::Ack];
        assert!((19.0..=21.0).contains(&rate), "{rate}");
    }
}
