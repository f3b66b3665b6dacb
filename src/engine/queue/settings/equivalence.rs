//! When two declarations of a queue are the same: which arguments are compared, and how (RabbitMQ's rules and texts).

use std::borrow::Cow;

use leveret_protocol::{FieldTable, FieldValue, LongString, ShortString};

use super::QueueType;
use crate::error::AmqpError;

const CLASSIC: [&str; 15] = [
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
    "x-delivery-limit",
];

const QUORUM: [&str; 16] = [
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-overflow",
    "x-single-active-consumer",
    "x-queue-type",
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-message-ttl",
    "x-queue-leader-locator",
    "x-consumer-timeout",
];

const STREAM: [&str; 7] = [
    "x-max-length-bytes",
    "x-queue-type",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
    "x-queue-leader-locator",
];

/// The arguments that two declarations of a queue of this type must agree on, in the order in which they are compared.
pub(super) const fn compared_arguments(queue_type: QueueType) -> &'static [&'static str] {
    match queue_type {
        QueueType::Classic => &CLASSIC,
        QueueType::Quorum => &QUORUM,
        QueueType::Stream => &STREAM,
    }
}

/// Checks that a redeclaration's arguments agree with those of the queue that exists.
pub fn check_equivalent(
    current: &FieldTable,
    received: &FieldTable,
    queue: &ShortString,
    vhost: &ShortString,
) -> Result<(), AmqpError> {
    let entity = format!("queue '{queue}' in vhost '{vhost}'");
    for key in compared_arguments(QueueType::from_arguments(current).unwrap_or_default()) {
        if *key == "x-queue-type" {
            compare_argument(Some(&type_of(current)), Some(&type_of(received)), key, &entity)?;
        } else {
            compare_argument(current.get(key), received.get(key), key, &entity)?;
        }
    }
    Ok(())
}

/// A declaration's queue type with the default filled in.
fn type_of(arguments: &FieldTable) -> Cow<'_, FieldValue> {
    match arguments.get("x-queue-type") {
        Some(value) if QueueType::from_arguments(arguments) != Some(QueueType::Classic) => Cow::Borrowed(value),
        _ => Cow::Owned(FieldValue::LongString(LongString::from_static(QueueType::Classic.as_str()))),
    }
}

/// Compares one argument of an entity that exists with that of a redeclaration.
pub(crate) fn compare_argument(
    current: Option<&FieldValue>,
    received: Option<&FieldValue>,
    key: &str,
    entity: &str,
) -> Result<(), AmqpError> {
    let what = match (current, received) {
        (None, None) => return Ok(()),
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

/// Equal by class and value: the width of a number does not matter.
fn same_value(a: &FieldValue, b: &FieldValue) -> bool {
    match (a.as_integer(), b.as_integer()) {
        (Some(a), Some(b)) => return a == b,
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => return false,
    }
    match (as_float(a), as_float(b)) {
        (Some(a), Some(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

fn as_float(value: &FieldValue) -> Option<f64> {
    if let FieldValue::Float(number) = value {
        return Some(f64::from(*number));
    }
    if let FieldValue::Double(number) = value { Some(*number) } else { None }
}

/// A value as reply-texts show it.
pub(crate) fn print_value(value: &FieldValue) -> String {
    if let Some(number) = value.as_integer() {
        return number.to_string();
    }
    if let Some(text) = value.as_long_str() {
        return String::from_utf8_lossy(text).into_owned();
    }
    if let Some(on) = value.as_bool() {
        return on.to_string();
    }
    if let FieldValue::Double(number) = value {
        return format!("{number:?}");
    }
    if let FieldValue::Float(number) = value {
        return format!("{:?}", f64::from(*number));
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(key: &'static str, value: FieldValue) -> FieldTable {
        [(ShortString::from_static(key), value)].into_iter().collect()
    }

    fn check(current: &FieldTable, received: &FieldTable) -> Result<(), String> {
        check_equivalent(current, received, &ShortString::from_static("q"), &ShortString::from_static("/"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn redeclarations_are_compared_by_value() {
        let ttl = |value| table("x-message-ttl", value);
        assert_eq!(check(&ttl(FieldValue::Int32(1000)), &ttl(FieldValue::Int64(1000))), Ok(()));
        assert_eq!(
            check(&ttl(FieldValue::Int32(1000)), &ttl(FieldValue::Int32(2000))),
            Err("inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '2000' but current is '1000'"
                .into())
        );
        assert_eq!(
            check(&ttl(FieldValue::Int32(1000)), &FieldTable::new()),
            Err("inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received none but current is the value \
                 '1000' of type 'signedint'"
                .into())
        );
        assert_eq!(
            check(&ttl(FieldValue::Int32(100)), &ttl(FieldValue::Double(100.0))),
            Err("inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '100.0' but current is '100'"
                .into())
        );
    }

    #[test]
    fn a_queue_without_a_type_is_classic() {
        let typed = |name: &'static str| table("x-queue-type", FieldValue::LongString(LongString::from_static(name)));
        for same in [FieldTable::new(), typed("classic"), typed("")] {
            assert_eq!(check(&same, &FieldTable::new()), Ok(()));
            assert_eq!(check(&FieldTable::new(), &same), Ok(()));
        }
        assert_eq!(
            check(&FieldTable::new(), &typed("quorum")),
            Err("inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but current is 'classic'"
                .into())
        );
        assert_eq!(
            check(&typed("quorum"), &FieldTable::new()),
            Err("inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'classic' but current is 'quorum'"
                .into())
        );
    }

    #[test]
    fn only_the_types_own_arguments_are_compared() {
        let quorum = table("x-queue-type", FieldValue::LongString(LongString::from_static("quorum")));
        let mut other = quorum.clone();
        other.push(ShortString::from_static("x-max-priority"), 3);
        assert_eq!(check(&quorum, &other), Ok(()));
        other.push(ShortString::from_static("x-delivery-limit"), 3);
        assert!(check(&quorum, &other).is_err());
    }
}
