//! A virtual host: its exchanges, queues and bindings, and where a message goes among them.
//!
//! Invariants: a binding's two ends exist; `inbound` and the exchanges' routing tables tell of the same bindings; what is
//! durable (a binding: both of its ends) is told to the store by a [`Change`] of the same call; `version` grows with every
//! change that can alter a route.
//! Not here: routing (`routing`), the queues' messages, permissions, locks.

mod listing;
#[cfg(test)]
mod model;
mod routing;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use leveret_protocol::{FieldTable, FieldValue, ShortString, encode, table};

pub use routing::Route;

use crate::engine::directory::{Access, Policies, PolicyTarget, Resource, Right, VhostRecord};
use crate::engine::exchange::{BoundTo, Destination, Router};
use crate::engine::queue::{QueueId, QueueSettings, QueueType, check_equivalent, compare_argument};
use crate::error::AmqpError;

/// A connection's number, never reused while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The connection with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What an exchange is declared with.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeRecord {
    /// Its name.
    pub name: ShortString,
    /// Its type.
    pub kind: ShortString,
    /// Survives a restart.
    pub durable: bool,
    /// Goes away with its last binding.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// What a queue is declared with.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueRecord {
    /// Its number.
    pub id: QueueId,
    /// Its name.
    pub name: ShortString,
    /// Survives a restart, as its persistent messages do.
    pub durable: bool,
    /// Goes away with its last consumer.
    pub auto_delete: bool,
    /// The only connection that may use it.
    pub exclusive_owner: Option<ConnectionId>,
    /// Its arguments.
    pub arguments: FieldTable,
    /// It is not a client's: messages wait in it for the delayed-message exchange whose name it has.
    pub delays: bool,
}

/// What leads from an exchange to a queue or another exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The exchange that it starts at.
    pub source: ShortString,
    /// What it points at.
    pub destination: Destination,
    /// The binding key.
    pub routing_key: ShortString,
    /// Its arguments.
    pub arguments: FieldTable,
}

impl Binding {
    /// What makes a binding this one among those of its destination: source, key and arguments in any order.
    fn identity(&self) -> Vec<u8> {
        let mut out = Vec::new();
        encode::put_short_string(&mut out, self.source.as_bytes());
        encode::put_short_string(&mut out, self.routing_key.as_bytes());
        let mut entries: Vec<_> = self.arguments.iter().cloned().collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        table::put_table(&mut out, &entries.into_iter().collect());
        out
    }
}

/// A durable entity that came or went: what the store has to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An exchange was declared.
    ExchangeAdded(ExchangeRecord),
    /// An exchange is gone.
    ExchangeRemoved(ShortString),
    /// A queue was declared.
    QueueAdded(QueueRecord),
    /// A queue is gone.
    QueueRemoved(QueueId),
    /// A binding was made between durable ends.
    BindingAdded(Arc<Binding>),
    /// A binding between durable ends is gone.
    BindingRemoved(Arc<Binding>),
}

#[derive(Debug)]
struct Exchange {
    record: ExchangeRecord,
    alternate: Option<ShortString>,
    router: Router,
    /// Where messages wait, if the exchange delays them.
    delay_queue: Option<QueueId>,
    /// Bindings that start here, by destination and identity.
    outbound: BTreeMap<(Destination, Vec<u8>), Arc<Binding>>,
}

/// A queue.declare as the peer asked for it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the bits of the method")]
pub struct QueueDeclaration {
    /// The name; never empty.
    pub name: ShortString,
    /// Survives a restart.
    pub durable: bool,
    /// Only for the declaring connection.
    pub exclusive: bool,
    /// Goes away with its last consumer.
    pub auto_delete: bool,
    /// Its arguments.
    pub arguments: FieldTable,
    /// The name was made by the broker: the reserved prefix is allowed.
    pub server_named: bool,
}

/// What [`Vhost::declare_queue`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// The queue was there and is equivalent.
    Existed(QueueId),
    /// The queue is new.
    Created(QueueId, Box<QueueSettings>),
}

/// The exchanges, queues and bindings of a virtual host.
#[derive(Debug)]
pub struct Vhost {
    name: ShortString,
    exchanges: HashMap<ShortString, Exchange>,
    queues: HashMap<ShortString, QueueRecord>,
    names: HashMap<QueueId, ShortString>,
    inbound: HashMap<Destination, BTreeMap<Vec<u8>, Arc<Binding>>>,
    orphans: Vec<QueueId>,
    policies: Policies,
    /// Queues at most.
    max_queues: Option<u64>,
    /// The type of queues declared without one.
    default_queue_type: QueueType,
    /// The vhost was deleted: nothing is declared in it any more.
    ended: bool,
    version: u64,
}

const PREDECLARED: [(&str, &str, bool); 7] = [
    ("", "direct", false),
    ("amq.direct", "direct", false),
    ("amq.fanout", "fanout", false),
    ("amq.topic", "topic", false),
    ("amq.headers", "headers", false),
    ("amq.match", "headers", false),
    ("amq.rabbitmq.trace", "topic", true),
];

impl Vhost {
    /// A virtual host with the pre-declared exchanges (spec §3.1.3 and RabbitMQ's).
    ///
    /// # Panics
    /// Never: the pre-declared types exist.
    pub fn new(name: ShortString) -> Self {
        let mut vhost = Self {
            name,
            exchanges: HashMap::new(),
            queues: HashMap::new(),
            names: HashMap::new(),
            inbound: HashMap::new(),
            orphans: Vec::new(),
            policies: Policies::default(),
            max_queues: None,
            default_queue_type: QueueType::Classic,
            ended: false,
            version: 0,
        };
        for (name, kind, internal) in PREDECLARED {
            let record = ExchangeRecord {
                name: ShortString::from_static(name),
                kind: ShortString::from_static(kind),
                durable: true,
                auto_delete: false,
                internal,
                arguments: FieldTable::new(),
            };
            vhost.restore_exchange(record).expect("the pre-declared types exist");
        }
        vhost
    }

    /// Its name.
    pub fn name(&self) -> &ShortString {
        &self.name
    }

    /// Grows with every change that can alter a route.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Has remembered routes and rights looked up anew.
    pub fn forget_routes(&mut self) {
        self.version += 1;
    }

    /// Takes over what the vhost's own record says.
    pub fn configure(&mut self, record: &VhostRecord, node_default: QueueType) {
        self.max_queues = record.limit("max-queues");
        let own = record.default_queue_type.as_deref().filter(|word| !matches!(*word, "" | "undefined"));
        self.default_queue_type = own.and_then(|word| QueueType::from_word(word.as_bytes())).unwrap_or(node_default);
    }

    /// Takes over new policies. Returns the queues whose settings are others now.
    pub fn set_policies(&mut self, policies: Policies) -> Vec<(QueueId, QueueSettings)> {
        let before: HashMap<QueueId, Option<QueueSettings>> =
            self.queues.values().map(|queue| (queue.id, self.settings_of(queue).ok())).collect();
        self.policies = policies;
        let names: Vec<ShortString> = self.exchanges.keys().cloned().collect();
        for name in names {
            let Some(exchange) = self.exchanges.get(name.as_bytes()) else { continue };
            let alternate = self.alternate_of(&exchange.record).unwrap_or_default();
            if let Some(exchange) = self.exchanges.get_mut(name.as_bytes()) {
                exchange.alternate = alternate;
            }
        }
        self.version += 1;
        let mut changed: Vec<_> = self
            .queues
            .values()
            .filter_map(|queue| Some((queue.id, self.settings_of(queue).ok()?)))
            .filter(|(id, settings)| before.get(id).and_then(Option::as_ref) != Some(settings))
            .collect();
        changed.sort_by_key(|(id, _)| *id);
        changed
    }

    /// What a queue's arguments and policies ask for.
    pub fn settings_of(&self, queue: &QueueRecord) -> Result<QueueSettings, AmqpError> {
        let own = QueueSettings::from_arguments(&queue.arguments, &queue.name, &self.name)?;
        if self.policies.is_empty() {
            return Ok(own);
        }
        let target = PolicyTarget::of_queue(own.queue_type);
        Ok(own.under(self.policies.of(target, queue.name.as_bytes())))
    }

    /// The names of the policy and the operator policy that apply to a queue.
    pub fn policies_of_queue(&self, queue: &QueueRecord) -> (Option<&str>, Option<&str>) {
        let target = PolicyTarget::of_queue(QueueType::from_arguments(&queue.arguments).unwrap_or_default());
        let applied = self.policies.of(target, queue.name.as_bytes());
        (applied.regular.map(|policy| policy.name.as_str()), applied.operator.map(|policy| policy.name.as_str()))
    }

    /// The name of the policy that applies to an exchange.
    pub fn policy_of_exchange(&self, name: &ShortString) -> Option<&str> {
        self.policies.of(PolicyTarget::Exchange, name.as_bytes()).regular.map(|policy| policy.name.as_str())
    }

    /// Every queue, in no order.
    pub fn queues(&self) -> impl Iterator<Item = &QueueRecord> {
        self.queues.values()
    }

    /// Every exchange, in no order.
    pub fn exchanges(&self) -> impl Iterator<Item = &ExchangeRecord> {
        self.exchanges.values().map(|exchange| &exchange.record)
    }

    /// Every binding but the default exchange's, by source in no order.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.exchanges.values().flat_map(|exchange| exchange.outbound.values().map(|binding| &**binding))
    }

    /// The type of an exchange.
    pub fn exchange_kind(&self, name: &ShortString) -> Option<&ShortString> {
        self.exchanges.get(name.as_bytes()).map(|exchange| &exchange.record.kind)
    }

    /// Whether an exchange is a topic exchange: its keys may be restricted.
    pub fn is_topic(&self, name: &ShortString) -> bool {
        self.exchange_kind(name).is_some_and(|kind| kind.as_bytes() == b"topic")
    }

    /// Whether the vhost was deleted.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Ends the vhost: removes everything in it.
    pub fn end(&mut self) -> Vec<Change> {
        self.ended = true;
        let mut changes = Vec::new();
        let mut queues: Vec<QueueId> = self.names.keys().copied().collect();
        queues.sort();
        for id in queues {
            changes.extend(self.remove_queue(id).map(|(_, changes)| changes).unwrap_or_default());
        }
        let mut names: Vec<ShortString> = self.exchanges.keys().cloned().collect();
        names.sort();
        for name in names {
            self.remove_exchange(&name, &mut changes);
        }
        changes
    }

    /// Puts back an exchange from the store.
    pub fn restore_exchange(&mut self, record: ExchangeRecord) -> Result<(), AmqpError> {
        let router = Router::new(&record.kind, &record.arguments)?;
        let alternate = self.alternate_of(&record)?;
        self.add_exchange(record, alternate, router, None);
        Ok(())
    }

    fn add_exchange(
        &mut self,
        record: ExchangeRecord,
        alternate: Option<ShortString>,
        router: Router,
        delay_queue: Option<QueueId>,
    ) {
        let exchange = Exchange { record, alternate, router, delay_queue, outbound: BTreeMap::new() };
        self.exchanges.insert(exchange.record.name.clone(), exchange);
    }

    /// The internal queues in which messages wait for delayed-message exchanges, ascending.
    pub fn delay_queues(&self) -> Vec<QueueId> {
        let mut ids: Vec<_> = self.exchanges.values().filter_map(|exchange| exchange.delay_queue).collect();
        ids.sort_unstable();
        ids
    }

    /// Puts back the queue of a delayed-message exchange from the store; false if there is no such exchange.
    pub fn restore_delay_queue(&mut self, record: &QueueRecord) -> bool {
        match self.exchanges.get_mut(record.name.as_bytes()) {
            Some(exchange) if exchange.router.delays() => {
                exchange.delay_queue = Some(record.id);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Puts back a queue from the store.
    pub fn restore_queue(&mut self, record: QueueRecord) {
        self.names.insert(record.id, record.name.clone());
        self.queues.insert(record.name.clone(), record);
    }

    /// Puts back a binding from the store; one without its ends is left out.
    pub fn restore_binding(&mut self, binding: Binding) {
        let there = match &binding.destination {
            Destination::Queue(id) => self.names.contains_key(id),
            Destination::Exchange(name) => self.exchanges.contains_key(name.as_bytes()),
        };
        if there && self.exchanges.contains_key(binding.source.as_bytes()) {
            self.add_binding(binding);
        }
    }

    fn exchange(&self, name: &ShortString) -> Result<&Exchange, AmqpError> {
        self.exchanges.get(name.as_bytes()).ok_or_else(|| self.no_exchange(name))
    }

    fn no_exchange(&self, name: &ShortString) -> AmqpError {
        AmqpError::ExchangeNotFound { exchange: name.clone(), vhost: self.name.clone() }
    }

    fn alternate_of(&self, record: &ExchangeRecord) -> Result<Option<ShortString>, AmqpError> {
        let Some(value) = record.arguments.get("alternate-exchange") else {
            let policy = self.policies.of(PolicyTarget::Exchange, record.name.as_bytes()).regular;
            return Ok(policy.and_then(|policy| policy.definition.alternate_exchange.clone()));
        };
        value.as_long_str().and_then(|name| ShortString::try_from(name).ok()).map(Some).ok_or_else(|| {
            AmqpError::BadArgument(format!(
                "invalid type '{}' for arg 'alternate-exchange' in exchange '{}' in vhost '{}'",
                value.type_name(),
                record.name,
                self.name
            ))
        })
    }

    /// exchange.declare with `passive`.
    pub fn check_exchange(&self, name: &ShortString) -> Result<(), AmqpError> {
        if name.is_empty() {
            return Err(AmqpError::DefaultExchange);
        }
        self.exchange(name).map(|_| ())
    }

    /// exchange.declare (RabbitMQ's order of checks: type, right, equivalence, reserved names, alternate exchange, arguments
    /// of the type). The record is that of a queue in which messages wait, which a new exchange may need; `next_id` names it.
    pub fn declare_exchange(
        &mut self,
        record: ExchangeRecord,
        access: &Access,
        next_id: impl FnOnce() -> QueueId,
    ) -> Result<(Option<QueueRecord>, Vec<Change>), AmqpError> {
        Router::check_type(&record.kind)?;
        if record.name.is_empty() {
            return Err(AmqpError::DefaultExchange);
        }
        access.check(Right::Configure, Resource::Exchange(record.name.as_bytes()))?;
        if let Some(current) = self.exchanges.get(record.name.as_bytes()) {
            self.check_exchange_equivalent(&current.record, &record)?;
            return Ok((None, Vec::new()));
        }
        if record.name.as_bytes().starts_with(b"amq.") {
            return Err(AmqpError::ReservedName { kind: "exchange", name: record.name });
        }
        let alternate = self.alternate_of(&record)?;
        if record.arguments.get("alternate-exchange").is_some()
            && let Some(alternate) = &alternate
        {
            access.check(Right::Read, Resource::Exchange(record.name.as_bytes()))?;
            access.check(Right::Write, Resource::Exchange(alternate.as_bytes()))?;
        }
        let router = Router::new(&record.kind, &record.arguments)?;
        let delay_queue = router.delays().then(|| QueueRecord {
            id: next_id(),
            name: record.name.clone(),
            durable: record.durable,
            auto_delete: false,
            exclusive_owner: None,
            arguments: FieldTable::new(),
            delays: true,
        });
        self.add_exchange(record.clone(), alternate, router, delay_queue.as_ref().map(|queue| queue.id));
        self.version += 1;
        let mut changes = Vec::new();
        if record.durable {
            changes.push(Change::ExchangeAdded(record));
            changes.extend(delay_queue.clone().map(Change::QueueAdded));
        }
        Ok((delay_queue, changes))
    }

    /// Internal queues whose exchange is gone since the last call: they have to go, too.
    pub fn take_orphans(&mut self) -> Vec<QueueId> {
        std::mem::take(&mut self.orphans)
    }

    fn check_exchange_equivalent(&self, current: &ExchangeRecord, received: &ExchangeRecord) -> Result<(), AmqpError> {
        let entity = format!("exchange '{}' in vhost '{}'", received.name, self.name);
        let fields = [
            ("type", received.kind.to_string(), current.kind.to_string()),
            ("durable", received.durable.to_string(), current.durable.to_string()),
            ("auto_delete", received.auto_delete.to_string(), current.auto_delete.to_string()),
            ("internal", received.internal.to_string(), current.internal.to_string()),
        ];
        for (field, received, current) in fields {
            check_same(field, &entity, &received, &current)?;
        }
        let key = "alternate-exchange";
        compare_argument(current.arguments.get(key), received.arguments.get(key), key, &entity)
    }

    /// exchange.delete; a missing exchange is no error.
    pub fn delete_exchange(
        &mut self,
        name: &ShortString,
        if_unused: bool,
        access: &Access,
    ) -> Result<Vec<Change>, AmqpError> {
        if name.is_empty() {
            return Err(AmqpError::DefaultExchange);
        }
        if name.as_bytes().starts_with(b"amq.") {
            return Err(AmqpError::SystemExchange { exchange: name.clone(), vhost: self.name.clone() });
        }
        access.check(Right::Configure, Resource::Exchange(name.as_bytes()))?;
        let Some(exchange) = self.exchanges.get(name.as_bytes()) else { return Ok(Vec::new()) };
        if if_unused && !exchange.outbound.is_empty() {
            return Err(AmqpError::ExchangeInUse { exchange: name.clone(), vhost: self.name.clone() });
        }
        let mut changes = Vec::new();
        self.remove_exchange(name, &mut changes);
        Ok(changes)
    }

    /// Removes an exchange with its bindings, and the auto-delete exchanges that lose their last one by it.
    fn remove_exchange(&mut self, name: &ShortString, changes: &mut Vec<Change>) {
        let mut doomed = vec![name.clone()];
        while let Some(name) = doomed.pop() {
            let Some(exchange) = self.exchanges.remove(name.as_bytes()) else { continue };
            self.version += 1;
            if let Some(queue) = exchange.delay_queue {
                self.orphans.push(queue);
                if exchange.record.durable {
                    changes.push(Change::QueueRemoved(queue));
                }
            }
            for ((destination, identity), binding) in exchange.outbound {
                if let Some(inbound) = self.inbound.get_mut(&destination) {
                    inbound.remove(&identity);
                    if inbound.is_empty() {
                        self.inbound.remove(&destination);
                    }
                }
                // The destination may be the exchange itself, which is not in the map any more.
                let itself = matches!(&destination, Destination::Exchange(onward) if *onward == name);
                if exchange.record.durable && (itself || self.is_durable(&destination)) {
                    changes.push(Change::BindingRemoved(binding));
                }
            }
            self.drop_inbound(&Destination::Exchange(name.clone()), exchange.record.durable, &mut doomed, changes);
            if exchange.record.durable {
                changes.push(Change::ExchangeRemoved(name));
            }
        }
    }

    /// Removes every binding to a destination that goes away; auto-delete sources left without bindings are doomed.
    fn drop_inbound(
        &mut self,
        destination: &Destination,
        durable: bool,
        doomed: &mut Vec<ShortString>,
        changes: &mut Vec<Change>,
    ) {
        for (identity, binding) in self.inbound.remove(destination).unwrap_or_default() {
            let Some(source) = self.exchanges.get_mut(binding.source.as_bytes()) else { continue };
            source.router.unbind(&binding.routing_key, &binding.arguments, destination);
            source.outbound.remove(&(destination.clone(), identity));
            if source.record.auto_delete && source.outbound.is_empty() {
                doomed.push(source.record.name.clone());
            }
            if durable && source.record.durable {
                changes.push(Change::BindingRemoved(binding));
            }
        }
    }

    fn is_durable(&self, destination: &Destination) -> bool {
        match destination {
            Destination::Queue(id) => {
                self.names.get(id).and_then(|name| self.queues.get(name.as_bytes())).is_some_and(|queue| queue.durable)
            }
            Destination::Exchange(name) => {
                self.exchanges.get(name.as_bytes()).is_some_and(|exchange| exchange.record.durable)
            }
        }
    }

    /// Finds a queue for a connection: it must exist and not be another connection's.
    pub fn queue(&self, name: &ShortString, connection: ConnectionId) -> Result<&QueueRecord, AmqpError> {
        let queue = self
            .queues
            .get(name.as_bytes())
            .ok_or_else(|| AmqpError::QueueNotFound { queue: name.clone(), vhost: self.name.clone() })?;
        match queue.exclusive_owner {
            Some(owner) if owner != connection => Err(self.locked(name)),
            _ => Ok(queue),
        }
    }

    /// The queue of a name, whoever may use it.
    pub fn queue_id(&self, name: &ShortString) -> Option<QueueId> {
        self.queues.get(name.as_bytes()).map(|queue| queue.id)
    }

    /// A queue by its number.
    pub fn queue_by_id(&self, id: QueueId) -> Option<&QueueRecord> {
        self.queues.get(self.names.get(&id)?.as_bytes())
    }

    fn locked(&self, name: &ShortString) -> AmqpError {
        AmqpError::QueueLocked { queue: name.clone(), vhost: self.name.clone() }
    }

    /// queue.declare (RabbitMQ's order of checks). `next_id` numbers a new queue or refuses it.
    pub fn declare_queue(
        &mut self,
        mut declaration: QueueDeclaration,
        connection: ConnectionId,
        access: &Access,
        next_id: impl FnOnce() -> Result<QueueId, AmqpError>,
    ) -> Result<(Declared, Vec<Change>), AmqpError> {
        self.default_type(&mut declaration);
        let name = declaration.name;
        if name.as_bytes().starts_with(b"amq.") && !declaration.server_named {
            return Err(AmqpError::ReservedName { kind: "queue", name });
        }
        access.check(Right::Configure, Resource::Queue(name.as_bytes()))?;
        // An exclusive queue ends with its connection, so it is never durable (RabbitMQ does the same).
        let durable = declaration.durable && !declaration.exclusive;
        if let Some(current) = self.queues.get(name.as_bytes()) {
            let owned = current.exclusive_owner == Some(connection);
            if current.exclusive_owner.is_some() != declaration.exclusive || (declaration.exclusive && !owned) {
                return Err(self.locked(&name));
            }
            let entity = format!("queue '{name}' in vhost '{}'", self.name);
            check_same("durable", &entity, &durable.to_string(), &current.durable.to_string())?;
            let (received, has) = (declaration.auto_delete.to_string(), current.auto_delete.to_string());
            check_same("auto_delete", &entity, &received, &has)?;
            check_equivalent(&current.arguments, &declaration.arguments, &name, &self.name)?;
            return Ok((Declared::Existed(current.id), Vec::new()));
        }
        let own_dead_letter_exchange = declaration.arguments.get("x-dead-letter-exchange");
        if let Some(exchange) = own_dead_letter_exchange.and_then(FieldValue::as_long_str) {
            access.check(Right::Read, Resource::Queue(name.as_bytes()))?;
            access.check(Right::Write, Resource::Exchange(exchange))?;
        }
        let QueueDeclaration { durable: wants_durable, exclusive, auto_delete, .. } = declaration;
        let mut record = QueueRecord {
            id: QueueId::new(0),
            name,
            durable,
            auto_delete: declaration.auto_delete,
            exclusive_owner: declaration.exclusive.then_some(connection),
            arguments: declaration.arguments,
            delays: false,
        };
        let settings = self.settings_of(&record)?;
        settings.queue_type.check_properties(wants_durable, exclusive, auto_delete, &record.name, &self.name)?;
        if let Some(max) = self.max_queues
            && self.queues.len() as u64 >= max
        {
            return Err(AmqpError::BadArgument(format!(
                "cannot declare queue '{}': queue limit in vhost '{}' ({max}) is reached",
                record.name, self.name
            )));
        }
        record.id = next_id()?;
        let id = record.id;
        self.version += 1;
        self.restore_queue(record.clone());
        let changes = if durable { vec![Change::QueueAdded(record)] } else { Vec::new() };
        Ok((Declared::Created(id, Box::new(settings)), changes))
    }

    /// Fills in the vhost's default type where the client names none and the other properties allow it.
    fn default_type(&self, declaration: &mut QueueDeclaration) {
        if self.default_queue_type != QueueType::Classic
            && declaration.arguments.get("x-queue-type").is_none()
            && declaration.durable
            && !declaration.exclusive
            && !declaration.auto_delete
            && !declaration.server_named
        {
            declaration.arguments.push(
                ShortString::from_static("x-queue-type"),
                long_string(self.default_queue_type.as_str().as_bytes()),
            );
        }
    }

    /// Removes a queue with its bindings. `None` when it is gone already.
    pub fn remove_queue(&mut self, id: QueueId) -> Option<(QueueRecord, Vec<Change>)> {
        let name = self.names.remove(&id)?;
        let queue = self.queues.remove(name.as_bytes())?;
        self.version += 1;
        let mut changes = Vec::new();
        let mut doomed = Vec::new();
        self.drop_inbound(&Destination::Queue(id), queue.durable, &mut doomed, &mut changes);
        for exchange in doomed {
            self.remove_exchange(&exchange, &mut changes);
        }
        if queue.durable {
            changes.push(Change::QueueRemoved(id));
        }
        Some((queue, changes))
    }

    /// Refuses a binding key that the user may not read at a topic exchange.
    pub fn check_binding_key(&self, access: &Access, source: &ShortString, key: &ShortString) -> Result<(), AmqpError> {
        if self.is_topic(source) { access.check_topic(Right::Read, source.as_bytes(), key.as_bytes()) } else { Ok(()) }
    }

    /// queue.bind and exchange.bind, after the destination was found.
    pub fn bind(&mut self, binding: Binding) -> Result<Vec<Change>, AmqpError> {
        let source = self.exchange(&binding.source)?;
        let destination = match &binding.destination {
            Destination::Queue(id) => {
                let kind = self.queue_by_id(*id).and_then(|queue| QueueType::from_arguments(&queue.arguments));
                BoundTo::Queue(kind.unwrap_or_default())
            }
            Destination::Exchange(_) => BoundTo::Exchange,
        };
        source.router.check_binding(&binding.routing_key, &binding.arguments, destination)?;
        Ok(self.add_binding(binding).into_iter().collect())
    }

    fn add_binding(&mut self, binding: Binding) -> Option<Change> {
        let identity = binding.identity();
        let durable = self.is_durable(&binding.destination);
        let source = self.exchanges.get_mut(binding.source.as_bytes())?;
        let inbound = self.inbound.entry(binding.destination.clone()).or_default();
        if inbound.contains_key(&identity) {
            return None;
        }
        let binding = Arc::new(binding);
        source.router.bind(&binding.routing_key, &binding.arguments, &binding.destination);
        source.outbound.insert((binding.destination.clone(), identity.clone()), binding.clone());
        inbound.insert(identity, binding.clone());
        self.version += 1;
        (durable && source.record.durable).then_some(Change::BindingAdded(binding))
    }

    /// queue.unbind and exchange.unbind; what is not there needs no unbinding.
    pub fn unbind(&mut self, binding: &Binding) -> Vec<Change> {
        let identity = binding.identity();
        let Some(inbound) = self.inbound.get_mut(&binding.destination) else { return Vec::new() };
        let Some(removed) = inbound.remove(&identity) else { return Vec::new() };
        if inbound.is_empty() {
            self.inbound.remove(&binding.destination);
        }
        self.version += 1;
        let durable = self.is_durable(&binding.destination);
        let mut changes = Vec::new();
        let mut doomed = None;
        if let Some(source) = self.exchanges.get_mut(binding.source.as_bytes()) {
            source.router.unbind(&removed.routing_key, &removed.arguments, &removed.destination);
            source.outbound.remove(&(removed.destination.clone(), identity));
            if source.record.auto_delete && source.outbound.is_empty() {
                doomed = Some(source.record.name.clone());
            }
            if durable && source.record.durable {
                changes.push(Change::BindingRemoved(removed));
            }
        }
        if let Some(name) = doomed {
            self.remove_exchange(&name, &mut changes);
        }
        changes
    }

    /// Whether there is such a binding.
    pub fn is_bound(&self, binding: &Binding) -> bool {
        self.inbound.get(&binding.destination).is_some_and(|inbound| inbound.contains_key(&binding.identity()))
    }

    /// Checks that both ends of a binding exist and may be used; names the exchange first, as RabbitMQ does.
    pub fn resolve_queue_binding(
        &self,
        queue: &ShortString,
        exchange: &ShortString,
        connection: ConnectionId,
    ) -> Result<QueueId, AmqpError> {
        if exchange.is_empty() {
            return Err(AmqpError::DefaultExchange);
        }
        self.exchange(exchange)?;
        self.queue(queue, connection).map(|queue| queue.id)
    }

    /// The same for a binding between exchanges.
    pub fn resolve_exchange_binding(&self, destination: &ShortString, source: &ShortString) -> Result<(), AmqpError> {
        if source.is_empty() || destination.is_empty() {
            return Err(AmqpError::DefaultExchange);
        }
        self.exchange(source)?;
        self.exchange(destination).map(|_| ())
    }
}

fn check_same(field: &str, entity: &str, received: &str, current: &str) -> Result<(), AmqpError> {
    if received == current {
        return Ok(());
    }
    Err(AmqpError::Inequivalent(format!(
        "inequivalent arg '{field}' for {entity}: received '{received}' but current is '{current}'"
    )))
}

/// A long string value.
pub fn long_string(octets: &[u8]) -> FieldValue {
    FieldValue::LongString(octets.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::exchange::Routing;

    const ME: ConnectionId = ConnectionId::new(1);

    fn name(text: &'static str) -> ShortString {
        ShortString::from_static(text)
    }

    fn exchange(text: &'static str, kind: &'static str, auto_delete: bool) -> ExchangeRecord {
        ExchangeRecord {
            name: name(text),
            kind: name(kind),
            durable: true,
            auto_delete,
            internal: false,
            arguments: FieldTable::new(),
        }
    }

    fn queue(text: &'static str) -> QueueDeclaration {
        QueueDeclaration {
            name: name(text),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::new(),
            server_named: false,
        }
    }

    fn declare(vhost: &mut Vhost, text: &'static str, number: u64) -> QueueId {
        let (declared, changes) =
            vhost.declare_queue(queue(text), ME, &Access::unlimited(), || Ok(QueueId::new(number))).expect("declared");
        assert_eq!(changes.len(), 1);
        match declared {
            Declared::Created(id, _) | Declared::Existed(id) => id,
        }
    }

    fn bind(vhost: &mut Vhost, source: &'static str, destination: Destination, key: &'static str) {
        let (source, routing_key) = (name(source), name(key));
        vhost.bind(Binding { source, destination, routing_key, arguments: FieldTable::new() }).expect("bound");
    }

    fn routed(vhost: &Vhost, exchange: &'static str, key: &str) -> Vec<u64> {
        let keys = [key.as_bytes()];
        let route = vhost.route_publish(&name(exchange), &Routing::new(&keys, &[0, 0], 0)).expect("exchange");
        route.queues.into_iter().map(QueueId::get).collect()
    }

    #[test]
    fn the_default_exchange_routes_by_queue_name() {
        let mut vhost = Vhost::new(name("/"));
        declare(&mut vhost, "q", 7);
        assert_eq!(routed(&vhost, "", "q"), [7]);
        assert_eq!(routed(&vhost, "", "other"), [0_u64; 0]);
    }

    #[test]
    fn cycles_of_exchanges_end_and_each_queue_gets_one_copy() {
        let mut vhost = Vhost::new(name("/"));
        for exchange_name in ["x1", "x2"] {
            vhost
                .declare_exchange(exchange(exchange_name, "fanout", false), &Access::unlimited(), || QueueId::new(99))
                .expect("declared");
        }
        let id = declare(&mut vhost, "q", 1);
        bind(&mut vhost, "x1", Destination::Exchange(name("x2")), "");
        bind(&mut vhost, "x2", Destination::Exchange(name("x1")), "");
        bind(&mut vhost, "x1", Destination::Exchange(name("x1")), "");
        bind(&mut vhost, "x1", Destination::Queue(id), "a");
        bind(&mut vhost, "x2", Destination::Queue(id), "b");
        assert_eq!(routed(&vhost, "x1", "k"), [1]);
    }

    #[test]
    fn a_chain_of_auto_delete_exchanges_goes_with_its_last_queue() {
        let mut vhost = Vhost::new(name("/"));
        for exchange_name in ["a", "b"] {
            vhost
                .declare_exchange(exchange(exchange_name, "fanout", true), &Access::unlimited(), || QueueId::new(99))
                .expect("declared");
        }
        let id = declare(&mut vhost, "q", 1);
        bind(&mut vhost, "a", Destination::Exchange(name("b")), "");
        bind(&mut vhost, "b", Destination::Queue(id), "");
        let (_, changes) = vhost.remove_queue(id).expect("there");
        assert!(vhost.check_exchange(&name("a")).is_err() && vhost.check_exchange(&name("b")).is_err());
        assert_eq!(changes.iter().filter(|change| matches!(change, Change::BindingRemoved(_))).count(), 2);
        assert!(vhost.inbound.is_empty());
    }

    #[test]
    fn an_exchange_bound_to_itself_takes_the_binding_along() {
        let mut vhost = Vhost::new(name("/"));
        let access = Access::unlimited();
        vhost.declare_exchange(exchange("x", "fanout", false), &access, || QueueId::new(99)).expect("declared");
        bind(&mut vhost, "x", Destination::Exchange(name("x")), "");
        let changes = vhost.delete_exchange(&name("x"), false, &access).expect("deleted");
        // The store forgets it: it must not be back when another exchange gets the name.
        assert_eq!(changes.iter().filter(|change| matches!(change, Change::BindingRemoved(_))).count(), 1);
        assert_eq!(changes.iter().filter(|change| matches!(change, Change::ExchangeRemoved(_))).count(), 1);
    }

    #[test]
    fn the_alternate_exchange_gets_what_matches_nothing() {
        let mut vhost = Vhost::new(name("/"));
        vhost
            .declare_exchange(exchange("ae", "fanout", false), &Access::unlimited(), || QueueId::new(99))
            .expect("declared");
        let arguments = [(name("alternate-exchange"), long_string(b"ae"))].into_iter().collect();
        vhost
            .declare_exchange(
                ExchangeRecord { arguments, ..exchange("x", "direct", false) },
                &Access::unlimited(),
                || QueueId::new(99),
            )
            .expect("declared");
        let (caught, bound) = (declare(&mut vhost, "caught", 1), declare(&mut vhost, "bound", 2));
        bind(&mut vhost, "ae", Destination::Queue(caught), "");
        bind(&mut vhost, "x", Destination::Queue(bound), "k");
        assert_eq!((routed(&vhost, "x", "k"), routed(&vhost, "x", "z")), (vec![2], vec![1]));
    }

    #[test]
    fn a_binding_made_twice_goes_with_one_unbind() {
        let mut vhost = Vhost::new(name("/"));
        let id = declare(&mut vhost, "q", 1);
        let binding = Binding {
            source: name("amq.direct"),
            destination: Destination::Queue(id),
            routing_key: name("k"),
            arguments: FieldTable::new(),
        };
        assert_eq!(vhost.bind(binding.clone()).map(|changes| changes.len()), Ok(1));
        assert_eq!(vhost.bind(binding.clone()).map(|changes| changes.len()), Ok(0));
        assert_eq!(vhost.unbind(&binding).len(), 1);
        assert_eq!(routed(&vhost, "amq.direct", "k"), [0_u64; 0]);
    }

    #[test]
    fn an_exclusive_queue_is_locked_for_others() {
        let mut vhost = Vhost::new(name("/"));
        let exclusive = QueueDeclaration { exclusive: true, ..queue("q") };
        vhost.declare_queue(exclusive, ME, &Access::unlimited(), || Ok(QueueId::new(1))).expect("declared");
        let other = ConnectionId::new(2);
        assert!(matches!(vhost.queue(&name("q"), other), Err(AmqpError::QueueLocked { .. })));
        let redeclared = vhost.declare_queue(queue("q"), ME, &Access::unlimited(), || Ok(QueueId::new(2)));
        assert!(matches!(redeclared, Err(AmqpError::QueueLocked { .. })));
    }
}
