//! The thread `store-writer`: redb's only writer. What is in the journal it collects by lane; when enough of the journal is
//! used it writes the sum to the database as one transaction, a *checkpoint*, and the journal's records up to there may be
//! overwritten. What came and went between two checkpoints is never written.
//!
//! Checkpoints are few, so each can afford redb's quick repair: after a crash the database opens at once.
//!
//! A failed commit is final: nothing more is taken, and the broker is told to stop. The journal has what the database lacks.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use leveret_protocol::ShortString;
use parking_lot::RwLock;
use redb::{Database, Durability, ReadableTable, Table, WriteTransaction};
use tracing::error;

use super::backlog::Intake;
use super::damage::{Broken, examine, next_batch, queue_name, repair};
use super::disk::{FILE_NAME, Shared};
use super::ledger::{Batch, Known, Ledger, Ledgers};
use super::log::{Log, LogTables};
use super::recovery::State;
use super::schema::batches::{BATCHES, BatchShape, SETTLED, decode_settled, encode_batch, encode_settled, read_shape};
use super::schema::bindings::{self, BINDINGS};
use super::schema::damaged::DAMAGED;
use super::schema::directory;
use super::schema::early::{self, EARLY};
use super::schema::exchanges::{self, EXCHANGES};
use super::schema::lanes::LANES;
use super::schema::logs::{BLOCKS, LOGS};
use super::schema::meta::{self, KEY_CLEAN, KEY_JOURNAL, KEY_NEXT_QUEUE_ID};
use super::schema::parts::{self, PARTS};
use super::schema::queues::{self, QUEUES};
use super::schema::returns::{self, RETURNS};
use super::shrink::Shrinker;
use super::{LaneKey, Op, Ticket};
use crate::engine::directory::DirectoryChange;
use crate::engine::queue::QueueId;
use crate::engine::vhost::Change;
use crate::panics::{StopOnPanic, contained};
use crate::server::clock;

/// Octets of the journal after which a checkpoint is due: well below its size, so that the journal goes on meanwhile.
const CHECKPOINT_BYTES: u64 = 6 * 1024 * 1024;
/// How long what is in the journal waits for more before a checkpoint.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(1);

/// About what a message takes beside its body.
const RECORD_OVERHEAD: u64 = 64;

/// What the writer thread owns.
pub(super) struct Writer {
    database: Arc<RwLock<Database>>,
    shared: Arc<Shared>,
    ledgers: Ledgers,
    known: Known,
    logs: HashMap<LaneKey, Log>,
    /// What the next checkpoint changes: lanes, streams, definitions.
    touched: Vec<LaneKey>,
    touched_logs: Vec<LaneKey>,
    /// Lanes with settlements that came before their messages, and whether the database has such.
    early: BTreeSet<LaneKey>,
    has_early: bool,
    definitions: Vec<Definition>,
    /// Up to where everything is collected.
    ticket: Ticket,
    seq: u64,
    /// Octets of the journal that the next checkpoint frees.
    bytes: u64,
    /// Something was collected since the last checkpoint.
    is_behind: bool,
    /// Durable queues: what comes for others comes too late.
    queues: HashSet<QueueId>,
    next_queue_id: u64,
    /// Octets that streams have in the database.
    stream_bytes: u64,
    shrinker: Shrinker,
    scratch: Vec<u8>,
}

/// How often messages came back, by lane and sequence number.
pub(super) type Returns = BTreeMap<u64, BTreeMap<u64, u32>>;

/// A definition to be written.
enum Definition {
    /// Of what is in a vhost.
    Vhost(ShortString, Change),
    /// Of the directory.
    Directory(DirectoryChange),
}

struct Tables<'txn> {
    batches: Table<'txn, (u64, u64), &'static [u8]>,
    parts: Table<'txn, &'static [u8], &'static [u8]>,
    settled: Table<'txn, (u64, u64), &'static [u8]>,
    lanes: Table<'txn, u64, &'static [u8]>,
    returns: Table<'txn, (u64, u64), &'static [u8]>,
    /// Batches that turned out to be damaged.
    damaged: RefCell<Vec<Broken>>,
}

impl Writer {
    pub(super) fn new(database: Arc<RwLock<Database>>, shared: Arc<Shared>, state: State, seq: u64) -> Self {
        let State { lanes, mut returns, logs, early, queues, next_queue_id, stream_bytes } = state;
        let ledger = |(lane, state)| {
            let returns = returns.remove(&lane).unwrap_or_default();
            (LaneKey::from_number(lane), Box::new(Ledger::recovered(state, returns)))
        };
        let mut ledgers: Ledgers = lanes.into_iter().map(ledger).collect();
        for (lane, settled) in &early {
            ledgers.entry(*lane).or_default().settle(*settled);
        }
        let touched_logs = logs.keys().copied().collect();
        let logs = logs.into_iter().map(|(lane, state)| {
            let deleted = !queues.contains(&lane.queue());
            (lane, Log::recovered(state, deleted))
        });
        Self {
            database,
            shared,
            ledgers,
            known: Known::default(),
            logs: logs.collect(),
            touched: Vec::new(),
            touched_logs,
            early: early.iter().map(|(lane, _)| *lane).collect(),
            has_early: !early.is_empty(),
            definitions: Vec::new(),
            ticket: Ticket::NONE,
            seq,
            bytes: 0,
            is_behind: false,
            queues,
            next_queue_id,
            stream_bytes,
            shrinker: Shrinker::default(),
            scratch: Vec::new(),
        }
    }

    /// Follows the journal until the store is closed or a commit fails.
    pub(super) fn run(mut self) {
        let _trust = StopOnPanic("the store");
        // redb panics where it finds pages that it did not write. What the database has then is as it was.
        let followed = contained(|| self.follow());
        let has_followed = self.check(followed);
        // The appender hears of it when it is logged why.
        self.shared.backlog.end();
        if has_followed && !self.shared.has_failed() {
            let marked = contained(|| self.mark_clean());
            self.check(marked);
        }
    }

    /// Whether it went well; else the store fails.
    fn check(&self, result: Result<Result<(), redb::Error>, String>) -> bool {
        let cause = match result {
            Ok(Ok(())) => return true,
            Ok(Err(cause)) => cause.to_string(),
            Err(panic) => format!("it is damaged: {panic}; see 'leveret verify'"),
        };
        error!(
            file = %self.shared.data_dir.join(FILE_NAME).display(),
            %cause,
            "cannot write: the broker stops; free the disk or replace it, then start again; what was confirmed is in \
             the journal"
        );
        self.shared.fail();
        false
    }

    fn follow(&mut self) -> Result<(), redb::Error> {
        loop {
            let intake = self.shared.backlog.take(self.is_dirty().then_some(CHECKPOINT_AFTER));
            let Intake { wanted, closed, late, .. } = intake;
            let is_last = closed && intake.ops.is_empty();
            self.collect_all(intake);
            if self.is_dirty() && (wanted.is_some() || closed || late || self.is_full()) {
                self.checkpoint()?;
                self.shrink()?;
            }
            if let Some(request) = wanted {
                self.shared.backlog.answer(request);
            }
            if is_last || self.shared.has_failed() {
                return Ok(());
            }
        }
    }

    /// Makes the file smaller when most of it is free.
    fn shrink(&mut self) -> Result<(), redb::Error> {
        let in_queue = |ledger: &Ledger| ledger.state.body_bytes + ledger.state.count * RECORD_OVERHEAD;
        let live = || self.ledgers.values().map(|ledger| in_queue(ledger)).sum::<u64>() + self.stream_bytes;
        let file = self.shared.data_dir.join(FILE_NAME);
        // redb's own commits take no quick repair along: the next checkpoint does.
        self.is_behind |= self.shrinker.shrink(&self.database, &file, live)?;
        Ok(())
    }

    /// Whether a checkpoint would change anything.
    pub(super) fn is_dirty(&self) -> bool {
        self.is_behind || !self.touched_logs.is_empty() || self.shared.repairs.are_waiting()
    }

    /// Whether a checkpoint is due.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= CHECKPOINT_BYTES
    }

    /// Sorts operations to the lanes and definitions that they are about.
    pub(super) fn collect_all(&mut self, intake: Intake) {
        self.ticket = intake.ticket;
        self.seq = intake.seq;
        self.bytes += intake.bytes;
        self.is_behind |= !intake.ops.is_empty();
        for op in intake.ops {
            self.collect(op);
        }
    }

    /// Writes what was collected sums up to.
    pub(super) fn checkpoint(&mut self) -> Result<(), redb::Error> {
        let began = clock::instant();
        let mut txn = self.database.read().begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        txn.set_quick_repair(true);
        let definitions = std::mem::take(&mut self.definitions);
        if !definitions.is_empty() {
            self.write_definitions(&txn, &definitions)?;
        }
        let repairs = self.shared.repairs.take();
        if !repairs.is_empty() {
            for lane in repair(&txn, &self.shared.repairs, repairs, &mut self.ledgers)? {
                self.touch(lane);
            }
        }
        let met;
        {
            let mut tables = Tables {
                batches: txn.open_table(BATCHES)?,
                parts: txn.open_table(PARTS)?,
                settled: txn.open_table(SETTLED)?,
                lanes: txn.open_table(LANES)?,
                returns: txn.open_table(RETURNS)?,
                damaged: RefCell::default(),
            };
            for lane in std::mem::take(&mut self.touched) {
                self.write_lane(lane, &mut tables)?;
            }
            met = tables.damaged.into_inner();
        }
        self.known.limit(&mut self.ledgers);
        self.report(&txn, &met)?;
        self.write_logs(&txn)?;
        self.write_early(&txn)?;
        meta::put(&txn, KEY_JOURNAL, self.seq)?;
        txn.commit()?;
        self.bytes = 0;
        self.is_behind = false;
        let took = clock::instant().saturating_duration_since(began);
        self.shared.figures.lock().note_checkpoint(took);
        self.shared.set_stored(self.ticket, self.seq);
        Ok(())
    }

    /// Tells of batches that turned out to be damaged; the next commit sets them aside.
    fn report(&self, txn: &WriteTransaction, met: &[Broken]) -> Result<(), redb::Error> {
        for broken in met {
            let queue = queue_name(&txn.open_table(QUEUES)?, broken.key.0)?;
            if self.shared.repairs.found(broken, &queue, &self.shared.data_dir.join(FILE_NAME), clock::now()) {
                self.shared.prompt();
            }
        }
        Ok(())
    }

    /// Sorts one operation to the lane or definition that it is about.
    fn collect(&mut self, op: Op) {
        match op {
            Op::Append { lane, first_seq, arena, index, count } => {
                if let Some(ledger) = self.touch(lane) {
                    ledger.append(first_seq, arena, index, count);
                }
            }
            Op::Settled { lane, settled } => {
                if let Some(ledger) = self.touch(lane) {
                    ledger.settle(settled);
                }
            }
            Op::Returned { lane, seq, count } => {
                if let Some(ledger) = self.touch(lane) {
                    ledger.came_back(seq, count);
                }
            }
            Op::Delivered { lane, below } => {
                if self.ledgers.contains_key(&lane)
                    && let Some(ledger) = self.touch(lane)
                {
                    ledger.state.delivered_below = below;
                }
            }
            Op::Log { lane, arena, index, count, block_bytes, sink: _ } => {
                if self.queues.contains(&lane.queue()) {
                    self.logs.entry(lane).or_default();
                }
                if let Some(log) = self.touch_log(lane) {
                    log.append(arena, index, count, block_bytes);
                }
            }
            Op::Truncate { lane, below_seq } => {
                if let Some(log) = self.touch_log(lane) {
                    log.truncate(below_seq);
                }
            }
            Op::Directory(change) => self.definitions.push(Definition::Directory(change)),
            Op::Define { vhost, change } => {
                match &change {
                    Change::QueueAdded(record) => {
                        self.queues.insert(record.id);
                    }
                    Change::QueueRemoved(id) => {
                        self.queues.remove(id);
                        for lane in (0..=u8::MAX).map(|lane| LaneKey::new(*id, lane)) {
                            self.ledgers.remove(&lane);
                            self.early.remove(&lane);
                        }
                        if let Some(log) = self.touch_log(LaneKey::new(*id, 0)) {
                            log.delete();
                        }
                    }
                    Change::ExchangeAdded(_)
                    | Change::ExchangeRemoved(_)
                    | Change::BindingAdded(_)
                    | Change::BindingRemoved(_) => {}
                }
                self.definitions.push(Definition::Vhost(vhost, change));
            }
        }
    }

    /// The ledger of a lane that the next checkpoint changes; `None` if its queue is gone: what comes for it comes too late.
    fn touch(&mut self, lane: LaneKey) -> Option<&mut Ledger> {
        if !self.queues.contains(&lane.queue()) {
            return None;
        }
        let ledger = self.ledgers.entry(lane).or_default();
        if !std::mem::replace(&mut ledger.dirty, true) {
            self.touched.push(lane);
        }
        Some(ledger)
    }

    /// The log of a stream that the next checkpoint changes.
    fn touch_log(&mut self, lane: LaneKey) -> Option<&mut Log> {
        let log = self.logs.get_mut(&lane)?;
        if !log.dirty && !log.has_rest {
            self.touched_logs.push(lane);
        }
        Some(log)
    }

    /// Writes what the checkpoint does to one lane.
    fn write_lane(&mut self, lane: LaneKey, tables: &mut Tables<'_>) -> Result<(), redb::Error> {
        // A queue deleted meanwhile has no ledger any more.
        let Some(ledger) = self.ledgers.get_mut(&lane) else { return Ok(()) };
        let key = lane.get();
        let known = ledger.known();
        let rows = ledger.close_round(|seq, last_seq| find_batch(key, seq, last_seq, tables))?;
        self.known.note(known, ledger.known());
        if ledger.early().is_empty() {
            self.early.remove(&lane);
        } else {
            self.early.insert(lane);
        }
        let changed = !rows.is_empty();
        let counters = ledger.take_counters(changed);
        for (first_seq, has_row) in rows.remove {
            parts::remove(&mut tables.batches, &mut tables.parts, (key, first_seq))?;
            if has_row {
                tables.settled.remove((key, first_seq))?;
            }
        }
        for runs in &rows.insert {
            let batch = encode_batch(key, runs, &mut self.scratch);
            parts::insert(&mut tables.batches, &mut tables.parts, batch, &self.scratch)?;
        }
        for (first_seq, bitmap) in &rows.mark {
            let row = (key, *first_seq);
            tables.settled.insert(row, encode_settled(row, bitmap).as_slice())?;
        }
        for (seq, count) in rows.count {
            tables.returns.insert((key, seq), returns::encode_value((key, seq), count).as_slice())?;
        }
        for seq in rows.uncount {
            tables.returns.remove((key, seq))?;
        }
        if let Some(counters) = counters {
            tables.lanes.insert(key, counters.encode(key).as_slice())?;
        }
        Ok(())
    }

    /// Writes what the checkpoint does to streams.
    fn write_logs(&mut self, txn: &WriteTransaction) -> Result<(), redb::Error> {
        if self.touched_logs.is_empty() {
            return Ok(());
        }
        let mut tables = LogTables {
            batches: txn.open_table(BATCHES)?,
            parts: txn.open_table(PARTS)?,
            blocks: txn.open_table(BLOCKS)?,
            logs: txn.open_table(LOGS)?,
        };
        for lane in std::mem::take(&mut self.touched_logs) {
            let Some(log) = self.logs.get_mut(&lane) else { continue };
            self.stream_bytes = self.stream_bytes.saturating_add_signed(log.write(lane.get(), &mut tables)?);
            if log.is_gone() {
                self.logs.remove(&lane);
            } else if log.has_rest {
                self.touched_logs.push(lane);
            }
        }
        Ok(())
    }

    /// Keeps settlements that came before their messages: the journal may lose them and keep those.
    fn write_early(&mut self, txn: &WriteTransaction) -> Result<(), redb::Error> {
        if self.early.is_empty() && !self.has_early {
            return Ok(());
        }
        let mut table = txn.open_table(EARLY)?;
        table.retain(|_, _| false)?;
        for lane in &self.early {
            for settled in self.ledgers.get(lane).map_or(&[][..], |ledger| ledger.early()) {
                table.insert((lane.get(), settled.first_seq), early::encode_value(lane.get(), settled).as_slice())?;
            }
        }
        self.has_early = !self.early.is_empty();
        Ok(())
    }

    fn write_definitions(&mut self, txn: &WriteTransaction, definitions: &[Definition]) -> Result<(), redb::Error> {
        let mut exchange_table = txn.open_table(EXCHANGES)?;
        let mut queue_table = txn.open_table(QUEUES)?;
        let mut binding_table = txn.open_table(BINDINGS)?;
        let mut last_id = None;
        for definition in definitions {
            let (vhost, change) = match definition {
                Definition::Vhost(vhost, change) => (vhost, change),
                Definition::Directory(change) => {
                    write_directory(txn, change)?;
                    continue;
                }
            };
            match change {
                Change::ExchangeAdded(record) => {
                    let key = exchanges::key(vhost, &record.name);
                    exchange_table.insert(key.as_slice(), exchanges::encode_value(&key, record).as_slice())?;
                }
                Change::ExchangeRemoved(name) => {
                    exchange_table.remove(exchanges::key(vhost, name).as_slice())?;
                }
                Change::QueueAdded(record) => {
                    last_id = last_id.max(Some(record.id.get()));
                    queue_table.insert(record.id.get(), queues::encode_value(vhost, record).as_slice())?;
                }
                Change::QueueRemoved(id) => {
                    queue_table.remove(id.get())?;
                    // Those of a stream go bit by bit.
                    if !self.logs.contains_key(&LaneKey::new(*id, 0)) {
                        remove_messages(txn, *id)?;
                    }
                }
                Change::BindingAdded(binding) => {
                    let key = bindings::key(vhost, binding);
                    binding_table.insert(key.as_slice(), bindings::value(&key).as_slice())?;
                }
                Change::BindingRemoved(binding) => {
                    binding_table.remove(bindings::key(vhost, binding).as_slice())?;
                }
            }
        }
        if let Some(id) = last_id
            && id >= self.next_queue_id
        {
            self.next_queue_id = id + 1;
            meta::put(txn, KEY_NEXT_QUEUE_ID, self.next_queue_id)?;
        }
        Ok(())
    }

    /// Notes that the stop is orderly.
    pub(super) fn mark_clean(&self) -> Result<(), redb::Error> {
        let txn = self.database.read().begin_write()?;
        meta::put(&txn, KEY_CLEAN, 1)?;
        txn.commit()?;
        Ok(())
    }
}

fn write_directory(txn: &WriteTransaction, change: &DirectoryChange) -> Result<(), redb::Error> {
    match change {
        DirectoryChange::Put(record) => {
            let kind = record.key().kind;
            let key = directory::key(&record.key());
            let value = directory::encode_value(kind, &key, record);
            txn.open_table(directory::table(kind))?.insert(key.as_slice(), value.as_slice())?;
        }
        DirectoryChange::Removed(key) => {
            txn.open_table(directory::table(key.kind))?.remove(directory::key(key).as_slice())?;
        }
    }
    Ok(())
}

/// Removes everything that the store has of a queue's messages.
fn remove_messages(txn: &WriteTransaction, id: QueueId) -> Result<(), redb::Error> {
    let (first, last) = (LaneKey::new(id, 0).get(), LaneKey::new(id, u8::MAX).get());
    txn.open_table(LANES)?.retain_in(first..=last, |_, _| false)?;
    txn.open_table(BATCHES)?.retain_in((first, 0)..=(last, u64::MAX), |_, _| false)?;
    parts::remove_lanes(&mut txn.open_table(PARTS)?, first, last)?;
    txn.open_table(SETTLED)?.retain_in((first, 0)..=(last, u64::MAX), |_, _| false)?;
    txn.open_table(RETURNS)?.retain_in((first, 0)..=(last, u64::MAX), |_, _| false)?;
    txn.open_table(DAMAGED)?.retain_in((first, 0)..=(last, u64::MAX), |_, _| false)?;
    Ok(())
}

/// The batch that starts at or before `seq` and reaches it, or else the next one up to `last_seq`.
fn find_batch(lane: u64, seq: u64, last_seq: u64, tables: &Tables<'_>) -> Result<Option<(u64, Batch)>, redb::Error> {
    let before = tables.batches.range((lane, 0)..=(lane, seq))?.next_back().transpose()?;
    if let Some((key, value)) = before {
        let (_, first) = key.value();
        match shape_of(key.value(), value.value(), tables)? {
            Some(shape) if seq < first + shape.span => {
                return Ok(Some((first, with_marks(key.value(), &shape, tables)?)));
            }
            Some(_) => {}
            None => note_damage(key.value(), value.value(), tables)?,
        }
    }
    for entry in tables.batches.range((lane, seq)..=(lane, last_seq))? {
        let (key, value) = entry?;
        let (_, first) = key.value();
        match shape_of(key.value(), value.value(), tables)? {
            Some(shape) => return Ok(Some((first, with_marks(key.value(), &shape, tables)?))),
            None => note_damage(key.value(), value.value(), tables)?,
        }
    }
    Ok(None)
}

fn shape_of(key: (u64, u64), row: &[u8], tables: &Tables<'_>) -> Result<Option<BatchShape>, redb::Error> {
    Ok(read_shape(key, &parts::whole(key, row, Some(&tables.parts))?))
}

fn note_damage(key: (u64, u64), row: &[u8], tables: &Tables<'_>) -> Result<(), redb::Error> {
    let batch = parts::whole(key, row, Some(&tables.parts))?;
    let broken = examine(key, &batch, |_| false, || next_batch(&tables.batches, key))?;
    tables.damaged.borrow_mut().push(broken);
    Ok(())
}

/// The batch of this shape, with what is settled of it. A row that cannot be read says nothing, as for the reader.
fn with_marks(key: (u64, u64), shape: &BatchShape, tables: &Tables<'_>) -> Result<Batch, redb::Error> {
    let row = tables.settled.get(key)?;
    let bitmap = row.as_ref().map(|row| decode_settled(key, row.value()).unwrap_or_default());
    Ok(Batch::on_disk(shape, bitmap))
}
