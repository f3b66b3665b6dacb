//! All queues in the order of listings. It is kept until a queue comes or goes: with 100,000 of them sorting takes longer than
//! a page may.
//!
//! The lock is a leaf, and nobody sorts under it. What is kept holds queues that are gone until the next interval of the
//! statistics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leveret_protocol::ShortString;
use parking_lot::Mutex;

use super::queue_cell::QueueCell;
use super::registry::Registry;
use super::statistics::{Gauges, gauges};
use crate::engine::queue::QueueFigures;

/// A queue of which little is known yet: enough to find it in a listing.
#[derive(Clone, Debug)]
pub(crate) struct QueueHead(pub(super) Arc<QueueCell>);

impl QueueHead {
    pub(crate) fn name(&self) -> &ShortString {
        &self.0.name
    }

    pub(crate) fn vhost(&self) -> &ShortString {
        &self.0.vhost.name
    }

    /// `classic`, `quorum` or `stream`.
    pub(crate) fn kind(&self) -> &'static str {
        self.0.settings().queue_type.as_str()
    }

    /// How much it holds, and how many consumers it has.
    pub(crate) fn gauges(&self) -> Gauges {
        gauges(&self.0.state.lock().body)
    }

    /// The same with octets, which takes longer.
    pub(crate) fn figures(&self) -> QueueFigures {
        self.0.figures()
    }

    /// Whether anything has ever happened in it.
    pub(crate) fn was_used(&self) -> bool {
        let state = self.0.state.lock();
        state.dirty || state.totals.is_some()
    }
}

/// The order, as long as it is right.
#[derive(Debug, Default)]
pub(crate) struct QueueOrder {
    /// Grows whenever a queue comes or goes.
    version: AtomicU64,
    kept: Mutex<Option<(u64, Arc<Vec<QueueHead>>)>>,
}

impl QueueOrder {
    /// A queue came or went. Whoever looks up the order after that finds it right.
    pub(super) fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    fn get(&self, all: impl FnOnce() -> Vec<QueueHead>) -> Arc<Vec<QueueHead>> {
        // Read before the queues are: what comes meanwhile makes the order old, not wrong for ever.
        let version = self.version.load(Ordering::Acquire);
        if let Some((known, heads)) = &*self.kept.lock()
            && *known == version
        {
            return heads.clone();
        }
        let mut heads = all();
        heads.sort_unstable_by(|a, b| (a.vhost(), a.name()).cmp(&(b.vhost(), b.name())));
        let heads = Arc::new(heads);
        *self.kept.lock() = Some((version, heads.clone()));
        heads
    }

    /// Lets go of an order that is no longer right.
    pub(super) fn forget_old(&self) {
        let version = self.version.load(Ordering::Acquire);
        let mut kept = self.kept.lock();
        if kept.as_ref().is_some_and(|(known, _)| *known != version) {
            *kept = None;
        }
    }
}

impl Registry {
    /// All queues by vhost and name, but for those in front of delayed-message exchanges.
    pub(super) fn sorted_queues(&self) -> Arc<Vec<QueueHead>> {
        let all = || self.queues().into_iter().filter(|cell| !cell.delays).map(QueueHead).collect();
        self.queue_order.get(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_kept_until_a_queue_comes_or_goes() {
        let order = QueueOrder::default();
        let mut times = 0;
        let mut get = || {
            order.get(|| {
                times += 1;
                Vec::new()
            });
            times
        };
        assert_eq!((get(), get()), (1, 1));
        order.changed();
        assert_eq!((get(), get()), (2, 2));
        order.forget_old();
        assert_eq!(get(), 2, "it is right");
        order.changed();
        order.forget_old();
        assert!(order.kept.lock().is_none());
    }
}
