//! The timer: which queue has something to do when. One task sleeps until the earliest deadline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::clock;
use super::registry::Registry;
use crate::engine::message::Timestamp;
use crate::engine::queue::QueueId;

/// Longest sleep: the wall clock may be set while the timer sleeps.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Deadlines of queues.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    heap: Mutex<BinaryHeap<Reverse<(Timestamp, QueueId)>>>,
    earlier: Notify,
}

impl Timer {
    /// Has the queue woken at `deadline`.
    pub(super) fn arm(&self, deadline: Timestamp, queue: QueueId) {
        let mut heap = self.heap.lock();
        let first = heap.peek().is_none_or(|Reverse((earliest, _))| deadline < *earliest);
        heap.push(Reverse((deadline, queue)));
        drop(heap);
        if first {
            self.earlier.notify_one();
        }
    }

    fn due(&self, now: Timestamp) -> Vec<QueueId> {
        let mut heap = self.heap.lock();
        let mut due = Vec::new();
        while let Some(Reverse((deadline, queue))) = heap.peek().copied()
            && deadline <= now
        {
            heap.pop();
            due.push(queue);
        }
        due
    }

    fn sleep_time(&self, now: Timestamp) -> Duration {
        let heap = self.heap.lock();
        heap.peek().map_or(LOOK_AGAIN, |Reverse((deadline, _))| {
            Duration::from_millis(deadline.as_millis().saturating_sub(now.as_millis())).min(LOOK_AGAIN)
        })
    }
}

/// Wakes the queues whose deadlines have come.
pub(super) fn fire(registry: &Arc<Registry>) {
    let now = clock::now();
    for queue in registry.timer.due(now) {
        registry.queue_timeout(queue, now);
    }
}

/// Wakes queues at their deadlines until the task is aborted.
pub(super) async fn run(registry: Arc<Registry>) {
    loop {
        fire(&registry);
        let sleep = tokio::time::sleep(registry.timer.sleep_time(clock::now()));
        tokio::select! {
            () = sleep => {}
            () = registry.timer.earlier.notified() => {}
        }
    }
}
