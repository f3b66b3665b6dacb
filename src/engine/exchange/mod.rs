//! Exchanges: routing as pure functions from a message's routing key and headers to destinations (spec §3.1.3).
//!
//! Not here: following exchange-to-exchange bindings and alternate exchanges, and deleting (`vhost`).

mod direct;
mod fanout;
mod headers;
mod topic;

use leveret_protocol::{FieldTable, ShortString};

pub use direct::Direct;
pub use fanout::Fanout;
pub use headers::Headers;
pub use topic::Topic;

use crate::engine::queue::QueueId;
use crate::error::AmqpError;

/// What a binding points at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A queue.
    Queue(QueueId),
    /// Another exchange (RabbitMQ extension).
    Exchange(ShortString),
}

/// Destinations with the number of bindings that lead to each.
#[derive(Debug, Default)]
struct Destinations(Vec<(Destination, u32)>);

impl Destinations {
    fn add(&mut self, destination: &Destination) {
        match self.0.iter_mut().find(|(known, _)| known == destination) {
            Some((_, bindings)) => *bindings += 1,
            None => self.0.push((destination.clone(), 1)),
        }
    }

    fn remove(&mut self, destination: &Destination) {
        if let Some(at) = self.0.iter().position(|(known, _)| known == destination) {
            self.0[at].1 -= 1;
            if self.0[at].1 == 0 {
                self.0.remove(at);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn collect<'a>(&'a self, out: &mut Vec<&'a Destination>) {
        out.extend(self.0.iter().map(|(destination, _)| destination));
    }
}

/// The type of an exchange, with its routing table.
#[derive(Debug)]
pub enum Router {
    /// By equal routing key.
    Direct(Direct),
    /// To everybody.
    Fanout(Fanout),
    /// By pattern.
    Topic(Topic),
    /// By header values.
    Headers(Headers),
}

impl Router {
    /// An empty routing table for this exchange type.
    pub fn new(kind: &ShortString) -> Result<Self, AmqpError> {
        match kind.as_bytes() {
            b"direct" => Ok(Self::Direct(Direct::default())),
            b"fanout" => Ok(Self::Fanout(Fanout::default())),
            b"topic" => Ok(Self::Topic(Topic::default())),
            b"headers" => Ok(Self::Headers(Headers::default())),
            _ => Err(AmqpError::UnknownExchangeType(kind.clone())),
        }
    }

    /// Checks what a binding to an exchange of this type may say.
    pub fn check_binding(&self, arguments: &FieldTable) -> Result<(), AmqpError> {
        match self {
            Self::Headers(_) => Headers::check_binding(arguments),
            Self::Direct(_) | Self::Fanout(_) | Self::Topic(_) => Ok(()),
        }
    }

    /// Adds a binding that was not there.
    pub fn bind(&mut self, key: &ShortString, arguments: &FieldTable, destination: &Destination) {
        match self {
            Self::Direct(direct) => direct.bind(key, destination),
            Self::Fanout(fanout) => fanout.bind(destination),
            Self::Topic(topic) => topic.bind(key, destination),
            Self::Headers(headers) => headers.bind(arguments, destination),
        }
    }

    /// Removes a binding that was there.
    pub fn unbind(&mut self, key: &ShortString, arguments: &FieldTable, destination: &Destination) {
        match self {
            Self::Direct(direct) => direct.unbind(key, destination),
            Self::Fanout(fanout) => fanout.unbind(destination),
            Self::Topic(topic) => topic.unbind(key, destination),
            Self::Headers(headers) => headers.unbind(arguments, destination),
        }
    }

    /// Collects where a message goes; a destination may come more than once.
    ///
    /// `headers` is asked for only by exchanges that route by headers.
    pub fn route<'a>(
        &'a self,
        key: &[u8],
        message_headers: &mut dyn FnMut() -> FieldTable,
        out: &mut Vec<&'a Destination>,
    ) {
        match self {
            Self::Direct(direct) => direct.route(key, out),
            Self::Fanout(fanout) => fanout.route(out),
            Self::Topic(topic) => topic.route(key, out),
            Self::Headers(table) => table.route(&message_headers(), out),
        }
    }

    /// Whether messages with equal exchange and routing key always go the same way: their route may be remembered.
    pub fn routes_by_key(&self) -> bool {
        !matches!(self, Self::Headers(_))
    }
}
