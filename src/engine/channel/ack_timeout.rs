//! Since when deliveries wait for their ack, and which of them do so for too long (RabbitMQ's delivery acknowledgement
//! timeout).
//!
//! Tags ascend with time, so a stretch of tags that were delivered at about the same moment needs one entry. Nothing is
//! done for a single message: a run of deliveries is noted, and looked at again when a timer says so.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The longest time between two looks, as RabbitMQ's.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// The shortest.
const LOOK_MIN: Duration = Duration::from_millis(5);
/// Deliveries within this time count as one.
const SAME_MOMENT_MAX: Duration = Duration::from_secs(1);

/// How long after a delivery its ack is looked for: often enough that it is not much late.
pub fn look_interval(timeout: Duration) -> Duration {
    (timeout / 4).clamp(LOOK_MIN, LOOK_MAX)
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    first_tag: u64,
    delivered_at: Instant,
    timeout: Duration,
}

/// When the deliveries of a channel were made.
#[derive(Debug, Default)]
pub(super) struct AckTimeouts {
    stretches: VecDeque<Stretch>,
}

impl AckTimeouts {
    /// Deliveries from `first_tag` on are made now. Everything below `settled_below` is settled.
    #[inline]
    pub(super) fn note(&mut self, first_tag: u64, settled_below: u64, now: Instant, timeout: Duration) {
        while self.stretches.get(1).is_some_and(|next| next.first_tag <= settled_below) {
            self.stretches.pop_front();
        }
        if let [only] = self.stretches.make_contiguous()
            && settled_below >= first_tag
        {
            // Nothing is left of it.
            *only = Stretch { first_tag, delivered_at: now, timeout };
            return;
        }
        if let Some(last) = self.stretches.back()
            && last.timeout == timeout
            && now.saturating_duration_since(last.delivered_at) <= (timeout / 16).min(SAME_MOMENT_MAX)
        {
            return;
        }
        self.stretches.push_back(Stretch { first_tag, delivered_at: now, timeout });
    }

    /// Tags whose time is over, with the timeout; the oldest first.
    pub(super) fn overdue(&self, now: Instant, end_tag: u64) -> impl Iterator<Item = (std::ops::Range<u64>, Duration)> {
        let ends = self.stretches.iter().skip(1).map(|next| next.first_tag).chain(std::iter::once(end_tag));
        let late = move |(stretch, _): &(&Stretch, u64)| {
            now.saturating_duration_since(stretch.delivered_at) >= stretch.timeout
        };
        self.stretches.iter().zip(ends).filter(late).map(|(stretch, end)| (stretch.first_tag..end, stretch.timeout))
    }

    /// The shortest timeout of what is not below `settled_below`.
    pub(super) fn shortest(&self, settled_below: u64) -> Option<Duration> {
        let done = self.stretches.iter().skip(1).take_while(|next| next.first_tag <= settled_below).count();
        self.stretches.iter().skip(done).map(|stretch| stretch.timeout).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    fn overdue(timeouts: &AckTimeouts, now: Instant, end: u64) -> Vec<(u64, u64)> {
        timeouts.overdue(now, end).map(|(tags, _)| (tags.start, tags.end)).collect()
    }

    #[test]
    fn deliveries_are_overdue_by_their_own_timeout() {
        let start = start();
        let mut timeouts = AckTimeouts::default();
        timeouts.note(1, 1, start, 100 * SECOND);
        timeouts.note(5, 1, start + 2 * SECOND, 10 * SECOND);
        timeouts.note(9, 1, start + 4 * SECOND, 100 * SECOND);
        assert_eq!(overdue(&timeouts, start + 11 * SECOND, 20), []);
        assert_eq!(overdue(&timeouts, start + 12 * SECOND, 20), [(5, 9)]);
        assert_eq!(overdue(&timeouts, start + 100 * SECOND, 20), [(1, 5), (5, 9)]);
        assert_eq!(timeouts.shortest(1), Some(10 * SECOND));
        assert_eq!(timeouts.shortest(9), Some(100 * SECOND));
    }

    #[test]
    fn deliveries_of_about_the_same_moment_are_one_entry() {
        let start = start();
        let mut timeouts = AckTimeouts::default();
        for nth in 0..100 {
            timeouts.note(1 + u64::from(nth), 1, start + nth * (SECOND / 10), 1_800 * SECOND);
        }
        assert!(timeouts.stretches.len() <= 11, "{}", timeouts.stretches.len());
        timeouts.note(101, 101, start + 20 * SECOND, SECOND);
        assert_eq!(timeouts.stretches.len(), 1);
        assert_eq!(timeouts.shortest(101), Some(SECOND));
    }

    #[test]
    fn looks_are_in_proportion_and_at_most_a_minute_apart() {
        assert_eq!(look_interval(1_800 * SECOND), 60 * SECOND);
        assert_eq!(look_interval(2 * SECOND), SECOND / 2);
    }
}
