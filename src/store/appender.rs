//! The thread that makes things durable: it takes everything that waits, appends it to the journal as one record, fsyncs,
//! moves the watermark and wakes whoever waits for it. While it does so the next group grows: group commit without a timer,
//! and a lone publish waits for nobody. What only takes messages out waits a little for company, if nobody waits for it.
//!
//! A failed write is final: the watermark stays, nothing more is taken, and the broker is told to stop.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tracing::error;

use super::disk::Shared;
use super::journal::{self, Appended, Journal};
use super::log::LogCounter;
use super::schema::logs::LogState;
use super::{LaneKey, LogSink, LogUpdate, Op, Ticket, Transaction, Waiter};
use crate::engine::vhost::Change;
use crate::panics::StopOnPanic;

/// Octets of messages in one record of the journal, but for a transaction that alone has more.
const RECORD_BYTES: usize = 4 * 1024 * 1024;

/// What the thread owns.
pub(super) struct Appender {
    shared: Arc<Shared>,
    journal: Journal,
    /// Where each stream stands.
    logs: HashMap<LaneKey, LogCounter>,
}

/// What to tell a stream.
type News = (LaneKey, Arc<dyn LogSink>, LogUpdate);

/// A group that is in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    ticket: Ticket,
    seq: u64,
    bytes: u64,
}

impl Appender {
    pub(super) fn new(shared: Arc<Shared>, journal: Journal, logs: &HashMap<LaneKey, LogState>) -> Self {
        let logs = logs.iter().map(|(lane, state)| (*lane, LogCounter::after(state))).collect();
        Self { shared, journal, logs }
    }

    /// Writes until the store is closed or a write fails.
    pub(super) fn run(mut self) {
        let _trust = StopOnPanic("the store");
        let mut batch = Vec::new();
        let mut group = Vec::new();
        while let Some(last) = self.shared.take(&mut batch) {
            let mut ticket = last.get() - batch.len() as u64;
            let mut waiting = batch.drain(..).peekable();
            while waiting.peek().is_some() {
                let mut bytes = 0;
                while let Some(transaction) = waiting.next_if(|next| bytes == 0 || bytes + next.size() <= RECORD_BYTES)
                {
                    bytes += transaction.size();
                    ticket += 1;
                    group.push(transaction);
                }
                if let Err(cause) = self.write(&mut group, Ticket::new(ticket)) {
                    // Else the writer has said why the database takes nothing.
                    if !self.shared.has_failed() {
                        error!(
                            file = %self.shared.data_dir.join(journal::FILE_NAME).display(),
                            %cause,
                            "cannot write: nothing since the last write is confirmed and the broker stops; free the disk or \
                             replace it, then start again"
                        );
                        self.shared.fail();
                    }
                    return;
                }
            }
        }
        self.shared.backlog.close();
    }

    fn write(&mut self, group: &mut Vec<Transaction>, ticket: Ticket) -> io::Result<()> {
        loop {
            if let Some(written) = self.append(group, ticket)? {
                self.publish(written, group);
                return Ok(());
            }
            let stored = self.shared.backlog.stored_seq();
            self.journal.release(stored);
            if !self.journal.is_empty() && !self.shared.backlog.wait_beyond(stored) {
                return Err(io::Error::other("the database does not take what is in the journal"));
            }
        }
    }

    /// Appends a group to the journal; `None` when there is no room before the next checkpoint.
    pub(super) fn append(&mut self, group: &[Transaction], ticket: Ticket) -> io::Result<Option<Written>> {
        self.journal.release(self.shared.backlog.stored_seq());
        Ok(match self.journal.append(group)? {
            Appended::Record(seq, bytes) => {
                if bytes > 0 {
                    let sync = self.journal.last_sync();
                    self.shared.figures.lock().note_commit(group.len(), bytes, sync);
                }
                Some(Written { ticket, seq, bytes })
            }
            Appended::Full => None,
        })
    }

    /// Tells streams what they got, moves the watermark and wakes those who wait for it.
    pub(super) fn publish(&mut self, written: Written, group: &mut Vec<Transaction>) {
        let Written { ticket, seq, bytes } = written;
        let mut news = Vec::new();
        let mut waiters: Vec<Arc<dyn Waiter>> = Vec::new();
        for transaction in group.iter_mut() {
            for op in &transaction.ops {
                self.count(op, &mut news);
            }
            if let Some(waiter) = transaction.waiter.take()
                && !waiters.last().is_some_and(|last| Arc::ptr_eq(last, &waiter))
            {
                waiters.push(waiter);
            }
        }
        // Before a stream hears of it: it may ask for it at once.
        self.shared.backlog.add(group, ticket, seq, bytes);
        for (_, sink, update) in news {
            sink.committed(update);
        }
        self.shared.set_durable(ticket);
        for waiter in waiters {
            waiter.wake();
        }
    }

    fn count(&mut self, op: &Op, news: &mut Vec<News>) {
        match op {
            Op::Log { lane, arena, index, count, block_bytes, sink } => {
                let update = self.logs.entry(*lane).or_default().append(arena.clone(), *index, *count, *block_bytes);
                match news.iter_mut().find(|(other, ..)| other == lane) {
                    Some((_, _, told)) => {
                        told.parts.extend(update.parts);
                        told.blocks.extend(update.blocks);
                    }
                    None => news.push((*lane, sink.clone(), update)),
                }
            }
            Op::Define { change: Change::QueueRemoved(id), .. } => {
                self.logs.remove(&LaneKey::new(*id, 0));
            }
            Op::Append { .. }
            | Op::Settled { .. }
            | Op::Returned { .. }
            | Op::Truncate { .. }
            | Op::Define { .. }
            | Op::Directory(_)
            | Op::Delivered { .. } => {}
        }
    }
}
