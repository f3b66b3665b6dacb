//! A reader: a consumer of a stream, with its own place in it.

use leveret_protocol::{FieldTable, FieldValue};

use super::headers::filter_value;
use crate::engine::message::{Message, Timestamp};
use crate::engine::queue::ConsumerSpec;

/// Which messages a consumer wants: those with one of these filter values.
///
/// RabbitMQ filters by chunk and lets through what shares one with a match; here each message is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    values: Vec<Vec<u8>>,
    /// Messages without a filter value too.
    match_unfiltered: bool,
}

impl Filter {
    /// Reads the arguments `x-stream-filter` and `x-stream-match-unfiltered`. As in RabbitMQ, what is no string is passed
    /// over.
    pub fn parse(arguments: &FieldTable) -> Option<Self> {
        let text = |value: &FieldValue| value.as_long_str().map(<[u8]>::to_vec);
        let filter = arguments.get("x-stream-filter")?;
        let items = filter.as_array().unwrap_or(std::slice::from_ref(filter));
        let values: Vec<_> = items.iter().filter_map(text).collect();
        let match_unfiltered = arguments.get("x-stream-match-unfiltered").and_then(FieldValue::as_bool);
        (!values.is_empty()).then(|| Self { values, match_unfiltered: match_unfiltered.unwrap_or(false) })
    }

    fn accepts(&self, message: &Message<'_>) -> bool {
        filter_value(message.properties(), |value| match value {
            Some(value) => self.values.iter().any(|wanted| wanted == value),
            None => self.match_unfiltered,
        })
    }
}

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) spec: ConsumerSpec,
    /// The offset to be looked at next.
    pub(super) position: u64,
    pub(super) unacked: u32,
    /// Nothing is wanted before the first message that is not older.
    pub(super) not_before: Option<Timestamp>,
    pub(super) filter: Option<Filter>,
    /// Where it stood when something was last read ahead for it.
    pub(super) read_ahead_at: Option<u64>,
}

impl Reader {
    /// How many messages it may take now.
    pub(super) fn room(&self) -> u32 {
        if !self.spec.window.has_room() {
            return 0;
        }
        self.spec.prefetch.saturating_sub(self.unacked).min(self.spec.channel_limit.room())
    }

    /// Whether it takes whatever comes.
    pub(super) fn takes_all(&self) -> bool {
        self.filter.is_none() && self.not_before.is_none()
    }

    /// Whether it wants this message.
    pub(super) fn wants(&mut self, message: &Message<'_>) -> bool {
        if let Some(time) = self.not_before {
            if message.enqueued_at() < time {
                return false;
            }
            self.not_before = None;
        }
        self.filter.as_ref().is_none_or(|filter| filter.accepts(message))
    }
}

#[cfg(test)]
mod tests {
    use leveret_protocol::ShortString;

    use super::*;

    fn text(text: &str) -> FieldValue {
        FieldValue::LongString(text.try_into().expect("short"))
    }

    #[test]
    fn filters_are_strings_or_arrays_of_them() {
        let parse = |filter: FieldValue, unfiltered: FieldValue| {
            let entries = [("x-stream-filter", filter), ("x-stream-match-unfiltered", unfiltered)];
            let table = entries.into_iter().map(|(key, value)| (ShortString::from_static(key), value)).collect();
            Filter::parse(&table).map(|filter| (filter.values, filter.match_unfiltered))
        };
        assert_eq!(parse(text("a"), FieldValue::Boolean(true)), Some((vec![b"a".to_vec()], true)));
        let array = FieldValue::Array(vec![text("a"), FieldValue::Int32(1), text("b")]);
        assert_eq!(parse(array, text("yes")), Some((vec![b"a".to_vec(), b"b".to_vec()], false)));
        assert_eq!(parse(FieldValue::Int32(1), FieldValue::Void), None);
        assert_eq!(Filter::parse(&FieldTable::new()), None);
    }
}
