//! Methods sent in one segment, without waiting for answers, happen in the order in which they were sent (spec §4.7).

use leveret_protocol::{DeliveryTag, FieldTable, Method, basic, channel, queue, tx};

use crate::support::{
    Client, Options, consume, exclusive, method_frame, no_properties, persistent, publish_to, s, table, unique,
};

/// What is sent in one go on channel 1.
struct Script<'a> {
    client: &'a mut Client,
    octets: Vec<u8>,
}

impl<'a> Script<'a> {
    const fn new(client: &'a mut Client) -> Self {
        Self { client, octets: Vec::new() }
    }

    fn then(mut self, method: impl Into<Method>) -> Self {
        self.octets.extend(method_frame(1, method));
        self
    }

    fn publish(mut self, queue: &str, is_persistent: bool, body: &str) -> Self {
        let properties = if is_persistent { persistent() } else { no_properties() };
        let publish = publish_to("", queue);
        self.octets.extend(self.client.content_frames(1, publish, &properties, body.as_bytes()));
        self
    }

    #[track_caller]
    fn send(self) {
        self.client.send_bytes(&self.octets);
    }
}

fn get(queue: &str, no_ack: bool) -> basic::Get {
    basic::Get { queue: s(queue), no_ack }
}

fn ack(tag: u64) -> basic::Ack {
    basic::Ack { delivery_tag: DeliveryTag::new(tag), multiple: false }
}

fn requeue(tag: u64) -> basic::Nack {
    basic::Nack { delivery_tag: DeliveryTag::new(tag), multiple: false, requeue: true }
}

/// A durable and a transient declaration, each with persistent messages or without.
fn kinds() -> Vec<(queue::Declare, bool)> {
    [(false, false), (true, false), (true, true)]
        .map(|(durable, is_persistent)| {
            let declare = queue::Declare { queue: s(unique("q")), durable, ..queue::Declare::default() };
            (declare, is_persistent)
        })
        .to_vec()
}

#[test]
fn publishes_gets_purges_and_deletes_take_their_turns() {
    for (declare, persist) in kinds() {
        let name = declare.queue.to_string();
        let mut client = Client::open();
        Script::new(&mut client)
            .then(declare)
            .publish(&name, persist, "a")
            .publish(&name, persist, "b")
            .then(get(&name, true))
            .publish(&name, persist, "c")
            .then(queue::Purge { queue: s(&name), ..queue::Purge::default() })
            .publish(&name, persist, "d")
            .then(get(&name, false))
            .publish(&name, persist, "e")
            .publish(&name, persist, "f")
            .then(ack(2))
            .then(queue::Delete { queue: s(&name), ..queue::Delete::default() })
            .then(get(&name, true))
            .send();
        assert_eq!(client.expect::<queue::DeclareOk>(1).message_count, 0);
        let got = client.expect_content::<basic::GetOk>(1);
        assert_eq!((got.text(), got.message_count, got.tag()), ("a", 1, 1));
        assert_eq!(client.expect::<queue::PurgeOk>(1).message_count, 2);
        let got = client.expect_content::<basic::GetOk>(1);
        assert_eq!((got.text(), got.message_count, got.tag()), ("d", 0, 2));
        assert_eq!(client.expect::<queue::DeleteOk>(1).message_count, 2);
        client.expect_channel_close(1, 404, &format!("no queue '{name}' in vhost '/'"), (60, 70));
    }
}

#[test]
fn a_message_given_back_is_the_next_to_be_got() {
    for (declare, persist) in kinds() {
        let name = declare.queue.to_string();
        let mut client = Client::open();
        Script::new(&mut client)
            .then(declare)
            .publish(&name, persist, "a")
            .publish(&name, persist, "b")
            .then(get(&name, false))
            .then(requeue(1))
            .then(get(&name, false))
            .then(get(&name, false))
            .then(requeue(3))
            .then(requeue(2))
            .then(get(&name, true))
            .then(get(&name, true))
            .then(get(&name, true))
            .then(queue::Delete { queue: s(&name), ..queue::Delete::default() })
            .send();
        client.expect::<queue::DeclareOk>(1);
        for (tag, body, redelivered) in
            [(1, "a", false), (2, "a", true), (3, "b", false), (4, "a", true), (5, "b", true)]
        {
            let got = client.expect_content::<basic::GetOk>(1);
            assert_eq!((got.tag(), got.text(), got.redelivered), (tag, body, redelivered));
        }
        client.expect::<basic::GetEmpty>(1);
        client.expect::<queue::DeleteOk>(1);
    }
}

#[test]
fn a_transaction_takes_its_turn() {
    for (declare, persist) in kinds() {
        let name = declare.queue.to_string();
        let mut client = Client::open();
        Script::new(&mut client)
            .then(declare)
            .then(tx::Select)
            .publish(&name, persist, "a")
            .then(get(&name, true))
            .then(tx::Commit)
            .send();
        client.expect::<queue::DeclareOk>(1);
        client.expect::<tx::SelectOk>(1);
        client.expect::<basic::GetEmpty>(1);
        client.expect::<tx::CommitOk>(1); // 3.10 does not want anything sent before it has sent this.
        Script::new(&mut client)
            .then(get(&name, false))
            .then(ack(1))
            .publish(&name, persist, "b")
            .then(tx::Rollback)
            .then(get(&name, true))
            .then(ack(1))
            .publish(&name, persist, "c")
            .then(tx::Commit)
            .send();
        assert_eq!(client.expect_content::<basic::GetOk>(1).text(), "a");
        client.expect::<tx::RollbackOk>(1);
        client.expect::<basic::GetEmpty>(1);
        client.expect::<tx::CommitOk>(1);
        assert_eq!(client.delete_queue(1, &name), 1);
    }
}

#[test]
fn a_topology_is_made_used_and_taken_down() {
    let mut client = Client::open();
    let (name, exchange) = (unique("q"), unique("x"));
    let declare_exchange = leveret_protocol::exchange::Declare {
        exchange: s(&exchange),
        kind: s("direct"),
        ..leveret_protocol::exchange::Declare::default()
    };
    let bind = queue::Bind { queue: s(&name), exchange: s(&exchange), routing_key: s("k"), ..queue::Bind::default() };
    let unbind =
        queue::Unbind { queue: s(&name), exchange: s(&exchange), routing_key: s("k"), ..queue::Unbind::default() };
    let delete_exchange =
        leveret_protocol::exchange::Delete { exchange: s(&exchange), ..leveret_protocol::exchange::Delete::default() };
    let publish = |client: &Client, body: &str| {
        let publish = basic::Publish { mandatory: true, ..publish_to(&exchange, "k") };
        client.content_frames(1, publish, &no_properties(), body.as_bytes())
    };
    let mut octets = method_frame(1, declare_exchange);
    octets.extend(method_frame(1, exclusive(&name)));
    octets.extend(publish(&client, "before"));
    octets.extend(method_frame(1, bind));
    octets.extend(publish(&client, "between"));
    octets.extend(method_frame(1, unbind));
    octets.extend(publish(&client, "after"));
    octets.extend(method_frame(1, get(&name, true)));
    octets.extend(method_frame(1, delete_exchange));
    octets.extend(publish(&client, "too late"));
    client.send_bytes(&octets);
    client.expect::<leveret_protocol::exchange::DeclareOk>(1);
    client.expect::<queue::DeclareOk>(1);
    assert_eq!(client.expect_return(1).text(), "before");
    client.expect::<queue::BindOk>(1);
    client.expect::<queue::UnbindOk>(1);
    assert_eq!(client.expect_return(1).text(), "after");
    let got = client.expect_content::<basic::GetOk>(1);
    assert_eq!((got.text(), got.message_count), ("between", 0));
    client.expect::<leveret_protocol::exchange::DeleteOk>(1);
    client.expect_channel_close(1, 404, &format!("no exchange '{exchange}' in vhost '/'"), (60, 40));
}

#[test]
fn a_slot_freed_before_a_publish_is_there_for_it() {
    let mut client = Client::open();
    let name = client.temporary_queue(1);
    client.qos(1, 1, false);
    for (tag, priority) in [("high", 1), ("low", 0)] {
        let arguments = table([("x-priority", crate::support::int(priority))]);
        let consume = basic::Consume { consumer_tag: s(tag), arguments, ..consume(&name) };
        client.consume_with(1, consume);
    }
    client.enqueue(1, &name, &["1"]);
    for round in 1..=20_u64 {
        assert_eq!(client.expect_deliver(1).consumer_tag, "high", "round {round}");
        Script::new(&mut client).then(ack(round)).publish(&name, false, "x").send();
    }
}

#[test]
fn a_whole_life_fits_into_one_segment() {
    let mut client = Options::default().raw();
    let name = unique("q");
    let mut octets = Options::default().pipelined();
    octets.extend(method_frame(1, exclusive(&name)));
    for body in ["a", "b", "c"] {
        octets.extend(client.content_frames(1, publish_to("", &name), &no_properties(), body.as_bytes()));
    }
    octets.extend(method_frame(1, basic::Consume { consumer_tag: s("t"), no_ack: true, ..consume(&name) }));
    client.send_bytes(&octets);
    client.expect::<leveret_protocol::connection::Start>(0);
    client.expect::<leveret_protocol::connection::Tune>(0);
    client.expect::<leveret_protocol::connection::OpenOk>(0);
    client.expect::<channel::OpenOk>(1);
    client.expect::<queue::DeclareOk>(1);
    client.expect::<basic::ConsumeOk>(1);
    client.expect_deliveries(1, &["a", "b", "c"]);
}

#[test]
fn thousands_of_methods_at_once_are_answered_in_order() {
    let mut client = Client::open();
    let names: Vec<String> = (0..1_000).map(|_| unique("q")).collect();
    let mut octets = Vec::new();
    for name in &names {
        octets.extend(method_frame(1, queue::Declare { arguments: FieldTable::new(), ..exclusive(name) }));
    }
    client.send_bytes(&octets);
    for name in &names {
        assert_eq!(client.expect::<queue::DeclareOk>(1).queue, name.as_str());
    }
}
