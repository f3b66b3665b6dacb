//! Direct, fanout and default exchange, bindings between exchanges, alternate exchanges (spec §3.1.3).

use leveret_protocol::{exchange, queue};

use crate::support::{Client, long, mandatory, millis, no_properties, s, table, unique};

#[test]
fn a_direct_exchange_compares_keys_octet_by_octet() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "direct");
    let (upper, lower, empty) = (client.temporary_queue(1), client.temporary_queue(1), client.temporary_queue(1));
    client.bind(1, &upper, &exchange, "KEY");
    client.bind(1, &lower, &exchange, "key");
    client.bind(1, &empty, &exchange, "");
    for key in ["key", "KEY", "key.", "", "*", "#"] {
        client.publish(1, &exchange, key, &format!("to {key:?}"));
    }
    client.barrier(1);
    assert_eq!(client.drain(1, &upper), ["to \"KEY\""]);
    assert_eq!(client.drain(1, &lower), ["to \"key\""]);
    assert_eq!(client.drain(1, &empty), ["to \"\""]);
}

#[test]
fn several_queues_may_share_a_binding_key() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "direct");
    let queues: Vec<String> = (0..3).map(|_| client.temporary_queue(1)).collect();
    for queue in &queues {
        client.bind(1, queue, &exchange, "key");
    }
    client.publish(1, &exchange, "key", "x");
    for queue in &queues {
        let got = client.get(1, queue);
        assert_eq!(
            (got.text(), got.exchange.as_str(), got.routing_key.as_str()),
            ("x", Some(&exchange[..]), Some("key"))
        );
    }
}

#[test]
fn a_fanout_exchange_ignores_the_key() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "fanout");
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &exchange, "a");
    client.bind(1, &queue, &exchange, "b");
    client.publish(1, &exchange, "c", "x");
    assert_eq!(client.get(1, &queue).message_count, 0);
}

#[test]
fn the_default_exchange_knows_every_queue_by_name() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.publish(1, "", &queue, "x");
    let got = client.get(1, &queue);
    assert_eq!((got.exchange.as_str(), got.routing_key.as_str()), (Some(""), Some(&queue[..])));
    client.publish(1, "", "nowhere", "dropped");
    client.barrier(1);
}

#[test]
fn messages_pass_from_exchange_to_exchange_with_their_own_name_and_key() {
    let mut client = Client::open();
    let front = client.temporary_exchange(1, "topic");
    let back = client.temporary_exchange(1, "direct");
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &back, "a.b");
    client.bind_exchange(1, &back, &front, "a.*");
    client.publish(1, &front, "a.b", "through");
    client.publish(1, &front, "a.c", "stops at the second");
    let got = client.get(1, &queue);
    assert_eq!((got.exchange.as_str(), got.routing_key.as_str()), (Some(&front[..]), Some("a.b")));
    client.expect_empty(1, &queue);
    client.unbind_exchange(1, &back, &front, "a.*");
    assert!(!client.exchange_exists(&front));
}

#[test]
fn cycles_of_exchanges_end_and_each_queue_gets_one_copy() {
    let mut client = Client::open();
    let (a, b) = (unique("x"), unique("x"));
    for name in [&a, &b] {
        let declare = exchange::Declare { exchange: s(name), kind: s("fanout"), ..exchange::Declare::default() };
        client.call::<exchange::DeclareOk>(1, declare);
    }
    let (first, second) = (client.temporary_queue(1), client.temporary_queue(1));
    client.bind(1, &first, &a, "");
    client.bind(1, &second, &b, "");
    client.bind(1, &first, &b, "");
    client.bind_exchange(1, &b, &a, "");
    client.bind_exchange(1, &a, &b, "");
    client.bind_exchange(1, &a, &a, "");
    client.publish(1, &a, "", "x");
    client.barrier(1);
    assert_eq!(client.drain(1, &first), ["x"]);
    assert_eq!(client.drain(1, &second), ["x"]);
    client.delete_exchange(1, &a);
    client.delete_exchange(1, &b);
}

#[test]
fn a_message_reaches_a_queue_once_however_many_ways_lead_there() {
    let mut client = Client::open();
    let front = client.temporary_exchange(1, "fanout");
    let (left, right) = (client.temporary_exchange(1, "fanout"), client.temporary_exchange(1, "fanout"));
    let queue = client.temporary_queue(1);
    for exchange in [&left, &right, &front] {
        client.bind(1, &queue, exchange, "");
    }
    client.bind_exchange(1, &left, &front, "");
    client.bind_exchange(1, &right, &front, "");
    client.publish(1, &front, "", "x");
    assert_eq!(client.get(1, &queue).message_count, 0);
}

/// An exchange with an alternate exchange behind which a queue waits: exchange, alternate, queue.
fn with_alternate(client: &mut Client, kind: &str) -> (String, String, String) {
    let alternate = client.temporary_exchange(1, "fanout");
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &alternate, "");
    let exchange = client.temporary_exchange_with(1, kind, table([("alternate-exchange", long(&alternate))]));
    (exchange, alternate, queue)
}

#[test]
fn the_alternate_exchange_gets_what_has_no_binding() {
    let mut client = Client::open();
    let (exchange, _alternate, spare) = with_alternate(&mut client, "direct");
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &exchange, "known");
    client.send_content(1, mandatory(&exchange, "known"), &no_properties(), b"routed");
    client.send_content(1, mandatory(&exchange, "unknown"), &no_properties(), b"spared");
    client.barrier(1); // Nothing was returned.
    assert_eq!(client.drain(1, &queue), ["routed"]);
    let got = client.get(1, &spare);
    assert_eq!((got.text(), got.routing_key.as_str(), got.message_count), ("spared", Some("unknown"), 0));
    assert_eq!(got.exchange, exchange.as_str());
}

#[test]
fn a_binding_to_an_exchange_that_routes_nowhere_keeps_the_alternate_out() {
    let mut client = Client::open();
    let (exchange, _alternate, spare) = with_alternate(&mut client, "direct");
    let dead_end = unique("x");
    let declare = exchange::Declare { exchange: s(&dead_end), kind: s("fanout"), ..exchange::Declare::default() };
    client.call::<exchange::DeclareOk>(1, declare);
    client.bind_exchange(1, &dead_end, &exchange, "key");
    client.send_content(1, mandatory(&exchange, "key"), &no_properties(), b"lost");
    assert_eq!(client.expect_return(1).text(), "lost");
    client.expect_empty(1, &spare);
    client.delete_exchange(1, &dead_end);
}

#[test]
fn alternate_exchanges_chain_and_their_loops_end() {
    let mut client = Client::open();
    let names: Vec<String> = (0..3).map(|_| unique("x")).collect();
    for (index, name) in names.iter().enumerate() {
        let next = &names[(index + 1) % names.len()];
        let declare = exchange::Declare {
            exchange: s(name),
            kind: s("direct"),
            arguments: table([("alternate-exchange", long(next))]),
            ..exchange::Declare::default()
        };
        client.call::<exchange::DeclareOk>(1, declare);
    }
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &names[2], "key");
    client.publish(1, &names[0], "key", "down the chain");
    assert_eq!(client.get(1, &queue).text(), "down the chain");
    client.send_content(1, mandatory(&names[0], "unknown"), &no_properties(), b"round the loop");
    assert_eq!(client.expect_return(1).text(), "round the loop");
    for name in &names {
        client.delete_exchange(1, name);
    }
}

#[test]
fn a_missing_alternate_exchange_is_ignored() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange_with(1, "direct", table([("alternate-exchange", long("nowhere"))]));
    client.send_content(1, mandatory(&exchange, "key"), &no_properties(), b"x");
    client.expect_return(1);
    client.delete_exchange(1, &exchange);
}

#[test]
fn rebinding_changes_nothing_and_one_unbind_undoes_it() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "direct");
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &exchange, "other");
    client.bind(1, &queue, &exchange, "key");
    client.bind(1, &queue, &exchange, "key");
    client.publish(1, &exchange, "key", "once");
    client.barrier(1);
    assert_eq!(client.drain(1, &queue), ["once"]);
    client.unbind(1, &queue, &exchange, "key");
    client.publish(1, &exchange, "key", "never");
    client.barrier(1);
    client.expect_empty(1, &queue);
    client.unbind(1, &queue, &exchange, "key");
}

#[test]
fn a_new_binding_counts_from_the_moment_it_is_confirmed() {
    let mut client = Client::open();
    let mut publisher = Client::open();
    let exchange = client.temporary_exchange(1, "direct");
    let queue = client.temporary_queue(1);
    for number in 0..50 {
        let key = format!("key-{number}");
        client.bind(1, &queue, &exchange, &key);
        publisher.send_content(1, mandatory(&exchange, &key), &no_properties(), key.as_bytes());
    }
    publisher.barrier(1); // Nothing was returned.
    client.wait_ready(1, &queue, 50);
    for number in 0..49 {
        let key = format!("key-{number}");
        client.unbind(1, &queue, &exchange, &key);
        publisher.send_content(1, mandatory(&exchange, &key), &no_properties(), key.as_bytes());
        assert_eq!(publisher.expect_return(1).text(), key);
    }
    publisher.expect_nothing_for(millis(50));
}

#[test]
fn an_exchange_redeclared_after_its_deletion_has_no_bindings() {
    let mut client = Client::open();
    let name = unique("x");
    let declare = exchange::Declare { exchange: s(&name), kind: s("fanout"), ..exchange::Declare::default() };
    client.call::<exchange::DeclareOk>(1, declare.clone());
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &name, "");
    client.publish(1, &name, "", "kept");
    client.delete_exchange(1, &name);
    client.call::<exchange::DeclareOk>(1, declare);
    client.publish(1, &name, "", "dropped");
    client.barrier(1);
    assert_eq!(client.drain(1, &queue), ["kept"]);
    client.delete_exchange(1, &name);
}

#[test]
fn bindings_without_wait_are_made_in_order() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "direct");
    let queue = client.temporary_queue(1);
    let bind = queue::Bind {
        queue: s(&queue),
        exchange: s(&exchange),
        routing_key: s("key"),
        no_wait: true,
        ..queue::Bind::default()
    };
    client.send(1, bind);
    client.publish(1, &exchange, "key", "x");
    assert_eq!(client.get(1, &queue).text(), "x");
}
