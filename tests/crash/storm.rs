//! Several connections publish to the same new queue at the same time: two of them much at once, one only a little, at a
//! moment of chance. The queue numbers the messages in one order, and the store gets them in another: whoever comes late
//! there must not be taken for settled, nor be stored in another one's place.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::time::Duration;

use leveret_protocol::{BasicProperties, Method, basic, queue};

use crate::client::{Arrived, Client, Outcome, problem, s};
use crate::random::Random;
use crate::traffic::confirm_mode;

/// Queues, one after the other.
const QUEUES: usize = 60;

/// What each connection publishes to each queue.
const MESSAGES: [usize; CONNECTIONS] = [2, 100, 100];
const CONNECTIONS: usize = 3;

/// The size of a message of those that publish much: together more than the broker hands to a queue at once.
const LARGE_BYTES: usize = 3000;

/// When the connection that publishes little does so, in microseconds after the others.
const DELAY_MICROS: u64 = 5000;

fn name(number: usize) -> String {
    format!("storm-{number}")
}

/// Declares the queues.
pub fn declare(addr: SocketAddr) -> Outcome<()> {
    let mut client = Client::open(addr, 4096)?;
    client.open_channel(1)?;
    for number in 0..QUEUES {
        client.send(1, queue::Declare { queue: s(&name(number)), durable: true, ..Default::default() });
    }
    for _ in 0..QUEUES {
        client.expect("queue.declare-ok")?;
    }
    client.close()
}

/// Publishes to one queue after the other, each time all at once. When this returns everything is confirmed.
pub fn publish(addr: SocketAddr) -> Outcome<()> {
    let barrier = &Barrier::new(CONNECTIONS);
    std::thread::scope(|scope| {
        let start = |connection| scope.spawn(move || publish_from(addr, connection, barrier));
        let publishers: Vec<_> = (0..CONNECTIONS).map(start).collect();
        publishers.into_iter().try_for_each(|publisher| publisher.join().expect("a publisher does not panic"))
    })
}

fn publish_from(addr: SocketAddr, connection: usize, barrier: &Barrier) -> Outcome<()> {
    // The others wait for this one, so it goes on to the end whatever happens.
    let mut client = Client::open(addr, 131_072).and_then(|mut client| {
        confirm_mode(&mut client, 1)?;
        Ok(client)
    });
    let mut random = Random::new(0);
    let mut confirmed = 0;
    let messages = MESSAGES[connection];
    let padding = if messages > 10 { LARGE_BYTES } else { 10 };
    for number in 0..QUEUES {
        if let Ok(client) = &mut client {
            for message in 0..messages {
                let publish = basic::Publish { routing_key: s(&name(number)), ..basic::Publish::default() };
                let properties = BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() };
                client.publish(1, publish, &properties, format!("{connection} {message:padding$}").as_bytes());
            }
        }
        barrier.wait();
        if messages < 10 {
            std::thread::sleep(Duration::from_micros(random.between(0, DELAY_MICROS)));
        }
        client = client.and_then(|mut client| {
            let wanted = u64::try_from((number + 1) * messages).expect("few");
            while confirmed < wanted {
                match client.call()? {
                    Method::BasicAck(ack) if ack.multiple => confirmed = ack.delivery_tag.get(),
                    Method::BasicAck(_) => confirmed += 1,
                    other => return problem(format!("unexpected: {other:?}")),
                }
            }
            Ok(client)
        });
    }
    client.map(drop)
}

/// Every message must be there, each connection's in order.
pub fn check(addr: SocketAddr) -> Outcome<()> {
    let mut client = Client::open(addr, 4096)?;
    client.open_channel(1)?;
    for number in 0..QUEUES {
        let queue = name(number);
        let mut next = [0; CONNECTIONS];
        let total: usize = MESSAGES.iter().sum();
        for _ in 0..=total {
            client.send(1, basic::Get { queue: s(&queue), no_ack: true });
        }
        for at in 0..total {
            let Arrived { method, content, .. } = client.next()?;
            let (Method::BasicGetOk(get), Some(content)) = (method, content) else {
                return problem(format!("{queue}: {at} messages of {total}, so far {next:?}"));
            };
            let body = String::from_utf8_lossy(&content.body).into_owned();
            let parts = body.split_once(' ').and_then(|(connection, message)| {
                Some((connection.parse::<usize>().ok()?, message.trim_start().parse::<usize>().ok()?))
            });
            match parts {
                Some((connection, message)) if message == next[connection] && get.redelivered => next[connection] += 1,
                _ => return problem(format!("{queue}: {:?} (redelivered: {}) after {next:?}", parts, get.redelivered)),
            }
        }
        client.expect("basic.get-empty")?;
    }
    client.close()
}
