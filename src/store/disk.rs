//! The store on redb: opening, the mailbox of its writer thread, and its reader thread.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use redb::{Database, ReadableDatabase, ReadableTable};
use tracing::{error, info};

use super::schema::batches::{BATCHES, SETTLED, decode_batch};
use super::schema::bindings::{self, BINDINGS};
use super::schema::directory;
use super::schema::exchanges::{self, EXCHANGES};
use super::schema::lanes::{LANES, LaneState};
use super::schema::logs::{BLOCKS, LOGS, LogState, decode_block};
use super::schema::meta::{FORMAT, KEY_CLEAN, KEY_FORMAT, KEY_NEXT_QUEUE_ID, KEY_NODE, META};
use super::schema::queues::{self, QUEUES};
use super::schema::returns::{self, RETURNS};
use super::writer::{Returns, Writer};
use super::{LaneKey, LoadReply, LoadRequest, Op, Recovered, Store, StoreError, Ticket, Transaction};
use crate::engine::directory::RecordKind;
use crate::engine::queue::{Marks, RecoveredLane};
use crate::engine::stream::RecoveredLog;

/// Octets of messages that may wait for the writer before publishers are held back.
const MAILBOX_BYTES: usize = 32 * 1024 * 1024;
/// redb's page cache. Messages are read once, front to back, so a large one would buy nothing.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// How long to wait after a failed read before the next one.
const READ_RETRY: Duration = Duration::from_secs(1);
/// The database's file in the data directory.
const FILE_NAME: &str = "leveret.redb";
/// The same while it is being made.
const NEW_FILE_NAME: &str = "leveret.redb.new";

/// What the store's users and its threads share.
pub(super) struct Shared {
    mailbox: Mutex<Mailbox>,
    filled: Condvar,
    durable: AtomicU64,
    failed: AtomicBool,
    on_failure: Box<dyn Fn() + Send + Sync>,
    pub(super) data_dir: PathBuf,
}

#[derive(Default)]
struct Mailbox {
    transactions: Vec<Transaction>,
    bytes: usize,
    last_ticket: u64,
    writer_waits: bool,
    closed: bool,
}

impl Mailbox {
    fn empty_into(&mut self, batch: &mut Vec<Transaction>) -> Ticket {
        self.bytes = 0;
        std::mem::swap(&mut self.transactions, batch);
        Ticket::new(self.last_ticket)
    }
}

impl Shared {
    /// Takes everything that waits into `batch`, with the last ticket in it; waits for the first unless there is something
    /// else to do. `None` once closed.
    pub(super) fn take(&self, batch: &mut Vec<Transaction>, busy: bool) -> Option<Ticket> {
        let mut mailbox = self.mailbox.lock();
        while mailbox.transactions.is_empty() {
            if mailbox.closed {
                return None;
            }
            if busy {
                break;
            }
            mailbox.writer_waits = true;
            self.filled.wait(&mut mailbox);
        }
        mailbox.writer_waits = false;
        Some(mailbox.empty_into(batch))
    }

    /// The same without waiting: `None` when nothing waits.
    #[cfg(test)]
    pub(super) fn try_take(&self, batch: &mut Vec<Transaction>) -> Option<Ticket> {
        let mut mailbox = self.mailbox.lock();
        (!mailbox.transactions.is_empty()).then(|| mailbox.empty_into(batch))
    }

    pub(super) fn set_durable(&self, ticket: Ticket) {
        self.durable.store(ticket.get(), Ordering::Release);
    }

    /// A commit failed: nothing is taken or confirmed any more.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        (self.on_failure)();
    }
}

/// The store on redb.
pub struct DiskStore {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    loads: Mutex<Option<mpsc::Sender<LoadRequest>>>,
    reader: Mutex<Option<JoinHandle<()>>>,
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

    /// Opens the store in a directory, creating both if need be. `node` names a new store; `on_failure` is called when a
    /// commit fails.
    pub fn open(
        data_dir: &Path,
        node: u64,
        on_failure: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, Recovered), StoreError> {
        std::fs::create_dir_all(data_dir)
            .map_err(|cause| StoreError::new(format!("cannot create {}: {cause}", data_dir.display())))?;
        create_file(data_dir, node)?;
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
        let Assembled { store, database, requests, writer, recovered } =
            assemble(database, data_dir, node, Box::new(on_failure))?;
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(|cause| StoreError::new(format!("cannot start the thread {name}: {cause}")))
        };
        *store.writer.lock() = Some(spawn("store-writer", Box::new(move || writer.run()))?);
        *store.reader.lock() = Some(spawn("store-reader", Box::new(move || read_loop(&database, &requests)))?);
        Ok((store, recovered))
    }
}

/// A store, and what its threads are to work with.
pub(super) struct Assembled {
    pub(super) store: DiskStore,
    pub(super) database: Arc<Database>,
    pub(super) requests: mpsc::Receiver<LoadRequest>,
    pub(super) writer: Writer,
    pub(super) recovered: Recovered,
}

/// Recovers what a database has and puts a store together: everything but the threads.
pub(super) fn assemble(
    database: Database,
    data_dir: &Path,
    node: u64,
    on_failure: Box<dyn Fn() + Send + Sync>,
) -> Result<Assembled, StoreError> {
    match read_format(&database).map_err(|cause| failed(data_dir, "cannot read", &cause))? {
        None => initialise(&database, node).map_err(|cause| failed(data_dir, "cannot prepare", &cause))?,
        Some(format) if format > FORMAT => {
            return Err(StoreError::new(format!(
                "the store has format {format}, which a newer release wrote; this one reads up to {FORMAT}"
            )));
        }
        Some(_) => add_tables(&database).map_err(|cause| failed(data_dir, "cannot prepare", &cause))?,
    }
    let Found { recovered, lanes, returns, logs } =
        recover(&database).map_err(|cause| failed(data_dir, "cannot read", &cause))?;
    mark_running(&database, &lanes).map_err(|cause| failed(data_dir, "cannot write", &cause))?;
    let database = Arc::new(database);
    let shared = Arc::new(Shared {
        mailbox: Mutex::default(),
        filled: Condvar::new(),
        durable: AtomicU64::new(0),
        failed: AtomicBool::new(false),
        on_failure,
        data_dir: data_dir.to_owned(),
    });
    let queues: HashSet<_> = recovered.queues.iter().map(|(_, queue, _)| queue.id).collect();
    let next_queue_id = recovered.next_queue_id;
    let writer = Writer::new(database.clone(), shared.clone(), lanes, returns, logs, queues, next_queue_id);
    let (sender, requests) = mpsc::channel();
    let store =
        DiskStore { shared, writer: Mutex::default(), loads: Mutex::new(Some(sender)), reader: Mutex::default() };
    Ok(Assembled { store, database, requests, writer, recovered })
}

impl Store for DiskStore {
    fn submit(&self, transaction: Transaction) -> Ticket {
        let mut mailbox = self.shared.mailbox.lock();
        mailbox.last_ticket += 1;
        let ticket = Ticket::new(mailbox.last_ticket);
        if self.shared.failed.load(Ordering::Acquire) {
            // Nothing is written any more; the ticket will never be durable.
            return ticket;
        }
        for op in &transaction.ops {
            if let Op::Append { arena, .. } | Op::Log { arena, .. } = op {
                arena.set_ticket(ticket.get());
                mailbox.bytes += arena.size_bytes();
            }
        }
        mailbox.transactions.push(transaction);
        if mailbox.writer_waits {
            mailbox.writer_waits = false;
            drop(mailbox);
            self.shared.filled.notify_one();
        }
        ticket
    }

    fn durable(&self) -> Ticket {
        Ticket::new(self.shared.durable.load(Ordering::Acquire))
    }

    fn is_stored(&self, ticket: u64) -> bool {
        ticket != 0 && ticket <= self.shared.durable.load(Ordering::Acquire)
    }

    fn load(&self, request: LoadRequest) {
        if let Some(sender) = &*self.loads.lock()
            && sender.send(request).is_err()
        {
            error!("the store's reader has stopped");
        }
    }

    fn is_saturated(&self) -> bool {
        self.shared.mailbox.lock().bytes > MAILBOX_BYTES
    }

    fn close(&self) {
        self.shared.mailbox.lock().closed = true;
        self.shared.filled.notify_one();
        *self.loads.lock() = None;
        for thread in [&self.writer, &self.reader] {
            if let Some(thread) = thread.lock().take()
                && thread.join().is_err()
            {
                error!("a thread of the store panicked");
            }
        }
    }
}

/// Makes a new store under another name and moves it to its place when it is whole, so that a crash meanwhile leaves
/// nothing behind that cannot be opened.
fn create_file(data_dir: &Path, node: u64) -> Result<(), StoreError> {
    let (path, new) = (data_dir.join(FILE_NAME), data_dir.join(NEW_FILE_NAME));
    if path.exists() {
        return Ok(());
    }
    let error = |cause: &dyn fmt::Display| StoreError::new(format!("cannot create {}: {cause}", new.display()));
    match std::fs::remove_file(&new) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => return Err(error(&cause)),
        Ok(()) | Err(_) => {}
    }
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(&new).map_err(|cause| error(&cause))?;
    initialise(&database, node).map_err(|cause| error(&cause))?;
    drop(database);
    std::fs::rename(&new, &path).map_err(|cause| error(&cause))?;
    // The name has to be durable before anything is confirmed.
    std::fs::File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(|cause| error(&cause))
}

/// The format of a store; `None` for a file without one.
fn read_format(database: &Database) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get(KEY_FORMAT)?.map(|format| format.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(cause) => Err(cause.into()),
    }
}

/// Makes the tables of a new store.
fn initialise(database: &Database, node: u64) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    {
        let mut meta = txn.open_table(META)?;
        meta.insert(KEY_FORMAT, FORMAT)?;
        meta.insert(KEY_NODE, node)?;
        meta.insert(KEY_NEXT_QUEUE_ID, 1)?;
        meta.insert(KEY_CLEAN, 1)?;
        txn.open_table(EXCHANGES)?;
        txn.open_table(QUEUES)?;
        txn.open_table(BINDINGS)?;
        txn.open_table(LANES)?;
        txn.open_table(BATCHES)?;
        txn.open_table(SETTLED)?;
        txn.open_table(RETURNS)?;
        txn.open_table(LOGS)?;
        txn.open_table(BLOCKS)?;
    }
    txn.commit()?;
    Ok(())
}

/// Adds what a store of an earlier release does not have.
fn add_tables(database: &Database) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    txn.open_table(LOGS)?;
    txn.open_table(BLOCKS)?;
    txn.commit()?;
    Ok(())
}

/// Notes that the broker runs, and removes counts of messages that are no more.
fn mark_running(database: &Database, lanes: &BTreeMap<u64, LaneState>) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    txn.open_table(META)?.insert(KEY_CLEAN, 0)?;
    txn.open_table(RETURNS)?.retain(|(lane, seq), _| is_live(lanes, lane, seq))?;
    txn.commit()?;
    Ok(())
}

/// Whether a lane may have a message with this number.
fn is_live(lanes: &BTreeMap<u64, LaneState>, lane: u64, seq: u64) -> bool {
    lanes.get(&lane).is_some_and(|state| (state.head_seq..state.next_seq).contains(&seq))
}

/// Reads how often messages came back.
fn recover_returns(
    database: &Database,
    lanes: &BTreeMap<u64, LaneState>,
    unreadable: impl Fn(&str, &dyn fmt::Debug),
) -> Result<Returns, redb::Error> {
    let mut found = Returns::new();
    let table = match database.begin_read()?.open_table(RETURNS) {
        Ok(table) => table,
        // A store of a release that did not count.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(found),
        Err(cause) => return Err(cause.into()),
    };
    for entry in table.iter()? {
        let (key, value) = entry?;
        let (lane, seq) = key.value();
        match returns::decode(value.value()) {
            Some(count) if is_live(lanes, lane, seq) => {
                found.entry(lane).or_default().insert(seq, count);
            }
            Some(_) => {}
            None => unreadable("returns", &key.value()),
        }
    }
    Ok(found)
}

/// What a start finds.
struct Found {
    recovered: Recovered,
    lanes: BTreeMap<u64, LaneState>,
    returns: Returns,
    logs: HashMap<LaneKey, LogState>,
}

/// Reads everything but messages. A record that cannot be read is reported and left out.
fn recover(database: &Database) -> Result<Found, redb::Error> {
    let txn = database.begin_read()?;
    let meta = txn.open_table(META)?;
    let mut recovered = Recovered {
        next_queue_id: meta.get(KEY_NEXT_QUEUE_ID)?.map_or(1, |id| id.value()),
        clean: meta.get(KEY_CLEAN)?.is_none_or(|clean| clean.value() == 1),
        ..Recovered::default()
    };
    let unreadable = |table: &str, key: &dyn fmt::Debug| {
        error!(table, ?key, "a record of the store cannot be read and is left out");
    };
    for kind in RecordKind::ALL {
        let table = match txn.open_table(directory::table(kind)) {
            Ok(table) => table,
            // Nothing of this kind was ever written.
            Err(redb::TableError::TableDoesNotExist(_)) => continue,
            Err(cause) => return Err(cause.into()),
        };
        for entry in table.iter()? {
            let (key, value) = entry?;
            match directory::decode(kind, value.value()) {
                Some(record) => recovered.directory.push(record),
                None => unreadable("directory", &key.value()),
            }
        }
    }
    for entry in txn.open_table(EXCHANGES)?.iter()? {
        let (key, value) = entry?;
        match exchanges::decode(key.value(), value.value()) {
            Some(exchange) => recovered.exchanges.push(exchange),
            None => unreadable("exchanges", &key.value()),
        }
    }
    for entry in txn.open_table(BINDINGS)?.iter()? {
        let (key, _) = entry?;
        match bindings::decode(key.value()) {
            Some(binding) => recovered.bindings.push(binding),
            None => unreadable("bindings", &key.value()),
        }
    }
    let mut lanes = BTreeMap::new();
    for entry in txn.open_table(LANES)?.iter()? {
        let (key, value) = entry?;
        match LaneState::decode(value.value()) {
            Some(state) => {
                lanes.insert(key.value(), state);
            }
            None => unreadable("lanes", &key.value()),
        }
    }
    let returns = recover_returns(database, &lanes, unreadable)?;
    for entry in txn.open_table(QUEUES)?.iter()? {
        let (key, value) = entry?;
        let Some((vhost, record)) = queues::decode(key.value(), value.value()) else {
            unreadable("queues", &key.value());
            continue;
        };
        let (first, last) = (LaneKey::new(record.id, 0).get(), LaneKey::new(record.id, u8::MAX).get());
        let clean = recovered.clean;
        let found = lanes.range(first..=last).map(|(key, state)| RecoveredLane {
            lane: LaneKey::from_number(*key).lane(),
            head_seq: state.head_seq,
            next_seq: state.next_seq,
            count: state.count,
            body_bytes: state.body_bytes,
            // After a crash nobody knows what was delivered: everything may have been.
            // Numbers that only transient messages had are given again.
            redelivered_below: if clean { state.delivered_below.min(state.next_seq) } else { state.next_seq },
            expiring: state.expiring,
            returns: returns.get(key).into_iter().flatten().map(|(seq, count)| (*seq, *count)).collect(),
        });
        recovered.queues.push((vhost, record, found.collect()));
    }
    let logs = recover_logs(&txn, &mut recovered)?;
    info!(
        exchanges = recovered.exchanges.len(),
        queues = recovered.queues.len(),
        bindings = recovered.bindings.len(),
        messages = lanes.values().map(|lane| lane.count).sum::<u64>(),
        streams = logs.len(),
        clean = recovered.clean,
        "store opened"
    );
    Ok(Found { recovered, lanes, returns, logs })
}

/// Reads how far streams reach, and their blocks.
fn recover_logs(
    txn: &redb::ReadTransaction,
    recovered: &mut Recovered,
) -> Result<HashMap<LaneKey, LogState>, redb::Error> {
    let mut logs = HashMap::new();
    let blocks = txn.open_table(BLOCKS)?;
    for entry in txn.open_table(LOGS)?.iter()? {
        let (key, value) = entry?;
        let lane = LaneKey::from_number(key.value());
        let Some(state) = LogState::decode(value.value()) else {
            error!(table = "logs", key = lane.get(), "a record of the store cannot be read and is left out");
            continue;
        };
        logs.insert(lane, state);
        let mut log = RecoveredLog { next_seq: state.next_seq, blocks: Vec::new() };
        for entry in blocks.range((lane.get(), state.first_seq)..=(lane.get(), u64::MAX))? {
            let (key, value) = entry?;
            let (_, first_seq) = key.value();
            if let Some(block) = decode_block(first_seq, value.value()) {
                log.blocks.push(block);
            } else {
                error!(table = "blocks", key = ?key.value(), "a record of the store cannot be read and is left out");
            }
        }
        if state.open.count > 0 {
            log.blocks.push(state.open);
        }
        recovered.logs.insert(lane.queue(), log);
    }
    Ok(logs)
}

fn read_loop(database: &Database, requests: &mpsc::Receiver<LoadRequest>) {
    while let Ok(request) = requests.recv() {
        answer(database, request, || std::thread::sleep(READ_RETRY));
    }
}

/// Answers a request; `wait` is called before the answer that nothing can be read.
pub(super) fn answer(database: &Database, request: LoadRequest, wait: impl FnOnce()) {
    let reply = load(database, &request).unwrap_or_else(|cause| {
        error!(lane = request.lane.get(), from_seq = request.from_seq, %cause, "messages cannot be read");
        // Nothing is given up: the queue asks again.
        wait();
        LoadReply { loaded: Vec::new(), complete_below: request.from_seq }
    });
    (request.reply)(reply);
}

/// Reads the live messages of a lane from a sequence number on. A damaged batch is reported and passed over.
fn load(database: &Database, request: &LoadRequest) -> Result<LoadReply, redb::Error> {
    let lane = request.lane.get();
    let txn = database.begin_read()?;
    let batches = txn.open_table(BATCHES)?;
    let settled = txn.open_table(SETTLED)?;
    let head_seq = txn
        .open_table(LANES)?
        .get(lane)?
        .and_then(|value| LaneState::decode(value.value()))
        .map_or(0, |state| state.head_seq);
    let start = batches
        .range((lane, 0)..=(lane, request.from_seq))?
        .next_back()
        .transpose()?
        .map_or(request.from_seq, |(key, _)| key.value().1);
    let mut reply = LoadReply { loaded: Vec::new(), complete_below: u64::MAX };
    let mut octets = 0;
    for entry in batches.range((lane, start)..=(lane, u64::MAX))? {
        let (key, value) = entry?;
        let (_, first_seq) = key.value();
        if octets >= request.max_bytes {
            reply.complete_below = first_seq;
            break;
        }
        octets += value.value().len();
        let marks = settled.get((lane, first_seq))?.map(|row| {
            let mut marks = Marks::new(row.value().len() as u64 * 8);
            marks.settle_bytes(row.value());
            marks
        });
        let is_settled = |seq: u64| {
            seq < head_seq
                || marks
                    .as_ref()
                    .is_some_and(|marks| seq - first_seq < marks.span() && marks.is_settled(seq - first_seq))
        };
        // Read back means stored: any ticket that is durable already will do.
        if let Some((_, loaded)) = decode_batch(first_seq, value.value(), request.from_seq, is_settled, 1) {
            reply.loaded.extend(loaded);
        } else {
            error!(lane, first_seq, "a batch of messages is damaged and passed over");
        }
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use leveret_protocol::{FieldTable, ShortString};

    use super::*;
    use crate::engine::message::{Arena, ArenaBuilder, Body, MessageParts, Timestamp};
    use crate::engine::queue::{QueueId, Settled};
    use crate::engine::stream::Block;
    use crate::engine::vhost::{Change, QueueRecord};
    use crate::store::{LogSink, LogUpdate};

    const QUEUE: QueueId = QueueId::new(1);
    const LANE: LaneKey = LaneKey::new(QUEUE, 0);

    fn arena(first: u32, count: u32, size: usize) -> Arc<Arena> {
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

    fn open(dir: &Path) -> (DiskStore, Recovered) {
        DiskStore::open(dir, 1, || panic!("no commit fails here")).expect("opens")
    }

    fn wait(store: &DiskStore, ticket: Ticket) {
        while store.durable() < ticket {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn submit(store: &DiskStore, ops: Vec<Op>) {
        let ticket = store.submit(Transaction { ops, waiter: None });
        wait(store, ticket);
    }

    fn declare() -> Op {
        let record = QueueRecord {
            id: QUEUE,
            name: ShortString::from_static("q"),
            durable: true,
            auto_delete: false,
            exclusive_owner: None,
            arguments: FieldTable::new(),
            delays: false,
        };
        Op::Define { vhost: ShortString::from_static("/"), change: Change::QueueAdded(record) }
    }

    fn append(first_seq: u64, count: u32, size: usize) -> Op {
        let first = u32::try_from(first_seq).expect("small");
        Op::Append { lane: LANE, first_seq, arena: arena(first, count, size), index: 0, count }
    }

    fn settle(first_seq: u64, last_seq: u64, size: u64) -> Op {
        let count = last_seq - first_seq + 1;
        Op::Settled {
            lane: LANE,
            settled: Settled { first_seq, last_seq, count, body_bytes: count * size, durable: true },
        }
    }

    /// The numbers in the bodies of everything stored, read in pieces.
    fn stored(store: &DiskStore, mut from_seq: u64) -> Vec<u32> {
        let mut numbers = Vec::new();
        loop {
            let (sender, receiver) = mpsc::channel();
            let reply = Box::new(move |reply| sender.send(reply).expect("somebody waits"));
            store.load(LoadRequest { lane: LANE, from_seq, max_bytes: 100_000, reply });
            let LoadReply { loaded, complete_below } = receiver.recv().expect("answered");
            for part in loaded {
                for nth in 0..part.count {
                    let body = part.arena.message(part.index + nth).body();
                    let number = u32::from_be_bytes(body[..4].try_into().expect("four octets"));
                    assert_eq!(u64::from(number), part.first_seq + u64::from(nth));
                    numbers.push(number);
                }
            }
            if complete_below == u64::MAX {
                return numbers;
            }
            from_seq = complete_below;
        }
    }

    #[test]
    fn messages_and_definitions_survive_a_restart_in_order() {
        let dir = tempfile::tempdir().expect("directory");
        for (size, count) in [(16_usize, 3000_u32), (1024, 300), (70_000, 5)] {
            let path = dir.path().join(size.to_string());
            let (store, recovered) = open(&path);
            assert!(recovered.clean && recovered.queues.is_empty());
            submit(&store, vec![declare()]);
            submit(&store, vec![append(0, count, size)]);
            submit(&store, vec![append(count.into(), count, size)]);
            let body = size as u64;
            submit(&store, vec![settle(0, 1, body), settle(4, 4, body)]);
            store.close();
            let (store, recovered) = open(&path);
            assert!(recovered.clean);
            let [(_, record, lanes)] = recovered.queues.as_slice() else { panic!("{:?}", recovered.queues) };
            assert_eq!(record.name, "q");
            assert_eq!(
                (lanes[0].count, lanes[0].next_seq, lanes[0].head_seq),
                (u64::from(count) * 2 - 3, u64::from(count) * 2, 2)
            );
            assert_eq!(lanes[0].body_bytes, lanes[0].count * body);
            let expected: Vec<u32> = (0..2 * count).filter(|number| ![0, 1, 4].contains(number)).collect();
            assert_eq!(stored(&store, 0), expected);
            submit(&store, vec![settle(2, 3, body), settle(5, u64::from(count) * 2 - 1, body)]);
            assert!(stored(&store, 0).is_empty());
            store.close();
            let (_, recovered) = open(&path);
            assert_eq!(recovered.queues[0].2[0].count, 0);
        }
    }

    #[test]
    fn a_store_that_was_not_closed_says_so_and_flags_everything() {
        let dir = tempfile::tempdir().expect("directory");
        let (store, _) = open(dir.path());
        submit(&store, vec![declare(), append(0, 10, 16)]);
        let copy = tempfile::tempdir().expect("directory");
        std::fs::copy(dir.path().join(FILE_NAME), copy.path().join(FILE_NAME)).expect("copied");
        store.close();
        let (store, recovered) = open(copy.path());
        assert!(!recovered.clean);
        assert_eq!(recovered.queues[0].2[0].redelivered_below, 10);
        assert_eq!(stored(&store, 0).len(), 10);
        store.close();
    }

    #[test]
    fn a_deleted_queue_takes_its_messages_along() {
        let dir = tempfile::tempdir().expect("directory");
        let (store, _) = open(dir.path());
        submit(&store, vec![declare(), append(0, 10, 16)]);
        let removed = Op::Define { vhost: ShortString::from_static("/"), change: Change::QueueRemoved(QUEUE) };
        submit(&store, vec![removed]);
        submit(&store, vec![append(10, 5, 16)]);
        assert!(stored(&store, 0).is_empty());
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
        submit(&store, vec![declare(), log(&told, 0, 10, 16), log(&told, 10, 500, 1000)]);
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
        assert_eq!(stored(&store, 0), (0..520).collect::<Vec<_>>());
        assert_eq!(stored(&store, 515), (515..520).collect::<Vec<_>>());
        let below_seq = found.blocks[4].first_seq;
        submit(&store, vec![Op::Truncate { lane: LANE, below_seq }, log(&told, 520, 1, 16)]);
        assert_eq!(told.parts.lock().last(), Some(&(520, 1)));
        let left: Vec<_> = (u32::try_from(below_seq).expect("small")..521).collect();
        assert_eq!(stored(&store, 0), left);
        store.close();
        let (store, recovered) = open(dir.path());
        assert_eq!(recovered.logs[&QUEUE].blocks.first().map(|block| block.first_seq), Some(below_seq));
        assert_eq!(stored(&store, 0), left);
        store.close();
    }

    #[test]
    fn what_is_cut_off_from_a_stream_goes_bit_by_bit() {
        let dir = tempfile::tempdir().expect("directory");
        let told = Arc::new(Told::default());
        let (store, _) = open(dir.path());
        let mut ops = vec![declare()];
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
    fn a_store_of_format_1_gets_what_streams_need() {
        let dir = tempfile::tempdir().expect("directory");
        open(dir.path()).0.close();
        let database = Database::create(dir.path().join(FILE_NAME)).expect("opens");
        let txn = database.begin_write().expect("begins");
        txn.open_table(META).expect("there").insert(KEY_FORMAT, 1).expect("written");
        txn.delete_table(LOGS).expect("deleted");
        txn.delete_table(BLOCKS).expect("deleted");
        txn.commit().expect("committed");
        drop(database);
        let (store, recovered) = open(dir.path());
        assert!(recovered.logs.is_empty());
        let told = Arc::new(Told::default());
        submit(&store, vec![declare(), log(&told, 0, 10, 16)]);
        assert_eq!(stored(&store, 0).len(), 10);
        store.close();
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
        txn.open_table(META).expect("there").insert(KEY_FORMAT, FORMAT + 1).expect("written");
        txn.commit().expect("committed");
        drop(database);
        let refused = DiskStore::open(dir.path(), 1, || ()).expect_err("newer").to_string();
        assert!(refused.contains("newer release"), "{refused}");
    }
}
