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
