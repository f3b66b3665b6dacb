//! Policies and operator policies.

use serde_json::{Map, Value};

use super::CTL;
use crate::control::request::{PolicyKind, PolicyRequest, Request};
use crate::ctl::call::Call;
use crate::ctl::failure::{Failure, UNAVAILABLE};
use crate::ctl::output::{Output, Table};
use crate::ctl::table::{Command, Group};
use crate::engine::directory::PolicyRecord;

const fn policy(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    args: (usize, usize),
    run: fn(&mut Call<'_>) -> Result<Output, Failure>,
) -> Command {
    let switches = &["priority=", "apply-to="];
    Command { name, group: Group::Policies, tools: CTL, usage, about, args, switches, run }
}

const SET_USAGE: &str =
    "[--vhost <vhost>] [--priority <priority>] [--apply-to <apply-to>] <name> <pattern> <definition>";
const LIST_USAGE: &str = "[--vhost <vhost>] [--no-table-headers] [--timeout <timeout>]";
const CLEAR_USAGE: &str = "[--vhost <vhost>] <name>";

pub(super) const COMMANDS: &[Command] = &[
    policy("set_policy", SET_USAGE, "Sets or updates a policy", (3, 3), |call| set(call, PolicyKind::Regular)),
    policy(
        "set_operator_policy",
        SET_USAGE,
        "Sets an operator policy that overrides a subset of arguments in user policies",
        (3, 3),
        |call| set(call, PolicyKind::Operator),
    ),
    policy("clear_policy", CLEAR_USAGE, "Clears (removes) a policy", (1, 1), |call| clear(call, PolicyKind::Regular)),
    policy("clear_operator_policy", CLEAR_USAGE, "Clears an operator policy", (1, 1), |call| {
        clear(call, PolicyKind::Operator)
    }),
    policy("list_policies", LIST_USAGE, "Lists all policies in a virtual host", (0, 0), |call| {
        list(call, PolicyKind::Regular)
    }),
    policy(
        "list_operator_policies",
        LIST_USAGE,
        "Lists operator policy overrides for a virtual host",
        (0, 0),
        |call| list(call, PolicyKind::Operator),
    ),
];

fn set(call: &mut Call<'_>, kind: PolicyKind) -> Result<Output, Failure> {
    let (name, pattern, definition) = (call.word(0).to_owned(), call.word(1).to_owned(), call.word(2));
    let priority: i64 = match call.own("priority") {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| call.misused(&format!("Invalid options for this command:\n--priority : {text}")))?,
    };
    let vhost = call.vhost();
    let what = match kind {
        PolicyKind::Regular => "policy",
        PolicyKind::Operator => "operator policy override",
    };
    call.banner(&format!(
        "Setting {what} \"{name}\" for pattern \"{pattern}\" to \"{definition}\" with priority \"{priority}\" for vhost \
         \"{vhost}\" ..."
    ))?;
    let definition: Map<String, Value> = serde_json::from_str(definition)
        .map_err(|cause| Failure::error(UNAVAILABLE, format!("JSON decoding error. Reason: {cause}")))?;
    let apply_to = call.own("apply-to").unwrap_or("all");
    let policy = PolicyRecord { vhost, name, pattern, apply_to: apply_to.to_owned(), priority, definition };
    call.ask::<Value>(&Request::Policies(PolicyRequest::Set { kind, policy }))?;
    Ok(Output::Done)
}

fn clear(call: &mut Call<'_>, kind: PolicyKind) -> Result<Output, Failure> {
    let (name, vhost) = (call.word(0).to_owned(), call.vhost());
    let what = match kind {
        PolicyKind::Regular => "policy",
        PolicyKind::Operator => "operator policy",
    };
    call.banner(&format!("Clearing {what} \"{name}\" on vhost \"{vhost}\" ..."))?;
    call.ask::<Value>(&Request::Policies(PolicyRequest::Clear { vhost, kind, name }))?;
    Ok(Output::Done)
}

fn list(call: &mut Call<'_>, kind: PolicyKind) -> Result<Output, Failure> {
    let vhost = call.vhost();
    let what = match kind {
        PolicyKind::Regular => "policies",
        PolicyKind::Operator => "operator policy overrides",
    };
    call.banner(&format!("Listing {what} for vhost \"{vhost}\" ..."))?;
    let mut rows: Vec<Map<String, Value>> = call.ask(&Request::Policies(PolicyRequest::List { vhost, kind }))?;
    for row in &mut rows {
        as_text(row, "definition");
    }
    let columns = ["vhost", "name", "pattern", "apply-to", "definition", "priority"].map(str::to_owned).to_vec();
    Ok(Output::Table(Table { columns, rows, streamed: false, headed: true }))
}

/// JSON inside a row is text, in every form of output.
pub(super) fn as_text(row: &mut Map<String, Value>, column: &str) {
    if let Some(value) = row.get_mut(column) {
        *value = Value::String(value.to_string());
    }
}
