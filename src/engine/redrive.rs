//! What a dead letter tells of where it came from, and the copy of it that goes back there.

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, ShortString};

use super::message::Message;

/// The header that counts how often a message was sent back from a dead-letter queue.
const X_REDRIVE_COUNT: &str = "x-redrive-count";

/// What the broker writes into the headers of a dead letter.
const DEATH_HEADERS: [&str; 7] = [
    "x-death",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-first-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
    "x-last-death-exchange",
];

/// Where a message was before it died for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The queue.
    pub queue: Vec<u8>,
    /// The exchange that it had been published to.
    pub exchange: Vec<u8>,
    /// The routing key that it had been published with.
    pub routing_key: Vec<u8>,
}

/// Where a dead letter was before it died for the first time; `None` if it does not tell.
pub fn origin(message: &Message<'_>) -> Option<Origin> {
    let headers = BasicProperties::decode(message.properties()).ok()?.headers?;
    let text = |table: &FieldTable, name: &str| table.get(name).and_then(FieldValue::as_long_str).map(<[u8]>::to_vec);
    let deaths = headers.get("x-death").and_then(FieldValue::as_array).unwrap_or_default();
    // The latest death is the first entry.
    let deaths = deaths.iter().rev().filter_map(FieldValue::as_table);
    let first = text(&headers, "x-first-death-queue");
    let queue = first.or_else(|| deaths.clone().find_map(|death| text(death, "queue")))?;
    let death = deaths.clone().find(|death| text(death, "queue").as_ref() == Some(&queue));
    let key = death.and_then(|death| death.get("routing-keys")).and_then(FieldValue::as_array);
    let key = key.and_then(|keys| keys.first()).and_then(FieldValue::as_long_str).map(<[u8]>::to_vec);
    let exchange = death.and_then(|death| text(death, "exchange"));
    let exchange = exchange.or_else(|| text(&headers, "x-first-death-exchange")).unwrap_or_default();
    Some(Origin { routing_key: key.unwrap_or_else(|| queue.clone()), exchange, queue })
}

/// The properties of a message that is sent back: it counts that, and, unless they are kept, has the headers of its deaths no
/// more.
pub fn redriven(message: &Message<'_>, keep_headers: bool) -> Vec<u8> {
    let mut properties = BasicProperties::decode(message.properties()).unwrap_or_default();
    let mut headers = properties.headers.take().unwrap_or_default();
    if !keep_headers {
        for name in DEATH_HEADERS {
            while headers.remove(name).is_some() {}
        }
    }
    let count = headers.get(X_REDRIVE_COUNT).and_then(FieldValue::as_integer).unwrap_or(0);
    headers.insert(ShortString::from_static(X_REDRIVE_COUNT), FieldValue::Int64(count.saturating_add(1)));
    properties.headers = Some(headers);
    let mut encoded = Vec::with_capacity(message.properties().len() + 32);
    properties.encode(&mut encoded);
    encoded
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::dead_letter::{Death, bury};
    use crate::engine::message::{Arena, ArenaBuilder, Body, MessageParts, Timestamp};
    use crate::engine::queue::DeathReason;

    fn message(exchange: &[u8], routing_key: &[u8], properties: &[u8]) -> Arc<Arena> {
        let mut builder = ArenaBuilder::new();
        builder.push(&MessageParts {
            exchange,
            routing_key,
            properties,
            body: Body::Borrowed(b"x"),
            persistent: true,
            priority: 0,
            expiration_ms: None,
            broker_deaths: true,
            enqueued_at: Timestamp::from_millis(0),
        });
        builder.finish()
    }

    fn die(arena: &Arc<Arena>, queue: &'static str) -> Vec<u8> {
        let queue = ShortString::from_static(queue);
        let at = Timestamp::from_millis(5_000);
        let death =
            Death { queue: &queue, reason: DeathReason::Rejected, at, trusts_clients: false, drops_copies: false };
        bury(&arena.message(0), &death).properties
    }

    #[test]
    fn a_message_that_died_twice_goes_back_to_where_it_died_first() {
        let first = message(b"orders", b"eu.new", &[0x10, 0, 2]);
        let second = message(b"dlx", b"failed", &die(&first, "work"));
        let letter = message(b"dlx2", b"", &die(&second, "parked"));
        let origin = origin(&letter.message(0)).expect("it tells");
        assert_eq!(
            (&*origin.queue, &*origin.exchange, &*origin.routing_key),
            (&b"work"[..], &b"orders"[..], &b"eu.new"[..])
        );
        assert_eq!(super::origin(&first.message(0)), None);
    }

    #[test]
    fn the_copy_counts_and_forgets_its_deaths_if_asked_to() {
        let letter = message(b"dlx", b"", &die(&message(b"", b"work", &[0, 0]), "work"));
        let names = |properties: &[u8]| {
            let headers = BasicProperties::decode(properties).expect("decodes").headers.expect("there are some");
            headers.iter().map(|(name, value)| (name.to_string(), value.as_integer())).collect::<Vec<_>>()
        };
        let copy = redriven(&letter.message(0), false);
        assert_eq!(names(&copy), [("x-redrive-count".to_owned(), Some(1))]);
        let kept = redriven(&letter.message(0), true);
        assert!(names(&kept).iter().any(|(name, _)| name == "x-death"));
        let again = message(b"dlx", b"", &die(&message(b"", b"work", &copy), "work"));
        let copy = redriven(&again.message(0), false);
        assert_eq!(names(&copy), [("x-redrive-count".to_owned(), Some(2))]);
    }
}
