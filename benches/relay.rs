//! How far the broker is from the least that this machine allows: `cargo bench --bench relay -- [SECONDS]`.
//!
//! A relay reads what a publisher would write, writes the same octets to a consumer, and reads what that one would ack: as the
//! broker does, through two sockets, on the broker's runtime, but without looking at anything. Its CPU time for a message is
//! what sockets and scheduling cost; the broker's is printed as a multiple of it. Broker and relay take turns, three times;
//! medians.
#![expect(clippy::cast_precision_loss, reason = "a benchmark prints rates")]

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leveret::perf::proc_stat;
use leveret_protocol::{Method, basic};
use support::client::{CHANNEL, WRITE_BYTES, short};
use support::{Broker, load, median};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Says that this process is the relay.
const AS_RELAY: &str = "--relay";
const SIZES: [usize; 3] = [16, 1024, 16_384];
const ROUNDS: usize = 3;
/// Octets that the relay reads at once: the most that a connection of the broker does.
const READ_BYTES: usize = 128 * 1024;
/// Octets of a frame beside its payload, and of a content header without properties.
const FRAME: usize = 8;
const HEADER: usize = 14;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.iter().any(|argument| argument == AS_RELAY) {
        return relay();
    }
    let seconds: f64 = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(3.0);
    println!(
        "| body | relay: µs CPU, messages/s | transient, auto-ack: µs, multiple | transient, each acked | persistent, confirmed, each acked |\n\
         |---|---|---|---|---|"
    );
    for size in SIZES {
        let mut bare = Vec::new();
        let loads = ["--auto-ack", "--prefetch 1000", "--persistent --confirm 1000 --prefetch 1000"];
        let mut brokers = loads.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            bare.push(run_relay(size, seconds));
            for (options, costs) in loads.iter().zip(&mut brokers) {
                costs.push(run_broker(&format!("--size {size} --warmup 1 --duration {seconds} {options}")));
            }
        }
        let relay_us = median(bare.iter().map(|(us, _)| *us)).unwrap_or_default();
        let rate = median(bare.iter().map(|(_, rate)| *rate)).unwrap_or_default();
        let cells = brokers.map(|costs| {
            let us = median(costs).unwrap_or_default();
            format!("{us:.2}, {:.1} ×", us / relay_us)
        });
        println!("| {size} B | {relay_us:.2}, {rate:.0} | {} |", cells.join(" | "));
    }
}

/// CPU time of the broker for a message in µs.
fn run_broker(options: &str) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(dir.path());
    let report = load(broker.amqp, broker.pid(), options);
    report["broker_process"]["cpu_us_per_published"]["total"].as_f64().expect("Linux tells")
}

/// The relay, as long as whoever started it lives: serves one pair of connections, what comes in over the first and what goes
/// out over the second.
fn relay() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        println!("{}", listener.local_addr().expect("it is bound"));
        let (mut source, _) = listener.accept().await.expect("the publisher comes");
        let (sink, _) = listener.accept().await.expect("the consumer comes");
        let (mut acks, mut sink) = sink.into_split();
        let acking = tokio::spawn(async move {
            let mut buffer = vec![0; READ_BYTES];
            while acks.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        });
        let relaying = tokio::spawn(async move {
            let mut buffer = vec![0; READ_BYTES];
            while let Ok(count @ 1..) = source.read(&mut buffer).await {
                if sink.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        });
        let _ended = tokio::join!(acking, relaying);
    });
}

/// A relay in a process of its own.
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// CPU time of the relay for a message of this size in µs, and messages a second.
fn run_relay(size: usize, seconds: f64) -> (f64, f64) {
    let this = std::env::current_exe().expect("this program has a name");
    let mut relay = Relay(Command::new(this).arg(AS_RELAY).stdout(Stdio::piped()).spawn().expect("the relay starts"));
    let mut line = String::new();
    BufReader::new(relay.0.stdout.take().expect("it is piped"))
        .read_line(&mut line)
        .expect("the relay says where it is");
    let addr: SocketAddr = line.trim().parse().expect("an address");
    let source = TcpStream::connect(addr).expect("the relay accepts");
    let sink = TcpStream::connect(addr).expect("the relay accepts");
    let message = publish_octets(size);
    let arrived = Arc::new(AtomicU64::new(0));
    let publisher = std::thread::spawn(move || publish(source, message));
    let counted = arrived.clone();
    let consumer = std::thread::spawn(move || consume(sink, message, &counted));
    std::thread::sleep(Duration::from_secs(1));
    let now = || (arrived.load(Ordering::Relaxed), proc_stat::cpu_time(relay.0.id()).expect("Linux tells"));
    let (before, cpu_before) = now();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let (after, cpu_after) = now();
    drop(relay);
    publisher.join().expect("the publisher ends with the relay");
    consumer.join().expect("the consumer ends with the relay");
    let messages = (after - before) as f64 / message as f64;
    ((cpu_after - cpu_before).total_us() as f64 / messages, messages / seconds)
}

/// Octets of a publish.
fn publish_octets(size: usize) -> usize {
    let mut octets = Vec::new();
    let publish = basic::Publish { routing_key: short("leveret-perf"), ..basic::Publish::default() };
    Method::from(publish).encode_frame(CHANNEL, &mut octets);
    octets.len() + FRAME + HEADER + FRAME + size
}

/// Writes messages until nobody reads them, about as many at once as the generator.
fn publish(mut socket: TcpStream, message: usize) {
    let octets = vec![0; WRITE_BYTES.next_multiple_of(message)];
    while socket.write_all(&octets).is_ok() {}
}

/// Reads messages and acks each of them, until nobody writes any.
fn consume(mut socket: TcpStream, message: usize, arrived: &AtomicU64) {
    let mut ack = Vec::new();
    Method::from(basic::Ack::default()).encode_frame(CHANNEL, &mut ack);
    let mut buffer = vec![0; READ_BYTES];
    let mut whole = 0;
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        let before = whole / message;
        whole += count;
        arrived.fetch_add(count as u64, Ordering::Relaxed);
        if socket.write_all(&ack.repeat(whole / message - before)).is_err() {
            return;
        }
    }
}
