//! Where it was measured, and what else went on.

use std::fs;

/// CPU time of the whole machine in ticks: all of it, and what was idle.
pub(crate) struct Load {
    all: f64,
    idle: f64,
}

impl Load {
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
        Self { all: ticks.iter().sum(), idle: ticks.iter().skip(3).take(2).sum() }
    }
}

/// A sentence or two about the machine and the run.
pub(crate) fn describe(rabbitmq: Option<&str>, before: &Load, rounds: u32, seconds: f64) -> String {
    let now = Load::now();
    let busy = 100.0 - 100.0 * (now.idle - before.idle) / (now.all - before.all).max(1.0);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    let rabbitmq = rabbitmq.map_or("no RabbitMQ".to_owned(), |version| format!("RabbitMQ {version}"));
    format!(
        "{cores} × {model}, Linux {}; Leveret {} and {rabbitmq}; medians of {rounds} rounds of {seconds} s, in turn. The machine was \
         busy for {busy:.0} % of the time in all, load average {load} in the end.",
        kernel.trim(),
        env!("CARGO_PKG_VERSION"),
    )
}
