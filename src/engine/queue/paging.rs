//! What a queue keeps in memory: reading ahead from the disk, and leaving to it what is not needed soon.
//!
//! One read at a time: first what is to leave as soon as its body is here (dead letters of unacked messages that memory has
//! forgotten), then what came back, then what comes next.

use super::depth::{Pass, SMALL_WINDOW_BYTES};
use super::lane::{Fate, Lane};
use super::segment::SpillTicket;
use super::{
    Answer, DeathReason, Delivered, Difference, ExpiryMode, Queue, QueueEffect, RecoveredLane, SpillPlan, WINDOW_BYTES,
};
use crate::engine::message::Timestamp;
use crate::engine::statistics::Count;

/// Octets that a read brings at least, if there are as many.
const READ_MIN_BYTES: usize = 32 * 1024;
/// Entries of the heap of deadlines below which none is looked at after a pass.
const DEADLINES_MIN: usize = 1024;

impl Queue {
    /// Sets how many octets of messages are kept in memory ahead of the cursor from now on.
    #[inline]
    pub fn set_window(&mut self, window_bytes: usize) {
        self.window_bytes = window_bytes;
    }

    /// Whether somebody or something waits for the next message.
    fn is_awaited(&self) -> bool {
        self.get_waits || self.watches_heads() || self.consumers.anybody_takes()
    }

    /// Asks for messages from disk before the cursor reaches them. When memory is short, only if they are waited for.
    pub(super) fn read_ahead(&mut self, fx: &mut Vec<QueueEffect>) {
        let wanted = self.window_bytes >= SMALL_WINDOW_BYTES || self.is_awaited();
        self.read_up_to(if wanted { (self.window_bytes / 2).max(1) } else { 0 }, fx);
    }

    /// Asks for the next message, which has to be dropped.
    pub(super) fn read_head(&mut self, fx: &mut Vec<QueueEffect>) {
        self.read_up_to(1, fx);
    }

    fn read_up_to(&mut self, ahead_bytes: usize, fx: &mut Vec<QueueEffect>) {
        if self.loading.is_some() || !self.lanes.iter().any(|lane| lane.has_disk) {
            return;
        }
        let watches_heads = self.watches_heads();
        let mut ahead = ahead_bytes;
        for lane in self.lanes.iter().rev() {
            let lacks_head = lane.ready() > 0 && lane.peek().is_none();
            // When those before it are enough for now, only what leaves counts, and heads that time tells on.
            let looks = lane.awaits_bodies() || if ahead > 0 { lane.ready() > 0 } else { watches_heads && lacks_head };
            if !looks {
                continue;
            }
            let mut own = if lacks_head { usize::MAX } else { ahead };
            if let Some(missing) = lane.missing(&mut own) {
                self.loading = Some(missing.until);
                let max_bytes = (self.window_bytes / 2).max(READ_MIN_BYTES);
                fx.push(QueueEffect::Load { lane: lane.number(), from_seq: missing.from_seq, max_bytes });
                return;
            }
            ahead = ahead.min(own);
        }
    }

    /// Asks for the head of a queue found at start, if time may have come for a message there.
    pub fn recall(&mut self, lanes: &[RecoveredLane], fx: &mut Vec<QueueEffect>) {
        if self.watches_heads() || lanes.iter().any(|lane| lane.expiring) {
            self.read_ahead(fx);
        }
    }

    /// Asks for more of what only the disk holds: messages whose time may come in any order must all be in memory.
    pub fn recall_all(&mut self, fx: &mut Vec<QueueEffect>) {
        self.read_up_to(usize::MAX, fx);
    }

    /// Messages came back from disk. Returns how what was there differs from what should have been.
    pub fn loaded(&mut self, now: Timestamp, lane: u8, answer: Answer, fx: &mut Vec<QueueEffect>) -> Difference {
        // What was stored later than it was asked for, the answer may not know.
        let complete_below = answer.complete_below.min(self.loading.take().unwrap_or(0));
        let answer = Answer { complete_below, ..answer };
        let Some(slot) = self.lane_mut(lane) else { return Difference::default() };
        let difference = slot.load(&answer);
        self.count(Count::DiskReads, answer.loaded.iter().map(|part| u64::from(part.count)).sum());
        if self.settings.expiry_mode == ExpiryMode::OnTime {
            for part in answer.loaded.iter().filter(|part| part.arena.any_expiration()) {
                for nth in 0..part.count {
                    let seq = part.first_seq + u64::from(nth);
                    if self.lane(lane).is_some_and(|slot| slot.single(seq).is_some()) {
                        self.deadlines.add(&part.arena.message(part.index + nth), lane, seq);
                    }
                }
            }
        }
        self.drop_too_often(lane, &answer, fx);
        drop(answer);
        self.let_go(lane, fx);
        self.expire(now, fx);
        self.dispatch(now, fx);
        self.trim(fx);
        if self.watches_heads() || self.lanes.iter().any(Lane::awaits_bodies) {
            self.read_ahead(fx);
        }
        difference
    }

    /// Settles without requeue what comes before `from`, and has the bodies of the rest read first: they are dead letters, and
    /// such a letter and the settlement are one transaction.
    pub(super) fn reject_later(&mut self, now: Timestamp, delivered: Delivered, from: u64, fx: &mut Vec<QueueEffect>) {
        let Delivered { consumer, lane, first_seq, last_seq } = delivered;
        let mut count = 0;
        if from > first_seq {
            count += self.settle_taken(lane, first_seq, from - 1, fx);
        }
        count += self.lane_mut(lane).map_or(0, |slot| slot.await_bodies(from, last_seq, Fate::Rejected));
        self.freed(now, consumer, count);
        self.read_ahead(fx);
        self.expire(now, fx);
        self.dispatch(now, fx);
    }

    /// An unacked message whose body only the disk has is to leave.
    pub(super) fn leave_when_read(&mut self, lane: u8, seq: u64, fate: Fate, fx: &mut Vec<QueueEffect>) {
        if let Some(slot) = self.lane_mut(lane) {
            slot.await_bodies(seq, seq, fate);
        }
        self.read_ahead(fx);
    }

    /// Lets go what waited for its body.
    fn let_go(&mut self, lane: u8, fx: &mut Vec<QueueEffect>) {
        let Some(slot) = self.lane_mut(lane).filter(|slot| slot.awaits_bodies()) else { return };
        for (fate, run) in slot.take_awaited() {
            let seq = run.first_seq;
            let reason = match fate {
                Fate::Rejected => DeathReason::Rejected,
                Fate::TooOften => DeathReason::DeliveryLimit,
                Fate::ToTail => {
                    let count = self.lane(lane).map_or(0, |slot| slot.return_count(seq));
                    self.move_to_tail(lane, seq, count, fx);
                    continue;
                }
            };
            self.count_dead(reason, 1);
            if self.settings.dead_letters() {
                fx.push(QueueEffect::DeadLetter { run, reason });
            }
            self.settle_taken(lane, seq, seq, fx);
        }
    }

    /// Forgets bodies that are on disk and not needed soon; `is_stored` says of a ticket of the store whether what it took
    /// under it can be read back.
    pub fn spill(&mut self, plan: SpillPlan, is_stored: impl Fn(u64) -> bool, fx: &mut Vec<QueueEffect>) {
        let before = fx.len();
        let keep_head = self.is_awaited();
        // When memory is short, what nobody waits for is not read ahead either.
        let wanted = keep_head || plan.window_bytes >= SMALL_WINDOW_BYTES;
        let room = if wanted { plan.window_bytes } else { 0 };
        let mut pass = Pass { plan, room, keep_head, ticket: SpillTicket::default(), fx };
        for lane in self.lanes.iter_mut().rev() {
            lane.spill(&mut pass, &is_stored);
        }
        self.spills |= fx[before..].iter().any(|effect| matches!(effect, QueueEffect::Spill { .. }));
        // What left memory is remembered again when it comes back.
        if self.deadlines.len() > DEADLINES_MIN.max(self.deadlines_kept * 2) {
            self.forget_deadlines();
        }
    }

    /// Forgets when messages expire that are not in memory.
    pub(super) fn forget_deadlines(&mut self) {
        let mut deadlines = std::mem::take(&mut self.deadlines);
        deadlines.retain(|lane, seq| self.lane(lane).is_some_and(|slot| slot.single(seq).is_some()));
        self.deadlines_kept = deadlines.len();
        self.deadlines = deadlines;
    }
}

impl SpillPlan {
    /// A pass that keeps the usual window, and spills nothing that only memory has.
    pub const fn usual(spilled: u64) -> Self {
        Self { window_bytes: WINDOW_BYTES, spill_memory: false, spilled }
    }
}
