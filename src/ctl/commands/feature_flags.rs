//! Feature flags: what RabbitMQ can switch on later is always on here.

use serde_json::{Map, Value, json};

use super::CTL;
use crate::ctl::call::Call;
use crate::ctl::failure::{Failure, USAGE};
use crate::ctl::output::{Output, Table};
use crate::ctl::table::{ANY, Command, Group};

/// RabbitMQ's flags for what this broker does too.
pub(super) const FLAGS: [(&str, &str); 5] = [
    ("implicit_default_bindings", "Default bindings are implicit, instead of being stored in the database"),
    ("quorum_queue", "Support queues of type `quorum`"),
    ("stream_queue", "Support queues of type `stream`"),
    ("user_limits", "Configure connection and channel limits for a user"),
    ("virtual_host_metadata", "Virtual host metadata (description, tags, etc)"),
];

const COLUMNS: [&str; 6] = ["name", "state", "stability", "provided_by", "desc", "doc_url"];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "enable_feature_flag",
        group: Group::FeatureFlags,
        tools: CTL,
        usage: "<all | feature_flag>",
        about: "Succeeds for every flag that the broker has: all of them are on",
        args: (1, 1),
        switches: &["opt-in"],
        run: enable,
    },
    Command {
        name: "list_feature_flags",
        group: Group::FeatureFlags,
        tools: CTL,
        usage: "[<column> ...] [--timeout <timeout>]",
        about: "Lists feature flags",
        args: (0, ANY),
        switches: &[],
        run: list,
    },
];

/// Every flag with its state.
pub(super) fn states() -> Vec<Value> {
    let flag = |(name, text): &(&str, &str)| {
        json!({
            "name": name, "state": "enabled", "stability": "stable", "provided_by": "leveret", "desc": text, "doc_url": ""
        })
    };
    FLAGS.iter().map(flag).collect()
}

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let columns = super::listings::columns(call, &COLUMNS, &["name", "state"])?;
    call.banner("Listing feature flags ...")?;
    let rows = states().into_iter().filter_map(|row| row.as_object().cloned()).collect::<Vec<Map<String, Value>>>();
    Ok(Output::Table(Table { columns, rows, streamed: false, headed: true }))
}

fn enable(call: &mut Call<'_>) -> Result<Output, Failure> {
    let wanted = call.word(0);
    if wanted == "all" {
        call.banner("Enabling all feature flags ...")?;
        return Ok(Output::Done);
    }
    call.banner(&format!("Enabling feature flag \"{wanted}\" ..."))?;
    if FLAGS.iter().any(|(flag, _)| *flag == wanted) {
        return Ok(Output::Done);
    }
    Err(Failure::error(USAGE, format!("This feature flag is not supported by node {}", call.node())))
}
