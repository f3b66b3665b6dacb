//! An orderly stop with everything known: the same messages are there again, and just those that had been delivered say so.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use leveret_protocol::{BasicProperties, DeliveryTag, Method, basic, queue};

use crate::client::{Arrived, Client, Outcome, problem, s};
use crate::messages::Queue;
use crate::topology;
use crate::traffic::confirm_mode;

/// What is in each queue, in order: a name for the message, and whether it has been delivered.
pub type Expected = BTreeMap<Queue, Vec<(String, bool)>>;

/// Messages for each queue.
const MESSAGES: usize = 60;

/// The queues of this part, none of which drains itself.
const QUEUES: [Queue; 6] = [Queue::First, Queue::FanA, Queue::Work, Queue::Ranked, Queue::TxIn, Queue::TxLeft];

/// All messages of this queue are delivered before the stop, and behind them this many transient ones: they take numbers
/// that nobody remembers after it.
const EXHAUSTED: Queue = Queue::TxLeft;
const TRANSIENT: usize = 5;

/// Clients that are still connected when the broker is told to stop.
pub struct Scene {
    /// Holds unacked messages that it got.
    getter: Client,
    /// Holds unacked messages that were delivered to it.
    consumer: Client,
    pub expected: Expected,
}

/// Empties the queues, fills some, and delivers a part of it.
pub fn prepare(addr: SocketAddr) -> Outcome<Scene> {
    let (mut getter, mut consumer) = (Client::open(addr, 4096)?, Client::open(addr, 131_072)?);
    getter.open_channel(1)?;
    consumer.open_channel(1)?;
    for name in Queue::ALL {
        getter.send(1, queue::Purge { queue: s(name.name()), no_wait: false });
        getter.expect("queue.purge-ok")?;
    }
    let mut expected = fill(&mut getter)?;
    for name in [Queue::First, Queue::Work, Queue::Ranked] {
        let left = expected.get_mut(&name).expect("filled");
        get_some(&mut getter, name, left)?;
    }
    exhaust(&mut getter, expected.get_mut(&EXHAUSTED).expect("filled"))?;
    consume_some(&mut consumer, Queue::FanA, expected.get_mut(&Queue::FanA).expect("filled"))?;
    // Answered after everything before it on this channel, so the acks have been carried out.
    for client in [&mut getter, &mut consumer] {
        topology::ready(client, 1, Queue::First)?;
    }
    Ok(Scene { getter, consumer, expected })
}

/// A channel in confirm mode.
struct Confirmed<'a> {
    client: &'a mut Client,
    published: u64,
}

impl<'a> Confirmed<'a> {
    fn open(client: &'a mut Client) -> Outcome<Self> {
        confirm_mode(client, 2)?;
        Ok(Self { client, published: 0 })
    }

    fn publish(&mut self, name: Queue, priority: Option<u8>, persistent: bool, body: &str) {
        let delivery_mode = Some(if persistent { 2 } else { 1 });
        let properties = BasicProperties { delivery_mode, priority, ..BasicProperties::default() };
        let publish = basic::Publish { routing_key: s(name.name()), ..basic::Publish::default() };
        self.client.publish(2, publish, &properties, body.as_bytes());
        self.published += 1;
    }

    fn wait(self) -> Outcome<()> {
        let mut confirmed = 0;
        while confirmed < self.published {
            match self.client.call()? {
                Method::BasicAck(ack) if ack.multiple => confirmed = ack.delivery_tag.get(),
                Method::BasicAck(_) => confirmed += 1,
                other => return problem(format!("unexpected: {other:?}")),
            }
        }
        Ok(())
    }
}

/// Publishes with confirms. In [`Queue::Ranked`] the priorities alternate.
fn fill(client: &mut Client) -> Outcome<Expected> {
    let mut channel = Confirmed::open(client)?;
    let mut expected = Expected::new();
    for name in QUEUES {
        let left = expected.entry(name).or_default();
        let mut behind = Vec::new();
        for number in 0..MESSAGES {
            let body = format!("{}-{number}", name.name());
            let high = name == Queue::Ranked && number % 3 == 0;
            channel.publish(name, (name == Queue::Ranked).then_some(u8::from(high)), true, &body);
            // The higher priority comes first, each in its order.
            if name == Queue::Ranked && !high { behind.push((body, false)) } else { left.push((body, false)) }
        }
        left.append(&mut behind);
    }
    for number in 0..TRANSIENT {
        channel.publish(EXHAUSTED, None, false, &format!("transient-{number}"));
    }
    channel.wait()?;
    Ok(expected)
}

/// Publishes a few more messages, which nobody gets.
pub fn add(addr: SocketAddr, expected: &mut Expected) -> Outcome<()> {
    let mut client = Client::open(addr, 4096)?;
    let mut channel = Confirmed::open(&mut client)?;
    for name in QUEUES {
        let left = expected.entry(name).or_default();
        for number in 0..3 {
            let body = format!("{}-{}-{number}", name.name(), left.len());
            channel.publish(name, None, true, &body);
            left.push((body, false));
        }
    }
    channel.wait()?;
    client.close()
}

/// Gets everything and keeps it.
fn exhaust(client: &mut Client, left: &mut [(String, bool)]) -> Outcome<()> {
    for at in 0..left.len() + TRANSIENT {
        client.send(1, basic::Get { queue: s(EXHAUSTED.name()), no_ack: false });
        let Arrived { method: Method::BasicGetOk(_), .. } = client.next()? else {
            return problem(format!("no message {at} in {}", EXHAUSTED.name()));
        };
    }
    for (_, delivered) in left {
        *delivered = true;
    }
    Ok(())
}

/// Gets 30 messages, acks 10 of them here and there, sends 10 back, keeps 10.
fn get_some(client: &mut Client, name: Queue, left: &mut Vec<(String, bool)>) -> Outcome<()> {
    let mut tags = Vec::new();
    for (body, delivered) in left.iter_mut().take(30) {
        client.send(1, basic::Get { queue: s(name.name()), no_ack: false });
        let Arrived { method, content, .. } = client.next()?;
        match (method, content) {
            (Method::BasicGetOk(get), Some(content)) if content.body == body.as_bytes() && !get.redelivered => {
                tags.push(get.delivery_tag);
            }
            (other, content) => return problem(format!("{other:?} with {content:?} instead of {body}")),
        }
        *delivered = true;
    }
    let mut acked = Vec::new();
    for (at, delivery_tag) in tags.into_iter().enumerate() {
        match at % 3 {
            0 => {
                client.send(1, basic::Ack { delivery_tag, multiple: false });
                acked.push(at);
            }
            1 => client.send(1, basic::Reject { delivery_tag, requeue: true }),
            _ => {}
        }
    }
    remove(left, &acked);
    Ok(())
}

/// Consumes with a prefetch of 15 and acks the first five, so that 20 are delivered, 15 of them unacked.
fn consume_some(client: &mut Client, name: Queue, left: &mut Vec<(String, bool)>) -> Outcome<()> {
    client.send(1, basic::Qos { prefetch_count: 15, ..basic::Qos::default() });
    client.expect("basic.qos-ok")?;
    client.send(1, basic::Consume { queue: s(name.name()), consumer_tag: s("c"), ..basic::Consume::default() });
    client.expect("basic.consume-ok")?;
    for (at, (body, delivered)) in left.iter_mut().take(20).enumerate() {
        let Arrived { method, content, .. } = client.next()?;
        match (method, content) {
            (Method::BasicDeliver(deliver), Some(content))
                if content.body == body.as_bytes() && !deliver.redelivered => {}
            (other, content) => return problem(format!("{other:?} with {content:?} instead of {body}")),
        }
        *delivered = true;
        if at == 4 {
            client.send(1, basic::Ack { delivery_tag: DeliveryTag::new(5), multiple: true });
        }
    }
    remove(left, &[0, 1, 2, 3, 4]);
    Ok(())
}

fn remove(left: &mut Vec<(String, bool)>, positions: &[usize]) {
    let mut at = 0;
    left.retain(|_| {
        at += 1;
        !positions.contains(&(at - 1))
    });
}

impl Scene {
    /// The clients are told that the broker shuts down.
    pub fn end(self) -> (Outcome<Method>, Outcome<Method>) {
        let Self { mut getter, mut consumer, .. } = self;
        (getter.call(), consumer.call())
    }
}

/// Compares what is in the queues with what must be; nothing is taken but the first `take` messages of each queue, which
/// are put back and count as delivered from then on.
pub fn check(addr: SocketAddr, expected: &mut Expected, take: usize) -> Outcome<()> {
    let mut client = Client::open(addr, 4096)?;
    client.open_channel(1)?;
    for name in Queue::ALL {
        let left = expected.entry(name).or_default();
        let ready = topology::ready(&mut client, 1, name)?;
        if ready != left.len() {
            return problem(format!("{} has {ready} messages instead of {}: {left:?}", name.name(), left.len()));
        }
        for (body, delivered) in left.iter_mut().take(take) {
            client.send(1, basic::Get { queue: s(name.name()), no_ack: false });
            let Arrived { method, content, .. } = client.next()?;
            let (Method::BasicGetOk(get), Some(content)) = (method, content) else {
                return problem(format!("no {body}"));
            };
            let came = String::from_utf8_lossy(&content.body).into_owned();
            if came != *body || get.redelivered != *delivered {
                return problem(format!("{came} (redelivered: {}) instead of {body} ({delivered})", get.redelivered));
            }
            *delivered = true;
        }
    }
    client.close()
}
