//! Delayed-message exchange: an exchange of another type in front of which messages wait for as long as their `x-delay`
//! header says (RabbitMQ plugin).
//!
//! Where they wait is an internal queue of the exchange's own; when their time has come they are routed from this exchange
//! as if they had just arrived, with the delay negated in the header, so that they do not wait again.
//! Not here: that queue (`vhost`, and the shell).

use leveret_protocol::{FieldTable, FieldValue, ShortString, ValueRef, with_header};

use super::Routing;
use crate::engine::queue::TTL_MAX_MS;
use crate::error::AmqpError;

/// The header that says how many milliseconds a message is to wait.
pub const X_DELAY: &[u8] = b"x-delay";

/// The type of exchange behind the delay.
pub(super) fn delayed_type(arguments: &FieldTable) -> Result<ShortString, AmqpError> {
    let name = arguments.get("x-delayed-type").and_then(FieldValue::as_long_str);
    name.and_then(|name| ShortString::try_from(name).ok())
        .filter(|name| name.as_bytes() != b"x-delayed-message")
        .ok_or_else(|| {
            let text = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
            AmqpError::BadArgument(text.to_owned())
        })
}

/// For how many milliseconds this message is to wait, if at all.
pub(in crate::engine) fn delay_ms(routing: &Routing<'_>) -> Option<u64> {
    let delay = routing.header(X_DELAY)?.decode()?.as_integer()?;
    u64::try_from(delay).ok().filter(|delay| *delay > 0).map(|delay| delay.min(TTL_MAX_MS))
}

/// The properties of a message that starts to wait: the delay is negated. Integers that know no sign become wider ones.
pub fn with_negated_delay(properties: &[u8]) -> Vec<u8> {
    let routing = Routing::new(&[], properties, 0);
    let Some(delay) = routing.header(X_DELAY).and_then(ValueRef::decode) else { return properties.to_vec() };
    let negated = if let FieldValue::Int8(delay) = delay {
        FieldValue::Int8(delay.saturating_neg())
    } else if let FieldValue::Int16(delay) = delay {
        FieldValue::Int16(delay.saturating_neg())
    } else if let FieldValue::Int32(delay) = delay {
        FieldValue::Int32(delay.saturating_neg())
    } else {
        FieldValue::Int64(delay.as_integer().map_or(0, i64::saturating_neg))
    };
    with_header(properties, X_DELAY, &negated)
}

#[cfg(test)]
mod tests {
    use leveret_protocol::BasicProperties;

    use super::*;

    fn encode(delay: FieldValue) -> Vec<u8> {
        let headers = Some([(ShortString::from_static("x-delay"), delay)].into_iter().collect());
        let mut out = Vec::new();
        BasicProperties { headers, ..BasicProperties::default() }.encode(&mut out);
        out
    }

    fn delay(value: FieldValue) -> Option<u64> {
        delay_ms(&Routing::new(&[], &encode(value), 0))
    }

    #[test]
    fn positive_integers_of_any_width_delay() {
        for value in [FieldValue::Int8(5), FieldValue::UInt8(5), FieldValue::Int16(5), FieldValue::UInt16(5)] {
            assert_eq!(delay(value), Some(5));
        }
        for value in [FieldValue::Int32(5), FieldValue::UInt32(5), FieldValue::Int64(5)] {
            assert_eq!(delay(value), Some(5));
        }
        let text = FieldValue::LongString("5".try_into().expect("short"));
        for value in [FieldValue::Int32(0), FieldValue::Int32(-5), FieldValue::Double(5.0), FieldValue::Void, text] {
            assert_eq!(delay(value), None);
        }
        assert_eq!(delay(FieldValue::Int64(i64::MAX)), Some(TTL_MAX_MS));
        assert_eq!(delay_ms(&Routing::new(&[], &[0, 0], 0)), None);
    }

    #[test]
    fn the_delay_is_negated_while_the_message_waits() {
        let negated = |value| with_negated_delay(&encode(value));
        assert_eq!(negated(FieldValue::Int16(300)), encode(FieldValue::Int16(-300)));
        assert_eq!(negated(FieldValue::UInt32(u32::MAX)), encode(FieldValue::Int64(-4_294_967_295)));
        assert_eq!(with_negated_delay(&[0, 0]), [0, 0]);
    }

    #[test]
    fn the_type_behind_must_be_named_and_another() {
        let named = |value| delayed_type(&[(ShortString::from_static("x-delayed-type"), value)].into_iter().collect());
        let text = |name: &'static str| FieldValue::LongString(name.try_into().expect("short"));
        assert_eq!(named(text("direct")), Ok(ShortString::from_static("direct")));
        assert!(named(FieldValue::Int32(1)).is_err());
        assert!(named(text("x-delayed-message")).is_err());
        assert!(delayed_type(&FieldTable::new()).is_err());
    }
}
