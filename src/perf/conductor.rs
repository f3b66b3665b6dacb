//! The course of a run: warm-up, measurement, drain, end; a line on stderr each second.
//!
//! The conductor only waits, samples and moves the phase on. It is the one place that listens for Ctrl-C: the first ends the
//! measurement early, the second gives up waiting for what is still on its way.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::ctrl_c;
use tokio::time::timeout;

use super::args::PerfArgs;
use super::error::PerfError;
use super::proc_stat::{CpuTime, Memory, own_cpu_time, tree_usage};
use super::progress::{Counts, Phase, Progress};
use super::report::{Interval, Sample};

const SECOND_NS: u64 = 1_000_000_000;

/// How often conditions are looked at.
const POLL_NS: u64 = 20_000_000;

/// How long nothing may change in the end before the rest is taken for lost. A broker that flushes to a busy disk may well
/// be silent for seconds.
const STALL_NS: u64 = 15 * SECOND_NS;

/// How a run went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ending {
    /// The measurement.
    pub(super) interval: Interval,
    /// The largest values of the broker's memory.
    pub(super) broker_memory: Memory,
    pub(super) was_interrupted: bool,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    TimeIsUp,
    ConditionHolds,
    Failed,
    Interrupted,
}

/// Conducts a run.
pub(super) struct Conductor<'a> {
    args: &'a PerfArgs,
    progress: &'a Progress,
    runtime: Runtime,
    interrupt: Pin<Box<dyn Future<Output = io::Result<()>>>>,
    broker_memory: Memory,
    start_ns: u64,
    next_line_ns: u64,
    last_line: Counts,
}

impl<'a> Conductor<'a> {
    /// Refuses a broker's process that cannot be read.
    pub(super) fn new(args: &'a PerfArgs, progress: &'a Progress) -> Result<Self, PerfError> {
        let broker_memory =
            args.broker_pid.map(tree_usage).transpose()?.map_or(Memory::default(), |(_, memory)| memory);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(PerfError::Io)?;
        Ok(Self {
            args,
            progress,
            runtime,
            interrupt: Box::pin(ctrl_c()),
            broker_memory,
            start_ns: 0,
            next_line_ns: 0,
            last_line: Counts::default(),
        })
    }

    /// Sees a run through, until all threads have ended or should be broken off.
    pub(super) fn conduct(
        &mut self,
        have_publishers_ended: impl Fn() -> bool,
        have_consumers_ended: impl Fn() -> bool,
    ) -> Ending {
        let progress = self.progress;
        self.start_ns = progress.clock.now_ns();
        self.next_line_ns = self.start_ns + SECOND_NS;
        let (interval, woken) = self.measure();

        progress.enter(Phase::Drain);
        let is_consumed = || self.args.publishers == 0 || self.args.consumers == 0 || progress.backlog() == 0;
        let is_drained = || have_publishers_ended() && is_consumed();
        let drained = if woken == Woken::Failed { woken } else { self.wait_while_progressing(is_drained) };

        progress.enter(Phase::Stop);
        if matches!(drained, Woken::ConditionHolds | Woken::TimeIsUp) {
            self.wait_while_progressing(have_consumers_ended);
        }
        Ending { interval, broker_memory: self.broker_memory, was_interrupted: woken == Woken::Interrupted }
    }

    /// Warm-up and measurement. Without publishers they end when all is consumed.
    fn measure(&mut self) -> (Interval, Woken) {
        let progress = self.progress;
        let is_done = || self.args.publishers == 0 && progress.backlog() == 0;
        let measure_from_ns = progress.clock.now_ns() + nanoseconds(self.args.warmup);
        let woken = self.wait(measure_from_ns, is_done);
        progress.begin_measurement();
        let from = self.sample();
        let woken = match woken {
            Woken::TimeIsUp => self.wait(measure_from_ns + nanoseconds(self.args.duration), is_done),
            Woken::ConditionHolds | Woken::Failed | Woken::Interrupted => woken,
        };
        progress.end_measurement();
        (Interval::new(from, self.sample()), woken)
    }

    /// Waits for a condition until nothing has changed for long.
    fn wait_while_progressing(&mut self, is_done: impl Fn() -> bool) -> Woken {
        let progress = self.progress;
        loop {
            let before = progress.counts();
            let until_ns = progress.clock.now_ns() + STALL_NS;
            let woken = self.wait(until_ns, || is_done() || progress.counts() != before);
            if woken != Woken::ConditionHolds || is_done() {
                return woken;
            }
        }
    }

    /// Waits for a time or a condition, and prints a line whenever one is due.
    fn wait(&mut self, until_ns: u64, is_done: impl Fn() -> bool) -> Woken {
        let clock = self.progress.clock;
        loop {
            let now_ns = clock.now_ns();
            if now_ns >= self.next_line_ns {
                self.print_line();
            }
            if self.progress.has_failed() {
                return Woken::Failed;
            }
            if is_done() {
                return Woken::ConditionHolds;
            }
            if now_ns >= until_ns {
                return Woken::TimeIsUp;
            }
            let pause = Duration::from_nanos((until_ns - now_ns).min(POLL_NS));
            let interrupt = self.interrupt.as_mut();
            if self.runtime.block_on(async { timeout(pause, interrupt).await }).is_ok() {
                self.interrupt = Box::pin(ctrl_c());
                return Woken::Interrupted;
            }
        }
    }

    fn sample(&mut self) -> Sample {
        let (at_ns, counts) = (self.progress.clock.now_ns(), self.progress.counts());
        Sample { at_ns, counts, own_cpu: own_cpu_time(), broker_cpu: self.sample_broker() }
    }

    /// The CPU time of the broker's process, unless it has ended; its memory is noted.
    fn sample_broker(&mut self) -> Option<CpuTime> {
        let (cpu, memory) = tree_usage(self.args.broker_pid?).ok()?;
        self.broker_memory = self.broker_memory.max(memory);
        Some(cpu)
    }

    fn print_line(&mut self) {
        self.sample_broker();
        let counts = self.progress.counts();
        let last = std::mem::replace(&mut self.last_line, counts);
        let backlog = self.progress.backlog();
        eprintln!(
            "{:4} s: published {}/s, consumed {}/s, confirmed {}/s, backlog {backlog}",
            self.next_line_ns.saturating_sub(self.start_ns) / SECOND_NS,
            counts.published - last.published,
            counts.consumed - last.consumed,
            counts.confirmed - last.confirmed,
        );
        self.next_line_ns += SECOND_NS;
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}
