//! Definitions that come and go: whether a queue or a binding that clients declare and delete is there.
//!
//! What the broker has answered holds, and survives every crash. What it has not answered may be either way.

use std::collections::BTreeMap;

use super::invariants::Uid;

/// What is known of a queue or a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    There,
    Gone,
    /// Something was asked for, and not answered.
    Doubtful(Uid),
}

/// Every one that was ever declared, by name.
#[derive(Debug, Default)]
pub(super) struct Entities(BTreeMap<String, Standing>);

/// The name under which the binding of a queue is known here.
pub(super) fn binding_of(queue: &str) -> String {
    format!("binding of {queue}")
}

impl Entities {
    pub(super) fn standing(&self, name: &str) -> Standing {
        self.0.get(name).copied().unwrap_or(Standing::Gone)
    }

    /// Something is asked for on this channel.
    pub(super) fn asked(&mut self, name: &str, channel: Uid) {
        self.0.insert(name.to_owned(), Standing::Doubtful(channel));
    }

    /// The broker has answered.
    pub(super) fn answered(&mut self, name: &str, there: bool) {
        self.0.insert(name.to_owned(), if there { Standing::There } else { Standing::Gone });
    }

    /// The rules that are broken, given what there is.
    pub(super) fn check(&self, exists: impl Fn(&str) -> bool) -> Vec<String> {
        let wrong = self.0.iter().filter(|(name, standing)| match standing {
            Standing::There => !exists(name),
            Standing::Gone => exists(name),
            Standing::Doubtful(_) => false,
        });
        wrong.map(|(name, standing)| format!("{name} should be {standing:?}, and is not")).collect()
    }
}
