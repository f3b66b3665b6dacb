//! Queues and consumers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{json, rows};
use crate::control::Fault;
use crate::server::operator::{DeleteCondition, Operator};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum QueueRequest {
    List {
        vhost: String,
    },
    Consumers {
        vhost: String,
    },
    /// Those whose ready messages have not moved for so long.
    Stalled {
        vhost: Option<String>,
        for_ms: u64,
    },
    /// Those with a ready message older than this.
    Old {
        vhost: Option<String>,
        older_than_ms: u64,
    },
    Purge {
        vhost: String,
        queue: String,
    },
    Delete {
        vhost: String,
        queue: String,
        condition: DeleteCondition,
    },
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
            Self::Stalled { vhost, for_ms } => {
                let vhosts = vhost.map(|vhost| [vhost]);
                json(operator.stalled_queues(vhosts.as_ref().map(<[String; 1]>::as_slice), for_ms))
            }
            Self::Old { vhost, older_than_ms } => {
                let vhosts = vhost.map(|vhost| [vhost]);
                let vhosts = vhosts.as_ref().map(<[String; 1]>::as_slice);
                json(operator.old_queues(vhosts, older_than_ms, &|_| true))
            }
            Self::Purge { vhost, queue } => json(operator.purge_queue(&vhost, &queue).await?),
            Self::Delete { vhost, queue, condition } => json(operator.delete_queue(&vhost, &queue, condition).await?),
        }
    }
}
