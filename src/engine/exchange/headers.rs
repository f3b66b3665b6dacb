//! Headers exchange: by the values in the message's header table (spec §3.1.3.4 and RabbitMQ's `x-match` forms).
//!
//! Values are compared, not type tags: an int8 5 equals an int64 5, a long string equals a byte array of the same octets.

use leveret_protocol::{FieldTable, FieldValue, ShortString};

use super::Destination;
use crate::engine::queue::print_value;
use crate::error::AmqpError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    All,
    Any,
}

#[derive(Debug)]
struct Binding {
    mode: Match,
    wanted: Vec<(ShortString, FieldValue)>,
    arguments: FieldTable,
    destination: Destination,
}

/// The bindings, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Headers(Vec<Binding>);

fn match_mode(arguments: &FieldTable) -> Result<(Match, bool), AmqpError> {
    let Some(value) = arguments.get("x-match") else { return Ok((Match::All, false)) };
    match value.as_long_str() {
        Some(b"all") => Ok((Match::All, false)),
        Some(b"any") => Ok((Match::Any, false)),
        Some(b"all-with-x") => Ok((Match::All, true)),
        Some(b"any-with-x") => Ok((Match::Any, true)),
        Some(other) => Err(AmqpError::BadArgument(format!(
            "Invalid x-match field value <<\"{}\">>; expected all, any, all-with-x, or any-with-x",
            String::from_utf8_lossy(other)
        ))),
        None => Err(AmqpError::BadArgument(format!(
            "Invalid x-match field type {} (value {}); expected longstr",
            value.type_name(),
            print_value(value)
        ))),
    }
}

fn same(wanted: &FieldValue, got: &FieldValue) -> bool {
    if matches!(wanted, FieldValue::Void) {
        return true;
    }
    if let (Some(wanted), Some(got)) = (wanted.as_integer(), got.as_integer()) {
        return wanted == got;
    }
    match (wanted, got) {
        (FieldValue::LongString(text), FieldValue::ByteArray(octets))
        | (FieldValue::ByteArray(octets), FieldValue::LongString(text)) => text.as_bytes() == octets.as_ref(),
        _ => wanted == got,
    }
}

impl Headers {
    pub(super) fn check_binding(arguments: &FieldTable) -> Result<(), AmqpError> {
        match_mode(arguments).map(|_| ())
    }

    pub(super) fn bind(&mut self, arguments: &FieldTable, destination: &Destination) {
        let (mode, with_x) = match_mode(arguments).unwrap_or((Match::All, false));
        let wanted = arguments
            .iter()
            .filter(|(name, _)| name.as_bytes() != b"x-match" && (with_x || !name.as_bytes().starts_with(b"x-")))
            .cloned()
            .collect();
        self.0.push(Binding { mode, wanted, arguments: arguments.clone(), destination: destination.clone() });
    }

    pub(super) fn unbind(&mut self, arguments: &FieldTable, destination: &Destination) {
        if let Some(at) =
            self.0.iter().position(|binding| binding.destination == *destination && binding.arguments == *arguments)
        {
            self.0.remove(at);
        }
    }

    pub(super) fn route<'a>(&'a self, headers: &FieldTable, out: &mut Vec<&'a Destination>) {
        for binding in &self.0 {
            let mut hits = binding
                .wanted
                .iter()
                .map(|(name, wanted)| headers.get(name.as_bytes()).is_some_and(|got| same(wanted, got)));
            let matched = match binding.mode {
                Match::All => hits.all(|hit| hit),
                Match::Any => hits.any(|hit| hit),
            };
            if matched {
                out.push(&binding.destination);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::queue::QueueId;

    fn table(entries: &[(&'static str, FieldValue)]) -> FieldTable {
        entries.iter().map(|(name, value)| (ShortString::from_static(name), value.clone())).collect()
    }

    fn text(octets: &'static str) -> FieldValue {
        FieldValue::LongString(octets.try_into().expect("short"))
    }

    fn matches(binding: &[(&'static str, FieldValue)], message: &[(&'static str, FieldValue)]) -> bool {
        let mut headers = Headers::default();
        headers.bind(&table(binding), &Destination::Queue(QueueId::new(1)));
        let mut out = Vec::new();
        headers.route(&table(message), &mut out);
        !out.is_empty()
    }

    #[test]
    fn all_and_any() {
        let message = [("a", FieldValue::Int32(1)), ("b", text("x"))];
        assert!(matches(&[("a", FieldValue::Int64(1)), ("b", text("x"))], &message));
        assert!(!matches(&[("a", FieldValue::Int32(1)), ("b", text("y"))], &message));
        assert!(matches(&[("x-match", text("any")), ("a", FieldValue::Int32(9)), ("b", text("x"))], &message));
        assert!(!matches(&[("x-match", text("any"))], &message), "any of nothing matches nothing");
        assert!(matches(&[], &[]), "all of nothing matches everything");
    }

    #[test]
    fn values_are_compared_not_tags() {
        assert!(matches(&[("a", FieldValue::Int8(5))], &[("a", FieldValue::Int64(5))]));
        assert!(!matches(&[("a", FieldValue::Int8(5))], &[("a", text("5"))]));
        assert!(matches(&[("a", FieldValue::Void)], &[("a", text("anything"))]));
        assert!(!matches(&[("a", FieldValue::Boolean(true))], &[("a", FieldValue::Int8(1))]));
    }

    #[test]
    fn names_with_x_count_only_when_asked_for() {
        assert!(matches(&[("x-a", text("1"))], &[]));
        assert!(!matches(&[("x-match", text("all-with-x")), ("x-a", text("1"))], &[]));
    }
}
