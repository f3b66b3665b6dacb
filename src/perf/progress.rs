//! What the threads of a run share: counters, the phase, the time that is measured.
//!
//! Everything is atomic and independent of everything else; a counter is added to once for a batch of messages.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

use super::clock::Clock;

/// What the threads are to do; a phase never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    /// Publish and consume.
    Publish,
    /// Publish nothing more; wait for confirms and consume.
    Drain,
    /// Acknowledge what is left and end.
    Stop,
    /// End at once.
    Abort,
}

/// Counts of a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) published: u64,
    pub(super) confirmed: u64,
    pub(super) nacked: u64,
    /// Deliveries, redelivered ones included.
    pub(super) consumed: u64,
    pub(super) redelivered: u64,
}

/// Shared by the threads of a run.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) clock: Clock,
    phase: AtomicU8,
    has_failed: AtomicBool,
    published: AtomicU64,
    confirmed: AtomicU64,
    nacked: AtomicU64,
    consumed: AtomicU64,
    redelivered: AtomicU64,
    measure_from_ns: AtomicU64,
    measure_until_ns: AtomicU64,
    /// Messages in the queues before the run.
    initial: u64,
    /// How many consumed copies a published message becomes.
    copies: u64,
}

impl Progress {
    pub(super) fn new(clock: Clock, initial: u64, copies: u64) -> Self {
        Self {
            clock,
            phase: AtomicU8::new(Phase::Publish as u8),
            has_failed: AtomicBool::new(false),
            published: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            nacked: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            redelivered: AtomicU64::new(0),
            measure_from_ns: AtomicU64::new(u64::MAX),
            measure_until_ns: AtomicU64::new(u64::MAX),
            initial,
            copies,
        }
    }

    /// Moves on to a phase, unless a later one has been reached.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Relaxed);
    }

    /// Whether a phase, or a later one, has been reached.
    #[inline]
    pub(super) fn has_reached(&self, phase: Phase) -> bool {
        self.phase.load(Relaxed) >= phase as u8
    }

    /// Notes that a thread has failed, for the run to end early.
    pub(super) fn fail(&self) {
        self.has_failed.store(true, Relaxed);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Relaxed)
    }

    #[inline]
    pub(super) fn add_published(&self, count: u64) {
        self.published.fetch_add(count, Relaxed);
    }

    #[inline]
    pub(super) fn add_confirmed(&self, count: u64) {
        self.confirmed.fetch_add(count, Relaxed);
    }

    pub(super) fn add_nacked(&self, count: u64) {
        self.nacked.fetch_add(count, Relaxed);
    }

    #[inline]
    pub(super) fn add_consumed(&self, count: u64, redelivered: u64) {
        self.consumed.fetch_add(count, Relaxed);
        if redelivered != 0 {
            self.redelivered.fetch_add(redelivered, Relaxed);
        }
    }

    /// The counts so far.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            published: self.published.load(Relaxed),
            confirmed: self.confirmed.load(Relaxed),
            nacked: self.nacked.load(Relaxed),
            consumed: self.consumed.load(Relaxed),
            redelivered: self.redelivered.load(Relaxed),
        }
    }

    /// How many deliveries would account for all that these counts say was published.
    pub(super) fn expected(&self, counts: &Counts) -> u64 {
        self.initial + counts.published * self.copies
    }

    /// How many messages are still to be consumed.
    #[inline]
    pub(super) fn backlog(&self) -> u64 {
        let counts = self.counts();
        self.expected(&counts).saturating_sub(counts.consumed - counts.redelivered.min(counts.consumed))
    }

    /// Begins to measure now.
    pub(super) fn begin_measurement(&self) {
        self.measure_from_ns.store(self.clock.now_ns(), Relaxed);
    }

    /// Ends the measurement now.
    pub(super) fn end_measurement(&self) {
        self.measure_until_ns.fetch_min(self.clock.now_ns(), Relaxed);
    }

    /// Whether the latency of what was due at this time is measured, however late it comes.
    #[inline]
    pub(super) fn is_measured(&self, due_ns: u64) -> bool {
        (self.measure_from_ns.load(Relaxed)..self.measure_until_ns.load(Relaxed)).contains(&due_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redeliveries_do_not_lessen_the_backlog() {
        let progress = Progress::new(Clock::start(), 5, 2);
        progress.add_published(10);
        progress.add_consumed(8, 3);
        assert_eq!(progress.expected(&progress.counts()), 25);
        assert_eq!(progress.backlog(), 20);
    }

    #[test]
    fn what_was_due_during_the_measurement_is_measured() {
        let progress = Progress::new(Clock::start(), 0, 1);
        assert!(!progress.is_measured(progress.clock.now_ns()));
        progress.begin_measurement();
        let due_ns = progress.clock.now_ns();
        progress.end_measurement();
        assert!(progress.is_measured(due_ns));
        assert!(!progress.is_measured(u64::MAX - 1));
    }

    #[test]
    fn phases_do_not_go_back() {
        let progress = Progress::new(Clock::start(), 0, 1);
        progress.enter(Phase::Stop);
        progress.enter(Phase::Drain);
        assert!(progress.has_reached(Phase::Stop) && !progress.has_reached(Phase::Abort));
    }
}
