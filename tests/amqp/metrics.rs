//! Metrics for Prometheus: what the pages show, that promtool accepts them, and that a real Prometheus can work with them.
//!
//! The last two need Debian's package `prometheus`; without it they say that they were skipped, or fail if
//! `LEVERET_REQUIRE_PROMETHEUS` is set.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Authority, Client, TunedBroker, persistent, wait_until};

/// Set where a test must not be skipped.
const REQUIRE: &str = "LEVERET_REQUIRE_PROMETHEUS";
/// A directory with the programs, if they are not on the path.
const DIRECTORY: &str = "LEVERET_PROMETHEUS_BIN";

fn start() -> TunedBroker {
    TunedBroker::start(|config| config.prometheus = leveret::config::PrometheusConfig::for_tests())
}

/// Fetches a page; panics unless it is there.
#[track_caller]
fn fetch(addr: SocketAddr, path: &str) -> String {
    let (head, body) = exchange(addr, path);
    assert!(head.starts_with("HTTP/1.0 200"), "{path}: {head}");
    body
}

/// Head and body of an answer. The connection is closed after it.
fn exchange(addr: SocketAddr, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(addr).expect("the port is open");
    write!(socket, "GET {path} HTTP/1.0\r\nHost: here\r\n\r\n").expect("taken");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

fn metrics(broker: &TunedBroker) -> SocketAddr {
    broker.metrics_addr().expect("metrics are served")
}

/// The value of a series, as its line begins.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().expect("a number"))
}

/// Some of everything.
fn traffic(client: &mut Client) -> String {
    client.select_confirms(1);
    let queue = client.temporary_queue(1);
    for _ in 0..20 {
        client.publish_with(1, "", &queue, &persistent(), "0123456789");
    }
    client.expect_confirms(1, 1..=20);
    client.consume(1, &queue);
    client.expect_deliveries(1, &["0123456789"; 20]);
    client.ack(1, 1);
    client.barrier(1);
    queue
}

#[test]
fn sums_and_series_of_each_queue_agree() {
    let broker = start();
    let mut client = broker.open();
    let queue = traffic(&mut client);
    let idle = client.temporary_queue(1);
    let page = fetch(metrics(&broker), "/metrics");
    for (series, expected) in [
        ("rabbitmq_queues", 2.0),
        ("rabbitmq_connections", 1.0),
        ("rabbitmq_channels", 1.0),
        ("rabbitmq_consumers", 1.0),
        ("rabbitmq_queue_messages_ready", 0.0),
        ("rabbitmq_queue_messages_unacked", 19.0),
        ("rabbitmq_queue_messages", 19.0),
        ("rabbitmq_queues_created_total", 2.0),
        ("rabbitmq_global_publishers{protocol=\"amqp091\"}", 1.0),
        ("rabbitmq_global_messages_received_total{protocol=\"amqp091\"}", 20.0),
        ("rabbitmq_global_messages_received_confirm_total{protocol=\"amqp091\"}", 20.0),
        ("rabbitmq_global_messages_confirmed_total{protocol=\"amqp091\"}", 20.0),
        (
            "rabbitmq_global_messages_delivered_consume_manual_ack_total{protocol=\"amqp091\",queue_type=\"rabbit_classic_queue\"}",
            20.0,
        ),
        ("rabbitmq_global_messages_acknowledged_total{protocol=\"amqp091\",queue_type=\"rabbit_classic_queue\"}", 1.0),
        ("rabbitmq_message_size_bytes_bucket{protocol=\"amqp091\",le=\"100\"}", 20.0),
        ("rabbitmq_message_size_bytes_sum{protocol=\"amqp091\"}", 200.0),
        ("rabbitmq_queue_time_in_queue_seconds_count", 20.0),
        ("rabbitmq_consumer_ack_latency_seconds_count", 1.0),
        ("rabbitmq_alarms_memory_used_watermark", 0.0),
    ] {
        assert_eq!(value(&page, series), Some(expected), "{series} in {page}");
    }
    assert!(page.contains(",rabbitmq_endpoint=\"aggregated\"} 1\n"), "{page}");
    let page = fetch(metrics(&broker), "/metrics/per-object");
    for (name, expected) in [(&queue, 19.0), (&idle, 0.0)] {
        let series = format!("rabbitmq_queue_messages{{vhost=\"/\",queue=\"{name}\"}}");
        assert_eq!(value(&page, &series), Some(expected), "{series} in {page}");
    }
    assert!(page.contains(",rabbitmq_endpoint=\"per-object\"} 1\n") && !page.contains("queue_ack_latency"), "{page}");
}

/// It is looked for in queues with messages only.
#[test]
fn the_oldest_message_is_told_while_there_is_one() {
    let broker = start();
    let mut client = broker.open();
    let (_empty, queue) = (client.temporary_queue(1), client.temporary_queue(1));
    let series = ["rabbitmq_queue_oldest_message_age_seconds", "rabbitmq_queue_oldest_unacked_age_seconds"];
    let ages = || {
        let page = fetch(metrics(&broker), "/metrics");
        series.map(|series| value(&page, series).expect("it is there"))
    };
    assert!(ages().iter().all(|age| *age <= 0.0), "{:?}", ages());
    client.publish(1, "", &queue, "waits");
    client.barrier(1);
    wait_until("the age of a message that waits", || ages()[0] > 0.01);
    client.consume(1, &queue);
    client.expect_deliveries(1, &["waits"]);
    wait_until("the age of a delivery", || {
        let [ready, unacked] = ages();
        ready <= 0.0 && unacked > 0.01
    });
    client.ack(1, 1);
    client.barrier(1);
    assert!(ages().iter().all(|age| *age <= 0.0), "{:?}", ages());
}

#[test]
fn a_detailed_page_has_what_is_asked_for_and_no_more() {
    let broker = start();
    let mut client = broker.open();
    let queue = traffic(&mut client);
    let ask = |query: &str| fetch(metrics(&broker), &format!("/metrics/detailed?{query}"));
    let page = ask("family=queue_coarse_metrics&family=queue_latency_metrics&vhost=%2F");
    let labels = format!("vhost=\"/\",queue=\"{queue}\"");
    for (name, expected) in [
        (format!("rabbitmq_detailed_queue_messages_unacked{{{labels}}}"), 19.0),
        (format!("rabbitmq_detailed_queue_ack_latency_seconds_count{{{labels}}}"), 1.0),
        (format!("rabbitmq_detailed_queue_time_in_queue_seconds_bucket{{{labels},le=\"+Inf\"}}"), 20.0),
    ] {
        assert_eq!(value(&page, &name), Some(expected), "{name} in {page}");
    }
    assert!(!page.contains("queue_consumers") && page.contains("rabbitmq_endpoint=\"detailed\""), "{page}");
    let series = |page: &str| page.lines().filter(|line| line.starts_with("rabbitmq_detailed_queue_messages{")).count();
    assert_eq!(series(&ask("family=queue_coarse_metrics&vhost=other")), 0);
    client.open_channel(2);
    let mut names: Vec<_> = (0..5).map(|_| client.temporary_queue(1)).collect();
    for (number, name) in names.iter().enumerate() {
        client.enqueue(2, name, &vec!["m"; number + 1]);
    }
    for (name, count) in names.iter().zip(1..) {
        client.wait_ready(2, name, count);
    }
    assert_eq!(series(&ask("family=queue_coarse_metrics&min_messages=3")), 4);
    assert_eq!(series(&ask("family=queue_coarse_metrics&top=2&by=ready")), 2);
    let last = names.pop().expect("five");
    let page = ask(&format!("family=queue_coarse_metrics&queue=%5E{last}%24"));
    assert_eq!(series(&page), 1, "{page}");
    let (head, _) = exchange(metrics(&broker), "/metrics/detailed?by=nothing");
    assert!(head.starts_with("HTTP/1.0 400"), "{head}");
}

#[test]
fn what_the_disk_does_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = TunedBroker::start(|config| {
        config.prometheus = leveret::config::PrometheusConfig::for_tests();
        config.data_dir = leveret::DataDir::Path(dir.path().to_path_buf());
    });
    let mut client = broker.open();
    client.select_confirms(1);
    let queue = client.durable_queue_with(1, leveret_protocol::FieldTable::default());
    client.publish_with(1, "", &queue, &persistent(), "m");
    client.expect_confirms(1, 1..=1);
    let page = fetch(metrics(&broker), "/metrics");
    for series in ["commits_total", "transactions_total", "written_bytes_total", "sync_seconds_count"] {
        let series = format!("rabbitmq_storage_{series}");
        assert!(value(&page, &series) >= Some(1.0), "{series} in {page}");
    }
    assert!(value(&page, "rabbitmq_storage_confirms_per_commit") > Some(0.0), "{page}");
}

/// A program of the package.
fn program(name: &str) -> Option<PathBuf> {
    let directories = std::env::var_os(DIRECTORY).map(PathBuf::from).into_iter();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = directories.chain(std::env::split_paths(&path)).map(|directory| directory.join(name));
    let found = found.into_iter().find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os(REQUIRE).is_none(), "{REQUIRE} is set, but there is no {name}");
        eprintln!("skipped: there is no {name}");
    }
    found
}

/// What promtool has to say of a page beyond what it says of RabbitMQ's own names.
fn lint(promtool: &Path, page: &str) -> Vec<String> {
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child.stdin.take().expect("piped").write_all(page.as_bytes()).expect("taken");
    let output = child.wait_with_output().expect("promtool ends");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn promtool_accepts_every_page() {
    let Some(promtool) = program("promtool") else { return };
    let broker = start();
    let mut client = broker.open();
    traffic(&mut client);
    let families = [
        "queue_coarse_metrics",
        "queue_consumer_count",
        "queue_metrics",
        "queue_delivery_metrics",
        "queue_exchange_metrics",
        "queue_age_metrics",
        "queue_latency_metrics",
        "connection_coarse_metrics",
        "connection_metrics",
        "connection_churn_metrics",
        "channel_metrics",
        "channel_exchange_metrics",
        "channel_queue_metrics",
        "exchange_metrics",
        "exchange_bindings",
        "exchange_names",
        "vhost_status",
        "node_metrics",
        "node_coarse_metrics",
        "auth_attempt_metrics",
    ];
    let all = families.map(|family| format!("family={family}")).join("&");
    for path in ["/metrics", "/metrics/per-object", &format!("/metrics/detailed?{all}"), "/metrics/memory-breakdown"] {
        let page = fetch(metrics(&broker), path);
        assert_eq!(lint(&promtool, &page), Vec::<String>::new(), "{path}");
    }
}

/// A Prometheus that scrapes a broker; it ends with the test.
struct Prometheus {
    child: Child,
    addr: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    /// `jobs` are pairs of a name and what else its configuration says.
    fn start(prometheus: &Path, broker: SocketAddr, jobs: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("prometheus.yml");
        let mut text = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n".to_owned();
        for (job, more) in jobs {
            let _written = writeln!(text, "- {{job_name: {job}, {more}, static_configs: [{{targets: ['{broker}']}}]}}");
        }
        std::fs::write(&config, text).expect("written");
        // A port that is free now; nobody else on this machine is quick enough to take it.
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let child = Command::new(prometheus)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={addr}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        Self { child, addr, _directory: directory }
    }

    /// What an expression finds; `None` while it is not up.
    fn query(&self, expression: &str) -> Option<Vec<Value>> {
        let mut encoded = String::new();
        for octet in expression.bytes() {
            let _written = write!(encoded, "%{octet:02X}");
        }
        TcpStream::connect(self.addr).ok()?;
        let (_, body) = exchange(self.addr, &format!("/api/v1/query?query={encoded}"));
        let answer: Value = serde_json::from_str(&body).ok()?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned()
    }

    /// Waits until an expression finds something.
    fn wait_for(&self, expression: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.query(expression).is_none_or(|found| found.is_empty()) {
            assert!(Instant::now() < deadline, "Prometheus does not scrape");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// What the panels of the dashboard in `deploy/` ask, with Grafana's variables filled in.
fn own_dashboard() -> Vec<(String, String)> {
    let dashboard: Value =
        serde_json::from_str(include_str!("../../deploy/grafana/leveret.json")).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let asked = panels.iter().flat_map(|panel| {
        panel["targets"].as_array().into_iter().flatten().map(|target| {
            let expression = target["expr"].as_str().expect("an expression");
            let filled = expression.replace("$__rate_interval", "60s").replace("$instance", ".*");
            (panel["title"].as_str().expect("a title").to_owned(), filled)
        })
    });
    let asked: Vec<_> = asked.collect();
    assert!(asked.len() >= panels.len(), "each panel asks something");
    asked
}

#[test]
fn a_real_prometheus_scrapes_over_tls() {
    let Some(prometheus) = program("prometheus") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("the authority");
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).expect("written");
    let files = authority.broker(&["broker.example"]).write(directory.path(), "broker");
    let broker = TunedBroker::start(|config| {
        let https = &mut config.prometheus_ssl;
        (https.ip, https.port) = (Some("127.0.0.1".parse().expect("an address")), Some(0));
        let certificate = &mut https.tls.certificate;
        (certificate.certfile, certificate.keyfile) = (Some(files.0), Some(files.1));
    });
    let trusted = format!("scheme: https, tls_config: {{ca_file: '{}', server_name: broker.example}}", ca.display());
    let jobs = [("trusted", trusted.as_str()), ("distrustful", "scheme: https"), ("plain", "scheme: http")];
    let prometheus = Prometheus::start(&prometheus, metrics(&broker), &jobs);
    prometheus.wait_for("up{job='trusted'} == 1 and on() rabbitmq_identity_info{job='trusted'}");
    prometheus.wait_for("up{job='distrustful'} == 0");
    prometheus.wait_for("up{job='plain'} == 0");
}

#[test]
fn a_real_prometheus_answers_what_dashboards_and_alerts_ask() {
    let Some(prometheus) = program("prometheus") else { return };
    let broker = start();
    let mut client = broker.open();
    traffic(&mut client);
    let unused = client.temporary_queue(1);
    client.open_channel(2);
    client.fill(2, &unused, &["m"]);
    let families = "queue_coarse_metrics, queue_consumer_count";
    let detailed = format!("metrics_path: /metrics/detailed, params: {{family: [{families}]}}");
    let jobs = [("rabbitmq", "metrics_path: /metrics"), ("detailed", &detailed)];
    let prometheus = Prometheus::start(&prometheus, metrics(&broker), &jobs);
    // Rates need two scrapes.
    prometheus.wait_for("count_over_time(rabbitmq_queues[1m]) >= 3");
    let expressions = include_str!("metrics/expressions.txt").lines().filter(|line| !line.starts_with('#'));
    let expressions = expressions.map(|line| {
        let (name, expression) = line.split_once('\t').expect("a name, a tab, an expression");
        (name.to_owned(), expression.to_owned())
    });
    let mut wrong = Vec::new();
    for (name, expression) in expressions.chain(own_dashboard()) {
        let found = prometheus.query(&expression).expect("it is up");
        if found.is_empty() != name.starts_with('!') {
            wrong.push(format!("{name}: {expression}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    wait_until("the message sizes", || {
        let found = prometheus.query("rabbitmq_message_size_bytes_count").unwrap_or_default();
        found.iter().any(|series| series["value"][1] == "21")
    });
}

/// Prints how long a page with three series for each of 100,000 queues takes (3,000 unless optimised). It takes its time to
/// be set up.
#[test]
fn many_queues_are_all_told() {
    let queues: u32 = if cfg!(debug_assertions) { 3_000 } else { 100_000 };
    let broker = start();
    let mut client = broker.open();
    for number in 0..queues {
        let declare =
            leveret_protocol::queue::Declare { no_wait: true, ..crate::support::exclusive(&format!("queue-{number}")) };
        client.send(1, declare);
    }
    client.barrier(1);
    let began = Instant::now();
    let page = fetch(metrics(&broker), "/metrics/detailed?family=queue_coarse_metrics");
    let took = began.elapsed();
    let series = page.lines().filter(|line| line.starts_with("rabbitmq_detailed_queue_messages")).count();
    assert_eq!(series, usize::try_from(queues).expect("fits") * 3);
    println!("{queues} queues, {} octets: {took:?}", page.len());
}
