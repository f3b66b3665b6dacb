//! Tables `meta` and `facts`: facts about the store itself.
//!
//! `meta`. Key: a word. Value: u64. Every release can read it, so it has only `format`: the version of the whole layout; a
//! newer one is refused.
//!
//! `facts`. Key: a word. Content: u64. Sealed, as everything else. Each is there twice, the second time with `~` in front.
//!
//! | key | fact |
//! |---|---|
//! | `format` | the version of the layout once more |
//! | `node` | a random number that names this store for ever |
//! | `next_queue_id` | the number that the next queue gets |
//! | `journal` | the last record of the journal that the database has |
//! | `epoch` | which records of the journal are of this history; new with each start |
//! | `clean` | 1 after an orderly stop, 0 while the broker runs |
//!
//! A store of format 1 had them all in `meta`.

use std::collections::BTreeMap;

use redb::{Database, ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::seal::{Record, open};

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
pub(in crate::store) const FACTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new(NAME);

const NAME: &str = "facts";

/// The layout that this release writes.
pub(in crate::store) const FORMAT: u64 = 3;

const KEY_FORMAT: &str = "format";
pub(in crate::store) const KEY_NODE: &str = "node";
pub(in crate::store) const KEY_NEXT_QUEUE_ID: &str = "next_queue_id";
pub(in crate::store) const KEY_JOURNAL: &str = "journal";
pub(in crate::store) const KEY_EPOCH: &str = "epoch";
pub(in crate::store) const KEY_CLEAN: &str = "clean";

/// What is in front of a key whose fact is written once more.
const COPY: u8 = b'~';

/// Notes a fact, twice: there are few, and much depends on them.
pub(in crate::store) fn put(txn: &WriteTransaction, key: &str, number: u64) -> Result<(), redb::Error> {
    let mut table = txn.open_table(FACTS)?;
    for key in [key.as_bytes().to_vec(), copy_of(key)] {
        let value = Record::new().u64(number).seal(NAME, key.as_slice());
        table.insert(key.as_slice(), value.as_slice())?;
    }
    Ok(())
}

fn copy_of(key: &str) -> Vec<u8> {
    std::iter::once(COPY).chain(key.bytes()).collect()
}

/// Notes the format.
pub(in crate::store) fn put_format(txn: &WriteTransaction, format: u64) -> Result<(), redb::Error> {
    txn.open_table(META)?.insert(KEY_FORMAT, format)?;
    put(txn, KEY_FORMAT, format)
}

/// The format of a store; `None` for a file without one.
pub(in crate::store) fn read_format(txn: &ReadTransaction) -> Result<Option<u64>, redb::Error> {
    match txn.open_table(META) {
        Ok(meta) => Ok(meta.get(KEY_FORMAT)?.map(|format| format.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(cause) => Err(cause.into()),
    }
}

/// The facts of a store, and the keys of those that are damaged.
#[derive(Debug, Default)]
pub(in crate::store) struct Facts {
    known: BTreeMap<Vec<u8>, u64>,
    pub(in crate::store) damaged: Vec<Vec<u8>>,
}

impl Facts {
    pub(in crate::store) fn read(txn: &ReadTransaction) -> Result<Self, redb::Error> {
        let mut facts = Self::default();
        let table = match txn.open_table(FACTS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(facts),
            Err(cause) => return Err(cause.into()),
        };
        for entry in table.iter()? {
            let (key, value) = entry?;
            let key = key.value();
            match open(NAME, key, value.value()).and_then(|mut content| content.u64()) {
                Some(number) => {
                    facts.known.insert(key.to_vec(), number);
                }
                None => facts.damaged.push(key.to_vec()),
            }
        }
        Ok(facts)
    }

    /// A fact, if it is known.
    pub(in crate::store) fn get(&self, key: &str) -> Option<u64> {
        self.known.get(key.as_bytes()).or_else(|| self.known.get(&copy_of(key))).copied()
    }

    /// The format once more: the unsealed one may be damaged.
    pub(in crate::store) fn format(&self) -> Option<u64> {
        self.get(KEY_FORMAT)
    }

    pub(in crate::store) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.damaged.is_empty()
    }
}

/// Moves what a store of format 1 has in `meta` to its place.
pub(in crate::store) fn upgrade_1(txn: &WriteTransaction) -> Result<(), redb::Error> {
    let mut facts = Vec::new();
    for entry in txn.open_table(META)?.iter()? {
        let (key, value) = entry?;
        facts.push((key.value().to_owned(), value.value()));
    }
    for (key, number) in facts {
        if key != KEY_FORMAT {
            put(txn, &key, number)?;
            txn.open_table(META)?.remove(key.as_str())?;
        }
    }
    put_format(txn, FORMAT)
}

/// From format 2 on there may be batches in parts, which releases before do not read.
pub(in crate::store) fn upgrade_2(database: &Database) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    put_format(&txn, FORMAT)?;
    txn.commit()?;
    Ok(())
}
