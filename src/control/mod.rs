//! The control socket: how operators' tools reach a running broker on the same machine.
//!
//! A Unix-domain socket, by default `control.sock` in the data directory. Who may open it (mode 0600) may do everything,
//! as with RabbitMQ's Erlang cookie. Each line is one JSON object: `{"v":1,"request":…}` from the client,
//! `{"v":1,"ok":…}` or `{"v":1,"fault":{"kind":…,"text":…}}` back, in order; any number of requests a connection.
//!
//! `request` holds what may be asked, a file for each theme, and what becomes of it: calls of
//! [`Operator`](crate::server::operator::Operator), nothing else. `server` is the socket, `client` the other side of it.

#[cfg(unix)]
pub(crate) mod client;
mod fault;
pub(crate) mod request;
#[cfg(unix)]
pub(crate) mod server;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use fault::{Fault, FaultKind};

use crate::config::{Config, ControlSocket, DataDir};

/// The version of the protocol. A request of another version is refused.
const VERSION: u32 = 1;
/// Octets of a request's line at most: room for the definitions of a large broker.
const REQUEST_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The socket's name in the data directory.
const SOCKET_NAME: &str = "control.sock";

/// What a client sends. The request is parsed by itself, so that a newer version gets a clear answer.
#[derive(Debug, Serialize, Deserialize)]
struct RequestLine {
    v: u32,
    request: Value,
}

/// What the broker answers.
#[derive(Debug, Serialize, Deserialize)]
struct ReplyLine {
    v: u32,
    #[serde(flatten)]
    reply: Reply,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Ok(Value),
    Fault(Fault),
}

/// Where the socket of a broker with this configuration is; `None` if it has none.
pub(crate) fn socket_path(config: &Config) -> Option<PathBuf> {
    match (&config.control_socket, &config.data_dir) {
        (ControlSocket::Path(path) | ControlSocket::IfFree(path), _) => Some(path.clone()),
        (ControlSocket::Default, DataDir::Path(dir)) => Some(dir.join(SOCKET_NAME)),
        (ControlSocket::Default, DataDir::Ephemeral) | (ControlSocket::Off, _) => None,
    }
}
