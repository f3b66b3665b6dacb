//! Feature flags: what RabbitMQ can switch on later is always on here.

use serde_json::{Map, Value};

use super::CTL;
use crate::built_in;
use crate::ctl::call::Call;
use crate::ctl::failure::{Failure, USAGE};
use crate::ctl::output::{Output, Table};
use crate::ctl::table::{ANY, Command, Group};

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

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let columns = super::listings::columns(call, &COLUMNS, &["name", "state"])?;
    call.banner("Listing feature flags ...")?;
    let rows = built_in::feature_flag_states().filter_map(|row| row.as_object().cloned());
    let rows = rows.collect::<Vec<Map<String, Value>>>();
    Ok(Output::Table(Table { columns, rows, streamed: false, headed: true }))
}

fn enable(call: &mut Call<'_>) -> Result<Output, Failure> {
    let wanted = call.word(0);
    if wanted == "all" {
        call.banner("Enabling all feature flags ...")?;
        return Ok(Output::Done);
    }
    call.banner(&format!("Enabling feature flag \"{wanted}\" ..."))?;
    if built_in::feature_flags().any(|flag| flag == wanted) {
        return Ok(Output::Done);
    }
    Err(Failure::error(USAGE, format!("This feature flag is not supported by node {}", call.node())))
}
