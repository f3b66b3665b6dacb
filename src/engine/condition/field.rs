//! What a condition looks at in a message, and finding it there.

use leveret_protocol::{FieldValue, PropertiesRef, ValueRef, table_entries};

use super::{Found, Number};
use crate::engine::message::{Message, Timestamp};

/// Something of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Exchange,
    RoutingKey,
    Body,
    BodyBytes,
    /// Milliseconds since it came into its queue.
    Age,
    Persistent,
    Property(Property),
    /// A header, or what is inside one: names with dots between.
    Header(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property {
    ContentType,
    ContentEncoding,
    DeliveryMode,
    Priority,
    CorrelationId,
    ReplyTo,
    Expiration,
    MessageId,
    Timestamp,
    Type,
    UserId,
    AppId,
    ClusterId,
}

/// A message that conditions are applied to.
pub(super) struct Subject<'a> {
    message: &'a Message<'a>,
    properties: PropertiesRef<'a>,
    now: Timestamp,
}

impl<'a> Subject<'a> {
    pub(super) fn new(message: &'a Message<'a>, now: Timestamp) -> Self {
        Self { message, properties: PropertiesRef::decode(message.properties()).unwrap_or_default(), now }
    }
}

impl Field {
    /// What a name stands for. Names of headers begin with `header.`, `headers.` or `x-`.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let header = name.strip_prefix("header.").or_else(|| name.strip_prefix("headers."));
        if let Some(path) = header.or_else(|| Some(name).filter(|name| name.starts_with("x-"))) {
            if path.is_empty() {
                return Err("'header.' needs the name of a header".to_owned());
            }
            return Ok(Self::Header(path.to_owned()));
        }
        Ok(match name {
            "exchange" => Self::Exchange,
            "routing_key" => Self::RoutingKey,
            "body" | "payload" => Self::Body,
            "body_bytes" | "payload_bytes" => Self::BodyBytes,
            "age" => Self::Age,
            "persistent" => Self::Persistent,
            "content_type" => Self::Property(Property::ContentType),
            "content_encoding" => Self::Property(Property::ContentEncoding),
            "delivery_mode" => Self::Property(Property::DeliveryMode),
            "priority" => Self::Property(Property::Priority),
            "correlation_id" => Self::Property(Property::CorrelationId),
            "reply_to" => Self::Property(Property::ReplyTo),
            "expiration" => Self::Property(Property::Expiration),
            "message_id" => Self::Property(Property::MessageId),
            "timestamp" => Self::Property(Property::Timestamp),
            "type" => Self::Property(Property::Type),
            "user_id" => Self::Property(Property::UserId),
            "app_id" => Self::Property(Property::AppId),
            "cluster_id" => Self::Property(Property::ClusterId),
            _ => {
                return Err(format!(
                    "'{name}' is nothing that a message has: exchange, routing_key, body, body_bytes, age, persistent, a \
                     property, or header.NAME"
                ));
            }
        })
    }

    /// Whether one of the values that a message has there meets `test`.
    pub(super) fn any(&self, subject: &Subject<'_>, test: &mut dyn FnMut(Found<'_>) -> bool) -> bool {
        let Subject { message, properties, now } = subject;
        let unsigned = |number: u64| Found::Number(Number::Integer(i64::try_from(number).unwrap_or(i64::MAX)));
        match self {
            Self::Exchange => test(Found::Octets(message.exchange())),
            Self::RoutingKey => test(Found::Octets(message.routing_key())),
            Self::Body => test(Found::Octets(message.body())),
            Self::BodyBytes => test(unsigned(message.body_len() as u64)),
            Self::Age => test(unsigned(now.as_millis().saturating_sub(message.enqueued_at().as_millis()))),
            Self::Persistent => test(Found::Flag(message.is_persistent())),
            Self::Property(property) => property.of(properties, &unsigned).is_some_and(test),
            Self::Header(path) => {
                let Some(headers) = properties.headers else { return false };
                in_table(headers, path, test)
            }
        }
    }
}

impl Property {
    fn of<'a>(self, properties: &PropertiesRef<'a>, unsigned: &impl Fn(u64) -> Found<'a>) -> Option<Found<'a>> {
        let text = match self {
            Self::DeliveryMode => return properties.delivery_mode.map(|mode| unsigned(mode.into())),
            Self::Priority => return properties.priority.map(|priority| unsigned(priority.into())),
            Self::Timestamp => return properties.timestamp.map(unsigned),
            Self::ContentType => properties.content_type,
            Self::ContentEncoding => properties.content_encoding,
            Self::CorrelationId => properties.correlation_id,
            Self::ReplyTo => properties.reply_to,
            Self::Expiration => properties.expiration,
            Self::MessageId => properties.message_id,
            Self::Type => properties.kind,
            Self::UserId => properties.user_id,
            Self::AppId => properties.app_id,
            Self::ClusterId => properties.cluster_id,
        };
        text.map(Found::Octets)
    }
}

/// Follows a path into a table. Names may have dots themselves: every way to read the path counts.
fn in_table(content: &[u8], path: &str, test: &mut dyn FnMut(Found<'_>) -> bool) -> bool {
    let mut ends: Vec<usize> = path.match_indices('.').map(|(at, _)| at).collect();
    ends.push(path.len());
    ends.into_iter().rev().any(|end| {
        let Some(value) = table_entries(content).find(&path.as_bytes()[..end]) else { return false };
        match path.get(end + 1..) {
            None => leaf(value, test),
            Some(rest) => inside(value, rest, test),
        }
    })
}

/// Follows a path into a value.
fn inside(value: ValueRef<'_>, path: &str, test: &mut dyn FnMut(Found<'_>) -> bool) -> bool {
    if value.tag() == b'F' {
        return in_table(value.octets(), path, test);
    }
    let Some(mut items) = value.as_array() else { return false };
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    if let Ok(nth) = first.parse::<usize>() {
        return items.nth(nth).is_some_and(|item| match rest {
            None => leaf(item, test),
            Some(rest) => inside(item, rest, test),
        });
    }
    items.any(|item| inside(item, path, test))
}

/// The end of a path: a value, or one of the items of an array.
fn leaf(value: ValueRef<'_>, test: &mut dyn FnMut(Found<'_>) -> bool) -> bool {
    if let Some(octets) = value.as_long_str() {
        return test(Found::Octets(octets));
    }
    if let Some(mut items) = value.as_array() {
        return items.any(|item| {
            if let Some(octets) = item.as_long_str() { test(Found::Octets(octets)) } else { test(scalar(&item)) }
        }) || test(Found::Other);
    }
    if value.tag() == b'x' {
        return test(Found::Octets(value.octets()));
    }
    test(scalar(&value))
}

fn scalar(value: &ValueRef<'_>) -> Found<'static> {
    if matches!(value.tag(), b'F' | b'A') {
        return Found::Other;
    }
    let Some(value) = value.decode() else { return Found::Other };
    if let Some(number) = value.as_integer() {
        return Found::Number(Number::Integer(number));
    }
    match value {
        FieldValue::Boolean(flag) => Found::Flag(flag),
        FieldValue::Float(number) => Found::Number(Number::Real(number.into())),
        FieldValue::Double(number) => Found::Number(Number::Real(number)),
        FieldValue::Decimal { scale, value } => {
            Found::Number(Number::Real(f64::from(value) / 10_f64.powi(i32::from(scale))))
        }
        FieldValue::Timestamp(seconds) => Found::Number(Number::Integer(i64::try_from(seconds).unwrap_or(i64::MAX))),
        FieldValue::LongString(_)
        | FieldValue::ByteArray(_)
        | FieldValue::Array(_)
        | FieldValue::Table(_)
        | FieldValue::Void
        | FieldValue::Int8(_)
        | FieldValue::UInt8(_)
        | FieldValue::Int16(_)
        | FieldValue::UInt16(_)
        | FieldValue::Int32(_)
        | FieldValue::UInt32(_)
        | FieldValue::Int64(_) => Found::Other,
    }
}
