//! What a publisher is told: confirms, refusals, returns; and transactions.

use lapin::{
    BasicProperties, Channel, Confirmation, ExchangeKind, Result,
    message::BasicReturnMessage,
    options::{
        BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::support::{
    Scene, assert_refused, bind, close, declare_durable, declare_exchange, drain, passive, publish, string, table,
    text, texts,
};

pub(crate) async fn confirms(scene: &Scene) -> Result<()> {
    let connection = scene.connect().await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;

    // Many at once.
    let count = 2000_u32;
    let queue = scene.queue_name("confirms-many");
    declare_durable(&channel, &queue, FieldTable::default()).await?;
    let mut outstanding = Vec::new();
    for number in 1..=count {
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let body = number.to_string();
        let options = BasicPublishOptions::default();
        outstanding.push(channel.basic_publish("".into(), queue.clone(), options, body.as_bytes(), persistent).await?);
    }
    for confirm in outstanding {
        assert_eq!(confirm.await?, Confirmation::Ack(None));
    }
    assert_eq!(passive(&channel, &queue).await?.message_count(), count);
    let bodies = texts(&drain(&channel, &queue).await?);
    assert!(
        bodies.iter().map(String::as_str).eq((1..=count).map(|number| number.to_string())),
        "all of them, in order"
    );

    // With wait_for_confirms instead of the single futures.
    for _ in 0..1000 {
        publish(&channel, "", queue.as_str(), b"x").await?;
    }
    assert!(channel.wait_for_confirms().await?.is_empty());
    assert_eq!(drain(&channel, &queue).await?.len(), 1000);

    // Nobody wants it: confirmed nevertheless.
    assert!(confirmed(&channel, "amq.direct", "no such key", b"x").await?.is_ack());

    // A full queue that refuses.
    let full = scene.queue_name("confirms-full");
    let arguments = [("x-max-length", AMQPValue::LongInt(2)), ("x-overflow", string("reject-publish"))];
    declare_durable(&channel, &full, table(arguments)).await?;
    assert!(confirmed(&channel, "", full.as_str(), b"1").await?.is_ack());
    assert!(confirmed(&channel, "", full.as_str(), b"2").await?.is_ack());
    assert!(confirmed(&channel, "", full.as_str(), b"3").await?.is_nack());
    assert_eq!(texts(&drain(&channel, &full).await?), ["1", "2"]);
    assert!(confirmed(&channel, "", full.as_str(), b"4").await?.is_ack());

    // A channel exception ends what is outstanding.
    let missing = scene.exchange_name("confirms-missing");
    assert_refused(confirmed(&channel, missing.as_str(), "", b"x").await, 404, "NOT_FOUND - no exchange");
    close(&connection).await
}

async fn confirmed(channel: &Channel, exchange: &str, key: &str, body: &[u8]) -> Result<Confirmation> {
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), key.into(), options, body, BasicProperties::default()).await?.await
}

pub(crate) async fn returns(scene: &Scene) -> Result<()> {
    let connection = scene.connect().await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let [queue, missing] = ["returns", "returns-missing"].map(|name| scene.queue_name(name));
    let [exchange, alternate] = ["returns", "returns-alternate"].map(|name| scene.exchange_name(name));
    declare_durable(&channel, &queue, FieldTable::default()).await?;
    declare_exchange(&channel, &alternate, ExchangeKind::Fanout).await?;
    channel
        .exchange_declare(
            exchange.clone(),
            ExchangeKind::Direct,
            ExchangeDeclareOptions::default(),
            table([("alternate-exchange", string(alternate.as_str()))]),
        )
        .await?;
    bind(&channel, &queue, &exchange, "known").await?;

    let returned = mandatory(&channel, "", missing.as_str(), b"lost").await?.expect("it has no queue to go to");
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!((returned.exchange.as_str(), &returned.routing_key), ("", &missing));
    assert_eq!(text(&returned), "lost");
    assert_eq!(*returned.properties.message_id(), Some("r-1".into()));
    assert_eq!(mandatory(&channel, "", queue.as_str(), b"one").await?, None);
    assert_eq!(mandatory(&channel, exchange.as_str(), "known", b"two").await?, None);
    let returned = mandatory(&channel, exchange.as_str(), "unknown", b"").await?.expect("it has no queue to go to");
    assert_eq!((returned.exchange.as_str(), returned.data.len()), (exchange.as_str(), 0));
    bind(&channel, &queue, &alternate, "").await?;
    assert_eq!(mandatory(&channel, exchange.as_str(), "unknown", b"three").await?, None);
    assert_eq!(texts(&drain(&channel, &queue).await?), ["one", "two", "three"]);
    close(&connection).await
}

/// What came back with the confirm.
async fn mandatory(channel: &Channel, exchange: &str, key: &str, body: &[u8]) -> Result<Option<BasicReturnMessage>> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default().with_message_id("r-1".into());
    let confirm = channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?.await?;
    assert!(confirm.is_ack());
    Ok(confirm.take_message())
}

pub(crate) async fn transactions(scene: &Scene) -> Result<()> {
    let connection = scene.connect().await?;
    let channel = connection.create_channel().await?;
    let watching = connection.create_channel().await?;
    let queue = scene.queue_name("transactions");
    channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    channel.tx_select().await?;

    publish(&channel, "", queue.as_str(), b"rolled back").await?;
    channel.tx_rollback().await?;
    publish(&channel, "", queue.as_str(), b"1").await?;
    publish(&channel, "", queue.as_str(), b"2").await?;
    assert_eq!(passive(&watching, &queue).await?.message_count(), 0, "nothing before the commit");
    channel.tx_commit().await?;
    assert_eq!(passive(&watching, &queue).await?.message_count(), 2);

    // Acknowledgements belong to the transaction too.
    let message = get(&channel, &queue).await?.expect("it was committed");
    message.delivery.ack(BasicAckOptions::default()).await?;
    channel.tx_rollback().await?;
    channel.close(200, "OK".into()).await?;
    let message = get(&watching, &queue).await?.expect("it was not acknowledged");
    assert_eq!((text(&message.delivery), message.delivery.redelivered), ("1".to_owned(), true));
    close(&connection).await
}

async fn get(channel: &Channel, queue: &ShortString) -> Result<Option<lapin::message::BasicGetMessage>> {
    channel.basic_get(queue.clone(), BasicGetOptions::default()).await
}
