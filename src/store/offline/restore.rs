//! A backup becomes the store of a stopped broker.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use redb::Database;

use super::overlay::Overlay;
use super::{Verified, guarded, verify_file};
use crate::store::disk::{CACHE_BYTES, FILE_NAME};
use crate::store::recovery::prepare;
use crate::store::schema::meta::{self, KEY_EPOCH};
use crate::store::{StoreError, journal};

/// The store's file while it is being made.
const NEW_FILE_NAME: &str = "leveret.redb.restored";
/// Files of the history that is replaced, and what they are called then.
const REPLACED: [(&str, &str); 2] =
    [(journal::FILE_NAME, "leveret.journal.replaced"), (FILE_NAME, "leveret.redb.replaced")];

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The store's file.
    pub file: PathBuf,
    /// What the backup has.
    pub verified: Verified,
    /// Files of the store that was there, under their new names.
    pub replaced: Vec<PathBuf>,
}

/// Makes a backup the store of a directory. `epoch` is a random number: what a journal of another history has is not
/// replayed over it. With `force` a store that is there is set aside, and a damaged backup is taken as far as it is whole.
pub fn restore(backup: &Path, dir: &Path, epoch: u64, force: bool) -> Result<Restored, StoreError> {
    let verified = verify_file(backup)?;
    if let Some(fault) = verified.faults.first()
        && !force
    {
        return Err(StoreError::new(format!(
            "the backup {} is damaged in {} places; the first: {fault}. --force takes what is whole",
            backup.display(),
            verified.damaged
        )));
    }
    let wrong = |cause: io::Error| StoreError::new(format!("cannot write to {}: {cause}", dir.display()));
    fs::create_dir_all(dir).map_err(wrong)?;
    let _held = hold(&dir.join(FILE_NAME))?;
    if !force && fs::read_dir(dir).map_err(wrong)?.next().is_some() {
        return Err(StoreError::new(format!(
            "{} is not empty: restore to another directory, or set aside the store that is there with --force",
            dir.display()
        )));
    }
    let (new, file) = (dir.join(NEW_FILE_NAME), dir.join(FILE_NAME));
    fs::copy(backup, &new).map_err(wrong)?;
    begin_history(&new, epoch)?;
    File::open(&new).and_then(|new| new.sync_all()).map_err(wrong)?;
    let mut replaced = Vec::new();
    for (old, name) in REPLACED {
        let old = dir.join(old);
        if old.exists() {
            let name = dir.join(name);
            fs::rename(&old, &name).map_err(wrong)?;
            replaced.push(name);
        }
    }
    fs::rename(&new, &file).map_err(wrong)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(wrong)?;
    Ok(Restored { file, verified, replaced })
}

/// The store that is there, if there is one, so that no broker takes it meanwhile.
fn hold(file: &Path) -> Result<Option<Database>, StoreError> {
    match file.try_exists() {
        Ok(false) => return Ok(None),
        Ok(true) => {}
        Err(cause) => return Err(StoreError::new(format!("cannot look at {}: {cause}", file.display()))),
    }
    let open = || {
        let found = File::open(file).map_err(redb::StorageError::from)?;
        Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(Overlay::new(found)?)
    };
    match guarded(open) {
        Ok(Ok(database)) => Ok(Some(database)),
        Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => {
            Err(StoreError::new(format!("a broker uses {}: stop it first", file.display())))
        }
        // What is to be replaced may well be damaged.
        Ok(Err(_)) | Err(_) => Ok(None),
    }
}

fn begin_history(file: &Path, epoch: u64) -> Result<(), StoreError> {
    let wrong = |cause: &dyn std::fmt::Display| StoreError::new(format!("cannot prepare {}: {cause}", file.display()));
    let begin = || -> Result<(), StoreError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).open(file).map_err(|cause| wrong(&cause))?;
        // Facts are of the present format.
        prepare(&database, file, 0)?;
        note_epoch(&database, epoch).map_err(|cause| wrong(&cause))
    };
    guarded(begin).map_err(|panic| wrong(&panic))?
}

fn note_epoch(database: &Database, epoch: u64) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    meta::put(&txn, KEY_EPOCH, epoch)?;
    txn.commit()?;
    Ok(())
}
