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
const VECTORED_MAX: usize = 32;
/// Capacity that an idle connection's buffer may keep.
const IDLE_CAPACITY: usize = 512;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    pieces: VecDeque<Bytes>,
    pieces_len: usize,
    tail: Vec<u8>,
    written: usize,
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
        self.seal_tail();
        self.pieces_len += octets.len();
        self.pieces.push_back(octets);
    }

    fn seal_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let mut piece = Bytes::from(std::mem::take(&mut self.tail));
        piece.advance(self.written);
        self.written = 0;
        self.pieces_len += piece.len();
        self.pieces.push_back(piece);
    }

    /// What was written so far.
    pub(super) fn sent(&self) -> Traffic {
        self.sent
    }

    /// Octets that can be written now.
    pub(super) fn len(&self) -> usize {
        self.pieces_len + self.tail.len() - self.written
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
            let wrote = if self.pieces.is_empty() {
                ready!(Pin::new(&mut *socket).poll_write(context, &self.tail[self.written..]))?
            } else {
                let rest = [&self.tail[self.written..]];
                let slices: Vec<IoSlice<'_>> = self
                    .pieces
                    .iter()
                    .map(|piece| &piece[..])
                    .chain(rest)
                    .take(VECTORED_MAX)
                    .map(IoSlice::new)
                    .collect();
                ready!(Pin::new(&mut *socket).poll_write_vectored(context, &slices))?
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

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let step = count.min(piece.len());
            piece.advance(step);
            self.pieces_len -= step;
            count -= step;
            if !piece.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
        self.written += count;
        if self.written == self.tail.len() {
            self.tail.clear();
            self.written = 0;
        }
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
