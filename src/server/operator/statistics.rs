//! Totals of the node and of vhosts.

use serde::Serialize;

use super::Operator;
use super::message_stats::{MessageStats, Of, Rate};
use crate::server::registry::VhostCell;
use crate::server::statistics::{Churn, Event, GaugeRates, Gauges, VhostTotals};

/// Messages in queues, with how fast they become more.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct QueueTotals {
    pub(crate) messages: u64,
    pub(crate) messages_details: Rate,
    pub(crate) messages_ready: u64,
    pub(crate) messages_ready_details: Rate,
    pub(crate) messages_unacknowledged: u64,
    pub(crate) messages_unacknowledged_details: Rate,
}

impl QueueTotals {
    pub(super) fn of(gauges: Gauges, rates: GaugeRates) -> Self {
        Self {
            messages: gauges.ready + gauges.unacked,
            messages_details: Rate::of(rates.ready + rates.unacked),
            messages_ready: gauges.ready,
            messages_ready_details: Rate::of(rates.ready),
            messages_unacknowledged: gauges.unacked,
            messages_unacknowledged_details: Rate::of(rates.unacked),
        }
    }
}

/// How many there are of what.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct ObjectTotals {
    pub(crate) channels: u64,
    pub(crate) connections: u64,
    pub(crate) consumers: u64,
    pub(crate) exchanges: u64,
    pub(crate) queues: u64,
}

/// What comes and goes, and how fast.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ChurnRates {
    channel_closed: u64,
    channel_closed_details: Rate,
    channel_created: u64,
    channel_created_details: Rate,
    connection_closed: u64,
    connection_closed_details: Rate,
    connection_created: u64,
    connection_created_details: Rate,
    queue_created: u64,
    queue_created_details: Rate,
    queue_declared: u64,
    queue_declared_details: Rate,
    queue_deleted: u64,
    queue_deleted_details: Rate,
}

impl ChurnRates {
    fn of(churn: &Churn) -> Self {
        let rate = |event| Rate::of(churn.rate(event));
        Self {
            channel_closed: churn.count(Event::ChannelClosed),
            channel_closed_details: rate(Event::ChannelClosed),
            channel_created: churn.count(Event::ChannelCreated),
            channel_created_details: rate(Event::ChannelCreated),
            connection_closed: churn.count(Event::ConnectionClosed),
            connection_closed_details: rate(Event::ConnectionClosed),
            connection_created: churn.count(Event::ConnectionCreated),
            connection_created_details: rate(Event::ConnectionCreated),
            queue_created: churn.count(Event::QueueCreated),
            queue_created_details: rate(Event::QueueCreated),
            queue_declared: churn.count(Event::QueueDeclared),
            queue_declared_details: rate(Event::QueueDeclared),
            queue_deleted: churn.count(Event::QueueDeleted),
            queue_deleted_details: rate(Event::QueueDeleted),
        }
    }
}

/// What an overview shows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NodeStatistics {
    /// `None` if nothing has happened yet.
    pub(crate) message_stats: Option<MessageStats>,
    pub(crate) churn_rates: ChurnRates,
    pub(crate) queue_totals: QueueTotals,
    pub(crate) object_totals: ObjectTotals,
}

/// What a listing of vhosts shows of one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct VhostFigures {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message_stats: Option<MessageStats>,
    #[serde(flatten)]
    pub(crate) queue_totals: QueueTotals,
    pub(crate) recv_oct: u64,
    pub(crate) recv_oct_details: Rate,
    pub(crate) send_oct: u64,
    pub(crate) send_oct_details: Rate,
}

impl Operator {
    /// Totals of the node, or of these vhosts only.
    pub(crate) fn statistics(&self, vhosts: Option<&[String]>) -> NodeStatistics {
        let registry = &self.registry;
        let mut objects = ObjectTotals::default();
        let mut sum = if vhosts.is_none() { registry.node_totals() } else { VhostTotals::default() };
        if vhosts.is_some() {
            registry.collect_statistics();
        }
        for vhost in registry.vhost_cells() {
            let wanted =
                vhosts.is_none_or(|vhosts| vhosts.iter().any(|wanted| wanted.as_bytes() == vhost.name.as_bytes()));
            if !wanted {
                continue;
            }
            if vhosts.is_some() {
                sum.add(&vhost.statistics.lock());
            }
            let state = vhost.state.read();
            objects.exchanges += state.exchanges().count() as u64;
            objects.queues += state.queues().count() as u64;
            objects.connections += vhost.connections.taken();
        }
        objects.channels = sum.channels;
        objects.consumers = sum.gauges.consumers;
        NodeStatistics {
            message_stats: MessageStats::new(Of::Vhost, sum.flow.counts(), sum.flow.rates()),
            churn_rates: ChurnRates::of(&registry.statistics.churn.lock()),
            queue_totals: QueueTotals::of(sum.gauges, sum.gauge_rates),
            object_totals: objects,
        }
    }

    /// What one vhost did and holds.
    pub(crate) fn vhost_figures(&self, vhost: &str) -> Result<VhostFigures, super::OperatorError> {
        let vhost = self.vhost(vhost)?;
        self.registry.collect_statistics();
        Ok(vhost_figures(&vhost))
    }
}

fn vhost_figures(vhost: &VhostCell) -> VhostFigures {
    use crate::engine::statistics::Count::{ReceivedOctets, SentOctets};
    let totals = vhost.statistics.lock();
    let (counts, rates) = (totals.flow.counts(), totals.flow.rates());
    VhostFigures {
        message_stats: MessageStats::new(Of::Vhost, counts, rates),
        queue_totals: QueueTotals::of(totals.gauges, totals.gauge_rates),
        recv_oct: counts[ReceivedOctets],
        recv_oct_details: Rate::of(rates[ReceivedOctets]),
        send_oct: counts[SentOctets],
        send_oct_details: Rate::of(rates[SentOctets]),
    }
}
