//! A copy of the store of a running broker, as of one moment.
//!
//! One read transaction sees the store as it is when the copy begins; publishers go on. The copy is a store of the same
//! format in a file of its own, written under another name, fsynced, and then moved to its place: a file of that name is
//! whole. Damaged records are copied as they are, and counted.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadTransaction, ReadableTable, TableDefinition, TableHandle};
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::schema::all::{NUMBERED, SEQUENCED, named};
use super::schema::batches::{BATCHES, read_shape};
use super::schema::meta::{self, read_format};
use super::schema::{parts, seal};

/// Octets that are written before they are given to the file.
const PORTION_BYTES: usize = 16 * 1024 * 1024;
/// Pages of the copy in memory.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    /// Octets of the file.
    pub file_bytes: u64,
    /// Records, batches of messages among them.
    pub records: u64,
    /// Records that are damaged.
    pub damaged: u64,
}

/// Copies a store as of one moment to a file that is not there yet.
pub(super) fn backup(moment: &ReadTransaction, file: &Path) -> Result<BackedUp, StoreError> {
    let wrong = |cause: io::Error| StoreError::new(format!("cannot write {}: {cause}", file.display()));
    if file.try_exists().map_err(wrong)? {
        return Err(StoreError::new(format!("{} is there already", file.display())));
    }
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = Part::create(PathBuf::from(part))?;
    let copied = copy(moment, &part).map_err(|cause| {
        StoreError::new(format!("the store could not be copied to {}: {cause}", part.path.display()))
    })?;
    let written = File::open(&part.path).map_err(wrong)?;
    written.sync_all().map_err(wrong)?;
    let file_bytes = written.metadata().map_err(wrong)?.len();
    // A link fails where a rename would replace what has come meanwhile.
    fs::hard_link(&part.path, file).map_err(wrong)?;
    drop(part);
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(wrong)?;
    Ok(BackedUp { file_bytes, ..copied })
}

/// The file while it is being written. It goes with this.
struct Part {
    path: PathBuf,
}

impl Part {
    fn create(path: PathBuf) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // Messages, and hashes of passwords.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(_) => Ok(Self { path }),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Err(StoreError::new(format!(
                "{} is there: another backup is under way, or one was cut off; then remove it",
                path.display()
            ))),
            Err(cause) => Err(StoreError::new(format!("cannot create {}: {cause}", path.display()))),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.path);
    }
}

fn copy(from: &ReadTransaction, part: &Part) -> Result<BackedUp, redb::Error> {
    let mut to = Database::builder().set_cache_size(CACHE_BYTES).create(&part.path)?;
    let mut done = BackedUp::default();
    let parts = parts::open(from)?;
    for table in NUMBERED {
        copy_table(from, &to, table, &mut done, |key, value| seal::open(table.name(), *key, value).is_some())?;
    }
    for table in SEQUENCED {
        copy_table(from, &to, table, &mut done, |key, value| {
            if table.name() != BATCHES.name() {
                return seal::open(table.name(), *key, value).is_some();
            }
            // A read that fails is met again where the parts are copied.
            parts::whole(*key, value, parts.as_ref()).is_ok_and(|batch| read_shape(*key, &batch).is_some())
        })?;
    }
    for table in named() {
        copy_table(from, &to, table, &mut done, |key, value| {
            // What a part has is checked with its batch.
            table.name() == parts::NAME || seal::open(table.name(), *key, value).is_some()
        })?;
    }
    let txn = to.begin_write()?;
    if let Some(format) = read_format(from)? {
        meta::put_format(&txn, format)?;
    }
    txn.commit()?;
    to.compact()?;
    Ok(done)
}

/// Copies a table, some portions a commit.
fn copy_table<K: redb::Key + 'static>(
    from: &ReadTransaction,
    to: &Database,
    definition: TableDefinition<K, &'static [u8]>,
    done: &mut BackedUp,
    is_whole: impl Fn(&K::SelfType<'_>, &[u8]) -> bool,
) -> Result<(), redb::Error> {
    let source = match from.open_table(definition) {
        Ok(source) => source,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(cause) => return Err(cause.into()),
    };
    let mut rows = source.iter()?.peekable();
    loop {
        let mut txn = to.begin_write()?;
        // Nothing is lost if it is cut off: the file has no name yet.
        txn.set_durability(Durability::None)?;
        let mut octets = 0;
        {
            let mut table = txn.open_table(definition)?;
            while octets < PORTION_BYTES
                && let Some(row) = rows.next()
            {
                let (key, value) = row?;
                done.records += 1;
                done.damaged += u64::from(!is_whole(&key.value(), value.value()));
                octets += value.value().len();
                table.insert(key.value(), value.value())?;
            }
        }
        txn.commit()?;
        if rows.peek().is_none() {
            return Ok(());
        }
    }
}
