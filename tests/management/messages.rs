//! Messages looked at, deleted, moved and sent back over HTTP.

use serde_json::{Value, json};

use crate::support::{Request, Server};

async fn publish(server: &Server, key: &str, payload: &str, headers: Value) {
    let message = json!({"routing_key": key, "payload": payload, "payload_encoding": "string",
        "properties": {"delivery_mode": 2, "message_id": payload, "headers": headers}});
    let routed = server.post("/api/exchanges/%2F/amq.default/publish", message).await.json();
    assert_eq!(routed, json!({"routed": true}));
}

/// Queues `work`, whose rejected messages go to `dead`, and messages that did.
async fn dead_letters(server: &Server, count: u32) {
    let dying = json!({"durable": true,
        "arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}});
    assert_eq!(server.put("/api/queues/%2F/work", dying).await, 201);
    assert_eq!(server.put("/api/queues/%2F/dead", json!({"durable": true})).await, 201);
    for number in 0..count {
        publish(server, "work", &format!("m{number}"), json!({"odd": number % 2 == 1})).await;
    }
    let reject = json!({"ackmode": "reject_requeue_false", "count": count, "encoding": "auto"});
    assert_eq!(server.post("/api/queues/%2F/work/get", reject).await.status, 200);
    while server.json("/api/queues/%2F/dead").await["messages"] != json!(count) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["messages"].as_array().expect("messages").iter().filter_map(|message| message["id"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_looked_at_and_changed() {
    let server = Server::start().await;
    assert_eq!(server.put("/api/queues/%2F/q", json!({"durable": true})).await, 201);
    assert_eq!(server.put("/api/queues/%2F/other", json!({})).await, 201);
    for (payload, tenant) in [("one", "a"), ("two", "b"), ("three", "a"), ("four", "b")] {
        publish(&server, "q", payload, json!({"tenant": tenant})).await;
    }
    let path = "/api/queues/%2F/q/messages";
    let all = server.json(&format!("{path}?body=head&body_bytes=2")).await;
    assert_eq!(ids(&all), ["0:0", "0:1", "0:2", "0:3"]);
    assert_eq!(
        (&all["messages"][2]["payload"], &all["messages"][2]["payload_truncated"]),
        (&json!("th"), &json!(true))
    );
    assert_eq!(all["messages"][0]["properties"]["headers"], json!({"tenant": "a"}));
    let page = server.json(&format!("{path}?limit=3&state=ready")).await;
    assert_eq!((ids(&page).len(), &page["next"]), (3, &json!("0:3")));
    assert_eq!(ids(&server.json(&format!("{path}?from=0:3")).await), ["0:3"]);
    assert_eq!(ids(&server.json(&format!("{path}?where=header.tenant%20=%20b")).await), ["0:1", "0:3"]);
    let filter = "%7B%22header.tenant%22%3A%22a%22%2C%22younger_than%22%3A%22PT1H%22%7D";
    assert_eq!(ids(&server.json(&format!("{path}?filter={filter}")).await), ["0:0", "0:2"]);
    assert_eq!(server.json(&format!("{path}/0:1?body=full")).await["payload"], "two");
    assert_eq!(server.get(&format!("{path}/0:9")).await.status, 404);

    assert_eq!(server.delete(&format!("{path}/0:0")).await, 204);
    assert_eq!(server.delete(&format!("{path}/0:0")).await, 404);
    let moved = server.post(&format!("{path}/0:2/move"), json!({"to": {"queue": "other"}})).await;
    assert_eq!(moved.status, 204, "{moved:?}");
    assert_eq!(server.post(&format!("{path}/0:2/move"), json!({"to": {"queue": "other"}})).await.status, 404);
    let moved = server
        .post(
            &format!("{path}/move"),
            json!({"to": {"exchange": "amq.default", "routing_key": "other"},
        "filter": {"header.tenant": "b"}, "limit": 1}),
        )
        .await
        .json();
    assert_eq!((&moved["count"], &moved["next"]), (&json!(1), &json!("0:3")));
    assert_eq!(server.json("/api/queues/%2F/other").await["messages"], 2);
    let deleted =
        server.send(Request { method: "DELETE", path: &format!("{path}?all=true"), ..Request::default() }).await;
    assert_eq!(deleted.json()["count"], 1);
    assert_eq!(ids(&server.json(path).await), Vec::<&str>::new());

    for (method, path, body) in [
        ("GET", format!("{path}?state=gone"), json!(null)),
        ("GET", format!("{path}?where=colour%20=%20red"), json!(null)),
        ("GET", format!("{path}?body=some"), json!(null)),
        ("GET", format!("{path}/first"), json!(null)),
        ("DELETE", path.to_owned(), json!(null)),
        ("POST", format!("{path}/move"), json!({"all": true})),
        ("POST", format!("{path}/move"), json!({"all": true, "to": "nowhere"})),
        ("POST", format!("{path}/move"), json!({"all": true, "to": {"exchange": "none"}})),
        ("POST", format!("{path}/move"), json!({"to": "source"})),
        ("POST", format!("{path}/move"), json!({"to": "source", "colour": "red"})),
        ("POST", "/api/queues/%2F/q/redrive".to_owned(), json!({"rate": 0})),
        ("POST", "/api/queues/%2F/q/redrive".to_owned(), json!({"rate": -5})),
        ("POST", "/api/queues/%2F/q/redrive".to_owned(), json!({"filter": {"colour": "red"}})),
    ] {
        let refused = server.with_body(method, &path, &body).await;
        assert_eq!(refused.status, 400, "{method} {path} {body}: {refused:?}");
    }
    assert_eq!(server.get("/api/queues/%2F/none/messages").await.status, 404);
    server.broker.shutdown().await;
}

/// Asks until a job has ended.
async fn ended(server: &Server, place: &str) -> Value {
    loop {
        let job = server.json(place).await;
        if job["state"] != "running" {
            return job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_is_a_job() {
    let server = Server::start().await;
    dead_letters(&server, 10).await;
    let order = json!({"to": "source", "filter": {"x-death.reason": "rejected", "header.odd": true}, "dry_run": true});
    let started = server.post("/api/queues/%2F/dead/redrive", order).await;
    assert_eq!((started.status, started.header("location")), (202, Some("/api/redrive/1")));
    let done = ended(&server, "/api/redrive/1").await;
    assert_eq!((&done["state"], &done["moved"], &done["failed"]), (&json!("done"), &json!(5), &json!(0)));
    assert_eq!(done["targets"], json!({"work": 5}));
    let started = server.post("/api/queues/%2F/dead/redrive", json!({"where": "header.odd = true", "limit": 3})).await;
    assert_eq!(started.status, 202);
    assert_eq!(ended(&server, "/api/redrive/2").await["moved"], 3);
    let back = server.json("/api/queues/%2F/work/messages?body=full").await;
    assert_eq!((ids(&back).len(), &back["messages"][0]["payload"]), (3, &json!("m1")));
    assert_eq!(back["messages"][0]["properties"]["headers"], json!({"odd": true, "x-redrive-count": 1}));

    assert_eq!(server.post("/api/queues/%2F/dead/redrive", json!({"rate": 1})).await.status, 202);
    assert_eq!(server.post("/api/queues/%2F/dead/redrive", json!({})).await.status, 400, "one at a time");
    let stopped = server.send(Request { method: "DELETE", path: "/api/redrive/3", ..Request::default() }).await;
    assert_eq!((stopped.status, &stopped.json()["state"]), (200, &json!("cancelled")));
    assert_eq!(server.json("/api/redrive").await.as_array().map(Vec::len), Some(3));
    assert_eq!(server.get("/api/redrive/77").await.status, 404);
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_for_who_may_read_and_write() {
    let server = Server::start().await;
    dead_letters(&server, 2).await;
    server.add_user("reader", "management").await;
    let rights = json!({"configure": "", "write": "", "read": "^dead$"});
    assert_eq!(server.put("/api/permissions/%2F/reader", rights).await, 201);
    server.add_user("stranger", "management").await;
    let ask = |user: &'static str, method: &'static str, path: &'static str, body: Value| {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        server.send(Request { method, path, user, password: "secret", body, ..Request::default() })
    };
    let peek = "/api/queues/%2F/dead/messages";
    assert_eq!(ask("reader", "GET", peek, json!(null)).await.status, 200);
    assert_eq!(ask("reader", "GET", "/api/queues/%2F/work/messages", json!(null)).await.status, 401);
    assert_eq!(ask("stranger", "GET", peek, json!(null)).await.status, 401);
    for (path, body) in [
        ("/api/queues/%2F/dead/messages/0:0/move", json!({"to": {"queue": "work"}})),
        ("/api/queues/%2F/dead/messages/move", json!({"to": {"exchange": "amq.topic"}, "all": true})),
        ("/api/queues/%2F/dead/redrive", json!({})),
    ] {
        assert_eq!(ask("reader", "POST", path, body).await.status, 401, "{path}");
    }
    assert_eq!(server.post("/api/queues/%2F/dead/redrive", json!({"rate": 1})).await.status, 202);
    assert_eq!(ask("stranger", "GET", "/api/redrive/1", json!(null)).await.status, 404);
    assert_eq!(ask("stranger", "DELETE", "/api/redrive/1", json!(null)).await.status, 404);
    assert_eq!(ask("stranger", "GET", "/api/redrive", json!(null)).await.json(), json!([]));
    assert_eq!(ask("reader", "DELETE", "/api/redrive/1", json!(null)).await.json()["state"], "cancelled");
    assert_eq!(ask("reader", "DELETE", "/api/queues/%2F/dead/messages/0:1", json!(null)).await.status, 204);
    server.broker.shutdown().await;
}
