//! Queues of limited length: what is dropped, refused or kept (RabbitMQ's extension).

use std::time::Duration;

use leveret_protocol::{FieldTable, Method};

use crate::support::{Client, int, long, millis, no_properties, publish_to, table, with_headers};

const PATIENCE: Duration = Duration::from_secs(10);

fn max_length(length: i32) -> FieldTable {
    table([("x-max-length", int(length))])
}

#[test]
fn the_oldest_go_first() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, max_length(3));
    client.enqueue(1, &queue, &["1", "2", "3", "4", "5"]);
    client.wait_ready(1, &queue, 3);
    assert_eq!(client.drain(1, &queue), ["3", "4", "5"]);
}

#[test]
fn only_ready_messages_count() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, max_length(3));
    client.enqueue(1, &queue, &["1", "2"]);
    client.get(1, &queue);
    client.get(1, &queue);
    client.enqueue(1, &queue, &["3", "4", "5"]);
    client.expect_ready(1, &queue, 3);
    client.nack_multiple(1, 2, true);
    client.wait_ready(1, &queue, 3);
    client.barrier(1);
    assert_eq!(client.drain(1, &queue), ["3", "4", "5"], "what is given back is at the head, and dropped there");
}

#[test]
fn a_limit_in_octets_counts_bodies_only() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, table([("x-max-length-bytes", int(10))]));
    let headers = table([("padding", long("x".repeat(1_000)))]);
    for body in ["12345", "67890"] {
        client.publish_with(1, "", &queue, &with_headers(headers.clone()), body);
    }
    client.expect_ready(1, &queue, 2);
    client.enqueue(1, &queue, &["x"]);
    client.wait_ready(1, &queue, 2);
    assert_eq!(client.drain(1, &queue), ["67890", "x"]);
    client.enqueue(1, &queue, &["", "", "", "1234567890"]);
    client.expect_ready(1, &queue, 4);
    client.enqueue(1, &queue, &["12345678901"]);
    client.barrier(1);
    client.wait_ready(1, &queue, 0);
}

#[test]
fn both_limits_hold_together() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, table([("x-max-length", int(3)), ("x-max-length-bytes", int(10))]));
    client.enqueue(1, &queue, &["1", "2", "3", "4"]);
    client.wait_ready(1, &queue, 3);
    client.enqueue(1, &queue, &["123456789"]);
    client.wait_ready(1, &queue, 2);
    assert_eq!(client.drain(1, &queue), ["4", "123456789"]);
}

#[test]
fn a_queue_of_length_0_only_passes_on() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, max_length(0));
    client.enqueue(1, &queue, &["dropped"]);
    client.expect_empty(1, &queue);
    client.consume(1, &queue);
    client.enqueue(1, &queue, &["passed on"]);
    assert_eq!(client.expect_deliver(1).text(), "passed on");
}

#[test]
fn a_consumer_that_keeps_up_never_loses_anything() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, max_length(1));
    client.consume_no_ack(1, &queue);
    for number in 0..200 {
        client.enqueue(1, &queue, &[&number.to_string()]);
        assert_eq!(client.expect_deliver(1).text(), number.to_string());
    }
}

#[test]
fn a_refused_publish_vanishes_without_confirms() {
    let mut client = Client::open();
    let arguments = table([("x-max-length", int(2)), ("x-overflow", long("reject-publish"))]);
    let queue = client.temporary_queue_with(1, arguments);
    client.enqueue(1, &queue, &["1", "2", "3", "4"]);
    client.barrier(1);
    assert_eq!(client.drain(1, &queue), ["1", "2"]);
    client.enqueue(1, &queue, &["5"]);
    assert_eq!(client.drain(1, &queue), ["5"], "there is room again");
}

#[test]
fn refusals_concern_the_channel_that_waits_for_confirms_beside_one_that_does_not() {
    let mut client = Client::open();
    let arguments = table([("x-max-length", int(4)), ("x-overflow", long("reject-publish"))]);
    let queue = client.temporary_queue_with(1, arguments);
    client.open_channel(2);
    client.select_confirms(2);
    // In one write: three go in, the first of two with confirms goes in, the second does not, and neither do the last.
    let publish =
        |client: &Client, channel| client.content_frames(channel, publish_to("", &queue), &no_properties(), b"m");
    let frames: Vec<u8> = [1, 1, 1, 2, 1, 2, 1].iter().flat_map(|channel| publish(&client, *channel)).collect();
    client.send_bytes(&frames);
    let mut settled: Vec<_> = (0..2)
        .map(|_| match client.next_on(2, PATIENCE).map(|arrived| arrived.method) {
            Some(Method::BasicAck(ack)) => (ack.delivery_tag.get(), true),
            Some(Method::BasicNack(nack)) => (nack.delivery_tag.get(), false),
            other => panic!("{other:?}"),
        })
        .collect();
    settled.sort_unstable();
    assert_eq!(settled, [(1, true), (2, false)]);
    client.expect_ready(1, &queue, 4);
}

#[test]
fn a_full_queue_takes_back_what_it_had_given() {
    let mut client = Client::open();
    let arguments = table([("x-max-length", int(2)), ("x-overflow", long("reject-publish"))]);
    let queue = client.temporary_queue_with(1, arguments);
    client.enqueue(1, &queue, &["1", "2"]);
    client.get(1, &queue);
    client.enqueue(1, &queue, &["3"]);
    client.expect_ready(1, &queue, 2);
    client.nack(1, 1, true);
    client.wait_ready(1, &queue, 3);
    assert_eq!(client.drain(1, &queue), ["1", "2", "3"]);
}

#[test]
fn a_limit_in_octets_refuses_too() {
    let mut client = Client::open();
    let arguments = table([("x-max-length-bytes", int(10)), ("x-overflow", long("reject-publish"))]);
    let queue = client.temporary_queue_with(1, arguments);
    client.select_confirms(1);
    client.enqueue(1, &queue, &["1234567890"]);
    client.expect_ack(1, 1);
    client.enqueue(1, &queue, &["x"]);
    client.expect_nack(1, 2);
    assert_eq!(client.drain(1, &queue), ["1234567890"]);
    client.expect_nothing_for(millis(50));
}
