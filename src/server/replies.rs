//! Direct reply-to (RabbitMQ extension): who waits for replies, by the name that requests carry.
//!
//! A reply goes straight into the outbox of the connection that waits for it; no queue keeps it. Replies are transient, so
//! they may be lost: they are when nobody waits any more, and when the requester does not read and
//! [`REPLIES_MAX_BYTES`] wait for it already, since no prefetch holds the responders back.
//! Not here: making names, and whether a name is alive in a channel (`connection/reply_to`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use leveret_protocol::{ChannelId, ShortString};

use super::outbox::{Event, Outbox};
use crate::engine::message::Arena;

/// Octets of deliveries that may wait for a connection before replies to it are dropped: sixteen windows, so that a burst
/// of replies passes while the requester is busy.
const REPLIES_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Every how many dropped replies the log tells of it.
const TELL_EVERY: u64 = 1000;

#[derive(Debug)]
struct ReplyConsumer {
    vhost: ShortString,
    outbox: Arc<Outbox>,
    channel: ChannelId,
}

/// Everybody who waits for replies.
#[derive(Debug, Default)]
pub(super) struct Replies {
    consumers: DashMap<ShortString, ReplyConsumer>,
    dropped: AtomicU64,
}

impl Replies {
    /// Somebody waits for replies from now on.
    pub(super) fn add(&self, name: ShortString, vhost: ShortString, outbox: Arc<Outbox>, channel: ChannelId) {
        self.consumers.insert(name, ReplyConsumer { vhost, outbox, channel });
    }

    /// Nobody waits under this name any more.
    pub(super) fn remove(&self, name: &ShortString) {
        self.consumers.remove(name);
    }

    /// Whether somebody waits under this name.
    pub(super) fn exists(&self, vhost: &ShortString, name: &ShortString) -> bool {
        self.consumers.get(name).is_some_and(|consumer| consumer.vhost == *vhost)
    }

    /// Hands the only message of an arena to whoever waits under this name, if anybody does.
    pub(super) fn send(&self, vhost: &ShortString, name: &ShortString, message: &Arc<Arena>) {
        let found = self.consumers.get(name).filter(|consumer| consumer.vhost == *vhost);
        let Some((outbox, channel)) = found.map(|consumer| (consumer.outbox.clone(), consumer.channel)) else { return };
        if outbox.window.queued_bytes() >= REPLIES_MAX_BYTES {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed);
            if dropped.is_multiple_of(TELL_EVERY) {
                tracing::warn!(%vhost, dropped = dropped + 1, "replies are dropped: the requester does not read them");
            }
            return;
        }
        outbox.window.add(message.size_bytes());
        outbox.push(Event::Reply { channel, name: name.clone(), message: message.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::message::{Body, MessageParts, Timestamp};
    use crate::engine::vhost::ConnectionId;
    use crate::server::placing::alone;

    fn reply(body: &[u8]) -> Arc<Arena> {
        alone(&MessageParts {
            exchange: b"",
            routing_key: b"name",
            properties: &[0, 0],
            body: Body::Borrowed(body),
            persistent: false,
            priority: 0,
            expiration_ms: None,
            broker_deaths: false,
            enqueued_at: Timestamp::from_millis(0),
        })
    }

    #[test]
    fn replies_reach_who_waits_in_that_vhost_and_nobody_after() {
        let (replies, outbox) = (Replies::default(), Arc::new(Outbox::new(ConnectionId::new(1))));
        let (name, vhost) = (ShortString::from_static("name"), ShortString::from_static("/"));
        let other = ShortString::from_static("other");
        replies.add(name.clone(), vhost.clone(), outbox.clone(), ChannelId::new(1));
        assert!(replies.exists(&vhost, &name) && !replies.exists(&other, &name));
        replies.send(&vhost, &name, &reply(b"1"));
        replies.send(&other, &name, &reply(b"2"));
        replies.remove(&name);
        replies.send(&vhost, &name, &reply(b"3"));
        let mut events = Vec::new();
        outbox.take(&mut events);
        let [Event::Reply { message, .. }] = &events[..] else { panic!("one reply: {events:?}") };
        assert_eq!(message.message(0).body(), b"1");
    }

    #[test]
    fn replies_are_dropped_when_far_too_many_wait() {
        let (replies, outbox) = (Replies::default(), Arc::new(Outbox::new(ConnectionId::new(1))));
        let (name, vhost) = (ShortString::from_static("name"), ShortString::from_static("/"));
        replies.add(name.clone(), vhost.clone(), outbox.clone(), ChannelId::new(1));
        let large = reply(&vec![0; 1024 * 1024]);
        for _ in 0..100 {
            replies.send(&vhost, &name, &large);
        }
        let mut events = Vec::new();
        outbox.take(&mut events);
        assert_eq!((events.len(), replies.dropped.load(Ordering::Relaxed)), (8, 92));
    }
}
