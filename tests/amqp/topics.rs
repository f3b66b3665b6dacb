//! Topic exchanges: words, `*` and `#` (spec §3.1.3.3).

use leveret_protocol::basic;

use crate::support::{Client, publish_to, unique};

/// Publishes with each key to queues bound with each of these binding keys, and compares who got it.
#[track_caller]
fn check(binding_keys: &[&str], expected: &[(&str, &[&str])]) {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "topic");
    for (index, key) in binding_keys.iter().enumerate() {
        let queue = client.temporary_queue(1);
        client.bind(1, &queue, &exchange, key);
        let consume = basic::Consume {
            consumer_tag: crate::support::s(index.to_string()),
            no_ack: true,
            ..crate::support::consume(&queue)
        };
        client.consume_with(1, consume);
    }
    // A queue that gets everything says when the others have got theirs as well.
    for (routing_key, expected) in expected {
        client.publish(1, &exchange, routing_key, "x");
        let mut matched: Vec<&str> = Vec::new();
        for _ in 0..expected.len() {
            let delivery = client.expect_deliver(1);
            assert_eq!(delivery.routing_key, *routing_key);
            let index: usize = delivery.consumer_tag.as_str().expect("text").parse().expect("a number");
            matched.push(binding_keys[index]);
        }
        matched.sort_by_key(|key| binding_keys.iter().position(|other| other == key));
        assert_eq!(&matched, expected, "routing key {routing_key:?}");
    }
    client.barrier(1);
    client.expect_nothing_for(crate::support::millis(100));
}

#[test]
fn words_and_wildcards_match_as_in_rabbitmq() {
    let bindings = [
        "a.b.c", "a.*.c", "a.#", "#", "*", "#.c", "a.#.c", "*.*", "", "a..c", "*.#", "#.#", "a.*", ".", "a.b.#.#",
        "**", "#.*", "a.#b",
    ];
    check(
        &bindings,
        &[
            ("a", &["a.#", "#", "*", "*.#", "#.#", "#.*"]),
            ("a.b", &["a.#", "#", "*.*", "*.#", "#.#", "a.*", "a.b.#.#", "#.*"]),
            ("a.b.c", &["a.b.c", "a.*.c", "a.#", "#", "#.c", "a.#.c", "*.#", "#.#", "a.b.#.#", "#.*"]),
            ("a.c", &["a.#", "#", "#.c", "a.#.c", "*.*", "*.#", "#.#", "a.*", "#.*"]),
            ("", &["#", "", "#.#"]),
            ("a..c", &["a.*.c", "a.#", "#", "#.c", "a.#.c", "a..c", "*.#", "#.#", "#.*"]),
            (".", &["#", "*.*", "*.#", "#.#", ".", "#.*"]),
            ("**", &["#", "*", "*.#", "#.#", "**", "#.*"]),
            ("a.xb", &["a.#", "#", "*.*", "*.#", "#.#", "a.*", "#.*"]),
        ],
    );
}

#[test]
fn words_are_compared_octet_by_octet() {
    check(&["Ärger.*", "a.b", "A.B"], &[("Ärger.x", &["Ärger.*"]), ("a.b", &["a.b"]), ("A.B", &["A.B"]), ("A.b", &[])]);
}

#[test]
fn a_wildcard_in_a_routing_key_is_an_ordinary_word() {
    check(&["a.*", "a.b", "a.#"], &[("a.*", &["a.*", "a.#"]), ("a.#", &["a.*", "a.#"])]);
}

#[test]
fn a_hash_in_the_middle_stands_for_any_number_of_words() {
    check(
        &["a.#.b", "#.x.#"],
        &[("a.b", &["a.#.b"]), ("a.1.2.3.b", &["a.#.b"]), ("a.x.b", &["a.#.b", "#.x.#"]), ("x", &["#.x.#"])],
    );
    check(&["a.#.b.#.c"], &[("a.b.c", &["a.#.b.#.c"]), ("a.b.b.c.c", &["a.#.b.#.c"]), ("a.c.b", &[])]);
}

#[test]
fn a_queue_with_several_matching_bindings_gets_one_copy() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "topic");
    let queue = client.temporary_queue(1);
    for key in ["a.#.b", "#", "a.*.b", "#.b"] {
        client.bind(1, &queue, &exchange, key);
    }
    client.publish(1, &exchange, "a.x.b", "x");
    assert_eq!(client.get(1, &queue).message_count, 0);
}

#[test]
fn an_unbound_key_no_longer_matches() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "topic");
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, &exchange, "a.*");
    client.bind(1, &queue, &exchange, "a.#");
    client.bind(1, &queue, &exchange, "a.b.#");
    client.unbind(1, &queue, &exchange, "a.#");
    for (key, body) in [("a", "no"), ("a.b", "yes"), ("a.c", "yes too"), ("a.b.c", "also"), ("a.c.b", "no")] {
        client.publish(1, &exchange, key, body);
    }
    client.barrier(1);
    assert_eq!(client.drain(1, &queue), ["yes", "yes too", "also"]);
}

#[test]
fn bindings_of_a_deleted_queue_are_forgotten() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "topic");
    let (first, second) = (client.temporary_queue(1), unique("q"));
    client.bind(1, &first, &exchange, "a.#");
    client.declare(1, crate::support::exclusive(&second));
    client.bind(1, &second, &exchange, "a.#");
    client.delete_queue(1, &second);
    client.declare(1, crate::support::exclusive(&second));
    client.send_content(1, publish_to(&exchange, "a.b"), &crate::support::no_properties(), b"x");
    assert_eq!(client.get(1, &first).text(), "x");
    client.expect_empty(1, &second);
}

#[test]
fn thousands_of_bindings_are_told_apart() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "topic");
    let (even, odd) = (client.temporary_queue(1), client.temporary_queue(1));
    for number in 0..2_000 {
        let queue = if number % 2 == 0 { &even } else { &odd };
        let bind = leveret_protocol::queue::Bind {
            queue: crate::support::s(queue),
            exchange: crate::support::s(&exchange),
            routing_key: crate::support::s(format!("k.{number}.*")),
            no_wait: true,
            ..leveret_protocol::queue::Bind::default()
        };
        client.send(1, bind);
    }
    client.barrier(1);
    for number in 0..2_000 {
        client.publish(1, &exchange, &format!("k.{number}.x"), &number.to_string());
    }
    client.barrier(1);
    client.wait_ready(1, &even, 1_000);
    client.wait_ready(1, &odd, 1_000);
    assert_eq!(client.get(1, &odd).text(), "1");
}
