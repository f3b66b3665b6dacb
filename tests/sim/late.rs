//! A store that some transactions reach late, and whose writer may come at any moment.
//!
//! In a running broker a connection's thread may be held up between its turn, whose effects others see at once, and the
//! submission of what the turn caused. Here a transaction may be kept back while others submit theirs. Its ticket is one
//! that will be durable only when it is; what its own connection submits next, and definitions, do not overtake it.
//!
//! The writer's thread takes what waits whenever it likes, also between two submissions of one turn: here a submission may
//! be followed by a *cut*, and what is behind a cut is not seen before the writer has taken what is ahead of it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::random::Random;
use crate::store::{
    BackedUp, Damage, LaneKey, LoadRequest, Op, SpillOp, Store, StoreError, Ticket, Transaction, Waiter,
};

#[derive(Debug)]
struct Held {
    transaction: Transaction,
    waiter: Arc<dyn Waiter>,
    ticket: u64,
}

#[derive(Debug)]
struct Queued {
    transaction: Transaction,
    ticket: u64,
    /// The writer comes right behind it.
    cut: bool,
}

#[derive(Debug)]
struct State {
    random: Random,
    /// One in so many is late; 0 for none.
    one_in: u64,
    next: u64,
    held: Option<Held>,
    queued: VecDeque<Queued>,
    /// Our tickets and those of the store behind, ascending, that are not known to be durable.
    waiting: VecDeque<(u64, Ticket)>,
    durable: u64,
}

/// The store as the broker sees it.
#[derive(Debug)]
pub(super) struct Late {
    store: Arc<dyn Store>,
    state: Mutex<State>,
}

impl Late {
    pub(super) fn new(store: Arc<dyn Store>, random: Random, one_in: u64) -> Self {
        let (queued, waiting) = (VecDeque::new(), VecDeque::new());
        let state = State { random, one_in, next: 1, held: None, queued, waiting, durable: 0 };
        Self { store, state: Mutex::new(state) }
    }

    /// What was kept back comes now; false when there was nothing.
    pub(super) fn release(&self) -> bool {
        self.state.lock().release()
    }

    /// The writer is about to look at what waits.
    pub(super) fn feed(&self) {
        let mut state = self.state.lock();
        while let Some(Queued { transaction, ticket, cut }) = state.queued.pop_front() {
            let behind = self.store.submit(transaction);
            state.waiting.push_back((ticket, behind));
            if cut {
                break;
            }
        }
    }
}

impl State {
    fn release(&mut self) -> bool {
        let Some(Held { transaction, ticket, .. }) = self.held.take() else { return false };
        self.next = self.next.max(ticket);
        self.queue(transaction);
        true
    }

    fn queue(&mut self, transaction: Transaction) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        let cut = self.random.once_in(6);
        self.queued.push_back(Queued { transaction, ticket, cut });
        Ticket::new(ticket)
    }
}

impl Store for Late {
    fn submit(&self, transaction: Transaction) -> Ticket {
        let mut state = self.state.lock();
        let defines = transaction.ops.iter().any(|op| matches!(op, Op::Define { .. }));
        let own = |held: &Held| transaction.waiter.as_ref().is_none_or(|waiter| Arc::ptr_eq(waiter, &held.waiter));
        let due = |held: &Held| defines || own(held) || held.ticket <= state.next;
        if state.held.as_ref().is_some_and(due) {
            state.release();
        }
        if state.held.is_none()
            && state.one_in > 0
            && !defines
            && let Some(waiter) = transaction.waiter.clone()
        {
            let one_in = state.one_in;
            if state.random.once_in(one_in) {
                let ticket = state.next + state.random.between(1, 6);
                state.held = Some(Held { transaction, waiter, ticket });
                return Ticket::new(ticket);
            }
        }
        state.queue(transaction)
    }

    fn hurry(&self) {
        self.store.hurry();
    }

    fn durable(&self) -> Ticket {
        let durable = self.store.durable();
        let mut state = self.state.lock();
        while let Some((ticket, behind)) = state.waiting.front().copied()
            && behind <= durable
        {
            state.durable = ticket;
            state.waiting.pop_front();
        }
        Ticket::new(state.durable)
    }

    fn is_stored(&self, ticket: u64) -> bool {
        self.store.is_stored(ticket)
    }

    fn load(&self, request: LoadRequest) {
        self.store.load(request);
    }

    fn recount(&self, lane: LaneKey, count: i64, body_bytes: i64) {
        self.store.recount(lane, count, body_bytes);
    }

    fn damage(&self) -> Damage {
        self.store.damage()
    }

    fn checkpoint(&self) -> bool {
        self.store.checkpoint()
    }

    fn backup(&self, file: &Path) -> Result<BackedUp, StoreError> {
        self.store.backup(file)
    }

    fn is_saturated(&self) -> bool {
        self.store.is_saturated()
    }

    fn spill(&self, ops: Vec<SpillOp>, waiter: Option<Arc<dyn Waiter>>) -> u64 {
        self.store.spill(ops, waiter)
    }

    fn spilled(&self) -> u64 {
        self.store.spilled()
    }

    fn spills(&self) -> bool {
        self.store.spills()
    }

    fn is_spill_saturated(&self) -> bool {
        self.store.is_spill_saturated()
    }

    fn close(&self) {
        self.release();
        while !self.state.lock().queued.is_empty() {
            self.feed();
        }
        self.store.close();
    }
}
