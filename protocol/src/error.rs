//! Why octets are not a frame, a method or a content header (behaviour of RabbitMQ, with its texts).
//!
//! A variant is the fact; the reply code and the close method are the broker's business. `Display` gives the explanation
//! part of RabbitMQ's reply-text, without the code's name.

use std::fmt;

use crate::frame::{FRAME_OVERHEAD_BYTES, describe_octets, write_octet_list};
use crate::ids::{ClassId, MethodId};

/// How many octets of an undecodable method's arguments a [`DecodeError::Malformed`] keeps: a reply-text has room for no
/// more.
pub const MALFORMED_SAMPLE_BYTES: usize = 64;

/// Why the octet stream has no next frame. The stream cannot be read on after either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The payload announced in the frame header exceeds the limit.
    TooLarge {
        /// The frame type octet.
        kind: u8,
        /// The payload size that the frame announces.
        payload_bytes: u32,
        /// The limit that [`split_frame`](crate::split_frame) was given.
        max_payload_bytes: u32,
    },
    /// The octet after the payload is not 0xCE.
    BadEnd {
        /// The frame type octet.
        kind: u8,
        /// The first 16 octets of the payload.
        payload: Vec<u8>,
        /// The length of the whole payload.
        payload_len: usize,
        /// The octet found where 0xCE should be.
        marker: u8,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { kind, payload_bytes, max_payload_bytes } => {
                // RabbitMQ tolerates a payload of frame-max octets but reports frame-max less the overhead as the limit.
                let reported = max_payload_bytes.saturating_sub(OVERHEAD);
                write!(f, "type {kind}, all octets = <<>>: {{frame_too_large,{payload_bytes},{reported}}}")
            }
            Self::BadEnd { kind, payload, payload_len, marker } => {
                let octets = describe_octets(payload, *payload_len);
                write!(f, "type {kind}, {octets}: {{invalid_frame_end_marker,{marker}}}")
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the constant is 8; u32::try_from is not const")]
const OVERHEAD: u32 = FRAME_OVERHEAD_BYTES as u32;

impl std::error::Error for FrameError {}

/// Why a payload is not a method, table or content header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A method payload has fewer than the four octets of class and method id.
    TooShort,
    /// No method has these ids.
    UnknownMethod {
        /// The class id received.
        class: ClassId,
        /// The method id received.
        method: MethodId,
    },
    /// The arguments end too early or go on too long for their method.
    Malformed {
        /// The class id received.
        class: ClassId,
        /// The method id received.
        method: MethodId,
        /// The first [`MALFORMED_SAMPLE_BYTES`] octets after the ids.
        arguments: Vec<u8>,
    },
    /// A short string argument is not UTF-8.
    BadUtf8 {
        /// The class id received.
        class: ClassId,
        /// The method id received.
        method: MethodId,
    },
    /// A table argument lies within the payload but cannot be decoded: an unknown type tag, lengths that do not fit, or
    /// nesting beyond [`MAX_TABLE_DEPTH`](crate::MAX_TABLE_DEPTH).
    BadTable {
        /// The class id received.
        class: ClassId,
        /// The method id received.
        method: MethodId,
    },
    /// A content header, its property list or a header table cannot be decoded.
    BadHeader,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => f.write_str("method frame without class and method id"),
            Self::UnknownMethod { .. } => f.write_str("unimplemented method"),
            Self::Malformed { arguments, .. } => {
                f.write_str("cannot decode ")?;
                write_octet_list(f, arguments)
            }
            Self::BadUtf8 { .. } => f.write_str("Malformed UTF-8 in shortstr"),
            Self::BadTable { .. } => TableError.fmt(f),
            Self::BadHeader => f.write_str("cannot decode content header"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The content of a field table cannot be decoded: an unknown type tag, lengths that do not fit, or nesting beyond
/// [`MAX_TABLE_DEPTH`](crate::MAX_TABLE_DEPTH).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableError;

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot decode table")
    }
}

impl std::error::Error for TableError {}

/// A string has more octets than its length prefix can count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringTooLong {
    /// The number of octets of the string.
    pub len: usize,
    /// The number of octets that fit.
    pub max: usize,
}

impl fmt::Display for StringTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "string of {} octets exceeds the limit of {}", self.len, self.max)
    }
}

impl std::error::Error for StringTooLong {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_rabbitmq() {
        let (class, method) = (ClassId::new(50), MethodId::new(10));
        let malformed = DecodeError::Malformed { class, method, arguments: vec![0, 0, 5, 113] };
        assert_eq!(malformed.to_string(), "cannot decode <<0,0,5,113>>");
        assert_eq!(DecodeError::BadUtf8 { class, method }.to_string(), "Malformed UTF-8 in shortstr");
        assert_eq!(
            FrameError::TooLarge { kind: 3, payload_bytes: 131_073, max_payload_bytes: 131_072 }.to_string(),
            "type 3, all octets = <<>>: {frame_too_large,131073,131064}"
        );
        assert_eq!(
            FrameError::BadEnd { kind: 1, payload: vec![0, 20, 0, 10, 0], payload_len: 5, marker: 205 }.to_string(),
            "type 1, all octets = <<0,20,0,10,0>>: {invalid_frame_end_marker,205}"
        );
    }
}
