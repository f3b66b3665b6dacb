//! Quorum queues: what they have that classic queues have not, and what they refuse (RabbitMQ's extension).

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, basic, queue};

use crate::support::{
    Client, Received, TestBroker, consume, int, is_oracle, long, millis, no_properties, s, table, unique, wait_until,
    with_priority,
};

/// Declares a quorum queue, which the test deletes.
#[track_caller]
pub fn quorum_queue(client: &mut Client, mut arguments: FieldTable) -> String {
    arguments.insert(s("x-queue-type"), long("quorum"));
    client.durable_queue_with(1, arguments)
}

/// Fetches a message, to be acked, once there is one: quorum queues of RabbitMQ take their time.
#[track_caller]
pub fn take(client: &mut Client, queue: &str) -> Received<basic::GetOk> {
    let mut got = None;
    wait_until(&format!("a message in queue {queue}"), || {
        got = client.try_get(1, queue, false);
        got.is_some()
    });
    got.expect("waited for it")
}

/// The header `x-delivery-count`; 3.10 always has one.
#[track_caller]
pub fn delivery_count<M>(message: &Received<M>) -> Option<i64> {
    let count = message.properties.headers.as_ref()?.get("x-delivery-count")?;
    let FieldValue::Int64(count) = count else { panic!("{count:?} is no int64") };
    if is_oracle() && *count == 0 { None } else { Some(*count) }
}

fn with_tag(queue: &str, tag: &str) -> basic::Consume {
    basic::Consume { consumer_tag: s(tag), ..consume(queue) }
}

#[test]
fn a_message_says_how_often_it_came_back() {
    let mut client = Client::open();
    let queue = quorum_queue(&mut client, FieldTable::new());
    let properties = BasicProperties {
        headers: Some(table([("mine", int(1))])),
        message_id: Some(s("id")),
        delivery_mode: Some(1),
        ..BasicProperties::default()
    };
    client.publish_with(1, "", &queue, &properties, "x");
    let got = take(&mut client, &queue);
    assert_eq!((got.redelivered, delivery_count(&got)), (false, None));
    client.nack(1, 1, true);
    let got = take(&mut client, &queue);
    assert_eq!((got.redelivered, delivery_count(&got)), (true, Some(1)));
    client.reject(1, 2, true);
    let got = take(&mut client, &queue);
    assert_eq!(delivery_count(&got), Some(2));
    client.call::<basic::RecoverOk>(1, basic::Recover { requeue: true });
    let got = take(&mut client, &queue);
    assert_eq!(delivery_count(&got), Some(3));
    // All else is as it was sent.
    let headers = got.properties.headers.as_ref().expect("headers");
    assert_eq!((headers.get("mine"), headers.len()), (Some(&int(1)), 2));
    assert_eq!((got.properties.delivery_mode, &got.properties.message_id), (Some(1), &Some(s("id"))));
    client.close_channel(1);
    client.open_channel(1);
    client.consume(1, &queue);
    let delivery = client.expect_deliver(1);
    assert_eq!((delivery.redelivered, delivery_count(&delivery)), (true, Some(4)));
    client.delete_queue(1, &queue);
}

#[test]
fn what_came_back_goes_first() {
    let mut client = Client::open();
    let queue = quorum_queue(&mut client, table([("x-delivery-limit", int(9))]));
    client.enqueue(1, &queue, &["a", "b", "c", "d"]);
    for body in ["a", "b"] {
        assert_eq!(take(&mut client, &queue).text(), body);
    }
    client.nack_multiple(1, 2, true);
    for body in ["a", "b", "c", "d"] {
        assert_eq!(take(&mut client, &queue).text(), body);
    }
    client.delete_queue(1, &queue);
}

#[test]
fn a_delete_on_conditions_is_not_implemented() {
    for (if_unused, if_empty, flag) in [(true, false, "if-unused"), (false, true, "if-empty")] {
        let mut client = Client::open();
        let queue = quorum_queue(&mut client, FieldTable::new());
        client.send(1, queue::Delete { queue: s(&queue), if_unused, if_empty, ..queue::Delete::default() });
        let text = format!(
            "cannot delete queue '{queue}' in vhost '/'. queue.delete operations with {flag} flag set are not supported \
             by quorum queues"
        );
        client.expect_connection_close(540, &text, (50, 40));
        Client::open().delete_queue(1, &queue);
    }
}

#[test]
fn a_channels_limit_is_not_implemented() {
    let mut client = Client::open();
    let queue = quorum_queue(&mut client, FieldTable::new());
    client.qos(1, 5, true);
    client.send(1, consume(&queue));
    let text = format!("queue '{queue}' in vhost '/' does not support global qos");
    client.expect_connection_close(540, &text, (60, 20));
    Client::open().delete_queue(1, &queue);
}

#[test]
fn a_consumer_is_never_exclusive() {
    let mut client = Client::open();
    let queue = quorum_queue(&mut client, FieldTable::new());
    client.consume_with(1, basic::Consume { exclusive: true, ..consume(&queue) });
    client.consume_with(1, basic::Consume { exclusive: true, ..consume(&queue) });
    client.consume(1, &queue);
    client.delete_queue(1, &queue);
}

#[test]
fn nothing_can_be_fetched_beside_a_single_active_consumer() {
    let mut client = Client::open();
    let queue = quorum_queue(&mut client, table([("x-single-active-consumer", FieldValue::Boolean(true))]));
    client.send(1, basic::Get { queue: s(&queue), no_ack: false });
    let text = format!(
        "cannot obtain access to locked queue '{queue}' in vhost '/'. basic.get operations are not supported by quorum \
         queues with single active consumer"
    );
    client.expect_channel_close(1, 405, &text, (60, 70));
    client.open_channel(1);
    client.delete_queue(1, &queue);
}

#[test]
fn the_single_active_consumer_makes_way_for_a_higher_priority() {
    if is_oracle() {
        return; // Since 4.0.
    }
    let mut client = Client::open();
    let queue = quorum_queue(&mut client, table([("x-single-active-consumer", FieldValue::Boolean(true))]));
    client.consume_with(1, with_tag(&queue, "low"));
    client.enqueue(1, &queue, &["a"]);
    assert_eq!(client.expect_deliver(1).consumer_tag, "low");
    client.consume_with(1, basic::Consume { arguments: table([("x-priority", int(1))]), ..with_tag(&queue, "high") });
    client.enqueue(1, &queue, &["b"]);
    client.expect_nothing_for(millis(100));
    client.ack(1, 1);
    assert_eq!(client.expect_deliver(1).consumer_tag, "high");
    client.delete_queue(1, &queue);
}

#[test]
fn priorities_have_32_levels_and_4_is_the_usual_one() {
    if is_oracle() {
        return; // Since 4.0, two levels until 4.2.
    }
    let mut client = Client::open();
    let queue = quorum_queue(&mut client, FieldTable::new());
    client.publish_with(1, "", &queue, &with_priority(3), "3");
    client.publish_with(1, "", &queue, &no_properties(), "none");
    for priority in [4, 5, 200, 31] {
        client.publish_with(1, "", &queue, &with_priority(priority), &priority.to_string());
    }
    assert_eq!(client.drain(1, &queue), ["200", "31", "5", "none", "4", "3"]);
    client.delete_queue(1, &queue);
}

#[test]
fn a_full_queue_refuses_but_does_not_dead_letter_what_it_refuses() {
    if is_oracle() {
        return; // A quorum queue of several processes holds its limit only about.
    }
    let mut client = Client::open();
    client.select_confirms(1);
    let limited = |overflow: &str| table([("x-max-length", int(1)), ("x-overflow", long(overflow))]);
    let queue = quorum_queue(&mut client, limited("reject-publish"));
    client.enqueue(1, &queue, &["a"]);
    client.expect_ack(1, 1);
    client.enqueue(1, &queue, &["b"]);
    client.expect_nack(1, 2);
    let dropping = quorum_queue(&mut client, limited("reject-publish-dlx"));
    client.enqueue(1, &dropping, &["a", "b"]);
    client.expect_confirms(1, 3..=4);
    assert_eq!(client.drain(1, &dropping), ["b"]);
    client.delete_queue(1, &queue);
    client.delete_queue(1, &dropping);
}

#[test]
fn messages_of_a_quorum_queue_live_as_long_as_they_may() {
    let mut client = Client::open();
    let dead = client.temporary_queue(1);
    let queue = quorum_queue(
        &mut client,
        table([
            ("x-message-ttl", int(50)),
            ("x-dead-letter-exchange", long("")),
            ("x-dead-letter-routing-key", long(&dead)),
        ]),
    );
    client.enqueue(1, &queue, &["a"]);
    assert_eq!(client.wait_get(1, &dead).text(), "a");
    client.delete_queue(1, &queue);
}

#[test]
fn transient_messages_and_counts_survive_a_restart() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let Some(broker) = TestBroker::start_own(data_dir.path()) else { return };
    let mut client = broker.open();
    let queue = unique("q");
    let arguments = table([("x-queue-type", long("quorum"))]);
    client.declare(1, queue::Declare { queue: s(&queue), durable: true, arguments, ..queue::Declare::default() });
    client.select_confirms(1);
    client.enqueue(1, &queue, &["a", "b"]);
    client.expect_confirms(1, 1..=2);
    for number in 1..=3 {
        assert_eq!(take(&mut client, &queue).text(), "a");
        client.nack(1, number, true);
    }
    client.barrier(1);
    drop(client);
    let broker = broker.restart();
    let mut client = broker.open();
    let got = take(&mut client, &queue);
    assert_eq!((got.text(), got.redelivered, delivery_count(&got)), ("a", true, Some(3)));
    let got = take(&mut client, &queue);
    assert_eq!((got.text(), delivery_count(&got)), ("b", None));
    client.delete_queue(1, &queue);
    drop(client);
    broker.stop();
}
