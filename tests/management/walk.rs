//! A walk over the whole API, compared with what RabbitMQ answered.
//!
//! `walk/steps.txt` is what is asked, `walk/recorded.json` what RabbitMQ 3.10.8 said to it. The same must come from
//! Leveret: status, the headers that clients read, errors word for word, and of everything else the shape: every member
//! that RabbitMQ has, of the same type; more members are allowed. What may differ stands in `walk/accepted.txt`, each with
//! the reason; an entry that nothing needs any more fails the test.
//!
//! Where Debian's package `rabbitmq-server` is there, a second test asks a real node whether the recording still is what it
//! says (`LEVERET_REQUIRE_ORACLE=1` makes it fail without; `LEVERET_WALK_ORACLE=HTTP-ADDRESS,AMQP-ADDRESS` takes one that runs).
//! `LEVERET_RECORD_WALK=1` writes the recording anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{Request, Response, Server, send_to};

/// How long RabbitMQ may take to collect its statistics.
const COLLECTED_AFTER: Duration = Duration::from_secs(12);
/// Headers that clients read.
const HEADERS: [&str; 3] = ["allow", "location", "www-authenticate"];

/// What was answered to a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Answer {
    step: String,
    status: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    body: Value,
}

/// A broker to walk over.
struct Target {
    management: SocketAddr,
    amqp: SocketAddr,
    /// Its statistics come late.
    waits: bool,
}

struct Walk<'a> {
    target: &'a Target,
    node: String,
    connection: Option<Connection>,
    connection_path: String,
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/management/walk").join(name)
}

fn steps() -> Vec<String> {
    let text = std::fs::read_to_string(file("steps.txt")).expect("the steps");
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

impl Walk<'_> {
    async fn ask(&self, request: Request<'_>) -> Response {
        send_to(self.target.management, request).await
    }

    /// Opens a connection that has a consumer.
    async fn connect(&mut self) {
        let url = format!("amqp://guest:guest@{}/walk", self.target.amqp);
        let properties = ConnectionProperties::default().with_connection_name("the walker".into());
        let connection = Connection::connect(&url, properties).await.expect("connected");
        let channel = connection.create_channel().await.expect("a channel");
        let consume =
            channel.basic_consume("walked".into(), "tag".into(), BasicConsumeOptions::default(), FieldTable::default());
        // Dropping it would end the consumer.
        std::mem::forget(consume.await.expect("it consumes"));
        std::mem::forget(channel);
        self.connection = Some(connection);
        for _ in 0..100 {
            let listed = self.ask(Request { path: "/api/connections", ..Request::default() }).await.json();
            if let Some(name) = listed[0]["name"].as_str() {
                self.connection_path = name.replace(' ', "%20").replace('>', "%3E");
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the connection is not listed");
    }

    async fn step(&mut self, step: &str) -> Option<Answer> {
        match step {
            "CONNECT" => {
                self.connect().await;
                return None;
            }
            "WAIT" => {
                if self.target.waits {
                    tokio::time::sleep(COLLECTED_AFTER).await;
                }
                return None;
            }
            _ => {}
        }
        let (method, rest) = step.split_once(' ').expect("a path");
        let (path, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (credentials, body) = match rest.strip_prefix("as ") {
            Some(rest) => rest.split_once(' ').unwrap_or((rest, "")),
            None => ("guest:guest", rest),
        };
        let (user, password) = credentials.split_once(':').unwrap_or(("", ""));
        let path = path.replace("{NODE}", &self.node).replace("{CONNECTION}", &self.connection_path);
        let body = body.as_bytes().to_vec();
        let response = self.ask(Request { method, path: &path, user, password, body, ..Request::default() }).await;
        let headers = HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), response.header(name)?.to_owned())));
        let body = if response.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&response.body)
                .unwrap_or_else(|_| json!({"text": String::from_utf8_lossy(&response.body)}))
        };
        Some(Answer { step: step.to_owned(), status: response.status, headers: headers.collect(), body })
    }
}

async fn walk(target: &Target) -> Vec<Answer> {
    let overview = send_to(target.management, Request::default()).await.json();
    let node = overview["node"].as_str().expect("a node").to_owned();
    let mut walk = Walk { target, node, connection: None, connection_path: "none".to_owned() };
    let mut answers = Vec::new();
    for step in steps() {
        answers.extend(walk.step(&step).await);
    }
    answers
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// What of `theirs` is missing or other in `ours`.
fn differences(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (name, value) in theirs {
                let path = format!("{path}.{name}");
                match ours.get(name) {
                    Some(own) => differences(&path, value, own, found),
                    None => found.push(format!("{path} is missing")),
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            if let (Some(first), Some(own)) = (theirs.first(), ours.first()) {
                differences(&format!("{path}[]"), first, own, found);
            }
            if theirs.is_empty() != ours.is_empty() {
                found.push(format!("{path} has {} items, not {}", ours.len(), theirs.len()));
            }
        }
        _ if kind(theirs) == kind(ours) => {}
        _ => found.push(format!("{path} is {}, not {}", kind(ours), kind(theirs))),
    }
}

/// Compares two answers to a step; each difference is a line.
fn compare(theirs: &Answer, ours: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if theirs.status != ours.status {
        found.push(format!("status {}, not {}", ours.status, theirs.status));
        return found;
    }
    for name in HEADERS {
        let (their, own) = (theirs.headers.get(name), ours.headers.get(name));
        if their != own {
            found.push(format!("{name} {own:?}, not {their:?}"));
        }
    }
    if theirs.status >= 400 {
        if theirs.body != ours.body {
            found.push(format!("error {}, not {}", ours.body, theirs.body));
        }
    } else {
        differences("$", &theirs.body, &ours.body, &mut found);
    }
    found
}

/// A difference that may be: in steps that contain the first part, if it contains the second.
struct Accepted {
    step: String,
    difference: String,
    used: bool,
}

fn accepted() -> Vec<Accepted> {
    let text = std::fs::read_to_string(file("accepted.txt")).expect("the accepted differences");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (step, difference) = line.split_once(" :: ").expect("a step and a difference");
            Accepted { step: step.to_owned(), difference: difference.to_owned(), used: false }
        })
        .collect()
}

/// Everything that differs and may not, and what was accepted in vain.
fn report(theirs: &[Answer], ours: &[Answer], mut accepted: Vec<Accepted>) -> String {
    let mut report = String::new();
    assert_eq!(theirs.len(), ours.len(), "the recording is of other steps");
    for (theirs, ours) in theirs.iter().zip(ours) {
        assert_eq!(theirs.step, ours.step, "the recording is of other steps");
        for difference in compare(theirs, ours) {
            let mut known = false;
            for entry in &mut accepted {
                if (entry.step == "*" || ours.step.contains(&entry.step)) && difference.contains(&entry.difference) {
                    entry.used = true;
                    known = true;
                }
            }
            if !known {
                let _written = writeln!(report, "{} :: {difference}", ours.step);
            }
        }
    }
    for entry in accepted.iter().filter(|entry| !entry.used) {
        let _written = writeln!(report, "accepted in vain: {} :: {}", entry.step, entry.difference);
    }
    report
}

fn recorded() -> Vec<Answer> {
    let text = std::fs::read_to_string(file("recorded.json")).expect("the recording");
    serde_json::from_str(&text).expect("answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn leveret_answers_as_rabbitmq_did() {
    let server = Server::start().await;
    let target = Target { management: server.address, amqp: server.broker.amqp_addr(), waits: false };
    let ours = walk(&target).await;
    let report = report(&recorded(), &ours, accepted());
    server.broker.shutdown().await;
    assert!(report.is_empty(), "\n{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_answers_as_it_did() {
    if let Ok(running) = std::env::var("LEVERET_WALK_ORACLE") {
        let (management, amqp) = running.split_once(',').expect("two addresses");
        let address = |text: &str| text.parse().expect("an address");
        return check_oracle(&Target { management: address(management), amqp: address(amqp), waits: true }).await;
    }
    let required = std::env::var_os("LEVERET_REQUIRE_ORACLE").is_some_and(|value| value == "1");
    let started = tokio::task::spawn_blocking(leveret_differential::start_managed).await.expect("no panic");
    let node = match started {
        Ok(Some(node)) => node,
        Ok(None) if required => panic!("there is no RabbitMQ"),
        Ok(None) => return,
        Err(cause) => panic!("{cause}"),
    };
    check_oracle(&Target { management: node.management, amqp: node.amqp, waits: true }).await;
}

/// Compares what a RabbitMQ node answers with the recording, or makes that anew.
async fn check_oracle(target: &Target) {
    let theirs = walk(target).await;
    if std::env::var_os("LEVERET_RECORD_WALK").is_some() {
        let text = serde_json::to_string_pretty(&theirs).expect("JSON");
        std::fs::write(file("recorded.json"), text + "\n").expect("written");
        return;
    }
    // What it counts and how long it has run differ from node to node: only what it decides is compared.
    let mut report = String::new();
    for (before, now) in recorded().iter().zip(&theirs) {
        let refused = before.status >= 400 && before.body != now.body;
        if before.step != now.step || before.status != now.status || refused {
            let _written =
                writeln!(report, "{} :: {} {}, not {} {}", now.step, now.status, now.body, before.status, before.body);
        }
    }
    assert!(report.is_empty(), "\n{report}");
}
