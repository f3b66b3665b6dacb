//! Policies and operator policies.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::control::Fault;
use crate::engine::directory::{PolicyRecord, Record, RecordKey, RecordKind};
use crate::server::operator::Operator;

/// Whose policy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PolicyKind {
    Regular,
    Operator,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum PolicyRequest {
    List { vhost: String, kind: PolicyKind },
    Set { kind: PolicyKind, policy: PolicyRecord },
    Clear { vhost: String, kind: PolicyKind, name: String },
}

impl PolicyRequest {
    pub(super) async fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::List { vhost, kind } => {
                operator.check_vhost(&vhost)?;
                operator.directory(|directory| match kind {
                    PolicyKind::Regular => {
                        json(directory.policies().filter(|policy| policy.vhost == vhost).collect::<Vec<_>>())
                    }
                    PolicyKind::Operator => {
                        json(directory.operator_policies().filter(|policy| policy.vhost == vhost).collect::<Vec<_>>())
                    }
                })
            }
            Self::Set { kind, policy } => {
                let record = match kind {
                    PolicyKind::Regular => Record::Policy(policy),
                    PolicyKind::Operator => Record::OperatorPolicy(policy),
                };
                operator.put(record).await?;
                Ok(Value::Null)
            }
            Self::Clear { vhost, kind, name } => {
                operator.check_vhost(&vhost)?;
                let kind = match kind {
                    PolicyKind::Regular => RecordKind::Policy,
                    PolicyKind::Operator => RecordKind::OperatorPolicy,
                };
                operator.remove(&RecordKey { kind, names: [vhost, name, String::new()] }).await?;
                Ok(Value::Null)
            }
        }
    }
}
