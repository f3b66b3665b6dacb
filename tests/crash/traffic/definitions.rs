//! Definitions that come and go: a queue with a binding and one message, and an exchange.

use leveret_protocol::{BasicProperties, Method, basic, exchange, queue};

use super::Context;
use super::publisher::confirm_mode;
use crate::client::{Client, Outcome, problem, s};
use crate::log::{Done, Temporary};

/// The exchange that temporary queues are bound to.
pub const EXCHANGE: &str = "graveyard";

/// Temporary queues of one round.
const TEMPORARIES_MAX: usize = 40;

/// A persistent message for a temporary queue.
pub fn publish(client: &mut Client, channel: u16, name: &str) {
    let publish =
        basic::Publish { exchange: s(EXCHANGE), routing_key: s(name), mandatory: true, ..basic::Publish::default() };
    let properties = BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() };
    client.publish(channel, publish, &properties, name.as_bytes());
}

pub fn run(context: &mut Context) -> Outcome<()> {
    let mut client = context.connect()?;
    confirm_mode(&mut client, 1)?;
    context.begin();
    for number in 0..TEMPORARIES_MAX {
        let at = context.log.temporaries.len();
        let name = format!("temporary-{}-{number}", context.round);
        context.log.temporaries.push(Temporary { name, ..Temporary::default() });
        one(context, &mut client, at)?;
    }
    // Nothing more is asked, so nothing comes but the end.
    let method = client.call()?;
    problem(format!("unexpected: {method:?}"))
}

fn one(context: &mut Context, client: &mut Client, at: usize) -> Outcome<()> {
    let deletes = context.random.once_in(3);
    let record = &mut context.log.temporaries[at];
    let name = s(&record.name);

    record.declared = Done::InDoubt;
    client.send(1, queue::Declare { queue: name.clone(), durable: true, ..queue::Declare::default() });
    client.expect("queue.declare-ok")?;
    record.declared = Done::Yes;

    record.bound = Done::InDoubt;
    let (exchange, routing_key) = (s(EXCHANGE), name.clone());
    client.send(1, queue::Bind { queue: name.clone(), exchange, routing_key, ..queue::Bind::default() });
    client.expect("queue.bind-ok")?;
    record.bound = Done::Yes;

    record.exchange_declared = Done::InDoubt;
    let (exchange, kind) = (name.clone(), s("topic"));
    client.send(1, exchange::Declare { exchange, kind, durable: true, ..exchange::Declare::default() });
    client.expect("exchange.declare-ok")?;
    record.exchange_declared = Done::Yes;

    record.published = Done::InDoubt;
    publish(client, 1, &record.name);
    match client.call()? {
        Method::BasicAck(_) => record.published = Done::Yes,
        other => return problem(format!("unexpected: {other:?}")),
    }

    if deletes {
        record.deleted = Done::InDoubt;
        client.send(1, queue::Delete { queue: name.clone(), ..queue::Delete::default() });
        client.expect("queue.delete-ok")?;
        record.deleted = Done::Yes;

        record.exchange_deleted = Done::InDoubt;
        client.send(1, exchange::Delete { exchange: name, ..exchange::Delete::default() });
        client.expect("exchange.delete-ok")?;
        record.exchange_deleted = Done::Yes;
    }
    Ok(())
}
