//! Definitions that do something to queues besides: delayed-message exchanges bring a queue with them, a binding to a
//! recent-history exchange brings messages.

use std::sync::Arc;

use super::placing::{alone, routing_keys};
use super::queue_cell::QueueCell;
use super::registry::{Registry, VhostCell};
use super::work::Work;
use crate::engine::directory::Access;
use crate::engine::exchange::{Destination, Routing};
use crate::engine::message::{Arena, Body, MessageParts, Timestamp};
use crate::engine::queue::{Queue, QueueSettings, RecoveredLane};
use crate::engine::vhost::{Binding, Change, ExchangeRecord, QueueRecord, Vhost};
use crate::error::AmqpError;
use crate::store::{Ticket, Waiter};

impl Registry {
    /// exchange.declare: the ticket to wait for before saying that it is done.
    pub(super) fn declare_exchange(
        &self,
        vhost: &Arc<VhostCell>,
        record: ExchangeRecord,
        access: &Access,
        now: Timestamp,
        waiter: &Arc<dyn Waiter>,
    ) -> Result<Ticket, AmqpError> {
        let ((), ticket) = self.define(vhost, waiter, |state| {
            let (queue, changes) = state.declare_exchange(record, access, || self.new_queue_id())?;
            if let Some(record) = queue {
                self.add_delay_queue(vhost, &record, &[], now);
            }
            Ok(((), changes))
        })?;
        Ok(ticket)
    }

    /// Makes the queue in which messages wait for a delayed-message exchange. A message in it expires when its time has
    /// come, and is dead-lettered to the exchange.
    pub(super) fn add_delay_queue(
        &self,
        vhost: &Arc<VhostCell>,
        record: &QueueRecord,
        lanes: &[RecoveredLane],
        now: Timestamp,
    ) -> Arc<QueueCell> {
        let settings =
            QueueSettings { dead_letter_exchange: Some(record.name.clone()), ..QueueSettings::default() }.share();
        let queue =
            if record.durable { Queue::recovered(settings, lanes, now) } else { Queue::new(settings, false, now) };
        let cell = Arc::new(QueueCell::new(record, queue, vhost.clone()));
        self.add_queue(cell.clone());
        cell
    }

    /// Makes a binding; what its source remembers goes to the destination, before anything that is published from now on.
    pub(super) fn bind(
        self: &Arc<Self>,
        state: &mut Vhost,
        binding: Binding,
        now: Timestamp,
        work: &mut Work,
    ) -> Result<Vec<Change>, AmqpError> {
        let history = state.history_for(&binding);
        if history.is_empty() {
            return state.bind(binding);
        }
        let destination = binding.destination.clone();
        let changes = state.bind(binding)?;
        for arena in history {
            self.replay(state, &destination, &arena, now, work);
        }
        Ok(changes)
    }

    fn replay(
        self: &Arc<Self>,
        state: &Vhost,
        destination: &Destination,
        arena: &Arc<Arena>,
        now: Timestamp,
        work: &mut Work,
    ) {
        let message = arena.message(0);
        let queues = match destination {
            Destination::Queue(id) => vec![*id],
            Destination::Exchange(name) => {
                let keys = routing_keys(&message);
                let routing = Routing::new(&keys, message.properties(), self.random());
                state.route(name.as_bytes(), &routing).unwrap_or_default().queues
            }
        };
        let arena = alone(&MessageParts {
            exchange: message.exchange(),
            routing_key: message.routing_key(),
            properties: message.properties(),
            body: Body::Shared(message.shared_body()),
            persistent: message.is_persistent(),
            priority: message.priority(),
            expiration_ms: message.expiration_ms(),
            broker_deaths: message.has_broker_deaths(),
            enqueued_at: now,
        });
        for cell in queues.into_iter().filter_map(|id| self.queue(id)) {
            cell.publish(self, work, now, &arena, message.is_persistent());
        }
    }
}
