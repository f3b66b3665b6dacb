//! A publisher that knows what was confirmed, and a look at what is there.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use leveret_protocol::{BasicProperties, DeliveryTag, Method, basic, confirm, queue};

use crate::client::{Arrived, Client, Outcome, Stop, problem, s};

const QUEUE: &str = "q";

/// Publishes without a confirm at most.
const WINDOW: usize = 64;

/// Octets of a body.
const BODY_BYTES: usize = 16 * 1024;

/// How publishing ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// connection.blocked, and why.
    Blocked(String),
    /// The broker went away, with a word or without.
    Gone,
    /// As many as were asked for.
    Done,
}

/// What was published, over all connections.
#[derive(Clone, Debug, Default)]
pub struct Books {
    pub next: u32,
    pub confirmed: BTreeSet<u32>,
}

/// A connection that publishes with confirms.
pub struct Publisher {
    client: Client,
    /// Numbers of the messages without a confirm, by delivery tag.
    waiting: Vec<(u64, u32)>,
    tag: u64,
}

fn body(number: u32) -> Vec<u8> {
    let mut body = format!("{number} ").into_bytes();
    let filling = number.to_be_bytes();
    body.extend(filling.iter().cycle().take(BODY_BYTES - body.len()));
    body
}

fn number(body: &[u8]) -> Option<u32> {
    let end = body.iter().position(|octet| *octet == b' ')?;
    let number = std::str::from_utf8(&body[..end]).ok()?.parse().ok()?;
    (body == self::body(number)).then_some(number)
}

fn declare(client: &mut Client) -> Outcome<()> {
    client.send(1, queue::Declare { queue: s(QUEUE), durable: true, ..queue::Declare::default() });
    client.expect("queue.declare-ok")
}

impl Publisher {
    pub fn open(addr: SocketAddr) -> Outcome<Self> {
        let mut client = Client::open(addr, 131_072)?;
        client.open_channel(1)?;
        declare(&mut client)?;
        client.send(1, confirm::Select { no_wait: false });
        client.expect("confirm.select-ok")?;
        Ok(Self { client, waiting: Vec::new(), tag: 0 })
    }

    /// Publishes so many messages and waits for their confirms, or until that ends in another way.
    pub fn publish(&mut self, count: usize, books: &mut Books) -> Outcome<End> {
        let mut sent = 0;
        while sent < count || !self.waiting.is_empty() {
            while sent < count && self.waiting.len() < WINDOW {
                let publish = basic::Publish { routing_key: s(QUEUE), ..basic::Publish::default() };
                let properties = BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() };
                self.client.publish(1, publish, &properties, &body(books.next));
                self.tag += 1;
                self.waiting.push((self.tag, books.next));
                books.next += 1;
                sent += 1;
            }
            match self.client.next() {
                Ok(Arrived { method, .. }) => {
                    if let Some(reason) = self.on_method(method, books)? {
                        return Ok(End::Blocked(reason));
                    }
                }
                Err(Stop::Lost | Stop::ShutDown) => return Ok(End::Gone),
                Err(stop) => return Err(stop),
            }
        }
        Ok(End::Done)
    }

    /// A confirm, or the reason of a block.
    fn on_method(&mut self, method: Method, books: &mut Books) -> Outcome<Option<String>> {
        match method {
            Method::BasicAck(basic::Ack { delivery_tag, multiple }) => {
                let confirmed =
                    |(tag, _): &mut (u64, u32)| *tag == delivery_tag.get() || multiple && *tag < delivery_tag.get();
                let numbers = self.waiting.extract_if(.., confirmed).map(|(_, number)| number);
                books.confirmed.extend(numbers);
                Ok(None)
            }
            Method::ConnectionBlocked(blocked) => Ok(Some(blocked.reason.to_string())),
            other => problem(format!("unexpected: {other:?}")),
        }
    }

    /// Waits until it may publish again; confirms may come before.
    pub fn wait_for_unblocked(&mut self, books: &mut Books) -> Outcome<()> {
        loop {
            match self.client.call()? {
                Method::ConnectionUnblocked(_) => return Ok(()),
                other => {
                    self.on_method(other, books)?;
                }
            }
        }
    }
}

/// Consumes and acks until every confirmed message has come; each at most once, in order.
pub fn consume_all(addr: SocketAddr, books: &mut Books) -> Outcome<usize> {
    let mut client = Client::open(addr, 131_072)?;
    client.open_channel(1)?;
    client.send(1, basic::Qos { prefetch_count: 200, ..basic::Qos::default() });
    client.expect("basic.qos-ok")?;
    client.send(1, basic::Consume { queue: s(QUEUE), consumer_tag: s("c"), ..basic::Consume::default() });
    client.expect("basic.consume-ok")?;
    let (mut last, mut count, mut acked) = (None, 0, 0);
    while !books.confirmed.is_empty() {
        let Arrived { method, content, .. } = client.next()?;
        let (Method::BasicDeliver(deliver), Some(content)) = (method, content) else {
            return problem("something else than a delivery");
        };
        let Some(number) = number(&content.body) else { return problem("a strange body") };
        if last.is_some_and(|last| last >= number) {
            return problem(format!("{number} after {last:?}"));
        }
        last = Some(number);
        count += 1;
        books.confirmed.remove(&number);
        if deliver.delivery_tag.get() >= acked + 50 || books.confirmed.is_empty() {
            acked = deliver.delivery_tag.get();
            client.send(1, basic::Ack { delivery_tag: DeliveryTag::new(acked), multiple: true });
        }
        if books.confirmed.first().is_some_and(|first| *first < number) {
            return problem(format!("{:?} was confirmed and is gone", books.confirmed.first()));
        }
    }
    client.close()?;
    Ok(count)
}
