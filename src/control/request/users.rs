//! Users: their passwords, tags and limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::control::Fault;
use crate::engine::directory::{HashingAlgorithm, Record, RecordKey, RecordKind, User};
use crate::server::operator::{Operator, OperatorError};

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum UserRequest {
    /// All users; passwords are left out.
    List,
    Add {
        name: String,
        password: String,
    },
    /// With a hash in the place of a password.
    AddHashed {
        name: String,
        password_hash: String,
    },
    Delete {
        name: String,
    },
    ChangePassword {
        name: String,
        password: String,
    },
    /// Whether this is the user's password.
    Authenticate {
        name: String,
        password: String,
    },
    SetTags {
        name: String,
        tags: Vec<String>,
    },
    /// Sets these limits; others stay.
    SetLimits {
        name: String,
        limits: BTreeMap<String, i64>,
    },
    /// Clears one limit, or all.
    ClearLimits {
        name: String,
        limit: Option<String>,
    },
}

/// Passwords must not get into a log.
impl std::fmt::Debug for UserRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::List => "List",
            Self::Add { .. } => "Add",
            Self::AddHashed { .. } => "AddHashed",
            Self::Delete { .. } => "Delete",
            Self::ChangePassword { .. } => "ChangePassword",
            Self::Authenticate { .. } => "Authenticate",
            Self::SetTags { .. } => "SetTags",
            Self::SetLimits { .. } => "SetLimits",
            Self::ClearLimits { .. } => "ClearLimits",
        })
    }
}

impl UserRequest {
    pub(super) async fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::List => {
                return Ok(operator.directory(|directory| {
                    let row =
                        |user: &User| serde_json::json!({"user": user.name, "tags": user.tags, "limits": user.limits});
                    Value::Array(directory.users().map(row).collect())
                }));
            }
            Self::Add { name, password } => {
                let hash = operator.new_password(&name, Some(&password))?;
                add(operator, name, hash).await?;
            }
            Self::AddHashed { name, password_hash } => add(operator, name, password_hash).await?,
            Self::Delete { name } => {
                let key = RecordKey { kind: RecordKind::User, names: [name, String::new(), String::new()] };
                operator.remove(&key).await?;
            }
            Self::ChangePassword { name, password } => {
                operator.check_user(&name)?;
                // No password at all, which `clear_password` asks for, is nobody's to judge.
                let blank = password.is_empty();
                let hash = if blank { String::new() } else { operator.new_password(&name, Some(&password))? };
                let change = |user: &mut User| {
                    user.password_hash = hash;
                    user.hashing_algorithm = HashingAlgorithm::default();
                };
                operator.change_user(&name, change).await?;
            }
            Self::Authenticate { name, password } => return json(operator.authenticate(&name, &password)),
            Self::SetTags { name, tags } => operator.change_user(&name, |user| user.tags = tags).await?,
            Self::SetLimits { name, limits } => {
                operator.change_user(&name, |user| user.limits.extend(limits)).await?;
            }
            Self::ClearLimits { name, limit } => {
                let clear = |user: &mut User| match &limit {
                    Some(limit) => user.limits.retain(|name, _| name != limit),
                    None => user.limits.clear(),
                };
                operator.change_user(&name, clear).await?;
            }
        }
        Ok(Value::Null)
    }
}

async fn add(operator: &Operator, name: String, password_hash: String) -> Result<(), OperatorError> {
    if operator.check_user(&name).is_ok() {
        return Err(OperatorError::Exists(format!("User \"{name}\" already exists")));
    }
    let user = User {
        name,
        password_hash,
        hashing_algorithm: HashingAlgorithm::default(),
        tags: Vec::new(),
        limits: BTreeMap::new(),
    };
    operator.put(Record::User(user)).await
}
