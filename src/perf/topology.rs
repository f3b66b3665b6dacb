//! Queues, exchange and bindings of a run.

use leveret_protocol::{Method, ShortString, basic, exchange, queue};

use super::args::{ExchangeKind, PerfArgs};
use super::client::{Client, short_string, unexpected};
use super::error::PerfError;

/// Exchanges whose names begin so are the broker's: always there, never declared.
const RESERVED_PREFIX: &str = "amq.";

/// The name of a queue.
pub(super) fn queue_name(args: &PerfArgs, number: u32) -> Result<ShortString, PerfError> {
    short_string(&format!("{}{number}", args.queue_prefix()))
}

/// Declares and empties the queues, and binds them. If nothing is to be published, what the queues hold is to be consumed:
/// it stays, and its number is returned.
pub(super) fn set_up(args: &PerfArgs, client: &mut Client) -> Result<u64, PerfError> {
    let mut held = 0;
    for number in 0..args.queues {
        let queue = queue_name(args, number)?;
        let declare = queue::Declare { queue: queue.clone(), durable: args.persistent, ..queue::Declare::default() };
        let reply = client.call(declare)?;
        let Method::QueueDeclareOk(declared) = reply else {
            return Err(unexpected(&reply));
        };
        if args.publishers == 0 {
            held += u64::from(declared.message_count);
        } else {
            client
                .call_for(queue::Purge { queue, no_wait: false }, |reply| matches!(reply, Method::QueuePurgeOk(_)))?;
        }
    }
    if let Some(name) = &args.exchange {
        declare_exchange(args, name, client)?;
        bind(args, name, client)?;
    }
    Ok(held)
}

fn declare_exchange(args: &PerfArgs, name: &str, client: &mut Client) -> Result<(), PerfError> {
    if name.starts_with(RESERVED_PREFIX) {
        return Ok(());
    }
    let declare = exchange::Declare {
        exchange: short_string(name)?,
        kind: short_string(&args.exchange_type.to_string())?,
        durable: args.persistent,
        ..exchange::Declare::default()
    };
    client.call_for(declare, |reply| matches!(reply, Method::ExchangeDeclareOk(_)))
}

fn bind(args: &PerfArgs, exchange: &str, client: &mut Client) -> Result<(), PerfError> {
    let mut bind = |number: u32, routing_key: ShortString| {
        let (queue, exchange) = (queue_name(args, number % args.queues)?, short_string(exchange)?);
        let bind = queue::Bind { queue, exchange, routing_key, ..queue::Bind::default() };
        client.call_for(bind, |reply| matches!(reply, Method::QueueBindOk(_)))
    };
    match args.exchange_type {
        ExchangeKind::Fanout => (0..args.queues).try_for_each(|number| bind(number, ShortString::default())),
        ExchangeKind::Direct => (0..args.queues).try_for_each(|number| bind(number, queue_name(args, number)?)),
        ExchangeKind::Topic => {
            (0..args.topic_bindings).try_for_each(|number| bind(number, short_string(&topic_binding_key(number))?))
        }
    }
}

/// The routing keys that a publisher uses in turn; all have the same length.
pub(super) fn routing_keys(args: &PerfArgs, publisher: u32) -> Result<Vec<ShortString>, PerfError> {
    if args.exchange.is_some() && args.exchange_type == ExchangeKind::Topic {
        return (0..args.topic_bindings).map(|number| short_string(&topic_routing_key(number))).collect();
    }
    Ok(vec![queue_name(args, publisher % args.queues)?])
}

/// The binding key of a number: literal, `*` and `#` in turn. It matches the routing key of its number and no other.
fn topic_binding_key(number: u32) -> String {
    match number % 3 {
        0 => topic_routing_key(number),
        1 => format!("perf.{number:010}.*"),
        _ => format!("perf.{number:010}.#"),
    }
}

/// Ten digits hold any number, so that the keys have one length.
fn topic_routing_key(number: u32) -> String {
    format!("perf.{number:010}.end")
}

/// Starts a consumer.
pub(super) fn consume(args: &PerfArgs, client: &mut Client, number: u32) -> Result<(), PerfError> {
    if args.prefetch != 0 {
        let qos = basic::Qos { prefetch_count: args.prefetch, ..basic::Qos::default() };
        client.call_for(qos, |reply| matches!(reply, Method::BasicQosOk(_)))?;
    }
    let consume = basic::Consume {
        queue: queue_name(args, number % args.queues)?,
        consumer_tag: consumer_tag(),
        no_ack: args.auto_ack,
        ..basic::Consume::default()
    };
    client.call_for(consume, |reply| matches!(reply, Method::BasicConsumeOk(_)))
}

/// The name of the one consumer on a channel.
pub(super) fn consumer_tag() -> ShortString {
    ShortString::from_static("perf")
}

/// Removes what [`set_up`] has made.
pub(super) fn tear_down(args: &PerfArgs, client: &mut Client) -> Result<(), PerfError> {
    for number in 0..args.queues {
        let delete = queue::Delete { queue: queue_name(args, number)?, ..queue::Delete::default() };
        client.call_for(delete, |reply| matches!(reply, Method::QueueDeleteOk(_)))?;
    }
    match args.exchange.as_deref().filter(|name| !name.starts_with(RESERVED_PREFIX)) {
        Some(name) => {
            let delete = exchange::Delete { exchange: short_string(name)?, ..exchange::Delete::default() };
            client.call_for(delete, |reply| matches!(reply, Method::ExchangeDeleteOk(_)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::args::tests::parse;

    /// Whether a binding key of the kinds made here matches.
    fn matches(binding_key: &str, routing_key: &str) -> bool {
        match binding_key.strip_suffix(['*', '#']) {
            Some(start) => routing_key.strip_prefix(start).is_some_and(|word| !word.is_empty() && !word.contains('.')),
            None => binding_key == routing_key,
        }
    }

    #[test]
    fn each_topic_key_matches_one_binding() {
        let args = parse("--exchange t --exchange-type topic --topic-bindings 40 --queues 3 --consumers 3");
        let keys = routing_keys(&args, 0).expect("the keys are short");
        for (number, key) in keys.iter().enumerate() {
            let key = key.as_str().expect("the keys are text");
            let matching: Vec<u32> = (0..40).filter(|&other| matches(&topic_binding_key(other), key)).collect();
            assert_eq!(matching.iter().map(|&other| other as usize).collect::<Vec<_>>(), [number]);
        }
        assert!(keys.iter().all(|key| key.len() == keys[0].len()));
    }

    #[test]
    fn topic_bindings_are_of_three_kinds() {
        let ends: Vec<_> = (0..3).map(|number| topic_binding_key(number).split_off(16)).collect();
        assert_eq!(ends, ["end", "*", "#"]);
        assert_eq!(topic_routing_key(u32::MAX).len(), topic_routing_key(0).len());
    }

    #[test]
    fn publishers_take_the_queues_in_turn() {
        let args = parse("--queues 2 --consumers 2 --queue-prefix q");
        let key = |publisher| routing_keys(&args, publisher).expect("the keys are short")[0].to_string();
        assert_eq!([key(0), key(1), key(2)], ["q0", "q1", "q0"]);
    }
}
