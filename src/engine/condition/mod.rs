//! Conditions: which messages somebody means, by where they were published to, properties, headers, age and body.
//!
//! Written as an expression (`expression`), or as the object that filters of requests are (`object`):
//!
//! ```text
//! header.tenant = 'a' and (priority > 4 or age > 1h) and not body contains "test"
//! {"header.tenant": "a", "x-death.reason": "rejected", "older_than": "PT1H", "message_id": ["m1", "m2"]}
//! ```
//!
//! A name that leads to several values (all entries of `x-death`, the items of an array) is met if one of them is. What is
//! compared with a number is one if it reads as one; all else is compared as octets.
//!
//! Invariants: parsing and matching take no more memory than the text and the message, and nest no deeper than
//! `DEPTH_MAX`; a regular expression that takes too long does not match.

mod duration;
mod expression;
mod field;
mod object;

use std::cmp::Ordering;

use fancy_regex::Regex;

use field::{Field, Subject};

use super::message::{Message, Timestamp};

pub use duration::parse_duration_ms;

/// Octets of an expression at most.
pub const EXPRESSION_MAX_BYTES: usize = 8 * 1024;
/// How deep brackets and `not` may nest.
const DEPTH_MAX: usize = 32;

/// A condition on messages.
#[derive(Clone, Debug)]
pub struct Condition(Node);

#[derive(Clone, Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test(Field, Check),
}

/// What a value has to be.
#[derive(Clone, Debug)]
enum Check {
    Exists,
    OneOf(Vec<Literal>),
    Below(Literal),
    AtMost(Literal),
    Above(Literal),
    AtLeast(Literal),
    Contains(Vec<u8>),
    StartsWith(Vec<u8>),
    EndsWith(Vec<u8>),
    Matches(Box<Regex>),
}

/// A value that somebody wrote down.
#[derive(Clone, Debug, PartialEq)]
struct Literal {
    text: String,
    /// What it is as a number. Text in quotes is none.
    number: Option<Number>,
}

impl Literal {
    fn bare(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { number: Number::parse(text.as_bytes()), text }
    }

    fn quoted(text: impl Into<String>) -> Self {
        Self { text: text.into(), number: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Integer(i64),
    Real(f64),
}

impl Number {
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        if let Ok(number) = text.parse() {
            return Some(Self::Integer(number));
        }
        // Words such as `inf` are none.
        let plain = text.bytes().all(|octet| octet.is_ascii_digit() || b"+-.eE".contains(&octet));
        text.parse().ok().filter(|_| plain).map(Self::Real)
    }

    #[expect(clippy::cast_precision_loss, reason = "compared with a number that is no integer")]
    fn real(self) -> f64 {
        match self {
            Self::Integer(number) => number as f64,
            Self::Real(number) => number,
        }
    }

    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => Some(one.cmp(&other)),
            (one, other) => one.real().partial_cmp(&other.real()),
        }
    }
}

/// A value that was found in a message.
#[derive(Clone, Debug)]
enum Found<'a> {
    Octets(&'a [u8]),
    Number(Number),
    Flag(bool),
    /// Something that cannot be compared: no value, a table.
    Other,
}

impl Found<'_> {
    fn compare(&self, literal: &Literal) -> Option<Ordering> {
        match self {
            Self::Octets(octets) => match (literal.number, Number::parse(octets)) {
                (Some(wanted), Some(found)) => found.compare(wanted),
                (Some(_) | None, _) => Some((*octets).cmp(literal.text.as_bytes())),
            },
            Self::Number(number) => {
                let wanted = literal.number.or_else(|| Number::parse(literal.text.as_bytes()))?;
                number.compare(wanted)
            }
            Self::Flag(flag) => {
                let equal = literal.text.eq_ignore_ascii_case(if *flag { "true" } else { "false" });
                equal.then_some(Ordering::Equal)
            }
            Self::Other => None,
        }
    }

    fn octets(&self) -> Option<&[u8]> {
        if let Self::Octets(octets) = self { Some(octets) } else { None }
    }
}

impl Check {
    fn is_met(&self, found: &Found<'_>) -> bool {
        let ordered = |literal: &Literal, wanted: fn(Ordering) -> bool| found.compare(literal).is_some_and(wanted);
        match self {
            Self::Exists => true,
            Self::OneOf(literals) => literals.iter().any(|literal| found.compare(literal) == Some(Ordering::Equal)),
            Self::Below(literal) => ordered(literal, Ordering::is_lt),
            Self::AtMost(literal) => ordered(literal, Ordering::is_le),
            Self::Above(literal) => ordered(literal, Ordering::is_gt),
            Self::AtLeast(literal) => ordered(literal, Ordering::is_ge),
            Self::Contains(needle) => found.octets().is_some_and(|octets| contains(octets, needle)),
            Self::StartsWith(needle) => found.octets().is_some_and(|octets| octets.starts_with(needle)),
            Self::EndsWith(needle) => found.octets().is_some_and(|octets| octets.ends_with(needle)),
            Self::Matches(regex) => {
                found.octets().is_some_and(|octets| regex.is_match(&*String::from_utf8_lossy(octets)).unwrap_or(false))
            }
        }
    }
}

/// Whether octets have others among them.
fn contains(octets: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else { return true };
    let mut from = 0;
    // Most octets are passed over by the search for the first one, which is fast.
    while let Some(at) = octets[from..].iter().position(|octet| octet == first) {
        let behind = from + at + 1;
        if octets[behind..].starts_with(rest) {
            return true;
        }
        from = behind;
    }
    false
}

impl Condition {
    /// One that every message meets.
    pub const fn all() -> Self {
        Self(Node::All(Vec::new()))
    }

    /// Whether every message meets it, whatever it is.
    pub fn is_all(&self) -> bool {
        matches!(&self.0, Node::All(nodes) if nodes.is_empty())
    }

    /// One that is met if both are.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(Node::All(vec![self.0, other.0])).flat()
    }

    fn flat(self) -> Self {
        let Node::All(nodes) = self.0 else { return self };
        let parts = nodes.into_iter().flat_map(|node| if let Node::All(parts) = node { parts } else { vec![node] });
        Self(Node::All(parts.collect()))
    }

    /// Whether a message meets it.
    pub fn is_met(&self, message: &Message<'_>, now: Timestamp) -> bool {
        self.is_all() || is_met(&self.0, &Subject::new(message, now))
    }
}

fn is_met(node: &Node, subject: &Subject<'_>) -> bool {
    match node {
        Node::All(nodes) => nodes.iter().all(|node| is_met(node, subject)),
        Node::Any(nodes) => nodes.iter().any(|node| is_met(node, subject)),
        Node::Not(node) => !is_met(node, subject),
        Node::Test(field, check) => field.any(subject, &mut |found| check.is_met(&found)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use leveret_protocol::{BasicProperties, FieldTable, FieldValue, ShortString};
    use serde_json::json;

    use super::*;
    use crate::engine::message::{Arena, ArenaBuilder, Body, MessageParts};

    fn text(text: &str) -> FieldValue {
        FieldValue::LongString(text.try_into().expect("short"))
    }

    fn table(entries: &[(&'static str, FieldValue)]) -> FieldTable {
        entries.iter().map(|(name, value)| (ShortString::from_static(name), value.clone())).collect()
    }

    /// A message that is 90 seconds old.
    fn sample() -> Arc<Arena> {
        let death = |reason: &str, count| {
            FieldValue::Table(table(&[("reason", text(reason)), ("count", FieldValue::Int64(count))]))
        };
        let headers = table(&[
            ("tenant", text("a")),
            ("n", FieldValue::Int32(7)),
            ("numeral", text("12")),
            ("urgent", FieldValue::Boolean(true)),
            ("share", FieldValue::Double(0.5)),
            ("nothing", FieldValue::Void),
            ("a.b", FieldValue::Table(table(&[("c", text("deep"))]))),
            ("tags", FieldValue::Array(vec![text("red"), text("green")])),
            ("x-death", FieldValue::Array(vec![death("expired", 3), death("rejected", 1)])),
        ]);
        let properties = BasicProperties {
            headers: Some(headers),
            content_type: Some(ShortString::from_static("text/plain")),
            message_id: Some(ShortString::from_static("m-1")),
            priority: Some(5),
            delivery_mode: Some(2),
            ..BasicProperties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let mut builder = ArenaBuilder::new();
        builder.push(&MessageParts {
            exchange: b"orders",
            routing_key: b"eu.new",
            properties: &encoded,
            body: Body::Borrowed(b"{\"sum\": 40}"),
            persistent: true,
            priority: 5,
            expiration_ms: None,
            broker_deaths: false,
            enqueued_at: Timestamp::from_millis(10_000),
        });
        builder.finish()
    }

    const NOW: Timestamp = Timestamp::from_millis(100_000);

    fn met(expression: &str) -> bool {
        let condition = Condition::parse(expression).unwrap_or_else(|cause| panic!("{expression}: {cause}"));
        condition.is_met(&sample().message(0), NOW)
    }

    #[test]
    fn expressions_are_met_or_not() {
        for expression in [
            "routing_key = eu.new",
            "exchange == 'orders'",
            "routing_key starts_with eu. and routing_key ends_with \".new\"",
            "body contains 'sum'",
            "body_bytes = 11",
            "message_id in (m-0, m-1)",
            "priority > 4 AND priority <= 5",
            "persistent = true and delivery_mode = 2",
            "content_type matches '^text/'",
            "header.tenant = a",
            "headers.tenant != b",
            "header.n >= 7 and header.n < 7.5",
            "header.n = 7",
            "header.numeral > 9",
            "header.numeral = '12' and header.numeral != '012' and header.numeral = 012",
            "header.urgent = true",
            "header.share < 1",
            "header.nothing exists and not header.none exists",
            "header.a.b.c = deep",
            "header.tags = green",
            "x-death.reason = rejected",
            "x-death.0.reason = expired and not x-death.0.reason = rejected",
            "x-death.count > 2",
            "header.'x-death'.reason = rejected",
            "age > 1m and age < 2m",
            "age >= 90 and age >= PT1M30S",
            "not (header.tenant = b or priority = 0)",
            "correlation_id != x",
            "header.tenant = 'it''s' or x-death exists",
        ] {
            assert!(met(expression), "{expression}");
            assert!(!met(&format!("not ({expression})")), "not {expression}");
        }
        for expression in [
            "header.none = ''",
            "header.none != '' and header.none > 0",
            "header.nothing = ''",
            "header.tags = blue",
            "header.n = '7x'",
            "header.tenant > 5 and header.tenant < 5",
            "age > 2m",
            "exchange = ''",
            "body contains 'nothing like it'",
            "header.x-death = rejected",
        ] {
            assert!(!met(expression), "{expression}");
        }
    }

    #[test]
    fn objects_say_what_all_of_must_be_met() {
        let met = |object: serde_json::Value| {
            let object = object.as_object().expect("an object").clone();
            Condition::from_object(&object).map(|condition| condition.is_met(&sample().message(0), NOW))
        };
        assert_eq!(met(json!({})), Ok(true));
        assert_eq!(
            met(json!({"header.tenant": "a", "x-death.reason": "rejected", "older_than": "PT1M", "header.n": 7,
                       "message_id": ["m-1", "m-2"], "header.urgent": true, "younger_than": "1h",
                       "body_contains": "sum", "where": "priority > 4"})),
            Ok(true)
        );
        for (name, value) in [
            ("header.tenant", json!("b")),
            ("older_than", json!(91)),
            ("younger_than", json!("90s")),
            ("message_id", json!([])),
            ("routing_key", json!("eu")),
            ("body_contains", json!("40}}")),
            ("where", json!("priority > 5")),
        ] {
            assert_eq!(met(json!({name: value})), Ok(false), "{name}: {value}");
        }
        for (name, value) in [
            ("colour", json!("red")),
            ("older_than", json!("soon")),
            ("header.n", json!({"gt": 5})),
            ("header.n", json!(null)),
            ("body_contains", json!(5)),
            ("where", json!("priority >")),
        ] {
            assert!(met(json!({name: value})).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn the_search_in_a_body_finds_what_is_there() {
        for (octets, needle, there) in [
            ("", "", true),
            ("a", "", true),
            ("", "a", false),
            ("aab", "ab", true),
            ("aaa", "ab", false),
            ("ab", "abc", false),
        ] {
            assert_eq!(contains(octets.as_bytes(), needle.as_bytes()), there, "{needle} in {octets}");
        }
    }
}
