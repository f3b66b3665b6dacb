//! The commands, a file for each theme, and the help that is made from their table.

mod cluster;
mod connections;
mod definitions;
mod feature_flags;
mod health;
mod help;
mod listings;
mod messages;
mod node;
mod parameters;
mod plugins;
mod policies;
mod queues;
mod resources;
mod rights;
mod users;
mod vhosts;

pub(super) use help::{help_of, overview, unknown, version};

use super::Tool;
use super::table::Command;

/// Every theme's commands.
pub(super) const THEMES: [&[Command]; 17] = [
    help::COMMANDS,
    node::COMMANDS,
    cluster::COMMANDS,
    listings::COMMANDS,
    health::COMMANDS,
    connections::COMMANDS,
    feature_flags::COMMANDS,
    queues::COMMANDS,
    messages::COMMANDS,
    resources::COMMANDS,
    users::COMMANDS,
    rights::COMMANDS,
    vhosts::COMMANDS,
    policies::COMMANDS,
    parameters::COMMANDS,
    definitions::COMMANDS,
    plugins::COMMANDS,
];

/// Listed by `rabbitmqctl` alone.
const CTL: &[Tool] = &[Tool::Ctl];
/// Listed by `rabbitmq-diagnostics` alone.
const DIAGNOSTICS: &[Tool] = &[Tool::Diagnostics];
/// Listed by both.
const BOTH: &[Tool] = &[Tool::Ctl, Tool::Diagnostics];
/// Listed by every tool.
const EVERY: &[Tool] = &[Tool::Ctl, Tool::Diagnostics, Tool::Queues, Tool::Plugins, Tool::Upgrade];
