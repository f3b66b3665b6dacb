//! Going through a queue's messages without taking them, step by step, whether they are in memory or on disk.
//!
//! A step looks at some messages under the queue's lock, or has the store read some, off the lock and without bringing them
//! into the queue's memory. Between steps traffic goes on; what comes and goes meanwhile may be seen or not, what stays is
//! seen once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::queue_cell::{Body, QueueCell};
use super::registry::Registry;
use crate::engine::queue::{Loaded, Look, MessageId, Next, Seen, Wanted};
use crate::store::{LaneKey, LoadReply, LoadRequest};

/// Messages that a step looks at in memory, at most.
const STEP_MESSAGES: usize = 256;
/// About how many octets a step has read from disk.
const STEP_BYTES: usize = 256 * 1024;
/// How long the store may take for a read. It tries again and again to read what it cannot.
const READ_PATIENCE: Duration = Duration::from_secs(20);

/// The store could not read messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl QueueCell {
    /// Looks at messages in memory, from a place on.
    fn look(&self, from: Option<MessageId>, wanted: Wanted, max: usize) -> Look {
        match &self.state.lock().body {
            Body::Queue(queue) => queue.look(from, wanted, max),
            Body::Stream(_) if !wanted.ready => Look { seen: Vec::new(), next: Next::End },
            Body::Stream(stream) => stream.look(from.map_or(0, |from| from.seq), max),
        }
    }

    /// Which of the messages that were read from the disk are still there.
    fn seen_on_disk(&self, lane: u8, loaded: &[Loaded], below_seq: u64, wanted: Wanted) -> Vec<Seen> {
        match &self.state.lock().body {
            Body::Queue(queue) => queue.seen_on_disk(lane, loaded, below_seq, wanted),
            Body::Stream(stream) => stream.seen_on_disk(loaded, below_seq),
        }
    }

    /// For each lane its number and the sequence number of the next message that comes.
    pub(super) fn ends(&self) -> Vec<(u8, u64)> {
        self.read(crate::engine::queue::Queue::ends).unwrap_or_default()
    }
}

/// On the way through a queue.
#[derive(Debug)]
pub(super) struct Scan {
    registry: Arc<Registry>,
    cell: Arc<QueueCell>,
    wanted: Wanted,
    /// Where to go on; `None` at the end.
    at: Option<Place>,
    /// Messages from these sequence numbers on, by lane, are not looked at.
    ends: Option<Vec<(u8, u64)>>,
    /// Seen and not handed out.
    pending: VecDeque<Seen>,
    /// Messages handed out.
    pub(super) count: u64,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Start,
    From(MessageId),
}

impl Scan {
    /// Goes through a queue from a place on, or from its head.
    pub(super) fn new(
        registry: &Arc<Registry>,
        cell: &Arc<QueueCell>,
        wanted: Wanted,
        from: Option<MessageId>,
    ) -> Self {
        let at = Some(from.map_or(Place::Start, Place::From));
        let (registry, cell) = (registry.clone(), cell.clone());
        Self { registry, cell, wanted, at, ends: None, pending: VecDeque::new(), count: 0 }
    }

    /// What comes from now on is left out.
    pub(super) fn stop_at_end_of_now(mut self) -> Self {
        self.ends = Some(self.cell.ends());
        self
    }

    /// The next message; `None` at the end, or when `goes_on` says so before another step.
    pub(super) async fn next(&mut self, goes_on: impl Fn() -> bool) -> Result<Option<Seen>, Unreadable> {
        loop {
            if let Some(seen) = self.pending.pop_front() {
                self.count += 1;
                return Ok(Some(seen));
            }
            if self.at.is_none() || !goes_on() {
                return Ok(None);
            }
            self.step().await?;
        }
    }

    /// Has a message come again.
    pub(super) fn put_back(&mut self, seen: Seen) {
        self.count -= 1;
        self.pending.push_front(seen);
    }

    /// Where to go on with the message after the last one; `None` at the end.
    pub(super) fn cursor(&self) -> Option<MessageId> {
        if let Some(seen) = self.pending.front() {
            return Some(seen.id);
        }
        self.at.map(|at| match at {
            Place::From(id) => id,
            // Nothing was looked at: lanes are gone through from the highest on.
            Place::Start => MessageId { lane: u8::MAX, seq: 0 },
        })
    }

    /// Goes on with the message of this place, or the first one after it.
    pub(super) fn seek(&mut self, id: MessageId) {
        let covers = |seen: &Seen| seen.id.lane == id.lane;
        let is_here = self.pending.front().is_some_and(|seen| covers(seen) && seen.id.seq <= id.seq)
            && self.pending.back().is_some_and(|seen| covers(seen) && seen.id.seq >= id.seq);
        if is_here {
            while self.pending.front().is_some_and(|seen| seen.id.seq < id.seq) {
                self.pending.pop_front();
            }
        } else {
            self.pending.clear();
            self.at = Some(Place::From(id));
        }
    }

    async fn step(&mut self) -> Result<(), Unreadable> {
        let from = match self.at {
            None => return Ok(()),
            Some(Place::Start) => None,
            Some(Place::From(id)) => Some(id),
        };
        let Look { mut seen, next } = self.cell.look(from, self.wanted, STEP_MESSAGES);
        self.at = match next {
            Next::End => None,
            Next::At(id) => Some(Place::From(id)),
            Next::Disk { from, .. } if !seen.is_empty() => Some(Place::From(from)),
            Next::Disk { from: MessageId { lane, seq }, until_seq } => {
                let reply = self.load(lane, seq).await?;
                let below_seq = until_seq.min(reply.complete_below);
                seen = self.cell.seen_on_disk(lane, &reply.loaded, below_seq, self.wanted);
                Some(Place::From(MessageId { lane, seq: below_seq.max(seq + 1) }))
            }
        };
        self.pending.extend(seen);
        self.keep_to_ends();
        // A queue in memory is gone through without waiting for anything: others get their turn.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Passes over what came after the start.
    fn keep_to_ends(&mut self) {
        let Some(ends) = &self.ends else { return };
        let end = |lane: u8| ends.iter().find(|(number, _)| *number == lane).map_or(0, |(_, end)| *end);
        self.pending.retain(|seen| seen.id.seq < end(seen.id.lane));
        if let Some(Place::From(MessageId { lane, seq })) = self.at
            && seq >= end(lane)
        {
            self.at = lane.checked_sub(1).map(|lane| Place::From(MessageId { lane, seq: 0 }));
        }
    }

    async fn load(&self, lane: u8, from_seq: u64) -> Result<LoadReply, Unreadable> {
        let (answer, reply) = oneshot::channel();
        self.registry.store.load(LoadRequest {
            lane: LaneKey::new(self.cell.id, lane),
            from_seq,
            max_bytes: STEP_BYTES,
            latest: self.cell.stream.is_some(),
            window: None,
            reply: Box::new(move |reply| {
                // Who asked may have given up waiting.
                let _gone = answer.send(reply);
            }),
        });
        match tokio::time::timeout(READ_PATIENCE, reply).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) | Err(_) => Err(Unreadable),
        }
    }
}
