//! What may be asked over the control socket: one file for each theme.

mod connections;
mod definitions;
mod messages;
mod node;
mod parameters;
mod policies;
mod queues;
mod rights;
mod store;
mod topology;
mod users;
mod vhosts;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use connections::ConnectionRequest;
pub(crate) use definitions::DefinitionsRequest;
pub(crate) use messages::MessageRequest;
pub(crate) use node::NodeRequest;
pub(crate) use parameters::ParameterRequest;
pub(crate) use policies::{PolicyKind, PolicyRequest};
pub(crate) use queues::QueueRequest;
pub(crate) use rights::RightsRequest;
pub(crate) use store::StoreRequest;
pub(crate) use topology::TopologyRequest;
pub(crate) use users::UserRequest;
pub(crate) use vhosts::{VhostRequest, VhostSettings};

use super::Fault;
use crate::server::operator::Operator;

/// A request, by theme.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Node(NodeRequest),
    Queues(QueueRequest),
    Messages(MessageRequest),
    Topology(TopologyRequest),
    Connections(ConnectionRequest),
    Users(UserRequest),
    Rights(RightsRequest),
    Vhosts(VhostRequest),
    Policies(PolicyRequest),
    Parameters(ParameterRequest),
    Definitions(DefinitionsRequest),
    Store(StoreRequest),
}

impl Request {
    /// Carries it out.
    pub(super) async fn answer(self, operator: &Operator) -> Result<Value, Fault> {
        match self {
            Self::Node(request) => request.answer(operator).await,
            Self::Queues(request) => request.answer(operator).await,
            Self::Messages(request) => request.answer(operator).await,
            Self::Topology(request) => request.answer(operator),
            Self::Connections(request) => request.answer(operator).await,
            Self::Users(request) => request.answer(operator).await,
            Self::Rights(request) => request.answer(operator).await,
            Self::Vhosts(request) => request.answer(operator).await,
            Self::Policies(request) => request.answer(operator).await,
            Self::Parameters(request) => request.answer(operator).await,
            Self::Definitions(request) => request.answer(operator).await,
            Self::Store(request) => request.answer(operator).await,
        }
    }

    /// Whether the broker goes away after the answer: whoever asked waits for the end.
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Self::Node(NodeRequest::Stop))
    }
}

/// What serde made of an answer.
fn json(answer: impl Serialize) -> Result<Value, Fault> {
    serde_json::to_value(answer).map_err(|cause| Fault {
        kind: super::FaultKind::Internal,
        text: format!("the answer cannot be written: {cause}"),
    })
}

/// A listing in which tables of arguments keep the types of their values.
fn rows<T: Serialize>(all: &[T], (column, arguments): (&str, impl Fn(&T) -> Value)) -> Result<Value, Fault> {
    let row = |info: &T| {
        let mut row = json(info)?;
        row[column] = arguments(info);
        Ok(row)
    };
    all.iter().map(row).collect::<Result<Vec<Value>, Fault>>().map(Value::Array)
}
