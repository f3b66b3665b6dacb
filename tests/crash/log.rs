//! What clients did and saw until the broker was gone, each client for itself, in its own order.

use std::collections::BTreeSet;

use crate::messages::{Came, MessageId, Queue, Sent};

/// A message that was sent, perhaps.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    pub sent: Sent,
    pub confirmed: bool,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// commit-ok came.
    Committed,
    /// tx.commit was sent, perhaps.
    InDoubt,
    /// rollback-ok came, or the transaction was never ended.
    RolledBack,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub created: Vec<Sent>,
    pub acked: Vec<(Queue, MessageId)>,
    pub ending: Ending,
}

/// A message as a consumer got it.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub queue: Queue,
    pub id: MessageId,
    pub redelivered: bool,
    /// The consumer, one number for each life of a connection.
    pub consumer: u32,
    pub came: Came,
}

/// What was sent about a delivery, perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ack, or reject where there is no dead-letter exchange: it leaves the queue.
    Ack,
    /// Reject: it goes to the graveyard.
    Reject,
    /// Back to its place.
    Requeue,
}

#[derive(Clone, Copy, Debug)]
pub struct Settlement {
    pub queue: Queue,
    pub id: MessageId,
    pub verdict: Verdict,
    /// Something that was asked for later, on the same connection, is known to be on disk: so this is, too.
    pub stored: bool,
}

/// A queue that nobody consumes from was purged or deleted, by the only client that publishes to it.
#[derive(Clone, Copy, Debug)]
pub struct Removal {
    pub queue: Queue,
    /// What the client publishes.
    pub stream: u32,
    /// The number of its next message: those below were published before.
    pub below: u32,
    pub done: Done,
}

/// What is known of a definition that came and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Done {
    #[default]
    No,
    /// Asked for, perhaps.
    InDoubt,
    /// The broker said so.
    Yes,
}

/// Definitions that change all the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// Whether [`Queue::Reborn`] is there.
    pub reborn: Done,
    /// Which of [`crate::topology::SHIFTS`] are there.
    pub shifts: [Done; 3],
}

/// A queue with a binding and one message in it, and an exchange, all of the same name.
#[derive(Clone, Debug, Default)]
pub struct Temporary {
    pub name: String,
    pub declared: Done,
    pub bound: Done,
    pub published: Done,
    pub deleted: Done,
    pub exchange_declared: Done,
    pub exchange_deleted: Done,
}

/// What one client did and saw.
#[derive(Debug, Default)]
pub struct Log {
    pub published: Vec<Published>,
    pub transactions: Vec<Transaction>,
    pub deliveries: Vec<Delivery>,
    pub settlements: Vec<Settlement>,
    /// Queues with a consumer that left before the broker did: what it had not settled went back unseen.
    pub deserted: BTreeSet<Queue>,
    /// Queues with a consumer that does not ack.
    pub auto_acked: BTreeSet<Queue>,
    pub temporaries: Vec<Temporary>,
    /// What one client removed, in its order.
    pub removals: Vec<Removal>,
    /// Where these are in the end; `None` from clients that do not touch them.
    pub reborn: Option<Done>,
    pub shifts: Option<[Done; 3]>,
    pub problems: Vec<String>,
}

impl Log {
    /// Adds what another client did.
    pub fn merge(&mut self, other: Self) {
        self.published.extend(other.published);
        self.transactions.extend(other.transactions);
        self.deliveries.extend(other.deliveries);
        self.settlements.extend(other.settlements);
        self.deserted.extend(other.deserted);
        self.auto_acked.extend(other.auto_acked);
        self.temporaries.extend(other.temporaries);
        self.removals.extend(other.removals);
        self.reborn = other.reborn.or(self.reborn);
        self.shifts = other.shifts.or(self.shifts);
        self.problems.extend(other.problems);
    }
}
