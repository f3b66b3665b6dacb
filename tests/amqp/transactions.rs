//! Transactions (spec §1.9).

use std::time::Instant;

use leveret_protocol::{basic, tx};

use crate::support::{
    Client, exclusive, int, long, mandatory, millis, no_properties, persistent, publish_to, table, unique,
    with_expiration,
};

/// A connection with an ordinary channel 1 and a transactional channel 2, and a queue.
fn with_tx_channel() -> (Client, String) {
    let mut client = Client::open();
    client.open_channel(2);
    client.select_tx(2);
    let queue = client.temporary_queue(1);
    (client, queue)
}

#[test]
fn commit_and_rollback_need_a_select() {
    for method in [leveret_protocol::Method::from(tx::Commit), tx::Rollback.into()] {
        let mut client = Client::open();
        let (class, id) = method.ids();
        client.send(1, method);
        client.expect_channel_close(1, 406, "channel is not transactional", (class.get(), id.get()));
    }
}

#[test]
fn a_publish_is_seen_after_the_commit_and_not_before() {
    let (mut client, queue) = with_tx_channel();
    client.enqueue(2, &queue, &["a", "b"]);
    client.barrier(2);
    client.expect_empty(1, &queue);
    client.commit(2);
    assert_eq!(client.drain(1, &queue), ["a", "b"]);
}

#[test]
fn a_publish_that_is_rolled_back_is_never_seen() {
    let (mut client, queue) = with_tx_channel();
    client.enqueue(2, &queue, &["a"]);
    client.rollback(2);
    client.enqueue(2, &queue, &["b"]);
    client.commit(2);
    assert_eq!(client.drain(1, &queue), ["b"], "a new transaction begins after the rollback");
}

#[test]
fn a_publish_dies_with_its_channel() {
    let (mut client, queue) = with_tx_channel();
    client.enqueue(2, &queue, &["a"]);
    client.close_channel(2);
    client.expect_empty(1, &queue);
}

#[test]
fn a_commit_of_nothing_is_fine() {
    let (mut client, _queue) = with_tx_channel();
    client.commit(2);
    client.rollback(2);
    client.commit(2);
}

#[test]
fn commits_keep_the_order_of_publishes_and_may_be_large() {
    let (mut client, queue) = with_tx_channel();
    let mut octets = Vec::new();
    for number in 0..2_000 {
        octets.extend(client.content_frames(
            2,
            publish_to("", &queue),
            &no_properties(),
            number.to_string().as_bytes(),
        ));
    }
    client.send_bytes(&octets);
    client.commit(2);
    client.expect_ready(1, &queue, 2_000);
    client.consume_no_ack(1, &queue);
    for number in 0..2_000 {
        assert_eq!(client.expect_deliver(1).text(), number.to_string());
    }
}

#[test]
fn persistent_messages_are_committed_to_a_durable_queue() {
    let (mut client, _queue) = with_tx_channel();
    let queue = client.durable_queue_with(1, leveret_protocol::FieldTable::new());
    for _ in 0..10 {
        client.publish_with(2, "", &queue, &persistent(), "x");
    }
    client.commit(2);
    assert_eq!(client.delete_queue(1, &queue), 10);
}

#[test]
fn an_ack_counts_after_the_commit() {
    let (mut client, queue) = with_tx_channel();
    client.fill(1, &queue, &["a", "b"]);
    client.get(2, &queue);
    client.get(2, &queue);
    client.ack(2, 1);
    client.commit(2);
    client.close_channel(2);
    assert_eq!(client.drain(1, &queue), ["b"]);
}

#[test]
fn an_ack_that_is_rolled_back_can_be_given_again() {
    let (mut client, queue) = with_tx_channel();
    client.fill(1, &queue, &["a"]);
    client.get(2, &queue);
    client.ack(2, 1);
    client.rollback(2);
    client.expect_empty(1, &queue);
    client.ack(2, 1);
    client.commit(2);
    client.close_channel(2);
    client.expect_empty(1, &queue);
}

#[test]
fn an_ack_that_is_not_committed_dies_with_its_channel() {
    let (mut client, queue) = with_tx_channel();
    client.fill(1, &queue, &["a"]);
    client.get(2, &queue);
    client.ack(2, 1);
    client.close_channel(2);
    let got = client.get(1, &queue);
    assert_eq!((got.text(), got.redelivered), ("a", true));
}

#[test]
fn acks_are_checked_at_once() {
    let (mut client, queue) = with_tx_channel();
    client.fill(1, &queue, &["a"]);
    client.get(2, &queue);
    client.ack(2, 1);
    client.ack(2, 1);
    client.expect_channel_close(2, 406, "unknown delivery tag 1", (60, 80));
}

#[test]
fn a_requeue_happens_at_the_commit() {
    let (mut client, queue) = with_tx_channel();
    client.fill(1, &queue, &["a", "b"]);
    client.get(2, &queue);
    client.reject(2, 1, true);
    client.barrier(2);
    client.expect_ready(1, &queue, 1);
    client.commit(2);
    assert_eq!(client.drain(1, &queue), ["a", "b"]);
}

#[test]
fn a_nack_without_requeue_dead_letters_at_the_commit() {
    let (mut client, dead) = with_tx_channel();
    let arguments = table([("x-dead-letter-exchange", long("")), ("x-dead-letter-routing-key", long(&dead))]);
    let queue = client.temporary_queue_with(1, arguments);
    client.fill(1, &queue, &["a"]);
    client.get(2, &queue);
    client.nack(2, 1, false);
    client.barrier(2);
    client.expect_empty(1, &dead);
    client.commit(2);
    assert_eq!(client.wait_get(1, &dead).text(), "a");
}

#[test]
fn publishes_are_routed_when_published() {
    let (mut client, queue) = with_tx_channel();
    let exchange = client.temporary_exchange(1, "direct");
    client.bind(1, &queue, &exchange, "early");
    client.publish(2, &exchange, "late", "lost");
    client.publish(2, &exchange, "early", "kept");
    client.barrier(2);
    client.bind(1, &queue, &exchange, "late");
    client.unbind(1, &queue, &exchange, "early");
    client.commit(2);
    assert_eq!(client.drain(1, &queue), ["kept"]);
}

#[test]
fn publishes_are_checked_when_published() {
    let (mut client, queue) = with_tx_channel();
    client.enqueue(2, &queue, &["a"]);
    client.publish(2, "nowhere", "k", "b");
    client.expect_channel_close(2, 404, "no exchange 'nowhere' in vhost '/'", (60, 40));
    client.open_channel(2);
    client.barrier(2);
    client.expect_empty(1, &queue);
}

#[test]
fn returns_come_between_commit_and_commit_ok() {
    let (mut client, queue) = with_tx_channel();
    client.send_content(2, mandatory("", "nowhere"), &no_properties(), b"a");
    client.send_content(2, mandatory("", &queue), &no_properties(), b"b");
    client.send_content(2, mandatory("", "nowhere"), &no_properties(), b"c");
    client.barrier(2);
    client.expect_nothing_for(millis(100));
    client.send(2, tx::Commit);
    assert_eq!(client.expect_return(2).text(), "a");
    assert_eq!(client.expect_return(2).text(), "c");
    client.expect::<tx::CommitOk>(2);
    client.send_content(2, mandatory("", "nowhere"), &no_properties(), b"d");
    client.rollback(2);
    client.expect_nothing_for(millis(50));
}

#[test]
fn a_publish_whose_queue_is_gone_at_the_commit_is_returned() {
    let (mut client, queue) = with_tx_channel();
    client.send_content(2, mandatory("", &queue), &no_properties(), b"a");
    client.barrier(2);
    client.delete_queue(1, &queue);
    client.send(2, tx::Commit);
    assert_eq!(client.expect_return(2).text(), "a");
    client.expect::<tx::CommitOk>(2);
}

#[test]
fn a_publish_goes_to_the_queue_that_has_the_name_at_the_commit() {
    let mut client = Client::open();
    client.open_channel(2);
    client.select_tx(2);
    let name = unique("tx");
    client.declare(1, exclusive(&name));
    client.send_content(2, mandatory("", &name), &no_properties(), b"a");
    client.barrier(2);
    client.delete_queue(1, &name);
    client.declare(1, exclusive(&name));
    client.commit(2);
    assert_eq!(client.drain(1, &name), ["a"]);
}

#[test]
fn prefetch_slots_are_free_after_the_commit() {
    let (mut client, queue) = with_tx_channel();
    client.fill(1, &queue, &["1", "2", "3", "4", "5", "6"]);
    client.qos(2, 3, false);
    client.consume(2, &queue);
    client.expect_deliveries(2, &["1", "2", "3"]);
    client.ack_multiple(2, 3);
    client.expect_nothing_for(millis(100));
    client.commit(2);
    client.expect_deliveries(2, &["4", "5", "6"]);
}

#[test]
fn recover_leaves_an_acked_message_alone() {
    let (mut client, queue) = with_tx_channel();
    client.fill(1, &queue, &["a", "b"]);
    client.get(2, &queue);
    client.get(2, &queue);
    client.ack(2, 1);
    client.call::<basic::RecoverOk>(2, basic::Recover { requeue: true });
    client.wait_ready(1, &queue, 1);
    assert_eq!(client.drain(1, &queue), ["b"]);
    client.commit(2);
    client.close_channel(2);
    client.expect_empty(1, &queue);
}

#[test]
fn a_messages_time_to_live_begins_with_the_commit() {
    let (mut client, queue) = with_tx_channel();
    client.publish_with(2, "", &queue, &with_expiration("400"), "x");
    client.barrier(2);
    std::thread::sleep(millis(600));
    let begun = Instant::now();
    client.commit(2);
    client.expect_ready(1, &queue, 1);
    client.wait_ready(1, &queue, 0);
    assert!(begun.elapsed() >= millis(350), "{:?}", begun.elapsed());
}

#[test]
fn a_commit_that_a_full_queue_refuses_in_part_is_406() {
    let (mut client, roomy) = with_tx_channel();
    let arguments = table([("x-max-length", int(1)), ("x-overflow", long("reject-publish"))]);
    let full = client.temporary_queue_with(1, arguments);
    client.enqueue(2, &roomy, &["a"]);
    client.enqueue(2, &full, &["b", "c"]);
    client.send(2, tx::Commit);
    client.expect_channel_close(2, 406, "partial tx completion", (90, 20));
    assert_eq!(client.drain(1, &roomy), ["a"]);
    assert_eq!(client.drain(1, &full), ["b"]);
}

#[test]
fn publish_and_ack_are_committed_together() {
    let (mut client, source) = with_tx_channel();
    let target = client.temporary_queue(1);
    client.fill(1, &source, &["1", "2", "3"]);
    client.consume(2, &source);
    for delivery in client.expect_deliveries(2, &["1", "2", "3"]) {
        client.enqueue(2, &target, &[delivery.text()]);
        client.ack(2, delivery.tag());
    }
    client.barrier(2);
    client.expect_ready(1, &target, 0);
    client.commit(2);
    client.expect_ready(1, &target, 3);
    client.close_channel(2);
    client.expect_ready(1, &source, 0);
}
