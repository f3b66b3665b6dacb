//! Runtime parameters, of a vhost and of the broker.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::control::Fault;
use crate::engine::directory::{GlobalParameterRecord, ParameterRecord, Record, RecordKey, RecordKind};
use crate::server::operator::Operator;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ParameterRequest {
    List { vhost: String },
    Set(ParameterRecord),
    Clear { vhost: String, component: String, name: String },
    ListGlobal,
    SetGlobal(GlobalParameterRecord),
    ClearGlobal { name: String },
}

impl ParameterRequest {
    pub(super) async fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::List { vhost } => {
                operator.check_vhost(&vhost)?;
                return operator
                    .directory(|all| json(all.parameters().filter(|each| each.vhost == vhost).collect::<Vec<_>>()));
            }
            Self::ListGlobal => {
                return operator.directory(|all| json(all.global_parameters().collect::<Vec<_>>()));
            }
            Self::Set(record) => operator.put(Record::Parameter(record)).await?,
            Self::SetGlobal(record) => operator.put(Record::GlobalParameter(record)).await?,
            Self::Clear { vhost, component, name } => {
                operator.check_vhost(&vhost)?;
                operator.remove(&RecordKey { kind: RecordKind::Parameter, names: [vhost, component, name] }).await?;
            }
            Self::ClearGlobal { name } => {
                let names = [name, String::new(), String::new()];
                operator.remove(&RecordKey { kind: RecordKind::GlobalParameter, names }).await?;
            }
        }
        Ok(Value::Null)
    }
}
