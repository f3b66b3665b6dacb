//! Which messages an operator means.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::condition::Condition;
use crate::engine::queue::Wanted;
use crate::server::operator::OperatorError;

/// Ids in one request at most.
const IDS_MAX: usize = 1000;
/// How long one answer may take to be found, unless somebody asks for another time.
const TIME_DEFAULT_MS: u64 = 2_000;
/// The longest time that one may ask for.
const TIME_MAX_MS: u64 = 30_000;

/// How messages stand that are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MessageState {
    /// Ready or unacked.
    #[default]
    All,
    Ready,
    #[serde(alias = "unacknowledged")]
    Unacked,
    /// Not in the queue yet: in front of a delayed-message exchange that would route them there.
    Delayed,
}

impl MessageState {
    /// The state with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        serde_json::from_value(Value::String(name.to_owned())).ok()
    }

    pub(super) const fn wanted(self) -> Wanted {
        match self {
            Self::All => Wanted { ready: true, unacked: true },
            Self::Ready | Self::Delayed => Wanted { ready: true, unacked: false },
            Self::Unacked => Wanted { ready: false, unacked: true },
        }
    }
}

/// Which messages of a queue are meant: what is said must all be met.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Choice {
    pub(crate) state: MessageState,
    /// These only.
    pub(crate) ids: Vec<String>,
    /// A condition as an expression.
    #[serde(rename = "where")]
    pub(crate) condition: Option<String>,
    /// A condition as an object.
    pub(crate) filter: Map<String, Value>,
    /// All messages are meant; for changes that say nothing else.
    pub(crate) all: bool,
    /// Where to go on.
    pub(crate) from: Option<String>,
    /// This many at most.
    pub(crate) limit: Option<u64>,
    /// How many milliseconds the answer may take.
    pub(crate) time_ms: Option<u64>,
}

impl Choice {
    /// The condition that they have to meet.
    pub(in crate::server::operator) fn parsed_condition(&self) -> Result<Condition, OperatorError> {
        parsed_condition(self.condition.as_deref(), &self.filter)
    }

    pub(super) fn checked_ids(&self) -> Result<&[String], OperatorError> {
        if self.ids.len() > IDS_MAX {
            return Err(OperatorError::Invalid(format!("a request has at most {IDS_MAX} ids")));
        }
        Ok(&self.ids)
    }

    pub(super) fn limit(&self, default: u64, max: u64) -> u64 {
        self.limit.unwrap_or(default).min(max)
    }

    pub(super) fn time(&self) -> Duration {
        Duration::from_millis(self.time_ms.unwrap_or(TIME_DEFAULT_MS).min(TIME_MAX_MS))
    }

    /// The same for a change, which is for ready messages only, and not for all of them by accident.
    pub(super) fn of_ready(&self) -> Result<Self, OperatorError> {
        let says_nothing = self.ids.is_empty()
            && self.filter.is_empty()
            && self.condition.as_ref().is_none_or(|condition| condition.trim().is_empty());
        if says_nothing && !self.all {
            let text = "which messages? Name ids or a condition, or say that all are meant";
            return Err(OperatorError::Invalid(text.to_owned()));
        }
        match self.state {
            MessageState::Delayed => Ok(self.clone()),
            MessageState::All | MessageState::Ready => Ok(Self { state: MessageState::Ready, ..self.clone() }),
            MessageState::Unacked => {
                Err(OperatorError::Invalid("unacked messages belong to their consumers".to_owned()))
            }
        }
    }
}

/// An expression and an object as one condition.
pub(in crate::server::operator) fn parsed_condition(
    expression: Option<&str>,
    object: &Map<String, Value>,
) -> Result<Condition, OperatorError> {
    let invalid = |cause: String| OperatorError::Invalid(format!("condition: {cause}"));
    let condition = Condition::parse(expression.unwrap_or_default()).map_err(invalid)?;
    Ok(condition.and(Condition::from_object(object).map_err(invalid)?))
}
