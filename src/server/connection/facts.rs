//! What there is to see of a connection: facts that never change, and figures that it is asked for.

use std::sync::Arc;

use leveret_protocol::{ChannelId, FieldTable, FieldValue, ShortString};

use super::Ends;
use super::session::Session;
use crate::engine::channel::Mode;
use crate::engine::handshake::Limits;
use crate::engine::message::Timestamp;
use crate::engine::statistics::{Count, Counts, Rates};
use crate::engine::vhost::ConnectionId;
use crate::server::clock;
use crate::server::tls::TlsFacts;

/// What never changes about an open connection.
#[derive(Debug)]
pub(crate) struct ConnectionFacts {
    pub(crate) id: ConnectionId,
    pub(crate) ends: Ends,
    /// What was agreed in its TLS handshake, if it speaks TLS.
    pub(crate) tls: Option<Arc<TlsFacts>>,
    pub(crate) user: ShortString,
    pub(crate) vhost: ShortString,
    /// The SASL mechanism of the login.
    pub(crate) mechanism: ShortString,
    pub(crate) client_properties: FieldTable,
    pub(crate) limits: Limits,
    pub(crate) connected_at: Timestamp,
}

impl ConnectionFacts {
    /// What RabbitMQ calls it.
    pub(crate) fn name(&self) -> String {
        self.ends.link()
    }

    /// What its client calls it; often nothing.
    pub(crate) fn given_name(&self) -> String {
        let name = self.client_properties.get("connection_name").and_then(FieldValue::as_long_str);
        name.map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
    }
}

/// What a connection tells of itself when it is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConnectionFigures {
    pub(crate) received_octets: u64,
    pub(crate) received_calls: u64,
    pub(crate) sent_octets: u64,
    pub(crate) sent_calls: u64,
    /// It published during a resource alarm and waits for its end.
    pub(crate) blocked: bool,
    /// Octets that wait for the socket.
    pub(crate) pending_octets: u64,
    /// Octets received and sent a second.
    pub(crate) traffic_rates: Rates,
    pub(crate) channels: Vec<ChannelFigures>,
}

/// What a connection tells of one of its channels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChannelFigures {
    pub(crate) number: ChannelId,
    pub(crate) confirm: bool,
    pub(crate) transactional: bool,
    pub(crate) consumers: u64,
    pub(crate) unacked: u64,
    pub(crate) unconfirmed: u64,
    pub(crate) uncommitted: u64,
    pub(crate) acks_uncommitted: u64,
    pub(crate) prefetch: u32,
    pub(crate) global_prefetch: u32,
    pub(crate) counts: Counts,
    pub(crate) rates: Rates,
}

impl Session {
    /// What there is to see now.
    pub(super) fn figures(&self) -> ConnectionFigures {
        let sent = self.output.sent();
        let now = clock::now();
        ConnectionFigures {
            received_octets: self.received.octets,
            received_calls: self.received.calls,
            sent_octets: sent.octets,
            sent_calls: sent.calls,
            blocked: self.blocked,
            pending_octets: self.output.total_len() as u64,
            traffic_rates: self.traffic_rates(now),
            channels: self
                .channels
                .iter()
                .map(|channel| {
                    let (unacked, acks_uncommitted) = channel.unacked.counts();
                    let mut counts = channel.counts;
                    counts[Count::Ack] = channel.unacked.acked();
                    let (confirm, unconfirmed, transactional, uncommitted) = match &channel.mode {
                        Mode::Plain => (false, 0, false, 0),
                        Mode::Confirm(confirms) => (true, confirms.unconfirmed(), false, 0),
                        Mode::Tx(held) => (false, 0, true, held.len() as u64),
                    };
                    ChannelFigures {
                        number: channel.id,
                        confirm,
                        transactional,
                        consumers: channel.consumers.len() as u64,
                        unacked,
                        unconfirmed,
                        uncommitted,
                        acks_uncommitted,
                        prefetch: channel.prefetch,
                        global_prefetch: channel.limit.get(),
                        counts,
                        rates: channel.samples.rates(now, &counts),
                    }
                })
                .collect(),
        }
    }
}
