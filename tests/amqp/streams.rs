//! Streams over 0-9-1 (RabbitMQ's `x-queue-type=stream`): logs that many consumers read, each from where it likes.

use std::time::Instant;

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, basic, exchange, queue};

use crate::support::{
    Client, Received, TestBroker, consume, int, is_oracle, long, millis, passive, persistent, publish_to, s, table,
    wait_until, with_headers,
};

/// A stream with these arguments besides its type, for the time of a test.
#[track_caller]
fn with_stream_of(arguments: &FieldTable, test: impl FnOnce(&mut Client, &str)) {
    let mut client = Client::open();
    let mut all = table([("x-queue-type", long("stream"))]);
    for (name, value) in arguments {
        all.insert(name.clone(), value.clone());
    }
    let name = client.durable_queue_with(1, all);
    test(&mut client, &name);
    drop(client);
    Client::open().delete_queue(1, &name);
}

#[track_caller]
fn with_stream(test: impl FnOnce(&mut Client, &str)) {
    with_stream_of(&FieldTable::new(), test);
}

/// Publishes numbers as bodies and waits until they are in the stream. On a channel of its own.
#[track_caller]
fn append(client: &mut Client, stream: &str, numbers: std::ops::Range<u32>) {
    client.open_channel(90);
    client.select_confirms(90);
    let count = u64::try_from(numbers.len()).expect("few");
    for number in numbers {
        client.publish(90, "", stream, &number.to_string());
    }
    client.expect_confirms(90, 1..=count);
    client.close_channel(90);
}

fn from(offset: FieldValue) -> FieldTable {
    table([("x-stream-offset", offset)])
}

fn read(stream: &str, tag: &str, arguments: FieldTable) -> basic::Consume {
    basic::Consume { consumer_tag: s(tag), arguments, ..consume(stream) }
}

fn offset(delivery: &Received<basic::Deliver>) -> i64 {
    let headers = delivery.properties.headers.as_ref().expect("headers");
    match headers.get("x-stream-offset") {
        Some(FieldValue::Int64(offset)) => *offset,
        other => panic!("no offset but {other:?} in {headers:?}"),
    }
}

/// Deliveries of these offsets, each with its number as body, flagged as new.
#[track_caller]
fn expect_offsets(client: &mut Client, channel: u16, offsets: std::ops::Range<i64>) -> u64 {
    let mut tag = 0;
    for expected in offsets {
        let delivery = client.expect_deliver(channel);
        assert_eq!((offset(&delivery), delivery.text()), (expected, &expected.to_string()[..]));
        assert!(!delivery.redelivered, "streams never redeliver");
        tag = delivery.tag();
    }
    tag
}

/// A consumer that starts at `offset` gets this one first.
#[track_caller]
fn check_start(client: &mut Client, channel: u16, stream: &str, start: FieldValue, first: i64) {
    client.open_channel(channel);
    client.qos(channel, 1, false);
    client.consume_with(channel, read(stream, "", from(start)));
    expect_offsets(client, channel, first..first + 1);
    client.close_channel(channel);
}

fn now_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

#[test]
fn every_consumer_gets_everything_from_its_own_start() {
    with_stream(|client, stream| {
        append(client, stream, 0..100);
        for (channel, start) in [(2, long("first")), (3, int(0)), (4, int(50))] {
            client.open_channel(channel);
            client.qos(channel, 1000, false);
            client.consume_with(channel, read(stream, "c", from(start)));
        }
        expect_offsets(client, 2, 0..100);
        expect_offsets(client, 3, 0..100);
        expect_offsets(client, 4, 50..100);
        append(client, stream, 100..102);
        for channel in 2..5 {
            expect_offsets(client, channel, 100..102);
        }
        let count = client.declare(1, passive(stream));
        assert_eq!(count.consumer_count, 0, "consumers are not counted");
        // 3.10 counts some seconds late.
        assert!(count.message_count == 102 || is_oracle());
    });
}

#[test]
fn a_start_may_be_a_number_of_any_width() {
    with_stream(|client, stream| {
        append(client, stream, 0..20);
        for (channel, start, first) in [
            (2, FieldValue::Int8(7), 7),
            (3, FieldValue::Int16(7), 7),
            (4, FieldValue::Int32(7), 7),
            (5, FieldValue::Int64(7), 7),
            (6, FieldValue::UInt8(7), 7),
            (7, FieldValue::UInt16(7), 7),
            (8, FieldValue::UInt32(7), 7),
            (9, FieldValue::Int32(-5), 0),
        ] {
            check_start(client, channel, stream, start, first);
        }
    });
}

#[test]
fn the_last_message_can_be_asked_for() {
    with_stream(|client, stream| {
        for number in 0..5 {
            append(client, stream, number..number + 1); // each a chunk of its own
        }
        check_start(client, 2, stream, long("last"), 4);
    });
}

#[test]
fn next_and_nothing_mean_only_what_comes() {
    with_stream(|client, stream| {
        append(client, stream, 0..5);
        for (channel, arguments) in [(2, from(long("next"))), (3, FieldTable::new()), (4, from(int(5)))] {
            client.open_channel(channel);
            client.qos(channel, 10, false);
            client.consume_with(channel, read(stream, "c", arguments));
        }
        client.expect_nothing_for(millis(100));
        append(client, stream, 5..7);
        for channel in 2..5 {
            expect_offsets(client, channel, 5..7);
        }
    });
}

#[test]
fn an_offset_beyond_the_end_is_waited_for() {
    with_stream(|client, stream| {
        append(client, stream, 0..3);
        client.qos(1, 10, false);
        client.consume_with(1, read(stream, "c", from(int(7))));
        append(client, stream, 3..7);
        client.expect_nothing_for(millis(100));
        append(client, stream, 7..9);
        expect_offsets(client, 1, 7..9);
    });
}

#[test]
fn a_start_may_be_a_time() {
    with_stream(|client, stream| {
        append(client, stream, 0..3);
        let between = Instant::now();
        wait_until("the clock moved on", || between.elapsed() > millis(2100));
        let later = now_seconds() - 1;
        append(client, stream, 3..5);
        check_start(client, 2, stream, FieldValue::Timestamp(later), 3);
        check_start(client, 3, stream, FieldValue::Timestamp(0), 0);
        check_start(client, 4, stream, long("1h"), 0);
        check_start(client, 5, stream, long("1s"), 3);
        client.open_channel(6);
        client.qos(6, 10, false);
        client.consume_with(6, read(stream, "c", from(FieldValue::Timestamp(now_seconds() + 3600))));
        client.expect_nothing_for(millis(100));
        append(client, stream, 5..6);
        expect_offsets(client, 6, 5..6);
    });
}

#[test]
fn a_start_that_means_nothing_is_refused() {
    with_stream(|client, stream| {
        client.qos(1, 10, false);
        for bad in ["5x", "0s", "1.5h", "First", "", "-1s"] {
            if is_oracle() && matches!(bad, "First" | "" | "-1s") {
                continue; // 3.10 crashes.
            }
            client.send(1, read(stream, "c", from(long(bad))));
            let text = format!(
                "invalid arg 'x-stream-offset' for queue '{stream}' in vhost '/': \
                 {{invalid_stream_offset_arg,{{longstr,<<\"{bad}\">>}}}}"
            );
            client.expect_channel_close(1, 406, &text, (60, 20));
            client.open_channel(1);
            client.qos(1, 10, false);
        }
        if is_oracle() {
            return; // 3.10 crashes.
        }
        client.send(1, read(stream, "c", from(FieldValue::Boolean(true))));
        let text = format!(
            "invalid arg 'x-stream-offset' for queue '{stream}' in vhost '/': {{invalid_stream_offset_arg,{{bool,true}}}}"
        );
        client.expect_channel_close(1, 406, &text, (60, 20));
    });
}

#[test]
fn a_consumer_needs_a_prefetch_limit() {
    with_stream(|client, stream| {
        client.send(1, read(stream, "c", FieldTable::new()));
        // 3.10 says "for 'queue '…' in vhost '…''".
        let text = if is_oracle() {
            format!("consumer prefetch count is not set for 'queue '{stream}' in vhost '/''")
        } else {
            format!("consumer prefetch count is not set for stream queue '{stream}' in vhost '/'")
        };
        client.expect_channel_close(1, 406, &text, (60, 20));
    });
}

#[test]
fn automatic_acks_are_not_implemented() {
    with_stream(|client, stream| {
        client.qos(1, 10, false);
        client.send(1, basic::Consume { no_ack: true, ..read(stream, "c", FieldTable::new()) });
        let kind = if is_oracle() { "stream queues queue" } else { "stream queue" };
        let text = format!("automatic acknowledgement not supported by {kind} '{stream}' in vhost '/'");
        client.expect_connection_close(540, &text, (60, 20));
    });
}

#[test]
fn a_limit_of_the_channel_is_not_implemented() {
    with_stream(|client, stream| {
        client.qos(1, 10, false);
        client.qos(1, 10, true);
        client.send(1, read(stream, "c", FieldTable::new()));
        let text = format!("queue '{stream}' in vhost '/' does not support global qos");
        client.expect_connection_close(540, &text, (60, 20));
    });
}

#[test]
fn get_is_not_implemented() {
    with_stream(|client, stream| {
        client.send(1, basic::Get { queue: s(stream), no_ack: false });
        let text = format!("basic.get not supported by stream queues queue '{stream}' in vhost '/'");
        client.expect_connection_close(540, &text, (60, 70));
    });
}

#[test]
fn purge_is_not_implemented() {
    with_stream(|client, stream| {
        client.send(1, queue::Purge { queue: s(stream), ..queue::Purge::default() });
        let text = format!("queue.purge not supported by stream queues queue '{stream}' in vhost '/'");
        client.expect_connection_close(540, &text, (50, 30));
    });
}

#[test]
fn consumers_have_no_priority_and_are_never_exclusive() {
    with_stream(|client, stream| {
        client.qos(1, 10, false);
        client.consume_with(1, basic::Consume { exclusive: true, ..read(stream, "a", FieldTable::new()) });
        client.consume_with(1, basic::Consume { exclusive: true, ..read(stream, "b", FieldTable::new()) });
        client.send(1, read(stream, "c", table([("x-priority", int(5))])));
        let text =
            format!("invalid arg 'x-priority' for queue '{stream}' in vhost '/' of queue type rabbit_stream_queue");
        client.expect_channel_close(1, 406, &text, (60, 20));
    });
}

#[test]
fn offsets_are_for_streams_only() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.send(1, read(&queue, "c", from(long("first"))));
    let text =
        format!("invalid arg 'x-stream-offset' for queue '{queue}' in vhost '/' of queue type rabbit_classic_queue");
    client.expect_channel_close(1, 406, &text, (60, 20));
}

#[test]
fn whatever_settles_a_delivery_returns_credit_and_nothing_else() {
    with_stream(|client, stream| {
        append(client, stream, 0..40);
        client.qos(1, 10, false);
        client.consume_with(1, read(stream, "c", from(long("first"))));
        expect_offsets(client, 1, 0..10);
        if is_oracle() {
            // 3.10 hands out whole chunks.
            client.nack_multiple(1, 10, true);
            expect_offsets(client, 1, 10..20);
            return;
        }
        client.expect_nothing_for(millis(100));
        client.nack(1, 1, true);
        expect_offsets(client, 1, 10..11);
        client.reject(1, 2, false);
        expect_offsets(client, 1, 11..12);
        client.ack(1, 9); // out of order
        expect_offsets(client, 1, 12..13);
        client.nack_multiple(1, 13, true);
        expect_offsets(client, 1, 13..23);
        client.expect_nothing_for(millis(100));
        client.ack_multiple(1, 0);
        expect_offsets(client, 1, 23..33);
        client.send(1, basic::Recover { requeue: true });
        client.expect::<basic::RecoverOk>(1);
        expect_offsets(client, 1, 33..40);
        assert_eq!(client.ready(1, stream), 40, "nothing was removed");
    });
}

#[test]
fn a_channel_that_goes_takes_nothing_along() {
    with_stream(|client, stream| {
        append(client, stream, 0..10);
        client.open_channel(2);
        client.qos(2, 5, false);
        let tag = client.consume_with(2, read(stream, "c", from(long("first"))));
        expect_offsets(client, 2, 0..5);
        if !is_oracle() {
            // 3.10 hands out whole chunks.
            client.cancel(2, &tag);
            client.ack(2, 1);
            client.barrier(2);
            client.expect_nothing_for(millis(50));
            client.close_channel(2);
        }
        check_start(client, 3, stream, long("first"), 0);
    });
}

#[test]
fn delete_does_not_ask_and_counts_nothing() {
    with_stream(|client, stream| {
        append(client, stream, 0..10);
        client.qos(1, 5, false);
        client.consume_with(1, read(stream, "c", FieldTable::new()));
        let delete = queue::Delete { queue: s(stream), if_unused: true, if_empty: true, ..queue::Delete::default() };
        client.open_channel(2);
        let deleted: queue::DeleteOk = client.call(2, delete);
        assert_eq!(deleted.message_count, 0);
        let cancelled: basic::Cancel = client.expect(1);
        assert_eq!(cancelled.consumer_tag, "c");
        assert!(!client.queue_exists(stream));
    });
}

#[test]
fn route_and_properties_are_those_of_the_publish() {
    with_stream(|client, stream| {
        let exchange = client.temporary_exchange(1, "topic");
        client.bind(1, stream, &exchange, "a.*");
        client.select_confirms(1);
        let full = BasicProperties {
            content_type: Some(s("text/plain")),
            headers: Some(table([("mine", int(7))])),
            delivery_mode: Some(1),
            priority: Some(3),
            expiration: Some(s("1")),
            message_id: Some(s("id")),
            ..BasicProperties::default()
        };
        client.publish_with(1, &exchange, "a.b", &full, "0");
        client.publish_with(1, &exchange, "a.c", &BasicProperties::default(), "1");
        client.expect_confirms(1, 1..=2);
        let published = Instant::now();
        wait_until("the expiration is over", || published.elapsed() > millis(20));
        client.open_channel(2);
        client.qos(2, 5, false);
        client.consume_with(2, read(stream, "c", from(long("first"))));
        let first = client.expect_deliver(2);
        assert_eq!((first.exchange.as_str(), first.routing_key.as_str()), (Some(&exchange[..]), Some("a.b")));
        assert_eq!(offset(&first), 0);
        let mut properties = first.properties.clone();
        let headers = properties.headers.as_mut().expect("headers");
        headers.remove("x-stream-offset");
        assert_eq!(properties, full);
        let second = client.expect_deliver(2);
        assert_eq!((second.routing_key.as_str(), offset(&second)), (Some("a.c"), 1));
        client.call::<queue::UnbindOk>(
            1,
            queue::Unbind {
                queue: s(stream),
                exchange: s(&exchange),
                routing_key: s("a.*"),
                ..queue::Unbind::default()
            },
        );
    });
}

#[test]
fn a_message_that_is_published_again_has_its_new_offset() {
    with_stream(|client, stream| {
        append(client, stream, 0..3);
        client.select_confirms(1);
        let headers = table([("x-stream-offset", FieldValue::Int64(77)), ("mine", int(1))]);
        client.publish_with(1, "", stream, &with_headers(headers), "3");
        client.expect_confirms(1, 1..=1);
        client.open_channel(2);
        client.qos(2, 5, false);
        client.consume_with(2, read(stream, "c", from(int(3))));
        expect_offsets(client, 2, 3..4);
    });
}

#[test]
fn large_messages_come_whole() {
    with_stream(|client, stream| {
        let body = "x".repeat(300_000);
        client.select_confirms(1);
        for _ in 0..5 {
            client.publish_with(1, "", stream, &persistent(), &body);
        }
        client.expect_confirms(1, 1..=5);
        client.qos(1, 2, false);
        client.consume_with(1, read(stream, "c", from(long("first"))));
        for number in 0..5 {
            let delivery = client.expect_deliver(1);
            assert_eq!((offset(&delivery), delivery.body.len()), (number, body.len()));
            client.ack(1, delivery.tag());
        }
    });
}

#[test]
fn a_transaction_reaches_a_stream_at_its_commit() {
    with_stream(|client, stream| {
        append(client, stream, 0..2);
        client.open_channel(2);
        client.qos(2, 2, false);
        client.select_tx(2);
        client.consume_with(2, read(stream, "c", from(long("first"))));
        expect_offsets(client, 2, 0..2);
        client.publish(2, "", stream, "2");
        client.ack(2, 1);
        client.expect_nothing_for(millis(100));
        if is_oracle() {
            return; // 3.10 may deliver before it says commit-ok.
        }
        client.commit(2);
        expect_offsets(client, 2, 2..3);
    });
}

#[test]
fn a_stream_may_be_a_dead_letter_target() {
    if is_oracle() {
        return; // 3.10 loses the letter.
    }
    with_stream(|client, stream| {
        let arguments = table([("x-dead-letter-exchange", long("")), ("x-dead-letter-routing-key", long(stream))]);
        let source = client.durable_queue_with(1, arguments);
        client.publish(1, "", &source, "0");
        client.open_channel(2);
        client.qos(2, 5, false);
        client.consume_with(2, read(stream, "c", FieldTable::new()));
        wait_until("the message is there", || client.ready(1, &source) == 1);
        let got = client.get(1, &source);
        client.nack(1, got.tag(), false);
        let letter = client.expect_deliver(2);
        assert_eq!((letter.text(), offset(&letter)), ("0", 0));
        assert!(letter.properties.headers.as_ref().expect("headers").get("x-death").is_some());
        client.delete_queue(1, &source);
    });
}

#[test]
fn whole_segments_go_when_there_is_too_much() {
    // RabbitMQ looks at its limits when it likes, and counts other octets.
    if is_oracle() {
        return;
    }
    let limits = table([("x-max-length-bytes", int(5000)), ("x-stream-max-segment-size-bytes", int(1000))]);
    with_stream_of(&limits, |client, stream| {
        for number in 0..200 {
            append(client, stream, number..number + 1);
        }
        let left = client.ready(1, stream);
        assert!((60..120).contains(&left), "{left} messages of about 50 octets");
        let first = i64::from(200 - left);
        check_start(client, 2, stream, long("first"), first);
        check_start(client, 3, stream, int(0), first);
        check_start(client, 4, stream, FieldValue::Timestamp(1), first);
        check_start(client, 5, stream, int(150), 150);
    });
}

#[test]
fn whole_segments_go_when_they_are_too_old() {
    if is_oracle() {
        return;
    }
    let limits = table([("x-max-age", long("1s")), ("x-stream-max-segment-size-bytes", int(300))]);
    with_stream_of(&limits, |client, stream| {
        for number in 0..50 {
            append(client, stream, number..number + 1);
        }
        // The last segment always stays.
        wait_until("the old segments are gone", || client.ready(1, stream) < 15);
        client.qos(1, 1, false);
        client.consume_with(1, read(stream, "c", from(long("first"))));
        let first = offset(&client.expect_deliver(1));
        assert!((36..50).contains(&first), "{first}");
        client.open_channel(2);
        assert!(client.ready(2, stream) > 0);
    });
}

#[test]
fn consumers_filter_by_value() {
    if is_oracle() {
        return; // Since 3.13.
    }
    with_stream(|client, stream| {
        client.select_confirms(1);
        for number in 0..30_u32 {
            let properties = match number % 3 {
                0 => with_headers(table([("x-stream-filter-value", long("eu"))])),
                1 => with_headers(table([("x-stream-filter-value", long("us"))])),
                _ => BasicProperties::default(),
            };
            client.publish_with(1, "", stream, &properties, &number.to_string());
        }
        client.expect_confirms(1, 1..=30);
        let both = FieldValue::Array(vec![long("eu"), long("us")]);
        for (channel, filter, unfiltered, wanted) in [
            (2, long("eu"), false, &[0][..]),
            (3, long("us"), true, &[1, 2]),
            (4, both, false, &[0, 1]),
            (5, long("none"), true, &[2]),
        ] {
            client.open_channel(channel);
            client.qos(channel, 3, false);
            let arguments = table([
                ("x-stream-offset", long("first")),
                ("x-stream-filter", filter),
                ("x-stream-match-unfiltered", FieldValue::Boolean(unfiltered)),
            ]);
            client.consume_with(channel, read(stream, "c", arguments));
            for number in (0..30).filter(|number| wanted.contains(&(number % 3))) {
                let delivery = client.expect_deliver(channel);
                assert_eq!((delivery.text(), offset(&delivery)), (&number.to_string()[..], number));
                client.ack(channel, delivery.tag());
            }
            client.expect_nothing_for(millis(20));
        }
    });
}

#[test]
fn a_fanout_reaches_streams_and_queues_alike() {
    with_stream(|client, stream| {
        let exchange = client.temporary_exchange(1, "fanout");
        let queue = client.temporary_queue(1);
        client.bind(1, stream, &exchange, "");
        client.bind(1, &queue, &exchange, "");
        client.select_confirms(1);
        for number in 0..10 {
            client.send_content(1, publish_to(&exchange, "k"), &persistent(), number.to_string().as_bytes());
        }
        client.expect_confirms(1, 1..=10);
        assert_eq!(client.drain(1, &queue).len(), 10);
        client.open_channel(2);
        client.qos(2, 20, false);
        client.consume_with(2, read(stream, "c", from(long("first"))));
        expect_offsets(client, 2, 0..10);
        client
            .call::<exchange::DeleteOk>(1, exchange::Delete { exchange: s(&exchange), ..exchange::Delete::default() });
    });
}

#[test]
fn everything_survives_a_restart_and_offsets_go_on() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let Some(broker) = TestBroker::start_own(data_dir.path()) else { return };
    let mut client = broker.open();
    let arguments = table([("x-queue-type", long("stream"))]);
    let stream = client.durable_queue_with(1, arguments.clone());
    client.bind(1, &stream, "amq.topic", "a.#");
    append(&mut client, &stream, 0..500); // not persistent
    client.close();
    let broker = broker.restart();
    let mut client = broker.open();
    client.declare(1, queue::Declare { queue: s(&stream), durable: true, arguments, ..queue::Declare::default() });
    let restarted = Instant::now();
    wait_until("the clock moved on", || restarted.elapsed() > millis(1100));
    let later = now_seconds();
    append(&mut client, &stream, 500..510);
    client.select_confirms(1);
    client.publish_with(1, "amq.topic", "a.b", &with_headers(table([("mine", int(1))])), "510");
    client.expect_confirms(1, 1..=1);
    client.close();
    let broker = broker.restart();
    let mut client = broker.open();
    client.wait_ready(1, &stream, 511);
    client.open_channel(2);
    client.qos(2, 1000, false);
    client.consume_with(2, read(&stream, "c", from(long("first"))));
    expect_offsets(&mut client, 2, 0..510);
    let last = client.expect_deliver(2);
    assert_eq!((last.exchange.as_str(), last.routing_key.as_str()), (Some("amq.topic"), Some("a.b")));
    assert_eq!(offset(&last), 510);
    check_start(&mut client, 3, &stream, FieldValue::Timestamp(later), 500);
    check_start(&mut client, 4, &stream, long("last"), 510);
    client.delete_queue(1, &stream);
    drop(client);
    let broker = broker.restart();
    assert!(!broker.open().queue_exists(&stream));
    broker.stop();
}

#[test]
fn a_stream_larger_than_its_memory_is_read_from_disk() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let Some(broker) = TestBroker::start_own(data_dir.path()) else { return };
    let mut client = broker.open();
    let stream = client.durable_queue_with(1, table([("x-queue-type", long("stream"))]));
    client.select_confirms(1);
    let body = |number: i64| format!("{number} {}", "x".repeat(30_000));
    for number in 0..500 {
        client.publish(1, "", &stream, &body(number));
    }
    client.expect_confirms(1, 1..=500);
    for (channel, start) in [(2, 0), (3, 0), (4, 300)] {
        client.open_channel(channel);
        client.qos(channel, 50, false);
        client.consume_with(channel, read(&stream, "c", from(int(start))));
    }
    for (channel, start) in [(2, 0), (3, 0), (4, 300)] {
        for expected in start.into()..500 {
            let delivery = client.expect_deliver(channel);
            assert_eq!(offset(&delivery), expected);
            assert!(delivery.body == body(expected).as_bytes());
            client.ack(channel, delivery.tag());
        }
    }
    client.delete_queue(1, &stream);
    drop(client);
    broker.stop();
}
