//! Exchanges: routing as pure functions from a message's routing keys and headers to destinations (spec §3.1.3).
//!
//! Not here: following exchange-to-exchange bindings and alternate exchanges, and deleting (`vhost`).

mod consistent_hash;
pub mod delayed;
mod direct;
mod fanout;
mod hashing;
mod headers;
mod recent_history;
mod spread;
mod topic;

use std::cell::OnceCell;

use leveret_protocol::{FieldTable, PropertiesRef, ShortString, ValueRef, table_entries};

pub use consistent_hash::ConsistentHash;
pub use direct::Direct;
pub use fanout::Fanout;
pub use headers::Headers;
pub use recent_history::{HISTORY_MAX_BYTES, History};
pub use spread::Spread;
pub use topic::Topic;

use crate::engine::dead_letter::headers_of_properties;
use crate::engine::queue::{QueueId, QueueType};
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

/// What exchanges look at in a message.
#[derive(Debug)]
pub struct Routing<'a> {
    /// Its routing keys: the one it was published with, and those of `CC` and `BCC`.
    pub keys: &'a [&'a [u8]],
    /// Property flags and list.
    pub properties: &'a [u8],
    /// A random number, for exchanges that choose at random.
    pub seed: u64,
    headers: OnceCell<FieldTable>,
}

impl<'a> Routing<'a> {
    /// A message with these keys and encoded properties.
    pub const fn new(keys: &'a [&'a [u8]], properties: &'a [u8], seed: u64) -> Self {
        Self { keys, properties, seed, headers: OnceCell::new() }
    }

    /// The header table, decoded when it is first asked for; empty if there is none.
    fn headers(&self) -> &FieldTable {
        self.headers.get_or_init(|| headers_of_properties(self.properties))
    }

    /// One header, without decoding the others.
    fn header(&self, name: &[u8]) -> Option<ValueRef<'a>> {
        let properties = PropertiesRef::decode(self.properties).ok()?;
        table_entries(properties.headers?).find(name)
    }
}

/// Destinations collected, with repetitions, before the repetitions are dropped.
const COLLECTED_MAX: usize = 4096;

/// Collects where each of the routing keys leads. A message may have thousands of keys, each of which leads everywhere.
fn each_key<'a>(
    routing: &Routing<'_>,
    out: &mut Vec<&'a Destination>,
    route: impl Fn(&[u8], &mut Vec<&'a Destination>),
) {
    let mut compact_at = COLLECTED_MAX;
    for key in routing.keys {
        route(key, out);
        if out.len() > compact_at {
            out.sort_unstable();
            out.dedup();
            compact_at = 2 * out.len() + COLLECTED_MAX;
        }
    }
}

/// What a new binding points at, as far as exchanges care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundTo {
    /// A queue of this type.
    Queue(QueueType),
    /// An exchange.
    Exchange,
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
    /// To one destination, by hash and weight.
    ConsistentHash(ConsistentHash),
    /// To one binding, by hash.
    ModulusHash(Spread),
    /// To one binding, at random.
    Random(Spread),
    /// To one queue of this node, at random.
    LocalRandom(Spread),
    /// To everybody, and to whoever is bound later.
    RecentHistory(Fanout, History),
    /// As another type does, after a delay.
    Delayed(Box<Self>),
}

impl Router {
    /// Whether there is such an exchange type.
    pub fn check_type(kind: &ShortString) -> Result<(), AmqpError> {
        match kind.as_bytes() {
            b"direct" | b"fanout" | b"topic" | b"headers" | b"x-consistent-hash" | b"x-modulus-hash" | b"x-random"
            | b"x-local-random" | b"x-recent-history" | b"x-delayed-message" => Ok(()),
            _ => Err(AmqpError::UnknownExchangeType(kind.clone())),
        }
    }

    /// An empty routing table for this exchange type, if its arguments are valid.
    pub fn new(kind: &ShortString, arguments: &FieldTable) -> Result<Self, AmqpError> {
        match kind.as_bytes() {
            b"direct" => Ok(Self::Direct(Direct::default())),
            b"fanout" => Ok(Self::Fanout(Fanout::default())),
            b"topic" => Ok(Self::Topic(Topic::default())),
            b"headers" => Ok(Self::Headers(Headers::default())),
            b"x-consistent-hash" => ConsistentHash::new(arguments).map(Self::ConsistentHash),
            b"x-modulus-hash" => Ok(Self::ModulusHash(Spread::default())),
            b"x-random" => Ok(Self::Random(Spread::default())),
            b"x-local-random" => Ok(Self::LocalRandom(Spread::default())),
            b"x-recent-history" => Ok(Self::RecentHistory(Fanout::default(), History::new(arguments)?)),
            b"x-delayed-message" => {
                let kind = delayed::delayed_type(arguments)?;
                Self::new(&kind, arguments).map(|router| Self::Delayed(Box::new(router)))
            }
            _ => Err(AmqpError::UnknownExchangeType(kind.clone())),
        }
    }

    /// Checks what a binding to an exchange of this type may say.
    pub fn check_binding(
        &self,
        key: &ShortString,
        arguments: &FieldTable,
        destination: BoundTo,
    ) -> Result<(), AmqpError> {
        match self {
            Self::Headers(_) => Headers::check_binding(arguments),
            Self::ConsistentHash(_) => ConsistentHash::check_binding(key),
            Self::LocalRandom(_) => Spread::check_local_binding(key, destination),
            Self::Delayed(router) => router.check_binding(key, arguments, destination),
            Self::Direct(_)
            | Self::Fanout(_)
            | Self::Topic(_)
            | Self::ModulusHash(_)
            | Self::Random(_)
            | Self::RecentHistory(..) => Ok(()),
        }
    }

    /// Adds a binding that was not there.
    pub fn bind(&mut self, key: &ShortString, arguments: &FieldTable, destination: &Destination) {
        match self {
            Self::Direct(direct) => direct.bind(key, destination),
            Self::Fanout(fanout) | Self::RecentHistory(fanout, _) => fanout.bind(destination),
            Self::Topic(topic) => topic.bind(key, destination),
            Self::Headers(headers) => headers.bind(arguments, destination),
            Self::ConsistentHash(hash) => hash.bind(key, destination),
            Self::ModulusHash(spread) | Self::Random(spread) | Self::LocalRandom(spread) => spread.bind(destination),
            Self::Delayed(router) => router.bind(key, arguments, destination),
        }
    }

    /// Removes a binding that was there.
    pub fn unbind(&mut self, key: &ShortString, arguments: &FieldTable, destination: &Destination) {
        match self {
            Self::Direct(direct) => direct.unbind(key, destination),
            Self::Fanout(fanout) | Self::RecentHistory(fanout, _) => fanout.unbind(destination),
            Self::Topic(topic) => topic.unbind(key, destination),
            Self::Headers(headers) => headers.unbind(arguments, destination),
            Self::ConsistentHash(hash) => hash.unbind(key, destination),
            Self::ModulusHash(spread) | Self::Random(spread) | Self::LocalRandom(spread) => spread.unbind(destination),
            Self::Delayed(router) => router.unbind(key, arguments, destination),
        }
    }

    /// Collects where a message goes; a destination may come more than once.
    pub fn route<'a>(&'a self, routing: &Routing<'_>, out: &mut Vec<&'a Destination>) {
        match self {
            Self::Direct(direct) => each_key(routing, out, |key, out| direct.route(key, out)),
            Self::Fanout(fanout) | Self::RecentHistory(fanout, _) => fanout.route(out),
            Self::Topic(topic) => each_key(routing, out, |key, out| topic.route(key, out)),
            Self::Headers(table) => table.route(routing.headers(), out),
            Self::ConsistentHash(hash) => hash.route(routing, out),
            Self::ModulusHash(spread) => spread.route_by_hash(routing, out),
            Self::Random(spread) | Self::LocalRandom(spread) => spread.route_at_random(routing, out),
            Self::Delayed(router) => router.route(routing, out),
        }
    }

    /// Whether messages with equal exchange and routing key always go the same way: their route may be remembered.
    pub fn routes_by_key(&self) -> bool {
        match self {
            Self::Direct(_) | Self::Fanout(_) | Self::Topic(_) | Self::ModulusHash(_) => true,
            Self::ConsistentHash(hash) => hash.routes_by_key(),
            Self::Headers(_) | Self::Random(_) | Self::LocalRandom(_) | Self::RecentHistory(..) | Self::Delayed(_) => {
                false
            }
        }
    }

    /// Whether messages may have to wait before they are routed.
    pub const fn delays(&self) -> bool {
        matches!(self, Self::Delayed(_))
    }

    /// For how many milliseconds a message is to wait before it is routed.
    pub fn delay_ms(&self, routing: &Routing<'_>) -> Option<u64> {
        if self.delays() { delayed::delay_ms(routing) } else { None }
    }

    /// Whether the exchange is to remember this message.
    pub fn remembers(&self, routing: &Routing<'_>) -> bool {
        self.history().is_some() && History::wants(routing)
    }

    /// What the exchange remembers, if its type does.
    pub fn history(&self) -> Option<&History> {
        match self {
            Self::RecentHistory(_, history) => Some(history),
            Self::Delayed(router) => router.history(),
            Self::Direct(_)
            | Self::Fanout(_)
            | Self::Topic(_)
            | Self::Headers(_)
            | Self::ConsistentHash(_)
            | Self::ModulusHash(_)
            | Self::Random(_)
            | Self::LocalRandom(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn history_mut(&mut self) -> Option<&mut History> {
        match self {
            Self::RecentHistory(_, history) => Some(history),
            Self::Delayed(router) => router.history_mut(),
            Self::Direct(_)
            | Self::Fanout(_)
            | Self::Topic(_)
            | Self::Headers(_)
            | Self::ConsistentHash(_)
            | Self::ModulusHash(_)
            | Self::Random(_)
            | Self::LocalRandom(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_keys_collect_no_more_than_there_is() {
        let mut topic = Topic::default();
        let all = ShortString::from_static("#");
        for number in 0..100 {
            topic.bind(&all, &Destination::Queue(QueueId::new(number)));
        }
        let names: Vec<String> = (0..2000).map(|number| format!("k{number}")).collect();
        let keys: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        let mut out = Vec::new();
        let router = Router::Topic(topic);
        router.route(&Routing::new(&keys, &[0, 0], 0), &mut out);
        assert!(out.len() < 2 * COLLECTED_MAX, "{}", out.len());
        out.sort();
        out.dedup();
        assert_eq!(out.len(), 100);
    }
}
