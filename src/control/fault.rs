//! Why a request was not carried out.

use serde::{Deserialize, Serialize};

use crate::server::operator::OperatorError;

/// What went wrong: a word that tools decide by, and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) text: String,
}

/// The words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// The request cannot be read, or is of another version.
    BadRequest,
    NoSuchVhost,
    NoSuchQueue,
    NoSuchConnection,
    NoSuchUser,
    /// There is no such record of another kind.
    NotFound,
    /// What was to be made is there.
    Exists,
    /// A value breaks a rule.
    Invalid,
    QueueInUse,
    QueueNotEmpty,
    /// The broker cannot do that.
    Unsupported,
    /// Something is wrong with the broker.
    Internal,
}

impl Fault {
    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self { kind: FaultKind::BadRequest, text: text.into() }
    }
}

impl From<OperatorError> for Fault {
    fn from(error: OperatorError) -> Self {
        let text = error.to_string();
        let kind = match error {
            OperatorError::NoSuchVhost(_) => FaultKind::NoSuchVhost,
            OperatorError::NoSuchQueue { .. } => FaultKind::NoSuchQueue,
            OperatorError::NoSuchConnection => FaultKind::NoSuchConnection,
            OperatorError::QueueInUse => FaultKind::QueueInUse,
            OperatorError::QueueNotEmpty => FaultKind::QueueNotEmpty,
            OperatorError::Unsupported(_) => FaultKind::Unsupported,
            OperatorError::NoSuchUser(_) => FaultKind::NoSuchUser,
            OperatorError::NotFound(_) => FaultKind::NotFound,
            OperatorError::Exists(_) => FaultKind::Exists,
            OperatorError::Invalid(_) => FaultKind::Invalid,
        };
        Self { kind, text }
    }
}
