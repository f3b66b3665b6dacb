//! Time to live: messages that expire, and queues that nobody uses (RabbitMQ extensions).
//!
//! A message with an `expiration` of its own has an entry in a heap, so it expires on time wherever it stands; a queue's
//! `x-message-ttl` is the same for all and needs only the head to be watched. Both count from the message's arrival, so a
//! requeued message keeps its deadline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{DeathReason, Queue, QueueEffect, TimeoutOutcome};
use crate::engine::message::{Message, Timestamp};

/// When messages with an expiration of their own expire.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Timestamp, u8, u64)>>,
}

impl Deadlines {
    /// Remembers when this message expires, if it does by itself.
    pub(super) fn add(&mut self, message: &Message<'_>, lane: u8, seq: u64) {
        if let Some(expiration_ms) = message.expiration_ms() {
            self.heap.push(Reverse((message.enqueued_at().plus_millis(expiration_ms), lane, seq)));
        }
    }

    /// Whether most entries may be of messages that are gone.
    pub(super) fn is_stale(&self, messages: u64) -> bool {
        self.heap.len() as u64 > 2 * messages + 1024
    }

    /// Keeps the entries that `keep` says.
    pub(super) fn retain(&mut self, keep: impl Fn(u8, u64) -> bool) {
        self.heap.retain(|Reverse((_, lane, seq))| keep(*lane, *seq));
    }

    fn pop_due(&mut self, now: Timestamp) -> Option<(u8, u64)> {
        let Reverse((due, lane, seq)) = *self.heap.peek()?;
        if due > now {
            return None;
        }
        self.heap.pop();
        Some((lane, seq))
    }
}

impl Queue {
    /// Drops or dead-letters every message whose time is over.
    pub(super) fn expire(&mut self, now: Timestamp, fx: &mut Vec<QueueEffect>) {
        while let Some((lane, seq)) = self.deadlines.pop_due(now) {
            // An unacked message is looked at again when it is requeued; a settled one is gone.
            self.drop_ready(lane, seq, DeathReason::Expired, fx);
        }
        let Some(ttl_ms) = self.settings.message_ttl_ms else { return };
        for number in 0..self.lanes.len() {
            let number = u8::try_from(number).expect("at most 256 priorities");
            while let Some((seq, message)) = self.lanes[usize::from(number)].peek()
                && message.enqueued_at().plus_millis(ttl_ms) <= now
            {
                if !self.drop_ready(number, seq, DeathReason::Expired, fx) {
                    break;
                }
            }
        }
        if self.lanes.iter().any(|lane| lane.ready() > 0 && lane.peek().is_none()) {
            self.read_ahead(fx);
        }
    }

    /// When [`Queue::handle_timeout`] next has something to do.
    pub fn deadline(&self) -> Option<Timestamp> {
        let own = self.deadlines.heap.peek().map(|Reverse((due, ..))| *due);
        let head = self.settings.message_ttl_ms.and_then(|ttl_ms| {
            let heads = self.lanes.iter().filter_map(super::lane::Lane::peek);
            heads.map(|(_, message)| message.enqueued_at().plus_millis(ttl_ms)).min()
        });
        let unused = self
            .settings
            .expires_ms
            .filter(|_| self.consumers.is_empty())
            .map(|expires_ms| self.last_used.plus_millis(expires_ms));
        own.into_iter().chain(head).chain(unused).min()
    }

    /// The time has come that [`Queue::deadline`] named.
    pub fn handle_timeout(&mut self, now: Timestamp, fx: &mut Vec<QueueEffect>) -> TimeoutOutcome {
        self.expire(now, fx);
        if self.is_expired(now) && !self.deleted { TimeoutOutcome::QueueExpired } else { TimeoutOutcome::Kept }
    }

    /// Whether nobody used the queue for its `x-expires`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.settings
            .expires_ms
            .is_some_and(|expires_ms| self.consumers.is_empty() && self.last_used.plus_millis(expires_ms) <= now)
    }
}
