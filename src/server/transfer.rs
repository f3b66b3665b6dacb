//! Messages that an operator moves from one queue to others: out of the one and into the others in one transaction.
//!
//! A message is first packed ([`Registry::pack`]): where it goes is looked up, and whether it is taken there. Only then it is
//! taken out, if it is still ready, and published without being refused any more ([`Registry::carry_over`]). A message that
//! nobody would get stays where it is. As all that a message does to several queues, it is one transaction: after a crash it
//! is in the one queue or in the others.

use std::collections::HashMap;
use std::sync::Arc;

use leveret_protocol::ShortString;

use super::placing::alone;
use super::queue_cell::QueueCell;
use super::registry::{Registry, VhostCell};
use super::work::Work;
use crate::engine::exchange::Routing;
use crate::engine::exchange::delayed::with_negated_delay;
use crate::engine::message::{Arena, MessageParts, Timestamp};
use crate::engine::queue::{Pick, Queue, QueueId};

/// Where a message is moved to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// Into this queue.
    Queue(Arc<QueueCell>),
    /// To where this exchange routes it, by the routing key that the message gets.
    Exchange,
}

/// Why a message stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stays {
    /// No queue would get it.
    Unroutable,
    /// A queue that would get it is full and refuses more.
    Full,
}

/// A message that is ready to be moved.
#[derive(Debug)]
pub(super) struct Parcel {
    pick: Pick,
    arena: Arc<Arena>,
    persistent: bool,
    queues: Vec<Arc<QueueCell>>,
    /// In front of which delayed-message exchanges it is to wait, and in which form.
    waiting: Vec<(Arc<QueueCell>, Arc<Arena>)>,
    /// Exchanges that are to remember it.
    histories: Vec<ShortString>,
}

impl Parcel {
    /// The queues that get it.
    pub(super) fn queues(&self) -> impl Iterator<Item = &Arc<QueueCell>> {
        self.queues.iter().chain(self.waiting.iter().map(|(cell, _)| cell))
    }
}

/// What messages packed before will add to queues that refuse what is too much.
#[derive(Debug, Default)]
pub(super) struct Load(HashMap<QueueId, (u64, u64)>);

impl Load {
    /// Counts a message in if the queue has room for it, besides what was counted before.
    fn add(&mut self, cell: &Arc<QueueCell>, body_bytes: u64) -> bool {
        if cell.stream.is_some() {
            return true;
        }
        let (count, bytes) = self.0.entry(cell.id).or_default();
        let has_room = cell.read(|queue| queue.has_room_for(*count + 1, *bytes + body_bytes));
        let has_room = has_room.unwrap_or(true);
        if has_room {
            *count += 1;
            *bytes += body_bytes;
        }
        has_room
    }
}

impl Registry {
    /// Looks up where a message is to go. `parts` is what it will be there.
    pub(super) fn pack(
        &self,
        vhost: &VhostCell,
        pick: Pick,
        target: &Target,
        parts: &MessageParts<'_>,
        load: &mut Load,
    ) -> Result<Parcel, Stays> {
        let (mut queues, mut waiting, mut histories) = (Vec::new(), Vec::new(), Vec::new());
        match target {
            Target::Queue(cell) => queues.push(cell.clone()),
            Target::Exchange => {
                let keys = [parts.routing_key];
                let routing = Routing::new(&keys, parts.properties, self.random());
                let route = vhost.state.read().route(parts.exchange, &routing).ok_or(Stays::Unroutable)?;
                queues.extend(route.queues.into_iter().filter_map(|id| self.queue(id)));
                for (id, delay_ms) in route.delays {
                    let Some(cell) = self.queue(id) else { continue };
                    let properties = with_negated_delay(parts.properties);
                    let late = MessageParts { properties: &properties, expiration_ms: Some(delay_ms), ..parts.clone() };
                    waiting.push((cell, alone(&late)));
                }
                histories = route.histories;
            }
        }
        let is_gone = |cell: &Arc<QueueCell>| cell.read(Queue::is_deleted).unwrap_or(false);
        queues.retain(|cell| !is_gone(cell));
        if queues.is_empty() && waiting.is_empty() {
            return Err(Stays::Unroutable);
        }
        if !queues.iter().all(|cell| load.add(cell, pick.body_bytes)) {
            return Err(Stays::Full);
        }
        Ok(Parcel { pick, arena: alone(parts), persistent: parts.persistent, queues, waiting, histories })
    }

    /// Moves messages; those that are no longer ready are somebody else's by now. Says of each whether it was moved. What is
    /// to be stored is left in `work`, which is to be one transaction.
    pub(super) fn carry_over(
        self: &Arc<Self>,
        from: &Arc<QueueCell>,
        parcels: &[Parcel],
        now: Timestamp,
        work: &mut Work,
    ) -> Vec<bool> {
        let picks: Vec<_> = parcels.iter().map(|parcel| parcel.pick).collect();
        let taken = from.turn(self, work, |queue, fx| queue.withdraw(now, &picks, fx));
        let taken = taken.unwrap_or_else(|| vec![false; parcels.len()]);
        for (parcel, _) in parcels.iter().zip(&taken).filter(|(_, taken)| **taken) {
            if !parcel.histories.is_empty() {
                from.vhost.state.write().remember(&parcel.histories, &parcel.arena);
            }
            for cell in &parcel.queues {
                cell.admit(self, work, now, &parcel.arena, parcel.persistent);
            }
            for (cell, arena) in &parcel.waiting {
                cell.admit(self, work, now, arena, parcel.persistent);
            }
        }
        taken
    }
}
