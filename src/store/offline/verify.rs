//! Checks every checksum of a store: redb's of its pages, and those of all records and batches.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError, TableHandle};
use serde::Serialize;

use super::{guarded, open};
use crate::engine::directory::RecordKind;
use crate::store::disk::{FILE_NAME, Replayed};
use crate::store::recovery::prepare;
use crate::store::schema::batches::{BATCHES, SETTLED, decode_batch, decode_settled, read_shape};
use crate::store::schema::bindings::{self, BINDINGS};
use crate::store::schema::damaged::{self, DAMAGED};
use crate::store::schema::directory;
use crate::store::schema::early::{self, EARLY};
use crate::store::schema::exchanges::{self, EXCHANGES};
use crate::store::schema::lanes::{LANES, LaneState};
use crate::store::schema::logs::{BLOCKS, LOGS, LogState, decode_block};
use crate::store::schema::meta::Facts;
use crate::store::schema::parts;
use crate::store::schema::queues::{self, QUEUES};
use crate::store::schema::returns::{self, RETURNS};
use crate::store::{StoreError, journal};

/// Faults that are listed; there may be as many as there are records.
const FAULTS_MAX: usize = 1000;

/// Something that is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The table; empty for the file as a whole.
    pub table: String,
    /// The record's key; empty for the table as a whole.
    pub key: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, key, what } = self;
        match (table.is_empty(), key.is_empty()) {
            (true, _) => write!(f, "file: {what}"),
            (false, true) => write!(f, "{table}: {what}"),
            (false, false) => write!(f, "{table} {key}: {what}"),
        }
    }
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Records that were looked at.
    pub records: u64,
    /// Batches among them.
    pub batches: u64,
    /// Messages in these, settled ones too.
    pub messages: u64,
    /// Batches that a broker has set aside because they were damaged.
    pub set_aside: u64,
    /// How much is damaged.
    pub damaged: u64,
    /// The first of it.
    pub faults: Vec<Fault>,
}

impl Verified {
    fn fault(&mut self, table: &str, key: String, what: impl Into<String>) {
        self.damaged += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { table: table.to_owned(), key, what: what.into() });
        }
    }
}

/// Checks the store in a directory, and its journal.
pub fn verify(dir: &Path) -> Result<Verified, StoreError> {
    let file = dir.join(FILE_NAME);
    let mut verified = verify_file(&file)?;
    let database = Arc::new(RwLock::new(open(&file)?));
    match guarded(|| super::read_all(&database, dir)) {
        Ok(Ok(Replayed { damaged: 0, .. })) => {}
        Ok(Ok(Replayed { damaged, .. })) => {
            let what = format!("{damaged} records that were durable are damaged or missing");
            verified.fault(journal::FILE_NAME, String::new(), what);
        }
        Ok(Err(cause)) => verified.fault(journal::FILE_NAME, String::new(), cause.to_string()),
        Err(panic) => verified.fault(journal::FILE_NAME, String::new(), panic),
    }
    Ok(verified)
}

/// Checks a store's file. An error if it is none, or cannot be opened at all.
pub fn verify_file(file: &Path) -> Result<Verified, StoreError> {
    let mut database = open(file)?;
    let mut verified = Verified::default();
    match guarded(|| database.check_integrity()) {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => verified.fault("", String::new(), "redb's check of its pages failed"),
        Ok(Err(cause)) => verified.fault("", String::new(), format!("redb's check of its pages failed: {cause}")),
        Err(panic) => verified.fault("", String::new(), panic),
    }
    drop(database);
    // The check may have put right what it can: the file is read as it is.
    let database = open(file)?;
    // A store of an earlier format is brought up to date in memory; its records had no checksums.
    match guarded(|| prepare(&database, file, 0)) {
        Ok(prepared) => prepared?,
        Err(panic) => {
            verified.fault("", String::new(), panic);
            return Ok(verified);
        }
    }
    if let Err(panic) = guarded(|| read_all(&database, &mut verified)) {
        verified.fault("", String::new(), panic);
    }
    Ok(verified)
}

fn read_all(database: &Database, verified: &mut Verified) {
    let txn = match database.begin_read() {
        Ok(txn) => txn,
        Err(cause) => return verified.fault("", String::new(), cause.to_string()),
    };
    let damaged = "its checksum is wrong, or it cannot be";
    match Facts::read(&txn) {
        Ok(facts) => {
            for key in &facts.damaged {
                verified.fault("facts", key.escape_ascii().to_string(), damaged);
            }
        }
        Err(cause) => verified.fault("facts", String::new(), cause.to_string()),
    }
    let check = |whole: bool| if whole { Ok(()) } else { Err(damaged) };
    numbered(&txn, QUEUES, verified, |key, value| check(queues::decode(key, value).is_some()));
    numbered(&txn, LANES, verified, |key, value| check(LaneState::decode(key, value).is_some()));
    numbered(&txn, LOGS, verified, |key, value| check(LogState::decode(key, value).is_some()));
    numbered(&txn, BLOCKS, verified, |key, value| check(decode_block(key, value).is_some()));
    numbered(&txn, SETTLED, verified, |key, value| check(decode_settled(key, value).is_some()));
    numbered(&txn, RETURNS, verified, |key, value| check(returns::decode(key, value).is_some()));
    numbered(&txn, EARLY, verified, |key, value| check(early::decode(key, value).is_some()));
    named(&txn, EXCHANGES, verified, |key, value| check(exchanges::decode(key, value).is_some()));
    named(&txn, BINDINGS, verified, |key, value| check(bindings::decode(key, value).is_some()));
    for kind in RecordKind::ALL {
        let table = directory::table(kind);
        named(&txn, table, verified, |key, value| check(directory::decode(kind, key, value).is_some()));
    }
    let mut set_aside = 0;
    numbered(&txn, DAMAGED, verified, |key, value| {
        set_aside += 1;
        check(damaged::decode(key, value).is_some())
    });
    verified.set_aside = set_aside;
    let (mut batches, mut messages, mut before) = (0, 0, (0, 0));
    let parts = match parts::open(&txn) {
        Ok(parts) => parts,
        Err(cause) => {
            verified.fault(parts::NAME, String::new(), format!("cannot be read: {cause}"));
            None
        }
    };
    numbered(&txn, BATCHES, verified, |key, row| {
        batches += 1;
        let batch = parts::whole(key, row, parts.as_ref()).map_err(|_| "its parts cannot be read")?;
        let shape = read_shape(key, &batch).ok_or(damaged)?;
        messages += shape.runs.iter().map(|(_, count)| count).sum::<u64>();
        decode_batch(key, batch, 0, |_| false, 1).ok_or("its records are not well-formed")?;
        let (lane, end_seq) = std::mem::replace(&mut before, (key.0, key.1 + shape.span));
        if lane == key.0 && key.1 < end_seq { Err("it overlaps the batch before") } else { Ok(()) }
    });
    (verified.batches, verified.messages) = (batches, messages);
}

/// Checks the records of a table whose keys are numbers.
fn numbered<K>(
    txn: &ReadTransaction,
    definition: TableDefinition<K, &'static [u8]>,
    verified: &mut Verified,
    mut check: impl FnMut(K, &[u8]) -> Result<(), &'static str>,
) where
    K: for<'a> redb::Key<SelfType<'a> = K> + fmt::Debug + Copy + 'static,
{
    rows(txn, definition, verified, |key, value| (format!("{key:?}"), check(*key, value)));
}

/// Checks the records of a table whose keys are names.
fn named(
    txn: &ReadTransaction,
    definition: TableDefinition<&'static [u8], &'static [u8]>,
    verified: &mut Verified,
    mut check: impl FnMut(&[u8], &[u8]) -> Result<(), &'static str>,
) {
    rows(txn, definition, verified, |key, value| (key.escape_ascii().to_string(), check(key, value)));
}

fn rows<K: redb::Key + 'static>(
    txn: &ReadTransaction,
    definition: TableDefinition<K, &'static [u8]>,
    verified: &mut Verified,
    mut check: impl FnMut(&K::SelfType<'_>, &[u8]) -> (String, Result<(), &'static str>),
) {
    let name = definition.name();
    let done = guarded(|| -> Result<(), redb::Error> {
        let table = match txn.open_table(definition) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(cause) => return Err(cause.into()),
        };
        for entry in table.iter()? {
            let (key, value) = entry?;
            verified.records += 1;
            let (key, result) = check(&key.value(), value.value());
            if let Err(what) = result {
                verified.fault(name, key, what);
            }
        }
        Ok(())
    });
    match done {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => verified.fault(name, String::new(), format!("cannot be read: {cause}")),
        Err(panic) => verified.fault(name, String::new(), panic),
    }
}
