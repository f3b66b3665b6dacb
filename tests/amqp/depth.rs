//! What deep queues cost the real binary in memory: with a budget of some MiB it takes many times that, of whatever kind and
//! in whatever state, and gives all of it back in order. Rates are for `benches/depth`.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use leveret_protocol::{BasicProperties, Method, basic, queue};

use crate::memory::Process;
use crate::support::{Client, exclusive, is_oracle, long, no_properties, persistent, publish_to, table, unique};

const MIB: u64 = 1024 * 1024;
/// The budget of the broker for messages.
const BUDGET: &str = "message_memory = 8MiB\n";
/// What the process may use: the budget, what is on its way to the disk, redb's caches, the code, and what the allocator
/// has yet to give back. A debug build writes slowly and needs more than a release build.
const RSS_MAX: u64 = 150 * MIB;
/// How many messages, and how large: beyond that together.
const MESSAGES: u32 = 45_000;
const BODY_BYTES: usize = 3900;
/// A debug build on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Written at once.
const CHUNK: u32 = 100;

fn body(number: u32) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(BODY_BYTES, 7);
    body
}

fn number(body: &[u8]) -> u32 {
    u32::from_be_bytes(body[..4].try_into().expect("four octets"))
}

fn declare(client: &mut Client, durable: bool) -> String {
    let name = unique("deep");
    client.declare(1, queue::Declare { exclusive: false, durable, ..exclusive(&name) });
    name
}

/// Publishes messages with these numbers.
fn send(client: &mut Client, queue: &str, all: Range<u32>, properties: &BasicProperties) {
    let frames = all.flat_map(|nth| client.content_frames(1, publish_to("", queue), properties, &body(nth)));
    let frames: Vec<u8> = frames.collect();
    client.send_bytes(&frames);
}

/// A broker whose memory is looked at all the time.
struct Deep {
    process: Process,
    most: u64,
    _dir: tempfile::TempDir,
}

impl Deep {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let process = Process::start(BUDGET, Some(dir.path()));
        Self { process, most: 0, _dir: dir }
    }

    fn look(&mut self) {
        self.most = self.most.max(self.process.memory());
        assert!(self.most < RSS_MAX, "{} MiB used", self.most / MIB);
    }

    /// Publishes messages with their numbers.
    fn publish(&mut self, queue: &str, count: u32, properties: &BasicProperties) {
        let mut client = self.process.open();
        for first in (0..count).step_by(CHUNK as usize) {
            send(&mut client, queue, first..(first + CHUNK).min(count), properties);
            self.look();
        }
        client.wait_ready(1, queue, count);
        client.close();
    }

    /// Takes deliveries that come in order, and acks the last of them if asked to.
    fn take(&mut self, client: &mut Client, count: u32, redelivered: bool, ack: bool) {
        for expected in 0..count {
            let delivered = client.expect_deliver(1);
            assert_eq!((number(&delivered.body), delivered.method.redelivered), (expected, redelivered));
            if expected % 1000 == 999 {
                self.look();
                if ack {
                    client.ack_multiple(1, delivered.method.delivery_tag.get());
                }
            }
        }
    }
}

#[test]
fn transient_messages_beyond_the_budget_are_on_disk_and_come_back_in_order() {
    if is_oracle() {
        return;
    }
    let mut broker = Deep::start();
    let mut client = broker.process.open();
    let queue = declare(&mut client, false);
    broker.publish(&queue, MESSAGES, &no_properties());
    client.consume_no_ack(1, &queue);
    broker.take(&mut client, MESSAGES, false, false);
    client.expect_empty(1, &queue);
}

#[test]
fn unacked_messages_are_inside_the_budget_and_come_back_in_order() {
    if is_oracle() {
        return;
    }
    let mut broker = Deep::start();
    let mut client = broker.process.open();
    let queue = declare(&mut client, true);
    broker.publish(&queue, MESSAGES, &persistent());
    client.consume(1, &queue);
    broker.take(&mut client, MESSAGES, false, false);
    // Half of them are acked from what is known of them without their bodies, the rest goes back.
    client.ack_multiple(1, u64::from(MESSAGES / 2));
    client.close();
    let mut client = broker.process.open();
    let rest = MESSAGES - MESSAGES / 2;
    client.wait_ready(1, &queue, rest);
    broker.look();
    client.consume(1, &queue);
    for expected in MESSAGES / 2..MESSAGES {
        let delivered = client.expect_deliver(1);
        assert_eq!((number(&delivered.body), delivered.method.redelivered), (expected, true));
    }
    broker.look();
    client.ack_multiple(1, u64::from(rest));
    client.close();
}

#[test]
fn publishers_that_are_held_back_go_on_whether_consumers_take_or_not() {
    const COUNT: u32 = 12_000;
    if is_oracle() {
        return;
    }
    let mut broker = Deep::start();
    let mut client = broker.process.open();
    let queue = declare(&mut client, false);
    client.consume_no_ack(1, &queue);
    std::thread::scope(|scope| {
        let mut publisher = broker.process.open();
        let queue = &queue;
        scope.spawn(move || {
            for first in (0..COUNT).step_by(CHUNK as usize) {
                send(&mut publisher, queue, first..first + CHUNK, &no_properties());
            }
            publisher.close();
        });
        for expected in 0..COUNT {
            assert_eq!(number(&client.expect_deliver(1).body), expected);
        }
    });
    // One that has to take its own, and does not before all is published.
    let queue = declare(&mut client, false);
    client.qos(1, 100, false);
    client.consume(1, &queue);
    for first in (0..COUNT).step_by(CHUNK as usize) {
        send(&mut client, &queue, first..first + CHUNK, &no_properties());
    }
    let mut other = broker.process.open();
    other.wait_ready(1, &queue, COUNT - 100);
    for expected in 0..COUNT {
        let delivered = client.expect_deliver(1);
        assert_eq!(number(&delivered.body), expected);
        if expected % 50 == 49 {
            client.ack_multiple(1, delivered.method.delivery_tag.get());
        }
    }
    broker.look();
}

#[test]
fn many_queues_that_nobody_uses_share_the_budget() {
    const QUEUES: u32 = 400;
    const EACH: u32 = 60;
    if is_oracle() {
        return;
    }
    let mut broker = Deep::start();
    let mut client = broker.process.open();
    let names: Vec<_> = (0..QUEUES).map(|nth| declare(&mut client, nth % 2 == 0)).collect();
    for nth in 0..EACH {
        let properties = if nth % 3 == 0 { no_properties() } else { persistent() };
        for some in names.chunks(100) {
            let publish = |name: &String| client.content_frames(1, publish_to("", name), &properties, &body(nth));
            let frames: Vec<u8> = some.iter().flat_map(publish).collect();
            client.send_bytes(&frames);
        }
        broker.look();
    }
    for name in &names {
        client.wait_ready(1, name, EACH);
        client.consume_no_ack(1, name);
        broker.take(&mut client, EACH, false, false);
    }
}

#[test]
fn rejected_messages_that_memory_forgot_are_dead_lettered_whole() {
    const COUNT: u32 = 6_000;
    if is_oracle() {
        return;
    }
    let mut broker = Deep::start();
    let mut client = broker.process.open();
    let dead = declare(&mut client, true);
    let queue = unique("deep");
    let arguments = table([("x-dead-letter-exchange", long("")), ("x-dead-letter-routing-key", long(&dead))]);
    client.declare(1, queue::Declare { exclusive: false, durable: true, arguments, ..exclusive(&queue) });
    broker.publish(&queue, COUNT, &persistent());
    client.consume(1, &queue);
    broker.take(&mut client, COUNT, false, false);
    let all = basic::Nack { delivery_tag: leveret_protocol::DeliveryTag::new(0), multiple: true, requeue: false };
    client.send(1, Method::from(all));
    let mut other = broker.process.open();
    let begun = Instant::now();
    while other.ready(1, &dead) < COUNT {
        assert!(begun.elapsed() < PATIENCE, "{} of {COUNT} are dead-lettered", other.ready(1, &dead));
        broker.look();
        std::thread::sleep(Duration::from_millis(50));
    }
    other.consume_no_ack(1, &dead);
    for expected in 0..COUNT {
        assert_eq!(number(&other.expect_deliver(1).body), expected);
    }
    assert_eq!(client.ready(1, &queue), 0);
}

#[test]
fn nothing_spilled_survives_a_start() {
    if is_oracle() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let spill: &Path = &dir.path().join("leveret.spill");
    let mut broker = Deep { process: Process::start(BUDGET, Some(dir.path())), most: 0, _dir: dir };
    let mut client = broker.process.open();
    let queue = declare(&mut client, true);
    broker.publish(&queue, 10_000, &no_properties());
    assert!(spill.exists());
    let Deep { process, _dir: dir, .. } = broker;
    drop((client, process));
    let broker = Process::start(BUDGET, Some(dir.path()));
    assert_eq!(broker.open().ready(1, &queue), 0);
    assert!(!spill.exists());
}
