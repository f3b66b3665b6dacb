//! Command line options, and what must hold between them.

use std::fmt;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::error::PerfError;

/// Options of the load generator.
#[derive(Args, Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub struct PerfArgs {
    /// Broker, credentials and vhost.
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f")]
    pub url: String,

    /// Publishers, each with a connection of its own; 0 consumes what the queues hold.
    #[arg(long, default_value_t = 1)]
    pub publishers: u32,

    /// Consumers, each with a connection of its own; 0 fills the queues.
    #[arg(long, default_value_t = 1)]
    pub consumers: u32,

    /// Queues; publisher and consumer number i use queue number i modulo this.
    #[arg(long, default_value_t = 1)]
    pub queues: u32,

    /// Name of the queues before their number [default: leveret-perf-, and the process id unless the queues are kept or
    /// hold what is to be consumed].
    #[arg(long)]
    pub queue_prefix: Option<String>,

    /// Publish to this exchange instead of the default one; declared unless its name begins with `amq.`.
    #[arg(long)]
    pub exchange: Option<String>,

    /// Type of the exchange.
    #[arg(long, value_enum, default_value_t = ExchangeKind::Direct, requires = "exchange")]
    pub exchange_type: ExchangeKind,

    /// Bindings of a topic exchange: a third literal, a third `*`, a third `#`; each message matches exactly one.
    #[arg(long, default_value_t = 1000)]
    pub topic_bindings: u32,

    /// Octets of a message body; from 8 on it carries the time for the end-to-end latency.
    #[arg(long, default_value_t = 16)]
    pub size: usize,

    /// Persistent messages in durable queues.
    #[arg(long)]
    pub persistent: bool,

    /// Publisher confirms, with at most this many outstanding for each publisher; 0 is off.
    #[arg(long, default_value_t = 0, value_name = "WINDOW")]
    pub confirm: u32,

    /// Prefetch of each consumer; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    pub prefetch: u16,

    /// Acknowledge every Nth delivery with `multiple`; 1 acknowledges each by itself.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub multiple_ack: u16,

    /// Consume without acknowledgements.
    #[arg(long, conflicts_with_all = ["prefetch", "multiple_ack"])]
    pub auto_ack: bool,

    /// Messages a second of all publishers together, published on schedule; 0 is as fast as possible.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,

    /// Without rate and confirms, publishers pause while more than this many messages wait to be consumed.
    #[arg(long, default_value_t = 100_000)]
    pub max_backlog: u64,

    /// Octets to gather before a write to a socket; 1 writes every message (or ack) by itself.
    #[arg(long, default_value_t = 65_536)]
    pub write_bytes: usize,

    /// Seconds to measure.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub duration: Duration,

    /// Seconds of load before the measurement.
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub warmup: Duration,

    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,

    /// Process of the broker; the report then says what it and its children cost.
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,

    /// Leave queues and exchange, with what they hold.
    #[arg(long)]
    pub keep_queues: bool,
}

/// Type of the exchange to publish to.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeKind {
    /// Every queue is bound and gets each message.
    Fanout,
    /// As `--topic-bindings` says.
    Topic,
    /// Each queue is bound by its name.
    Direct,
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Direct => "direct",
        })
    }
}

impl PerfArgs {
    /// Refuses options that contradict each other.
    pub(super) fn check(&self) -> Result<(), PerfError> {
        let faults = [
            (self.publishers == 0 && self.consumers == 0, "neither publishers nor consumers"),
            (self.queues == 0, "--queues must be at least 1"),
            (self.consumers != 0 && self.consumers < self.queues, "--consumers must be 0 or at least --queues"),
            (self.multiple_ack == 0, "--multiple-ack must be at least 1"),
            (
                self.prefetch != 0 && self.multiple_ack > self.prefetch,
                "--multiple-ack above --prefetch would never acknowledge",
            ),
            (self.topic_bindings == 0, "--topic-bindings must be at least 1"),
            (self.write_bytes == 0, "--write-bytes must be at least 1"),
            (self.duration.is_zero(), "--duration must not be 0"),
            (self.max_backlog == 0, "--max-backlog must be at least 1"),
        ];
        match faults.into_iter().find(|&(is_fault, _)| is_fault) {
            Some((_, text)) => Err(PerfError::BadArguments(text.to_owned())),
            None => Ok(()),
        }
    }

    /// Name of the queues before their number.
    ///
    /// By default each run has queues of its own: what a broken-off run has published may still arrive in a queue of the same
    /// name, and would count as duplicated.
    pub(super) fn queue_prefix(&self) -> String {
        match &self.queue_prefix {
            Some(prefix) => prefix.clone(),
            None if self.keep_queues || self.publishers == 0 => String::from("leveret-perf-"),
            None => format!("leveret-perf-{}-", std::process::id()),
        }
    }

    /// How many consumed copies each published message becomes.
    pub(super) fn copies(&self) -> u64 {
        match (self.consumers, &self.exchange, self.exchange_type) {
            (0, ..) => 0,
            (_, Some(_), ExchangeKind::Fanout) => u64::from(self.queues),
            (_, Some(_), ExchangeKind::Topic | ExchangeKind::Direct) | (_, None, _) => 1,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: PerfArgs,
    }

    /// The options of a command line.
    pub(in crate::perf) fn parse(line: &str) -> PerfArgs {
        Cli::try_parse_from(std::iter::once("perf").chain(line.split_whitespace())).expect("the line is valid").args
    }

    #[test]
    fn defaults_are_consistent() {
        assert!(parse("").check().is_ok());
        assert_eq!(parse("--duration 0.5").duration, Duration::from_millis(500));
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "--publishers 0 --consumers 0",
            "--queues 0",
            "--queues 3 --consumers 2",
            "--prefetch 10 --multiple-ack 11",
            "--duration 0",
            "--write-bytes 0",
        ] {
            assert!(parse(line).check().is_err(), "{line}");
        }
    }

    #[test]
    fn runs_share_queues_only_on_purpose() {
        assert_eq!(parse("--queue-prefix q").queue_prefix(), "q");
        assert_eq!(parse("--consumers 0 --keep-queues").queue_prefix(), parse("--publishers 0").queue_prefix());
        assert!(parse("").queue_prefix().contains(&std::process::id().to_string()));
    }

    #[test]
    fn only_a_fanout_multiplies() {
        assert_eq!(parse("--queues 5 --consumers 5").copies(), 1);
        assert_eq!(parse("--queues 5 --consumers 5 --exchange e --exchange-type fanout").copies(), 5);
        assert_eq!(parse("--queues 5 --consumers 0 --exchange e --exchange-type fanout").copies(), 0);
        assert_eq!(parse("--queues 5 --consumers 5 --exchange e --exchange-type topic").copies(), 1);
    }
}
