//! basic.qos: how many messages may be unacked, per consumer and per channel (spec §1.8.3.1, in RabbitMQ's reading).

use leveret_protocol::basic;

use crate::support::{Client, Options, consume, millis, s};

fn with_tag(queue: &str, tag: &str) -> basic::Consume {
    basic::Consume { consumer_tag: s(tag), ..consume(queue) }
}

fn no_ack(queue: &str, tag: &str) -> basic::Consume {
    basic::Consume { no_ack: true, ..with_tag(queue, tag) }
}

/// Nothing more is delivered on any channel.
#[track_caller]
fn expect_full(client: &mut Client) {
    client.expect_nothing_for(millis(100));
}

#[test]
fn a_prefetch_size_is_not_implemented() {
    let mut client = Client::open();
    client.send(1, basic::Qos { prefetch_size: 1024, prefetch_count: 1, global: false });
    client.expect_connection_close(540, "prefetch_size!=0 (1024)", (60, 10));
}

#[test]
fn a_limit_holds_for_consumers_started_after_it() {
    let mut client = Client::open();
    client.open_channel(2);
    let (before, after) = (client.temporary_queue(2), client.temporary_queue(2));
    client.consume_with(1, with_tag(&before, "before"));
    client.qos(1, 1, false);
    client.consume_with(1, with_tag(&after, "after"));
    client.enqueue(2, &before, &["1", "2", "3"]);
    client.expect_deliveries(1, &["1", "2", "3"]);
    client.enqueue(2, &after, &["4", "5"]);
    client.expect_deliveries(1, &["4"]);
    expect_full(&mut client);
    client.ack(1, 4);
    client.expect_deliveries(1, &["5"]);
}

#[test]
fn each_consumer_has_its_own_limit() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    client.qos(1, 2, false);
    client.consume_with(1, with_tag(&queue, "a"));
    client.consume_with(1, with_tag(&queue, "b"));
    client.enqueue(2, &queue, &["1", "2", "3", "4", "5"]);
    client.expect_deliveries(1, &["1", "2", "3", "4"]);
    expect_full(&mut client);
}

#[test]
fn every_way_to_settle_frees_a_slot() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    client.qos(1, 1, false);
    client.consume(1, &queue);
    client.enqueue(2, &queue, &["1", "2", "3", "4", "5"]);
    client.expect_deliveries(1, &["1"]);
    client.ack(1, 1);
    client.expect_deliveries(1, &["2"]);
    client.nack(1, 2, false);
    client.expect_deliveries(1, &["3"]);
    client.reject(1, 3, false);
    client.expect_deliveries(1, &["4"]);
    client.reject(1, 4, true);
    client.expect_deliveries(1, &["4"]);
    client.nack(1, 5, true);
    client.expect_deliveries(1, &["4"]);
    client.ack_multiple(1, 6);
    client.expect_deliveries(1, &["5"]);
    expect_full(&mut client);
}

#[test]
fn an_ack_of_many_frees_as_many_slots() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    client.qos(1, 3, false);
    client.consume(1, &queue);
    client.enqueue(2, &queue, &["1", "2", "3", "4", "5", "6", "7"]);
    client.expect_deliveries(1, &["1", "2", "3"]);
    client.ack_multiple(1, 2);
    client.expect_deliveries(1, &["4", "5"]);
    expect_full(&mut client);
    client.ack_multiple(1, 0);
    client.expect_deliveries(1, &["6", "7"]);
}

#[test]
fn a_sole_consumer_gets_its_requeued_message_back_at_once() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    client.qos(1, 1, false);
    client.consume(1, &queue);
    client.enqueue(2, &queue, &["a", "b"]);
    for tag in 1..=5 {
        let delivery = client.expect_deliver(1);
        assert_eq!((delivery.text(), delivery.tag(), delivery.redelivered), ("a", tag, tag > 1));
        client.nack(1, tag, true);
    }
}

#[test]
fn a_limit_of_0_is_none() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    client.qos(1, 1, false);
    client.qos(1, 0, false);
    client.consume(1, &queue);
    client.enqueue(2, &queue, &["1", "2", "3"]);
    client.expect_deliveries(1, &["1", "2", "3"]);
}

#[test]
fn a_channels_limit_is_shared_by_its_consumers() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    client.qos(1, 3, true);
    client.consume_with(1, with_tag(&queue, "a"));
    client.consume_with(1, with_tag(&queue, "b"));
    client.enqueue(2, &queue, &["1", "2", "3", "4", "5", "6", "7"]);
    client.expect_deliveries(1, &["1", "2", "3"]);
    expect_full(&mut client);
    client.qos(1, 5, true);
    client.expect_deliveries(1, &["4", "5"]);
    expect_full(&mut client);
    client.ack(1, 1);
    client.expect_deliveries(1, &["6"]);
    expect_full(&mut client);
    client.qos(1, 0, true);
    client.expect_deliveries(1, &["7"]);
}

#[test]
fn a_channels_limit_spans_queues() {
    let mut client = Client::open();
    client.open_channel(2);
    let (first, second) = (client.temporary_queue(2), client.temporary_queue(2));
    client.qos(1, 1, true);
    client.consume(1, &first);
    client.consume(1, &second);
    client.enqueue(2, &first, &["a"]);
    client.expect_deliveries(1, &["a"]);
    client.enqueue(2, &second, &["b"]);
    expect_full(&mut client);
    client.ack(1, 1);
    client.expect_deliveries(1, &["b"]);
}

#[test]
fn a_channels_limit_is_shared_fairly() {
    let mut client = Client::open();
    client.open_channel(2);
    let (first, second) = (client.temporary_queue(2), client.temporary_queue(2));
    client.qos(1, 1, true);
    for (queue, tags) in [(&first, ["a", "b"]), (&second, ["c", "d"])] {
        for tag in tags {
            client.consume_with(1, with_tag(queue, tag));
        }
    }
    for queue in [&first, &second] {
        client.enqueue(2, queue, &["x"; 8]);
    }
    let mut tags: Vec<_> = (1..=9)
        .map(|number| {
            let tag = client.expect_deliver(1).consumer_tag.to_string();
            client.ack(1, number);
            tag
        })
        .collect();
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags, ["a", "b", "c", "d"], "no consumer and no queue is left behind");
}

#[test]
fn both_kinds_of_limit_hold_together() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    client.qos(1, 2, false);
    client.qos(1, 3, true);
    client.consume_with(1, with_tag(&queue, "a"));
    client.enqueue(2, &queue, &["1", "2", "3", "4"]);
    client.expect_deliveries(1, &["1", "2"]);
    expect_full(&mut client);
    client.consume_with(1, with_tag(&queue, "b"));
    client.expect_deliveries(1, &["3"]);
    expect_full(&mut client);
}

#[test]
fn a_channels_limit_counts_what_is_unacked_already() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    client.consume(1, &queue);
    client.enqueue(2, &queue, &["1", "2"]);
    client.expect_deliveries(1, &["1", "2"]);
    client.qos(1, 2, true);
    client.enqueue(2, &queue, &["3"]);
    expect_full(&mut client);
    client.ack(1, 1);
    client.expect_deliveries(1, &["3"]);
}

#[test]
fn consumers_that_do_not_ack_have_no_limit_of_their_own() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    client.qos(1, 1, false);
    client.consume_with(1, no_ack(&queue, "t"));
    client.enqueue(2, &queue, &["1", "2", "3"]);
    client.expect_deliveries(1, &["1", "2", "3"]);
}

#[test]
fn consumers_that_do_not_ack_wait_while_the_channels_limit_is_used_up() {
    let mut client = Client::open();
    client.open_channel(2);
    let (acked, unacked) = (client.temporary_queue(2), client.temporary_queue(2));
    client.qos(1, 1, true);
    client.consume_with(1, with_tag(&acked, "acks"));
    client.consume_with(1, no_ack(&unacked, "does not"));
    client.enqueue(2, &unacked, &["1", "2"]);
    client.expect_deliveries(1, &["1", "2"]);
    client.enqueue(2, &acked, &["3"]);
    client.expect_deliveries(1, &["3"]);
    client.enqueue(2, &unacked, &["4"]);
    expect_full(&mut client);
    client.ack(1, 3);
    client.expect_deliveries(1, &["4"]);
}

#[test]
fn a_get_needs_no_slot_and_uses_none() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    client.qos(1, 1, false);
    client.enqueue(2, &queue, &["1", "2", "3", "4"]);
    client.wait_ready(2, &queue, 4);
    client.get(1, &queue);
    client.consume(1, &queue);
    assert_eq!(client.expect_deliver(1).text(), "2");
    assert_eq!(client.get(1, &queue).text(), "3");
    client.ack(1, 2);
    client.expect_deliveries(1, &["4"]);
}

#[test]
fn a_limit_is_the_channels_and_not_the_connections() {
    let mut client = Client::open();
    client.open_channel(2);
    client.open_channel(3);
    let queue = client.temporary_queue(3);
    client.qos(1, 1, true);
    client.consume(1, &queue);
    client.consume(2, &queue);
    client.enqueue(3, &queue, &["1", "2", "3", "4"]);
    let first = client.expect_deliver(1);
    let others: Vec<String> = (0..3).map(|_| client.expect_deliver(2).text().to_owned()).collect();
    assert_eq!(others.len(), 3);
    assert!(!others.iter().any(|body| body == first.text()));
    expect_full(&mut client);
}

#[test]
fn the_slots_of_a_closed_channels_messages_are_others_to_fill() {
    let mut client = Client::open();
    client.open_channel(2);
    client.open_channel(3);
    let queue = client.temporary_queue(3);
    client.qos(1, 2, false);
    client.consume(1, &queue);
    client.enqueue(3, &queue, &["1", "2"]);
    client.expect_deliveries(1, &["1", "2"]);
    client.consume(2, &queue);
    client.close_channel(1);
    let again = client.expect_deliveries(2, &["1", "2"]);
    assert!(again.iter().all(|delivery| delivery.redelivered));
}

#[test]
fn a_thousand_messages_pass_a_small_limit_in_order() {
    let mut publisher = Client::open();
    let mut client = Options::default().open();
    let queue = crate::support::unique("q");
    publisher
        .declare(1, leveret_protocol::queue::Declare { queue: s(&queue), auto_delete: true, ..Default::default() });
    client.qos(1, 3, false);
    client.consume(1, &queue);
    for number in 0..1_000 {
        publisher.publish(1, "", &queue, &number.to_string());
    }
    for number in 0..1_000 {
        let delivery = client.expect_deliver(1);
        assert_eq!(delivery.text(), number.to_string());
        client.ack(1, delivery.tag());
    }
}
