//! Recent-history exchange: a fanout exchange that remembers its last messages, for whoever is bound later (RabbitMQ
//! plugin).
//!
//! The history is in memory only: it is empty after a restart and goes with the exchange. Invariant: it holds at most as
//! many messages as the exchange was declared for, and at most [`HISTORY_MAX_BYTES`].

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_protocol::{FieldTable, FieldValue, ValueRef, erlang_binary};

use super::Routing;
use crate::engine::message::Arena;
use crate::error::AmqpError;

/// Messages remembered when the declaration does not say how many.
const DEFAULT_LENGTH: usize = 20;
/// Octets that one exchange remembers at most: enough for a thousand messages of ordinary size, little enough that a
/// declared length of a billion is harmless.
pub const HISTORY_MAX_BYTES: usize = 32 * 1024 * 1024;

/// The last messages of an exchange, oldest first, each in an arena of its own.
#[derive(Debug)]
pub struct History {
    length: usize,
    kept: VecDeque<Arc<Arena>>,
    bytes: usize,
}

impl History {
    pub(super) fn new(arguments: &FieldTable) -> Result<Self, AmqpError> {
        let length = match arguments.get("x-recent-history-length") {
            None => DEFAULT_LENGTH,
            Some(value) => {
                let number = value.as_integer().filter(|number| *number > 0);
                let number = number.ok_or_else(|| {
                    let shown = show(value);
                    let text =
                        format!("Invalid argument {shown}, 'x-recent-history-length' must be a positive integer");
                    AmqpError::BadArgument(text)
                })?;
                usize::try_from(number).unwrap_or(usize::MAX)
            }
        };
        Ok(Self { length, kept: VecDeque::new(), bytes: 0 })
    }

    /// Whether this message is to be remembered.
    pub(super) fn wants(routing: &Routing<'_>) -> bool {
        let no_store = routing.header(b"x-recent-history-no-store").and_then(ValueRef::decode);
        no_store != Some(FieldValue::Boolean(true))
    }

    /// Remembers a message and forgets the oldest ones for it.
    pub(in crate::engine) fn keep(&mut self, arena: Arc<Arena>) {
        self.bytes += arena.size_bytes();
        self.kept.push_back(arena);
        while self.kept.len() > self.length || self.bytes > HISTORY_MAX_BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.size_bytes();
        }
    }

    /// What is remembered, oldest first.
    pub(in crate::engine) fn messages(&self) -> impl Iterator<Item = &Arc<Arena>> {
        self.kept.iter()
    }
}

/// A value as RabbitMQ prints it in this text.
fn show(value: &FieldValue) -> String {
    match (value.as_integer(), value.as_long_str()) {
        (Some(number), _) => number.to_string(),
        (None, Some(text)) => erlang_binary(text),
        (None, None) => value.type_name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use leveret_protocol::ShortString;

    use super::*;
    use crate::engine::message::{ArenaBuilder, Body, MessageParts, Timestamp};

    fn message(body: &[u8]) -> Arc<Arena> {
        let mut builder = ArenaBuilder::new();
        builder.push(&MessageParts {
            exchange: b"x",
            routing_key: b"",
            properties: &[0, 0],
            body: Body::Borrowed(body),
            persistent: false,
            priority: 0,
            expiration_ms: None,
            broker_deaths: false,
            enqueued_at: Timestamp::from_millis(0),
        });
        builder.finish()
    }

    fn of_length(value: FieldValue) -> Result<History, String> {
        let arguments = [(ShortString::from_static("x-recent-history-length"), value)].into_iter().collect();
        History::new(&arguments).map_err(|error| error.to_string())
    }

    fn bodies(history: &History) -> Vec<u8> {
        history.messages().map(|arena| arena.message(0).body()[0]).collect()
    }

    #[test]
    fn the_last_messages_are_kept() {
        let mut history = of_length(FieldValue::Int32(2)).expect("valid");
        for body in 1..=4 {
            history.keep(message(&[body]));
        }
        assert_eq!(bodies(&history), [3, 4]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut history = of_length(FieldValue::Int64(i64::MAX)).expect("valid");
        for body in 1..=40 {
            history.keep(message(&vec![body; 1024 * 1024]));
        }
        assert!(history.bytes <= HISTORY_MAX_BYTES);
        assert_eq!(bodies(&history), (10..=40).collect::<Vec<u8>>());
        history.keep(message(&vec![0; HISTORY_MAX_BYTES]));
        assert_eq!((bodies(&history), history.bytes), (vec![], 0));
    }

    #[test]
    fn a_length_is_a_positive_integer() {
        let text =
            |shown: &str| format!("Invalid argument {shown}, 'x-recent-history-length' must be a positive integer");
        assert_eq!(of_length(FieldValue::Int32(0)).err(), Some(text("0")));
        assert_eq!(of_length(FieldValue::Int8(-3)).err(), Some(text("-3")));
        let word = FieldValue::LongString("ten".try_into().expect("short"));
        assert_eq!(of_length(word).err(), Some(text("<<\"ten\">>")));
    }
}
