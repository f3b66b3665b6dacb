//! Policies: settings for queues and exchanges by name, and the operator's limits on them (RabbitMQ extension).
//!
//! Per object exactly one policy applies, the matching one with the highest priority, and one operator policy; definitions
//! are not combined. A policy with a key that the type of a queue does not support does not apply to it at all.

use leveret_protocol::ShortString;
use serde_json::{Map, Value};

use super::pattern::Pattern;
use super::records::PolicyRecord;
use crate::engine::queue::{Overflow, QueueType, TTL_MAX_MS, age_in_seconds};

/// What policies can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyTarget {
    /// An exchange.
    Exchange,
    /// A classic queue.
    ClassicQueue,
    /// A quorum queue.
    QuorumQueue,
    /// A stream.
    Stream,
}

impl PolicyTarget {
    /// What a queue of this type is for policies.
    pub const fn of_queue(queue_type: QueueType) -> Self {
        match queue_type {
            QueueType::Classic => Self::ClassicQueue,
            QueueType::Quorum => Self::QuorumQueue,
            QueueType::Stream => Self::Stream,
        }
    }
}

/// What a policy's definition says, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// `message-ttl` in milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// `expires` in milliseconds.
    pub expires_ms: Option<u64>,
    /// `max-length`.
    pub max_length: Option<u64>,
    /// `max-length-bytes`.
    pub max_length_bytes: Option<u64>,
    /// `overflow`.
    pub overflow: Option<Overflow>,
    /// `dead-letter-exchange`.
    pub dead_letter_exchange: Option<ShortString>,
    /// `dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<ShortString>,
    /// `alternate-exchange`.
    pub alternate_exchange: Option<ShortString>,
    /// `delivery-limit`; negative means none.
    pub delivery_limit: Option<i64>,
    /// `consumer-timeout` in milliseconds.
    pub consumer_timeout_ms: Option<u64>,
    /// `max-age` of a stream, in seconds.
    pub max_age_s: Option<u64>,
    /// `stream-max-segment-size-bytes`.
    pub max_segment_bytes: Option<u64>,
    keys: Vec<String>,
}

/// Keys that an operator policy may have.
const OPERATOR_KEYS: [&str; 8] = [
    "expires",
    "message-ttl",
    "max-length",
    "max-length-bytes",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "delivery-limit",
    "overflow",
];

/// Keys that a type of queue has no use for: a policy with one of them does not apply to it.
fn unsupported(target: PolicyTarget) -> &'static [&'static str] {
    match target {
        PolicyTarget::Exchange => &[],
        PolicyTarget::ClassicQueue => &[
            "delivery-limit",
            "dead-letter-strategy",
            "max-in-memory-length",
            "max-in-memory-bytes",
            "max-age",
            "stream-max-segment-size-bytes",
            "initial-cluster-size",
            "target-group-size",
        ],
        PolicyTarget::QuorumQueue => &[
            "max-age",
            "stream-max-segment-size-bytes",
            "queue-mode",
            "queue-version",
            "ha-mode",
            "ha-params",
            "ha-sync-mode",
            "ha-promote-on-shutdown",
            "ha-promote-on-failure",
            "queue-master-locator",
            "initial-cluster-size",
        ],
        PolicyTarget::Stream => &[
            "expires",
            "message-ttl",
            "max-length",
            "overflow",
            "dead-letter-exchange",
            "dead-letter-routing-key",
            "dead-letter-strategy",
            "delivery-limit",
            "consumer-timeout",
            "max-in-memory-length",
            "max-in-memory-bytes",
            "queue-mode",
            "queue-version",
            "ha-mode",
            "ha-params",
            "ha-sync-mode",
            "ha-promote-on-shutdown",
            "ha-promote-on-failure",
            "queue-master-locator",
        ],
    }
}

impl Definition {
    /// Checks a definition.
    ///
    /// # Errors
    /// What is wrong with it, in RabbitMQ's words.
    pub fn parse(definition: &Map<String, Value>, operator: bool) -> Result<Self, String> {
        if definition.is_empty() {
            return Err("no policy provided".to_owned());
        }
        let mut parsed = Self::default();
        let mut strange = Vec::new();
        for (key, value) in definition {
            if operator && !OPERATOR_KEYS.contains(&key.as_str()) {
                strange.push((key, value));
                continue;
            }
            let invalid = |what: &str| format!("{} is not a valid {what}", erlang_term(value));
            match key.as_str() {
                "message-ttl" => parsed.message_ttl_ms = Some(millis(value, 0).ok_or_else(|| invalid("message TTL"))?),
                "expires" => parsed.expires_ms = Some(millis(value, 1).ok_or_else(|| invalid("queue expiry"))?),
                "max-length" => {
                    parsed.max_length = Some(value.as_u64().ok_or_else(|| invalid("maximum length"))?);
                }
                "max-length-bytes" => {
                    parsed.max_length_bytes = Some(value.as_u64().ok_or_else(|| invalid("maximum length in bytes"))?);
                }
                "overflow" => {
                    parsed.overflow = Some(match value.as_str() {
                        Some("drop-head") => Overflow::DropHead,
                        Some("reject-publish") => Overflow::RejectPublish,
                        Some("reject-publish-dlx") => Overflow::RejectPublishDlx,
                        Some(_) | None => return Err(invalid("overflow value")),
                    });
                }
                "dead-letter-exchange" => {
                    parsed.dead_letter_exchange =
                        Some(name(value).ok_or_else(|| invalid("dead letter exchange name"))?);
                }
                "dead-letter-routing-key" => {
                    parsed.dead_letter_routing_key =
                        Some(name(value).ok_or_else(|| invalid("dead letter routing key"))?);
                }
                "alternate-exchange" => {
                    parsed.alternate_exchange = Some(name(value).ok_or_else(|| invalid("alternate exchange name"))?);
                }
                "delivery-limit" => {
                    parsed.delivery_limit = Some(value.as_i64().ok_or_else(|| invalid("delivery limit"))?);
                }
                "consumer-timeout" => {
                    parsed.consumer_timeout_ms = Some(value.as_u64().ok_or_else(|| invalid("consumer timeout"))?);
                }
                "max-age" => {
                    let age = value.as_str().and_then(|age| age_in_seconds(age.as_bytes()));
                    parsed.max_age_s = Some(age.ok_or_else(|| invalid("max age"))?);
                }
                "stream-max-segment-size-bytes" => {
                    let size = value.as_u64().filter(|size| *size <= 3_000_000_000);
                    parsed.max_segment_bytes = Some(size.ok_or_else(|| invalid("segment size"))?);
                }
                "dead-letter-strategy" => {
                    one_of(value, &["at-most-once", "at-least-once"]).ok_or_else(|| invalid("dead letter strategy"))?;
                }
                "queue-mode" => one_of(value, &["default", "lazy"]).ok_or_else(|| invalid("queue-mode value"))?,
                "queue-version" => {
                    value
                        .as_u64()
                        .filter(|version| matches!(version, 1 | 2))
                        .ok_or_else(|| invalid("queue-version value"))?;
                }
                "queue-leader-locator" => {
                    one_of(value, &["client-local", "balanced", "random", "least-leaders", "min-masters"])
                        .ok_or_else(|| invalid("queue leader locator value"))?;
                }
                "queue-master-locator" => {
                    one_of(value, &["client-local", "random", "min-masters"])
                        .ok_or_else(|| format!("{} invalid queue-master-locator value", erlang_term(value)))?;
                }
                "max-in-memory-length" => {
                    value.as_u64().ok_or_else(|| invalid("maximum memory in length"))?;
                }
                "max-in-memory-bytes" => {
                    value.as_u64().ok_or_else(|| invalid("maximum memory in bytes"))?;
                }
                "initial-cluster-size" | "target-group-size" => {
                    value.as_u64().filter(|size| *size > 0).ok_or_else(|| invalid("group size"))?;
                }
                // Of mirroring and federation: kept, without effect on one machine.
                "ha-mode"
                | "ha-params"
                | "ha-sync-mode"
                | "ha-sync-batch-size"
                | "ha-promote-on-shutdown"
                | "ha-promote-on-failure"
                | "federation-upstream"
                | "federation-upstream-set"
                | "federation-upstream-pattern" => {}
                _ => strange.push((key, value)),
            }
            parsed.keys.push(key.clone());
        }
        if strange.is_empty() {
            return Ok(parsed);
        }
        let strange: Vec<_> =
            strange.iter().map(|(key, value)| format!("{{<<\"{key}\">>,{}}}", erlang_term(value))).collect();
        Err(format!("[{}] are not recognised policy settings", strange.join(",\n ")))
    }

    fn supports(&self, target: PolicyTarget) -> bool {
        !self.keys.iter().any(|key| unsupported(target).contains(&key.as_str()))
    }
}

fn millis(value: &Value, min: u64) -> Option<u64> {
    value.as_u64().filter(|millis| (min..=TTL_MAX_MS).contains(millis))
}

fn name(value: &Value) -> Option<ShortString> {
    ShortString::try_from(value.as_str()?).ok()
}

fn one_of(value: &Value, known: &[&str]) -> Option<()> {
    value.as_str().filter(|text| known.contains(text)).map(|_| ())
}

/// A JSON value as Erlang prints it.
pub(crate) fn erlang_term(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("<<\"{text}\">>"),
        Value::Array(items) => format!("[{}]", items.iter().map(erlang_term).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let entries: Vec<_> =
                map.iter().map(|(key, value)| format!("{{<<\"{key}\">>,{}}}", erlang_term(value))).collect();
            format!("[{}]", entries.join(","))
        }
    }
}

/// A policy ready to be applied.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What it says.
    pub definition: Definition,
    pattern: Pattern,
    apply_to: ApplyTo,
    priority: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ApplyTo {
    All,
    Queues,
    Exchanges,
    ClassicQueues,
    QuorumQueues,
    Streams,
}

impl Policy {
    /// Checks a policy.
    ///
    /// # Errors
    /// What is wrong with it, in RabbitMQ's words.
    pub fn parse(record: &PolicyRecord, operator: bool) -> Result<Self, String> {
        let pattern = Pattern::of_policy(&record.pattern)
            .map_err(|cause| format!("pattern should be regular expression but is invalid: {cause}"))?;
        let apply_to = match record.apply_to.as_str() {
            "all" => ApplyTo::All,
            "queues" => ApplyTo::Queues,
            "exchanges" => ApplyTo::Exchanges,
            "classic_queues" => ApplyTo::ClassicQueues,
            "quorum_queues" => ApplyTo::QuorumQueues,
            "streams" => ApplyTo::Streams,
            other => {
                return Err(format!("apply-to '{other}' unrecognised; should be 'queues', 'exchanges' or 'all'"));
            }
        };
        let definition = Definition::parse(&record.definition, operator)?;
        Ok(Self { name: record.name.clone(), definition, pattern, apply_to, priority: record.priority })
    }

    fn applies(&self, target: PolicyTarget, name: &[u8]) -> bool {
        let kind = match (self.apply_to, target) {
            (ApplyTo::All, _)
            | (ApplyTo::Queues, PolicyTarget::ClassicQueue | PolicyTarget::QuorumQueue | PolicyTarget::Stream)
            | (ApplyTo::Exchanges, PolicyTarget::Exchange)
            | (ApplyTo::ClassicQueues, PolicyTarget::ClassicQueue)
            | (ApplyTo::QuorumQueues, PolicyTarget::QuorumQueue)
            | (ApplyTo::Streams, PolicyTarget::Stream) => true,
            (
                ApplyTo::Queues
                | ApplyTo::Exchanges
                | ApplyTo::ClassicQueues
                | ApplyTo::QuorumQueues
                | ApplyTo::Streams,
                _,
            ) => false,
        };
        kind && self.definition.supports(target) && self.pattern.matches(name)
    }
}

/// The policies of a vhost.
#[derive(Debug, Default)]
pub struct Policies {
    regular: Vec<Policy>,
    operator: Vec<Policy>,
}

/// The policies that apply to one object.
#[derive(Clone, Copy, Debug, Default)]
pub struct Applied<'a> {
    /// The policy.
    pub regular: Option<&'a Policy>,
    /// The operator policy.
    pub operator: Option<&'a Policy>,
}

impl Policies {
    /// The policies of a vhost, in any order.
    pub fn new(mut regular: Vec<Policy>, mut operator: Vec<Policy>) -> Self {
        for policies in [&mut regular, &mut operator] {
            policies.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
        }
        Self { regular, operator }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.regular.is_empty() && self.operator.is_empty()
    }

    /// The policies that apply to an object with this name.
    pub fn of(&self, target: PolicyTarget, name: &[u8]) -> Applied<'_> {
        let first = |policies: &[Policy]| policies.iter().position(|policy| policy.applies(target, name));
        let operator = if target == PolicyTarget::Exchange { None } else { first(&self.operator) };
        Applied {
            regular: first(&self.regular).map(|at| &self.regular[at]),
            operator: operator.map(|at| &self.operator[at]),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(name: &str, pattern: &str, priority: i64, definition: Value) -> Policy {
        let Value::Object(definition) = definition else { panic!("a definition is an object") };
        let record = PolicyRecord {
            vhost: "/".to_owned(),
            name: name.to_owned(),
            pattern: pattern.to_owned(),
            apply_to: "queues".to_owned(),
            priority,
            definition,
        };
        Policy::parse(&record, false).expect("a valid policy")
    }

    fn refused(definition: Value, operator: bool) -> String {
        let Value::Object(definition) = definition else { panic!("a definition is an object") };
        Definition::parse(&definition, operator).expect_err("refused")
    }

    #[test]
    fn definitions_are_refused_in_rabbitmqs_words() {
        assert_eq!(refused(json!({}), false), "no policy provided");
        assert_eq!(refused(json!({"foo": 1}), false), "[{<<\"foo\">>,1}] are not recognised policy settings");
        assert_eq!(refused(json!({"max-length": -1}), false), "-1 is not a valid maximum length");
        assert_eq!(refused(json!({"overflow": "x"}), false), "<<\"x\">> is not a valid overflow value");
        assert_eq!(refused(json!({"expires": 0}), false), "0 is not a valid queue expiry");
        assert_eq!(
            refused(json!({"dead-letter-exchange": "x"}), true),
            "[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings"
        );
        for bad in ["", "s", "0s", "5x", "-1h"] {
            assert!(Definition::parse(json!({"max-age": bad}).as_object().expect("object"), false).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_highest_priority_that_matches_applies_alone() {
        let policies = Policies::new(
            vec![
                policy("low", "^a", 1, json!({"max-length": 1, "message-ttl": 5})),
                policy("high", "^a", 9, json!({"max-length": 2})),
                policy("other", "^b", 99, json!({"max-length": 3})),
            ],
            Vec::new(),
        );
        let applied = policies.of(PolicyTarget::ClassicQueue, b"abc").regular.expect("one applies");
        assert_eq!((applied.name.as_str(), applied.definition.message_ttl_ms), ("high", None));
        assert!(policies.of(PolicyTarget::Exchange, b"abc").regular.is_none());
        assert!(policies.of(PolicyTarget::ClassicQueue, b"c").regular.is_none());
    }

    #[test]
    fn a_policy_with_a_key_of_another_type_does_not_apply() {
        let policies =
            Policies::new(vec![policy("p", "", 0, json!({"max-length": 1, "delivery-limit": 5}))], Vec::new());
        assert!(policies.of(PolicyTarget::ClassicQueue, b"q").regular.is_none());
        assert!(policies.of(PolicyTarget::QuorumQueue, b"q").regular.is_some());
    }
}
