//! Plugins: what RabbitMQ has as plugins is built in here, or is not there.

use serde_json::json;

use crate::built_in::PLUGINS;
use crate::control::request::{NodeRequest, Request};
use crate::ctl::Tool;
use crate::ctl::call::Call;
use crate::ctl::failure::{Failure, SOFTWARE, UNAVAILABLE};
use crate::ctl::output::Output;
use crate::ctl::table::{ANY, Command, Group};

const TOOLS: &[Tool] = &[Tool::Plugins];

const fn plugin(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    args: (usize, usize),
    run: fn(&mut Call<'_>) -> Result<Output, Failure>,
) -> Command {
    let switches = &["offline", "online", "all", "minimal", "m", "enabled", "E", "implicitly-enabled", "e"];
    Command { name, group: Group::Plugins, tools: TOOLS, usage, about, args, switches, run }
}

pub(super) const COMMANDS: &[Command] = &[
    plugin(
        "list",
        "[pattern] [--verbose] [--minimal] [--enabled] [--implicitly-enabled]",
        "Lists plugins and their state",
        (0, 1),
        list,
    ),
    plugin(
        "enable",
        "<plugin1> [ <plugin2>] | --all [--offline] [--online]",
        "Succeeds for plugins that are built in, which are always enabled",
        (0, ANY),
        enable,
    ),
    plugin(
        "disable",
        "<plugin1> [ <plugin2>] | --all [--offline] [--online]",
        "Succeeds for plugins that are not there; those built in stay enabled",
        (0, ANY),
        disable,
    ),
    plugin(
        "set",
        "<plugin1> [ <plugin2>] [--offline] [--online]",
        "Succeeds if all of the plugins are built in; nothing is disabled",
        (0, ANY),
        enable,
    ),
    plugin(
        "is_enabled",
        "<plugin1> [ <plugin2>] [--offline] [--online]",
        "Health check that exits with a non-zero code if provided plugins are not enabled on target node",
        (1, ANY),
        is_enabled,
    ),
    plugin("directories", "[--offline] [--online]", "Says that there are no plugin directories", (0, 0), directories),
];

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let pattern = if call.word(0).is_empty() { ".*" } else { call.word(0) };
    let node = call.node();
    call.banner(&format!("Listing plugins with pattern \"{pattern}\" ..."))?;
    let matcher = fancy_regex::Regex::new(pattern)
        .map_err(|_| call.invalid(&format!("Bad argument: '{pattern}' is not a regular expression")))?;
    let running = call.try_ask(&Request::Node(NodeRequest::Ping)).is_ok();
    let names: Vec<_> = PLUGINS.into_iter().filter(|name| matcher.is_match(name).unwrap_or(false)).collect();
    let version = super::version();
    let plugins: Vec<_> = names
        .iter()
        .map(|name| json!({"name": name, "enabled": "enabled", "running": running, "version": version}))
        .collect();
    let json = json!({"format": "normal", "status": "running", "plugins": plugins});
    if call.has("minimal") || call.has("m") {
        return Ok(Output::Value { text: names.join("\n"), json });
    }
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let mark = if running { '*' } else { ' ' };
    let mut lines = vec![
        " Configured: E = explicitly enabled; e = implicitly enabled".to_owned(),
        format!(" | Status: * = {} on {node}", if running { "running" } else { "not running" }),
        " |/".to_owned(),
    ];
    lines.extend(names.iter().map(|name| format!("[E{mark}] {name:width$} {version}")));
    Ok(Output::Value { text: lines.join("\n"), json })
}

/// What stands below a change that changes nothing.
fn unchanged(call: &Call<'_>) -> Output {
    let all: Vec<_> = PLUGINS.iter().map(|name| format!("  {name}")).collect();
    let text = format!(
        "The following plugins have been configured:\n{}\nApplying plugin configuration to {}...\n\
         Plugin configuration unchanged.",
        all.join("\n"),
        call.node()
    );
    let json = json!({"enabled": PLUGINS, "started": [], "stopped": []});
    Output::Value { text, json }
}

fn wanted(call: &Call<'_>, what: &str) -> Result<(), Failure> {
    if call.words().is_empty() && !call.has("all") {
        return Err(call.misused("not enough arguments."));
    }
    let names = if call.has("all") { "all".to_owned() } else { call.words().join("\n") };
    call.banner(&format!("{what} plugins on node {}:\n{names}", call.node()))
}

fn enable(call: &mut Call<'_>) -> Result<Output, Failure> {
    wanted(call, "Enabling")?;
    let missing: Vec<_> = call.words().iter().filter(|name| !PLUGINS.contains(&name.as_str())).collect();
    if missing.is_empty() {
        return Ok(unchanged(call));
    }
    let missing = missing.iter().map(|name| format!(":{name}")).collect::<Vec<_>>().join(", ");
    Err(Failure::error(SOFTWARE, format!("{{:plugins_not_found, [{missing}]}}")))
}

fn disable(call: &mut Call<'_>) -> Result<Output, Failure> {
    wanted(call, "Disabling")?;
    let kept: Vec<_> = call.words().iter().map(String::as_str).filter(|name| PLUGINS.contains(name)).collect();
    if !kept.is_empty() || call.has("all") {
        let text = format!(
            "built in, cannot be disabled: {}",
            if kept.is_empty() { "all".to_owned() } else { kept.join(", ") }
        );
        return Err(Failure::error(UNAVAILABLE, text));
    }
    Ok(unchanged(call))
}

fn is_enabled(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node();
    let names = call.words().join(", ");
    let (noun, verb) = if call.words().len() == 1 { ("plugin", "is") } else { ("plugins", "are") };
    call.banner(&format!("Asking node {node} if {noun} {names} {verb} enabled..."))?;
    let noun = if call.words().len() == 1 { "Plugin" } else { "Plugins" };
    let missing: Vec<_> = call.words().iter().map(String::as_str).filter(|name| !PLUGINS.contains(name)).collect();
    if missing.is_empty() {
        return Ok(Output::Message(format!("{noun} {names} {verb} enabled on node {node}")));
    }
    let (noun, verb) = if missing.len() == 1 { ("Plugin", "is") } else { ("Plugins", "are") };
    let all = PLUGINS.join(", ");
    Err(Failure::error(
        UNAVAILABLE,
        format!(
            "{noun} {} {verb} not enabled on node {node}. Enabled plugins and dependencies: {all}",
            missing.join(", ")
        ),
    ))
}

fn directories(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Listing plugin directories used by node {}", call.node()))?;
    Ok(Output::text("Plugin archives directory: none\nPlugin expansion directory: none\nEnabled plugins file: none"))
}
