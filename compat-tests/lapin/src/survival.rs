//! What is confirmed outlives the broker: one program publishes, the next one checks after the broker was killed.

use lapin::{
    BasicProperties, Confirmation, ExchangeKind, Result,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};

use crate::support::{
    Scene, assert_refused, bind, close, consume, declare_durable, declare_exchange, next, passive, string, table, text,
};

const EXCHANGE: &str = "compat.lapin.survivors";
const QUEUE: &str = "compat.lapin.survivors";
const TRANSIENT_QUEUE: &str = "compat.lapin.transient";

fn arguments() -> FieldTable {
    table([("x-max-length", AMQPValue::LongInt(1_000_000)), ("x-dead-letter-exchange", string("amq.direct"))])
}

fn body(number: u32) -> Vec<u8> {
    let padding = "x".repeat(usize::from(u16::try_from(number * 37 % 3000).expect("less than 3000")));
    format!("{number} {padding}").into_bytes()
}

fn properties(number: u32) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(format!("survivor-{number}").into())
        .with_headers(table([("number", AMQPValue::LongUInt(number)), ("void", AMQPValue::Void)]))
}

pub(crate) async fn publish(scene: &Scene, count: u32) -> Result<()> {
    let connection = scene.connect().await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    declare_exchange(&channel, &EXCHANGE.into(), ExchangeKind::Topic).await?;
    declare_durable(&channel, &QUEUE.into(), arguments()).await?;
    let transient = QueueDeclareOptions::default();
    channel.queue_declare(TRANSIENT_QUEUE.into(), transient, FieldTable::default()).await?;
    bind(&channel, &QUEUE.into(), &EXCHANGE.into(), "survivor.#").await?;

    let mut outstanding = Vec::new();
    for number in 1..=count {
        let key = format!("survivor.{number}");
        let options = BasicPublishOptions::default();
        let confirm =
            channel.basic_publish(EXCHANGE.into(), key.into(), options, &body(number), properties(number)).await?;
        outstanding.push(confirm);
    }
    for confirm in outstanding {
        assert_eq!(confirm.await?, Confirmation::Ack(None));
    }
    println!("{count} messages confirmed");
    close(&connection).await
}

pub(crate) async fn check(scene: &Scene, count: u32) -> Result<()> {
    let connection = scene.connect().await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    declare_exchange(&channel, &EXCHANGE.into(), ExchangeKind::Topic).await?;
    declare_durable(&channel, &QUEUE.into(), arguments()).await?;
    assert_eq!(passive(&channel, &QUEUE.into()).await?.message_count(), count, "messages after the restart");
    let other = connection.create_channel().await?;
    assert_refused(passive(&other, &TRANSIENT_QUEUE.into()).await, 404, "NOT_FOUND - no queue");

    channel.basic_qos(100, BasicQosOptions::default()).await?;
    let mut consumer = consume(&channel, &QUEUE.into()).await?;
    for number in 1..=count {
        let delivery = next(&mut consumer).await?;
        assert_eq!(delivery.properties, properties(number), "in order");
        assert!(delivery.data == body(number), "body of {number}");
        assert_eq!(delivery.exchange.as_str(), EXCHANGE);
        assert_eq!(delivery.routing_key.as_str(), format!("survivor.{number}"));
        delivery.ack(BasicAckOptions::default()).await?;
    }

    // The binding is there too.
    crate::support::publish(&channel, EXCHANGE, "survivor.new", b"new").await?;
    let last = next(&mut consumer).await?;
    assert_eq!((text(&last).as_str(), last.redelivered), ("new", false));
    last.ack(BasicAckOptions::default()).await?;

    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
    assert_eq!(channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await?, 0);
    let if_unused = ExchangeDeleteOptions { if_unused: true, ..Default::default() };
    channel.exchange_delete(EXCHANGE.into(), if_unused).await?;
    close(&connection).await
}
