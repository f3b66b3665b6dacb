//! The store on redb without its threads, for tests that decide when its writer and its reader take a step.
//!
//! The code is that of the threads; only who calls it differs. A commit has three steps, and the world may end between any
//! two of them: the batch is taken (what is submitted from now on belongs to the next one), it is committed, and the
//! watermark moves.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use redb::{Database, StorageBackend};

use super::disk::{Assembled, DiskStore, assemble};
use super::reader::answer;
use super::writer::Writer;
use super::{LoadRequest, Recovered, Store, StoreError, Ticket, Transaction};

/// Where the writer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Taken(Ticket),
    Committed(Ticket),
}

/// What a step of the writer led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing waits to be written.
    Idle,
    /// A batch of this many transactions was taken.
    Took(usize),
    /// It is on disk.
    Committed,
    /// Those who wait know.
    Published,
    /// The commit failed: the store is of no use any more.
    Failed,
}

/// A store whose threads are played by its owner.
pub(crate) struct Stepped {
    store: Arc<DiskStore>,
    database: Arc<Database>,
    requests: mpsc::Receiver<LoadRequest>,
    writer: Writer,
    batch: Vec<Transaction>,
    stage: Stage,
}

impl Stepped {
    /// Opens what is on this backend, or begins a new store there.
    pub(crate) fn open(backend: impl StorageBackend, cache_bytes: usize) -> Result<(Self, Recovered), StoreError> {
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(backend)
            .map_err(|cause| StoreError::new(format!("cannot open the simulated disk: {cause}")))?;
        let Assembled { store, database, requests, writer, recovered } =
            assemble(database, Path::new("simulated"), 1, Box::new(|| ()))?;
        let stage = Stage::Idle;
        Ok((Self { store: Arc::new(store), database, requests, writer, batch: Vec::new(), stage }, recovered))
    }

    /// What the broker sees of it.
    pub(crate) fn store(&self) -> Arc<DiskStore> {
        self.store.clone()
    }

    /// Whether the next step takes a new batch.
    pub(crate) fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    /// The writer takes its next step.
    pub(crate) fn step(&mut self) -> Step {
        match self.stage {
            Stage::Idle => {
                let Some(ticket) = self.store.shared().try_take(&mut self.batch) else { return Step::Idle };
                self.stage = Stage::Taken(ticket);
                Step::Took(self.batch.len())
            }
            Stage::Taken(ticket) => {
                if self.writer.commit(&mut self.batch).is_err() {
                    self.store.shared().fail();
                    return Step::Failed;
                }
                self.stage = Stage::Committed(ticket);
                Step::Committed
            }
            Stage::Committed(ticket) => {
                self.writer.publish(ticket, &mut self.batch);
                self.stage = Stage::Idle;
                Step::Published
            }
        }
    }

    /// The reader answers a request; false when there is none.
    pub(crate) fn answer(&mut self) -> bool {
        match self.requests.try_recv() {
            Ok(request) => {
                answer(&self.database, self.store.shared(), request, || ());
                true
            }
            Err(_) => false,
        }
    }

    /// Closes in good order: what waits is written, and the stop noted. False when a commit failed.
    pub(crate) fn close(mut self) -> bool {
        self.store.close();
        loop {
            match self.step() {
                Step::Idle => return self.writer.mark_clean().is_ok(),
                Step::Failed => return false,
                Step::Took(_) | Step::Committed | Step::Published => {}
            }
        }
    }
}
