//! The load generator: `leveret perf`.
//!
//! Publishes to and consumes from any AMQP 0-9-1 broker, and reports rates, latencies and what the broker's process cost.
//! Broker and generator usually share a machine, so the generator does as little as it can: a thread and a blocking socket
//! a connection, publishes encoded once and then patched, deliveries parsed only as far as needed, no lock between threads
//! but where confirms are read beside a schedule.
//!
//! Invariants: latencies count from when a message was due, also if it was late; what was due before the warm-up had ended
//! is not measured; every message is waited for in the end, and a missing one is an error.
//! Not here: what the broker does; of the broker's own code only the codec is used.

mod args;
mod client;
mod clock;
mod conductor;
mod consumer;
mod error;
mod input;
mod latency;
mod load;
mod messages;
mod outstanding;
pub mod proc_stat;
mod progress;
mod publisher;
mod report;
mod schedule;
mod topology;
mod url;

use std::io::{self, Write};

pub use args::{ExchangeKind, PerfArgs};
pub use error::PerfError;

use client::Client;
use report::Report;
use url::Url;

/// Loads a broker and prints a report; returns when all is done. It is an error if a message was lost, or the broker closed
/// a connection; the report is printed all the same.
pub fn run(args: &PerfArgs) -> Result<(), PerfError> {
    args.check()?;
    let url = Url::parse(&args.url)?;
    // Without it sleeps are less exact, no more.
    let _ = clock::sharpen_sleep();
    let mut control = Client::connect(&url, "leveret perf: control")?;
    let held = topology::set_up(args, &mut control)?;
    let loaded = load::run(args, &url, held);
    let torn_down = if args.keep_queues { Ok(()) } else { topology::tear_down(args, &mut control) };
    let (report, outcome) = loaded?;
    print(args, &report).map_err(PerfError::Report)?;
    outcome.and(torn_down).and_then(|()| control.close())
}

fn print(args: &PerfArgs, report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)
    } else {
        write!(out, "{report}")
    }
}
