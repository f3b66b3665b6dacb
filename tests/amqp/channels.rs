//! Channels: opening, closing, errors that end one channel and no other (spec §1.5, §4.8.1).

use leveret_protocol::{Method, basic, channel, queue};

use crate::support::{
    Client, DEADLINE, Options, Received, close_channel_method, consume, exclusive, frame, header_frame, method_frame,
    millis, no_properties, passive, publish_to, s,
};

#[test]
fn a_second_open_is_504() {
    let mut client = Client::open();
    client.send(1, channel::Open::default());
    client.expect_connection_close(504, "second 'channel.open' seen", (20, 10));
}

#[test]
fn methods_on_a_channel_that_is_not_open_are_504() {
    for method in [
        Method::from(exclusive("nowhere")),
        close_channel_method().into(),
        channel::CloseOk.into(),
        basic::Ack::default().into(),
    ] {
        let mut client = Client::open();
        let (class, id) = method.ids();
        client.send(5, method);
        client.expect_connection_close(504, "expected 'channel.open'", (class.get(), id.get()));
    }
}

#[test]
fn a_channel_that_was_closed_is_not_open() {
    let mut client = Client::open();
    client.close_channel(1);
    client.send(1, passive("amq.nothing"));
    client.expect_connection_close(504, "expected 'channel.open'", (50, 10));
}

#[test]
fn channel_max_limits_the_number_of_channels_and_not_their_numbers() {
    let mut client = Options { channel_max: 2, ..Options::default() }.connect();
    client.open_channel(7);
    client.open_channel(9);
    client.close_channel(7);
    client.open_channel(2_000);
    client.send(8, channel::Open::default());
    let text = "number of channels opened (2) has reached the negotiated channel_max (2)";
    client.expect_connection_close(530, text, (0, 0));
}

#[test]
fn channel_65535_is_a_channel() {
    let mut client = Client::connect();
    client.open_channel(65_535);
    client.barrier(65_535);
}

#[test]
fn an_error_on_one_channel_leaves_the_others_alone() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    client.consume_no_ack(2, &queue);
    client.send(1, passive("nowhere"));
    client.expect_channel_close(1, 404, "no queue 'nowhere' in vhost '/'", (50, 10));
    client.enqueue(2, &queue, &["x"]);
    assert_eq!(client.expect_deliver(2).text(), "x");
    client.open_channel(1);
    client.barrier(1);
}

#[test]
fn pipelined_errors_lead_to_one_close() {
    let mut client = Client::open();
    client.send_bytes(&method_frame(1, passive("nowhere")).repeat(5));
    client.expect_channel_close(1, 404, "no queue 'nowhere' in vhost '/'", (50, 10));
    client.open_channel(1);
    client.barrier(1);
}

#[test]
fn what_a_channel_in_error_is_sent_has_no_effect() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    let mut octets = method_frame(1, passive("nowhere"));
    octets.extend(client.content_frames(1, publish_to("", &queue), &no_properties(), b"late"));
    octets.extend(method_frame(1, queue::Delete { queue: s(&queue), ..queue::Delete::default() }));
    client.send_bytes(&octets);
    assert_eq!(client.expect::<channel::Close>(1).reply_code.get(), 404);
    client.publish(1, "", &queue, "later");
    client.send(1, channel::CloseOk);
    client.open_channel(1);
    client.barrier(1);
    client.expect_empty(1, &queue);
}

#[test]
fn a_channel_in_error_still_minds_the_order_of_frames() {
    let mut client = Client::open();
    client.send(1, passive("nowhere"));
    assert_eq!(client.expect::<channel::Close>(1).reply_code.get(), 404);
    client.send_bytes(&header_frame(1, 60, 0, 3));
    client.expect_connection_close(505, "expected method frame, got non method frame instead", (0, 0));
}

#[test]
fn a_close_that_crosses_the_brokers_own_is_answered() {
    let mut client = Client::open();
    client.send(1, passive("nowhere"));
    assert_eq!(client.expect::<channel::Close>(1).reply_code.get(), 404);
    client.call::<channel::CloseOk>(1, close_channel_method());
    client.send(1, channel::CloseOk);
    client.open_channel(1);
    client.barrier(1);
}

#[test]
fn close_ok_that_nobody_asked_for_is_503() {
    let mut client = Client::open();
    client.send(1, channel::CloseOk);
    client.expect_connection_close(503, "unimplemented method", (20, 41));
}

#[test]
fn flow_may_be_switched_on_but_not_off() {
    let mut client = Client::open();
    assert!(client.call::<channel::FlowOk>(1, channel::Flow { active: true }).active);
    client.send(1, channel::Flow { active: false });
    client.expect_connection_close(540, "active=false", (20, 20));
}

#[test]
fn unacked_messages_are_ready_again_once_the_close_is_answered() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(1);
    client.enqueue(1, &queue, &["a", "b", "c"]);
    client.get(1, &queue);
    client.get(1, &queue);
    client.close_channel(1);
    let came: Vec<_> = (0..3).map(|_| client.get(2, &queue)).collect();
    let came: Vec<_> = came.iter().map(|got| (got.text(), got.redelivered)).collect();
    assert_eq!(came, [("a", true), ("b", true), ("c", false)]);
}

#[test]
fn an_error_on_a_channel_requeues_what_it_had_not_acked() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(1);
    client.enqueue(1, &queue, &["a", "b"]);
    client.consume(1, &queue);
    client.expect_deliveries(1, &["a", "b"]);
    client.ack(1, 7);
    client.expect_channel_close(1, 406, "unknown delivery tag 7", (60, 80));
    client.wait_ready(2, &queue, 2);
    assert!(client.get(2, &queue).redelivered);
}

#[test]
fn nothing_is_delivered_after_the_close_is_answered() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(2);
    for _ in 0..1_000 {
        client.enqueue(2, &queue, &["x"]);
    }
    client.consume(1, &queue);
    client.expect_deliver(1);
    client.close_channel(1);
    client.barrier(2);
    client.expect_nothing_for(millis(50));
    client.wait_ready(2, &queue, 1_000);
}

#[test]
fn a_reopened_channel_remembers_nothing() {
    let mut client = Client::open();
    client.open_channel(2);
    let queue = client.temporary_queue(1);
    client.qos(1, 1, false);
    client.select_confirms(1);
    client.enqueue(1, &queue, &["a", "b", "c"]);
    client.expect_confirms(1, 1..=3);
    client.get(1, &queue);
    client.close_channel(1);

    client.open_channel(1);
    client.publish(1, "", &queue, "d");
    client.barrier(1);
    client.consume(1, &queue);
    let deliveries = client.expect_deliveries(1, &["a", "b", "c", "d"]);
    assert_eq!(deliveries.iter().map(Received::<basic::Deliver>::tag).collect::<Vec<_>>(), [1, 2, 3, 4]);
    client.send(1, queue::Purge::default());
    client.expect_channel_close(1, 404, "no previously declared queue", (50, 30));
}

#[test]
fn transactions_do_not_survive_their_channel() {
    let mut client = Client::open();
    client.select_tx(1);
    client.close_channel(1);
    client.open_channel(1);
    client.send(1, leveret_protocol::tx::Commit);
    client.expect_channel_close(1, 406, "channel is not transactional", (90, 20));
}

#[test]
fn a_body_frame_on_a_channel_that_is_not_open_ends_the_connection() {
    let mut client = Client::open();
    client.send_bytes(&frame(3, 9, b"abc"));
    let close = client.next(DEADLINE).expect("a close");
    assert!(matches!(close.method, Method::ConnectionClose(_)), "{close}");
}

#[test]
fn many_channels_work_side_by_side() {
    let mut client = Client::connect();
    for number in 1..=200_u16 {
        client.open_channel(number);
        let queue = client.temporary_queue(number);
        client.send(number, consume(&queue));
        client.publish(number, "", &queue, &number.to_string());
    }
    for number in 1..=200_u16 {
        client.expect::<basic::ConsumeOk>(number);
        assert_eq!(client.expect_deliver(number).text(), number.to_string());
        client.call::<channel::CloseOk>(number, close_channel_method());
    }
}
