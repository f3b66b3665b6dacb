//! The store that keeps nothing: `--ephemeral`, and most tests.
//!
//! A transaction is as durable as it will ever be as soon as it is taken. Messages stay in the queues' memory, since
//! nothing can be read back.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{LoadReply, LoadRequest, Store, Ticket, Transaction};

/// Keeps nothing.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tickets: AtomicU64,
}

impl Store for MemoryStore {
    fn submit(&self, transaction: Transaction) -> Ticket {
        let ticket = Ticket::new(self.tickets.fetch_add(1, Ordering::AcqRel) + 1);
        if let Some(waiter) = transaction.waiter {
            waiter.wake();
        }
        ticket
    }

    fn durable(&self) -> Ticket {
        Ticket::new(u64::MAX)
    }

    fn is_stored(&self, _ticket: u64) -> bool {
        false
    }

    fn load(&self, request: LoadRequest) {
        (request.reply)(LoadReply { loaded: Vec::new(), complete_below: u64::MAX });
    }

    fn is_saturated(&self) -> bool {
        false
    }

    fn close(&self) {}
}
