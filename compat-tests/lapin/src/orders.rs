//! The order flow with one failure and then success: the message comes again, at its old place, marked as redelivered.

use lapin::{
    BasicProperties, Result,
    options::{BasicAckOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions},
    types::FieldTable,
};

use crate::support::{Scene, close, consume, declare_durable, next, text, wait_for_ready};

pub(crate) async fn order_retry(scene: &Scene) -> Result<()> {
    let queue = scene.queue_name("order.created");

    let producer = scene.connect().await?;
    let sending = producer.create_channel().await?;
    declare_durable(&sending, &queue, FieldTable::default()).await?;
    for order_id in 1..=3 {
        let order = format!(r#"{{"orderId":{order_id}}}"#);
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        sending.basic_publish("".into(), queue.clone(), options, order.as_bytes(), persistent).await?.await?;
    }
    sending.close(200, "OK".into()).await?;
    close(&producer).await?;

    let connection = scene.connect().await?;
    let channel = connection.create_channel().await?;
    declare_durable(&channel, &queue, FieldTable::default()).await?;
    wait_for_ready(&channel, &queue, 3).await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let mut consumer = consume(&channel, &queue).await?;
    for (delivery_tag, order_id, redelivered) in [(1, 1, false), (2, 1, true), (3, 2, false), (4, 3, false)] {
        let delivery = next(&mut consumer).await?;
        assert_eq!(text(&delivery), format!(r#"{{"orderId":{order_id}}}"#));
        assert_eq!((delivery.delivery_tag, delivery.redelivered), (delivery_tag, redelivered));
        assert_eq!((delivery.exchange.as_str(), &delivery.routing_key), ("", &queue));
        assert_eq!(*delivery.properties.delivery_mode(), Some(2));
        if delivery_tag == 1 {
            delivery.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
        } else {
            delivery.ack(BasicAckOptions::default()).await?;
        }
    }
    channel.close(200, "OK".into()).await?;

    let after = connection.create_channel().await?;
    wait_for_ready(&after, &queue, 0).await?;
    close(&connection).await
}
