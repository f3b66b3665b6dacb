//! Exchanges, queues and bindings: routing of the four types, looking up, deleting, and what is refused.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, Connection, ExchangeKind, Result,
    options::{
        BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ExchangeBindOptions,
        ExchangeDeclareOptions, ExchangeDeleteOptions, ExchangeUnbindOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::support::{
    Scene, assert_refused, bind, close, consume, declare_durable, declare_exchange, drain, next, passive, publish,
    string, table, text, texts, wait_for_ready,
};

pub(crate) async fn exchanges(scene: &Scene) -> Result<()> {
    let connection = scene.connect().await?;
    let channel = connection.create_channel().await?;
    direct(scene, &channel).await?;
    fanout(scene, &channel).await?;
    topic(scene, &channel).await?;
    headers(scene, &channel).await?;
    exchange_to_exchange(scene, &channel).await?;
    exchange_deletion(scene, &channel, &connection).await?;
    exchange_refusals(scene, &channel, &connection).await?;
    close(&connection).await
}

/// Publishes the routing keys as bodies too, and returns which of them reached the queue.
async fn routed(channel: &Channel, exchange: &ShortString, queue: &ShortString, keys: &[&str]) -> Result<Vec<String>> {
    for key in keys {
        publish(channel, exchange.as_str(), key, key.as_bytes()).await?;
    }
    Ok(texts(&drain(channel, queue).await?))
}

async fn unbind(channel: &Channel, queue: &ShortString, exchange: &ShortString, key: &str) -> Result<()> {
    channel.queue_unbind(queue.clone(), exchange.clone(), key.into(), FieldTable::default()).await
}

async fn direct(scene: &Scene, channel: &Channel) -> Result<()> {
    let exchange = scene.exchange_name("direct");
    let queue = scene.queue_name("direct");
    declare_exchange(channel, &exchange, ExchangeKind::Direct).await?;
    declare_durable(channel, &queue, FieldTable::default()).await?;
    for key in ["red", "green", "green"] {
        bind(channel, &queue, &exchange, key).await?;
    }
    assert_eq!(routed(channel, &exchange, &queue, &["red", "green", "blue", "", "Red"]).await?, ["red", "green"]);
    unbind(channel, &queue, &exchange, "green").await?;
    unbind(channel, &queue, &exchange, "green").await?; // It is gone already: fine.
    assert_eq!(routed(channel, &exchange, &queue, &["red", "green"]).await?, ["red"]);
    Ok(())
}

async fn fanout(scene: &Scene, channel: &Channel) -> Result<()> {
    let exchange = scene.exchange_name("fanout");
    declare_exchange(channel, &exchange, ExchangeKind::Fanout).await?;
    let queues = ["fanout-a", "fanout-b", "fanout-c"].map(|name| scene.queue_name(name));
    for queue in &queues {
        declare_durable(channel, queue, FieldTable::default()).await?;
        bind(channel, queue, &exchange, "ignored").await?;
    }
    bind(channel, &queues[0], &exchange, "once more").await?; // It still gets one copy.
    publish(channel, exchange.as_str(), "any", b"news").await?;
    for queue in &queues {
        assert_eq!(texts(&drain(channel, queue).await?), ["news"]);
    }
    Ok(())
}

async fn topic(scene: &Scene, channel: &Channel) -> Result<()> {
    let exchange = scene.exchange_name("topic");
    let queue = scene.queue_name("topic");
    declare_exchange(channel, &exchange, ExchangeKind::Topic).await?;
    declare_durable(channel, &queue, FieldTable::default()).await?;
    let keys = ["a", "a.b", "a.b.c", "a.c", "", "a..c", ".", "b.a"];
    let cases: [(&str, &[&str]); 9] = [
        ("a.b.c", &["a.b.c"]),
        ("a.*.c", &["a.b.c", "a..c"]),
        ("a.#", &["a", "a.b", "a.b.c", "a.c", "a..c"]),
        ("#", &keys),
        ("*", &["a"]),
        ("#.c", &["a.b.c", "a.c", "a..c"]),
        ("*.*", &["a.b", "a.c", ".", "b.a"]),
        ("", &[""]),
        ("a#", &[]),
    ];
    for (binding_key, expected) in cases {
        bind(channel, &queue, &exchange, binding_key).await?;
        assert_eq!(routed(channel, &exchange, &queue, &keys).await?, expected, "binding key '{binding_key}'");
        unbind(channel, &queue, &exchange, binding_key).await?;
    }
    Ok(())
}

async fn headers(scene: &Scene, channel: &Channel) -> Result<()> {
    let exchange = scene.exchange_name("headers");
    let queue = scene.queue_name("headers");
    declare_exchange(channel, &exchange, ExchangeKind::Headers).await?;
    declare_durable(channel, &queue, FieldTable::default()).await?;
    let pdf = || ("format", string("pdf"));
    let two = || ("pages", AMQPValue::LongInt(2));
    let messages = [
        ("both", table([pdf(), two()])),
        ("format", table([pdf()])),
        ("wide", table([pdf(), ("pages", AMQPValue::LongLongInt(2))])),
        ("text", table([("pages", string("2"))])),
        ("none", FieldTable::default()),
    ];
    let cases: [(FieldTable, &[&str]); 5] = [
        (table([("x-match", string("all")), pdf(), two()]), &["both", "wide"]),
        (table([pdf(), two()]), &["both", "wide"]),
        (table([("x-match", string("any")), pdf(), two()]), &["both", "format", "wide"]),
        (table([("x-match", string("all")), ("pages", AMQPValue::Void)]), &["both", "wide", "text"]),
        (table([("x-match", string("any"))]), &[]),
    ];
    for (arguments, expected) in cases {
        let options = QueueBindOptions::default();
        channel.queue_bind(queue.clone(), exchange.clone(), "".into(), options, arguments.clone()).await?;
        for (name, headers) in &messages {
            let properties = BasicProperties::default().with_headers(headers.clone());
            let options = BasicPublishOptions::default();
            channel.basic_publish(exchange.clone(), "".into(), options, name.as_bytes(), properties).await?;
        }
        assert_eq!(texts(&drain(channel, &queue).await?), expected, "{arguments:?}");
        channel.queue_unbind(queue.clone(), exchange.clone(), "".into(), arguments).await?;
    }
    Ok(())
}

async fn exchange_to_exchange(scene: &Scene, channel: &Channel) -> Result<()> {
    let [entry, end] = ["e2e-entry", "e2e-end"].map(|name| scene.exchange_name(name));
    let queue = scene.queue_name("e2e");
    declare_exchange(channel, &entry, ExchangeKind::Topic).await?;
    declare_exchange(channel, &end, ExchangeKind::Fanout).await?;
    declare_durable(channel, &queue, FieldTable::default()).await?;
    bind(channel, &queue, &end, "").await?;
    let options = ExchangeBindOptions::default();
    channel.exchange_bind(end.clone(), entry.clone(), "order.*".into(), options, FieldTable::default()).await?;
    assert_eq!(routed(channel, &entry, &queue, &["order.created", "invoice.created"]).await?, ["order.created"]);
    let options = ExchangeUnbindOptions::default();
    channel.exchange_unbind(end.clone(), entry.clone(), "order.*".into(), options, FieldTable::default()).await?;
    assert!(routed(channel, &entry, &queue, &["order.created"]).await?.is_empty());
    Ok(())
}

async fn exchange_deletion(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    let exchange = scene.exchange_name("deletion");
    let queue = scene.queue_name("deletion");
    declare_exchange(channel, &exchange, ExchangeKind::Direct).await?;
    declare_durable(channel, &queue, FieldTable::default()).await?;
    bind(channel, &queue, &exchange, "key").await?;
    let if_unused = ExchangeDeleteOptions { if_unused: true, ..Default::default() };
    let other = connection.create_channel().await?;
    assert_refused(other.exchange_delete(exchange.clone(), if_unused).await, 406, "in use");
    unbind(channel, &queue, &exchange, "key").await?;
    channel.exchange_delete(exchange.clone(), if_unused).await?;
    channel.exchange_delete(exchange, ExchangeDeleteOptions::default()).await // It is gone already: fine.
}

async fn exchange_refusals(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    let [exchange, missing] = ["refusals", "refusals-missing"].map(|name| scene.exchange_name(name));
    let queue = scene.queue_name("refusals");
    declare_exchange(channel, &exchange, ExchangeKind::Direct).await?;
    declare_durable(channel, &queue, FieldTable::default()).await?;
    // Each closes the channel it is done on, so each has one of its own.
    let other = connection.create_channel().await?;
    let text = "PRECONDITION_FAILED - inequivalent arg 'type' for exchange";
    assert_refused(declare_exchange(&other, &exchange, ExchangeKind::Fanout).await, 406, text);
    let other = connection.create_channel().await?;
    let text = "ACCESS_REFUSED - exchange name 'amq.compat' contains reserved prefix 'amq.*'";
    assert_refused(declare_exchange(&other, &"amq.compat".into(), ExchangeKind::Direct).await, 403, text);
    let other = connection.create_channel().await?;
    assert_refused(bind(&other, &queue, &missing, "").await, 404, "NOT_FOUND - no exchange");
    let other = connection.create_channel().await?;
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let looked_up = other.exchange_declare(missing, ExchangeKind::Direct, passive, FieldTable::default()).await;
    assert_refused(looked_up, 404, "NOT_FOUND - no exchange");
    channel.exchange_declare(exchange, ExchangeKind::Direct, passive, FieldTable::default()).await // This one lives.
}

pub(crate) async fn queues(scene: &Scene) -> Result<()> {
    let connection = scene.connect().await?;
    let channel = connection.create_channel().await?;
    declaring(scene, &channel, &connection).await?;
    server_named(&channel).await?;
    exclusive(scene, &channel, &connection).await?;
    going_away(scene, &channel, &connection).await?;
    queue_deletion(scene, &channel, &connection).await?;
    close(&connection).await
}

async fn declaring(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    let queue = scene.queue_name("declare");
    let arguments = [("x-message-ttl", AMQPValue::LongInt(60_000)), ("x-max-length", AMQPValue::LongInt(100))];
    declare_durable(channel, &queue, table(arguments.clone())).await?;
    publish(channel, "", queue.as_str(), b"1").await?;
    wait_for_ready(channel, &queue, 1).await?;
    let _consumer = consume(channel, &queue).await?;
    wait_for_ready(channel, &queue, 0).await?;
    assert_eq!(passive(channel, &queue).await?.consumer_count(), 1);

    // The width of an integer is not part of its value.
    let wide = [("x-message-ttl", AMQPValue::LongLongInt(60_000)), ("x-max-length", AMQPValue::ShortShortUInt(100))];
    declare_durable(channel, &queue, table(wide)).await?;
    let other = connection.create_channel().await?;
    let text = "PRECONDITION_FAILED - inequivalent arg 'durable' for queue";
    let declared = other.queue_declare(queue.clone(), QueueDeclareOptions::default(), table(arguments)).await;
    assert_refused(declared, 406, text);
    let other = connection.create_channel().await?;
    let changed = [("x-message-ttl", AMQPValue::LongInt(1000)), ("x-max-length", AMQPValue::LongInt(100))];
    let text = "received '1000' but current is '60000'";
    assert_refused(declare_durable(&other, &queue, table(changed)).await, 406, text);
    let other = connection.create_channel().await?;
    assert_refused(passive(&other, &scene.queue_name("missing")).await, 404, "NOT_FOUND - no queue");
    let other = connection.create_channel().await?;
    let text = "ACCESS_REFUSED - queue name 'amq.compat' contains reserved prefix 'amq.*'";
    assert_refused(declare_durable(&other, &"amq.compat".into(), FieldTable::default()).await, 403, text);
    passive(channel, &queue).await?; // This channel lives.
    Ok(())
}

async fn server_named(channel: &Channel) -> Result<()> {
    let options = QueueDeclareOptions::exclusive();
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
    assert!(queue.name().as_str().starts_with("amq.gen-"), "{}", queue.name());
    publish(channel, "", queue.name().as_str(), b"hello").await?;
    assert_eq!(texts(&drain(channel, queue.name()).await?), ["hello"]);
    Ok(())
}

async fn exclusive(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    let queue = scene.queue_name("exclusive");
    let owner = scene.connect().await?;
    let channel_of_owner = owner.create_channel().await?;
    channel_of_owner.queue_declare(queue.clone(), QueueDeclareOptions::exclusive(), FieldTable::default()).await?;
    publish(channel, "", queue.as_str(), b"anybody may publish").await?; // Nobody else may do more than that.
    let locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue";
    let other = connection.create_channel().await?;
    assert_refused(passive(&other, &queue).await, 405, locked);
    let other = connection.create_channel().await?;
    assert_refused(other.basic_get(queue.clone(), BasicGetOptions::default()).await, 405, locked);
    let mut consumer = consume(&channel_of_owner, &queue).await?;
    assert_eq!(text(&next(&mut consumer).await?), "anybody may publish");
    close(&owner).await?;
    let other = connection.create_channel().await?;
    assert_refused(passive(&other, &queue).await, 404, "NOT_FOUND - no queue");
    Ok(())
}

async fn going_away(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    // An auto-delete queue goes with its last consumer.
    let queue = scene.queue_name("auto-delete");
    let options = QueueDeclareOptions::default().auto_delete();
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await?;
    let consumer = consume(channel, &queue).await?;
    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
    let other = connection.create_channel().await?;
    assert_refused(passive(&other, &queue).await, 404, "NOT_FOUND - no queue");

    // A queue that nobody uses expires.
    let queue = scene.queue_name("expires");
    declare_durable(channel, &queue, table([("x-expires", AMQPValue::LongInt(200))])).await?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let other = connection.create_channel().await?;
    assert_refused(passive(&other, &queue).await, 404, "NOT_FOUND - no queue");
    Ok(())
}

async fn queue_deletion(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    let queue = scene.queue_name("deletion");
    declare_durable(channel, &queue, FieldTable::default()).await?;
    publish(channel, "", queue.as_str(), b"1").await?;
    wait_for_ready(channel, &queue, 1).await?;
    let if_empty = QueueDeleteOptions { if_empty: true, ..Default::default() };
    let if_unused = QueueDeleteOptions { if_unused: true, ..Default::default() };
    let other = connection.create_channel().await?;
    assert_refused(other.queue_delete(queue.clone(), if_empty).await, 406, "not empty");
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut consumer = channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await?;
    assert_eq!(text(&next(&mut consumer).await?), "1");
    let other = connection.create_channel().await?;
    assert_refused(other.queue_delete(queue.clone(), if_unused).await, 406, "in use");
    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
    publish(channel, "", queue.as_str(), b"2").await?;
    assert_eq!(channel.queue_delete(queue.clone(), if_unused).await?, 1);
    assert_eq!(channel.queue_delete(queue, QueueDeleteOptions::default()).await?, 0, "it is gone already: fine");
    Ok(())
}
