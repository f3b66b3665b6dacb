//! The totals of a vhost, and of the node as the sum of its vhosts.

use super::{Flow, GaugeRates, Gauges};
use crate::engine::queue::QueueType;
use crate::engine::statistics::{Count, Counts, Histogram, MessageSizes, Recent};

/// The types of queues, in the order of the figures by type.
pub(crate) const QUEUE_TYPES: [QueueType; 3] = [QueueType::Classic, QueueType::Quorum, QueueType::Stream];

fn place(queue_type: QueueType) -> usize {
    match queue_type {
        QueueType::Classic => 0,
        QueueType::Quorum => 1,
        QueueType::Stream => 2,
    }
}

/// What a vhost's connections and queues did.
#[derive(Clone, Debug, Default)]
pub(crate) struct VhostTotals {
    pub(crate) flow: Flow,
    /// What its queues did, by their types.
    by_type: [Counts; QUEUE_TYPES.len()],
    consumers_by_type: [u64; QUEUE_TYPES.len()],
    pub(crate) gauges: Gauges,
    ticked: Gauges,
    pub(crate) gauge_rates: GaugeRates,
    pub(crate) time_in_queue: Histogram,
    pub(crate) ack_latency: Histogram,
    pub(crate) sizes: MessageSizes,
    pub(crate) channels: u64,
    /// Channels that have published.
    pub(crate) publishers: u64,
}

impl VhostTotals {
    /// A connection did this in a turn.
    pub(super) fn add_turn(&mut self, counts: &Counts, sizes: &MessageSizes) {
        self.flow.add(counts);
        self.sizes.add(sizes);
    }

    /// A queue of this type did this, and has now what it has.
    pub(super) fn add_queue(&mut self, queue_type: QueueType, recent: Option<&Recent>, before: Gauges, now: Gauges) {
        self.gauges.change(before, now);
        let consumers = &mut self.consumers_by_type[place(queue_type)];
        *consumers = consumers.wrapping_add(now.consumers).wrapping_sub(before.consumers);
        let Some(recent) = recent else { return };
        self.by_type[place(queue_type)].add(&recent.counts);
        // What is published counts once for the vhost, as what its connections say.
        let mut counts = recent.counts;
        counts[Count::Publish] = 0;
        self.flow.add(&counts);
        self.time_in_queue.add(&recent.time_in_queue);
        self.ack_latency.add(&recent.ack_latency);
    }

    /// Adds up the totals of another vhost.
    pub(crate) fn add(&mut self, other: &Self) {
        self.flow.join(&other.flow);
        for (mine, more) in self.by_type.iter_mut().zip(&other.by_type) {
            mine.add(more);
        }
        for (mine, more) in self.consumers_by_type.iter_mut().zip(&other.consumers_by_type) {
            *mine = mine.wrapping_add(*more);
        }
        self.gauges.change(Gauges::default(), other.gauges);
        self.gauge_rates.add(other.gauge_rates);
        self.time_in_queue.add(&other.time_in_queue);
        self.ack_latency.add(&other.ack_latency);
        self.sizes.add(&other.sizes);
        self.channels += other.channels;
        self.publishers += other.publishers;
    }

    /// Of what is gone only what happened counts.
    pub(super) fn forget_present(&mut self) {
        self.flow.forget_rates();
        (self.gauges, self.ticked, self.gauge_rates) = <(Gauges, Gauges, GaugeRates)>::default();
        self.consumers_by_type = Default::default();
        (self.channels, self.publishers) = (0, 0);
    }

    pub(super) fn tick(&mut self, interval_ms: u64) {
        self.flow.tick(interval_ms);
        self.gauge_rates = GaugeRates::of(self.ticked, self.gauges, interval_ms);
        self.ticked = self.gauges;
    }

    /// What queues did, by type, with how many consumers they have.
    pub(crate) fn by_type(&self) -> impl Iterator<Item = (QueueType, &Counts, u64)> {
        let figures = self.by_type.iter().zip(&self.consumers_by_type);
        QUEUE_TYPES.into_iter().zip(figures).map(|(queue_type, (counts, consumers))| (queue_type, counts, *consumers))
    }
}
