//! Where a message goes: from exchange to exchange, to the alternate exchange where nothing matches, each queue once.

use std::collections::HashSet;
use std::sync::Arc;

use leveret_protocol::ShortString;

use super::{Binding, Vhost};
use crate::engine::exchange::{Destination, Routing};
use crate::engine::message::Arena;
use crate::engine::names::is_reply_name;
use crate::engine::queue::QueueId;
use crate::error::AmqpError;

/// Where a message goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The queues, each once.
    pub queues: Vec<QueueId>,
    /// Every message with this exchange and routing key goes there.
    pub by_key: bool,
    /// Names of reply consumers (direct reply-to) among the routing keys; whether they exist is not known here.
    pub replies: Vec<ShortString>,
    /// Internal queues in which the message is to wait, with the milliseconds.
    pub delays: Vec<(QueueId, u64)>,
    /// Exchanges that are to remember it: [`Vhost::remember`].
    pub histories: Vec<ShortString>,
}

impl Route {
    /// Whether anybody gets the message now.
    pub fn is_routed(&self) -> bool {
        !self.queues.is_empty() || !self.replies.is_empty()
    }
}

impl Vhost {
    /// Whether a client may publish to this exchange.
    pub fn check_publish(&self, exchange: &ShortString) -> Result<(), AmqpError> {
        if self.exchange(exchange)?.record.internal {
            return Err(AmqpError::InternalExchange { exchange: exchange.clone(), vhost: self.name.clone() });
        }
        Ok(())
    }

    /// Where a client's message goes.
    pub fn route_publish(&self, exchange: &ShortString, routing: &Routing<'_>) -> Result<Route, AmqpError> {
        self.check_publish(exchange)?;
        Ok(self.route(exchange.as_bytes(), routing).unwrap_or_default())
    }

    /// Where a message goes from this exchange; `None` if there is no such exchange.
    ///
    /// Each exchange is visited once, each queue gets the message once. An exchange whose own bindings match nothing hands
    /// the message to its alternate exchange. One that delays the message keeps it from going on there.
    pub fn route(&self, exchange: &[u8], routing: &Routing<'_>) -> Option<Route> {
        let first = self.exchanges.get(exchange)?;
        let mut route = Route { by_key: true, ..Route::default() };
        let mut seen = HashSet::new();
        let mut visited: Vec<&[u8]> = vec![first.record.name.as_bytes()];
        let mut work = vec![first];
        while let Some(exchange) = work.pop() {
            if exchange.record.name.is_empty() {
                self.route_by_name(routing, &mut route, &mut seen);
                continue;
            }
            route.by_key &= exchange.router.routes_by_key();
            if let Some(delay_ms) = exchange.router.delay_ms(routing)
                && let Some(queue) = exchange.delay_queue
            {
                route.delays.push((queue, delay_ms));
                continue;
            }
            if exchange.router.remembers(routing) {
                route.histories.push(exchange.record.name.clone());
            }
            let mut destinations = Vec::new();
            exchange.router.route(routing, &mut destinations);
            let mut onward: Vec<&ShortString> = Vec::new();
            if destinations.is_empty() {
                onward.extend(&exchange.alternate);
            }
            for destination in destinations {
                match destination {
                    Destination::Queue(id) => {
                        if seen.insert(*id) {
                            route.queues.push(*id);
                        }
                    }
                    Destination::Exchange(name) => onward.push(name),
                }
            }
            for name in onward {
                if let Some(exchange) = self.exchanges.get(name.as_bytes())
                    && !visited.contains(&name.as_bytes())
                {
                    visited.push(name.as_bytes());
                    work.push(exchange);
                }
            }
        }
        Some(route)
    }

    /// The default exchange: each key is the name of a queue, or of somebody who waits for a reply.
    fn route_by_name(&self, routing: &Routing<'_>, route: &mut Route, seen: &mut HashSet<QueueId>) {
        for key in routing.keys {
            if let Some(queue) = self.queues.get(*key) {
                if seen.insert(queue.id) {
                    route.queues.push(queue.id);
                }
            } else if is_reply_name(key) {
                // Replies are not remembered routes: there is a name for every requester.
                route.by_key = false;
                if let Ok(name) = ShortString::try_from(*key)
                    && !route.replies.contains(&name)
                {
                    route.replies.push(name);
                }
            }
        }
    }

    /// Has these exchanges remember a message: what [`Route::histories`] names, in the same breath as routing it, so that
    /// a queue bound meanwhile neither misses the message nor gets it twice.
    pub fn remember(&mut self, histories: &[ShortString], message: &Arc<Arena>) {
        for name in histories {
            if let Some(history) =
                self.exchanges.get_mut(name.as_bytes()).and_then(|exchange| exchange.router.history_mut())
            {
                history.keep(message.clone());
            }
        }
    }

    /// What a new binding brings with it: the messages that its source remembers, if it is not there yet.
    pub fn history_for(&self, binding: &Binding) -> Vec<Arc<Arena>> {
        let Some(history) =
            self.exchanges.get(binding.source.as_bytes()).and_then(|exchange| exchange.router.history())
        else {
            return Vec::new();
        };
        if self.inbound.get(&binding.destination).is_some_and(|inbound| inbound.contains_key(&binding.identity())) {
            return Vec::new();
        }
        history.messages().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use leveret_protocol::{BasicProperties, FieldTable, FieldValue};

    use super::*;
    use crate::engine::directory::Access;
    use crate::engine::message::{ArenaBuilder, Body, MessageParts, Timestamp};
    use crate::engine::vhost::{Change, ConnectionId, ExchangeRecord, QueueDeclaration, long_string};

    const DELAYS: QueueId = QueueId::new(50);

    fn name(text: &'static str) -> ShortString {
        ShortString::from_static(text)
    }

    fn declare(vhost: &mut Vhost, exchange: &'static str, kind: &'static str, argument: Option<(&'static str, &str)>) {
        let record = ExchangeRecord {
            name: name(exchange),
            kind: name(kind),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: argument.into_iter().map(|(key, text)| (name(key), long_string(text.as_bytes()))).collect(),
        };
        vhost.declare_exchange(record, &Access::unlimited(), || DELAYS).expect("declared");
    }

    fn add_queue(vhost: &mut Vhost, queue: &'static str, number: u64) {
        let declaration = QueueDeclaration {
            name: name(queue),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::new(),
            server_named: false,
        };
        vhost
            .declare_queue(declaration, ConnectionId::new(1), &Access::unlimited(), || Ok(QueueId::new(number)))
            .expect("declared");
    }

    fn binding(source: &'static str, queue: u64) -> Binding {
        let destination = Destination::Queue(QueueId::new(queue));
        Binding { source: name(source), destination, routing_key: name(""), arguments: FieldTable::new() }
    }

    fn with_delay(ms: i32) -> Vec<u8> {
        let headers = Some([(name("x-delay"), FieldValue::Int32(ms))].into_iter().collect());
        let mut out = Vec::new();
        BasicProperties { headers, ..BasicProperties::default() }.encode(&mut out);
        out
    }

    #[test]
    fn every_key_counts_and_names_of_those_who_wait_for_replies_are_told_apart() {
        let mut vhost = Vhost::new(name("/"));
        add_queue(&mut vhost, "a", 1);
        add_queue(&mut vhost, "b", 2);
        let keys: [&[u8]; 5] = [b"a", b"b", b"a", b"amq.rabbitmq.reply-to.x", b"amq.rabbitmq.reply-to"];
        let route = vhost.route(b"", &Routing::new(&keys, &[0, 0], 0)).expect("the default exchange");
        assert_eq!(route.queues, [QueueId::new(1), QueueId::new(2)]);
        assert_eq!((route.replies, route.by_key), (vec![name("amq.rabbitmq.reply-to.x")], false));
        let plain = vhost.route(b"", &Routing::new(&keys[..1], &[0, 0], 0)).expect("the default exchange");
        assert!(plain.by_key && plain.is_routed());
    }

    #[test]
    fn a_delayed_exchange_keeps_messages_back_until_their_delay_is_negative() {
        let mut vhost = Vhost::new(name("/"));
        declare(&mut vhost, "later", "x-delayed-message", Some(("x-delayed-type", "fanout")));
        add_queue(&mut vhost, "q", 1);
        vhost.bind(binding("later", 1)).expect("bound");
        let routed = |vhost: &Vhost, properties: &[u8]| {
            let keys = [&b"k"[..]];
            let route = vhost.route(b"later", &Routing::new(&keys, properties, 0)).expect("there");
            assert!(!route.by_key, "another message with this key may wait");
            (route.queues, route.delays)
        };
        assert_eq!(routed(&vhost, &with_delay(100)), (vec![], vec![(DELAYS, 100)]));
        for properties in [with_delay(-100), with_delay(0), vec![0, 0]] {
            assert_eq!(routed(&vhost, &properties), (vec![QueueId::new(1)], vec![]));
        }
        let changes = vhost.delete_exchange(&name("later"), false, &Access::unlimited()).expect("deleted");
        assert!(changes.contains(&Change::QueueRemoved(DELAYS)));
        assert_eq!((vhost.take_orphans(), vhost.take_orphans()), (vec![DELAYS], vec![]));
    }

    #[test]
    fn a_binding_brings_history_once() {
        let mut vhost = Vhost::new(name("/"));
        declare(&mut vhost, "recent", "x-recent-history", None);
        add_queue(&mut vhost, "q", 1);
        let keys = [&b"k"[..]];
        let route = vhost.route(b"recent", &Routing::new(&keys, &[0, 0], 0)).expect("there");
        assert_eq!((&route.histories, route.by_key), (&vec![name("recent")], false));
        let mut builder = ArenaBuilder::new();
        builder.push(&MessageParts {
            exchange: b"recent",
            routing_key: b"k",
            properties: &[0, 0],
            body: Body::Borrowed(b"body"),
            persistent: false,
            priority: 0,
            expiration_ms: None,
            broker_deaths: false,
            enqueued_at: Timestamp::from_millis(0),
        });
        vhost.remember(&route.histories, &builder.finish());
        assert_eq!(vhost.history_for(&binding("recent", 1)).len(), 1);
        vhost.bind(binding("recent", 1)).expect("bound");
        assert!(vhost.history_for(&binding("recent", 1)).is_empty());
    }
}
