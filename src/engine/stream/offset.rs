//! Where a consumer starts to read: the argument `x-stream-offset` in all its forms.

use leveret_protocol::FieldValue;

use crate::engine::message::Timestamp;
use crate::engine::queue::age_in_seconds;

/// Where a consumer starts to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The oldest message there is.
    First,
    /// The newest message there is.
    Last,
    /// Only messages to come.
    Next,
    /// This offset, now or when it comes; the oldest message if it is gone.
    Offset(u64),
    /// The first message that is not older.
    Time(Timestamp),
}

impl OffsetSpec {
    /// Reads the argument; `None` when it means nothing.
    pub fn parse(value: Option<&FieldValue>, now: Timestamp) -> Option<Self> {
        let Some(value) = value else { return Some(Self::Next) };
        if let FieldValue::Timestamp(seconds) = value {
            return Some(Self::Time(Timestamp::from_millis(seconds.saturating_mul(1000))));
        }
        if let Some(offset) = value.as_integer() {
            return Some(Self::Offset(u64::try_from(offset).unwrap_or(0)));
        }
        match value.as_long_str()? {
            b"first" => Some(Self::First),
            b"last" => Some(Self::Last),
            b"next" => Some(Self::Next),
            text => {
                let ago_ms = age_in_seconds(text)?.saturating_mul(1000);
                Some(Self::Time(Timestamp::from_millis(now.as_millis().saturating_sub(ago_ms))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(10_000_000);

    fn text(text: &str) -> FieldValue {
        FieldValue::LongString(text.try_into().expect("short"))
    }

    #[test]
    fn every_form_of_an_offset_is_understood() {
        let check = |value: Option<FieldValue>, spec| assert_eq!(OffsetSpec::parse(value.as_ref(), NOW), spec);
        check(None, Some(OffsetSpec::Next));
        check(Some(text("first")), Some(OffsetSpec::First));
        check(Some(text("last")), Some(OffsetSpec::Last));
        check(Some(text("next")), Some(OffsetSpec::Next));
        check(Some(FieldValue::Int8(-3)), Some(OffsetSpec::Offset(0)));
        check(Some(FieldValue::UInt16(300)), Some(OffsetSpec::Offset(300)));
        check(Some(FieldValue::Int64(i64::MAX)), Some(OffsetSpec::Offset(i64::MAX.unsigned_abs())));
        check(Some(FieldValue::Timestamp(7)), Some(OffsetSpec::Time(Timestamp::from_millis(7000))));
        check(Some(text("2m")), Some(OffsetSpec::Time(Timestamp::from_millis(10_000_000 - 120_000))));
        check(Some(text("1Y")), Some(OffsetSpec::Time(Timestamp::from_millis(0))));
        for bad in [text("5x"), text("s"), text("0s"), text("-1s"), text(""), text("First"), FieldValue::Boolean(true)]
        {
            check(Some(bad), None);
        }
    }
}
