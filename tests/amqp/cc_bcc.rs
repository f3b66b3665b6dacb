//! Sender-selected distribution: the headers CC and BCC (RabbitMQ's extension).

use leveret_protocol::{BasicProperties, FieldTable, FieldValue};

use crate::support::{
    Client, int, is_oracle, long, mandatory, no_properties, persistent, s, table, with_expiration, with_headers,
};

const PUBLISH: (u16, u16) = (60, 40);

fn keys(keys: &[&str]) -> FieldValue {
    FieldValue::Array(keys.iter().map(long).collect())
}

fn cc(names: &[&str]) -> BasicProperties {
    with_headers(table([("CC", keys(names))]))
}

#[test]
fn copies_go_to_every_key_and_nobody_sees_bcc() {
    let mut client = Client::open();
    let queues: Vec<String> = (0..3).map(|_| client.temporary_queue(1)).collect();
    let headers = table([("a", int(1)), ("BCC", keys(&[&queues[2]])), ("CC", keys(&[&queues[1]])), ("z", int(2))]);
    client.publish_with(1, "", &queues[0], &with_headers(headers), "x");
    client.barrier(1);
    for queue in &queues {
        let got = client.get(1, queue);
        assert_eq!((got.text(), got.message_count), ("x", 0));
        assert_eq!((got.exchange.as_str(), got.routing_key.as_str()), (Some(""), Some(&queues[0][..])));
        let headers = got.properties.headers.as_ref().expect("headers");
        assert_eq!(headers.get("CC"), Some(&keys(&[&queues[1]])));
        assert_eq!(headers.get("BCC"), None);
        assert_eq!((headers.get("a"), headers.get("z")), (Some(&int(1)), Some(&int(2))));
    }
}

#[test]
fn each_queue_gets_one_copy_however_often_it_is_named() {
    let mut client = Client::open();
    let (first, second) = (client.temporary_queue(1), client.temporary_queue(1));
    let headers = table([("CC", keys(&[&first, &second, &second])), ("BCC", keys(&[&first, "nowhere"]))]);
    client.publish_with(1, "", &first, &with_headers(headers), "x");
    client.barrier(1);
    assert_eq!(client.drain(1, &first), ["x"]);
    assert_eq!(client.drain(1, &second), ["x"]);
}

#[test]
fn items_that_are_no_strings_are_passed_over() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    let mixed = FieldValue::Array(vec![int(1), FieldValue::Void, keys(&["inner"]), long(&queue)]);
    client.publish_with(1, "", "nowhere", &with_headers(table([("CC", mixed)])), "x");
    client.barrier(1);
    assert_eq!(client.drain(1, &queue), ["x"]);
    client.publish_with(1, "", &queue, &cc(&[]), "no keys");
    client.barrier(1);
    assert_eq!(client.drain(1, &queue), ["no keys"]);
}

#[test]
fn anything_but_an_array_is_refused() {
    let mut client = Client::open();
    let values = [(long("q"), "longstr"), (FieldValue::Void, "void"), (FieldValue::Table(FieldTable::new()), "table")];
    for name in ["CC", "BCC"] {
        for (value, kind) in &values {
            client.publish_with(1, "", "q", &with_headers(table([(name, value.clone())])), "x");
            let text = format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{kind}}}");
            client.expect_channel_close(1, 406, &text, PUBLISH);
            client.open_channel(1);
        }
    }
}

#[test]
fn the_exchange_and_the_expiration_are_looked_at_first() {
    let mut client = Client::open();
    let wrong = with_headers(table([("CC", long("q"))]));
    client.publish_with(1, "no-such-exchange", "q", &wrong, "x");
    client.expect_channel_close(1, 404, "no exchange 'no-such-exchange' in vhost '/'", PUBLISH);
    client.open_channel(1);
    let expiring = BasicProperties { expiration: Some(s("abc")), ..wrong.clone() };
    client.publish_with(1, "", "q", &expiring, "x");
    client.expect_channel_close(1, 406, "invalid expiration 'abc': no_integer", PUBLISH);
    if !is_oracle() {
        // 3.10 looks at the user first.
        client.open_channel(1);
        client.publish_with(1, "", "q", &BasicProperties { user_id: Some(s("somebody")), ..wrong }, "x");
        client.expect_channel_close(1, 406, "invalid message: {unacceptable_type_in_header,\"CC\",longstr}", PUBLISH);
    }
}

#[test]
fn direct_and_topic_exchanges_see_every_key() {
    let mut client = Client::open();
    for kind in ["direct", "topic"] {
        let exchange = client.temporary_exchange(1, kind);
        let queues: Vec<String> = (0..3).map(|_| client.temporary_queue(1)).collect();
        for (queue, key) in queues.iter().zip(["one", "two", "three"]) {
            client.bind(1, queue, &exchange, key);
        }
        let headers = table([("CC", keys(&["two"])), ("BCC", keys(&["three", "four"]))]);
        client.publish_with(1, &exchange, "one", &with_headers(headers), "x");
        client.barrier(1);
        for queue in &queues {
            let got = client.get(1, queue);
            assert_eq!((got.routing_key.as_str(), got.message_count), (Some("one"), 0), "{kind}");
        }
        // The route of a message with copies is not that of others with its key.
        client.publish(1, &exchange, "one", "plain");
        client.barrier(1);
        assert_eq!(client.drain(1, &queues[0]), ["plain"]);
        client.expect_empty(1, &queues[1]);
    }
}

#[test]
fn a_message_that_only_a_copy_routes_is_not_returned() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.send_content(1, mandatory("", "nowhere"), &cc(&[&queue]), b"routed");
    let headers = table([("CC", keys(&["no", "where"])), ("BCC", keys(&["hidden"]))]);
    client.send_content(1, mandatory("", "nowhere"), &with_headers(headers), b"returned");
    let returned = client.expect_return(1);
    assert_eq!((returned.text(), returned.routing_key.as_str()), ("returned", Some("nowhere")));
    assert_eq!(returned.properties.headers, Some(table([("CC", keys(&["no", "where"]))])));
    assert_eq!(client.drain(1, &queue), ["routed"]);
}

#[test]
fn copies_are_confirmed_once_and_keep_their_place_in_a_transaction() {
    let mut client = Client::open();
    let (first, second) = (client.temporary_queue(1), client.temporary_queue(1));
    client.select_confirms(1);
    client.publish_with(1, "", &first, &BasicProperties { delivery_mode: Some(2), ..cc(&[&second]) }, "1");
    client.publish_with(1, "", &first, &persistent(), "2");
    client.publish_with(1, "", "nowhere", &cc(&["nowhere"]), "3");
    client.expect_confirms(1, 1..=3);
    assert_eq!(client.drain(1, &first), ["1", "2"]);
    assert_eq!(client.drain(1, &second), ["1"]);

    client.open_channel(2);
    client.select_tx(2);
    let headers = table([("CC", keys(&[&first])), ("BCC", keys(&[&second]))]);
    client.publish_with(2, "", "nowhere", &with_headers(headers), "held");
    client.publish_with(2, "", &first, &no_properties(), "after");
    client.expect_empty(1, &first);
    client.commit(2);
    assert_eq!(client.drain(1, &first), ["held", "after"]);
    let got = client.get(1, &second);
    assert_eq!(got.properties.headers, Some(table([("CC", keys(&[&first]))])));
}

#[test]
fn dead_letters_go_by_the_key_and_its_copies_unless_told_otherwise() {
    let mut client = Client::open();
    let dlx = client.temporary_exchange(1, "direct");
    let (one, two, told) = (client.temporary_queue(1), client.temporary_queue(1), client.temporary_queue(1));
    client.bind(1, &two, &dlx, "two");
    client.bind(1, &told, &dlx, "told");
    let by_keys = client.temporary_queue_with(1, table([("x-dead-letter-exchange", long(&dlx))]));
    client.bind(1, &one, &dlx, &by_keys);
    let copied = BasicProperties { expiration: with_expiration("0").expiration, ..cc(&["two"]) };
    client.publish_with(1, "", &by_keys, &copied, "x");
    for queue in [&one, &two] {
        let got = client.wait_get(1, queue);
        assert_eq!((got.text(), got.routing_key.as_str()), ("x", Some(&by_keys[..])));
    }
    let arguments = table([("x-dead-letter-exchange", long(&dlx)), ("x-dead-letter-routing-key", long("told"))]);
    let by_order = client.temporary_queue_with(1, arguments);
    client.publish_with(1, "", &by_order, &copied, "y");
    assert_eq!(client.wait_get(1, &told).text(), "y");
    client.expect_empty(1, &two);
}

#[test]
fn thousands_of_keys_are_one_message() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "topic");
    let queues: Vec<String> = (0..20).map(|_| client.temporary_queue(1)).collect();
    for queue in &queues {
        client.bind(1, queue, &exchange, "#");
    }
    let names: Vec<String> = (0..8000).map(|number| format!("k{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    client.publish_with(1, &exchange, "", &cc(&names), "x");
    client.barrier(1);
    for queue in &queues {
        assert_eq!(client.drain(1, queue), ["x"]);
    }
}
