//! The arguments of queue.declare: which a queue of a type may have, and what values (RabbitMQ's rules and texts).

use leveret_protocol::{FieldTable, FieldValue, ShortString};

use super::equivalence::compared_arguments;
use super::{DeadLetterStrategy, ExpiryMode, Overflow, QueueSettings, QueueType, StreamSettings, TTL_MAX_MS};
use crate::error::AmqpError;

/// Arguments that only some queue types have; one of another type is refused. `x-delivery-limit` is RabbitMQ's for quorum
/// queues only, here for classic ones too; `x-expiry-mode` is Leveret's own.
const OF_SOME_TYPES: [&str; 21] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-length",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-quorum-initial-group-size",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
    "x-queue-master-locator",
    "x-delivery-limit",
    "x-expiry-mode",
];

/// The largest segment of a stream, in octets.
const SEGMENT_MAX_BYTES: u64 = 3_000_000_000;

/// Reads and checks the arguments of a declaration.
pub(super) fn read(table: &FieldTable, queue: &ShortString, vhost: &ShortString) -> Result<QueueSettings, AmqpError> {
    // Before anything else, because whoever declares a queue needs rights on its dead-letter exchange.
    if let Some(value) = table.get("x-dead-letter-exchange")
        && value.as_long_str().is_none()
    {
        return Err(AmqpError::BadArgument(format!(
            "invalid type '{}' for arg 'x-dead-letter-exchange' in queue '{queue}' in vhost '{vhost}'",
            value.type_name()
        )));
    }
    let queue_type = Arguments { table, queue, vhost }.queue_type()?;
    let foreign = |key: &str| OF_SOME_TYPES.contains(&key) && !belongs(key, queue_type);
    // A bad value of the queue's own arguments is named before an argument that it cannot have.
    let own: FieldTable = table.iter().filter(|(key, _)| !key.as_str().is_some_and(foreign)).cloned().collect();
    let settings = Arguments { table: &own, queue, vhost }.settings(queue_type)?;
    match OF_SOME_TYPES.into_iter().find(|key| table.get(key).is_some() && foreign(key)) {
        None => Ok(settings),
        Some(key) => Err(AmqpError::BadArgument(format!(
            "invalid arg '{key}' for queue '{queue}' in vhost '{vhost}' of queue type {}",
            queue_type.module_name()
        ))),
    }
}

/// Whether queues of this type have this argument.
fn belongs(key: &str, queue_type: QueueType) -> bool {
    match key {
        "x-delivery-limit" | "x-expiry-mode" => queue_type != QueueType::Stream,
        _ => compared_arguments(queue_type).contains(&key),
    }
}

struct Arguments<'a> {
    table: &'a FieldTable,
    queue: &'a ShortString,
    vhost: &'a ShortString,
}

impl Arguments<'_> {
    /// Reads the values in RabbitMQ's order.
    fn settings(&self, queue_type: QueueType) -> Result<QueueSettings, AmqpError> {
        let expires_ms = self.positive("x-expires", Self::millis)?;
        let message_ttl_ms = self.millis("x-message-ttl")?;
        let dead_letter_exchange = self.name("x-dead-letter-exchange")?;
        let dead_letter_routing_key = self.name("x-dead-letter-routing-key")?;
        if dead_letter_routing_key.is_some() && dead_letter_exchange.is_none() {
            return Err(self.error("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined"));
        }
        let dead_letter_strategy = self
            .word("x-dead-letter-strategy", "invalid_dlx_strategy", |word| match word {
                b"at-most-once" => Some(DeadLetterStrategy::AtMostOnce),
                b"at-least-once" => Some(DeadLetterStrategy::AtLeastOnce),
                _ => None,
            })?
            .unwrap_or_default();
        let max_length = self.count("x-max-length")?;
        let max_length_bytes = self.count("x-max-length-bytes")?;
        // Where messages are kept is for the broker to decide.
        self.count("x-max-in-memory-length")?;
        self.count("x-max-in-memory-bytes")?;
        let max_priority = match self.count("x-max-priority")? {
            None => None,
            Some(max) => Some(
                u8::try_from(max)
                    .map_err(|_| self.error("x-max-priority", &format!("{{max_value_exceeded,{max}}}")))?,
            ),
        };
        let overflow = self.word("x-overflow", "invalid_overflow", |word| match word {
            b"drop-head" => Some(Overflow::DropHead),
            b"reject-publish" => Some(Overflow::RejectPublish),
            b"reject-publish-dlx" => Some(Overflow::RejectPublishDlx),
            _ => None,
        })?;
        self.check_version()?;
        let single_active_consumer = match self.table.get("x-single-active-consumer") {
            None => false,
            Some(FieldValue::Boolean(on)) => *on,
            Some(other) => return Err(self.unacceptable("x-single-active-consumer", other)),
        };
        self.positive("x-quorum-initial-group-size", Self::count)?;
        let stream = self.stream()?;
        self.positive("x-initial-cluster-size", Self::count)?;
        self.word("x-queue-leader-locator", "invalid_queue_locator_arg", |word| {
            matches!(word, b"client-local" | b"balanced" | b"random" | b"least-leaders" | b"min-masters").then_some(())
        })?;
        let consumer_timeout_ms = self.count("x-consumer-timeout")?;
        let expiry_mode = self
            .word("x-expiry-mode", "invalid_expiry_mode", |word| match word {
                b"on-time" => Some(ExpiryMode::OnTime),
                b"head" => Some(ExpiryMode::Head),
                _ => None,
            })?
            .unwrap_or_default();
        Ok(QueueSettings {
            queue_type,
            message_ttl_ms,
            expires_ms,
            max_length,
            max_length_bytes,
            overflow,
            dead_letter_exchange,
            dead_letter_routing_key,
            dead_letter_strategy,
            max_priority,
            single_active_consumer,
            // What is no integer is not looked at, as in RabbitMQ.
            delivery_limit: self.table.get("x-delivery-limit").and_then(FieldValue::as_integer),
            consumer_timeout_ms,
            expiry_mode,
            stream,
        })
    }

    fn error(&self, key: &str, why: &str) -> AmqpError {
        AmqpError::BadArgument(format!(
            "invalid arg '{key}' for queue '{}' in vhost '{}': {why}",
            self.queue, self.vhost
        ))
    }

    fn unacceptable(&self, key: &str, value: &FieldValue) -> AmqpError {
        self.error(key, &format!("{{unacceptable_type,{}}}", value.type_name()))
    }

    fn text(&self, key: &str) -> Result<Option<&[u8]>, AmqpError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        value.as_long_str().map(Some).ok_or_else(|| self.unacceptable(key, value))
    }

    /// A word that `read` knows, or else the error `unknown`.
    fn word<T>(&self, key: &str, unknown: &str, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<Option<T>, AmqpError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        read(text).map(Some).ok_or_else(|| self.error(key, unknown))
    }

    fn queue_type(&self) -> Result<QueueType, AmqpError> {
        QueueType::from_arguments(self.table).ok_or_else(|| match self.text("x-queue-type") {
            Err(error) => error,
            Ok(name) => {
                let name = String::from_utf8_lossy(name.unwrap_or_default());
                self.error("x-queue-type", &format!("\"unsupported queue type '{name}'\""))
            }
        })
    }

    fn name(&self, key: &str) -> Result<Option<ShortString>, AmqpError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        ShortString::try_from(text).map(Some).map_err(|_| self.error(key, "\"longer than 255 octets\""))
    }

    fn integer(&self, key: &str) -> Result<Option<i64>, AmqpError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let wrong = || self.error(key, &format!("\"expected integer, got {}\"", value.type_name()));
        value.as_integer().map(Some).ok_or_else(wrong)
    }

    fn count(&self, key: &str) -> Result<Option<u64>, AmqpError> {
        let Some(number) = self.integer(key)? else { return Ok(None) };
        u64::try_from(number).map(Some).map_err(|_| self.error(key, &format!("{{value_negative,{number}}}")))
    }

    fn millis(&self, key: &str) -> Result<Option<u64>, AmqpError> {
        match self.count(key)? {
            Some(millis) if millis > TTL_MAX_MS => Err(self.error(key, &format!("{{value_too_large,{millis}}}"))),
            other => Ok(other),
        }
    }

    fn positive(
        &self,
        key: &str,
        read: impl FnOnce(&Self, &str) -> Result<Option<u64>, AmqpError>,
    ) -> Result<Option<u64>, AmqpError> {
        match read(self, key)? {
            Some(0) => Err(self.error(key, "{value_zero,0}")),
            other => Ok(other),
        }
    }

    /// Versions of RabbitMQ's own storage: the two that there have been are accepted, and mean nothing here.
    fn check_version(&self) -> Result<(), AmqpError> {
        match self.integer("x-queue-version")? {
            None | Some(1 | 2) => Ok(()),
            Some(version) => Err(self.error("x-queue-version", &format!("\"unsupported queue version '{version}'\""))),
        }
    }

    fn stream(&self) -> Result<StreamSettings, AmqpError> {
        let max_age_s = self.word("x-max-age", "invalid_max_age", age_in_seconds)?;
        let max_segment_size_bytes = self.count("x-stream-max-segment-size-bytes")?;
        if max_segment_size_bytes.is_some_and(|size| size > SEGMENT_MAX_BYTES) {
            let text = "Exceeded max value for x-stream-max-segment-size-bytes";
            return Err(AmqpError::BadArgument(text.to_owned()));
        }
        let filter_size_bytes = match self.table.get("x-stream-filter-size-bytes") {
            None => None,
            Some(value) => {
                let bad = |what| AmqpError::BadArgument(format!("Invalid {what} for x-stream-filter-size-bytes"));
                let size = value.as_integer().ok_or_else(|| bad("type"))?;
                let size = u8::try_from(size).ok().filter(|size| *size >= 16);
                Some(size.ok_or_else(|| bad("value"))?)
            }
        };
        Ok(StreamSettings { max_age_s, max_segment_size_bytes, filter_size_bytes })
    }
}

/// A time such as `12h` in seconds; a month has 30 days, a year 365.
pub(crate) fn age_in_seconds(text: &[u8]) -> Option<u64> {
    let (unit, digits) = text.split_last()?;
    let seconds = match unit {
        b's' => 1,
        b'm' => 60,
        b'h' => 3_600,
        b'D' => 86_400,
        b'M' => 30 * 86_400,
        b'Y' => 365 * 86_400,
        _ => return None,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    number.checked_mul(seconds).filter(|age| *age > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(octets: &'static str) -> FieldValue {
        FieldValue::LongString(octets.try_into().expect("short"))
    }

    fn parse<const N: usize>(entries: [(&'static str, FieldValue); N]) -> Result<QueueSettings, String> {
        let table: FieldTable =
            entries.into_iter().map(|(key, value)| (ShortString::from_static(key), value)).collect();
        QueueSettings::from_arguments(&table, &ShortString::from_static("q"), &ShortString::from_static("/"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_integer_width_is_accepted() {
        for value in [FieldValue::Int8(5), FieldValue::UInt16(5), FieldValue::Int32(5), FieldValue::Int64(5)] {
            assert_eq!(parse([("x-max-length", value)]).map(|settings| settings.max_length), Ok(Some(5)));
        }
    }

    #[test]
    fn bad_values_are_refused_in_rabbitmqs_words() {
        let check = |queue_type, key, value, why: &str| {
            assert_eq!(
                parse([("x-queue-type", text(queue_type)), (key, value)]).err(),
                Some(format!("invalid arg '{key}' for queue 'q' in vhost '/': {why}"))
            );
        };
        check("classic", "x-message-ttl", FieldValue::Int32(-1), "{value_negative,-1}");
        check("classic", "x-message-ttl", FieldValue::Int64(315_360_000_001), "{value_too_large,315360000001}");
        check("quorum", "x-message-ttl", text("1"), "\"expected integer, got longstr\"");
        check("classic", "x-expires", FieldValue::Int32(0), "{value_zero,0}");
        check("classic", "x-max-priority", FieldValue::Int32(256), "{max_value_exceeded,256}");
        check("quorum", "x-overflow", text("bogus"), "invalid_overflow");
        check("classic", "x-overflow", FieldValue::Int32(1), "{unacceptable_type,signedint}");
        check("classic", "x-dead-letter-routing-key", text("k"), "routing_key_but_no_dlx_defined");
        check("quorum", "x-dead-letter-strategy", text("never"), "invalid_dlx_strategy");
        check("quorum", "x-single-active-consumer", text("yes"), "{unacceptable_type,longstr}");
        check("quorum", "x-quorum-initial-group-size", FieldValue::Int32(0), "{value_zero,0}");
        check("stream", "x-initial-cluster-size", FieldValue::Int32(-2), "{value_negative,-2}");
        check("stream", "x-queue-leader-locator", text("nowhere"), "invalid_queue_locator_arg");
        check("stream", "x-max-age", text("0s"), "invalid_max_age");
        check("stream", "x-max-age", FieldValue::Int32(5), "{unacceptable_type,signedint}");
        check("classic", "x-queue-version", FieldValue::Int32(3), "\"unsupported queue version '3'\"");
        assert_eq!(
            parse([("x-queue-type", text("foo"))]).err().as_deref(),
            Some("invalid arg 'x-queue-type' for queue 'q' in vhost '/': \"unsupported queue type 'foo'\"")
        );
    }

    #[test]
    fn an_argument_of_another_type_is_refused() {
        let check = |queue_type, module: &str, key, value| {
            assert_eq!(
                parse([("x-queue-type", text(queue_type)), (key, value)]).err(),
                Some(format!("invalid arg '{key}' for queue 'q' in vhost '/' of queue type {module}"))
            );
        };
        check("classic", "rabbit_classic_queue", "x-max-age", text("1h"));
        check("classic", "rabbit_classic_queue", "x-dead-letter-strategy", text("at-most-once"));
        check("quorum", "rabbit_quorum_queue", "x-max-priority", FieldValue::Int32(3));
        check("quorum", "rabbit_quorum_queue", "x-queue-mode", text("lazy"));
        check("stream", "rabbit_stream_queue", "x-message-ttl", FieldValue::Int32(3));
        check("stream", "rabbit_stream_queue", "x-delivery-limit", FieldValue::Int32(3));
    }

    #[test]
    fn a_streams_arguments_are_read() {
        let segment = "x-stream-max-segment-size-bytes";
        let filter = "x-stream-filter-size-bytes";
        let settings = parse([
            ("x-queue-type", text("stream")),
            ("x-max-age", text("2D")),
            (segment, FieldValue::Int32(1000)),
            (filter, FieldValue::Int32(16)),
        ]);
        let stream = StreamSettings {
            max_age_s: Some(172_800),
            max_segment_size_bytes: Some(1000),
            filter_size_bytes: Some(16),
        };
        assert_eq!(settings.map(|settings| settings.stream), Ok(stream));
        let check = |key, value, error: &str| {
            assert_eq!(parse([("x-queue-type", text("stream")), (key, value)]).err().as_deref(), Some(error));
        };
        check(segment, FieldValue::Int64(3_000_000_001), "Exceeded max value for x-stream-max-segment-size-bytes");
        check(filter, FieldValue::Int32(15), "Invalid value for x-stream-filter-size-bytes");
        check(filter, text("16"), "Invalid type for x-stream-filter-size-bytes");
    }

    #[test]
    fn ages_have_a_unit() {
        assert_eq!(age_in_seconds(b"1Y"), Some(31_536_000));
        assert_eq!(age_in_seconds(b"1M"), Some(2_592_000));
        for bad in ["", "s", "5", "5x", "-5s", "+5s", "0h", "99999999999999999999s", "999999999999999999Y"] {
            assert_eq!(age_in_seconds(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_delivery_limit_that_is_no_integer_is_not_looked_at() {
        let limit = |value| {
            parse([("x-queue-type", text("quorum")), ("x-delivery-limit", value)])
                .map(|settings| settings.return_limit())
        };
        assert_eq!(limit(text("3")), Ok(Some(20)));
        assert_eq!(limit(FieldValue::Int8(-1)), Ok(None));
        assert_eq!(limit(FieldValue::Int8(3)), Ok(Some(3)));
    }
}
