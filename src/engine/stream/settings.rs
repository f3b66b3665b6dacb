//! What the arguments of a stream ask for: how much of it is kept.

use leveret_protocol::FieldTable;

use super::offset::duration_ms;

/// Octets of a segment if nothing else is asked for, as in RabbitMQ.
const SEGMENT_BYTES: u64 = 500_000_000;

/// How much of a stream is kept. Whole segments go, the oldest first; the last one always stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `x-max-age` in milliseconds: a segment goes when its last message is older.
    pub max_age_ms: Option<u64>,
    /// `x-max-length-bytes`: segments go while there is more.
    pub max_bytes: Option<u64>,
    /// `x-stream-max-segment-size-bytes`: octets after which the next segment begins.
    pub segment_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age_ms: None, max_bytes: None, segment_bytes: SEGMENT_BYTES }
    }
}

impl Retention {
    /// Reads the arguments of a declaration, which have been checked.
    pub fn from_arguments(arguments: &FieldTable) -> Self {
        let number = |key: &str| arguments.get(key).and_then(|value| u64::try_from(value.as_integer()?).ok());
        Self {
            max_age_ms: arguments.get("x-max-age").and_then(|value| duration_ms(value.as_long_str()?)),
            max_bytes: number("x-max-length-bytes"),
            segment_bytes: number("x-stream-max-segment-size-bytes").unwrap_or(SEGMENT_BYTES),
        }
    }
}

#[cfg(test)]
mod tests {
    use leveret_protocol::{FieldValue, ShortString};

    use super::*;

    #[test]
    fn arguments_are_read() {
        assert_eq!(Retention::from_arguments(&FieldTable::new()), Retention::default());
        let arguments: FieldTable = [
            ("x-max-age", FieldValue::LongString("2h".try_into().expect("short"))),
            ("x-max-length-bytes", FieldValue::Int32(7)),
            ("x-stream-max-segment-size-bytes", FieldValue::Int64(5)),
        ]
        .into_iter()
        .map(|(key, value)| (ShortString::from_static(key), value))
        .collect();
        let expected = Retention { max_age_ms: Some(7_200_000), max_bytes: Some(7), segment_bytes: 5 };
        assert_eq!(Retention::from_arguments(&arguments), expected);
    }
}
