//! Streams, killed under load: what was confirmed is there, in order and without gaps, and what a consumer once got at an
//! offset is there for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, LongString, Method, basic, queue};

use crate::broker::Broker;
use crate::client::{Arrived, Client, Outcome, Stop, problem, s};
use crate::random::Random;
use crate::traffic::confirm_mode;

const STREAM: &str = "stream";
const PUBLISHERS: usize = 3;
/// Unconfirmed messages of a publisher at most.
const IN_FLIGHT: u64 = 200;

/// What is known of the stream.
#[derive(Debug, Default)]
pub struct Known {
    /// Bodies that consumers got, by offset.
    seen: BTreeMap<i64, String>,
    confirmed: BTreeSet<String>,
    /// The number of the next message, whoever publishes it.
    next: u64,
}

fn table(entries: &[(&'static str, &'static str)]) -> FieldTable {
    let value = |text| FieldValue::LongString(LongString::from_static(text));
    entries.iter().map(|(name, text)| (s(name), value(text))).collect()
}

fn open(addr: SocketAddr) -> Outcome<Client> {
    let mut client = Client::open(addr, 131_072)?;
    client.open_channel(1)?;
    Ok(client)
}

fn subscribe(client: &mut Client, start: &'static str) -> Outcome<()> {
    client.send(1, basic::Qos { prefetch_count: 1000, ..basic::Qos::default() });
    client.expect("basic.qos-ok")?;
    let arguments = table(&[("x-stream-offset", start)]);
    client.send(1, basic::Consume { queue: s(STREAM), arguments, ..basic::Consume::default() });
    client.expect("basic.consume-ok")
}

/// The next delivery's offset and body; it is acked.
fn receive(client: &mut Client) -> Outcome<(i64, String)> {
    let Arrived { method, content, .. } = client.next()?;
    let (Method::BasicDeliver(deliver), Some(content)) = (&method, content) else {
        return problem(format!("{method:?} instead of a delivery"));
    };
    client.send(1, basic::Ack { delivery_tag: deliver.delivery_tag, multiple: false });
    let headers = content.properties.headers.unwrap_or_default();
    let Some(FieldValue::Int64(offset)) = headers.get("x-stream-offset") else { return problem("no offset") };
    if deliver.redelivered {
        return problem("a stream redelivers");
    }
    Ok((*offset, String::from_utf8_lossy(&content.body).into_owned()))
}

/// Declares the stream, if it is not there, and looks through all of it.
pub fn check(addr: SocketAddr, known: &mut Known) -> Outcome<()> {
    let mut client = open(addr)?;
    let arguments = table(&[("x-queue-type", "stream")]);
    client.send(1, queue::Declare { queue: s(STREAM), durable: true, arguments, ..queue::Declare::default() });
    let Method::QueueDeclareOk(ok) = client.call()? else { return problem("the stream cannot be declared") };
    subscribe(&mut client, "first")?;
    let mut found = BTreeSet::new();
    let mut newest = [None; PUBLISHERS];
    for expected in 0..i64::from(ok.message_count) {
        let (offset, body) = receive(&mut client)?;
        if offset != expected {
            return problem(format!("offset {offset} instead of {expected}"));
        }
        if known.seen.insert(offset, body.clone()).is_some_and(|before| before != body) {
            return problem(format!("offset {offset} has become {body}"));
        }
        let parts = body.trim_end().split_once(' ');
        let parts =
            parts.and_then(|(publisher, number)| Some((publisher.parse::<usize>().ok()?, number.parse().ok()?)));
        let Some((publisher, number)) = parts else { return problem(format!("a strange body: {body}")) };
        if newest[publisher].replace(number).is_some_and(|before: u64| before >= number) {
            return problem(format!("{body} at {offset} is out of order"));
        }
        found.insert(body);
    }
    let beyond = known.seen.range(i64::from(ok.message_count)..).next();
    if let Some((offset, body)) = beyond {
        return problem(format!("{body} was delivered at {offset} and is gone"));
    }
    match known.confirmed.difference(&found).next() {
        None => client.close(),
        Some(lost) => problem(format!("{lost} was confirmed and is gone")),
    }
}

/// Clients publish and consume until the broker is killed.
pub fn work(broker: Broker, lifetime: Duration, random: &mut Random, known: &mut Known) -> Outcome<()> {
    let addr = broker.addr;
    let first = known.next;
    let confirmed = Mutex::new(BTreeSet::new());
    let seen = Mutex::new(BTreeMap::new());
    let outcomes: Vec<Outcome<()>> = std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for publisher in 0..PUBLISHERS {
            let (random, confirmed) = (random.fork(), &confirmed);
            clients.push(scope.spawn(move || publish(addr, publisher, first, random, confirmed)));
        }
        for start in ["next", "first"] {
            let seen = &seen;
            clients.push(scope.spawn(move || consume(addr, start, seen)));
        }
        std::thread::sleep(lifetime);
        broker.kill();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    });
    known.confirmed.append(&mut confirmed.into_inner().expect("no client panicked"));
    for (offset, body) in seen.into_inner().expect("no client panicked") {
        if known.seen.insert(offset, body.clone()).is_some_and(|before| before != body) {
            return problem(format!("offset {offset} has become {body}"));
        }
    }
    known.next += 10_000_000;
    outcomes.into_iter().find(|outcome| !matches!(outcome, Err(Stop::Lost))).unwrap_or(Ok(()))
}

fn publish(
    addr: SocketAddr,
    publisher: usize,
    first: u64,
    mut random: Random,
    confirmed: &Mutex<BTreeSet<String>>,
) -> Outcome<()> {
    let mut client = Client::open(addr, 131_072)?;
    confirm_mode(&mut client, 1)?;
    let mut bodies = Vec::new();
    let mut acked = 0;
    loop {
        for _ in 0..random.between(1, 30) {
            let padding = " ".repeat(random.count(0, 2000));
            let body = format!("{publisher} {}{padding}", first + bodies.len() as u64);
            let publish = basic::Publish { routing_key: s(STREAM), ..basic::Publish::default() };
            client.publish(1, publish, &BasicProperties::default(), body.as_bytes());
            bodies.push(body);
        }
        client.flush()?;
        let wanted = (bodies.len() as u64).saturating_sub(random.between(0, IN_FLIGHT));
        while acked < wanted {
            let before = acked;
            match client.call()? {
                Method::BasicAck(ack) if ack.multiple => acked = ack.delivery_tag.get(),
                Method::BasicAck(_) => acked += 1,
                other => return problem(format!("unexpected: {other:?}")),
            }
            let range = usize::try_from(before).expect("few")..usize::try_from(acked).expect("few");
            confirmed.lock().expect("no client panicked").extend(bodies[range].iter().cloned());
        }
    }
}

fn consume(addr: SocketAddr, start: &'static str, seen: &Mutex<BTreeMap<i64, String>>) -> Outcome<()> {
    let mut client = open(addr)?;
    subscribe(&mut client, start)?;
    let mut last = None;
    loop {
        let (offset, body) = receive(&mut client)?;
        if last.is_some_and(|last: i64| last + 1 != offset) {
            return problem(format!("offset {offset} after {last:?}"));
        }
        last = Some(offset);
        if seen.lock().expect("no client panicked").insert(offset, body.clone()).is_some_and(|other| other != body) {
            return problem(format!("two messages have the offset {offset}"));
        }
    }
}
