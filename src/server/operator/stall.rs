//! Why a queue does not move, for operators.

use std::sync::Arc;

use leveret_protocol::FieldTable;
use serde::Serialize;

use super::Operator;
use crate::engine::message::Timestamp;
use crate::engine::queue::{ConsumerFigures, HeldBy, Overflow, Queue, QueueAges, Stall};
use crate::server::clock;
use crate::server::outbox::Outbox;
use crate::server::queue_cell::QueueCell;
use crate::server::statistics::age_ms;

/// Holders that are listed; with more the first ones tell the story.
const HOLDERS_MAX: usize = 50;

/// Why ready messages do not leave.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StallInfo {
    pub(crate) reason: &'static str,
    /// For how long nothing has left the queue.
    pub(crate) since_ms: u64,
    /// Consumers that could take messages if something did not keep them.
    pub(crate) holders: Vec<Holder>,
}

/// A consumer that keeps messages waiting.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Holder {
    pub(crate) consumer_tag: String,
    pub(crate) connection: String,
    pub(crate) channel: u16,
    pub(crate) held_by: &'static str,
    pub(crate) unacked: u32,
    pub(crate) prefetch_count: u32,
    /// For how long it has had something to ack and acked nothing.
    pub(crate) silent_ms: Option<u64>,
}

impl Operator {
    pub(super) fn stall_info(&self, cell: &QueueCell, ages: &QueueAges, now: Timestamp) -> Option<StallInfo> {
        let stall = ages.stall?;
        let held = match stall {
            Stall::NoConsumers | Stall::Loading | Stall::Paused => Vec::new(),
            Stall::AllAtPrefetch | Stall::SingleActiveIdle | Stall::TcpBackpressure => cell.consumers(),
        };
        let holder = |(consumer, outbox, _): (ConsumerFigures, Arc<Outbox>, FieldTable)| {
            let connection = self.registry.connection(outbox.owner);
            Some(Holder {
                held_by: consumer.held_by.filter(|_| consumer.active).map(HeldBy::as_str)?,
                consumer_tag: consumer.tag.to_string(),
                connection: connection.map(|connection| connection.facts.name()).unwrap_or_default(),
                channel: consumer.channel.get(),
                unacked: consumer.unacked,
                prefetch_count: consumer.prefetch,
                silent_ms: consumer.waits_since.map(|since| age_ms(now, since)),
            })
        };
        Some(StallInfo {
            reason: stall.as_str(),
            since_ms: age_ms(now, ages.moved_at),
            holders: held.into_iter().filter_map(holder).take(HOLDERS_MAX).collect(),
        })
    }

    /// What keeps publishers from putting more into a queue.
    pub(super) fn inflow_stall(&self, cell: &QueueCell, ready: u64, ready_bytes: u64) -> Option<&'static str> {
        if self.registry.alarms.any() {
            return Some("alarm");
        }
        let settings = cell.settings();
        let full = settings.max_length.is_some_and(|max| ready >= max)
            || settings.max_length_bytes.is_some_and(|max| ready_bytes >= max);
        if full && settings.overflow() != Overflow::DropHead {
            return Some("queue_full");
        }
        self.registry.store.is_saturated().then_some("slow_disk")
    }

    /// Queues whose ready messages have not moved for so long, with the reason.
    pub(crate) fn stalled_queues(&self, vhosts: Option<&[String]>, for_ms: u64) -> Vec<StalledQueue> {
        let now = clock::now();
        let mut found = Vec::new();
        for cell in self.cells_of(vhosts) {
            let Some(ages) = cell.read(Queue::ages) else { continue };
            if ages.stall.is_none() || age_ms(now, ages.moved_at) < for_ms {
                continue;
            }
            if let Some(stall) = self.stall_info(&cell, &ages, now) {
                let (name, vhost) = (cell.name.to_string(), cell.vhost.name.to_string());
                found.push(StalledQueue { name, vhost, stall });
            }
        }
        found
    }

    /// Queues with a ready message older than this.
    pub(crate) fn old_queues(
        &self,
        vhosts: Option<&[String]>,
        older_than_ms: u64,
        chosen: &dyn Fn(&str) -> bool,
    ) -> Vec<OldQueue> {
        let now = clock::now();
        let mut found = Vec::new();
        for cell in self.cells_of(vhosts) {
            let name = cell.name.to_string();
            if !chosen(&name) {
                continue;
            }
            let age = cell.read(|queue| queue.ages().oldest_ready.map(|since| age_ms(now, since))).flatten();
            if let Some(oldest_message_age_ms) = age.filter(|age| *age > older_than_ms) {
                found.push(OldQueue { name, vhost: cell.vhost.name.to_string(), oldest_message_age_ms });
            }
        }
        found
    }

    /// The queues of these vhosts, or of all; not those in front of delayed-message exchanges.
    pub(super) fn cells_of(&self, vhosts: Option<&[String]>) -> Vec<Arc<QueueCell>> {
        let mine = |cell: &QueueCell| {
            vhosts.is_none_or(|vhosts| vhosts.iter().any(|vhost| vhost.as_bytes() == cell.vhost.name.as_bytes()))
        };
        self.registry.all_queues().into_iter().filter(|cell| !cell.delays && mine(cell)).collect()
    }
}

/// A queue that does not move.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StalledQueue {
    pub(crate) name: String,
    pub(crate) vhost: String,
    pub(crate) stall: StallInfo,
}

/// A queue with an old message.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct OldQueue {
    pub(crate) name: String,
    pub(crate) vhost: String,
    pub(crate) oldest_message_age_ms: u64,
}
