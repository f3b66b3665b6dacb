//! Help, and what needs no broker.

use super::EVERY;
use crate::ctl::Tool;
use crate::ctl::call::Call;
use crate::ctl::failure::{Failure, USAGE, usage_line};
use crate::ctl::output::Output;
use crate::ctl::table::{self, ANY, Command, Group};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "autocomplete",
        group: Group::Help,
        tools: EVERY,
        usage: "[prefix]",
        about: "Provides command name autocomplete variants",
        args: (0, ANY),
        switches: &[],
        run: |call| Ok(autocomplete(call)),
    },
    Command {
        name: "help",
        group: Group::Help,
        tools: EVERY,
        usage: "(<command> | [--list-commands])",
        about: "Displays usage information for a command",
        args: (0, ANY),
        switches: &["list-commands"],
        run: help,
    },
    Command {
        name: "version",
        group: Group::Help,
        tools: EVERY,
        usage: "",
        about: "Displays CLI tools version",
        args: (0, 0),
        switches: &[],
        run: |_| Ok(Output::text(version())),
    },
];

/// The RabbitMQ version whose commands these are.
pub(in crate::ctl) fn version() -> String {
    crate::config::Config::default().identity.version
}

fn autocomplete(call: &Call<'_>) -> Output {
    let mut names: Vec<_> = commands_of(call.tool).map(|command| command.name).collect();
    names.retain(|name| name.starts_with(call.word(0)));
    Output::text(names.join("\n"))
}

fn help(call: &mut Call<'_>) -> Result<Output, Failure> {
    if call.has("list-commands") {
        let names: Vec<_> = commands_of(call.tool).map(|command| command.name).collect();
        return Ok(Output::text(names.join("\n")));
    }
    if call.words().is_empty() {
        return Ok(Output::text(overview(call.tool)));
    }
    let found = table::find(call.word(0));
    let command = found.ok_or_else(|| Failure::error(USAGE, format!("Command '{}' not found.", call.word(0))))?;
    Ok(Output::text(help_of(call.tool, command)))
}

/// The commands that a tool's help lists.
fn commands_of(tool: Tool) -> impl Iterator<Item = &'static Command> {
    table::all().filter(move |command| tool == Tool::Leveret || command.tools.contains(&tool))
}

/// All commands of a tool.
pub(in crate::ctl) fn overview(tool: Tool) -> String {
    let mut commands: Vec<_> = commands_of(tool).collect();
    commands.sort_by_key(|command| (command.group, command.name));
    let width = commands.iter().map(|command| command.name.len()).max().unwrap_or(0);
    let name = tool.name();
    let mut out = format!(
        "\nUsage\n\n{name} [--node <node>] [--timeout <timeout>] [--longnames] [--quiet] <command> [<command options>]\n\n\
         Available commands:\n"
    );
    let mut group = None;
    for command in commands {
        if group != Some(command.group) {
            out.extend(["\n", command.group.heading(), ":\n\n"]);
            group = Some(command.group);
        }
        out.extend([format!("   {:width$}  {}\n", command.name, command.about)]);
    }
    out + &format!("\nUse '{name} help <command>' to learn more about a specific command")
}

/// One command.
pub(in crate::ctl) fn help_of(tool: Tool, command: &Command) -> String {
    let rows = [
        ("-?", "--help", "displays command help"),
        ("-n <node>", "--node <node>", "the node's name in texts; the broker is found by its control socket"),
        ("-l", "--longnames", "accepted, without meaning"),
        ("-t", "--timeout <n>", "operation timeout in seconds"),
        ("-q", "--quiet", "suppress informational messages"),
        ("-s", "--silent", "suppress informational messages and table header row"),
        ("-p", "--vhost", "for commands that are scoped to a virtual host, virtual host to use"),
        ("", "--formatter", "table, json, csv or pretty_table"),
        ("", "--no-table-headers", "do not output header row(s) for tabular data"),
        ("", "--data-dir <dir>", "the data directory of the broker"),
        ("", "--socket <path>", "the control socket of the broker"),
    ];
    let rows: Vec<_> = rows.iter().map(|(short, long, what)| format!("{short:10}| {long:19}| {what}")).collect();
    format!(
        "\nUsage\n\n{}\n\n{}.\n\n\nGeneral Options\n\nThe following options are accepted by most or all commands.\n\n{}\n",
        usage_line(tool, command),
        command.about.trim_end_matches('.'),
        rows.join("\n")
    )
}

/// There is no such command.
pub(in crate::ctl) fn unknown(tool: Tool, name: &str) -> Failure {
    let advice = match table::nearest(name) {
        Some(near) => format!("Did you mean '{near}'? "),
        None => overview(tool),
    };
    Failure::plain(USAGE, format!("\nCommand '{name}' not found. \n{advice}\n"))
}
