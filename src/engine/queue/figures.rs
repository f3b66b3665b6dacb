//! What there is to see of a queue: figures for listings, taken without an input.

use leveret_protocol::{ChannelId, ShortString};

use super::Queue;
use super::dispatch::ConsumerId;
use super::lane::Lane;

/// What a queue holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Messages that wait.
    pub ready: u64,
    /// Messages delivered and not settled.
    pub unacked: u64,
    /// Octets of the bodies that wait.
    pub ready_body_bytes: u64,
    /// Octets of the bodies delivered and not settled.
    pub unacked_body_bytes: u64,
    /// Octets of memory that its messages hold.
    pub resident_bytes: usize,
}

/// A consumer as its queue knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerFigures {
    /// Its number in the queue.
    pub id: ConsumerId,
    /// Its tag.
    pub tag: ShortString,
    /// The channel it belongs to.
    pub channel: ChannelId,
    /// Deliveries settle themselves.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Unacked deliveries at most; 0 for no limit.
    pub prefetch: u32,
    /// Deliveries that wait for an ack.
    pub unacked: u32,
    /// It is one that gets messages: with a single active consumer all others wait for its end.
    pub active: bool,
}

impl Queue {
    /// What it holds.
    pub fn figures(&self) -> QueueFigures {
        let ready_body_bytes = self.ready_body_bytes();
        let body_bytes: u64 = self.lanes.iter().map(Lane::body_bytes).sum();
        QueueFigures {
            ready: self.ready(),
            unacked: self.unacked(),
            ready_body_bytes,
            unacked_body_bytes: body_bytes.saturating_sub(ready_body_bytes),
            resident_bytes: self.resident_bytes(),
        }
    }

    /// Its consumers in the order of subscription.
    pub fn consumer_figures(&self) -> Vec<ConsumerFigures> {
        self.consumers
            .iter()
            .map(|(id, spec, unacked, active)| ConsumerFigures {
                id,
                tag: spec.tag.clone(),
                channel: spec.channel,
                no_ack: spec.no_ack,
                exclusive: spec.exclusive,
                prefetch: spec.prefetch,
                unacked,
                active,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::message::{ArenaBuilder, Body, MessageParts, Timestamp};
    use crate::engine::queue::{ChannelLimit, ConsumerSpec, Delivered, Get, QueueSettings, Window};

    const NOW: Timestamp = Timestamp::from_millis(1);

    fn publish(queue: &mut Queue, bodies: &[&'static [u8]]) {
        let mut builder = ArenaBuilder::with_capacity(1024, 4);
        for body in bodies {
            builder.push(&MessageParts {
                exchange: b"",
                routing_key: b"q",
                properties: &[0, 0],
                body: Body::Borrowed(body),
                persistent: false,
                priority: 0,
                expiration_ms: None,
                broker_deaths: false,
                enqueued_at: NOW,
            });
        }
        queue.publish(NOW, &builder.finish(), false, &mut Vec::new());
    }

    #[test]
    fn figures_tell_ready_from_unacked() {
        let mut queue = Queue::new(QueueSettings::default(), false, NOW);
        publish(&mut queue, &[b"a", b"bcd", b"efghi"]);
        let mut fx = Vec::new();
        let Get::Message { run: first, .. } = queue.get(NOW, false, &mut fx) else { panic!("there are messages") };
        assert!(matches!(queue.get(NOW, false, &mut fx), Get::Message { .. }));
        let ack = Delivered { consumer: None, lane: 0, first_seq: first.first_seq, last_seq: first.first_seq };
        queue.ack(NOW, ack, &mut fx);
        let figures = queue.figures();
        assert_eq!((figures.ready, figures.unacked), (1, 1));
        assert_eq!((figures.ready_body_bytes, figures.unacked_body_bytes), (5, 3));
        assert!(figures.resident_bytes > 0);
    }

    #[test]
    fn of_single_active_consumers_the_first_is_active() {
        let settings = QueueSettings { single_active_consumer: true, ..QueueSettings::default() };
        let mut queue = Queue::new(settings, false, NOW);
        for tag in ["first", "second"] {
            queue.add_consumer(
                NOW,
                ConsumerSpec {
                    tag: ShortString::from_static(tag),
                    channel: ChannelId::new(1),
                    no_ack: false,
                    exclusive: false,
                    prefetch: 7,
                    priority: 0,
                    ack_timeout: None,
                    channel_limit: Arc::new(ChannelLimit::default()),
                    window: Arc::new(Window::new(1024)),
                },
            );
        }
        let seen: Vec<_> =
            queue.consumer_figures().iter().map(|each| (each.tag.to_string(), each.prefetch, each.active)).collect();
        assert_eq!(seen, [("first".to_owned(), 7, true), ("second".to_owned(), 7, false)]);
    }
}
