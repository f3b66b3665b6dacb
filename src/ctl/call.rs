//! One call of a command: its arguments, the broker that it talks to, what it says on the way.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::failure::{DATA, Failure, NO_USER, SOFTWARE, TEMPORARY, UNAVAILABLE, USAGE};
use super::output::{Style, line};
use super::parse::{Formatter, Options, Parsed, Patience};
use super::table::Command;
use super::{Tool, locate};
use crate::control::client::{Client, ClientError};
use crate::control::request::Request;
use crate::control::{Fault, FaultKind};

/// How long an answer may take unless the caller says otherwise. RabbitMQ's tools allow a minute too.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A command at work.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) tool: Tool,
    pub(super) options: &'a Options,
    command: &'static Command,
    words: &'a [String],
    arguments: &'a [String],
    client: Option<Client>,
}

impl<'a> Call<'a> {
    pub(super) fn new(tool: Tool, command: &'static Command, parsed: &'a Parsed, arguments: &'a [String]) -> Self {
        Self { tool, options: &parsed.options, command, words: &parsed.words[1..], arguments, client: None }
    }

    /// The arguments behind the command's name.
    pub(super) fn words(&self) -> &'a [String] {
        self.words
    }

    /// An argument; empty if there is none.
    pub(super) fn word(&self, at: usize) -> &'a str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// Whether a switch of the command is there.
    pub(super) fn has(&self, switch: &str) -> bool {
        self.options.own.contains_key(switch)
    }

    /// The value of a switch of the command.
    pub(super) fn own(&self, switch: &str) -> Option<&'a str> {
        self.options.own.get(switch).map(String::as_str)
    }

    /// The vhost that the command is about.
    pub(super) fn vhost(&self) -> String {
        self.options.vhost.clone().unwrap_or_else(|| "/".to_owned())
    }

    /// The name of the broker in texts.
    pub(super) fn node(&self) -> String {
        locate::node(self.options)
    }

    /// How the result is to be shown.
    pub(super) fn style(&self) -> Style {
        let headers = !self.options.silent && !self.options.no_table_headers;
        Style { formatter: self.options.formatter, headers }
    }

    /// Says what is being done, unless nobody wants to know or a program reads.
    pub(super) fn banner(&self, text: &str) -> Result<(), Failure> {
        let machine = matches!(self.options.formatter, Formatter::Json | Formatter::Csv);
        if self.options.quiet || self.options.silent || machine { Ok(()) } else { line(text) }
    }

    /// How long it may take; `None` for as long as it takes.
    pub(super) fn timeout(&self) -> Option<Duration> {
        match self.options.timeout {
            None => Some(TIMEOUT),
            Some(Patience::For(timeout)) => Some(timeout),
            Some(Patience::Infinite) => None,
        }
    }

    /// A complaint about an argument, with the command's usage.
    pub(super) fn invalid(&self, text: &str) -> Failure {
        Failure::invalid(self.tool, self.command, self.arguments, DATA, text)
    }

    /// The same for what is wrong with the words or options themselves.
    pub(super) fn misused(&self, text: &str) -> Failure {
        Failure::invalid(self.tool, self.command, self.arguments, USAGE, text)
    }

    /// Asks the broker, which a command may do as often as it needs to.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Failure> {
        let answer = self.try_ask(request).map_err(|error| self.failed(&error))?;
        serde_json::from_value(answer).map_err(|cause| Failure::error(SOFTWARE, format!("not the answer: {cause}")))
    }

    /// Asks the broker; what went wrong is for the command to judge.
    pub(super) fn try_ask(&mut self, request: &Request) -> Result<serde_json::Value, ClientError> {
        self.client()?.ask(request)
    }

    fn client(&mut self) -> Result<&mut Client, ClientError> {
        if self.client.is_none() {
            self.client = Some(self.connect()?);
        }
        Ok(self.client.as_mut().expect("there is one now"))
    }

    fn connect(&self) -> Result<Client, ClientError> {
        let mut missing = ClientError::Unreachable(std::io::ErrorKind::NotFound.into());
        for path in locate::sockets(self.options) {
            match Client::connect(&path, self.timeout()) {
                Ok(client) => return Ok(client),
                Err(error) => missing = error,
            }
        }
        Err(missing)
    }

    /// Waits until the broker that was told to stop has gone.
    pub(super) fn wait_for_end(&mut self) -> bool {
        self.client.as_mut().is_none_or(Client::wait_for_end)
    }

    /// What to say when there is no answer, or a refusal that the command has no words of its own for.
    pub(super) fn failed(&self, error: &ClientError) -> Failure {
        match error {
            ClientError::Unreachable(cause) => self.unreachable(cause),
            ClientError::Lost(cause)
                if matches!(cause.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                let millis = self.timeout().unwrap_or_default().as_millis();
                let text = format!("operation {} on node {} timed out", self.command.name, self.node());
                Failure::plain(TEMPORARY, format!("Error: {text}. Timeout value used: {millis}"))
            }
            ClientError::Lost(cause) => {
                Failure::error(UNAVAILABLE, format!("the connection to the broker broke: {cause}"))
            }
            ClientError::Garbled(_) => Failure::error(SOFTWARE, error.to_string()),
            ClientError::Fault(fault) => refused(fault),
        }
    }

    fn unreachable(&self, cause: &std::io::Error) -> Failure {
        let node = self.node();
        let tried: Vec<PathBuf> = locate::sockets(self.options);
        let tried: Vec<_> = tried.iter().map(|path| format!("    {}", path.display())).collect();
        Failure::plain(
            UNAVAILABLE,
            format!(
                "Error: unable to perform an operation on node '{node}'. Please see diagnostics information and \
                 suggestions below.\n\nMost common reasons for this are:\n\n \
                 * The broker is not running\n \
                 * Its control socket is elsewhere (see --data-dir, --socket and LEVERET_CONTROL_SOCKET)\n \
                 * This user may not open the control socket: it is its owner's alone\n\n\
                 DIAGNOSTICS\n===========\n\nattempted to open:\n{}\n\n{cause}",
                tried.join("\n")
            ),
        )
    }
}

/// A refusal of the broker.
fn refused(fault: &Fault) -> Failure {
    match fault.kind {
        FaultKind::NoSuchVhost => Failure::plain(DATA, fault.text.clone()),
        FaultKind::NoSuchUser => Failure::error(NO_USER, fault.text.clone()),
        FaultKind::NoSuchQueue
        | FaultKind::NoSuchConnection
        | FaultKind::NotFound
        | FaultKind::Invalid
        | FaultKind::Unsupported
        | FaultKind::BadRequest => Failure::error(UNAVAILABLE, fault.text.clone()),
        FaultKind::QueueInUse | FaultKind::QueueNotEmpty => Failure::error(USAGE, fault.text.clone()),
        FaultKind::Exists | FaultKind::Internal => Failure::error(SOFTWARE, fault.text.clone()),
    }
}
