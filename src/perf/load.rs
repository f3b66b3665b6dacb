//! The threads of a run: connected, started, joined, and their findings put together.

use std::net::{Shutdown, TcpStream};
use std::panic::resume_unwind;
use std::thread::{self, Scope, ScopedJoinHandle};

use leveret_protocol::{Method, confirm};

use super::args::PerfArgs;
use super::client::Client;
use super::clock::Clock;
use super::conductor::{Conductor, Ending};
use super::consumer::{Acks, Consumer};
use super::error::PerfError;
use super::latency::Latencies;
use super::messages::{MessageKind, Messages, TIMESTAMP_BYTES};
use super::progress::{Phase, Progress};
use super::publisher::{Bound, Publisher};
use super::report::{Report, Totals};
use super::schedule::Schedule;
use super::topology;
use super::url::Url;

/// Enough for threads that do not recurse; there may be thousands of them.
const STACK_BYTES: usize = 256 * 1024;

type Thread<'scope> = ScopedJoinHandle<'scope, Result<Latencies, PerfError>>;

/// Runs the load. Besides the report there is its verdict: the first error, if there was one.
pub(super) fn run(args: &PerfArgs, url: &Url, held: u64) -> Result<(Report, Result<(), PerfError>), PerfError> {
    let progress = Progress::new(Clock::start(), held, args.copies());
    let mut conductor = Conductor::new(args, &progress)?;
    let connections = Connections::open(args, url)?;
    let streams = connections.streams()?;
    let (ending, published, consumed) = thread::scope(|scope| {
        let threads = connections.start(args, &progress, scope);
        let ending = match &threads {
            Ok((publishers, consumers)) => conductor.conduct(
                || publishers.iter().all(ScopedJoinHandle::is_finished),
                || consumers.iter().all(ScopedJoinHandle::is_finished),
            ),
            Err(_) => Ending::default(),
        };
        // Whoever has not ended yet will not do so by itself.
        progress.enter(Phase::Abort);
        streams.iter().for_each(abort);
        threads.map(|(publishers, consumers)| (ending, join(publishers), join(consumers)))
    })?;

    let (confirm_latencies, mut errors) = published;
    let (latencies, consumer_errors) = consumed;
    errors.extend(consumer_errors);
    let counts = progress.counts();
    let expected = (args.publishers != 0 && args.consumers != 0).then(|| progress.expected(&counts));
    let totals = Totals::new(&counts, expected, args.confirm != 0);
    errors.extend(totals.check().err());
    // Connections that were broken off come last: others know why.
    errors.sort_by_key(|error| matches!(error, PerfError::Aborted));
    let interval = ending.interval;
    let report = Report {
        broker: url.to_string(),
        seconds: interval.seconds(),
        published_per_second: interval.per_second(|counts| counts.published),
        consumed_per_second: interval.per_second(|counts| counts.consumed),
        confirmed_per_second: interval.per_second(|counts| counts.confirmed),
        totals,
        broker_process: interval.broker_process(ending.broker_memory),
        generator_cpu_percent: interval.generator_cpu_percent(),
        latency_us: latencies.quantiles(),
        confirm_latency_us: confirm_latencies.quantiles(),
        interrupted: ending.was_interrupted,
        errors: distinct_texts(&errors),
    };
    Ok((report, errors.into_iter().next().map_or(Ok(()), Err)))
}

fn abort(stream: &TcpStream) {
    // A socket that is closed already is what is wanted.
    let _ = stream.shutdown(Shutdown::Both);
}

/// The texts in order of their first appearance: often all connections fail alike.
fn distinct_texts(errors: &[PerfError]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for text in errors.iter().map(ToString::to_string) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

/// Waits for threads to end.
fn join(threads: Vec<Thread<'_>>) -> (Latencies, Vec<PerfError>) {
    let (mut latencies, mut errors) = (Latencies::new(), Vec::new());
    for thread in threads {
        match thread.join() {
            Ok(Ok(found)) => latencies.merge(&found),
            Ok(Err(error)) => errors.push(error),
            Err(panic) => resume_unwind(panic),
        }
    }
    (latencies, errors)
}

/// Connections that are ready to publish and to consume.
struct Connections {
    publishers: Vec<Client>,
    consumers: Vec<Client>,
}

impl Connections {
    fn open(args: &PerfArgs, url: &Url) -> Result<Self, PerfError> {
        let publisher = |number| {
            let mut client = Client::connect(url, &format!("leveret perf: publisher {number}"))?;
            if args.confirm != 0 {
                client.call_for(confirm::Select::default(), |reply| matches!(reply, Method::ConfirmSelectOk(_)))?;
            }
            Ok(client)
        };
        let consumer = |number| {
            let mut client = Client::connect(url, &format!("leveret perf: consumer {number}"))?;
            topology::consume(args, &mut client, number)?;
            Ok(client)
        };
        Ok(Self {
            publishers: (0..args.publishers).map(publisher).collect::<Result<_, PerfError>>()?,
            consumers: (0..args.consumers).map(consumer).collect::<Result<_, PerfError>>()?,
        })
    }

    /// Handles to break the connections off with.
    fn streams(&self) -> Result<Vec<TcpStream>, PerfError> {
        self.publishers.iter().chain(&self.consumers).map(Client::stream).collect()
    }

    /// Starts a thread for each connection: publishers and consumers.
    fn start<'scope>(
        self,
        args: &PerfArgs,
        progress: &'scope Progress,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<(Vec<Thread<'scope>>, Vec<Thread<'scope>>), PerfError> {
        let consumer = |client| {
            let acks = if args.auto_ack { Acks::never() } else { Acks::every(args.multiple_ack) };
            let has_timestamps = args.publishers != 0 && args.size >= TIMESTAMP_BYTES;
            let consumer = Consumer { client, acks, has_timestamps, write_bytes: args.write_bytes, progress };
            start(scope, "consumer", progress, move || consumer.run())
        };
        let start_ns = progress.clock.now_ns();
        let publisher = |(number, client): (u32, Client)| {
            let kind = MessageKind::new(args, topology::routing_keys(args, number)?, client.frame_max_bytes())?;
            let first_routing_key = usize::try_from(number).unwrap_or(0);
            let publisher = Publisher {
                client,
                messages: Messages::new(&kind, args.write_bytes, first_routing_key),
                bound: Bound::new(args),
                schedule: Schedule::new(args, number, start_ns),
                progress,
            };
            start(scope, "publisher", progress, move || publisher.run())
        };
        let consumers = self.consumers.into_iter().map(consumer).collect::<Result<_, PerfError>>()?;
        let publishers = (0..).zip(self.publishers).map(publisher).collect::<Result<_, PerfError>>()?;
        Ok((publishers, consumers))
    }
}

/// Starts a thread, which tells the others if it fails.
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    progress: &'scope Progress,
    body: impl FnOnce() -> Result<Latencies, PerfError> + Send + 'scope,
) -> Result<Thread<'scope>, PerfError> {
    let body = move || {
        body().map_err(|error| {
            progress.fail();
            if progress.has_reached(Phase::Abort) { PerfError::Aborted } else { error }
        })
    };
    let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    builder.spawn_scoped(scope, body).map_err(PerfError::Io)
}
