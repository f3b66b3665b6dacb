//! What tests of the store share: a queue and a stream, what is done to them, and what is found in them.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use leveret_protocol::{FieldTable, FieldValue, ShortString};
use parking_lot::Mutex;
use redb::{Database, ReadableTable, TableDefinition};

use super::disk::{DiskStore, FILE_NAME};
use super::{LaneKey, LoadReply, LoadRequest, LogSink, LogUpdate, Op, Recovered, Store, Ticket, Transaction};
use crate::engine::message::{Arena, ArenaBuilder, Body, MessageParts, Timestamp};
use crate::engine::queue::{Kept, QueueId, Settled};
use crate::engine::vhost::{Change, QueueRecord};

/// A message whose body begins with a number.
pub(super) fn arena(first: u32, count: u32, size: usize) -> Arc<Arena> {
    let mut builder = ArenaBuilder::new();
    for number in first..first + count {
        let mut body = number.to_be_bytes().to_vec();
        body.resize(size.max(4), 7);
        builder.push(&MessageParts {
            exchange: b"",
            routing_key: b"q",
            properties: &[0x10, 0, 2],
            body: Body::Shared(body.into()),
            persistent: true,
            priority: 0,
            expiration_ms: None,
            broker_deaths: false,
            enqueued_at: Timestamp::from_millis(1),
        });
    }
    builder.finish()
}

/// The first lane of a queue.
pub(super) const fn lane(queue: u64) -> LaneKey {
    LaneKey::new(QueueId::new(queue), 0)
}

pub(super) fn declare(queue: u64, kind: &'static str) -> Op {
    let kind = FieldValue::LongString(ShortString::from_static(kind).into());
    let record = QueueRecord {
        id: QueueId::new(queue),
        name: ShortString::truncated(&format!("q{queue}")),
        durable: true,
        auto_delete: false,
        exclusive_owner: None,
        arguments: FieldTable::from_iter([(ShortString::from_static("x-queue-type"), kind)]),
        delays: false,
    };
    Op::Define { vhost: ShortString::from_static("/"), change: Change::QueueAdded(record) }
}

/// Messages numbered as their sequence numbers.
pub(super) fn append(queue: u64, first_seq: u64, count: u32, size: usize) -> Op {
    let first = u32::try_from(first_seq).expect("small");
    Op::Append { lane: lane(queue), first_seq, arena: arena(first, count, size), index: 0, count }
}

pub(super) fn settle(queue: u64, first_seq: u64, last_seq: u64, size: u64) -> Op {
    let count = last_seq - first_seq + 1;
    let settled = Settled { first_seq, last_seq, count, body_bytes: count * size, kept: Kept::Durable };
    Op::Settled { lane: lane(queue), settled }
}

/// A stream that listens.
#[derive(Debug, Default)]
pub(super) struct Told(pub(super) Mutex<Vec<LogUpdate>>);

impl LogSink for Told {
    fn committed(&self, update: LogUpdate) {
        self.0.lock().push(update);
    }
}

/// Messages for a stream.
pub(super) fn log(queue: u64, first: u32, count: u32, size: usize) -> Op {
    let (arena, sink) = (arena(first, count, size), Arc::new(Told::default()));
    Op::Log { lane: lane(queue), arena, index: 0, count, block_bytes: 100_000, sink }
}

pub(super) fn open(dir: &Path) -> (DiskStore, Recovered) {
    DiskStore::open(dir, 1, || panic!("no commit fails here")).expect("opens")
}

/// Hands operations over and waits until they are durable, and in the database.
pub(super) fn submit(store: &DiskStore, ops: Vec<Op>) {
    let ticket = store.submit(Transaction { ops, waiter: None });
    wait(store, ticket);
    assert!(store.checkpoint());
}

pub(super) fn wait(store: &DiskStore, ticket: Ticket) {
    while store.durable() < ticket {
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// One answer of the reader.
pub(super) fn load(store: &DiskStore, lane: LaneKey, from_seq: u64) -> LoadReply {
    let (sender, receiver) = mpsc::channel();
    let reply = Box::new(move |reply| sender.send(reply).expect("somebody waits"));
    store.load(LoadRequest { lane, from_seq, max_bytes: 100_000, latest: false, window: None, reply });
    receiver.recv().expect("answered")
}

/// The sequence numbers of an answer; every body has its own.
pub(super) fn numbers(reply: &LoadReply) -> Vec<u64> {
    let mut found = Vec::new();
    for part in &reply.loaded {
        for nth in 0..part.count {
            let seq = part.first_seq + u64::from(nth);
            let body = part.arena.message(part.index + nth).body();
            assert_eq!(u64::from(u32::from_be_bytes(body[..4].try_into().expect("four octets"))), seq);
            found.push(seq);
        }
    }
    found
}

/// The numbers of everything that is live in a lane.
pub(super) fn stored(store: &DiskStore, lane: LaneKey) -> Vec<u64> {
    let (mut found, mut from_seq) = (Vec::new(), 0);
    while from_seq < u64::MAX {
        let reply = load(store, lane, from_seq);
        found.extend(numbers(&reply));
        from_seq = reply.complete_below;
    }
    found
}

/// Changes values of a table of a closed store.
pub(super) fn change<K: redb::Key + 'static>(
    dir: &Path,
    definition: TableDefinition<'_, K, &'static [u8]>,
    mut how: impl FnMut(usize, &mut Vec<u8>),
) {
    let database = Database::create(dir.join(FILE_NAME)).expect("opens");
    let txn = database.begin_write().expect("begins");
    {
        let mut table = txn.open_table(definition).expect("there");
        let rows = table.iter().expect("read").map(|entry| entry.expect("read"));
        let rows: Vec<_> =
            rows.map(|(key, value)| (K::as_bytes(&key.value()).as_ref().to_vec(), value.value().to_vec())).collect();
        for (nth, (key, mut value)) in rows.into_iter().enumerate() {
            how(nth, &mut value);
            table.insert(K::from_bytes(&key), value.as_slice()).expect("written");
        }
    }
    txn.commit().expect("committed");
}
