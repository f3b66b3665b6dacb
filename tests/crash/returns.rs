//! How often messages came back, in queues that count it: a kill forgets no return that was on disk, so a message that
//! brings its consumers down does not begin anew with every start.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use leveret_protocol::{
    BasicProperties, FieldTable, FieldValue, LongString, Method, ShortString, basic, exchange, queue,
};

use crate::client::{Arrived, Client, Outcome, problem, s};
use crate::random::Random;
use crate::traffic::confirm_mode;

/// The queues: what counts is told by its name.
const QUEUES: [&str; 2] = ["returns-quorum", "returns-classic"];

/// Messages in each.
const MESSAGES: usize = 40;

/// Returns that a message survives.
pub const LIMIT: u32 = 5;

/// How often each message of a queue came back for sure, by its body; what is not there is gone.
pub type Counts = BTreeMap<(usize, String), u32>;

fn arguments(name: &str) -> FieldTable {
    let quorum = name.ends_with("quorum");
    let kind = LongString::from_static(if quorum { "quorum" } else { "classic" });
    let mut arguments = FieldTable::new();
    arguments.push(ShortString::from_static("x-queue-type"), kind);
    arguments.push(ShortString::from_static("x-delivery-limit"), i32::try_from(LIMIT).expect("small"));
    arguments
}

/// Declares the queues and fills them.
pub fn fill(addr: SocketAddr) -> Outcome<Counts> {
    let mut client = Client::open(addr, 4096)?;
    confirm_mode(&mut client, 1)?;
    let mut counts = Counts::new();
    for (at, name) in QUEUES.iter().enumerate() {
        let declare =
            queue::Declare { queue: s(name), durable: true, arguments: arguments(name), ..Default::default() };
        client.send(1, declare);
        client.expect("queue.declare-ok")?;
        for number in 0..MESSAGES {
            let properties = BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() };
            let publish = basic::Publish { routing_key: s(name), ..basic::Publish::default() };
            client.publish(1, publish, &properties, number.to_string().as_bytes());
            counts.insert((at, number.to_string()), 0);
        }
    }
    let mut confirmed = 0;
    while confirmed < 2 * MESSAGES as u64 {
        match client.call()? {
            Method::BasicAck(ack) if ack.multiple => confirmed = ack.delivery_tag.get(),
            Method::BasicAck(_) => confirmed += 1,
            other => return problem(format!("unexpected: {other:?}")),
        }
    }
    client.close()?;
    Ok(counts)
}

fn count_of(properties: &BasicProperties) -> u32 {
    let count = properties.headers.as_ref().and_then(|headers| headers.get("x-delivery-count"));
    count.and_then(FieldValue::as_integer).map_or(0, |count| u32::try_from(count).expect("small"))
}

/// Takes everything, compares, and gives some of it back; the rest is unacked when the broker is killed. When this returns
/// the returns are on disk. The client has to live until the kill.
pub fn give_back_some(addr: SocketAddr, counts: &mut Counts, random: &mut Random) -> Outcome<Client> {
    let mut client = Client::open(addr, 131_072)?;
    client.open_channel(1)?;
    let mut tag = 0;
    for (at, name) in QUEUES.iter().enumerate() {
        let mut returned = Vec::new();
        let mut seen = 0;
        loop {
            client.send(1, basic::Get { queue: s(name), no_ack: false });
            let Arrived { method, content, .. } = client.next()?;
            let (Method::BasicGetOk(get), Some(content)) = (method, content) else { break };
            tag = get.delivery_tag.get();
            let key = (at, String::from_utf8_lossy(&content.body).into_owned());
            let Some(known) = counts.get(&key) else { return problem(format!("{key:?} was over its limit")) };
            let count = count_of(&content.properties);
            if count != *known {
                return problem(format!("{key:?} of {name} came back {count} times instead of {known}"));
            }
            seen += 1;
            if !random.once_in(4) {
                returned.push((get.delivery_tag, key));
            }
        }
        let there = counts.keys().filter(|(queue, _)| *queue == at).count();
        if seen != there {
            return problem(format!("{seen} messages in {name} instead of {there}"));
        }
        for (delivery_tag, key) in returned {
            client.send(1, basic::Reject { delivery_tag, requeue: true });
            let count = counts.get_mut(&key).expect("found above");
            *count += 1;
            if *count > LIMIT {
                counts.remove(&key);
            }
        }
    }
    // Its answer waits for the commit that comes after those of the returns.
    let name = format!("returns-{tag}");
    client.send(1, exchange::Declare { exchange: s(&name), kind: s("fanout"), durable: true, ..Default::default() });
    client.expect("exchange.declare-ok")?;
    client.send(1, exchange::Delete { exchange: s(&name), ..Default::default() });
    client.expect("exchange.delete-ok")?;
    Ok(client)
}
