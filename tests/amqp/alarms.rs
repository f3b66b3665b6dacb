//! Resource alarms: who is blocked, when, and what goes on meanwhile (RabbitMQ's `connection.blocked`).
//!
//! Each test has a broker of its own whose limits it sets, so that alarms come and go as it wants.

use std::time::Instant;

use leveret::config::Limit;
use leveret_protocol::{FRAME_END, Method, basic, channel, connection};

use crate::support::{
    Client, Options, Received, TunedBroker, close_channel_method, close_connection_method, exclusive, frame,
    header_frame, method_frame, millis, no_properties, publish_to, s, unique,
};

/// Longer than the broker needs to answer, if it does.
const A_MOMENT: std::time::Duration = millis(200);

/// A broker whose memory alarm is in effect.
fn low_on_memory() -> TunedBroker {
    TunedBroker::start(|config| config.resource_limits.memory = Limit::Octets(0))
}

/// Ends the memory alarm.
fn relieve(broker: &TunedBroker) {
    broker.set_memory_limit(Limit::Octets(u64::MAX));
}

/// A queue that every connection may use.
fn declare_shared(client: &mut Client) -> String {
    let queue = unique("alarm");
    client.declare(1, leveret_protocol::queue::Declare { exclusive: false, ..exclusive(&queue) });
    queue
}

#[track_caller]
fn expect_blocked(client: &mut Client, reason: &str) {
    assert_eq!(client.expect::<connection::Blocked>(0).reason.as_str(), Some(reason));
}

#[track_caller]
fn expect_unblocked(client: &mut Client) {
    client.expect::<connection::Unblocked>(0);
}

#[test]
fn only_who_publishes_is_blocked_and_the_message_waits() {
    let broker = low_on_memory();
    let mut consumer = broker.open();
    let queue = declare_shared(&mut consumer);
    consumer.consume(1, &queue);
    let mut publisher = broker.open();
    publisher.enqueue(1, &queue, &["one", "two"]);
    expect_blocked(&mut publisher, "low on memory");
    publisher.expect_nothing_for(A_MOMENT);
    // Everybody else works.
    consumer.expect_nothing_for(A_MOMENT);
    let mut other = broker.open();
    let another = other.temporary_queue(1);
    other.expect_empty(1, &another);
    other.delete_queue(1, &another);
    relieve(&broker);
    expect_unblocked(&mut publisher);
    consumer.expect_deliveries(1, &["one", "two"]);
    publisher.expect_nothing_for(A_MOMENT);
}

#[test]
fn an_empty_message_gets_through_and_blocks_then() {
    let broker = low_on_memory();
    let mut consumer = broker.open();
    let queue = declare_shared(&mut consumer);
    consumer.consume(1, &queue);
    let mut publisher = broker.open();
    publisher.enqueue(1, &queue, &["", ""]);
    expect_blocked(&mut publisher, "low on memory");
    consumer.expect_deliveries(1, &[""]);
    consumer.expect_nothing_for(A_MOMENT);
    relieve(&broker);
    consumer.expect_deliveries(1, &[""]);
}

#[test]
fn the_publish_method_alone_does_not_block() {
    let broker = low_on_memory();
    let mut client = broker.open();
    let queue = client.temporary_queue(1);
    client.open_channel(2);
    client.send(1, publish_to("", &queue));
    client.barrier(2);
    client.send_bytes(&header_frame(1, 60, 0, 1));
    expect_blocked(&mut client, "low on memory");
    client.send_bytes(&frame(3, 1, b"x"));
    relieve(&broker);
    expect_unblocked(&mut client);
    assert_eq!(client.wait_get(1, &queue).text(), "x");
}

#[test]
fn an_alarm_stops_a_message_between_two_body_frames() {
    let broker = TunedBroker::start(|_| ());
    let mut client = broker.open();
    let queue = client.temporary_queue(1);
    client.open_channel(2);
    client.send(1, publish_to("", &queue));
    client.send_bytes(&header_frame(1, 60, 0, 3));
    client.send_bytes(&frame(3, 1, b"a"));
    client.barrier(2);
    broker.set_memory_limit(Limit::Octets(0));
    client.barrier(2);
    client.send_bytes(&frame(3, 1, b"b"));
    expect_blocked(&mut client, "low on memory");
    client.send_bytes(&frame(3, 1, b"c"));
    relieve(&broker);
    expect_unblocked(&mut client);
    assert_eq!(client.wait_get(1, &queue).text(), "abc");
}

#[test]
fn what_a_blocked_client_sends_waits_and_is_then_done_in_order() {
    let broker = low_on_memory();
    let mut client = broker.open();
    let queue = client.temporary_queue(1);
    client.enqueue(1, &queue, &["kept"]);
    expect_blocked(&mut client, "low on memory");
    client.send(1, basic::Get { queue: s(&queue), no_ack: true });
    client.send(1, close_channel_method());
    client.send(0, close_connection_method());
    client.expect_nothing_for(A_MOMENT);
    relieve(&broker);
    expect_unblocked(&mut client);
    let got: Received<basic::GetOk> = client.expect_content(1);
    assert_eq!(got.text(), "kept");
    client.expect::<channel::CloseOk>(1);
    client.expect::<connection::CloseOk>(0);
}

#[test]
fn all_alarms_must_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = TunedBroker::start(|config| {
        config.data_dir = leveret::DataDir::Path(directory.path().to_owned());
        config.resource_limits.memory = Limit::Octets(0);
        config.resource_limits.disk_free = Limit::Octets(u64::MAX);
    });
    assert_eq!(broker.resource_status().alarms, [leveret::Resource::Disk, leveret::Resource::Memory]);
    let mut client = broker.open();
    let queue = client.temporary_queue(1);
    client.enqueue(1, &queue, &["x"]);
    expect_blocked(&mut client, "low on disk & memory");
    relieve(&broker);
    client.expect_nothing_for(A_MOMENT);
    broker.set_memory_limit(Limit::Octets(0));
    client.expect_nothing_for(A_MOMENT);
    broker.set_disk_free_limit(Limit::Octets(0));
    client.expect_nothing_for(A_MOMENT);
    relieve(&broker);
    expect_unblocked(&mut client);
    // The next alarm is a new one.
    broker.set_disk_free_limit(Limit::Octets(u64::MAX));
    client.barrier(1);
    client.enqueue(1, &queue, &["y"]);
    expect_blocked(&mut client, "low on disk");
    broker.set_disk_free_limit(Limit::Octets(0));
    expect_unblocked(&mut client);
    assert_eq!(client.drain(1, &queue), ["x", "y"]);
    assert_eq!(broker.resource_status().alarms, []);
}

#[test]
fn clients_without_the_capability_are_blocked_in_silence() {
    let broker = low_on_memory();
    let mut client = Options { capabilities: Some(vec!["publisher_confirms"]), ..broker.options() }.open();
    let queue = client.temporary_queue(1);
    client.enqueue(1, &queue, &["x"]);
    client.send(1, basic::Get { queue: s(&queue), no_ack: true });
    client.expect_nothing_for(A_MOMENT);
    relieve(&broker);
    let arrived = client.next(crate::support::DEADLINE).expect("the answer to basic.get");
    assert!(matches!(arrived.method, Method::BasicGetOk(_)), "{arrived}");
}

#[test]
fn deliveries_and_confirms_go_on_and_silence_is_forgiven() {
    let broker = low_on_memory();
    let mut client = Options { heartbeat: 1, ..broker.options() }.open();
    let queue = declare_shared(&mut client);
    client.consume_no_ack(1, &queue);
    client.select_confirms(1);
    let begun = Instant::now();
    // The empty message is confirmed and delivered although the connection is blocked from then on.
    client.enqueue(1, &queue, &["", "waits"]);
    expect_blocked(&mut client, "low on memory");
    let mut came: Vec<_> = (0..2).map(|_| client.next(crate::support::DEADLINE).expect("two methods")).collect();
    came.sort_by_key(|arrived| arrived.method.name());
    assert!(matches!(came[0].method, Method::BasicAck(_)), "{}", came[0]);
    assert!(matches!(came[1].method, Method::BasicDeliver(_)), "{}", came[1]);
    // So is what others publish.
    let mut other = broker.open();
    other.publish(1, "", &queue, "");
    client.expect_deliveries(1, &[""]);
    client.expect_nothing_for(millis(3_500));
    let took = begun.elapsed().as_secs();
    assert!(client.heartbeats() >= 2, "{} heartbeats in {took} s", client.heartbeats());
    relieve(&broker);
    expect_unblocked(&mut client);
    let came: Vec<_> = (0..2).map(|_| client.next(crate::support::DEADLINE).expect("two methods")).collect();
    assert!(came.iter().any(|arrived| matches!(arrived.method, Method::BasicDeliver(_))), "{came:?}");
    // Now it is heard again, and its silence counts.
    let unblocked = Instant::now();
    assert!(client.is_closed_within(millis(5_000)), "{:?}", unblocked.elapsed());
    assert!(unblocked.elapsed() >= millis(1_000));
}

#[test]
fn a_blocked_connection_is_closed_with_the_broker() {
    let broker = low_on_memory();
    let mut client = broker.open();
    let queue = client.temporary_queue(1);
    client.enqueue(1, &queue, &["x"]);
    expect_blocked(&mut client, "low on memory");
    // Unread until the broker closes; then it is answered.
    client.send(0, close_connection_method());
    client.expect_nothing_for(A_MOMENT);
    let stopping = broker.stop_in_background();
    client.expect_connection_close(320, "broker forced connection closure with reason 'shutdown'", (0, 0));
    client.expect::<connection::CloseOk>(0);
    client.expect_eof();
    stopping.join().expect("the broker stops");
}

#[test]
fn a_blocked_connection_whose_peer_is_gone_ends_when_a_heartbeat_cannot_be_written() {
    let broker = low_on_memory();
    let mut client = Options { heartbeat: 1, ..broker.options() }.connect();
    client.open_channel(1);
    let queue = unique("alarm");
    client.declare(1, exclusive(&queue));
    client.enqueue(1, &queue, &["x"]);
    expect_blocked(&mut client, "low on memory");
    drop(client);
    let mut other = broker.open();
    crate::support::wait_until("the exclusive queue is gone with its connection", || !other.queue_exists(&queue));
}

#[test]
fn the_rest_of_a_large_segment_waits_in_order() {
    let broker = low_on_memory();
    let mut client = broker.open();
    let queue = client.temporary_queue(1);
    let bodies: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let mut octets = Vec::new();
    for body in &bodies {
        octets.extend(client.content_frames(1, publish_to("", &queue), &no_properties(), body.as_bytes()));
    }
    octets.extend([8, 0, 0, 0, 0, 0, 0, FRAME_END]);
    octets.extend(method_frame(1, crate::support::passive(&queue)));
    client.send_bytes(&octets);
    expect_blocked(&mut client, "low on memory");
    client.expect_nothing_for(A_MOMENT);
    relieve(&broker);
    expect_unblocked(&mut client);
    let declared: leveret_protocol::queue::DeclareOk = client.expect(1);
    assert_eq!(declared.message_count, 500);
    assert_eq!(client.drain(1, &queue), bodies);
}
