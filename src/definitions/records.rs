//! The records that have another shape in definitions than in the broker.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::Parameter;
use super::files::DefinitionsError;
use crate::engine::directory::{ParameterRecord, PolicyRecord, User, VhostRecord};

/// The component under which RabbitMQ keeps operator policies.
const OPERATOR_POLICY: &str = "operator_policy";
/// The component under which RabbitMQ keeps the limits of a vhost.
const LIMITS: &str = "vhost-limits";

/// A vhost. Releases differ in where they put what is said of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VhostDefinition {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_queue_type: Option<String>,
    #[serde(default)]
    pub(crate) metadata: VhostMetadata,
}

/// The same in the form of later releases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct VhostMetadata {
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_queue_type: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) protected_from_deletion: bool,
}

impl VhostDefinition {
    /// A record in both forms.
    pub(crate) fn of(record: &VhostRecord) -> Self {
        let VhostRecord { name, description, tags, default_queue_type, .. } = record.clone();
        let metadata = VhostMetadata {
            description: description.clone(),
            tags: tags.clone(),
            default_queue_type: default_queue_type.clone(),
            protected_from_deletion: record.protected_from_deletion,
        };
        Self { name, description, tags, default_queue_type, metadata }
    }

    /// The record, without limits, which come as a parameter.
    pub(crate) fn into_record(self) -> VhostRecord {
        let Self { name, description, tags, default_queue_type, metadata } = self;
        let kind = default_queue_type.or(metadata.default_queue_type);
        VhostRecord {
            name,
            description: if description.is_empty() { metadata.description } else { description },
            tags: if tags.is_empty() { metadata.tags } else { tags },
            default_queue_type: kind.filter(|kind| !matches!(kind.as_str(), "" | "undefined")),
            protected_from_deletion: metadata.protected_from_deletion,
            ..VhostRecord::default()
        }
    }
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct QueueDefinition {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vhost: Option<String>,
    #[serde(default = "truth")]
    pub(crate) durable: bool,
    #[serde(default)]
    pub(crate) auto_delete: bool,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) arguments: Map<String, Value>,
}

/// An exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExchangeDefinition {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vhost: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default = "truth")]
    pub(crate) durable: bool,
    #[serde(default)]
    pub(crate) auto_delete: bool,
    #[serde(default)]
    pub(crate) internal: bool,
    #[serde(default)]
    pub(crate) arguments: Map<String, Value>,
}

/// A binding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BindingDefinition {
    pub(crate) source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vhost: Option<String>,
    pub(crate) destination: String,
    pub(crate) destination_type: String,
    #[serde(default)]
    pub(crate) routing_key: String,
    #[serde(default)]
    pub(crate) arguments: Map<String, Value>,
}

const fn truth() -> bool {
    true
}

/// A policy whose vhost may be said elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScopedPolicy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vhost: Option<String>,
    name: String,
    pattern: String,
    #[serde(rename = "apply-to", default = "everything")]
    apply_to: String,
    #[serde(default)]
    priority: i64,
    definition: Map<String, Value>,
}

fn everything() -> String {
    "all".to_owned()
}

impl ScopedPolicy {
    pub(super) fn of(policy: &PolicyRecord) -> Self {
        let PolicyRecord { vhost, name, pattern, apply_to, priority, definition } = policy.clone();
        Self { vhost: Some(vhost), name, pattern, apply_to, priority, definition }
    }

    pub(super) fn scoped(self, vhost: &str) -> PolicyRecord {
        let Self { vhost: own, name, pattern, apply_to, priority, definition } = self;
        PolicyRecord { vhost: own.unwrap_or_else(|| vhost.to_owned()), name, pattern, apply_to, priority, definition }
    }
}

/// A parameter whose vhost may be said elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScopedParameter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vhost: Option<String>,
    component: String,
    name: String,
    value: Value,
}

impl ScopedParameter {
    pub(super) fn of(parameter: &ParameterRecord) -> Self {
        let ParameterRecord { value, vhost, component, name } = parameter.clone();
        Self { vhost: Some(vhost), component, name, value }
    }

    pub(super) fn of_policy(policy: &PolicyRecord) -> Self {
        let PolicyRecord { vhost, name, pattern, apply_to, priority, definition } = policy.clone();
        let value = json!({"pattern": pattern, "apply-to": apply_to, "priority": priority, "definition": definition});
        Self { vhost: Some(vhost), component: OPERATOR_POLICY.to_owned(), name, value }
    }

    pub(super) fn of_limits(vhost: &VhostRecord) -> Self {
        let (component, name) = (LIMITS.to_owned(), "limits".to_owned());
        Self { vhost: Some(vhost.name.clone()), component, name, value: json!(vhost.limits) }
    }

    /// What it stands for.
    pub(super) fn meaning(self, vhost: &str) -> Result<Parameter, DefinitionsError> {
        let Self { vhost: own, component, name, value } = self;
        let vhost = own.unwrap_or_else(|| vhost.to_owned());
        let wrong =
            |what: &str, cause: serde_json::Error| DefinitionsError::new(format!("{what} in vhost '{vhost}': {cause}"));
        if component == OPERATOR_POLICY {
            let mut policy = value;
            if let Some(policy) = policy.as_object_mut() {
                policy.insert("name".to_owned(), name.clone().into());
                policy.insert("vhost".to_owned(), vhost.clone().into());
                if let Some(definition) = policy.get_mut("definition") {
                    object_of_pairs(definition);
                }
            }
            let policy = serde_json::from_value(policy);
            return policy
                .map(Parameter::OperatorPolicy)
                .map_err(|cause| wrong(&format!("operator policy '{name}'"), cause));
        }
        if component == LIMITS {
            let limits = serde_json::from_value(value).map_err(|cause| wrong("limits", cause))?;
            return Ok(Parameter::Limits { vhost, limits });
        }
        Ok(Parameter::Plain(ParameterRecord { value, vhost, component, name }))
    }
}

/// `rabbitmqctl export_definitions` of 3.10 writes the definition of an operator policy as a list of pairs.
fn object_of_pairs(value: &mut Value) {
    let pair = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
        Some([Value::String(name), value]) => Some((name.clone(), value.clone())),
        _ => None,
    };
    if let Some(object) = value.as_array().and_then(|pairs| pairs.iter().map(pair).collect()) {
        *value = Value::Object(object);
    }
}

/// Users. An empty set of limits is a list in some releases.
pub(super) fn users<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<User>, D::Error> {
    let mut users = Vec::<Map<String, Value>>::deserialize(deserializer)?;
    for user in &mut users {
        if user.get("limits").and_then(Value::as_array).is_some_and(Vec::is_empty) {
            user.remove("limits");
        }
    }
    let parsed = users.into_iter().map(|user| {
        let name = user.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        serde_json::from_value(Value::Object(user))
            .map_err(|cause| serde::de::Error::custom(format!("user '{name}': {cause}")))
    });
    parsed.collect()
}
