//! Exchanges and bindings.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rows;
use crate::control::Fault;
use crate::server::operator::Operator;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum TopologyRequest {
    Exchanges { vhost: String },
    Bindings { vhost: String },
}

impl TopologyRequest {
    pub(super) fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::Exchanges { vhost } => {
                rows(&operator.exchanges(&vhost)?, ("arguments", |exchange| exchange.arguments.to_triples()))
            }
            Self::Bindings { vhost } => {
                rows(&operator.bindings(&vhost)?, ("arguments", |binding| binding.arguments.to_triples()))
            }
        }
    }
}
