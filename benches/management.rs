//! What operating a broker with many queues costs: `cargo bench --bench management -- [QUEUES] [PART…]`.
//!
//! The broker is this build's, on a directory in the system's place for temporary files. It gets 100,000 durable queues (or
//! as many as asked for) and as many bindings by an import; each twentieth has ten messages, five hundred of those without
//! have a consumer. Parts, all of them unless some are named:
//!
//! | part | what is printed |
//! |---|---|
//! | `start` | how long the imports and a start take; memory of a queue and of a binding |
//! | `idle` | CPU time over 30 s in which nothing happens |
//! | `requests` | latency, size and peak of memory of requests to the API and of scrapes: quiet, beside a steady rate of messages, and beside as many as go |
//! | `traffic` | rate and latency of messages beside one kind of request a second, and without |
//!
//! Messages are `leveret perf`'s: one publisher, one consumer, manual acks, 256 octets. `LEVERET_BENCH_BINARY` names another
//! binary to be measured.
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a benchmark needs a clock and prints rates"
)]

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use leveret_protocol::encode::encode_content;
use leveret_protocol::{
    ChannelId, FieldTable, LongString, Method, PROTOCOL_HEADER, ShortString, basic, channel, connection,
};
use serde_json::Value;
use support::client::{CHANNEL, FRAME_MAX, short};
use support::{Broker, binary};

const QUEUES: usize = 100_000;
/// Each of so many queues has messages.
const FILLED: usize = 20;
const MESSAGES: usize = 10;
/// Queues with a consumer.
const CONSUMED: usize = 500;
/// Messages a second of steady traffic.
const STEADY: &str = "20000";
/// The largest import at once: the body of a request has a limit.
const IMPORT: usize = 50_000;
const IDLE: Duration = Duration::from_secs(30);
/// After this the allocator has given back what is free.
const SETTLED: Duration = Duration::from_secs(15);
/// Rounds of the part `traffic`, of which the median is printed.
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let queues = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(QUEUES);
    let parts: Vec<&str> = arguments.iter().map(String::as_str).filter(|part| part.parse::<usize>().is_err()).collect();
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let dir = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::start_managed(dir.path());
    let empty = settled(&broker);
    import(&broker, "queues", queues, |nth| {
        format!(r#"{{"name":"{}","vhost":"/","durable":true,"auto_delete":false,"arguments":{{}}}}"#, name(nth))
    });
    let with_queues = if wanted("start") { settled(&broker) } else { 0 };
    import(&broker, "bindings", queues, |nth| {
        let name = name(nth);
        format!(
            r#"{{"source":"amq.direct","vhost":"/","destination":"{name}","destination_type":"queue","routing_key":"key.{name}","arguments":{{}}}}"#
        )
    });
    if wanted("start") {
        let with_bindings = settled(&broker);
        drop(broker);
        broker = Broker::start_managed(dir.path());
        println!("start with them: {:.2} s until it serves a connection", broker.start.as_secs_f64());
        let again = settled(&broker);
        let each = |from: u64, to: u64| to.saturating_sub(from) / queues as u64;
        println!(
            "RSS: empty {}, with queues {} ({} octets a queue), with bindings {} ({} octets a binding), after a start {} ({} octets for both)",
            mib(empty),
            mib(with_queues),
            each(empty, with_queues),
            mib(with_bindings),
            each(with_queues, with_bindings),
            mib(again),
            each(empty, again),
        );
    }
    let _consumers = fill(&broker, queues);
    if wanted("idle") {
        std::thread::sleep(SETTLED);
        let before = broker.cpu();
        std::thread::sleep(IDLE);
        let used = (broker.cpu() - before).total_us();
        println!("idle for {} s: {:.2} s of CPU", IDLE.as_secs(), used as f64 / 1e6);
    }
    if wanted("requests") {
        requests(&broker, queues, "quiet", None);
        requests(&broker, queues, "steady", Some(STEADY));
        requests(&broker, queues, "full", Some("0"));
        println!("RSS afterwards: {}", mib(settled(&broker)));
    }
    if wanted("traffic") {
        traffic(&broker, queues);
    }
}

fn name(nth: usize) -> String {
    format!("orders.queue.{nth:06}")
}

fn mib(octets: u64) -> String {
    format!("{} MiB", octets / 1024 / 1024)
}

/// The memory of a broker that has come to rest.
fn settled(broker: &Broker) -> u64 {
    std::thread::sleep(SETTLED);
    broker.resident()
}

/// A connection that speaks HTTP.
struct Http {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Http {
    fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("it accepts connections");
        stream.set_nodelay(true).expect("a fresh socket");
        Self { stream: BufReader::with_capacity(256 * 1024, stream), body: Vec::new() }
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Duration {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let begun = Instant::now();
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat()).expect("it reads");
        let status = self.line();
        assert!(status.starts_with("HTTP/1.1 2"), "{method} {path}: {status}");
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            chunked |= line == "transfer-encoding: chunked";
        }
        self.body.clear();
        if !chunked {
            self.take(length);
            return begun.elapsed();
        }
        loop {
            let length = usize::from_str_radix(&self.line(), 16).expect("the length of a chunk");
            self.take(length);
            self.line();
            if length == 0 {
                return begun.elapsed();
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("it answers");
        line.trim_end().to_owned()
    }

    fn take(&mut self, octets: usize) {
        let at = self.body.len();
        self.body.resize(at + octets, 0);
        self.stream.read_exact(&mut self.body[at..]).expect("it answers");
    }

    fn json(&mut self, path: &str) -> Value {
        self.ask("GET", path, b"");
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// Takes definitions in.
fn import(broker: &Broker, what: &str, count: usize, record: impl Fn(usize) -> String) {
    let mut took = Duration::ZERO;
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(IMPORT) {
        let records: Vec<String> = some.iter().map(|nth| record(*nth)).collect();
        let body = format!(r#"{{"{what}":[{}]}}"#, records.join(","));
        took += Http::open(broker.api).ask("POST", "/api/definitions", body.as_bytes());
    }
    println!("import of {count} {what}: {:.2} s", took.as_secs_f64());
}

/// A connection that has sent all this on its channel, and takes whatever comes.
fn pour(broker: &Broker, octets: &[u8]) -> TcpStream {
    let mut all = PROTOCOL_HEADER.to_vec();
    let start_ok = connection::StartOk {
        client_properties: FieldTable::new(),
        mechanism: ShortString::from_static("PLAIN"),
        response: LongString::try_from(b"\0guest\0guest".to_vec()).expect("short"),
        locale: ShortString::from_static("en_US"),
    };
    Method::from(start_ok).encode_frame(ChannelId::ZERO, &mut all);
    let tune_ok = connection::TuneOk { channel_max: 1, frame_max: FRAME_MAX, heartbeat: 0 };
    Method::from(tune_ok).encode_frame(ChannelId::ZERO, &mut all);
    let open = connection::Open { virtual_host: ShortString::from_static("/"), ..connection::Open::default() };
    Method::from(open).encode_frame(ChannelId::ZERO, &mut all);
    Method::from(channel::Open::default()).encode_frame(CHANNEL, &mut all);
    all.extend_from_slice(octets);
    let mut stream = TcpStream::connect(broker.amqp).expect("it accepts connections");
    let mut back = stream.try_clone().expect("another handle");
    // It ends with the connection.
    std::thread::spawn(move || std::io::copy(&mut back, &mut std::io::sink()));
    stream.write_all(&all).expect("the broker reads");
    stream
}

/// Gives some queues messages and others consumers; the consumers stay as long as their connection is kept.
fn fill(broker: &Broker, queues: usize) -> TcpStream {
    let filled = queues.div_ceil(FILLED);
    let mut octets = Vec::new();
    for nth in (0..queues).step_by(FILLED) {
        for _ in 0..MESSAGES {
            let publish = basic::Publish { routing_key: short(&name(nth)), ..basic::Publish::default() };
            Method::from(publish).encode_frame(CHANNEL, &mut octets);
            encode_content(CHANNEL, &[0x10, 0, 2], &[7; 256], FRAME_MAX, &mut octets);
        }
    }
    let _publisher = pour(broker, &octets);
    octets.clear();
    let mut consumed = 0;
    for nth in (0..queues).filter(|nth| nth % FILLED != 0).step_by(7).take(CONSUMED) {
        consumed += 1;
        let consume = basic::Consume { queue: short(&name(nth)), no_wait: true, ..basic::Consume::default() };
        Method::from(consume).encode_frame(CHANNEL, &mut octets);
    }
    let consumers = pour(broker, &octets);
    let mut http = Http::open(broker.api);
    let begun = Instant::now();
    loop {
        let overview = http.json("/api/overview");
        let messages = overview["queue_totals"]["messages"].as_u64();
        let consuming = overview["object_totals"]["consumers"].as_u64();
        if (messages, consuming) == (Some((filled * MESSAGES) as u64), Some(consumed)) {
            println!("{filled} queues have {MESSAGES} messages each, {consumed} others a consumer");
            return consumers;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "messages {messages:?}, consumers {consuming:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What is asked for, and how often.
struct Request {
    what: &'static str,
    path: String,
    times: usize,
    of_metrics: bool,
}

impl Request {
    fn http(&self, broker: &Broker) -> Http {
        Http::open(if self.of_metrics { broker.metrics } else { broker.api })
    }
}

fn all_requests(queues: usize) -> Vec<Request> {
    let api = |what, times, path: &str| Request { what, path: path.to_owned(), times, of_metrics: false };
    let metrics = |what, times, path: &str| Request { what, path: path.to_owned(), times, of_metrics: true };
    let page = "/api/queues?page=1&page_size=100";
    let last = (queues / 100).clamp(1, 500);
    vec![
        api("a page", 50, page),
        api("a page by messages", 50, &format!("{page}&sort=messages&sort_reverse=true")),
        api("a page by rate", 10, &format!("{page}&sort=message_stats.publish_details.rate&sort_reverse=true")),
        api("a page by regex", 50, &format!("{page}&name=%5Eorders.*7%24&use_regex=true")),
        api("a page, 3 columns", 50, &format!("{page}&columns=name,messages,message_stats.publish")),
        api("page 500", 50, &format!("/api/queues?page={last}&page_size=100")),
        api("overview", 50, "/api/overview"),
        api("one queue", 50, &format!("/api/queues/%2F/{}", name(queues / 2))),
        api("names only", 5, "/api/queues?columns=name,messages"),
        api("all queues", 5, "/api/queues"),
        api("without stats", 5, "/api/queues?disable_stats=true"),
        metrics("/metrics", 50, "/metrics"),
        metrics("per-object", 5, "/metrics/per-object"),
        metrics("detailed, coarse", 10, "/metrics/detailed?family=queue_coarse_metrics"),
    ]
}

/// `leveret perf` on its way.
fn perf(broker: &Broker, rate: &str, seconds: u64) -> Child {
    let url = format!("amqp://guest:guest@{}/%2f", broker.amqp);
    let seconds = seconds.to_string();
    Command::new(binary())
        .args(["perf", "--json", "--size", "256", "--prefetch", "1000", "--warmup", "1"])
        .args(["--url", &url, "--rate", rate, "--duration", &seconds])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

/// The part `requests`.
fn requests(broker: &Broker, queues: usize, load: &str, rate: Option<&str>) {
    println!("{load:<8} {:<20} {:>9} {:>9} {:>9} {:>9} {:>11}", "", "p50 ms", "p99 ms", "CPU ms", "MB", "memory");
    let mut load_on = rate.map(|rate| perf(broker, rate, 3600));
    std::thread::sleep(Duration::from_secs(2));
    for request in all_requests(queues) {
        let mut http = request.http(broker);
        http.ask("GET", &request.path, b"");
        let before = broker.resident();
        broker.forget_peak();
        let cpu = broker.cpu();
        let mut times: Vec<Duration> = (0..request.times).map(|_| http.ask("GET", &request.path, b"")).collect();
        // That of messages is in it too, where there are any.
        let cpu = (broker.cpu() - cpu).total_us() as f64 / 1000.0 / request.times as f64;
        times.sort_unstable();
        let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1000.0;
        println!(
            "{load:<8} {:<20} {:>9.1} {:>9.1} {cpu:>9.1} {:>9.3} {:>+7} MiB",
            request.what,
            at(50),
            at(99),
            http.body.len() as f64 / 1e6,
            broker.peak().saturating_sub(before) / 1024 / 1024,
        );
    }
    if let Some(perf) = &mut load_on {
        perf.kill().expect("it runs");
        perf.wait().expect("it ends");
    }
}

/// Rate and latency in µs of messages beside something that is asked for once a second.
fn beside(broker: &Broker, rate: &str, request: Option<&Request>) -> [f64; 3] {
    let mut perf = perf(broker, rate, 5);
    let mut http = request.map(|request| request.http(broker));
    let mut next = Instant::now();
    while perf.try_wait().expect("our child").is_none() {
        if let (Some(http), Some(request)) = (&mut http, request)
            && Instant::now() >= next
        {
            next += Duration::from_secs(1);
            http.ask("GET", &request.path, b"");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut report = String::new();
    perf.stdout.take().expect("it is piped").read_to_string(&mut report).expect("text");
    let report: Value = serde_json::from_str(&report).expect("a report");
    let number = |value: &Value| value.as_f64().expect("a number");
    let latency = &report["latency_us"];
    [number(&report["consumed_per_second"]), number(&latency["p50"]), number(&latency["p99"])]
}

/// The part `traffic`.
fn traffic(broker: &Broker, queues: usize) {
    println!("{:<8} {:<20} {:>12} {:>10} {:>10}", "", "once a second", "messages/s", "p50 ms", "p99 ms");
    let beside_it = ["a page", "overview", "/metrics", "per-object", "all queues"];
    let requests: Vec<Request> =
        all_requests(queues).into_iter().filter(|request| beside_it.contains(&request.what)).collect();
    let kinds: Vec<Option<&Request>> = std::iter::once(None).chain(requests.iter().map(Some)).collect();
    for (load, rate) in [("steady", STEADY), ("full", "0")] {
        let mut found = vec![[const { Vec::new() }; 3]; kinds.len()];
        for _ in 0..ROUNDS {
            for (kind, found) in kinds.iter().zip(&mut found) {
                for (all, one) in found.iter_mut().zip(beside(broker, rate, *kind)) {
                    all.push(one);
                }
            }
        }
        for (kind, found) in kinds.iter().zip(&mut found) {
            let [rate, p50, p99] = found.each_mut().map(|all| {
                all.sort_unstable_by(f64::total_cmp);
                all[all.len() / 2]
            });
            let what = kind.map_or("nothing", |request| request.what);
            println!("{load:<8} {what:<20} {rate:>12.0} {:>10.2} {:>10.2}", p50 / 1000.0, p99 / 1000.0);
        }
    }
}
