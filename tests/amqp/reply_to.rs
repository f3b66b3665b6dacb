//! Direct reply-to: requests and replies without a reply queue (RabbitMQ's extension).

use leveret_protocol::{BasicProperties, Method, basic, queue};

use crate::support::{
    Client, consume, int, is_oracle, mandatory, millis, no_properties, passive, s, table, wait_until, with_headers,
};

const PSEUDO: &str = "amq.rabbitmq.reply-to";
const CONSUME: (u16, u16) = (60, 20);
const DECLARE: (u16, u16) = (50, 10);
const PUBLISH: (u16, u16) = (60, 40);

fn request() -> BasicProperties {
    BasicProperties { reply_to: Some(s(PSEUDO)), correlation_id: Some(s("7")), ..no_properties() }
}

/// Sends a request from a channel with a reply consumer, and says where the reply is to go.
#[track_caller]
fn reply_name(requester: &mut Client, channel: u16, responder: &mut Client) -> String {
    let queue = responder.temporary_queue(1);
    requester.publish_with(channel, "", &queue, &request(), "question");
    let got = responder.wait_get(1, &queue);
    assert_eq!((got.text(), got.properties.correlation_id.clone()), ("question", Some(s("7"))));
    got.properties.reply_to.as_ref().and_then(|name| name.as_str()).expect("a reply-to").to_owned()
}

fn no_queue(name: &str) -> String {
    format!("no queue '{name}' in vhost '/'")
}

/// Whether a passive declare of a name is answered with (0, 1).
fn is_alive(client: &mut Client, name: &str) -> bool {
    match client.rpc(1, passive(name)) {
        Method::QueueDeclareOk(ok) => {
            assert_eq!((ok.queue, ok.message_count, ok.consumer_count), (s(name), 0, 1));
            true
        }
        Method::ChannelClose(close) => {
            assert_eq!(close.reply_code.get(), 404);
            client.send(1, leveret_protocol::channel::CloseOk);
            client.open_channel(1);
            false
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reply_reaches_the_requester() {
    let (mut requester, mut responder) = (Client::open(), Client::open());
    let tag = requester.consume_no_ack(1, PSEUDO);
    let name = reply_name(&mut requester, 1, &mut responder);
    assert!(name.starts_with("amq.rabbitmq.reply-to.") && name.len() > PSEUDO.len() + 16, "{name}");
    let properties = BasicProperties { correlation_id: Some(s("7")), ..with_headers(table([("h", int(1))])) };
    responder.publish_with(1, "", &name, &properties, "answer");
    let reply = requester.expect_deliver(1);
    assert_eq!((reply.text(), reply.consumer_tag.clone(), reply.tag(), reply.redelivered), ("answer", tag, 1, false));
    assert_eq!((reply.exchange.as_str(), reply.routing_key.as_str()), (Some(""), Some(&name[..])));
    assert_eq!(reply.properties, properties);
    responder.publish(1, "", &name, "another");
    // 3.10 does not count replies.
    assert_eq!(requester.expect_deliver(1).tag(), if is_oracle() { 1 } else { 2 });
    // The name stays as long as the consumer does.
    assert_eq!(reply_name(&mut requester, 1, &mut responder), name);
    // A body of several frames.
    let long = "x".repeat(300_000);
    responder.publish(1, "", &name, &long);
    assert_eq!(requester.expect_deliver(1).text(), long);
}

#[test]
fn a_request_needs_a_reply_consumer_on_its_channel() {
    let mut client = Client::open();
    client.open_channel(2);
    client.consume_no_ack(2, PSEUDO);
    client.publish_with(1, "", "nowhere", &request(), "x");
    client.expect_channel_close(1, 406, "fast reply consumer does not exist", PUBLISH);
    client.open_channel(1);
    client.publish_with(1, "no-such-exchange", "nowhere", &request(), "x");
    client.expect_channel_close(1, 404, "no exchange 'no-such-exchange' in vhost '/'", PUBLISH);
    client.open_channel(1);
    // Any other reply-to is none of the broker's business.
    let queue = client.temporary_queue(1);
    let other = BasicProperties { reply_to: Some(s("amq.rabbitmq.reply-to.x")), ..no_properties() };
    client.publish_with(1, "", &queue, &other, "x");
    assert_eq!(client.get(1, &queue).properties, other);
}

#[test]
fn a_reply_consumer_does_not_ack_and_is_alone_on_its_channel() {
    let mut client = Client::open();
    client.send(1, consume(PSEUDO));
    client.expect_channel_close(1, 406, "reply consumer cannot acknowledge", CONSUME);
    client.open_channel(1);
    let no_ack = basic::Consume { no_ack: true, ..consume(PSEUDO) };
    client.consume_with(1, no_ack.clone());
    client.send(1, no_ack.clone());
    client.expect_channel_close(1, 406, "reply consumer already set", CONSUME);
    client.open_channel(1);
    let queue = client.temporary_queue(1);
    let tagged = |queue: &str| basic::Consume { consumer_tag: s("tag"), ..consume(queue) };
    client.consume_with(1, tagged(&queue));
    client.send(1, basic::Consume { no_ack: true, ..tagged(PSEUDO) });
    client.expect_connection_close(530, "attempt to reuse consumer tag 'tag'", CONSUME);
}

#[test]
fn cancelling_ends_it_and_a_new_consumer_has_a_new_name() {
    let (mut requester, mut responder) = (Client::open(), Client::open());
    let tag = requester.consume_no_ack(1, PSEUDO);
    let first = reply_name(&mut requester, 1, &mut responder);
    requester.cancel(1, &tag);
    responder.publish(1, "", &first, "too late");
    responder.barrier(1);
    requester.publish_with(1, "", "nowhere", &request(), "x");
    requester.expect_channel_close(1, 406, "fast reply consumer does not exist", PUBLISH);
    requester.open_channel(1);
    requester.consume_no_ack(1, PSEUDO);
    let second = reply_name(&mut requester, 1, &mut responder);
    if !is_oracle() {
        // 3.10 names the channel's process in it, and appends a key.
        assert_ne!(first, second);
    }
    responder.publish(1, "", &second, "in time");
    assert_eq!(requester.expect_deliver(1).text(), "in time");
}

#[test]
fn names_are_declared_while_they_are_alive() {
    let (mut requester, mut responder) = (Client::open(), Client::open());
    assert!(is_alive(&mut responder, PSEUDO));
    requester.open_channel(2);
    requester.consume_no_ack(2, PSEUDO);
    let name = reply_name(&mut requester, 2, &mut responder);
    assert!(is_alive(&mut responder, &name));
    let declare = queue::Declare { queue: s(&name), ..queue::Declare::default() };
    assert_eq!(responder.declare(1, declare).consumer_count, 1);
    assert!(!is_alive(&mut responder, &format!("{name}x")));
    assert!(!is_alive(&mut responder, "amq.rabbitmq.reply-to.nobody"));
    requester.close_channel(2);
    wait_until("the name is gone", || !is_alive(&mut responder, &name));
    responder.send(1, passive(&name));
    responder.expect_channel_close(1, 404, &no_queue(&name), DECLARE);
}

#[test]
fn a_name_goes_with_its_connection() {
    let (mut requester, mut responder) = (Client::open(), Client::open());
    requester.consume_no_ack(1, PSEUDO);
    let name = reply_name(&mut requester, 1, &mut responder);
    drop(requester);
    wait_until("the name is gone", || !is_alive(&mut responder, &name));
    responder.publish(1, "", &name, "to nobody");
    responder.barrier(1);
}

#[test]
fn the_pseudo_queue_is_no_queue() {
    let mut client = Client::open();
    client.send(1, basic::Get { queue: s(PSEUDO), no_ack: true });
    client.expect_channel_close(1, 404, &no_queue(PSEUDO), (60, 70));
    client.open_channel(1);
    client.send(1, queue::Purge { queue: s(PSEUDO), ..queue::Purge::default() });
    client.expect_channel_close(1, 404, &no_queue(PSEUDO), (50, 30));
    client.open_channel(1);
    client.send(1, queue::Bind { queue: s(PSEUDO), exchange: s("amq.direct"), ..queue::Bind::default() });
    client.expect_channel_close(1, 404, &no_queue(PSEUDO), (50, 20));
    client.open_channel(1);
    assert_eq!(client.delete_queue(1, PSEUDO), 0);
    client.consume_no_ack(1, PSEUDO);
    assert_eq!(client.delete_queue(1, PSEUDO), 0);
}

#[test]
fn a_mandatory_reply_is_routed_and_confirmed() {
    let (mut requester, mut responder) = (Client::open(), Client::open());
    let tag = requester.consume_no_ack(1, PSEUDO);
    let name = reply_name(&mut requester, 1, &mut responder);
    responder.select_confirms(1);
    responder.send_content(1, mandatory("", &name), &no_properties(), b"answer");
    if is_oracle() {
        // Until 4.1 it was returned although it was delivered.
        assert_eq!(responder.expect_return(1).text(), "answer");
    }
    responder.expect_ack(1, 1);
    assert_eq!(requester.expect_deliver(1).text(), "answer");
    requester.cancel(1, &tag);
    responder.send_content(1, mandatory("", &name), &no_properties(), b"to nobody");
    if is_oracle() {
        responder.expect_return(1);
    }
    responder.expect_ack(1, 2);
    requester.expect_nothing_for(millis(50));
}

#[test]
fn a_reply_in_a_transaction_leaves_at_its_commit() {
    let (mut requester, mut responder) = (Client::open(), Client::open());
    requester.consume_no_ack(1, PSEUDO);
    let name = reply_name(&mut requester, 1, &mut responder);
    responder.open_channel(2);
    responder.select_tx(2);
    responder.publish(2, "", &name, "answer");
    responder.barrier(2);
    if !is_oracle() {
        // 3.10 sends it at once.
        requester.expect_nothing_for(millis(50));
    }
    responder.commit(2);
    assert_eq!(requester.expect_deliver(1).text(), "answer");
}

#[test]
fn replies_and_deliveries_of_queues_share_a_channel() {
    let (mut requester, mut responder) = (Client::open(), Client::open());
    requester.consume_no_ack(1, PSEUDO);
    let name = reply_name(&mut requester, 1, &mut responder);
    let queue = requester.temporary_queue(1);
    requester.consume(1, &queue);
    requester.publish(1, "", &queue, "from the queue");
    assert_eq!(requester.expect_deliver(1).tag(), 1);
    responder.publish(1, "", &name, "reply");
    assert_eq!(requester.expect_deliver(1).tag(), 2);
    requester.ack(1, 1);
    requester.barrier(1);
    // A reply needs no ack and takes none.
    requester.ack(1, 2);
    requester.expect_channel_close(1, 406, "unknown delivery tag 2", (60, 80));
}

#[test]
fn a_requester_that_does_not_read_loses_replies_and_nothing_else_happens() {
    let (mut requester, mut responder) = (Client::open(), Client::open());
    if is_oracle() {
        return; // It keeps them all.
    }
    requester.consume_no_ack(1, PSEUDO);
    let name = reply_name(&mut requester, 1, &mut responder);
    let body = "x".repeat(100_000);
    responder.select_confirms(1);
    for _ in 0..400 {
        responder.publish(1, "", &name, &body);
    }
    responder.expect_confirms(1, 1..=400);
    // What was not dropped arrives, and then the next.
    let mut came = 0;
    while requester.next_on(1, millis(300)).is_some() {
        came += 1;
    }
    assert!((80..400).contains(&came), "{came} of 400 replies of 100 kB");
    responder.publish(1, "", &name, "the next");
    assert_eq!(requester.expect_deliver(1).text(), "the next");
}
