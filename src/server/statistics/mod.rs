//! Figures of what goes on: counted where it happens, summed up here, turned into rates every few seconds.
//!
//! ```text
//!  queue (under its lock) ── Recent ──┐ collect: only queues that changed         ┌─► rates, every interval
//!  exchange ◄── a connection's turn ──┼─► totals of the queue, its vhost, its type ┤
//!  channel (its connection alone)     └─► a connection's turn adds to its vhost    └─► listings, Prometheus
//! ```
//!
//! What the data path pays: plain additions to numbers that it has at hand; once a turn of a connection one lock of the
//! vhost's totals and of the exchanges it published to; once for each queue and look its number on the list of those that
//! changed. A queue that nobody uses costs nothing, however many there are. [`run`] has a thread of its own.
//!
//! Locks: all of them are leaves (under a queue cell at most a vhost's totals and the lists).
//! Not here: how figures look for operators (`operator`), what is counted (`engine::statistics`).

mod churn;
mod exchange;
mod flow;
mod queue;
mod turn;
mod vhost;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use parking_lot::Mutex;

use super::clock;
use super::registry::Registry;
use crate::engine::message::Timestamp;
use crate::engine::queue::QueueId;

pub(crate) use churn::{Churn, Event};
pub(in crate::server) use exchange::{ExchangeStatistics, ExchangeTallies};
pub(crate) use flow::{Flow, GaugeRates, Gauges};
pub(in crate::server) use queue::{QueueTotals, gauges};
pub(in crate::server) use turn::Turn;
pub(crate) use vhost::VhostTotals;

/// Queues whose oldest message only the disk knows that are looked at in one interval.
const ARRIVALS_MAX: usize = 100;

/// The node's part: what changed, and what belongs to no vhost.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    /// Queues that changed since somebody looked, each once.
    dirty: Mutex<Vec<QueueId>>,
    /// Queues with rates.
    hot: Mutex<Vec<QueueId>>,
    hot_exchanges: Mutex<Vec<Arc<ExchangeStatistics>>>,
    /// Recovered queues of which only the disk knows how old their messages are.
    pub(super) unknown_ages: Mutex<Vec<QueueId>>,
    /// What vhosts had that are gone.
    pub(super) gone: Mutex<VhostTotals>,
    pub(super) churn: Mutex<Churn>,
}

impl Statistics {
    /// This queue changed; it is told once until it was collected.
    pub(super) fn queue_changed(&self, id: QueueId) {
        self.dirty.lock().push(id);
    }

    pub(super) fn queue_is_hot(&self, id: QueueId) {
        self.hot.lock().push(id);
    }

    pub(super) fn exchange_is_hot(&self, exchange: &Arc<ExchangeStatistics>) {
        self.hot_exchanges.lock().push(exchange.clone());
    }

    /// Something came or went.
    pub(super) fn note(&self, event: Event, count: u64) {
        self.churn.lock().note(event, count);
    }
}

impl Registry {
    /// Adds up what happened in queues until now.
    pub(crate) fn collect_statistics(&self) {
        let dirty = std::mem::take(&mut *self.statistics.dirty.lock());
        for id in dirty {
            if let Some(cell) = self.queue(id) {
                cell.collect(&self.statistics);
            }
        }
    }

    /// An interval is over: works out rates. Looks only at what has some, or had in the interval before.
    pub(super) fn tick_statistics(&self, interval_ms: u64) {
        self.collect_statistics();
        let hot = std::mem::take(&mut *self.statistics.hot.lock());
        let still = hot.into_iter().filter(|id| self.queue(*id).is_some_and(|cell| cell.tick_statistics(interval_ms)));
        let still: Vec<_> = still.collect();
        self.statistics.hot.lock().extend(still);
        let mut exchanges = std::mem::take(&mut *self.statistics.hot_exchanges.lock());
        exchanges.retain(|exchange| exchange.tick(interval_ms));
        self.statistics.hot_exchanges.lock().extend(exchanges);
        self.queue_order.forget_old();
        self.statistics.gone.lock().tick(interval_ms);
        self.statistics.churn.lock().tick(interval_ms);
        for vhost in self.vhost_cells() {
            vhost.statistics.lock().tick(interval_ms);
            vhost.forget_lost_exchanges();
        }
    }

    /// The sum over all vhosts, those that are gone too.
    pub(crate) fn node_totals(&self) -> VhostTotals {
        self.collect_statistics();
        let mut sum = self.statistics.gone.lock().clone();
        for vhost in self.vhost_cells() {
            sum.add(&vhost.statistics.lock());
        }
        sum
    }

    /// A vhost goes: what it had still counts for the node.
    pub(super) fn keep_statistics_of(&self, totals: &VhostTotals) {
        let mut gone = self.statistics.gone.lock();
        gone.add(totals);
        gone.forget_present();
    }

    /// Asks the disk how old the messages of some recovered queues are.
    fn look_for_arrivals(self: &Arc<Self>) {
        let some: Vec<_> = {
            let mut unknown = self.statistics.unknown_ages.lock();
            let rest = unknown.len().saturating_sub(ARRIVALS_MAX);
            unknown.drain(rest..).collect()
        };
        for id in some {
            if let Some(cell) = self.queue(id) {
                self.look_for_arrival(&cell);
            }
        }
    }
}

/// Works out rates every `interval` until the other end of `stop` is dropped.
pub(super) fn run(registry: &Arc<Registry>, interval: Duration, stop: &Receiver<()>) {
    let mut last = clock::instant();
    while matches!(stop.recv_timeout(interval), Err(RecvTimeoutError::Timeout)) {
        let now = clock::instant();
        let elapsed = now.saturating_duration_since(last);
        last = now;
        registry.tick_statistics(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        registry.look_for_arrivals();
    }
}

/// Milliseconds since then.
pub(crate) fn age_ms(now: Timestamp, since: Timestamp) -> u64 {
    now.as_millis().saturating_sub(since.as_millis())
}
