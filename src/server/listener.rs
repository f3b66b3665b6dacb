//! Accepting connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::connection::{self, Ends};
use super::registry::Registry;

/// How long to wait when the system has no more sockets to give.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts connections until `stop`; each gets a task in `tasks`.
pub(super) async fn run(listener: TcpListener, registry: Arc<Registry>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                if let Err(cause) = socket.set_nodelay(true) {
                    info!(%peer, %cause, "socket option refused");
                }
                // Unknown only if the peer is gone already.
                let local = socket.local_addr().unwrap_or(peer);
                tasks.spawn(connection::serve(socket, Ends { peer, local }, registry.clone()));
            }
            Err(cause) => {
                warn!(%cause, "a connection cannot be accepted; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Binds a listener.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|cause| format!("cannot listen on {address}: {cause}"))
}
