//! A broker under load, and what came of it.

use std::net::SocketAddr;

use leveret_differential::{Plain, start_plain};
use serde_json::Value;

use crate::scenarios::{Per, Scenario};
use crate::support::{Broker, load};

/// How long a run is.
#[derive(Clone, Copy)]
pub(crate) struct Length {
    pub(crate) warmup: f64,
    pub(crate) seconds: f64,
}

/// A broker that runs.
pub(crate) struct Peer {
    amqp: SocketAddr,
    pid: u32,
    _running: Running,
}

/// What ends with the broker.
enum Running {
    Leveret { _broker: Broker, _dir: tempfile::TempDir },
    RabbitMq(#[expect(dead_code, reason = "dropping it ends the node")] Plain),
}

/// The figures of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) cpu_us: f64,
    pub(crate) rss_mib: f64,
    /// p50, p99 and p99.9 in µs.
    pub(crate) latency: Option<[f64; 3]>,
    pub(crate) confirm: Option<[f64; 3]>,
}

impl Peer {
    pub(crate) fn leveret() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = Broker::start(dir.path());
        let (amqp, pid) = (broker.amqp, broker.pid());
        Self { amqp, pid, _running: Running::Leveret { _broker: broker, _dir: dir } }
    }

    /// RabbitMQ and its version, if it is installed.
    pub(crate) fn rabbitmq() -> Option<(Self, String)> {
        let node = start_plain().expect("RabbitMQ starts");
        let Some(node) = node else {
            eprintln!("there is no RabbitMQ (Debian's package rabbitmq-server): nothing to compare with");
            return None;
        };
        let version = node.version.clone();
        Some((Self { amqp: node.amqp, pid: node.pid, _running: Running::RabbitMq(node) }, version))
    }

    /// Loads the broker.
    pub(crate) fn run(&self, scenario: &Scenario, length: Length) -> Figures {
        let Length { warmup, seconds } = length;
        let options = format!("--size {} --warmup {warmup} --duration {seconds} {}", scenario.size, scenario.options);
        let report = load(self.amqp, self.pid, &options);
        Figures::of(&report, scenario.per).unwrap_or_else(|| panic!("{}: no figures in {report}", scenario.name))
    }
}

impl Figures {
    fn of(report: &Value, per: Per) -> Option<Self> {
        let process = &report["broker_process"];
        let (rate, cpu) = match per {
            Per::Published => ("published_per_second", "cpu_us_per_published"),
            Per::Delivered => ("consumed_per_second", "cpu_us_per_consumed"),
        };
        let quantiles = |name: &str| {
            let quantiles = &report[name];
            Some([quantiles["p50"].as_f64()?, quantiles["p99"].as_f64()?, quantiles["p999"].as_f64()?])
        };
        Some(Self {
            per_second: report[rate].as_f64()?,
            cpu_us: process[cpu]["total"].as_f64()?,
            rss_mib: process["rss_peak_kib"].as_f64()? / 1024.0,
            latency: quantiles("latency_us"),
            confirm: quantiles("confirm_latency_us"),
        })
    }
}
