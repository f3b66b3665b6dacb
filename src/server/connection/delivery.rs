//! Deliveries as frames: basic.deliver, content header and body, straight into the output buffer.

use leveret_protocol::{BasicProperties, ChannelId, FRAME_END, FieldValue, ReplyCode, ShortString, basic, encode};

use super::output::{Output, SHARED_MIN_BYTES};
use crate::engine::message::Message;

const FRAME_METHOD: u8 = 1;
const FRAME_HEADER: u8 = 2;
const FRAME_BODY: u8 = 3;
const CLASS_BASIC: [u8; 2] = [0, 60];
const METHOD_DELIVER: [u8; 2] = [0, 60];
const METHOD_GET_OK: [u8; 2] = [0, 71];

/// Octets of a frame's envelope before its payload.
const ENVELOPE: usize = 7;

fn envelope(kind: u8, channel: ChannelId, payload: usize) -> [u8; ENVELOPE] {
    let channel = channel.get().to_be_bytes();
    let size = u32::try_from(payload).expect("a frame is far smaller than 4 GiB").to_be_bytes();
    [kind, channel[0], channel[1], size[0], size[1], size[2], size[3]]
}

/// The head of every basic.deliver of one run: all but tag, flag and route.
#[derive(Debug)]
pub(super) struct DeliverHead {
    channel: ChannelId,
    /// Method ids and consumer tag.
    start: Vec<u8>,
}

impl DeliverHead {
    pub(super) fn new(channel: ChannelId, consumer_tag: &ShortString) -> Self {
        let mut start = Vec::with_capacity(5 + consumer_tag.len());
        start.extend_from_slice(&CLASS_BASIC);
        start.extend_from_slice(&METHOD_DELIVER);
        encode::put_short_string(&mut start, consumer_tag.as_bytes());
        Self { channel, start }
    }

    /// Appends one delivery.
    #[inline]
    pub(super) fn encode(
        &self,
        message: &Message<'_>,
        delivery_tag: u64,
        redelivered: bool,
        frame_max: usize,
        output: &mut Output,
    ) {
        self.encode_with(message, message.properties(), delivery_tag, redelivered, frame_max, output);
    }

    /// Appends one delivery with other properties than the message came with.
    #[inline]
    pub(super) fn encode_with(
        &self,
        message: &Message<'_>,
        properties: &[u8],
        delivery_tag: u64,
        redelivered: bool,
        frame_max: usize,
        output: &mut Output,
    ) {
        let route = message.route();
        let out = output.buffer();
        out.reserve(self.start.len() + route.len() + properties.len() + 64);
        out.extend_from_slice(&envelope(FRAME_METHOD, self.channel, self.start.len() + 9 + route.len()));
        out.extend_from_slice(&self.start);
        let mut fixed = [0_u8; 9];
        fixed[..8].copy_from_slice(&delivery_tag.to_be_bytes());
        fixed[8] = u8::from(redelivered);
        out.extend_from_slice(&fixed);
        out.extend_from_slice(route);
        out.push(FRAME_END);
        encode_content(self.channel, message, properties, frame_max, output);
    }
}

/// A message's properties with the header `x-delivery-count`: how often it came back.
pub(super) fn properties_with_count(message: &Message<'_>, count: u32) -> Vec<u8> {
    let mut properties = BasicProperties::decode(message.properties()).unwrap_or_default();
    let headers = properties.headers.get_or_insert_default();
    headers.insert(ShortString::from_static("x-delivery-count"), FieldValue::Int64(i64::from(count)));
    let mut out = Vec::with_capacity(message.properties().len() + 40);
    properties.encode(&mut out);
    out
}

/// Appends a basic.get-ok with its content.
#[expect(clippy::too_many_arguments, reason = "the fields of the method")]
pub(super) fn encode_get_ok(
    channel: ChannelId,
    message: &Message<'_>,
    properties: &[u8],
    delivery_tag: u64,
    redelivered: bool,
    left: u64,
    frame_max: usize,
    output: &mut Output,
) {
    let route = message.route();
    let out = output.buffer();
    out.extend_from_slice(&envelope(FRAME_METHOD, channel, 4 + 9 + route.len() + 4));
    out.extend_from_slice(&CLASS_BASIC);
    out.extend_from_slice(&METHOD_GET_OK);
    encode::put_u64(out, delivery_tag);
    encode::put_u8(out, u8::from(redelivered));
    out.extend_from_slice(route);
    encode::put_u32(out, u32::try_from(left).unwrap_or(u32::MAX));
    out.push(FRAME_END);
    encode_content(channel, message, properties, frame_max, output);
}

/// Appends content header and body frames of a message.
#[inline]
fn encode_content(channel: ChannelId, message: &Message<'_>, properties: &[u8], frame_max: usize, output: &mut Output) {
    let body_len = message.body_len();
    let mut head = [0_u8; ENVELOPE + 12];
    head[..ENVELOPE].copy_from_slice(&envelope(FRAME_HEADER, channel, 12 + properties.len()));
    head[ENVELOPE..ENVELOPE + 2].copy_from_slice(&CLASS_BASIC);
    head[ENVELOPE + 4..].copy_from_slice(&(body_len as u64).to_be_bytes());
    let out = output.buffer();
    out.extend_from_slice(&head);
    out.extend_from_slice(properties);
    out.push(FRAME_END);
    if body_len == 0 {
        return;
    }
    let chunk = frame_max - ENVELOPE - 1;
    if body_len >= SHARED_MIN_BYTES && !output.is_gated() {
        let body = message.shared_body();
        let mut at = 0;
        while at < body_len {
            let end = body_len.min(at + chunk);
            output.buffer().extend_from_slice(&envelope(FRAME_BODY, channel, end - at));
            output.push_shared(body.slice(at..end));
            output.buffer().push(FRAME_END);
            at = end;
        }
        return;
    }
    let out = output.buffer();
    for part in message.body().chunks(chunk) {
        out.extend_from_slice(&envelope(FRAME_BODY, channel, part.len()));
        out.extend_from_slice(part);
        out.push(FRAME_END);
    }
}

/// Appends a basic.return of a message that no queue took.
pub(super) fn encode_return(
    channel: ChannelId,
    exchange: &ShortString,
    routing_key: &ShortString,
    properties: &[u8],
    body: &[u8],
    frame_max: u32,
    out: &mut Vec<u8>,
) {
    let method = basic::Return {
        reply_code: ReplyCode::NO_ROUTE,
        reply_text: ShortString::from_static("NO_ROUTE"),
        exchange: exchange.clone(),
        routing_key: routing_key.clone(),
    };
    leveret_protocol::Method::from(method).encode_frame(channel, out);
    leveret_protocol::encode_content(channel, properties, body, frame_max, out);
}

#[cfg(test)]
mod tests {
    use leveret_protocol::{FrameKind, HeaderRef, Method, split_frame};

    use super::*;
    use crate::engine::message::{ArenaBuilder, Body, MessageParts, Timestamp};

    #[test]
    fn a_delivery_reads_back_and_its_body_is_cut_at_frame_max() {
        for size in [0, 10, 10_000] {
            let mut builder = ArenaBuilder::new();
            builder.push(&MessageParts {
                exchange: b"x",
                routing_key: b"key",
                properties: &[0x10, 0, 2],
                body: Body::Borrowed(&vec![7; size]),
                persistent: true,
                priority: 0,
                expiration_ms: None,
                broker_deaths: false,
                enqueued_at: Timestamp::from_millis(0),
            });
            let arena = builder.finish();
            let channel = ChannelId::new(3);
            let mut output = Output::default();
            let head = DeliverHead::new(channel, &ShortString::from_static("ctag"));
            head.encode(&arena.message(0), 42, true, 4096, &mut output);
            let mut octets = Vec::new();
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(output.poll_write(&mut octets, &mut context).is_ready());

            let mut bodies = Vec::new();
            let mut rest = &octets[..];
            while let Some((frame, used)) = split_frame(rest, 4096).expect("well-formed") {
                assert_eq!(frame.channel, channel);
                match FrameKind::from_octet(frame.kind).expect("known") {
                    FrameKind::Method => {
                        let method = Method::decode(frame.payload).expect("decodes");
                        let Method::BasicDeliver(deliver) = method else { panic!("{method:?}") };
                        assert_eq!((deliver.delivery_tag.get(), deliver.redelivered), (42, true));
                        assert_eq!((deliver.exchange.as_str(), deliver.routing_key.as_str()), (Some("x"), Some("key")));
                    }
                    FrameKind::Header => {
                        let header = HeaderRef::decode(frame.payload).expect("decodes");
                        assert_eq!((header.body_size, header.properties), (size as u64, &[0x10, 0, 2][..]));
                    }
                    FrameKind::Body => bodies.push(frame.payload.len()),
                    FrameKind::Heartbeat => panic!("no heartbeat was encoded"),
                }
                rest = &rest[used..];
            }
            let expected: &[usize] = match size {
                0 => &[],
                10 => &[10],
                _ => &[4088, 4088, 1824],
            };
            assert_eq!(bodies, expected);
        }
    }
}
