//! What a start finds: the file is made or brought up to date, and everything but messages is read.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable};
use tracing::{error, info};

use super::disk::{CACHE_BYTES, FILE_NAME};
use super::schema::batches::{BATCHES, SETTLED};
use super::schema::bindings::{self, BINDINGS};
use super::schema::directory;
use super::schema::exchanges::{self, EXCHANGES};
use super::schema::lanes::{LANES, LaneState};
use super::schema::logs::{BLOCKS, LOGS, LogState, decode_block};
use super::schema::meta::{FORMAT, KEY_CLEAN, KEY_FORMAT, KEY_NEXT_QUEUE_ID, KEY_NODE, META};
use super::schema::queues::{self, QUEUES};
use super::schema::returns::{self, RETURNS};
use super::writer::Returns;
use super::{LaneKey, Recovered, StoreError};
use crate::engine::directory::RecordKind;
use crate::engine::queue::RecoveredLane;
use crate::engine::stream::RecoveredLog;

/// The database's file while it is being made.
const NEW_FILE_NAME: &str = "leveret.redb.new";

/// Makes a new store under another name and moves it to its place when it is whole, so that a crash meanwhile leaves
/// nothing behind that cannot be opened.
pub(super) fn create_file(data_dir: &Path, node: u64) -> Result<(), StoreError> {
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
pub(super) fn read_format(database: &Database) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get(KEY_FORMAT)?.map(|format| format.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(cause) => Err(cause.into()),
    }
}

/// Makes the tables of a new store.
pub(super) fn initialise(database: &Database, node: u64) -> Result<(), redb::Error> {
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
pub(super) fn add_tables(database: &Database) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    txn.open_table(LOGS)?;
    txn.open_table(BLOCKS)?;
    txn.commit()?;
    Ok(())
}

/// Notes that the broker runs, and removes counts of messages that are no more.
pub(super) fn mark_running(database: &Database, lanes: &BTreeMap<u64, LaneState>) -> Result<(), redb::Error> {
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
pub(super) struct Found {
    pub(super) recovered: Recovered,
    pub(super) lanes: BTreeMap<u64, LaneState>,
    pub(super) returns: Returns,
    pub(super) logs: HashMap<LaneKey, LogState>,
}

/// Reads everything but messages. A record that cannot be read is reported and left out.
pub(super) fn recover(database: &Database) -> Result<Found, redb::Error> {
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
