//! Consumers: tags, exclusiveness, priorities, rotation, cancelling by either side (spec §1.8.3.3–1.8.3.6).

use leveret_protocol::{FieldTable, FieldValue, Method, basic, queue};

use crate::support::{
    Client, DEADLINE, Options, TestBroker, consume, exclusive, int, is_oracle, long, millis, passive, s, table, unique,
    wait_until,
};

fn with_tag(queue: &str, tag: &str) -> basic::Consume {
    basic::Consume { consumer_tag: s(tag), ..consume(queue) }
}

fn with_priority(queue: &str, tag: &str, priority: FieldValue) -> basic::Consume {
    basic::Consume { arguments: table([("x-priority", priority)]), ..with_tag(queue, tag) }
}

/// The tags and bodies of the next deliveries on channel 1.
#[track_caller]
fn deliveries(client: &mut Client, count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|_| client.expect_deliver(1))
        .map(|delivery| (delivery.consumer_tag.to_string(), delivery.text().to_owned()))
        .collect()
}

fn numbers(count: usize) -> Vec<String> {
    (1..=count).map(|number| number.to_string()).collect()
}

#[test]
fn a_delivery_says_where_it_comes_from() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    let exchange = client.temporary_exchange(1, "topic");
    client.bind(1, &queue, &exchange, "a.*");
    let tag = client.consume_with(1, with_tag(&queue, "mine"));
    assert_eq!(tag, "mine");
    client.publish(1, &exchange, "a.b", "x");
    let delivery = client.expect_deliver(1);
    assert_eq!((delivery.consumer_tag.as_str(), delivery.tag(), delivery.redelivered), (Some("mine"), 1, false));
    assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), (Some(&exchange[..]), Some("a.b")));
}

#[test]
fn the_broker_names_a_consumer_without_a_tag() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    let tag = client.consume(1, &queue);
    let other = client.consume(1, &queue);
    assert_ne!(tag, other);
    let text = tag.as_str().expect("text");
    assert_eq!(text.strip_prefix("amq.ctag-").expect(text).len(), 22, "{text}");
}

#[test]
fn a_consumer_without_wait_and_tag_is_known_by_its_first_delivery() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.send(1, basic::Consume { no_wait: true, ..consume(&queue) });
    client.enqueue(1, &queue, &["x"]);
    let delivery = client.expect_deliver(1);
    assert!(delivery.consumer_tag.as_bytes().starts_with(b"amq.ctag-"));
    client.cancel(1, &delivery.consumer_tag.clone());
}

#[test]
fn consume_ok_comes_before_the_first_delivery() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.fill(1, &queue, &["a", "b"]);
    client.consume(1, &queue);
    client.expect_deliveries(1, &["a", "b"]);
}

#[test]
fn a_tag_is_used_once_on_a_channel() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(1);
    let tag = client.consume_with(1, with_tag(&queue, "t"));
    client.consume_with(2, with_tag(&queue, "t"));
    client.cancel(1, &tag);
    client.consume_with(1, with_tag(&queue, "t"));
    client.send(1, with_tag(&queue, "t"));
    client.expect_connection_close(530, "attempt to reuse consumer tag 't'", (60, 20));
}

#[test]
fn tags_may_have_255_octets() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    let tag = "ü".repeat(127);
    client.consume_with(1, with_tag(&queue, &tag));
    client.enqueue(1, &queue, &["x"]);
    assert_eq!(client.expect_deliver(1).consumer_tag, tag.as_str());
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let mut client = Client::open();
    client.open_channel(2);
    client.open_channel(3);
    let queue = client.temporary_queue(3);
    let in_use = format!("queue '{queue}' in vhost '/' in exclusive use");
    let alone = basic::Consume { exclusive: true, ..consume(&queue) };
    let tag = client.consume_with(1, alone.clone());
    for second in [consume(&queue), alone.clone()] {
        client.send(2, second);
        client.expect_channel_close(2, 403, &in_use, (60, 20));
        client.open_channel(2);
    }
    client.cancel(1, &tag);
    client.consume(2, &queue);
    client.send(1, alone);
    client.expect_channel_close(1, 403, &in_use, (60, 20));
}

#[test]
fn an_exclusive_consumer_frees_the_queue_with_its_channel() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(1);
    client.consume_with(2, basic::Consume { exclusive: true, ..consume(&queue) });
    client.close_channel(2);
    client.consume(1, &queue);
}

#[test]
fn cancelling_what_is_not_there_is_answered() {
    let mut client = Client::open();
    client.cancel(1, &s("nobody"));
    client.send(1, basic::Cancel { consumer_tag: s("nobody"), no_wait: true });
    client.barrier(1);
}

#[test]
fn nothing_is_delivered_after_cancel_ok() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(1);
    for _ in 0..1_000 {
        client.enqueue(1, &queue, &["x"]);
    }
    client.consume_with(2, with_tag(&queue, "t"));
    client.expect_deliver(2);
    client.send(2, basic::Cancel { consumer_tag: s("t"), no_wait: false });
    let mut delivered = 1;
    loop {
        let arrived = client.next_on(2, DEADLINE).expect("cancel-ok comes");
        match arrived.method {
            Method::BasicCancelOk(_) => break,
            Method::BasicDeliver(_) => delivered += 1,
            _ => panic!("unexpected {arrived}"),
        }
    }
    client.expect_nothing_for(millis(100));
    client.wait_ready(1, &queue, 1_000 - delivered);
}

#[test]
fn a_cancelled_consumers_messages_can_still_be_acked() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    let tag = client.consume(1, &queue);
    client.enqueue(1, &queue, &["a", "b", "c"]);
    client.expect_deliveries(1, &["a", "b", "c"]);
    client.cancel(1, &tag);
    client.expect_ready(1, &queue, 0);
    client.ack(1, 1);
    client.nack(1, 2, true);
    client.reject(1, 3, false);
    client.wait_ready(1, &queue, 1);
    assert_eq!(client.drain(1, &queue), ["b"]);
}

#[test]
fn consumers_are_told_that_their_queue_is_gone() {
    let mut client = Client::open();
    let mut other = Client::open();
    let queue = unique("q");
    client.declare(1, queue::Declare { queue: s(&queue), ..queue::Declare::default() });
    for tag in ["a", "b"] {
        client.consume_with(1, with_tag(&queue, tag));
    }
    other.delete_queue(1, &queue);
    let mut cancelled: Vec<String> = Vec::new();
    for _ in 0..2 {
        let cancel: basic::Cancel = client.expect(1);
        assert!(cancel.no_wait);
        cancelled.push(cancel.consumer_tag.to_string());
    }
    cancelled.sort();
    assert_eq!(cancelled, ["a", "b"]);
    // The client may cancel on its own, or answer.
    client.cancel(1, &s("b"));
    if !is_oracle() {
        client.send(1, basic::CancelOk { consumer_tag: s("a") }); // 3.10 knows no such method from a client.
    }
    client.barrier(1);
}

#[test]
fn delete_ok_comes_before_the_cancel_on_the_same_channel() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.consume_with(1, with_tag(&queue, "t"));
    client.delete_queue(1, &queue);
    assert_eq!(client.expect::<basic::Cancel>(1).consumer_tag, "t");
}

#[test]
fn consumers_that_cannot_be_told_are_not() {
    let mut client = Options { capabilities: Some(vec!["basic.nack"]), ..Options::default() }.open();
    let queue = client.temporary_queue(1);
    client.consume(1, &queue);
    client.delete_queue(1, &queue);
    client.barrier(1);
    client.expect_nothing_for(millis(100));
}

#[test]
fn a_consumer_of_a_deleted_queue_leaves_its_tag_free() {
    let mut client = Client::open();
    let first = client.temporary_queue(1);
    client.consume_with(1, with_tag(&first, "t"));
    client.delete_queue(1, &first);
    client.expect::<basic::Cancel>(1);
    let second = client.temporary_queue(1);
    client.consume_with(1, with_tag(&second, "t"));
    client.enqueue(1, &second, &["x"]);
    assert_eq!(client.expect_deliver(1).text(), "x");
}

#[test]
fn messages_of_a_deleted_queue_can_still_be_acked() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.enqueue(1, &queue, &["a", "b", "c"]);
    for _ in 0..3 {
        client.get(1, &queue);
    }
    client.delete_queue(1, &queue);
    client.ack(1, 1);
    client.nack(1, 2, true);
    client.reject(1, 3, false);
    client.barrier(1);
    client.expect_nothing_for(millis(50));
}

#[test]
fn equal_consumers_take_turns() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    for tag in ["a", "b", "c"] {
        client.consume_with(1, with_tag(&queue, tag));
    }
    let bodies = numbers(9);
    for body in &bodies {
        client.enqueue(1, &queue, &[body]);
    }
    let came = deliveries(&mut client, 9);
    let tags: Vec<&str> = came.iter().map(|(tag, _)| &tag[..]).collect();
    assert_eq!(tags, ["a", "b", "c", "a", "b", "c", "a", "b", "c"]);
    let came: Vec<&str> = came.iter().map(|(_, body)| &body[..]).collect();
    assert_eq!(came, bodies);
}

#[test]
fn a_higher_priority_is_served_first_until_it_is_full() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.qos(1, 2, false);
    client.consume_with(1, with_tag(&queue, "low"));
    client.consume_with(1, with_priority(&queue, "high", int(10)));
    client.consume_with(1, with_priority(&queue, "lowest", int(-1)));
    for body in numbers(5) {
        client.enqueue(1, &queue, &[&body]);
    }
    let came = deliveries(&mut client, 5);
    let tags: Vec<&str> = came.iter().map(|(tag, _)| &tag[..]).collect();
    assert_eq!(tags, ["high", "high", "low", "low", "lowest"]);
    // A slot of the highest that becomes free is the next to be filled.
    client.ack(1, 2);
    client.enqueue(1, &queue, &["6", "7"]);
    let came = deliveries(&mut client, 2);
    let tags: Vec<&str> = came.iter().map(|(tag, _)| &tag[..]).collect();
    assert_eq!(tags, ["high", "lowest"]);
}

#[test]
fn a_consumer_priority_is_an_integer_of_any_width() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    for (tag, priority) in [("a", FieldValue::Int8(-1)), ("b", FieldValue::Int64(1 << 40)), ("c", FieldValue::UInt8(3))]
    {
        client.consume_with(1, with_priority(&queue, tag, priority));
    }
    client.enqueue(1, &queue, &["x"]);
    assert_eq!(client.expect_deliver(1).consumer_tag, "b");
    for (value, kind) in [
        (long("5"), "longstr"),
        (FieldTable::new().into(), "table"),
        (FieldValue::Array(vec![]), "array"),
        (FieldValue::Void, "void"),
    ] {
        client.send(1, with_priority(&queue, "bad", value));
        let text =
            format!("invalid arg 'x-priority' for queue '{queue}' in vhost '/': \"expected integer, got {kind}\"");
        client.expect_channel_close(1, 406, &text, (60, 20));
        client.open_channel(1);
    }
}

#[test]
fn unknown_consumer_arguments_are_accepted() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    let arguments = table([("x-cancel-on-ha-failover", FieldValue::Boolean(true)), ("odd", int(1))]);
    client.consume_with(1, basic::Consume { arguments, ..consume(&queue) });
}

#[test]
fn an_argument_of_streams_is_refused_elsewhere() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    for (name, value) in [
        ("x-stream-offset", long("first")),
        ("x-stream-filter", long("f")),
        ("x-stream-match-unfiltered", FieldValue::Boolean(true)),
    ] {
        if is_oracle() && name != "x-stream-offset" {
            continue; // 3.10 knows no filters.
        }
        client.send(1, basic::Consume { arguments: table([(name, value)]), ..consume(&queue) });
        let text = format!("invalid arg '{name}' for queue '{queue}' in vhost '/' of queue type rabbit_classic_queue");
        client.expect_channel_close(1, 406, &text, (60, 20));
        client.open_channel(1);
    }
}

#[test]
fn a_channel_has_as_many_consumers_as_the_configuration_allows() {
    if is_oracle() {
        return; // A broker of this test's own.
    }
    let config = leveret::Config { consumer_max_per_channel: Some(2), ..leveret::Config::for_tests() };
    let broker = TestBroker::start_with(config);
    let mut client = broker.open();
    client.open_channel(2);
    let queue = client.temporary_queue(1);
    client.consume_with(1, with_tag(&queue, "a"));
    client.consume_with(1, with_tag(&queue, "b"));
    client.cancel(1, &s("a"));
    client.consume_with(1, with_tag(&queue, "a"));
    client.consume_with(2, with_tag(&queue, "c"));
    client.send(1, with_tag("no such queue", "d"));
    client.expect_connection_close(530, "reached maximum (2) of consumers per channel", (60, 20));
    drop(client);
    broker.stop();
}

#[test]
fn no_local_is_ignored() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.consume_with(1, basic::Consume { no_local: true, ..consume(&queue) });
    client.enqueue(1, &queue, &["x"]);
    assert_eq!(client.expect_deliver(1).text(), "x");
}

#[test]
fn of_single_active_consumers_one_is_active() {
    let mut client = Client::open();
    client.open_channel(2);
    client.open_channel(3);
    let queue = client.temporary_queue_with(3, table([("x-single-active-consumer", FieldValue::Boolean(true))]));
    client.qos(1, 2, false);
    let first = client.consume_with(1, with_tag(&queue, "first"));
    client.consume_with(2, with_tag(&queue, "second"));
    client.enqueue(3, &queue, &["a", "b", "c", "d"]);
    client.expect_deliveries(1, &["a", "b"]);
    client.expect_nothing_for(millis(100));
    client.cancel(1, &first);
    if is_oracle() {
        // 3.10 forgets to serve the next one until somebody subscribes (and its queue crashes if somebody publishes first).
        client.consume(3, &queue);
    }
    client.expect_deliveries(2, &["c", "d"]);
    client.expect_nothing_for(millis(50));
    // What the first had not acked stays its own until it gives it back.
    client.nack_multiple(1, 2, true);
    let again = client.expect_deliveries(2, &["a", "b"]);
    assert!(again.iter().all(|delivery| delivery.redelivered));
}

#[test]
fn the_next_single_active_consumer_is_the_one_of_highest_priority() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue_with(2, table([("x-single-active-consumer", FieldValue::Boolean(true))]));
    let first = client.consume_with(1, with_tag(&queue, "first"));
    client.consume_with(1, with_tag(&queue, "second"));
    client.consume_with(1, with_priority(&queue, "third", int(5)));
    client.enqueue(2, &queue, &["a"]);
    assert_eq!(client.expect_deliver(1).consumer_tag, "first", "a later priority takes nothing away");
    client.cancel(1, &first);
    client.enqueue(2, &queue, &["b"]);
    assert_eq!(client.expect_deliver(1).consumer_tag, "third");
    client.cancel(1, &s("third"));
    client.enqueue(2, &queue, &["c"]);
    assert_eq!(client.expect_deliver(1).consumer_tag, "second");
}

#[test]
fn a_single_active_consumer_hands_over_when_its_connection_is_lost() {
    let mut client = Client::open();
    let queue = unique("q");
    let arguments = table([("x-single-active-consumer", FieldValue::Boolean(true))]);
    client.declare(1, queue::Declare { arguments, exclusive: false, ..exclusive(&queue) });
    let mut first = Client::open();
    first.consume(1, &queue);
    client.consume(1, &queue);
    client.open_channel(2);
    client.enqueue(2, &queue, &["a"]);
    first.expect_deliver(1);
    drop(first);
    let delivery = client.expect_deliver(1);
    assert_eq!((delivery.text(), delivery.redelivered), ("a", true));
    client.delete_queue(2, &queue);
}

#[test]
fn an_exclusive_consumer_and_single_active_consumers_do_not_go_together() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, table([("x-single-active-consumer", FieldValue::Boolean(true))]));
    client.send(1, basic::Consume { exclusive: true, ..consume(&queue) });
    client.expect_channel_close(1, 403, &format!("queue '{queue}' in vhost '/' in exclusive use"), (60, 20));
}

#[test]
fn get_works_beside_an_exclusive_or_single_active_consumer() {
    let mut client = Client::open();
    client.open_channel(2);
    client.qos(2, 1, false);
    let plain = client.temporary_queue(1);
    let single = client.temporary_queue_with(1, table([("x-single-active-consumer", FieldValue::Boolean(true))]));
    client.consume_with(2, basic::Consume { exclusive: true, ..consume(&plain) });
    client.consume(2, &single);
    for queue in [&plain, &single] {
        client.enqueue(1, queue, &["a", "b"]);
        client.expect_deliver(2);
        assert_eq!(client.wait_get(1, queue).text(), "b");
    }
}

#[test]
fn a_lost_connection_frees_its_exclusive_consumer() {
    let mut client = Client::open();
    let queue = unique("q");
    client.declare(1, queue::Declare { exclusive: false, ..exclusive(&queue) });
    let mut other = Client::open();
    other.consume_with(1, basic::Consume { exclusive: true, ..consume(&queue) });
    drop(other);
    wait_until("the consumer is gone", || client.declare(1, passive(&queue)).consumer_count == 0);
    client.consume(1, &queue);
    client.delete_queue(1, &queue);
}

#[test]
fn one_channel_may_consume_from_many_queues() {
    let mut client = Client::open();
    let queues: Vec<String> = (0..20).map(|_| client.temporary_queue(1)).collect();
    for (index, queue) in queues.iter().enumerate() {
        client.consume_with(1, with_tag(queue, &index.to_string()));
    }
    client.open_channel(2);
    for (index, queue) in queues.iter().enumerate() {
        client.enqueue(2, queue, &[&index.to_string()]);
    }
    let mut tags = Vec::new();
    for _ in &queues {
        let delivery = client.expect_deliver(1);
        assert_eq!(delivery.consumer_tag.to_string(), delivery.text());
        tags.push(delivery.tag());
    }
    assert_eq!(tags, (1..=20).collect::<Vec<u64>>(), "delivery tags count per channel");
}
