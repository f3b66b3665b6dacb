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
//! disk. `LEVERET_DEPTH_CONFIG` names a configuration file.
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "a benchmark needs a clock and prints rates; what was not expected is any method but one"
)]

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use leveret_protocol::encode::encode_content;
use leveret_protocol::{
    ChannelId, FieldTable, LongString, Method, PROTOCOL_HEADER, ShortString, basic, channel, confirm, connection,
    queue, split_frame,
};

const BODY_BYTES: usize = 1024;
const FRAME_MAX: u32 = 131_072;
/// Publishes that wait for their confirms at most.
const OUTSTANDING: u64 = 20_000;
const QUEUES: u64 = 10_000;
/// Octets written at once.
const WRITE_BYTES: usize = 128 * 1024;
const CHANNEL: ChannelId = ChannelId::new(1);

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

/// The broker, and who watches its memory.
struct Broker {
    child: Child,
    addr: SocketAddr,
    most: Arc<AtomicU64>,
    /// User and system time at the last report.
    cpu: Cell<[f64; 2]>,
    dir: tempfile::TempDir,
    watcher: Option<JoinHandle<()>>,
}

/// Resident memory of a process in octets; 0 when it is gone.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    kib * 1024
}

/// User and system time of a process in seconds; a tick is 10 ms on every system in use.
fn cpu(pid: u32) -> [f64; 2] {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, after_name) = stat.rsplit_once(')').expect("its name is in parentheses");
    let mut ticks = after_name.split_whitespace().skip(11).map(|ticks| ticks.parse::<f64>().expect("a number"));
    [(); 2].map(|()| ticks.next().expect("there are more fields") / 100.0)
}

impl Broker {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let addr = free.expect("there is a free port");
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        command
            .args([
                "server",
                "--listen",
                &addr.to_string(),
                "--management-listen",
                "none",
                "--prometheus-listen",
                "none",
                "--data-dir",
            ])
            .arg(dir.path());
        if let Some(config) = std::env::var_os("LEVERET_DEPTH_CONFIG") {
            command.arg("--config").arg(config);
        }
        let child = command.stderr(Stdio::null()).spawn().expect("the broker starts");
        let (pid, most) = (child.id(), Arc::new(AtomicU64::new(0)));
        let seen = most.clone();
        let watcher = std::thread::spawn(move || {
            while Arc::strong_count(&seen) > 1 {
                seen.fetch_max(memory(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        while TcpStream::connect(addr).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, addr, most, cpu: Cell::default(), dir, watcher: Some(watcher) }
    }

    /// Says what happened since the last word.
    fn report(&self, what: &str, messages: u64, since: Instant) {
        let rate = messages as f64 / since.elapsed().as_secs_f64();
        let most = self.most.swap(0, Ordering::Relaxed) / 1024 / 1024;
        let files = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        let disk: u64 = files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
        let (now, before) = (cpu(self.child.id()), self.cpu.take());
        self.cpu.set(now);
        let [user, system] = [0, 1].map(|nth| (now[nth] - before[nth]) * 1e6 / messages as f64);
        println!(
            "{what:<44} {rate:>9.0} messages/s   CPU µs user {user:>5.2} system {system:>5.2}   RSS at most {most:>4} MiB   files {:>6} MB",
            disk / 1_000_000
        );
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.most = Arc::default();
        if let Some(watcher) = self.watcher.take() {
            watcher.join().expect("it only reads");
        }
    }
}

/// A connection with channel 1 open.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    used: usize,
}

impl Client {
    fn open(broker: &Broker) -> Self {
        let stream = TcpStream::connect(broker.addr).expect("the broker accepts connections");
        stream.set_nodelay(true).expect("a fresh socket");
        let mut client = Self { stream, input: Vec::new(), used: 0 };
        let mut octets = PROTOCOL_HEADER.to_vec();
        let start_ok = connection::StartOk {
            client_properties: FieldTable::new(),
            mechanism: ShortString::from_static("PLAIN"),
            response: LongString::try_from(b"\0guest\0guest".to_vec()).expect("short"),
            locale: ShortString::from_static("en_US"),
        };
        Method::from(start_ok).encode_frame(ChannelId::ZERO, &mut octets);
        let tune_ok = connection::TuneOk { channel_max: 1, frame_max: FRAME_MAX, heartbeat: 0 };
        Method::from(tune_ok).encode_frame(ChannelId::ZERO, &mut octets);
        let open = connection::Open { virtual_host: ShortString::from_static("/"), ..connection::Open::default() };
        Method::from(open).encode_frame(ChannelId::ZERO, &mut octets);
        Method::from(channel::Open::default()).encode_frame(CHANNEL, &mut octets);
        client.stream.write_all(&octets).expect("the broker reads");
        client.wait(|method| matches!(method, Method::ChannelOpenOk(_)));
        client
    }

    fn send(&mut self, method: impl Into<Method>) {
        let mut octets = Vec::new();
        method.into().encode_frame(CHANNEL, &mut octets);
        self.stream.write_all(&octets).expect("the broker reads");
    }

    /// The next frame: its kind and its payload.
    fn frame<R>(&mut self, look: impl Fn(u8, &[u8]) -> R) -> R {
        loop {
            if let Some((frame, used)) = split_frame(&self.input[self.used..], FRAME_MAX).expect("whole frames") {
                let found = look(frame.kind, frame.payload);
                self.used += used;
                return found;
            }
            self.input.drain(..self.used);
            self.used = 0;
            let at = self.input.len();
            self.input.resize(at + WRITE_BYTES, 0);
            let count = self.stream.read(&mut self.input[at..]).expect("the broker answers");
            assert!(count > 0, "the broker closed the connection");
            self.input.truncate(at + count);
        }
    }

    fn wait(&mut self, wanted: impl Fn(&Method) -> bool) -> Method {
        loop {
            let method = self.frame(|kind, payload| (kind == 1).then(|| Method::decode(payload).expect("a method")));
            match method {
                Some(method) if wanted(&method) => return method,
                Some(other @ (Method::ChannelClose(_) | Method::ConnectionClose(_))) => panic!("{other:?}"),
                Some(_) | None => {}
            }
        }
    }

    fn declare(&mut self, name: &str, durable: bool) {
        self.send(queue::Declare { queue: short(name), durable, ..queue::Declare::default() });
        self.wait(|method| matches!(method, Method::QueueDeclareOk(_)));
    }

    fn ready(&mut self, name: &str) -> u64 {
        self.send(queue::Declare { queue: short(name), passive: true, ..queue::Declare::default() });
        match self.wait(|method| matches!(method, Method::QueueDeclareOk(_))) {
            Method::QueueDeclareOk(ok) => ok.message_count.into(),
            _ => 0,
        }
    }

    fn consume(&mut self, name: &str, no_ack: bool) {
        self.send(basic::Consume { queue: short(name), no_ack, ..basic::Consume::default() });
        self.wait(|method| matches!(method, Method::BasicConsumeOk(_)));
    }

    /// Takes messages that must come with these numbers, acking some at a time if asked to.
    fn take(&mut self, numbers: std::ops::Range<u64>, redelivered: bool, ack: bool) {
        for (nth, expected) in (1_u64..).zip(numbers.clone()) {
            let method = self.wait(|method| matches!(method, Method::BasicDeliver(_)));
            let Method::BasicDeliver(deliver) = method else { continue };
            assert_eq!(deliver.redelivered, redelivered, "message {expected}");
            let delivery_tag = deliver.delivery_tag;
            let mut number = None;
            while number.is_none() {
                number = self.frame(|kind, payload| {
                    (kind == 3).then(|| u64::from_be_bytes(payload[..8].try_into().expect("eight octets")))
                });
            }
            assert_eq!(number, Some(expected), "messages come in order");
            if ack && (nth % 1000 == 0 || expected + 1 == numbers.end) {
                self.send(basic::Ack { delivery_tag, multiple: true });
            }
        }
    }

    fn delete(&mut self, name: &str) {
        self.send(queue::Delete { queue: short(name), ..queue::Delete::default() });
        self.wait(|method| matches!(method, Method::QueueDeleteOk(_)));
    }
}

fn short(name: &str) -> ShortString {
    ShortString::try_from(name.as_bytes()).expect("a short name")
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
    fn new(broker: &Broker, persistent: bool) -> Self {
        let mut client = Client::open(broker);
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
fn fill(broker: &Broker, name: &str, messages: u64, persistent: bool) {
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
    let mut looker = Client::open(broker);
    while looker.ready(name) < messages {
        std::thread::sleep(Duration::from_millis(10));
    }
    total(messages, begun);
    std::thread::sleep(Duration::from_secs(15));
    println!("15 s later: RSS {} MiB", memory(broker.child.id()) / 1024 / 1024);
    broker.most.store(0, Ordering::Relaxed);
}

/// Says how fast all were published.
fn total(messages: u64, since: Instant) {
    println!("{:<44} {:>9.0} messages/s", "published all", messages as f64 / since.elapsed().as_secs_f64());
}

fn one_queue(messages: u64, persistent: bool) {
    let broker = Broker::start();
    let mut client = Client::open(&broker);
    client.declare("deep", persistent);
    fill(&broker, "deep", messages, persistent);
    let begun = Instant::now();
    client.consume("deep", false);
    client.take(0..messages, false, true);
    broker.report("drained, in order, none missing", messages, begun);
    client.delete("deep");
}

fn many_queues(messages: u64) {
    let broker = Broker::start();
    let mut client = Client::open(&broker);
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
    std::thread::sleep(Duration::from_secs(15));
    println!("15 s later: RSS {} MiB", memory(broker.child.id()) / 1024 / 1024);
    let begun = Instant::now();
    for name in &names {
        client.consume(name, true);
        client.take(0..each, false, false);
    }
    broker.report("drained, in order, none missing", each * QUEUES, begun);
}

fn unacked(messages: u64) {
    let broker = Broker::start();
    let mut client = Client::open(&broker);
    client.declare("deep", true);
    fill(&broker, "deep", messages, true);
    let begun = Instant::now();
    client.consume("deep", false);
    client.take(0..messages, false, false);
    broker.report("delivered, in order, none acked", messages, begun);
    std::thread::sleep(Duration::from_secs(15));
    println!("15 s later: RSS {} MiB", memory(broker.child.id()) / 1024 / 1024);
    drop(client);
    let mut client = Client::open(&broker);
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
