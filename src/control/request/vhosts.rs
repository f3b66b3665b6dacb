//! Vhosts: their descriptions and limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::Fault;
use crate::engine::directory::{Record, RecordKey, RecordKind, VhostRecord};
use crate::server::operator::{Operator, OperatorError};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum VhostRequest {
    List,
    /// One that is there already stays as it is.
    Add {
        name: String,
        settings: VhostSettings,
    },
    /// Changes what is given; the rest stays.
    Update {
        name: String,
        settings: VhostSettings,
    },
    Delete {
        name: String,
    },
    /// What happened in it, and how much it holds.
    Figures {
        name: String,
    },
    SetLimits {
        name: String,
        limits: BTreeMap<String, i64>,
    },
    ClearLimits {
        name: String,
    },
}

/// What is said of a vhost; `None` says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VhostSettings {
    pub(crate) description: Option<String>,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) default_queue_type: Option<String>,
}

impl VhostSettings {
    fn check(&self) -> Result<(), OperatorError> {
        match self.default_queue_type.as_deref() {
            None | Some("classic" | "quorum" | "stream" | "undefined" | "") => Ok(()),
            Some(other) => Err(OperatorError::Invalid(format!("Unsupported default queue type: {other}"))),
        }
    }

    fn apply(self, record: &mut VhostRecord) {
        if let Some(description) = self.description {
            record.description = description;
        }
        if let Some(tags) = self.tags {
            record.tags = tags;
        }
        if let Some(kind) = self.default_queue_type {
            record.default_queue_type = (!matches!(kind.as_str(), "" | "undefined")).then_some(kind);
        }
    }
}

impl VhostRequest {
    pub(super) async fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::List => {
                return Ok(operator.directory(|directory| {
                    let row = |vhost: &VhostRecord| {
                        serde_json::json!({
                            "name": vhost.name,
                            "description": vhost.description,
                            "tags": vhost.tags,
                            "default_queue_type": vhost.default_queue_type,
                            "limits": vhost.limits,
                            "tracing": operator.is_tracing(&vhost.name),
                            "cluster_state": "running",
                        })
                    };
                    Value::Array(directory.vhosts().map(row).collect())
                }));
            }
            Self::Add { name, settings } => {
                settings.check()?;
                if operator.check_vhost(&name).is_err() {
                    let mut record = VhostRecord { name, ..VhostRecord::default() };
                    settings.apply(&mut record);
                    operator.put(Record::Vhost(record)).await?;
                }
            }
            Self::Update { name, settings } => {
                settings.check()?;
                operator.change_vhost(&name, |record| settings.apply(record)).await?;
            }
            Self::Figures { name } => return super::json(operator.vhost_figures(&name)?),
            Self::Delete { name } => {
                let key = RecordKey { kind: RecordKind::Vhost, names: [name, String::new(), String::new()] };
                operator.remove(&key).await?;
            }
            Self::SetLimits { name, limits } => operator.change_vhost(&name, |record| record.limits = limits).await?,
            Self::ClearLimits { name } => operator.change_vhost(&name, |record| record.limits.clear()).await?,
        }
        Ok(Value::Null)
    }
}
