//! Connections and channels.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{json, rows};
use crate::control::Fault;
use crate::server::operator::{ConnectionSelection, Operator};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ConnectionRequest {
    List,
    Channels,
    /// One, by its process name.
    Close {
        pid: String,
        reason: String,
    },
    CloseMany {
        which: ConnectionSelection,
        reason: String,
    },
}

impl ConnectionRequest {
    pub(super) async fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::List => rows(
                &operator.connections().await,
                ("client_properties", |connection| connection.client_properties.to_triples()),
            ),
            Self::Channels => json(operator.channels().await),
            Self::Close { pid, reason } => json(operator.close_connection(&pid, &reason)?),
            Self::CloseMany { which, reason } => json(operator.close_connections(&which, &reason).await),
        }
    }
}
