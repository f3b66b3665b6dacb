//! The long haul: cycles of mixed work, cut connections, orderly stops and kills; every message accounted for, and at rest
//! – all queues empty, nobody connected – the same memory, disk space and descriptors at the end as near the beginning.
//!
//! The first half of the time the broker is stopped, killed or goes on, by chance: what grows in the store shows. The second
//! half is one life of the broker: what grows in memory shows. `LEVERET_SOAK_SECONDS` sets how long it takes,
//! `LEVERET_CRASH_SEED` the random decisions. An hour by hand:
//!
//!     LEVERET_SOAK_SECONDS=3600 cargo test --release --test crash soak -- --nocapture

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::broker::{Broker, log_tail};
use crate::inspection::check_temporaries;
use crate::ledger::After;
use crate::messages::Queue;
use crate::traffic::Plan;
use crate::{Trial, setting};

/// Without `LEVERET_SOAK_SECONDS`.
const SECONDS: u64 = 45;

/// Over how many of the many queues the work is spread, and how many there are: their dead letters go further.
const WIDTH: u16 = 10;
const QUEUES: usize = 16;

/// How long clients work in a cycle, in milliseconds.
const WORK_MS: (u64, u64) = (500, 1500);

/// How long the broker may take to notice that connections are gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the broker then needs to give memory back that it freed: its allocator keeps it for a tenth of a second.
const RELEASE: Duration = Duration::from_millis(300);

/// Cycles of the second half that are needed to say something.
const CYCLES_MIN: usize = 4;

/// What a broker at rest needs.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    /// How the cycle ended.
    end: After,
    /// Messages confirmed so far.
    confirmed: usize,
    resident_kib: u64,
    disk_kib: u64,
    descriptors: u64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, end, confirmed, resident_kib, disk_kib, descriptors } = self;
        let (seconds, end) = (at.as_secs(), format!("{end:?}"));
        write!(f, "{seconds:>7} {end:>5} {confirmed:>10} {resident_kib:>10} {disk_kib:>10} {descriptors:>5}")
    }
}

/// How much more of something there may be at the end.
#[derive(Clone, Copy, Debug)]
struct Tolerance {
    /// Of what there was, in hundredths.
    percent: u64,
    and: u64,
}

/// An allocator and a page cache do not fill up evenly.
const RESIDENT_KIB: Tolerance = Tolerance { percent: 10, and: 8 * 1024 };
/// The database grows in steps and shrinks by itself, not to the same size each time.
const DISK_KIB: Tolerance = Tolerance { percent: 25, and: 4 * 1024 };
const DESCRIPTORS: Tolerance = Tolerance { percent: 0, and: 2 };

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The medians of the second quarter and of the last one, if there is too much between them. The first quarter is for
/// buffers to fill.
fn growth(samples: &[Sample], of: impl Fn(&Sample) -> u64, tolerance: Tolerance) -> Option<(u64, u64)> {
    if samples.len() < CYCLES_MIN {
        return None;
    }
    let quarter = samples.len().div_ceil(4);
    let early = median(samples.iter().skip(quarter).take(quarter).map(&of));
    let late = median(samples.iter().rev().take(quarter).map(&of));
    (late > early + early * tolerance.percent / 100 + tolerance.and).then_some((early, late))
}

/// A line of the process's status, in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the broker runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// All descriptors of a process, and those that are sockets.
fn descriptors(pid: u32) -> (u64, u64) {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the broker runs");
    let (mut all, mut sockets) = (0, 0);
    for entry in entries.flatten() {
        all += 1;
        let is_socket = |path: &Path| path.to_string_lossy().starts_with("socket:");
        sockets += u64::from(std::fs::read_link(entry.path()).is_ok_and(|path| is_socket(&path)));
    }
    (all, sockets)
}

/// What the files of a directory take on disk.
fn disk_kib(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("the data directory is there");
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.blocks() / 2).sum()
}

/// Rounds without an end.
struct Soak {
    trial: Trial,
    started: Instant,
    /// Sockets of a broker to which nobody is connected.
    idle_sockets: u64,
    samples: Vec<Sample>,
}

impl Soak {
    /// Waits until the broker has noticed that nobody is connected any more.
    fn wait_for_end(&self, broker: &Broker) {
        let deadline = Instant::now() + PATIENCE;
        while descriptors(broker.pid()).1 > self.idle_sockets {
            let late = Instant::now() > deadline;
            assert!(!late, "connections do not end\n{}", log_tail(&self.trial.place.log));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Clients work, the cycle ends in one way or another, and everything is looked at and taken out.
    fn cycle(&mut self, broker: Broker, round: u32, end: After) -> Broker {
        self.trial.ledger.begin_round(round);
        let traffic = self.trial.start_traffic(Plan::Everything(WIDTH), &broker);
        std::thread::sleep(Duration::from_millis(self.trial.random.between(WORK_MS.0, WORK_MS.1)));
        let (log, broker) = match end {
            After::Kill => {
                broker.kill();
                (traffic.finish(), self.trial.place.start())
            }
            After::Stop => {
                broker.terminate();
                (traffic.finish(), self.trial.place.start())
            }
            After::Cut => {
                traffic.cut();
                let log = traffic.finish();
                self.wait_for_end(&broker);
                (log, broker)
            }
        };
        self.trial.absorb(log, end != After::Kill);
        let inspection = self.trial.inspect(&broker, end);
        let taken = inspection.take_all(&mut self.trial.ledger);
        self.trial.step("taking everything", taken);
        let temporaries = std::mem::take(&mut self.trial.temporaries);
        let checked = check_temporaries(broker.addr, &temporaries, end);
        self.trial.step("temporary definitions", checked);
        self.wait_for_end(&broker);
        std::thread::sleep(RELEASE);
        let sample = Sample {
            at: self.started.elapsed(),
            end,
            confirmed: self.trial.ledger.totals.confirmed,
            resident_kib: resident_kib(broker.pid()),
            disk_kib: disk_kib(&self.trial.place.data),
            descriptors: descriptors(broker.pid()).0,
        };
        eprintln!("{sample}");
        self.samples.push(sample);
        broker
    }
}

#[test]
fn soak_nothing_is_lost_and_nothing_grows() {
    let duration = Duration::from_secs(setting("LEVERET_SOAK_SECONDS").unwrap_or(SECONDS));
    let mut trial = Trial::new();
    trial.queues.extend(Queue::many().take(QUEUES));
    trial.define();
    let mut broker = trial.place.start();
    let idle_sockets = descriptors(broker.pid()).1;
    let mut soak = Soak { trial, started: Instant::now(), idle_sockets, samples: Vec::new() };
    eprintln!("seconds   end  confirmed    RSS KiB   disk KiB files");
    let mut round = 0;
    let mut steady = 0;
    while soak.started.elapsed() < duration || steady < CYCLES_MIN {
        round += 1;
        let end = if soak.started.elapsed() >= duration / 2 {
            steady += 1;
            After::Cut
        } else {
            match soak.trial.random.between(0, 3) {
                0 => After::Kill,
                1 => After::Stop,
                _ => After::Cut,
            }
        };
        broker = soak.cycle(broker, round, end);
    }
    broker.terminate();
    let log = log_tail(&soak.trial.place.log);
    let steady = &soak.samples[soak.samples.len() - steady..];
    let grown = [
        ("memory in KiB", growth(steady, |sample| sample.resident_kib, RESIDENT_KIB)),
        ("descriptors", growth(steady, |sample| sample.descriptors, DESCRIPTORS)),
        ("the data directory in KiB", growth(&soak.samples, |sample| sample.disk_kib, DISK_KIB)),
    ];
    for (what, growth) in grown {
        if let Some((early, late)) = growth {
            panic!("{what} grew from {early} to {late}\n{log}");
        }
    }
    eprintln!("{:?}", soak.trial.ledger.totals);
}

#[test]
fn growth_is_what_goes_on_after_the_first_quarter() {
    let samples = |values: &[u64]| -> Vec<Sample> {
        let sample = |resident_kib: &u64| Sample {
            at: Duration::ZERO,
            end: After::Cut,
            confirmed: 0,
            resident_kib: *resident_kib,
            disk_kib: 0,
            descriptors: 0,
        };
        values.iter().map(sample).collect()
    };
    let check = |values: &[u64]| {
        growth(&samples(values), |sample| sample.resident_kib, Tolerance { percent: 10, and: 5 }).is_some()
    };
    assert!(!check(&[]) && !check(&[100]));
    assert!(!check(&[1, 1, 1, 100, 100, 100, 100, 100, 100, 100, 100, 900]), "a start, and one that stands out");
    assert!(!check(&[90, 90, 100, 100, 105, 105, 115, 115]), "within the tolerance");
    assert!(check(&[100, 110, 120, 130, 140, 150, 160, 170]));
}
