//! What there is to see of a queue: figures for listings, taken without an input.

use leveret_protocol::{ChannelId, PropertiesRef, ShortString};

use super::Queue;
use super::dispatch::ConsumerId;
use super::lane::Lane;
use super::stall::{HeldBy, Stall};
use crate::engine::message::Timestamp;
use crate::engine::statistics::Recent;

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
    /// Why it takes no message at this moment.
    pub held_by: Option<HeldBy>,
    /// Since when it has something unacked and has acked nothing.
    pub waits_since: Option<Timestamp>,
}

/// How old what a queue holds is, and why it does not leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueAges {
    /// When the ready message came that waits longest, as far as that is known without reading the disk; of what is on
    /// disk alone it may have been some later.
    pub oldest_ready: Option<Timestamp>,
    /// Messages are ready of which only the disk knows when they came.
    pub oldest_on_disk: bool,
    /// When the message was handed out that waits longest for its ack.
    pub oldest_unacked: Option<Timestamp>,
    /// The `timestamp` property of the message at the head, in seconds since 1970, if it is in memory.
    pub head_timestamp: Option<u64>,
    /// Why nothing leaves.
    pub stall: Option<Stall>,
    /// When something left last, or the queue came to be.
    pub moved_at: Timestamp,
    /// Since when nobody takes what is ready although there are consumers.
    pub blocked_since: Option<Timestamp>,
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
            .map(|consumer| ConsumerFigures {
                id: consumer.id,
                tag: consumer.spec.tag.clone(),
                channel: consumer.spec.channel,
                no_ack: consumer.spec.no_ack,
                exclusive: consumer.spec.exclusive,
                prefetch: consumer.spec.prefetch,
                unacked: consumer.unacked,
                active: consumer.active,
                held_by: consumer.held_by,
                waits_since: consumer.waits_since,
            })
            .collect()
    }

    /// How old what it holds is, and why it does not leave.
    pub fn ages(&self) -> QueueAges {
        let heads = || self.lanes.iter().filter(|lane| lane.ready() > 0).map(Lane::oldest_ready);
        let head = self.lanes.iter().rev().find(|lane| lane.ready() > 0).and_then(Lane::peek);
        let timestamp = |properties| PropertiesRef::decode(properties).ok().and_then(|properties| properties.timestamp);
        QueueAges {
            oldest_ready: heads().flatten().min(),
            oldest_on_disk: heads().any(|oldest| oldest.is_none()),
            oldest_unacked: self.lanes.iter().filter_map(Lane::oldest_unacked).min(),
            head_timestamp: head.and_then(|(_, message)| timestamp(message.properties())),
            stall: self.stall(),
            moved_at: self.moved_at,
            blocked_since: self.blocked_since,
        }
    }

    /// What happened since it was taken last.
    pub fn take_recent(&mut self) -> Option<Box<Recent>> {
        self.recent.take()
    }

    /// The lane and the number of the ready message of which only the disk knows when it came.
    pub fn unknown_head(&self) -> Option<(u8, u64)> {
        let unknown = |lane: &&Lane| lane.ready() > 0 && lane.oldest_ready().is_none();
        let lane = self.lanes.iter().find(unknown)?;
        Some((lane.number(), lane.head_on_disk()?))
    }

    /// This message, which only the disk has, came at this time.
    pub fn learn_arrival(&mut self, lane: u8, seq: u64, arrived: Timestamp) {
        if let Some(lane) = self.lane_mut(lane) {
            lane.learn_arrival(seq, arrived);
        }
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
