//! Why a run of the load generator failed.

use std::{fmt, io};

use leveret_protocol::{DecodeError, FrameError, ReplyCode};

/// Why a run failed.
#[derive(Debug)]
pub enum PerfError {
    /// The options contradict each other, or the URL cannot be used.
    BadArguments(String),
    /// The broker cannot be reached.
    Connect {
        /// Where it should be.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The socket failed.
    Io(io::Error),
    /// The broker closed the socket without a close method.
    Disconnected,
    /// The broker did not answer.
    TimedOut {
        /// The method that was sent.
        waiting_after: &'static str,
    },
    /// What the broker sent is no frame.
    Frame(FrameError),
    /// What the broker sent is no method.
    Decode(DecodeError),
    /// The broker sent something that has no place there.
    Unexpected(String),
    /// The broker closed the channel or the connection.
    Closed {
        /// `channel` or `connection`.
        scope: &'static str,
        /// Its reply code.
        code: ReplyCode,
        /// Its reply text.
        text: String,
    },
    /// The run was given up before this connection had finished.
    Aborted,
    /// The statistics of the broker's process cannot be read.
    BrokerProcess {
        /// The process.
        pid: u32,
        /// Why not.
        source: io::Error,
    },
    /// Not everything that was published has been consumed once, or confirmed.
    Incomplete {
        /// Published and not consumed.
        lost: u64,
        /// Consumed more than once without the redelivered flag.
        duplicated: u64,
        /// Published and not confirmed.
        unconfirmed: u64,
        /// Published and refused.
        nacked: u64,
    },
    /// The report cannot be written.
    Report(io::Error),
}

impl fmt::Display for PerfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadArguments(text) => f.write_str(text),
            Self::Connect { address, source } => write!(f, "cannot connect to {address}: {source}"),
            Self::Io(source) => write!(f, "socket: {source}"),
            Self::Disconnected => f.write_str("the broker closed the socket"),
            Self::TimedOut { waiting_after } => write!(f, "no answer to {waiting_after}"),
            Self::Frame(error) => write!(f, "bad frame from the broker: {error}"),
            Self::Decode(error) => write!(f, "bad method from the broker: {error}"),
            Self::Unexpected(what) => write!(f, "unexpected from the broker: {what}"),
            Self::Closed { scope, code, text } => write!(f, "the broker closed the {scope}: {code} {text}"),
            Self::Aborted => f.write_str("a connection was given up before it had finished"),
            Self::BrokerProcess { pid, source } => write!(f, "cannot read the statistics of process {pid}: {source}"),
            Self::Incomplete { lost, duplicated, unconfirmed, nacked } => {
                write!(f, "messages: {lost} lost, {duplicated} duplicated, {unconfirmed} unconfirmed, {nacked} nacked")
            }
            Self::Report(source) => write!(f, "cannot write the report: {source}"),
        }
    }
}

impl std::error::Error for PerfError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. }
            | Self::Io(source)
            | Self::BrokerProcess { source, .. }
            | Self::Report(source) => Some(source),
            Self::Frame(error) => Some(error),
            Self::Decode(error) => Some(error),
            Self::BadArguments(_)
            | Self::Disconnected
            | Self::TimedOut { .. }
            | Self::Unexpected(_)
            | Self::Closed { .. }
            | Self::Aborted
            | Self::Incomplete { .. } => None,
        }
    }
}
