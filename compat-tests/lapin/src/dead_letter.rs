//! Dead letters instead of endless requeueing: rejected, expired and pushed out of a full queue, and a retry loop.

use lapin::{
    BasicProperties, Connection, ExchangeKind, Result,
    message::Delivery,
    options::{BasicAckOptions, BasicNackOptions, BasicPublishOptions, BasicRejectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::support::{
    Scene, bind, close, consume, declare_durable, declare_exchange, next, publish, string, table, text, wait_for_ready,
};

pub(crate) async fn dead_letter(scene: &Scene) -> Result<()> {
    let connection = scene.connect().await?;
    rejected(scene, &connection).await?;
    expired(scene, &connection).await?;
    pushed_out(scene, &connection).await?;
    retry_loop(scene, &connection).await?;
    close(&connection).await
}

async fn rejected(scene: &Scene, connection: &Connection) -> Result<()> {
    let channel = connection.create_channel().await?;
    let exchange = scene.exchange_name("rejected-dlx");
    let [work, dead] = ["rejected-work", "rejected-dead"].map(|name| scene.queue_name(name));
    declare_exchange(&channel, &exchange, ExchangeKind::Direct).await?;
    declare_durable(&channel, &dead, FieldTable::default()).await?;
    bind(&channel, &dead, &exchange, "order.failed").await?;
    let arguments =
        [("x-dead-letter-exchange", string(exchange.as_str())), ("x-dead-letter-routing-key", string("order.failed"))];
    declare_durable(&channel, &work, table(arguments)).await?;

    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id("m-1".into())
        .with_headers(table([("attempt", AMQPValue::LongInt(1))]));
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), work.clone(), options, b"unreadable", properties).await?;
    publish(&channel, "", work.as_str(), b"rejected").await?;
    let mut jobs = consume(&channel, &work).await?;
    next(&mut jobs).await?.nack(BasicNackOptions::default()).await?;
    next(&mut jobs).await?.reject(BasicRejectOptions::default()).await?;

    let mut letters = consume(&channel, &dead).await?;
    let letter = next(&mut letters).await?;
    assert_eq!(text(&letter), "unreadable");
    assert_eq!((letter.exchange.as_str(), letter.routing_key.as_str()), (exchange.as_str(), "order.failed"));
    assert!(!letter.redelivered);
    assert_eq!(*letter.properties.message_id(), Some("m-1".into()));
    assert_eq!(*letter.properties.delivery_mode(), Some(2));
    assert_eq!(header(&letter, "attempt"), Some(&AMQPValue::LongInt(1)));
    assert_eq!(header(&letter, "x-first-death-reason"), Some(&string("rejected")));
    assert_eq!(header(&letter, "x-first-death-queue"), Some(&string(work.as_str())));
    assert_eq!(header(&letter, "x-first-death-exchange"), Some(&string("")));
    let deaths = deaths(&letter);
    assert_eq!(deaths.len(), 1);
    check_death(deaths[0], &Death { count: 1, reason: "rejected", queue: &work, exchange: "", key: work.as_str() });
    assert_eq!(text(&next(&mut letters).await?), "rejected");
    wait_for_ready(&channel, &work, 0).await?;
    channel.close(200, "OK".into()).await
}

async fn expired(scene: &Scene, connection: &Connection) -> Result<()> {
    let channel = connection.create_channel().await?;
    let exchange = scene.exchange_name("expired-dlx");
    let [by_queue, by_message, dead] =
        ["expired-by-queue", "expired-by-message", "expired-dead"].map(|name| scene.queue_name(name));
    declare_exchange(&channel, &exchange, ExchangeKind::Fanout).await?;
    declare_durable(&channel, &dead, FieldTable::default()).await?;
    bind(&channel, &dead, &exchange, "").await?;
    let dlx = string(exchange.as_str());
    let arguments = table([("x-dead-letter-exchange", dlx.clone()), ("x-message-ttl", AMQPValue::LongInt(100))]);
    declare_durable(&channel, &by_queue, arguments).await?;
    declare_durable(&channel, &by_message, table([("x-dead-letter-exchange", dlx)])).await?;
    let mut letters = consume(&channel, &dead).await?;

    publish(&channel, "", by_queue.as_str(), b"by the queue's time to live").await?;
    let letter = next(&mut letters).await?;
    assert_eq!(text(&letter), "by the queue's time to live");
    assert_eq!(letter.routing_key, by_queue, "without a dead-letter routing key the message keeps its own");
    let death = Death { count: 1, reason: "expired", queue: &by_queue, exchange: "", key: by_queue.as_str() };
    check_death(deaths(&letter)[0], &death);

    let properties = BasicProperties::default().with_expiration("100".into());
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), by_message.clone(), options, b"by its own expiration", properties).await?;
    let letter = next(&mut letters).await?;
    assert_eq!(text(&letter), "by its own expiration");
    assert_eq!(*letter.properties.expiration(), None, "it must not expire again");
    let death = Death { count: 1, reason: "expired", queue: &by_message, exchange: "", key: by_message.as_str() };
    check_death(deaths(&letter)[0], &death);
    assert_eq!(deaths(&letter)[0].inner().get("original-expiration"), Some(&string("100")));
    channel.close(200, "OK".into()).await
}

async fn pushed_out(scene: &Scene, connection: &Connection) -> Result<()> {
    let channel = connection.create_channel().await?;
    let [work, dead] = ["maxlen-work", "maxlen-dead"].map(|name| scene.queue_name(name));
    declare_durable(&channel, &dead, FieldTable::default()).await?;
    let arguments = [
        ("x-max-length", AMQPValue::LongInt(2)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string(dead.as_str())),
    ];
    declare_durable(&channel, &work, table(arguments)).await?;
    let mut letters = consume(&channel, &dead).await?;
    for body in ["1", "2", "3", "4"] {
        publish(&channel, "", work.as_str(), body.as_bytes()).await?;
    }
    for body in ["1", "2"] {
        let letter = next(&mut letters).await?;
        assert_eq!(text(&letter), body, "the oldest goes first");
        assert_eq!((letter.exchange.as_str(), &letter.routing_key), ("", &dead));
        let death = Death { count: 1, reason: "maxlen", queue: &work, exchange: "", key: work.as_str() };
        check_death(deaths(&letter)[0], &death);
    }
    wait_for_ready(&channel, &work, 2).await?;
    channel.close(200, "OK".into()).await
}

/// work -(rejected)-> wait -(expired)-> work, until `x-death` says that it was tried often enough.
async fn retry_loop(scene: &Scene, connection: &Connection) -> Result<()> {
    let channel = connection.create_channel().await?;
    let [orders, retries] = ["retry-orders", "retry-wait"].map(|name| scene.exchange_name(name));
    let [work, wait] = ["retry-work", "retry-wait"].map(|name| scene.queue_name(name));
    declare_exchange(&channel, &orders, ExchangeKind::Topic).await?;
    declare_exchange(&channel, &retries, ExchangeKind::Topic).await?;
    declare_durable(&channel, &work, table([("x-dead-letter-exchange", string(retries.as_str()))])).await?;
    let arguments =
        [("x-dead-letter-exchange", string(orders.as_str())), ("x-message-ttl", AMQPValue::ShortShortUInt(50))];
    declare_durable(&channel, &wait, table(arguments)).await?;
    bind(&channel, &work, &orders, "order.#").await?;
    bind(&channel, &wait, &retries, "#").await?;

    let mut jobs = consume(&channel, &work).await?;
    publish(&channel, orders.as_str(), "order.created", b"stubborn").await?;
    for attempt in 0..4 {
        let job = next(&mut jobs).await?;
        assert_eq!((&job.exchange, job.routing_key.as_str()), (&orders, "order.created"));
        let deaths = deaths(&job);
        if attempt == 0 {
            assert!(deaths.is_empty());
        } else {
            assert_eq!(deaths.len(), 2, "one entry for a pair of queue and reason");
            let (count, key) = (attempt, "order.created");
            let exchange = retries.as_str();
            check_death(deaths[0], &Death { count, reason: "expired", queue: &wait, exchange, key });
            let exchange = orders.as_str();
            check_death(deaths[1], &Death { count, reason: "rejected", queue: &work, exchange, key });
        }
        if attempt < 3 {
            job.nack(BasicNackOptions::default()).await?;
        } else {
            job.ack(BasicAckOptions::default()).await?;
        }
    }
    wait_for_ready(&channel, &work, 0).await?;
    wait_for_ready(&channel, &wait, 0).await?;
    channel.close(200, "OK".into()).await
}

/// What an entry of `x-death` should say.
struct Death<'a> {
    count: i64,
    reason: &'a str,
    queue: &'a ShortString,
    exchange: &'a str,
    key: &'a str,
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a AMQPValue> {
    delivery.properties.headers().as_ref()?.inner().get(name)
}

fn deaths(delivery: &Delivery) -> Vec<&FieldTable> {
    let Some(deaths) = header(delivery, "x-death") else { return Vec::new() };
    let deaths = deaths.as_array().expect("x-death is an array");
    deaths.as_slice().iter().map(|death| death.as_field_table().expect("a death is a table")).collect()
}

#[track_caller]
fn check_death(entry: &FieldTable, expected: &Death) {
    let entry = entry.inner();
    assert_eq!(entry.get("count"), Some(&AMQPValue::LongLongInt(expected.count)));
    assert_eq!(entry.get("reason"), Some(&string(expected.reason)));
    assert_eq!(entry.get("queue"), Some(&string(expected.queue.as_str())));
    assert_eq!(entry.get("exchange"), Some(&string(expected.exchange)));
    assert_eq!(entry.get("routing-keys"), Some(&AMQPValue::FieldArray(vec![string(expected.key)].into())));
    let time = entry.get("time").and_then(AMQPValue::as_timestamp).expect("the time is a timestamp");
    assert!((1_500_000_000..10_000_000_000).contains(&time), "the time is in seconds, not {time}");
}
