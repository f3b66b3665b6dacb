//! Declaring, binding and deleting: what the exchange and queue classes ask for.

use std::sync::Arc;

use leveret_protocol::{ChannelId, FieldTable, ShortString, exchange, queue};

use super::session::{Progress, Session};
use super::streaming::not_by_streams;
use crate::config::Compat;
use crate::engine::directory::{Access, Resource, Right};
use crate::engine::exchange::Destination;
use crate::engine::queue::QueueType;
use crate::engine::vhost::{Binding, ExchangeRecord, QueueDeclaration};
use crate::error::AmqpError;
use crate::server::queue_cell::QueueCell;
use crate::store::Ticket;

/// The longest `x-name-prefix`, as in RabbitMQ: a name has 255 octets, and what the broker adds must fit.
const NAME_PREFIX_MAX_BYTES: usize = 64;

/// A name without line breaks, as RabbitMQ stores it.
pub(in crate::server) fn strip_line_breaks(name: ShortString) -> ShortString {
    if name.as_bytes().iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
        let kept: Vec<u8> = name.as_bytes().iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
        return ShortString::try_from(kept.as_slice()).unwrap_or_default();
    }
    name
}

impl Session {
    pub(super) fn exchange_declare(
        &mut self,
        id: ChannelId,
        declare: exchange::Declare,
    ) -> Result<Progress, AmqpError> {
        let name = strip_line_breaks(declare.exchange);
        let no_wait = declare.no_wait;
        let ticket = if declare.passive {
            self.vhost.state.read().check_exchange(&name)?;
            Ticket::NONE
        } else {
            let record = ExchangeRecord {
                name,
                kind: declare.kind,
                durable: declare.durable,
                auto_delete: declare.auto_delete,
                internal: declare.internal,
                arguments: declare.arguments,
            };
            let access = self.access();
            self.registry.check_exchange_limit(&self.vhost, &record.name)?;
            let declared = self.registry.declare_exchange(&self.vhost, record, &access, self.now, &self.waiter);
            declared.map_err(|error| match self.registry.config.compat {
                Compat::V3 => error.as_in_v3(),
                Compat::V4 => error,
            })?
        };
        if !no_wait {
            self.send_durable(id, exchange::DeclareOk {}, ticket);
        }
        Ok(Progress::Open)
    }

    pub(super) fn exchange_delete(&mut self, id: ChannelId, delete: &exchange::Delete) -> Result<Progress, AmqpError> {
        let name = strip_line_breaks(delete.exchange.clone());
        let access = self.access();
        let ((), ticket) = self.registry.define(&self.vhost, &self.waiter, |state| {
            Ok(((), state.delete_exchange(&name, delete.if_unused, &access)?))
        })?;
        if !delete.no_wait {
            self.send_durable(id, exchange::DeleteOk {}, ticket);
        }
        Ok(Progress::Open)
    }

    pub(super) fn exchange_bind(&mut self, id: ChannelId, bind: exchange::Bind) -> Result<Progress, AmqpError> {
        let no_wait = bind.no_wait;
        let access = self.access();
        check_exchange_binding(&access, &bind.source, &bind.destination)?;
        let ((), ticket) = self.registry.define(&self.vhost, &self.waiter, |state| {
            state.check_binding_key(&access, &bind.source, &bind.routing_key)?;
            state.resolve_exchange_binding(&bind.destination, &bind.source)?;
            let binding = exchange_binding(bind.source, bind.destination, bind.routing_key, bind.arguments);
            Ok(((), self.registry.bind(state, binding, self.now, &mut self.work)?))
        })?;
        let ticket = ticket.max(self.submit());
        if !no_wait {
            self.send_durable(id, exchange::BindOk {}, ticket);
        }
        Ok(Progress::Open)
    }

    pub(super) fn exchange_unbind(&mut self, id: ChannelId, unbind: exchange::Unbind) -> Result<Progress, AmqpError> {
        let access = self.access();
        check_exchange_binding(&access, &unbind.source, &unbind.destination)?;
        let no_wait = unbind.no_wait;
        let binding = exchange_binding(unbind.source, unbind.destination, unbind.routing_key, unbind.arguments);
        let ((), ticket) = self.registry.define(&self.vhost, &self.waiter, |state| {
            state.check_binding_key(&access, &binding.source, &binding.routing_key)?;
            Ok(((), state.unbind(&binding)))
        })?;
        if !no_wait {
            self.send_durable(id, exchange::UnbindOk {}, ticket);
        }
        Ok(Progress::Open)
    }

    pub(super) fn queue_declare(
        &mut self,
        id: ChannelId,
        index: usize,
        declare: queue::Declare,
    ) -> Result<Progress, AmqpError> {
        let name = strip_line_breaks(declare.queue);
        if let Some(answer) = self.declare_reply_queue(id, index, &name, declare.no_wait) {
            return answer;
        }
        let (cell, ticket) = if declare.passive {
            let queue = self.vhost.state.read().queue(&name, self.id)?.id;
            let missing = AmqpError::QueueNotFound { queue: name, vhost: self.vhost.name.clone() };
            (self.registry.queue(queue).ok_or(missing)?, Ticket::NONE)
        } else {
            let mut declaration = QueueDeclaration {
                name,
                durable: declare.durable,
                exclusive: declare.exclusive,
                auto_delete: declare.auto_delete,
                arguments: declare.arguments,
                server_named: false,
            };
            if declaration.name.is_empty() {
                self.name_queue(&mut declaration)?;
            }
            let exclusive = declaration.exclusive;
            let access = self.access();
            let declared =
                self.registry.declare_queue(&self.vhost, declaration, self.id, &access, self.now, &self.waiter)?;
            if exclusive && !self.exclusive.contains(&declared.0.id) {
                self.exclusive.push(declared.0.id);
            }
            declared
        };
        let now = self.now;
        let counts = cell.turn(&self.registry, &mut self.work, |queue, _| {
            queue.touch(now);
            (queue.ready(), queue.consumer_count())
        });
        // RabbitMQ does not count the consumers of a stream.
        let (message_count, consumer_count) = counts.unwrap_or_else(|| (cell.stream_count(), 0));
        self.channels[index].declared(cell.name.clone());
        if !declare.no_wait {
            let ok = queue::DeclareOk {
                queue: cell.name.clone(),
                message_count: u32::try_from(message_count).unwrap_or(u32::MAX),
                consumer_count: u32::try_from(consumer_count).unwrap_or(u32::MAX),
            };
            self.send_durable(id, ok, ticket);
        }
        Ok(Progress::Open)
    }

    /// Gives a queue that was declared without a name one: `amq.gen-…`, or with the prefix that `x-name-prefix` asks for.
    fn name_queue(&self, declaration: &mut QueueDeclaration) -> Result<(), AmqpError> {
        if let Some(queue_type) = QueueType::from_arguments(&declaration.arguments) {
            queue_type.check_server_named()?;
        }
        let Some(prefix) = declaration.arguments.remove("x-name-prefix") else {
            declaration.name = self.registry.names.lock().queue();
            declaration.server_named = true;
            return Ok(());
        };
        let text = prefix.as_long_str().and_then(|octets| std::str::from_utf8(octets).ok()).ok_or_else(|| {
            AmqpError::BadArgument(format!(
                "invalid arg 'x-name-prefix' for queue '' in vhost '{}': {{unacceptable_type,{}}}",
                self.vhost.name,
                prefix.type_name()
            ))
        })?;
        if text.len() > NAME_PREFIX_MAX_BYTES {
            return Err(AmqpError::BadArgument(format!("Queue name prefix '{text}' exceeds the 64-byte limit")));
        }
        // A reserved prefix stays reserved.
        declaration.name = strip_line_breaks(self.registry.names.lock().queue_with_prefix(text));
        Ok(())
    }

    pub(super) fn queue_bind(&mut self, id: ChannelId, index: usize, bind: queue::Bind) -> Result<Progress, AmqpError> {
        let (queue, key) = self.binding_names(index, &bind.queue, bind.routing_key)?;
        let source = strip_line_breaks(bind.exchange);
        let connection = self.id;
        let access = self.access();
        check_queue_binding(&access, &source, &queue)?;
        let ((), ticket) = self.registry.define(&self.vhost, &self.waiter, |state| {
            state.check_binding_key(&access, &source, &key)?;
            let destination = Destination::Queue(state.resolve_queue_binding(&queue, &source, connection)?);
            let binding = Binding { source, destination, routing_key: key, arguments: bind.arguments };
            Ok(((), self.registry.bind(state, binding, self.now, &mut self.work)?))
        })?;
        let ticket = ticket.max(self.submit());
        if !bind.no_wait {
            self.send_durable(id, queue::BindOk {}, ticket);
        }
        Ok(Progress::Open)
    }

    pub(super) fn queue_unbind(
        &mut self,
        id: ChannelId,
        index: usize,
        unbind: queue::Unbind,
    ) -> Result<Progress, AmqpError> {
        let (queue, key) = self.binding_names(index, &unbind.queue, unbind.routing_key)?;
        let source = strip_line_breaks(unbind.exchange);
        let connection = self.id;
        let access = self.access();
        check_queue_binding(&access, &source, &queue)?;
        let ((), ticket) = self.registry.define(&self.vhost, &self.waiter, |state| {
            state.check_binding_key(&access, &source, &key)?;
            let (queue, locked) = match state.resolve_queue_binding(&queue, &source, connection) {
                Ok(queue) => (Some(queue), None),
                Err(locked @ AmqpError::QueueLocked { .. }) => (state.queue_id(&queue), Some(locked)),
                Err(_) => (None, None),
            };
            // What is not there needs no unbinding.
            let Some(queue) = queue else { return Ok(((), Vec::new())) };
            let destination = Destination::Queue(queue);
            let binding = Binding { source, destination, routing_key: key, arguments: unbind.arguments };
            match locked {
                Some(locked) if state.is_bound(&binding) => Err(locked),
                Some(_) => Ok(((), Vec::new())),
                None => Ok(((), state.unbind(&binding))),
            }
        })?;
        self.send_durable(id, queue::UnbindOk {}, ticket);
        Ok(Progress::Open)
    }

    /// Queue and key of a binding: both empty means the last declared queue for both.
    fn binding_names(
        &self,
        index: usize,
        queue: &ShortString,
        key: ShortString,
    ) -> Result<(ShortString, ShortString), AmqpError> {
        let name = self.channels[index].queue_name(&strip_line_breaks(queue.clone()))?;
        let key = if queue.is_empty() && key.is_empty() { name.clone() } else { key };
        Ok((name, key))
    }

    pub(super) fn queue_purge(
        &mut self,
        id: ChannelId,
        index: usize,
        purge: &queue::Purge,
    ) -> Result<Progress, AmqpError> {
        let cell = self.find_queue(index, &purge.queue, Right::Read)?;
        let purged = cell.turn(&self.registry, &mut self.work, crate::engine::queue::Queue::purge);
        let purged = purged.ok_or_else(|| not_by_streams("queue.purge", &cell))?;
        let ticket = self.submit();
        if !purge.no_wait {
            let message_count = u32::try_from(purged).unwrap_or(u32::MAX);
            self.send_durable(id, queue::PurgeOk { message_count }, ticket);
        }
        Ok(Progress::Open)
    }

    pub(super) fn queue_delete(
        &mut self,
        id: ChannelId,
        index: usize,
        delete: &queue::Delete,
    ) -> Result<Progress, AmqpError> {
        let (deleted, ticket) = match self.find_queue(index, &delete.queue, Right::Configure) {
            Err(AmqpError::QueueNotFound { .. }) => (0, Ticket::NONE),
            Err(error) => return Err(error),
            Ok(cell) => {
                let (queue, vhost) = (cell.name.clone(), cell.vhost.name.clone());
                if cell.settings().queue_type == QueueType::Quorum && (delete.if_unused || delete.if_empty) {
                    let flag = if delete.if_unused { "if-unused" } else { "if-empty" };
                    return Err(AmqpError::NotImplemented(format!(
                        "cannot delete queue '{queue}' in vhost '{vhost}'. queue.delete operations with {flag} flag set \
                         are not supported by quorum queues"
                    )));
                }
                self.registry.delete_queue(&cell, Some(&self.waiter), |state| {
                    if delete.if_empty && state.ready() > 0 {
                        return Err(AmqpError::QueueNotEmpty { queue, vhost });
                    }
                    if delete.if_unused && state.consumer_count() > 0 {
                        return Err(AmqpError::QueueInUse { queue, vhost });
                    }
                    Ok(())
                })?
            }
        };
        if !delete.no_wait {
            let message_count = u32::try_from(deleted).unwrap_or(u32::MAX);
            self.send_durable(id, queue::DeleteOk { message_count }, ticket);
        }
        Ok(Progress::Open)
    }

    /// The queue that a method names, or the last declared one; the user needs this right to it.
    pub(super) fn find_queue(
        &mut self,
        index: usize,
        name: &ShortString,
        right: Right,
    ) -> Result<Arc<QueueCell>, AmqpError> {
        let name = self.channels[index].queue_name(name)?;
        self.access().check(right, Resource::Queue(name.as_bytes()))?;
        let id = self.vhost.state.read().queue(&name, self.id)?.id;
        self.cell(id).ok_or_else(|| AmqpError::QueueNotFound { queue: name, vhost: self.vhost.name.clone() })
    }
}

/// queue.bind and queue.unbind: write on the queue, read on the exchange, which is not the default one.
pub(in crate::server) fn check_queue_binding(
    access: &Access,
    source: &ShortString,
    queue: &ShortString,
) -> Result<(), AmqpError> {
    access.check(Right::Write, Resource::Queue(queue.as_bytes()))?;
    if source.is_empty() {
        return Err(AmqpError::DefaultExchange);
    }
    access.check(Right::Read, Resource::Exchange(source.as_bytes()))
}

/// The same between exchanges.
pub(in crate::server) fn check_exchange_binding(
    access: &Access,
    source: &ShortString,
    destination: &ShortString,
) -> Result<(), AmqpError> {
    if source.is_empty() || destination.is_empty() {
        return Err(AmqpError::DefaultExchange);
    }
    access.check(Right::Write, Resource::Exchange(destination.as_bytes()))?;
    access.check(Right::Read, Resource::Exchange(source.as_bytes()))
}

fn exchange_binding(
    source: ShortString,
    destination: ShortString,
    routing_key: ShortString,
    arguments: FieldTable,
) -> Binding {
    Binding { source, destination: Destination::Exchange(destination), routing_key, arguments }
}
