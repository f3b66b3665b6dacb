//! The delayed-message exchange: messages that wait before they are routed (RabbitMQ's plugin).
//!
//! The oracle does not have the plugin: these tests do nothing against it.

use std::time::Instant;

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, exchange, queue};

use crate::support::{
    Client, TestBroker, int, is_oracle, long, mandatory, millis, no_properties, s, table, unique, with_headers,
};

fn delay(value: FieldValue) -> BasicProperties {
    with_headers(table([("x-delay", value)]))
}

fn delayed(name: &str, kind: &str) -> exchange::Declare {
    exchange::Declare {
        exchange: s(name),
        kind: s("x-delayed-message"),
        arguments: table([("x-delayed-type", long(kind))]),
        ..exchange::Declare::default()
    }
}

/// A delayed direct exchange with a queue bound by the key `key`.
fn with_queue(client: &mut Client) -> (String, String) {
    let exchange = client.temporary_exchange_with(1, "x-delayed-message", delayed("", "direct").arguments);
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &exchange, "key");
    (exchange, queue)
}

#[test]
fn messages_arrive_when_their_time_has_come_in_the_order_of_their_times() {
    if is_oracle() {
        return;
    }
    let mut client = Client::open();
    let (exchange, queue) = with_queue(&mut client);
    client.open_channel(2);
    client.consume_no_ack(2, &queue);
    let start = Instant::now();
    for (body, ms) in [("300", 300), ("100", 100), ("200", 200)] {
        client.publish_with(1, &exchange, "key", &delay(int(ms)), body);
    }
    client.publish(1, &exchange, "key", "0");
    for (body, ms) in [("0", 0), ("100", 100), ("200", 200), ("300", 300)] {
        let got = client.expect_deliver(2);
        let took = start.elapsed();
        assert_eq!(got.text(), body);
        assert!(took >= millis(ms) && took < millis(ms + 2000), "{body} came after {took:?}");
        assert_eq!((got.exchange.as_str(), got.routing_key.as_str()), (Some(&exchange[..]), Some("key")));
        let shown = got.properties.headers.as_ref().and_then(|headers| headers.get("x-delay").cloned());
        assert_eq!(shown, (body != "0").then(|| int(-i32::try_from(ms).expect("small"))), "the delay is negated");
        assert_eq!(got.properties.expiration, None);
    }
}

#[test]
fn a_delay_is_a_positive_integer_of_any_width() {
    if is_oracle() {
        return;
    }
    let mut client = Client::open();
    let (exchange, queue) = with_queue(&mut client);
    let now = [int(0), int(-5), FieldValue::Void, FieldValue::Boolean(true), long("soon")];
    for value in &now {
        client.publish_with(1, &exchange, "key", &delay(value.clone()), "now");
    }
    client.barrier(1);
    for value in now {
        assert_eq!(client.get(1, &queue).properties, delay(value));
    }
    let later = [
        (FieldValue::Int8(100), FieldValue::Int8(-100)),
        (FieldValue::UInt8(200), FieldValue::Int64(-200)),
        (FieldValue::Int16(300), FieldValue::Int16(-300)),
        (FieldValue::Int64(400), FieldValue::Int64(-400)),
    ];
    for (value, _) in &later {
        client.publish_with(1, &exchange, "key", &delay(value.clone()), "later");
    }
    client.barrier(1);
    client.expect_empty(1, &queue);
    for (_, negated) in later {
        assert_eq!(client.wait_get(1, &queue).properties, delay(negated));
    }
}

#[test]
fn a_delayed_message_counts_as_unrouted_and_is_confirmed() {
    if is_oracle() {
        return;
    }
    let mut client = Client::open();
    let (exchange, queue) = with_queue(&mut client);
    client.select_confirms(1);
    client.send_content(1, mandatory(&exchange, "key"), &delay(int(50)), b"x");
    let returned = client.expect_return(1);
    assert_eq!((returned.text(), returned.properties.clone()), ("x", delay(int(50))));
    client.expect_ack(1, 1);
    assert_eq!(client.wait_get(1, &queue).text(), "x");
}

#[test]
fn copies_priority_and_time_to_live_count_when_the_message_is_routed() {
    if is_oracle() {
        return;
    }
    let mut client = Client::open();
    let exchange = client.temporary_exchange_with(1, "x-delayed-message", delayed("", "topic").arguments);
    let (first, second) = (client.temporary_queue(1), client.temporary_queue(1));
    client.bind(1, &first, &exchange, "a.*");
    client.bind(1, &second, &exchange, "b.*");
    let keys = |key: &str| FieldValue::Array(vec![long(key)]);
    let headers = table([("CC", keys("c.1")), ("x-delay", int(60)), ("BCC", keys("b.1"))]);
    let properties = BasicProperties { expiration: Some(s("150")), priority: Some(3), ..with_headers(headers) };
    client.publish_with(1, &exchange, "a.1", &properties, "x");
    client.barrier(1);
    client.expect_empty(1, &first);
    let got = client.wait_get(1, &first);
    let headers = table([("CC", keys("c.1")), ("x-delay", int(-60))]);
    assert_eq!(got.properties, BasicProperties { headers: Some(headers), ..properties });
    client.wait_ready(1, &second, 1);
    client.wait_ready(1, &second, 0);
}

#[test]
fn the_type_behind_decides_what_may_be_bound_and_declared() {
    if is_oracle() {
        return;
    }
    let mut client = Client::open();
    let text = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
    for (arguments, text) in [
        (FieldTable::new(), text),
        (table([("x-delayed-type", int(1))]), text),
        (table([("x-delayed-type", long("x-delayed-message"))]), text),
        (table([("x-delayed-type", long("bogus"))]), "unknown exchange type 'bogus'"),
    ] {
        client.send(1, exchange::Declare { arguments, ..delayed(&unique("x"), "direct") });
        client.expect_channel_close(1, 406, text, (40, 10));
        client.open_channel(1);
    }
    let name = unique("x");
    client.call::<exchange::DeclareOk>(1, delayed(&name, "x-consistent-hash"));
    let queue = client.temporary_queue(1);
    client.send(
        1,
        queue::Bind { queue: s(&queue), exchange: s(&name), routing_key: s("heavy"), ..queue::Bind::default() },
    );
    client.expect_channel_close(1, 406, "The binding key must be an integer: <<\"heavy\">>", (50, 20));
    client.open_channel(1);
    // Only the alternate exchange is compared.
    client.call::<exchange::DeclareOk>(1, delayed(&name, "direct"));
    client.send(1, exchange::Declare { kind: s("direct"), ..delayed(&name, "direct") });
    let text = format!(
        "inequivalent arg 'type' for exchange '{name}' in vhost '/': received 'direct' but current is 'x-delayed-message'"
    );
    client.expect_channel_close(1, 406, &text, (40, 10));
    client.open_channel(1);
    client.delete_exchange(1, &name);
}

#[test]
fn deleting_the_exchange_drops_what_waits() {
    if is_oracle() {
        return;
    }
    let mut client = Client::open();
    let name = unique("x");
    let queue = client.temporary_queue(1);
    for durable in [false, true] {
        client.call::<exchange::DeclareOk>(1, exchange::Declare { durable, ..delayed(&name, "fanout") });
        client.bind(1, &queue, &name, "");
        client.publish_with(1, &name, "", &delay(int(150)), "dropped");
        client.delete_exchange(1, &name);
        client.call::<exchange::DeclareOk>(1, exchange::Declare { durable, ..delayed(&name, "fanout") });
        client.bind(1, &queue, &name, "");
        client.publish_with(1, &name, "", &delay(int(250)), "kept");
        assert_eq!(client.wait_get(1, &queue).text(), "kept");
        client.delete_exchange(1, &name);
    }
}

#[test]
fn dead_letters_wait_too_and_do_not_wait_twice() {
    if is_oracle() {
        return;
    }
    let mut client = Client::open();
    let (exchange, _) = with_queue(&mut client);
    let retried = client.temporary_queue(1);
    client.bind(1, &retried, &exchange, "retry");
    let arguments = table([("x-dead-letter-exchange", long(&exchange)), ("x-dead-letter-routing-key", long("retry"))]);
    let queue = client.temporary_queue_with(1, arguments);
    client.publish_with(1, "", &queue, &delay(int(100)), "x");
    let start = Instant::now();
    let tag = client.get(1, &queue).tag();
    client.reject(1, tag, false);
    let got = client.wait_get(1, &retried);
    assert!(start.elapsed() >= millis(100));
    let headers = got.properties.headers.expect("headers");
    assert_eq!(headers.get("x-delay"), Some(&int(-100)));
    assert_eq!(headers.get("x-first-death-queue"), Some(&long(&queue)));
}

#[test]
fn an_exchange_bound_behind_delays_and_the_others_do_not() {
    if is_oracle() {
        return;
    }
    let mut client = Client::open();
    let (behind, late) = with_queue(&mut client);
    let front = client.temporary_exchange(1, "fanout");
    let prompt = client.temporary_queue(1);
    client.bind(1, &prompt, &front, "");
    client.bind_exchange(1, &behind, &front, "");
    client.send_content(1, mandatory(&front, "key"), &delay(int(100)), b"x");
    client.barrier(1);
    assert_eq!(client.get(1, &prompt).properties, delay(int(100)));
    client.expect_empty(1, &late);
    assert_eq!(client.wait_get(1, &late).properties, delay(int(-100)));
}

#[test]
fn a_transaction_delays_at_its_commit() {
    if is_oracle() {
        return;
    }
    let mut client = Client::open();
    let (exchange, queue) = with_queue(&mut client);
    client.open_channel(2);
    client.select_tx(2);
    client.publish_with(2, &exchange, "key", &delay(int(1)), "never");
    client.rollback(2);
    client.publish_with(2, &exchange, "key", &delay(int(30)), "x");
    client.commit(2);
    assert_eq!(client.wait_get(1, &queue).text(), "x");
    client.expect_empty(1, &queue);
}

#[test]
fn persistent_messages_wait_through_a_restart() {
    if is_oracle() {
        return;
    }
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let Some(broker) = TestBroker::start_own(data_dir.path()) else { return };
    let mut client = broker.open();
    let durable = |name: &str| exchange::Declare { durable: true, ..delayed(name, "direct") };
    client.call::<exchange::DeclareOk>(1, durable("later"));
    client.call::<exchange::DeclareOk>(1, durable("gone"));
    client.declare(1, queue::Declare { queue: s("q"), durable: true, ..queue::Declare::default() });
    client.bind(1, "q", "later", "key");
    client.select_confirms(1);
    let persistent = |ms| BasicProperties { delivery_mode: Some(2), ..delay(int(ms)) };
    // Enough for several batches on disk: all must be back to leave in time.
    let filler = "x".repeat(50_000);
    for number in 0..60 {
        client.publish_with(1, "later", "key", &persistent(3_600_000 + number), &filler);
    }
    let start = Instant::now();
    client.publish_with(1, "later", "key", &persistent(3000), "second");
    client.publish_with(1, "later", "key", &persistent(300), "first");
    client.publish_with(1, "later", "key", &delay(int(1500)), "transient");
    client.publish_with(1, "gone", "key", &persistent(100), "gone");
    client.expect_confirms(1, 1..=64);
    client.delete_exchange(1, "gone");
    client.close();

    let broker = broker.restart_after(millis(400));
    let mut client = broker.open();
    assert_eq!(client.wait_get(1, "q").text(), "first", "its time came while the broker was down");
    let second = client.wait_get(1, "q");
    assert_eq!((second.text(), second.exchange.as_str()), ("second", Some("later")));
    assert!(start.elapsed() >= millis(3000), "it waited on after the restart");
    client.close();

    // What has left does not come again, and what waits still does.
    let broker = broker.restart();
    let mut client = broker.open();
    client.expect_empty(1, "q");
    client.publish_with(1, "later", "key", &no_properties(), "now");
    assert_eq!(client.get(1, "q").text(), "now");
    client.delete_exchange(1, "later");
    client.close();
    let broker = broker.restart();
    let mut client = broker.open();
    assert!(!client.exchange_exists("later"));
    client.close();
    broker.stop();
}
