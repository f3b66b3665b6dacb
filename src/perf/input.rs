//! What has been read from a socket and not yet been looked at.
//!
//! Octets are read behind those that are left; complete frames are taken from the front and borrowed from the buffer.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;

use leveret_protocol::{FrameError, RawFrame, split_frame};

use super::client::{Filled, is_timeout};

/// The octets of the buffer; two frames of the largest size fit.
const BUFFER_BYTES: usize = 256 * 1024;

/// The least room for a read, so that the end of a buffer is not filled in small pieces.
const READ_BYTES: usize = 64 * 1024;

/// A buffer grows to this if the peer sends while it takes nothing; what is beyond stays in the socket.
const MAX_BUFFER_BYTES: usize = 64 * 1024 * 1024;

/// A buffer in front of a socket.
#[derive(Debug)]
pub(super) struct Input {
    octets: Vec<u8>,
    /// Where the octets begin that have been read and not taken.
    start: usize,
    /// Where they end.
    end: usize,
}

impl Input {
    pub(super) fn new() -> Self {
        Self { octets: vec![0; BUFFER_BYTES], start: 0, end: 0 }
    }

    /// Reads once, for as long as the socket blocks. The end of the stream is an error.
    #[inline]
    pub(super) fn read(&mut self, mut stream: &TcpStream) -> io::Result<Filled> {
        self.make_room();
        let room = self.octets.get_mut(self.end..).unwrap_or_default();
        if room.is_empty() {
            return Ok(Filled::Nothing);
        }
        match stream.read(room) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.end += count;
                Ok(Filled::Octets)
            }
            Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => Ok(Filled::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Reads what is there.
    pub(super) fn read_available(&mut self, stream: &TcpStream) -> io::Result<Filled> {
        stream.set_nonblocking(true)?;
        let filled = self.read(stream);
        stream.set_nonblocking(false)?;
        filled
    }

    /// Takes a frame from the front, if it is complete.
    #[inline]
    pub(super) fn next_frame(&mut self, max_payload_bytes: u32) -> Result<Option<RawFrame<'_>>, FrameError> {
        let unread = self.octets.get(self.start..self.end).unwrap_or_default();
        let Some((frame, consumed)) = split_frame(unread, max_payload_bytes)? else {
            return Ok(None);
        };
        self.start += consumed;
        Ok(Some(frame))
    }

    /// Moves what is left to the front if the room behind it is little, and grows if even that leaves little.
    #[inline]
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.octets.len() - self.end < READ_BYTES {
            self.octets.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.octets.len() - self.end < READ_BYTES && self.octets.len() < MAX_BUFFER_BYTES {
                self.octets.resize(2 * self.octets.len(), 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    use leveret_protocol::{ChannelId, FrameKind, begin_frame, end_frame};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let near = TcpStream::connect(listener.local_addr().expect("the listener is bound")).expect("it listens");
        (near, listener.accept().expect("somebody has connected").0)
    }

    #[test]
    fn frames_larger_than_the_room_left_come_out_whole() {
        let (near, mut far) = pair();
        let writer = std::thread::spawn(move || {
            for number in 0..20_u8 {
                let mut out = Vec::new();
                let mark = begin_frame(&mut out, FrameKind::Body, ChannelId::new(1));
                out.resize(out.len() + 100_000, number);
                end_frame(&mut out, mark);
                far.write_all(&out).expect("the peer reads");
            }
        });
        let (mut input, mut expected) = (Input::new(), 0);
        while input.read(&near).is_ok() {
            while let Some(frame) = input.next_frame(131_072).expect("frames are well-formed") {
                assert_eq!(frame.payload, vec![expected; 100_000]);
                expected += 1;
            }
        }
        assert_eq!(expected, 20);
        writer.join().expect("the writer does not panic");
    }

    #[test]
    fn a_buffer_that_nobody_takes_from_grows_to_its_bound() {
        let mut input = Input::new();
        while input.octets.len() < MAX_BUFFER_BYTES {
            input.end = input.octets.len();
            input.make_room();
        }
        input.end = input.octets.len();
        input.make_room();
        assert_eq!((input.octets.len(), input.end), (MAX_BUFFER_BYTES, MAX_BUFFER_BYTES));
        let (near, _far) = pair();
        assert_eq!(input.read(&near).expect("nothing is read"), Filled::Nothing);
    }

    #[test]
    fn nothing_available_is_not_waited_for() {
        let (near, mut far) = pair();
        let mut input = Input::new();
        assert_eq!(input.read_available(&near).expect("the socket is open"), Filled::Nothing);
        far.write_all(&[1]).expect("the peer is there");
        assert_eq!(input.read(&near).expect("the socket is open"), Filled::Octets);
        drop(far);
        assert!(input.read(&near).is_err());
    }
}
