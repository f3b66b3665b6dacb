//! A connection between a client and the broker: octets that travel in pieces of any size, and may be lost.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Octets that the broker can write before the client has to read.
const SOCKET_BUFFER_BYTES: usize = 64 * 1024;

/// Says that a task wants to be polled.
#[derive(Debug)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn raised() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(super) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn lower(&self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[derive(Debug, Default)]
struct Pipes {
    /// Written by the client, still on its way.
    travelling: VecDeque<u8>,
    /// Arrived at the broker.
    arrived: VecDeque<u8>,
    /// Written by the broker.
    to_client: VecDeque<u8>,
    /// Nothing more comes from the client.
    lost: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The client's end.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire(Rc<RefCell<Pipes>>);

impl Wire {
    /// The broker's end.
    pub(super) fn socket(&self) -> Socket {
        Socket(self.0.clone())
    }

    pub(super) fn send(&self, octets: &[u8]) {
        self.0.borrow_mut().travelling.extend(octets);
    }

    /// Octets on their way to the broker.
    pub(super) fn travelling(&self) -> usize {
        self.0.borrow().travelling.len()
    }

    /// Octets that the client can read.
    pub(super) fn readable(&self) -> usize {
        self.0.borrow().to_client.len()
    }

    /// Has octets arrive at the broker.
    pub(super) fn arrive(&self, count: usize) {
        let mut pipes = self.0.borrow_mut();
        let count = count.min(pipes.travelling.len());
        let octets: Vec<u8> = pipes.travelling.drain(..count).collect();
        pipes.arrived.extend(octets);
        if let Some(waker) = pipes.reader.take() {
            waker.wake();
        }
    }

    /// Takes octets that the broker wrote.
    pub(super) fn take(&self, count: usize) -> Vec<u8> {
        let mut pipes = self.0.borrow_mut();
        let count = count.min(pipes.to_client.len());
        let octets = pipes.to_client.drain(..count).collect();
        if let Some(waker) = pipes.writer.take() {
            waker.wake();
        }
        octets
    }

    /// The connection is lost after this many more octets of the client.
    pub(super) fn lose(&self, after: usize) {
        self.arrive(after);
        let mut pipes = self.0.borrow_mut();
        pipes.lost = true;
        pipes.travelling.clear();
        for waker in [pipes.reader.take(), pipes.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// The broker's end.
#[derive(Debug)]
pub(super) struct Socket(Rc<RefCell<Pipes>>);

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipes = self.0.borrow_mut();
        if pipes.arrived.is_empty() {
            if pipes.lost {
                return Poll::Ready(Ok(()));
            }
            pipes.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = out.remaining().min(pipes.arrived.len());
        let octets: Vec<u8> = pipes.arrived.drain(..count).collect();
        out.put_slice(&octets);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipes = self.0.borrow_mut();
        if pipes.lost {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = SOCKET_BUFFER_BYTES.saturating_sub(pipes.to_client.len());
        if room == 0 {
            pipes.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = room.min(octets.len());
        pipes.to_client.extend(&octets[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
