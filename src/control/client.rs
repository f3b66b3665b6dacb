//! The tools' side of the control socket.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::request::Request;
use super::{Fault, Reply, ReplyLine, RequestLine, VERSION};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// Nobody serves the socket, or it may not be opened.
    Unreachable(io::Error),
    /// The connection broke, or no answer came in time.
    Lost(io::Error),
    /// What came is no answer.
    Garbled(String),
    /// The broker refused.
    Fault(Fault),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(cause) | Self::Lost(cause) => write!(f, "{cause}"),
            Self::Garbled(text) => write!(f, "not an answer: {text}"),
            Self::Fault(fault) => f.write_str(&fault.text),
        }
    }
}

/// A connection to a broker.
#[derive(Debug)]
pub(crate) struct Client {
    socket: BufReader<UnixStream>,
}

impl Client {
    /// Connects; answers must come within `timeout`.
    pub(crate) fn connect(path: &Path, timeout: Option<Duration>) -> Result<Self, ClientError> {
        let socket = UnixStream::connect(path).map_err(ClientError::Unreachable)?;
        // A time-out of zero is refused by the system; the shortest one is what was meant.
        let timeout = timeout.map(|timeout| timeout.max(Duration::from_millis(1)));
        socket.set_read_timeout(timeout).map_err(ClientError::Lost)?;
        socket.set_write_timeout(timeout).map_err(ClientError::Lost)?;
        Ok(Self { socket: BufReader::new(socket) })
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Value, ClientError> {
        let request = serde_json::to_value(request).map_err(|cause| ClientError::Garbled(cause.to_string()))?;
        let line = RequestLine { v: VERSION, request };
        let mut out = serde_json::to_vec(&line).map_err(|cause| ClientError::Garbled(cause.to_string()))?;
        out.push(b'\n');
        self.socket.get_mut().write_all(&out).map_err(ClientError::Lost)?;
        let mut answer = Vec::new();
        let read = self.socket.read_until(b'\n', &mut answer).map_err(ClientError::Lost)?;
        if read == 0 {
            return Err(ClientError::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        let line: ReplyLine =
            serde_json::from_slice(&answer).map_err(|cause| ClientError::Garbled(cause.to_string()))?;
        match line.reply {
            Reply::Ok(value) => Ok(value),
            Reply::Fault(fault) => Err(ClientError::Fault(fault)),
        }
    }

    /// Waits until the broker closes the connection; false when it does not in time.
    pub(crate) fn wait_for_end(&mut self) -> bool {
        let mut rest = Vec::new();
        // A broker that is killed resets the connection: that is an end too.
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(cause) => !matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }
}
