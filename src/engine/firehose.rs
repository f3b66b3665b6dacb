//! The firehose: copies of what is published and delivered in a vhost, for `amq.rabbitmq.trace` (RabbitMQ extension).
//!
//! A copy has the original's body, and no property but headers that tell of it: where it was published, with which keys and
//! properties, by whom or to whom. The order of the entries and the types of the values are RabbitMQ's.
//!
//! Not here: whether a vhost is traced, and where copies go (`server`).

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, PropertiesRef, ShortString};

use crate::engine::channel::copies::copies;
use crate::engine::vhost::long_string;

/// The exchange that copies are published to. What it routes is not copied in turn.
pub const TRACE_EXCHANGE: &[u8] = b"amq.rabbitmq.trace";

/// Where a message was seen.
#[derive(Clone, Copy, Debug)]
pub struct Tap<'a> {
    /// The broker's name.
    pub node: &'a str,
    /// The vhost.
    pub vhost: &'a ShortString,
    /// The connection, as `ip:port -> ip:port`.
    pub connection: &'a str,
    /// Its channel.
    pub channel: u16,
    /// Its user.
    pub user: &'a ShortString,
}

/// A message as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Exchange that it was published to.
    pub exchange: &'a [u8],
    /// Routing key that it was published with.
    pub routing_key: &'a [u8],
    /// Its property flags and list.
    pub properties: &'a [u8],
}

/// A copy in the making: what to publish to [`TRACE_EXCHANGE`], but for the body.
#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    /// Its routing key.
    pub routing_key: Vec<u8>,
    /// Its property flags and list.
    pub properties: Vec<u8>,
}

/// The copy of a message that was published and went to these queues.
pub fn published<'q>(tap: &Tap<'_>, seen: &Seen<'_>, routed: impl Iterator<Item = &'q ShortString>) -> Copy {
    let mut headers = describe(tap, seen);
    put_tap(&mut headers, tap);
    let mut queues: Vec<_> = routed.collect();
    queues.sort();
    let queues = queues.into_iter().map(|queue| long_string(queue.as_bytes())).collect();
    put(&mut headers, "routed_queues", FieldValue::Array(queues));
    copy(b"publish.", seen.exchange, headers)
}

/// The copy of a message that was delivered from this queue.
pub fn delivered(tap: &Tap<'_>, seen: &Seen<'_>, queue: &ShortString, redelivered: bool) -> Copy {
    let mut headers = describe(tap, seen);
    put(&mut headers, "redelivered", FieldValue::Int32(redelivered.into()));
    put_tap(&mut headers, tap);
    copy(b"deliver.", queue.as_bytes(), headers)
}

fn put(headers: &mut FieldTable, name: &'static str, value: FieldValue) {
    headers.push(ShortString::from_static(name), value);
}

fn put_tap(headers: &mut FieldTable, tap: &Tap<'_>) {
    put(headers, "vhost", long_string(tap.vhost.as_bytes()));
    put(headers, "connection", long_string(tap.connection.as_bytes()));
    put(headers, "channel", FieldValue::Int32(tap.channel.into()));
    put(headers, "user", long_string(tap.user.as_bytes()));
}

/// The key is cut at 255 octets, the most that a routing key can have.
fn copy(what: &[u8], name: &[u8], headers: FieldTable) -> Copy {
    let mut routing_key = [what, name].concat();
    routing_key.truncate(usize::from(u8::MAX));
    let mut properties = Vec::new();
    BasicProperties { headers: Some(headers), ..BasicProperties::default() }.encode(&mut properties);
    Copy { routing_key, properties }
}

fn describe(tap: &Tap<'_>, seen: &Seen<'_>) -> FieldTable {
    // What is in a queue was checked when it came; should it not be readable, the copy tells of no properties.
    let properties = BasicProperties::decode(seen.properties).unwrap_or_default();
    let mut keys = vec![long_string(seen.routing_key)];
    let encoded = PropertiesRef::decode(seen.properties).unwrap_or_default();
    if let Some(copies) = encoded.headers.and_then(|headers| copies(headers).ok().flatten()) {
        keys.extend(copies.keys.into_iter().map(long_string));
    }
    let mut headers = FieldTable::new();
    put(&mut headers, "exchange_name", long_string(seen.exchange));
    put(&mut headers, "routing_keys", FieldValue::Array(keys));
    put(&mut headers, "properties", FieldValue::Table(table_of(properties)));
    put(&mut headers, "node", long_string(tap.node.as_bytes()));
    headers
}

/// Properties by name, the last one first.
fn table_of(properties: BasicProperties) -> FieldTable {
    let text = |text: Option<ShortString>| text.map(|text| long_string(text.as_bytes()));
    [
        ("cluster_id", text(properties.cluster_id)),
        ("app_id", text(properties.app_id)),
        ("user_id", text(properties.user_id)),
        ("type", text(properties.kind)),
        ("timestamp", properties.timestamp.map(integer)),
        ("message_id", text(properties.message_id)),
        ("expiration", text(properties.expiration)),
        ("reply_to", text(properties.reply_to)),
        ("correlation_id", text(properties.correlation_id)),
        ("priority", properties.priority.map(|priority| integer(priority.into()))),
        ("delivery_mode", properties.delivery_mode.map(|mode| integer(mode.into()))),
        ("headers", properties.headers.map(FieldValue::Table)),
        ("content_encoding", text(properties.content_encoding)),
        ("content_type", text(properties.content_type)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((ShortString::from_static(name), value?)))
    .collect()
}

/// 32 bits if that is enough, as RabbitMQ has it; it cuts larger ones.
fn integer(number: u64) -> FieldValue {
    match i32::try_from(number) {
        Ok(number) => FieldValue::Int32(number),
        Err(_) => FieldValue::Int64(i64::try_from(number).unwrap_or(i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ROOT: ShortString = ShortString::from_static("/");
    static GUEST: ShortString = ShortString::from_static("guest");

    fn tap() -> Tap<'static> {
        Tap { node: "rabbit@here", vhost: &ROOT, connection: "1.2.3.4:5 -> 6.7.8.9:10", channel: 3, user: &GUEST }
    }

    fn names(table: &FieldTable) -> Vec<&str> {
        table.iter().filter_map(|(name, _)| name.as_str()).collect()
    }

    fn headers(copy: &Copy) -> FieldTable {
        let properties = BasicProperties::decode(&copy.properties).expect("well-formed");
        let headers = properties.headers.clone().expect("headers");
        assert_eq!(properties, BasicProperties { headers: Some(headers.clone()), ..BasicProperties::default() });
        headers
    }

    #[test]
    fn a_published_message_is_told_of_as_rabbitmq_does() {
        let mut properties = Vec::new();
        let message = BasicProperties {
            content_type: Some(ShortString::from_static("text/plain")),
            delivery_mode: Some(2),
            timestamp: Some(5_000_000_000),
            headers: Some(FieldTable::new()),
            ..BasicProperties::default()
        };
        message.encode(&mut properties);
        let seen = Seen { exchange: b"x", routing_key: b"k", properties: &properties };
        let copy = published(&tap(), &seen, [&ShortString::from_static("q")].into_iter());
        assert_eq!(copy.routing_key, b"publish.x");
        let headers = headers(&copy);
        assert_eq!(
            names(&headers),
            [
                "exchange_name",
                "routing_keys",
                "properties",
                "node",
                "vhost",
                "connection",
                "channel",
                "user",
                "routed_queues"
            ]
        );
        let told = headers.get("properties").and_then(FieldValue::as_table).expect("a table");
        assert_eq!(names(told), ["timestamp", "delivery_mode", "headers", "content_type"]);
        assert_eq!(told.get("timestamp"), Some(&FieldValue::Int64(5_000_000_000)));
        assert_eq!(told.get("delivery_mode"), Some(&FieldValue::Int32(2)));
        assert_eq!(headers.get("routed_queues"), Some(&FieldValue::Array(vec![long_string(b"q")])));
        assert_eq!(headers.get("channel"), Some(&FieldValue::Int32(3)));
    }

    #[test]
    fn a_delivered_message_is_told_of_with_its_queue_and_flag() {
        let seen = Seen { exchange: b"", routing_key: b"k", properties: &[0, 0] };
        let copy = delivered(&tap(), &seen, &ShortString::from_static("q"), true);
        assert_eq!(copy.routing_key, b"deliver.q");
        let headers = headers(&copy);
        assert_eq!(
            names(&headers),
            [
                "exchange_name",
                "routing_keys",
                "properties",
                "node",
                "redelivered",
                "vhost",
                "connection",
                "channel",
                "user"
            ]
        );
        assert_eq!(headers.get("redelivered"), Some(&FieldValue::Int32(1)));
    }

    #[test]
    fn further_keys_are_named() {
        let keys = |key: &[u8]| FieldValue::Array(vec![long_string(key), FieldValue::Void]);
        let table = [(ShortString::from_static("CC"), keys(b"c"))];
        let mut properties = Vec::new();
        let message = BasicProperties { headers: Some(table.into_iter().collect()), ..BasicProperties::default() };
        message.encode(&mut properties);
        let seen = Seen { exchange: b"x", routing_key: b"k", properties: &properties };
        let headers = headers(&published(&tap(), &seen, std::iter::empty()));
        let expected = [&b"k"[..], b"c"].map(long_string).to_vec();
        assert_eq!(headers.get("routing_keys"), Some(&FieldValue::Array(expected)));
        let told = headers.get("properties").and_then(FieldValue::as_table).expect("a table");
        let told = told.get("headers").and_then(FieldValue::as_table).expect("a table");
        assert_eq!(names(told), ["CC"]);
    }

    #[test]
    fn a_long_name_is_cut_with_its_key() {
        let queue = ShortString::try_from(vec![b'q'; 255]).expect("fits");
        let seen = Seen { exchange: b"", routing_key: b"", properties: &[0, 0] };
        assert_eq!(delivered(&tap(), &seen, &queue, false).routing_key.len(), 255);
    }
}
