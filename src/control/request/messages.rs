//! Messages in queues, and redrives.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::control::Fault;
use crate::server::operator::{Choice, Destination, Operator, PeekQuestion, RedriveOrder};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum MessageRequest {
    Peek { vhost: String, queue: String, question: PeekQuestion },
    Delete { vhost: String, queue: String, choice: Choice },
    Move { vhost: String, queue: String, choice: Choice, to: Destination },
    Redrive { vhost: String, queue: String, order: RedriveOrder },
    Redrives,
    RedriveInfo { id: u64 },
    CancelRedrive { id: u64 },
}

impl MessageRequest {
    pub(super) async fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::Peek { vhost, queue, question } => json(operator.peek_messages(&vhost, &queue, &question).await?),
            Self::Delete { vhost, queue, choice } => json(operator.delete_messages(&vhost, &queue, &choice).await?),
            Self::Move { vhost, queue, choice, to } => {
                json(operator.move_messages(&vhost, &queue, &choice, &to).await?)
            }
            Self::Redrive { vhost, queue, order } => json(operator.redrive(&vhost, &queue, order)?),
            Self::Redrives => json(operator.redrives()),
            Self::RedriveInfo { id } => json(operator.redrive_info(id)?),
            Self::CancelRedrive { id } => json(operator.cancel_redrive(id).await?),
        }
    }
}
