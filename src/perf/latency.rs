//! Latencies: gathered by each thread for itself, merged in the end.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::progress::Progress;

/// Three significant digits are kept of each latency.
const DIGITS: u8 = 3;

/// The latencies of one thread in µs.
#[derive(Debug)]
pub(super) struct Latencies {
    histogram: Histogram<u64>,
    /// When the last messages were due, and how many there were in a row: those of one write share it, so that most of
    /// them cost no more than a comparison.
    run: Run,
}

#[derive(Clone, Copy, Debug, Default)]
struct Run {
    due_ns: u64,
    count: u64,
}

impl Latencies {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new(DIGITS).expect("the number of digits is within its bounds");
        Self { histogram, run: Run::default() }
    }

    /// Notes a message that was due at `due_ns` and is done at `now_ns`, which must not change before [`flush`].
    ///
    /// [`flush`]: Self::flush
    #[inline]
    pub(super) fn record(&mut self, due_ns: u64, now_ns: u64, progress: &Progress) {
        if due_ns != self.run.due_ns {
            self.flush(now_ns, progress);
            self.run.due_ns = due_ns;
        }
        self.run.count += 1;
    }

    /// Completes the records of one `now_ns`.
    pub(super) fn flush(&mut self, now_ns: u64, progress: &Progress) {
        if self.run.count != 0 && progress.is_measured(self.run.due_ns) {
            let latency_us = now_ns.saturating_sub(self.run.due_ns) / 1000;
            // The histogram grows as needed; one that cannot would have to hold centuries.
            let _ = self.histogram.record_n(latency_us, self.run.count);
        }
        self.run.count = 0;
    }

    /// Adds those of another thread.
    pub(super) fn merge(&mut self, other: &Self) {
        // As above: both grow.
        let _ = self.histogram.add(&other.histogram);
    }

    /// The figures for the report, if there was anything to measure.
    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        (!self.histogram.is_empty()).then(|| Quantiles {
            count: self.histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.histogram.max(),
        })
    }
}

/// Quantiles of a latency in µs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Quantiles {
    pub(super) count: u64,
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::clock::Clock;

    #[test]
    fn runs_of_equal_times_are_all_counted() {
        let progress = Progress::new(Clock::start(), 0, 1);
        progress.begin_measurement();
        let due_ns = progress.clock.now_ns();
        let mut latencies = Latencies::new();
        let now_ns = due_ns + 5_000_000;
        for offset_ns in [0, 0, 0, 1_000_000, 1_000_000, 0] {
            latencies.record(due_ns + offset_ns, now_ns, &progress);
        }
        latencies.flush(now_ns, &progress);
        latencies.record(due_ns, due_ns + 9_000_000, &progress);
        latencies.flush(due_ns + 9_000_000, &progress);
        let mut all = Latencies::new();
        all.merge(&latencies);
        let quantiles = all.quantiles().expect("there are latencies");
        assert_eq!(quantiles.count, 7);
        assert!((4990..=5010).contains(&quantiles.p50) && (8990..=9010).contains(&quantiles.max), "{quantiles:?}");
    }

    #[test]
    fn what_was_due_before_the_measurement_is_left_out() {
        let progress = Progress::new(Clock::start(), 0, 1);
        let due_ns = progress.clock.now_ns();
        progress.begin_measurement();
        let mut latencies = Latencies::new();
        latencies.record(due_ns, due_ns + 1000, &progress);
        latencies.flush(due_ns + 1000, &progress);
        assert_eq!(latencies.quantiles(), None);
    }
}
