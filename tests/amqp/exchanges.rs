//! Exchanges: declaring, deleting, equivalence, auto-delete, internal (spec §1.6).

use leveret_protocol::{FieldTable, Method, basic, exchange, queue};

use crate::support::{
    Client, TestBroker, consume, exclusive, int, is_oracle, long, passive_exchange, publish_to, s, table, unique,
    wait_until,
};

fn declare(name: &str, kind: &str) -> exchange::Declare {
    exchange::Declare { exchange: s(name), kind: s(kind), ..exchange::Declare::default() }
}

fn delete(name: &str) -> exchange::Delete {
    exchange::Delete { exchange: s(name), ..exchange::Delete::default() }
}

/// Declares an exchange that stays, and one like it must be refused for this difference.
#[track_caller]
fn check_inequivalent(change: impl Fn(&mut exchange::Declare), difference: &str) {
    let mut client = Client::open();
    let name = unique("x");
    client.call::<exchange::DeclareOk>(1, declare(&name, "direct"));
    let mut different = declare(&name, "direct");
    change(&mut different);
    client.send(1, different);
    let text = format!("inequivalent arg {difference}").replace("<x>", &format!("for exchange '{name}' in vhost '/'"));
    client.expect_channel_close(1, 406, &text, (40, 10));
    client.open_channel(1);
    client.delete_exchange(1, &name);
}

#[test]
fn the_standard_exchanges_exist() {
    let mut client = Client::open();
    for (name, kind) in [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ] {
        client.call::<exchange::DeclareOk>(1, exchange::Declare { durable: true, ..declare(name, kind) });
    }
    let trace = exchange::Declare { durable: true, internal: true, ..declare("amq.rabbitmq.trace", "topic") };
    client.call::<exchange::DeclareOk>(1, trace);
}

#[test]
fn a_standard_exchange_cannot_be_redeclared_differently() {
    let mut client = Client::open();
    client.send(1, declare("amq.direct", "direct"));
    let text =
        "inequivalent arg 'durable' for exchange 'amq.direct' in vhost '/': received 'false' but current is 'true'";
    client.expect_channel_close(1, 406, text, (40, 10));
}

#[test]
fn names_that_begin_with_amq_are_reserved() {
    let mut client = Client::open();
    client.send(1, declare("amq.foo", "direct"));
    client.expect_channel_close(1, 403, "exchange name 'amq.foo' contains reserved prefix 'amq.*'", (40, 10));
    client.open_channel(1);
    let name = unique("AMQ.foo");
    client.call::<exchange::DeclareOk>(1, declare(&name, "direct"));
    client.delete_exchange(1, &name);
}

#[test]
fn an_unknown_type_is_refused() {
    let mut client = Client::open();
    client.send(1, declare(&unique("x"), "bogus"));
    if is_oracle() {
        client.expect_connection_close(503, "unknown exchange type 'bogus'", (40, 10)); // until 3.x
    } else {
        client.expect_channel_close(1, 406, "unknown exchange type 'bogus'", (40, 10));
    }
}

#[test]
fn with_the_rules_of_3_13_an_unknown_type_ends_the_connection() {
    if is_oracle() {
        return; // A broker of this test's own; the oracle always does so.
    }
    let config = leveret::Config { compat: leveret::Compat::V3, ..leveret::Config::for_tests() };
    let broker = TestBroker::start_with(config);
    let mut client = broker.open();
    client.send(1, declare("x", "bogus"));
    client.expect_connection_close(503, "unknown exchange type 'bogus'", (40, 10));
    broker.stop();
}

#[test]
fn the_type_is_looked_at_before_the_name() {
    let mut client = Client::open();
    client.send(1, declare("amq.foo", "bogus"));
    if is_oracle() {
        client.expect_connection_close(503, "unknown exchange type 'bogus'", (40, 10)); // until 3.x
    } else {
        client.expect_channel_close(1, 406, "unknown exchange type 'bogus'", (40, 10));
    }
}

#[test]
fn the_default_exchange_is_not_to_be_touched() {
    let mut client = Client::open();
    let name = client.temporary_queue(1);
    let bind = queue::Bind { queue: s(&name), routing_key: s("k"), ..queue::Bind::default() };
    let unbind = queue::Unbind { queue: s(&name), routing_key: s(&name), ..queue::Unbind::default() };
    let bind_exchange = exchange::Bind { destination: s("amq.fanout"), ..exchange::Bind::default() };
    let unbind_exchange = exchange::Unbind { source: s("amq.fanout"), ..exchange::Unbind::default() };
    let methods: [Method; 7] = [
        exchange::Declare { durable: true, ..declare("", "direct") }.into(),
        exchange::Declare { passive: true, ..declare("", "direct") }.into(),
        delete("").into(),
        bind.into(),
        unbind.into(),
        bind_exchange.into(),
        unbind_exchange.into(),
    ];
    for method in methods {
        let (class, id) = method.ids();
        client.send(1, method);
        let text = "operation not permitted on the default exchange";
        client.expect_channel_close(1, 403, text, (class.get(), id.get()));
        client.open_channel(1);
    }
}

#[test]
fn a_missing_exchange_can_be_deleted_but_not_seen() {
    let mut client = Client::open();
    client.delete_exchange(1, "nowhere");
    client.send(1, passive_exchange("nowhere"));
    client.expect_channel_close(1, 404, "no exchange 'nowhere' in vhost '/'", (40, 10));
}

#[test]
fn a_passive_declare_looks_at_nothing_but_the_name() {
    let mut client = Client::open();
    let different = exchange::Declare { passive: true, internal: true, ..declare("amq.topic", "direct") };
    client.call::<exchange::DeclareOk>(1, different);
}

#[test]
fn system_exchanges_cannot_be_deleted() {
    let mut client = Client::open();
    for name in ["amq.direct", "amq.nowhere"] {
        client.send(1, delete(name));
        let text = format!("deletion of system exchange '{name}' in vhost '/' not allowed");
        client.expect_channel_close(1, 403, &text, (40, 20));
        client.open_channel(1);
    }
}

#[test]
fn if_unused_spares_an_exchange_that_has_bindings() {
    let mut client = Client::open();
    let (source, destination) = (unique("x"), unique("x"));
    client.call::<exchange::DeclareOk>(1, declare(&source, "fanout"));
    client.call::<exchange::DeclareOk>(1, declare(&destination, "fanout"));
    client.bind_exchange(1, &destination, &source, "");
    client.send(1, exchange::Delete { if_unused: true, ..delete(&source) });
    client.expect_channel_close(1, 406, &format!("exchange '{source}' in vhost '/' in use"), (40, 20));
    client.open_channel(1);
    // To be a destination is not to be used.
    client.call::<exchange::DeleteOk>(1, exchange::Delete { if_unused: true, ..delete(&destination) });
    client.call::<exchange::DeleteOk>(1, exchange::Delete { if_unused: true, ..delete(&source) });
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "direct");
    assert!(client.exchange_exists(&exchange), "it stays until something has been bound");
    let (first, second) = (client.temporary_queue(1), client.temporary_queue(1));
    client.bind(1, &first, &exchange, "a");
    client.bind(1, &second, &exchange, "b");
    client.delete_queue(1, &first);
    assert!(client.exchange_exists(&exchange), "one binding is left");
    client.unbind(1, &second, &exchange, "b");
    assert!(!client.exchange_exists(&exchange));
}

#[test]
fn an_auto_delete_exchange_goes_when_its_bound_queue_does() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "fanout");
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &exchange, "");
    client.delete_queue(1, &queue);
    assert!(!client.exchange_exists(&exchange));
}

#[test]
fn an_auto_delete_exchange_does_not_mind_being_unbound_as_a_destination() {
    let mut client = Client::open();
    let (source, destination) = (client.temporary_exchange(1, "fanout"), client.temporary_exchange(1, "fanout"));
    client.bind_exchange(1, &destination, &source, "");
    client.unbind_exchange(1, &destination, &source, "");
    assert!(!client.exchange_exists(&source));
    assert!(client.exchange_exists(&destination));
    client.delete_exchange(1, &destination);
}

#[test]
fn auto_delete_runs_through_a_chain_of_exchanges() {
    let mut client = Client::open();
    let names: Vec<String> = (0..4).map(|_| client.temporary_exchange(1, "fanout")).collect();
    for pair in names.windows(2) {
        client.bind_exchange(1, &pair[1], &pair[0], "");
    }
    client.delete_exchange(1, &names[3]);
    for name in &names {
        assert!(!client.exchange_exists(name));
    }
}

#[test]
fn auto_delete_undoes_a_loop_of_two_exchanges() {
    let mut client = Client::open();
    let (a, b) = (client.temporary_exchange(1, "fanout"), client.temporary_exchange(1, "fanout"));
    client.bind_exchange(1, &b, &a, "");
    client.bind_exchange(1, &a, &b, "");
    client.unbind_exchange(1, &b, &a, "");
    assert!(!client.exchange_exists(&a));
    assert!(!client.exchange_exists(&b));
}

#[test]
fn an_exclusive_queue_takes_auto_delete_exchanges_with_it() {
    let mut client = Client::open();
    let mut other = Client::open();
    let exchange = client.temporary_exchange(1, "fanout");
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &exchange, "");
    client.close();
    wait_until("the exchange is gone", || !other.exchange_exists(&exchange));
}

#[test]
fn an_internal_exchange_takes_messages_from_exchanges_only() {
    let mut client = Client::open();
    let internal = unique("x");
    let declare = exchange::Declare { internal: true, auto_delete: true, ..declare(&internal, "fanout") };
    client.call::<exchange::DeclareOk>(1, declare);
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &internal, "");
    let front = client.temporary_exchange(1, "fanout");
    client.bind_exchange(1, &internal, &front, "");
    client.publish(1, &front, "", "through");
    assert_eq!(client.get(1, &queue).text(), "through");
    client.publish(1, &internal, "", "direct");
    let text = format!("cannot publish to internal exchange '{internal}' in vhost '/'");
    client.expect_channel_close(1, 403, &text, (60, 40));
}

#[test]
fn redeclaring_with_another_property_is_refused() {
    check_inequivalent(|it| it.kind = s("topic"), "'type' <x>: received 'topic' but current is 'direct'");
    check_inequivalent(|it| it.durable = true, "'durable' <x>: received 'true' but current is 'false'");
    check_inequivalent(|it| it.auto_delete = true, "'auto_delete' <x>: received 'true' but current is 'false'");
    check_inequivalent(|it| it.internal = true, "'internal' <x>: received 'true' but current is 'false'");
}

#[test]
fn redeclaring_with_another_alternate_exchange_is_refused() {
    check_inequivalent(
        |it| it.arguments = table([("alternate-exchange", long("ae"))]),
        "'alternate-exchange' <x>: received the value 'ae' of type 'longstr' but current is none",
    );
}

#[test]
fn arguments_that_nobody_knows_are_not_compared() {
    let mut client = Client::open();
    let name = unique("x");
    client.call::<exchange::DeclareOk>(1, declare(&name, "direct"));
    let different = exchange::Declare { arguments: table([("x-odd", int(1))]), ..declare(&name, "direct") };
    client.call::<exchange::DeclareOk>(1, different);
    client.delete_exchange(1, &name);
}

#[test]
fn the_first_difference_is_the_one_reported() {
    check_inequivalent(
        |it| (it.kind, it.durable, it.auto_delete) = (s("fanout"), true, true),
        "'type' <x>: received 'fanout' but current is 'direct'",
    );
}

#[test]
fn an_alternate_exchange_must_be_a_string() {
    let mut client = Client::open();
    let name = unique("x");
    let declare = exchange::Declare { arguments: table([("alternate-exchange", int(1))]), ..declare(&name, "direct") };
    client.send(1, declare);
    let text = format!("invalid type 'signedint' for arg 'alternate-exchange' in exchange '{name}' in vhost '/'");
    client.expect_channel_close(1, 406, &text, (40, 10));
}

#[test]
fn no_wait_silences_success_and_not_failure() {
    let mut client = Client::open();
    let name = unique("x");
    client.send(1, exchange::Declare { no_wait: true, ..declare(&name, "direct") });
    client.barrier(1);
    assert!(client.exchange_exists(&name));
    client.send(1, exchange::Delete { no_wait: true, ..delete(&name) });
    client.barrier(1);
    assert!(!client.exchange_exists(&name));
    client.send(1, exchange::Declare { no_wait: true, ..declare("amq.direct", "direct") });
    client.expect_channel_close_code(1, 406);
}

#[test]
fn binding_to_what_is_missing_is_404_with_the_source_first() {
    let mut client = Client::open();
    let bind = |destination: &str, source: &str| exchange::Bind {
        destination: s(destination),
        source: s(source),
        ..exchange::Bind::default()
    };
    client.send(1, bind("no-destination", "no-source"));
    client.expect_channel_close(1, 404, "no exchange 'no-source' in vhost '/'", (40, 30));
    client.open_channel(1);
    client.send(1, bind("no-destination", "amq.fanout"));
    client.expect_channel_close(1, 404, "no exchange 'no-destination' in vhost '/'", (40, 30));
}

#[test]
fn unbinding_what_is_missing_is_fine() {
    let mut client = Client::open();
    client.unbind_exchange(1, "no-destination", "no-source", "k");
    client.unbind_exchange(1, "amq.direct", "amq.fanout", "k");
}

#[test]
fn deleting_an_exchange_removes_its_bindings() {
    let mut client = Client::open();
    let name = unique("x");
    client.call::<exchange::DeclareOk>(1, declare(&name, "fanout"));
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &name, "");
    client.delete_exchange(1, &name);
    client.call::<exchange::DeclareOk>(1, declare(&name, "fanout"));
    client.publish(1, &name, "", "x");
    client.barrier(1);
    client.expect_empty(1, &queue);
    client.delete_exchange(1, &name);
}

#[test]
fn line_breaks_in_names_are_dropped() {
    let mut client = Client::open();
    let name = unique("x");
    client.call::<exchange::DeclareOk>(1, declare(&format!("{name}\r\n"), "fanout"));
    assert!(client.exchange_exists(&name));
    client.delete_exchange(1, &format!("\n{name}"));
    assert!(!client.exchange_exists(&name));
}

#[test]
fn publishing_to_a_missing_exchange_is_404() {
    let mut client = Client::open();
    client.publish(1, "nowhere", "k", "x");
    client.expect_channel_close(1, 404, "no exchange 'nowhere' in vhost '/'", (60, 40));
}

#[test]
fn an_exchange_and_a_queue_may_share_a_name() {
    let mut client = Client::open();
    let name = unique("both");
    client.call::<exchange::DeclareOk>(1, exchange::Declare { auto_delete: true, ..declare(&name, "fanout") });
    client.declare(1, exclusive(&name));
    client.bind_with(1, &name, &name, "", FieldTable::new());
    client.consume_with(1, basic::Consume { no_ack: true, ..consume(&name) });
    client.send_content(1, publish_to(&name, "k"), &crate::support::no_properties(), b"x");
    assert_eq!(client.expect_deliver(1).exchange, name.as_str());
}
