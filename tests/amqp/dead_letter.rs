//! Dead-lettering: where messages go that are rejected, expire or find no room, and what is written on them (RabbitMQ's
//! extension).

use std::time::Instant;

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, basic, exchange};

use crate::support::{
    Client, Received, TestBroker, int, is_oracle, long, millis, no_properties, s, table, unique, with_expiration,
    with_headers,
};

/// A header table as a test wants to see it: values by name, with a panic that shows the table if there is none.
trait Look {
    fn field(&self, name: &str) -> &FieldValue;
    fn text(&self, name: &str) -> &str;
    fn number(&self, name: &str) -> i64;
}

impl Look for FieldTable {
    #[track_caller]
    fn field(&self, name: &str) -> &FieldValue {
        self.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    #[track_caller]
    fn text(&self, name: &str) -> &str {
        let octets = self.field(name).as_long_str().unwrap_or_else(|| panic!("{name} is no long string in {self:?}"));
        std::str::from_utf8(octets).expect("text")
    }

    #[track_caller]
    fn number(&self, name: &str) -> i64 {
        let FieldValue::Int64(number) = self.field(name) else { panic!("{name} is no int64 in {self:?}") };
        *number
    }
}

#[track_caller]
fn headers_of<M>(message: &Received<M>) -> &FieldTable {
    message.properties.headers.as_ref().expect("headers")
}

/// The entries of x-death.
#[track_caller]
fn deaths<M>(message: &Received<M>) -> Vec<FieldTable> {
    let deaths = headers_of(message).field("x-death").as_array().expect("an array");
    deaths.iter().map(|entry| entry.as_table().expect("a table").clone()).collect()
}

/// Queue, reason and count of each entry of x-death.
#[track_caller]
fn history<M>(message: &Received<M>) -> Vec<(String, String, i64)> {
    deaths(message)
        .iter()
        .map(|death| (death.text("queue").to_owned(), death.text("reason").to_owned(), death.number("count")))
        .collect()
}

/// Compares the entries of x-death; the latest comes first.
#[track_caller]
fn expect_history<M>(message: &Received<M>, expected: &[(&String, &str, i64)]) {
    let mut came = history(message);
    let mut expected: Vec<_> =
        expected.iter().map(|&(queue, reason, count)| (queue.clone(), reason.to_owned(), count)).collect();
    if is_oracle() {
        // 3.10 keeps no order among the older entries.
        came[1..].sort();
        expected[1..].sort();
    }
    assert_eq!(came, expected, "queue, reason and count of x-death");
}

/// Arguments of a queue whose dead letters go straight to another queue.
fn to_queue(dead: &str) -> FieldTable {
    table([("x-dead-letter-exchange", long("")), ("x-dead-letter-routing-key", long(dead))])
}

fn with(mut arguments: FieldTable, name: &str, value: FieldValue) -> FieldTable {
    arguments.insert(s(name), value);
    arguments
}

#[test]
fn a_rejected_message_says_how_it_died() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "topic");
    let dlx = client.temporary_exchange(1, "fanout");
    let dead = client.temporary_queue(1);
    client.bind(1, &dead, &dlx, "");
    let queue = client.temporary_queue_with(1, table([("x-dead-letter-exchange", long(&dlx))]));
    client.bind(1, &queue, &exchange, "a.*");
    let properties = BasicProperties {
        headers: Some(table([("mine", int(1))])),
        message_id: Some(s("id")),
        delivery_mode: Some(2),
        priority: Some(3),
        timestamp: Some(1_000),
        ..BasicProperties::default()
    };
    client.publish_with(1, &exchange, "a.b", &properties, "x");
    client.get(1, &queue);
    client.reject(1, 1, false);

    let got = client.wait_get(1, &dead);
    assert_eq!((got.text(), got.redelivered), ("x", false));
    assert_eq!((got.exchange.as_str(), got.routing_key.as_str()), (Some(&dlx[..]), Some("a.b")));
    let headers = headers_of(&got);
    assert_eq!(headers.text("x-first-death-queue"), queue);
    assert_eq!(headers.text("x-first-death-reason"), "rejected");
    assert_eq!(headers.text("x-first-death-exchange"), exchange);
    assert_eq!(headers.field("mine"), &int(1));
    if !is_oracle() {
        // Since 4.0.
        assert_eq!(headers.text("x-last-death-queue"), queue);
        assert_eq!(headers.text("x-last-death-reason"), "rejected");
        assert_eq!(headers.text("x-last-death-exchange"), exchange);
    }
    let [death] = &deaths(&got)[..] else { panic!("one death: {headers:?}") };
    assert_eq!(death.number("count"), 1);
    assert_eq!(death.text("reason"), "rejected");
    assert_eq!(death.text("queue"), queue);
    assert_eq!(death.text("exchange"), exchange);
    assert_eq!(death.field("routing-keys"), &FieldValue::Array(vec![long("a.b")]));
    let FieldValue::Timestamp(time) = *death.field("time") else { panic!("{death:?}") };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(time <= now && time + 60 > now, "{time} is not about {now}");
    assert_eq!(death.len(), 6);
    assert_eq!(BasicProperties { headers: properties.headers.clone(), ..got.properties.clone() }, properties);
}

#[test]
fn a_nack_without_requeue_dead_letters_all_it_covers_in_order() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = client.temporary_queue_with(1, to_queue(&dead));
    client.enqueue(1, &queue, &["1", "2", "3"]);
    for _ in 0..3 {
        client.get(1, &queue);
    }
    client.nack_multiple(1, 3, false);
    client.wait_ready(1, &dead, 3);
    assert_eq!(client.drain(1, &dead), ["1", "2", "3"]);
}

#[test]
fn an_expired_message_loses_its_expiration() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = client.temporary_queue_with(1, to_queue(&dead));
    client.publish_with(1, "", &queue, &with_expiration("100"), "x");
    let got = client.wait_get(1, &dead);
    assert_eq!(got.properties.expiration, None);
    let [death] = &deaths(&got)[..] else { panic!("one death") };
    assert_eq!(death.text("reason"), "expired");
    assert_eq!(death.text("original-expiration"), "100");
    assert_eq!(death.text("exchange"), "");
    assert_eq!(death.field("routing-keys"), &FieldValue::Array(vec![long(&queue)]));
}

#[test]
fn a_rejected_message_loses_its_expiration_too() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = client.temporary_queue_with(1, to_queue(&dead));
    client.publish_with(1, "", &queue, &with_expiration("60000"), "x");
    client.get(1, &queue);
    client.reject(1, 1, false);
    let got = client.wait_get(1, &dead);
    assert_eq!(got.properties.expiration, None);
    assert_eq!(deaths(&got)[0].text("original-expiration"), "60000");
}

#[test]
fn a_queues_time_to_live_dead_letters_on_time() {
    let mut client = Client::open();
    client.open_channel(2);
    let dead = client.temporary_queue(1);
    client.consume_no_ack(2, &dead);
    let queue = client.temporary_queue_with(1, with(to_queue(&dead), "x-message-ttl", int(500)));
    let begun = Instant::now();
    client.enqueue(1, &queue, &["1", "2"]);
    // To look at the head in between changes nothing.
    let got = client.get(1, &queue);
    client.nack(1, got.tag(), true);
    let came = client.expect_deliveries(2, &["1", "2"]);
    let took = begun.elapsed();
    assert!(took >= millis(490) && took < millis(1_500), "{took:?}");
    expect_history(&came[0], &[(&queue, "expired", 1)]);
    assert_eq!(deaths(&came[0])[0].get("original-expiration"), None);
}

#[test]
fn a_message_with_no_time_and_no_taker_is_dead_lettered_at_once() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = client.temporary_queue_with(1, with(to_queue(&dead), "x-message-ttl", int(0)));
    client.enqueue(1, &queue, &["x"]);
    expect_history(&client.wait_get(1, &dead), &[(&queue, "expired", 1)]);
}

#[test]
fn repeated_deaths_are_counted_and_others_stand_in_front() {
    let mut client = Client::open();
    let queue = unique("q");
    let dead = client.temporary_queue(1);
    // Dead letters of the retry queue come back; so do those of the queue, by way of the retry queue.
    let retry = client.temporary_queue_with(1, with(to_queue(&queue), "x-message-ttl", int(50)));
    let declare = leveret_protocol::queue::Declare { arguments: to_queue(&retry), ..crate::support::exclusive(&queue) };
    client.declare(1, declare);
    client.enqueue(1, &queue, &["x"]);
    for round in 1..=3 {
        let mut got = None;
        crate::support::wait_until("the message is back", || {
            got = client.try_get(1, &queue, false);
            got.is_some()
        });
        let got = got.expect("waited for it");
        if round > 1 {
            expect_history(&got, &[(&retry, "expired", round - 1), (&queue, "rejected", round - 1)]);
            assert_eq!(headers_of(&got).text("x-first-death-queue"), queue);
            assert_eq!(headers_of(&got).text("x-first-death-reason"), "rejected");
        }
        client.reject(1, got.tag(), false);
    }
    client.expect_empty(1, &dead);
}

#[test]
fn another_reason_is_another_entry() {
    let mut client = Client::open();
    let first = unique("q");
    let second = client.temporary_queue_with(1, to_queue(&first));
    let arguments = with(to_queue(&second), "x-message-ttl", int(300));
    client.declare(1, leveret_protocol::queue::Declare { arguments, ..crate::support::exclusive(&first) });
    client.enqueue(1, &first, &["x"]);
    let got = client.get(1, &first);
    client.reject(1, got.tag(), false);
    client.wait_ready(1, &second, 1);
    let got = client.get(1, &second);
    client.reject(1, got.tag(), false);
    // Now it expires in the first queue.
    client.wait_ready(1, &second, 1);
    let got = client.get(1, &second);
    expect_history(&got, &[(&first, "expired", 1), (&second, "rejected", 1), (&first, "rejected", 1)]);
}

#[test]
fn expiry_in_a_circle_ends() {
    let mut client = Client::open();
    let queue = unique("q");
    let arguments = with(to_queue(&queue), "x-message-ttl", int(100));
    client.declare(1, leveret_protocol::queue::Declare { arguments, ..crate::support::exclusive(&queue) });
    client.fill(1, &queue, &["x"]);
    client.wait_ready(1, &queue, 0);
    client.consume_no_ack(1, &queue);
    client.expect_nothing_for(millis(300));
}

#[test]
fn expiry_in_a_wider_circle_ends_too() {
    let mut client = Client::open();
    let names = [unique("q"), unique("q"), unique("q")];
    for index in 0..3 {
        let arguments = with(to_queue(&names[(index + 1) % 3]), "x-message-ttl", int(100));
        client.declare(1, leveret_protocol::queue::Declare { arguments, ..crate::support::exclusive(&names[index]) });
    }
    client.enqueue(1, &names[0], &["x"]);
    client.wait_ready(1, &names[2], 1);
    client.wait_ready(1, &names[2], 0);
    client.expect_nothing_for(millis(300));
    for name in &names {
        client.expect_empty(1, name);
    }
}

#[test]
fn a_circle_goes_on_as_long_as_somebody_rejects() {
    let mut client = Client::open();
    let names = [unique("q"), unique("q"), unique("q")];
    for index in 0..3 {
        let mut arguments = to_queue(&names[(index + 1) % 3]);
        if index > 0 {
            arguments = with(arguments, "x-message-ttl", int(5));
        }
        client.declare(1, leveret_protocol::queue::Declare { arguments, ..crate::support::exclusive(&names[index]) });
    }
    client.consume(1, &names[0]);
    client.open_channel(2);
    client.enqueue(2, &names[0], &["x"]);
    // 3.10 keeps no order among the older entries of x-death, and so misses the reject in the second round.
    let rounds = if is_oracle() { 2 } else { 10 };
    for round in 0..rounds {
        let delivery = client.expect_deliver(1);
        if round > 0 {
            let [first, second, third] = &names;
            let expected = [(third, "expired", round), (second, "expired", round), (first, "rejected", round)];
            expect_history(&delivery, &expected);
        }
        client.reject(1, delivery.tag(), false);
    }
}

#[test]
fn the_dead_letter_routing_key_replaces_the_messages_own() {
    let mut client = Client::open();
    let dlx = client.temporary_exchange(1, "direct");
    let (old, new) = (client.temporary_queue(1), client.temporary_queue(1));
    let queue = unique("q");
    client.bind(1, &old, &dlx, &queue);
    client.bind(1, &new, &dlx, "new");
    let arguments = table([("x-dead-letter-exchange", long(&dlx)), ("x-dead-letter-routing-key", long("new"))]);
    client.declare(1, leveret_protocol::queue::Declare { arguments, ..crate::support::exclusive(&queue) });
    client.enqueue(1, &queue, &["x"]);
    client.get(1, &queue);
    client.reject(1, 1, false);
    let got = client.wait_get(1, &new);
    assert_eq!((got.exchange.as_str(), got.routing_key.as_str()), (Some(&dlx[..]), Some("new")));
    assert_eq!(deaths(&got)[0].field("routing-keys"), &FieldValue::Array(vec![long(&queue)]));
    client.expect_empty(1, &old);
}

#[test]
fn a_missing_dead_letter_exchange_drops_messages_until_it_is_there() {
    let mut client = Client::open();
    let dlx = unique("x");
    let queue = client.temporary_queue_with(1, table([("x-dead-letter-exchange", long(&dlx))]));
    let dead = client.temporary_queue(1);
    let die = |client: &mut Client, body: &str| {
        client.enqueue(1, &queue, &[body]);
        let got = client.get(1, &queue);
        client.reject(1, got.tag(), false);
        client.barrier(1);
        client.wait_ready(1, &queue, 0);
    };
    die(&mut client, "before");
    for round in ["first", "second"] {
        let declare = exchange::Declare { exchange: s(&dlx), kind: s("fanout"), ..exchange::Declare::default() };
        client.call::<exchange::DeclareOk>(1, declare);
        client.bind(1, &dead, &dlx, "");
        die(&mut client, round);
        assert_eq!(client.wait_get(1, &dead).text(), round);
        client.delete_exchange(1, &dlx);
        die(&mut client, "between");
    }
    client.expect_empty(1, &dead);
}

#[test]
fn dead_letters_take_all_the_ways_of_their_exchange() {
    let mut client = Client::open();
    let dlx = client.temporary_exchange(1, "fanout");
    let names: Vec<String> = (0..3).map(|_| client.temporary_queue(1)).collect();
    for name in &names {
        client.bind(1, name, &dlx, "");
    }
    let queue = client.temporary_queue_with(1, table([("x-dead-letter-exchange", long(&dlx))]));
    client.enqueue(1, &queue, &["x"]);
    client.get(1, &queue);
    client.reject(1, 1, false);
    for name in &names {
        assert_eq!(client.wait_get(1, name).text(), "x");
    }
}

#[test]
fn what_is_pushed_out_of_a_full_queue_dies_of_its_length() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = client.temporary_queue_with(1, with(to_queue(&dead), "x-max-length", int(2)));
    client.enqueue(1, &queue, &["1", "2", "3", "4"]);
    client.wait_ready(1, &dead, 2);
    let first = client.get(1, &dead);
    assert_eq!(first.text(), "1");
    expect_history(&first, &[(&queue, "maxlen", 1)]);
    assert_eq!(client.get(1, &dead).text(), "2");
    assert_eq!(client.drain(1, &queue), ["3", "4"]);
}

#[test]
fn what_a_full_queue_refuses_is_dead_lettered_if_asked_for() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let arguments = with(to_queue(&dead), "x-max-length", int(1));
    let queue = client.temporary_queue_with(1, with(arguments, "x-overflow", long("reject-publish-dlx")));
    client.select_confirms(1);
    client.enqueue(1, &queue, &["1"]);
    client.expect_ack(1, 1);
    client.enqueue(1, &queue, &["2"]);
    client.expect_nack(1, 2);
    let got = client.wait_get(1, &dead);
    assert_eq!(got.text(), "2");
    expect_history(&got, &[(&queue, "maxlen", 1)]);
    assert_eq!(client.drain(1, &queue), ["1"]);
}

#[test]
fn purged_and_deleted_messages_are_not_dead_lettered() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = client.temporary_queue_with(1, to_queue(&dead));
    client.enqueue(1, &queue, &["1", "2"]);
    client.purge(1, &queue);
    client.enqueue(1, &queue, &["3", "4"]);
    client.get(1, &queue);
    client.delete_queue(1, &queue);
    client.consume_no_ack(1, &dead);
    client.expect_nothing_for(millis(100));
}

#[test]
fn a_forged_history_is_data_until_the_first_death() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = client.temporary_queue_with(1, with(to_queue(&dead), "x-message-ttl", int(100)));
    let forged = table([
        ("count", FieldValue::Int64(7)),
        ("reason", long("expired")),
        ("queue", long(&dead)),
        ("exchange", long("")),
        ("time", FieldValue::Timestamp(1)),
        ("routing-keys", FieldValue::Array(vec![])),
    ]);
    let headers =
        table([("x-death", FieldValue::Array(vec![forged.into()])), ("x-first-death-reason", long("forged"))]);
    if !is_oracle() {
        // 3.10 believes it, and drops the message as one that has been in the target before.
        client.publish_with(1, "", &queue, &with_headers(headers.clone()), "x");
        let got = client.wait_get(1, &dead);
        expect_history(&got, &[(&queue, "expired", 1)]);
        assert_eq!(headers_of(&got).text("x-first-death-reason"), "expired");
        assert_eq!(headers_of(&got).text("x-first-death-queue"), queue);
    }
    // Untouched where nobody dies.
    client.publish_with(1, "", &dead, &with_headers(headers.clone()), "y");
    assert_eq!(client.wait_get(1, &dead).properties.headers, Some(headers));
}

#[test]
fn a_history_sent_back_by_a_client_is_not_continued() {
    if is_oracle() {
        return; // 3.10 counts on; the target is 4.x.
    }
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = client.temporary_queue_with(1, to_queue(&dead));
    client.enqueue(1, &queue, &["x"]);
    for _ in 0..3 {
        let got = client.get(1, &queue);
        client.reject(1, got.tag(), false);
        let got = client.wait_get(1, &dead);
        expect_history(&got, &[(&queue, "rejected", 1)]);
        client.publish_with(1, "", &queue, &got.properties, "x");
    }
}

#[test]
fn a_dead_letter_counts_as_delivered_only_when_it_has_been() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = client.temporary_queue_with(1, to_queue(&dead));
    client.enqueue(1, &queue, &["x"]);
    let got = client.get(1, &queue);
    client.nack(1, got.tag(), true);
    client.wait_ready(1, &queue, 1);
    let got = client.get(1, &queue);
    assert!(got.redelivered);
    client.nack(1, got.tag(), false);
    client.wait_ready(1, &dead, 1);
    let got = client.get(1, &dead);
    assert!(!got.redelivered);
    client.nack(1, got.tag(), true);
    client.wait_ready(1, &dead, 1);
    assert!(client.get(1, &dead).redelivered);
}

#[test]
fn a_dead_letter_consumer_gets_the_message_at_once() {
    let mut client = Client::open();
    let mut other = Client::open();
    let dead = unique("q");
    other.declare(1, crate::support::exclusive(&dead));
    other.consume_no_ack(1, &dead);
    let queue = client.temporary_queue_with(1, to_queue(&dead));
    for number in 0..100 {
        client.publish_with(1, "", &queue, &no_properties(), &number.to_string());
    }
    client.consume(1, &queue);
    for _ in 0..100 {
        let tag = client.expect_deliver(1).tag();
        client.send(1, basic::Reject { delivery_tag: leveret_protocol::DeliveryTag::new(tag), requeue: false });
    }
    for number in 0..100 {
        assert_eq!(other.expect_deliver(1).text(), number.to_string());
    }
}

#[test]
fn with_the_rules_of_3_13_a_letter_by_its_queues_key_loses_cc() {
    if is_oracle() {
        return; // A broker of this test's own.
    }
    for (compat, cc) in [(leveret::Compat::V3, false), (leveret::Compat::V4, true)] {
        let broker = TestBroker::start_with(leveret::Config { compat, ..leveret::Config::for_tests() });
        let mut client = broker.open();
        let dead = client.temporary_queue(1);
        let by_own_key = client.temporary_queue_with(1, to_queue(&dead));
        let by_its_keys = client.temporary_queue_with(1, table([("x-dead-letter-exchange", long("amq.fanout"))]));
        client.bind(1, &dead, "amq.fanout", "");
        for (queue, kept) in [(&by_own_key, cc), (&by_its_keys, true)] {
            let headers = table([("CC", FieldValue::Array(vec![long("elsewhere")])), ("other", long("x"))]);
            let properties = BasicProperties { headers: Some(headers), ..BasicProperties::default() };
            client.publish_with(1, "", queue, &properties, "x");
            let tag = client.get(1, queue).tag();
            client.reject(1, tag, false);
            let letter = client.wait_get(1, &dead);
            let headers = headers_of(&letter);
            assert_eq!(
                (headers.get("CC").is_some(), headers.get("other").is_some()),
                (kept, true),
                "{compat:?} {queue}"
            );
            let keys = FieldValue::Array(vec![long(queue), long("elsewhere")]);
            assert_eq!(*deaths(&letter)[0].field("routing-keys"), keys);
        }
        drop(client);
        broker.stop();
    }
}

#[test]
fn with_the_rules_of_3_13_a_history_sent_by_a_client_is_continued() {
    if is_oracle() {
        return; // A broker of this test's own; the oracle always does so.
    }
    let config = leveret::Config { compat: leveret::Compat::V3, ..leveret::Config::for_tests() };
    let broker = TestBroker::start_with(config);
    let mut client = broker.open();
    let dead = client.temporary_queue(1);
    let queue = client.temporary_queue_with(1, to_queue(&dead));
    client.enqueue(1, &queue, &["x"]);
    client.get(1, &queue);
    client.reject(1, 1, false);
    for (tag, count) in (3..).step_by(2).zip(2..5) {
        let letter = client.wait_get(1, &dead);
        client.publish_with(1, "", &queue, &letter.properties, "x");
        client.get(1, &queue);
        client.reject(1, tag, false);
        client.wait_ready(1, &dead, 1);
        if count == 4 {
            expect_history(&client.wait_get(1, &dead), &[(&queue, "rejected", 4)]);
        }
    }
    drop(client);
    broker.stop();
}
