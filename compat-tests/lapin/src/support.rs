//! What the programs share: connecting, names that nobody else uses, clean-up, and short forms of lapin's calls.

use std::{
    env,
    hash::{BuildHasher, RandomState},
    process::{Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ErrorKind, ExchangeKind, Result,
    message::Delivery,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio_stream::StreamExt;

/// One run of a program: where the broker is, and what the program made there.
pub(crate) struct Scene {
    uri: String,
    suffix: String,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    queues: Vec<ShortString>,
    exchanges: Vec<ShortString>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self {
            uri: env::var("AMQP_URL").unwrap_or_else(|_| "amqp://localhost".to_owned()),
            suffix: format!("{:016x}", RandomState::new().hash_one("suffix")),
            made: Mutex::default(),
        }
    }

    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// A queue name of this run alone; the queue is deleted when the program ends.
    pub(crate) fn queue_name(&self, name: &str) -> ShortString {
        let name = self.unique(name);
        self.made.lock().expect("nobody panics with the lock").queues.push(name.clone());
        name
    }

    /// An exchange name of this run alone; the exchange is deleted when the program ends.
    pub(crate) fn exchange_name(&self, name: &str) -> ShortString {
        let name = self.unique(name);
        self.made.lock().expect("nobody panics with the lock").exchanges.push(name.clone());
        name
    }

    fn unique(&self, name: &str) -> ShortString {
        format!("compat.lapin.{name}.{}", self.suffix).into()
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::connect(&self.uri, ConnectionProperties::default()).await
    }

    pub(crate) async fn delete_what_was_made(&self) -> Result<()> {
        let made = std::mem::take(&mut *self.made.lock().expect("nobody panics with the lock"));
        if made.queues.is_empty() && made.exchanges.is_empty() {
            return Ok(());
        }
        let connection = self.connect().await?;
        let channel = connection.create_channel().await?;
        for queue in made.queues {
            channel.queue_delete(queue, QueueDeleteOptions::default()).await?;
        }
        for exchange in made.exchanges {
            channel.exchange_delete(exchange, ExchangeDeleteOptions::default()).await?;
        }
        close(&connection).await
    }
}

/// Closes a connection. Channels that are still there should be closed before or be dropped after: lapin closes a dropped
/// channel in the background and fails if the connection goes meanwhile.
pub(crate) async fn close(connection: &Connection) -> Result<()> {
    connection.close(200, "OK".into()).await
}

pub(crate) fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

pub(crate) fn string(value: impl AsRef<str>) -> AMQPValue {
    AMQPValue::LongString(value.as_ref().into())
}

pub(crate) async fn declare_durable(channel: &Channel, queue: &ShortString, arguments: FieldTable) -> Result<()> {
    let declared = channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments).await?;
    assert_eq!(declared.name(), queue);
    Ok(())
}

pub(crate) async fn declare_exchange(channel: &Channel, exchange: &ShortString, kind: ExchangeKind) -> Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(exchange.clone(), kind, options, FieldTable::default()).await
}

pub(crate) async fn bind(channel: &Channel, queue: &ShortString, exchange: &ShortString, key: &str) -> Result<()> {
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.clone(), exchange.clone(), key.into(), options, FieldTable::default()).await
}

/// Publishes without a property and without caring for a confirm.
pub(crate) async fn publish(channel: &Channel, exchange: &str, key: &str, body: &[u8]) -> Result<()> {
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), key.into(), options, body, BasicProperties::default()).await?;
    Ok(())
}

pub(crate) async fn consume(channel: &Channel, queue: &ShortString) -> Result<Consumer> {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await
}

pub(crate) async fn next(consumer: &mut Consumer) -> Result<Delivery> {
    consumer.next().await.expect("the consumer was cancelled")
}

pub(crate) async fn take(consumer: &mut Consumer, count: usize) -> Result<Vec<Delivery>> {
    let mut deliveries = Vec::with_capacity(count);
    while deliveries.len() < count {
        deliveries.push(next(consumer).await?);
    }
    Ok(deliveries)
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.data.clone()).expect("this program publishes text only")
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}

/// Takes everything out of a queue with `basic.get`.
pub(crate) async fn drain(channel: &Channel, queue: &ShortString) -> Result<Vec<Delivery>> {
    let mut deliveries = Vec::new();
    while let Some(message) = channel.basic_get(queue.clone(), BasicGetOptions { no_ack: true }).await? {
        deliveries.push(message.delivery);
    }
    Ok(deliveries)
}

/// Waits until so many messages are ready in the queue.
///
/// A broker may count before it has worked off what was published without a confirm, so one look is not enough.
pub(crate) async fn wait_for_ready(channel: &Channel, queue: &ShortString, count: u32) -> Result<()> {
    let mut ready = 0;
    for _ in 0..500 {
        ready = passive(channel, queue).await?.message_count();
        if ready == count {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{queue} holds {ready} ready messages instead of {count}");
}

pub(crate) async fn passive(channel: &Channel, queue: &ShortString) -> Result<lapin::Queue> {
    let options = QueueDeclareOptions::default().passive();
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await
}

/// Checks that the broker refused, with this reply code and with a text that contains this.
#[track_caller]
pub(crate) fn assert_refused<T>(result: Result<T>, code: u16, text: &str) {
    let Err(error) = result else { panic!("expected {code} {text}, but the broker agreed") };
    let ErrorKind::ProtocolError(error) = error.kind() else { panic!("expected {code} {text}, got: {error}") };
    assert_eq!(error.get_id(), code, "{error}");
    assert!(error.get_message().as_str().contains(text), "expected {text}, got: {error}");
}

/// Runs a command that the runner gives in the environment; false if it gives none.
pub(crate) fn from_runner(variable: &str, arguments: &[&str]) -> bool {
    let given = env::var(variable).unwrap_or_default();
    let mut words = given.split_whitespace();
    let Some(program) = words.next() else { return false };
    let mut command = Command::new(program);
    command.args(words).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().unwrap_or_else(|cause| panic!("{variable}: {cause}"));
    assert!(status.success(), "{variable} {arguments:?}: {status}");
    true
}
