//! A backup of a running broker.

use std::path::PathBuf;

use tracing::{info, warn};

use super::{Operator, OperatorError};
use crate::store::BackedUp;

impl Operator {
    /// Copies everything that is durable to a file that is not there yet. Publishers go on.
    pub(crate) async fn backup(&self, file: PathBuf) -> Result<BackedUp, OperatorError> {
        if !file.is_absolute() {
            return Err(OperatorError::Invalid(format!("{} is no absolute path", file.display())));
        }
        let store = self.registry.store.clone();
        let name = file.display().to_string();
        let copied = tokio::task::spawn_blocking(move || store.backup(&file)).await;
        match copied {
            Ok(Ok(copied)) => {
                let BackedUp { file_bytes, records, damaged } = copied;
                info!(file = name, file_bytes, records, damaged, "backup written");
                Ok(copied)
            }
            Ok(Err(cause)) => {
                warn!(file = name, %cause, "no backup was written");
                Err(OperatorError::Unsupported(cause.to_string()))
            }
            Err(cause) => {
                warn!(file = name, %cause, "no backup was written");
                Err(OperatorError::Unsupported(format!(
                    "the store could not be copied to {name}; see the broker's log"
                )))
            }
        }
    }
}
