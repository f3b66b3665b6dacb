//! Messages one at a time: publishing one to an exchange, taking some from a queue.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use leveret_protocol::{BasicProperties, FieldTable, ShortString};
use serde_json::{Map, Value, json};

use super::body::{self, Large, Members, whole};
use super::caller::Caller;
use super::client::{Client, Content, Published};
use super::list::Object;
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::Params;
use super::routes::Api;
use crate::definitions::{from_json, to_json};

/// Messages that one request may take: what they need in memory is bounded besides.
const GET_MAX: i64 = 100_000;
/// Octets of bodies after which a request takes no more messages.
const GET_MAX_BYTES: usize = 64 * 1024 * 1024;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/exchanges/{vhost}/{exchange}/publish", post(publish))
        .route("/api/queues/{vhost}/{queue}/get", post(get))
}

/// A name of the path as the wire has it.
fn short(name: &str, missing: impl Fn() -> Problem) -> Result<ShortString, Problem> {
    ShortString::try_from(name).map_err(|_| missing())
}

async fn publish(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, exchange]): Params<2>,
    body: Large,
) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    let exchange = super::exchanges::name(exchange);
    api.operator.exchange(&vhost, &exchange)?;
    let (routing_key, content) = message(&body::object(body.octets())?)?;
    let exchange = short(&exchange, Problem::not_found)?;
    let mut client = Client::connect(&api, &caller, &vhost).await?;
    let published = client.publish(exchange, routing_key, &content).await?;
    client.close().await?;
    match published {
        Published::Routed => Reply::json(&json!({"routed": true})),
        Published::Unroutable => Reply::json(&json!({"routed": false})),
        Published::Rejected => Err(Problem::bad_request("rejected Unable to publish message. Check queue limits.")),
    }
}

/// What a request asks to be published.
fn message(body: &Map<String, Value>) -> Result<(ShortString, Content), Problem> {
    let [routing_key, properties, payload, encoding] =
        body.need(["routing_key", "properties", "payload", "payload_encoding"])?;
    let payload = payload.as_str().ok_or_else(|| Problem::bad_request("payload_not_string"))?;
    let octets = match encoding.as_str() {
        Some("string") => payload.as_bytes().to_vec(),
        Some("base64") => BASE64_STANDARD
            .decode(payload)
            .map_err(|_| Problem::bad_request(json!(["not_base64", payload.chars().take(64).collect::<String>()])))?,
        _ => return Err(Problem::bad_request(json!(["unsupported_encoding", encoding]))),
    };
    let routing_key = routing_key.as_str().and_then(|key| ShortString::try_from(key).ok());
    let routing_key = routing_key.ok_or_else(|| Problem::bad_request(json!(["not_string", "routing_key"])))?;
    // Some clients send an empty list for no properties.
    let none = Map::new();
    let properties = match properties {
        Value::Object(properties) => properties,
        Value::Array(items) if items.is_empty() => &none,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(Problem::bad_request("properties must be an object"));
        }
    };
    Ok((routing_key, Content { properties: properties_of(properties)?, body: octets }))
}

fn properties_of(json: &Map<String, Value>) -> Result<BasicProperties, Problem> {
    let text = |name: &str| match json.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.len() <= ShortString::MAX_LEN => {
            Ok(ShortString::try_from(text.as_str()).ok())
        }
        Some(_) => Err(Problem::bad_request(json!(["not_string", name]))),
    };
    let number = |name: &str| match json.get(name) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| Problem::bad_request(json!(["not_int", name]))),
    };
    let octet = |name: &str| -> Result<Option<u8>, Problem> {
        let number = number(name)?.map(u8::try_from).transpose();
        number.map_err(|_| Problem::bad_request(json!(["not_int", name])))
    };
    let headers = match json.get("headers") {
        None => None,
        Some(Value::Object(headers)) => Some(from_json(headers).map_err(Problem::bad_request)?),
        Some(Value::Array(items)) if items.is_empty() => Some(FieldTable::default()),
        Some(_) => return Err(Problem::bad_request("headers must be an object")),
    };
    Ok(BasicProperties {
        content_type: text("content_type")?,
        content_encoding: text("content_encoding")?,
        headers,
        delivery_mode: octet("delivery_mode")?,
        priority: octet("priority")?,
        correlation_id: text("correlation_id")?,
        reply_to: text("reply_to")?,
        expiration: text("expiration")?,
        message_id: text("message_id")?,
        timestamp: number("timestamp")?,
        kind: text("type")?,
        user_id: text("user_id")?,
        app_id: text("app_id")?,
        cluster_id: text("cluster_id")?,
    })
}

/// Properties as JSON: those that are set.
pub(super) fn properties_object(properties: &BasicProperties) -> Object {
    let mut all = Object::new();
    let texts = [
        ("content_type", &properties.content_type),
        ("content_encoding", &properties.content_encoding),
        ("correlation_id", &properties.correlation_id),
        ("reply_to", &properties.reply_to),
        ("expiration", &properties.expiration),
        ("message_id", &properties.message_id),
        ("type", &properties.kind),
        ("user_id", &properties.user_id),
        ("app_id", &properties.app_id),
        ("cluster_id", &properties.cluster_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            all.insert(name.to_owned(), text.to_string().into());
        }
    }
    let numbers = [
        ("delivery_mode", properties.delivery_mode.map(u64::from)),
        ("priority", properties.priority.map(u64::from)),
        ("timestamp", properties.timestamp),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            all.insert(name.to_owned(), number.into());
        }
    }
    if let Some(headers) = &properties.headers {
        all.insert("headers".to_owned(), to_json(headers).into());
    }
    all
}

/// What to do with messages that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckMode {
    /// They are gone.
    Ack,
    /// They go back.
    Requeue,
    /// They are rejected: dropped, or dead-lettered.
    Reject,
}

impl AckMode {
    fn parse(word: &Value) -> Result<Self, Problem> {
        match word.as_str().unwrap_or_default() {
            "ack_requeue_false" => Ok(Self::Ack),
            "ack_requeue_true" | "reject_requeue_true" => Ok(Self::Requeue),
            "reject_requeue_false" => Ok(Self::Reject),
            other => Err(Problem::bad_request(format!(
                "Invalid ackmode value: {other}. Valid values are: ack_requeue_true, ack_requeue_false, \
                 reject_requeue_true, reject_requeue_false"
            ))),
        }
    }
}

/// How a body is shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    /// As text where it is text.
    auto: bool,
    /// Octets of it at most.
    truncate: Option<usize>,
}

fn shown(body: &[u8], how: Shown) -> (String, &'static str) {
    let body = how.truncate.map_or(body, |max| &body[..body.len().min(max)]);
    match std::str::from_utf8(body) {
        Ok(text) if how.auto => (text.to_owned(), "string"),
        Ok(_) | Err(_) => (BASE64_STANDARD.encode(body), "base64"),
    }
}

async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, queue]): Params<2>,
    body::Object(body): body::Object,
) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    api.operator.queue(&vhost, &queue)?;
    let [mode, count, encoding] = body.need(["ackmode", "count", "encoding"])?;
    let mode = AckMode::parse(mode)?;
    let wrong = |name: &str| Problem::bad_request(json!(["not_integer", name]));
    let count = whole(count).filter(|count| (0..=GET_MAX).contains(count)).ok_or_else(|| wrong("count"))?;
    let auto = match encoding.as_str() {
        Some("auto") => true,
        Some("base64") => false,
        _ => return Err(Problem::bad_request("Unsupported encoding. Please use auto or base64.")),
    };
    let truncate = body
        .get("truncate")
        .map(|max| whole(max).and_then(|max| usize::try_from(max).ok()).ok_or_else(|| wrong("truncate")));
    let how = Shown { auto, truncate: truncate.transpose()? };
    let queue = short(&queue, Problem::not_found)?;
    let mut client = Client::connect(&api, &caller, &vhost).await?;
    let (mut taken, mut tags, mut octets) = (Vec::new(), Vec::new(), 0);
    for _ in 0..count {
        let Some((found, content)) = client.get(queue.clone(), mode == AckMode::Ack).await? else { break };
        let (payload, encoding) = shown(&content.body, how);
        octets += payload.len();
        tags.push(found.delivery_tag);
        taken.push(object(json!({
            "payload_bytes": content.body.len(),
            "redelivered": found.redelivered,
            "exchange": found.exchange.to_string(),
            "routing_key": found.routing_key.to_string(),
            "message_count": found.message_count,
            "properties": properties_object(&content.properties),
            "payload": payload,
            "payload_encoding": encoding,
        })));
        if octets > GET_MAX_BYTES {
            break;
        }
    }
    if mode != AckMode::Ack {
        client.reject(&tags, mode == AckMode::Requeue).await?;
    }
    client.close().await?;
    Reply::json(&taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_looked_at() {
        let parse = |body: Value| message(body.as_object().expect("an object"));
        let whole = json!({"routing_key": "k", "payload": "aGk=", "payload_encoding": "base64",
            "properties": {"delivery_mode": 2, "headers": {"a": 1}, "type": "t"}});
        let (key, content) = parse(whole.clone()).expect("a message");
        assert_eq!((key.as_bytes(), content.body.as_slice()), (&b"k"[..], &b"hi"[..]));
        let back = Value::Object(properties_object(&content.properties));
        assert_eq!(back, whole["properties"]);
        for (member, wrong) in [
            ("payload", json!(5)),
            ("payload", json!("%")),
            ("payload_encoding", json!("hex")),
            ("routing_key", json!("k".repeat(256))),
            ("properties", json!("none")),
            ("properties", json!({"priority": 256})),
            ("properties", json!({"timestamp": -1})),
            ("properties", json!({"message_id": 5})),
            ("properties", json!({"headers": 5})),
        ] {
            let mut body = whole.clone();
            body[member] = wrong.clone();
            assert!(parse(body).is_err(), "{member}: {wrong}");
        }
        assert_eq!(
            parse(json!({"payload": ""})).expect_err("incomplete"),
            Problem::bad_request("[{key_missing,routing_key},{key_missing,properties},{key_missing,payload_encoding}]")
        );
    }

    #[test]
    fn bodies_are_shown_as_text_if_they_are_text() {
        let auto = Shown { auto: true, truncate: None };
        assert_eq!(shown(b"text", auto), ("text".to_owned(), "string"));
        assert_eq!(shown(b"\xff", auto), ("/w==".to_owned(), "base64"));
        assert_eq!(shown(b"text", Shown { auto: false, truncate: Some(2) }), ("dGU=".to_owned(), "base64"));
        assert_eq!(shown("é".as_bytes(), Shown { auto: true, truncate: Some(1) }).1, "base64");
    }

    #[test]
    fn ack_modes_have_four_names() {
        assert_eq!(AckMode::parse(&json!("ack_requeue_false")), Ok(AckMode::Ack));
        assert_eq!(AckMode::parse(&json!("reject_requeue_true")), Ok(AckMode::Requeue));
        assert!(AckMode::parse(&json!("ack")).is_err());
    }
}
