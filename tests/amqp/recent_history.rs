//! The recent-history exchange: a fanout that remembers (RabbitMQ's plugin).

use leveret_protocol::{FieldTable, FieldValue, basic, exchange};

use crate::support::{Client, int, is_oracle, long, no_properties, s, table, unique, with_headers};

/// An exchange that stays, with the messages `m0`, `m1`, … published to it.
fn with_history(client: &mut Client, arguments: FieldTable, count: usize) -> String {
    let name = unique("x");
    let kind = s("x-recent-history");
    client.call::<exchange::DeclareOk>(
        1,
        exchange::Declare { exchange: s(&name), kind, arguments, ..exchange::Declare::default() },
    );
    for number in 0..count {
        client.publish(1, &name, "key", &format!("m{number}"));
    }
    client.barrier(1);
    name
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("m{number}")).collect()
}

#[test]
fn a_new_binding_brings_the_last_twenty_messages() {
    let mut client = Client::open();
    let exchange = with_history(&mut client, FieldTable::new(), 25);
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &exchange, "");
    client.wait_ready(1, &queue, 20);
    client.publish(1, &exchange, "key", "m25");
    client.wait_ready(1, &queue, 21);
    let first = client.get(1, &queue);
    assert_eq!((first.text(), first.redelivered), ("m5", false));
    assert_eq!((first.exchange.as_str(), first.routing_key.as_str()), (Some(&exchange[..]), Some("key")));
    assert_eq!(client.drain(1, &queue), names(6..26));
    client.delete_exchange(1, &exchange);
}

#[test]
fn the_length_is_an_argument() {
    let mut client = Client::open();
    let exchange = with_history(&mut client, table([("x-recent-history-length", int(3))]), 10);
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &exchange, "");
    client.wait_ready(1, &queue, 3);
    assert_eq!(client.drain(1, &queue), names(7..10));
    client.delete_exchange(1, &exchange);
    for (value, shown) in [(int(0), "0"), (int(-1), "-1"), (long("ten"), "<<\"ten\">>")] {
        let arguments = table([("x-recent-history-length", value)]);
        let kind = s("x-recent-history");
        client.send(1, exchange::Declare { exchange: s(unique("x")), kind, arguments, ..exchange::Declare::default() });
        let text = format!("Invalid argument {shown}, 'x-recent-history-length' must be a positive integer");
        client.expect_channel_close(1, 406, &text, (40, 10));
        client.open_channel(1);
    }
}

#[test]
fn a_message_may_ask_not_to_be_remembered() {
    let mut client = Client::open();
    let exchange = with_history(&mut client, FieldTable::new(), 1);
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &exchange, "");
    let secret = with_headers(table([("x-recent-history-no-store", FieldValue::Boolean(true))]));
    let open = with_headers(table([("x-recent-history-no-store", FieldValue::Boolean(false))]));
    client.publish_with(1, &exchange, "", &secret, "secret");
    client.publish_with(1, &exchange, "", &open, "open");
    client.wait_ready(1, &queue, 3);
    let late = client.temporary_queue(1);
    client.bind(1, &late, &exchange, "");
    client.wait_ready(1, &late, 2);
    assert_eq!(client.drain(1, &queue), ["m0", "secret", "open"]);
    assert_eq!(client.drain(1, &late), ["m0", "open"]);
    client.delete_exchange(1, &exchange);
}

#[test]
fn binding_again_brings_nothing() {
    let mut client = Client::open();
    let exchange = with_history(&mut client, FieldTable::new(), 2);
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &exchange, "");
    client.wait_ready(1, &queue, 2);
    client.bind(1, &queue, &exchange, "");
    client.barrier(1);
    assert_eq!(client.drain(1, &queue), names(0..2));
    client.delete_exchange(1, &exchange);
}

#[test]
fn what_is_remembered_passes_through_a_bound_exchange() {
    let mut client = Client::open();
    let exchange = with_history(&mut client, FieldTable::new(), 2);
    let behind = client.temporary_exchange(1, "fanout");
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &behind, "");
    client.bind_exchange(1, &behind, &exchange, "");
    client.wait_ready(1, &queue, 2);
    let mut got = client.drain(1, &queue);
    if is_oracle() {
        got.sort(); // The other way round, when it goes through an exchange.
    }
    assert_eq!(got, names(0..2));
    client.delete_exchange(1, &exchange);
}

#[test]
fn consumers_get_what_a_binding_brings_and_the_history_goes_with_its_exchange() {
    let mut client = Client::open();
    let exchange = with_history(&mut client, FieldTable::new(), 3);
    let queue = client.temporary_queue(1);
    client.open_channel(2);
    client.consume_no_ack(2, &queue);
    client.bind(1, &queue, &exchange, "");
    client.expect_deliveries(2, &["m0", "m1", "m2"]);
    client.delete_exchange(1, &exchange);
    let kind = s("x-recent-history");
    client.call::<exchange::DeclareOk>(
        1,
        exchange::Declare { exchange: s(&exchange), kind, ..exchange::Declare::default() },
    );
    client.bind(1, &queue, &exchange, "");
    client.publish_with(1, &exchange, "", &no_properties(), "new");
    let delivered = client.expect_deliver(2);
    assert_eq!(delivered.text(), "new");
    let basic::Deliver { routing_key, .. } = delivered.method;
    assert_eq!(routing_key, "");
    client.delete_exchange(1, &exchange);
}
