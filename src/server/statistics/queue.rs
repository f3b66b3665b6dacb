//! The totals of a queue, and how they are brought up to date.

use std::sync::Arc;

use super::{Flow, GaugeRates, Gauges, Statistics};
use crate::engine::message::Timestamp;
use crate::engine::queue::{Queue, QueueAges, QueueFigures};
use crate::engine::statistics::{Count, Histogram, RATE_INTERVAL_MS, Recent};
use crate::server::queue_cell::{Body, CellState, QueueCell};
use crate::server::registry::Registry;
use crate::store::{LaneKey, LoadRequest};

/// What a queue did in all its life, or since the broker started. One that nobody used has none.
#[derive(Clone, Debug)]
pub(in crate::server) struct QueueTotals {
    pub(in crate::server) flow: Flow,
    pub(in crate::server) time_in_queue: Histogram,
    pub(in crate::server) ack_latency: Histogram,
    /// Milliseconds of the interval under way in which messages waited although there were consumers.
    blocked_ms: u64,
    /// The part of the last interval in which none did.
    utilisation: f32,
    ticked: Gauges,
    pub(in crate::server) gauge_rates: GaugeRates,
    hot: bool,
}

impl Default for QueueTotals {
    fn default() -> Self {
        Self {
            flow: Flow::default(),
            time_in_queue: Histogram::default(),
            ack_latency: Histogram::default(),
            blocked_ms: 0,
            utilisation: 1.0,
            ticked: Gauges::default(),
            gauge_rates: GaugeRates::default(),
            hot: false,
        }
    }
}

/// Everything there is to tell of a queue's activity.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct QueueActivity {
    pub(in crate::server) figures: QueueFigures,
    pub(in crate::server) ages: QueueAges,
    pub(in crate::server) totals: Option<Box<QueueTotals>>,
    pub(in crate::server) consumers: u64,
}

impl QueueActivity {
    /// The part of the time in which its consumers took what was there; `None` without consumers.
    pub(in crate::server) fn consumer_capacity(&self, now: Timestamp) -> Option<f64> {
        QueueTotals::capacity(self.totals.as_deref(), self.consumers, self.ages.blocked_since, now)
    }
}

impl QueueTotals {
    /// The same of figures by themselves.
    pub(in crate::server) fn capacity(
        totals: Option<&Self>,
        consumers: u64,
        blocked_since: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<f64> {
        if consumers == 0 {
            return None;
        }
        // Nobody has looked at it since it was blocked.
        if blocked_since.is_some_and(|since| super::age_ms(now, since) >= RATE_INTERVAL_MS) {
            return Some(0.0);
        }
        Some(totals.map_or(1.0, |totals| f64::from(totals.utilisation)))
    }
}

/// What a cell holds at this moment.
pub(in crate::server) fn gauges(body: &Body) -> Gauges {
    match body {
        Body::Queue(queue) => {
            Gauges { ready: queue.ready(), unacked: queue.unacked(), consumers: queue.consumer_count() as u64 }
        }
        Body::Stream(stream) => {
            let figures = stream.figures();
            Gauges { ready: figures.ready, unacked: figures.unacked, consumers: stream.reader_count() as u64 }
        }
    }
}

impl CellState {
    /// Has the cell looked at before figures are told.
    pub(in crate::server) fn mark_changed(&mut self, cell: &QueueCell, statistics: &Statistics) {
        if !std::mem::replace(&mut self.dirty, true) {
            statistics.queue_changed(cell.id);
        }
    }

    fn take_recent(&mut self) -> Option<Box<Recent>> {
        match &mut self.body {
            Body::Queue(queue) => queue.take_recent(),
            Body::Stream(_) => self.stream_recent.take(),
        }
    }

    /// Adds up what happened until now.
    fn collect_into(&mut self, cell: &QueueCell, now: Gauges) {
        let recent = self.take_recent();
        let before = std::mem::replace(&mut self.told, now);
        if before.is_empty() != now.is_empty() {
            let mut occupied = cell.vhost.occupied.lock();
            if now.is_empty() {
                occupied.remove(&cell.id)
            } else {
                occupied.insert(cell.id)
            };
        }
        let queue_type = cell.settings().queue_type;
        cell.vhost.statistics.lock().add_queue(queue_type, recent.as_deref(), before, now);
        if recent.is_none() && self.totals.is_none() {
            return;
        }
        let totals = self.totals.get_or_insert_default();
        if let Some(recent) = recent {
            totals.flow.add(&recent.counts);
            totals.time_in_queue.add(&recent.time_in_queue);
            totals.ack_latency.add(&recent.ack_latency);
            totals.blocked_ms += recent.blocked_ms;
        }
    }

    /// The queue goes: its vhost keeps what it did.
    pub(in crate::server) fn leave_statistics(&mut self, cell: &QueueCell) {
        self.dirty = true;
        self.collect_into(cell, Gauges::default());
    }
}

impl QueueCell {
    /// Adds up what happened until now.
    pub(super) fn collect(&self, statistics: &Statistics) {
        let mut state = self.state.lock();
        let gone = match &state.body {
            Body::Queue(queue) => queue.is_deleted(),
            Body::Stream(stream) => stream.is_deleted(),
        };
        if gone || self.delays {
            return;
        }
        state.dirty = false;
        let now = gauges(&state.body);
        state.collect_into(self, now);
        if let Some(totals) = &mut state.totals
            && !std::mem::replace(&mut totals.hot, true)
        {
            drop(state);
            statistics.queue_is_hot(self.id);
        }
    }

    /// An interval is over. False when there is nothing to look at any more.
    pub(super) fn tick_statistics(&self, interval_ms: u64) -> bool {
        let mut state = self.state.lock();
        let told = state.told;
        let Some(totals) = &mut state.totals else { return false };
        let flows = totals.flow.tick(interval_ms);
        let before = std::mem::replace(&mut totals.ticked, told);
        totals.gauge_rates = GaugeRates::of(before, told, interval_ms);
        let blocked_ms = std::mem::take(&mut totals.blocked_ms).min(interval_ms);
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let blocked = blocked_ms as f32 / interval_ms.max(1) as f32;
        totals.utilisation = 1.0 - blocked;
        totals.hot = flows || blocked_ms > 0 || !totals.gauge_rates.is_zero();
        totals.hot
    }

    /// What there is to tell of it now.
    pub(in crate::server) fn activity(&self) -> QueueActivity {
        let mut state = self.state.lock();
        if !self.delays && state.dirty {
            // It stays on the list of what changed: whoever comes for the rest finds nothing more.
            let now = gauges(&state.body);
            state.collect_into(self, now);
        }
        let (figures, ages) = match &state.body {
            Body::Queue(queue) => (queue.figures(), queue.ages()),
            Body::Stream(stream) => (stream.figures(), QueueAges::default()),
        };
        QueueActivity { figures, ages, consumers: gauges(&state.body).consumers, totals: state.totals.clone() }
    }

    /// A stream did something.
    pub(in crate::server) fn count_in_stream(&self, what: &[Count], count: u64) {
        let mut state = self.state.lock();
        let recent = state.stream_recent.get_or_insert_default();
        for what in what {
            recent.counts[*what] += count;
        }
    }
}

impl Registry {
    /// Asks the disk when the oldest message of a queue came, if only the disk knows.
    pub(super) fn look_for_arrival(self: &Arc<Self>, cell: &Arc<QueueCell>) {
        let Some((lane, from_seq)) = cell.read(Queue::unknown_head).flatten() else { return };
        let cell = cell.clone();
        self.store.load(LoadRequest {
            lane: LaneKey::new(cell.id, lane),
            from_seq,
            max_bytes: 1,
            latest: false,
            window: None,
            reply: Box::new(move |reply| {
                let Some(first) = reply.loaded.first() else { return };
                let arrived = first.arena.message(first.index).enqueued_at();
                if let Body::Queue(queue) = &mut cell.state.lock().body {
                    queue.learn_arrival(lane, from_seq, arrived);
                }
            }),
        });
    }
}
