//! The operator's command line: `leveret ctl`, and RabbitMQ's tools when the binary is started under their names.
//!
//! ```text
//! arguments ─► parse (options anywhere, as in RabbitMQ's tools) ─► commands (a table) ─► control socket ─► output
//! ```
//!
//! Names, arguments, columns, texts and exit codes are RabbitMQ's, because scripts read them. The argument grammar is
//! too, which is why it is not clap's: options stand before or after the command, and a mistake has RabbitMQ's words and
//! codes. What differs is in `docs/deviations.md`.
//! Not here: deciding anything about the broker.

mod call;
mod commands;
mod failure;
mod locate;
mod output;
mod parse;
mod table;
mod term;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use call::Call;
use failure::{Failure, USAGE};
use parse::Parsed;
use table::Command;

/// The tools that the binary can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `leveret ctl`
    Leveret,
    /// `rabbitmqctl`
    Ctl,
    /// `rabbitmq-diagnostics`
    Diagnostics,
    /// `rabbitmq-queues`
    Queues,
    /// `rabbitmq-plugins`
    Plugins,
    /// `rabbitmq-upgrade`
    Upgrade,
}

impl Tool {
    /// The tool that a program's name stands for; `None` for the broker itself.
    ///
    /// ```
    /// use leveret::ctl::Tool;
    /// assert_eq!(Tool::from_program("/usr/sbin/rabbitmqctl".as_ref()), Some(Tool::Ctl));
    /// assert_eq!(Tool::from_program("leveret".as_ref()), None);
    /// ```
    pub fn from_program(path: &OsStr) -> Option<Self> {
        let name = Path::new(path).file_stem()?.to_str()?;
        Self::NAMED.into_iter().find(|tool| tool.name() == name)
    }

    const NAMED: [Self; 5] = [Self::Ctl, Self::Diagnostics, Self::Queues, Self::Plugins, Self::Upgrade];

    /// What it is called in texts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leveret => "leveret ctl",
            Self::Ctl => "rabbitmqctl",
            Self::Diagnostics => "rabbitmq-diagnostics",
            Self::Queues => "rabbitmq-queues",
            Self::Plugins => "rabbitmq-plugins",
            Self::Upgrade => "rabbitmq-upgrade",
        }
    }
}

/// The control sockets to try for a broker: one that is named, that of a data directory, or those of the configuration.
pub(crate) fn sockets(socket: Option<PathBuf>, data_dir: Option<PathBuf>) -> Vec<PathBuf> {
    locate::sockets(&parse::Options { socket, data_dir, ..parse::Options::default() })
}

/// Runs a tool with its arguments, without the program's name.
pub fn run(tool: Tool, arguments: &[String]) -> ExitCode {
    let result = dispatch(tool, arguments);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(tool: Tool, arguments: &[String]) -> Result<(), Failure> {
    let parsed = Parsed::of(arguments);
    let Some(name) = parsed.words.first() else {
        if parsed.options.version {
            return output::line(&commands::version());
        }
        let help = commands::overview(tool);
        if parsed.options.help {
            return output::line(&help);
        }
        return Err(Failure::plain(USAGE, help));
    };
    let command = table::find(name).ok_or_else(|| commands::unknown(tool, name))?;
    if parsed.options.help && command.name != "help" {
        return output::line(&commands::help_of(tool, command));
    }
    validate(tool, command, &parsed, arguments)?;
    let mut call = Call::new(tool, command, &parsed, arguments);
    let output = (command.run)(&mut call)?;
    output.print(call.style())
}

/// What is wrong with a command's arguments, in the order in which RabbitMQ's tools look.
fn validate(tool: Tool, command: &Command, parsed: &Parsed, arguments: &[String]) -> Result<(), Failure> {
    let invalid = |text: &str| Err(Failure::invalid(tool, command, arguments, USAGE, text));
    let mut bad = parsed.bad.clone();
    let own = |name: &String| !command.switches.iter().any(|switch| switch.trim_end_matches('=') == name);
    bad.extend(parsed.options.own.keys().filter(|name| own(name)).map(|name| (format!("--{name}"), String::new())));
    if !bad.is_empty() {
        let list: Vec<_> = bad.iter().map(|(name, value)| format!("{name} : {value}")).collect();
        return invalid(&format!("Invalid options for this command:\n{}", list.join("\n")));
    }
    let count = parsed.words.len() - 1;
    if count < command.args.0 {
        return invalid("not enough arguments.");
    }
    if count > command.args.1 {
        return invalid("too many arguments.");
    }
    Ok(())
}
