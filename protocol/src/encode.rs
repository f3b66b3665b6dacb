//! Writing frames into a buffer (spec §4.2.3, §4.2.6.1).
//!
//! Everything is appended to a `Vec<u8>` that the caller keeps and reuses; nothing is allocated besides its growth. A frame
//! is begun with a size of zero, and ended once its payload stands behind it.

use crate::frame::{FRAME_END, FRAME_OVERHEAD_BYTES, FrameKind};
use crate::ids::ChannelId;
use crate::properties::BASIC_CLASS;

/// The octets before a frame's payload.
const FRAME_HEADER_BYTES: usize = FRAME_OVERHEAD_BYTES - 1;

/// The octets before the size within a frame header.
const SIZE_OFFSET: usize = 3;

/// The octets of a content header before its properties: class, weight, body size.
const CONTENT_HEADER_BYTES: usize = 12;

/// Writes a frame header with a size of zero; the payload is then appended. Returns the mark for [`end_frame`].
#[inline]
pub fn begin_frame(out: &mut Vec<u8>, kind: FrameKind, channel: ChannelId) -> usize {
    let mark = out.len();
    put_frame_header(out, kind, channel, 0);
    mark
}

/// Fills in the size of the frame begun at `mark` and appends the end octet.
///
/// The payload must be one that a frame can hold; keeping frames within the negotiated frame-max is up to the caller.
#[inline]
pub fn end_frame(out: &mut Vec<u8>, mark: usize) {
    let payload_start = mark + FRAME_HEADER_BYTES;
    let payload_bytes = out.len().checked_sub(payload_start).and_then(|bytes| u32::try_from(bytes).ok());
    debug_assert!(payload_bytes.is_some(), "the mark is not that of the last frame begun, or the frame has 4 GiB");
    if let (Some(bytes), Some(size)) = (payload_bytes, out.get_mut(mark + SIZE_OFFSET..payload_start)) {
        size.copy_from_slice(&bytes.to_be_bytes());
    }
    out.push(FRAME_END);
}

/// Writes a content: a header frame of class 60 and as many body frames as `frame_max_bytes` requires, none for an empty
/// body. `properties_octets` are property flags and list as [`PropertiesRef`](crate::PropertiesRef) reads them.
///
/// A `frame_max_bytes` of 0 means no limit. The header is never split.
#[inline]
pub fn encode_content(
    channel: ChannelId,
    properties_octets: &[u8],
    body: &[u8],
    frame_max_bytes: u32,
    out: &mut Vec<u8>,
) {
    let limit_bytes = if frame_max_bytes == 0 { u32::MAX } else { frame_max_bytes };
    let chunk_len = usize::try_from(limit_bytes).unwrap_or(usize::MAX).saturating_sub(FRAME_OVERHEAD_BYTES).max(1);
    let frames = 1 + body.len().div_ceil(chunk_len);
    out.reserve(frames * FRAME_OVERHEAD_BYTES + CONTENT_HEADER_BYTES + properties_octets.len() + body.len());

    let mark = begin_frame(out, FrameKind::Header, channel);
    let mut fixed_fields = [0; CONTENT_HEADER_BYTES];
    fixed_fields[..2].copy_from_slice(&BASIC_CLASS.get().to_be_bytes());
    fixed_fields[4..].copy_from_slice(&u64::try_from(body.len()).unwrap_or(u64::MAX).to_be_bytes());
    out.extend_from_slice(&fixed_fields);
    out.extend_from_slice(properties_octets);
    end_frame(out, mark);

    for chunk in body.chunks(chunk_len) {
        // A chunk is no longer than `limit_bytes`, so that its length fits.
        put_frame_header(out, FrameKind::Body, channel, u32::try_from(chunk.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(chunk);
        out.push(FRAME_END);
    }
}

/// Writes a heartbeat frame (spec §4.2.7).
#[inline]
pub fn encode_heartbeat(out: &mut Vec<u8>) {
    put_frame_header(out, FrameKind::Heartbeat, ChannelId::ZERO, 0);
    out.push(FRAME_END);
}

#[inline]
fn put_frame_header(out: &mut Vec<u8>, kind: FrameKind, channel: ChannelId, payload_bytes: u32) {
    let [channel_high, channel_low] = channel.get().to_be_bytes();
    let [a, b, c, d] = payload_bytes.to_be_bytes();
    out.extend_from_slice(&[kind.octet(), channel_high, channel_low, a, b, c, d]);
}

/// Appends an octet.
#[inline]
pub fn put_u8(out: &mut Vec<u8>, number: u8) {
    out.push(number);
}

/// Appends a 16-bit integer.
#[inline]
pub fn put_u16(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends a 32-bit integer.
#[inline]
pub fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends a 64-bit integer.
#[inline]
pub fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends a short string: one octet of length and the octets. Those beyond the 255th, which no length can count, are left
/// out.
#[inline]
pub fn put_short_string(out: &mut Vec<u8>, octets: &[u8]) {
    let octets = octets.get(..usize::from(u8::MAX)).unwrap_or(octets);
    out.push(u8::try_from(octets.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(octets);
}

/// Appends a long string or byte array: four octets of length and the octets. Those that no length can count are left out.
#[inline]
pub fn put_long_octets(out: &mut Vec<u8>, octets: &[u8]) {
    let len = u32::try_from(octets.len()).unwrap_or(u32::MAX);
    put_u32(out, len);
    out.extend_from_slice(usize::try_from(len).ok().and_then(|len| octets.get(..len)).unwrap_or(octets));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::split_frame;

    /// The payload lengths of the frames that a content of `body_len` octets becomes.
    fn payload_lens(body_len: usize, frame_max_bytes: u32) -> Vec<usize> {
        let mut out = Vec::new();
        encode_content(ChannelId::new(1), &[0, 0], &vec![7; body_len], frame_max_bytes, &mut out);
        let mut lens = Vec::new();
        let mut rest = &out[..];
        while let Some((frame, consumed)) = split_frame(rest, u32::MAX).expect("frames are well-formed") {
            assert_eq!(frame.channel, ChannelId::new(1));
            lens.push(frame.payload.len());
            rest = &rest[consumed..];
        }
        assert!(rest.is_empty());
        lens
    }

    #[test]
    fn bodies_are_split_as_rabbitmq_splits_them() {
        assert_eq!(payload_lens(10_000, 4096), [14, 4088, 4088, 1824]);
        assert_eq!(payload_lens(4088, 4096), [14, 4088]);
        assert_eq!(payload_lens(0, 4096), [14]);
        assert_eq!(payload_lens(300_000, 0), [14, 300_000]);
    }

    #[test]
    fn content_octets_are_exact() {
        let mut out = vec![0xAA];
        encode_content(ChannelId::new(2), &[0x10, 0, 2], b"hi", 4096, &mut out);
        assert_eq!(
            out,
            [
                &[0xAA, 2, 0, 2, 0, 0, 0, 15, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x10, 0, 2, 0xCE][..],
                &[3, 0, 2, 0, 0, 0, 2, b'h', b'i', 0xCE],
            ]
            .concat()
        );
    }

    #[test]
    fn a_heartbeat_has_eight_octets() {
        let mut out = Vec::new();
        encode_heartbeat(&mut out);
        assert_eq!(out, [8, 0, 0, 0, 0, 0, 0, 0xCE]);
    }

    #[test]
    fn an_overlong_short_string_is_cut() {
        let mut out = Vec::new();
        put_short_string(&mut out, &[b'x'; 300]);
        assert_eq!((out.len(), out[0]), (256, 255));
    }
}
