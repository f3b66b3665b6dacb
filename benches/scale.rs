//! What much of one thing costs: `cargo bench --bench scale -- [PART…]`. Prints tables, asserts nothing but that all is there.
//!
//! | part | what is printed |
//! |---|---|
//! | `start` | how long an empty broker takes until it serves a connection |
//! | `connections` | 10,000 idle connections with a channel each: how fast they open, memory of each, CPU while they are idle |
//! | `channels` | 1,000 channels on a connection: memory of each |
//! | `queues` | 100,000 queues, durable and not: how fast they are declared, memory of each |
//! | `consumers` | 1 to 1,000 consumers on a queue: CPU for a message |
//! | `fanout` | a fanout exchange with 1 to 1,000 queues: CPU for a delivery |
//! | `topic` | a topic exchange with 10 to 100,000 bindings: CPU for a message |
//!
//! Each part has a broker of its own, this build's (`LEVERET_BENCH_BINARY` names another one). A number divides all of
//! this: `-- 10 queues` declares 10,000.
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a benchmark needs a clock and prints rates"
)]

#[path = "support/mod.rs"]
mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use leveret_protocol::{ChannelId, Method, channel, queue};
use support::client::{CHANNEL, Client, short};
use support::{Broker, load, median};

const CONNECTIONS: usize = 10_000;
const CHANNELS: u16 = 1000;
const QUEUES: usize = 100_000;
/// Declares on their way at once.
const IN_FLIGHT: usize = 100;
const STARTS: usize = 20;
/// After this the allocator has given back what is free.
const SETTLED: Duration = Duration::from_secs(12);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let divisor = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1);
    let parts: Vec<&str> = arguments.iter().map(String::as_str).filter(|part| part.parse::<usize>().is_err()).collect();
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    // Of both ends of so many sockets; the broker asks for its own.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    if wanted("start") {
        starts();
    }
    if wanted("connections") {
        connections(CONNECTIONS / divisor);
    }
    if wanted("channels") {
        channels();
    }
    if wanted("queues") {
        queues(QUEUES / divisor);
    }
    if wanted("consumers") {
        let options = |count: u32| format!("--prefetch 100 --size 16 --consumers {count}");
        curve("consumers on a queue", &[1, 10, 100, 1000], "cpu_us_per_published", options);
    }
    if wanted("fanout") {
        let exchange = "--auto-ack --size 16 --exchange leveret-scale --exchange-type fanout";
        let options = |count: u32| format!("{exchange} --queues {count} --consumers {count}");
        curve("queues of a fanout exchange", &[1, 10, 100, 1000], "cpu_us_per_consumed", options);
    }
    if wanted("topic") {
        let exchange = "--auto-ack --size 16 --exchange leveret-scale --exchange-type topic --queues 10 --consumers 10";
        let options = |count: u32| format!("{exchange} --topic-bindings {count}");
        curve("bindings of a topic exchange", &[10, 100, 1000, 10_000, 100_000], "cpu_us_per_published", options);
    }
}

/// A broker on a directory that lasts as long.
fn broker() -> (Broker, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    (Broker::start(dir.path()), dir)
}

fn starts() {
    let times = (0..STARTS).map(|_| broker().0.start.as_secs_f64() * 1000.0);
    let times: Vec<f64> = times.collect();
    let least = times.iter().copied().fold(f64::INFINITY, f64::min);
    let middle = median(times).unwrap_or_default();
    println!("start, empty, until a connection is served: median {middle:.1} ms, least {least:.1} ms of {STARTS}");
    let dir = tempfile::tempdir().expect("a directory");
    drop(Broker::start(dir.path()));
    let again: Vec<f64> = (0..STARTS).map(|_| Broker::start(dir.path()).start.as_secs_f64() * 1000.0).collect();
    let middle = median(again).unwrap_or_default();
    println!("the same on the directory of a broker that was killed: median {middle:.1} ms");
}

/// Octets of memory of each of so many things.
fn each(broker: &Broker, before: u64, count: usize) -> f64 {
    std::thread::sleep(SETTLED);
    (broker.resident() as f64 - before as f64) / count as f64
}

fn connections(count: usize) {
    let (broker, _dir) = broker();
    drop(Client::open(broker.amqp));
    let before = broker.resident();
    let (begun, cpu) = (Instant::now(), broker.cpu());
    let clients: Vec<Client> = (0..count).map(|_| Client::open(broker.amqp)).collect();
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    let cpu = (broker.cpu() - cpu).total_us() as f64 / count as f64;
    let octets = each(&broker, before, count);
    let idle = broker.cpu();
    std::thread::sleep(SETTLED);
    let idle = (broker.cpu() - idle).total_us() as f64 / 1e6;
    println!(
        "{} idle connections with a channel: opened {rate:.0}/s one after the other, {cpu:.0} µs CPU each; {:.1} KiB each; {idle:.2} s of CPU in {} s",
        clients.len(),
        octets / 1024.0,
        SETTLED.as_secs(),
    );
}

fn channels() {
    let (broker, _dir) = broker();
    let mut client = Client::open(broker.amqp);
    let before = broker.resident();
    let mut octets = Vec::new();
    for number in 2..CHANNELS + 2 {
        Method::from(channel::Open::default()).encode_frame(ChannelId::new(number), &mut octets);
    }
    client.stream.write_all(&octets).expect("the broker reads");
    for _ in 0..CHANNELS {
        client.wait(|method| matches!(method, Method::ChannelOpenOk(_)));
    }
    println!("{CHANNELS} channels on a connection: {:.0} octets each", each(&broker, before, usize::from(CHANNELS)));
}

fn queues(count: usize) {
    for (durable, kind) in [(false, "transient"), (true, "durable")] {
        let (broker, _dir) = broker();
        let mut client = Client::open(broker.amqp);
        client.declare("first", durable);
        let before = broker.resident();
        let (begun, cpu) = (Instant::now(), broker.cpu());
        let numbers: Vec<usize> = (0..count).collect();
        for some in numbers.chunks(IN_FLIGHT) {
            let mut octets = Vec::new();
            for number in some {
                let declare = queue::Declare {
                    queue: short(&format!("scale.{number:06}")),
                    durable,
                    ..queue::Declare::default()
                };
                Method::from(declare).encode_frame(CHANNEL, &mut octets);
            }
            client.stream.write_all(&octets).expect("the broker reads");
            for _ in some {
                client.wait(|method| matches!(method, Method::QueueDeclareOk(_)));
            }
        }
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        let cpu = (broker.cpu() - cpu).total_us() as f64 / count as f64;
        let octets = each(&broker, before, count);
        let one = Instant::now();
        for number in 0..1000 {
            client.declare(&format!("one.{number}"), durable);
        }
        let one = 1000.0 / one.elapsed().as_secs_f64();
        println!(
            "{count} {kind} queues: declared {rate:.0}/s with {IN_FLIGHT} in flight ({cpu:.1} µs CPU each), {one:.0}/s one by one; {octets:.0} octets each"
        );
    }
}

/// What a message costs as something grows.
fn curve(what: &str, counts: &[u32], per: &str, options: impl Fn(u32) -> String) {
    println!("| {what} | µs CPU | a second |\n|---|---|---|");
    for count in counts {
        let (broker, _dir) = broker();
        let options = format!("--warmup 1 --duration 3 {}", options(*count));
        let report = load(broker.amqp, broker.pid(), &options);
        let cpu = report["broker_process"][per]["total"].as_f64().unwrap_or_default();
        let rate = if per == "cpu_us_per_consumed" { "consumed_per_second" } else { "published_per_second" };
        println!("| {count} | {cpu:.3} | {:.0} |", report[rate].as_f64().unwrap_or_default());
    }
}
