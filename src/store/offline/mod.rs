//! A store that no broker uses: looked at, verified, replaced by a backup.
//!
//! Only [`restore`] changes anything on disk. redb does not expect damaged pages everywhere: what it panics of is caught and
//! told as damage.

mod inspect;
mod overlay;
mod restore;
mod verify;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError, StorageBackend};

pub use inspect::{Definitions, Inspection, QueueFigures, SetAside, StreamFigures, inspect};
pub use restore::{Restored, restore};
pub use verify::{Fault, Verified, verify, verify_file};

use super::disk::{CACHE_BYTES, FILE_NAME, Replayed, replay};
use super::recovery::prepare;
use super::{StoreError, journal};
use crate::panics::contained;
use overlay::Overlay;

/// Opens a store's file without ever changing it.
fn open(file: &Path) -> Result<Database, StoreError> {
    let name = file.display();
    let found = File::open(file).map_err(|cause| StoreError::new(format!("cannot open {name}: {cause}")))?;
    if !found.metadata().is_ok_and(|found| found.is_file() && found.len() > 0) {
        return Err(StoreError::new(format!("{name} is not a store")));
    }
    let open = || Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(Overlay::new(found)?);
    guarded(open).map_err(|panic| damaged(file, &panic))?.map_err(|cause| {
        if matches!(cause, DatabaseError::DatabaseAlreadyOpen) {
            return StoreError::new(format!("a broker uses {name}: stop it first"));
        }
        damaged(file, &cause)
    })
}

fn damaged(file: &Path, cause: &dyn std::fmt::Display) -> StoreError {
    StoreError::new(format!("{} is not a store, or damaged: {cause}", file.display()))
}

/// Reads what a store has, with what is in its journal alone; nothing of it is written to the disk.
fn read_all(database: &Arc<RwLock<Database>>, dir: &Path) -> Result<Replayed, StoreError> {
    prepare(&database.read(), &dir.join(FILE_NAME), 0)?;
    let path = dir.join(journal::FILE_NAME);
    let journal: Box<dyn StorageBackend> = match File::open(&path) {
        Ok(file) => Box::new(Overlay::new(file).map_err(|cause| damaged(&path, &cause))?),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Box::new(InMemoryBackend::new()),
        Err(cause) => return Err(StoreError::new(format!("cannot open {}: {cause}", path.display()))),
    };
    replay(database, &*journal, dir, false)
}

/// Does something with redb; what it panics with comes back as a text.
fn guarded<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    contained(what).map_err(|panic| format!("redb gave up: {panic}"))
}
