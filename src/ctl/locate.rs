//! Where the broker is: its control socket, from flags, the environment, or the configuration that the broker reads too.

use std::path::PathBuf;

use super::parse::Options;
use crate::config::{Config, ControlSocket, DataDir, Settings};
use crate::control::socket_path;

/// The variable that names the socket.
const SOCKET_VARIABLE: &str = "LEVERET_CONTROL_SOCKET";

/// The sockets to try, in this order, and what the broker's configuration says.
pub(super) fn sockets(options: &Options) -> Vec<PathBuf> {
    if let Some(path) = &options.socket {
        return vec![path.clone()];
    }
    if let Some(dir) = &options.data_dir {
        let config = Config { data_dir: DataDir::Path(dir.clone()), ..Config::default() };
        return socket_path(&config).into_iter().collect();
    }
    if let Some(path) = std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()) {
        return vec![PathBuf::from(path)];
    }
    let config = configuration().config;
    let ephemeral = crate::config::ephemeral_socket();
    match &config.control_socket {
        ControlSocket::Default => socket_path(&config).into_iter().chain([ephemeral]).collect(),
        ControlSocket::Path(_) | ControlSocket::IfFree(_) | ControlSocket::Off => {
            socket_path(&config).into_iter().collect()
        }
    }
}

/// The name of the node, as its configuration says and texts repeat it.
pub(super) fn node(options: &Options) -> String {
    match &options.node {
        Some(node) => crate::config::full_node_name(node),
        None => configuration().config.node_name,
    }
}

/// The configuration that a broker started without flags would have. One that cannot be read does not keep a tool from
/// trying: the broker's own start says what is wrong with it.
fn configuration() -> Settings {
    Settings::gather(None).unwrap_or_else(|_| Settings::of_system())
}
