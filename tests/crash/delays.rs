//! Messages that wait in front of a delayed-message exchange when the broker is killed, or are just leaving it: each one
//! that was confirmed arrives, once, and in both of the queues that it goes to or in none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, Method, basic, exchange, queue};

use crate::client::{Arrived, Client, Outcome, Stop, problem, s};
use crate::random::Random;
use crate::traffic::confirm_mode;

const EXCHANGE: &str = "delays";
const QUEUES: [&str; 2] = ["delays-a", "delays-b"];

/// The longest delay in milliseconds: some messages leave in the round in which they came, some in a later one.
const DELAY_MS: u64 = 600;

/// Publishes that may be unconfirmed.
const IN_FLIGHT: usize = 50;

/// Messages asked for at once.
const GETS: usize = 200;

/// How long the last messages may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was published, over all rounds.
#[derive(Debug, Default)]
pub struct Published {
    next: u64,
    pub confirmed: BTreeSet<u64>,
}

/// Makes the exchange and its queues.
pub fn declare(addr: SocketAddr) -> Outcome<()> {
    let mut client = Client::open(addr, 4096)?;
    client.open_channel(1)?;
    let kind = FieldValue::LongString("fanout".try_into().expect("short"));
    let arguments: FieldTable = [(s("x-delayed-type"), kind)].into_iter().collect();
    client.send(
        1,
        exchange::Declare {
            exchange: s(EXCHANGE),
            kind: s("x-delayed-message"),
            durable: true,
            arguments,
            ..exchange::Declare::default()
        },
    );
    client.expect("exchange.declare-ok")?;
    for name in QUEUES {
        client.send(1, queue::Declare { queue: s(name), durable: true, ..queue::Declare::default() });
        client.expect("queue.declare-ok")?;
        client.send(1, queue::Bind { queue: s(name), exchange: s(EXCHANGE), ..queue::Bind::default() });
        client.expect("queue.bind-ok")?;
    }
    client.close()
}

/// Publishes until the broker is gone.
pub fn publish(addr: SocketAddr, seed: u64, published: &mut Published) -> Outcome<()> {
    let mut random = Random::new(seed);
    let mut client = Client::open(addr, 131_072)?;
    confirm_mode(&mut client, 1)?;
    let first = published.next;
    let mut confirmed = 0;
    loop {
        let delay = i64::try_from(random.between(0, DELAY_MS)).expect("small");
        let headers: FieldTable = [(s("x-delay"), FieldValue::Int64(delay))].into_iter().collect();
        let properties = BasicProperties { delivery_mode: Some(2), headers: Some(headers), ..Default::default() };
        let publish = basic::Publish { exchange: s(EXCHANGE), ..basic::Publish::default() };
        client.publish(1, publish, &properties, published.next.to_string().as_bytes());
        published.next += 1;
        while published.next - first - confirmed >= IN_FLIGHT as u64 {
            let next = match client.call()? {
                Method::BasicAck(ack) if ack.multiple => ack.delivery_tag.get(),
                Method::BasicAck(_) => confirmed + 1,
                other => return problem(format!("unexpected: {other:?}")),
            };
            published.confirmed.extend((confirmed..next).map(|number| first + number));
            confirmed = next;
        }
    }
}

/// Waits until every confirmed message has arrived, and compares the queues.
pub fn check(addr: SocketAddr, published: &Published) -> Outcome<()> {
    let mut client = Client::open(addr, 131_072)?;
    client.open_channel(1)?;
    let mut arrived: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let started = Instant::now();
    let mut quiet = Instant::now();
    // Unconfirmed ones may come too: the longest delay has to go by without news.
    while quiet.elapsed() < Duration::from_millis(2 * DELAY_MS) {
        for name in QUEUES {
            let got = arrived.entry(name).or_default();
            for number in get_some(&mut client, name)? {
                quiet = Instant::now();
                if !got.insert(number) {
                    return problem(format!("{number} came twice to {name}"));
                }
            }
        }
        if started.elapsed() > PATIENCE {
            break;
        }
    }
    let [first, second] = QUEUES.map(|name| &arrived[name]);
    if first != second {
        let only: Vec<_> = first.symmetric_difference(second).collect();
        return problem(format!("only in one of both queues: {only:?}"));
    }
    let missing: Vec<_> = published.confirmed.difference(first).collect();
    if missing.is_empty() { client.close() } else { problem(format!("confirmed, and never came: {missing:?}")) }
}

/// Takes what there is, up to a number.
fn get_some(client: &mut Client, name: &str) -> Outcome<Vec<u64>> {
    for _ in 0..GETS {
        client.send(1, basic::Get { queue: s(name), no_ack: true });
    }
    let mut got = Vec::new();
    for _ in 0..GETS {
        let Arrived { method, content, .. } = client.next()?;
        match (method, content) {
            (Method::BasicGetEmpty(_), None) => {}
            (Method::BasicGetOk(_), Some(content)) => {
                let body = String::from_utf8_lossy(&content.body).into_owned();
                got.push(body.parse().map_err(|_| Stop::Problem(format!("a body {body:?}")))?);
            }
            (method, _) => return problem(format!("unexpected: {method:?}")),
        }
    }
    Ok(got)
}
