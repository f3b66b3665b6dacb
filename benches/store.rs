//! What the store costs: `cargo bench --bench store`. Prints a table and asserts nothing.
//!
//! One channel hands over persistent messages, a turn of some at a time, spread over queues, and waits for confirms so that
//! at most 4,000 messages (or 64 MiB) are outstanding. In the mode *flow* each message is settled some turns later, as by a
//! consumer that keeps up; in *fill* nothing is. Columns: messages and MiB of bodies a second; groups written (each one
//! fsync) a second, and confirms for each; CPU of the store's threads for a message, and its parts: `journal` encodes,
//! writes and syncs the journal, `database` writes checkpoints to redb; the share of time in which the journal's thread
//! waited (for the disk, or for work); the time from handing a turn over to its confirm. `of disk` compares MiB a second
//! with plain writes and fdatasync of the same number of octets a group: into a file that grows, as `dd oflag=dsync` writes
//! it, and into one that exists.
//!
//! The directory is made in the system's place for temporary files; set `TMPDIR` to measure another disk. Arguments pick
//! rows: a mode, a number of queues, a size, such as `flow 1 1024`; `-` stands for any.
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a benchmark needs a clock and prints rates"
)]

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use leveret::engine::message::{Arena, ArenaBuilder, Body, MessageParts, Timestamp};
use leveret::engine::queue::{Kept, QueueId, Settled};
use leveret::engine::vhost::{Change, QueueRecord};
use leveret::perf::proc_stat::own_threads_cpu_time;
use leveret::store::disk::DiskStore;
use leveret::store::{LaneKey, Op, Store, Ticket, Transaction, Waiter};
use leveret_protocol::{FieldTable, ShortString};

const QUEUES: [u64; 4] = [1, 10, 100, 1000];
const SIZES: [usize; 4] = [16, 1024, 16 * 1024, 1024 * 1024];
/// Messages, and octets, that wait for their confirm at most.
const OUTSTANDING: u64 = 4000;
const OUTSTANDING_BYTES: u64 = 64 * 1024 * 1024;
/// Messages of one turn.
const TURN: u64 = 100;
const TURN_BYTES: u64 = 64 * 1024;
/// Turns that lie between a publish and its settlement.
const BEHIND: usize = 20;
/// The longest time that the histogram tells apart.
const LATENCY_MAX_US: u64 = 60_000_000;
const MEASURED: Duration = Duration::from_secs(3);
/// The most that one row writes.
const WRITTEN_MAX: u64 = 2 << 30;

#[derive(Debug)]
struct Signal(Sender<()>);

impl Waiter for Signal {
    fn wake(&self) {
        // Nobody waits any more when the row is done.
        let _ = self.0.send(());
    }
}

/// A turn that was handed over.
struct Turn {
    ticket: Ticket,
    at: Instant,
    messages: u64,
}

struct Row {
    store: DiskStore,
    signal: Arc<Signal>,
    committed: Receiver<()>,
    groups: u64,
    latency: Histogram<u64>,
    outstanding: VecDeque<Turn>,
    unconfirmed: u64,
}

impl Row {
    /// Waits for the next group, and counts what it confirms.
    fn wait(&mut self) {
        self.committed.recv().expect("the store answers");
        self.groups += 1;
        let durable = self.store.durable();
        while self.outstanding.front().is_some_and(|turn| turn.ticket <= durable) {
            let Some(turn) = self.outstanding.pop_front() else { break };
            self.unconfirmed -= turn.messages;
            let micros = u64::try_from(turn.at.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.latency.saturating_record(micros);
        }
    }

    fn submit(&mut self, ops: Vec<Op>, messages: u64) {
        let at = Instant::now();
        let ticket = self.store.submit(Transaction { ops, waiter: Some(self.signal.clone()) });
        self.outstanding.push_back(Turn { ticket, at, messages });
        self.unconfirmed += messages;
    }
}

fn declare(number: u64) -> Op {
    let record = QueueRecord {
        id: QueueId::new(number),
        name: ShortString::truncated(&format!("q{number}")),
        durable: true,
        auto_delete: false,
        exclusive_owner: None,
        arguments: FieldTable::new(),
        delays: false,
    };
    Op::Define { vhost: ShortString::from_static("/"), change: Change::QueueAdded(record) }
}

fn arena(count: u64, body: &[u8]) -> Arc<Arena> {
    let mut builder = ArenaBuilder::new();
    for _ in 0..count {
        builder.push(&MessageParts {
            exchange: b"",
            routing_key: b"orders",
            properties: &[0x10, 0, 2],
            body: Body::Borrowed(body),
            persistent: true,
            priority: 0,
            expiration_ms: None,
            broker_deaths: false,
            enqueued_at: Timestamp::from_millis(1),
        });
    }
    builder.finish()
}

/// CPU seconds of this process's threads whose name begins so.
fn thread_seconds(name: &str) -> f64 {
    own_threads_cpu_time(name).total_us() as f64 / 1e6
}

/// MiB a second of plain writes of so many octets, each with fdatasync: into a file that grows, and into one that exists.
fn disk_rates(dir: &Path, octets: usize) -> [f64; 2] {
    let file = File::create_new(dir.join("plain")).expect("created");
    let block = vec![1; octets.max(1)];
    let mut slots = u64::MAX;
    [(); 2].map(|()| {
        let (start, mut rounds) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(500) || rounds < 8 {
            file.write_all_at(&block, rounds % slots * octets as u64).expect("written");
            file.sync_data().expect("synced");
            rounds += 1;
        }
        slots = rounds;
        (rounds * octets as u64) as f64 / 1_048_576.0 / start.elapsed().as_secs_f64()
    })
}

fn measure(mode: &str, queues: u64, size: usize) {
    let dir = tempfile::tempdir().expect("directory");
    let (store, _) = DiskStore::open(dir.path(), 1, || panic!("a write failed")).expect("opens");
    let (sender, committed) = channel();
    let latency = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("valid bounds");
    let signal = Arc::new(Signal(sender));
    let mut row = Row { store, signal, committed, groups: 0, latency, outstanding: VecDeque::new(), unconfirmed: 0 };
    row.submit((1..=queues).map(declare).collect(), 0);
    row.wait();
    let body = vec![7; size];
    let each = TURN.min(TURN_BYTES / size as u64).max(1);
    let messages = arena(each, &body);
    let limit = OUTSTANDING.min(OUTSTANDING_BYTES / size as u64);
    let mut next = vec![0; usize::try_from(queues).expect("few")];
    let mut settle: VecDeque<(LaneKey, u64)> = VecDeque::new();
    let before = ["store-journal", "store-writer"].map(thread_seconds);
    let (start, mut published, mut turns) = (Instant::now(), 0, 0);
    row.groups = 0;
    row.latency.reset();
    while start.elapsed() < MEASURED && published * (size as u64) < WRITTEN_MAX {
        while row.unconfirmed + each > limit && row.unconfirmed > 0 {
            row.wait();
        }
        let number = turns % queues;
        let lane = LaneKey::new(QueueId::new(number + 1), 0);
        let seq = &mut next[usize::try_from(number).expect("few")];
        // As from a connection: an arena of its own for each turn.
        let (arena, index) = (arena_like(&messages, &body, each), 0);
        let mut ops =
            vec![Op::Append { lane, first_seq: *seq, arena, index, count: u32::try_from(each).expect("few") }];
        if mode == "flow" {
            settle.push_back((lane, *seq));
            if let Some((lane, first_seq)) = (settle.len() > BEHIND).then(|| settle.pop_front()).flatten() {
                let (last_seq, count) = (first_seq + each - 1, each);
                let settled =
                    Settled { first_seq, last_seq, count, body_bytes: each * size as u64, kept: Kept::Durable };
                ops.push(Op::Settled { lane, settled });
            }
        }
        *seq += each;
        published += each;
        turns += 1;
        row.submit(ops, each);
    }
    while row.unconfirmed > 0 {
        row.wait();
    }
    let wall = start.elapsed().as_secs_f64();
    let after = ["store-journal", "store-writer"].map(thread_seconds);
    let [journal, database] = [0, 1].map(|at| after[at] - before[at]);
    let mib = published as f64 * size as f64 / 1_048_576.0 / wall;
    let group_bytes = usize::try_from(published * (size as u64 + 50) / row.groups.max(1)).unwrap_or(usize::MAX);
    let disk = disk_rates(dir.path(), group_bytes).map(|rate| mib / rate * 100.0);
    let micros = |seconds: f64| seconds * 1e6 / published as f64;
    println!(
        "{mode:5} {queues:6} {size:8} | {:9.0} {mib:8.1} | {:8.0} {:9.1} | {:7.2} {:8.2} {:9.2} | {:5.0} % | {:6} {:6} | {:4.0} %  {:4.0} %",
        published as f64 / wall,
        row.groups as f64 / wall,
        published as f64 / row.groups as f64,
        micros(journal + database),
        micros(journal),
        micros(database),
        (1.0 - journal / wall).max(0.0) * 100.0,
        row.latency.value_at_quantile(0.5),
        row.latency.value_at_quantile(0.99),
        disk[0],
        disk[1],
    );
    row.store.close();
}

/// A new arena with the same messages; a large body is not copied, as it is not by a connection.
fn arena_like(messages: &Arc<Arena>, body: &[u8], each: u64) -> Arc<Arena> {
    if body.len() >= 64 * 1024 { messages.message(0).apart() } else { arena(each, body) }
}

fn main() {
    // `cargo bench` passes flags of its own.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |at: usize, value: &str| wanted.get(at).is_none_or(|wanted| wanted == "-" || wanted == value);
    println!(
        "mode  queues    bytes |  messages    MiB/s | groups/s  confirms |  CPU µs  journal  database | waits  | p50 µs p99 µs | of disk: grows, exists"
    );
    for mode in ["fill", "flow"] {
        for size in SIZES {
            for queues in QUEUES {
                let row = [mode, &queues.to_string(), &size.to_string()];
                if (0..).zip(row).all(|(at, value)| is_wanted(at, value)) {
                    measure(mode, queues, size);
                }
            }
        }
    }
}
