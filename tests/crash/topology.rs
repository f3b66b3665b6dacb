//! The definitions that every round needs. They are made once: after each start they must be there.

use leveret_protocol::{FieldTable, FieldValue, LongString, Method, exchange, queue};

use crate::client::{Client, Outcome, problem, s};
use crate::messages::{DELIVERY_LIMIT, MAX_LENGTH, MAX_PRIORITY, Many, Queue, Route, TTL_MS, WIDTHS};

/// The exchange of dead letters: routed by the name of the queue that they go to.
const GRAVEYARD: &str = "graveyard";

/// Every durable exchange with its type.
const EXCHANGES: [(&str, &str); 5] =
    [("fan", "fanout"), ("topics", "topic"), (GRAVEYARD, "direct"), ("shifts", "topic"), ("wide", "topic")];

/// Bindings of [`Queue::Shifted`] that come and go; each matches [`Route::Shifted`].
pub const SHIFTS: [&str; 3] = ["shift.#", "*.word", "#.word.#"];

/// As it is declared, every time.
pub fn declaration(name: Queue) -> queue::Declare {
    let mut arguments = FieldTable::new();
    if let Some(graveyard) = name.graveyard() {
        arguments.push(s("x-dead-letter-exchange"), s(GRAVEYARD));
        arguments.push(s("x-dead-letter-routing-key"), s(graveyard.name()));
    }
    match name {
        Queue::Bounded => arguments.push(s("x-max-length"), MAX_LENGTH),
        Queue::Failing => {
            arguments.push(s("x-queue-type"), LongString::from_static("quorum"));
            arguments.push(s("x-delivery-limit"), DELIVERY_LIMIT);
        }
        _ if name.is_brief() => arguments.push(s("x-message-ttl"), TTL_MS),
        _ if name.is_ranked() => arguments.push(s("x-max-priority"), FieldValue::UInt8(MAX_PRIORITY)),
        _ => {}
    }
    queue::Declare { queue: s(name.name()), durable: true, arguments, ..queue::Declare::default() }
}

/// A binding of a queue.
pub fn bind(name: Queue, exchange: &str, key: &str) -> queue::Bind {
    queue::Bind { queue: s(name.name()), exchange: s(exchange), routing_key: s(key), ..queue::Bind::default() }
}

/// The bindings that are always there.
fn bindings(name: Queue) -> Vec<queue::Bind> {
    match name {
        Queue::FanA | Queue::FanB => vec![bind(name, "fan", "")],
        Queue::TopicAll => vec![bind(name, "topics", "#")],
        Queue::TopicEven => vec![bind(name, "topics", "*.even.#")],
        Queue::TopicOdd => vec![bind(name, "topics", "number.odd.*")],
        Queue::Many(number) if Many::of(number) == Many::Plain => {
            let reaching = WIDTHS.into_iter().filter(|width| number < *width);
            reaching.map(|width| bind(name, "wide", Route::Spread(width).key())).collect()
        }
        _ if name.death().is_some() => vec![bind(name, GRAVEYARD, name.name())],
        _ => Vec::new(),
    }
}

/// Declares and binds everything.
pub fn declare(client: &mut Client, channel: u16, queues: &[Queue]) -> Outcome<()> {
    for (name, kind) in EXCHANGES {
        let declare = exchange::Declare { exchange: s(name), kind: s(kind), durable: true, ..Default::default() };
        client.send(channel, declare);
        client.expect("exchange.declare-ok")?;
    }
    let mut bound = 0;
    for &name in queues {
        client.send(channel, declaration(name));
        for bind in bindings(name) {
            client.send(channel, bind);
            bound += 1;
        }
    }
    for _ in 0..queues.len() + bound {
        match client.call()? {
            Method::QueueDeclareOk(_) | Method::QueueBindOk(_) => {}
            other => return problem(format!("{other:?}")),
        }
    }
    Ok(())
}

/// Everything that [`declare`] made must be there, as it was made. How many messages each queue has.
pub fn verify(client: &mut Client, channel: u16, queues: &[Queue]) -> Outcome<Vec<usize>> {
    for (name, kind) in EXCHANGES {
        let passive = exchange::Declare { exchange: s(name), passive: true, ..Default::default() };
        client.send(channel, passive);
        client.expect("exchange.declare-ok")?;
        let again = exchange::Declare { exchange: s(name), kind: s(kind), durable: true, ..Default::default() };
        client.send(channel, again);
        client.expect("exchange.declare-ok")?;
    }
    for &name in queues {
        client.send(channel, passive(name));
        // A queue with other arguments would be refused (406).
        client.send(channel, declaration(name));
    }
    let mut found = Vec::new();
    for &name in queues {
        count(client, name)?;
        found.push(count(client, name)?);
    }
    Ok(found)
}

/// Asks whether a queue is there.
pub fn passive(name: Queue) -> queue::Declare {
    queue::Declare { queue: s(name.name()), passive: true, ..Default::default() }
}

fn count(client: &mut Client, name: Queue) -> Outcome<usize> {
    match client.call()? {
        Method::QueueDeclareOk(ok) => Ok(usize::try_from(ok.message_count).expect("32 bits")),
        other => problem(format!("{}: {other:?}", name.name())),
    }
}

/// How many messages are ready in a queue, which must exist.
pub fn ready(client: &mut Client, channel: u16, name: Queue) -> Outcome<usize> {
    client.send(channel, passive(name));
    count(client, name)
}

/// As [`ready`], for several.
pub fn ready_in(client: &mut Client, channel: u16, names: &[Queue]) -> Outcome<Vec<usize>> {
    for &name in names {
        client.send(channel, passive(name));
    }
    names.iter().map(|name| count(client, *name)).collect()
}
