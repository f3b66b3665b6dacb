//! Connections, channels and consumers, and closing connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leveret_protocol::FieldTable;
use serde::{Deserialize, Serialize};
use tokio::io::DuplexStream;

use super::arguments::Arguments;
use super::message_stats::{MessageStats, Of, Rate};
use super::{Operator, OperatorError};
use crate::engine::queue::ConsumerFigures;
use crate::engine::statistics::Count;
use crate::engine::vhost::ConnectionId;
use crate::error::AmqpError;
use crate::server::connection::facts::{ChannelFigures, ConnectionFacts, ConnectionFigures};
use crate::server::connection::{self, Arrival, Ends};
use crate::server::outbox::{Event, Outbox};
use crate::server::queue_cell::QueueCell;
use crate::server::registry::ConnectionEntry;

/// How long connections may take to tell their figures. One that is stuck is listed without them.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection as listings show it. `None` stands for what a stuck connection did not tell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ConnectionInfo {
    pub(crate) pid: String,
    pub(crate) name: String,
    pub(crate) user_provided_name: String,
    pub(crate) node: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) peer_host: String,
    pub(crate) peer_port: u16,
    pub(crate) ssl: bool,
    /// What was agreed in the TLS handshake; nothing without TLS.
    pub(crate) ssl_protocol: Option<&'static str>,
    pub(crate) ssl_key_exchange: Option<&'static str>,
    pub(crate) ssl_cipher: Option<&'static str>,
    pub(crate) ssl_hash: Option<&'static str>,
    /// Of the client's certificate, if it has one.
    pub(crate) peer_cert_subject: Option<String>,
    pub(crate) peer_cert_issuer: Option<String>,
    pub(crate) peer_cert_validity: Option<String>,
    pub(crate) state: &'static str,
    /// How many are open.
    pub(crate) channels: Option<u64>,
    pub(crate) protocol: &'static str,
    pub(crate) auth_mechanism: String,
    pub(crate) user: String,
    pub(crate) vhost: String,
    /// The heartbeat interval in seconds.
    pub(crate) timeout: u16,
    pub(crate) frame_max: u32,
    pub(crate) channel_max: u16,
    pub(crate) client_properties: Arguments,
    pub(crate) recv_oct: Option<u64>,
    pub(crate) recv_oct_details: Option<Rate>,
    pub(crate) recv_cnt: Option<u64>,
    pub(crate) send_oct: Option<u64>,
    pub(crate) send_oct_details: Option<Rate>,
    pub(crate) send_cnt: Option<u64>,
    pub(crate) send_pend: Option<u64>,
    /// Milliseconds since 1970.
    pub(crate) connected_at: u64,
}

/// A channel as listings show it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ChannelInfo {
    pub(crate) pid: String,
    pub(crate) connection: String,
    pub(crate) name: String,
    pub(crate) number: u16,
    pub(crate) user: String,
    pub(crate) vhost: String,
    pub(crate) node: String,
    pub(crate) state: &'static str,
    pub(crate) transactional: bool,
    pub(crate) confirm: bool,
    pub(crate) consumer_count: u64,
    pub(crate) messages_unacknowledged: u64,
    pub(crate) messages_uncommitted: u64,
    pub(crate) acks_uncommitted: u64,
    pub(crate) messages_unconfirmed: u64,
    pub(crate) prefetch_count: u32,
    pub(crate) global_prefetch_count: u32,
    /// `None` as long as nothing has happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message_stats: Option<MessageStats>,
    /// Its connection.
    #[serde(skip)]
    pub(crate) owner: ConnectionDetails,
}

/// A consumer as listings show it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ConsumerInfo {
    pub(crate) queue_name: String,
    pub(crate) vhost: String,
    pub(crate) channel_pid: String,
    pub(crate) consumer_tag: String,
    pub(crate) ack_required: bool,
    pub(crate) exclusive: bool,
    pub(crate) prefetch_count: u32,
    pub(crate) active: bool,
    pub(crate) activity_status: &'static str,
    pub(crate) arguments: Arguments,
    /// The number of its channel.
    #[serde(skip)]
    pub(crate) channel: u16,
    /// Its connection; `None` when that has just gone.
    #[serde(skip)]
    pub(crate) owner: Option<ConnectionDetails>,
}

/// The connection that a channel, a consumer or an exclusive queue belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionDetails {
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) peer_host: String,
    pub(crate) peer_port: u16,
}

impl ConnectionDetails {
    fn of(facts: &ConnectionFacts) -> Self {
        Self {
            name: facts.name(),
            user: facts.user.to_string(),
            peer_host: facts.ends.peer.ip().to_string(),
            peer_port: facts.ends.peer.port(),
        }
    }
}

/// Which connections are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) struct ConnectionSelection {
    /// Only those of this vhost.
    #[serde(default)]
    pub(crate) vhost: Option<String>,
    /// Only those of this user.
    #[serde(default)]
    pub(crate) user: Option<String>,
    /// This many at most; 0 for all.
    #[serde(default)]
    pub(crate) limit: usize,
    /// Wait this long after each, so that clients do not come back all at once.
    #[serde(default)]
    pub(crate) pause_ms: u64,
}

impl Operator {
    /// Every connection, with what it tells of itself.
    async fn inspected(&self) -> Vec<(ConnectionEntry, Option<ConnectionFigures>)> {
        let asked: Vec<_> = self
            .registry
            .connections()
            .into_iter()
            .map(|connection| {
                let figures = connection.outbox.inspect();
                (connection, figures)
            })
            .collect();
        let deadline = tokio::time::sleep(INSPECT_TIMEOUT);
        tokio::pin!(deadline);
        let mut late = false;
        let mut told = Vec::with_capacity(asked.len());
        for (connection, mut figures) in asked {
            let answer = if late {
                figures.try_recv().ok()
            } else {
                tokio::select! {
                    biased;
                    answer = &mut figures => answer.ok(),
                    () = &mut deadline => {
                        late = true;
                        None
                    }
                }
            };
            told.push((connection, answer));
        }
        told
    }

    /// The open connections, oldest first.
    pub(crate) async fn connections(&self) -> Vec<ConnectionInfo> {
        let inspected = self.inspected().await;
        inspected.iter().map(|(connection, figures)| self.connection_info(connection, figures.as_ref())).collect()
    }

    fn connection_info(&self, connection: &ConnectionEntry, figures: Option<&ConnectionFigures>) -> ConnectionInfo {
        let facts = &connection.facts;
        let (peer, local) = (facts.ends.peer, facts.ends.local);
        let tls = facts.tls.as_deref();
        let certificate = tls.and_then(|tls| tls.peer.as_ref());
        ConnectionInfo {
            pid: self.connection_pid(facts.id),
            name: facts.name(),
            user_provided_name: facts.given_name(),
            node: self.registry.config.node_name.clone(),
            host: local.ip().to_string(),
            port: local.port(),
            peer_host: peer.ip().to_string(),
            peer_port: peer.port(),
            ssl: tls.is_some(),
            ssl_protocol: tls.map(|tls| tls.protocol),
            ssl_key_exchange: tls.map(|tls| tls.key_exchange),
            ssl_cipher: tls.map(|tls| tls.cipher),
            ssl_hash: tls.map(|tls| tls.hash),
            peer_cert_subject: certificate.map(|certificate| certificate.name.clone()),
            peer_cert_issuer: certificate.map(|certificate| certificate.issuer.clone()),
            peer_cert_validity: certificate.map(|certificate| certificate.validity.clone()),
            state: if figures.is_some_and(|figures| figures.blocked) { "blocked" } else { "running" },
            channels: figures.map(|figures| figures.channels.len() as u64),
            protocol: "{0,9,1}",
            auth_mechanism: facts.mechanism.to_string(),
            user: facts.user.to_string(),
            vhost: facts.vhost.to_string(),
            timeout: facts.limits.heartbeat_seconds,
            frame_max: facts.limits.frame_max,
            channel_max: facts.limits.channel_max,
            client_properties: Arguments(facts.client_properties.clone()),
            recv_oct: figures.map(|figures| figures.received_octets),
            recv_oct_details: figures.map(|figures| Rate::of(figures.traffic_rates[Count::ReceivedOctets])),
            recv_cnt: figures.map(|figures| figures.received_calls),
            send_oct: figures.map(|figures| figures.sent_octets),
            send_oct_details: figures.map(|figures| Rate::of(figures.traffic_rates[Count::SentOctets])),
            send_cnt: figures.map(|figures| figures.sent_calls),
            send_pend: figures.map(|figures| figures.pending_octets),
            connected_at: facts.connected_at.as_millis(),
        }
    }

    /// The channels of all connections.
    pub(crate) async fn channels(&self) -> Vec<ChannelInfo> {
        let mut all = Vec::new();
        for (connection, figures) in self.inspected().await {
            let channels = figures.map(|figures| figures.channels).unwrap_or_default();
            all.extend(channels.iter().map(|channel| self.channel_info(&connection, channel)));
        }
        all
    }

    fn channel_info(&self, connection: &ConnectionEntry, channel: &ChannelFigures) -> ChannelInfo {
        let facts = &connection.facts;
        let number = channel.number.get();
        ChannelInfo {
            pid: self.pid(facts.id.get(), number.into()),
            connection: self.connection_pid(facts.id),
            name: format!("{} ({number})", facts.name()),
            number,
            user: facts.user.to_string(),
            vhost: facts.vhost.to_string(),
            node: self.registry.config.node_name.clone(),
            state: "running",
            transactional: channel.transactional,
            confirm: channel.confirm,
            consumer_count: channel.consumers,
            messages_unacknowledged: channel.unacked,
            messages_uncommitted: channel.uncommitted,
            acks_uncommitted: channel.acks_uncommitted,
            messages_unconfirmed: channel.unconfirmed,
            prefetch_count: channel.prefetch,
            global_prefetch_count: channel.global_prefetch,
            message_stats: MessageStats::new(Of::Channel, &channel.counts, &channel.rates),
            owner: ConnectionDetails::of(facts),
        }
    }

    /// The consumers of a vhost by queue, each queue's in the order of subscription.
    pub(crate) fn consumers(&self, vhost: &str) -> Result<Vec<ConsumerInfo>, OperatorError> {
        let vhost = self.vhost(vhost)?;
        let queues: Vec<_> = vhost.state.read().sorted_queues().iter().map(|record| record.id).collect();
        let cells = queues.into_iter().filter_map(|id| self.registry.queue(id));
        Ok(cells.flat_map(|cell| self.consumers_within(&cell)).collect())
    }

    /// The consumers of a queue.
    pub(crate) fn consumers_of(&self, vhost: &str, queue: &str) -> Result<Vec<ConsumerInfo>, OperatorError> {
        let cell = self.queue_cell(vhost, queue)?;
        Ok(self.consumers_within(&cell))
    }

    fn consumers_within(&self, cell: &QueueCell) -> Vec<ConsumerInfo> {
        let single_active = cell.settings().single_active_consumer;
        let info = |(consumer, outbox, arguments): (ConsumerFigures, Arc<Outbox>, FieldTable)| {
            let channel = consumer.channel.get();
            ConsumerInfo {
                queue_name: cell.name.to_string(),
                vhost: cell.vhost.name.to_string(),
                channel_pid: self.pid(outbox.owner.get(), channel.into()),
                consumer_tag: consumer.tag.to_string(),
                ack_required: !consumer.no_ack,
                exclusive: consumer.exclusive,
                prefetch_count: consumer.prefetch,
                active: consumer.active,
                activity_status: match (consumer.active, consumer.exclusive) {
                    (false, _) => "waiting",
                    (true, false) if single_active => "single_active",
                    (true, _) => "up",
                },
                arguments: Arguments(arguments),
                channel,
                owner: self.connection_details(outbox.owner),
            }
        };
        cell.consumers().into_iter().map(info).collect()
    }

    /// The connection with this number.
    pub(super) fn connection_details(&self, id: ConnectionId) -> Option<ConnectionDetails> {
        self.registry.connections.get(&id).map(|entry| ConnectionDetails::of(&entry.facts))
    }

    /// Serves a connection that comes from within the broker, until its other end is closed.
    pub(crate) async fn serve_within(&self, pipe: DuplexStream, peer: SocketAddr, local: SocketAddr) {
        let arrival = Arrival::new(Ends { peer, local, via: None }, &self.registry);
        connection::serve(pipe, arrival, self.registry.clone()).await;
    }

    /// Closes one connection by its process name.
    pub(crate) fn close_connection(&self, pid: &str, reason: &str) -> Result<(), OperatorError> {
        let connections = self.registry.connections();
        let found = connections.iter().find(|connection| self.connection_pid(connection.facts.id) == pid);
        let connection = found.ok_or(OperatorError::NoSuchConnection)?;
        close(connection, reason);
        Ok(())
    }

    /// Who has the connection with this name.
    pub(crate) fn connection_owner(&self, name: &str) -> Result<String, OperatorError> {
        let found = self.registry.connections().into_iter().find(|connection| connection.facts.name() == name);
        found.map(|connection| connection.facts.user.to_string()).ok_or(OperatorError::NoSuchConnection)
    }

    /// Closes the connection with this name.
    pub(crate) fn close_named(&self, name: &str, reason: &str) -> Result<(), OperatorError> {
        let connections = self.registry.connections();
        let found = connections.iter().find(|connection| connection.facts.name() == name);
        close(found.ok_or(OperatorError::NoSuchConnection)?, reason);
        Ok(())
    }

    /// Closes connections; returns how many.
    pub(crate) async fn close_connections(&self, which: &ConnectionSelection, reason: &str) -> usize {
        let is = |wanted: &Option<String>, name: &[u8]| wanted.as_ref().is_none_or(|wanted| wanted.as_bytes() == name);
        let mut chosen: Vec<_> = self
            .registry
            .connections()
            .into_iter()
            .filter(|connection| {
                is(&which.vhost, connection.facts.vhost.as_bytes()) && is(&which.user, connection.facts.user.as_bytes())
            })
            .collect();
        if which.limit > 0 {
            chosen.truncate(which.limit);
        }
        for connection in &chosen {
            close(connection, reason);
            if which.pause_ms > 0 {
                tokio::time::sleep(Duration::from_millis(which.pause_ms)).await;
            }
        }
        chosen.len()
    }
}

fn close(connection: &ConnectionEntry, reason: &str) {
    let (facts, user) = (&connection.facts, &connection.facts.user);
    tracing::info!(connection = facts.id.get(), %user, reason, "connection closed by an operator");
    connection.outbox.push(Event::Close(AmqpError::ConnectionForced(reason.to_owned())));
}
