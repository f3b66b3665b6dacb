//! Time to live: messages that expire, and queues that nobody uses (RabbitMQ extensions).
//!
//! A message with an `expiration` of its own has an entry in a heap, so it expires on time wherever it stands; a queue's
//! `x-message-ttl` is the same for all and needs only the head to be watched. With `x-expiry-mode: head` only the head is
//! looked at for both. Both count from the message's arrival, so a requeued message keeps its deadline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{DeathReason, ExpiryMode, Queue, QueueEffect, TimeoutOutcome};
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

    /// The same for a message that may live no longer than `ttl_ms` anyway.
    pub(super) fn add_within(&mut self, message: &Message<'_>, ttl_ms: u64, lane: u8, seq: u64) {
        let lives_ms = message.expiration_ms().map_or(ttl_ms, |expiration_ms| expiration_ms.min(ttl_ms));
        self.heap.push(Reverse((message.enqueued_at().plus_millis(lives_ms), lane, seq)));
    }

    /// Whether most entries may be of messages that are gone.
    pub(super) fn is_stale(&self, messages: u64) -> bool {
        self.heap.len() as u64 > 2 * messages + 1024
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Keeps the entries that `keep` says.
    pub(super) fn retain(&mut self, keep: impl Fn(u8, u64) -> bool) {
        self.heap.retain(|Reverse((_, lane, seq))| keep(*lane, *seq));
        self.heap.shrink_to(self.heap.len() * 2);
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
        self.expire_heads(now, fx);
    }

    /// Whether the time of messages is looked at when they come to the head.
    pub(super) fn watches_heads(&self) -> bool {
        self.settings.message_ttl_ms.is_some() || self.settings.expiry_mode == ExpiryMode::Head
    }

    /// When the time of a message at the head is over.
    fn head_due(&self, message: &Message<'_>) -> Option<Timestamp> {
        let own_ms = message.expiration_ms().filter(|_| self.settings.expiry_mode == ExpiryMode::Head);
        let lives_ms = own_ms.into_iter().chain(self.settings.message_ttl_ms).min()?;
        Some(message.enqueued_at().plus_millis(lives_ms))
    }

    /// Drops or dead-letters what stands at the head of a lane and whose time is over.
    pub(super) fn expire_heads(&mut self, now: Timestamp, fx: &mut Vec<QueueEffect>) {
        if !self.watches_heads() {
            return;
        }
        for at in 0..self.lanes.len() {
            let number = self.lanes[at].number();
            while let Some((seq, message)) = self.lanes[at].peek()
                && self.head_due(&message).is_some_and(|due| due <= now)
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
        let head = if self.watches_heads() {
            let heads = self.lanes.iter().filter_map(super::lane::Lane::peek);
            heads.filter_map(|(_, message)| self.head_due(&message)).min()
        } else {
            None
        };
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
