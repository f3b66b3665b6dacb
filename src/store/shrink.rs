//! What a drain left free in the database's file goes back to the system, by itself.
//!
//! redb gives back what is free at the end of its file, but what is still live may lie there. When the file has become much
//! larger than its content, the writer has redb move the content together. Meanwhile the journal goes on taking and
//! confirming; only reads from disk wait. redb reads all that is live several times for it, about 6 s for a GiB, so it is done
//! only when that is little: a large rest is moved when it has become small.

use std::path::Path;
use std::time::Duration;

use parking_lot::RwLock;
use redb::{CompactionError, Database};
use tracing::{info, warn};

/// A file of this size is not worth the work.
const FILE_MIN_BYTES: u64 = 32 * 1024 * 1024;
/// The most content that is moved.
const LIVE_MAX_BYTES: u64 = 512 * 1024 * 1024;

/// What must be free on the disk beyond twice what is moved.
const ROOM_BYTES: u64 = 8 * 1024 * 1024;

/// How long to wait for those who read.
const WAIT: Duration = Duration::from_secs(1);

/// When the file was last made smaller.
#[derive(Debug, Default)]
pub(super) struct Shrinker {
    /// What the file had after that, and its content: less could not be reached then.
    reached: (u64, u64),
}

impl Shrinker {
    /// Whether a file that takes so much of the disk is much larger than its content, and it is worth trying again.
    fn is_due(&self, used: u64, live: u64) -> bool {
        let (reached, before) = self.reached;
        let is_news = used > reached + reached / 2 || live < before / 2;
        used > FILE_MIN_BYTES + 2 * live && live <= LIVE_MAX_BYTES && is_news
    }

    /// Makes the file smaller if that is worth it; whether it did. `live` counts the content, when that matters.
    pub(super) fn shrink(
        &mut self,
        database: &RwLock<Database>,
        file: &Path,
        live: impl FnOnce() -> u64,
    ) -> Result<bool, redb::Error> {
        // Nothing is known of a disk in memory.
        let Some(used) = used_bytes(file).filter(|used| self.is_due(*used, 0)) else { return Ok(false) };
        let live = live();
        if !self.is_due(used, live) {
            return Ok(false);
        }
        // A full disk would be the end of the database as it is open: what is moved needs room before it leaves any.
        let free = file.parent().and_then(|directory| fs4::available_space(directory).ok());
        if free.is_some_and(|free| free < 2 * live + ROOM_BYTES) {
            return Ok(false);
        }
        // Whoever reads is soon done, but for a backup.
        let Some(mut database) = database.try_write_for(WAIT) else { return Ok(false) };
        match database.compact() {
            Ok(_) => {}
            // Somebody takes a backup.
            Err(CompactionError::TransactionInProgress) => return Ok(false),
            Err(CompactionError::Storage(cause)) => return Err(cause.into()),
            Err(cause) => {
                warn!(file = %file.display(), %cause, "the file cannot be made smaller");
                return Ok(false);
            }
        }
        let after = used_bytes(file).unwrap_or_default();
        self.reached = (after, live);
        info!(file = %file.display(), before = used, after, live, "the store's file was made smaller");
        Ok(true)
    }
}

/// Octets that a file takes of its disk: holes take nothing.
#[cfg(unix)]
fn used_bytes(file: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(file).ok().map(|metadata| metadata.blocks() * 512)
}

#[cfg(not(unix))]
fn used_bytes(file: &Path) -> Option<u64> {
    std::fs::metadata(file).ok().map(|metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{append, declare, open, settle, stored, submit};
    use crate::store::{LaneKey, Store};

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn it_is_done_when_much_is_free_and_not_again_for_nothing() {
        let fresh = Shrinker::default();
        assert!(fresh.is_due(100 * MIB, 20 * MIB));
        assert!(!fresh.is_due(100 * MIB, 40 * MIB), "half of it is live");
        assert!(!fresh.is_due(30 * MIB, 0), "a small file");
        assert!(!fresh.is_due(10_000 * MIB, 600 * MIB), "too much to move");
        let tried = Shrinker { reached: (80 * MIB, 20 * MIB) };
        assert!(!tried.is_due(100 * MIB, 20 * MIB) && tried.is_due(130 * MIB, 20 * MIB));
        assert!(!tried.is_due(80 * MIB, 10 * MIB) && tried.is_due(80 * MIB, 9 * MIB), "much of it has gone since");
    }

    #[test]
    fn a_drained_store_gives_its_disk_back() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join(crate::store::disk::FILE_NAME);
        let (store, _) = open(dir.path());
        submit(&store, vec![declare(1, "classic")]);
        for first in (0..80_000).step_by(2000) {
            submit(&store, vec![append(1, first, 2000, 1000)]);
        }
        let full = used_bytes(&file).expect("there");
        assert!(full > 80 * MIB, "{full}");
        for first in (0..78_000).step_by(2000) {
            submit(&store, vec![settle(1, first, first + 1999, 1000)]);
        }
        let drained = used_bytes(&file).expect("there");
        assert!(drained < FILE_MIN_BYTES + 2 * 3 * MIB, "{drained}");
        assert_eq!(stored(&store, LaneKey::from_number(1 << 8)), (78_000..80_000).collect::<Vec<_>>());
        store.close();
    }
}
