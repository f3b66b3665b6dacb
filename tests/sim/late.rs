//! A store that some transactions reach late.
//!
//! In a running broker a connection's thread may be held up between its turn, whose effects others see at once, and the
//! submission of what the turn caused. Here a transaction may be kept back while others submit theirs. Its ticket is one
//! that will be durable only when it is; what its own connection submits next, and definitions, do not overtake it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::random::Random;
use crate::store::{LoadRequest, Op, Store, Ticket, Transaction, Waiter};

#[derive(Debug)]
struct Held {
    transaction: Transaction,
    waiter: Arc<dyn Waiter>,
    ticket: u64,
}

#[derive(Debug)]
struct State {
    random: Random,
    /// One in so many is late; 0 for none.
    one_in: u64,
    next: u64,
    held: Option<Held>,
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
        let state = State { random, one_in, next: 1, held: None, waiting: VecDeque::new(), durable: 0 };
        Self { store, state: Mutex::new(state) }
    }

    /// Whether a transaction is kept back.
    pub(super) fn holds_one(&self) -> bool {
        self.state.lock().held.is_some()
    }

    /// What was kept back comes now.
    pub(super) fn release(&self) {
        self.state.lock().release(&*self.store);
    }
}

impl State {
    fn release(&mut self, store: &dyn Store) {
        if let Some(Held { transaction, ticket, .. }) = self.held.take() {
            self.waiting.push_back((ticket, store.submit(transaction)));
            self.next = self.next.max(ticket + 1);
        }
    }
}

impl Store for Late {
    fn submit(&self, transaction: Transaction) -> Ticket {
        let mut state = self.state.lock();
        let defines = transaction.ops.iter().any(|op| matches!(op, Op::Define { .. }));
        let own = |held: &Held| transaction.waiter.as_ref().is_none_or(|waiter| Arc::ptr_eq(waiter, &held.waiter));
        let due = |held: &Held| defines || own(held) || held.ticket <= state.next;
        if state.held.as_ref().is_some_and(due) {
            state.release(&*self.store);
        }
        let late = state.held.is_none() && state.one_in > 0 && !defines;
        if late && let Some(waiter) = transaction.waiter.clone() {
            let one_in = state.one_in;
            if state.random.once_in(one_in) {
                let ticket = state.next + state.random.between(1, 6);
                state.held = Some(Held { transaction, waiter, ticket });
                return Ticket::new(ticket);
            }
        }
        let ticket = state.next;
        state.next += 1;
        let behind = self.store.submit(transaction);
        state.waiting.push_back((ticket, behind));
        Ticket::new(ticket)
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

    fn is_saturated(&self) -> bool {
        self.store.is_saturated()
    }

    fn close(&self) {
        self.release();
        self.store.close();
    }
}
