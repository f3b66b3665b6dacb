//! What happens to a message on its way to a dead-letter exchange (RabbitMQ extension).
//!
//! The copy keeps its body and properties but for `expiration`, and its header table tells its deaths: `x-death`, an array
//! with one entry for each queue and reason, the latest first, and `x-first-death-*`, `x-last-death-*`. A history that a
//! client sent is replaced at the first death (or continued, as RabbitMQ 3 does, if clients are trusted); the broker's own
//! is known by a flag of the message.

use std::collections::HashMap;

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, ShortString, decode_table_content};

use crate::engine::message::{Message, Timestamp};
use crate::engine::queue::DeathReason;
use crate::engine::vhost::long_string;

/// Where and why a message died.
#[derive(Clone, Debug)]
pub struct Death<'a> {
    /// The queue's name.
    pub queue: &'a ShortString,
    /// Why.
    pub reason: DeathReason,
    /// When.
    pub at: Timestamp,
    /// A history that a client sent is continued, as in RabbitMQ 3.
    pub trusts_clients: bool,
    /// `CC` goes, as in RabbitMQ 3 from what is routed by its queue's own key.
    pub drops_copies: bool,
}

/// The copy that goes to the dead-letter exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Property flags and list with the new header table.
    pub properties: Vec<u8>,
    /// Queue names that may not get the copy: it has been there before and went round without a client's doing.
    pub barred: Vec<Vec<u8>>,
    /// The keys that it is routed by when no dead-letter routing key is set: its own and those of `CC`.
    pub keys: Vec<Vec<u8>>,
}

const X_DEATH: &str = "x-death";

/// Makes the copy of a message that died.
pub fn bury(message: &Message<'_>, death: &Death<'_>) -> DeadLetter {
    let mut properties = BasicProperties::decode(message.properties()).unwrap_or_default();
    let mut headers = properties.headers.take().unwrap_or_default();
    let mut deaths = match headers.get(X_DEATH).and_then(FieldValue::as_array) {
        Some(entries) if message.has_broker_deaths() => {
            entries.iter().filter_map(FieldValue::as_table).cloned().collect()
        }
        Some(entries) if death.trusts_clients => counted(entries),
        _ => Vec::new(),
    };
    let keys = routing_keys(message, &headers);
    let reason = death.reason.as_str();
    let known = deaths.iter().position(|entry| {
        text(entry, "queue") == Some(death.queue.as_bytes()) && text(entry, "reason") == Some(reason.as_bytes())
    });
    let entry = match known {
        Some(at) => {
            let mut entry = deaths.remove(at);
            let count = entry.get("count").and_then(FieldValue::as_integer).unwrap_or(0);
            entry.insert(ShortString::from_static("count"), FieldValue::Int64(count.saturating_add(1)));
            entry
        }
        None => new_entry(message, death, &keys, properties.expiration.as_ref()),
    };
    deaths.insert(0, entry);
    let barred = barred_queues(&deaths, death.reason);

    if deaths.len() == 1 && known.is_none() {
        set_death(&mut headers, "first", message, death);
    }
    set_death(&mut headers, "last", message, death);
    if death.drops_copies {
        headers.remove("CC");
    }
    let array = deaths.into_iter().map(FieldValue::Table).collect();
    headers.insert(ShortString::from_static(X_DEATH), FieldValue::Array(array));
    properties.headers = Some(headers);
    properties.expiration = None;
    let mut encoded = Vec::with_capacity(message.properties().len() + 256);
    properties.encode(&mut encoded);
    DeadLetter { properties: encoded, barred, keys }
}

/// A client's history with one entry for each queue and reason: before 3.5, RabbitMQ made one for each death, without a count.
fn counted(entries: &[FieldValue]) -> Vec<FieldTable> {
    let mut places = HashMap::new();
    let mut deaths: Vec<(FieldTable, i64)> = Vec::new();
    for entry in entries.iter().filter_map(FieldValue::as_table) {
        let place = *places.entry((text(entry, "queue"), text(entry, "reason"))).or_insert(deaths.len());
        match deaths.get_mut(place) {
            Some((_, count)) => *count += 1,
            None => deaths.push((entry.clone(), 1)),
        }
    }
    let with_count = |(mut entry, count): (FieldTable, i64)| {
        if entry.get("count").and_then(FieldValue::as_integer).is_none() {
            entry.insert(ShortString::from_static("count"), FieldValue::Int64(count));
        }
        entry
    };
    deaths.into_iter().map(with_count).collect()
}

fn text<'a>(entry: &'a FieldTable, key: &str) -> Option<&'a [u8]> {
    entry.get(key).and_then(FieldValue::as_long_str)
}

fn new_entry(
    message: &Message<'_>,
    death: &Death<'_>,
    keys: &[Vec<u8>],
    expiration: Option<&ShortString>,
) -> FieldTable {
    let mut entry = FieldTable::new();
    let mut put = |key: &'static str, value: FieldValue| entry.push(ShortString::from_static(key), value);
    if let Some(expiration) = expiration {
        put("original-expiration", long_string(expiration.as_bytes()));
    }
    put("count", FieldValue::Int64(1));
    put("reason", long_string(death.reason.as_str().as_bytes()));
    put("queue", long_string(death.queue.as_bytes()));
    put("time", FieldValue::Timestamp(death.at.as_millis() / 1000));
    put("exchange", long_string(message.exchange()));
    put("routing-keys", FieldValue::Array(keys.iter().map(|key| long_string(key)).collect()));
    entry
}

fn set_death(headers: &mut FieldTable, which: &str, message: &Message<'_>, death: &Death<'_>) {
    let mut put = |what: &str, value: &[u8]| {
        headers.insert(ShortString::truncated(&format!("x-{which}-death-{what}")), long_string(value));
    };
    put("queue", death.queue.as_bytes());
    put("reason", death.reason.as_str().as_bytes());
    put("exchange", message.exchange());
}

/// The message's own key and those of its `CC` header.
fn routing_keys(message: &Message<'_>, headers: &FieldTable) -> Vec<Vec<u8>> {
    let copies = headers.get("CC").and_then(FieldValue::as_array).unwrap_or_default();
    std::iter::once(message.routing_key())
        .chain(copies.iter().filter_map(FieldValue::as_long_str))
        .map(<[u8]>::to_vec)
        .collect()
}

/// Queues in the history that no rejection stands before: going there again would be a loop without a client in it.
fn barred_queues(deaths: &[FieldTable], reason: DeathReason) -> Vec<Vec<u8>> {
    if reason == DeathReason::Rejected {
        return Vec::new();
    }
    deaths
        .iter()
        .take_while(|entry| text(entry, "reason") != Some(b"rejected"))
        .filter_map(|entry| text(entry, "queue").map(<[u8]>::to_vec))
        .collect()
}

/// The header table of encoded properties, for routing.
pub fn headers_of_properties(properties: &[u8]) -> FieldTable {
    leveret_protocol::PropertiesRef::decode(properties)
        .ok()
        .and_then(|properties| properties.headers)
        .and_then(|content| decode_table_content(content).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::message::{Arena, ArenaBuilder, Body, MessageParts};

    const NOW: Timestamp = Timestamp::from_millis(5_000);

    fn arena(properties: &[u8], broker_deaths: bool) -> Arc<Arena> {
        let mut builder = ArenaBuilder::new();
        builder.push(&MessageParts {
            exchange: b"x",
            routing_key: b"k",
            properties,
            body: Body::Borrowed(b"body"),
            persistent: true,
            priority: 0,
            expiration_ms: None,
            broker_deaths,
            enqueued_at: NOW,
        });
        builder.finish()
    }

    fn encode(properties: &BasicProperties) -> Vec<u8> {
        let mut out = Vec::new();
        properties.encode(&mut out);
        out
    }

    fn bury_at(properties: &[u8], broker_deaths: bool, queue: &'static str, reason: DeathReason) -> DeadLetter {
        let arena = arena(properties, broker_deaths);
        let queue = &ShortString::from_static(queue);
        bury(&arena.message(0), &Death { queue, reason, at: NOW, trusts_clients: false, drops_copies: false })
    }

    fn deaths(letter: &DeadLetter) -> Vec<(String, String, i64)> {
        let headers = headers_of_properties(&letter.properties);
        let entries = headers.get(X_DEATH).and_then(FieldValue::as_array).expect("array").to_vec();
        entries
            .iter()
            .map(|entry| {
                let entry = entry.as_table().expect("table");
                let word = |key| String::from_utf8_lossy(text(entry, key).expect("text")).into_owned();
                (word("queue"), word("reason"), entry.get("count").and_then(FieldValue::as_integer).expect("count"))
            })
            .collect()
    }

    fn entry(queue: &str, reason: &str, count: i64) -> (String, String, i64) {
        (queue.to_owned(), reason.to_owned(), count)
    }

    #[test]
    fn a_repeat_counts_and_moves_to_the_front() {
        let first = bury_at(&[0, 0], false, "a", DeathReason::Rejected);
        assert_eq!(deaths(&first), [entry("a", "rejected", 1)]);
        let second = bury_at(&first.properties, true, "b", DeathReason::Expired);
        let third = bury_at(&second.properties, true, "a", DeathReason::Rejected);
        assert_eq!(deaths(&third), [entry("a", "rejected", 2), entry("b", "expired", 1)]);
        let headers = headers_of_properties(&third.properties);
        assert_eq!(text(&headers, "x-first-death-queue"), Some(&b"a"[..]));
        assert_eq!(text(&headers, "x-last-death-queue"), Some(&b"a"[..]));
    }

    #[test]
    fn expiration_is_removed_and_remembered() {
        let properties =
            BasicProperties { expiration: Some(ShortString::from_static("100")), ..BasicProperties::default() };
        let letter = bury_at(&encode(&properties), false, "q", DeathReason::Expired);
        let decoded = BasicProperties::decode(&letter.properties).expect("valid");
        assert_eq!(decoded.expiration, None);
        let headers = decoded.headers.expect("headers");
        let entry = headers.get(X_DEATH).and_then(FieldValue::as_array).expect("array")[0].as_table().expect("table");
        assert_eq!(text(entry, "original-expiration"), Some(&b"100"[..]));
    }

    #[test]
    fn a_history_from_a_client_is_replaced() {
        let forged = bury_at(&[0, 0], false, "elsewhere", DeathReason::Rejected);
        let letter = bury_at(&forged.properties, false, "q", DeathReason::Expired);
        assert_eq!(deaths(&letter), [entry("q", "expired", 1)]);
    }

    #[test]
    fn a_history_from_a_client_is_continued_if_clients_are_trusted() {
        let sent = bury_at(&[0, 0], false, "q", DeathReason::Rejected);
        let arena = arena(&sent.properties, false);
        let queue = &ShortString::from_static("q");
        let death = Death { queue, reason: DeathReason::Rejected, at: NOW, trusts_clients: true, drops_copies: false };
        assert_eq!(deaths(&bury(&arena.message(0), &death)), [entry("q", "rejected", 2)]);
    }

    #[test]
    fn entries_without_a_count_become_one_if_clients_are_trusted() {
        let old = |queue: &'static str| {
            let mut entry = FieldTable::new();
            entry.push(ShortString::from_static("queue"), long_string(queue.as_bytes()));
            entry.push(ShortString::from_static("reason"), long_string(b"expired"));
            FieldValue::Table(entry)
        };
        let mut headers = FieldTable::new();
        let history = FieldValue::Array(vec![old("a"), old("b"), old("a"), old("a")]);
        headers.push(ShortString::from_static(X_DEATH), history);
        let properties = encode(&BasicProperties { headers: Some(headers), ..BasicProperties::default() });
        let arena = arena(&properties, false);
        let queue = &ShortString::from_static("a");
        let death = Death { queue, reason: DeathReason::Expired, at: NOW, trusts_clients: true, drops_copies: false };
        let letter = bury(&arena.message(0), &death);
        assert_eq!(deaths(&letter), [entry("a", "expired", 4), entry("b", "expired", 1)]);
    }

    #[test]
    fn loops_without_a_rejection_are_barred() {
        let first = bury_at(&[0, 0], false, "a", DeathReason::Expired);
        assert_eq!(first.barred, [b"a".to_vec()]);
        let second = bury_at(&first.properties, true, "b", DeathReason::Rejected);
        assert!(second.barred.is_empty());
        let third = bury_at(&second.properties, true, "c", DeathReason::Expired);
        assert_eq!(third.barred, [b"c".to_vec()]);
    }
}
