//! Figures for metrics: looked at in passing, without a record for each queue.

use std::cell::OnceCell;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use leveret_protocol::ShortString;
use sha2::{Digest, Sha256};

use super::Operator;
use crate::engine::message::Timestamp;
use crate::engine::queue::{QueueAges, QueueFigures, QueueType};
use crate::engine::statistics::{Count, Histogram};
use crate::server::alarms::Resource;
use crate::server::clock;
use crate::server::queue_cell::{Body, QueueCell};
use crate::server::statistics::{Churn, Flow, Gauges, QueueTotals, VhostTotals, age_ms, gauges};
use crate::store::StoreFigures;

/// A queue that is looked at, under its lock.
pub(crate) struct QueueView<'a> {
    cell: &'a QueueCell,
    body: &'a Body,
    totals: Option<&'a QueueTotals>,
    gauges: Gauges,
    now: Timestamp,
    figures: OnceCell<QueueFigures>,
    ages: OnceCell<QueueAges>,
}

impl QueueView<'_> {
    pub(crate) fn name(&self) -> &ShortString {
        &self.cell.name
    }

    pub(crate) fn vhost(&self) -> &ShortString {
        &self.cell.vhost.name
    }

    pub(crate) fn queue_type(&self) -> QueueType {
        self.cell.settings().queue_type
    }

    pub(crate) fn gauges(&self) -> Gauges {
        self.gauges
    }

    pub(crate) fn count(&self, what: Count) -> u64 {
        self.totals.map_or(0, |totals| totals.flow.counts()[what])
    }

    /// Octets of what it holds. It takes longer than the rest.
    pub(crate) fn figures(&self) -> &QueueFigures {
        self.figures.get_or_init(|| match self.body {
            Body::Queue(queue) => queue.figures(),
            Body::Stream(stream) => stream.figures(),
        })
    }

    fn ages(&self) -> &QueueAges {
        self.ages.get_or_init(|| match self.body {
            Body::Queue(queue) => queue.ages(),
            Body::Stream(_) => QueueAges::default(),
        })
    }

    pub(crate) fn oldest_message_age_ms(&self) -> Option<u64> {
        self.ages().oldest_ready.map(|since| age_ms(self.now, since))
    }

    pub(crate) fn oldest_unacked_age_ms(&self) -> Option<u64> {
        self.ages().oldest_unacked.map(|since| age_ms(self.now, since))
    }

    pub(crate) fn head_message_timestamp(&self) -> Option<u64> {
        self.ages().head_timestamp
    }

    /// For how long ready messages have not moved; `None` if they do.
    pub(crate) fn stalled_ms(&self) -> Option<u64> {
        self.ages().stall.map(|_| age_ms(self.now, self.ages().moved_at))
    }

    /// The part of the time in which consumers took what was there; 0 without consumers.
    pub(crate) fn consumer_capacity(&self) -> f64 {
        let blocked_since = self.ages().blocked_since;
        QueueTotals::capacity(self.totals, self.gauges.consumers, blocked_since, self.now).unwrap_or(0.0)
    }

    pub(crate) fn time_in_queue(&self) -> Histogram {
        self.totals.map(|totals| totals.time_in_queue.clone()).unwrap_or_default()
    }

    pub(crate) fn ack_latency(&self) -> Histogram {
        self.totals.map(|totals| totals.ack_latency.clone()).unwrap_or_default()
    }
}

/// An exchange's figures.
#[derive(Clone, Debug)]
pub(crate) struct ExchangeSample {
    pub(crate) vhost: ShortString,
    pub(crate) name: ShortString,
    pub(crate) flow: Flow,
}

/// The figures of the node.
#[derive(Clone, Debug)]
pub(crate) struct NodeSample {
    pub(crate) totals: VhostTotals,
    pub(crate) churn: Churn,
    pub(crate) store: StoreFigures,
    pub(crate) alarms: Vec<Resource>,
}

/// Looks at queues, each under its lock, until it is enough.
fn view(cells: impl IntoIterator<Item = Arc<QueueCell>>, look: &mut dyn FnMut(&QueueView<'_>) -> bool) {
    let now = clock::now();
    for cell in cells {
        let state = cell.state.lock();
        let view = QueueView {
            cell: &cell,
            body: &state.body,
            totals: state.totals.as_deref(),
            gauges: gauges(&state.body),
            now,
            figures: OnceCell::new(),
            ages: OnceCell::new(),
        };
        if !look(&view) {
            return;
        }
    }
}

impl Operator {
    /// Looks at the queues of some vhosts, or of all, until `look` says that it is enough.
    pub(crate) fn view_queues(&self, vhosts: Option<&[String]>, look: &mut dyn FnMut(&QueueView<'_>) -> bool) {
        self.registry.collect_statistics();
        view(self.cells_of(vhosts), look);
    }

    /// Looks at all queues that have messages.
    pub(crate) fn view_occupied_queues(&self, look: &mut dyn FnMut(&QueueView<'_>) -> bool) {
        self.registry.collect_statistics();
        for vhost in self.registry.vhost_cells() {
            let occupied: Vec<_> = vhost.occupied.lock().iter().copied().collect();
            view(occupied.into_iter().filter_map(|id| self.registry.queue(id)), look);
        }
    }

    /// The exchanges of some vhosts, or of all, that somebody has published to.
    pub(crate) fn exchange_samples(&self, vhosts: Option<&[String]>) -> Vec<ExchangeSample> {
        let mut samples = Vec::new();
        for vhost in self.registry.vhost_cells() {
            if vhosts.is_some_and(|vhosts| !vhosts.iter().any(|name| name.as_bytes() == vhost.name.as_bytes())) {
                continue;
            }
            let records: Vec<_> = {
                let state = vhost.state.read();
                let records = state.sorted_exchanges().into_iter();
                records.map(|record| record.name.clone()).collect()
            };
            samples.extend(records.into_iter().filter_map(|name| {
                let flow = vhost.known_exchange_statistics(&name)?.flow();
                Some(ExchangeSample { vhost: vhost.name.clone(), name, flow })
            }));
        }
        samples
    }

    /// The names of all vhosts, in order.
    pub(crate) fn vhost_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.registry.vhost_cells().iter().map(|vhost| vhost.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// What tells this cluster from others of the same name: made of the names, so that it stays the same.
    pub(crate) fn cluster_id(&self) -> String {
        let config = &self.registry.config;
        let digest = Sha256::digest(format!("{}\n{}", config.node_name, config.identity.cluster_name));
        format!("rabbitmq-cluster-id-{}", BASE64_URL_SAFE_NO_PAD.encode(&digest[..16]))
    }

    /// What the node did.
    pub(crate) fn node_sample(&self) -> NodeSample {
        NodeSample {
            totals: self.registry.node_totals(),
            churn: *self.registry.statistics.churn.lock(),
            store: self.registry.store.figures(),
            alarms: self.registry.resource_status().alarms,
        }
    }
}
