//! Queues and consumers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{json, rows};
use crate::control::Fault;
use crate::server::operator::{DeleteCondition, Operator};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum QueueRequest {
    List { vhost: String },
    Consumers { vhost: String },
    Purge { vhost: String, queue: String },
    Delete { vhost: String, queue: String, condition: DeleteCondition },
}

impl QueueRequest {
    pub(super) async fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::List { vhost } => {
                rows(&operator.queues(&vhost)?, ("arguments", |queue| queue.arguments.to_triples()))
            }
            Self::Consumers { vhost } => {
                rows(&operator.consumers(&vhost)?, ("arguments", |consumer| consumer.arguments.to_triples()))
            }
            Self::Purge { vhost, queue } => json(operator.purge_queue(&vhost, &queue).await?),
            Self::Delete { vhost, queue, condition } => json(operator.delete_queue(&vhost, &queue, condition).await?),
        }
    }
}
