//! Commands that the recording cannot show: what they change, and what clients see of it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use crate::broker::{Broker, ran};

/// A connection of a client library.
async fn connect(broker: &Broker) -> Connection {
    let url = format!("amqp://127.0.0.1:{}", broker.port());
    Connection::connect(&url, ConnectionProperties::default()).await.expect("connected")
}

async fn queue_with_messages(connection: &Connection, name: &str, count: usize) -> lapin::Channel {
    let channel = connection.create_channel().await.expect("a channel");
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), durable, FieldTable::default()).await.expect("declared");
    for _ in 0..count {
        let options = BasicPublishOptions::default();
        channel.basic_publish("".into(), name.into(), options, b"abc", BasicProperties::default()).await.expect("sent");
    }
    // The answer to a further method says that the publishes before it have been looked at.
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), passive, FieldTable::default()).await.expect("there");
    channel
}

fn listed(broker: &Broker, arguments: &[&str]) -> Value {
    let out = broker.ctl(&[arguments, &["--formatter=json"]].concat());
    serde_json::from_str(&out).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_listed_purged_and_deleted() {
    let broker = Broker::start();
    let connection = connect(&broker).await;
    let channel = queue_with_messages(&connection, "orders", 3).await;
    let columns = ["name", "durable", "messages", "message_bytes", "consumers", "type", "state", "policy"];
    let expected = json!([{"name": "orders", "durable": true, "messages": 3, "message_bytes": 9, "consumers": 0,
        "type": "classic", "state": "running", "policy": ""}]);
    assert_eq!(listed(&broker, &[&["list_queues"], &columns[..]].concat()), expected);
    assert_eq!(broker.ctl(&["list_queues"]), "name\tmessages\norders\t3\n");
    assert_eq!(broker.ctl(&["list_queues", "--offline"]), "");
    broker.ctl(&["set_policy", "few", "^ord", r#"{"max-length": 2}"#]);
    assert_eq!(broker.ctl(&["list_queues", "name,policy,messages"]), "name\tpolicy\tmessages\norders\tfew\t2\n");
    broker.ctl(&["purge_queue", "orders"]);
    assert_eq!(broker.ctl(&["-s", "list_queues"]), "orders\t0\n");
    let consume = BasicConsumeOptions::default();
    let _consumer =
        channel.basic_consume("orders".into(), "tag".into(), consume, FieldTable::default()).await.expect("consuming");
    let consumers = listed(&broker, &["list_consumers", "queue_name", "consumer_tag", "ack_required", "active"]);
    assert_eq!(
        consumers,
        json!([{"queue_name": "orders", "consumer_tag": "tag", "ack_required": true, "active": true}])
    );
    let kept = broker.run("rabbitmqctl", &["-q", "delete_queue", "orders", "--if-unused"]);
    assert_eq!((kept.code, kept.err.as_str()), (64, "Error:\nQueue is in use\n"));
    assert_eq!(broker.ctl(&["delete_queue", "orders"]), "Queue was successfully deleted with 0 ready messages\n");
    assert_eq!(broker.ctl(&["list_queues"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_listed_with_its_channels_and_closed_with_a_reason() {
    let broker = Broker::start();
    let connection = connect(&broker).await;
    let _channel = queue_with_messages(&connection, "q", 1).await;
    let connections = listed(&broker, &["list_connections", "pid", "user", "vhost", "state", "channels", "timeout"]);
    let pid = connections[0]["pid"].as_str().expect("a pid").to_owned();
    assert_eq!(connections[0]["user"], "guest");
    assert_eq!((&connections[0]["vhost"], &connections[0]["channels"]), (&json!("/"), &json!(1)));
    let channels = listed(&broker, &["list_channels", "connection", "number", "consumer_count", "confirm"]);
    assert_eq!(channels, json!([{"connection": pid, "number": 1, "consumer_count": 0, "confirm": false}]));

    let mut events = connection.events_listener();
    broker.ctl(&["close_connection", &pid, "maintenance"]);
    let told = async {
        while let Some(event) = events.next().await {
            if let lapin::Event::Error(error) = event {
                return error.to_string();
            }
        }
        String::new()
    };
    let told = tokio::time::timeout(Duration::from_secs(20), told).await.expect("the client is told");
    assert!(told.contains("CONNECTION_FORCED - maintenance"), "{told}");
    let missing = broker.run("rabbitmqctl", &["-q", "close_connection", "<no@such.1.1.0>", "why"]);
    assert_eq!(missing.code, 69);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_can_do_what_it_is_given() {
    let broker = Broker::start();
    broker.ctl(&["add_vhost", "shop", "--description", "orders", "--tags", "a,b", "--default-queue-type", "quorum"]);
    broker.ctl(&["add_user", "ada", "secret"]);
    let url = format!("amqp://ada:secret@127.0.0.1:{}/shop", broker.port());
    assert!(Connection::connect(&url, ConnectionProperties::default()).await.is_err(), "it may not enter yet");
    broker.ctl(&["set_permissions", "-p", "shop", "ada", "^orders", "", ".*"]);
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("it may enter");
    let channel = connection.create_channel().await.expect("a channel");
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("orders".into(), durable, FieldTable::default()).await.expect("it may declare this");
    assert_eq!(broker.ctl(&["-s", "list_queues", "-p", "shop", "name", "type"]), "orders\tquorum\n");
    let columns = ["name", "description", "tags", "default_queue_type"];
    let vhosts = listed(&broker, &[&["list_vhosts"], &columns[..]].concat());
    assert_eq!(
        vhosts[1],
        json!({"name": "shop", "description": "orders", "tags": ["a", "b"], "default_queue_type": "quorum"})
    );
    broker.ctl(&["update_vhost_metadata", "shop", "--description", "old orders"]);
    assert_eq!(listed(&broker, &["list_vhosts", "description"])[1]["description"], "old orders");

    let authenticated = |password: &str| broker.run("rabbitmqctl", &["authenticate_user", "ada", password]).code;
    assert_eq!((authenticated("secret"), authenticated("wrong")), (0, 65));
    let hash = broker.ctl(&["hash_password", "other"]);
    broker.ctl(&["add_user", "grace", hash.trim(), "--pre-hashed-password"]);
    broker.ctl(&["authenticate_user", "grace", "other"]);
    let mut child = broker.command("rabbitmqctl");
    let mut child = child.args(["-q", "change_password", "ada"]).stdin(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("piped").write_all(b"from stdin\n").expect("written");
    assert!(child.wait().expect("ended").success());
    assert_eq!((authenticated("from stdin"), authenticated("secret")), (0, 65));
    let users = broker.ctl(&["list_users"]);
    assert_eq!(users, "user\ttags\nada\t[]\ngrace\t[]\nguest\t[administrator]\n");
}

#[test]
fn the_broker_is_stopped_and_what_was_made_is_there_after_a_start() {
    let mut broker = Broker::start();
    broker.ctl(&["add_vhost", "kept"]);
    broker.ctl(&["add_user", "kept", "pw"]);
    broker.ctl(&["set_permissions", "-p", "kept", "kept", "a", "b", "c"]);
    broker.ctl(&["set_global_parameter", "kept", "[1, 2]"]);
    broker.ctl(&["stop"]);
    assert!(broker.wait());
    let gone = broker.run("rabbitmqctl", &["status"]);
    assert_eq!(gone.code, 69);
    assert!(gone.err.starts_with("Error: unable to perform an operation on node"), "{}", gone.err);
    assert_eq!(broker.run("rabbitmq-diagnostics", &["-q", "ping"]).code, 69);
    assert_eq!(broker.run("rabbitmqctl", &["await_startup", "-t", "0.2"]).code, 69);
    assert_eq!(broker.run("rabbitmqctl", &["stop"]).code, 69);
    broker.ctl(&["stop", "--idempotent"]);
    assert!(!broker.file("data/control.sock").exists());

    broker.start_again(&[]);
    assert_eq!(broker.ctl(&["list_permissions", "-p", "kept"]), "user\tconfigure\twrite\tread\nkept\ta\tb\tc\n");
    assert_eq!(broker.ctl(&["list_global_parameters"]), "name\tvalue\nkept\t[1,2]\n");
    let shut = broker.ctl(&["shutdown"]);
    assert!(shut.is_empty() && broker.wait());
}

#[test]
fn checks_look_at_the_listeners() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let check = |arguments: &[&str]| broker.run("rabbitmq-diagnostics", arguments);
    let connected = check(&["-q", "check_port_connectivity"]);
    assert_eq!(connected.out, format!("Successfully connected to ports {port} on node compat@localhost.\n"));
    assert_eq!(check(&["check_port_listener", &port]).code, 0);
    let deaf = check(&["-q", "check_port_listener", "1"]);
    assert_eq!(deaf.code, 69);
    assert!(deaf.err.ends_with(&format!("Found listeners that use the following ports: {port}\n")), "{}", deaf.err);
    assert_eq!(check(&["-q", "check_protocol_listener", "mqtt"]).code, 69);
    let status: Value = serde_json::from_str(&check(&["status", "--formatter=json"]).out).expect("JSON");
    assert_eq!(status["listeners"][0]["port"].to_string(), port);
    assert_eq!(status["totals"], json!({"connection_count": 0, "queue_count": 0, "virtual_host_count": 1}));
    for words in [&["status"][..], &["cluster_status"], &["environment"], &["report"], &["memory_breakdown"], &["help"]]
    {
        let said = check(words);
        assert!(said.code == 0 && said.err.is_empty() && !said.out.contains("guest:"), "{words:?}: {}", said.err);
    }
    let environment = check(&["environment"]).out;
    assert!(environment.contains("default_user = guest (default)\n"), "{environment}");
    assert!(environment.contains("listeners.tcp.1 = 127.0.0.1:0 (flag --listen)\n"), "{environment}");
    assert!(environment.contains("default_pass = ******** (default)\n"), "{environment}");
    assert_eq!(check(&["effective_config"]).out.lines().skip(1).count(), environment.lines().skip(1).count());
}

#[test]
fn limits_and_tracing_are_switched_while_the_broker_runs() {
    let broker = Broker::start();
    let check = |arguments: &[&str]| broker.run("rabbitmq-diagnostics", arguments);
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1"]);
    let alarmed = check(&["-q", "check_alarms"]);
    assert_eq!(alarmed.code, 69);
    assert!(alarmed.err.contains("Memory alarm on node compat@localhost"), "{}", alarmed.err);
    let status: Value = serde_json::from_str(&check(&["status", "--formatter=json"]).out).expect("JSON");
    assert_eq!(status["vm_memory_high_watermark_limit"], 1);
    broker.ctl(&["set_vm_memory_high_watermark", "0.9"]);
    assert_eq!(check(&["check_alarms"]).code, 0);
    broker.ctl(&["set_disk_free_limit", "900PB"]);
    assert_eq!(check(&["check_local_alarms"]).code, 69);
    broker.ctl(&["set_disk_free_limit", "1MB"]);
    assert_eq!(check(&["check_local_alarms"]).code, 0);

    assert_eq!(broker.ctl(&["trace_on"]), "Trace enabled for vhost /\n");
    assert_eq!(broker.ctl(&["-s", "list_vhosts", "name", "tracing"]), "/\ttrue\n");
    assert_eq!(broker.ctl(&["trace_off"]), "Trace disabled for vhost /\n");
    assert_eq!(broker.ctl(&["-s", "list_vhosts", "name", "tracing"]), "/\tfalse\n");
    assert_eq!(broker.run("rabbitmqctl", &["trace_on", "-p", "nowhere"]).code, 65);
}

#[test]
fn a_missing_vhost_is_an_error() {
    let broker = Broker::start();
    for listing in ["list_queues", "list_exchanges", "list_bindings", "list_consumers"] {
        let ran = broker.run("rabbitmqctl", &["-q", listing, "-p", "nowhere"]);
        assert_eq!((ran.code, ran.err.as_str()), (65, "Virtual host 'nowhere' does not exist\n"), "{listing}");
    }
}

#[test]
fn the_level_of_the_log_is_changed() {
    let broker = Broker::start();
    let told = || {
        let log = std::fs::read_to_string(broker.file("log")).expect("a log");
        log.matches("level set by an operator").count()
    };
    broker.ctl(&["set_log_level", "info"]);
    assert_eq!(told(), 1);
    broker.ctl(&["set_log_level", "error"]);
    assert_eq!(told(), 1, "an INFO is not written any more");
    broker.ctl(&["set_log_level", "debug"]);
    assert_eq!(told(), 2);
    assert_eq!(broker.run("rabbitmqctl", &["set_log_level", "loud"]).code, 69);
}

#[test]
fn built_in_plugins_can_be_enabled_and_others_cannot() {
    let broker = Broker::start();
    let plugins = |arguments: &[&str]| broker.run("rabbitmq-plugins", arguments);
    let enabled = plugins(&["-q", "enable", "rabbitmq_consistent_hash_exchange"]);
    assert!(enabled.code == 0 && enabled.out.ends_with("Plugin configuration unchanged.\n"), "{}", enabled.err);
    assert_eq!(plugins(&["-q", "is_enabled", "rabbitmq_consistent_hash_exchange"]).code, 0);
    assert_eq!(plugins(&["-q", "enable", "rabbitmq_consistent_hash_exchange", "rabbitmq_nope"]).code, 70);
    let listed = plugins(&["-q", "list", "-E", "-m", "hash"]);
    assert_eq!(listed.out, "rabbitmq_consistent_hash_exchange\n");
    // Scripts look for these before they use what they stand for.
    let served = ["rabbitmq_management", "rabbitmq_prometheus"];
    assert_eq!(plugins(&[&["-q", "is_enabled"][..], &served].concat()).code, 0);
    let status = broker.ctl(&["status"]);
    assert!(served.iter().all(|name| status.contains(&format!(" * {name}\n"))), "{status}");
}

#[test]
fn the_socket_is_its_owners_and_takes_what_comes() {
    let broker = Broker::start();
    let path = broker.file("data/control.sock");
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let ask = |line: &[u8]| {
        let mut socket = UnixStream::connect(&path).expect("connected");
        socket.write_all(line).expect("written");
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer).expect("answered");
        serde_json::from_str::<Value>(&answer).expect("JSON")
    };
    for hostile in [&b"\n"[..], b"{}\n", b"\xff\xfe\n", b"[[[[[[\n", b"{\"v\":9,\"request\":{\"node\":\"ping\"}}\n"] {
        assert_eq!(ask(hostile)["fault"]["kind"], "bad_request");
    }
    assert_eq!(ask(b"{\"v\":1,\"request\":{\"node\":\"ping\"}}\n"), json!({"v": 1, "ok": null}));
    // Several clients at once, one of which says nothing.
    let silent = UnixStream::connect(&path).expect("connected");
    assert_eq!(ask(b"{\"v\":1,\"request\":{\"node\":\"ping\"}}\n")["ok"], Value::Null);
    drop(silent);
}

#[test]
fn the_same_commands_are_there_as_leveret_ctl() {
    let broker = Broker::start();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.env_clear().args(["ctl", "-q", "--data-dir"]).arg(broker.file("data")).args(["list_users"]);
    let listed = ran(&command.output().expect("run"));
    assert_eq!((listed.code, listed.out.as_str()), (0, "user\ttags\nguest\t[administrator]\n"));
}

/// Written by `rabbitmqctl export_definitions` of RabbitMQ 3.10.8.
const EXPORTED: &str = include_str!("definitions-3.10.8.json");

#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_rabbitmq_are_taken_in_and_come_out_again() {
    let broker = Broker::start();
    let file = broker.file("in.json");
    std::fs::write(&file, EXPORTED).expect("written");
    let file = file.to_str().expect("text");
    assert_eq!(broker.ctl(&["import_definitions", file]), "");
    let mut bindings = listed(&broker, &["list_bindings", "source_name", "destination_name", "routing_key"]);
    bindings.as_array_mut().expect("rows").retain(|binding| binding["source_name"] != "");
    let expected = json!([
        {"source_name": "amq.headers", "destination_name": "ctl.q", "routing_key": ""},
        {"source_name": "ctl.x", "destination_name": "ctl.q", "routing_key": "a.#"},
        {"source_name": "ctl.x", "destination_name": "amq.topic", "routing_key": "z"},
    ]);
    assert_eq!(bindings, expected);
    assert_eq!(broker.run("rabbitmqctl", &["-q", "authenticate_user", "ctlu", "pw2"]).code, 0, "hashes are kept");
    assert_eq!(broker.ctl(&["import_definitions", file]), "", "a second time changes nothing");

    let exported: Value = serde_json::from_str(&broker.ctl(&["export_definitions", "-"])).expect("JSON");
    let original: Value = serde_json::from_str(EXPORTED).expect("JSON");
    for kind in ["queues", "bindings", "permissions", "policies", "parameters", "topic_permissions"] {
        assert_eq!(exported[kind], original[kind], "{kind}");
    }
    let out = broker.file("out.json");
    broker.ctl(&["export_definitions", out.to_str().expect("text")]);
    assert_eq!(std::fs::metadata(&out).expect("there").permissions().mode() & 0o777, 0o600);
    let other = Broker::start();
    other.ctl(&["import_definitions", out.to_str().expect("text")]);
    let moved: Value = serde_json::from_str(&other.ctl(&["export_definitions", "-"])).expect("JSON");
    assert_eq!(moved, exported);
}

#[test]
fn what_is_wrong_with_definitions_is_named() {
    let broker = Broker::start();
    let import = |text: &str| {
        let file = broker.file("wrong.json");
        std::fs::write(&file, text).expect("written");
        broker.run("rabbitmqctl", &["-q", "import_definitions", file.to_str().expect("text")])
    };
    assert_eq!(import("[]").code, 65);
    let ran = import("no json");
    assert!(ran.code == 65 && ran.err.contains("Failed to parse the definitions"), "{}", ran.err);
    let ran = import(r#"{"queues": [{"name": "q", "vhost": "none"}]}"#);
    assert!(ran.err.contains("queue 'q' in vhost 'none': Virtual host 'none' does not exist"), "{}", ran.err);
    let ran = import(r#"{"policies": [{"name": "p", "vhost": "/", "pattern": "(", "definition": {"max-length": 1}}]}"#);
    assert!(ran.code == 69 && ran.err.contains("policy 'p' in vhost '/'"), "{}", ran.err);
    let kept = import(r#"{"queues": [{"name": "q"}]}"#);
    assert_eq!((kept.code, kept.out.as_str()), (0, ""));
    let kept = import(r#"{"queues": [{"name": "q", "arguments": {"x-max-length": 1}}]}"#);
    assert!(kept.code == 0 && kept.out.ends_with("queue 'q' in vhost '/'\n"), "{}", kept.out);
}

#[test]
fn a_broker_starts_with_definitions() {
    let mut broker = Broker::start();
    broker.ctl(&["stop"]);
    assert!(broker.wait());
    let definitions = broker.file("boot.json");
    std::fs::write(&definitions, EXPORTED).expect("written");
    let config = broker.file("rabbitmq.conf");
    std::fs::write(&config, format!("load_definitions = {}\n", definitions.display())).expect("written");
    broker.start_again(&["--config", config.to_str().expect("text")]);
    assert_eq!(broker.ctl(&["-s", "list_queues"]), "ctl.q\t0\n");
    broker.ctl(&["stop"]);
    assert!(broker.wait());

    std::fs::write(&definitions, "[]").expect("written");
    broker.start_in_vain(&["--config", config.to_str().expect("text")]);
    let log = std::fs::read_to_string(broker.file("log")).expect("a log");
    assert!(log.contains("boot.json"), "{log}");
}
