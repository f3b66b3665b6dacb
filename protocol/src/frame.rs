//! The frame envelope: type, channel, size, payload, end octet (spec §4.2.3).
//!
//! [`split_frame`] is the first of two decoding stages and looks at nothing but the envelope: it neither allocates nor
//! judges the type or the payload. The size is checked as soon as the seven octets of the frame header are there, before
//! the payload arrives.
//! Not here: what a payload means (`method`, `properties`), content sequence and heartbeats (the broker).

use std::fmt;

use nom::IResult;
use nom::number::complete::{be_u8, be_u16, be_u32};

use crate::error::FrameError;
use crate::ids::ChannelId;

/// What a client sends first: `AMQP`, then protocol id 0 and version 0-9-1 (spec §4.2.2).
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";

/// The octet that ends every frame (spec §4.2.3).
pub const FRAME_END: u8 = 0xCE;

/// The octets of a frame that are not payload: seven before it, one after it.
pub const FRAME_OVERHEAD_BYTES: usize = 8;

/// The smallest frame-max that may be negotiated, and the limit until it has been (spec §4.2.3).
pub const FRAME_MIN_SIZE: u32 = 4096;

/// The octets before the payload.
const FRAME_HEADER_BYTES: usize = 7;

/// How many octets of a bad frame RabbitMQ shows in a reply-text.
const SHOWN_OCTETS: usize = 16;

/// The type of a frame (spec §4.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A method with its arguments.
    Method = 1,
    /// A content header.
    Header = 2,
    /// A part of a content body.
    Body = 3,
    /// A sign of life.
    Heartbeat = 8,
}

impl FrameKind {
    /// The kind that a type octet stands for.
    #[inline]
    pub const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Method),
            2 => Some(Self::Header),
            3 => Some(Self::Body),
            8 => Some(Self::Heartbeat),
            _ => None,
        }
    }

    /// The type octet.
    #[inline]
    pub const fn octet(self) -> u8 {
        self as u8
    }
}

/// A frame as it lies in the read buffer; only the envelope has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFrame<'a> {
    /// The type octet, not necessarily that of a [`FrameKind`].
    pub kind: u8,
    /// The channel.
    pub channel: ChannelId,
    /// The octets between the frame header and the end octet.
    pub payload: &'a [u8],
}

/// Finds the frame at the start of `input`: the frame and the number of octets it occupies, or `None` if more octets are
/// needed.
///
/// A payload of more than `max_payload_bytes` is refused at the seventh octet. Pass the negotiated frame-max itself to be
/// as tolerant as RabbitMQ, which lets the payload alone have that size; the text of [`FrameError::TooLarge`] is made for
/// this use.
#[inline]
pub fn split_frame(input: &[u8], max_payload_bytes: u32) -> Result<Option<(RawFrame<'_>, usize)>, FrameError> {
    let Ok((rest, (kind, channel, payload_bytes))) = frame_header(input) else {
        return Ok(None);
    };
    if payload_bytes > max_payload_bytes {
        return Err(FrameError::TooLarge { kind, payload_bytes, max_payload_bytes });
    }
    // On a target where this does not fit, neither does the buffer: more octets will never be enough, but none are lost.
    let Ok(payload_len) = usize::try_from(payload_bytes) else {
        return Ok(None);
    };
    let Some((payload, [marker, ..])) = rest.split_at_checked(payload_len) else {
        return Ok(None);
    };
    if *marker != FRAME_END {
        return Err(bad_end(kind, payload, *marker));
    }
    let frame = RawFrame { kind, channel: ChannelId::new(channel), payload };
    Ok(Some((frame, FRAME_HEADER_BYTES + payload_len + 1)))
}

/// The seven octets before the payload: type, channel, payload size.
#[inline]
fn frame_header(input: &[u8]) -> IResult<&[u8], (u8, u16, u32), ()> {
    let (input, kind) = be_u8(input)?;
    let (input, channel) = be_u16(input)?;
    let (input, payload_bytes) = be_u32(input)?;
    Ok((input, (kind, channel, payload_bytes)))
}

#[cold]
fn bad_end(kind: u8, payload: &[u8], marker: u8) -> FrameError {
    let shown = payload.get(..SHOWN_OCTETS).unwrap_or(payload);
    FrameError::BadEnd { kind, payload: shown.to_vec(), payload_len: payload.len(), marker }
}

/// A payload as RabbitMQ shows it in a reply-text: `all octets = <<"abc">>`, or `first 16 octets = <<0,1,…>>` of a longer
/// one.
pub fn erlang_octets(payload: &[u8]) -> String {
    describe_octets(payload.get(..SHOWN_OCTETS).unwrap_or(payload), payload.len())
}

/// Octets as RabbitMQ's reply-texts show them: `<<"abc">>`, or `<<0,20>>` if any is not printable.
pub fn erlang_binary(octets: &[u8]) -> String {
    ErlangBinary(octets).to_string()
}

/// As [`erlang_octets`], where `shown` is the start of a payload of `total` octets.
pub(crate) fn describe_octets(shown: &[u8], total: usize) -> String {
    let extent = if total > SHOWN_OCTETS { format!("first {SHOWN_OCTETS} octets") } else { String::from("all octets") };
    format!("{extent} = {}", ErlangBinary(shown))
}

/// Writes octets as an Erlang binary of numbers: `<<0,20>>`.
pub(crate) fn write_octet_list(f: &mut fmt::Formatter<'_>, octets: &[u8]) -> fmt::Result {
    f.write_str("<<")?;
    for (index, octet) in octets.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        write!(f, "{separator}{octet}")?;
    }
    f.write_str(">>")
}

/// An Erlang binary: a string if every octet is printable, otherwise a list of numbers.
struct ErlangBinary<'a>(&'a [u8]);

impl fmt::Display for ErlangBinary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = |octet: &u8| octet.is_ascii_graphic() || *octet == b' ';
        if self.0.is_empty() || !self.0.iter().all(printable) {
            return write_octet_list(f, self.0);
        }
        f.write_str("<<\"")?;
        for &octet in self.0 {
            if matches!(octet, b'"' | b'\\') {
                f.write_str("\\")?;
            }
            write!(f, "{}", char::from(octet))?;
        }
        f.write_str("\">>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, FRAME_END];

    #[test]
    fn a_frame_is_found_only_when_it_is_complete() {
        let octets = [1, 0, 7, 0, 0, 0, 2, 0xAA, 0xBB, FRAME_END, 99];
        for end in 0..10 {
            assert_eq!(split_frame(&octets[..end], 4096), Ok(None), "{end} octets");
        }
        let frame = RawFrame { kind: 1, channel: ChannelId::new(7), payload: &[0xAA, 0xBB] };
        assert_eq!(split_frame(&octets, 4096), Ok(Some((frame, 10))));
    }

    #[test]
    fn an_empty_payload_is_a_frame() {
        let frame = RawFrame { kind: 8, channel: ChannelId::ZERO, payload: &[] };
        assert_eq!(split_frame(&HEARTBEAT, 4096), Ok(Some((frame, 8))));
    }

    #[test]
    fn size_is_judged_at_the_seventh_octet() {
        let octets = [3, 0, 1, 0, 2, 0, 1];
        assert_eq!(split_frame(&octets[..6], 131_072), Ok(None));
        let error = FrameError::TooLarge { kind: 3, payload_bytes: 131_073, max_payload_bytes: 131_072 };
        assert_eq!(split_frame(&octets, 131_072), Err(error));
        assert_eq!(split_frame(&octets, 131_073), Ok(None));
    }

    #[test]
    fn a_wrong_end_octet_is_refused() {
        let octets = [1, 0, 1, 0, 0, 0, 5, 0, 20, 0, 10, 0, 0xCD];
        let error = split_frame(&octets, 4096).expect_err("the end octet is wrong");
        assert_eq!(error.to_string(), "type 1, all octets = <<0,20,0,10,0>>: {invalid_frame_end_marker,205}");
    }

    #[test]
    fn octets_print_as_erlang_prints_them() {
        assert_eq!(erlang_octets(b""), "all octets = <<>>");
        assert_eq!(erlang_octets(b"abc"), "all octets = <<\"abc\">>");
        assert_eq!(erlang_octets(b"a\"b"), "all octets = <<\"a\\\"b\">>");
        assert_eq!(erlang_octets(&[0, 10]), "all octets = <<0,10>>");
        assert_eq!(erlang_octets(&[b'x'; 17]), format!("first 16 octets = <<\"{}\">>", "x".repeat(16)));
    }

    #[test]
    fn kinds_and_octets_correspond() {
        for octet in 0..=255 {
            assert!(FrameKind::from_octet(octet).is_none_or(|kind| kind.octet() == octet));
        }
        assert_eq!((0..=255).filter_map(FrameKind::from_octet).count(), 4);
    }
}
