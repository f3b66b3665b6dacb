//! Messages that come back: to their places, to the tail, or away when they came back too often (RabbitMQ extensions).
//!
//! A queue with a delivery limit and every quorum queue count the returns of a message. The count goes out with the next
//! delivery, and to the store, so that it survives a crash.

use super::{Answer, DeathReason, Delivered, ExpiryMode, Fate, Kept, Queue, QueueEffect, Run};
use crate::engine::message::Timestamp;
use crate::engine::statistics::Count;

impl Queue {
    /// Puts unacked messages back to their places; they will be redelivered.
    pub fn requeue(&mut self, now: Timestamp, delivered: Delivered, fx: &mut Vec<QueueEffect>) {
        let Delivered { consumer, lane, first_seq, last_seq } = delivered;
        let count = if self.settings.counts_returns() {
            (first_seq..=last_seq).map(|seq| u64::from(self.count_return(lane, seq, fx))).sum()
        } else {
            let Some(slot) = self.lane_mut(lane) else { return };
            slot.requeue(first_seq, last_seq)
        };
        if self.settings.expiry_mode == ExpiryMode::OnTime
            && let Ok(at) = self.find_lane(lane)
        {
            for run in (first_seq..=last_seq).filter_map(|seq| self.lanes[at].single(seq)) {
                self.deadlines.add(&run.arena.message(run.index), lane, run.first_seq);
            }
        }
        if let Some(slot) = self.lane_mut(lane) {
            slot.note_returned(now, first_seq, last_seq, |_, _| ());
        }
        self.count(Count::Requeue, count);
        self.freed(now, consumer, count);
        self.expire(now, fx);
        self.dispatch(now, fx);
        self.trim(fx);
        self.expire(now, fx);
    }

    /// One message comes back to a queue that counts: to its place, to the tail if it may come back for ever, or away if it
    /// came back too often. False if it is not unacked.
    fn count_return(&mut self, lane: u8, seq: u64, fx: &mut Vec<QueueEffect>) -> bool {
        let limit = self.settings.return_limit();
        let dead_letters = self.settings.dead_letters();
        let Some(slot) = self.lane_mut(lane) else { return false };
        let Some(count) = slot.count_return(seq) else { return false };
        match limit {
            Some(limit) if count > limit && dead_letters && slot.waits_from(seq, seq, Fate::TooOften).is_some() => {
                // The broker may end before the body is here: then it leaves when it is read after the start.
                if slot.kept(seq) == Some(Kept::Durable) {
                    fx.push(QueueEffect::Returned { lane, seq, count });
                }
                self.leave_when_read(lane, seq, Fate::TooOften, fx);
            }
            Some(limit) if count > limit => {
                let run = slot.single(seq).filter(|_| dead_letters);
                self.count_dead(DeathReason::DeliveryLimit, 1);
                fx.extend(run.map(|run| QueueEffect::DeadLetter { run, reason: DeathReason::DeliveryLimit }));
                self.settle_taken(lane, seq, seq, fx);
            }
            Some(_) => {
                slot.requeue(seq, seq);
                if slot.kept(seq) == Some(Kept::Durable) {
                    fx.push(QueueEffect::Returned { lane, seq, count });
                }
            }
            None if slot.waits_from(seq, seq, Fate::ToTail).is_some() => {
                self.leave_when_read(lane, seq, Fate::ToTail, fx);
            }
            None => self.move_to_tail(lane, seq, count, fx),
        }
        true
    }

    /// Ready messages among those just read leave if they came back too often before the broker started.
    pub(super) fn drop_too_often(&mut self, lane: u8, answer: &Answer, fx: &mut Vec<QueueEffect>) {
        let (Some(limit), Some(slot)) = (self.settings.return_limit(), self.lane(lane)) else { return };
        let too_often: Vec<_> = answer
            .loaded
            .iter()
            .flat_map(|part| slot.returned_more_than(limit, part.first_seq, u64::from(part.count)))
            .collect();
        for seq in too_often {
            self.drop_ready(lane, seq, DeathReason::DeliveryLimit, fx);
        }
    }

    /// Gives an unacked message a new place behind all others, so that it cannot stand in their way for ever.
    pub(super) fn move_to_tail(&mut self, lane: u8, seq: u64, count: u32, fx: &mut Vec<QueueEffect>) {
        let Some(slot) = self.lane_mut(lane) else { return };
        let Some(Run { arena, index, body_bytes, .. }) = slot.single(seq) else { return };
        let durable = slot.kept(seq) == Some(Kept::Durable);
        let kept = if durable { Kept::Durable } else { Kept::Memory };
        // An arena knows one ticket only, and the store has yet to take the message for its new place.
        let (arena, index) = (arena.message(index).apart(), 0);
        self.settle_taken(lane, seq, seq, fx);
        let slot = self.lane_or_new(lane);
        let seq = slot.push(arena.clone(), index, 1, body_bytes, kept);
        slot.set_returns(seq, count);
        let message = arena.message(index);
        match (self.settings.expiry_mode, self.settings.message_ttl_ms) {
            (ExpiryMode::Head, _) => {}
            // It is older than those before it: the head does not tell when its time is over.
            (ExpiryMode::OnTime, Some(ttl_ms)) => self.deadlines.add_within(&message, ttl_ms, lane, seq),
            (ExpiryMode::OnTime, None) => self.deadlines.add(&message, lane, seq),
        }
        if durable {
            fx.push(QueueEffect::Append { lane, first_seq: seq, arena, index, count: 1 });
            fx.push(QueueEffect::Returned { lane, seq, count });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use leveret_protocol::ShortString;

    use super::*;
    use crate::engine::message::{Arena, ArenaBuilder, Body, MessageParts};
    use crate::engine::queue::{Difference, Get, Loaded, QueueSettings, QueueType, RecoveredLane, SpillPlan};

    /// One message for each body, in an arena.
    fn arena(bodies: &[&str], expiration_ms: Option<u64>, priority: Option<u8>) -> Arc<Arena> {
        let mut builder = ArenaBuilder::new();
        let properties = priority.map_or(vec![0, 0], |priority| vec![0x08, 0, priority]);
        for body in bodies {
            builder.push(&MessageParts {
                exchange: b"",
                routing_key: b"q",
                properties: &properties,
                body: Body::Borrowed(body.as_bytes()),
                persistent: false,
                priority: priority.unwrap_or(0),
                expiration_ms,
                broker_deaths: false,
                enqueued_at: Timestamp::from_millis(0),
            });
        }
        builder.finish()
    }

    fn quorum(settings: QueueSettings) -> Queue {
        Queue::new(QueueSettings { queue_type: QueueType::Quorum, ..settings }, true, Timestamp::from_millis(0))
    }

    fn publish(queue: &mut Queue, arena: &Arc<Arena>) -> Vec<QueueEffect> {
        let mut fx = Vec::new();
        assert!(queue.publish(Timestamp::from_millis(0), arena, false, &mut fx).is_empty());
        fx
    }

    /// Gets a message: its body, how often it came back, and how to settle it.
    fn get(queue: &mut Queue, at: u64) -> Option<(String, u32, Delivered)> {
        match queue.get(Timestamp::from_millis(at), false, &mut Vec::new()) {
            Get::Message { run, .. } => {
                let body = String::from_utf8_lossy(run.arena.message(run.index).body()).into_owned();
                let Run { lane, first_seq, delivery_count, .. } = run;
                Some((body, delivery_count, Delivered { consumer: None, lane, first_seq, last_seq: first_seq }))
            }
            Get::Empty | Get::Loading => None,
        }
    }

    #[test]
    fn a_quorum_queue_stores_transient_messages_too() {
        let mut queue = quorum(QueueSettings::default());
        let fx = publish(&mut queue, &arena(&["a"], None, None));
        assert!(matches!(fx[..], [QueueEffect::Append { lane: 4, count: 1, .. }]), "{fx:?}");
    }

    #[test]
    fn a_message_without_a_limit_goes_to_the_tail_with_its_count() {
        let mut queue = quorum(QueueSettings { delivery_limit: Some(-1), ..QueueSettings::default() });
        publish(&mut queue, &arena(&["a", "b"], None, None));
        for returns in 0..30 {
            for body in ["a", "b"] {
                let (got, count, delivered) = get(&mut queue, 0).expect("there is one");
                assert_eq!((&got[..], count), (body, returns));
                let mut fx = Vec::new();
                queue.requeue(Timestamp::from_millis(0), delivered, &mut fx);
                let [
                    QueueEffect::Settled { .. },
                    QueueEffect::Append { first_seq, .. },
                    QueueEffect::Returned { seq, count, .. },
                ] = fx[..]
                else {
                    panic!("{fx:?}")
                };
                assert_eq!((first_seq, count), (seq, returns + 1));
            }
        }
    }

    #[test]
    fn what_went_to_the_tail_stays_in_memory_until_it_is_stored_there() {
        let mut queue = quorum(QueueSettings { delivery_limit: Some(-1), ..QueueSettings::default() });
        let (first, last) = (arena(&["a", "b"], None, None), arena(&["c"], None, None));
        for messages in [&first, &last] {
            publish(&mut queue, messages);
            messages.set_ticket(1);
        }
        for _ in 0..2 {
            let (_, _, delivered) = get(&mut queue, 0).expect("there is one");
            queue.requeue(Timestamp::from_millis(0), delivered, &mut Vec::new());
        }
        // All that was submitted so far is stored.
        let plan = SpillPlan { window_bytes: 0, ..SpillPlan::usual(0) };
        queue.spill(plan, |ticket| ticket == 1, &mut Vec::new());
        let mut fx = Vec::new();
        assert!(matches!(queue.get(Timestamp::from_millis(0), false, &mut fx), Get::Loading));
        let loaded = vec![Loaded { first_seq: 2, arena: last, index: 0, count: 1, kept: Kept::Durable }];
        let answer = Answer { from_seq: 2, complete_below: u64::MAX, loaded, gone: Vec::new() };
        assert_eq!(queue.loaded(Timestamp::from_millis(0), 4, answer, &mut Vec::new()), Difference::default());
        for body in ["c", "a", "b"] {
            assert_eq!(get(&mut queue, 0).map(|(found, ..)| found).as_deref(), Some(body));
        }
    }

    #[test]
    fn a_message_that_memory_forgot_goes_to_the_tail_when_it_is_read() {
        let mut queue = quorum(QueueSettings { delivery_limit: Some(-1), ..QueueSettings::default() });
        let now = Timestamp::from_millis(0);
        let messages = arena(&["a", "b"], None, None);
        publish(&mut queue, &messages);
        messages.set_ticket(1);
        let (_, _, delivered) = get(&mut queue, 0).expect("there is one");
        let (_, _, other) = get(&mut queue, 0).expect("there are two");
        queue.spill(SpillPlan { window_bytes: 0, ..SpillPlan::usual(0) }, |_| true, &mut Vec::new());
        let mut fx = Vec::new();
        queue.requeue(now, delivered, &mut fx);
        assert!(matches!(fx[..], [QueueEffect::Load { from_seq: 0, .. }]), "{fx:?}");
        assert_eq!((queue.ready(), queue.unacked()), (0, 2));
        let loaded = vec![Loaded { first_seq: 0, arena: messages, index: 0, count: 2, kept: Kept::Durable }];
        let answer = Answer { from_seq: 0, complete_below: u64::MAX, loaded, gone: Vec::new() };
        queue.loaded(now, 4, answer, &mut Vec::new());
        assert_eq!((queue.ready(), queue.unacked()), (1, 1));
        queue.ack(now, other, &mut Vec::new());
        assert_eq!(get(&mut queue, 0).map(|(body, count, _)| (body, count)), Some(("a".to_owned(), 1)));
    }

    #[test]
    fn what_went_to_the_tail_expires_on_time() {
        let settings =
            QueueSettings { delivery_limit: Some(-1), message_ttl_ms: Some(100), ..QueueSettings::default() };
        let mut queue = quorum(settings);
        publish(&mut queue, &arena(&["old"], Some(50), None));
        let (_, _, delivered) = get(&mut queue, 0).expect("there is one");
        publish(&mut queue, &arena(&["new"], None, None));
        queue.requeue(Timestamp::from_millis(0), delivered, &mut Vec::new());
        assert_eq!(queue.deadline(), Some(Timestamp::from_millis(50)));
        queue.handle_timeout(Timestamp::from_millis(50), &mut Vec::new());
        assert_eq!(queue.ready(), 1);
    }

    #[test]
    fn a_quorum_queue_has_32_strict_priorities() {
        let mut queue = quorum(QueueSettings::default());
        for (body, priority) in [("3", Some(3)), ("none", None), ("5", Some(5)), ("200", Some(200)), ("31", Some(31))] {
            publish(&mut queue, &arena(&[body], None, priority));
        }
        let order: Vec<_> = std::iter::from_fn(|| get(&mut queue, 0)).map(|(body, ..)| body).collect();
        assert_eq!(order, ["200", "31", "5", "none", "3"]);
    }

    #[test]
    fn at_the_head_a_message_expires_when_its_turn_has_come() {
        let settings = QueueSettings { expiry_mode: ExpiryMode::Head, ..QueueSettings::default() };
        let mut queue = Queue::new(settings, false, Timestamp::from_millis(0));
        publish(&mut queue, &arena(&["long"], Some(1_000), None));
        publish(&mut queue, &arena(&["short"], Some(10), None));
        queue.handle_timeout(Timestamp::from_millis(100), &mut Vec::new());
        assert_eq!((queue.ready(), queue.deadline()), (2, Some(Timestamp::from_millis(1_000))));
        assert_eq!(get(&mut queue, 100).map(|(body, ..)| body).as_deref(), Some("long"));
        assert_eq!(get(&mut queue, 100).map(|(body, ..)| body), None);
        assert_eq!(queue.ready(), 0);
    }

    /// A quorum queue found at start whose messages 7 and 8, "a" and "b", have been read; with what that caused.
    fn found(settings: QueueSettings, returns: Vec<(u64, u32)>) -> (Queue, Vec<QueueEffect>) {
        let lane = RecoveredLane {
            lane: 4,
            head_seq: 7,
            next_seq: 9,
            count: 2,
            body_bytes: 2,
            redelivered_below: 0,
            expiring: false,
            returns,
        };
        let settings = QueueSettings { queue_type: QueueType::Quorum, ..settings };
        let mut queue = Queue::recovered(settings, &[lane], Timestamp::from_millis(0));
        assert!(get(&mut queue, 0).is_none(), "they are on disk");
        let arena = arena(&["a", "b"], None, None);
        let loaded = vec![Loaded { first_seq: 7, arena, index: 0, count: 2, kept: Kept::Durable }];
        let answer = Answer { from_seq: 7, complete_below: u64::MAX, loaded, gone: Vec::new() };
        let mut fx = Vec::new();
        assert_eq!(queue.loaded(Timestamp::from_millis(0), 4, answer, &mut fx), Difference::default());
        (queue, fx)
    }

    #[test]
    fn counts_come_back_with_a_recovered_queue() {
        let (mut queue, _) = found(QueueSettings::default(), vec![(8, 20)]);
        assert_eq!(get(&mut queue, 0).map(|(_, count, _)| count), Some(0));
        let (_, count, delivered) = get(&mut queue, 0).expect("the second one");
        assert_eq!(count, 20);
        queue.requeue(Timestamp::from_millis(0), delivered, &mut Vec::new());
        assert_eq!((queue.ready(), queue.unacked()), (0, 1));
    }

    #[test]
    fn what_came_back_too_often_before_a_start_is_not_delivered_any_more() {
        let dead_letter_exchange = Some(ShortString::from_static("dlx"));
        let settings = QueueSettings { dead_letter_exchange, ..QueueSettings::default() };
        let (mut queue, fx) = found(settings, vec![(7, 21)]);
        let died = |effect: &QueueEffect| {
            let QueueEffect::DeadLetter { run, reason } = effect else { return None };
            Some((run.first_seq, *reason))
        };
        assert_eq!(fx.iter().find_map(died), Some((7, DeathReason::DeliveryLimit)));
        assert_eq!(get(&mut queue, 0).map(|(body, count, _)| (body, count)), Some(("b".to_owned(), 0)));
        assert_eq!((queue.ready(), queue.unacked()), (0, 1));
    }
}
