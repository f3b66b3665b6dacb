//! Where messages are moved to, and what they are there.

use std::sync::Arc;

use leveret_protocol::{PropertiesRef, ShortString, table_entries, without_header};
use serde::{Deserialize, Serialize};

use crate::engine::channel::copies::BCC;
use crate::engine::channel::expiration::parse_expiration;
use crate::engine::message::{Body, MessageParts, Timestamp};
use crate::engine::queue::Seen;
use crate::engine::redrive::{Origin, origin, redriven};
use crate::server::operator::{Operator, OperatorError};
use crate::server::queue_cell::QueueCell;
use crate::server::registry::Registry;
use crate::server::transfer::{Load, Parcel, Stays, Target};

/// Where messages are moved to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Destination {
    /// For dead letters: the queue in which each of them died first.
    Source(SourceWord),
    /// A queue. Messages keep the exchange and the routing key that they were published with.
    Queue { queue: String },
    /// An exchange. Without a routing key each message keeps its own; a dead letter the one from before its first death.
    Exchange {
        exchange: String,
        #[serde(default)]
        routing_key: Option<String>,
    },
}

/// The word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourceWord {
    Source,
}

impl Destination {
    /// To where dead letters came from.
    pub(crate) const SOURCE: Self = Self::Source(SourceWord::Source);
}

/// What becomes of a message's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server::operator) enum Headers {
    /// Nothing.
    Untouched,
    /// It is counted that the message was sent back; those that tell its deaths go, unless they are kept.
    Redriven { keep: bool },
}

/// Moves messages to one destination.
#[derive(Debug)]
pub(in crate::server::operator) struct Mover {
    registry: Arc<Registry>,
    to: To,
    headers: Headers,
}

#[derive(Debug)]
enum To {
    Source,
    Queue(Arc<QueueCell>),
    Exchange { exchange: ShortString, routing_key: Option<ShortString> },
}

impl Mover {
    /// Checks a destination in the vhost of a queue.
    pub(in crate::server::operator) fn new(
        operator: &Operator,
        from: &Arc<QueueCell>,
        to: &Destination,
        headers: Headers,
    ) -> Result<Self, OperatorError> {
        let vhost = from.vhost.name.to_string();
        let short = |text: &str| {
            let short = ShortString::try_from(text);
            short.map_err(|_| OperatorError::Invalid(format!("'{text}' is longer than 255 octets")))
        };
        let to = match to {
            Destination::Source(SourceWord::Source) => To::Source,
            Destination::Queue { queue } => To::Queue(operator.queue_cell(&vhost, queue)?),
            Destination::Exchange { exchange, routing_key } => {
                let exchange = short(if exchange == "amq.default" { "" } else { exchange })?;
                let allowed = from.vhost.state.read().check_publish(&exchange);
                allowed.map_err(|cause| OperatorError::Invalid(cause.to_string()))?;
                To::Exchange { exchange, routing_key: routing_key.as_deref().map(short).transpose()? }
            }
        };
        Ok(Self { registry: operator.registry.clone(), to, headers })
    }

    /// Makes a message ready to be moved.
    pub(in crate::server::operator) fn pack(
        &self,
        from: &Arc<QueueCell>,
        seen: &Seen,
        now: Timestamp,
        load: &mut Load,
    ) -> Result<Parcel, Stays> {
        let message = seen.message();
        let changed = match self.headers {
            Headers::Redriven { keep } => Some(redriven(&message, keep)),
            Headers::Untouched => shown(message.properties()),
        };
        let properties = changed.as_deref().unwrap_or(message.properties());
        let mut parts = MessageParts {
            exchange: message.exchange(),
            routing_key: message.routing_key(),
            properties,
            body: Body::Shared(message.shared_body()),
            persistent: message.is_persistent(),
            priority: message.priority(),
            // In a queue of delayed messages its own time to live is the delay.
            expiration_ms: if from.delays { own_expiration_ms(properties) } else { message.expiration_ms() },
            broker_deaths: message.has_broker_deaths() && self.headers != Headers::Redriven { keep: false },
            enqueued_at: now,
        };
        let came_from: Option<Origin> = match &self.to {
            To::Queue(_) | To::Exchange { routing_key: Some(_), .. } => None,
            To::Source | To::Exchange { routing_key: None, .. } => origin(&message),
        };
        let target = match &self.to {
            To::Queue(cell) => Target::Queue(cell.clone()),
            To::Source => {
                let came_from = came_from.as_ref().ok_or(Stays::Unroutable)?;
                (parts.exchange, parts.routing_key) = (&came_from.exchange, &came_from.routing_key);
                let id = from.vhost.state.read().queue_record(&came_from.queue).map(|record| record.id);
                Target::Queue(id.and_then(|id| self.registry.queue(id)).ok_or(Stays::Unroutable)?)
            }
            To::Exchange { exchange, routing_key } => {
                parts.exchange = exchange.as_bytes();
                match (routing_key, &came_from) {
                    (Some(key), _) => parts.routing_key = key.as_bytes(),
                    (None, Some(came_from)) => parts.routing_key = &came_from.routing_key,
                    (None, None) => {}
                }
                Target::Exchange
            }
        };
        self.registry.pack(&from.vhost, seen.pick(), &target, &parts, load)
    }
}

/// Properties without what only the broker may see, if that differs.
fn shown(properties: &[u8]) -> Option<Vec<u8>> {
    let headers = PropertiesRef::decode(properties).ok()?.headers?;
    table_entries(headers).find(BCC).is_some().then(|| without_header(properties, BCC))
}

fn own_expiration_ms(properties: &[u8]) -> Option<u64> {
    PropertiesRef::decode(properties).ok()?.expiration.and_then(|expiration| parse_expiration(expiration).ok())
}
