//! Priority queues (RabbitMQ's extension).

use leveret_protocol::FieldTable;

use crate::support::{Client, int, is_oracle, millis, no_properties, table, with_expiration, with_priority};

fn levels(number: i32) -> FieldTable {
    table([("x-max-priority", int(number))])
}

/// Publishes messages with these priorities, each with its priority and place as its body: `5a`, `5b`, ….
#[track_caller]
fn publish_all(client: &mut Client, queue: &str, priorities: &[Option<u8>]) {
    for (place, priority) in (b'a'..).zip(priorities) {
        let place = char::from(place);
        match priority {
            Some(priority) => {
                client.publish_with(1, "", queue, &with_priority(*priority), &format!("{priority}{place}"));
            }
            None => client.publish_with(1, "", queue, &no_properties(), &format!("-{place}")),
        }
    }
}

#[test]
fn higher_priorities_come_first_and_equal_ones_in_order() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, levels(5));
    publish_all(&mut client, &queue, &[Some(0), Some(1), None, Some(5), Some(9), Some(3), Some(3)]);
    assert_eq!(client.drain(1, &queue), ["5d", "9e", "3f", "3g", "1b", "0a", "-c"]);
}

#[test]
fn a_priority_beyond_the_highest_is_delivered_as_it_was() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, levels(5));
    publish_all(&mut client, &queue, &[Some(9)]);
    assert_eq!(client.get(1, &queue).properties, with_priority(9));
}

#[test]
fn an_ordinary_queue_ignores_priorities() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    publish_all(&mut client, &queue, &[Some(1), Some(9), None]);
    assert_eq!(client.drain(1, &queue), ["1a", "9b", "-c"]);
}

#[test]
fn consumers_are_given_the_highest_first() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue_with(1, levels(10));
    publish_all(&mut client, &queue, &[Some(1), Some(5), Some(10), Some(5)]);
    client.wait_ready(1, &queue, 4);
    client.qos(2, 1, false);
    client.consume(2, &queue);
    for body in ["10c", "5b", "5d", "1a"] {
        let delivery = client.expect_deliver(2);
        assert_eq!(delivery.text(), body);
        client.ack(2, delivery.tag());
    }
}

#[test]
fn a_requeued_message_returns_to_its_place_in_its_level() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, levels(5));
    publish_all(&mut client, &queue, &[Some(3), Some(3), Some(3), Some(1)]);
    for body in ["3a", "3b"] {
        assert_eq!(client.get(1, &queue).text(), body);
    }
    publish_all(&mut client, &queue, &[Some(4), Some(3)]);
    client.nack(1, 2, true);
    client.nack(1, 1, true);
    client.wait_ready(1, &queue, 6);
    assert_eq!(client.drain(1, &queue), ["4a", "3a", "3b", "3c", "3b", "1d"]);
}

#[test]
fn a_full_priority_queue_drops_from_its_head() {
    let mut client = Client::open();
    let arguments = table([("x-max-priority", int(5)), ("x-max-length", int(2))]);
    let queue = client.temporary_queue_with(1, arguments);
    publish_all(&mut client, &queue, &[Some(5), Some(3), Some(1)]);
    client.wait_ready(1, &queue, 2);
    assert_eq!(client.drain(1, &queue), ["3b", "1c"], "the head is the highest priority");
}

#[test]
fn messages_of_every_level_expire() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, levels(5));
    for priority in [1, 5] {
        let properties = leveret_protocol::BasicProperties { priority: Some(priority), ..with_expiration("100") };
        client.publish_with(1, "", &queue, &properties, "x");
    }
    publish_all(&mut client, &queue, &[Some(5), Some(1)]);
    std::thread::sleep(millis(300));
    if !is_oracle() {
        client.expect_ready(1, &queue, 2); // In 3.10 the lower levels wait until their turn has come.
    }
    assert_eq!(client.drain(1, &queue), ["5a", "1b"]);
}

#[test]
fn purge_and_counts_span_all_levels() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, levels(3));
    publish_all(&mut client, &queue, &[Some(0), Some(1), Some(2), Some(3)]);
    assert_eq!(client.get(1, &queue).message_count, 3);
    assert_eq!(client.purge(1, &queue), 3);
    client.expect_empty(1, &queue);
}

#[test]
fn all_256_levels_are_told_apart() {
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, levels(255));
    for priority in 0..=255 {
        client.publish_with(1, "", &queue, &with_priority(priority), &priority.to_string());
    }
    client.wait_ready(1, &queue, 256);
    let expected: Vec<String> = (0..=255).rev().map(|priority: u8| priority.to_string()).collect();
    assert_eq!(client.drain(1, &queue), expected);
}
