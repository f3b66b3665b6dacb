//! What a run found, as text or as JSON.

use std::fmt;

use serde::Serialize;

use super::error::PerfError;
use super::latency::Quantiles;
use super::proc_stat::{CpuTime, Memory};
use super::progress::Counts;

/// What is known at a moment of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) at_ns: u64,
    pub(super) counts: Counts,
    pub(super) own_cpu: CpuTime,
    pub(super) broker_cpu: Option<CpuTime>,
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Host and port.
    pub(super) broker: String,
    /// How long was measured.
    pub(super) seconds: f64,
    pub(super) published_per_second: f64,
    pub(super) consumed_per_second: f64,
    pub(super) confirmed_per_second: f64,
    /// Counts of the whole run, warm-up included.
    pub(super) totals: Totals,
    /// The broker's processes, if they were named.
    pub(super) broker_process: Option<BrokerProcess>,
    /// The load generator itself, in percent of a core.
    pub(super) generator_cpu_percent: f64,
    /// From when a message was due until it was delivered, in µs.
    pub(super) latency_us: Option<Quantiles>,
    /// From when a message was due until it was confirmed, in µs.
    pub(super) confirm_latency_us: Option<Quantiles>,
    /// Whether the run was ended before its time.
    pub(super) interrupted: bool,
    /// What went wrong, in words.
    pub(super) errors: Vec<String>,
}

/// Counts of a whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    pub(super) published: u64,
    pub(super) consumed: u64,
    pub(super) confirmed: u64,
    pub(super) redelivered: u64,
    pub(super) nacked: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) unconfirmed: u64,
}

impl Totals {
    /// Judges the counts of a run. `expected` is the number of deliveries that would be right, if that is known.
    pub(super) fn new(counts: &Counts, expected: Option<u64>, has_confirms: bool) -> Self {
        let settled = counts.confirmed + counts.nacked;
        let consumed_once = counts.consumed.saturating_sub(counts.redelivered);
        let expected = expected.unwrap_or(consumed_once);
        Self {
            published: counts.published,
            consumed: counts.consumed,
            confirmed: counts.confirmed,
            redelivered: counts.redelivered,
            nacked: counts.nacked,
            lost: expected.saturating_sub(consumed_once),
            duplicated: consumed_once.saturating_sub(expected),
            unconfirmed: if has_confirms { counts.published.saturating_sub(settled) } else { 0 },
        }
    }

    /// An error unless everything was consumed once and confirmed.
    pub(super) fn check(&self) -> Result<(), PerfError> {
        let Self { lost, duplicated, unconfirmed, nacked, .. } = *self;
        match (lost, duplicated, unconfirmed, nacked) {
            (0, 0, 0, 0) => Ok(()),
            _ => Err(PerfError::Incomplete { lost, duplicated, unconfirmed, nacked }),
        }
    }
}

/// What the broker's processes cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct BrokerProcess {
    pub(super) cpu_user_seconds: f64,
    pub(super) cpu_system_seconds: f64,
    /// In percent of a core.
    pub(super) cpu_percent: f64,
    pub(super) cpu_us_per_published: Option<CpuPerMessage>,
    pub(super) cpu_us_per_consumed: Option<CpuPerMessage>,
    /// The most that was resident since the broker's start.
    pub(super) rss_high_water_kib: u64,
    /// The most that was resident at a sample of this run, one a second.
    pub(super) rss_peak_kib: u64,
    /// The most of it that belonged to no file.
    pub(super) rss_anonymous_peak_kib: u64,
}

/// CPU time in µs.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct CpuPerMessage {
    pub(super) user: f64,
    pub(super) system: f64,
    pub(super) total: f64,
}

impl CpuPerMessage {
    fn new(cpu: CpuTime, messages: u64) -> Option<Self> {
        (messages != 0).then(|| Self {
            user: ratio(cpu.user_us, messages),
            system: ratio(cpu.system_us, messages),
            total: ratio(cpu.user_us + cpu.system_us, messages),
        })
    }
}

/// What happened between two samples.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Interval {
    from: Sample,
    until: Sample,
}

impl Interval {
    pub(super) fn new(from: Sample, until: Sample) -> Self {
        Self { from, until }
    }

    fn elapsed_us(&self) -> u64 {
        self.until.at_ns.saturating_sub(self.from.at_ns) / 1000
    }

    pub(super) fn seconds(&self) -> f64 {
        ratio(self.elapsed_us(), 1_000_000)
    }

    /// How many of something there were in a second.
    pub(super) fn per_second(&self, count: impl Fn(&Counts) -> u64) -> f64 {
        1e6 * ratio(self.difference(count), self.elapsed_us())
    }

    pub(super) fn generator_cpu_percent(&self) -> f64 {
        self.percent(self.until.own_cpu - self.from.own_cpu)
    }

    /// What the broker cost, if that was sampled. `memory` holds the largest values of each kind.
    pub(super) fn broker_process(&self, memory: Memory) -> Option<BrokerProcess> {
        let cpu = self.until.broker_cpu? - self.from.broker_cpu?;
        Some(BrokerProcess {
            cpu_user_seconds: ratio(cpu.user_us, 1_000_000),
            cpu_system_seconds: ratio(cpu.system_us, 1_000_000),
            cpu_percent: self.percent(cpu),
            cpu_us_per_published: CpuPerMessage::new(cpu, self.difference(|counts| counts.published)),
            cpu_us_per_consumed: CpuPerMessage::new(cpu, self.difference(|counts| counts.consumed)),
            rss_high_water_kib: memory.high_water_kib,
            rss_peak_kib: memory.resident_kib,
            rss_anonymous_peak_kib: memory.anonymous_kib,
        })
    }

    fn difference(&self, count: impl Fn(&Counts) -> u64) -> u64 {
        count(&self.until.counts).saturating_sub(count(&self.from.counts))
    }

    fn percent(&self, cpu: CpuTime) -> f64 {
        100.0 * ratio(cpu.user_us + cpu.system_us, self.elapsed_us())
    }
}

/// The quotient; 0 if there is nothing to divide by.
#[expect(clippy::cast_precision_loss, reason = "a report needs no 53 bits")]
fn ratio(dividend: u64, divisor: u64) -> f64 {
    if divisor == 0 { 0.0 } else { dividend as f64 / divisor as f64 }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interrupted = if self.interrupted { ", interrupted" } else { "" };
        writeln!(f, "broker      {}, measured for {:.3} s{interrupted}", self.broker, self.seconds)?;
        writeln!(f, "published   {:.0}/s", self.published_per_second)?;
        writeln!(f, "consumed    {:.0}/s", self.consumed_per_second)?;
        writeln!(f, "confirmed   {:.0}/s", self.confirmed_per_second)?;
        writeln!(f, "in all      {}", self.totals)?;
        if let Some(process) = &self.broker_process {
            process.fmt(f)?;
        }
        writeln!(f, "generator   {:.0} % of a core", self.generator_cpu_percent)?;
        for (name, quantiles) in [("latency", &self.latency_us), ("confirms", &self.confirm_latency_us)] {
            if let Some(quantiles) = quantiles {
                writeln!(f, "{name:<11} {quantiles}")?;
            }
        }
        self.errors.iter().try_for_each(|error| writeln!(f, "error       {error}"))
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, consumed, confirmed, redelivered, nacked, lost, duplicated, unconfirmed } = self;
        write!(f, "{published} published, {consumed} consumed, {confirmed} confirmed; ")?;
        write!(f, "{redelivered} redelivered, {nacked} nacked, ")?;
        write!(f, "{lost} lost, {duplicated} duplicated, {unconfirmed} unconfirmed")
    }
}

impl fmt::Display for BrokerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, system) = (self.cpu_user_seconds, self.cpu_system_seconds);
        writeln!(f, "broker CPU  {:.0} % of a core (user {user:.2} s, system {system:.2} s)", self.cpu_percent)?;
        for (kind, cpu) in [("published", self.cpu_us_per_published), ("consumed", self.cpu_us_per_consumed)] {
            if let Some(CpuPerMessage { user, system, total }) = cpu {
                writeln!(f, "            {total:.3} µs a message {kind} (user {user:.3}, system {system:.3})")?;
            }
        }
        writeln!(
            f,
            "broker RSS  peak {:.1} MiB, {:.1} MiB anonymous ({:.1} MiB since its start)",
            ratio(self.rss_peak_kib, 1024),
            ratio(self.rss_anonymous_peak_kib, 1024),
            ratio(self.rss_high_water_kib, 1024)
        )
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, p50, p90, p99, p999, max } = self;
        write!(f, "p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max} µs ({count} messages)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval() -> Interval {
        let counts = |count| Counts { published: count, consumed: 2 * count, ..Counts::default() };
        let cpu = |us| CpuTime { user_us: 3 * us, system_us: us };
        let sample =
            |at_ns, count, us| Sample { at_ns, counts: counts(count), own_cpu: cpu(us / 2), broker_cpu: Some(cpu(us)) };
        Interval::new(sample(1_000_000_000, 500, 1_000_000), sample(3_000_000_000, 2_500, 1_500_000))
    }

    fn report(interval: &Interval) -> Report {
        let counts = Counts { published: 3000, confirmed: 2999, consumed: 6001, redelivered: 2, nacked: 0 };
        let totals = Totals::new(&counts, Some(6000), true);
        Report {
            broker: String::from("localhost:5672"),
            seconds: interval.seconds(),
            published_per_second: interval.per_second(|counts| counts.published),
            consumed_per_second: interval.per_second(|counts| counts.consumed),
            confirmed_per_second: interval.per_second(|counts| counts.confirmed),
            totals,
            broker_process: interval.broker_process(Memory {
                high_water_kib: 4096,
                resident_kib: 2048,
                anonymous_kib: 1024,
            }),
            generator_cpu_percent: interval.generator_cpu_percent(),
            latency_us: Some(Quantiles { count: 9, p50: 1, p90: 2, p99: 3, p999: 4, max: 5 }),
            confirm_latency_us: None,
            interrupted: false,
            errors: totals.check().err().iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn json_holds_rates_and_costs() {
        let json = serde_json::to_value(report(&interval())).expect("the report can be written");
        let check = |path: &str, expected: serde_json::Value| assert_eq!(json.pointer(path), Some(&expected), "{path}");
        check("/seconds", 2.0.into());
        check("/published_per_second", 1000.0.into());
        check("/consumed_per_second", 2000.0.into());
        check("/broker_process/cpu_percent", 100.0.into());
        check("/broker_process/cpu_us_per_published/total", 1000.0.into());
        check("/broker_process/cpu_us_per_consumed/system", 125.0.into());
        check("/generator_cpu_percent", 50.0.into());
        check("/latency_us/p999", 4.into());
        check("/confirm_latency_us", serde_json::Value::Null);
        check("/totals/lost", 1.into());
        check("/errors/0", "messages: 1 lost, 0 duplicated, 1 unconfirmed, 0 nacked".into());
    }

    #[test]
    fn text_names_what_it_shows() {
        let text = report(&interval()).to_string();
        for part in [
            "measured for 2.000 s\n",
            "published   1000/s\n",
            "1000.000 µs a message published (user 750.000, system 250.000)",
            "peak 2.0 MiB, 1.0 MiB anonymous (4.0 MiB since its start)",
            "latency     p50 1, p90 2, p99 3, p99.9 4, max 5 µs (9 messages)\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn an_empty_interval_has_no_rates() {
        let interval = Interval::new(Sample::default(), Sample::default());
        assert!(interval.per_second(|counts| counts.published).abs() < f64::EPSILON);
        assert!(interval.broker_process(Memory::default()).is_none());
    }

    #[test]
    fn losses_and_duplicates_are_told_apart_from_redeliveries() {
        let check = |consumed, redelivered, lost, duplicated| {
            let counts = Counts { published: 10, consumed, redelivered, ..Counts::default() };
            let totals = Totals::new(&counts, Some(10), false);
            assert_eq!((totals.lost, totals.duplicated, totals.unconfirmed), (lost, duplicated, 0));
            assert_eq!(totals.check().is_ok(), lost + duplicated == 0);
        };
        check(10, 0, 0, 0);
        check(13, 3, 0, 0);
        check(10, 3, 3, 0);
        check(12, 0, 0, 2);
    }
}
