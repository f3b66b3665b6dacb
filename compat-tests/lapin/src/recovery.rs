//! A broker that is short of memory, and one that restarts.

use std::{pin::pin, time::Duration};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, Event, ExchangeKind, Result,
    message::Delivery,
    options::{BasicAckOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use tokio_stream::{Stream, StreamExt};

use crate::support::{
    Scene, bind, close, consume, declare_durable, declare_exchange, drain, from_runner, next, publish, text,
    wait_for_ready,
};

/// Ends the shortage whatever becomes of the program: others come after it.
struct Shortage;

impl Shortage {
    fn begin() -> Option<Self> {
        from_runner("BROKER_CTL", &["set_vm_memory_high_watermark", "absolute", "1000000"]).then_some(Self)
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        from_runner("BROKER_CTL", &["set_vm_memory_high_watermark", "0.6"]);
    }
}

/// A broker that is short of memory holds back who publishes, and says so before and after.
pub(crate) async fn blocked(scene: &Scene) -> Result<()> {
    let connection = scene.connect().await?;
    let mut events = pin!(connection.events_listener());
    let channel = connection.create_channel().await?;
    let watching = scene.connect().await?;
    let watcher = watching.create_channel().await?;
    let queue = scene.queue_name("blocked");
    declare_durable(&channel, &queue, FieldTable::default()).await?;

    let Some(shortage) = Shortage::begin() else {
        println!("this broker cannot be made short of memory from here");
        return Ok(());
    };
    publish(&channel, "", queue.as_str(), b"held back").await?;
    let reason = loop {
        if let Event::ConnectionBlocked(reason) = event(&mut events).await {
            break reason;
        }
    };
    assert_eq!((reason.as_str(), connection.status().blocked()), ("low on memory", true));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(drain(&watcher, &queue).await?.is_empty(), "nothing is taken meanwhile, and who only consumes is served");
    drop(shortage);

    while !matches!(event(&mut events).await, Event::ConnectionUnblocked) {}
    wait_for_ready(&watcher, &queue, 1).await?;
    wait_for_ready(&channel, &queue, 1).await?;
    close(&watching).await?;
    close(&connection).await
}

async fn event(events: &mut (impl Stream<Item = Event> + Unpin)) -> Event {
    events.next().await.expect("the connection is there")
}

/// The client's own reconnection, with its topology, its consumers and its confirms, after a restart of the broker.
pub(crate) async fn recovery(scene: &Scene) -> Result<()> {
    let properties = ConnectionProperties::default().enable_auto_recover();
    let connection = Connection::connect(scene.uri(), properties).await?;
    let mut events = pin!(connection.events_listener());
    let channel = connection.create_channel().await?;
    let (exchange, durable) = (scene.exchange_name("recovery"), scene.queue_name("recovery"));
    declare_exchange(&channel, &exchange, ExchangeKind::Topic).await?;
    declare_durable(&channel, &durable, FieldTable::default()).await?;
    bind(&channel, &durable, &exchange, "kept.#").await?;
    let transient = scene.queue_name("transient");
    let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare(transient.clone(), own, FieldTable::default()).await?;
    bind(&channel, &transient, &exchange, "lost.#").await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel.basic_qos(10, BasicQosOptions::default()).await?;
    let mut inbox = consume(&channel, &durable).await?;
    let mut other = consume(&channel, &transient).await?;
    send(&channel, &exchange, "kept.1", "before").await?;
    assert_eq!(text(&next(&mut inbox).await?), "before"); // It is not acknowledged, so it comes again.

    if !from_runner("BROKER_RESTART", &[]) {
        println!("this broker cannot be restarted from here");
        return Ok(());
    }
    let again = next_after_recovery(&mut inbox, &channel).await?;
    assert_eq!((text(&again).as_str(), again.redelivered), ("before", true), "what was confirmed outlives the restart");
    while !matches!(event(&mut events).await, Event::Connected) {}
    again.ack(BasicAckOptions::default()).await?;
    send(&channel, &exchange, "kept.2", "after").await?;
    let after = next(&mut inbox).await?;
    assert_eq!(text(&after), "after", "the binding of the durable queue");
    after.ack(BasicAckOptions::default()).await?;
    send(&channel, &exchange, "lost.1", "after").await?;
    let after = next_after_recovery(&mut other, &channel).await?;
    assert_eq!(text(&after), "after", "the transient queue and its binding are made again");
    close(&connection).await
}

async fn send(channel: &Channel, exchange: &ShortString, key: &str, body: &str) -> Result<()> {
    let options = BasicPublishOptions::default();
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let confirm = channel.basic_publish(exchange.clone(), key.into(), options, body.as_bytes(), persistent).await?;
    assert_eq!(confirm.await?, Confirmation::Ack(None));
    Ok(())
}

/// A consumer is told that its connection is gone, and goes on when there is a new one.
async fn next_after_recovery(consumer: &mut Consumer, channel: &Channel) -> Result<Delivery> {
    loop {
        match consumer.next().await.expect("the consumer was cancelled") {
            Ok(delivery) => return Ok(delivery),
            Err(error) => channel.wait_for_recovery(error).await?,
        }
    }
}
