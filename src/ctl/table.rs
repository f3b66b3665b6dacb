//! The table of commands: what each is called, what it takes, what it is for.

use super::Tool;
use super::call::Call;
use super::commands;
use super::failure::Failure;
use super::output::Output;

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) group: Group,
    /// The tools whose help lists it. Every tool runs every command.
    pub(super) tools: &'static [Tool],
    /// What stands behind the name.
    pub(super) usage: &'static str,
    pub(super) about: &'static str,
    /// How many arguments it takes, at least and at most.
    pub(super) args: (usize, usize),
    /// Its own switches; one with a value ends in `=`.
    pub(super) switches: &'static [&'static str],
    pub(super) run: fn(&mut Call<'_>) -> Result<Output, Failure>,
}

/// As many arguments as there are.
pub(super) const ANY: usize = usize::MAX;

/// Headings of the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Help,
    Nodes,
    Cluster,
    Users,
    AccessControl,
    Monitoring,
    Parameters,
    Policies,
    VirtualHosts,
    Configuration,
    Definitions,
    FeatureFlags,
    Operations,
    Queues,
    Plugins,
    Upgrade,
    Deprecated,
}

impl Group {
    pub(super) const fn heading(self) -> &'static str {
        match self {
            Self::Help => "Help",
            Self::Nodes => "Nodes",
            Self::Cluster => "Cluster",
            Self::Users => "Users",
            Self::AccessControl => "Access Control",
            Self::Monitoring => "Monitoring, observability and health checks",
            Self::Parameters => "Parameters",
            Self::Policies => "Policies",
            Self::VirtualHosts => "Virtual hosts",
            Self::Configuration => "Configuration and Environment",
            Self::Definitions => "Definitions",
            Self::FeatureFlags => "Feature flags",
            Self::Operations => "Operations",
            Self::Queues => "Queues",
            Self::Plugins => "Plugin Management",
            Self::Upgrade => "Upgrades",
            Self::Deprecated => "Deprecated",
        }
    }
}

/// All commands, theme by theme.
pub(super) fn all() -> impl Iterator<Item = &'static Command> {
    commands::THEMES.iter().flat_map(|theme| theme.iter())
}

/// A command by its name.
pub(super) fn find(name: &str) -> Option<&'static Command> {
    all().find(|command| command.name == name)
}

/// The command whose name is nearest to a word, if any is near.
pub(super) fn nearest(word: &str) -> Option<&'static str> {
    let distances = all().map(|command| (strsim::levenshtein(word, command.name), command.name));
    distances.min().filter(|(distance, _)| *distance <= word.len().div_ceil(3)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_command_has_one_entry_and_a_text() {
        let mut seen = HashSet::new();
        for command in all() {
            assert!(seen.insert(command.name), "{} twice", command.name);
            assert!(!command.about.is_empty() && !command.tools.is_empty(), "{}", command.name);
            assert!(command.args.0 <= command.args.1, "{}", command.name);
        }
    }

    #[test]
    fn a_misspelt_command_has_a_neighbour() {
        assert_eq!(nearest("list_quues"), Some("list_queues"));
        assert_eq!(nearest("xyzzy"), None);
    }
}
