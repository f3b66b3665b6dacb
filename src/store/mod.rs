//! What survives a restart: definitions, messages, and which of them are settled.
//!
//! Connections hand whole [`Transaction`]s to the store and get a [`Ticket`]; what one transaction does to several queues is
//! on disk as a whole or not at all. Durability comes back as a watermark ([`Store::durable`]); whoever waits is woken once
//! for each write. Two implementations: `disk` (a journal, and redb behind it) and `memory` (nothing survives).
//!
//! Invariants: a ticket is durable only after an fsynced write that contains its transaction; a sequence number is
//! appended at most once and settled at most once; operations of different transactions on one queue may arrive in another
//! order than the queue made them, so a settlement may come before its append. Streams get their numbers here, in the
//! order of transactions, and are told after the fsync and before its ticket counts as durable ([`LogSink`]).

mod appender;
mod backlog;
mod backup;
mod damage;
pub mod disk;
#[cfg(test)]
mod faults;
mod figures;
mod journal;
mod ledger;
mod log;
pub mod memory;
pub mod offline;
mod reader;
mod recount;
mod recovery;
mod schema;
mod shrink;
mod spill;
#[cfg(test)]
pub(crate) mod stepped;
#[cfg(test)]
mod testing;
mod upgrade;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use leveret_protocol::ShortString;

pub use backup::BackedUp;
pub use figures::{SYNC_BOUNDS_MICROS, StoreFigures};

use crate::engine::directory::{DirectoryChange, Record};
use crate::engine::message::Arena;
use crate::engine::queue::{Gone, Loaded, QueueId, RecoveredLane, Settled};
use crate::engine::stream::{Block, RecoveredLog};
use crate::engine::vhost::{Binding, Change, ExchangeRecord, QueueRecord};
pub use spill::SpillOp;

/// The place of a transaction in the store's order; 0 stands for "nothing to wait for".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// Nothing to wait for.
    pub const NONE: Self = Self(0);

    /// The ticket with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A lane of a queue as the store names it: the queue's number and the lane in one sortable number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey(u64);

impl LaneKey {
    /// The lane of a queue.
    pub const fn new(queue: QueueId, lane: u8) -> Self {
        Self((queue.get() << 8) | lane as u64)
    }

    /// The key with this number.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The queue.
    pub const fn queue(self) -> QueueId {
        QueueId::new(self.0 >> 8)
    }

    /// The lane.
    pub const fn lane(self) -> u8 {
        (self.0 & 0xff) as u8
    }
}

/// One change to what is stored.
#[derive(Debug)]
pub enum Op {
    /// Messages came into a durable queue.
    Append {
        /// Where to.
        lane: LaneKey,
        /// Sequence number of the first one.
        first_seq: u64,
        /// Where they are in memory.
        arena: Arc<Arena>,
        /// Index of the first one in the arena.
        index: u32,
        /// How many.
        count: u32,
    },
    /// Messages left a durable queue.
    Settled {
        /// Where from.
        lane: LaneKey,
        /// Which.
        settled: Settled,
    },
    /// A message came back this often.
    Returned {
        /// Where to.
        lane: LaneKey,
        /// Its sequence number.
        seq: u64,
        /// How often.
        count: u32,
    },
    /// Messages are to be appended to a stream.
    Log {
        /// Where to.
        lane: LaneKey,
        /// Where they are in memory.
        arena: Arc<Arena>,
        /// Index of the first one in the arena.
        index: u32,
        /// How many.
        count: u32,
        /// Octets after which another block begins.
        block_bytes: u64,
        /// Who is told their offsets.
        sink: Arc<dyn LogSink>,
    },
    /// A stream lost everything below an offset.
    Truncate {
        /// Which.
        lane: LaneKey,
        /// The first offset that stays.
        below_seq: u64,
    },
    /// A durable entity came or went.
    Define {
        /// Its vhost.
        vhost: ShortString,
        /// What happened.
        change: Change,
    },
    /// A record of the directory came, changed or went.
    Directory(DirectoryChange),
    /// Messages below this number were delivered at least once; told at a clean stop.
    Delivered {
        /// Which lane.
        lane: LaneKey,
        /// The first number never delivered.
        below: u64,
    },
}

impl Op {
    /// Whether it has to survive a crash once its ticket is durable.
    fn is_durable(&self) -> bool {
        match self {
            Self::Append { .. }
            | Self::Settled { .. }
            | Self::Returned { .. }
            | Self::Log { .. }
            | Self::Truncate { .. }
            | Self::Define { .. }
            | Self::Directory(_)
            | Self::Delivered { .. } => true,
        }
    }
}

/// Somebody who waits for the store.
pub trait Waiter: Send + Sync + fmt::Debug {
    /// The watermark moved.
    fn wake(&self);
}

/// What a commit added to a stream.
#[derive(Debug, Default)]
pub struct LogUpdate {
    /// The messages with their offsets.
    pub parts: Vec<Loaded>,
    /// Blocks that came or grew, ascending.
    pub blocks: Vec<Block>,
}

/// A stream that waits for what it was given.
pub trait LogSink: Send + Sync + fmt::Debug {
    /// Messages were committed. Called in the order of offsets, on a thread of the store.
    fn committed(&self, update: LogUpdate);
}

/// Changes that belong together.
#[derive(Debug, Default)]
pub struct Transaction {
    /// The changes, in order.
    pub ops: Vec<Op>,
    /// Who is woken when they are durable.
    pub waiter: Option<Arc<dyn Waiter>>,
}

impl Transaction {
    /// About how many octets its messages have.
    fn size(&self) -> usize {
        let size = |op: &Op| match op {
            Op::Append { arena, .. } | Op::Log { arena, .. } => arena.size_bytes(),
            Op::Settled { .. }
            | Op::Returned { .. }
            | Op::Truncate { .. }
            | Op::Define { .. }
            | Op::Directory(_)
            | Op::Delivered { .. } => 0,
        };
        self.ops.iter().map(size).sum()
    }

    /// Whether it may be made durable a little later, with others: nobody was promised that what it takes out stays out.
    fn can_wait(&self) -> bool {
        let can_wait = |op: &Op| match op {
            Op::Settled { .. } | Op::Returned { .. } | Op::Truncate { .. } | Op::Delivered { .. } => true,
            Op::Append { .. } | Op::Log { .. } | Op::Define { .. } | Op::Directory(_) => false,
        };
        !self.ops.is_empty() && self.ops.iter().all(can_wait)
    }
}

/// A request to bring stored messages back.
pub struct LoadRequest {
    /// Which lane.
    pub lane: LaneKey,
    /// From this sequence number on.
    pub from_seq: u64,
    /// About how many octets.
    pub max_bytes: usize,
    /// What is durable but cannot be read back yet is wanted too.
    pub latest: bool,
    /// At most half of this when the time to read has come, if that is less: it shrinks while memory is short.
    pub window: Option<Arc<AtomicUsize>>,
    /// Called with the result on the store's reader thread.
    pub reply: Box<dyn FnOnce(LoadReply) + Send>,
}

impl fmt::Debug for LoadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadRequest")
            .field("lane", &self.lane)
            .field("from_seq", &self.from_seq)
            .finish_non_exhaustive()
    }
}

/// Octets that a read brings at least, if there are as many.
const READ_MIN_BYTES: usize = 32 * 1024;

impl LoadRequest {
    /// About how many octets are wanted at this moment.
    fn octets(&self) -> usize {
        let window = self.window.as_ref().map_or(usize::MAX, |window| window.load(Ordering::Relaxed) / 2);
        self.max_bytes.min(window.max(READ_MIN_BYTES))
    }
}

/// Messages brought back.
#[derive(Debug, Default)]
pub struct LoadReply {
    /// The live ones, ascending.
    pub loaded: Vec<Loaded>,
    /// Everything below this sequence number was looked at; `u64::MAX` at the end of the lane.
    pub complete_below: u64,
    /// Live ones that cannot be read, as far as they could be told apart; the store counts them out.
    pub gone: Vec<Gone>,
    /// Sequence numbers in that range which belong to what was set aside before.
    pub known_gone: u64,
}

/// What was found to be damaged and set aside, since the store was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Batches.
    pub batches: u64,
    /// Messages in them, as far as they could be counted.
    pub messages: u64,
}

/// Everything that the store found at start but the messages.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Vhosts, users, rights, policies and parameters.
    pub directory: Vec<Record>,
    /// Exchanges by vhost.
    pub exchanges: Vec<(ShortString, ExchangeRecord)>,
    /// Queues by vhost, each with its lanes.
    pub queues: Vec<(ShortString, QueueRecord, Vec<RecoveredLane>)>,
    /// What there is of streams.
    pub logs: HashMap<QueueId, RecoveredLog>,
    /// Bindings by vhost.
    pub bindings: Vec<(ShortString, Binding)>,
    /// The number that the next queue gets.
    pub next_queue_id: u64,
    /// The last stop was orderly.
    pub clean: bool,
}

/// Where definitions and messages survive.
pub trait Store: Send + Sync + fmt::Debug {
    /// Takes a transaction; it will be durable once [`Store::durable`] reaches the ticket.
    fn submit(&self, transaction: Transaction) -> Ticket;

    /// Somebody waits for what was submitted: what could wait a little for company does not.
    fn hurry(&self);

    /// Everything up to this ticket is durable.
    fn durable(&self) -> Ticket;

    /// Whether messages appended under this ticket can be read back: later than durable, when a checkpoint is done.
    fn is_stored(&self, ticket: u64) -> bool;

    /// Brings messages back, off the caller's thread.
    fn load(&self, request: LoadRequest);

    /// A lane has that many more messages (or fewer) than the store has counted, with so many octets of bodies.
    fn recount(&self, lane: LaneKey, count: i64, body_bytes: i64);

    /// What was set aside because it is damaged.
    fn damage(&self) -> Damage;

    /// Waits until everything that is durable can be read back. False when that will never be.
    fn checkpoint(&self) -> bool;

    /// Copies everything that is durable to a file that is not there yet. Takes long; nobody waits for it meanwhile.
    fn backup(&self, file: &Path) -> Result<BackedUp, StoreError>;

    /// Whether more waits to be written than should: publishers are held back.
    fn is_saturated(&self) -> bool;

    /// Takes messages that are to be on disk only to save memory, as long as the broker runs. Returns a ticket of a row of
    /// its own; `waiter` is woken when it can be read back.
    fn spill(&self, ops: Vec<SpillOp>, waiter: Option<Arc<dyn Waiter>>) -> u64;

    /// Everything spilled up to this ticket can be read back.
    fn spilled(&self) -> u64;

    /// Whether messages can be spilled.
    fn spills(&self) -> bool;

    /// Whether more waits to be spilled than should: those who publish it are held back.
    fn is_spill_saturated(&self) -> bool;

    /// What it has done; nothing in memory.
    fn figures(&self) -> StoreFigures {
        StoreFigures::default()
    }

    /// Writes what waits and closes; nothing is taken after it.
    fn close(&self);
}

/// Why the store cannot be opened or written.
#[derive(Debug)]
pub struct StoreError {
    message: String,
}

impl StoreError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {}
