//! The store on disk without its threads, for tests that decide when each of them takes a step.
//!
//! The code is that of the threads; only who calls it differs. A group has three steps, and the world may end between any
//! two of them: it is taken (what is submitted from now on belongs to the next one), it is in the journal, and the watermark
//! moves. Every few groups a checkpoint is a step of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use parking_lot::RwLock;
use redb::{Database, StorageBackend};

use super::appender::{Appender, Written};
use super::disk::{Assembled, DiskStore, assemble};
use super::reader::answer;
use super::spill::SpillWriter;
use super::writer::Writer;
use super::{LoadRequest, Recovered, Store, StoreError, Ticket, Transaction};

/// Groups in the journal after which a checkpoint is due.
const CHECKPOINT_GROUPS: u32 = 5;
/// Octets of the journal: few, so that it goes round.
const JOURNAL_BYTES: u64 = 256 * 1024;

/// Where the next group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Taken(Ticket),
    Written(Written),
}

/// What a step led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing waits to be written.
    Idle,
    /// A group of this many transactions was taken.
    Took(usize),
    /// It is on disk.
    Committed,
    /// Those who wait know.
    Published,
    /// The database has what the journal has.
    Checkpointed,
    /// A write failed: the store is of no use any more.
    Failed,
}

/// A store whose threads are played by its owner.
pub(crate) struct Stepped {
    store: Arc<DiskStore>,
    database: Arc<RwLock<Database>>,
    requests: mpsc::Receiver<LoadRequest>,
    appender: Appender,
    writer: Writer,
    spill: SpillWriter,
    group: Vec<Transaction>,
    stage: Stage,
    /// Groups since the last checkpoint.
    groups: u32,
}

impl Stepped {
    /// Opens what is on these backends, or begins a new store there.
    pub(crate) fn open(
        database: impl StorageBackend,
        journal: impl StorageBackend,
        cache_bytes: usize,
    ) -> Result<(Self, Recovered), StoreError> {
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(database)
            .map_err(|cause| StoreError::new(format!("cannot open the simulated disk: {cause}")))?;
        let directory = Path::new("simulated");
        let Assembled { mut store, database, requests, appender, writer, recovered } =
            assemble(database, Box::new(journal), JOURNAL_BYTES, directory, 1, Box::new(|| ()))?;
        store.spill_to_memory();
        let spill = SpillWriter::new(store.shelf().clone());
        let (stage, group) = (Stage::Idle, Vec::new());
        let store = Arc::new(store);
        Ok((Self { store, database, requests, appender, writer, spill, group, stage, groups: 0 }, recovered))
    }

    /// What the broker sees of it.
    pub(crate) fn store(&self) -> Arc<DiskStore> {
        self.store.clone()
    }

    /// Whether the next step takes a new group, if there is one.
    pub(crate) fn is_idle(&self) -> bool {
        self.stage == Stage::Idle && self.groups < CHECKPOINT_GROUPS
    }

    /// The store takes its next step.
    pub(crate) fn step(&mut self) -> Step {
        match self.stage {
            Stage::Idle if self.groups >= CHECKPOINT_GROUPS => self.checkpoint(),
            Stage::Idle => {
                let Some(ticket) = self.store.shared().try_take(&mut self.group) else { return Step::Idle };
                self.stage = Stage::Taken(ticket);
                Step::Took(self.group.len())
            }
            Stage::Taken(ticket) => match self.appender.append(&self.group, ticket) {
                Ok(Some(written)) => {
                    self.stage = Stage::Written(written);
                    Step::Committed
                }
                Ok(None) => self.checkpoint(),
                Err(_) => self.fail(),
            },
            Stage::Written(written) => {
                self.appender.publish(written, &mut self.group);
                self.stage = Stage::Idle;
                self.groups += 1;
                Step::Published
            }
        }
    }

    /// What waits to be spilled is written.
    pub(crate) fn spill(&mut self) {
        assert!(self.spill.step(), "a disk in memory does not fail");
    }

    fn checkpoint(&mut self) -> Step {
        self.groups = 0;
        if catch_up(&self.store, &mut self.writer) { Step::Checkpointed } else { self.fail() }
    }

    fn fail(&self) -> Step {
        self.store.shared().fail();
        Step::Failed
    }

    /// The reader answers a request; false when there is none.
    pub(crate) fn answer(&mut self) -> bool {
        match self.requests.try_recv() {
            Ok(request) => {
                let catch_up = || catch_up(&self.store, &mut self.writer);
                answer(&self.database, self.store.shared(), self.store.shelf(), request, catch_up);
                true
            }
            Err(_) => false,
        }
    }

    /// Closes in good order: what waits is written, and the stop noted. False when a write failed.
    pub(crate) fn close(mut self) -> bool {
        self.store.close();
        loop {
            match self.step() {
                Step::Idle => return self.checkpoint() == Step::Checkpointed && self.writer.mark_clean().is_ok(),
                Step::Failed => return false,
                Step::Took(_) | Step::Committed | Step::Published | Step::Checkpointed => {}
            }
        }
    }
}

/// What the writer does when it is asked for a checkpoint.
fn catch_up(store: &DiskStore, writer: &mut Writer) -> bool {
    writer.collect_all(store.shared().backlog.try_take());
    writer.checkpoint().is_ok()
}
