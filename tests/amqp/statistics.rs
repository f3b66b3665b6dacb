//! What the broker counts, as operators see it: names, meanings and rates are RabbitMQ's.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use leveret_protocol::basic;
use serde_json::{Value, json};

use crate::support::{
    Client, TunedBroker, consume, exclusive, int, long, mandatory, no_properties, persistent, s, table, wait_until,
};

/// A broker with a control socket that works out rates often.
struct Watched {
    broker: TunedBroker,
    dir: tempfile::TempDir,
}

impl Watched {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control");
        let broker = TunedBroker::start(|config| {
            config.control_socket = leveret::ControlSocket::Path(path);
            config.statistics_interval = Duration::from_millis(200);
        });
        Self { broker, dir }
    }

    fn open(&self) -> Client {
        self.broker.open()
    }

    #[track_caller]
    fn ask(&self, request: &Value) -> Value {
        let answer = self.tell(request);
        assert!(!answer.is_null(), "{request}");
        answer
    }

    #[track_caller]
    fn tell(&self, request: &Value) -> Value {
        let mut socket = UnixStream::connect(self.dir.path().join("control")).expect("the socket is open");
        writeln!(socket, "{}", json!({"v": 1, "request": request})).expect("the request is taken");
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).expect("an answer");
        let mut answer: Value = serde_json::from_str(&line).expect("JSON");
        assert!(answer.get("ok").is_some(), "{request}: {line}");
        answer["ok"].take()
    }

    #[track_caller]
    fn listed(&self, request: &Value, key: &str, value: &str) -> Value {
        let all = self.ask(request);
        let all = all.as_array().expect("a listing");
        all.iter().find(|row| row[key] == value).unwrap_or_else(|| panic!("no {value} in {all:?}")).clone()
    }

    #[track_caller]
    fn queue(&self, name: &str) -> Value {
        self.listed(&json!({"queues": {"list": {"vhost": "/"}}}), "name", name)
    }

    #[track_caller]
    fn exchange(&self, name: &str) -> Value {
        self.listed(&json!({"topology": {"exchanges": {"vhost": "/"}}}), "name", name)
    }

    #[track_caller]
    fn totals(&self) -> Value {
        self.ask(&json!({"node": "totals"}))
    }
}

/// Picks fields of a record.
fn of<const N: usize>(record: &Value, names: [&str; N]) -> [Value; N] {
    names.map(|name| record[name].clone())
}

#[test]
fn deliveries_gets_and_acks_are_counted_for_their_queue_and_for_all() {
    let watched = Watched::start();
    let mut client = watched.open();
    let queue = client.temporary_queue(1);
    assert_eq!(watched.queue(&queue)["message_stats"], Value::Null, "nothing has happened yet");
    client.fill(1, &queue, &["a", "b", "c", "d", "e"]);
    client.get(1, &queue);
    client.try_get(1, &queue, true).expect("there is one");
    client.nack(1, 1, true);
    client.consume(1, &queue);
    let again = client.expect_deliver(1);
    assert!(again.redelivered);
    client.expect_deliveries(1, &["c", "d", "e"]);
    client.ack_multiple(1, 5);
    client.barrier(1);
    client.expect_empty(1, &queue);
    let names =
        ["publish", "deliver", "deliver_no_ack", "get", "get_no_ack", "get_empty", "redeliver", "ack", "deliver_get"];
    let expected = [5, 4, 0, 1, 1, 1, 1, 3, 6].map(Value::from);
    let stats = &watched.queue(&queue)["message_stats"];
    assert_eq!(of(stats, names), expected, "{stats}");
    let totals = watched.totals();
    assert_eq!(of(&totals["message_stats"], names), expected, "{totals}");
    assert_eq!(totals["queue_totals"]["messages"], 1);
    assert_eq!(totals["object_totals"]["consumers"], 1);
    let vhost = watched.ask(&json!({"vhosts": {"figures": {"name": "/"}}}));
    assert_eq!(of(&vhost["message_stats"], names), expected, "{vhost}");
    assert_eq!(vhost["messages"], 1);
    assert!(vhost["recv_oct"].as_u64() > Some(100), "{vhost}");
}

#[test]
fn a_channel_and_an_exchange_count_what_is_published() {
    let watched = Watched::start();
    let mut client = watched.open();
    let exchange = client.temporary_exchange(1, "fanout");
    let (one, other) = (client.temporary_queue(1), client.temporary_queue(1));
    assert_eq!(watched.exchange(&exchange)["message_stats"], Value::Null);
    client.select_confirms(1);
    client.publish(1, &exchange, "k", "dropped");
    client.expect_confirms(1, 1..=1);
    client.send_content(1, mandatory(&exchange, "k"), &no_properties(), b"returned");
    client.expect_return(1);
    client.expect_confirms(1, 2..=2);
    client.bind(1, &one, &exchange, "");
    client.bind(1, &other, &exchange, "");
    for _ in 0..3 {
        client.publish_with(1, &exchange, "k", &persistent(), "routed");
    }
    client.expect_confirms(1, 3..=5);
    client.barrier(1);
    let stats = &watched.exchange(&exchange)["message_stats"];
    assert_eq!(of(stats, ["publish_in", "publish_out"]), [5, 6].map(Value::from));
    let names = ["publish", "confirm", "return_unroutable", "drop_unroutable"];
    let expected = [5, 5, 1, 1].map(Value::from);
    let channel = &watched.ask(&json!({"connections": "channels"}))[0];
    assert_eq!(of(&channel["message_stats"], names), expected, "{channel}");
    assert_eq!(of(&watched.totals()["message_stats"], names), expected);
    client.delete_exchange(1, &exchange);
    client.barrier(1);
    assert_eq!(of(&watched.totals()["message_stats"], names), expected, "what happened stays");
}

#[test]
fn rates_follow_what_happens_and_end() {
    let watched = Watched::start();
    let mut client = watched.open();
    let queue = client.temporary_queue(1);
    wait_until("a rate of publishes", || {
        client.fill(1, &queue, &["m"; 50]);
        client.purge(1, &queue);
        let queue = watched.queue(&queue);
        queue["message_stats"]["publish_details"]["rate"].as_f64().expect("a number") > 1.0
    });
    wait_until("the end of the rate", || {
        let stats = &watched.queue(&queue)["message_stats"];
        stats["publish_details"]["rate"] == 0.0
    });
    let churn = watched.totals()["churn_rates"].clone();
    assert_eq!(of(&churn, ["connection_created", "channel_created", "queue_created"]), [1, 1, 1].map(Value::from));
}

#[test]
fn what_comes_and_goes_is_counted_and_totals_forget_what_is_gone() {
    let watched = Watched::start();
    let mut client = watched.open();
    let queue = client.temporary_queue(1);
    client.declare(1, exclusive(&queue));
    client.fill(1, &queue, &["a", "b"]);
    client.get(1, &queue);
    let mut other = watched.open();
    other.open_channel(2);
    let others = other.temporary_queue(1);
    other.consume(2, &others);
    let totals = watched.totals();
    assert_eq!(
        of(&totals["queue_totals"], ["messages", "messages_ready", "messages_unacknowledged"]),
        [2, 1, 1].map(Value::from)
    );
    assert_eq!(
        of(&totals["object_totals"], ["connections", "channels", "queues", "consumers"]),
        [2, 3, 2, 1].map(Value::from)
    );
    other.close();
    client.delete_queue(1, &queue);
    wait_until("the end of the other connection", || watched.totals()["object_totals"]["connections"] == 1);
    let totals = watched.totals();
    assert_eq!(of(&totals["queue_totals"], ["messages", "messages_ready"]), [0, 0].map(Value::from));
    assert_eq!(of(&totals["object_totals"], ["channels", "queues", "consumers"]), [1, 0, 0].map(Value::from));
    let names = ["queue_declared", "queue_created", "queue_deleted", "channel_created", "channel_closed"];
    assert_eq!(of(&totals["churn_rates"], names), [3, 2, 2, 3, 2].map(Value::from));
    assert_eq!(totals["message_stats"]["publish"], 2);
}

#[test]
fn a_queue_tells_why_it_does_not_move() {
    let watched = Watched::start();
    let mut client = watched.open();
    let queue = client.temporary_queue(1);
    assert_eq!(watched.queue(&queue)["stall"], Value::Null);
    client.fill(1, &queue, &["a", "b", "c"]);
    let told = watched.queue(&queue);
    assert_eq!(told["stall"]["reason"], "no_consumers");
    assert!(told["oldest_message_age_ms"].is_u64() && told["oldest_unacked_age_ms"].is_null(), "{told}");
    client.qos(1, 2, false);
    client.consume_with(1, basic::Consume { consumer_tag: s("slow"), ..consume(&queue) });
    client.expect_deliveries(1, &["a", "b"]);
    wait_until("some age", || watched.queue(&queue)["oldest_unacked_age_ms"].as_u64() > Some(20));
    let told = watched.queue(&queue);
    let stall = &told["stall"];
    assert_eq!(stall["reason"], "all_at_prefetch", "{told}");
    let holder = &stall["holders"][0];
    let names = ["consumer_tag", "channel", "unacked", "prefetch_count", "held_by"];
    assert_eq!(of(holder, names), [json!("slow"), json!(1), json!(2), json!(2), json!("prefetch")], "{told}");
    assert!(holder["silent_ms"].as_u64() >= Some(20), "{told}");
    let stalled = watched.ask(&json!({"queues": {"stalled": {"vhost": "/", "for_ms": 10}}}));
    assert_eq!((&stalled[0]["name"], &stalled[0]["stall"]["reason"]), (&json!(queue), &json!("all_at_prefetch")));
    let old = |older_than_ms| {
        let asked = json!({"queues": {"old": {"vhost": null, "older_than_ms": older_than_ms}}});
        watched.ask(&asked)[0]["name"].clone()
    };
    assert_eq!((old(10), old(60_000)), (json!(queue), Value::Null));
    client.ack_multiple(1, 2);
    client.expect_deliveries(1, &["c"]);
    let told = watched.queue(&queue);
    assert_eq!((&told["stall"], &told["oldest_message_age_ms"]), (&Value::Null, &Value::Null), "{told}");
}

#[test]
fn a_single_active_consumer_that_holds_everybody_up_is_named() {
    let watched = Watched::start();
    let mut client = watched.open();
    let queue = client
        .temporary_queue_with(1, table([("x-single-active-consumer", leveret_protocol::FieldValue::Boolean(true))]));
    client.qos(1, 1, false);
    for tag in ["active", "waiting"] {
        client.consume_with(1, basic::Consume { consumer_tag: s(tag), ..consume(&queue) });
    }
    client.enqueue(1, &queue, &["a", "b"]);
    client.expect_deliveries(1, &["a"]);
    wait_until("the stall", || watched.queue(&queue)["stall"]["reason"] == "single_active_idle");
    let told = watched.queue(&queue);
    assert_eq!(told["stall"]["holders"][0]["consumer_tag"], "active");
    assert_eq!(told["stall"]["holders"].as_array().map(Vec::len), Some(1));
}

#[test]
fn deaths_are_told_by_reason_and_the_head_tells_its_own_time() {
    let watched = Watched::start();
    let mut client = watched.open();
    let dead = client.temporary_queue(1);
    let queue = client.temporary_queue_with(
        1,
        table([
            ("x-max-length", int(2)),
            ("x-dead-letter-exchange", long("")),
            ("x-dead-letter-routing-key", long(&dead)),
        ]),
    );
    let stamped = leveret_protocol::BasicProperties { timestamp: Some(1_700_000_000), ..no_properties() };
    for body in ["a", "b", "c"] {
        client.publish_with(1, "", &queue, &stamped, body);
    }
    client.wait_ready(1, &dead, 1);
    assert_eq!(watched.queue(&queue)["head_message_timestamp"], 1_700_000_000);
    let got = client.get(1, &queue);
    client.reject(1, got.delivery_tag.get(), false);
    client.wait_ready(1, &dead, 2);
    let deaths = &watched.queue(&queue)["deaths"];
    assert_eq!(of(deaths, ["maxlen", "rejected", "expired", "dead_lettered"]), [1, 1, 0, 2].map(Value::from));
}

#[test]
fn a_drained_node_delivers_nothing_waits_for_acks_and_takes_nobody() {
    let watched = Watched::start();
    let mut client = watched.open();
    let queue = client.temporary_queue(1);
    client.fill(1, &queue, &["a", "b", "c"]);
    client.qos(1, 1, false);
    client.consume(1, &queue);
    client.expect_deliveries(1, &["a"]);
    let status = || watched.ask(&json!({"node": "status"}));
    std::thread::scope(|threads| {
        let drained = threads.spawn(|| watched.ask(&json!({"node": {"drain": {"patience_ms": 20_000}}})));
        wait_until("the drain", || status()["draining"] == true);
        assert_eq!(watched.queue(&queue)["stall"]["reason"], "paused");
        client.ack(1, 1);
        client.expect_connection_close_code(320);
        client.send(0, leveret_protocol::connection::CloseOk);
        let drained = drained.join().expect("the drain ends");
        assert_eq!(of(&drained, ["unacked", "connections"]), [0, 1].map(Value::from));
    });
    let mut refused = watched.broker.options().raw();
    assert!(refused.is_closed_within(Duration::from_secs(10)));
    watched.tell(&json!({"node": "revive"}));
    assert_eq!(status()["draining"], false);
    let mut client = watched.open();
    let queue = client.temporary_queue(1);
    client.consume(1, &queue);
    client.publish(1, "", &queue, "again");
    client.expect_deliveries(1, &["again"]);
}

#[test]
fn the_age_of_messages_is_known_after_a_restart_without_reading_them_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let start = || {
        let (path, data) = (dir.path().join("control"), dir.path().join("data"));
        TunedBroker::start(|config| {
            config.control_socket = leveret::ControlSocket::Path(path);
            config.statistics_interval = Duration::from_millis(100);
            config.data_dir = leveret::DataDir::Path(data);
        })
    };
    let broker = start();
    let mut client = broker.open();
    client.select_confirms(1);
    let declare = leveret_protocol::queue::Declare { durable: true, exclusive: false, ..exclusive("kept") };
    client.declare(1, declare);
    for _ in 0..3 {
        client.publish_with(1, "", "kept", &persistent(), "m");
    }
    client.expect_confirms(1, 1..=3);
    client.close();
    broker.stop_in_background().join().expect("it stops");
    let watched = Watched { broker: start(), dir };
    wait_until("the age of a message on disk", || watched.queue("kept")["oldest_message_age_ms"].as_u64() > Some(20));
    let told = watched.queue("kept");
    assert_eq!(of(&told, ["messages_ready", "memory"]), [3, 0].map(Value::from), "nothing was read back: {told}");
    assert_eq!(told["stall"]["reason"], "no_consumers");
}
