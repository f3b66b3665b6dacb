//! A message as operators see it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret_protocol::BasicProperties;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::PeekQuestion;
use super::walk::shown_id;
use crate::engine::message::Timestamp;
use crate::engine::queue::{Seen, Standing};
use crate::server::operator::arguments::Arguments;
use crate::server::queue_cell::QueueCell;

/// Octets of a body that are shown of its head, unless somebody asks for another number.
const HEAD_BYTES: usize = 1024;
/// Octets of a body that are shown at most.
const BODY_MAX_BYTES: usize = 16 * 1024 * 1024;

/// How much of a body is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BodyWish {
    #[default]
    None,
    /// Its first octets.
    Head,
    Full,
}

impl BodyWish {
    /// The wish with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        serde_json::from_value(Value::String(name.to_owned())).ok()
    }
}

/// A message as it is shown. Names of fields are those of RabbitMQ's `get` where it has them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MessageInfo {
    /// Stays the same as long as the message is in the queue.
    pub(crate) id: String,
    pub(crate) state: &'static str,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) redelivered: bool,
    /// How often it came back, in queues that count it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivery_count: Option<u32>,
    /// Milliseconds since 1970.
    pub(crate) enqueued_at: u64,
    pub(crate) age_ms: u64,
    /// When a delayed message goes on, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) due_at: Option<u64>,
    /// The delayed-message exchange in front of which it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delayed_by: Option<String>,
    pub(crate) properties: Value,
    pub(crate) payload_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<String>,
    /// `string` or `base64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload_encoding: Option<&'static str>,
    /// The payload is only the first part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload_truncated: Option<bool>,
    /// Who has an unacked message, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<HolderInfo>,
}

/// Who has an unacked message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct HolderInfo {
    /// Its name.
    pub(crate) connection: String,
    pub(crate) connection_pid: String,
    pub(crate) channel: u16,
    pub(crate) channel_pid: String,
    pub(crate) user: String,
    /// `None` if it was fetched with basic.get, or its consumer is cancelled.
    pub(crate) consumer_tag: Option<String>,
    /// About since when, in milliseconds since 1970, if that is known.
    pub(crate) since: Option<u64>,
}

impl MessageInfo {
    pub(super) fn new(source: &QueueCell, seen: &Seen, question: &PeekQuestion, now: Timestamp) -> Self {
        let message = seen.message();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let state = match (source.delays, seen.standing) {
            (true, _) => "delayed",
            (false, Standing::Ready) => "ready",
            (false, Standing::Unacked) => "unacked",
        };
        let enqueued_at = message.enqueued_at();
        let due_at =
            message.expiration_ms().filter(|_| source.delays).map(|ms| enqueued_at.plus_millis(ms).as_millis());
        let shown = match question.body {
            BodyWish::None => None,
            BodyWish::Head => Some(question.body_bytes.unwrap_or(HEAD_BYTES)),
            BodyWish::Full => Some(BODY_MAX_BYTES),
        };
        let shown = shown.map(|bytes| &message.body()[..message.body_len().min(bytes.min(BODY_MAX_BYTES))]);
        let payload = shown.map(|shown| payload(shown, shown.len() < message.body_len()));
        Self {
            id: shown_id(source, seen.id),
            state,
            exchange: text(message.exchange()),
            routing_key: text(message.routing_key()),
            redelivered: seen.redelivered,
            delivery_count: source.settings().counts_returns().then_some(seen.delivery_count),
            enqueued_at: enqueued_at.as_millis(),
            age_ms: now.as_millis().saturating_sub(enqueued_at.as_millis()),
            due_at,
            delayed_by: source.delays.then(|| source.name.to_string()),
            properties: properties(message.properties()),
            payload_bytes: message.body_len() as u64,
            payload_truncated: shown.map(|shown| shown.len() < message.body_len()),
            payload_encoding: payload.as_ref().map(|(_, encoding)| *encoding),
            payload: payload.map(|(payload, _)| payload),
            holder: None,
        }
    }
}

/// A body, or the first part of it, as text if it is that, and as base64 if not.
fn payload(body: &[u8], is_cut: bool) -> (String, &'static str) {
    match std::str::from_utf8(body) {
        Ok(text) => (text.to_owned(), "string"),
        // What was cut off in the middle of a letter is text still.
        Err(cause) if is_cut && cause.error_len().is_none() && cause.valid_up_to() > 0 => {
            (String::from_utf8_lossy(&body[..cause.valid_up_to()]).into_owned(), "string")
        }
        Err(_) => (STANDARD.encode(body), "base64"),
    }
}

/// Properties as JSON, those that are there, with the names that RabbitMQ's HTTP API has for them.
pub(crate) fn properties(encoded: &[u8]) -> Value {
    let properties = BasicProperties::decode(encoded).unwrap_or_default();
    let mut object = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        object.extend(value.map(|value| (name.to_owned(), value)));
    };
    let texts = [
        ("app_id", &properties.app_id),
        ("cluster_id", &properties.cluster_id),
        ("content_encoding", &properties.content_encoding),
        ("content_type", &properties.content_type),
        ("correlation_id", &properties.correlation_id),
        ("expiration", &properties.expiration),
        ("message_id", &properties.message_id),
        ("reply_to", &properties.reply_to),
        ("type", &properties.kind),
        ("user_id", &properties.user_id),
    ];
    for (name, text) in texts {
        put(name, text.as_ref().map(|text| String::from_utf8_lossy(text.as_bytes()).into()));
    }
    put("delivery_mode", properties.delivery_mode.map(Value::from));
    put("priority", properties.priority.map(Value::from));
    put("timestamp", properties.timestamp.map(Value::from));
    put("headers", properties.headers.map(|headers| Arguments(headers).to_object()));
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies_are_text_or_base64() {
        assert_eq!(payload(b"plain", false), ("plain".to_owned(), "string"));
        assert_eq!(payload("é".as_bytes(), false), ("é".to_owned(), "string"));
        assert_eq!(payload(&"aé".as_bytes()[..2], true), ("a".to_owned(), "string"));
        assert_eq!(payload(&"aé".as_bytes()[..2], false), ("YcM=".to_owned(), "base64"));
        assert_eq!(payload(&[0xff, 0], false), ("/wA=".to_owned(), "base64"));
    }

    #[test]
    fn properties_are_those_that_are_there() {
        let mut encoded = Vec::new();
        let headers = [(leveret_protocol::ShortString::from_static("n"), 5.into())].into_iter().collect();
        BasicProperties { headers: Some(headers), priority: Some(3), ..BasicProperties::default() }
            .encode(&mut encoded);
        assert_eq!(properties(&encoded), json!({"headers": {"n": 5}, "priority": 3}));
    }
}
