//! Declaring, binding and deleting as a user of the broker: that user's rights count, as over AMQP.

use std::sync::Arc;

use leveret_protocol::{FieldTable, ShortString};

use super::Operator;
use crate::engine::directory::{Access, Resource, Right};
use crate::engine::exchange::Destination;
use crate::engine::queue::{Queue, QueueType};
use crate::engine::vhost::{Binding, ConnectionId, ExchangeRecord, QueueDeclaration};
use crate::error::AmqpError;
use crate::server::clock;
use crate::server::connection::topology::{check_exchange_binding, check_queue_binding, strip_line_breaks};
use crate::server::operator::DeleteCondition;
use crate::server::queue_cell::QueueCell;
use crate::server::registry::VhostCell;
use crate::server::work::Work;
use crate::store::Waiter;

/// No connection's number: what is declared here is nobody's.
const NOBODY: ConnectionId = ConnectionId::new(0);

/// Nobody waits for the single steps: everything submitted is waited for.
#[derive(Debug)]
struct Nobody;

impl Waiter for Nobody {
    fn wake(&self) {}
}

/// A user in a vhost.
#[derive(Debug)]
pub(crate) struct Acting<'a> {
    vhost: &'a str,
    access: Access,
}

impl<'a> Acting<'a> {
    /// A user with these rights in a vhost.
    pub(crate) const fn new(vhost: &'a str, access: Access) -> Self {
        Self { vhost, access }
    }
}

/// Where a binding leads from and to, by names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BindingEnds {
    pub(crate) source: ShortString,
    pub(crate) destination: ShortString,
    /// The destination is a queue, not an exchange.
    pub(crate) to_queue: bool,
}

/// What it is to be declared with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BindingKey {
    pub(crate) routing_key: ShortString,
    pub(crate) arguments: FieldTable,
}

impl Operator {
    fn acting_vhost(&self, acting: &Acting<'_>) -> Result<Arc<VhostCell>, AmqpError> {
        let name = ShortString::try_from(acting.vhost).unwrap_or_default();
        self.registry.vhost(&name).ok_or(AmqpError::VhostNotFound(name))
    }

    /// queue.declare.
    pub(crate) async fn declare_queue(
        &self,
        acting: &Acting<'_>,
        mut declaration: QueueDeclaration,
    ) -> Result<(), AmqpError> {
        let vhost = self.acting_vhost(acting)?;
        declaration.name = strip_line_breaks(declaration.name);
        let waiter: Arc<dyn Waiter> = Arc::new(Nobody);
        self.registry.declare_queue(&vhost, declaration, NOBODY, &acting.access, clock::now(), &waiter)?;
        self.registry.flushed().await;
        Ok(())
    }

    fn acting_queue(&self, acting: &Acting<'_>, name: &ShortString, right: Right) -> Result<Arc<QueueCell>, AmqpError> {
        let vhost = self.acting_vhost(acting)?;
        acting.access.check(right, Resource::Queue(name.as_bytes()))?;
        let id = vhost.state.read().queue(name, NOBODY)?.id;
        let missing = || AmqpError::QueueNotFound { queue: name.clone(), vhost: vhost.name.clone() };
        self.registry.queue(id).ok_or_else(missing)
    }

    /// queue.delete.
    pub(crate) async fn delete_queue_as(
        &self,
        acting: &Acting<'_>,
        name: &ShortString,
        condition: DeleteCondition,
    ) -> Result<(), AmqpError> {
        let cell = self.acting_queue(acting, name, Right::Configure)?;
        let (queue, vhost) = (cell.name.clone(), cell.vhost.name.clone());
        if cell.settings().queue_type == QueueType::Quorum && (condition.if_unused || condition.if_empty) {
            let flag = if condition.if_unused { "if-unused" } else { "if-empty" };
            return Err(AmqpError::NotImplemented(format!(
                "cannot delete queue '{queue}' in vhost '{vhost}'. queue.delete operations with {flag} flag set are \
                 not supported by quorum queues"
            )));
        }
        self.registry.delete_queue(&cell, None, |state| {
            if condition.if_empty && state.ready() > 0 {
                return Err(AmqpError::QueueNotEmpty { queue, vhost });
            }
            if condition.if_unused && state.consumer_count() > 0 {
                return Err(AmqpError::QueueInUse { queue, vhost });
            }
            Ok(())
        })?;
        self.registry.flushed().await;
        Ok(())
    }

    /// queue.purge.
    pub(crate) async fn purge_queue_as(&self, acting: &Acting<'_>, name: &ShortString) -> Result<(), AmqpError> {
        let cell = self.acting_queue(acting, name, Right::Read)?;
        let mut work = Work::default();
        if cell.turn(&self.registry, &mut work, Queue::purge).is_none() {
            let (queue, vhost) = (&cell.name, &cell.vhost.name);
            return Err(AmqpError::NotImplemented(format!(
                "queue.purge not supported by stream queues queue '{queue}' in vhost '{vhost}'"
            )));
        }
        self.registry.finish(&mut work, None);
        self.registry.flushed().await;
        Ok(())
    }

    /// exchange.declare.
    pub(crate) async fn declare_exchange(
        &self,
        acting: &Acting<'_>,
        mut record: ExchangeRecord,
    ) -> Result<(), AmqpError> {
        let vhost = self.acting_vhost(acting)?;
        record.name = strip_line_breaks(record.name);
        let waiter: Arc<dyn Waiter> = Arc::new(Nobody);
        self.registry.check_exchange_limit(&vhost, &record.name)?;
        self.registry.declare_exchange(&vhost, record, &acting.access, clock::now(), &waiter)?;
        self.registry.flushed().await;
        Ok(())
    }

    /// exchange.delete.
    pub(crate) async fn delete_exchange(
        &self,
        acting: &Acting<'_>,
        name: &ShortString,
        if_unused: bool,
    ) -> Result<(), AmqpError> {
        let vhost = self.acting_vhost(acting)?;
        let waiter: Arc<dyn Waiter> = Arc::new(Nobody);
        self.registry
            .define(&vhost, &waiter, |state| Ok(((), state.delete_exchange(name, if_unused, &acting.access)?)))?;
        self.registry.flushed().await;
        Ok(())
    }

    /// queue.bind or exchange.bind.
    pub(crate) async fn bind(&self, acting: &Acting<'_>, ends: &BindingEnds, key: BindingKey) -> Result<(), AmqpError> {
        let vhost = self.acting_vhost(acting)?;
        check_ends(acting, ends)?;
        let waiter: Arc<dyn Waiter> = Arc::new(Nobody);
        let mut work = Work::default();
        let bound = self.registry.define(&vhost, &waiter, |state| {
            state.check_binding_key(&acting.access, &ends.source, &key.routing_key)?;
            let destination = if ends.to_queue {
                Destination::Queue(state.resolve_queue_binding(&ends.destination, &ends.source, NOBODY)?)
            } else {
                state.resolve_exchange_binding(&ends.destination, &ends.source)?;
                Destination::Exchange(ends.destination.clone())
            };
            let BindingKey { routing_key, arguments } = key;
            let binding = Binding { source: ends.source.clone(), destination, routing_key, arguments };
            Ok(((), self.registry.bind(state, binding, clock::now(), &mut work)?))
        });
        self.registry.finish(&mut work, None);
        bound?;
        self.registry.flushed().await;
        Ok(())
    }

    /// queue.unbind or exchange.unbind.
    pub(crate) async fn unbind(
        &self,
        acting: &Acting<'_>,
        ends: &BindingEnds,
        key: BindingKey,
    ) -> Result<(), AmqpError> {
        let vhost = self.acting_vhost(acting)?;
        check_ends(acting, ends)?;
        let waiter: Arc<dyn Waiter> = Arc::new(Nobody);
        self.registry.define(&vhost, &waiter, |state| {
            state.check_binding_key(&acting.access, &ends.source, &key.routing_key)?;
            let destination = if ends.to_queue {
                Destination::Queue(state.resolve_queue_binding(&ends.destination, &ends.source, NOBODY)?)
            } else {
                Destination::Exchange(ends.destination.clone())
            };
            let BindingKey { routing_key, arguments } = key;
            let binding = Binding { source: ends.source.clone(), destination, routing_key, arguments };
            Ok(((), state.unbind(&binding)))
        })?;
        self.registry.flushed().await;
        Ok(())
    }
}

fn check_ends(acting: &Acting<'_>, ends: &BindingEnds) -> Result<(), AmqpError> {
    if ends.to_queue {
        check_queue_binding(&acting.access, &ends.source, &ends.destination)
    } else {
        check_exchange_binding(&acting.access, &ends.source, &ends.destination)
    }
}
