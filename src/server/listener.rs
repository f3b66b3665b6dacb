//! Accepting connections: what happens to a socket before its client may say who it is.
//!
//! A PROXY header, the TLS handshake and the AMQP handshake have one deadline together, and a place in the waiting room.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::connection::{self, Arrival, Ends};
use super::registry::Registry;
use super::tls::{Acceptor, TlsFacts};
use super::waiting_room::Place;
use super::{clock, proxy};
use crate::config::SocketOptions;

/// How long to wait when the system has no more sockets to give.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Where clients come in.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: TcpListener,
    /// How TLS is spoken, if it is.
    pub(super) tls: Option<Arc<Acceptor>>,
}

/// Accepts connections until `stop`; each gets a task in `tasks`.
pub(super) async fn run(door: Door, registry: Arc<Registry>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = door.listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let live = registry.live();
                if let Err(cause) = set_options(&socket, live.sockets) {
                    info!(%peer, %cause, "socket option refused");
                }
                let entrance = Entrance {
                    // Unknown only if the peer is gone already.
                    ends: Ends { peer, local: socket.local_addr().unwrap_or(peer), via: None },
                    deadline: Instant::from_std(clock::instant()) + live.handshake_timeout,
                    place: registry.waiting_room.enter(peer.ip()),
                    registry: registry.clone(),
                };
                // Two tasks of different size: one without TLS has no room for it.
                match &door.tls {
                    None => drop(tasks.spawn(entrance.plain(socket))),
                    Some(acceptor) => drop(tasks.spawn(entrance.over_tls(socket, acceptor.clone()))),
                }
            }
            Err(cause) => {
                warn!(%cause, "a connection cannot be accepted; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// A connection that was accepted.
struct Entrance {
    ends: Ends,
    deadline: Instant,
    place: Place,
    registry: Arc<Registry>,
}

impl Entrance {
    async fn plain(mut self, mut socket: TcpStream) {
        if self.is_proxied() && !self.learn_ends(&mut socket).await {
            return;
        }
        self.serve(socket, None).await;
    }

    async fn over_tls(mut self, mut socket: TcpStream, acceptor: Arc<Acceptor>) {
        if self.is_proxied() && !self.learn_ends(&mut socket).await {
            return;
        }
        let within = self.registry.live().tls_handshake_timeout;
        let Some(stream) = self.in_time("TLS", acceptor.accept(socket, within)).await else { return };
        let facts = TlsFacts::of(stream.get_ref().1);
        self.serve(stream, Some(Arc::new(facts))).await;
    }

    async fn serve<S>(self, socket: S, tls: Option<Arc<TlsFacts>>)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let Self { ends, deadline, place, registry } = self;
        connection::serve(socket, Arrival { ends, tls, deadline, place: Some(place) }, registry).await;
    }

    fn is_proxied(&self) -> bool {
        proxy::is_expected(&self.registry.live(), self.ends.peer.ip())
    }

    /// Reads the PROXY header; false when there is none that can be used.
    async fn learn_ends(&mut self, socket: &mut TcpStream) -> bool {
        match self.in_time("PROXY", proxy::read(socket)).await {
            Some(Some([peer, local])) => {
                self.ends = Ends { peer, local, via: Some(self.ends.peer.ip()) };
                true
            }
            Some(None) => true,
            None => false,
        }
    }

    /// What a step leads to; `None` if it fails, takes too long, or has to make room.
    async fn in_time<T>(&self, step: &'static str, work: impl Future<Output = io::Result<T>>) -> Option<T> {
        let peer = self.ends.peer;
        tokio::select! {
            done = tokio::time::timeout_at(self.deadline, work) => match done {
                Ok(Ok(result)) => return Some(result),
                Ok(Err(cause)) => info!(%peer, step, %cause, "connection refused"),
                Err(_) => info!(%peer, step, "connection closed: the handshake took too long"),
            },
            () = self.place.ended() => info!(%peer, step, "connection closed: too many have not logged in"),
        }
        None
    }
}

fn set_options(socket: &TcpStream, options: SocketOptions) -> io::Result<()> {
    socket.set_nodelay(options.nodelay)?;
    let socket = SockRef::from(socket);
    if options.keepalive {
        socket.set_keepalive(true)?;
    }
    if let Some(octets) = options.send_buffer {
        socket.set_send_buffer_size(octets as usize)?;
    }
    if let Some(octets) = options.receive_buffer {
        socket.set_recv_buffer_size(octets as usize)?;
    }
    Ok(())
}

/// Binds a listener. Every IPv6 address is every IPv4 address where there is no IPv6.
pub(crate) fn bind(address: SocketAddr, backlog: u32) -> Result<TcpListener, String> {
    let bound = try_bind(address, backlog).or_else(|cause| match address {
        SocketAddr::V6(address) if address.ip().is_unspecified() && lacks_ipv6(&cause) => {
            try_bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())), backlog)
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => Err(cause),
    });
    bound.map_err(|cause| format!("cannot listen on {address}: {cause}"))
}

/// Whether the system has no IPv6, or not now.
fn lacks_ipv6(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        // EAFNOSUPPORT has no kind of its own.
        || matches!(cause.raw_os_error(), Some(97 | 47 | 10047))
}

fn try_bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Windows means something else by it.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Where IPv6 and IPv4 are apart by default, every address is still every address.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}
