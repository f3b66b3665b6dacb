//! Exchanges that give each message to one destination: consistent hash, modulus hash, random (RabbitMQ's plugins).

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, exchange, queue};

use crate::support::{Client, int, is_oracle, long, mandatory, no_properties, s, table, unique, with_headers};

const DECLARE: (u16, u16) = (40, 10);
const BIND: (u16, u16) = (50, 20);

/// Declares an exchange with a queue for each binding key.
fn spread(client: &mut Client, kind: &str, arguments: FieldTable, keys: &[&str]) -> (String, Vec<String>) {
    let exchange = client.temporary_exchange_with(1, kind, arguments);
    let queues = keys.iter().map(|key| bound(client, &exchange, key)).collect();
    (exchange, queues)
}

fn bound(client: &mut Client, exchange: &str, key: &str) -> String {
    let queue = client.temporary_queue(1);
    client.bind(1, &queue, exchange, key);
    queue
}

/// What each queue got since the last time.
fn counts(client: &mut Client, queues: &[String]) -> Vec<usize> {
    client.barrier(1);
    queues.iter().map(|queue| client.drain(1, queue).len()).collect()
}

fn publish_keys(client: &mut Client, exchange: &str, count: u32) {
    client.select_confirms(1);
    for number in 0..count {
        client.publish(1, exchange, &format!("key-{number}"), "x");
    }
    client.expect_confirms(1, 1..=u64::from(count));
}

#[test]
fn a_consistent_hash_follows_the_weights() {
    let mut client = Client::open();
    let (exchange, queues) = spread(&mut client, "x-consistent-hash", FieldTable::new(), &["1", "3"]);
    publish_keys(&mut client, &exchange, 1000);
    let counts = counts(&mut client, &queues);
    assert_eq!(counts.iter().sum::<usize>(), 1000);
    assert!((180..320).contains(&counts[0]), "about a quarter: {counts:?}");
}

#[test]
fn equal_keys_go_to_the_same_queue() {
    for kind in ["x-consistent-hash", "x-modulus-hash"] {
        let mut client = Client::open();
        let (exchange, queues) = spread(&mut client, kind, FieldTable::new(), &["1", "2", "3"]);
        let mut used = vec![0; 3];
        for number in 0..30 {
            for _ in 0..4 {
                client.send_content(1, mandatory(&exchange, &format!("key-{number}")), &no_properties(), b"x");
            }
            let counts = counts(&mut client, &queues);
            assert!(counts.iter().all(|count| [0, 4].contains(count)), "{kind}: {counts:?}");
            assert_eq!(counts.iter().sum::<usize>(), 4, "{kind}: {counts:?}");
            used.iter_mut().zip(counts).for_each(|(used, count)| *used += count);
        }
        assert!(used.iter().filter(|count| **count > 0).count() > 1, "{kind} uses several queues: {used:?}");
    }
}

#[test]
fn a_header_or_a_property_may_be_hashed() {
    let mut client = Client::open();
    let keys = ["10", "10", "10", "10"];
    let by_header = table([("hash-header", long("to"))]);
    let by_property = table([("hash-property", long("message_id"))]);
    let (header_exchange, header_queues) = spread(&mut client, "x-consistent-hash", by_header, &keys);
    let (id_exchange, id_queues) = spread(&mut client, "x-consistent-hash", by_property, &keys);
    for number in 0..40 {
        let id = BasicProperties { message_id: Some(s(format!("id-{number}"))), ..no_properties() };
        client.publish_with(1, &id_exchange, "key", &id, "x");
        client.publish_with(1, &header_exchange, "key", &with_headers(table([("to", int(number))])), "x");
    }
    for queues in [&header_queues, &id_queues] {
        let counts = counts(&mut client, queues);
        assert_eq!(counts.iter().sum::<usize>(), 40);
        assert!(counts.iter().filter(|count| **count > 0).count() > 1, "{counts:?}");
    }
    for number in 0..20 {
        client.publish(1, &header_exchange, &format!("key-{number}"), "without the header");
    }
    let counts = counts(&mut client, &header_queues);
    assert!(counts.contains(&20), "all to the same queue: {counts:?}");
}

#[test]
fn a_key_and_its_copies_are_hashed_together() {
    let mut client = Client::open();
    for kind in ["x-consistent-hash", "x-modulus-hash"] {
        let (exchange, queues) = spread(&mut client, kind, FieldTable::new(), &["1", "1"]);
        for number in 0..10 {
            let copies = FieldValue::Array(vec![long(format!("copy-{number}")), long("other")]);
            client.publish_with(1, &exchange, "key", &with_headers(table([("CC", copies)])), "x");
        }
        assert_eq!(counts(&mut client, &queues).iter().sum::<usize>(), 10, "{kind}: one queue for each message");
    }
}

#[test]
fn bad_weights_are_refused() {
    let mut client = Client::open();
    let exchange = unique("x");
    let declare =
        exchange::Declare { exchange: s(&exchange), kind: s("x-consistent-hash"), ..exchange::Declare::default() };
    client.call::<exchange::DeclareOk>(1, declare);
    let queue = client.temporary_queue(1);
    for (key, text) in [
        ("0", "The binding key must be greater than 0"),
        ("-2", "The binding key must be greater than 0"),
        ("abc", "The binding key must be an integer: <<\"abc\">>"),
        ("1.5", "The binding key must be an integer: <<\"1.5\">>"),
        ("", "The binding key must be an integer: <<>>"),
    ] {
        let bind = queue::Bind {
            queue: s(&queue),
            exchange: s(&exchange),
            routing_key: s(key),
            // Both names empty would stand for the last declared queue.
            ..queue::Bind::default()
        };
        client.send(1, bind);
        client.expect_channel_close(1, 406, text, BIND);
        client.open_channel(1);
    }
    client.delete_exchange(1, &exchange);
}

#[test]
fn bad_hash_arguments_are_refused() {
    let mut client = Client::open();
    for (arguments, text) in [
        (table([("hash-property", long("app_id"))]), "Unsupported property: app_id"),
        (
            table([("hash-property", long("message_id")), ("hash-header", long("h"))]),
            "hash-header and hash-property are mutually exclusive",
        ),
    ] {
        let kind = s("x-consistent-hash");
        client.send(1, exchange::Declare { exchange: s(unique("x")), kind, arguments, ..exchange::Declare::default() });
        client.expect_channel_close(1, 406, text, DECLARE);
        client.open_channel(1);
    }
}

#[test]
fn an_unbound_destination_gets_nothing_more_and_the_others_keep_theirs() {
    let mut client = Client::open();
    let (exchange, queues) = spread(&mut client, "x-consistent-hash", FieldTable::new(), &["1", "1", "1"]);
    client.unbind(1, &queues[1], &exchange, "1");
    for number in 0..50 {
        client.send_content(1, mandatory(&exchange, &format!("key-{number}")), &no_properties(), b"x");
    }
    let counts = counts(&mut client, &queues);
    assert_eq!((counts[1], counts[0] + counts[2]), (0, 50), "{counts:?}");
}

#[test]
fn a_random_exchange_uses_every_binding_and_one_for_each_message() {
    let mut client = Client::open();
    let kinds: &[&str] = if is_oracle() { &["x-random"] } else { &["x-random", "x-local-random"] };
    for kind in kinds {
        let (exchange, queues) = spread(&mut client, kind, FieldTable::new(), &["", "", ""]);
        for _ in 0..120 {
            client.send_content(1, mandatory(&exchange, "same"), &no_properties(), b"x");
        }
        let counts = counts(&mut client, &queues);
        assert_eq!(counts.iter().sum::<usize>(), 120, "{kind}: {counts:?}");
        assert!(counts.iter().all(|count| (10..80).contains(count)), "{kind}: {counts:?}");
    }
}

#[test]
fn without_bindings_nothing_is_routed() {
    let mut client = Client::open();
    for kind in ["x-consistent-hash", "x-modulus-hash", "x-random"] {
        let (exchange, queues) = spread(&mut client, kind, FieldTable::new(), &["1"]);
        // Kept from going with its last binding by another exchange's.
        let other = client.temporary_exchange(1, "fanout");
        client.bind_exchange(1, &other, &exchange, "1");
        client.unbind(1, &queues[0], &exchange, "1");
        client.send_content(1, mandatory(&exchange, "key"), &no_properties(), b"x");
        assert_eq!(client.expect_return(1).text(), "x", "{kind}");
        client.unbind_exchange(1, &other, &exchange, "1");
        client.delete_exchange(1, &other);
    }
}

#[test]
fn a_local_random_exchange_takes_classic_queues_without_a_key() {
    if is_oracle() {
        return; // Since 4.0.
    }
    let mut client = Client::open();
    let exchange = unique("x");
    let declare =
        exchange::Declare { exchange: s(&exchange), kind: s("x-local-random"), ..exchange::Declare::default() };
    client.call::<exchange::DeclareOk>(1, declare);
    let queue = client.temporary_queue(1);
    let bind = queue::Bind { queue: s(&queue), exchange: s(&exchange), routing_key: s("k"), ..queue::Bind::default() };
    client.send(1, bind);
    client.expect_channel_close(1, 406, "Non empty binding 'k' key not permitted", BIND);
    client.open_channel(1);
    let quorum = client.durable_queue_with(1, table([("x-queue-type", long("quorum"))]));
    client.send(1, queue::Bind { queue: s(&quorum), exchange: s(&exchange), ..queue::Bind::default() });
    let text = "Queue type rabbit_quorum_queue not valid for this exchange type";
    client.expect_channel_close(1, 406, text, BIND);
    client.open_channel(1);
    client.delete_queue(1, &quorum);
    client.delete_exchange(1, &exchange);
}
