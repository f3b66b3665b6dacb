//! Consumers: prefetch for a consumer and for a channel, settling, cancelling, get, purge, recover, and what is refused.

use lapin::{
    Channel, Connection, Result,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions,
        BasicRecoverOptions, BasicRejectOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{FieldTable, ShortString},
};
use tokio_stream::StreamExt;

use crate::support::{
    Scene, assert_refused, close, consume, declare_durable, drain, next, publish, take, text, texts, wait_for_ready,
};

pub(crate) async fn consumers(scene: &Scene) -> Result<()> {
    let connection = scene.connect().await?;
    let channel = connection.create_channel().await?;
    prefetch_per_consumer(scene, &connection).await?;
    prefetch_per_channel(scene, &channel, &connection).await?;
    settling(scene, &channel, &connection).await?;
    recovering(scene, &channel, &connection).await?;
    cancelling(scene, &channel, &connection).await?;
    getting(scene, &channel, &connection).await?;
    refusals(scene, &channel, &connection).await?;
    close(&connection).await
}

/// A new queue that holds the numbers from 1 to `count`.
async fn queue_with(scene: &Scene, channel: &Channel, name: &str, count: u32) -> Result<ShortString> {
    let queue = scene.queue_name(name);
    declare_durable(channel, &queue, FieldTable::default()).await?;
    for number in 1..=count {
        publish(channel, "", queue.as_str(), number.to_string().as_bytes()).await?;
    }
    wait_for_ready(channel, &queue, count).await?;
    Ok(queue)
}

async fn prefetch_per_consumer(scene: &Scene, connection: &Connection) -> Result<()> {
    let channel = connection.create_channel().await?;
    let queue = queue_with(scene, &channel, "prefetch", 10).await?;
    channel.basic_qos(2, BasicQosOptions::default()).await?;
    let mut first = consume(&channel, &queue).await?;
    channel.basic_qos(3, BasicQosOptions::default()).await?;
    let mut second = consume(&channel, &queue).await?; // The first one keeps its limit.
    let early = take(&mut first, 2).await?;
    let others = take(&mut second, 3).await?;
    wait_for_ready(&channel, &queue, 5).await?;
    assert_eq!(texts(&early), ["1", "2"]);
    assert_eq!(texts(&others), ["3", "4", "5"]);
    early[1].ack(BasicAckOptions::default()).await?;
    assert_eq!(text(&next(&mut first).await?), "6");
    others[2].ack(BasicAckOptions { multiple: true }).await?; // All up to this one, of both consumers.
    next(&mut first).await?;
    take(&mut second, 3).await?;
    wait_for_ready(&channel, &queue, 0).await?;
    channel.close(200, "OK".into()).await
}

async fn prefetch_per_channel(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    let queue = queue_with(scene, channel, "prefetch-global", 6).await?;
    let shared = connection.create_channel().await?;
    shared.basic_qos(3, BasicQosOptions { global: true }).await?;
    let consumer = consume(&shared, &queue).await?;
    let mut both = consumer.merge(consume(&shared, &queue).await?);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(both.next().await.expect("the consumer was cancelled")?);
    }
    wait_for_ready(channel, &queue, 3).await?; // The two consumers share the limit.
    seen[0].ack(BasicAckOptions::default()).await?;
    seen.push(both.next().await.expect("the consumer was cancelled")?);
    wait_for_ready(channel, &queue, 2).await?;
    shared.close(200, "OK".into()).await?;
    wait_for_ready(channel, &queue, 5).await?; // What was not acknowledged is back.
    let mut bodies = texts(&drain(channel, &queue).await?);
    bodies.push(text(&seen[0]));
    bodies.sort();
    assert_eq!(bodies, ["1", "2", "3", "4", "5", "6"]);
    Ok(())
}

async fn settling(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    let queue = queue_with(scene, channel, "settling", 6).await?;
    let other = connection.create_channel().await?;
    let mut consumer = consume(&other, &queue).await?;
    let deliveries = take(&mut consumer, 6).await?;
    assert!(deliveries.iter().map(|delivery| delivery.delivery_tag).eq(1..=6));
    deliveries[1].ack(BasicAckOptions::default()).await?; // In any order.
    deliveries[0].reject(BasicRejectOptions { requeue: false }).await?;
    deliveries[3].reject(BasicRejectOptions { requeue: true }).await?;
    let again = next(&mut consumer).await?;
    assert_eq!((text(&again).as_str(), again.redelivered, again.delivery_tag), ("4", true, 7));
    deliveries[4].nack(BasicNackOptions { multiple: true, requeue: true }).await?; // 3 and 5
    assert_eq!(texts(&take(&mut consumer, 2).await?), ["3", "5"]);

    // What a channel leaves behind goes to its old place.
    other.close(200, "OK".into()).await?;
    wait_for_ready(channel, &queue, 4).await?;
    let returned = drain(channel, &queue).await?;
    assert_eq!(texts(&returned), ["3", "4", "5", "6"]);
    assert!(returned.iter().all(|delivery| delivery.redelivered));
    Ok(())
}

async fn recovering(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    let queue = queue_with(scene, channel, "recover", 3).await?;
    let other = connection.create_channel().await?;
    let mut consumer = consume(&other, &queue).await?;
    let deliveries = take(&mut consumer, 3).await?;
    deliveries[1].ack(BasicAckOptions::default()).await?;
    other.basic_recover(BasicRecoverOptions { requeue: true }).await?;
    let again = take(&mut consumer, 2).await?;
    assert_eq!(texts(&again), ["1", "3"]);
    assert!(again.iter().all(|delivery| delivery.redelivered));
    other.close(200, "OK".into()).await
}

async fn cancelling(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    let queue = queue_with(scene, channel, "cancel", 1).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue.clone(), "chosen".into(), options, FieldTable::default()).await?;
    let delivery = next(&mut consumer).await?;
    channel.basic_cancel("chosen".into(), BasicCancelOptions::default()).await?;
    publish(channel, "", queue.as_str(), b"2").await?;
    wait_for_ready(channel, &queue, 1).await?;
    delivery.ack(BasicAckOptions::default()).await?; // What was delivered before can still be settled.

    // The queue goes: its consumer is told.
    assert_eq!(texts(&drain(channel, &queue).await?), ["2"]);
    let mut orphan = consume(channel, &queue).await?;
    assert!(orphan.tag().as_str().starts_with("amq.ctag-"), "{}", orphan.tag());
    let other = connection.create_channel().await?;
    other.queue_delete(queue, QueueDeleteOptions::default()).await?;
    assert!(orphan.next().await.is_none());
    Ok(())
}

async fn getting(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    let queue = queue_with(scene, channel, "get", 3).await?;
    let other = connection.create_channel().await?;
    let get = async |no_ack| other.basic_get(queue.clone(), BasicGetOptions { no_ack }).await;
    let first = get(false).await?.expect("there are three");
    assert_eq!((text(&first), first.delivery_tag, first.redelivered), ("1".to_owned(), 1, false));
    assert_eq!((first.message_count, &first.routing_key), (2, &queue));
    let second = get(true).await?.expect("there are two");
    assert_eq!((text(&second), second.message_count), ("2".to_owned(), 1));
    first.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
    let again = get(false).await?.expect("there are two again");
    assert_eq!((text(&again), again.redelivered), ("1".to_owned(), true));
    assert_eq!(channel.queue_purge(queue.clone(), QueuePurgeOptions::default()).await?, 1);
    assert!(get(false).await?.is_none());
    other.close(200, "OK".into()).await?;
    wait_for_ready(channel, &queue, 1).await // What was not acknowledged is back.
}

async fn refusals(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    let queue = queue_with(scene, channel, "refusals", 1).await?;
    let missing = scene.queue_name("missing");
    let other = connection.create_channel().await?;
    assert_refused(consume(&other, &missing).await, 404, "NOT_FOUND - no queue");
    let other = connection.create_channel().await?;
    assert_refused(other.basic_get(missing.clone(), BasicGetOptions::default()).await, 404, "NOT_FOUND - no queue");

    // An acknowledgement has no reply of its own; the channel's consumer is told why the channel was closed.
    let other = connection.create_channel().await?;
    let mut consumer = consume(&other, &queue).await?;
    next(&mut consumer).await?;
    other.basic_ack(17, BasicAckOptions::default()).await?;
    assert_refused(next(&mut consumer).await, 406, "PRECONDITION_FAILED - unknown delivery tag 17");

    let exclusive = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let alone = channel.basic_consume(queue.clone(), "alone".into(), exclusive, FieldTable::default()).await?;
    let other = connection.create_channel().await?;
    assert_refused(consume(&other, &queue).await, 403, "in exclusive use");
    channel.basic_cancel(alone.tag(), BasicCancelOptions::default()).await
}
