//! Queues: what they hold, and emptying and deleting them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::arguments::Arguments;
use super::connections::ConnectionDetails;
use super::message_stats::{MessageStats, Of, Rate};
use super::stall::StallInfo;
use super::{Operator, OperatorError};
use crate::engine::queue::Queue;
use crate::engine::statistics::{Count, Counts};
use crate::engine::vhost::QueueRecord;
use crate::error::AmqpError;
use crate::server::clock;
use crate::server::queue_cell::QueueCell;
use crate::server::queue_order::QueueHead;
use crate::server::registry::VhostCell;
use crate::server::statistics::age_ms;
use crate::server::work::Work;

/// The last number in the process name of a queue, which no channel has.
const QUEUE_PART: u64 = 65_536;

/// A queue as listings show it. Names of fields are those of RabbitMQ.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct QueueInfo {
    pub(crate) name: String,
    pub(crate) vhost: String,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) exclusive: bool,
    pub(crate) arguments: Arguments,
    pub(crate) pid: String,
    pub(crate) owner_pid: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The policy that applies.
    pub(crate) policy: Option<String>,
    pub(crate) operator_policy: Option<String>,
    pub(crate) state: &'static str,
    pub(crate) messages: u64,
    pub(crate) messages_ready: u64,
    pub(crate) messages_unacknowledged: u64,
    pub(crate) message_bytes: u64,
    pub(crate) message_bytes_ready: u64,
    pub(crate) message_bytes_unacknowledged: u64,
    /// Octets that its messages take in memory.
    pub(crate) memory: u64,
    pub(crate) consumers: u64,
    pub(crate) exclusive_consumer_tag: Option<String>,
    pub(crate) single_active_consumer_tag: Option<String>,
    pub(crate) messages_details: Rate,
    pub(crate) messages_ready_details: Rate,
    pub(crate) messages_unacknowledged_details: Rate,
    /// `None` as long as nothing has happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message_stats: Option<MessageStats>,
    /// The part of the time in which consumers took what was there; 0 without consumers.
    pub(crate) consumer_utilisation: f64,
    /// Another name for it.
    pub(crate) consumer_capacity: f64,
    /// The `timestamp` property of the message at the head, in seconds since 1970.
    pub(crate) head_message_timestamp: Option<u64>,
    /// For how long the oldest ready message has been in the queue; `None` without one.
    pub(crate) oldest_message_age_ms: Option<u64>,
    /// For how long the oldest delivery has waited for its ack.
    pub(crate) oldest_unacked_age_ms: Option<u64>,
    /// Why ready messages do not leave.
    pub(crate) stall: Option<StallInfo>,
    /// What keeps publishers from putting more into it.
    pub(crate) publishers_held_by: Option<&'static str>,
    /// How messages left it other than to consumers.
    pub(crate) deaths: Deaths,
    /// The connection that an exclusive queue belongs to.
    #[serde(skip)]
    pub(crate) owner: Option<ConnectionDetails>,
}

/// How messages died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Deaths {
    /// Whether or not they were dead-lettered.
    pub(crate) expired: u64,
    pub(crate) maxlen: u64,
    pub(crate) rejected: u64,
    pub(crate) delivery_limit: u64,
    /// Those of all that went to a dead-letter exchange.
    pub(crate) dead_lettered: u64,
}

impl Deaths {
    fn of(counts: &Counts) -> Self {
        use Count::{
            DeliveryLimit, DroppedDeliveryLimit, DroppedExpired, DroppedMaxLen, DroppedRejected, Expired, MaxLen,
            Rejected,
        };
        Self {
            expired: counts[Expired] + counts[DroppedExpired],
            maxlen: counts[MaxLen] + counts[DroppedMaxLen],
            rejected: counts[Rejected] + counts[DroppedRejected],
            delivery_limit: counts[DeliveryLimit] + counts[DroppedDeliveryLimit],
            dead_lettered: [Expired, MaxLen, Rejected, DeliveryLimit].into_iter().map(|count| counts[count]).sum(),
        }
    }
}

/// When a queue may be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteCondition {
    /// It has no messages that are ready.
    pub(crate) if_empty: bool,
    /// It has no consumers.
    pub(crate) if_unused: bool,
}

impl Operator {
    /// All queues by vhost and name.
    pub(crate) fn queue_heads(&self) -> Arc<Vec<QueueHead>> {
        self.registry.sorted_queues()
    }

    /// Whether there are queues that are neither durable nor exclusive.
    pub(crate) fn has_transient_queues(&self) -> bool {
        let transient = |record: &&QueueRecord| !record.durable && record.exclusive_owner.is_none();
        self.registry.vhost_cells().iter().any(|vhost| vhost.state.read().sorted_queues().iter().any(transient))
    }

    /// All of one; `None` when it has just gone.
    pub(crate) fn queue_of(&self, head: &QueueHead) -> Option<QueueInfo> {
        let vhost = &head.0.vhost;
        let (record, policies) = {
            let state = vhost.state.read();
            let record = state.queue_by_id(head.0.id)?;
            let (regular, operator) = state.policies_of_queue(record);
            (record.clone(), (regular.map(str::to_owned), operator.map(str::to_owned)))
        };
        self.queue_info(vhost, &record, policies)
    }

    /// A queue by name.
    pub(crate) fn queue(&self, vhost: &str, name: &str) -> Result<QueueInfo, OperatorError> {
        let cell = self.queue_cell(vhost, name)?;
        let gone = || OperatorError::NoSuchQueue { queue: name.to_owned(), vhost: vhost.to_owned() };
        self.queue_of(&QueueHead(cell)).ok_or_else(gone)
    }

    /// The queues of a vhost by name.
    pub(crate) fn queues(&self, vhost: &str) -> Result<Vec<QueueInfo>, OperatorError> {
        let vhost = self.vhost(vhost)?;
        // Copied out, so that no queue's lock is waited for under the vhost's.
        let policies = |(regular, operator): (Option<&str>, Option<&str>)| {
            (regular.map(str::to_owned), operator.map(str::to_owned))
        };
        let records: Vec<(QueueRecord, _)> = {
            let state = vhost.state.read();
            let queues = state.sorted_queues().into_iter();
            queues.map(|record| (record.clone(), policies(state.policies_of_queue(record)))).collect()
        };
        Ok(records.into_iter().filter_map(|(record, policies)| self.queue_info(&vhost, &record, policies)).collect())
    }

    /// `None` when the queue has just gone.
    fn queue_info(
        &self,
        vhost: &VhostCell,
        record: &QueueRecord,
        (policy, operator_policy): (Option<String>, Option<String>),
    ) -> Option<QueueInfo> {
        let cell = self.registry.queue(record.id)?;
        let settings = cell.settings();
        let activity = cell.activity();
        let (figures, ages, now) = (activity.figures, &activity.ages, clock::now());
        let (counts, rates, gauge_rates) = activity
            .totals
            .as_ref()
            .map(|totals| (*totals.flow.counts(), *totals.flow.rates(), totals.gauge_rates))
            .unwrap_or_default();
        let utilisation = activity.consumer_capacity(now).unwrap_or(0.0);
        let consumers: Vec<_> = cell.consumers().into_iter().map(|(consumer, ..)| consumer).collect();
        let exclusive = consumers.iter().find(|consumer| consumer.exclusive);
        let active = consumers.iter().find(|consumer| settings.single_active_consumer && consumer.active);
        Some(QueueInfo {
            name: record.name.to_string(),
            vhost: vhost.name.to_string(),
            durable: record.durable,
            auto_delete: record.auto_delete,
            exclusive: record.exclusive_owner.is_some(),
            arguments: Arguments(record.arguments.clone()),
            pid: self.pid(record.id.get(), QUEUE_PART),
            owner_pid: record.exclusive_owner.map(|owner| self.connection_pid(owner)),
            kind: settings.queue_type.as_str(),
            policy,
            operator_policy,
            state: "running",
            messages: figures.ready + figures.unacked,
            messages_ready: figures.ready,
            messages_unacknowledged: figures.unacked,
            message_bytes: figures.ready_body_bytes + figures.unacked_body_bytes,
            message_bytes_ready: figures.ready_body_bytes,
            message_bytes_unacknowledged: figures.unacked_body_bytes,
            memory: figures.resident_bytes as u64,
            consumers: consumers.len() as u64,
            exclusive_consumer_tag: exclusive.map(|consumer| consumer.tag.to_string()),
            single_active_consumer_tag: active.map(|consumer| consumer.tag.to_string()),
            messages_details: Rate::of(gauge_rates.ready + gauge_rates.unacked),
            messages_ready_details: Rate::of(gauge_rates.ready),
            messages_unacknowledged_details: Rate::of(gauge_rates.unacked),
            message_stats: MessageStats::new(Of::Queue, &counts, &rates),
            consumer_utilisation: utilisation,
            consumer_capacity: utilisation,
            head_message_timestamp: ages.head_timestamp,
            oldest_message_age_ms: ages.oldest_ready.map(|since| age_ms(now, since)),
            oldest_unacked_age_ms: ages.oldest_unacked.map(|since| age_ms(now, since)),
            stall: self.stall_info(&cell, ages, now),
            publishers_held_by: self.inflow_stall(&cell, figures.ready, figures.ready_body_bytes),
            deaths: Deaths::of(&counts),
            owner: record.exclusive_owner.and_then(|owner| self.connection_details(owner)),
        })
    }

    pub(super) fn queue_cell(&self, vhost: &str, name: &str) -> Result<Arc<QueueCell>, OperatorError> {
        let cell = self.vhost(vhost)?;
        let id = cell.state.read().queue_record(name.as_bytes()).map(|record| record.id);
        id.and_then(|id| self.registry.queue(id))
            .ok_or_else(|| OperatorError::NoSuchQueue { queue: name.to_owned(), vhost: vhost.to_owned() })
    }

    /// Drops what is ready; returns how many messages that were.
    pub(crate) async fn purge_queue(&self, vhost: &str, name: &str) -> Result<u64, OperatorError> {
        let cell = self.queue_cell(vhost, name)?;
        let purged = {
            let mut work = Work::default();
            let purged = cell.turn(&self.registry, &mut work, Queue::purge);
            self.registry.finish(&mut work, None);
            purged.ok_or_else(|| {
                let (queue, vhost) = (&cell.name, &cell.vhost.name);
                OperatorError::Unsupported(format!(
                    "queue.purge not supported by stream queues queue '{queue}' in vhost '{vhost}'"
                ))
            })?
        };
        self.registry.flushed().await;
        tracing::info!(queue = name, vhost, purged, "queue purged by an operator");
        Ok(purged)
    }

    /// Deletes a queue, whoever owns it; returns how many messages were ready.
    pub(crate) async fn delete_queue(
        &self,
        vhost: &str,
        name: &str,
        condition: DeleteCondition,
    ) -> Result<u64, OperatorError> {
        let cell = self.queue_cell(vhost, name)?;
        let names = || (cell.name.clone(), cell.vhost.name.clone());
        let deleted = self.registry.delete_queue(&cell, None, |queue| {
            let (queue_name, vhost) = names();
            if condition.if_empty && queue.ready() > 0 {
                return Err(AmqpError::QueueNotEmpty { queue: queue_name, vhost });
            }
            if condition.if_unused && queue.consumer_count() > 0 {
                return Err(AmqpError::QueueInUse { queue: queue_name, vhost });
            }
            Ok(())
        });
        let (ready, _) = deleted.map_err(|refused| {
            if matches!(refused, AmqpError::QueueNotEmpty { .. }) {
                OperatorError::QueueNotEmpty
            } else {
                OperatorError::QueueInUse
            }
        })?;
        self.registry.flushed().await;
        tracing::info!(queue = name, vhost, "queue deleted by an operator");
        Ok(ready)
    }
}
