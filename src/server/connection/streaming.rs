//! What consumers of streams have to ask for, and what nobody can ask of a stream (RabbitMQ extensions).

use leveret_protocol::{FieldTable, FieldValue};

use crate::engine::message::Timestamp;
use crate::engine::queue::ConsumerSpec;
use crate::engine::stream::{OFFSET, OffsetSpec};
use crate::error::AmqpError;
use crate::server::queue_cell::QueueCell;

/// Consumer arguments of streams only.
const OF_STREAMS: [&str; 3] = [OFFSET, "x-stream-filter", "x-stream-match-unfiltered"];
/// Consumer arguments of all other queues only.
const OF_OTHERS: [&str; 1] = ["x-priority"];

/// Refuses the consumer arguments of other queue types.
pub(super) fn check_consumer_arguments(cell: &QueueCell, arguments: &FieldTable) -> Result<(), AmqpError> {
    let foreign: &[&str] = if cell.stream.is_some() { &OF_OTHERS } else { &OF_STREAMS };
    match foreign.iter().find(|key| arguments.get(key).is_some()) {
        None => Ok(()),
        Some(key) => Err(AmqpError::BadArgument(format!(
            "invalid arg '{key}' for queue '{}' in vhost '{}' of queue type {}",
            cell.name,
            cell.vhost.name,
            cell.settings().queue_type.module_name()
        ))),
    }
}

/// Checks what a stream asks of its consumers; where the consumer starts.
pub(super) fn check_stream_consumer(
    cell: &QueueCell,
    spec: &ConsumerSpec,
    arguments: &FieldTable,
    now: Timestamp,
) -> Result<OffsetSpec, AmqpError> {
    let entity = format!("queue '{}' in vhost '{}'", cell.name, cell.vhost.name);
    let start = arguments.get(OFFSET);
    let start = OffsetSpec::parse(start, now).ok_or_else(|| {
        let value = start.map(erlang_term).unwrap_or_default();
        AmqpError::BadArgument(format!("invalid arg '{OFFSET}' for {entity}: {{invalid_stream_offset_arg,{value}}}"))
    })?;
    if spec.prefetch == 0 {
        return Err(AmqpError::BadArgument(format!("consumer prefetch count is not set for stream {entity}")));
    }
    if spec.no_ack {
        return Err(AmqpError::NotImplemented(format!("automatic acknowledgement not supported by stream {entity}")));
    }
    if spec.channel_limit.is_set() {
        return Err(AmqpError::NotImplemented(format!("{entity} does not support global qos")));
    }
    Ok(start)
}

/// What streams do not do.
pub(super) fn not_by_streams(what: &str, cell: &QueueCell) -> AmqpError {
    let (queue, vhost) = (&cell.name, &cell.vhost.name);
    AmqpError::NotImplemented(format!("{what} not supported by stream queues queue '{queue}' in vhost '{vhost}'"))
}

/// A value with its type, as RabbitMQ prints it. Of what is nested only the type is told.
fn erlang_term(value: &FieldValue) -> String {
    let kind = value.type_name();
    if let Some(text) = value.as_long_str() {
        return match std::str::from_utf8(text) {
            Ok(text) if text.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ') => {
                format!("{{{kind},<<\"{text}\">>}}")
            }
            _ => format!("{{{kind},<<{}>>}}", text.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
        };
    }
    match value.as_bool() {
        Some(on) => format!("{{{kind},{on}}}"),
        None => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_printed_as_terms() {
        let text = |octets: &[u8]| FieldValue::LongString(octets.try_into().expect("short"));
        assert_eq!(erlang_term(&text(b"5x")), "{longstr,<<\"5x\">>}");
        assert_eq!(erlang_term(&text(&[1, 200])), "{longstr,<<1,200>>}");
        assert_eq!(erlang_term(&FieldValue::Boolean(true)), "{bool,true}");
        assert_eq!(erlang_term(&FieldValue::Array(Vec::new())), "array");
    }
}
