//! A publisher that is not read from for a moment, because consumers are about to take what it published.
//!
//! A queue whose consumers take as fast as they can fills all the same when its publishers are faster. What fills it would go
//! to the disk and come back, which costs many times what the rest of its way does. So a connection that published to such a
//! queue while much is in memory is not read from until there is less.
//!
//! That must help soon or not be: a consumer may be slow on purpose, or wait for an ack that this very connection has in
//! its input. A pause in which nothing is taken for a while, or that does not end with relief, is fruitless, and the more
//! of these there were in a row, the longer none is tried again. The publisher then goes on at its own speed, and the disk
//! takes what memory cannot hold.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::queue::Queue;
use crate::server::budget::Budget;
use crate::server::queue_cell::QueueCell;

/// Between two looks at the queue: the resolution of the runtime's timers.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long nobody may take anything. A consumer's process that has to wait for a processor needs some of this.
const PATIENCE: Duration = Duration::from_millis(40);
/// How long a pause may last.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// How long none is tried after a fruitless one; doubled by each that follows.
const ABSTAIN_MIN: Duration = Duration::from_millis(400);
const ABSTAIN_MAX: Duration = Duration::from_secs(20);

/// What a connection knows of its pauses.
#[derive(Debug, Default)]
pub(super) struct Restraint {
    pause: Option<(Arc<QueueCell>, Pause)>,
    record: Record,
}

impl Restraint {
    /// Whether nothing is to be read now.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.pause.is_some()
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pause.as_ref().map(|(_, pause)| pause.look_at)
    }

    /// Something was published to this queue, which has much in memory. True if that begins a pause.
    pub(super) fn begin(&mut self, now: Instant, cell: Arc<QueueCell>) -> bool {
        if self.pause.is_some() || !self.record.allows(now) {
            return false;
        }
        let Some(taken) = cell.read(Queue::taken) else { return false };
        self.pause = Some((cell, Pause::new(now, taken)));
        true
    }

    /// It is the deadline.
    pub(super) fn look(&mut self, now: Instant, budget: &Budget) {
        let Some((cell, pause)) = &mut self.pause else { return };
        let taken = cell.read(Queue::taken).unwrap_or_default();
        let is_relieved = !cell.has_ready(budget.ready_share() / 4);
        if let Some(was_fruitful) = pause.look(now, taken, is_relieved) {
            self.record.note(now, was_fruitful);
            self.pause = None;
        }
    }
}

/// One pause.
#[derive(Clone, Copy, Debug)]
struct Pause {
    began: Instant,
    look_at: Instant,
    /// How much had been taken from the queue when something was taken last, and when that was.
    taken: u64,
    taken_at: Instant,
}

impl Pause {
    fn new(now: Instant, taken: u64) -> Self {
        Self { began: now, look_at: now + LOOK_EVERY, taken, taken_at: now }
    }

    /// Looks at the queue. When the pause is over: whether it bore fruit.
    fn look(&mut self, now: Instant, taken: u64, is_relieved: bool) -> Option<bool> {
        if is_relieved {
            return Some(true);
        }
        if taken != self.taken {
            (self.taken, self.taken_at) = (taken, now);
        }
        if now >= self.taken_at + PATIENCE || now >= self.began + PAUSE_MAX {
            return Some(false);
        }
        self.look_at = now + LOOK_EVERY;
        None
    }
}

/// What pauses of a connection have led to lately.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// None before this.
    not_before: Option<Instant>,
    abstained: Duration,
}

impl Record {
    fn allows(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|not_before| now >= not_before)
    }

    fn note(&mut self, now: Instant, was_fruitful: bool) {
        if was_fruitful {
            *self = Self::default();
        } else {
            self.abstained = (self.abstained * 2).clamp(ABSTAIN_MIN, ABSTAIN_MAX);
            self.not_before = Some(now + self.abstained);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::clock;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_pause_lasts_while_consumers_take_and_until_there_is_less() {
        let start = clock::instant();
        let mut pause = Pause::new(start, 100);
        for step in 1..199 {
            assert_eq!(pause.look(start + ms(step), 100 + step, false), None, "{step} ms");
        }
        assert_eq!(pause.look(start + ms(199), 299, true), Some(true));
    }

    #[test]
    fn nobody_is_held_back_for_consumers_that_do_not_take() {
        let start = clock::instant();
        let mut pause = Pause::new(start, 7);
        assert_eq!(pause.look(start + ms(4), 8, false), None);
        assert_eq!(pause.look(start + ms(43), 8, false), None);
        assert_eq!(pause.look(start + ms(44), 8, false), Some(false));
        // Nor for those that take too slowly.
        let mut pause = Pause::new(start, 0);
        let fruitless = (1..500).find(|step| pause.look(start + ms(*step), *step, false).is_some());
        assert_eq!(fruitless, Some(200));
    }

    #[test]
    fn fruitless_pauses_become_rare_and_a_fruitful_one_makes_good_for_them() {
        let mut now = clock::instant();
        let mut record = Record::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            record.note(now, false);
            let wait = (0..100).map(|step| ms(400 * step)).find(|wait| record.allows(now + *wait)).expect("some day");
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waits, [400, 800, 1600, 3200, 6400, 12_800, 20_000, 20_000]);
        record.note(now, true);
        assert!(record.allows(now));
    }
}
