//! Deliveries of a channel by delivery tag, and how acks, nacks and rejects settle them (spec §1.8.3.12 and RabbitMQ).
//!
//! Tags are consecutive, so the entries stand in a deque and a tag is an index. Settled entries leave from the front.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use leveret_protocol::DeliveryTag;

use super::ack_timeout::AckTimeouts;

use crate::engine::queue::{ConsumerId, Delivered, QueueId};
use crate::error::AmqpError;

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged: gone.
    Ack,
    /// Rejected without requeue: dead-lettered or gone.
    Reject,
    /// Back to its queue.
    Requeue,
}

/// One delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The queue it came from.
    pub queue: QueueId,
    /// Its sequence number there.
    pub seq: u64,
    /// Who got it; `None` for basic.get.
    pub consumer: Option<ConsumerId>,
    /// Lane of the queue.
    pub lane: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Outstanding,
    Held(Outcome),
    /// Given back because the ack came too late: when it comes after all it means nothing, and is no error.
    Lapsed,
    Settled,
}

/// Consecutive messages of one queue and consumer with the same outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The queue.
    pub queue: QueueId,
    /// The messages.
    pub delivered: Delivered,
    /// What becomes of them.
    pub outcome: Outcome,
}

/// Collects settlements, joining neighbours.
#[derive(Debug, Default)]
pub struct Settlements(Vec<Settlement>);

impl Settlements {
    /// Adds one delivery.
    pub fn add(&mut self, entry: &Entry, outcome: Outcome) {
        let Entry { queue, seq, consumer, lane } = *entry;
        if let Some(last) = self.0.last_mut()
            && last.queue == queue
            && last.outcome == outcome
            && (last.delivered.consumer, last.delivered.lane) == (consumer, lane)
            && last.delivered.last_seq + 1 == seq
        {
            last.delivered.last_seq = seq;
            return;
        }
        let delivered = Delivered { consumer, lane, first_seq: seq, last_seq: seq };
        self.0.push(Settlement { queue, delivered, outcome });
    }

    /// Puts what was added since there were `start` into the order of its queue. Tags tell when a message was delivered last,
    /// but whoever waits at the queue gets its first message first.
    fn in_queue_order(&mut self, start: usize) {
        if let Some(added) = self.0.get_mut(start..).filter(|added| added.len() > 1) {
            added.sort_by_key(|Settlement { queue, delivered, .. }| {
                (*queue, Reverse(delivered.lane), delivered.first_seq)
            });
        }
    }

    /// Nothing collected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was collected, in order, in groups of the same queue.
    pub fn by_queue(&self) -> impl Iterator<Item = &[Settlement]> {
        self.0.chunk_by(|a, b| a.queue == b.queue)
    }

    /// Forgets what was collected.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Deliveries by tag.
#[derive(Debug)]
pub struct Unacked {
    first_tag: u64,
    entries: VecDeque<(Entry, State)>,
    timeouts: AckTimeouts,
    acked: u64,
}

/// A delivery whose ack is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// The delivery.
    pub entry: Entry,
    /// How long it may wait.
    pub timeout: Duration,
}

impl Default for Unacked {
    fn default() -> Self {
        Self { first_tag: 1, entries: VecDeque::new(), timeouts: AckTimeouts::default(), acked: 0 }
    }
}

impl Unacked {
    /// Adds a delivery that waits for an ack; returns its tag.
    #[inline]
    pub fn push(&mut self, entry: Entry) -> DeliveryTag {
        self.entries.push_back((entry, State::Outstanding));
        DeliveryTag::new(self.first_tag + self.entries.len() as u64 - 1)
    }

    /// Counts a delivery that settles itself; returns its tag.
    #[inline]
    pub fn push_settled(&mut self, entry: Entry) -> DeliveryTag {
        if self.entries.is_empty() {
            self.first_tag += 1;
            return DeliveryTag::new(self.first_tag - 1);
        }
        self.entries.push_back((entry, State::Settled));
        DeliveryTag::new(self.first_tag + self.entries.len() as u64 - 1)
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many were acked so far.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// The delivery that waits longest for its ack.
    pub fn oldest(&self) -> Option<&Entry> {
        self.entries.iter().find(|(_, state)| *state == State::Outstanding).map(|(entry, _)| entry)
    }

    /// How many wait for an ack, and how many acks wait for a commit.
    pub fn counts(&self) -> (u64, u64) {
        self.entries.iter().fold((0, 0), |(outstanding, held), (_, state)| match state {
            State::Outstanding => (outstanding + 1, held),
            State::Held(_) => (outstanding, held + 1),
            State::Settled | State::Lapsed => (outstanding, held),
        })
    }

    /// The deliveries of a queue that are not settled.
    pub fn held_of(&self, queue: QueueId) -> impl Iterator<Item = &Entry> {
        let held = move |(entry, state): &&(Entry, State)| {
            entry.queue == queue && matches!(state, State::Outstanding | State::Held(_))
        };
        self.entries.iter().filter(held).map(|(entry, _)| entry)
    }

    fn index(&self, tag: DeliveryTag) -> Option<usize> {
        let index = usize::try_from(tag.get().checked_sub(self.first_tag)?).ok()?;
        self.entries.get(index).filter(|(_, state)| matches!(state, State::Outstanding | State::Lapsed)).map(|_| index)
    }

    /// Deliveries that are pushed from now on have to be acked within this time.
    #[inline]
    pub fn note_time(&mut self, now: Instant, timeout: Duration) {
        self.timeouts.note(self.first_tag + self.entries.len() as u64, self.first_tag, now, timeout);
    }

    /// The oldest delivery whose ack is overdue.
    pub fn overdue(&self, now: Instant) -> Option<Overdue> {
        let end_tag = self.first_tag + self.entries.len() as u64;
        self.timeouts.overdue(now, end_tag).find_map(|(tags, timeout)| {
            let from = usize::try_from(tags.start.saturating_sub(self.first_tag)).ok()?;
            let to = usize::try_from(tags.end.saturating_sub(self.first_tag)).ok()?.min(self.entries.len());
            let mut entries = self.entries.range(from.min(to)..to);
            let found = entries.find(|(_, state)| *state == State::Outstanding);
            found.map(|&(entry, _)| Overdue { entry, timeout })
        })
    }

    /// The shortest time within which one of the deliveries has to be acked; `None` if nothing waits for an ack.
    pub fn shortest_timeout(&self) -> Option<Duration> {
        if self.entries.is_empty() { None } else { self.timeouts.shortest(self.first_tag) }
    }

    /// Gives back what a consumer has not acked, because it took too long. Returns a count as `settle` does.
    pub fn lapse(&mut self, queue: QueueId, consumer: ConsumerId, out: &mut Settlements) -> u32 {
        let mut freed = 0;
        let start = out.0.len();
        for (entry, state) in &mut self.entries {
            if *state == State::Outstanding && entry.queue == queue && entry.consumer == Some(consumer) {
                *state = State::Lapsed;
                freed += 1;
                out.add(entry, Outcome::Requeue);
            }
        }
        out.in_queue_order(start);
        freed
    }

    /// The queue that an outstanding delivery came from.
    pub fn queue_of(&self, tag: DeliveryTag) -> Option<QueueId> {
        self.index(tag).map(|index| self.entries[index].0.queue)
    }

    /// The indexes that an ack, nack or reject means; nothing is settled if the tag is not outstanding.
    fn range(&self, tag: DeliveryTag, multiple: bool) -> Result<std::ops::Range<usize>, AmqpError> {
        if multiple && tag.get() == 0 {
            return Ok(0..self.entries.len());
        }
        let index = self.index(tag).ok_or(AmqpError::UnknownDeliveryTag(tag))?;
        Ok(if multiple { 0..index + 1 } else { index..index + 1 })
    }

    /// Settles deliveries; returns how many of them were a consumer's.
    #[inline]
    pub fn settle(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
        outcome: Outcome,
        out: &mut Settlements,
    ) -> Result<u32, AmqpError> {
        let (mut freed, mut settled) = (0, 0);
        let start = out.0.len();
        for index in self.range(tag, multiple)? {
            let (entry, state) = &mut self.entries[index];
            if *state == State::Outstanding {
                *state = State::Settled;
                freed += u32::from(entry.consumer.is_some());
                settled += 1;
                out.add(entry, outcome);
            } else if *state == State::Lapsed {
                *state = State::Settled;
            }
        }
        match outcome {
            Outcome::Ack => self.acked += settled,
            Outcome::Requeue if multiple => out.in_queue_order(start),
            Outcome::Requeue | Outcome::Reject => {}
        }
        self.shorten();
        Ok(freed)
    }

    /// Holds deliveries for the transaction: they are settled at commit.
    pub fn hold(&mut self, tag: DeliveryTag, multiple: bool, outcome: Outcome) -> Result<(), AmqpError> {
        for index in self.range(tag, multiple)? {
            let (_, state) = &mut self.entries[index];
            if *state == State::Outstanding {
                *state = State::Held(outcome);
            }
        }
        Ok(())
    }

    /// Settles what the transaction held; returns how many deliveries were a consumer's.
    pub fn commit(&mut self, out: &mut Settlements) -> u32 {
        let mut freed = 0;
        for (entry, state) in &mut self.entries {
            if let State::Held(outcome) = *state {
                self.acked += u64::from(outcome == Outcome::Ack);
                *state = State::Settled;
                freed += u32::from(entry.consumer.is_some());
                out.add(entry, outcome);
            }
        }
        self.shorten();
        freed
    }

    /// What the transaction held is outstanding again.
    pub fn roll_back(&mut self) {
        for (_, state) in &mut self.entries {
            if matches!(state, State::Held(_)) {
                *state = State::Outstanding;
            }
        }
    }

    /// basic.recover: everything outstanding goes back; what a transaction holds stays. Returns a count as `settle` does.
    pub fn recover(&mut self, out: &mut Settlements) -> u32 {
        self.settle(DeliveryTag::new(0), true, Outcome::Requeue, out).unwrap_or(0)
    }

    /// The channel ends: everything not settled goes back to its queue, transaction or not.
    pub fn abandon(&mut self, out: &mut Settlements) {
        let start = out.0.len();
        for (entry, state) in self.entries.drain(..) {
            if matches!(state, State::Outstanding | State::Held(_)) {
                out.add(&entry, Outcome::Requeue);
            }
        }
        out.in_queue_order(start);
    }

    fn shorten(&mut self) {
        while let Some((_, State::Settled)) = self.entries.front() {
            self.entries.pop_front();
            self.first_tag += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64) -> Entry {
        Entry { queue: QueueId::new(1), seq, consumer: Some(ConsumerId::new(0)), lane: 0 }
    }

    fn tag(number: u64) -> DeliveryTag {
        DeliveryTag::new(number)
    }

    fn filled(count: u64) -> Unacked {
        let mut unacked = Unacked::default();
        for seq in 0..count {
            assert_eq!(unacked.push(entry(seq)), tag(seq + 1));
        }
        unacked
    }

    fn ranges(out: &mut Settlements) -> Vec<(u64, u64)> {
        let ranges =
            out.0.iter().map(|Settlement { delivered, .. }| (delivered.first_seq, delivered.last_seq)).collect();
        out.clear();
        ranges
    }

    #[test]
    fn multiple_settles_everything_up_to_the_tag_as_one_run() {
        let (mut unacked, mut out) = (filled(5), Settlements::default());
        assert_eq!(unacked.settle(tag(3), true, Outcome::Ack, &mut out), Ok(3));
        assert_eq!(ranges(&mut out), [(0, 2)]);
        assert_eq!(unacked.settle(tag(3), true, Outcome::Ack, &mut out), Err(AmqpError::UnknownDeliveryTag(tag(3))));
        assert_eq!(unacked.settle(tag(0), true, Outcome::Ack, &mut out), Ok(2));
        assert_eq!(unacked.settle(tag(0), true, Outcome::Ack, &mut out), Ok(0));
    }

    #[test]
    fn an_unknown_tag_settles_nothing() {
        let (mut unacked, mut out) = (filled(3), Settlements::default());
        assert_eq!(unacked.settle(tag(2), false, Outcome::Ack, &mut out), Ok(1));
        for bad in [tag(2), tag(4), tag(0)] {
            assert!(unacked.settle(bad, false, Outcome::Ack, &mut out).is_err());
        }
        assert!(unacked.settle(tag(2), true, Outcome::Ack, &mut out).is_err());
        assert_eq!(ranges(&mut out), [(1, 1)]);
    }

    #[test]
    fn a_transaction_holds_until_commit_or_rollback() {
        let (mut unacked, mut out) = (filled(3), Settlements::default());
        unacked.hold(tag(1), false, Outcome::Ack).expect("outstanding");
        assert!(unacked.hold(tag(1), false, Outcome::Ack).is_err());
        unacked.roll_back();
        unacked.hold(tag(2), true, Outcome::Reject).expect("outstanding again");
        assert_eq!(unacked.recover(&mut out), 1);
        assert_eq!(ranges(&mut out), [(2, 2)]);
        assert_eq!(unacked.commit(&mut out), 2);
        assert_eq!(ranges(&mut out), [(0, 1)]);
        assert!(unacked.is_empty());
    }

    #[test]
    fn what_a_late_consumer_had_goes_back_and_its_acks_mean_nothing() {
        let (mut unacked, mut out) = (filled(3), Settlements::default());
        unacked.push(Entry { consumer: None, ..entry(3) });
        assert_eq!(unacked.settle(tag(2), false, Outcome::Ack, &mut out), Ok(1));
        out.clear();
        assert_eq!(unacked.lapse(QueueId::new(1), ConsumerId::new(0), &mut out), 2);
        assert_eq!(ranges(&mut out), [(0, 0), (2, 2)]);
        assert_eq!(unacked.settle(tag(3), false, Outcome::Ack, &mut out), Ok(0));
        assert!(unacked.settle(tag(3), false, Outcome::Ack, &mut out).is_err());
        assert_eq!(unacked.settle(tag(4), true, Outcome::Reject, &mut out), Ok(0));
        assert_eq!(ranges(&mut out), [(3, 3)]);
        assert!(unacked.is_empty());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn the_oldest_outstanding_delivery_is_overdue_first() {
        let (start, timeout) = (Instant::now(), Duration::from_secs(8));
        let (mut unacked, mut out) = (Unacked::default(), Settlements::default());
        for seq in 0..4 {
            unacked.note_time(start + Duration::from_secs(seq), timeout);
            unacked.push(entry(seq));
        }
        let overdue = |unacked: &Unacked, seconds| {
            unacked.overdue(start + Duration::from_secs(seconds)).map(|overdue| overdue.entry.seq)
        };
        assert_eq!((overdue(&unacked, 7), overdue(&unacked, 8)), (None, Some(0)));
        unacked.settle(tag(1), false, Outcome::Ack, &mut out).expect("outstanding");
        assert_eq!((overdue(&unacked, 8), overdue(&unacked, 9)), (None, Some(1)));
        unacked.hold(tag(2), false, Outcome::Ack).expect("outstanding");
        assert_eq!(overdue(&unacked, 9), None);
        unacked.abandon(&mut out);
        assert_eq!((overdue(&unacked, 99), unacked.shortest_timeout()), (None, None));
    }

    #[test]
    fn tags_go_on_after_deliveries_without_ack() {
        let mut unacked = Unacked::default();
        assert_eq!(unacked.push_settled(entry(0)), tag(1));
        assert_eq!(unacked.push(entry(1)), tag(2));
        assert_eq!(unacked.push_settled(entry(2)), tag(3));
        assert_eq!(unacked.push(entry(3)), tag(4));
        let mut out = Settlements::default();
        unacked.abandon(&mut out);
        assert_eq!(ranges(&mut out), [(1, 1), (3, 3)]);
    }
}
