//! The definitions that every round needs. They are made once: after each start they must be there.

use leveret_protocol::{FieldTable, FieldValue, Method, exchange, queue};

use crate::client::{Client, Outcome, problem, s};
use crate::messages::{MAX_LENGTH, MAX_PRIORITY, Queue, TTL_MS};

/// The exchange of dead letters: routed by the name of the queue that they go to.
const GRAVEYARD: &str = "graveyard";

/// Every durable exchange with its type.
const EXCHANGES: [(&str, &str); 3] = [("fan", "fanout"), ("topics", "topic"), (GRAVEYARD, "direct")];

fn declaration(name: Queue) -> queue::Declare {
    let mut arguments = FieldTable::new();
    if let Some(graveyard) = name.graveyard() {
        arguments.push(s("x-dead-letter-exchange"), s(GRAVEYARD));
        arguments.push(s("x-dead-letter-routing-key"), s(graveyard.name()));
    }
    match name {
        Queue::Bounded => arguments.push(s("x-max-length"), MAX_LENGTH),
        Queue::Brief => arguments.push(s("x-message-ttl"), TTL_MS),
        Queue::Ranked => arguments.push(s("x-max-priority"), FieldValue::UInt8(MAX_PRIORITY)),
        _ => {}
    }
    queue::Declare { queue: s(name.name()), durable: true, arguments, ..queue::Declare::default() }
}

fn binding(name: Queue) -> Option<queue::Bind> {
    let (exchange, key) = match name {
        Queue::FanA | Queue::FanB => ("fan", ""),
        Queue::TopicAll => ("topics", "#"),
        Queue::TopicEven => ("topics", "*.even.#"),
        Queue::TopicOdd => ("topics", "number.odd.*"),
        Queue::Dead | Queue::Overflow | Queue::Expired => (GRAVEYARD, name.name()),
        _ => return None,
    };
    Some(queue::Bind { queue: s(name.name()), exchange: s(exchange), routing_key: s(key), ..queue::Bind::default() })
}

/// Declares and binds everything.
pub fn declare(client: &mut Client, channel: u16) -> Outcome<()> {
    for (name, kind) in EXCHANGES {
        let declare = exchange::Declare { exchange: s(name), kind: s(kind), durable: true, ..Default::default() };
        client.send(channel, declare);
        client.expect("exchange.declare-ok")?;
    }
    for name in Queue::ALL {
        client.send(channel, declaration(name));
        client.expect("queue.declare-ok")?;
        if let Some(bind) = binding(name) {
            client.send(channel, bind);
            client.expect("queue.bind-ok")?;
        }
    }
    Ok(())
}

/// Everything that [`declare`] made must be there, as it was made.
pub fn verify(client: &mut Client, channel: u16) -> Outcome<()> {
    for (name, kind) in EXCHANGES {
        let passive = exchange::Declare { exchange: s(name), passive: true, ..Default::default() };
        client.send(channel, passive);
        client.expect("exchange.declare-ok")?;
        let again = exchange::Declare { exchange: s(name), kind: s(kind), durable: true, ..Default::default() };
        client.send(channel, again);
        client.expect("exchange.declare-ok")?;
    }
    for name in Queue::ALL {
        ready(client, channel, name)?;
        // A queue with other arguments would be refused (406).
        client.send(channel, declaration(name));
        client.expect("queue.declare-ok")?;
    }
    Ok(())
}

/// How many messages are ready in a queue, which must exist.
pub fn ready(client: &mut Client, channel: u16, name: Queue) -> Outcome<usize> {
    client.send(channel, queue::Declare { queue: s(name.name()), passive: true, ..Default::default() });
    match client.call()? {
        Method::QueueDeclareOk(ok) => Ok(usize::try_from(ok.message_count).expect("32 bits")),
        other => problem(format!("{}: {other:?}", name.name())),
    }
}
