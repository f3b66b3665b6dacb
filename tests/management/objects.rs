//! Things made, changed and deleted over HTTP.

use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};

use crate::support::{Request, Server};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_is_new_once() {
    let server = Server::start().await;
    for (path, body) in [
        ("/api/vhosts/v", json!({"description": "d", "tags": "a,b"})),
        ("/api/users/u", json!({"password": "x", "tags": "monitoring"})),
        ("/api/permissions/v/u", json!({"configure": ".*", "write": ".*", "read": ".*"})),
        ("/api/topic-permissions/v/u", json!({"exchange": "amq.topic", "write": "^a", "read": ".*"})),
        ("/api/exchanges/v/x", json!({"type": "topic", "durable": true, "arguments": {"n": 5}})),
        ("/api/queues/v/q", json!({"durable": true, "arguments": {"x-max-length": 10}})),
        ("/api/policies/v/p", json!({"pattern": "^q", "definition": {"max-length": 5}, "priority": 1})),
        ("/api/operator-policies/v/o", json!({"pattern": "^q", "definition": {"max-length": 3}})),
        ("/api/parameters/federation-upstream/v/up", json!({"value": {"uri": "amqp://there"}})),
        ("/api/global-parameters/g", json!({"value": {"k": 1}})),
    ] {
        assert_eq!(server.put(path, body.clone()).await, 201, "{path}");
        assert_eq!(server.put(path, body).await, 204, "{path}");
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    let queue = server.json("/api/queues/v/q").await;
    assert_eq!((&queue["policy"], &queue["operator_policy"]), (&json!("p"), &json!("o")));
    assert_eq!(queue["effective_policy_definition"], json!({"max-length": 3}));
    assert_eq!(queue["arguments"], json!({"x-max-length": 10}));
    assert_eq!(server.json("/api/vhosts/v").await["tags"], json!(["a", "b"]));
    assert_eq!(server.json("/api/users/u/permissions").await.as_array().map(Vec::len), Some(1));
    for path in [
        "/api/global-parameters/g",
        "/api/parameters/federation-upstream/v/up",
        "/api/operator-policies/v/o",
        "/api/policies/v/p",
        "/api/queues/v/q",
        "/api/exchanges/v/x",
        "/api/topic-permissions/v/u",
        "/api/permissions/v/u",
        "/api/users/u",
        "/api/vhosts/v",
    ] {
        assert_eq!(server.delete(path).await, 204, "{path}");
        assert_eq!(server.delete(path).await, 404, "{path}");
    }
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_rabbitmqs_words() {
    let server = Server::start().await;
    assert_eq!(server.put("/api/queues/%2F/q", json!({"durable": true})).await, 201);
    let differs = server.with_body("PUT", "/api/queues/%2F/q", &json!({"durable": false})).await;
    let text = "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'";
    assert_eq!((differs.status, differs.json()), (400, json!({"error": "bad_request", "reason": text})));
    let incomplete = server.with_body("PUT", "/api/permissions/%2F/guest", &json!({"configure": ""})).await;
    assert_eq!(incomplete.json()["reason"], "[{key_missing,write},{key_missing,read}]");
    let nobody = server.with_body("PUT", "/api/permissions/%2F/nobody", &json!({})).await;
    assert_eq!((nobody.status, nobody.json()["reason"].as_str()), (400, Some("vhost_or_user_not_found")));
    let policy = json!({"pattern": "", "definition": {"max-length": "many"}});
    let invalid = server.with_body("PUT", "/api/policies/%2F/p", &policy).await;
    assert!(invalid.json()["reason"].as_str().expect("text").starts_with("Validation failed\n\n"), "{invalid:?}");
    assert_eq!(server.put("/api/users/u", json!({"password": "x"})).await, 400);
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_is_found_where_its_location_says() {
    let server = Server::start().await;
    assert_eq!(server.put("/api/queues/%2F/q%20%2F", json!({})).await, 201);
    let between = "/api/bindings/%2F/e/amq.headers/q/q%20%2F";
    for (body, key) in [
        (json!({}), Some("~")),
        (json!({"routing_key": "a.b"}), Some("a.b")),
        (json!({"routing_key": "a b~c/d"}), None),
        (json!({"routing_key": "k", "arguments": {"x-match": "all", "n": 1}}), None),
    ] {
        let made = server.post(between, body.clone()).await;
        assert_eq!(made.status, 201);
        let location = made.header("location").expect("a location").to_owned();
        let (destination, encoded) = location.split_once('/').expect("two segments");
        assert_eq!(destination, "q+%2F");
        let found = server.json(&format!("{between}/{encoded}")).await;
        assert_eq!(found["routing_key"].as_str(), body["routing_key"].as_str().or(Some("")));
        if let Some(key) = key {
            assert_eq!(found["properties_key"], key);
        }
        if let Some(arguments) = body.get("arguments") {
            assert_eq!(&found["arguments"], arguments);
        }
    }
    let all = server.json(between).await;
    assert_eq!(all.as_array().map(Vec::len), Some(4));
    assert_eq!(server.json("/api/queues/%2F/q%20%2F/bindings").await.as_array().map(Vec::len), Some(5));
    assert_eq!(server.delete(&format!("{between}/~")).await, 204);
    assert_eq!(server.delete(&format!("{between}/~")).await, 404);
    assert_eq!(server.json("/api/exchanges/%2F/amq.headers/bindings/source").await.as_array().map(Vec::len), Some(3));
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_published_and_taken() {
    let server = Server::start().await;
    assert_eq!(server.put("/api/queues/%2F/q", json!({})).await, 201);
    let publish = |key: &str, payload: &str, encoding: &str| {
        json!({"routing_key": key, "payload": payload, "payload_encoding": encoding,
            "properties": {"delivery_mode": 2, "headers": {"n": 1}}})
    };
    let path = "/api/exchanges/%2F/amq.default/publish";
    assert_eq!(server.post(path, publish("q", "hello", "string")).await.json(), json!({"routed": true}));
    assert_eq!(server.post(path, publish("q", "/w==", "base64")).await.json(), json!({"routed": true}));
    assert_eq!(server.post(path, publish("nobody", "x", "string")).await.json(), json!({"routed": false}));
    let take = |mode: &str, count: u32| json!({"ackmode": mode, "count": count, "encoding": "auto"});
    let seen = server.post("/api/queues/%2F/q/get", take("ack_requeue_true", 5)).await.json();
    assert_eq!((seen.as_array().map(Vec::len), &seen[0]["payload"]), (Some(2), &json!("hello")));
    assert_eq!((&seen[1]["payload"], &seen[1]["payload_encoding"]), (&json!("/w=="), &json!("base64")));
    assert_eq!(seen[0]["properties"], json!({"delivery_mode": 2, "headers": {"n": 1}}));
    assert_eq!((&seen[0]["message_count"], &seen[0]["redelivered"]), (&json!(1), &json!(false)));
    let taken = server.post("/api/queues/%2F/q/get", take("ack_requeue_false", 1)).await.json();
    assert_eq!((&taken[0]["payload"], &taken[0]["redelivered"]), (&json!("hello"), &json!(true)));
    assert_eq!(server.delete("/api/queues/%2F/q/contents").await, 204);
    assert_eq!(server.post("/api/queues/%2F/q/get", take("ack_requeue_false", 1)).await.json(), json!([]));
    assert_eq!(server.post("/api/queues/%2F/q/get", take("maybe", 1)).await.status, 400);
    assert_eq!(server.post("/api/queues/%2F/none/get", take("ack_requeue_false", 1)).await.status, 404);
    server.broker.shutdown().await;
}

async fn client(server: &Server) -> Connection {
    let mut properties = ConnectionProperties::default();
    properties = properties.with_connection_name("a client".into());
    Connection::connect(&server.broker.amqp_url(), properties).await.expect("connected")
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_what_they_have_are_seen_at_once() {
    let server = Server::start().await;
    let connection = client(&server).await;
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .queue_declare("q".into(), QueueDeclareOptions { exclusive: true, ..Default::default() }, FieldTable::default())
        .await
        .expect("declared");
    let _consumer = channel
        .basic_consume("q".into(), "tag".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .expect("consumes");
    channel
        .basic_publish("".into(), "q".into(), BasicPublishOptions::default(), b"x", BasicProperties::default())
        .await
        .expect("published");
    let connections = server.json("/api/connections").await;
    assert_eq!(
        (connections.as_array().map(Vec::len), &connections[0]["user_provided_name"]),
        (Some(1), &json!("a client"))
    );
    let name = connections[0]["name"].as_str().expect("a name").to_owned();
    let path = name.replace(' ', "%20").replace('>', "%3E");
    assert_eq!(server.json(&format!("/api/connections/{path}")).await["state"], "running");
    let channels = server.json(&format!("/api/connections/{path}/channels")).await;
    assert_eq!((&channels[0]["consumer_count"], &channels[0]["connection_details"]["name"]), (&json!(1), &json!(name)));
    let channel_path = format!("/api/channels/{path}%20(1)");
    assert_eq!(server.json(&channel_path).await["consumer_details"][0]["consumer_tag"], "tag");
    let consumers = server.json("/api/consumers/%2F").await;
    assert_eq!(
        (&consumers[0]["queue"]["name"], &consumers[0]["channel_details"]["user"]),
        (&json!("q"), &json!("guest"))
    );
    let queue = server.json("/api/queues/%2F/q").await;
    assert_eq!((&queue["exclusive"], &queue["owner_pid_details"]["name"]), (&json!(true), &json!(name)));
    assert_eq!(server.json("/api/vhosts/%2F/connections").await.as_array().map(Vec::len), Some(1));
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_is_told_the_reason() {
    let server = Server::start().await;
    let connection = client(&server).await;
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let mut events = connection.events_listener();
    tokio::spawn(async move {
        while let Some(event) = tokio_stream::StreamExt::next(&mut events).await {
            let _heard = told.send(format!("{event:?}"));
        }
    });
    let name = server.json("/api/connections").await[0]["name"].as_str().expect("a name").to_owned();
    let path = format!("/api/connections/{}", name.replace(' ', "%20").replace('>', "%3E"));
    let headers = [("x-reason", "maintenance tonight")];
    let closed = server.send(Request { method: "DELETE", path: &path, headers: &headers, ..Request::default() }).await;
    assert_eq!(closed.status, 204);
    let closing = async {
        loop {
            let event = hears.recv().await.expect("an event");
            if event.contains("CONNECTION_FORCED") || event.contains("CONNECTIONFORCED") {
                return event;
            }
        }
    };
    let patience = std::time::Duration::from_secs(20);
    let event = tokio::time::timeout(patience, closing).await.expect("told in time");
    assert!(event.contains("maintenance tonight"), "{event}");
    // It is there until its client has answered.
    let gone = async {
        while server.delete(&path).await != 404 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(patience, gone).await.expect("gone in time");
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_go_out_and_come_back() {
    let server = Server::start().await;
    assert_eq!(server.put("/api/vhosts/v", json!({})).await, 201);
    assert_eq!(server.put("/api/queues/v/q", json!({"durable": true})).await, 201);
    assert_eq!(server.put("/api/vhost-limits/v/max-queues", json!({"value": 9})).await, 204);
    assert_eq!(server.put("/api/user-limits/guest/max-channels", json!({"value": 99})).await, 204);
    let all = server.json("/api/definitions").await;
    let other = Server::start().await;
    assert_eq!(other.post("/api/definitions", all.clone()).await.status, 204);
    assert_eq!(other.json("/api/definitions").await["queues"], all["queues"]);
    assert_eq!(other.json("/api/vhost-limits/v").await, json!([{"vhost": "v", "value": {"max-queues": 9}}]));
    assert_eq!(other.json("/api/user-limits/guest").await[0]["value"], json!({"max-channels": 99}));
    let of_vhost = server.json("/api/definitions/v").await;
    assert_eq!((&of_vhost["queues"][0]["name"], of_vhost["queues"][0].get("vhost")), (&json!("q"), None));
    assert_eq!(other.put("/api/vhosts/w", json!({})).await, 201);
    assert_eq!(other.post("/api/definitions/w", of_vhost).await.status, 204);
    assert_eq!(other.get("/api/queues/w/q").await.status, 200);
    let form = format!(
        "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"d.json\"\r\n\r\n{}\r\n--b--\r\n",
        json!({"queues": [{"name": "uploaded", "vhost": "w", "durable": true, "auto_delete": false, "arguments": {}}]})
    );
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    let text = format!(
        "POST /api/definitions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
         {}: {}\r\ncontent-length: {}\r\n\r\n{form}",
        headers[0].0,
        headers[0].1,
        form.len()
    );
    assert_eq!(other.raw(text.as_bytes()).await.status, 204);
    assert_eq!(other.get("/api/queues/w/uploaded").await.status, 200);
    assert_eq!(other.post("/api/definitions", json!([1])).await.status, 400);
    server.broker.shutdown().await;
    other.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_vhost_stays() {
    let server = Server::start().await;
    assert_eq!(server.put("/api/vhosts/v", json!({})).await, 201);
    assert_eq!(server.post("/api/vhosts/v/deletion/protection", Value::Null).await.status, 204);
    assert_eq!(server.delete("/api/vhosts/v").await, 412);
    assert_eq!(server.delete("/api/vhosts/v/deletion/protection").await, 204);
    assert_eq!(server.delete("/api/vhosts/v").await, 204);
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_queues_are_a_deprecated_feature_in_use() {
    let server = Server::start().await;
    assert_eq!(server.json("/api/deprecated-features/used").await, json!([]));
    assert_eq!(server.put("/api/queues/%2F/q", json!({"durable": false})).await, 201);
    let used = server.json("/api/deprecated-features/used").await;
    assert_eq!(used[0]["name"], "transient_nonexcl_queues");
    assert_eq!(used[0]["deprecation_phase"], "permitted_by_default");
    let known = server.json("/api/deprecated-features?columns=name").await;
    assert_eq!(known, json!([{"name": "global_qos"}, {"name": "ram_node_type"}, {"name": "transient_nonexcl_queues"}]));
    assert_eq!(server.put("/api/feature-flags/rabbitmq_4.0.0/enable", json!({})).await, 204);
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_the_cluster_are_in_the_overview() {
    let server = Server::start().await;
    assert_eq!(server.json("/api/overview").await["cluster_tags"], json!({}));
    let tags = json!({"region": "north"});
    let body = json!({"name": "cluster_tags", "value": tags});
    assert_eq!(server.put("/api/global-parameters/cluster_tags", body).await, 201);
    assert_eq!(server.json("/api/overview").await["cluster_tags"], tags);
    server.broker.shutdown().await;
}
