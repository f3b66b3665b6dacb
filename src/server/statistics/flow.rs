//! Counts with their rates, and gauges with theirs.

use crate::engine::statistics::{Counts, RATED, Rates};

/// Counts that grow, and how fast they grew in the last interval.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flow {
    counts: Counts,
    /// What the interval under way brought.
    since: [u64; RATED],
    rates: Rates,
}

impl Flow {
    /// More came.
    pub(crate) fn add(&mut self, more: &Counts) {
        self.counts.add(more);
        for (since, more) in self.since.iter_mut().zip(more.rated()) {
            *since += more;
        }
    }

    /// Adds another one up, rates too.
    pub(crate) fn join(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.rates.add(&other.rates);
    }

    /// An interval is over. False when nothing came, in it and in the one before.
    pub(crate) fn tick(&mut self, interval_ms: u64) -> bool {
        let quiet_before = self.rates.is_zero();
        self.rates = Rates::of(std::mem::replace(&mut self.since, [0; RATED]).into_iter(), interval_ms);
        !(quiet_before && self.rates.is_zero())
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The rates are those of somebody who is gone.
    pub(crate) fn forget_rates(&mut self) {
        self.rates = Rates::default();
    }
}

/// What there is at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gauges {
    pub(crate) ready: u64,
    pub(crate) unacked: u64,
    pub(crate) consumers: u64,
}

impl Gauges {
    /// Whether there are no messages.
    pub(crate) fn is_empty(self) -> bool {
        self.ready + self.unacked == 0
    }

    /// What was `before` is `now`.
    pub(crate) fn change(&mut self, before: Self, now: Self) {
        self.ready = self.ready.wrapping_add(now.ready).wrapping_sub(before.ready);
        self.unacked = self.unacked.wrapping_add(now.unacked).wrapping_sub(before.unacked);
        self.consumers = self.consumers.wrapping_add(now.consumers).wrapping_sub(before.consumers);
    }
}

/// How fast gauges change, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct GaugeRates {
    pub(crate) ready: f32,
    pub(crate) unacked: f32,
}

impl GaugeRates {
    /// From one value to another in an interval.
    pub(crate) fn of(before: Gauges, now: Gauges, interval_ms: u64) -> Self {
        Self {
            ready: slope(before.ready, now.ready, interval_ms),
            unacked: slope(before.unacked, now.unacked, interval_ms),
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.ready += other.ready;
        self.unacked += other.unacked;
    }

    pub(crate) fn is_zero(self) -> bool {
        self == Self::default()
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a rate is for people")]
fn slope(before: u64, now: u64, interval_ms: u64) -> f32 {
    let difference = if now >= before { (now - before) as f64 } else { -((before - now) as f64) };
    (difference * 1000.0 / interval_ms.max(1) as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::statistics::Count;

    #[test]
    fn rates_are_of_the_last_interval_and_end_with_the_flow() {
        let mut flow = Flow::default();
        let mut counts = Counts::default();
        counts[Count::Publish] = 50;
        flow.add(&counts);
        assert!(flow.tick(5000));
        assert!((flow.rates()[Count::Publish] - 10.0).abs() < 0.001);
        assert!(flow.tick(5000), "the rate has just ended");
        assert!(flow.rates().is_zero());
        assert!(!flow.tick(5000));
        assert_eq!(flow.counts()[Count::Publish], 50);
    }

    #[test]
    fn gauges_of_a_sum_follow_their_parts() {
        let gauges = |ready, unacked| Gauges { ready, unacked, consumers: 1 };
        let mut sum = gauges(10, 5);
        sum.change(gauges(7, 0), gauges(2, 5));
        assert_eq!(sum, gauges(5, 10));
        let rates = GaugeRates::of(gauges(10, 0), gauges(0, 5), 5000);
        assert_eq!(rates, GaugeRates { ready: -2.0, unacked: 1.0 });
    }
}
