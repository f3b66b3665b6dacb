//! A backup of a broker under load has everything that was confirmed before it, in order and once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use crate::broker::{Broker, done, refused, text};

const QUEUES: [&str; 3] = ["one", "two", "three"];

async fn connect(broker: &Broker) -> Connection {
    Connection::connect(&broker.uri(), ConnectionProperties::default()).await.expect("connected")
}

/// How far a publisher has come: messages of each queue that it began to send, and that were confirmed.
#[derive(Debug, Default)]
struct Progress {
    sent: AtomicU32,
    confirmed: AtomicU32,
    stop: AtomicBool,
}

/// Publishes numbers to all queues until it is told to stop.
async fn publish(channel: Channel, progress: Arc<Progress>) {
    let persistent = BasicProperties::default().with_delivery_mode(2);
    while !progress.stop.load(Ordering::Acquire) {
        let first = progress.sent.fetch_add(20, Ordering::AcqRel);
        let mut confirms = Vec::new();
        for number in first..first + 20 {
            for queue in QUEUES {
                let mut body = number.to_be_bytes().to_vec();
                body.resize(500, 1);
                let options = BasicPublishOptions::default();
                let confirm = channel.basic_publish("".into(), queue.into(), options, &body, persistent.clone());
                confirms.push(confirm.await.expect("published"));
            }
        }
        for confirm in confirms {
            assert!(confirm.await.expect("confirmed").is_ack());
        }
        progress.confirmed.store(first + 20, Ordering::Release);
    }
}

/// Takes everything out of a queue.
async fn drain(channel: &Channel, queue: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let Some(got) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.expect("an answer") {
        numbers.push(u32::from_be_bytes(got.delivery.data[..4].try_into().expect("four octets")));
    }
    numbers
}

#[tokio::test]
async fn a_backup_under_load_has_everything_that_was_confirmed_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, copy, file) = (dir.path().join("data"), dir.path().join("copy"), dir.path().join("backup"));
    let broker = Broker::start(&data);
    let connection = connect(&broker).await;
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    for queue in QUEUES {
        let declared = channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), FieldTable::default());
        declared.await.expect("declared");
    }
    let progress = Arc::new(Progress::default());
    let publisher = tokio::spawn(publish(channel, progress.clone()));
    while progress.confirmed.load(Ordering::Acquire) < 400 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let before = progress.confirmed.load(Ordering::Acquire);
    let arguments = ["backup".to_owned(), text(&file).to_owned(), format!("--data-dir={}", data.display())];
    let backup = tokio::task::spawn_blocking(move || done(&arguments.each_ref().map(String::as_str)));
    let written = backup.await.expect("it ends");
    let after = progress.sent.load(Ordering::Acquire);
    assert!(written.starts_with(&format!("{}: ", file.display())), "{written}");
    // Nobody waited for it.
    while progress.confirmed.load(Ordering::Acquire) < after + 100 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let data_dir = format!("--data-dir={}", data.display());
    let again = refused(&["backup", text(&file), &data_dir]);
    assert!(again.contains("is there already"), "{again}");
    let running = refused(&["restore", text(&file), &data_dir, "--force"]);
    assert!(running.contains("a broker uses"), "{running}");
    assert!(refused(&["verify", text(&data)]).contains("a broker uses"));
    progress.stop.store(true, Ordering::Release);
    publisher.await.expect("it ends well");
    drop(broker);
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 3, "nothing else is left behind");

    let verified = done(&["verify", text(&file)]);
    assert!(verified.contains(" batches with "), "{verified}");
    let restored = done(&["restore", text(&file), "--data-dir", text(&copy)]);
    assert!(restored.contains(verified.trim_end()), "{restored}");
    let broker = Broker::start(&copy);
    let connection = connect(&broker).await;
    let channel = connection.create_channel().await.expect("a channel");
    for queue in QUEUES {
        let numbers = drain(&channel, queue).await;
        let count = u32::try_from(numbers.len()).expect("few");
        assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "{queue}");
        assert!((before..=after).contains(&count), "{queue}: {count} of {before} to {after}");
    }
    connection.close(200, "OK".into()).await.expect("closed");
    broker.stop(&copy);
    assert!(done(&["verify", text(&copy)]).contains("0 batches with 0 messages"));
}
