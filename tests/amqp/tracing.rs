//! The firehose: copies of what is published and delivered in a traced vhost.
//!
//! The headers are those that RabbitMQ 3.10 sent; only an operator can switch its tracing, so these tests have a broker of
//! their own.

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, basic};

use crate::support::{
    Client, Received, TunedBroker, int, long, mandatory, millis, no_properties, persistent, s, table, with_headers,
};

const TRACE: &str = "amq.rabbitmq.trace";

/// A broker that traces, and a connection that consumes all copies.
fn traced() -> (TunedBroker, Client) {
    let broker = TunedBroker::start(|config| "rabbit@here".clone_into(&mut config.node_name));
    assert!(broker.set_tracing(&s("/"), true));
    let mut watcher = broker.open();
    let queue = watcher.temporary_queue(1);
    watcher.bind(1, &queue, TRACE, "#");
    watcher.consume_no_ack(1, &queue);
    (broker, watcher)
}

fn names(table: &FieldTable) -> Vec<&str> {
    table.iter().filter_map(|(name, _)| name.as_str()).collect()
}

/// The headers of a copy, which has no other property.
#[track_caller]
fn headers(copy: &Received<basic::Deliver>) -> &FieldTable {
    let headers = copy.properties.headers.as_ref().expect("a copy has headers");
    assert_eq!(copy.properties, with_headers(headers.clone()));
    headers
}

/// The next copy, which has this routing key and body.
#[track_caller]
fn expect_copy(watcher: &mut Client, key: &str, body: &str) -> Received<basic::Deliver> {
    let copy = watcher.expect_deliver(1);
    assert_eq!((copy.exchange.as_str(), copy.routing_key.as_str()), (Some(TRACE), Some(key)));
    assert_eq!(copy.text(), body);
    copy
}

fn strings<const N: usize>(texts: [&str; N]) -> FieldValue {
    FieldValue::Array(texts.map(long).to_vec())
}

#[test]
fn a_publish_and_a_get_are_copied_once_each_and_not_after_the_end() {
    let (broker, mut watcher) = traced();
    let mut client = broker.open();
    let queue = client.temporary_queue(1);
    let properties = BasicProperties {
        content_type: Some(s("text/plain")),
        headers: Some(table([("n", int(1))])),
        delivery_mode: Some(2),
        priority: Some(5),
        timestamp: Some(1_700_000_000),
        kind: Some(s("kind")),
        ..no_properties()
    };
    client.publish_with(1, "", &queue, &properties, "hello");
    let copy = expect_copy(&mut watcher, "publish.", "hello");
    let told = headers(&copy);
    assert_eq!(
        names(told),
        [
            "exchange_name",
            "routing_keys",
            "properties",
            "node",
            "vhost",
            "connection",
            "channel",
            "user",
            "routed_queues"
        ]
    );
    assert_eq!(told.get("exchange_name"), Some(&long("")));
    assert_eq!(told.get("routing_keys"), Some(&strings([&queue])));
    let expected = table([
        ("type", long("kind")),
        ("timestamp", int(1_700_000_000)),
        ("priority", int(5)),
        ("delivery_mode", int(2)),
        ("headers", FieldValue::Table(table([("n", int(1))]))),
        ("content_type", long("text/plain")),
    ]);
    assert_eq!(told.get("properties"), Some(&FieldValue::Table(expected.clone())));
    assert_eq!(told.get("node"), Some(&long("rabbit@here")));
    assert_eq!(told.get("vhost"), Some(&long("/")));
    assert_eq!((told.get("channel"), told.get("user")), (Some(&int(1)), Some(&long("guest"))));
    assert_eq!(told.get("routed_queues"), Some(&strings([&queue])));
    let link = told.get("connection").and_then(FieldValue::as_long_str).expect("a name");
    let link = std::str::from_utf8(link).expect("text");
    assert!(link.starts_with("127.0.0.1:") && link.ends_with(&format!(" -> {}", broker.amqp_addr())), "{link}");

    client.get(1, &queue);
    let copy = expect_copy(&mut watcher, &format!("deliver.{queue}"), "hello");
    let told = headers(&copy);
    assert_eq!(
        names(told),
        [
            "exchange_name",
            "routing_keys",
            "properties",
            "node",
            "redelivered",
            "vhost",
            "connection",
            "channel",
            "user"
        ]
    );
    assert_eq!(told.get("redelivered"), Some(&int(0)));
    assert_eq!(told.get("properties"), Some(&FieldValue::Table(expected)));
    watcher.expect_nothing_for(millis(200));

    assert!(broker.set_tracing(&s("/"), false));
    client.publish(1, "", &queue, "unseen");
    client.wait_get(1, &queue);
    watcher.expect_nothing_for(millis(200));
    assert!(!broker.set_tracing(&s("nowhere"), true));
}

#[test]
fn deliveries_to_consumers_are_copied_with_their_flag() {
    let (broker, mut watcher) = traced();
    let mut client = broker.open();
    let queue = client.temporary_queue(1);
    client.consume(1, &queue);
    client.enqueue(1, &queue, &["a", "b"]);
    let deliveries = client.expect_deliveries(1, &["a", "b"]);
    client.nack(1, deliveries[1].tag(), true);
    client.expect_deliveries(1, &["b"]);
    let mut came = Vec::new();
    for _ in 0..5 {
        let copy = watcher.expect_deliver(1);
        let flag = headers(&copy).get("redelivered").and_then(FieldValue::as_integer);
        came.push((copy.text().to_owned(), flag));
    }
    came.sort();
    let expected = [("a", None), ("a", Some(0)), ("b", None), ("b", Some(0)), ("b", Some(1))];
    assert_eq!(came, expected.map(|(body, flag)| (body.to_owned(), flag)));
    watcher.expect_nothing_for(millis(200));
}

#[test]
fn what_goes_nowhere_is_copied_and_what_is_refused_is_not() {
    let (broker, mut watcher) = traced();
    let mut client = broker.open();
    client.publish(1, "amq.topic", "no.where", "lost");
    let copy = expect_copy(&mut watcher, "publish.amq.topic", "lost");
    assert_eq!(headers(&copy).get("routed_queues"), Some(&strings([])));
    client.send_content(1, mandatory("amq.direct", "no"), &persistent(), b"back");
    client.expect_return(1);
    expect_copy(&mut watcher, "publish.amq.direct", "back");
    client.publish(1, "missing", "k", "refused");
    client.expect_channel_close_code(1, 404);
    client.open_channel(1);
    client.publish(1, TRACE, "k", "refused");
    client.expect_channel_close_code(1, 403);
    watcher.expect_nothing_for(millis(200));
}

#[test]
fn a_transactions_publish_is_copied_when_it_comes() {
    let (broker, mut watcher) = traced();
    let mut client = broker.open();
    let queue = client.temporary_queue(1);
    client.select_tx(1);
    client.enqueue(1, &queue, &["held"]);
    expect_copy(&mut watcher, "publish.", "held");
    client.rollback(1);
    watcher.expect_nothing_for(millis(200));
}

#[test]
fn a_large_message_is_copied_whole() {
    let (broker, mut watcher) = traced();
    let mut client = broker.open();
    let queue = client.temporary_queue(1);
    let body = "x".repeat(300_000);
    client.publish(1, "", &queue, &body);
    expect_copy(&mut watcher, "publish.", &body);
    client.wait_get(1, &queue);
    expect_copy(&mut watcher, &format!("deliver.{queue}"), &body);
}

#[test]
fn copies_of_one_kind_can_be_asked_for() {
    let broker = TunedBroker::start(|_| ());
    broker.set_tracing(&s("/"), true);
    let mut client = broker.open();
    let (copies, queue) = (client.temporary_queue(1), client.temporary_queue(1));
    client.bind(1, &copies, TRACE, &format!("deliver.{queue}"));
    client.enqueue(1, &queue, &["x"]);
    client.wait_get(1, &queue);
    client.wait_ready(1, &copies, 1);
    // A copy is not copied when it is fetched.
    let copy = client.get(1, &copies);
    assert_eq!(copy.exchange.as_str(), Some(TRACE));
    client.expect_empty(1, &copies);
}
