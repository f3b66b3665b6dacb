//! What a start finds: the file is made or brought up to date, and everything but messages is read.

use std::collections::{BTreeMap, HashMap, HashSet, btree_map, hash_map};
use std::fmt;
use std::path::Path;

use leveret_protocol::ShortString;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableHandle};
use tracing::{error, info, warn};

use super::disk::{CACHE_BYTES, FILE_NAME};
use super::journal;
use super::schema::batches::{BATCHES, SETTLED};
use super::schema::bindings::{self, BINDINGS};
use super::schema::directory;
use super::schema::early::{self, EARLY};
use super::schema::exchanges::{self, EXCHANGES};
use super::schema::lanes::{LANES, LaneState};
use super::schema::logs::{BLOCKS, LOGS, LogState};
use super::schema::meta::{self, FACTS, FORMAT, Facts, KEY_CLEAN, KEY_EPOCH, KEY_JOURNAL, KEY_NEXT_QUEUE_ID, KEY_NODE};
use super::schema::parts::PARTS;
use super::schema::queues::{self, QUEUES};
use super::schema::returns::{self, RETURNS};
use super::upgrade::upgrade_1;
use super::writer::Returns;
use super::{LaneKey, Recovered, StoreError, recount};
use crate::engine::directory::RecordKind;
use crate::engine::queue::{QueueId, QueueType, RecoveredLane, Settled};
use crate::engine::stream::RecoveredLog;
use crate::engine::vhost::QueueRecord;

/// The database's file while it is being made.
const NEW_FILE_NAME: &str = "leveret.redb.new";

/// Makes a new store under another name and moves it to its place when it is whole, so that a crash meanwhile leaves
/// nothing behind that cannot be opened.
pub(super) fn create_file(data_dir: &Path, node: u64) -> Result<(), StoreError> {
    let (path, new) = (data_dir.join(FILE_NAME), data_dir.join(NEW_FILE_NAME));
    match std::fs::metadata(&path) {
        // It gets its name when it is whole, so it was not empty once. redb would make a new store of it.
        Ok(metadata) if metadata.len() == 0 => {
            return Err(StoreError::new(format!(
                "{} is empty: it has been cut off; put a backup in its place, or remove it to begin with an empty store",
                path.display()
            )));
        }
        Ok(_) => return Ok(()),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
        Err(cause) => return Err(StoreError::new(format!("cannot open {}: {cause}", path.display()))),
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

/// Makes the tables of a new store, or brings an old one up to date; refuses what it does not understand.
pub(super) fn prepare(database: &Database, file: &Path, node: u64) -> Result<(), StoreError> {
    let failed =
        |what: &str, cause: &dyn fmt::Display| StoreError::new(format!("cannot {what} {}: {cause}", file.display()));
    let format = find_format(database, file).map_err(|cause| failed("read", &cause))?;
    match format {
        None => initialise(database, node).map_err(|cause| failed("prepare", &cause)),
        Some(FORMAT) => Ok(()),
        Some(1) => {
            upgrade_1(database).map_err(|cause| failed("bring up to date", &cause))?;
            info!(file = %file.display(), from = 1, to = FORMAT, "the store was brought up to date");
            Ok(())
        }
        // What is there stays as it is.
        Some(2) => meta::upgrade_2(database).map_err(|cause| failed("bring up to date", &cause)),
        Some(newer) => Err(StoreError::new(format!(
            "the store {} has format {newer}, which a newer release wrote; this one reads up to {FORMAT}",
            file.display()
        ))),
    }
}

/// The format of a store; `None` for a new one. It is written down twice, sealed and for other releases to read.
fn find_format(database: &Database, file: &Path) -> Result<Option<u64>, redb::Error> {
    let txn = database.begin_read()?;
    let (told, facts) = (meta::read_format(&txn)?, Facts::read(&txn)?);
    if facts.is_empty() {
        return Ok(told);
    }
    // There are no facts before format 2.
    let sealed = facts.format().unwrap_or_else(|| told.unwrap_or(FORMAT).max(2));
    if told != Some(sealed) {
        error!(file = %file.display(), ?told, format = sealed, "the store's format is damaged; it is written down twice");
    }
    Ok(Some(sealed))
}

/// Makes the tables of a new store.
fn initialise(database: &Database, node: u64) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    {
        meta::put_format(&txn, FORMAT)?;
        meta::put(&txn, KEY_NODE, node)?;
        meta::put(&txn, KEY_NEXT_QUEUE_ID, 1)?;
        meta::put(&txn, KEY_CLEAN, 1)?;
        txn.open_table(EXCHANGES)?;
        txn.open_table(QUEUES)?;
        txn.open_table(BINDINGS)?;
        txn.open_table(LANES)?;
        txn.open_table(BATCHES)?;
        txn.open_table(PARTS)?;
        txn.open_table(SETTLED)?;
        txn.open_table(RETURNS)?;
        txn.open_table(EARLY)?;
        txn.open_table(LOGS)?;
        txn.open_table(BLOCKS)?;
    }
    txn.commit()?;
    Ok(())
}

/// Notes that the broker runs, with a journal of this epoch that goes on after this record, removes what was kept for messages
/// that are no more, and writes what was counted anew.
pub(super) fn mark_running(database: &Database, found: &Found, epoch: u64, journal: u64) -> Result<(), redb::Error> {
    let Found { state: State { lanes, logs, .. }, recounted, .. } = found;
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(true);
    meta::put(&txn, KEY_CLEAN, 0)?;
    meta::put(&txn, KEY_EPOCH, epoch)?;
    meta::put(&txn, KEY_JOURNAL, journal)?;
    txn.open_table(RETURNS)?.retain(|(lane, seq), _| is_live(lanes, lane, seq))?;
    txn.open_table(EARLY)?.retain(|_, _| false)?;
    for lane in recounted {
        if let Some(state) = lanes.get(lane) {
            txn.open_table(LANES)?.insert(lane, state.encode(*lane).as_slice())?;
        }
        if let Some(state) = logs.get(&LaneKey::from_number(*lane)) {
            txn.open_table(LOGS)?.insert(lane, state.encode(*lane).as_slice())?;
        }
    }
    txn.commit()?;
    Ok(())
}

/// Keeps a journal that cannot be read whole, for whoever wants to look at it.
pub(super) fn keep_journal(data_dir: &Path, epoch: u64) {
    let journal = data_dir.join(journal::FILE_NAME);
    let kept = data_dir.join(format!("{}.damaged-{epoch:016x}", journal::FILE_NAME));
    match std::fs::copy(&journal, &kept) {
        Ok(_) => {
            let kept = kept.display();
            error!(file = %journal.display(), %kept, "the journal is damaged: some of what was confirmed is lost");
        }
        Err(cause) => {
            error!(file = %journal.display(), %cause, "the journal is damaged, and cannot be copied for inspection");
        }
    }
}

/// Whether a lane may have a message with this number.
fn is_live(lanes: &BTreeMap<u64, LaneState>, lane: u64, seq: u64) -> bool {
    lanes.get(&lane).is_some_and(|state| (state.head_seq..state.next_seq).contains(&seq))
}

/// Reads how often messages came back.
fn recover_returns(
    txn: &ReadTransaction,
    lanes: &BTreeMap<u64, LaneState>,
    unreadable: &dyn Fn(&str, &dyn fmt::Debug),
) -> Result<Returns, redb::Error> {
    let mut found = Returns::new();
    for entry in txn.open_table(RETURNS)?.iter()? {
        let (key, value) = entry?;
        let (lane, seq) = key.value();
        match returns::decode(key.value(), value.value()) {
            Some(count) if is_live(lanes, lane, seq) => {
                found.entry(lane).or_default().insert(seq, count);
            }
            Some(_) => {}
            None => unreadable("returns", &key.value()),
        }
    }
    Ok(found)
}

/// Reads the directory, exchanges and bindings.
fn recover_definitions(
    txn: &ReadTransaction,
    recovered: &mut Recovered,
    unreadable: &dyn Fn(&str, &dyn fmt::Debug),
) -> Result<(), redb::Error> {
    for kind in RecordKind::ALL {
        let definition = directory::table(kind);
        let table = match txn.open_table(definition) {
            Ok(table) => table,
            // Nothing of this kind was ever written.
            Err(redb::TableError::TableDoesNotExist(_)) => continue,
            Err(cause) => return Err(cause.into()),
        };
        for entry in table.iter()? {
            let (key, value) = entry?;
            match directory::decode(kind, key.value(), value.value()) {
                Some(record) => recovered.directory.push(record),
                None => unreadable(definition.name(), &Octets(key.value())),
            }
        }
    }
    for entry in txn.open_table(EXCHANGES)?.iter()? {
        let (key, value) = entry?;
        match exchanges::decode(key.value(), value.value()) {
            Some(exchange) => recovered.exchanges.push(exchange),
            None => unreadable("exchanges", &Octets(key.value())),
        }
    }
    for entry in txn.open_table(BINDINGS)?.iter()? {
        let (key, value) = entry?;
        match bindings::decode(key.value(), value.value()) {
            Some(binding) => recovered.bindings.push(binding),
            None => unreadable("bindings", &Octets(key.value())),
        }
    }
    Ok(())
}

/// What a start finds.
pub(super) struct Found {
    /// What the broker needs.
    pub(super) recovered: Recovered,
    /// What the writer goes on from.
    pub(super) state: State,
    /// Lanes whose counters were damaged.
    pub(super) recounted: Vec<u64>,
    /// The history that the journal must be of.
    pub(super) epoch: u64,
    /// The last record of the journal that the database has.
    pub(super) journal: u64,
}

/// What the database has, as far as its writer has to know.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) lanes: BTreeMap<u64, LaneState>,
    pub(super) returns: Returns,
    pub(super) logs: HashMap<LaneKey, LogState>,
    /// Settlements that came before their messages.
    pub(super) early: Vec<(LaneKey, Settled)>,
    pub(super) queues: HashSet<QueueId>,
    pub(super) next_queue_id: u64,
    /// Octets that streams have.
    pub(super) stream_bytes: u64,
}

/// A key of names, as a log can show it.
struct Octets<'a>(&'a [u8]);

impl fmt::Debug for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Reads everything but messages. A record that cannot be read is reported and left out.
pub(super) fn recover(database: &Database, file: &Path) -> Result<Found, redb::Error> {
    let txn = database.begin_read()?;
    let unreadable = |table: &str, key: &dyn fmt::Debug| {
        error!(table, ?key, file = %file.display(), "a record of the store is damaged and left out");
    };
    let facts = Facts::read(&txn)?;
    for key in &facts.damaged {
        unreadable(FACTS.name(), &String::from_utf8_lossy(key));
    }
    let mut recovered = Recovered {
        next_queue_id: facts.get(KEY_NEXT_QUEUE_ID).unwrap_or(1),
        clean: facts.get(KEY_CLEAN) == Some(1),
        ..Recovered::default()
    };
    recover_definitions(&txn, &mut recovered, &unreadable)?;
    let mut lanes = BTreeMap::new();
    let mut uncounted = false;
    for entry in txn.open_table(LANES)?.iter()? {
        let (key, value) = entry?;
        if let Some(state) = LaneState::decode(key.value(), value.value()) {
            lanes.insert(key.value(), state);
        } else {
            unreadable("lanes", &key.value());
            uncounted = true;
        }
    }
    let mut queues = Vec::new();
    let mut unknown_queues = false;
    for entry in txn.open_table(QUEUES)?.iter()? {
        let (key, value) = entry?;
        if let Some(queue) = queues::decode(key.value(), value.value()) {
            queues.push(queue);
        } else {
            unreadable("queues", &key.value());
            unknown_queues = true;
        }
    }
    let mut recounted = Vec::new();
    let mut logs = recover_logs(&txn, &queues, &mut recovered, &mut recounted, &unreadable)?;
    if unknown_queues {
        // They may be streams, which would be taken for deleted: what they have is kept.
        logs.retain(|lane, _| queues.iter().any(|(_, record)| record.id == lane.queue()));
    }
    if uncounted {
        for (vhost, record) in queues.iter().filter(|(_, record)| !is_stream(record)) {
            for lane in recount::lanes_with_messages(&txn, record.id)? {
                if let btree_map::Entry::Vacant(missing) = lanes.entry(lane) {
                    let state = missing.insert(recount::lane(&txn, lane)?);
                    warn!(queue = %record.name, %vhost, lane, messages = state.count, "messages were counted anew");
                    recounted.push(lane);
                }
            }
        }
    }
    let returns = recover_returns(&txn, &lanes, &unreadable)?;
    for (vhost, record) in queues {
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
    // A number is never given twice, whatever became of the fact.
    let taken = recovered.queues.iter().map(|(_, record, _)| record.id).chain(logs.keys().map(|lane| lane.queue()));
    let taken = taken.chain(lanes.keys().map(|lane| LaneKey::from_number(*lane).queue()));
    let next = taken.map(|id| id.get() + 1).max().unwrap_or(1);
    recovered.next_queue_id = recovered.next_queue_id.max(next);
    info!(
        exchanges = recovered.exchanges.len(),
        queues = recovered.queues.len(),
        bindings = recovered.bindings.len(),
        messages = lanes.values().map(|lane| lane.count).sum::<u64>(),
        streams = logs.len(),
        clean = recovered.clean,
        "store opened"
    );
    let state = State {
        queues: recovered.queues.iter().map(|(_, queue, _)| queue.id).collect(),
        next_queue_id: recovered.next_queue_id,
        early: recover_early(&txn, &unreadable)?,
        stream_bytes: recovered.logs.values().flat_map(|log| &log.blocks).map(|block| block.record_bytes).sum(),
        lanes,
        returns,
        logs,
    };
    let fact = |key| facts.get(key).unwrap_or_default();
    Ok(Found { recovered, state, recounted, epoch: fact(KEY_EPOCH), journal: fact(KEY_JOURNAL) })
}

/// Whether a queue is a stream.
fn is_stream(record: &QueueRecord) -> bool {
    QueueType::from_arguments(&record.arguments) == Some(QueueType::Stream)
}

/// Reads settlements that came before their messages.
fn recover_early(
    txn: &ReadTransaction,
    unreadable: &dyn Fn(&str, &dyn fmt::Debug),
) -> Result<Vec<(LaneKey, Settled)>, redb::Error> {
    let mut found = Vec::new();
    for entry in txn.open_table(EARLY)?.iter()? {
        let (key, value) = entry?;
        match early::decode(key.value(), value.value()) {
            Some(settled) => found.push((LaneKey::from_number(key.value().0), settled)),
            None => unreadable("early", &key.value()),
        }
    }
    Ok(found)
}

/// Reads how far streams reach, and their blocks.
fn recover_logs(
    txn: &ReadTransaction,
    queues: &[(ShortString, QueueRecord)],
    recovered: &mut Recovered,
    recounted: &mut Vec<u64>,
    unreadable: &dyn Fn(&str, &dyn fmt::Debug),
) -> Result<HashMap<LaneKey, LogState>, redb::Error> {
    let mut logs = HashMap::new();
    let mut uncounted = false;
    for entry in txn.open_table(LOGS)?.iter()? {
        let (key, value) = entry?;
        let lane = LaneKey::from_number(key.value());
        if let Some(state) = LogState::decode(lane.get(), value.value()) {
            logs.insert(lane, state);
        } else {
            unreadable("logs", &lane.get());
            uncounted = true;
        }
    }
    if uncounted {
        for (vhost, record) in queues.iter().filter(|(_, record)| is_stream(record)) {
            let lane = LaneKey::new(record.id, 0);
            if let hash_map::Entry::Vacant(missing) = logs.entry(lane) {
                let state = missing.insert(recount::log(txn, lane.get())?);
                warn!(queue = %record.name, %vhost, next_offset = state.next_seq, "a stream was measured anew");
                recounted.push(lane.get());
            }
        }
    }
    let blocks = txn.open_table(BLOCKS)?;
    for (lane, state) in &logs {
        let full = recount::blocks(&blocks, lane.get(), state.first_seq, |key| unreadable("blocks", &key))?;
        let blocks = recount::without_gaps(state, full);
        recovered.logs.insert(lane.queue(), RecoveredLog { next_seq: state.next_seq, blocks });
    }
    Ok(logs)
}
