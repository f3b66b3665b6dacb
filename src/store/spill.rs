//! Messages that are on disk only to save memory: those that no restart has to bring back, in queues that are deep.
//!
//! They are in a database of their own, `leveret.spill`, in batches as in the store. Nothing of it survives: the file is
//! removed at a start and when nothing is left in it, and it is written without fsync. So it costs the store nothing, a
//! start does not depend on it, and a backup has nothing of it. Its thread, `store-spill`, sums up what waits and writes
//! it, as the store's writer does.
//!
//! What cannot be written stays in memory, which the memory alarm bounds: a failure is logged once and nothing is spilled
//! from then on.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, WriteTransaction};
use tracing::{error, warn};

use super::ledger::{Batch, Known, Ledger, Ledgers};
use super::schema::batches::{decode_batch, encode_batch, read_shape};
use super::schema::parts;
use super::{LaneKey, LoadReply, LoadRequest, StoreError, Waiter};
use crate::engine::message::Arena;
use crate::engine::queue::{Kept, QueueId, Settled, SpillTicket};
use crate::panics::StopOnPanic;

/// Batches, as in the store. Which of their messages are gone is known in memory only.
const SPILLED: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("spilled");
/// Parts of large ones, as in the store.
const SPILLED_PARTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("spilled_parts");
/// The file in the data directory.
const FILE_NAME: &str = "leveret.spill";
/// Octets that may wait to be written before publishers are held back. Little, since it is memory that is to be saved.
const MAILBOX_BYTES: usize = 8 * 1024 * 1024;
/// redb's page cache. What is written is read once.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// A file of this size is removed when nothing is left in it.
const FILE_KEPT_BYTES: u64 = 16 * 1024 * 1024;
/// Deleted queues that are remembered, because another connection may still spill something of theirs.
const DROPPED_MAX: usize = 64 * 1024;

/// One change to what is spilled. Nobody waits for it, and nothing of it has to survive.
#[derive(Debug)]
pub enum SpillOp {
    /// Messages are to leave memory.
    Append {
        /// Where they are from.
        lane: LaneKey,
        /// Sequence number of the first one.
        first_seq: u64,
        /// Where they are in memory.
        arena: Arc<Arena>,
        /// Index of the first one in the arena.
        index: u32,
        /// How many.
        count: u32,
        /// Is told under which ticket they were taken.
        ticket: SpillTicket,
    },
    /// Messages left their queue.
    Settled {
        /// Where from.
        lane: LaneKey,
        /// Which.
        settled: Settled,
    },
    /// A queue is gone.
    Dropped(QueueId),
}

/// A file that is never synced.
#[derive(Debug)]
struct Unsynced(FileBackend);

impl StorageBackend for Unsynced {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
}

/// Where the database is.
#[derive(Debug)]
pub(super) enum Place {
    File(PathBuf),
    /// In memory, for tests that simulate the disk.
    #[cfg(test)]
    Memory,
}

impl Place {
    /// The file in a data directory; one that an earlier run left there is removed.
    pub(super) fn in_directory(data_dir: &Path) -> Result<Self, StoreError> {
        let path = data_dir.join(FILE_NAME);
        match std::fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::new(format!("cannot remove {}: {cause}", path.display())))
            }
            Ok(()) | Err(_) => Ok(Self::File(path)),
        }
    }

    fn open(&self) -> Result<Database, redb::Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = match self {
            Self::File(path) => {
                let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
                builder.create_with_backend(Unsynced(FileBackend::new(file)?))?
            }
            #[cfg(test)]
            Self::Memory => builder.create_with_backend(redb::backends::InMemoryBackend::new())?,
        };
        let txn = database.begin_write()?;
        txn.open_table(SPILLED)?;
        txn.open_table(SPILLED_PARTS)?;
        txn.commit()?;
        Ok(database)
    }

    /// Removes a file from which nothing is needed any more, if it is large; whether it did.
    fn remove_if_large(&self) -> bool {
        match self {
            Self::File(path) => {
                std::fs::metadata(path).is_ok_and(|file| file.len() > FILE_KEPT_BYTES)
                    && std::fs::remove_file(path).is_ok()
            }
            #[cfg(test)]
            Self::Memory => true,
        }
    }
}

#[derive(Default)]
struct Mailbox {
    ops: Vec<SpillOp>,
    waiters: Vec<Arc<dyn Waiter>>,
    bytes: usize,
    last_ticket: u64,
    thread_waits: bool,
    closed: bool,
}

/// What those who spill, the thread that writes and the one that reads share.
pub(super) struct Spill {
    place: Place,
    database: Mutex<Option<Arc<Database>>>,
    mailbox: Mutex<Mailbox>,
    filled: Condvar,
    written: AtomicU64,
    /// Octets that wait or are being written.
    pending_bytes: AtomicUsize,
    failed: AtomicBool,
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spill").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Octets of memory that an operation holds.
fn size(op: &SpillOp) -> usize {
    match op {
        SpillOp::Append { arena, count, .. } => arena.share_bytes(*count),
        SpillOp::Settled { .. } | SpillOp::Dropped(_) => 0,
    }
}

impl Spill {
    pub(super) fn new(place: Place) -> Arc<Self> {
        Arc::new(Self {
            place,
            database: Mutex::default(),
            mailbox: Mutex::default(),
            filled: Condvar::new(),
            written: AtomicU64::new(0),
            pending_bytes: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        })
    }

    /// Takes operations; returns their ticket.
    pub(super) fn submit(&self, ops: Vec<SpillOp>, waiter: Option<Arc<dyn Waiter>>) -> u64 {
        if self.failed.load(Ordering::Acquire) {
            return 0;
        }
        let mut mailbox = self.mailbox.lock();
        mailbox.last_ticket += 1;
        let number = mailbox.last_ticket;
        for op in &ops {
            if let SpillOp::Append { ticket, .. } = op {
                ticket.set(number);
            }
            let size = size(op);
            mailbox.bytes += size;
            self.pending_bytes.fetch_add(size, Ordering::Relaxed);
        }
        mailbox.ops.extend(ops);
        mailbox.waiters.extend(waiter);
        if std::mem::take(&mut mailbox.thread_waits) {
            drop(mailbox);
            self.filled.notify_one();
        }
        number
    }

    /// Up to this ticket everything can be read back.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Whether anything is taken.
    pub(super) fn works(&self) -> bool {
        !self.failed.load(Ordering::Acquire)
    }

    /// Whether more waits to be written than should.
    pub(super) fn is_saturated(&self) -> bool {
        self.pending_bytes.load(Ordering::Relaxed) > MAILBOX_BYTES
    }

    /// Ends the thread; what waits is not written.
    pub(super) fn close(&self) {
        self.mailbox.lock().closed = true;
        self.filled.notify_one();
    }

    fn database(&self) -> Result<Arc<Database>, redb::Error> {
        let mut slot = self.database.lock();
        if let Some(database) = &*slot {
            return Ok(database.clone());
        }
        let database = Arc::new(self.place.open()?);
        *slot = Some(database.clone());
        Ok(database)
    }

    /// Adds to an answer what is spilled of the lane: one of the two may end earlier than the other.
    pub(super) fn complete(&self, request: &LoadRequest, reply: &mut LoadReply) -> Result<(), redb::Error> {
        let Some(database) = self.database.lock().clone() else { return Ok(()) };
        let (lane, max_bytes) = (request.lane.get(), request.octets());
        let txn = database.begin_read()?;
        let table = txn.open_table(SPILLED)?;
        let parts = txn.open_table(SPILLED_PARTS)?;
        let before = table.range((lane, 0)..=(lane, request.from_seq))?.next_back().transpose()?;
        let start = before.map_or(request.from_seq, |(key, _)| key.value().1);
        let (mut octets, mut found) = (0, 0);
        for entry in table.range((lane, start)..=(lane, u64::MAX))? {
            let (key, value) = entry?;
            let key = key.value();
            let (_, first_seq) = key;
            if octets >= max_bytes {
                reply.complete_below = reply.complete_below.min(first_seq);
                break;
            }
            let batch = parts::whole(key, value.value(), Some(&parts))?;
            octets += batch.len();
            if let Some((_, loaded)) = decode_batch(key, batch, request.from_seq, |_| false, 0) {
                found += loaded.len();
                let spilled = loaded.into_iter().map(|part| super::Loaded { kept: Kept::Spilled, ..part });
                reply.loaded.extend(spilled);
            } else {
                error!(lane, first_seq, "a batch of spilled messages is damaged and passed over");
            }
        }
        if found > 0 {
            reply.loaded.sort_by_key(|part| part.first_seq);
        }
        Ok(())
    }
}

/// What the thread owns.
pub(super) struct SpillWriter {
    spill: Arc<Spill>,
    ledgers: Ledgers,
    known: Known,
    touched: HashSet<LaneKey>,
    dropped: HashSet<QueueId>,
    dropped_order: VecDeque<QueueId>,
    /// Messages in the database.
    live: u64,
    scratch: Vec<u8>,
}

impl SpillWriter {
    pub(super) fn new(spill: Arc<Spill>) -> Self {
        Self {
            spill,
            ledgers: Ledgers::new(),
            known: Known::default(),
            touched: HashSet::new(),
            dropped: HashSet::new(),
            dropped_order: VecDeque::new(),
            live: 0,
            scratch: Vec::new(),
        }
    }

    /// Writes until the store is closed, or a write fails.
    pub(super) fn run(mut self) {
        let _trust = StopOnPanic("the store's spill");
        while self.wait() && self.step() {}
    }

    /// Waits for something to do; false once closed.
    fn wait(&self) -> bool {
        let mut mailbox = self.spill.mailbox.lock();
        while mailbox.ops.is_empty() && !mailbox.closed {
            mailbox.thread_waits = true;
            self.spill.filled.wait(&mut mailbox);
        }
        !mailbox.closed
    }

    /// Writes what waits; false when it cannot.
    pub(super) fn step(&mut self) -> bool {
        let (ops, waiters, bytes, ticket) = {
            let mut mailbox = self.spill.mailbox.lock();
            let bytes = std::mem::take(&mut mailbox.bytes);
            (std::mem::take(&mut mailbox.ops), std::mem::take(&mut mailbox.waiters), bytes, mailbox.last_ticket)
        };
        let written = ops.is_empty() || self.commit(ops).inspect_err(|cause| {
            warn!(%cause, "messages cannot be spilled to disk: those that need not survive stay in memory from now on");
        }).is_ok();
        if written {
            self.spill.written.store(ticket, Ordering::Release);
        } else {
            self.spill.failed.store(true, Ordering::Release);
            *self.spill.mailbox.lock() = Mailbox::default();
        }
        let pending = &self.spill.pending_bytes;
        if written {
            pending.fetch_sub(bytes, Ordering::Relaxed)
        } else {
            pending.swap(0, Ordering::Relaxed)
        };
        for waiter in waiters {
            waiter.wake();
        }
        written
    }

    fn commit(&mut self, ops: Vec<SpillOp>) -> Result<(), redb::Error> {
        let mut gone = Vec::new();
        for op in ops {
            match op {
                SpillOp::Append { lane, first_seq, arena, index, count, .. } => {
                    if let Some(ledger) = self.ledger(lane) {
                        ledger.append(first_seq, arena, index, count);
                    }
                }
                SpillOp::Settled { lane, settled } => {
                    if let Some(ledger) = self.ledger(lane) {
                        ledger.settle(settled);
                    }
                }
                SpillOp::Dropped(queue) => {
                    self.drop_queue(queue);
                    gone.push(queue);
                }
            }
        }
        let database = self.spill.database()?;
        let txn = database.begin_write()?;
        self.write(&txn, &gone)?;
        txn.commit()?;
        drop(database);
        if self.live == 0 && self.ledgers.is_empty() {
            let mut slot = self.spill.database.lock();
            if self.spill.place.remove_if_large() {
                *slot = None;
            }
        }
        Ok(())
    }

    fn ledger(&mut self, lane: LaneKey) -> Option<&mut Ledger> {
        if self.dropped.contains(&lane.queue()) {
            return None;
        }
        self.touched.insert(lane);
        Some(self.ledgers.entry(lane).or_default())
    }

    fn drop_queue(&mut self, queue: QueueId) {
        for lane in (0..=u8::MAX).map(|lane| LaneKey::new(queue, lane)) {
            if let Some(ledger) = self.ledgers.remove(&lane) {
                self.live = self.live.saturating_sub(ledger.state.count);
            }
        }
        if self.dropped.insert(queue) {
            self.dropped_order.push_back(queue);
        }
        if self.dropped.len() > DROPPED_MAX
            && let Some(oldest) = self.dropped_order.pop_front()
        {
            self.dropped.remove(&oldest);
        }
    }

    fn write(&mut self, txn: &WriteTransaction, gone: &[QueueId]) -> Result<(), redb::Error> {
        let mut table = txn.open_table(SPILLED)?;
        let mut parts = txn.open_table(SPILLED_PARTS)?;
        for queue in gone {
            let (first, last) = (LaneKey::new(*queue, 0).get(), LaneKey::new(*queue, u8::MAX).get());
            table.retain_in((first, 0)..=(last, u64::MAX), |_, _| false)?;
            parts::remove_lanes(&mut parts, first, last)?;
        }
        for lane in std::mem::take(&mut self.touched) {
            let Some(ledger) = self.ledgers.get_mut(&lane) else { continue };
            let key = lane.get();
            self.live -= ledger.state.count;
            let known = ledger.known();
            let rows = ledger.close_round(|seq, last_seq| find_batch(key, seq, last_seq, &table, &parts))?;
            self.live += ledger.state.count;
            self.known.note(known, ledger.known());
            for first_seq in rows.remove.into_keys() {
                parts::remove(&mut table, &mut parts, (key, first_seq))?;
            }
            for runs in &rows.insert {
                let at = encode_batch(key, runs, &mut self.scratch);
                parts::insert(&mut table, &mut parts, at, &self.scratch)?;
            }
            if ledger.state.count == 0 && ledger.early().is_empty() {
                self.ledgers.remove(&lane);
            }
        }
        self.known.limit(&mut self.ledgers);
        Ok(())
    }
}

/// The batch that starts at or before `seq` and reaches it, or else the next one up to `last_seq`.
fn find_batch(
    lane: u64,
    seq: u64,
    last_seq: u64,
    table: &impl ReadableTable<(u64, u64), &'static [u8]>,
    parts: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Option<(u64, Batch)>, redb::Error> {
    let before = table.range((lane, 0)..=(lane, seq))?.rev().take(1);
    for entry in before.chain(table.range((lane, seq)..=(lane, last_seq))?) {
        let (key, value) = entry?;
        let (_, first) = key.value();
        if let Some(shape) = read_shape(key.value(), &parts::whole(key.value(), value.value(), Some(parts))?)
            && seq < first + shape.span
        {
            return Ok(Some((first, Batch::on_disk(&shape, None))));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::engine::message::{ArenaBuilder, Body, MessageParts, Timestamp};
    use crate::store::Store;
    use crate::store::disk::DiskStore;

    const QUEUE: QueueId = QueueId::new(7);
    const LANE: LaneKey = LaneKey::new(QUEUE, 0);

    fn arena(first: u32, count: u32, size: usize) -> Arc<Arena> {
        let mut builder = ArenaBuilder::new();
        for number in first..first + count {
            let mut body = number.to_be_bytes().to_vec();
            body.resize(size, 7);
            builder.push(&MessageParts {
                exchange: b"",
                routing_key: b"q",
                properties: &[0, 0],
                body: Body::Borrowed(&body),
                persistent: false,
                priority: 0,
                expiration_ms: None,
                broker_deaths: false,
                enqueued_at: Timestamp::from_millis(1),
            });
        }
        builder.finish()
    }

    fn append(first_seq: u64, count: u32, size: usize) -> SpillOp {
        let arena = arena(u32::try_from(first_seq).expect("small"), count, size);
        SpillOp::Append { lane: LANE, first_seq, arena, index: 0, count, ticket: SpillTicket::default() }
    }

    fn settle(first_seq: u64, last_seq: u64) -> SpillOp {
        let count = last_seq - first_seq + 1;
        SpillOp::Settled {
            lane: LANE,
            settled: Settled { first_seq, last_seq, count, body_bytes: 0, kept: Kept::Spilled },
        }
    }

    fn open(dir: &Path) -> DiskStore {
        DiskStore::open(dir, 1, || panic!("no commit fails here")).expect("opens").0
    }

    fn spill(store: &DiskStore, ops: Vec<SpillOp>) {
        let ticket = store.spill(ops, None);
        while store.spilled() < ticket {
            assert!(store.spills());
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }

    /// The numbers in the bodies of all that is read, a piece at a time.
    fn read(store: &DiskStore, max_bytes: usize) -> Vec<u32> {
        let (mut numbers, mut from_seq) = (Vec::new(), 0);
        while from_seq < u64::MAX {
            let (sender, receiver) = mpsc::channel();
            let reply = Box::new(move |reply| sender.send(reply).expect("somebody waits"));
            store.load(LoadRequest { lane: LANE, from_seq, max_bytes, latest: false, window: None, reply });
            let LoadReply { loaded, complete_below, .. } = receiver.recv().expect("answered");
            for part in loaded {
                assert_eq!(part.kept, Kept::Spilled);
                for nth in (0..part.count).filter(|nth| part.first_seq + u64::from(*nth) < complete_below) {
                    let body = part.arena.message(part.index + nth).body();
                    numbers.push(u32::from_be_bytes(body[..4].try_into().expect("four octets")));
                }
            }
            from_seq = complete_below;
        }
        numbers
    }

    #[test]
    fn what_is_spilled_can_be_read_until_it_is_settled_or_its_queue_is_gone() {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path());
        let ticket = SpillTicket::default();
        let first = SpillOp::Append {
            lane: LANE,
            first_seq: 0,
            arena: arena(0, 500, 1000),
            index: 0,
            count: 500,
            ticket: ticket.clone(),
        };
        spill(&store, vec![first, append(600, 100, 1000)]);
        assert_eq!(ticket.get(), 1);
        let all: Vec<u32> = (0..500).chain(600..700).collect();
        assert_eq!(read(&store, 100_000), all);
        // Settled before it was spilled, by another connection: it is not written at all.
        spill(&store, vec![settle(500, 599)]);
        spill(&store, vec![append(500, 100, 1000)]);
        assert_eq!(read(&store, 100_000), all);
        // A batch goes with its last message; until then the queue knows which of them are gone.
        spill(&store, vec![settle(0, 399)]);
        let rest = read(&store, usize::MAX);
        assert!(rest.len() < 300 && rest.ends_with(&all[400..]), "{}", rest.len());
        spill(&store, vec![SpillOp::Dropped(QUEUE), append(700, 1, 1000)]);
        assert!(read(&store, 100_000).is_empty());
        store.close();
    }

    #[test]
    fn a_large_file_goes_when_it_is_empty_and_nothing_survives() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join(FILE_NAME);
        let store = open(dir.path());
        assert!(!path.exists(), "nothing is made before it is needed");
        let parts: Vec<_> = (0..40).map(|nth| append(nth * 10, 10, 60_000)).collect();
        spill(&store, parts);
        assert!(std::fs::metadata(&path).expect("a file").len() > FILE_KEPT_BYTES);
        spill(&store, vec![settle(0, 399)]);
        assert!(!path.exists() && read(&store, 100_000).is_empty());
        spill(&store, vec![append(400, 3, 4)]);
        assert_eq!(read(&store, 100_000), [400, 401, 402]);
        store.close();
        let store = open(dir.path());
        assert!(!path.exists() && read(&store, 100_000).is_empty());
        store.close();
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_only_the_saving() {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path());
        std::fs::create_dir(dir.path().join(FILE_NAME)).expect("in the way");
        let ticket = SpillTicket::default();
        let op = SpillOp::Append {
            lane: LANE,
            first_seq: 0,
            arena: arena(0, 1, 4),
            index: 0,
            count: 1,
            ticket: ticket.clone(),
        };
        assert_eq!(store.spill(vec![op], None), 1);
        while store.spills() {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        assert!(ticket.get() > store.spilled(), "it stays in memory");
        assert!(!store.is_spill_saturated() && store.spill(vec![settle(0, 0)], None) == 0);
        assert!(read(&store, 100_000).is_empty());
        store.close();
    }
}
