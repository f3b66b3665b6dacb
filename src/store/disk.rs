//! The store on disk: opening, the mailbox of the thread that makes things durable, and the store's other threads.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use redb::{Database, ReadableDatabase, StorageBackend};
use tracing::{error, info};

use super::appender::Appender;
use super::backlog::{Backlog, Intake};
use super::backup::backup;
use super::damage::{Repair, Repairs};
use super::journal::{self, Journal};
use super::reader::read_loop;
use super::recovery::{Found, create_file, keep_journal, mark_running, prepare, recover};
use super::spill::{Place, Spill, SpillOp, SpillWriter};
use super::writer::Writer;
use super::{
    BackedUp, Damage, LaneKey, LoadRequest, Op, Recovered, Store, StoreError, StoreFigures, Ticket, Transaction, Waiter,
};
use crate::panics::contained;

/// Octets of messages that may wait for the journal before publishers are held back.
const MAILBOX_BYTES: usize = 8 * 1024 * 1024;
/// How long what nobody waits for may wait for company before it is made durable.
const PATIENCE: Duration = Duration::from_millis(4);
/// redb's page cache. Messages are read once, front to back, so a large one would buy nothing.
pub(super) const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// The database's file in the data directory.
pub(super) const FILE_NAME: &str = "leveret.redb";

/// What the store's users and its threads share.
pub(super) struct Shared {
    mailbox: Mutex<Mailbox>,
    filled: Condvar,
    /// What is in the journal and not in the database.
    pub(super) backlog: Backlog,
    durable: AtomicU64,
    stored: AtomicU64,
    failed: AtomicBool,
    on_failure: Box<dyn Fn() + Send + Sync>,
    pub(super) data_dir: PathBuf,
    /// What the writer is to put right on disk.
    pub(super) repairs: Repairs,
    /// What was written. A leaf, locked once a write.
    pub(super) figures: Mutex<StoreFigures>,
}

#[derive(Default)]
struct Mailbox {
    transactions: Vec<Transaction>,
    bytes: usize,
    last_ticket: u64,
    waiting: Waiting,
    /// One of the transactions is waited for.
    prompt: bool,
    closed: bool,
}

/// What the thread that makes things durable waits for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Waiting {
    #[default]
    Nothing,
    /// A transaction.
    Any,
    /// One that is waited for, at most so long as those that are there have patience.
    Prompt,
}

impl Mailbox {
    fn empty_into(&mut self, batch: &mut Vec<Transaction>) -> Ticket {
        self.bytes = 0;
        self.prompt = false;
        std::mem::swap(&mut self.transactions, batch);
        Ticket::new(self.last_ticket)
    }
}

impl Shared {
    /// With everything that is in the journal up to this record in the database.
    fn new(data_dir: &Path, seq: u64) -> Self {
        Self {
            mailbox: Mutex::default(),
            filled: Condvar::new(),
            backlog: Backlog::after(seq),
            durable: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            on_failure: Box::new(|| ()),
            data_dir: data_dir.to_owned(),
            repairs: Repairs::default(),
            figures: Mutex::default(),
        }
    }

    /// Waits for something and takes everything that waits into `batch`, with the last ticket in it. `None` once closed.
    pub(super) fn take(&self, batch: &mut Vec<Transaction>) -> Option<Ticket> {
        let mut mailbox = self.mailbox.lock();
        while mailbox.transactions.is_empty() {
            if mailbox.closed {
                return None;
            }
            mailbox.waiting = Waiting::Any;
            self.filled.wait(&mut mailbox);
        }
        if !mailbox.prompt && !mailbox.closed {
            mailbox.waiting = Waiting::Prompt;
            self.filled.wait_for(&mut mailbox, PATIENCE);
        }
        mailbox.waiting = Waiting::Nothing;
        Some(mailbox.empty_into(batch))
    }

    /// Wakes the thread that makes things durable if it waits for what is there now.
    fn notify(&self, mut mailbox: MutexGuard<'_, Mailbox>) {
        let wake = match mailbox.waiting {
            Waiting::Nothing => false,
            Waiting::Any => true,
            Waiting::Prompt => mailbox.prompt,
        };
        if wake {
            mailbox.waiting = Waiting::Nothing;
            drop(mailbox);
            self.filled.notify_one();
        }
    }

    /// The same without waiting: `None` when nothing waits.
    #[cfg(test)]
    pub(super) fn try_take(&self, batch: &mut Vec<Transaction>) -> Option<Ticket> {
        let mut mailbox = self.mailbox.lock();
        (!mailbox.transactions.is_empty()).then(|| mailbox.empty_into(batch))
    }

    /// Has the writer put right soon what waits for that.
    pub(super) fn prompt(&self) {
        self.backlog.prompt();
    }

    pub(super) fn set_durable(&self, ticket: Ticket) {
        self.durable.store(ticket.get(), Ordering::Release);
    }

    /// The database has everything up to here.
    pub(super) fn set_stored(&self, ticket: Ticket, seq: u64) {
        self.stored.store(ticket.get(), Ordering::Release);
        self.backlog.set_stored(seq);
    }

    /// Whether a write failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// A write failed: nothing is taken or confirmed any more.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.backlog.end();
        (self.on_failure)();
    }
}

/// The store on disk.
pub struct DiskStore {
    shared: Arc<Shared>,
    spill: Arc<Spill>,
    loads: Mutex<Option<mpsc::Sender<LoadRequest>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// For backups; the threads keep it open.
    database: Weak<RwLock<Database>>,
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").field("data_dir", &self.shared.data_dir).finish_non_exhaustive()
    }
}

fn failed(data_dir: &Path, what: &str, cause: &dyn fmt::Display) -> StoreError {
    StoreError::new(format!("{what} {}: {cause}", data_dir.join(FILE_NAME).display()))
}

impl DiskStore {
    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What is spilled is kept in memory: the disk is simulated.
    #[cfg(test)]
    pub(super) fn spill_to_memory(&mut self) {
        self.spill = Spill::new(Place::Memory);
    }

    #[cfg(test)]
    pub(super) fn shelf(&self) -> &Arc<Spill> {
        &self.spill
    }

    /// Opens the store in a directory, creating both if need be. `seed` is a random number: it names a new store, and makes
    /// this run another than those before. `on_failure` is called when a write fails.
    pub fn open(
        data_dir: &Path,
        seed: u64,
        on_failure: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, Recovered), StoreError> {
        // redb trusts pages that it wrote, and panics where others have come in their place.
        contained(|| Self::open_files(data_dir, seed, on_failure))
            .unwrap_or_else(|panic| Err(failed(data_dir, "cannot open", &format_args!("it is damaged: {panic}"))))
    }

    fn open_files(
        data_dir: &Path,
        seed: u64,
        on_failure: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, Recovered), StoreError> {
        std::fs::create_dir_all(data_dir)
            .map_err(|cause| StoreError::new(format!("cannot create {}: {cause}", data_dir.display())))?;
        create_file(data_dir, seed)?;
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create(data_dir.join(FILE_NAME)).map_err(|cause| {
                if matches!(cause, redb::DatabaseError::DatabaseAlreadyOpen) {
                    let data_dir = data_dir.display();
                    StoreError::new(format!(
                        "another broker uses {data_dir}: stop it, or give this one another --data-dir"
                    ))
                } else {
                    failed(data_dir, "cannot open", &cause)
                }
            })?;
        let journal = journal::open(&data_dir.join(journal::FILE_NAME)).map_err(|cause| {
            StoreError::new(format!("cannot open {}: {cause}", data_dir.join(journal::FILE_NAME).display()))
        })?;
        let Assembled { store, database, requests, appender, writer, recovered } =
            assemble(database, journal, journal::CAPACITY, data_dir, seed, Box::new(on_failure))?;
        let shared = store.shared.clone();
        let spill = store.spill.clone();
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(|cause| StoreError::new(format!("cannot start the thread {name}: {cause}")))?;
            store.threads.lock().push(thread);
            Ok(())
        };
        spawn("store-journal", Box::new(move || appender.run()))?;
        spawn("store-writer", Box::new(move || writer.run()))?;
        spawn("store-reader", Box::new(move || read_loop(&database, &shared, &spill, &requests)))?;
        let spills = SpillWriter::new(store.spill.clone());
        spawn("store-spill", Box::new(move || spills.run()))?;
        Ok((store, recovered))
    }
}

/// A store, and what its threads are to work with.
pub(super) struct Assembled {
    pub(super) store: DiskStore,
    pub(super) database: Arc<RwLock<Database>>,
    pub(super) requests: mpsc::Receiver<LoadRequest>,
    pub(super) appender: Appender,
    pub(super) writer: Writer,
    pub(super) recovered: Recovered,
}

/// What a store has when the database has caught up with the journal.
pub(super) struct Replayed {
    pub(super) found: Found,
    /// The last record of the journal.
    pub(super) seq: u64,
    /// Records that the database did not have.
    pub(super) records: u64,
    /// Records that it should have and that cannot be read.
    pub(super) damaged: u64,
}

fn journal_wrong(data_dir: &Path, cause: &dyn fmt::Display) -> StoreError {
    StoreError::new(format!("{}: {cause}", data_dir.join(journal::FILE_NAME).display()))
}

/// Recovers what the database has, and has it catch up with the journal. With `keep` a damaged journal is kept aside.
pub(super) fn replay(
    database: &Arc<RwLock<Database>>,
    journal: &dyn StorageBackend,
    data_dir: &Path,
    keep: bool,
) -> Result<Replayed, StoreError> {
    let file = data_dir.join(FILE_NAME);
    let wrong = |what: &'static str| move |cause: redb::Error| failed(data_dir, what, &cause);
    let found = recover(&database.read(), &file).map_err(wrong("cannot read"))?;
    let Found { epoch, journal: applied, .. } = found;
    let clean = found.recovered.clean;
    let pending = journal::scan(journal, epoch, applied).map_err(|cause| journal_wrong(data_dir, &cause))?;
    let (seq, records) = (pending.last_seq(), pending.len() as u64);
    if pending.is_empty() {
        return Ok(Replayed { found, seq, records, damaged: 0 });
    }
    let mut writer = Writer::new(database.clone(), Arc::new(Shared::new(data_dir, applied)), found.state, applied);
    let damaged = pending.replay(journal, |seq, ops| {
        writer.collect_all(Intake { ops, seq, ..Intake::default() });
        Ok::<_, redb::Error>(())
    });
    let damaged = damaged.map_err(|cause| journal_wrong(data_dir, &cause))?;
    if damaged > 0 && keep {
        keep_journal(data_dir, epoch);
    }
    writer.checkpoint().map_err(wrong("cannot write"))?;
    info!(records, damaged, "journal replayed");
    let mut found = recover(&database.read(), &file).map_err(wrong("cannot read"))?;
    found.recovered.clean = clean;
    Ok(Replayed { found, seq, records, damaged })
}

/// Recovers what database and journal have and puts a store together: everything but the threads.
pub(super) fn assemble(
    database: Database,
    journal: Box<dyn StorageBackend>,
    capacity: u64,
    data_dir: &Path,
    seed: u64,
    on_failure: Box<dyn Fn() + Send + Sync>,
) -> Result<Assembled, StoreError> {
    let wrong = |what: &'static str| move |cause: redb::Error| failed(data_dir, what, &cause);
    prepare(&database, &data_dir.join(FILE_NAME), seed)?;
    // Locked for writing only to make the file smaller.
    let database = Arc::new(RwLock::new(database));
    let Replayed { mut found, seq, .. } = replay(&database, &*journal, data_dir, true)?;
    let epoch = found.epoch.wrapping_add(seed | 1);
    mark_running(&database.read(), &found, epoch, seq).map_err(wrong("cannot write"))?;
    let journal = Journal::start(journal, epoch, seq + 1, capacity).map_err(|cause| journal_wrong(data_dir, &cause))?;
    let repairs = Repairs::recovered(&database.read()).map_err(wrong("cannot read"))?;
    let shared = Arc::new(Shared { on_failure, repairs, ..Shared::new(data_dir, seq) });
    // Their messages were not in the journal.
    found.state.early.clear();
    let appender = Appender::new(shared.clone(), journal, &found.state.logs);
    let writer = Writer::new(database.clone(), shared.clone(), found.state, seq);
    let (sender, requests) = mpsc::channel();
    let spill = Spill::new(Place::in_directory(data_dir)?);
    let loads = Mutex::new(Some(sender));
    let store = DiskStore { shared, spill, loads, threads: Mutex::default(), database: Arc::downgrade(&database) };
    Ok(Assembled { store, database, requests, appender, writer, recovered: found.recovered })
}

impl Store for DiskStore {
    fn figures(&self) -> StoreFigures {
        *self.shared.figures.lock()
    }

    fn submit(&self, transaction: Transaction) -> Ticket {
        let mut mailbox = self.shared.mailbox.lock();
        mailbox.last_ticket += 1;
        let ticket = Ticket::new(mailbox.last_ticket);
        if self.shared.has_failed() {
            // Nothing is written any more; the ticket will never be durable.
            return ticket;
        }
        for op in &transaction.ops {
            if let Op::Append { arena, .. } | Op::Log { arena, .. } = op {
                arena.set_ticket(ticket.get());
            }
        }
        mailbox.bytes += transaction.size();
        mailbox.prompt |= !transaction.can_wait();
        mailbox.transactions.push(transaction);
        self.shared.notify(mailbox);
        ticket
    }

    fn hurry(&self) {
        let mut mailbox = self.shared.mailbox.lock();
        mailbox.prompt = !mailbox.transactions.is_empty();
        self.shared.notify(mailbox);
    }

    fn durable(&self) -> Ticket {
        Ticket::new(self.shared.durable.load(Ordering::Acquire))
    }

    fn is_stored(&self, ticket: u64) -> bool {
        ticket != 0 && ticket <= self.shared.stored.load(Ordering::Acquire)
    }

    fn checkpoint(&self) -> bool {
        self.shared.backlog.request()
    }

    fn load(&self, request: LoadRequest) {
        if let Some(sender) = &*self.loads.lock()
            && sender.send(request).is_err()
        {
            error!("the store's reader has stopped");
        }
    }

    fn recount(&self, lane: LaneKey, count: i64, body_bytes: i64) {
        self.shared.repairs.push(Repair::Recount { lane, count, body_bytes });
        self.shared.prompt();
    }

    fn damage(&self) -> Damage {
        self.shared.repairs.damage()
    }

    fn backup(&self, file: &Path) -> Result<BackedUp, StoreError> {
        let database = self.database.upgrade().ok_or_else(|| StoreError::new("the store is closed"))?;
        // What is durable may be in the journal alone.
        if !self.checkpoint() {
            return Err(StoreError::new("the store failed; see the broker's log"));
        }
        // Publishers and readers go on while it is copied.
        let moment =
            database.read().begin_read().map_err(|cause| failed(&self.shared.data_dir, "cannot read", &cause))?;
        backup(&moment, file)
    }

    fn is_saturated(&self) -> bool {
        self.shared.mailbox.lock().bytes > MAILBOX_BYTES
    }

    fn spill(&self, ops: Vec<SpillOp>, waiter: Option<Arc<dyn Waiter>>) -> u64 {
        self.spill.submit(ops, waiter)
    }

    fn spilled(&self) -> u64 {
        self.spill.written()
    }

    fn spills(&self) -> bool {
        self.spill.works()
    }

    fn is_spill_saturated(&self) -> bool {
        self.spill.is_saturated()
    }

    fn close(&self) {
        self.spill.close();
        self.shared.mailbox.lock().closed = true;
        self.shared.filled.notify_one();
        *self.loads.lock() = None;
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.join().is_err() {
                error!("a thread of the store panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use leveret_protocol::ShortString;
    use redb::ReadableTable;

    use super::*;
    use crate::engine::queue::QueueId;
    use crate::engine::stream::Block;
    use crate::engine::vhost::Change;
    use crate::store::schema::batches::BATCHES;
    use crate::store::schema::logs::{BLOCKS, LOGS};
    use crate::store::schema::meta::{self, FORMAT};
    use crate::store::testing::{append, arena, declare, load, numbers, open, settle, stored, submit, wait};
    use crate::store::{LogSink, LogUpdate};

    const QUEUE: QueueId = QueueId::new(1);
    const LANE: LaneKey = LaneKey::new(QUEUE, 0);

    #[test]
    fn messages_and_definitions_survive_a_restart_in_order() {
        let dir = tempfile::tempdir().expect("directory");
        for (size, count) in [(16_usize, 3000_u32), (1024, 300), (70_000, 5)] {
            let path = dir.path().join(size.to_string());
            let (store, recovered) = open(&path);
            assert!(recovered.clean && recovered.queues.is_empty());
            submit(&store, vec![declare(1, "classic")]);
            submit(&store, vec![append(1, 0, count, size)]);
            submit(&store, vec![append(1, count.into(), count, size)]);
            let body = size as u64;
            submit(&store, vec![settle(1, 0, 1, body), settle(1, 4, 4, body)]);
            store.close();
            let (store, recovered) = open(&path);
            assert!(recovered.clean);
            let [(_, record, lanes)] = recovered.queues.as_slice() else { panic!("{:?}", recovered.queues) };
            assert_eq!(record.name, "q1");
            assert_eq!(
                (lanes[0].count, lanes[0].next_seq, lanes[0].head_seq),
                (u64::from(count) * 2 - 3, u64::from(count) * 2, 2)
            );
            assert_eq!(lanes[0].body_bytes, lanes[0].count * body);
            let expected: Vec<u64> = (0..2 * u64::from(count)).filter(|number| ![0, 1, 4].contains(number)).collect();
            assert_eq!(stored(&store, LANE), expected);
            submit(&store, vec![settle(1, 2, 3, body), settle(1, 5, u64::from(count) * 2 - 1, body)]);
            assert!(stored(&store, LANE).is_empty());
            store.close();
            let (_, recovered) = open(&path);
            assert_eq!(recovered.queues[0].2[0].count, 0);
        }
    }

    #[test]
    fn a_store_that_was_not_closed_says_so_and_flags_everything() {
        let dir = tempfile::tempdir().expect("directory");
        let (store, _) = open(dir.path());
        // In the journal alone.
        let ops = vec![declare(1, "classic"), append(1, 0, 10, 16)];
        wait(&store, store.submit(Transaction { ops, waiter: None }));
        let copy = tempfile::tempdir().expect("directory");
        for name in [FILE_NAME, journal::FILE_NAME] {
            std::fs::copy(dir.path().join(name), copy.path().join(name)).expect("copied");
        }
        store.close();
        let (store, recovered) = open(copy.path());
        assert!(!recovered.clean);
        assert_eq!(recovered.queues[0].2[0].redelivered_below, 10);
        assert_eq!(stored(&store, LANE).len(), 10);
        store.close();
    }

    #[test]
    fn only_what_nobody_was_promised_waits_for_company_and_not_for_ever() {
        let dir = tempfile::tempdir().expect("directory");
        let (store, _) = open(dir.path());
        let can_wait = |ops: Vec<Op>| Transaction { ops, waiter: None }.can_wait();
        assert!(can_wait(vec![settle(1, 0, 4, 16), settle(1, 6, 6, 16)]));
        assert!(!can_wait(vec![settle(1, 0, 4, 16), append(1, 10, 1, 16)]), "a message comes");
        assert!(!can_wait(Vec::new()), "somebody waits for what came before");
        submit(&store, vec![declare(1, "classic"), append(1, 0, 10, 16)]);
        // Nobody hurries it, and nothing follows.
        submit(&store, vec![settle(1, 0, 4, 16)]);
        assert_eq!(stored(&store, LANE), [5, 6, 7, 8, 9]);
        store.close();
    }

    #[test]
    fn a_deleted_queue_takes_its_messages_along() {
        let dir = tempfile::tempdir().expect("directory");
        let (store, _) = open(dir.path());
        submit(&store, vec![declare(1, "classic"), append(1, 0, 10, 16)]);
        let removed = Op::Define { vhost: ShortString::from_static("/"), change: Change::QueueRemoved(QUEUE) };
        submit(&store, vec![removed]);
        submit(&store, vec![append(1, 10, 5, 16)]);
        assert!(stored(&store, LANE).is_empty());
        store.close();
        let (_, recovered) = open(dir.path());
        assert!(recovered.queues.is_empty());
        assert_eq!(recovered.next_queue_id, 2);
    }

    #[derive(Debug, Default)]
    struct Told {
        parts: parking_lot::Mutex<Vec<(u64, u32)>>,
        blocks: parking_lot::Mutex<BTreeMap<u64, Block>>,
    }

    impl LogSink for Told {
        fn committed(&self, update: LogUpdate) {
            self.parts.lock().extend(update.parts.iter().map(|part| (part.first_seq, part.count)));
            self.blocks.lock().extend(update.blocks.iter().map(|block| (block.first_seq, *block)));
        }
    }

    fn log(sink: &Arc<Told>, first: u32, count: u32, size: usize) -> Op {
        let arena = arena(first, count, size);
        Op::Log { lane: LANE, arena, index: 0, count, block_bytes: 100_000, sink: sink.clone() }
    }

    fn rows(database: &Database) -> (usize, usize) {
        let txn = database.begin_read().expect("begins");
        let batches = txn.open_table(BATCHES).expect("there").iter().expect("read").count();
        (batches, txn.open_table(BLOCKS).expect("there").iter().expect("read").count())
    }

    #[test]
    fn a_stream_gets_its_offsets_in_order_and_keeps_them() {
        let dir = tempfile::tempdir().expect("directory");
        let told = Arc::new(Told::default());
        let (store, _) = open(dir.path());
        submit(&store, vec![declare(1, "classic"), log(&told, 0, 10, 16), log(&told, 10, 500, 1000)]);
        for first in 510..520 {
            submit(&store, vec![log(&told, first, 1, 70_000)]);
        }
        assert_eq!(told.parts.lock()[..3], [(0, 10), (10, 500), (510, 1)]);
        store.close();
        let (store, recovered) = open(dir.path());
        let found = &recovered.logs[&QUEUE];
        assert_eq!((found.next_seq, &found.blocks), (520, &told.blocks.lock().values().copied().collect::<Vec<_>>()));
        assert!(found.blocks.len() > 8);
        assert_eq!(found.blocks.iter().map(|block| block.count).sum::<u64>(), 520);
        assert!(found.blocks.is_sorted_by(|a, b| a.end_seq() == b.first_seq));
        assert_eq!(stored(&store, LANE), (0..520).collect::<Vec<_>>());
        // One answer has as much as fits.
        assert_eq!(numbers(&load(&store, LANE, 515)), [515, 516]);
        let below_seq = found.blocks[4].first_seq;
        submit(&store, vec![Op::Truncate { lane: LANE, below_seq }, log(&told, 520, 1, 16)]);
        assert_eq!(told.parts.lock().last(), Some(&(520, 1)));
        let left: Vec<_> = (below_seq..521).collect();
        assert_eq!(stored(&store, LANE), left);
        store.close();
        let (store, recovered) = open(dir.path());
        assert_eq!(recovered.logs[&QUEUE].blocks.first().map(|block| block.first_seq), Some(below_seq));
        assert_eq!(stored(&store, LANE), left);
        store.close();
    }

    #[test]
    fn what_is_cut_off_from_a_stream_goes_bit_by_bit() {
        let dir = tempfile::tempdir().expect("directory");
        let told = Arc::new(Told::default());
        let (store, _) = open(dir.path());
        let mut ops = vec![declare(1, "classic")];
        ops.extend((0..700).map(|first| log(&told, first, 1, 61_000)));
        submit(&store, ops);
        let below_seq = told.blocks.lock().keys().next_back().copied().expect("blocks");
        submit(&store, vec![Op::Truncate { lane: LANE, below_seq }]);
        // The stop does not wait for it; the next start goes on.
        store.close();
        drop(store);
        let (store, recovered) = open(dir.path());
        assert_eq!(recovered.logs[&QUEUE].blocks.len(), 1);
        for _ in 0..3 {
            submit(&store, vec![log(&told, 0, 1, 16)]);
        }
        let removed = Op::Define { vhost: ShortString::from_static("/"), change: Change::QueueRemoved(QUEUE) };
        submit(&store, vec![removed]);
        store.close();
        drop(store);
        let database = Database::create(dir.path().join(FILE_NAME)).expect("opens");
        assert_eq!(rows(&database), (0, 0));
        assert_eq!(
            database.begin_read().expect("begins").open_table(LOGS).expect("there").iter().expect("read").count(),
            0
        );
    }

    #[test]
    fn a_second_broker_and_a_newer_format_are_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let (store, _) = open(dir.path());
        let refused = DiskStore::open(dir.path(), 1, || ()).expect_err("locked").to_string();
        assert!(refused.contains("another broker uses"), "{refused}");
        store.close();
        drop(store);
        let database = Database::create(dir.path().join(FILE_NAME)).expect("opens");
        let txn = database.begin_write().expect("begins");
        meta::put_format(&txn, FORMAT + 1).expect("written");
        txn.commit().expect("committed");
        drop(database);
        let refused = DiskStore::open(dir.path(), 1, || ()).expect_err("newer").to_string();
        assert!(refused.contains("newer release"), "{refused}");
    }
}
