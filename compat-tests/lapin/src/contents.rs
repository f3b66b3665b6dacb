//! Contents: bodies from empty to 64 MiB, headers of every type, every property; each comes out as it went in.

use std::env;

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Result,
    options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::{AMQPValue, DecimalValue, FieldTable, ShortString},
};

use crate::support::{Scene, close, consume, declare_durable, next, publish, string, table};

pub(crate) async fn contents(scene: &Scene) -> Result<()> {
    let connection = scene.connect().await?;
    bodies(scene, &connection).await?;
    small_frames(scene).await?;
    let channel = connection.create_channel().await?;
    headers(scene, &channel).await?;
    properties(scene, &channel, &connection).await?;
    close(&connection).await
}

/// Octets without a short period, so that a chunk lost, doubled or swapped shows.
fn body_of(size: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut octet = || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        state.to_be_bytes()[1]
    };
    (0..size).map(|_| octet()).collect()
}

async fn bodies(scene: &Scene, connection: &Connection) -> Result<()> {
    let channel = connection.create_channel().await?;
    let queue = scene.queue_name("bodies");
    declare_durable(&channel, &queue, FieldTable::default()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel.basic_qos(2, BasicQosOptions::default()).await?;
    let mut consumer = consume(&channel, &queue).await?;
    let frame_body = 131_072 - 8; // What fits into one frame of the usual size.
    for size in [0, 1, 100, frame_body - 1, frame_body, frame_body + 1, 2 * frame_body, 1 << 20, 8 << 20] {
        let body = body_of(size);
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let confirm = channel.basic_publish("".into(), queue.clone(), options, &body, persistent).await?.await?;
        assert_eq!(confirm, Confirmation::Ack(None));
        let delivery = next(&mut consumer).await?;
        assert!(delivery.data == body, "{size} octets come out as they went in");
        delivery.ack(BasicAckOptions::default()).await?;
    }
    channel.close(200, "OK".into()).await
}

/// A body as long as RabbitMQ 3 takes by default with room to spare: 64 MiB, or what `COMPAT_LARGE_BYTES` says.
pub(crate) async fn large_body(scene: &Scene) -> Result<()> {
    let size = env::var("COMPAT_LARGE_BYTES").ok().and_then(|size| size.parse().ok()).unwrap_or(64 << 20);
    let connection = scene.connect().await?;
    let channel = connection.create_channel().await?;
    let queue = scene.queue_name("large");
    declare_durable(&channel, &queue, FieldTable::default()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let body = body_of(size);
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let confirm = channel.basic_publish("".into(), queue.clone(), options, &body, persistent).await?.await?;
    assert_eq!(confirm, Confirmation::Ack(None));
    let delivery = next(&mut consume(&channel, &queue).await?).await?;
    assert!(delivery.data == body, "{size} octets come out as they went in");
    delivery.ack(BasicAckOptions::default()).await?;
    close(&connection).await
}

/// The broker has to cut bodies to what this connection can take.
async fn small_frames(scene: &Scene) -> Result<()> {
    let separator = if scene.uri().contains('?') { '&' } else { '?' };
    let uri = format!("{}{separator}frame_max=8192", scene.uri());
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    assert_eq!(connection.configuration().frame_max(), 8192);
    let channel = connection.create_channel().await?;
    let queue = scene.queue_name("small-frames");
    declare_durable(&channel, &queue, FieldTable::default()).await?;
    let body = body_of(1_000_000);
    publish(&channel, "", queue.as_str(), &body).await?;
    let mut consumer = consume(&channel, &queue).await?;
    assert!(next(&mut consumer).await?.data == body, "a large body comes in small frames");
    close(&connection).await
}

async fn headers(scene: &Scene, channel: &Channel) -> Result<()> {
    let queue = scene.queue_name("headers");
    declare_durable(channel, &queue, FieldTable::default()).await?;
    let list = vec![
        string("a"),
        AMQPValue::Void,
        AMQPValue::FieldArray(vec![AMQPValue::LongInt(-1)].into()),
        AMQPValue::FieldTable(table([("deep", string("er"))])),
    ];
    let sent = table([
        ("boolean", AMQPValue::Boolean(true)),
        ("int8", AMQPValue::ShortShortInt(i8::MIN)),
        ("uint8", AMQPValue::ShortShortUInt(u8::MAX)),
        ("int16", AMQPValue::ShortInt(i16::MIN)),
        ("uint16", AMQPValue::ShortUInt(u16::MAX)),
        ("int32", AMQPValue::LongInt(i32::MIN)),
        ("uint32", AMQPValue::LongUInt(u32::MAX)),
        ("int64", AMQPValue::LongLongInt(i64::MIN)),
        ("float", AMQPValue::Float(0.1)),
        ("double", AMQPValue::Double(0.1)),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 12_345 })),
        ("string", string("Häsin 兎")),
        ("empty", string("")),
        ("octets", AMQPValue::LongString(vec![0xff, 0xce, 0x00].into())),
        ("long", string("x".repeat(10_000))),
        ("array", AMQPValue::FieldArray(list.into())),
        ("no array", AMQPValue::FieldArray(Vec::new().into())),
        ("timestamp", AMQPValue::Timestamp(1_700_000_000)),
        ("table", AMQPValue::FieldTable(table([("when", AMQPValue::Timestamp(0))]))),
        ("no table", AMQPValue::FieldTable(FieldTable::default())),
        ("bytes", AMQPValue::ByteArray(vec![0xff, 0xce, 0x00].into())),
        ("void", AMQPValue::Void),
    ]);
    let received = round_trip(channel, &queue, BasicProperties::default().with_headers(sent.clone())).await?;
    assert_eq!(*received.headers(), Some(sent));
    Ok(())
}

async fn properties(scene: &Scene, channel: &Channel, connection: &Connection) -> Result<()> {
    let queue = scene.queue_name("properties");
    declare_durable(channel, &queue, FieldTable::default()).await?;
    let all = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("identity".into())
        .with_headers(table([("trace", string("abc"))]))
        .with_delivery_mode(2)
        .with_priority(7)
        .with_correlation_id("correlation".into())
        .with_reply_to("answers".into())
        .with_expiration("600000".into())
        .with_message_id("message".into())
        .with_timestamp(1_700_000_000)
        .with_type("order.created".into())
        .with_user_id(connection.status().username().into())
        .with_app_id("compat".into())
        .with_cluster_id("cluster".into());
    assert_eq!(round_trip(channel, &queue, all.clone()).await?, all);

    let none = BasicProperties::default();
    assert_eq!(round_trip(channel, &queue, none.clone()).await?, none);

    let extremes = BasicProperties::default()
        .with_headers(FieldTable::default())
        .with_priority(255)
        .with_correlation_id("ü".repeat(127).into())
        .with_message_id("".into())
        .with_type("x".repeat(255).into());
    assert_eq!(round_trip(channel, &queue, extremes.clone()).await?, extremes);
    Ok(())
}

async fn round_trip(channel: &Channel, queue: &ShortString, properties: BasicProperties) -> Result<BasicProperties> {
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.clone(), options, b"body", properties).await?;
    let message = channel.basic_get(queue.clone(), BasicGetOptions { no_ack: true }).await?.expect("it was published");
    assert_eq!(message.data, b"body");
    Ok(message.delivery.properties)
}
