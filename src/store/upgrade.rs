//! Brings a store of an earlier format up to date, in one transaction.
//!
//! From format 1 to 2: records are sealed. A record of format 1 was a format octet and its content; the content stays. A
//! record that has another format octet is damaged: it stays as it is, and the start that follows reports it. Batches are
//! not touched, there may be millions of them; those of format 1 can be read for ever.

use redb::{Database, ReadableTable, TableDefinition, TableHandle, WriteTransaction};

use super::schema::batches::{BATCHES, SETTLED, encode_settled};
use super::schema::bindings::{self, BINDINGS, BINDINGS_1};
use super::schema::directory;
use super::schema::early::EARLY;
use super::schema::exchanges::EXCHANGES;
use super::schema::lanes::LANES;
use super::schema::logs::{BLOCKS, LOGS};
use super::schema::meta;
use super::schema::queues::QUEUES;
use super::schema::returns::RETURNS;
use super::schema::seal::{Key, Record, open_1};
use crate::engine::directory::RecordKind;

/// From format 1 to the present one.
pub(super) fn upgrade_1(database: &Database) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    // A store of an early release may lack some tables.
    txn.open_table(BATCHES)?;
    txn.open_table(EARLY)?;
    seal_numbered(&txn, QUEUES)?;
    seal_numbered(&txn, LANES)?;
    seal_numbered(&txn, LOGS)?;
    seal_numbered(&txn, BLOCKS)?;
    seal_numbered(&txn, RETURNS)?;
    seal_named(&txn, EXCHANGES)?;
    for kind in RecordKind::ALL {
        seal_named(&txn, directory::table(kind))?;
    }
    seal_settled(&txn)?;
    seal_bindings(&txn)?;
    meta::upgrade_1(&txn)?;
    txn.commit()?;
    Ok(())
}

/// The record as it is written now.
fn sealed(table: &str, key: impl Key, value: &[u8]) -> Option<Vec<u8>> {
    Some(Record::of(open_1(value)?.rest()).seal(table, key))
}

/// Seals the records of a table whose keys are numbers.
fn seal_numbered<K>(txn: &WriteTransaction, definition: TableDefinition<K, &[u8]>) -> Result<(), redb::Error>
where
    K: for<'a> redb::Key<SelfType<'a> = K> + Key + 'static,
{
    let mut table = txn.open_table(definition)?;
    let mut rows = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        rows.extend(sealed(definition.name(), key.value(), value.value()).map(|value| (key.value(), value)));
    }
    for (key, value) in rows {
        table.insert(key, value.as_slice())?;
    }
    Ok(())
}

/// Seals the records of a table whose keys are names.
fn seal_named(txn: &WriteTransaction, definition: TableDefinition<&[u8], &[u8]>) -> Result<(), redb::Error> {
    let mut table = txn.open_table(definition)?;
    let mut rows = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        rows.extend(sealed(definition.name(), key.value(), value.value()).map(|value| (key.value().to_vec(), value)));
    }
    for (key, value) in rows {
        table.insert(key.as_slice(), value.as_slice())?;
    }
    Ok(())
}

/// Rows of `settled` were bare bitmaps.
fn seal_settled(txn: &WriteTransaction) -> Result<(), redb::Error> {
    let mut table = txn.open_table(SETTLED)?;
    let mut rows = Vec::new();
    for entry in table.iter()? {
        let (key, bitmap) = entry?;
        rows.push((key.value(), encode_settled(key.value(), bitmap.value())));
    }
    for (key, value) in rows {
        table.insert(key, value.as_slice())?;
    }
    Ok(())
}

/// Bindings had no value at all, which redb takes for another type of table.
fn seal_bindings(txn: &WriteTransaction) -> Result<(), redb::Error> {
    let mut keys = Vec::new();
    for entry in txn.open_table(BINDINGS_1)?.iter()? {
        keys.push(entry?.0.value().to_vec());
    }
    txn.delete_table(BINDINGS_1)?;
    let mut table = txn.open_table(BINDINGS)?;
    for key in keys {
        table.insert(key.as_slice(), bindings::value(&key).as_slice())?;
    }
    Ok(())
}
