//! Octets on their way to the peer: small frames in one buffer, large bodies beside it without a copy, and replies that
//! must wait for the disk.
//!
//! A reply that promises something durable (declare-ok, commit-ok …) opens a gate: it and everything after it is held back
//! until the store's watermark reaches its ticket, so that order is kept without anybody waiting.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::store::Ticket;

/// Bodies of at least this many octets are written from where they are.
pub(super) const SHARED_MIN_BYTES: usize = 4 * 1024;
/// Pieces handed to the kernel in one call.
const VECTORED_MAX: usize = 64;
/// Capacity that an idle connection's buffer may keep.
const IDLE_CAPACITY: usize = 512;

/// Octets of `tail` that are written from which on it is worth while to move the rest to its start.
const COMPACT_MIN_BYTES: usize = 64 * 1024;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Everything but the bodies in `shared`, in order.
    tail: Vec<u8>,
    /// How much of `tail` is written.
    written: usize,
    /// Bodies, with the place in `tail` that each stands before.
    shared: VecDeque<(usize, Bytes)>,
    shared_len: usize,
    /// The most that `tail` held since it was given back, and what it held at most before that.
    peak: usize,
    usual: usize,
    gates: VecDeque<(Ticket, Vec<u8>)>,
    /// The socket may hold back what it took, as TLS does.
    unflushed: bool,
    sent: Traffic,
}

/// What went one way over a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) octets: u64,
    /// Calls to the system that moved something.
    pub(super) calls: u64,
}

impl Traffic {
    pub(super) fn add(&mut self, octets: usize) {
        self.octets += octets as u64;
        self.calls += 1;
    }
}

impl Output {
    /// The buffer to append frames to.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        match self.gates.back_mut() {
            Some((_, buffer)) => buffer,
            None => &mut self.tail,
        }
    }

    /// Everything appended from now on waits until `ticket` is durable.
    pub(super) fn gate(&mut self, ticket: Ticket, durable: Ticket) {
        if ticket <= durable || self.gates.back().is_some_and(|(last, _)| *last >= ticket) {
            return;
        }
        self.gates.push_back((ticket, Vec::new()));
    }

    /// Whether a gate is closed: large bodies must be copied behind it.
    pub(super) fn is_gated(&self) -> bool {
        !self.gates.is_empty()
    }

    /// Opens the gates that `durable` reaches; true if one did.
    pub(super) fn open_gates(&mut self, durable: Ticket) -> bool {
        let before = self.gates.len();
        while let Some((ticket, _)) = self.gates.front()
            && *ticket <= durable
        {
            let (_, buffer) = self.gates.pop_front().expect("looked at above");
            if self.tail.is_empty() { self.tail = buffer } else { self.tail.extend_from_slice(&buffer) }
        }
        self.gates.len() < before
    }

    /// Appends shared octets without copying them. Not while a gate is closed.
    pub(super) fn push_shared(&mut self, octets: Bytes) {
        self.shared_len += octets.len();
        self.shared.push_back((self.tail.len(), octets));
    }

    /// What was written so far.
    pub(super) fn sent(&self) -> Traffic {
        self.sent
    }

    /// Octets that can be written now.
    pub(super) fn len(&self) -> usize {
        self.shared_len + self.tail.len() - self.written
    }

    /// Whether there is something for [`Output::poll_write`] to do.
    pub(super) fn wants_write(&self) -> bool {
        self.unflushed || self.len() > 0
    }

    /// Octets that wait, gates included.
    pub(super) fn total_len(&self) -> usize {
        self.len() + self.gates.iter().map(|(_, buffer)| buffer.len()).sum::<usize>()
    }

    /// Writes as much as the socket takes; ready when nothing is left, in the socket's own buffers neither.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.peak = self.peak.max(self.tail.len());
        while self.len() > 0 {
            let wrote = if self.shared.is_empty() {
                ready!(Pin::new(&mut *socket).poll_write(context, &self.tail[self.written..]))?
            } else {
                let mut slices = [IoSlice::new(&[]); VECTORED_MAX];
                let count = self.slices(&mut slices);
                ready!(Pin::new(&mut *socket).poll_write_vectored(context, &slices[..count]))?
            };
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent.add(wrote);
            self.advance(wrote);
            self.unflushed = true;
        }
        ready!(Pin::new(&mut *socket).poll_flush(context))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// What is to be written next, in order, as much as there are slices for; returns how many are in use.
    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; VECTORED_MAX]) -> usize {
        let (mut from, mut count) = (self.written, 0);
        let mut add = |octets: &'a [u8]| {
            if !octets.is_empty() && count < VECTORED_MAX {
                slices[count] = IoSlice::new(octets);
                count += 1;
            }
        };
        for (at, body) in self.shared.iter().take(VECTORED_MAX) {
            add(&self.tail[from..*at]);
            add(body);
            from = *at;
        }
        add(&self.tail[from..]);
        count
    }

    fn advance(&mut self, mut count: usize) {
        while let Some((at, body)) = self.shared.front_mut() {
            let before = count.min(*at - self.written);
            self.written += before;
            count -= before;
            let step = count.min(body.len());
            body.advance(step);
            self.shared_len -= step;
            count -= step;
            if !body.is_empty() {
                return self.compact();
            }
            self.shared.pop_front();
        }
        self.written += count;
        self.compact();
    }

    /// Forgets what is written: a peer that never takes all there is must not have it pile up.
    fn compact(&mut self) {
        if self.written == self.tail.len() && self.shared.is_empty() {
            self.tail.clear();
        } else if self.written >= COMPACT_MIN_BYTES && self.written >= self.tail.len() / 2 {
            self.tail.drain(..self.written);
            self.shared.iter_mut().for_each(|(at, _)| *at -= self.written);
        } else {
            return;
        }
        self.written = 0;
    }

    /// Gives memory back while nothing is to be written.
    pub(super) fn shrink(&mut self) {
        if self.tail.is_empty() && self.tail.capacity() > IDLE_CAPACITY {
            self.tail = Vec::new();
            self.usual = std::mem::take(&mut self.peak);
        }
    }

    /// Makes room for what is about to come, as much as it was the last time: growing step by step copies all each time.
    pub(super) fn prepare(&mut self) {
        if self.tail.capacity() == 0 && self.usual > IDLE_CAPACITY {
            self.tail.reserve_exact(self.usual);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &mut Output) -> Vec<u8> {
        let mut sink = Vec::new();
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(output.poll_write(&mut sink, &mut context).is_ready());
        sink
    }

    #[test]
    fn shared_bodies_keep_their_place_among_small_frames() {
        let mut output = Output::default();
        output.buffer().extend_from_slice(b"ab");
        output.push_shared(Bytes::from_static(b"CD"));
        output.buffer().extend_from_slice(b"ef");
        assert_eq!(output.len(), 6);
        assert_eq!(written(&mut output), b"abCDef");
        assert_eq!(output.len(), 0);
    }

    /// A socket that takes so many octets at a time, and then has to be waited for.
    struct Slow {
        takes: usize,
        taken: Vec<u8>,
        ready: bool,
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
            self.ready = !self.ready;
            if !self.ready {
                return Poll::Pending;
            }
            let count = octets.len().min(self.takes);
            self.taken.extend_from_slice(&octets[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_peer_that_never_takes_all_does_not_have_the_rest_pile_up() {
        let mut output = Output::default();
        let mut socket = Slow { takes: 1000, taken: Vec::new(), ready: false };
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut expected = Vec::new();
        for round in 0..2000_usize {
            while output.len() < 5000 {
                let small = [u8::try_from(round % 251).expect("small"); 700];
                output.buffer().extend_from_slice(&small);
                expected.extend_from_slice(&small);
                if round % 3 == 0 {
                    output.push_shared(Bytes::from_static(&[255; 900]));
                    expected.extend_from_slice(&[255; 900]);
                }
            }
            assert!(output.poll_write(&mut socket, &mut context).is_pending());
        }
        assert!(socket.taken.len() > 1_000_000 && expected.starts_with(&socket.taken));
        assert!(output.tail.capacity() < 4 * COMPACT_MIN_BYTES, "{}", output.tail.capacity());
    }

    #[test]
    fn there_is_room_at_once_for_as_much_as_the_last_time() {
        let mut output = Output::default();
        output.prepare();
        assert_eq!(output.tail.capacity(), 0);
        output.buffer().resize(9000, 0);
        assert_eq!(written(&mut output).len(), 9000);
        output.shrink();
        assert_eq!(output.tail.capacity(), 0, "an idle connection holds none");
        output.prepare();
        assert_eq!(output.tail.capacity(), 9000);
        output.buffer().resize(1000, 0);
        assert_eq!(written(&mut output).len(), 1000);
        output.shrink();
        output.prepare();
        assert_eq!(output.tail.capacity(), 1000);
    }

    #[test]
    fn a_gate_holds_back_what_follows_it() {
        let mut output = Output::default();
        output.buffer().push(b'1');
        output.gate(Ticket::new(5), Ticket::new(4));
        output.buffer().push(b'2');
        output.gate(Ticket::new(6), Ticket::new(4));
        output.buffer().push(b'3');
        assert_eq!(written(&mut output), b"1");
        assert!(output.open_gates(Ticket::new(5)));
        output.buffer().push(b'4');
        assert_eq!(written(&mut output), b"2");
        assert!(output.open_gates(Ticket::new(9)));
        assert_eq!(written(&mut output), b"34");
        assert!(!output.is_gated());
    }
}
