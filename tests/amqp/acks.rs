//! Ack, nack, reject, recover, and what becomes of the messages (spec §1.8.3.13–1.8.3.16, with RabbitMQ's nack).

use std::collections::BTreeSet;

use leveret_protocol::{DeliveryTag, Method, basic};

use crate::support::{Client, Received, millis, unique};

/// A queue with these messages, each fetched but not acked: tags 1, 2, 3, …
#[track_caller]
fn with_unacked(client: &mut Client, bodies: &[&str]) -> String {
    let queue = client.temporary_queue(1);
    client.enqueue(1, &queue, bodies);
    for body in bodies {
        assert_eq!(client.get(1, &queue).text(), *body);
    }
    queue
}

fn ack(tag: u64, multiple: bool) -> basic::Ack {
    basic::Ack { delivery_tag: DeliveryTag::new(tag), multiple }
}

/// Sends a method that must be refused for an unknown tag.
#[track_caller]
fn check_unknown(client: &mut Client, method: impl Into<Method>, tag: u64) {
    let method = method.into();
    let (class, id) = method.ids();
    client.send(1, method);
    client.expect_channel_close(1, 406, &format!("unknown delivery tag {tag}"), (class.get(), id.get()));
    client.open_channel(1);
}

#[test]
fn get_counts_what_is_left() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.enqueue(1, &queue, &["a", "b", "c"]);
    let got: Vec<_> = (0..3).map(|_| client.get(1, &queue)).collect();
    assert_eq!(got.iter().map(|got| got.message_count).collect::<Vec<_>>(), [2, 1, 0]);
    assert_eq!(got.iter().map(Received::<basic::GetOk>::tag).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(got.iter().all(|got| !got.redelivered));
    client.expect_empty(1, &queue);
}

#[test]
fn get_empty_names_nothing() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    let empty: basic::GetEmpty = client.call(1, basic::Get { queue: crate::support::s(&queue), no_ack: false });
    assert!(empty.cluster_id.is_empty());
}

#[test]
fn acked_messages_are_gone() {
    let mut client = Client::open();
    let queue = with_unacked(&mut client, &["1", "2", "3"]);
    client.ack(1, 2);
    client.close_channel(1);
    client.open_channel(1);
    assert_eq!(client.drain(1, &queue), ["1", "3"]);
}

#[test]
fn multiple_covers_all_up_to_its_tag() {
    let mut client = Client::open();
    let queue = with_unacked(&mut client, &["1", "2", "3", "4"]);
    client.ack_multiple(1, 2);
    client.ack(1, 3);
    check_unknown(&mut client, ack(2, true), 2);
    assert_eq!(client.drain(1, &queue), ["4"]);
}

#[test]
fn multiple_with_tag_0_covers_everything() {
    let mut client = Client::open();
    let queue = with_unacked(&mut client, &["1", "2", "3"]);
    client.ack_multiple(1, 0);
    client.ack_multiple(1, 0);
    client.barrier(1);
    client.close_channel(1);
    client.open_channel(1);
    client.expect_empty(1, &queue);
}

#[test]
fn a_tag_that_is_not_outstanding_is_refused() {
    let mut client = Client::open();
    check_unknown(&mut client, ack(1, false), 1);
    check_unknown(&mut client, ack(0, false), 0);
    check_unknown(&mut client, ack(7, true), 7);
    check_unknown(&mut client, basic::Nack { delivery_tag: DeliveryTag::new(2), ..basic::Nack::default() }, 2);
    check_unknown(&mut client, basic::Reject { delivery_tag: DeliveryTag::new(3), requeue: true }, 3);
    let queue = with_unacked(&mut client, &["x"]);
    client.ack(1, 1);
    check_unknown(&mut client, ack(1, false), 1);
    client.expect_empty(1, &queue);
}

#[test]
fn an_ack_that_fails_settles_nothing() {
    let mut client = Client::open();
    let queue = with_unacked(&mut client, &["1", "2", "3"]);
    client.ack(1, 2);
    check_unknown(&mut client, ack(2, true), 2);
    client.wait_ready(1, &queue, 2);
    assert_eq!(client.drain(1, &queue), ["1", "3"]);
}

#[test]
fn deliveries_without_ack_cannot_be_acked() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.enqueue(1, &queue, &["a", "b"]);
    let got = client.try_get(1, &queue, true).expect("a message");
    assert_eq!(got.tag(), 1);
    check_unknown(&mut client, ack(1, false), 1);
    client.consume_no_ack(1, &queue);
    assert_eq!(client.expect_deliver(1).tag(), 1);
    check_unknown(&mut client, ack(1, false), 1);
    client.expect_ready(1, &queue, 0);
}

#[test]
fn tags_belong_to_their_channel() {
    let mut client = Client::open();
    let queue = with_unacked(&mut client, &["a"]);
    client.open_channel(2);
    client.ack(2, 1);
    client.expect_channel_close(2, 406, "unknown delivery tag 1", (60, 80));
    client.ack(1, 1);
    client.barrier(1);
    client.expect_empty(1, &queue);
}

#[test]
fn requeued_messages_return_to_their_old_places() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = with_unacked(&mut client, &["1", "2", "3", "4", "5"]);
    client.enqueue(1, &queue, &["6"]);
    for tag in [4, 2, 1] {
        client.nack(1, tag, true);
    }
    client.wait_ready(1, &queue, 4);
    let came: Vec<(String, bool)> =
        (0..4).map(|_| client.get(2, &queue)).map(|got| (got.text().to_owned(), got.redelivered)).collect();
    let came: Vec<(&str, bool)> = came.iter().map(|(body, redelivered)| (&body[..], *redelivered)).collect();
    assert_eq!(came, [("1", true), ("2", true), ("4", true), ("6", false)]);
}

#[test]
fn a_nack_of_many_requeues_them_in_order() {
    let mut client = Client::open();
    let queue = with_unacked(&mut client, &["1", "2", "3", "4"]);
    client.enqueue(1, &queue, &["5"]);
    client.nack_multiple(1, 3, true);
    client.wait_ready(1, &queue, 4);
    assert_eq!(client.drain(1, &queue), ["1", "2", "3", "5"]);
    client.nack_multiple(1, 0, true);
    client.wait_ready(1, &queue, 1);
    assert_eq!(client.drain(1, &queue), ["4"]);
}

#[test]
fn rejected_messages_are_dropped_without_a_dead_letter_exchange() {
    let mut client = Client::open();
    let queue = with_unacked(&mut client, &["1", "2", "3"]);
    client.reject(1, 1, false);
    client.nack(1, 2, false);
    client.reject(1, 3, true);
    client.wait_ready(1, &queue, 1);
    assert_eq!(client.drain(1, &queue), ["3"]);
    client.close_channel(1);
    client.open_channel(1);
    client.expect_empty(1, &queue);
}

#[test]
fn recover_brings_everything_unacked_back() {
    let mut client = Client::open();
    let queue = client.temporary_queue(1);
    client.enqueue(1, &queue, &["1", "2"]);
    client.get(1, &queue);
    client.consume(1, &queue);
    client.expect_deliveries(1, &["2"]);
    client.send(1, basic::Recover { requeue: true });
    // Deliveries and recover-ok may come in either order.
    let mut seen = [(); 3].map(|()| client.next_on(1, crate::support::DEADLINE).expect("three answers"));
    seen.sort_by_key(|arrived| arrived.method.name());
    let bodies: Vec<_> = seen[..2].iter().map(|arrived| arrived.content.clone().expect("a delivery").body).collect();
    assert_eq!(bodies, [b"1", b"2"]);
    for (arrived, tag) in seen[..2].iter().zip([3, 4]) {
        let Method::BasicDeliver(deliver) = &arrived.method else { panic!("unexpected {arrived}") };
        assert_eq!((deliver.delivery_tag.get(), deliver.redelivered), (tag, true));
    }
    assert_eq!(seen[2].method, basic::RecoverOk.into());
    check_unknown(&mut client, ack(2, false), 2);
}

/// Tags tell when a message was delivered last, but what comes back together comes in the queue's order.
#[test]
fn what_comes_back_together_comes_in_the_order_of_the_queue() {
    let methods: [(Method, u64); 2] = [
        (basic::Recover { requeue: true }.into(), 4),
        (basic::Nack { delivery_tag: DeliveryTag::new(0), multiple: true, requeue: true }.into(), 4),
    ];
    for (method, tag) in methods {
        let mut client = Client::open();
        let queue = client.temporary_queue(1);
        client.enqueue(1, &queue, &["1", "2", "3"]);
        client.consume(1, &queue);
        client.expect_deliveries(1, &["1", "2", "3"]);
        client.send(1, basic::Reject { delivery_tag: DeliveryTag::new(1), requeue: true });
        client.expect_deliveries(1, &["1"]); // Outstanding are now 2, 3 and 1, by their tags.
        client.send(1, method);
        let mut bodies = Vec::new();
        while bodies.len() < 3 {
            let arrived = client.next_on(1, crate::support::DEADLINE).expect("three deliveries");
            if let Method::BasicDeliver(deliver) = &arrived.method {
                assert!(deliver.redelivered && deliver.delivery_tag.get() > tag);
                bodies.push(arrived.content.expect("a delivery").body);
            }
        }
        assert_eq!(bodies, [b"1", b"2", b"3"]);
    }
}

#[test]
fn recover_async_brings_everything_back_without_an_answer() {
    let mut client = Client::open();
    let queue = with_unacked(&mut client, &["1", "2"]);
    client.send(1, basic::RecoverAsync { requeue: true });
    client.barrier(1);
    client.wait_ready(1, &queue, 2);
    assert!(client.get(1, &queue).redelivered);
}

#[test]
fn recover_without_requeue_is_not_implemented() {
    for method in [Method::from(basic::Recover { requeue: false }), basic::RecoverAsync { requeue: false }.into()] {
        let mut client = Client::open();
        let (class, id) = method.ids();
        client.send(1, method);
        client.expect_connection_close(540, "requeue=false", (class.get(), id.get()));
    }
}

#[test]
fn a_recovered_message_can_be_purged_though_an_unacked_one_cannot() {
    let mut client = Client::open();
    let queue = with_unacked(&mut client, &["1"]);
    assert_eq!(client.purge(1, &queue), 0);
    client.call::<basic::RecoverOk>(1, basic::Recover { requeue: true });
    let got = client.get(1, &queue);
    assert_eq!((got.text(), got.redelivered), ("1", true));
    client.nack(1, got.tag(), true);
    client.wait_ready(1, &queue, 1);
    assert_eq!(client.purge(1, &queue), 1);
    client.expect_empty(1, &queue);
}

#[test]
fn a_message_is_redelivered_if_it_was_ever_delivered() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = with_unacked(&mut client, &["a"]);
    client.nack(1, 1, true);
    client.wait_ready(1, &queue, 1);
    client.consume(2, &queue);
    assert!(client.expect_deliver(2).redelivered);
    client.enqueue(1, &queue, &["b"]);
    assert!(!client.expect_deliver(2).redelivered);
}

#[test]
fn closing_a_channel_midway_leaves_exactly_the_unacked_ones() {
    const MESSAGES: usize = 2_000;
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(1);
    for number in 0..MESSAGES {
        client.enqueue(1, &queue, &[&number.to_string()]);
    }
    client.qos(2, 100, false);
    client.consume(2, &queue);
    let mut acked = BTreeSet::new();
    for _ in 0..MESSAGES / 2 {
        let delivery = client.expect_deliver(2);
        if !delivery.tag().is_multiple_of(3) || acked.len() > MESSAGES / 4 {
            client.ack(2, delivery.tag());
            acked.insert(delivery.text().parse::<usize>().expect("a number"));
        } else {
            client.nack(2, delivery.tag(), true);
        }
    }
    client.close_channel(2);
    let expected: Vec<String> =
        (0..MESSAGES).filter(|number| !acked.contains(number)).map(|number| number.to_string()).collect();
    client.wait_ready(1, &queue, u32::try_from(expected.len()).expect("fits"));
    assert_eq!(client.drain(1, &queue), expected, "nothing is lost, doubled or out of place");
}

#[test]
fn many_publishers_and_consumers_lose_and_double_nothing() {
    const PUBLISHERS: usize = 4;
    const CONSUMERS: usize = 4;
    const MESSAGES: usize = 1_000;
    let mut client = Client::open();
    let queue = unique("q");
    client.declare(1, leveret_protocol::queue::Declare { exclusive: false, ..crate::support::exclusive(&queue) });
    let publish = |publisher: usize| {
        let mut client = Client::open();
        client.select_confirms(1);
        for number in 0..MESSAGES {
            client.publish(1, "", &queue, &format!("{publisher} {number}"));
        }
        client.expect_confirms(1, 1..=MESSAGES.try_into().expect("fits"));
    };
    let consume = |consumer: usize| {
        let mut client = Client::open();
        client.qos(1, 20, false);
        client.consume(1, &queue);
        let mut random = crate::support::Random::new(consumer.try_into().expect("fits"));
        let mut acked = Vec::new();
        // Another consumer may have taken the rest.
        while let Some(arrived) = client.next_on(1, millis(1_000)) {
            let Method::BasicDeliver(deliver) = arrived.method else { panic!("unexpected {arrived}") };
            let tag = deliver.delivery_tag.get();
            match random.below(20) {
                0 => client.nack(1, tag, true),
                1 => client.reject(1, tag, true),
                _ => {
                    client.ack(1, tag);
                    acked.push(String::from_utf8(arrived.content.expect("a delivery").body).expect("text"));
                }
            }
        }
        client.close();
        acked
    };
    let mut acked: Vec<String> = std::thread::scope(|scope| {
        let consumers: Vec<_> = (0..CONSUMERS).map(|number| scope.spawn(move || consume(number))).collect();
        let publishers: Vec<_> = (0..PUBLISHERS).map(|number| scope.spawn(move || publish(number))).collect();
        for publisher in publishers {
            publisher.join().expect("a publisher");
        }
        consumers.into_iter().flat_map(|consumer| consumer.join().expect("a consumer")).collect()
    });
    assert_eq!(client.delete_queue(1, &queue), 0);
    let total = acked.len();
    acked.sort_unstable();
    acked.dedup();
    assert_eq!((acked.len(), total), (PUBLISHERS * MESSAGES, PUBLISHERS * MESSAGES));
}

#[test]
fn a_thousand_acks_in_one_segment_are_all_taken() {
    let mut client = Client::open();
    let queue = unique("q");
    client.declare(1, crate::support::exclusive(&queue));
    for number in 0..1_000 {
        client.enqueue(1, &queue, &[&number.to_string()]);
    }
    client.consume(1, &queue);
    let mut octets = Vec::new();
    for _ in 0..1_000 {
        let tag = client.expect_deliver(1).tag();
        // Odd tags from the front, even ones left for one ack of many.
        if tag % 2 == 1 {
            octets.extend(crate::support::method_frame(1, ack(tag, false)));
        }
    }
    octets.extend(crate::support::method_frame(1, ack(1_000, true)));
    client.send_bytes(&octets);
    client.barrier(1);
    client.expect_nothing_for(millis(50));
    client.close_channel(1);
    client.open_channel(1);
    client.expect_empty(1, &queue);
}
