//! A broker with a management API on a free port, and a client that sends exactly the octets it is told to.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use leveret::{Broker, Config, ManagementConfig};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take on a machine that has other things to do.
const DEADLINE: Duration = Duration::from_secs(120);

/// A broker in memory.
pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) address: SocketAddr,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn parse(octets: &[u8]) -> Self {
        let end = octets.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(octets[..end].to_vec()).expect("text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head, body: octets[end + 4..].to_vec() }
    }

    /// A header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The body, which must be JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|cause| panic!("{cause}: {} {}", self.head, String::from_utf8_lossy(&self.body)))
    }
}

/// A request as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: Vec<u8>,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self { method: "GET", path: "/api/overview", user: "guest", password: "guest", headers: &[], body: Vec::new() }
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(ManagementConfig::for_tests()).await
    }

    pub(crate) async fn start_with(management: ManagementConfig) -> Self {
        Self::start_as(Config { management, ..Config::for_tests() }).await
    }

    pub(crate) async fn start_as(config: Config) -> Self {
        let broker = Broker::start(config).await.expect("a broker");
        let address = broker.management_addr().expect("a management API");
        Self { broker, address }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&self, request: Request<'_>) -> Response {
        send_to(self.address, request).await
    }

    /// Sends octets and reads what comes until the broker closes.
    pub(crate) async fn raw(&self, octets: &[u8]) -> Response {
        raw_to(self.address, octets).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send(Request { path, ..Request::default() }).await
    }

    /// A GET that succeeds.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status, 200, "{path}: {}", String::from_utf8_lossy(&response.body));
        response.json()
    }

    pub(crate) async fn with_body(&self, method: &str, path: &str, body: &Value) -> Response {
        self.send(Request { method, path, body: body.to_string().into_bytes(), ..Request::default() }).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> u16 {
        self.with_body("PUT", path, &body).await.status
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Response {
        self.with_body("POST", path, &body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> u16 {
        self.send(Request { method: "DELETE", path, ..Request::default() }).await.status
    }

    /// A GET as somebody else.
    pub(crate) async fn get_as(&self, user: &str, password: &str, path: &str) -> Response {
        self.send(Request { path, user, password, ..Request::default() }).await
    }

    /// Makes a user with a tag, with the password `secret`.
    pub(crate) async fn add_user(&self, name: &str, tags: &str) {
        let made =
            self.put(&format!("/api/users/{name}"), serde_json::json!({"password": "secret", "tags": tags})).await;
        assert_eq!(made, 201);
    }
}

/// Sends a request to a broker and reads the whole answer.
pub(crate) async fn send_to(address: SocketAddr, request: Request<'_>) -> Response {
    let Request { method, path, user, password, headers, body } = request;
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    if !user.is_empty() {
        let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
        text.push_str(&format!("authorization: Basic {credentials}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut octets = text.into_bytes();
    octets.extend(body);
    raw_to(address, &octets).await
}

/// Sends octets to a broker and reads what comes until it closes.
async fn raw_to(address: SocketAddr, octets: &[u8]) -> Response {
    let mut socket = TcpStream::connect(address).await.expect("connected");
    let mut read = Vec::new();
    let talk = async {
        // A refusal may come before everything is sent.
        let _refused = socket.write_all(octets).await;
        let _closed = socket.read_to_end(&mut read).await;
    };
    tokio::time::timeout(DEADLINE, talk).await.expect("answered in time");
    Response::parse(&read)
}
