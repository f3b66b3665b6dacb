//! What is in the journal and not yet in the database: handed from the thread that writes the one to the thread that writes
//! the other.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Op, Ticket, Transaction};

/// Octets of the journal that may gather before the writer is woken.
const WAKE_BYTES: u64 = 256 * 1024;

/// Operations that are in the journal.
#[derive(Debug, Default)]
pub(super) struct Intake {
    pub(super) ops: Vec<Op>,
    /// The ticket of the last of them, or of what was taken before.
    pub(super) ticket: Ticket,
    /// The journal's record of the last of them, likewise.
    pub(super) seq: u64,
    /// Octets that they take in the journal.
    pub(super) bytes: u64,
    /// The last request for a checkpoint, if there was one.
    pub(super) wanted: Option<u64>,
    /// Little came for a while.
    pub(super) late: bool,
    /// Nothing will follow.
    pub(super) closed: bool,
}

#[derive(Debug, Default)]
struct State {
    intake: Intake,
    /// The writer waits for so many octets.
    writer_waits: Option<u64>,
    /// Requests for a checkpoint, counted, and how many of them are answered.
    requests: u64,
    answered: u64,
    /// The last record that the database has.
    stored_seq: u64,
    ended: bool,
}

impl State {
    fn empty(&mut self) -> Intake {
        let Intake { ticket, seq, closed, .. } = self.intake;
        std::mem::replace(&mut self.intake, Intake { ticket, seq, closed, ..Intake::default() })
    }
}

/// Between the two threads.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    state: Mutex<State>,
    /// There is something for the writer.
    filled: Condvar,
    /// A checkpoint is done.
    stored: Condvar,
}

impl Backlog {
    /// A backlog behind a journal whose records up to this one are in the database.
    pub(super) fn after(seq: u64) -> Self {
        let state = State { intake: Intake { seq, ..Intake::default() }, stored_seq: seq, ..State::default() };
        Self { state: Mutex::new(state), ..Self::default() }
    }

    /// Adds what is in the journal now.
    pub(super) fn add(&self, transactions: &mut Vec<Transaction>, ticket: Ticket, seq: u64, bytes: u64) {
        let mut state = self.state.lock();
        for transaction in transactions.drain(..) {
            if state.intake.ops.is_empty() {
                state.intake.ops = transaction.ops;
            } else {
                state.intake.ops.extend(transaction.ops);
            }
        }
        state.intake.ticket = ticket;
        state.intake.seq = seq;
        state.intake.bytes += bytes;
        let gathered = state.intake.bytes;
        if state.writer_waits.take_if(|wanted| gathered >= *wanted).is_some() {
            self.filled.notify_one();
        }
    }

    /// Takes what is there. Waits for much at most so long, or else for anything at all.
    pub(super) fn take(&self, wait: Option<Duration>) -> Intake {
        let mut state = self.state.lock();
        if state.intake.wanted.is_none() && !state.intake.closed && !state.ended {
            match wait {
                Some(wait) if state.intake.bytes < WAKE_BYTES => {
                    state.writer_waits = Some(WAKE_BYTES);
                    state.intake.late = self.filled.wait_for(&mut state, wait).timed_out();
                }
                None if state.intake.ops.is_empty() => {
                    state.writer_waits = Some(0);
                    self.filled.wait(&mut state);
                }
                Some(_) | None => {}
            }
            state.writer_waits = None;
        }
        state.empty()
    }

    /// The same without waiting.
    #[cfg(test)]
    pub(super) fn try_take(&self) -> Intake {
        self.state.lock().empty()
    }

    /// The database has everything up to here.
    pub(super) fn set_stored(&self, seq: u64) {
        self.state.lock().stored_seq = seq;
        self.stored.notify_all();
    }

    /// Up to which record the database has everything.
    pub(super) fn stored_seq(&self) -> u64 {
        self.state.lock().stored_seq
    }

    /// Whether the journal has what the database has not.
    pub(super) fn is_behind(&self) -> bool {
        let state = self.state.lock();
        state.stored_seq < state.intake.seq
    }

    /// Asks for a checkpoint and waits until the database has more of the journal than up to this record. False when that
    /// will never be.
    pub(super) fn wait_beyond(&self, seq: u64) -> bool {
        let mut state = self.state.lock();
        while state.stored_seq <= seq && !state.ended {
            self.ask(&mut state);
            self.stored.wait(&mut state);
        }
        !state.ended
    }

    /// Asks for a checkpoint and waits until the database has everything that was added before. False when that will never be.
    pub(super) fn request(&self) -> bool {
        let mut state = self.state.lock();
        let request = self.ask(&mut state);
        while state.answered < request && !state.ended {
            self.stored.wait(&mut state);
        }
        !state.ended
    }

    /// Asks for a checkpoint soon.
    pub(super) fn prompt(&self) {
        self.ask(&mut self.state.lock());
    }

    fn ask(&self, state: &mut State) -> u64 {
        state.requests += 1;
        state.intake.wanted = Some(state.requests);
        state.writer_waits = None;
        self.filled.notify_one();
        state.requests
    }

    /// Requests up to this one are met.
    pub(super) fn answer(&self, request: u64) {
        self.state.lock().answered = request;
        self.stored.notify_all();
    }

    /// Nothing will be added any more.
    pub(super) fn close(&self) {
        self.state.lock().intake.closed = true;
        self.filled.notify_one();
    }

    /// Nothing is written any more.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.stored.notify_all();
        self.filled.notify_one();
    }
}
