//! Time to live of messages, and expiry of queues (RabbitMQ's extensions).
//!
//! Our messages expire on time wherever they stand in their queue; in RabbitMQ only at its head. What is asserted here holds
//! for both.

use std::time::Instant;

use leveret_protocol::{FieldTable, basic, queue};

use crate::support::{
    Client, exclusive, int, is_oracle, long, mandatory, millis, no_properties, passive, table, unique, wait_until,
    with_expiration,
};

fn ttl(milliseconds: i32) -> FieldTable {
    table([("x-message-ttl", int(milliseconds))])
}

/// Waits until the queue, which has messages, is empty; how long that took must lie between the two numbers of
/// milliseconds.
#[track_caller]
fn expect_expiry(client: &mut Client, queue: &str, begun: Instant, least: u64, most: u64) {
    client.wait_ready(1, queue, 0);
    let took = begun.elapsed();
    assert!(took >= millis(least) && took <= millis(most), "{took:?} is not between {least} and {most} ms");
}

#[test]
fn messages_of_a_queue_with_a_time_to_live_expire_on_time() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, ttl(300));
    let begun = Instant::now();
    client.enqueue(1, &queue, &["a", "b", "c"]);
    client.expect_ready(1, &queue, 3);
    expect_expiry(&mut client, &queue, begun, 290, 1_300);
    client.expect_empty(1, &queue);
}

#[test]
fn a_message_with_an_expiration_expires_on_time() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    let begun = Instant::now();
    client.publish_with(1, "", &queue, &with_expiration("300"), "x");
    client.expect_ready(1, &queue, 1);
    expect_expiry(&mut client, &queue, begun, 290, 1_300);
}

#[test]
fn the_shorter_time_to_live_counts() {
    let mut client = Client::open();
    let (long, short) = (client.temporary_queue_with(1, ttl(60_000)), client.temporary_queue_with(1, ttl(300)));
    let begun = Instant::now();
    client.publish_with(1, "", &long, &with_expiration("300"), "x");
    client.publish_with(1, "", &short, &with_expiration("60000"), "x");
    client.expect_ready(1, &long, 1);
    client.expect_ready(1, &short, 1);
    expect_expiry(&mut client, &long, begun, 290, 1_300);
    expect_expiry(&mut client, &short, begun, 290, 1_300);
}

#[test]
fn a_message_taken_in_time_does_not_expire() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, ttl(200));
    client.enqueue(1, &queue, &["x"]);
    let got = client.get(1, &queue);
    std::thread::sleep(millis(400));
    client.ack(1, got.tag());
    client.barrier(1);
}

#[test]
fn a_message_that_expired_while_it_was_unacked_is_not_delivered_again() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, ttl(300));
    client.enqueue(1, &queue, &["x"]);
    let got = client.get(1, &queue);
    client.nack(1, got.tag(), true);
    let got = client.get(1, &queue);
    assert!(got.redelivered);
    std::thread::sleep(millis(500));
    client.nack(1, got.tag(), true);
    client.expect_empty(1, &queue);
}

#[test]
fn a_time_to_live_of_0_is_for_consumers_that_wait() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, ttl(0));
    client.enqueue(1, &queue, &["nobody is there"]);
    client.expect_empty(1, &queue);
    client.consume(1, &queue);
    client.enqueue(1, &queue, &["somebody is there"]);
    assert_eq!(client.expect_deliver(1).text(), "somebody is there");
    client.send_content(1, mandatory("", &queue), &with_expiration("0"), b"zero as well");
    assert_eq!(client.expect_deliver(1).text(), "zero as well");
    client.barrier(1);
}

#[test]
fn an_expiration_of_0_is_routed_and_gone() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.send_content(1, mandatory("", &queue), &with_expiration("0"), b"x");
    client.barrier(1);
    client.expect_empty(1, &queue);
}

#[test]
fn a_time_to_live_of_0_does_not_wait_for_a_full_consumer() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue_with(1, ttl(0));
    client.qos(1, 1, false);
    client.consume(1, &queue);
    client.enqueue(2, &queue, &["a", "b"]);
    assert_eq!(client.expect_deliver(1).text(), "a");
    client.wait_ready(2, &queue, 0);
    client.ack(1, 1);
    client.expect_nothing_for(millis(100));
}

#[test]
fn a_message_with_a_time_to_live_of_0_that_is_given_back_is_gone() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, ttl(0));
    let tag = client.consume(1, &queue);
    client.enqueue(1, &queue, &["x"]);
    client.expect_deliver(1);
    client.cancel(1, &tag);
    client.nack(1, 1, true);
    client.expect_empty(1, &queue);
}

#[test]
fn an_expired_message_behind_a_live_one_is_never_delivered() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.publish_with(1, "", &queue, &with_expiration("60000"), "lives");
    client.publish_with(1, "", &queue, &with_expiration("100"), "expires");
    client.publish_with(1, "", &queue, &no_properties(), "stays");
    std::thread::sleep(millis(400));
    client.consume(1, &queue);
    client.expect_deliveries(1, &["lives", "stays"]);
}

#[test]
fn a_long_and_a_short_time_to_live_do_not_disturb_each_other() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    for number in 0..100 {
        let expiration = if number % 2 == 0 { "60000" } else { "1" };
        client.publish_with(1, "", &queue, &with_expiration(expiration), &number.to_string());
    }
    std::thread::sleep(millis(100));
    let expected: Vec<String> = (0..100).step_by(2).map(|number| number.to_string()).collect();
    assert_eq!(client.drain(1, &queue), expected);
}

#[test]
fn a_queue_nobody_uses_expires() {
    let mut client = Client::open();
    let mut observer = Client::open();
    let queue = unique("q");
    let begun = Instant::now();
    let arguments = table([("x-expires", int(500))]);
    client.declare(1, queue::Declare { arguments, exclusive: false, ..exclusive(&queue) });
    // To publish is not to use.
    while begun.elapsed() < millis(400) {
        client.send_content(1, mandatory("", &queue), &no_properties(), b"x");
        client.expect_nothing_for(millis(50));
    }
    // A passive declare would be a use: ask by publishing.
    let probe = || {
        observer.send_content(1, mandatory("", &queue), &no_properties(), b"x");
        observer.next_on(1, millis(20)).is_some()
    };
    wait_until("the queue is gone", probe);
    let took = begun.elapsed();
    assert!(took >= millis(490) && took < millis(2_000), "{took:?}");
}

#[test]
fn a_consumer_keeps_a_queue_from_expiring() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue_with(1, table([("x-expires", int(300))]));
    let tag = client.consume(1, &queue);
    client.expect_nothing_for(millis(700));
    client.enqueue(2, &queue, &["x"]);
    assert_eq!(client.expect_deliver(1).text(), "x");
    client.cancel(1, &tag);
    let begun = Instant::now();
    std::thread::sleep(millis(700));
    assert!(!client.queue_exists(&queue), "the time begins anew with the end of the last consumer");
    assert!(begun.elapsed() < millis(2_000));
}

#[test]
fn a_get_or_a_declare_keeps_a_queue_from_expiring() {
    let mut client = Client::open();
    let arguments = table([("x-expires", int(600))]);
    let names = [(); 3].map(|()| client.temporary_queue_with(1, arguments.clone()));
    for _ in 0..4 {
        std::thread::sleep(millis(300));
        client.expect_empty(1, &names[0]);
        client.declare(1, passive(&names[1]));
        client.declare(1, queue::Declare { arguments: arguments.clone(), ..exclusive(&names[2]) });
    }
}

#[test]
fn consumers_of_an_expired_queue_cannot_exist_but_its_bindings_go() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "fanout");
    let queue = client.temporary_queue_with(1, table([("x-expires", int(100))]));
    client.bind(1, &queue, &exchange, "");
    wait_until("the exchange is gone with the queue", || !client.exchange_exists(&exchange));
}

#[test]
fn messages_of_an_expired_queue_are_not_dead_lettered() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let arguments = table([
        ("x-expires", int(100)),
        ("x-dead-letter-exchange", long("")),
        ("x-dead-letter-routing-key", long(&dead)),
    ]);
    let exchange = client.temporary_exchange(1, "fanout");
    let queue = client.temporary_queue_with(1, arguments);
    client.bind(1, &queue, &exchange, "");
    client.enqueue(1, &queue, &["x"]);
    wait_until("the queue is gone", || !client.exchange_exists(&exchange));
    client.consume_with(1, basic::Consume { no_ack: true, ..crate::support::consume(&dead) });
    client.expect_nothing_for(millis(100));
}

#[test]
fn a_queue_may_look_at_its_head_only() {
    if is_oracle() {
        return; // RabbitMQ always does; the argument is ours.
    }
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, table([("x-expiry-mode", long("head"))]));
    client.publish_with(1, "", &queue, &with_expiration("10000"), "long");
    client.publish_with(1, "", &queue, &with_expiration("20"), "short");
    client.barrier(1);
    std::thread::sleep(millis(60));
    client.expect_ready(1, &queue, 2);
    assert_eq!(client.get(1, &queue).text(), "long");
    client.expect_empty(1, &queue);
    client.expect_ready(1, &queue, 0);
}
