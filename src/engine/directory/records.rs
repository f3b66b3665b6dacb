//! The records of a directory, in the shape that RabbitMQ's definitions have as JSON.
//!
//! The same shape is what the store keeps, what an export writes and what an import reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::password::HashingAlgorithm;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Base64 of salt and digest; empty for a user without a password, who cannot log in with one.
    #[serde(default)]
    pub password_hash: String,
    /// How the digest was made.
    #[serde(default)]
    pub hashing_algorithm: HashingAlgorithm,
    /// What it may do in the management tools; `impersonator` lets it publish with any `user-id`.
    #[serde(default, deserialize_with = "tags")]
    pub tags: Vec<String>,
    /// `max-connections` and `max-channels`; negative means no limit.
    #[serde(default)]
    pub limits: BTreeMap<String, i64>,
}

impl User {
    /// Whether it has a tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    /// One of its limits; `None` without one.
    pub fn limit(&self, name: &str) -> Option<u64> {
        limit(&self.limits, name)
    }
}

/// A virtual host's own record; what is in it is elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VhostRecord {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Words to find it by.
    #[serde(default, deserialize_with = "tags")]
    pub tags: Vec<String>,
    /// The type of queues declared without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_queue_type: Option<String>,
    /// `max-connections` and `max-queues`; negative means no limit.
    #[serde(default)]
    pub limits: BTreeMap<String, i64>,
    /// It cannot be deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected_from_deletion: bool,
}

impl VhostRecord {
    /// One of its limits; `None` without one.
    pub fn limit(&self, name: &str) -> Option<u64> {
        limit(&self.limits, name)
    }
}

fn limit(limits: &BTreeMap<String, i64>, name: &str) -> Option<u64> {
    limits.get(name).and_then(|limit| u64::try_from(*limit).ok())
}

/// What a user may do in a vhost: three patterns for names of queues and exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionRecord {
    /// The user.
    pub user: String,
    /// The vhost.
    pub vhost: String,
    /// What it may declare and delete.
    pub configure: String,
    /// Where it may publish, and what it may bind.
    pub write: String,
    /// What it may consume, purge, and bind to.
    pub read: String,
}

/// Which routing keys a user may use at a topic exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPermissionRecord {
    /// The user.
    pub user: String,
    /// The vhost.
    pub vhost: String,
    /// The exchange.
    pub exchange: String,
    /// Keys it may publish with.
    pub write: String,
    /// Keys it may bind with.
    pub read: String,
}

/// A policy: settings for all queues or exchanges whose name matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// Its vhost.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// A regular expression that is searched in names.
    pub pattern: String,
    /// `all`, `queues`, `exchanges`, `classic_queues`, `quorum_queues` or `streams`.
    #[serde(rename = "apply-to", default = "apply_to_all")]
    pub apply_to: String,
    /// Of the policies that match, the one with the highest priority counts.
    #[serde(default)]
    pub priority: i64,
    /// The settings.
    pub definition: Map<String, Value>,
}

fn apply_to_all() -> String {
    "all".to_owned()
}

/// A runtime parameter of a vhost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterRecord {
    /// Its value.
    pub value: Value,
    /// Its vhost.
    pub vhost: String,
    /// The component that it is for.
    pub component: String,
    /// Its name.
    pub name: String,
}

/// A runtime parameter of the whole broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalParameterRecord {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// Any record, with its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A vhost.
    Vhost(VhostRecord),
    /// A user.
    User(User),
    /// A user's rights in a vhost.
    Permission(PermissionRecord),
    /// A user's rights at a topic exchange.
    TopicPermission(TopicPermissionRecord),
    /// A policy.
    Policy(PolicyRecord),
    /// An operator policy.
    OperatorPolicy(PolicyRecord),
    /// A parameter of a vhost.
    Parameter(ParameterRecord),
    /// A parameter of the broker.
    GlobalParameter(GlobalParameterRecord),
}

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// See [`Record::Vhost`].
    Vhost,
    /// See [`Record::User`].
    User,
    /// See [`Record::Permission`].
    Permission,
    /// See [`Record::TopicPermission`].
    TopicPermission,
    /// See [`Record::Policy`].
    Policy,
    /// See [`Record::OperatorPolicy`].
    OperatorPolicy,
    /// See [`Record::Parameter`].
    Parameter,
    /// See [`Record::GlobalParameter`].
    GlobalParameter,
}

impl RecordKind {
    /// Every kind, those first that others refer to.
    pub const ALL: [Self; 8] = [
        Self::Vhost,
        Self::User,
        Self::Permission,
        Self::TopicPermission,
        Self::Policy,
        Self::OperatorPolicy,
        Self::Parameter,
        Self::GlobalParameter,
    ];
}

/// What names a record among those of its kind: up to three names, the others empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Its kind.
    pub kind: RecordKind,
    /// Its names, the vhost's first where there is one.
    pub names: [String; 3],
}

impl RecordKey {
    pub(super) fn new(kind: RecordKind, first: &str, second: &str, third: &str) -> Self {
        Self { kind, names: [first.to_owned(), second.to_owned(), third.to_owned()] }
    }
}

impl Record {
    /// What names it.
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Vhost(vhost) => RecordKey::new(RecordKind::Vhost, &vhost.name, "", ""),
            Self::User(user) => RecordKey::new(RecordKind::User, &user.name, "", ""),
            Self::Permission(record) => RecordKey::new(RecordKind::Permission, &record.vhost, &record.user, ""),
            Self::TopicPermission(record) => {
                RecordKey::new(RecordKind::TopicPermission, &record.vhost, &record.user, &record.exchange)
            }
            Self::Policy(policy) => RecordKey::new(RecordKind::Policy, &policy.vhost, &policy.name, ""),
            Self::OperatorPolicy(policy) => RecordKey::new(RecordKind::OperatorPolicy, &policy.vhost, &policy.name, ""),
            Self::Parameter(record) => {
                RecordKey::new(RecordKind::Parameter, &record.vhost, &record.component, &record.name)
            }
            Self::GlobalParameter(record) => RecordKey::new(RecordKind::GlobalParameter, &record.name, "", ""),
        }
    }

    /// Its value as JSON.
    ///
    /// # Panics
    /// Never: records have string keys and finite numbers only.
    pub fn to_json(&self) -> Vec<u8> {
        let written = match self {
            Self::Vhost(record) => serde_json::to_vec(record),
            Self::User(record) => serde_json::to_vec(record),
            Self::Permission(record) => serde_json::to_vec(record),
            Self::TopicPermission(record) => serde_json::to_vec(record),
            Self::Policy(record) | Self::OperatorPolicy(record) => serde_json::to_vec(record),
            Self::Parameter(record) => serde_json::to_vec(record),
            Self::GlobalParameter(record) => serde_json::to_vec(record),
        };
        written.expect("records have string keys and finite numbers only")
    }

    /// Reads a record of a kind; `None` when it is malformed.
    pub fn from_json(kind: RecordKind, json: &[u8]) -> Option<Self> {
        Some(match kind {
            RecordKind::Vhost => Self::Vhost(serde_json::from_slice(json).ok()?),
            RecordKind::User => Self::User(serde_json::from_slice(json).ok()?),
            RecordKind::Permission => Self::Permission(serde_json::from_slice(json).ok()?),
            RecordKind::TopicPermission => Self::TopicPermission(serde_json::from_slice(json).ok()?),
            RecordKind::Policy => Self::Policy(serde_json::from_slice(json).ok()?),
            RecordKind::OperatorPolicy => Self::OperatorPolicy(serde_json::from_slice(json).ok()?),
            RecordKind::Parameter => Self::Parameter(serde_json::from_slice(json).ok()?),
            RecordKind::GlobalParameter => Self::GlobalParameter(serde_json::from_slice(json).ok()?),
        })
    }
}

/// A record that came, changed or went: what the store has to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryChange {
    /// This record is new or has a new value.
    Put(Record),
    /// This record is gone.
    Removed(RecordKey),
}

/// Tags as a list, or as older releases wrote them: one string with commas.
fn tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Tags {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Tags::deserialize(deserializer)? {
        Tags::List(list) => list,
        Tags::Text(text) => text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_as_written() {
        let user = User {
            name: "u".to_owned(),
            password_hash: "aGFzaA==".to_owned(),
            hashing_algorithm: HashingAlgorithm::Sha512,
            tags: vec!["administrator".to_owned()],
            limits: [("max-channels".to_owned(), 3)].into(),
        };
        let policy = PolicyRecord {
            vhost: "/".to_owned(),
            name: "p".to_owned(),
            pattern: "^a".to_owned(),
            apply_to: "queues".to_owned(),
            priority: 7,
            definition: [("max-length".to_owned(), Value::from(5))].into_iter().collect(),
        };
        for record in [Record::User(user), Record::OperatorPolicy(policy)] {
            assert_eq!(Record::from_json(record.key().kind, &record.to_json()), Some(record));
        }
    }

    #[test]
    fn tags_of_older_releases_are_read() {
        let user: User = serde_json::from_str(r#"{"name":"u","password_hash":"","tags":"administrator, monitoring"}"#)
            .expect("user");
        assert_eq!(user.tags, ["administrator", "monitoring"]);
        assert_eq!(user.hashing_algorithm, HashingAlgorithm::Sha256);
    }
}
