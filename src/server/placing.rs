//! Messages that the broker itself sends on: dead letters, and those that have waited in front of a delayed-message
//! exchange. What one of them does to several queues is one transaction with its leaving the queue where it was.

use std::sync::Arc;

use leveret_protocol::{PropertiesRef, table_entries, without_header};

use super::clock;
use super::queue_cell::QueueCell;
use super::registry::{Registry, VhostCell};
use super::work::Work;
use crate::engine::channel::copies::{BCC, copies};
use crate::engine::channel::expiration::parse_expiration;
use crate::engine::exchange::Routing;
use crate::engine::exchange::delayed::with_negated_delay;
use crate::engine::message::{Arena, ArenaBuilder, Body, Message, MessageParts};
use crate::engine::queue::{QueueId, Run};
use crate::engine::vhost::Route;

/// One message as an arena of its own.
pub(super) fn alone(parts: &MessageParts<'_>) -> Arc<Arena> {
    let mut builder = ArenaBuilder::with_capacity(parts.properties.len() + 256, 1);
    builder.push(parts);
    builder.finish()
}

/// The key that a message was published with, and those of its `CC`, and of its `BCC` if that is still there.
pub(super) fn routing_keys<'a>(message: &Message<'a>) -> Vec<&'a [u8]> {
    let mut keys = vec![message.routing_key()];
    let headers = PropertiesRef::decode(message.properties()).ok().and_then(|properties| properties.headers);
    // Their types were looked at when the message was published.
    if let Some(copies) = headers.and_then(|headers| copies(headers).ok().flatten()) {
        keys.extend(copies.keys);
    }
    keys
}

/// Where a message starts from, and by which keys it is routed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'a> {
    pub(super) vhost: &'a VhostCell,
    pub(super) exchange: &'a [u8],
    pub(super) keys: &'a [&'a [u8]],
}

impl Registry {
    /// Where a message goes from an exchange. Exchanges that remember it do so at once; `message` is asked for by them only.
    pub(super) fn route(
        vhost: &VhostCell,
        exchange: &[u8],
        routing: &Routing<'_>,
        message: &dyn Fn() -> Option<Arc<Arena>>,
    ) -> Option<Route> {
        let route = vhost.state.read().route(exchange, routing)?;
        if route.histories.is_empty() {
            return Some(route);
        }
        // Once more, with nobody binding in between.
        let mut state = vhost.state.write();
        let route = state.route(exchange, routing)?;
        if let Some(message) = message() {
            state.remember(&route.histories, &message);
        }
        Some(route)
    }

    /// Sends a message on, to all queues but those that are `barred`.
    ///
    /// `parts` is what is delivered; `whole` are the properties with what only the broker may see.
    pub(super) fn place(
        self: &Arc<Self>,
        start: &Start<'_>,
        parts: &MessageParts<'_>,
        whole: &[u8],
        barred: &dyn Fn(&QueueCell) -> bool,
        work: &mut Work,
    ) {
        let Start { vhost, exchange, keys } = *start;
        let routing = Routing::new(keys, whole, self.random());
        let message = || Some(alone(parts));
        let Some(route) = Self::route(vhost, exchange, &routing, &message) else { return };
        let now = parts.enqueued_at;
        let targets: Vec<_> =
            route.queues.into_iter().filter_map(|id| self.queue(id)).filter(|target| !barred(target)).collect();
        if !targets.is_empty() || !route.replies.is_empty() {
            let arena = alone(parts);
            for target in targets {
                target.publish(self, work, now, &arena, parts.persistent);
            }
            for name in &route.replies {
                self.replies.send(&vhost.name, name, &arena);
            }
        }
        for (queue, delay_ms) in route.delays {
            let Some(cell) = self.queue(queue) else { continue };
            let properties = with_negated_delay(whole);
            let waiting = MessageParts { properties: &properties, expiration_ms: Some(delay_ms), ..parts.clone() };
            let arena = alone(&waiting);
            cell.publish(self, work, now, &arena, parts.persistent);
        }
    }

    /// The time of these messages has come: they go on from the delayed-message exchange in front of which they waited.
    pub(super) fn release(self: &Arc<Self>, cell: &Arc<QueueCell>, run: &Run, work: &mut Work) {
        for (_, message) in run.messages() {
            let whole = message.properties();
            let properties = PropertiesRef::decode(whole).unwrap_or_default();
            let expiration_ms = properties.expiration.and_then(|expiration| parse_expiration(expiration).ok());
            let keys = routing_keys(&message);
            let has_bcc = properties.headers.is_some_and(|headers| table_entries(headers).find(BCC).is_some());
            let shown = has_bcc.then(|| without_header(whole, BCC));
            let parts = MessageParts {
                exchange: message.exchange(),
                routing_key: message.routing_key(),
                properties: shown.as_deref().unwrap_or(whole),
                body: Body::Shared(message.shared_body()),
                persistent: message.is_persistent(),
                priority: message.priority(),
                expiration_ms,
                broker_deaths: message.has_broker_deaths(),
                enqueued_at: clock::now(),
            };
            let start = Start { vhost: &cell.vhost, exchange: cell.name.as_bytes(), keys: &keys };
            self.place(&start, &parts, whole, &|_| false, work);
        }
    }

    /// Ends internal queues whose exchange is gone. The vhost's lock is held.
    pub(super) fn drop_orphans(&self, orphans: Vec<QueueId>) {
        for id in orphans {
            if let Some(cell) = self.take_queue(id) {
                let dropped = cell.delete(self, |_| Ok::<_, std::convert::Infallible>(()));
                let Ok(dropped) = dropped;
                if dropped > 0 {
                    tracing::info!(exchange = %cell.name, vhost = %cell.vhost.name, dropped, "delayed messages are dropped");
                }
            }
        }
    }
}
