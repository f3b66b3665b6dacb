//! When messages are due at a fixed rate.
//!
//! The publishers take turns, so that together they keep the rate with equal gaps. What a publisher could not send in time
//! is still due: the latency counts from the schedule, not from the write.

use super::args::PerfArgs;
use super::client::TICK;
use super::error::PerfError;
use super::progress::{Phase, Progress};

const SECOND_NS: u128 = 1_000_000_000;

/// The least time between two wake-ups. Above 10 000 messages a second of one publisher, some wait for each other so long.
const MIN_GAP_NS: u64 = 100_000;

/// The schedule of one publisher.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start_ns: u64,
    /// Messages a second of all publishers, not 0.
    rate: u64,
    publishers: u32,
    /// Which of the publishers this is.
    number: u32,
}

impl Schedule {
    /// The schedule of a publisher, if there is a rate to keep.
    pub(super) fn new(args: &PerfArgs, number: u32, start_ns: u64) -> Option<Self> {
        (args.rate != 0).then_some(Self { start_ns, rate: args.rate, publishers: args.publishers, number })
    }

    /// When this publisher's message of an index is due.
    fn due_ns(&self, index: u64) -> u64 {
        let overall = u128::from(index) * u128::from(self.publishers) + u128::from(self.number);
        self.start_ns + u64::try_from(overall * SECOND_NS / u128::from(self.rate)).unwrap_or(u64::MAX - self.start_ns)
    }

    /// Calls `publish` with the times of messages that have become due, at most `max_count`, until there is nothing more to
    /// publish. It returns how many of them it has published; the others are still due.
    pub(super) fn follow(
        &self,
        progress: &Progress,
        max_count: usize,
        mut publish: impl FnMut(DueTimes<'_>) -> Result<usize, PerfError>,
    ) -> Result<(), PerfError> {
        let clock = &progress.clock;
        let tick_ns = u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX);
        let (mut index, mut earliest_ns) = (0, 0);
        while !progress.has_reached(Phase::Drain) {
            let now_ns = clock.now_ns();
            let due = DueTimes { schedule: self, index, len: self.due_count(index, now_ns, max_count) };
            if due.len == 0 {
                clock.sleep_until(self.due_ns(index).max(earliest_ns).min(now_ns + tick_ns));
                earliest_ns = clock.now_ns() + MIN_GAP_NS;
            } else {
                index += u64::try_from(publish(due)?).unwrap_or(u64::MAX);
            }
        }
        Ok(())
    }

    /// How many messages from an index on are due now, at most `max_count`.
    fn due_count(&self, index: u64, now_ns: u64, max_count: usize) -> usize {
        (index..).take(max_count).take_while(|&index| self.due_ns(index) <= now_ns).count()
    }
}

/// The times of messages one after the other.
#[derive(Clone, Debug)]
pub(super) struct DueTimes<'a> {
    schedule: &'a Schedule,
    index: u64,
    len: usize,
}

impl Iterator for DueTimes<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.len = self.len.checked_sub(1)?;
        let due_ns = self.schedule.due_ns(self.index);
        self.index += 1;
        Some(due_ns)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl ExactSizeIterator for DueTimes<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::clock::Clock;

    fn schedule(rate: u64, publishers: u32, number: u32) -> Schedule {
        Schedule { start_ns: 5, rate, publishers, number }
    }

    #[test]
    fn publishers_take_turns_at_equal_gaps() {
        let mut due: Vec<u64> =
            (0..3).flat_map(|number| (0..4).map(move |index| schedule(1000, 3, number).due_ns(index))).collect();
        due.sort_unstable();
        assert_eq!(due, (0..12).map(|index| 5 + index * 1_000_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_rate_that_divides_no_second_does_not_drift() {
        assert_eq!(schedule(3, 1, 0).due_ns(3_000_000), 5 + 1_000_000_000_000_000);
    }

    #[test]
    fn only_what_is_due_is_counted() {
        let schedule = schedule(1000, 1, 0);
        assert_eq!(schedule.due_count(0, 4, 10), 0);
        assert_eq!(schedule.due_count(0, 2_000_005, 10), 3);
        assert_eq!(schedule.due_count(2, 2_000_005, 10), 1);
        assert_eq!(schedule.due_count(0, 2_000_005, 2), 2);
    }

    #[test]
    fn what_is_not_published_stays_due() {
        let progress = Progress::new(Clock::start(), 0, 1);
        let mut published = Vec::new();
        let mut refusals = 0;
        schedule(1_000_000, 1, 0)
            .follow(&progress, 100, |due| {
                if refusals < 3 {
                    refusals += 1;
                    return Ok(0);
                }
                published.extend(due.take(1));
                if published.len() == 50 {
                    progress.enter(Phase::Drain);
                }
                Ok(1)
            })
            .expect("nothing fails");
        assert_eq!(published, (0..50).map(|index| 5 + index * 1000).collect::<Vec<_>>());
    }
}
