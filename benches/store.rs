//! What the store costs, commit by commit: `cargo bench --bench store`. Prints numbers and asserts nothing.
//!
//! One writer hands over batches and waits for each: messages a commit, body size and queues vary. The directory is made
//! in the system's place for temporary files; set `TMPDIR` to measure another disk.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use divan::Bencher;
use divan::counter::ItemsCount;
use leveret::engine::message::{Arena, ArenaBuilder, Body, MessageParts, Timestamp};
use leveret::engine::queue::{Kept, QueueId, Settled};
use leveret::engine::vhost::{Change, QueueRecord};
use leveret::store::disk::DiskStore;
use leveret::store::{LaneKey, Op, Store, Transaction, Waiter};
use leveret_protocol::{FieldTable, ShortString};

fn main() {
    divan::main();
}

#[derive(Debug)]
struct Signal(Sender<()>);

impl Waiter for Signal {
    fn wake(&self) {
        // Nobody waits any more when the benchmark is over.
        let _ = self.0.send(());
    }
}

struct Bench {
    store: DiskStore,
    signal: Arc<Signal>,
    committed: Receiver<()>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(queues: u64) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let (store, _) = DiskStore::open(dir.path(), 1, || panic!("a commit failed")).expect("opens");
        let (sender, committed) = channel();
        let bench = Self { store, signal: Arc::new(Signal(sender)), committed, _dir: dir };
        bench.commit((1..=queues).map(declare).collect());
        bench
    }

    fn commit(&self, ops: Vec<Op>) {
        self.store.submit(Transaction { ops, waiter: Some(self.signal.clone()) });
        self.committed.recv().expect("the store answers");
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

fn arena(count: u32, size: usize) -> Arc<Arena> {
    let body = vec![7; size];
    let mut builder = ArenaBuilder::new();
    for _ in 0..count {
        builder.push(&MessageParts {
            exchange: b"",
            routing_key: b"orders",
            properties: &[0x10, 0, 2],
            body: Body::Borrowed(&body),
            persistent: true,
            priority: 0,
            expiration_ms: None,
            broker_deaths: false,
            enqueued_at: Timestamp::from_millis(1),
        });
    }
    builder.finish()
}

/// Messages a commit, octets a body, queues they are spread over.
const LOADS: [(u32, usize, u64); 6] =
    [(1, 16, 1), (1000, 16, 1), (100, 1024, 1), (1000, 1024, 1), (1000, 1024, 100), (16, 16_384, 1)];

/// Written in one commit, settled in the next: what a queue with a slow consumer costs.
#[divan::bench(args = LOADS, max_time = 3)]
fn append_then_settle(bencher: Bencher<'_, '_>, (messages, size, queues): (u32, usize, u64)) {
    let bench = Bench::new(queues);
    let each = messages / u32::try_from(queues).expect("few");
    let messages = arena(each, size);
    let body_bytes = messages.body_bytes();
    let mut next = 0;
    bencher.counter(ItemsCount::new(u64::from(each) * queues)).bench_local(|| {
        let count = u64::from(each);
        let mut ops = Vec::new();
        for number in 1..=queues {
            let lane = LaneKey::new(QueueId::new(number), 0);
            ops.push(Op::Append { lane, first_seq: next, arena: messages.clone(), index: 0, count: each });
            if next > 0 {
                let (first_seq, last_seq) = (next - count, next - 1);
                ops.push(Op::Settled {
                    lane,
                    settled: Settled { first_seq, last_seq, count, body_bytes, kept: Kept::Durable },
                });
            }
        }
        next += count;
        bench.commit(ops);
    });
}
