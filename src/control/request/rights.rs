//! What users may do: permissions and topic permissions.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::control::Fault;
use crate::engine::directory::{PermissionRecord, Record, RecordKey, RecordKind, TopicPermissionRecord};
use crate::server::operator::{Operator, OperatorError};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum RightsRequest {
    /// All users' rights in a vhost.
    OfVhost {
        vhost: String,
    },
    /// A user's rights in all vhosts.
    OfUser {
        user: String,
    },
    Set(PermissionRecord),
    Clear {
        vhost: String,
        user: String,
    },
    TopicsOfVhost {
        vhost: String,
    },
    TopicsOfUser {
        user: String,
    },
    SetTopic(TopicPermissionRecord),
    /// At one exchange, or at all of the vhost.
    ClearTopic {
        vhost: String,
        user: String,
        exchange: Option<String>,
    },
}

impl RightsRequest {
    pub(super) async fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::OfVhost { vhost } => {
                operator.check_vhost(&vhost)?;
                return operator
                    .directory(|all| json(all.permissions().filter(|each| each.vhost == vhost).collect::<Vec<_>>()));
            }
            Self::OfUser { user } => {
                operator.check_user(&user)?;
                return operator
                    .directory(|all| json(all.permissions().filter(|each| each.user == user).collect::<Vec<_>>()));
            }
            Self::TopicsOfVhost { vhost } => {
                operator.check_vhost(&vhost)?;
                return operator.directory(|all| {
                    json(all.topic_permissions().filter(|each| each.vhost == vhost).collect::<Vec<_>>())
                });
            }
            Self::TopicsOfUser { user } => {
                operator.check_user(&user)?;
                return operator.directory(|all| {
                    json(all.topic_permissions().filter(|each| each.user == user).collect::<Vec<_>>())
                });
            }
            Self::Set(record) => operator.put(Record::Permission(record)).await?,
            Self::SetTopic(record) => operator.put(Record::TopicPermission(record)).await?,
            Self::Clear { vhost, user } => {
                operator.check_user(&user)?;
                operator.check_vhost(&vhost)?;
                let key = RecordKey { kind: RecordKind::Permission, names: [vhost, user, String::new()] };
                cleared(operator.remove(&key).await)?;
            }
            Self::ClearTopic { vhost, user, exchange } => {
                operator.check_user(&user)?;
                operator.check_vhost(&vhost)?;
                let doomed: Vec<RecordKey> = operator.directory(|all| {
                    let topics = all.topic_permissions().filter(|each| {
                        each.vhost == vhost
                            && each.user == user
                            && exchange.as_ref().is_none_or(|exchange| *exchange == each.exchange)
                    });
                    topics.map(|each| Record::TopicPermission(each.clone()).key()).collect()
                });
                for key in doomed {
                    cleared(operator.remove(&key).await)?;
                }
            }
        }
        Ok(Value::Null)
    }
}

/// What is not there needs no clearing.
fn cleared(removed: Result<(), OperatorError>) -> Result<(), OperatorError> {
    match removed {
        Err(OperatorError::NotFound(_)) => Ok(()),
        other => other,
    }
}
