//! Definitions out of and into a running broker.
//!
//! An import adds and changes; it removes nothing. It stops at the first thing that cannot be taken, and says what that
//! is; what came before it stays. A queue, exchange or binding that exists already stays as it is; a binding whose source or
//! destination is missing is left out. Both are told.

use std::sync::Arc;

use leveret_protocol::{FieldTable, FieldValue, ReplyCode, ShortString};
use serde::{Deserialize, Serialize};

use super::{Operator, OperatorError};
use crate::definitions::{
    BindingDefinition, Definitions, ExchangeDefinition, Parameter, QueueDefinition, VhostDefinition, from_json, to_json,
};
use crate::engine::directory::{Access, Record};
use crate::engine::exchange::Destination;
use crate::engine::vhost::{Binding, ConnectionId, ExchangeRecord, QueueDeclaration, QueueRecord};
use crate::server::clock;
use crate::server::registry::VhostCell;
use crate::store::Waiter;

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Imported {
    /// How many entities were taken in.
    pub(crate) taken: u64,
    /// What was left as it is, although the definitions have it otherwise; and bindings of what is not there.
    pub(crate) kept: Vec<String>,
}

/// Nobody waits for the single steps: the whole import is waited for.
#[derive(Debug)]
struct Nobody;

impl Waiter for Nobody {
    fn wake(&self) {}
}

/// No connection's number: what is imported is nobody's.
const NOBODY: ConnectionId = ConnectionId::new(0);

impl Operator {
    /// Everything but messages, and but what ends with a connection. Transient queues and exchanges are in it, as in
    /// RabbitMQ's.
    pub(crate) fn export(&self) -> Definitions {
        let identity = &self.registry.config.identity;
        let mut definitions = Definitions {
            rabbit_version: Some(identity.version.clone()),
            rabbitmq_version: Some(identity.version.clone()),
            product_name: Some("Leveret".to_owned()),
            product_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ..Definitions::default()
        };
        self.directory(|directory| {
            definitions.users = directory.users().cloned().collect();
            definitions.vhosts = directory.vhosts().map(VhostDefinition::of).collect();
            definitions.permissions = directory.permissions().cloned().collect();
            definitions.topic_permissions = directory.topic_permissions().cloned().collect();
            definitions.global_parameters = directory.global_parameters().cloned().collect();
            definitions.set_policies(directory.policies());
            definitions.set_parameters(directory.parameters(), directory.operator_policies(), directory.vhosts());
        });
        let mut vhosts = self.registry.vhost_cells();
        vhosts.sort_by(|a, b| a.name.cmp(&b.name));
        for vhost in vhosts {
            export_topology(&vhost, &mut definitions);
        }
        definitions
    }

    /// Takes definitions in; what names no vhost belongs to `vhost`.
    pub(crate) async fn import(&self, definitions: Definitions, vhost: &str) -> Result<Imported, OperatorError> {
        let mut imported = Imported::default();
        let taken = self.import_all(definitions, vhost, &mut imported);
        // What was taken before a mistake is on disk too when the mistake is told.
        self.registry.flushed().await;
        taken.map(|()| imported)
    }

    fn import_all(&self, all: Definitions, vhost: &str, imported: &mut Imported) -> Result<(), OperatorError> {
        let policies = all.policies(vhost);
        let parameters = all.parameters(vhost).map_err(|cause| OperatorError::Invalid(cause.to_string()))?;
        for user in all.users {
            let what = format!("user '{}'", user.name);
            self.take(Record::User(user), &what, imported)?;
        }
        for definition in all.vhosts {
            let what = format!("vhost '{}'", definition.name);
            let mut record = definition.into_record();
            // Its limits come as a parameter, or not at all.
            if let Ok(there) = self.check_vhost(&record.name) {
                record.limits = there.limits;
                record.protected_from_deletion |= there.protected_from_deletion;
            }
            self.take(Record::Vhost(record), &what, imported)?;
        }
        for record in all.permissions {
            let what = format!("permissions of user '{}' in vhost '{}'", record.user, record.vhost);
            self.take(Record::Permission(record), &what, imported)?;
        }
        for record in all.topic_permissions {
            let (user, exchange) = (&record.user, &record.exchange);
            let what = format!("topic permissions of user '{user}' at '{exchange}' in vhost '{}'", record.vhost);
            self.take(Record::TopicPermission(record), &what, imported)?;
        }
        for parameter in parameters {
            self.import_parameter(parameter, imported)?;
        }
        for record in all.global_parameters {
            let what = format!("global parameter '{}'", record.name);
            self.take(Record::GlobalParameter(record), &what, imported)?;
        }
        for record in policies {
            let what = format!("policy '{}' in vhost '{}'", record.name, record.vhost);
            self.take(Record::Policy(record), &what, imported)?;
        }
        let access = Access::unlimited();
        for exchange in &all.exchanges {
            self.import_exchange(exchange, vhost, &access, imported)?;
        }
        for queue in all.queues {
            self.import_queue(queue, vhost, &access, imported)?;
        }
        for binding in &all.bindings {
            self.import_binding(binding, vhost, imported)?;
        }
        Ok(())
    }

    fn take(&self, record: Record, what: &str, imported: &mut Imported) -> Result<(), OperatorError> {
        self.registry.put_record(record).map_err(|cause| wrong(what, &cause))?;
        imported.taken += 1;
        Ok(())
    }

    fn import_parameter(&self, parameter: Parameter, imported: &mut Imported) -> Result<(), OperatorError> {
        match parameter {
            Parameter::OperatorPolicy(record) => {
                let what = format!("operator policy '{}' in vhost '{}'", record.name, record.vhost);
                self.take(Record::OperatorPolicy(record), &what, imported)
            }
            Parameter::Limits { vhost, limits } => {
                let changed = self.registry.change_vhost(&vhost, |record| record.limits = limits);
                changed.map_err(|cause| wrong(&format!("limits of vhost '{vhost}'"), &cause))?;
                imported.taken += 1;
                Ok(())
            }
            Parameter::Plain(record) => {
                let what = format!("parameter '{}' of '{}' in vhost '{}'", record.name, record.component, record.vhost);
                self.take(Record::Parameter(record), &what, imported)
            }
        }
    }

    fn import_exchange(
        &self,
        definition: &ExchangeDefinition,
        vhost: &str,
        access: &Access,
        imported: &mut Imported,
    ) -> Result<(), OperatorError> {
        let vhost_name = definition.vhost.as_deref().unwrap_or(vhost);
        let what = format!("exchange '{}' in vhost '{vhost_name}'", definition.name);
        let vhost = self.vhost(vhost_name).map_err(|cause| wrong(&what, &cause))?;
        let record = ExchangeRecord {
            name: short(&definition.name, &what)?,
            kind: short(&definition.kind, &what)?,
            durable: definition.durable,
            auto_delete: definition.auto_delete,
            internal: definition.internal,
            arguments: from_json(&definition.arguments).map_err(|cause| wrong(&what, &cause))?,
        };
        let there = vhost.state.read().exchange_record(record.name.as_bytes()).cloned();
        if let Some(there) = there {
            let same = (&there.kind, there.durable, there.auto_delete, there.internal)
                == (&record.kind, record.durable, record.auto_delete, record.internal)
                && to_json(&there.arguments) == definition.arguments;
            imported.found(same, what);
            return Ok(());
        }
        let waiter: Arc<dyn Waiter> = Arc::new(Nobody);
        let declared = self.registry.declare_exchange(&vhost, record, access, clock::now(), &waiter);
        declared.map_err(|cause| wrong(&what, &cause))?;
        imported.taken += 1;
        Ok(())
    }

    fn import_queue(
        &self,
        definition: QueueDefinition,
        vhost: &str,
        access: &Access,
        imported: &mut Imported,
    ) -> Result<(), OperatorError> {
        let vhost_name = definition.vhost.as_deref().unwrap_or(vhost);
        let what = format!("queue '{}' in vhost '{vhost_name}'", definition.name);
        let vhost = self.vhost(vhost_name).map_err(|cause| wrong(&what, &cause))?;
        let mut arguments = from_json(&definition.arguments).map_err(|cause| wrong(&what, &cause))?;
        if let Some(kind) = definition.kind.filter(|kind| !matches!(kind.as_str(), "" | "classic" | "undefined"))
            && arguments.get("x-queue-type").is_none()
        {
            let kind = kind.as_bytes().try_into().map_err(|_| wrong(&what, &"its type is too long"))?;
            arguments.push(ShortString::from_static("x-queue-type"), FieldValue::LongString(kind));
        }
        let name = short(&definition.name, &what)?;
        let there = vhost.state.read().queue_record(name.as_bytes()).cloned();
        if let Some(there) = there {
            let same = (there.durable, there.auto_delete) == (definition.durable, definition.auto_delete)
                && same_arguments(&there.arguments, &arguments);
            imported.found(same, what);
            return Ok(());
        }
        let declaration = QueueDeclaration {
            name,
            durable: definition.durable,
            exclusive: false,
            auto_delete: definition.auto_delete,
            arguments,
            // Names that a broker made may be in definitions too.
            server_named: true,
        };
        let waiter: Arc<dyn Waiter> = Arc::new(Nobody);
        let declared = self.registry.declare_queue(&vhost, declaration, NOBODY, access, clock::now(), &waiter);
        declared.map_err(|cause| wrong(&what, &cause))?;
        imported.taken += 1;
        Ok(())
    }

    fn import_binding(
        &self,
        definition: &BindingDefinition,
        vhost: &str,
        imported: &mut Imported,
    ) -> Result<(), OperatorError> {
        let vhost_name = definition.vhost.as_deref().unwrap_or(vhost);
        let BindingDefinition { source, destination, destination_type, routing_key, .. } = definition;
        let what =
            format!("binding of {destination_type} '{destination}' to exchange '{source}' in vhost '{vhost_name}'");
        let vhost = self.vhost(vhost_name).map_err(|cause| wrong(&what, &cause))?;
        let (source, destination) = (short(source, &what)?, short(destination, &what)?);
        let routing_key = short(routing_key, &what)?;
        let arguments = from_json(&definition.arguments).map_err(|cause| wrong(&what, &cause))?;
        let to_queue = match destination_type.as_str() {
            "queue" => true,
            "exchange" => false,
            other => return Err(wrong(&what, &format!("there are no destinations of type '{other}'"))),
        };
        let waiter: Arc<dyn Waiter> = Arc::new(Nobody);
        let bound = self.registry.define(&vhost, &waiter, |state| {
            let destination = if to_queue {
                Destination::Queue(state.resolve_queue_binding(&destination, &source, NOBODY)?)
            } else {
                state.resolve_exchange_binding(&destination, &source)?;
                Destination::Exchange(destination)
            };
            Ok(((), state.bind(Binding { source, destination, routing_key, arguments })?))
        });
        match bound {
            Ok(_) => imported.taken += 1,
            // `rabbitmqctl` of 3.10 exports the bindings of internal exchanges without these exchanges.
            Err(cause) if cause.code() == ReplyCode::NOT_FOUND => imported.kept.push(format!("{what}: {cause}")),
            Err(cause) => return Err(wrong(&what, &cause)),
        }
        Ok(())
    }
}

impl Imported {
    /// Something of that name is there.
    fn found(&mut self, same: bool, what: String) {
        if same {
            self.taken += 1;
        } else {
            self.kept.push(what);
        }
    }
}

fn wrong(what: &str, cause: &impl std::fmt::Display) -> OperatorError {
    OperatorError::Invalid(format!("{what}: {cause}"))
}

fn short(text: &str, what: &str) -> Result<ShortString, OperatorError> {
    ShortString::try_from(text).map_err(|_| wrong(what, &"a name has at most 255 octets"))
}

/// Equal but for the width of numbers, which JSON does not know.
fn same_arguments(a: &FieldTable, b: &FieldTable) -> bool {
    to_json(a) == to_json(b)
}

/// What is in a vhost, but for what every vhost has and for exclusive queues.
fn export_topology(vhost: &VhostCell, definitions: &mut Definitions) {
    let state = vhost.state.read();
    let vhost = || Some(vhost.name.to_string());
    let own = |name: &ShortString| !name.is_empty() && !name.as_bytes().starts_with(b"amq.");
    let shared = |queue: &QueueRecord| queue.exclusive_owner.is_none() && !queue.delays;
    for queue in state.sorted_queues().into_iter().filter(|queue| shared(queue)) {
        let kind = crate::engine::queue::QueueType::from_arguments(&queue.arguments).unwrap_or_default();
        definitions.queues.push(QueueDefinition {
            name: queue.name.to_string(),
            vhost: vhost(),
            durable: queue.durable,
            auto_delete: queue.auto_delete,
            kind: Some(kind.as_str().to_owned()),
            arguments: to_json(&queue.arguments),
        });
    }
    for exchange in state.sorted_exchanges().into_iter().filter(|exchange| own(&exchange.name)) {
        definitions.exchanges.push(ExchangeDefinition {
            name: exchange.name.to_string(),
            vhost: vhost(),
            kind: exchange.kind.to_string(),
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: to_json(&exchange.arguments),
        });
    }
    for binding in state.sorted_bindings() {
        let Some(destination) = state.destination_name(&binding.destination) else { continue };
        let (exported, kind) = match &binding.destination {
            Destination::Queue(id) => (state.queue_by_id(*id).is_some_and(shared), "queue"),
            Destination::Exchange(_) => (true, "exchange"),
        };
        if exported {
            definitions.bindings.push(BindingDefinition {
                source: binding.source.to_string(),
                vhost: vhost(),
                destination: destination.to_string(),
                destination_type: kind.to_owned(),
                routing_key: binding.routing_key.to_string(),
                arguments: to_json(&binding.arguments),
            });
        }
    }
}
