//! Metrics of connections, channels, exchanges and vhosts, one series for each.

use super::Facts;
use super::families::{Family, Wanted};
use super::text::{Kind, Text, written};
use crate::engine::statistics::{Count, Counts};
use crate::server::operator::{ChannelInfo, ConnectionInfo, Operator};

/// Metrics of one kind of thing: name, what it is, help, value.
type Metrics<T> = [(&'static str, Kind, &'static str, fn(&T) -> u64)];

fn write_all<T>(all: &[T], labels: &[String], metrics: &Metrics<T>, text: &mut Text<'_>) {
    for (name, kind, help, value) in metrics {
        text.family(name, *kind, help);
        for (each, labels) in all.iter().zip(labels) {
            text.sample(name, labels, value(each));
        }
    }
}

const CONNECTION_COARSE: &Metrics<ConnectionInfo> = &[
    (
        "connection_incoming_bytes_total",
        Kind::Counter,
        "Total number of bytes received on a connection",
        |connection| connection.recv_oct.unwrap_or(0),
    ),
    ("connection_outgoing_bytes_total", Kind::Counter, "Total number of bytes sent on a connection", |connection| {
        connection.send_oct.unwrap_or(0)
    }),
];

const CONNECTION: &Metrics<ConnectionInfo> = &[
    (
        "connection_incoming_packets_total",
        Kind::Counter,
        "Total number of packets received on a connection",
        |connection| connection.recv_cnt.unwrap_or(0),
    ),
    (
        "connection_outgoing_packets_total",
        Kind::Counter,
        "Total number of packets sent on a connection",
        |connection| connection.send_cnt.unwrap_or(0),
    ),
    ("connection_pending_packets", Kind::Gauge, "Number of packets waiting to be sent on a connection", |connection| {
        connection.send_pend.unwrap_or(0)
    }),
    ("connection_channels", Kind::Gauge, "Channels on a connection", |connection| connection.channels.unwrap_or(0)),
];

const CHANNEL: &Metrics<ChannelInfo> = &[
    ("channel_consumers", Kind::Gauge, "Consumers on a channel", |channel| channel.consumer_count),
    ("channel_messages_unacked", Kind::Gauge, "Delivered but not yet acknowledged messages", |channel| {
        channel.messages_unacknowledged
    }),
    ("channel_messages_unconfirmed", Kind::Gauge, "Published but not yet confirmed messages", |channel| {
        channel.messages_unconfirmed
    }),
    (
        "channel_messages_uncommitted",
        Kind::Gauge,
        "Messages received in a transaction but not yet committed",
        |channel| channel.messages_uncommitted,
    ),
    (
        "channel_acks_uncommitted",
        Kind::Gauge,
        "Message acknowledgements in a transaction not yet committed",
        |channel| channel.acks_uncommitted,
    ),
    ("consumer_prefetch", Kind::Gauge, "Limit of unacknowledged messages for each consumer", |channel| {
        channel.prefetch_count.into()
    }),
    (
        "channel_prefetch",
        Kind::Gauge,
        "Total limit of unacknowledged messages for all consumers on a channel",
        |channel| channel.global_prefetch_count.into(),
    ),
];

/// Counters of channels, by family.
const CHANNEL_COUNTS: &[(Family, &str, &str, Count)] = &[
    (
        Family::ChannelExchange,
        "channel_messages_published_total",
        "Total number of messages published into an exchange on a channel",
        Count::Publish,
    ),
    (
        Family::ChannelExchange,
        "channel_messages_confirmed_total",
        "Total number of messages published into an exchange and confirmed on the channel",
        Count::Confirm,
    ),
    (
        Family::ChannelExchange,
        "channel_messages_unroutable_returned_total",
        "Total number of messages published as mandatory into an exchange and returned to the publisher as unroutable",
        Count::ReturnUnroutable,
    ),
    (
        Family::ChannelExchange,
        "channel_messages_unroutable_dropped_total",
        "Total number of messages published as non-mandatory into an exchange and dropped as unroutable",
        Count::DropUnroutable,
    ),
    (
        Family::ChannelQueue,
        "channel_get_ack_total",
        "Total number of messages fetched with basic.get in manual acknowledgement mode",
        Count::Get,
    ),
    (
        Family::ChannelQueue,
        "channel_get_total",
        "Total number of messages fetched with basic.get in automatic acknowledgement mode",
        Count::GetNoAck,
    ),
    (
        Family::ChannelQueue,
        "channel_messages_delivered_ack_total",
        "Total number of messages delivered to consumers in manual acknowledgement mode",
        Count::Deliver,
    ),
    (
        Family::ChannelQueue,
        "channel_messages_delivered_total",
        "Total number of messages delivered to consumers in automatic acknowledgement mode",
        Count::DeliverNoAck,
    ),
    (
        Family::ChannelQueue,
        "channel_messages_redelivered_total",
        "Total number of messages redelivered to consumers",
        Count::Redeliver,
    ),
    (
        Family::ChannelQueue,
        "channel_messages_acked_total",
        "Total number of messages acknowledged by consumers",
        Count::Ack,
    ),
    (
        Family::ChannelQueue,
        "channel_get_empty_total",
        "Total number of times basic.get operations fetched no message",
        Count::GetEmpty,
    ),
];

/// What connections and channels told of themselves.
#[derive(Debug, Default)]
pub(super) struct Peers {
    connections: Vec<ConnectionInfo>,
    channels: Vec<ChannelInfo>,
}

const OF_CONNECTIONS: [Family; 2] = [Family::ConnectionCoarse, Family::Connection];
const OF_CHANNELS: [Family; 3] = [Family::Channel, Family::ChannelExchange, Family::ChannelQueue];

impl Peers {
    /// Asks those who are wanted.
    pub(super) async fn ask(operator: &Operator, wanted: &Wanted) -> Self {
        let mut peers = Self::default();
        if wanted.has_any(&OF_CONNECTIONS) {
            peers.connections = operator.connections().await;
        }
        if wanted.has_any(&OF_CHANNELS) {
            peers.channels = operator.channels().await;
        }
        let within = |vhost: &String| wanted.vhosts.as_ref().is_none_or(|vhosts| vhosts.contains(vhost));
        peers.connections.retain(|connection| within(&connection.vhost));
        peers.channels.retain(|channel| within(&channel.vhost));
        peers
    }

    pub(super) fn write(&self, wanted: &Wanted, text: &mut Text<'_>) {
        let connections: Vec<String> =
            self.connections.iter().map(|connection| written(&[("connection", &connection.pid)])).collect();
        if wanted.has(Family::ConnectionCoarse) {
            write_all(&self.connections, &connections, CONNECTION_COARSE, text);
        }
        if wanted.has(Family::Connection) {
            write_all(&self.connections, &connections, CONNECTION, text);
        }
        let channels: Vec<String> = self.channels.iter().map(|channel| written(&[("channel", &channel.pid)])).collect();
        if wanted.has(Family::Channel) {
            write_all(&self.channels, &channels, CHANNEL, text);
        }
        for (family, name, help, count) in CHANNEL_COUNTS.iter().filter(|(family, ..)| wanted.has(*family)) {
            debug_assert!(OF_CHANNELS.contains(family), "channels are asked for it");
            text.family(name, Kind::Counter, help);
            for (channel, labels) in self.channels.iter().zip(&channels) {
                let counts = channel.message_stats.as_ref().map(|stats| stats.counts).unwrap_or_default();
                text.sample(name, labels, counts[*count]);
            }
        }
    }
}

/// Writes what is the same on every node of a cluster.
pub(super) fn write_cluster(operator: &Operator, facts: &Facts, wanted: &Wanted, text: &mut Text<'_>) {
    if wanted.has(Family::ExchangeNames) {
        text.family("exchange_name", Kind::Gauge, "Enumerates exchanges without any additional info");
        each_exchange(operator, facts, wanted, |labels, kind| {
            let labels = [labels[0], labels[1], ("type", kind)];
            text.sample("exchange_name", &written(&labels), 1);
        });
    }
    if wanted.has(Family::ExchangeBindings) {
        bindings(operator, facts, wanted, text);
    }
    if wanted.has(Family::VhostStatus) {
        text.family("vhost_status", Kind::Gauge, "Whether a given vhost is running");
        for vhost in vhosts(facts, wanted) {
            text.sample("vhost_status", &written(&[("vhost", vhost)]), 1);
        }
    }
}

fn vhosts<'a>(facts: &'a Facts, wanted: &'a Wanted) -> impl Iterator<Item = &'a str> {
    let within = |vhost: &&String| wanted.vhosts.as_ref().is_none_or(|vhosts| vhosts.contains(vhost));
    facts.vhosts.iter().filter(within).map(String::as_str)
}

/// Writes what is wanted of exchanges.
pub(super) fn write_exchanges(operator: &Operator, wanted: &Wanted, text: &mut Text<'_>) {
    if !wanted.has(Family::Exchange) {
        return;
    }
    let samples = operator.exchange_samples(wanted.vhosts.as_deref());
    let labels: Vec<String> = samples
        .iter()
        .map(|sample| written(&[("vhost", &sample.vhost.to_string()), ("exchange", &sample.name.to_string())]))
        .collect();
    for (name, help, count) in [
        (
            "exchange_messages_published_in_total",
            "Total number of messages published into an exchange",
            Count::PublishIn,
        ),
        (
            "exchange_messages_published_out_total",
            "Total number of messages routed from an exchange to queues",
            Count::PublishOut,
        ),
    ] {
        text.family(name, Kind::Counter, help);
        for (sample, labels) in samples.iter().zip(&labels) {
            let counts: &Counts = sample.flow.counts();
            text.sample(name, labels, counts[count]);
        }
    }
}

fn each_exchange(operator: &Operator, facts: &Facts, wanted: &Wanted, mut note: impl FnMut([(&str, &str); 2], &str)) {
    for vhost in vhosts(facts, wanted) {
        for exchange in operator.exchanges(vhost).unwrap_or_default() {
            note([("vhost", vhost), ("exchange", &exchange.name)], &exchange.kind);
        }
    }
}

fn bindings(operator: &Operator, facts: &Facts, wanted: &Wanted, text: &mut Text<'_>) {
    text.family("exchange_bindings", Kind::Gauge, "Number of bindings for an exchange");
    for vhost in vhosts(facts, wanted) {
        let mut counts = std::collections::HashMap::new();
        for binding in operator.bindings(vhost).unwrap_or_default() {
            *counts.entry(binding.source_name).or_insert(0_u64) += 1;
        }
        for exchange in operator.exchanges(vhost).unwrap_or_default() {
            let labels = [("vhost", vhost), ("exchange", exchange.name.as_str()), ("type", exchange.kind.as_str())];
            text.sample("exchange_bindings", &written(&labels), counts.get(&exchange.name).copied().unwrap_or(0));
        }
    }
}
