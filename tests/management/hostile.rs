//! Input that nobody sends in good faith: a clean refusal, and AMQP goes on.

use std::time::Duration;

use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Request, Server};

const LOGIN: &str = "authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";

async fn put_octets(server: &Server, path: &str, body: Vec<u8>) -> (u16, serde_json::Value) {
    let response = server.send(Request { method: "PUT", path, body, ..Request::default() }).await;
    (response.status, response.json()["reason"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_json_is_refused() {
    let server = Server::start().await;
    let deep = format!("{{\"arguments\":{}1{}}}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
    let nested = format!("{{\"arguments\":{}1{}}}", "{\"a\":".repeat(60), "}".repeat(60));
    for body in [&b"{"[..], b"[]", b"\"text\"", b"\xff\xfe", b"{\"a\":1}x", deep.as_bytes(), nested.as_bytes()] {
        let (status, _) = put_octets(&server, "/api/queues/%2F/q", body.to_vec()).await;
        assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body[..body.len().min(40)]));
    }
    for (path, body) in [
        ("/api/queues/%2F/q", json!({"durable": "maybe"})),
        ("/api/queues/%2F/q", json!({"arguments": 5})),
        ("/api/queues/%2F/q", json!({"arguments": {"x-max-length": "many"}})),
        ("/api/exchanges/%2F/x", json!({"type": 5})),
        ("/api/exchanges/%2F/x", json!({"type": "no such type"})),
        ("/api/users/u", json!({"password": 5, "tags": ""})),
        ("/api/users/u", json!({"password": "x", "tags": {"a": 1}})),
        ("/api/policies/%2F/p", json!({"pattern": "[", "definition": {"max-length": 1}})),
        ("/api/policies/%2F/p", json!({"pattern": "", "definition": 5})),
        ("/api/policies/%2F/p", json!({"pattern": "", "definition": {"max-length": 1}, "priority": "high"})),
        ("/api/vhosts/v", json!({"tracing": "loud"})),
        ("/api/vhost-limits/%2F/max-queues", json!({"value": "many"})),
        ("/api/vhost-limits/%2F/no-such-limit", json!({"value": 1})),
        ("/api/permissions/%2F/guest", json!({"configure": "[", "write": "", "read": ""})),
        ("/api/cluster-name", json!({"name": 5})),
    ] {
        let response = server.with_body("PUT", path, &body).await;
        assert_eq!(response.status, 400, "{path} {body}");
        assert_eq!(response.json()["error"], "bad_request", "{path} {body}");
    }
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_refused_before_they_are_read() {
    let server = Server::start().await;
    let announced = format!("PUT /api/queues/%2F/q HTTP/1.1\r\nhost: x\r\n{LOGIN}content-length: 99999999999\r\n\r\n");
    assert_eq!(server.raw(announced.as_bytes()).await.status, 400);
    let mut chunked =
        format!("PUT /api/queues/%2F/q HTTP/1.1\r\nhost: x\r\n{LOGIN}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..32 {
        chunked.extend_from_slice(b"10000\r\n");
        chunked.extend(std::iter::repeat_n(b' ', 0x10000));
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(server.raw(&chunked).await.status, 400);
    let unknown = b"PUT /api/queues/%2F/q HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    assert_eq!(server.raw(unknown).await.status, 401, "nobody's body is read who has not logged in");
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_heads_are_refused() {
    let server = Server::start().await;
    let long = format!("GET /api/overview HTTP/1.1\r\nhost: x\r\n{LOGIN}x-long: {}\r\n\r\n", "a".repeat(300_000));
    let many: String = (0..300).map(|number| format!("x-{number}: 1\r\n")).collect();
    let many = format!("GET /api/overview HTTP/1.1\r\nhost: x\r\n{LOGIN}{many}\r\n");
    let both = format!(
        "PUT /api/queues/%2F/q HTTP/1.1\r\nhost: x\r\n{LOGIN}content-length: 1\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    for text in
        [long.as_str(), &many, &both, "GARBAGE\r\n\r\n", "GET /api/overview HTTP/9.9\r\n\r\n", "\0\0\0\0\r\n\r\n"]
    {
        let status = server.raw(text.as_bytes()).await.status;
        assert!(matches!(status, 400 | 414 | 431 | 505), "{status}: {}", &text[..text.len().min(40)]);
    }
    let long = format!("/api/queues/%2F/{}", "a".repeat(10_000));
    assert_eq!(server.get(&long).await.status, 404);
    assert_eq!(server.put(&long, json!({})).await, 400);
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_cannot_leave_their_place() {
    let server = Server::start().await;
    for path in [
        "/api/../etc/passwd",
        "/api/queues/%2F/..",
        "/api/queues/..%2F..%2Fusers",
        "/api/queues/%2F/%2e%2e",
        "/api/queues/%00/%00",
        "/api/queues/%ff/q",
        "/api/%75sers%2Fguest",
        "//api/overview",
        "/api//overview",
        "/etc/passwd",
        "/cli/rabbitmqadmin",
    ] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    // Line breaks in a name reach neither a header nor the log.
    let key = json!({"routing_key": "a\r\nx-evil: 1"});
    assert_eq!(server.put("/api/queues/%2F/q", json!({})).await, 201);
    let made = server.post("/api/bindings/%2F/e/amq.topic/q/q", key).await;
    assert_eq!((made.status, made.header("x-evil")), (201, None));
    let evil = server.get("/api/definitions?download=a%0d%0ax-evil:1").await;
    assert_eq!((evil.status, evil.header("x-evil"), evil.header("content-disposition")), (200, None, None));
    let close = "/api/connections/none";
    let headers = [("x-reason", "\u{1f407} spoken in \"quotes\"")];
    let response =
        server.send(Request { method: "DELETE", path: close, headers: &headers, ..Request::default() }).await;
    assert_eq!(response.status, 404);
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_may_be_anything() {
    let server = Server::start().await;
    for value in
        ["Basic", "Basic ", "Basic ====", "Basic /////w==", "Bearer x", "Negotiate", "Basic Og==", "Basic Z3Vlc3Q="]
    {
        let headers = [("authorization", value)];
        let response = server.send(Request { user: "", headers: &headers, ..Request::default() }).await;
        assert!(matches!(response.status, 401 | 429), "{value}");
    }
    let long = "A".repeat(30_000);
    let value = format!("Basic {long}");
    let headers = [("authorization", value.as_str())];
    assert_eq!(server.send(Request { user: "", headers: &headers, ..Request::default() }).await.status, 401);
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn amqp_goes_on_while_clients_dawdle() {
    let server = Server::start().await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut socket = TcpStream::connect(server.address).await.expect("connected");
        socket.write_all(b"GET /api/overview HTTP/1.1\r\nho").await.expect("written");
        slow.push(socket);
    }
    let url = server.broker.amqp_url();
    let connecting = Connection::connect(&url, ConnectionProperties::default());
    let connection =
        tokio::time::timeout(Duration::from_secs(10), connecting).await.expect("in time").expect("connected");
    connection.create_channel().await.expect("a channel");
    assert_eq!(server.get("/api/overview").await.status, 200, "others are answered too");
    let mut octets = [0; 16];
    let pending = tokio::time::timeout(Duration::from_millis(200), slow[0].read(&mut octets)).await;
    assert!(pending.is_err(), "it still has time");
    drop(slow);
    server.broker.shutdown().await;
}
