//! Publisher confirms (RabbitMQ's extension).

use leveret_protocol::{basic, confirm, queue};

use crate::support::{
    Client, exclusive, int, long, mandatory, millis, no_properties, persistent, publish_to, s, table, unique,
};

#[test]
fn numbers_begin_with_the_first_publish_after_select() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.enqueue(1, &queue, &["1", "2", "3", "4", "5"]);
    client.select_confirms(1);
    client.enqueue(1, &queue, &["6"]);
    client.expect_ack(1, 1);
    client.select_confirms(1);
    client.enqueue(1, &queue, &["7"]);
    client.expect_ack(1, 2);
    client.expect_nothing_for(millis(50));
}

#[test]
fn select_without_wait_is_not_answered() {
    let mut client = Client::open();
    client.send(1, confirm::Select { no_wait: true });
    client.publish(1, "", "nowhere", "x");
    client.expect_ack(1, 1);
}

#[test]
fn a_message_without_a_queue_is_acked() {
    let mut client = Client::open();
    client.select_confirms(1);
    client.publish(1, "amq.direct", "nowhere", "x");
    client.expect_ack(1, 1);
}

#[test]
fn a_return_comes_before_its_ack() {
    let mut client = Client::open();
    client.select_confirms(1);
    for number in 1..=20 {
        client.send_content(1, mandatory("", "nowhere"), &no_properties(), number.to_string().as_bytes());
        assert_eq!(client.expect_return(1).text(), number.to_string());
        client.expect_ack(1, number);
    }
}

#[test]
fn returns_among_pipelined_publishes_come_before_their_acks() {
    let mut client = Client::open();
    client.select_confirms(1);
    let mut octets = Vec::new();
    for number in 1..=100_u64 {
        octets.extend(client.content_frames(
            1,
            mandatory("", "nowhere"),
            &no_properties(),
            number.to_string().as_bytes(),
        ));
    }
    client.send_bytes(&octets);
    let (mut returned, mut confirmed) = (0, 0);
    while confirmed < 100 {
        let arrived = client.next_on(1, crate::support::DEADLINE).expect("a return or a confirm");
        if let leveret_protocol::Method::BasicAck(ack) = &arrived.method {
            confirmed = ack.delivery_tag.get();
            assert!(confirmed <= returned, "{confirmed} was confirmed when {returned} had been returned");
        } else {
            returned += 1;
            let body = arrived.content.expect("a return").body;
            assert_eq!(body, returned.to_string().as_bytes());
        }
    }
    assert_eq!(returned, 100);
}

#[test]
fn every_publish_is_settled_once_and_acks_coalesce() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.select_confirms(1);
    let mut octets = Vec::new();
    for _ in 0..1_000 {
        octets.extend(client.content_frames(1, publish_to("", &queue), &no_properties(), b"x"));
    }
    client.send_bytes(&octets);
    let confirms = client.expect_confirms(1, 1..=1_000);
    assert_eq!(confirms.acked.len(), 1_000);
    assert!(confirms.multiple_seen, "a thousand publishes at once are not confirmed one by one");
    client.expect_nothing_for(millis(50));
}

#[test]
fn persistent_messages_in_a_durable_queue_are_acked() {
    let mut client = Client::open();
    let queue = client.durable_queue_with(1, leveret_protocol::FieldTable::new());
    client.select_confirms(1);
    client.publish_with(1, "", &queue, &persistent(), "lone");
    client.expect_ack(1, 1);
    let mut octets = Vec::new();
    for number in 0..500 {
        let properties = if number % 2 == 0 { persistent() } else { no_properties() };
        octets.extend(client.content_frames(1, publish_to("", &queue), &properties, b"x"));
    }
    client.send_bytes(&octets);
    assert_eq!(client.expect_confirms(1, 2..=501).acked.len(), 500);
    assert_eq!(client.delete_queue(1, &queue), 501);
}

#[test]
fn a_persistent_message_consumed_at_once_is_acked_all_the_same() {
    let mut client = Client::open();
    let queue = client.durable_queue_with(1, leveret_protocol::FieldTable::new());
    let mut consumer = Client::open();
    consumer.consume_no_ack(1, &queue);
    client.select_confirms(1);
    for _ in 0..200 {
        client.publish_with(1, "", &queue, &persistent(), "x");
    }
    assert_eq!(client.expect_confirms(1, 1..=200).acked.len(), 200);
    for _ in 0..200 {
        consumer.expect_deliver(1);
    }
    client.delete_queue(1, &queue);
}

#[test]
fn a_message_to_several_queues_is_acked_once() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "fanout");
    let durable = client.durable_queue_with(1, leveret_protocol::FieldTable::new());
    let transient = client.temporary_queue(1);
    client.bind(1, &durable, &exchange, "");
    client.bind(1, &transient, &exchange, "");
    client.select_confirms(1);
    for _ in 0..50 {
        client.publish_with(1, &exchange, "", &persistent(), "x");
    }
    assert_eq!(client.expect_confirms(1, 1..=50).acked.len(), 50);
    client.expect_nothing_for(millis(50));
    assert_eq!(client.delete_queue(1, &durable), 50);
}

#[test]
fn a_full_queue_nacks_and_the_others_keep_their_copy() {
    let mut client = Client::open();
    let exchange = client.temporary_exchange(1, "fanout");
    let arguments = table([("x-max-length", int(1)), ("x-overflow", long("reject-publish"))]);
    let full = client.temporary_queue_with(1, arguments);
    let roomy = client.temporary_queue(1);
    client.bind(1, &full, &exchange, "");
    client.bind(1, &roomy, &exchange, "");
    client.select_confirms(1);
    client.publish(1, &exchange, "", "first");
    client.expect_ack(1, 1);
    client.publish(1, &exchange, "", "second");
    client.expect_nack(1, 2);
    assert_eq!(client.drain(1, &full), ["first"]);
    assert_eq!(client.drain(1, &roomy), ["first", "second"]);
    client.publish(1, &exchange, "", "third");
    client.expect_ack(1, 3);
}

#[test]
fn nacks_are_never_covered_by_acks() {
    let mut client = Client::open();
    let arguments = table([("x-max-length", int(5)), ("x-overflow", long("reject-publish"))]);
    let full = client.temporary_queue_with(1, arguments);
    let roomy = client.temporary_queue(1);
    client.select_confirms(1);
    let mut octets = Vec::new();
    for number in 0..200 {
        let queue = if number % 2 == 0 { &full } else { &roomy };
        octets.extend(client.content_frames(1, publish_to("", queue), &no_properties(), b"x"));
    }
    client.send_bytes(&octets);
    let confirms = client.expect_confirms(1, 1..=200);
    let refused: Vec<u64> = (1..=200).filter(|number| number % 2 == 1).skip(5).collect();
    assert_eq!(confirms.nacked, refused);
}

#[test]
fn a_queue_deleted_while_confirms_are_pending_acks_them() {
    let mut client = Client::open();
    let queue = client.durable_queue_with(1, leveret_protocol::FieldTable::new());
    client.open_channel(2);
    client.select_confirms(1);
    let mut octets = Vec::new();
    for _ in 0..200 {
        octets.extend(client.content_frames(1, publish_to("", &queue), &persistent(), b"x"));
    }
    let delete = queue::Delete { queue: s(&queue), ..queue::Delete::default() };
    octets.extend(crate::support::method_frame(2, delete));
    client.send_bytes(&octets);
    assert_eq!(client.expect_confirms(1, 1..=200).acked.len(), 200);
    client.expect::<queue::DeleteOk>(2);
}

#[test]
fn a_queue_purged_while_confirms_are_pending_acks_them() {
    let mut client = Client::open();
    let queue = client.durable_queue_with(1, leveret_protocol::FieldTable::new());
    client.open_channel(2);
    client.select_confirms(1);
    let mut octets = Vec::new();
    for _ in 0..200 {
        octets.extend(client.content_frames(1, publish_to("", &queue), &persistent(), b"x"));
    }
    octets.extend(crate::support::method_frame(2, queue::Purge { queue: s(&queue), ..queue::Purge::default() }));
    client.send_bytes(&octets);
    assert_eq!(client.expect_confirms(1, 1..=200).acked.len(), 200);
    client.expect::<queue::PurgeOk>(2);
    client.delete_queue(1, &queue);
}

#[test]
fn messages_that_are_dropped_later_are_acked() {
    let mut client = Client::open();
    let short = client.temporary_queue_with(1, table([("x-max-length", int(1))]));
    let fleeting = client.temporary_queue_with(1, table([("x-message-ttl", int(0))]));
    client.select_confirms(1);
    for _ in 0..10 {
        client.enqueue(1, &short, &["x"]);
        client.enqueue(1, &fleeting, &["x"]);
    }
    assert_eq!(client.expect_confirms(1, 1..=20).acked.len(), 20);
}

#[test]
fn a_publish_that_fails_is_not_confirmed() {
    let mut client = Client::open();
    client.select_confirms(1);
    client.publish(1, "nowhere", "k", "x");
    client.expect_channel_close(1, 404, "no exchange 'nowhere' in vhost '/'", (60, 40));
    client.open_channel(1);
    client.barrier(1);
    client.expect_nothing_for(millis(50));
}

#[test]
fn channels_count_for_themselves() {
    let mut client = Client::open();
    client.open_channel(2);
    client.open_channel(3);
    let queue = client.temporary_queue(3);
    client.select_confirms(1);
    client.select_confirms(2);
    client.enqueue(3, &queue, &["not confirmed"]);
    client.enqueue(1, &queue, &["1"]);
    client.expect_ack(1, 1);
    client.enqueue(2, &queue, &["1"]);
    client.expect_ack(2, 1);
    client.barrier(3);
}

#[test]
fn confirm_and_tx_exclude_each_other() {
    let mut client = Client::open();
    client.select_confirms(1);
    client.send(1, leveret_protocol::tx::Select);
    client.expect_channel_close(1, 406, "cannot switch from confirm to tx mode", (90, 10));
    client.open_channel(1);
    client.select_tx(1);
    client.select_tx(1);
    client.send(1, confirm::Select::default());
    client.expect_channel_close(1, 406, "cannot switch from tx to confirm mode", (85, 10));
}

#[test]
fn a_publisher_that_consumes_sees_the_delivery_and_the_confirm() {
    let mut client = Client::open();
    let queue = unique("q");
    client.declare(1, exclusive(&queue));
    client.select_confirms(1);
    client.consume_no_ack(1, &queue);
    client.enqueue(1, &queue, &["x"]);
    let mut seen = [client.next(crate::support::DEADLINE), client.next(crate::support::DEADLINE)]
        .map(|arrived| arrived.expect("a delivery and a confirm").method.name());
    seen.sort_unstable();
    assert_eq!(seen, [basic::Ack::NAME, basic::Deliver::NAME]);
}
