//! Leveret beside RabbitMQ: `cargo bench --bench compare -- [OPTIONS] [SCENARIO…]`. Prints a table in Markdown.
//!
//! Both brokers are started here, on data and ports of their own: Leveret's binary of this build (or what
//! `LEVERET_BENCH_BINARY` names) anew for each run, Debian's RabbitMQ as it comes once a round. `leveret perf` loads them in
//! turn, scenario by scenario, so that what else goes on hits both; a round begins with the other one. What is printed are
//! medians over the rounds, and the range of the CPU time.
//!
//! Without `--bench`, as `cargo test` starts it, one short scenario is run, with RabbitMQ if it is there, and it is an error if
//! there is no table: that keeps this program alive where nobody measures. No time is asserted.

mod machine;
mod peer;
mod plot;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use peer::{Figures, Length, Peer};
use scenarios::{SCENARIOS, Scenario};

/// Compares Leveret with RabbitMQ under `leveret perf`.
#[derive(Parser)]
struct Options {
    /// Scenarios, all of them unless some are named; a name with `*` at its end stands for all that begin so.
    scenarios: Vec<String>,
    /// How often each is run on each broker.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds that are measured of each run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of load before.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Run one broker alone.
    #[arg(long)]
    only: Option<Broker>,
    /// Also write a plot of throughput and CPU time by size of body.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// List the scenarios.
    #[arg(long)]
    list: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Broker {
    Leveret,
    Rabbitmq,
}

impl Options {
    /// The options, or those of the short form if this is a test.
    fn of_process() -> Self {
        let is_test = !std::env::args().any(|argument| argument == "--bench");
        if is_test {
            return Self::parse_from(["compare", "--rounds", "1", "--seconds", "0.5", "--warmup", "0.1", "confirm-1k"]);
        }
        Self::parse()
    }

    fn wants(&self, scenario: &Scenario) -> bool {
        let is_meant = |wanted: &String| match wanted.strip_suffix('*') {
            Some(start) => scenario.name.starts_with(start),
            None => scenario.name == wanted,
        };
        self.scenarios.is_empty() || self.scenarios.iter().any(is_meant)
    }

    fn has(&self, broker: Broker) -> bool {
        self.only.is_none_or(|only| only == broker)
    }
}

/// What was measured of a scenario, a run each.
pub(crate) struct Row {
    pub(crate) scenario: &'static Scenario,
    pub(crate) leveret: Vec<Figures>,
    pub(crate) rabbitmq: Vec<Figures>,
}

fn main() {
    let options = Options::of_process();
    if options.list {
        for scenario in SCENARIOS {
            println!("{:<12} {}", scenario.name, scenario.title);
        }
        return;
    }
    let wanted = SCENARIOS.iter().filter(|scenario| options.wants(scenario));
    let mut rows: Vec<Row> =
        wanted.map(|scenario| Row { scenario, leveret: Vec::new(), rabbitmq: Vec::new() }).collect();
    assert!(!rows.is_empty(), "no such scenario; --list names them");
    let length = Length { warmup: options.warmup, seconds: options.seconds };
    let before = machine::Load::now();
    let mut version = None;
    for round in 0..options.rounds {
        let rabbitmq = if options.has(Broker::Rabbitmq) { Peer::rabbitmq() } else { None };
        version = rabbitmq.as_ref().map(|(_, version)| version.clone());
        for row in &mut rows {
            let Row { scenario, leveret, rabbitmq: of_rabbitmq } = row;
            let mut run_leveret = || {
                if options.has(Broker::Leveret) {
                    leveret.push(Peer::leveret().run(scenario, length));
                }
            };
            if round % 2 == 0 {
                run_leveret();
            }
            if let Some((peer, _)) = &rabbitmq {
                of_rabbitmq.push(peer.run(scenario, length));
            }
            if round % 2 == 1 {
                run_leveret();
            }
            eprintln!("round {}: {}", round + 1, table::short(row));
        }
    }
    print!("{}", table::markdown(&rows));
    println!("\n{}", machine::describe(version.as_deref(), &before, options.rounds, options.seconds));
    if let Some(path) = &options.svg {
        std::fs::write(path, plot::svg(&rows)).expect("the plot can be written");
    }
}
