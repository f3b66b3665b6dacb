//! What a drain left free in the database's file goes back to the system, by itself.
//!
//! redb gives back what is free at the end of its file, but what is still live may lie there. When the file has become much
//! larger than its content, the content goes to the front: at once if it is little, which redb does while the journal goes on
//! taking and confirming and only reads from disk wait; else some with each checkpoint, and nobody waits.

use std::path::Path;
use std::time::Duration;

use parking_lot::RwLock;
use redb::{CompactionError, Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageError};
use tracing::{info, warn};

use super::schema::parts::{self, Parts, Rows};

/// A file of this size is not worth the work.
const FILE_MIN_BYTES: u64 = 32 * 1024 * 1024;
/// The most content that is moved at once.
const AT_ONCE_BYTES: u64 = 128 * 1024 * 1024;
/// Octets that are moved with each checkpoint, else.
pub(super) const MOVE_BYTES: usize = 16 * 1024 * 1024;

/// What must be free on the disk, and twice what is moved at once.
const ROOM_BYTES: u64 = 8 * 1024 * 1024;

/// How long to wait for those who read.
const WAIT: Duration = Duration::from_secs(1);

/// Octets that the file takes, and octets of its content.
#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    used: u64,
    live: u64,
}

/// Content that goes to the front bit by bit, by being written again.
struct Moving {
    /// The batch that is next, until all have moved.
    next: Option<(u64, u64)>,
    /// Keeps what the moved ones leave from being taken again, at the end of the file, by those that follow: redb takes the
    /// smallest run of free pages that will do. So they take what was free at the beginning, most of it at the front.
    pin: Option<ReadTransaction>,
    before: Sizes,
}

/// When the file was last made smaller.
#[derive(Default)]
pub(super) struct Shrinker {
    /// What came of it: less could not be reached then.
    reached: Sizes,
    moving: Option<Moving>,
}

impl Shrinker {
    /// Whether a file is much larger than its content, and it is worth trying again.
    fn is_due(&self, Sizes { used, live }: Sizes) -> bool {
        let Sizes { used: reached, live: before } = self.reached;
        used > FILE_MIN_BYTES + 2 * live && (used > reached + reached / 2 || live < before / 2)
    }

    /// Whether the next checkpoint should not wait for anything that is to be written.
    pub(super) fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// Begins to make the file smaller if that is worth it; whether redb made commits of its own. `live` counts the content,
    /// when that matters.
    pub(super) fn shrink(
        &mut self,
        database: &RwLock<Database>,
        file: &Path,
        live: impl FnOnce() -> u64,
    ) -> Result<bool, redb::Error> {
        // Nothing is known of a disk in memory.
        let Some(used) = used_bytes(file) else { return Ok(false) };
        if let Some(moving) = self.moving.take() {
            return self.follow(moving, used, database, file);
        }
        if !self.is_due(Sizes { used, live: 0 }) {
            return Ok(false);
        }
        let sizes = Sizes { used, live: live() };
        if !self.is_due(sizes) {
            return Ok(false);
        }
        if sizes.live > AT_ONCE_BYTES {
            self.begin(&database.read(), file, sizes)?;
            return Ok(false);
        }
        // A full disk would be the end of the database as it is open: what is moved needs room before it leaves any.
        Ok(has_room(file, 2 * sizes.live + ROOM_BYTES) && self.compact(database, file, sizes)?)
    }

    /// Has the checkpoints that follow move the content.
    fn begin(&mut self, database: &Database, file: &Path, sizes: Sizes) -> Result<(), redb::Error> {
        let Sizes { used, live } = sizes;
        info!(file = %file.display(), used, live, "the store's file will be made smaller");
        let pin = Some(database.begin_read()?);
        self.moving = Some(Moving { next: Some((0, 0)), pin, before: sizes });
        Ok(())
    }

    /// How it goes on after a checkpoint.
    fn follow(
        &mut self,
        moving: Moving,
        used: u64,
        database: &RwLock<Database>,
        file: &Path,
    ) -> Result<bool, redb::Error> {
        let Moving { next, pin, before } = moving;
        if used > before.used + ROOM_BYTES {
            // Much is published, and finds no pages while there is a pin: another time.
            self.reached = Sizes { used, ..before };
            return Ok(false);
        }
        // There is little left to do in the end: what redb itself has at the end of the file.
        if next.is_none() && pin.is_none() && has_room(file, ROOM_BYTES) && self.compact(database, file, before)? {
            return Ok(true);
        }
        let pin = pin.filter(|_| next.is_some());
        self.moving = Some(Moving { next, pin, before });
        Ok(false)
    }

    /// Moves the batches that are next, about so many octets of them.
    pub(super) fn move_some(
        &mut self,
        rows: &mut Rows<'_>,
        parts: &mut Parts<'_>,
        max_bytes: usize,
    ) -> Result<(), StorageError> {
        let Some(moving) = &mut self.moving else { return Ok(()) };
        let mut moved = 0;
        while let Some(from) = moving.next
            && moved < max_bytes
        {
            let key = rows.range(from..)?.next().transpose()?.map(|(key, _)| key.value());
            moving.next = key.map(|(lane, first_seq)| (lane, first_seq.saturating_add(1)));
            if let Some(key) = key {
                moved += parts::rewrite(rows, parts, key)?;
            }
        }
        Ok(())
    }

    /// Has redb move the content together, unless somebody reads.
    fn compact(&mut self, database: &RwLock<Database>, file: &Path, sizes: Sizes) -> Result<bool, redb::Error> {
        let Sizes { used, live } = sizes;
        // Whoever reads is soon done, but for a backup.
        let Some(mut database) = database.try_write_for(WAIT) else { return Ok(false) };
        match database.compact() {
            Ok(_) => {}
            // Somebody takes a backup.
            Err(CompactionError::TransactionInProgress) => return Ok(false),
            Err(CompactionError::Storage(cause)) => return Err(cause.into()),
            Err(cause) => warn!(file = %file.display(), %cause, "the file cannot be made smaller"),
        }
        self.reached = Sizes { used: used_bytes(file).unwrap_or_default(), live };
        info!(file = %file.display(), before = used, after = self.reached.used, live, "the store's file was made smaller");
        Ok(true)
    }
}

/// Whether the disk has so many octets, if that is known.
fn has_room(file: &Path, octets: u64) -> bool {
    file.parent().and_then(|directory| fs4::available_space(directory).ok()).is_none_or(|free| free >= octets)
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
    use crate::store::schema::batches::BATCHES;
    use crate::store::schema::parts::PARTS;
    use crate::store::testing::{append, declare, open, settle, stored, submit};
    use crate::store::{LaneKey, Store};

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn it_is_done_when_much_is_free_and_not_again_for_nothing() {
        let is_due = |shrinker: &Shrinker, used, live| shrinker.is_due(Sizes { used: used * MIB, live: live * MIB });
        let fresh = Shrinker::default();
        assert!(is_due(&fresh, 100, 20));
        assert!(!is_due(&fresh, 100, 40), "half of it is live");
        assert!(!is_due(&fresh, 30, 0), "a small file");
        let tried = Shrinker { reached: Sizes { used: 80 * MIB, live: 20 * MIB }, moving: None };
        assert!(!is_due(&tried, 100, 20) && is_due(&tried, 130, 20));
        assert!(!is_due(&tried, 80, 10) && is_due(&tried, 80, 9), "much of what was live then has gone");
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

    #[test]
    fn a_large_rest_moves_to_the_front_bit_by_bit() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("file");
        let database = RwLock::new(Database::create(&file).expect("made"));
        let change = |change: &mut dyn FnMut(&mut Rows<'_>, &mut Parts<'_>)| {
            let mut txn = database.read().begin_write().expect("begun");
            txn.set_quick_repair(true);
            change(&mut txn.open_table(BATCHES).expect("opened"), &mut txn.open_table(PARTS).expect("opened"));
            txn.commit().expect("committed");
        };
        // What goes lies in front of what stays; every tenth of that is in parts.
        let octets = |nth: u64| {
            vec![u8::try_from(nth % 251).expect("small"); if nth.is_multiple_of(10) { 1_000_000 } else { 60_000 }]
        };
        for (lane, count) in [(1, 300), (2, 100)] {
            for nth in 0..count {
                change(&mut |rows, parts| parts::insert(rows, parts, (lane, nth), &octets(nth)).expect("written"));
            }
        }
        let live = (0..100).map(|nth| octets(nth).len() as u64).sum::<u64>();
        for first in (0..300).step_by(10) {
            change(&mut |rows, parts| {
                for nth in first..first + 10 {
                    parts::remove(rows, parts, (1, nth)).expect("removed");
                }
            });
        }
        let before = used_bytes(&file).expect("there");
        let mut shrinker = Shrinker::default();
        shrinker.begin(&database.read(), &file, Sizes { used: before, live }).expect("begun");
        let mut rounds = 0;
        while shrinker.is_moving() {
            change(&mut |rows, parts| shrinker.move_some(rows, parts, 1 << 20).expect("moved"));
            shrinker.shrink(&database, &file, || live).expect("looked at");
            rounds += 1;
            assert!(rounds < 30, "it ends");
        }
        let after = used_bytes(&file).expect("there");
        assert!(after < 2 * live && before > 2 * live, "{before} {after} {live}");
        change(&mut |rows, parts| {
            for nth in 0..100 {
                let row = rows.get((2, nth)).expect("read").expect("there");
                let batch = parts::whole((2, nth), row.value(), Some(&*parts)).expect("read");
                assert_eq!(batch, octets(nth), "{nth}");
            }
        });
    }
}
