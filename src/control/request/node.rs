//! The node itself.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::control::Fault;
use crate::server::operator::Operator;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum NodeRequest {
    /// Answers that the broker runs.
    Ping,
    /// What it is and uses.
    Status,
    /// The settings in effect.
    Environment,
    /// Stops it in good order.
    Stop,
    /// Changes the level of its log.
    SetLogLevel { level: String },
}

impl NodeRequest {
    pub(super) fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::Ping => {}
            Self::Status => return json(operator.node()),
            Self::Environment => return json(operator.environment()),
            Self::Stop => operator.request_stop(),
            Self::SetLogLevel { level } => operator.set_log_level(&level)?,
        }
        Ok(Value::Null)
    }
}
