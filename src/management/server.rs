//! Sockets of the API, and the threads that serve them.
//!
//! A runtime of its own keeps what is asked here off the threads that AMQP runs on. Every connection is bounded: in time
//! for its head, for its body ([`super::body`]) and for taking the answer, in octets of its head, and there are only so
//! many; more wait to be accepted.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::request::Ends;
use super::routes::Service;
use crate::server::operator::Operator;
use crate::server::tls::Acceptor;

/// Threads: one may be busy with a large listing while another answers.
const THREADS: usize = 2;
/// Connections at once.
const CONNECTIONS_MAX: usize = 512;
/// How long a client may take for a request's head, and be silent between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Octets of a request's head.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// How long a client may take none of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests may take to end when the broker stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait when the system has no more sockets to give.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The API while the broker runs. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Management {
    addresses: Vec<SocketAddr>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Where clients come in, over TLS if there is an acceptor for it.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: StdListener,
    pub(crate) tls: Option<Arc<Acceptor>>,
}

/// Opens a listener.
pub(crate) fn bind(address: SocketAddr) -> Result<StdListener, String> {
    let open = || {
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok::<_, io::Error>(listener)
    };
    open().map_err(|cause| format!("cannot listen on {address} for management: {cause}"))
}

impl Management {
    /// Serves the API on these listeners, and the metrics on those.
    pub(crate) fn start(doors: Vec<Door>, metrics: Vec<Door>, operator: Operator) -> Result<Self, String> {
        let addresses: Result<Vec<_>, _> = doors.iter().map(|door| door.listener.local_addr()).collect();
        let addresses = addresses.map_err(|cause| cause.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("management")
            .enable_all()
            .build()
            .map_err(|cause| format!("cannot start the threads of the management API: {cause}"))?;
        let stop = CancellationToken::new();
        let (stopping, named) = (stop.clone(), addresses.clone());
        let thread = std::thread::Builder::new().name("management".to_owned()).spawn(move || {
            let services = [(doors, Service::new(operator.clone())), (metrics, Service::metrics(operator))];
            runtime.block_on(serve(services, stopping));
            for address in named {
                info!(%address, "the management HTTP API is closed");
            }
            runtime.shutdown_timeout(STOP_PATIENCE);
        });
        let thread = thread.map_err(|cause| format!("cannot start the management API: {cause}"))?;
        Ok(Self { addresses, stop, thread: Some(thread) })
    }

    /// The addresses that it listens on.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Ends it: nobody new is heard, what was asked is answered.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has ended. It blocks.
    pub(crate) fn join(&mut self) {
        self.stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the management API ended with a panic");
        }
    }
}

impl Drop for Management {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(services: [(Vec<Door>, Service); 2], stop: CancellationToken) {
    let (tasks, places) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let each =
        services.into_iter().flat_map(|(doors, service)| doors.into_iter().map(move |door| (door, service.clone())));
    for (Door { listener, tls }, service) in each {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                let (service, stop, places) = (service.clone(), stop.clone(), places.clone());
                tasks.spawn(accept(listener, tls, service, stop, places, tasks.clone()));
            }
            Err(cause) => error!(%cause, "a listener of the management API cannot be used"),
        }
    }
    stop.cancelled().await;
    tasks.close();
    let _late = tokio::time::timeout(STOP_PATIENCE, tasks.wait()).await;
}

async fn accept(
    listener: TcpListener,
    tls: Option<Arc<Acceptor>>,
    service: Service,
    stop: CancellationToken,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
) {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let ends = Ends { peer, local: socket.local_addr().unwrap_or(peer) };
                if let Err(cause) = socket.set_nodelay(true) {
                    info!(%peer, %cause, "socket option refused");
                }
                let (service, stop, tls) = (service.clone(), stop.clone(), tls.clone());
                tasks.spawn(async move {
                    match tls {
                        None => connection(socket, ends, service, stop).await,
                        Some(acceptor) => match acceptor.accept(socket, HEAD_TIMEOUT).await {
                            Ok(stream) => connection(stream, ends, service, stop).await,
                            Err(cause) => tracing::debug!(%peer, %cause, "no TLS for the management API"),
                        },
                    }
                    drop(place);
                });
            }
            Err(cause) => {
                warn!(%cause, "a connection to the management API cannot be accepted; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Answers the requests of one connection.
async fn connection<S>(socket: S, ends: Ends, service: Service, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handle = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = service.clone().answer(request.map(Body::new), ends);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX_BYTES).half_close(true);
    let served = builder.serve_connection(TokioIo::new(Patient::new(socket)), handle);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => Some(ended),
        () = stop.cancelled() => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        served.as_mut().graceful_shutdown();
        served.await
    };
    if let Err(cause) = ended {
        tracing::debug!(peer = %ends.peer, %cause, "a connection to the management API was lost");
    }
}

/// A socket that gives up on a peer that takes nothing for too long.
struct Patient<S> {
    socket: S,
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(socket: S) -> Self {
        Self { socket, writing: None }
    }

    /// What became of an attempt to write.
    fn wrote<T>(&mut self, result: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.writing = None;
            return result;
        }
        let patience = self.writing.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        match patience.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.socket).poll_write(context, octets);
        this.wrote(result, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.socket).poll_write_vectored(context, octets);
        this.wrote(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.socket).poll_flush(context);
        this.wrote(result, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}
