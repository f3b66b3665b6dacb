//! Steps that most scenarios consist of.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use leveret_protocol::{
    BasicProperties, ClassId, DeliveryTag, FieldTable, Method, MethodId, ReplyCode, ShortString, basic, channel,
    confirm, connection, exchange, queue, tx,
};

use super::{Client, DEADLINE, Options, Received, is_oracle, no_properties, s, unique, wait_until};

/// A channel for looking around: errors on it do not disturb the test's own.
const SCRATCH: u16 = 2000;

/// A queue that goes with its connection.
pub fn exclusive(name: &str) -> queue::Declare {
    queue::Declare { queue: s(name), exclusive: true, ..queue::Declare::default() }
}

pub fn passive(name: &str) -> queue::Declare {
    queue::Declare { queue: s(name), passive: true, ..queue::Declare::default() }
}

pub fn passive_exchange(name: &str) -> exchange::Declare {
    exchange::Declare { exchange: s(name), passive: true, ..exchange::Declare::default() }
}

pub fn consume(queue: &str) -> basic::Consume {
    basic::Consume { queue: s(queue), ..basic::Consume::default() }
}

pub fn publish_to(exchange: &str, routing_key: &str) -> basic::Publish {
    basic::Publish { exchange: s(exchange), routing_key: s(routing_key), ..basic::Publish::default() }
}

pub fn mandatory(exchange: &str, routing_key: &str) -> basic::Publish {
    basic::Publish { mandatory: true, ..publish_to(exchange, routing_key) }
}

pub fn close_channel_method() -> channel::Close {
    channel::Close {
        reply_code: ReplyCode::REPLY_SUCCESS,
        reply_text: s("bye"),
        class_id: ClassId::new(0),
        method_id: MethodId::new(0),
    }
}

pub fn close_connection_method() -> connection::Close {
    connection::Close {
        reply_code: ReplyCode::REPLY_SUCCESS,
        reply_text: s("bye"),
        class_id: ClassId::new(0),
        method_id: MethodId::new(0),
    }
}

/// How publishes were settled.
#[derive(Debug, Default)]
pub struct Confirms {
    pub acked: Vec<u64>,
    pub nacked: Vec<u64>,
    /// Whether one confirm stood for several publishes.
    pub multiple_seen: bool,
}

impl Client {
    /// A connection to the shared broker.
    #[track_caller]
    pub fn connect() -> Self {
        Options::default().connect()
    }

    /// A connection to the shared broker with channel 1 open.
    #[track_caller]
    pub fn open() -> Self {
        Options::default().open()
    }

    #[track_caller]
    pub fn open_channel(&mut self, channel: u16) {
        self.call::<channel::OpenOk>(channel, channel::Open::default());
    }

    /// Closes the channel; what comes before close-ok does not matter.
    #[track_caller]
    pub fn close_channel(&mut self, channel: u16) {
        self.send(channel, close_channel_method());
        loop {
            let arrived = self.next_on(channel, DEADLINE).expect("close-ok comes");
            if matches!(arrived.method, Method::ChannelCloseOk(_)) {
                return;
            }
        }
    }

    /// Closes the connection; what comes before close-ok does not matter.
    #[track_caller]
    pub fn close(mut self) {
        self.send(0, close_connection_method());
        loop {
            let arrived = self.next(DEADLINE).expect("close-ok comes");
            if matches!(arrived.method, Method::ConnectionCloseOk(_)) {
                return;
            }
        }
    }

    #[track_caller]
    pub fn declare(&mut self, channel: u16, declare: queue::Declare) -> queue::DeclareOk {
        self.call(channel, declare)
    }

    /// Declares a queue that goes with its connection.
    #[track_caller]
    pub fn temporary_queue(&mut self, channel: u16) -> String {
        self.temporary_queue_with(channel, FieldTable::new())
    }

    #[track_caller]
    pub fn temporary_queue_with(&mut self, channel: u16, arguments: FieldTable) -> String {
        let name = unique("q");
        self.declare(channel, queue::Declare { arguments, ..exclusive(&name) });
        name
    }

    /// Declares a durable queue; the test deletes it.
    #[track_caller]
    pub fn durable_queue_with(&mut self, channel: u16, arguments: FieldTable) -> String {
        let name = unique("durable");
        self.declare(
            channel,
            queue::Declare { queue: s(&name), durable: true, arguments, ..queue::Declare::default() },
        );
        name
    }

    /// Declares an exchange that goes with its last binding.
    #[track_caller]
    pub fn temporary_exchange(&mut self, channel: u16, kind: &str) -> String {
        self.temporary_exchange_with(channel, kind, FieldTable::new())
    }

    #[track_caller]
    pub fn temporary_exchange_with(&mut self, channel: u16, kind: &str, arguments: FieldTable) -> String {
        let name = unique("x");
        let declare = exchange::Declare {
            exchange: s(&name),
            kind: s(kind),
            auto_delete: true,
            arguments,
            ..exchange::Declare::default()
        };
        self.call::<exchange::DeclareOk>(channel, declare);
        name
    }

    #[track_caller]
    pub fn bind(&mut self, channel: u16, queue: &str, exchange: &str, routing_key: &str) {
        self.bind_with(channel, queue, exchange, routing_key, FieldTable::new());
    }

    #[track_caller]
    pub fn bind_with(&mut self, channel: u16, queue: &str, exchange: &str, routing_key: &str, arguments: FieldTable) {
        let bind = queue::Bind {
            queue: s(queue),
            exchange: s(exchange),
            routing_key: s(routing_key),
            arguments,
            ..queue::Bind::default()
        };
        self.call::<queue::BindOk>(channel, bind);
    }

    #[track_caller]
    pub fn unbind(&mut self, channel: u16, queue: &str, exchange: &str, routing_key: &str) {
        let unbind = queue::Unbind {
            queue: s(queue),
            exchange: s(exchange),
            routing_key: s(routing_key),
            ..queue::Unbind::default()
        };
        self.call::<queue::UnbindOk>(channel, unbind);
    }

    #[track_caller]
    pub fn bind_exchange(&mut self, channel: u16, destination: &str, source: &str, routing_key: &str) {
        let bind = exchange::Bind {
            destination: s(destination),
            source: s(source),
            routing_key: s(routing_key),
            ..exchange::Bind::default()
        };
        self.call::<exchange::BindOk>(channel, bind);
    }

    #[track_caller]
    pub fn unbind_exchange(&mut self, channel: u16, destination: &str, source: &str, routing_key: &str) {
        let unbind = exchange::Unbind {
            destination: s(destination),
            source: s(source),
            routing_key: s(routing_key),
            ..exchange::Unbind::default()
        };
        self.call::<exchange::UnbindOk>(channel, unbind);
    }

    #[track_caller]
    pub fn delete_exchange(&mut self, channel: u16, name: &str) {
        let delete = exchange::Delete { exchange: s(name), ..exchange::Delete::default() };
        self.call::<exchange::DeleteOk>(channel, delete);
    }

    /// Deletes a queue and says how many ready messages it had.
    #[track_caller]
    pub fn delete_queue(&mut self, channel: u16, name: &str) -> u32 {
        let delete = queue::Delete { queue: s(name), ..queue::Delete::default() };
        self.call::<queue::DeleteOk>(channel, delete).message_count
    }

    #[track_caller]
    pub fn purge(&mut self, channel: u16, name: &str) -> u32 {
        let purge = queue::Purge { queue: s(name), ..queue::Purge::default() };
        self.call::<queue::PurgeOk>(channel, purge).message_count
    }

    #[track_caller]
    pub fn publish(&mut self, channel: u16, exchange: &str, routing_key: &str, body: &str) {
        self.publish_with(channel, exchange, routing_key, &no_properties(), body);
    }

    #[track_caller]
    pub fn publish_with(
        &mut self,
        channel: u16,
        exchange: &str,
        routing_key: &str,
        properties: &BasicProperties,
        body: &str,
    ) {
        self.send_content(channel, publish_to(exchange, routing_key), properties, body.as_bytes());
    }

    /// Publishes messages to a queue through the default exchange.
    #[track_caller]
    pub fn enqueue(&mut self, channel: u16, queue: &str, bodies: &[&str]) {
        for body in bodies {
            self.publish(channel, "", queue, body);
        }
    }

    /// Publishes messages to an empty queue and waits until they are ready there, so that any channel will find them.
    #[track_caller]
    pub fn fill(&mut self, channel: u16, queue: &str, bodies: &[&str]) {
        self.enqueue(channel, queue, bodies);
        self.wait_ready(channel, queue, u32::try_from(bodies.len()).expect("fits"));
    }

    #[track_caller]
    pub fn try_get(&mut self, channel: u16, queue: &str, no_ack: bool) -> Option<Received<basic::GetOk>> {
        self.send(channel, basic::Get { queue: s(queue), no_ack });
        let arrived = self.arrives_on(channel, "an answer to basic.get");
        if matches!(arrived.method, Method::BasicGetEmpty(_)) {
            return None;
        }
        let shown = arrived.to_string();
        Some(Received::from_arrived(arrived).unwrap_or_else(|| panic!("expected basic.get-ok but came {shown}")))
    }

    /// Fetches a message that must be there, to be acked.
    #[track_caller]
    pub fn get(&mut self, channel: u16, queue: &str) -> Received<basic::GetOk> {
        self.try_get(channel, queue, false).unwrap_or_else(|| panic!("queue {queue} is empty"))
    }

    /// Fetches a message, already acked, once there is one: for a message that takes another way than the basic.get.
    #[track_caller]
    pub fn wait_get(&mut self, channel: u16, queue: &str) -> Received<basic::GetOk> {
        let mut got = None;
        wait_until(&format!("a message in queue {queue}"), || {
            got = self.try_get(channel, queue, true);
            got.is_some()
        });
        got.expect("waited for it")
    }

    #[track_caller]
    pub fn expect_empty(&mut self, channel: u16, queue: &str) {
        if let Some(got) = self.try_get(channel, queue, false) {
            panic!("queue {queue} should be empty but has {:?}: {:?}", got.text(), got.method);
        }
    }

    /// Takes the messages of a queue until it is empty; their bodies.
    #[track_caller]
    pub fn drain(&mut self, channel: u16, queue: &str) -> Vec<String> {
        std::iter::from_fn(|| self.try_get(channel, queue, true)).map(|got| got.text().to_owned()).collect()
    }

    /// Starts a consumer that acks.
    #[track_caller]
    pub fn consume(&mut self, channel: u16, queue: &str) -> ShortString {
        self.consume_with(channel, consume(queue))
    }

    #[track_caller]
    pub fn consume_no_ack(&mut self, channel: u16, queue: &str) -> ShortString {
        self.consume_with(channel, basic::Consume { no_ack: true, ..consume(queue) })
    }

    #[track_caller]
    pub fn consume_with(&mut self, channel: u16, consume: basic::Consume) -> ShortString {
        self.call::<basic::ConsumeOk>(channel, consume).consumer_tag
    }

    #[track_caller]
    pub fn cancel(&mut self, channel: u16, consumer_tag: &ShortString) {
        let cancel = basic::Cancel { consumer_tag: consumer_tag.clone(), no_wait: false };
        let cancelled: basic::CancelOk = self.call(channel, cancel);
        assert_eq!(&cancelled.consumer_tag, consumer_tag, "cancel-ok names the consumer");
    }

    #[track_caller]
    pub fn ack(&mut self, channel: u16, tag: u64) {
        self.send(channel, basic::Ack { delivery_tag: DeliveryTag::new(tag), multiple: false });
    }

    #[track_caller]
    pub fn ack_multiple(&mut self, channel: u16, tag: u64) {
        self.send(channel, basic::Ack { delivery_tag: DeliveryTag::new(tag), multiple: true });
    }

    #[track_caller]
    pub fn nack(&mut self, channel: u16, tag: u64, requeue: bool) {
        self.send(channel, basic::Nack { delivery_tag: DeliveryTag::new(tag), multiple: false, requeue });
    }

    #[track_caller]
    pub fn nack_multiple(&mut self, channel: u16, tag: u64, requeue: bool) {
        self.send(channel, basic::Nack { delivery_tag: DeliveryTag::new(tag), multiple: true, requeue });
    }

    #[track_caller]
    pub fn reject(&mut self, channel: u16, tag: u64, requeue: bool) {
        self.send(channel, basic::Reject { delivery_tag: DeliveryTag::new(tag), requeue });
    }

    #[track_caller]
    pub fn qos(&mut self, channel: u16, prefetch_count: u16, global: bool) {
        self.call::<basic::QosOk>(channel, basic::Qos { prefetch_size: 0, prefetch_count, global });
    }

    #[track_caller]
    pub fn select_confirms(&mut self, channel: u16) {
        self.call::<confirm::SelectOk>(channel, confirm::Select::default());
    }

    /// The broker confirms this publish next, with an ack.
    #[track_caller]
    pub fn expect_ack(&mut self, channel: u16, number: u64) {
        let ack: basic::Ack = self.expect(channel);
        assert_eq!(ack.delivery_tag.get(), number, "the number confirmed");
    }

    #[track_caller]
    pub fn expect_nack(&mut self, channel: u16, number: u64) {
        let nack: basic::Nack = self.expect(channel);
        assert_eq!(nack.delivery_tag.get(), number, "the number refused");
    }

    #[track_caller]
    pub fn select_tx(&mut self, channel: u16) {
        self.call::<tx::SelectOk>(channel, tx::Select);
    }

    #[track_caller]
    pub fn commit(&mut self, channel: u16) {
        self.call::<tx::CommitOk>(channel, tx::Commit);
    }

    #[track_caller]
    pub fn rollback(&mut self, channel: u16) {
        self.call::<tx::RollbackOk>(channel, tx::Rollback);
    }

    /// The ready messages of a queue.
    #[track_caller]
    pub fn ready(&mut self, channel: u16, queue: &str) -> u32 {
        self.declare(channel, passive(queue)).message_count
    }

    /// The queue has as many ready messages, after publishes or settlements on the same channel.
    #[track_caller]
    pub fn expect_ready(&mut self, channel: u16, queue: &str, count: u32) {
        if is_oracle() {
            self.wait_ready(channel, queue, count); // 3.10 may count a moment late.
        } else {
            assert_eq!(self.ready(channel, queue), count, "ready messages in queue {queue}");
        }
    }

    /// Waits until a queue has as many ready messages.
    #[track_caller]
    pub fn wait_ready(&mut self, channel: u16, queue: &str, count: u32) {
        wait_until(&format!("{count} ready messages in queue {queue}"), || self.ready(channel, queue) == count);
    }

    /// Takes confirms until each of these publishes is settled, which must happen exactly once.
    #[track_caller]
    pub fn expect_confirms(&mut self, channel: u16, numbers: RangeInclusive<u64>) -> Confirms {
        let mut pending: BTreeSet<u64> = numbers.collect();
        let mut confirms = Confirms::default();
        while !pending.is_empty() {
            let arrived = self.arrives_on(channel, "a confirm");
            let (tag, multiple, is_ack) = match &arrived.method {
                Method::BasicAck(ack) => (ack.delivery_tag.get(), ack.multiple, true),
                Method::BasicNack(nack) => (nack.delivery_tag.get(), nack.multiple, false),
                _ => panic!("expected a confirm but came {arrived}"),
            };
            let settled: BTreeSet<u64> =
                if multiple { pending.range(..=tag).copied().collect() } else { BTreeSet::from([tag]) };
            confirms.multiple_seen |= multiple;
            for number in settled {
                assert!(pending.remove(&number), "{number} was settled before or never published: {arrived}");
                if is_ack { &mut confirms.acked } else { &mut confirms.nacked }.push(number);
            }
        }
        confirms.acked.sort_unstable();
        confirms.nacked.sort_unstable();
        confirms
    }

    /// A round trip: what the broker had to say on the channel before must have been asked for by now.
    #[track_caller]
    pub fn barrier(&mut self, channel: u16) {
        self.call::<exchange::DeclareOk>(channel, passive_exchange("amq.direct"));
    }

    /// Whether there is such a queue, as far as this connection may know: one that is exclusive to another counts.
    #[track_caller]
    pub fn queue_exists(&mut self, name: &str) -> bool {
        self.exists(passive(name))
    }

    #[track_caller]
    pub fn exchange_exists(&mut self, name: &str) -> bool {
        self.exists(passive_exchange(name))
    }

    #[track_caller]
    fn exists(&mut self, declare: impl Into<Method>) -> bool {
        self.open_channel(SCRATCH);
        let answer = self.rpc(SCRATCH, declare);
        if let Method::ChannelClose(close) = answer {
            self.send(SCRATCH, channel::CloseOk);
            assert!(matches!(close.reply_code.get(), 404 | 405), "{close:?}");
            return close.reply_code == ReplyCode::RESOURCE_LOCKED;
        }
        self.close_channel(SCRATCH);
        true
    }
}
