//! What a vhost gets when it is made: users, operator policies and limits whose pattern is found in its name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::engine::directory::Pattern;

/// What new vhosts get, by the words that the configuration has for each.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NewVhostSettings {
    /// Users, by name.
    pub users: BTreeMap<String, VhostUser>,
    /// Operator policies, by name.
    pub operator_policies: BTreeMap<String, VhostPolicy>,
    /// Limits: the first that fits counts.
    pub limits: BTreeMap<String, VhostLimits>,
}

impl std::fmt::Debug for NewVhostSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Users have passwords.
        let users: Vec<_> = self.users.keys().collect();
        let policies: Vec<_> = self.operator_policies.keys().collect();
        f.debug_struct("NewVhostSettings").field("users", &users).field("policies", &policies).finish_non_exhaustive()
    }
}

/// A user of new vhosts. One that exists is only given its rights.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct VhostUser {
    /// In which vhosts; all without one.
    pub vhost_pattern: Option<String>,
    /// Its password; nobody can log in without one.
    pub password: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// What it may configure, write and read; everything where nothing is said.
    pub rights: [Option<String>; 3],
}

/// An operator policy of new vhosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VhostPolicy {
    /// In which vhosts; all without one.
    pub vhost_pattern: Option<String>,
    /// For which queues; all without one.
    pub queue_pattern: Option<String>,
    /// For which kind of queues.
    pub apply_to: Option<String>,
    /// What it says, by the keys of policies.
    pub definition: Map<String, Value>,
}

/// Limits of new vhosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VhostLimits {
    /// Of which vhosts; all without one.
    pub pattern: Option<String>,
    /// The limits, by RabbitMQ's names.
    pub limits: BTreeMap<String, i64>,
}

/// Whether a pattern is found in a vhost's name. It was checked when it was set.
fn fits(pattern: Option<&String>, vhost: &str) -> bool {
    pattern.is_none_or(|pattern| Pattern::of_policy(pattern).is_ok_and(|pattern| pattern.matches(vhost.as_bytes())))
}

impl NewVhostSettings {
    /// The users of a new vhost.
    pub(crate) fn users_of(&self, vhost: &str) -> impl Iterator<Item = (&String, &VhostUser)> {
        self.users.iter().filter(move |(_, user)| fits(user.vhost_pattern.as_ref(), vhost))
    }

    /// Its operator policies.
    pub(crate) fn policies_of(&self, vhost: &str) -> impl Iterator<Item = (&String, &VhostPolicy)> {
        self.operator_policies.iter().filter(move |(_, policy)| fits(policy.vhost_pattern.as_ref(), vhost))
    }

    /// Its limits.
    pub(crate) fn limits_of(&self, vhost: &str) -> BTreeMap<String, i64> {
        let found = self.limits.values().find(|limits| fits(limits.pattern.as_ref(), vhost));
        found.map(|found| found.limits.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;

    #[test]
    fn a_vhost_gets_what_fits_its_name() {
        let mut settings = Settings::default();
        let text = "default_limits.vhosts.1.pattern = ^dev\ndefault_limits.vhosts.1.max_queues = 10\n\
                    default_limits.vhosts.2.max_queues = 1000\ndefault_limits.vhosts.2.max_connections = 7\n\
                    default_users.qa.vhost_pattern = qa\ndefault_users.all.tags = monitoring, policymaker\n\
                    default_policies.operator.p.vhost_pattern = ^qa$\ndefault_policies.operator.p.message_ttl = 1h\n";
        settings.apply_text(text).expect("valid");
        let all = settings.config.new_vhosts;
        let names = |vhost: &str| all.users_of(vhost).map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!((names("a-qa"), names("dev-1")), (vec!["all", "qa"], vec!["all"]));
        assert_eq!(all.users["all"].tags, ["monitoring", "policymaker"]);
        assert_eq!(all.limits_of("dev-1"), [("max-queues".to_owned(), 10)].into());
        assert_eq!(all.limits_of("x").len(), 2);
        assert_eq!((all.policies_of("qa").count(), all.policies_of("qa1").count()), (1, 0));
        assert_eq!(all.operator_policies["p"].definition["message-ttl"], 3_600_000);
        let refused = |text: &str| Settings::default().apply_text(text).expect_err("refused").to_string();
        assert!(refused("default_users.a.vhost_pattern = [").contains("no regular expression"));
        assert!(refused("default_policies.operator.p.max_length = 0").contains("at least 1"));
        assert!(refused("default_policies.operator.p.expires = soon").contains("a length of time"));
        assert!(refused("default_policies.operator.p.apply_to = exchanges").contains("one of"));
        assert!(refused("default_limits.vhosts.1.max_queues = -1").contains("at least 1"));
    }
}
