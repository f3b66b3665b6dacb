//! What queues want done after their lock is released: a work list, never recursion.

use std::collections::VecDeque;
use std::sync::Arc;

use super::clock;
use super::placing::Start;
use super::queue_cell::QueueCell;
use super::registry::Registry;
use crate::config::Compat;
use crate::engine::dead_letter::{DeadLetter, Death, bury};
use crate::engine::message::{Body, MessageParts};
use crate::engine::queue::{Answer, DeathReason, Difference, Kept, Queue, QueueEffect, Run};
use crate::store::{LaneKey, LoadReply, LoadRequest, Op, SpillOp, Ticket, Transaction, Waiter};

/// Work that queues left behind.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) ops: Vec<Op>,
    /// Room for what a queue wants done, while its lock is held.
    pub(super) effects: Vec<QueueEffect>,
    dead: VecDeque<(Arc<QueueCell>, Run, DeathReason)>,
    spills: Vec<SpillOp>,
    /// The ticket of what was spilled last.
    pub(super) spilled_under: u64,
    loads: Vec<(Arc<QueueCell>, u8, u64, usize)>,
    /// Streams that want messages from disk: from which offset on, and how many octets.
    pub(super) reads: Vec<(Arc<QueueCell>, u64, usize)>,
}

impl Work {
    pub(super) fn add(&mut self, cell: &Arc<QueueCell>, effect: QueueEffect) {
        match effect {
            QueueEffect::Deliver { .. } => debug_assert!(false, "deliveries are made under the lock"),
            QueueEffect::Append { lane, first_seq, arena, index, count } => {
                self.ops.push(Op::Append { lane: LaneKey::new(cell.id, lane), first_seq, arena, index, count });
            }
            QueueEffect::Spill { lane, first_seq, arena, index, count, ticket } => {
                let lane = LaneKey::new(cell.id, lane);
                self.spills.push(SpillOp::Append { lane, first_seq, arena, index, count, ticket });
            }
            QueueEffect::Settled { lane, settled } => {
                let lane = LaneKey::new(cell.id, lane);
                match settled.kept {
                    Kept::Memory => {}
                    Kept::Spilled => self.spills.push(SpillOp::Settled { lane, settled }),
                    Kept::Durable => self.ops.push(Op::Settled { lane, settled }),
                }
            }
            QueueEffect::Returned { lane, seq, count } => {
                self.ops.push(Op::Returned { lane: LaneKey::new(cell.id, lane), seq, count });
            }
            QueueEffect::DeadLetter { run, reason } => self.dead.push_back((cell.clone(), run, reason)),
            QueueEffect::Load { lane, from_seq, max_bytes } => {
                self.loads.push((cell.clone(), lane, from_seq, max_bytes));
            }
        }
    }
}

impl Registry {
    /// Does what queues left behind; what has to be stored is one transaction. Returns the ticket to wait for.
    pub(super) fn finish(self: &Arc<Self>, work: &mut Work, waiter: Option<&Arc<dyn Waiter>>) -> Ticket {
        while let Some((cell, run, reason)) = work.dead.pop_front() {
            self.dead_letter(&cell, &run, reason, work);
        }
        let ticket = if work.ops.is_empty() {
            Ticket::NONE
        } else {
            self.store.submit(Transaction { ops: std::mem::take(&mut work.ops), waiter: waiter.cloned() })
        };
        if !work.spills.is_empty() {
            work.spilled_under = self.store.spill(std::mem::take(&mut work.spills), waiter.cloned());
        }
        for (cell, lane, from_seq, max_bytes) in work.loads.drain(..) {
            self.load(cell, lane, from_seq, max_bytes);
        }
        for (cell, from_seq, max_bytes) in work.reads.drain(..) {
            self.read_stream(cell, from_seq, max_bytes);
        }
        ticket
    }

    fn load(self: &Arc<Self>, cell: Arc<QueueCell>, lane: u8, from_seq: u64, max_bytes: usize) {
        let registry = self.clone();
        self.store.load(LoadRequest {
            lane: LaneKey::new(cell.id, lane),
            from_seq,
            max_bytes,
            latest: false,
            window: Some(self.budget.shared_window()),
            reply: Box::new(move |reply| {
                let mut work = Work::default();
                let now = clock::now();
                let LoadReply { loaded, complete_below, gone, .. } = reply;
                let answer = Answer { from_seq, complete_below, loaded, gone };
                let turn = cell.turn(&registry, &mut work, |queue, fx| queue.loaded(now, lane, answer, fx));
                let Difference { lost, count, body_bytes } = turn.unwrap_or_default();
                if (count, body_bytes) != (0, 0) {
                    registry.store.recount(LaneKey::new(cell.id, lane), count, body_bytes);
                }
                if cell.delays {
                    cell.turn(&registry, &mut work, Queue::recall_all);
                }
                cell.report_lost(lost);
                registry.finish(&mut work, None);
                cell.wake_waiting();
            }),
        });
    }

    /// Publishes dead messages to the queue's dead-letter exchange; a missing exchange drops them.
    fn dead_letter(self: &Arc<Self>, cell: &Arc<QueueCell>, run: &Run, reason: DeathReason, work: &mut Work) {
        if cell.delays {
            return self.release(cell, run, work);
        }
        let settings = cell.settings();
        let Some(exchange) = &settings.dead_letter_exchange else { return };
        let now = clock::now();
        let trusts_clients = self.config.compat == Compat::V3;
        let own_key = settings.dead_letter_routing_key.as_ref().map(|key| key.as_bytes().to_vec());
        let drops_copies = trusts_clients && own_key.is_some();
        for (_, message) in run.messages() {
            let death = Death { queue: &cell.name, reason, at: now, trusts_clients, drops_copies };
            let letter = bury(&message, &death);
            let DeadLetter { properties, barred, keys } = &letter;
            let keys: Vec<&[u8]> = match &own_key {
                Some(key) => vec![key],
                None => keys.iter().map(Vec::as_slice).collect(),
            };
            let parts = MessageParts {
                exchange: exchange.as_bytes(),
                routing_key: keys.first().copied().unwrap_or_default(),
                properties,
                body: Body::Shared(message.shared_body()),
                persistent: message.is_persistent(),
                priority: message.priority(),
                expiration_ms: None,
                broker_deaths: true,
                enqueued_at: now,
            };
            let barred = |target: &QueueCell| barred.iter().any(|name| name == target.name.as_bytes());
            let start = Start { vhost: &cell.vhost, exchange: exchange.as_bytes(), keys: &keys };
            self.place(&start, &parts, properties, &barred, work);
        }
    }
}
