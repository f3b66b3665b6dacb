//! Vhosts.

use serde_json::{Map, Value};

use super::users::{limits, with_limits};
use super::{BOTH, CTL};
use crate::control::FaultKind;
use crate::control::client::ClientError;
use crate::control::request::{Request, VhostRequest, VhostSettings};
use crate::ctl::call::Call;
use crate::ctl::failure::{DATA, Failure, UNAVAILABLE};
use crate::ctl::output::{Output, Table};
use crate::ctl::table::{ANY, Command, Group};

const COLUMNS: [&str; 7] =
    ["name", "tracing", "cluster_state", "description", "tags", "default_queue_type", "protected_from_deletion"];

const fn vhost(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    args: (usize, usize),
    run: fn(&mut Call<'_>) -> Result<Output, Failure>,
) -> Command {
    let switches = &["description=", "tags=", "default-queue-type=", "global"];
    Command { name, group: Group::VirtualHosts, tools: CTL, usage, about, args, switches, run }
}

pub(super) const COMMANDS: &[Command] = &[
    vhost(
        "add_vhost",
        "<vhost> [--description <description> --tags \"<tag1>,<tag2>,<...>\" --default-queue-type <quorum|classic|stream>]",
        "Creates a virtual host",
        (1, 1),
        add_vhost,
    ),
    vhost("delete_vhost", "<vhost>", "Deletes a virtual host", (1, 1), delete_vhost),
    vhost(
        "update_vhost_metadata",
        "<vhost> [--description <description>] [--tags \"<tag1>,<tag2>,<...>\"] [--default-queue-type <quorum|classic|stream>]",
        "Updates metadata (tags, description, default queue type) a virtual host",
        (1, 1),
        update_vhost_metadata,
    ),
    vhost("set_vhost_tags", "<vhost> <tag> [...]", "Sets virtual host tags", (1, ANY), set_vhost_tags),
    vhost("set_vhost_limits", "[--vhost <vhost>] <definition>", "Sets virtual host limits", (1, 1), set_vhost_limits),
    vhost("clear_vhost_limits", "[--vhost <vhost>]", "Clears virtual host limits", (0, 0), clear_vhost_limits),
    vhost(
        "list_vhost_limits",
        "[--vhost <vhost>] [--global] [--no-table-headers]",
        "Displays configured virtual host limits",
        (0, 0),
        list_vhost_limits,
    ),
    vhost(
        "restart_vhost",
        "[--vhost <vhost>] [--timeout <timeout>]",
        "Succeeds: a vhost's data does not fail by itself",
        (0, 0),
        restart_vhost,
    ),
    Command {
        name: "list_vhosts",
        group: Group::AccessControl,
        tools: BOTH,
        usage: "[--no-table-headers] [<column> ...] [--timeout <timeout>]",
        about: "Lists virtual hosts",
        args: (0, ANY),
        switches: &[],
        run: list_vhosts,
    },
];

/// Words with commas between them.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn settings(call: &Call<'_>) -> VhostSettings {
    VhostSettings {
        description: call.own("description").map(str::to_owned),
        tags: call.own("tags").map(list),
        default_queue_type: call.own("default-queue-type").map(str::to_owned),
    }
}

fn ask(call: &mut Call<'_>, request: VhostRequest) -> Result<Output, Failure> {
    call.ask::<Value>(&Request::Vhosts(request))?;
    Ok(Output::Done)
}

fn add_vhost(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.word(0).to_owned();
    call.banner(&format!("Adding vhost \"{name}\" ..."))?;
    let settings = settings(call);
    ask(call, VhostRequest::Add { name, settings })
}

fn update_vhost_metadata(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.word(0).to_owned();
    call.banner(&format!("Updating metadata of vhost \"{name}\" ..."))?;
    let settings = settings(call);
    if settings == VhostSettings::default() {
        return Err(call.misused("not enough arguments."));
    }
    ask(call, VhostRequest::Update { name, settings })
}

fn delete_vhost(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.word(0).to_owned();
    call.banner(&format!("Deleting vhost \"{name}\" ..."))?;
    ask(call, VhostRequest::Delete { name })
}

fn set_vhost_tags(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.word(0).to_owned();
    let tags = call.words()[1..].to_vec();
    call.banner(&format!("Setting tags for virtual host \"{name}\" to [{}] ...", tags.join(", ")))?;
    ask(call, VhostRequest::Update { name, settings: VhostSettings { tags: Some(tags), ..VhostSettings::default() } })
}

fn set_vhost_limits(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (name, definition) = (call.vhost(), call.word(0));
    call.banner(&format!("Setting vhost limits to \"{definition}\" for vhost \"{name}\" ..."))?;
    let limits = limits(definition)?;
    ask(call, VhostRequest::SetLimits { name, limits })
}

fn clear_vhost_limits(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.vhost();
    call.banner(&format!("Clearing vhost \"{name}\" limits ..."))?;
    match call.try_ask(&Request::Vhosts(VhostRequest::ClearLimits { name })) {
        Ok(_) => Ok(Output::Done),
        Err(ClientError::Fault(fault)) if fault.kind == FaultKind::NoSuchVhost => {
            Err(Failure::error(UNAVAILABLE, "Parameter does not exist"))
        }
        Err(error) => Err(call.failed(&error)),
    }
}

fn all(call: &mut Call<'_>) -> Result<Vec<Map<String, Value>>, Failure> {
    call.ask(&Request::Vhosts(VhostRequest::List))
}

fn list_vhost_limits(call: &mut Call<'_>) -> Result<Output, Failure> {
    let global = call.has("global") || call.options.vhost.is_none();
    let wanted = call.vhost();
    call.banner(&if global {
        "Listing limits for all vhosts ...".to_owned()
    } else {
        format!("Listing limits for vhost \"{wanted}\" ...")
    })?;
    let vhosts = all(call)?;
    if global {
        let rows = with_limits(vhosts, "name", "vhost");
        let columns = ["vhost", "limits"].map(str::to_owned).to_vec();
        return Ok(Output::Table(Table { columns, rows, streamed: false, headed: true }));
    }
    let found = vhosts.iter().find(|vhost| vhost.get("name").is_some_and(|name| *name == wanted.as_str()));
    let Some(vhost) = found else {
        return Err(Failure::plain(DATA, format!("Virtual host '{wanted}' does not exist")));
    };
    let none = vhost["limits"].as_object().is_none_or(Map::is_empty);
    Ok(Output::text(if none { String::new() } else { vhost["limits"].to_string() }))
}

fn restart_vhost(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (name, node) = (call.vhost(), call.node());
    call.banner(&format!("Trying to restart vhost '{name}' on node '{node}' ..."))?;
    let vhosts = all(call)?;
    if vhosts.iter().any(|vhost| vhost.get("name").is_some_and(|found| *found == name.as_str())) {
        return Ok(Output::Message(format!("Vhost '{name}' is already running on node '{node}'")));
    }
    Err(Failure::plain(DATA, format!("Virtual host '{name}' does not exist")))
}

fn list_vhosts(call: &mut Call<'_>) -> Result<Output, Failure> {
    let columns = super::listings::columns(call, &COLUMNS, &["name"])?;
    call.banner("Listing vhosts ...")?;
    let rows = all(call)?;
    Ok(Output::Table(Table { columns, rows, streamed: false, headed: true }))
}
