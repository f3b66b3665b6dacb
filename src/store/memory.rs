//! The store that keeps nothing: `--ephemeral`, and most tests.
//!
//! A transaction is as durable as it will ever be as soon as it is taken. Messages stay in the queues' memory, since
//! nothing can be read back.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::log::LogCounter;
use super::spill::SpillOp;
use super::{BackedUp, Damage, LaneKey, LoadReply, LoadRequest, Op, Store, StoreError, Ticket, Transaction, Waiter};
use crate::engine::vhost::Change;

/// Keeps nothing.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tickets: AtomicU64,
    /// Held while a stream is told, so that it hears in order: locked before a queue cell, never under one.
    logs: Mutex<HashMap<LaneKey, LogCounter>>,
}

impl MemoryStore {
    fn take(&self, op: Op) {
        match op {
            Op::Log { lane, arena, index, count, block_bytes, sink } => {
                let mut logs = self.logs.lock();
                sink.committed(logs.entry(lane).or_default().append(arena, index, count, block_bytes));
            }
            Op::Define { change: Change::QueueRemoved(id), .. } => {
                self.logs.lock().remove(&LaneKey::new(id, 0));
            }
            Op::Define { .. }
            | Op::Append { .. }
            | Op::Settled { .. }
            | Op::Delivered { .. }
            | Op::Directory(_)
            | Op::Returned { .. }
            | Op::Truncate { .. } => {}
        }
    }
}

impl Store for MemoryStore {
    fn submit(&self, transaction: Transaction) -> Ticket {
        let ticket = Ticket::new(self.tickets.fetch_add(1, Ordering::AcqRel) + 1);
        for op in transaction.ops {
            self.take(op);
        }
        if let Some(waiter) = transaction.waiter {
            waiter.wake();
        }
        ticket
    }

    fn hurry(&self) {}

    fn durable(&self) -> Ticket {
        Ticket::new(u64::MAX)
    }

    fn is_stored(&self, _ticket: u64) -> bool {
        false
    }

    fn load(&self, request: LoadRequest) {
        (request.reply)(LoadReply { complete_below: u64::MAX, ..LoadReply::default() });
    }

    fn recount(&self, _lane: LaneKey, _count: i64, _body_bytes: i64) {}

    fn damage(&self) -> Damage {
        Damage::default()
    }

    fn checkpoint(&self) -> bool {
        true
    }

    fn backup(&self, _file: &Path) -> Result<BackedUp, StoreError> {
        Err(StoreError::new("the broker keeps everything in memory: there is nothing to back up"))
    }

    fn is_saturated(&self) -> bool {
        false
    }

    fn spill(&self, _ops: Vec<SpillOp>, _waiter: Option<Arc<dyn Waiter>>) -> u64 {
        0
    }

    fn spilled(&self) -> u64 {
        0
    }

    fn spills(&self) -> bool {
        false
    }

    fn is_spill_saturated(&self) -> bool {
        false
    }

    fn close(&self) {}
}
