//! What survives a restart, on a broker of the test's own.
//!
//! Against the oracle these tests do nothing unless `LEVERET_TEST_RESTART` holds a shell command that restarts it; run them
//! alone then.

use std::time::Instant;

use leveret_protocol::{FieldTable, FieldValue, exchange, queue};

use crate::support::{
    Client, Fixture, exclusive, int, is_oracle, long, millis, no_properties, passive, passive_exchange, persistent, s,
    table, unique,
};

fn durable(name: &str) -> queue::Declare {
    queue::Declare { queue: s(name), durable: true, ..queue::Declare::default() }
}

fn durable_exchange(name: &str, kind: &str) -> exchange::Declare {
    exchange::Declare { exchange: s(name), kind: s(kind), durable: true, ..exchange::Declare::default() }
}

#[test]
fn persistent_messages_survive_in_order_and_transient_ones_do_not() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let name = unique("q");
    client.declare(1, durable(&name));
    client.select_confirms(1);
    for number in 0..100 {
        let properties = if number % 3 == 0 { no_properties() } else { persistent() };
        client.publish_with(1, "", &name, &properties, &number.to_string());
    }
    client.expect_confirms(1, 1..=100);
    drop(client);
    let fixture = fixture.restart();
    let mut client = fixture.open();
    let expected: Vec<String> =
        (0..100).filter(|number| number % 3 != 0).map(|number: i32| number.to_string()).collect();
    client.expect_ready(1, &name, 66);
    assert_eq!(client.drain(1, &name), expected);
    client.delete_queue(1, &name);
    drop(client);
    fixture.broker.stop();
}

#[test]
fn acked_messages_do_not_come_back() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let name = unique("q");
    client.declare(1, durable(&name));
    for body in ["1", "2", "3", "4"] {
        client.publish_with(1, "", &name, &persistent(), body);
    }
    for body in ["1", "2", "3"] {
        assert_eq!(client.get(1, &name).text(), body);
    }
    client.ack(1, 1);
    client.ack(1, 3);
    client.barrier(1);
    client.close();
    let fixture = fixture.restart();
    let mut client = fixture.open();
    assert_eq!(client.drain(1, &name), ["2", "4"]);
    client.delete_queue(1, &name);
}

#[test]
fn unacked_messages_are_redelivered_after_a_restart() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let name = unique("q");
    client.declare(1, durable(&name));
    for body in ["1", "2", "3"] {
        client.publish_with(1, "", &name, &persistent(), body);
    }
    client.get(1, &name);
    client.get(1, &name);
    let fixture = fixture.restart();
    drop(client);
    let mut client = fixture.open();
    let came: Vec<(String, bool)> =
        (0..3).map(|_| client.get(1, &name)).map(|got| (got.text().to_owned(), got.redelivered)).collect();
    let came: Vec<(&str, bool)> = came.iter().map(|(body, redelivered)| (&body[..], *redelivered)).collect();
    assert_eq!(came, [("1", true), ("2", true), ("3", false)]);
    client.delete_queue(1, &name);
}

#[test]
fn durable_definitions_survive_and_transient_ones_do_not() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let [kept_queue, lost_queue, kept_exchange, lost_exchange, target] = ["q", "q", "x", "x", "x"].map(unique);
    client.declare(1, durable(&kept_queue));
    client.declare(1, queue::Declare { durable: false, ..durable(&lost_queue) });
    client.call::<exchange::DeclareOk>(1, durable_exchange(&kept_exchange, "direct"));
    client.call::<exchange::DeclareOk>(1, durable_exchange(&target, "fanout"));
    client.call::<exchange::DeclareOk>(
        1,
        exchange::Declare { durable: false, ..durable_exchange(&lost_exchange, "fanout") },
    );
    client.bind(1, &kept_queue, &kept_exchange, "kept");
    client.bind(1, &lost_queue, &kept_exchange, "lost");
    client.bind(1, &kept_queue, &lost_exchange, "");
    client.bind(1, &kept_queue, &target, "");
    client.bind_exchange(1, &target, &kept_exchange, "through");
    client.close();
    let fixture = fixture.restart();
    let mut client = fixture.open();
    client.declare(1, passive(&kept_queue));
    client.call::<exchange::DeclareOk>(1, passive_exchange(&kept_exchange));
    assert!(!client.queue_exists(&lost_queue));
    assert!(!client.exchange_exists(&lost_exchange));
    for key in ["kept", "lost", "through"] {
        client.publish(1, &kept_exchange, key, key);
    }
    client.barrier(1);
    assert_eq!(client.drain(1, &kept_queue), ["kept", "through"]);
    // What is lost can be declared anew, without its bindings.
    client.declare(1, queue::Declare { durable: false, ..durable(&lost_queue) });
    client.publish(1, &kept_exchange, "lost", "x");
    client.barrier(1);
    client.expect_empty(1, &lost_queue);
    for name in [&kept_queue, &lost_queue] {
        client.delete_queue(1, name);
    }
    for name in [&kept_exchange, &target] {
        client.delete_exchange(1, name);
    }
}

#[test]
fn deleted_things_stay_deleted() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let (gone, purged, unbound, exchange) = (unique("q"), unique("q"), unique("q"), unique("x"));
    client.call::<exchange::DeclareOk>(1, durable_exchange(&exchange, "fanout"));
    for name in [&gone, &purged, &unbound] {
        client.declare(1, durable(name));
        client.bind(1, name, &exchange, "");
    }
    client.publish_with(1, &exchange, "", &persistent(), "x");
    client.delete_queue(1, &gone);
    client.purge(1, &purged);
    client.unbind(1, &unbound, &exchange, "");
    client.close();
    let fixture = fixture.restart();
    let mut client = fixture.open();
    assert!(!client.queue_exists(&gone));
    client.expect_ready(1, &purged, 0);
    client.expect_ready(1, &unbound, 1);
    client.publish(1, &exchange, "", "y");
    client.barrier(1);
    assert_eq!(client.drain(1, &purged), ["y"]);
    assert_eq!(client.drain(1, &unbound), ["x"]);
    client.delete_exchange(1, &exchange);
    for name in [&purged, &unbound] {
        client.delete_queue(1, name);
    }
}

#[test]
fn arguments_survive_and_still_mean_something() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let name = unique("q");
    let arguments = table([("x-max-length", int(2)), ("x-max-priority", int(5)), ("x-odd", FieldTable::new().into())]);
    client.declare(1, queue::Declare { arguments: arguments.clone(), ..durable(&name) });
    client.publish_with(1, "", &name, &persistent(), "low");
    let high = leveret_protocol::BasicProperties { priority: Some(5), ..persistent() };
    client.publish_with(1, "", &name, &high, "high");
    client.barrier(1);
    client.close();
    let fixture = fixture.restart();
    let mut client = fixture.open();
    client.declare(1, queue::Declare { arguments, ..durable(&name) });
    client.send(1, queue::Declare { arguments: table([("x-max-length", int(3))]), ..durable(&name) });
    client.expect_channel_close_code(1, 406);
    client.open_channel(1);
    let got = client.get(1, &name);
    assert_eq!((got.text(), &got.properties), ("high", &high));
    client.publish(1, "", &name, "more");
    client.publish(1, "", &name, "and more");
    client.wait_ready(1, &name, 2);
    assert_eq!(client.drain(1, &name), ["more", "and more"]);
    client.delete_queue(1, &name);
}

#[test]
fn a_durable_exclusive_queue_does_not_survive() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let name = unique("q");
    client.declare(1, queue::Declare { durable: true, ..exclusive(&name) });
    client.publish_with(1, "", &name, &persistent(), "x");
    client.barrier(1);
    let fixture = fixture.restart();
    drop(client);
    assert!(!fixture.open().queue_exists(&name));
}

#[test]
fn a_message_that_expires_while_the_broker_is_down_is_dead_lettered() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let (name, dead) = (unique("q"), unique("q"));
    client.declare(1, durable(&dead));
    let arguments = table([("x-dead-letter-exchange", long("")), ("x-dead-letter-routing-key", long(&dead))]);
    client.declare(1, queue::Declare { arguments, ..durable(&name) });
    client.select_confirms(1);
    let properties = leveret_protocol::BasicProperties { expiration: Some(s("600")), ..persistent() };
    client.publish_with(1, "", &name, &properties, "expires");
    client.publish_with(1, "", &name, &persistent(), "stays");
    client.expect_confirms(1, 1..=2);
    client.close();
    let fixture = fixture.restart_after(millis(700));
    let mut client = fixture.open();
    let got = client.wait_get(1, &dead);
    let deaths =
        got.properties.headers.as_ref().and_then(|headers| headers.get("x-death")?.as_array()).expect("a death");
    let reason = deaths[0].as_table().and_then(|death| death.get("reason")).and_then(FieldValue::as_long_str);
    assert_eq!((got.text(), reason), ("expires", Some(&b"expired"[..])));
    assert_eq!(client.drain(1, &name), ["stays"]);
    for name in [&name, &dead] {
        client.delete_queue(1, name);
    }
}

#[test]
fn a_messages_time_to_live_goes_on_after_a_restart() {
    let Some(fixture) = Fixture::new() else { return };
    if is_oracle() {
        return; // It takes too long to restart for times that a test can wait for.
    }
    let mut client = fixture.open();
    let name = unique("q");
    client.declare(1, durable(&name));
    client.select_confirms(1);
    let begun = Instant::now();
    let properties = leveret_protocol::BasicProperties { expiration: Some(s("1500")), ..persistent() };
    client.publish_with(1, "", &name, &properties, "expires");
    client.publish_with(1, "", &name, &persistent(), "stays");
    client.expect_confirms(1, 1..=2);
    client.close();
    let fixture = fixture.restart();
    let mut client = fixture.open();
    client.wait_ready(1, &name, 2);
    client.wait_ready(1, &name, 1);
    assert!(begun.elapsed() >= millis(1_490) && begun.elapsed() < millis(4_000), "{:?}", begun.elapsed());
    assert_eq!(client.drain(1, &name), ["stays"]);
}

#[test]
fn a_message_that_expired_while_the_broker_was_down_is_not_delivered() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let name = unique("q");
    client.declare(1, durable(&name));
    client.select_confirms(1);
    for (expiration, body) in [("600", "1"), ("600000", "2"), ("600", "3")] {
        let properties = leveret_protocol::BasicProperties { expiration: Some(s(expiration)), ..persistent() };
        client.publish_with(1, "", &name, &properties, body);
    }
    client.expect_confirms(1, 1..=3);
    client.close();
    let fixture = fixture.restart_after(millis(700));
    let mut client = fixture.open();
    client.consume_no_ack(1, &name);
    client.expect_deliveries(1, &["2"]);
    client.expect_nothing_for(millis(100));
    client.delete_queue(1, &name);
}

#[test]
fn a_deep_queue_survives_and_is_read_back_in_order() {
    const MESSAGES: u64 = 1_200;
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let name = unique("q");
    client.declare(1, durable(&name));
    client.select_confirms(1);
    let body = |number: u64| format!("{number:0>16384}").into_bytes();
    for first in (1..=MESSAGES).step_by(100) {
        let numbers = first..=first + 99;
        for number in numbers.clone() {
            client.send_content(1, crate::support::publish_to("", &name), &persistent(), &body(number));
        }
        client.expect_confirms(1, numbers);
    }
    client.open_channel(2);
    for number in 1..=MESSAGES / 2 {
        let got = client.get(2, &name);
        assert!(got.body == body(number), "message {number} is out of place");
        if number % 3 == 0 {
            client.ack(2, got.tag());
        }
    }
    client.close();
    let fixture = fixture.restart();
    let mut client = fixture.open();
    client.consume_no_ack(1, &name);
    for number in (1..=MESSAGES).filter(|number| number % 3 != 0 || *number > MESSAGES / 2) {
        assert!(client.expect_deliver(1).body == body(number), "message {number} is out of place");
    }
    client.delete_queue(1, &name);
}

#[test]
fn a_history_of_deaths_survives() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let (name, dead) = (unique("q"), unique("q"));
    client.declare(1, durable(&dead));
    let arguments = table([("x-dead-letter-exchange", long("")), ("x-dead-letter-routing-key", long(&dead))]);
    client.declare(1, queue::Declare { arguments, ..durable(&name) });
    client.publish_with(1, "", &name, &persistent(), "x");
    let got = client.get(1, &name);
    client.reject(1, got.tag(), false);
    client.wait_ready(1, &dead, 1);
    let before = client.get(1, &dead).properties.clone();
    client.close();
    let fixture = fixture.restart();
    let mut client = fixture.open();
    assert_eq!(client.get(1, &dead).properties, before);
    for name in [&name, &dead] {
        client.delete_queue(1, name);
    }
}

#[test]
fn large_and_odd_messages_survive_octet_for_octet() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let name = unique("q");
    client.declare(1, durable(&name));
    client.select_confirms(1);
    let mut random = crate::support::Random::new(9);
    let bodies = [0, 1, 4_087, 131_072, 1_000_001].map(|len| random.octets(len));
    for body in &bodies {
        client.send_content(1, crate::support::publish_to("", &name), &persistent(), body);
    }
    client.expect_confirms(1, 1..=5);
    client.close();
    let fixture = fixture.restart();
    let mut client = fixture.open();
    for body in &bodies {
        assert!(client.get(1, &name).body == *body, "a body of {} octets has changed", body.len());
    }
    client.delete_queue(1, &name);
}

#[test]
fn a_second_restart_changes_nothing() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let name = unique("q");
    client.declare(1, durable(&name));
    client.select_confirms(1);
    client.publish_with(1, "", &name, &persistent(), "1");
    client.expect_confirms(1, 1..=1);
    client.close();
    let fixture = fixture.restart();
    let mut client = fixture.open();
    client.select_confirms(1);
    client.publish_with(1, "", &name, &persistent(), "2");
    client.expect_confirms(1, 1..=1);
    client.close();
    let fixture = fixture.restart();
    let mut client = fixture.open();
    assert_eq!(client.drain(1, &name), ["1", "2"]);
    client.delete_queue(1, &name);
}

#[test]
fn an_auto_delete_queue_survives_until_it_has_had_a_consumer() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let name = unique("q");
    let declare = queue::Declare { auto_delete: true, ..durable(&name) };
    client.declare(1, declare.clone());
    client.publish_with(1, "", &name, &persistent(), "x");
    client.barrier(1);
    client.close();
    let fixture = fixture.restart();
    let mut client = fixture.open();
    assert_eq!(client.declare(1, declare).message_count, 1);
    let tag = client.consume(1, &name);
    client.expect_deliver(1);
    client.cancel(1, &tag);
    assert!(!client.queue_exists(&name));
}

#[test]
fn a_shutdown_is_told_to_connected_clients() {
    let Some(fixture) = Fixture::new() else { return };
    let mut client = fixture.open();
    let _fixture = fixture.restart();
    client.expect_connection_close(320, "broker forced connection closure with reason 'shutdown'", (0, 0));
}

#[test]
fn an_ephemeral_broker_keeps_nothing_but_works_as_any_other() {
    if is_oracle() {
        return;
    }
    let mut client = Client::open();
    let name = client.durable_queue_with(1, FieldTable::new());
    client.select_confirms(1);
    client.publish_with(1, "", &name, &persistent(), "x");
    client.expect_ack(1, 1);
    assert_eq!(client.delete_queue(1, &name), 1);
}
