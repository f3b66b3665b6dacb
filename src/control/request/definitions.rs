//! Definitions, out and in.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::control::Fault;
use crate::definitions::Definitions;
use crate::server::operator::Operator;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum DefinitionsRequest {
    Export,
    /// What names no vhost belongs to this one.
    Import {
        vhost: String,
        definitions: Box<Definitions>,
    },
}

impl DefinitionsRequest {
    pub(super) async fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::Export => json(operator.export()),
            Self::Import { vhost, definitions } => json(operator.import(*definitions, &vhost).await?),
        }
    }
}
