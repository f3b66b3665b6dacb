//! Why a command failed, and with which exit code (those of sysexits.h, as RabbitMQ's tools have them).

use super::Tool;
use super::table::Command;

/// The command line is wrong.
pub(super) const USAGE: u8 = 64;
/// An argument's value is wrong.
pub(super) const DATA: u8 = 65;
/// No such user.
pub(super) const NO_USER: u8 = 67;
/// The broker cannot be reached, or refuses.
pub(super) const UNAVAILABLE: u8 = 69;
/// The broker failed, or what was to be made exists.
pub(super) const SOFTWARE: u8 = 70;
/// A file cannot be read or written.
pub(super) const INPUT_OUTPUT: u8 = 74;
/// Not within the time allowed.
pub(super) const TEMPORARY: u8 = 75;

/// What goes to standard error, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) text: String,
}

impl Failure {
    /// A text as it is.
    pub(super) fn plain(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// A text below the word `Error:`.
    pub(super) fn error(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: format!("Error:\n{}", text.into()) }
    }

    /// An argument that will not do.
    pub(super) fn invalid(tool: Tool, command: &Command, arguments: &[String], code: u8, text: &str) -> Self {
        let usage = usage_line(tool, command);
        let given = arguments.join(" ");
        Self {
            code,
            text: format!("Error (argument validation): {text}\nArguments given:\n\t{given}\n\nUsage\n\n{usage}"),
        }
    }

    /// Writes it to standard error.
    pub(super) fn print(&self) {
        if !self.text.is_empty() {
            eprintln!("{}", self.text);
        }
    }
}

/// The line that shows how a command is used.
pub(super) fn usage_line(tool: Tool, command: &Command) -> String {
    let usage = if command.usage.is_empty() { String::new() } else { format!(" {}", command.usage) };
    format!("{} [--node <node>] [--longnames] [--quiet] {}{usage}", tool.name(), command.name)
}
