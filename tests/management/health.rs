//! Health checks, as probes and load balancers ask them. Bodies and codes are those that RabbitMQ 3.10 answered.

use lapin::options::{BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use leveret::config::Limit;
use leveret::{Broker, Config, DataDir, ManagementConfig};
use serde_json::{Value, json};

use crate::support::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_node_says_so_in_rabbitmqs_words() {
    let server = Server::start().await;
    let port = server.broker.amqp_addr().port();
    for (path, body) in [
        ("health/checks/alarms".to_owned(), json!({"status": "ok"})),
        ("health/checks/local-alarms".to_owned(), json!({"status": "ok"})),
        ("health/checks/node-is-quorum-critical".to_owned(), json!({"status": "ok", "reason": "single node cluster"})),
        (format!("health/checks/port-listener/{port}"), json!({"status": "ok", "port": port})),
        ("health/checks/protocol-listener/amqp091".to_owned(), json!({"status": "ok", "protocol": "amqp"})),
        ("health/checks/virtual-hosts".to_owned(), json!({"status": "ok"})),
        ("health/checks/certificate-expiration/1/days".to_owned(), json!({"status": "ok"})),
        ("health/checks/reached-target-cluster-size".to_owned(), json!({"status": "ok"})),
        ("health/checks/ready-to-serve-clients".to_owned(), json!({"status": "ok"})),
        ("health/checks/is-in-service".to_owned(), json!({"status": "ok"})),
        ("health/checks/below-node-connection-limit".to_owned(), json!({"status": "ok"})),
        ("health/checks/metadata-store/initialized".to_owned(), json!({"status": "ok"})),
        ("health/checks/queue-age/60".to_owned(), json!({"status": "ok"})),
        ("health/checks/stalled-queues".to_owned(), json!({"status": "ok"})),
        ("aliveness-test/%2F".to_owned(), json!({"status": "ok"})),
    ] {
        assert_eq!(server.json(&format!("/api/{path}")).await, body, "{path}");
    }
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_and_what_is_no_question_are_told_apart() {
    let server = Server::start().await;
    for (path, status, reason) in [
        ("health/checks/port-listener/1", 503, "No active listener"),
        ("health/checks/port-listener/99999", 503, "No active listener"),
        ("health/checks/port-listener/abc", 400, "Invalid port"),
        ("health/checks/protocol-listener/mqtt", 503, "No active listener"),
        (
            "health/checks/certificate-expiration/1/foo",
            400,
            "Time unit not recognised. Supported units: days, weeks, months, years.",
        ),
        ("health/checks/certificate-expiration/x/days", 400, "Invalid expiration value."),
        ("aliveness-test/nope", 404, "Not Found"),
        ("health/checks", 404, "Not Found"),
    ] {
        let answer = server.get(&format!("/api/{path}")).await;
        assert_eq!((answer.status, &answer.json()["reason"]), (status, &json!(reason)), "{path}");
    }
    assert_eq!(server.get_as("", "", "/api/health/checks/alarms").await.status, 401);
    assert_eq!(server.get_as("", "", "/api/health/checks/reached-target-cluster-size").await.status, 200);
    server.broker.shutdown().await;
}

/// What 3.10.8 said with both alarms in effect.
#[tokio::test(flavor = "multi_thread")]
async fn alarms_are_named_as_by_rabbitmq() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config { management: ManagementConfig::for_tests(), ..Config::for_tests() };
    config.data_dir = DataDir::Path(directory.path().to_owned());
    config.resource_limits.memory = Limit::Octets(0);
    config.resource_limits.disk_free = Limit::Octets(u64::MAX);
    let broker = Broker::start(config).await.expect("a broker");
    let address = broker.management_addr().expect("a management API");
    let server = Server { broker, address };
    let node = server.json("/api/overview").await["node"].as_str().expect("a name").to_owned();
    for (path, reason) in [("alarms", "in the cluster"), ("local-alarms", "on the node")] {
        let expected = json!({
            "status": "failed", "reason": format!("There are alarms in effect {reason}"),
            "alarms": [{"node": node, "resource": "disk space"}, {"node": node, "resource": "memory"}],
        });
        assert_eq!(check(&server, path).await, (503, expected));
    }
    let answer = server.get("/api/healthchecks/node").await;
    let listed = format!("[{{resource_limit,disk,{node}}},{{resource_limit,memory,{node}}}]");
    let expected = json!({"status": "failed", "reason": format!("resource alarm(s) in effect:{listed}")});
    assert_eq!((answer.status, answer.json()), (503, expected));
    assert_eq!(check(&server, "virtual-hosts").await, (200, json!({"status": "ok"})));
    server.broker.set_memory_limit(Limit::Octets(u64::MAX));
    server.broker.set_disk_free_limit(Limit::Octets(0));
    assert_eq!(check(&server, "alarms").await, (200, json!({"status": "ok"})));
    server.broker.shutdown().await;
}

async fn check(server: &Server, path: &str) -> (u16, Value) {
    let answer = server.get(&format!("/api/health/checks/{path}")).await;
    (answer.status, answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn old_messages_and_queues_that_do_not_move_are_named() {
    let server = Server::start().await;
    let client =
        Connection::connect(&server.broker.amqp_url(), ConnectionProperties::default()).await.expect("connected");
    let channel = client.create_channel().await.expect("a channel");
    let declare = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("jobs".into(), declare, FieldTable::default()).await.expect("declared");
    channel.basic_qos(1, BasicQosOptions::default()).await.expect("set");
    let consume = BasicConsumeOptions::default();
    let _consumer =
        channel.basic_consume("jobs".into(), "slow".into(), consume, FieldTable::default()).await.expect("consumes");
    for _ in 0..2 {
        let publish = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), "jobs".into(), publish, b"m", BasicProperties::default()).await;
        sent.expect("sent");
    }
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let (status, body) = check(&server, "queue-age/1").await;
    assert_eq!((status, &body["queues"][0]["name"]), (503, &json!("jobs")), "{body}");
    assert_eq!(check(&server, "queue-age/60").await.0, 200);
    assert_eq!(check(&server, "queue-age/1/vhost/%2F/pattern/%5Ejob").await.0, 503);
    assert_eq!(check(&server, "queue-age/1/pattern/%5Eother").await.0, 200);
    assert_eq!(check(&server, "queue-age/x").await.0, 400);
    let (status, body) = check(&server, "stalled-queues/1").await;
    assert_eq!((status, &body["queues"][0]["stall"]["reason"]), (503, &json!("all_at_prefetch")), "{body}");
    assert_eq!(body["queues"][0]["stall"]["holders"][0]["consumer_tag"], "slow");
    server.broker.shutdown().await;
}
