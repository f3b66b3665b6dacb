//! Messages looked at, deleted, moved and sent back, and what clients see of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use crate::broker::Broker;

async fn channel(broker: &Broker) -> (Connection, Channel) {
    let url = format!("amqp://127.0.0.1:{}", broker.port());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    (connection, channel)
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

async fn declare(channel: &Channel, name: &str, arguments: FieldTable) {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), durable, arguments).await.expect("declared");
}

/// Publishes, and waits until the message is on disk.
async fn publish(channel: &Channel, exchange: &str, key: &str, body: &str, headers: FieldTable) {
    let properties =
        BasicProperties::default().with_delivery_mode(2).with_message_id(body.into()).with_headers(headers);
    let confirm = channel
        .basic_publish(exchange.into(), key.into(), BasicPublishOptions::default(), body.as_bytes(), properties)
        .await
        .expect("sent");
    assert!(confirm.await.expect("confirmed").is_ack());
}

/// Takes the next message: its body, and whether it is said to be delivered again.
async fn get(channel: &Channel, queue: &str) -> Option<(String, bool)> {
    let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.expect("an answer")?;
    Some((String::from_utf8(got.delivery.data).expect("text"), got.delivery.redelivered))
}

async fn bodies(channel: &Channel, queue: &str) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((body, _)) = get(channel, queue).await {
        all.push(body);
    }
    all
}

fn peek(broker: &Broker, arguments: &[&str]) -> Value {
    let out = broker.ctl(&[&["peek_messages", "--formatter=json"], arguments].concat());
    serde_json::from_str(&out).expect("JSON")
}

/// The values of one field of all messages.
fn column(answer: &Value, name: &str) -> Vec<Value> {
    answer["messages"].as_array().expect("messages").iter().map(|message| message[name].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_changes_nothing_and_finds_what_is_meant() {
    let broker = Broker::start();
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    for (body, tenant, n) in [("one", "a", 3), ("two", "b", 3), ("three", "a", 5)] {
        publish(&channel, "", "q", body, table([("tenant", text(tenant)), ("n", AMQPValue::LongInt(n))])).await;
    }
    let all = peek(&broker, &["q", "--body=full"]);
    assert_eq!(column(&all, "id"), ["0:0", "0:1", "0:2"]);
    assert_eq!(column(&all, "payload"), ["one", "two", "three"]);
    assert_eq!(column(&all, "state"), ["ready", "ready", "ready"]);
    assert_eq!(column(&all, "redelivered"), [false, false, false]);
    assert_eq!((&all["next"], &all["scanned"]), (&Value::Null, &json!(3)));
    assert_eq!(
        all["messages"][0]["properties"],
        json!({"delivery_mode": 2, "message_id": "one", "headers": {"tenant": "a", "n": 3}})
    );
    let of_a = peek(&broker, &["q", "--where", "header.tenant = a and header.n > 3"]);
    assert_eq!(column(&of_a, "id"), ["0:2"]);
    assert_eq!(of_a["messages"][0].get("payload"), None);
    let first = peek(&broker, &["q", "--limit=1"]);
    assert_eq!((column(&first, "id"), &first["next"]), (vec![json!("0:0")], &json!("0:1")));
    assert_eq!(column(&peek(&broker, &["q", "--from=0:1", "--body=head"]), "payload"), ["two", "three"]);
    assert_eq!(column(&peek(&broker, &["q", "--ids=0:2,0:0,0:77"]), "id"), ["0:0", "0:2"]);
    let shown = broker.ctl(&["peek_messages", "q", "--ids=0:1", "--body=full"]);
    assert!(shown.starts_with("id\tstate\texchange\trouting_key\tredelivered"), "{shown}");
    assert!(shown.contains("0:1\tready\t\tq\tfalse\t") && shown.trim_end().ends_with("\ttwo"), "{shown}");

    channel.basic_qos(1, BasicQosOptions::default()).await.expect("limited");
    let mut consumer = channel
        .basic_consume("q".into(), "worker".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .expect("consuming");
    let delivery = consumer.next().await.expect("one").expect("delivered");
    assert!(!delivery.redelivered, "nobody took it before");
    let unacked = peek(&broker, &["q", "--state=unacked"]);
    assert_eq!((column(&unacked, "id"), column(&unacked, "state")), (vec![json!("0:0")], vec![json!("unacked")]));
    let holder = &unacked["messages"][0]["holder"];
    assert_eq!((&holder["consumer_tag"], &holder["channel"]), (&json!("worker"), &json!(1)));
    assert_eq!(holder["user"], "guest");
    assert!(holder["since"].as_u64().is_some(), "{holder}");
    assert_eq!(column(&peek(&broker, &["q", "--state=ready"]), "id"), ["0:1", "0:2"]);
    delivery.ack(BasicAckOptions::default()).await.expect("sent");

    for (arguments, complaint) in [
        (&["nowhere"][..], "no queue 'nowhere' in vhost '/'"),
        (&["q", "--where", "colour = red"], "'colour' is nothing that a message has"),
        (&["q", "--ids=first"], "'first' is no message id"),
        (&["q", "--from=9/0:0"], "the cursor belongs to another queue"),
    ] {
        let refused = broker.run("rabbitmqctl", &[&["-q", "peek_messages"], arguments].concat());
        assert!(refused.code == 69 && refused.err.contains(complaint), "{arguments:?}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_only_the_disk_has_are_seen_deleted_and_moved() {
    let mut broker = Broker::start();
    let (connection, first) = channel(&broker).await;
    declare(&first, "q", FieldTable::default()).await;
    declare(&first, "other", table([("x-queue-type", text("quorum"))])).await;
    for number in 0..300 {
        let kind = table([("kind", text(if number % 3 == 0 { "third" } else { "rest" }))]);
        publish(&first, "", "q", &format!("m{number}"), kind).await;
    }
    drop(connection);
    broker.ctl(&["stop"]);
    assert!(broker.wait());
    broker.start_again(&[]);
    // Nothing of the queue is in memory after a start.
    assert_eq!(column(&peek(&broker, &["q", "--where=message_id = m123", "--body=full"]), "payload"), ["m123"]);
    assert_eq!(broker.ctl(&["-s", "list_queues", "name", "memory"]).lines().nth(1), Some("q\t0"));
    let deleted = broker.ctl(&["delete_messages", "q", "--where", "header.kind = third", "--limit=50"]);
    assert_eq!(deleted, "50 messages deleted\n");
    let deleted = broker.ctl(&["delete_messages", "q", "--ids=0:0,0:1,0:2"]);
    assert_eq!(deleted, "2 messages deleted\n0:0: no ready message\n");
    let moved = broker.ctl(&["move_messages", "q", "--where=header.kind = third", "--to-queue=other"]);
    assert_eq!(moved, "50 messages moved\n");
    let nothing = broker.run("rabbitmqctl", &["-q", "delete_messages", "q"]);
    assert!(nothing.code == 69 && nothing.err.contains("which messages?"), "{nothing:?}");
    let refused = broker.run("rabbitmqctl", &["-q", "move_messages", "q", "--all", "--to-exchange=nowhere"]);
    assert!(refused.code == 69 && refused.err.contains("no exchange 'nowhere'"), "{refused:?}");
    let stays = broker.ctl(&["move_messages", "q", "--ids=0:4", "--to-exchange=amq.direct", "--routing-key=unbound"]);
    assert_eq!(stays, "0 messages moved, 1 stay where they are\n0:4: no queue would get it\n");
    assert_eq!(broker.ctl(&["-s", "list_queues", "name", "messages"]), "other\t50\nq\t198\n");

    broker.ctl(&["stop"]);
    assert!(broker.wait());
    broker.start_again(&[]);
    let (_connection, second) = channel(&broker).await;
    let expected: Vec<_> = (3..300).filter(|number| number % 3 != 0).map(|number| format!("m{number}")).collect();
    assert_eq!(bodies(&second, "q").await, expected);
    let expected: Vec<_> = (150..300).filter(|number| number % 3 == 0).map(|number| format!("m{number}")).collect();
    assert_eq!(bodies(&second, "other").await, expected);
}

/// A queue with messages that died in another.
async fn dead_letters(channel: &Channel, count: usize) {
    declare(channel, "dead", FieldTable::default()).await;
    let arguments = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))];
    declare(channel, "work", table(arguments)).await;
    channel
        .queue_bind(
            "work".into(),
            "amq.topic".into(),
            "orders.#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("bound");
    for number in 0..count {
        let tenant = table([("tenant", text(if number % 2 == 0 { "even" } else { "odd" }))]);
        publish(channel, "amq.topic", "orders.new", &number.to_string(), tenant).await;
        let got = channel.basic_get("work".into(), BasicGetOptions::default()).await.expect("an answer").expect("one");
        got.delivery.nack(BasicNackOptions { requeue: false, ..BasicNackOptions::default() }).await.expect("sent");
    }
    // The answer to a further method says that the last one has died.
    declare(channel, "dead", FieldTable::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_back_to_where_they_came_from() {
    let broker = Broker::start();
    let (_connection, channel) = channel(&broker).await;
    dead_letters(&channel, 20).await;
    let only = ["--where", "x-death.reason = rejected and header.tenant = even"];
    let dry = broker.ctl(&[&["redrive", "dead", "--dry-run"], &only[..]].concat());
    assert_eq!(dry, "Redrive 1 is done: 10 messages would be moved\nwork\t10\n");
    assert_eq!(broker.ctl(&["-s", "list_queues", "name", "messages"]), "dead\t20\nwork\t0\n");
    let moved = broker.ctl(&[&["redrive", "dead", "--limit=4"], &only[..]].concat());
    assert_eq!(moved, "Redrive 2 is done: 4 messages moved\nwork\t4\n");
    let back = peek(&broker, &["work"]);
    assert_eq!(column(&back, "routing_key"), ["orders.new"; 4]);
    assert_eq!(column(&back, "exchange"), ["amq.topic"; 4]);
    assert_eq!(back["messages"][0]["properties"]["headers"], json!({"tenant": "even", "x-redrive-count": 1}));
    assert_eq!(bodies(&channel, "work").await, ["0", "2", "4", "6"]);

    // The rest, slowly: it can be stopped half-way.
    let started = broker.ctl(&["redrive", "dead", "--rate=20", "--no-wait"]);
    assert_eq!(started, "Redrive 3 runs\n");
    let again = broker.run("rabbitmqctl", &["-q", "redrive", "dead"]);
    assert!(again.code == 70 && again.err.contains("redrive 3 of queue 'dead' is running"), "{again:?}");
    let listed: Value = serde_json::from_str(&broker.ctl(&["list_redrives", "--formatter=json"])).expect("JSON");
    assert_eq!(
        (&listed[2]["id"], &listed[2]["queue"], &listed[2]["to"]),
        (&json!(3), &json!("dead"), &json!("\"source\""))
    );
    let ended = broker.ctl(&["cancel_redrive", "3"]);
    assert!(ended.starts_with("Redrive 3 is cancelled: "), "{ended}");
    let moved = broker.ctl(&["redrive", "dead", "--keep-headers", "--to-exchange=amq.topic"]);
    assert!(moved.starts_with("Redrive 4 is done: "), "{moved}");
    assert_eq!(broker.ctl(&["-s", "list_queues", "name", "messages"]), "dead\t0\nwork\t16\n");
    let kept = peek(&broker, &["work", "--where=x-death exists"]);
    assert!(column(&kept, "routing_key").iter().all(|key| key == "orders.new"), "{kept}");
    let mut all = bodies(&channel, "work").await;
    all.sort_by_key(|body| body.parse::<u32>().expect("a number"));
    let expected: Vec<_> =
        (0..20).filter(|number| ![0, 2, 4, 6].contains(number)).map(|number| number.to_string()).collect();
    assert_eq!(all, expected);
    let missing = broker.run("rabbitmqctl", &["-q", "cancel_redrive", "77"]);
    assert!(missing.code == 69 && missing.err.contains("no redrive 77"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_nowhere_to_go_stays_and_is_told() {
    let broker = Broker::start();
    let (_connection, channel) = channel(&broker).await;
    dead_letters(&channel, 3).await;
    publish(&channel, "", "dead", "never died", FieldTable::default()).await;
    declare(
        &channel,
        "small",
        table([("x-max-length", AMQPValue::LongInt(2)), ("x-overflow", text("reject-publish"))]),
    )
    .await;
    let told = broker.ctl(&["redrive", "dead", "--dry-run"]);
    assert!(
        told.contains("3 messages would be moved, 1 stay where they are\nwork\t3\n0:3: no queue would get it"),
        "{told}"
    );
    // A queue that is full is tried for a while.
    let told = broker.ctl(&["redrive", "dead", "--to-queue=small", "--limit=3"]);
    assert!(
        told.contains("2 messages moved, 1 stay where they are\nsmall\t2\n0:2: a queue that would get it is full"),
        "{told}"
    );
    assert_eq!(broker.ctl(&["-s", "list_queues", "name", "messages"]), "dead\t2\nsmall\t2\nwork\t0\n");
    // Into the queue itself: once round.
    assert!(broker.ctl(&["redrive", "dead", "--to-queue=dead"]).starts_with("Redrive 3 is done: 2 messages moved"));
    assert_eq!(bodies(&channel, "dead").await, ["2", "never died"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_messages_are_seen_and_cancelled_at_the_queue_they_will_go_to() {
    let broker = Broker::start();
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    declare(&channel, "p", FieldTable::default()).await;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let kind = ExchangeKind::Custom("x-delayed-message".to_owned());
    let arguments = table([("x-delayed-type", text("direct"))]);
    channel.exchange_declare("later".into(), kind, durable, arguments).await.expect("declared");
    for queue in ["q", "p"] {
        let options = QueueBindOptions::default();
        channel
            .queue_bind(queue.into(), "later".into(), queue.into(), options, FieldTable::default())
            .await
            .expect("bound");
    }
    for (queue, body) in [("q", "one"), ("p", "other"), ("q", "two")] {
        publish(&channel, "later", queue, body, table([("x-delay", AMQPValue::LongInt(3_600_000))])).await;
    }
    let waiting = peek(&broker, &["q", "--state=delayed", "--body=full"]);
    assert_eq!(column(&waiting, "payload"), ["one", "two"]);
    assert_eq!(column(&waiting, "delayed_by"), ["later", "later"]);
    let message = &waiting["messages"][0];
    let due_in = message["due_at"].as_u64().expect("due") - message["enqueued_at"].as_u64().expect("there since");
    assert_eq!(due_in, 3_600_000);
    assert_eq!(peek(&broker, &["q"])["messages"], json!([]));
    let id = message["id"].as_str().expect("an id");
    assert_eq!(broker.ctl(&["delete_messages", "q", "--state=delayed", "--ids", id]), "1 messages deleted\n");
    assert_eq!(broker.ctl(&["move_messages", "q", "--state=delayed", "--all", "--to-queue=q"]), "1 messages moved\n");
    assert_eq!(bodies(&channel, "q").await, ["two"]);
    assert_eq!(column(&peek(&broker, &["p", "--state=delayed", "--body=full"]), "payload"), ["other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_priorities_are_looked_at_too() {
    let broker = Broker::start();
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "s", table([("x-queue-type", text("stream"))])).await;
    declare(&channel, "p", table([("x-max-priority", AMQPValue::LongInt(5))])).await;
    for number in 0..5_u8 {
        publish(&channel, "", "s", &number.to_string(), FieldTable::default()).await;
        let properties = BasicProperties::default().with_priority(number);
        let options = BasicPublishOptions::default();
        let confirm = channel.basic_publish("".into(), "p".into(), options, &[number], properties).await.expect("sent");
        assert!(confirm.await.expect("confirmed").is_ack());
    }
    assert_eq!(column(&peek(&broker, &["s", "--from=0:3", "--body=full"]), "payload"), ["3", "4"]);
    assert_eq!(column(&peek(&broker, &["p"]), "id"), ["4:0", "3:0", "2:0", "1:0", "0:0"]);
    assert_eq!(column(&peek(&broker, &["p", "--from=2:0", "--limit=2"]), "id"), ["2:0", "1:0"]);
    let refused = broker.run("rabbitmqctl", &["-q", "delete_messages", "s", "--all"]);
    assert!(refused.code == 69 && refused.err.contains("messages of a stream"), "{refused:?}");
}

/// Who takes messages from a queue while they are moved out of it gets those that the move does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_and_a_consumer_share_what_is_there() {
    let broker = Broker::start();
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "dead", FieldTable::default()).await;
    declare(&channel, "work", FieldTable::default()).await;
    for number in 0..1500 {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(2));
        let body = format!("{number}");
        channel.basic_publish("".into(), "dead".into(), options, body.as_bytes(), properties).await.expect("sent");
    }
    channel.wait_for_confirms().await.expect("confirmed");
    channel.basic_qos(5, BasicQosOptions::default()).await.expect("limited");
    let mut consumer = channel
        .basic_consume("dead".into(), "taker".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .expect("consuming");
    let taking = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok(Some(delivery)) = tokio::time::timeout(std::time::Duration::from_secs(2), consumer.next()).await {
            let delivery = delivery.expect("delivered");
            assert!(!delivery.redelivered, "nothing comes back");
            delivery.ack(BasicAckOptions::default()).await.expect("sent");
            taken.push(String::from_utf8(delivery.data).expect("text"));
        }
        taken
    });
    let moved = tokio::task::block_in_place(|| broker.ctl(&["redrive", "dead", "--to-queue=work", "--formatter=json"]));
    let moved: Value = serde_json::from_str(&moved).expect("JSON");
    let mut all = taking.await.expect("it does not panic");
    let taken = all.len() as u64;
    all.extend(bodies(&channel, "work").await);
    assert_eq!(moved["moved"].as_u64().expect("a number") + taken, 1500, "{moved}");
    all.sort_by_key(|body| body.parse::<u32>().expect("a number"));
    assert_eq!(all, (0..1500).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// What a page of the broker's says.
fn fetch(broker: &Broker, protocol: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", broker.port_of(protocol))).expect("connected");
    write!(socket, "GET {path} HTTP/1.0\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n").expect("taken");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_because_it_is_damaged_is_told() {
    let mut broker = Broker::start();
    let (connection, first) = channel(&broker).await;
    declare(&first, "q", FieldTable::default()).await;
    let body = "precious ".repeat(20);
    publish(&first, "", "q", &body, FieldTable::default()).await;
    connection.close(200, "".into()).await.expect("closed");
    assert!(broker.ctl(&["status"]).contains("\nDamaged and set aside: nothing\n"));
    broker.ctl(&["stop"]);
    assert!(broker.wait());
    let file = broker.file("data/leveret.redb");
    let mut octets = std::fs::read(&file).expect("read");
    let found = octets.windows(body.len()).rposition(|window| window == body.as_bytes()).expect("it is there");
    octets[found] ^= 1;
    std::fs::write(&file, octets).expect("written");
    broker.start_again(&["--management-listen", "127.0.0.1:0", "--prometheus-listen", "127.0.0.1:0"]);
    let (_connection, second) = channel(&broker).await;
    assert_eq!(get(&second, "q").await, None);
    // The writer sets it aside, a moment later.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !broker.ctl(&["status"]).contains("\nDamaged and set aside: batches: 1, messages in them: 1\n") {
        assert!(Instant::now() < deadline, "{}", broker.ctl(&["status"]));
        std::thread::sleep(Duration::from_millis(20));
    }
    let status: Value = serde_json::from_str(&broker.ctl(&["status", "--formatter=json"])).expect("JSON");
    assert_eq!(status["damaged"], json!({"batches": 1, "messages": 1}));
    let nodes = fetch(&broker, "http", "/api/nodes");
    assert!(nodes.contains("\"storage_damaged_batches\":1,\"storage_damaged_messages\":1"), "{nodes}");
    let metrics = fetch(&broker, "http/prometheus", "/metrics");
    for series in ["rabbitmq_storage_damaged_batches 1\n", "rabbitmq_storage_damaged_messages 1\n"] {
        assert!(metrics.contains(series), "{metrics}");
    }
}
