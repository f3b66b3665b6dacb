//! The node itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::config::Limit;
use crate::control::Fault;
use crate::server::operator::Operator;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum NodeRequest {
    /// Answers that the broker runs.
    Ping,
    /// What it is and uses.
    Status,
    /// What happened on it, and how much there is of what.
    Totals,
    /// The settings in effect.
    Environment,
    /// Takes it out of service; waits for acks so long.
    Drain { patience_ms: u64 },
    /// Puts it back into service.
    Revive,
    /// The certificates that its listeners use.
    Certificates,
    /// Loads the configuration and certificates again.
    Reload,
    /// Stops it in good order.
    Stop,
    /// Begins a new log file; answers whether there is one.
    RotateLog,
    /// Changes the level of its log.
    SetLogLevel { level: String },
    /// Sets the memory that it may use.
    SetMemoryLimit { limit: Limit },
    /// Sets the space that must be free on its disk.
    SetDiskFreeLimit { limit: Limit },
    /// Switches copies of a vhost's messages to its trace exchange on or off.
    SetTracing { vhost: String, on: bool },
}

impl NodeRequest {
    pub(super) async fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::Ping => {}
            Self::Status => return json(operator.node()),
            Self::Totals => return json(operator.statistics(None)),
            Self::Environment => return json(operator.environment()),
            Self::Drain { patience_ms } => return json(operator.drain(Duration::from_millis(patience_ms)).await),
            Self::Revive => operator.revive(),
            Self::Certificates => return json(operator.certificates()),
            Self::Reload => return json(operator.reload_apart().await?),
            Self::Stop => operator.request_stop(),
            Self::RotateLog => return json(operator.rotate_log()?),
            Self::SetMemoryLimit { limit } => operator.set_memory_limit(limit),
            Self::SetDiskFreeLimit { limit } => operator.set_disk_free_limit(limit),
            Self::SetTracing { vhost, on } => operator.set_tracing(&vhost, on)?,
            Self::SetLogLevel { level } => operator.set_log_level(&level)?,
        }
        Ok(Value::Null)
    }
}
