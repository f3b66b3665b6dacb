//! The store.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::control::Fault;
use crate::server::operator::Operator;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum StoreRequest {
    /// Copies the store to a file that is not there yet; its path is absolute.
    Backup { file: PathBuf },
}

impl StoreRequest {
    pub(super) async fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::Backup { file } => json(operator.backup(file).await?),
        }
    }
}
