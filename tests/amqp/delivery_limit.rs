//! The delivery limit: a message that came back too often leaves its queue (RabbitMQ's extension; for classic queues ours).

use leveret_protocol::{FieldTable, FieldValue, basic, queue};

use crate::quorum::{delivery_count, quorum_queue, take};
use crate::support::{Client, consume, int, is_oracle, long, s, table};

/// Arguments of a queue with this limit whose dead letters go straight to another queue.
fn limited(limit: i32, dead: &str) -> FieldTable {
    table([
        ("x-delivery-limit", int(limit)),
        ("x-dead-letter-exchange", long("")),
        ("x-dead-letter-routing-key", long(dead)),
    ])
}

/// Takes a message and gives it back until it does not come any more; its counts.
#[track_caller]
fn return_until_it_is_gone(client: &mut Client, queue: &str, limit: i32) -> Vec<Option<i64>> {
    let mut counts = Vec::new();
    for number in 0..=limit {
        let got = take(client, queue);
        counts.push(delivery_count(&got));
        assert_eq!(got.redelivered, number > 0);
        client.reject(1, got.delivery_tag.get(), true);
    }
    counts
}

#[track_caller]
fn expect_death(client: &mut Client, dead: &str, queue: &str) {
    let letter = client.wait_get(1, dead);
    assert!(!letter.redelivered && delivery_count(&letter).is_none(), "a dead letter starts anew");
    let headers = letter.properties.headers.as_ref().expect("headers");
    let deaths = headers.get("x-death").and_then(FieldValue::as_array).expect("an array");
    let [death] = deaths else { panic!("one death in {deaths:?}") };
    let death = death.as_table().expect("a table");
    assert_eq!(death.get("reason"), Some(&long("delivery_limit")));
    assert_eq!(death.get("queue"), Some(&long(queue)));
    assert_eq!(headers.get("x-first-death-reason"), Some(&long("delivery_limit")));
}

#[test]
fn a_message_is_dead_lettered_when_it_came_back_too_often() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = quorum_queue(&mut client, limited(2, &dead));
    client.enqueue(1, &queue, &["x"]);
    assert_eq!(return_until_it_is_gone(&mut client, &queue, 2), [None, Some(1), Some(2)]);
    expect_death(&mut client, &dead, &queue);
    client.expect_empty(1, &queue);
    client.delete_queue(1, &queue);
}

#[test]
fn classic_queues_may_have_a_limit_too() {
    if is_oracle() {
        return; // Ours.
    }
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = client.temporary_queue_with(1, limited(1, &dead));
    client.enqueue(1, &queue, &["x"]);
    assert_eq!(return_until_it_is_gone(&mut client, &queue, 1), [None, Some(1)]);
    expect_death(&mut client, &dead, &queue);
    client.expect_empty(1, &queue);
}

#[test]
fn without_an_exchange_for_dead_letters_it_is_dropped() {
    let mut client = Client::open();
    let queue = quorum_queue(&mut client, table([("x-delivery-limit", int(0))]));
    client.enqueue(1, &queue, &["x", "y"]);
    assert_eq!(take(&mut client, &queue).text(), "x");
    client.nack(1, 1, true);
    assert_eq!(take(&mut client, &queue).text(), "y");
    client.delete_queue(1, &queue);
}

#[test]
fn the_limit_of_a_quorum_queue_is_20_unless_it_says_otherwise() {
    if is_oracle() {
        return; // Since 4.0.
    }
    let mut client = Client::open();
    let queue = quorum_queue(&mut client, FieldTable::new());
    client.enqueue(1, &queue, &["x"]);
    assert_eq!(return_until_it_is_gone(&mut client, &queue, 20).len(), 21);
    client.expect_empty(1, &queue);
    client.delete_queue(1, &queue);
}

#[test]
fn without_a_limit_a_message_goes_to_the_tail() {
    if is_oracle() {
        return; // Since 4.0.
    }
    let mut client = Client::open();
    let queue = quorum_queue(&mut client, table([("x-delivery-limit", int(-1))]));
    client.enqueue(1, &queue, &["a", "b"]);
    for round in 0..25 {
        for body in ["a", "b"] {
            let got = take(&mut client, &queue);
            assert_eq!((got.text(), got.redelivered), (body, round > 0));
            assert_eq!(delivery_count(&got), (round > 0).then_some(round));
            client.reject(1, got.delivery_tag.get(), true);
        }
    }
    client.delete_queue(1, &queue);
}

#[test]
fn a_lost_connection_counts_for_what_it_had_unacked() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = quorum_queue(&mut client, limited(1, &dead));
    client.enqueue(1, &queue, &["a", "b"]);
    for round in 0..2 {
        let mut lost = Client::open();
        lost.qos(1, 1, false);
        lost.consume(1, &queue);
        let delivery = lost.expect_deliver(1);
        assert_eq!((delivery.text(), delivery_count(&delivery)), ("a", (round > 0).then_some(1)));
        drop(lost);
        client.wait_ready(1, &queue, 2 - round);
    }
    expect_death(&mut client, &dead, &queue);
    let got = take(&mut client, &queue);
    assert_eq!((got.text(), delivery_count(&got)), ("b", None));
    client.delete_queue(1, &queue);
}

#[test]
fn a_consumer_gets_the_next_message_when_one_reaches_its_limit() {
    let mut client = Client::open();
    let queue = quorum_queue(&mut client, table([("x-delivery-limit", int(1))]));
    client.qos(1, 1, false);
    client.enqueue(1, &queue, &["a", "b"]);
    client.consume_with(1, basic::Consume { consumer_tag: s("c"), ..consume(&queue) });
    for (tag, body) in (1..).zip(["a", "a", "b", "b"]) {
        assert_eq!(client.expect_deliver(1).text(), body);
        client.nack(1, tag, true);
    }
    client.cancel(1, &s("c"));
    client.wait_ready(1, &queue, 0);
    let purged = client.call::<queue::PurgeOk>(1, queue::Purge { queue: s(&queue), ..queue::Purge::default() });
    assert_eq!(purged.message_count, 0);
    client.delete_queue(1, &queue);
}
