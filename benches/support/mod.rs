//! What benchmarks share: this build's broker in a process of its own, its CPU time and memory, and a client for it.
#![allow(dead_code, reason = "no benchmark uses all of it")]
#![allow(clippy::disallowed_methods, reason = "a benchmark needs a clock")]

pub(crate) mod client;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use leveret::perf::proc_stat::{self, CpuTime};
use leveret_protocol::PROTOCOL_HEADER;
use serde_json::Value;

/// The binary to be measured: this build's, unless `LEVERET_BENCH_BINARY` names another.
pub(crate) fn binary() -> OsString {
    std::env::var_os("LEVERET_BENCH_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_leveret").into())
}

/// A broker. Dropping it kills it.
pub(crate) struct Broker {
    child: Child,
    pub(crate) amqp: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) metrics: SocketAddr,
    /// How long it took until it served a connection.
    pub(crate) start: Duration,
}

impl Broker {
    /// Starts one for AMQP alone.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, false)
    }

    /// Starts one with management API and metrics.
    pub(crate) fn start_managed(dir: &Path) -> Self {
        Self::start_with(dir, true)
    }

    fn start_with(dir: &Path, is_managed: bool) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let ports = [free(), free(), free()];
        let [amqp, api, metrics] = ports.map(|port| port.local_addr().expect("it is bound"));
        let other = |addr: SocketAddr| if is_managed { addr.to_string() } else { "none".to_owned() };
        let mut command = Command::new(binary());
        command
            .args(["server", "--listen", &amqp.to_string(), "--management-listen", &other(api)])
            .args(["--prometheus-listen", &other(metrics), "--data-dir"])
            .arg(dir)
            .stderr(Stdio::null());
        if let Some(config) = std::env::var_os("LEVERET_BENCH_CONFIG") {
            command.arg("--config").arg(config);
        }
        let begun = Instant::now();
        let mut child = command.spawn().expect("the broker starts");
        // It may listen long before it serves.
        let serves = || {
            let mut stream = TcpStream::connect(amqp)?;
            stream.write_all(&PROTOCOL_HEADER)?;
            stream.read_exact(&mut [0])
        };
        while serves().is_err() {
            assert!(child.try_wait().is_ok_and(|ended| ended.is_none()), "the broker does not start");
            std::thread::sleep(Duration::from_micros(500));
        }
        Self { child, amqp, api, metrics, start: begun.elapsed() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Octets that are resident.
    pub(crate) fn resident(&self) -> u64 {
        proc_stat::memory(self.pid()).resident_kib * 1024
    }

    /// The most octets that were resident since [`forget_peak`](Self::forget_peak).
    pub(crate) fn peak(&self) -> u64 {
        proc_stat::memory(self.pid()).high_water_kib * 1024
    }

    /// Has the system forget the peak of memory.
    pub(crate) fn forget_peak(&self) {
        proc_stat::forget_high_water(self.pid()).expect("it is our process");
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> CpuTime {
        proc_stat::cpu_time(self.pid()).expect("it runs")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `leveret perf` with these options against a broker, and returns its report. It is an error if a message was lost.
pub(crate) fn load(amqp: SocketAddr, pid: u32, options: &str) -> Value {
    let output = Command::new(binary())
        .args(["perf", "--json", "--url", &format!("amqp://guest:guest@{amqp}/%2f"), "--broker-pid", &pid.to_string()])
        .args(options.split_whitespace())
        .stderr(Stdio::null())
        .output()
        .expect("the generator starts");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    assert!(output.status.success(), "{options}: {}", report["errors"]);
    report
}

/// The middle one; of an even number the upper of the two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
