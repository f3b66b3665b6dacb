//! The store thread: redb's only writer. It takes everything that waits, commits it as one transaction, then publishes the
//! new watermark and wakes whoever waits for it. While it commits the next batch grows: group commit without a timer, and
//! a lone publish waits for nobody.
//!
//! A failed commit is final: the watermark stays, nothing more is taken, and the broker is told to stop.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use leveret_protocol::ShortString;
use redb::{Database, Durability, ReadableTable, Table, WriteTransaction};
use tracing::error;

use super::damage::{Broken, examine, next_batch, queue_name, repair};
use super::disk::{FILE_NAME, Shared};
use super::ledger::{Batch, Ledger};
use super::log::{Log, LogTables, News};
use super::schema::batches::{BATCHES, BatchShape, SETTLED, decode_settled, encode_batch, encode_settled, read_shape};
use super::schema::bindings::{self, BINDINGS};
use super::schema::damaged::DAMAGED;
use super::schema::directory;
use super::schema::exchanges::{self, EXCHANGES};
use super::schema::lanes::{LANES, LaneState};
use super::schema::logs::{BLOCKS, LOGS, LogState};
use super::schema::meta::{self, KEY_CLEAN, KEY_NEXT_QUEUE_ID};
use super::schema::queues::{self, QUEUES};
use super::schema::returns::{self, RETURNS};
use super::{LaneKey, Op, Ticket, Transaction, Waiter};
use crate::engine::directory::DirectoryChange;
use crate::engine::queue::QueueId;
use crate::engine::vhost::Change;
use crate::panics::StopOnPanic;
use crate::server::clock;

/// What the writer thread owns.
pub(super) struct Writer {
    database: Arc<Database>,
    shared: Arc<Shared>,
    ledgers: HashMap<LaneKey, Ledger>,
    logs: HashMap<LaneKey, Log>,
    /// Streams that the commit under way changes.
    touched_logs: Vec<LaneKey>,
    /// What to tell streams after it.
    news: Vec<News>,
    /// Durable queues: what comes for others comes too late.
    queues: HashSet<QueueId>,
    next_queue_id: u64,
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
    settled: Table<'txn, (u64, u64), &'static [u8]>,
    lanes: Table<'txn, u64, &'static [u8]>,
    returns: Table<'txn, (u64, u64), &'static [u8]>,
    /// Batches that turned out to be damaged.
    damaged: RefCell<Vec<Broken>>,
}

impl Writer {
    pub(super) fn new(
        database: Arc<Database>,
        shared: Arc<Shared>,
        lanes: BTreeMap<u64, LaneState>,
        mut returns: Returns,
        logs: HashMap<LaneKey, LogState>,
        queues: HashSet<QueueId>,
        next_queue_id: u64,
    ) -> Self {
        let ledger = |(lane, state)| {
            let returns = returns.remove(&lane).unwrap_or_default();
            (LaneKey::from_number(lane), Ledger::recovered(state, returns))
        };
        let ledgers = lanes.into_iter().map(ledger).collect();
        let touched_logs = logs.keys().copied().collect();
        let logs = logs.into_iter().map(|(lane, state)| {
            let deleted = !queues.contains(&lane.queue());
            (lane, Log::recovered(state, deleted))
        });
        Self {
            database,
            shared,
            ledgers,
            logs: logs.collect(),
            touched_logs,
            news: Vec::new(),
            queues,
            next_queue_id,
            scratch: Vec::new(),
        }
    }

    /// Commits until the store is closed or a commit fails.
    pub(super) fn run(mut self) {
        let _trust = StopOnPanic("the store");
        let mut batch = Vec::new();
        // What was cut off from streams before the last stop may not be removed yet.
        while let Some(ticket) = self.shared.take(&mut batch, !self.touched_logs.is_empty()) {
            if let Err(cause) = self.commit(&mut batch) {
                error!(
                    data_dir = %self.shared.data_dir.display(),
                    %cause,
                    "commit failed: nothing since the last commit is confirmed and the broker stops; free the disk or \
                     replace it, then start again"
                );
                self.shared.fail();
                return;
            }
            self.publish(ticket, &mut batch);
        }
        if let Err(cause) = self.mark_clean() {
            error!(data_dir = %self.shared.data_dir.display(), %cause, "the orderly stop could not be noted");
        }
    }

    /// Moves the watermark and wakes those who wait for it.
    pub(super) fn publish(&mut self, ticket: Ticket, batch: &mut Vec<Transaction>) {
        for (sink, update) in self.news.drain(..) {
            sink.committed(update);
        }
        self.shared.set_durable(ticket);
        let mut last: Option<Arc<dyn Waiter>> = None;
        for transaction in batch.drain(..) {
            let Some(waiter) = transaction.waiter else { continue };
            if !last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &waiter)) {
                waiter.wake();
                last = Some(waiter);
            }
        }
    }

    /// Writes what these transactions sum up to.
    pub(super) fn commit(&mut self, batch: &mut [Transaction]) -> Result<(), redb::Error> {
        let mut touched = Vec::new();
        let mut definitions = Vec::new();
        for transaction in batch.iter_mut() {
            for op in transaction.ops.drain(..) {
                self.collect(op, &mut touched, &mut definitions);
            }
        }
        let repairs = self.shared.repairs.take();
        if touched.is_empty() && definitions.is_empty() && self.touched_logs.is_empty() && repairs.is_empty() {
            return Ok(());
        }
        let database = self.database.clone();
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        let mut changed = !definitions.is_empty();
        if !definitions.is_empty() {
            self.write_definitions(&txn, &definitions)?;
        }
        if !repairs.is_empty() {
            changed = true;
            for lane in repair(&txn, &self.shared.repairs, repairs, &mut self.ledgers)? {
                if !touched.contains(&lane) {
                    touched.push(lane);
                }
            }
        }
        let met;
        {
            let mut tables = Tables {
                batches: txn.open_table(BATCHES)?,
                settled: txn.open_table(SETTLED)?,
                lanes: txn.open_table(LANES)?,
                returns: txn.open_table(RETURNS)?,
                damaged: RefCell::default(),
            };
            for lane in touched {
                changed |= self.write_lane(lane, &mut tables)?;
            }
            met = tables.damaged.into_inner();
        }
        self.report(&txn, &met)?;
        changed |= self.write_logs(&txn)?;
        if changed {
            txn.commit()?;
        } else {
            txn.abort()?;
        }
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
    fn collect(&mut self, op: Op, touched: &mut Vec<LaneKey>, definitions: &mut Vec<Definition>) {
        let lane = match op {
            Op::Append { lane, first_seq, arena, index, count } => {
                if !self.queues.contains(&lane.queue()) {
                    return;
                }
                let ledger = self.ledgers.entry(lane).or_default();
                if !ledger.dirty {
                    touched.push(lane);
                }
                return ledger.append(first_seq, arena, index, count);
            }
            Op::Settled { lane, settled } => {
                if !self.queues.contains(&lane.queue()) {
                    return;
                }
                let ledger = self.ledgers.entry(lane).or_default();
                if !ledger.dirty {
                    touched.push(lane);
                }
                return ledger.settle(settled);
            }
            Op::Returned { lane, seq, count } => {
                if !self.queues.contains(&lane.queue()) {
                    return;
                }
                let ledger = self.ledgers.entry(lane).or_default();
                if !ledger.dirty {
                    touched.push(lane);
                }
                return ledger.came_back(seq, count);
            }
            Op::Log { lane, arena, index, count, block_bytes, sink } => {
                if !self.queues.contains(&lane.queue()) {
                    return;
                }
                let log = self.logs.entry(lane).or_default();
                if !log.dirty && !log.has_rest {
                    self.touched_logs.push(lane);
                }
                return log.append(arena, index, count, block_bytes, sink);
            }
            Op::Truncate { lane, below_seq } => {
                let Some(log) = self.logs.get_mut(&lane) else { return };
                if !log.dirty && !log.has_rest {
                    self.touched_logs.push(lane);
                }
                return log.truncate(below_seq);
            }
            Op::Delivered { lane, below } => match self.ledgers.get_mut(&lane) {
                Some(ledger) if ledger.state.delivered_below != below => {
                    ledger.state.delivered_below = below;
                    if ledger.dirty {
                        return;
                    }
                    ledger.dirty = true;
                    lane
                }
                Some(_) | None => return,
            },
            Op::Directory(change) => return definitions.push(Definition::Directory(change)),
            Op::Define { vhost, change } => {
                match &change {
                    Change::QueueAdded(record) => {
                        self.queues.insert(record.id);
                    }
                    Change::QueueRemoved(id) => {
                        self.queues.remove(id);
                        self.ledgers.retain(|lane, _| lane.queue() != *id);
                        let lane = LaneKey::new(*id, 0);
                        if let Some(log) = self.logs.get_mut(&lane) {
                            if !log.dirty && !log.has_rest {
                                self.touched_logs.push(lane);
                            }
                            log.delete();
                        }
                    }
                    Change::ExchangeAdded(_)
                    | Change::ExchangeRemoved(_)
                    | Change::BindingAdded(_)
                    | Change::BindingRemoved(_) => {}
                }
                definitions.push(Definition::Vhost(vhost, change));
                return;
            }
        };
        touched.push(lane);
    }

    /// Writes what the commit does to one lane; whether there was anything to write.
    fn write_lane(&mut self, lane: LaneKey, tables: &mut Tables<'_>) -> Result<bool, redb::Error> {
        // A queue deleted in this same commit has no ledger any more.
        let Some(ledger) = self.ledgers.get_mut(&lane) else { return Ok(true) };
        let key = lane.get();
        let rows = ledger.close_round(|seq, last_seq| find_batch(key, seq, last_seq, tables))?;
        let changed = !rows.is_empty();
        let counters = ledger.take_counters(changed);
        for (first_seq, has_row) in rows.remove {
            tables.batches.remove((key, first_seq))?;
            if has_row {
                tables.settled.remove((key, first_seq))?;
            }
        }
        for runs in &rows.insert {
            let batch = encode_batch(key, runs, &mut self.scratch);
            tables.batches.insert(batch, self.scratch.as_slice())?;
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
        Ok(counters.is_some())
    }

    /// Writes what the commit does to streams; whether there was anything to write.
    fn write_logs(&mut self, txn: &WriteTransaction) -> Result<bool, redb::Error> {
        if self.touched_logs.is_empty() {
            return Ok(false);
        }
        let mut tables = LogTables {
            batches: txn.open_table(BATCHES)?,
            blocks: txn.open_table(BLOCKS)?,
            logs: txn.open_table(LOGS)?,
        };
        for lane in std::mem::take(&mut self.touched_logs) {
            let Some(log) = self.logs.get_mut(&lane) else { continue };
            self.news.extend(log.write(lane.get(), &mut tables)?);
            if log.is_gone() {
                self.logs.remove(&lane);
            } else if log.has_rest {
                self.touched_logs.push(lane);
            }
        }
        Ok(true)
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
        let txn = self.database.begin_write()?;
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
        match read_shape(key.value(), value.value()) {
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
        match read_shape(key.value(), value.value()) {
            Some(shape) => return Ok(Some((first, with_marks(key.value(), &shape, tables)?))),
            None => note_damage(key.value(), value.value(), tables)?,
        }
    }
    Ok(None)
}

fn note_damage(key: (u64, u64), value: &[u8], tables: &Tables<'_>) -> Result<(), redb::Error> {
    let broken = examine(key, value, |_| false, || next_batch(&tables.batches, key))?;
    tables.damaged.borrow_mut().push(broken);
    Ok(())
}

/// The batch of this shape, with what is settled of it. A row that cannot be read says nothing, as for the reader.
fn with_marks(key: (u64, u64), shape: &BatchShape, tables: &Tables<'_>) -> Result<Batch, redb::Error> {
    let row = tables.settled.get(key)?;
    let bitmap = row.as_ref().map(|row| decode_settled(key, row.value()).unwrap_or_default());
    Ok(Batch::on_disk(shape, bitmap))
}
