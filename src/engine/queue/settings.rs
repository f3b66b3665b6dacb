//! Queue arguments: what they mean, which are refused, and when two declarations are the same (RabbitMQ extensions).

use leveret_protocol::{FieldTable, FieldValue, ShortString};

use crate::error::AmqpError;

/// What a full queue does with one message more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Takes it in and drops from the head.
    #[default]
    DropHead,
    /// Refuses it.
    RejectPublish,
    /// Refuses it and dead-letters it.
    RejectPublishDlx,
}

/// What a queue's arguments ask for, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// `x-message-ttl`: milliseconds that a message may wait.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`: milliseconds that the queue may be unused.
    pub expires_ms: Option<u64>,
    /// `x-max-length`: ready messages at most.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`: octets of ready bodies at most.
    pub max_length_bytes: Option<u64>,
    /// `x-overflow`.
    pub overflow: Overflow,
    /// `x-dead-letter-exchange`.
    pub dead_letter_exchange: Option<ShortString>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<ShortString>,
    /// `x-max-priority`.
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
}

/// Ten years in milliseconds: RabbitMQ's limit on times.
pub const TTL_MAX_MS: u64 = 315_360_000_000;

/// The arguments that two declarations of a classic queue must agree on, in the order in which they are compared.
const COMPARED: [&str; 14] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-master-locator",
    "x-queue-leader-locator",
];

/// Arguments of other queue types, which a classic queue refuses.
const OTHER_TYPES: [&str; 9] = [
    "x-dead-letter-strategy",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
];

impl QueueSettings {
    /// Reads and checks the arguments of a declaration.
    pub fn from_arguments(arguments: &FieldTable, queue: &ShortString, vhost: &ShortString) -> Result<Self, AmqpError> {
        let check = Arguments { table: arguments, queue, vhost };
        for key in OTHER_TYPES {
            if arguments.get(key).is_some() {
                return Err(AmqpError::BadArgument(format!(
                    "invalid arg '{key}' for queue '{queue}' in vhost '{vhost}' of queue type rabbit_classic_queue"
                )));
            }
        }
        if let Some(value) = arguments.get("x-dead-letter-exchange")
            && value.as_long_str().is_none()
        {
            return Err(AmqpError::BadArgument(format!(
                "invalid type '{}' for arg 'x-dead-letter-exchange' in queue '{queue}' in vhost '{vhost}'",
                value.type_name()
            )));
        }
        let queue_type = check.text("x-queue-type")?;
        match queue_type.as_deref() {
            None | Some(b"classic" | b"" | b"undefined") => {}
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                return Err(check.error("x-queue-type", &format!("\"unsupported queue type '{other}'\"")));
            }
        }
        let dead_letter_exchange = check.name("x-dead-letter-exchange")?;
        let dead_letter_routing_key = check.name("x-dead-letter-routing-key")?;
        if dead_letter_routing_key.is_some() && dead_letter_exchange.is_none() {
            return Err(check.error("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined"));
        }
        let overflow = match check.text("x-overflow")?.as_deref() {
            None | Some(b"drop-head") => Overflow::DropHead,
            Some(b"reject-publish") => Overflow::RejectPublish,
            Some(b"reject-publish-dlx") => Overflow::RejectPublishDlx,
            Some(_) => return Err(check.error("x-overflow", "invalid_overflow")),
        };
        let expires_ms = check.millis("x-expires")?;
        if expires_ms == Some(0) {
            return Err(check.error("x-expires", "{value_zero,0}"));
        }
        let max_priority = match check.count("x-max-priority")? {
            None => None,
            Some(max) => Some(
                u8::try_from(max)
                    .map_err(|_| check.error("x-max-priority", &format!("{{max_value_exceeded,{max}}}")))?,
            ),
        };
        let single_active_consumer = match arguments.get("x-single-active-consumer") {
            None => false,
            Some(FieldValue::Boolean(on)) => *on,
            Some(other) => return Err(check.unacceptable("x-single-active-consumer", other)),
        };
        Ok(Self {
            message_ttl_ms: check.millis("x-message-ttl")?,
            expires_ms,
            max_length: check.count("x-max-length")?,
            max_length_bytes: check.count("x-max-length-bytes")?,
            overflow,
            dead_letter_exchange,
            dead_letter_routing_key,
            max_priority,
            single_active_consumer,
        })
    }

    /// Whether messages that die are published again.
    pub fn dead_letters(&self) -> bool {
        self.dead_letter_exchange.is_some()
    }

    /// Whether the number or size of ready messages is limited.
    pub fn has_length_limit(&self) -> bool {
        self.max_length.is_some() || self.max_length_bytes.is_some()
    }

    /// Whether a full queue refuses messages.
    pub fn refuses_when_full(&self) -> bool {
        self.has_length_limit() && self.overflow != Overflow::DropHead
    }
}

struct Arguments<'a> {
    table: &'a FieldTable,
    queue: &'a ShortString,
    vhost: &'a ShortString,
}

impl Arguments<'_> {
    fn error(&self, key: &str, why: &str) -> AmqpError {
        AmqpError::BadArgument(format!(
            "invalid arg '{key}' for queue '{}' in vhost '{}': {why}",
            self.queue, self.vhost
        ))
    }

    fn unacceptable(&self, key: &str, value: &FieldValue) -> AmqpError {
        self.error(key, &format!("{{unacceptable_type,{}}}", value.type_name()))
    }

    fn text(&self, key: &str) -> Result<Option<Vec<u8>>, AmqpError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        value.as_long_str().map(|text| Some(text.to_vec())).ok_or_else(|| self.unacceptable(key, value))
    }

    fn name(&self, key: &str) -> Result<Option<ShortString>, AmqpError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        ShortString::try_from(text.as_slice()).map(Some).map_err(|_| self.error(key, "\"longer than 255 octets\""))
    }

    fn count(&self, key: &str) -> Result<Option<u64>, AmqpError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let Some(number) = value.as_integer() else {
            return Err(self.error(key, &format!("\"expected integer, got {}\"", value.type_name())));
        };
        u64::try_from(number).map(Some).map_err(|_| self.error(key, &format!("{{value_negative,{number}}}")))
    }

    fn millis(&self, key: &str) -> Result<Option<u64>, AmqpError> {
        match self.count(key)? {
            Some(millis) if millis > TTL_MAX_MS => Err(self.error(key, &format!("{{value_too_large,{millis}}}"))),
            other => Ok(other),
        }
    }
}

/// Checks that a redeclaration's arguments agree with those of the queue that exists.
pub fn check_equivalent(
    current: &FieldTable,
    received: &FieldTable,
    queue: &ShortString,
    vhost: &ShortString,
) -> Result<(), AmqpError> {
    for key in COMPARED {
        compare_argument(current.get(key), received.get(key), key, &format!("queue '{queue}' in vhost '{vhost}'"))?;
    }
    Ok(())
}

/// Compares one argument of an entity that exists with that of a redeclaration.
pub(crate) fn compare_argument(
    current: Option<&FieldValue>,
    received: Option<&FieldValue>,
    key: &str,
    entity: &str,
) -> Result<(), AmqpError> {
    let default_type = |value: Option<&FieldValue>| {
        key == "x-queue-type"
            && value.is_none_or(|value| matches!(value.as_long_str(), Some(b"classic" | b"" | b"undefined")))
    };
    let what = match (current, received) {
        (None, None) => return Ok(()),
        _ if default_type(current) && default_type(received) => return Ok(()),
        (Some(current), Some(received)) if same_value(current, received) => return Ok(()),
        (Some(current), Some(received)) => {
            format!("received '{}' but current is '{}'", print_value(received), print_value(current))
        }
        (None, Some(received)) => format!(
            "received the value '{}' of type '{}' but current is none",
            print_value(received),
            received.type_name()
        ),
        (Some(current), None) => format!(
            "received none but current is the value '{}' of type '{}'",
            print_value(current),
            current.type_name()
        ),
    };
    Err(AmqpError::Inequivalent(format!("inequivalent arg '{key}' for {entity}: {what}")))
}

/// Equal by class and value: the width of an integer does not matter.
fn same_value(a: &FieldValue, b: &FieldValue) -> bool {
    match (a.as_integer(), b.as_integer()) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a == b,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn print_value(value: &FieldValue) -> String {
    if let Some(number) = value.as_integer() {
        return number.to_string();
    }
    if let Some(text) = value.as_long_str() {
        return String::from_utf8_lossy(text).into_owned();
    }
    match value.as_bool() {
        Some(on) => on.to_string(),
        None => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(key: &'static str, value: FieldValue) -> Result<QueueSettings, String> {
        let table: FieldTable = [(ShortString::from_static(key), value)].into_iter().collect();
        QueueSettings::from_arguments(&table, &ShortString::from_static("q"), &ShortString::from_static("/"))
            .map_err(|error| error.to_string())
    }

    fn text(octets: &'static str) -> FieldValue {
        FieldValue::LongString(octets.try_into().expect("short"))
    }

    #[test]
    fn every_integer_width_is_accepted() {
        for value in [FieldValue::Int8(5), FieldValue::UInt16(5), FieldValue::Int32(5), FieldValue::Int64(5)] {
            assert_eq!(parse("x-max-length", value).map(|settings| settings.max_length), Ok(Some(5)));
        }
    }

    #[test]
    fn bad_values_are_refused_in_rabbitmqs_words() {
        let check = |key, value, why: &str| {
            assert_eq!(parse(key, value).err(), Some(format!("invalid arg '{key}' for queue 'q' in vhost '/': {why}")));
        };
        check("x-message-ttl", FieldValue::Int32(-1), "{value_negative,-1}");
        check("x-message-ttl", FieldValue::Int64(315_360_000_001), "{value_too_large,315360000001}");
        check("x-message-ttl", text("1"), "\"expected integer, got longstr\"");
        check("x-expires", FieldValue::Int32(0), "{value_zero,0}");
        check("x-max-priority", FieldValue::Int32(256), "{max_value_exceeded,256}");
        check("x-overflow", text("bogus"), "invalid_overflow");
        check("x-overflow", FieldValue::Int32(1), "{unacceptable_type,signedint}");
        check("x-dead-letter-routing-key", text("k"), "routing_key_but_no_dlx_defined");
        check("x-single-active-consumer", text("yes"), "{unacceptable_type,longstr}");
        check("x-queue-type", text("foo"), "\"unsupported queue type 'foo'\"");
    }

    #[test]
    fn redeclarations_are_compared_by_value() {
        let table =
            |value| -> FieldTable { [(ShortString::from_static("x-message-ttl"), value)].into_iter().collect() };
        let check = |current: &FieldTable, received: &FieldTable| {
            check_equivalent(current, received, &ShortString::from_static("q"), &ShortString::from_static("/"))
                .map_err(|error| error.to_string())
        };
        assert_eq!(check(&table(FieldValue::Int32(1000)), &table(FieldValue::Int64(1000))), Ok(()));
        assert_eq!(
            check(&table(FieldValue::Int32(1000)), &table(FieldValue::Int32(2000))),
            Err("inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '2000' but current is '1000'"
                .into())
        );
        assert_eq!(
            check(&table(FieldValue::Int32(1000)), &FieldTable::new()),
            Err("inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received none but current is the value \
                 '1000' of type 'signedint'"
                .into())
        );
    }
}
