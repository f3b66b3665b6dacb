//! The delivery acknowledgement timeout: who does not ack in time loses its channel, or its consumer (RabbitMQ's extension).

use leveret_protocol::{FieldValue, basic};

use crate::quorum::quorum_queue;
use crate::support::{Client, Options, TestBroker, consume, int, is_oracle, long, millis, s, table, unique};

/// The oracle has one timeout for all, 30 minutes, and looks once a minute.
fn must_pass_by() -> bool {
    is_oracle()
}

fn text(channel: u16, timeout_ms: u32) -> String {
    format!(
        "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout_ms} ms. This timeout value \
         can be configured, see consumers doc guide to learn more"
    )
}

#[test]
fn a_late_ack_closes_the_channel_and_the_messages_go_back() {
    if must_pass_by() {
        return;
    }
    let mut client = Client::open();
    client.open_channel(7);
    let queue = client.temporary_queue_with(1, table([("x-consumer-timeout", int(100))]));
    client.consume_with(7, basic::Consume { consumer_tag: s("c"), ..consume(&queue) });
    client.enqueue(1, &queue, &["a", "b"]);
    client.expect_deliveries(7, &["a", "b"]);
    client.ack(7, 1);
    client.expect_channel_close(7, 406, &text(7, 100), (0, 0));
    let got = client.get(1, &queue);
    assert_eq!((got.text(), got.redelivered), ("b", true));
    // A fetched message has to be acked in time too.
    client.expect_channel_close(1, 406, &text(1, 100), (0, 0));
}

#[test]
fn acks_in_time_keep_the_channel() {
    if must_pass_by() {
        return;
    }
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, table([("x-consumer-timeout", int(1500))]));
    client.qos(1, 1, false);
    client.consume(1, &queue);
    client.enqueue(1, &queue, &["a", "b", "c", "d"]);
    for (number, body) in (1..).zip(["a", "b", "c", "d"]) {
        assert_eq!(client.expect_deliver(1).text(), body);
        std::thread::sleep(millis(450));
        client.ack(1, number);
    }
    client.consume_no_ack(1, &queue);
    client.enqueue(1, &queue, &["e"]);
    client.barrier(1);
}

#[test]
fn the_consumers_own_timeout_counts() {
    if must_pass_by() {
        return;
    }
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue_with(1, table([("x-consumer-timeout", int(50))]));
    let patient = table([("x-consumer-timeout", int(60_000))]);
    client.consume_with(1, basic::Consume { arguments: patient, ..consume(&queue) });
    client.enqueue(1, &queue, &["a"]);
    client.expect_deliver(1);
    client.expect_nothing_for(millis(200));
    client.ack(1, 1);
    for (value, why) in [(long("1"), "\"expected integer, got longstr\""), (int(-1), "{value_negative,-1}")] {
        client.send(2, basic::Consume { arguments: table([("x-consumer-timeout", value)]), ..consume(&queue) });
        let text = format!("invalid arg 'x-consumer-timeout' for queue '{queue}' in vhost '/': {why}");
        client.expect_channel_close(2, 406, &text, (60, 20));
        client.open_channel(2);
    }
}

#[test]
fn what_a_transaction_has_acked_is_not_late() {
    if must_pass_by() {
        return;
    }
    let mut client = Client::open();
    let queue = client.temporary_queue_with(1, table([("x-consumer-timeout", int(60))]));
    client.enqueue(1, &queue, &["a"]);
    client.select_tx(1);
    client.get(1, &queue);
    client.ack(1, 1);
    client.expect_nothing_for(millis(200));
    client.rollback(1);
    client.expect_channel_close(1, 406, &text(1, 60), (0, 0));
}

#[test]
fn a_quorum_queue_cancels_the_late_consumer_and_keeps_the_channel() {
    if must_pass_by() {
        return;
    }
    let mut client = Client::open();
    let queue = quorum_queue(&mut client, table([("x-consumer-timeout", int(100))]));
    client.consume_with(1, basic::Consume { consumer_tag: s("late"), ..consume(&queue) });
    client.enqueue(1, &queue, &["a", "b"]);
    client.expect_deliveries(1, &["a", "b"]);
    let cancel: basic::Cancel = client.expect(1);
    assert_eq!((cancel.consumer_tag, cancel.no_wait), (s("late"), true));
    let got = client.get(1, &queue);
    assert_eq!((got.text(), got.redelivered), ("a", true));
    let count = got.properties.headers.as_ref().and_then(|headers| headers.get("x-delivery-count"));
    assert_eq!(count, Some(&FieldValue::Int64(1)));
    // An ack that comes after all does no harm.
    client.ack(1, 1);
    client.ack_multiple(1, 3);
    assert_eq!(client.get(1, &queue).text(), "b");
    client.delete_queue(1, &queue);
}

#[test]
fn a_client_that_cannot_hear_of_it_loses_the_channel() {
    if must_pass_by() {
        return;
    }
    let mut client = Options { capabilities: Some(vec!["basic.nack"]), ..Options::default() }.open();
    let queue = quorum_queue(&mut client, table([("x-consumer-timeout", int(100))]));
    client.consume(1, &queue);
    client.enqueue(1, &queue, &["a"]);
    client.expect_deliver(1);
    client.expect_channel_close(1, 406, &text(1, 100), (0, 0));
    client.open_channel(1);
    client.delete_queue(1, &queue);
}

#[test]
fn the_configuration_says_how_long_and_whose_rules_count() {
    if must_pass_by() {
        return;
    }
    let config = leveret::Config {
        consumer_timeout: Some(millis(100)),
        compat: leveret::Compat::V3,
        ..leveret::Config::for_tests()
    };
    let broker = TestBroker::start_with(config);
    let mut client = broker.open();
    let queue = unique("q");
    let arguments = table([("x-queue-type", long("quorum"))]);
    client.declare(
        1,
        leveret_protocol::queue::Declare { queue: s(&queue), durable: true, arguments, ..Default::default() },
    );
    client.consume(1, &queue);
    client.enqueue(1, &queue, &["a"]);
    client.expect_deliver(1);
    client.expect_channel_close(1, 406, &text(1, 100), (0, 0));
    drop(client);
    broker.stop();
}
