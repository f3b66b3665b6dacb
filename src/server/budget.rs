//! How much memory the messages of all queues hold together, and what is done when that is too much.
//!
//! Every queue counts its messages here, a share of each arena; what several queues share is counted for each of them.
//! While the sum is above half of the budget, queues leave to the disk what need not survive too (below it only what is
//! stored anyway), and the sweeper visits them all, those that nobody uses too: the other half is for what comes while the
//! disk writes, and for queues with consumers, which may ack what they have or take the rest before it is written; visits that
//! change nothing become rare. The nearer that, the less a queue keeps ahead of its consumers.
//!
//! Before it comes to that, from a quarter of the budget on, publishers wait a moment for consumers that take
//! (`connection/restraint`).
//!
//! The figures are atomics: a queue reports under its lock, when it changed by more than [`NOTE_BYTES`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::registry::Registry;
use super::work::Work;
use crate::engine::queue::WINDOW_BYTES;

/// Changes that a queue does not report: ten thousand queues may hold ten times this in MiB unseen.
const NOTE_BYTES: usize = 1024;
/// What a queue that somebody waits for keeps ahead when there is no room: a consumer that takes gets at least a segment
/// whatever this says. One that nobody waits for keeps nothing then.
const WINDOW_MIN_BYTES: usize = 4 * 1024;
/// How much of what is free one queue may take for its window.
const WINDOW_SHARE: usize = 8;
/// Between two visits to all queues while too much is in memory: a publisher fills some ten MiB in this time.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);
/// The same while visits change nothing: all that is left is what queues need at hand.
const SWEEP_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A change of what is used that makes another visit worth while.
const SWEEP_STEP_BYTES: usize = 1024 * 1024;
/// Queues visited before the task lets others run.
const SWEEP_QUEUES: usize = 128;

/// The budget and what is used of it.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Octets in use from which on memory is short.
    limit: usize,
    used: AtomicUsize,
    /// Octets that a queue keeps ahead of its cursor at this moment.
    window: Arc<AtomicUsize>,
    exceeded: Notify,
}

impl Budget {
    pub(super) fn new(budget_bytes: u64) -> Self {
        let limit = usize::try_from(budget_bytes / 2).unwrap_or(usize::MAX);
        let window = Arc::new(AtomicUsize::new(window(limit)));
        Self { limit, used: AtomicUsize::new(0), window, exceeded: Notify::new() }
    }

    /// A queue holds `now` octets, and told `noted` last.
    #[inline]
    pub(super) fn note(&self, noted: &mut usize, now: usize) {
        if now.abs_diff(*noted) >= NOTE_BYTES {
            self.change(noted, now);
        }
    }

    /// The same whatever the difference.
    pub(super) fn change(&self, noted: &mut usize, now: usize) {
        let (before, after) = if now >= *noted {
            let more = now - *noted;
            let before = self.used.fetch_add(more, Ordering::Relaxed);
            (before, before + more)
        } else {
            let less = *noted - now;
            let before = self.used.fetch_sub(less, Ordering::Relaxed);
            (before, before - less)
        };
        *noted = now;
        self.window.store(window(self.limit.saturating_sub(after)), Ordering::Relaxed);
        if before <= self.limit && after > self.limit {
            self.exceeded.notify_one();
        }
    }

    /// Octets in use.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether too much is in memory.
    #[inline]
    pub(super) fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }

    /// Whether so much is in memory that publishers had better wait for consumers that take.
    #[inline]
    pub(super) fn is_tight(&self) -> bool {
        self.used() > self.limit / 2
    }

    /// Octets that one queue may have ready before its publishers wait for its consumers.
    pub(super) fn ready_share(&self) -> u64 {
        let divisor = if self.used() > self.limit / 4 * 3 { 32 } else { 8 };
        (self.limit / divisor) as u64
    }

    /// Whether the whole budget is used up, the half too that is for what consumers are about to take.
    pub(super) fn is_exhausted(&self) -> bool {
        self.used() / 2 > self.limit
    }

    /// Octets that a queue keeps ahead of its cursor.
    #[inline]
    pub(super) fn window(&self) -> usize {
        self.window.load(Ordering::Relaxed)
    }

    /// The same for who looks later.
    pub(super) fn shared_window(&self) -> Arc<AtomicUsize> {
        self.window.clone()
    }
}

fn window(free: usize) -> usize {
    (free / WINDOW_SHARE).clamp(WINDOW_MIN_BYTES, WINDOW_BYTES)
}

/// Has queues leave messages to the disk while too many are in memory, until the task is aborted.
pub(super) async fn run(registry: Arc<Registry>) {
    loop {
        registry.budget.exceeded.notified().await;
        let mut patience = SWEEP_PAUSE;
        while registry.budget.is_exceeded() {
            let before = registry.budget.used();
            sweep(&registry).await;
            let left = registry.budget.used();
            let changed = |used: usize, from: usize| used.abs_diff(from) >= SWEEP_STEP_BYTES;
            patience = if changed(left, before) { SWEEP_PAUSE } else { (patience * 2).min(SWEEP_PAUSE_MAX) };
            let mut waited = Duration::ZERO;
            while waited < patience && !changed(registry.budget.used(), left) {
                tokio::time::sleep(SWEEP_PAUSE).await;
                waited += SWEEP_PAUSE;
            }
        }
    }
}

/// Visits every queue that holds something.
async fn sweep(registry: &Arc<Registry>) {
    let mut work = Work::default();
    for (nth, cell) in registry.queues().into_iter().enumerate() {
        cell.leave_to_disk(registry, &mut work);
        if nth % SWEEP_QUEUES == SWEEP_QUEUES - 1 {
            registry.finish(&mut work, None);
            tokio::task::yield_now().await;
            if !registry.budget.is_exceeded() {
                return;
            }
        }
    }
    registry.finish(&mut work, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_shrinks_as_the_budget_is_used_up() {
        let budget = Budget::new(64 << 20);
        let (mut one, mut other) = (0, 0);
        assert_eq!(budget.window(), WINDOW_BYTES);
        budget.note(&mut one, 24 << 20);
        assert_eq!((budget.window(), budget.is_exceeded()), (1 << 20, false));
        assert_eq!((budget.is_tight(), budget.ready_share()), (true, 4 << 20));
        budget.note(&mut other, 9 << 20);
        assert_eq!((budget.window(), budget.is_exceeded(), budget.used()), (WINDOW_MIN_BYTES, true, 33 << 20));
        budget.note(&mut one, (24 << 20) - 1);
        assert_eq!(one, 24 << 20, "little is not worth a word");
        assert_eq!((budget.ready_share(), budget.is_exhausted()), (1 << 20, false));
        budget.change(&mut one, 56 << 20);
        assert!(budget.is_exhausted());
        budget.change(&mut one, 0);
        budget.change(&mut other, 0);
        assert_eq!((budget.used(), budget.window()), (0, WINDOW_BYTES));
        assert_eq!((budget.is_tight(), budget.ready_share()), (false, 4 << 20));
    }
}
