//! What deep queues cost: `cargo bench --bench depth -- SCENARIO [MESSAGES]`. Prints rates and the broker's memory, and counts
//! that everything comes back in order.
//!
//! | scenario | what it does |
//! |---|---|
//! | `persistent` | persistent messages with confirms into one durable queue without a consumer, then drains it |
//! | `transient` | the same with transient ones, without confirms, into a queue that is not durable |
//! | `queues` | persistent ones into 10,000 queues that nobody uses, a thousandth of it each, then drains them one by one |
//! | `unacked` | persistent ones to a consumer that acks none; then it goes, and another one takes and acks all |
//!
//! Each line has the broker's CPU time for a message, in user and in system mode: disks, and memory that a virtual machine
//! touches for the first time, slow down as they fill, which a rate alone does not tell from the broker. Bodies have 1 KiB.
//! The broker is this build's, on a directory in the system's place for temporary files; set `TMPDIR` to measure another
//! disk. `LEVERET_BENCH_CONFIG` names a configuration file, `LEVERET_BENCH_BINARY` another binary.
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "a benchmark needs a clock and prints rates; what was not expected is any method but one"
)]

#[path = "support/mod.rs"]
mod support;

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, Instant};

use leveret::perf::proc_stat::CpuTime;
use leveret_protocol::encode::encode_content;
use leveret_protocol::{Method, basic, confirm};
use support::Broker;
use support::client::{CHANNEL, Client, FRAME_MAX, WRITE_BYTES, short};

const BODY_BYTES: usize = 1024;
/// Publishes that wait for their confirms at most.
const OUTSTANDING: u64 = 20_000;
const QUEUES: u64 = 10_000;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let scenario = arguments.next().unwrap_or_default();
    let messages = arguments.next().map_or(1_000_000, |count| count.parse().expect("a number of messages"));
    match scenario.as_str() {
        "persistent" => one_queue(messages, true),
        "transient" => one_queue(messages, false),
        "queues" => many_queues(messages),
        "unacked" => unacked(messages),
        _ => eprintln!("give a scenario: persistent, transient, queues or unacked, and a number of messages"),
    }
}

/// The broker, and what was known of it at the last report.
struct Measured {
    broker: Broker,
    cpu: Cell<CpuTime>,
    dir: tempfile::TempDir,
}

impl Measured {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { broker: Broker::start(dir.path()), cpu: Cell::default(), dir }
    }

    fn client(&self) -> Client {
        Client::open(self.broker.amqp)
    }

    /// Says what happened since the last word.
    fn report(&self, what: &str, messages: u64, since: Instant) {
        let rate = messages as f64 / since.elapsed().as_secs_f64();
        let most = self.broker.peak() / 1024 / 1024;
        self.broker.forget_peak();
        let files = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        let disk: u64 = files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
        let now = self.broker.cpu();
        let spent = now - self.cpu.replace(now);
        let [user, system] = [spent.user_us, spent.system_us].map(|us| us as f64 / messages as f64);
        println!(
            "{what:<44} {rate:>9.0} messages/s   CPU µs user {user:>5.2} system {system:>5.2}   RSS at most {most:>4} MiB   files {:>6} MB",
            disk / 1_000_000
        );
    }

    /// Says what is resident when all has come to rest.
    fn report_rest(&self) {
        std::thread::sleep(Duration::from_secs(15));
        println!("15 s later: RSS {} MiB", self.broker.resident() / 1024 / 1024);
        self.broker.forget_peak();
    }
}

/// Publishes, with confirms if the messages are persistent.
struct Publisher {
    client: Client,
    persistent: bool,
    sent: u64,
    confirmed: u64,
    out: Vec<u8>,
}

impl Publisher {
    fn new(broker: &Measured, persistent: bool) -> Self {
        let mut client = broker.client();
        if persistent {
            client.send(confirm::Select { no_wait: false });
            client.wait(|method| matches!(method, Method::ConfirmSelectOk(_)));
        }
        Self { client, persistent, sent: 0, confirmed: 0, out: Vec::new() }
    }

    fn publish(&mut self, name: &str, number: u64) {
        let mut body = [7; BODY_BYTES];
        body[..8].copy_from_slice(&number.to_be_bytes());
        let publish = basic::Publish { routing_key: short(name), ..basic::Publish::default() };
        Method::from(publish).encode_frame(CHANNEL, &mut self.out);
        let properties = [0x10, 0, if self.persistent { 2 } else { 1 }];
        encode_content(CHANNEL, &properties, &body, FRAME_MAX, &mut self.out);
        self.sent += 1;
        if self.out.len() >= WRITE_BYTES {
            self.flush();
            self.wait_for_confirms(OUTSTANDING);
        }
    }

    fn flush(&mut self) {
        self.client.stream.write_all(&self.out).expect("the broker reads");
        self.out.clear();
    }

    fn wait_for_confirms(&mut self, outstanding: u64) {
        while self.persistent && self.sent - self.confirmed > outstanding {
            match self.client.wait(|method| matches!(method, Method::BasicAck(_) | Method::BasicNack(_))) {
                Method::BasicAck(ack) if ack.multiple => self.confirmed = ack.delivery_tag.get(),
                Method::BasicAck(_) => self.confirmed += 1,
                other => panic!("{other:?}"),
            }
        }
    }

    fn finish(&mut self) {
        self.flush();
        self.wait_for_confirms(0);
    }
}

/// Publishes to one queue, and tells each tenth of it.
fn fill(broker: &Measured, name: &str, messages: u64, persistent: bool) {
    let mut publisher = Publisher::new(broker, persistent);
    let begun = Instant::now();
    for tenth in 0..10 {
        let part = Instant::now();
        let numbers = messages * tenth / 10..messages * (tenth + 1) / 10;
        for number in numbers.clone() {
            publisher.publish(name, number);
        }
        if persistent {
            publisher.finish();
        }
        broker.report(&format!("published {} to {}", numbers.start, numbers.end), numbers.end - numbers.start, part);
    }
    publisher.finish();
    let mut looker = broker.client();
    while looker.ready(name) < messages {
        std::thread::sleep(Duration::from_millis(10));
    }
    total(messages, begun);
    broker.report_rest();
}

/// Says how fast all were published.
fn total(messages: u64, since: Instant) {
    println!("{:<44} {:>9.0} messages/s", "published all", messages as f64 / since.elapsed().as_secs_f64());
}

fn one_queue(messages: u64, persistent: bool) {
    let broker = Measured::start();
    let mut client = broker.client();
    client.declare("deep", persistent);
    fill(&broker, "deep", messages, persistent);
    let begun = Instant::now();
    client.consume("deep", false);
    client.take(0..messages, false, true);
    broker.report("drained, in order, none missing", messages, begun);
    client.delete("deep");
}

fn many_queues(messages: u64) {
    let broker = Measured::start();
    let mut client = broker.client();
    let names: Vec<_> = (0..QUEUES).map(|nth| format!("deep{nth}")).collect();
    let begun = Instant::now();
    for name in &names {
        client.declare(name, true);
    }
    broker.report("queues declared", QUEUES, begun);
    let each = messages / QUEUES;
    let mut publisher = Publisher::new(&broker, true);
    let begun = Instant::now();
    for tenth in 0..10 {
        let part = Instant::now();
        let numbers = each * tenth / 10..each * (tenth + 1) / 10;
        for number in numbers.clone() {
            for name in &names {
                publisher.publish(name, number);
            }
        }
        publisher.finish();
        let what = format!("published {} to {} of each of {QUEUES}", numbers.start, numbers.end);
        broker.report(&what, (numbers.end - numbers.start) * QUEUES, part);
    }
    total(each * QUEUES, begun);
    broker.report_rest();
    let begun = Instant::now();
    for name in &names {
        client.consume(name, true);
        client.take(0..each, false, false);
    }
    broker.report("drained, in order, none missing", each * QUEUES, begun);
}

fn unacked(messages: u64) {
    let broker = Measured::start();
    let mut client = broker.client();
    client.declare("deep", true);
    fill(&broker, "deep", messages, true);
    let begun = Instant::now();
    client.consume("deep", false);
    client.take(0..messages, false, false);
    broker.report("delivered, in order, none acked", messages, begun);
    broker.report_rest();
    drop(client);
    let mut client = broker.client();
    let begun = Instant::now();
    while client.ready("deep") < messages {
        std::thread::sleep(Duration::from_millis(10));
    }
    broker.report("back in the queue", messages, begun);
    let begun = Instant::now();
    client.consume("deep", false);
    client.take(0..messages, true, true);
    broker.report("redelivered, in order, and acked", messages, begun);
}
