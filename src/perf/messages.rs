//! Publishes encoded once, and then only patched: the time in the body, the routing key of a topic exchange.

use leveret_protocol::{BasicProperties, Method, ShortString, basic, encode_content};

use super::args::PerfArgs;
use super::client::{CHANNEL, short_string};
use super::error::PerfError;

/// The octets at the start of a body that hold the time.
pub(super) const TIMESTAMP_BYTES: usize = 8;

/// Where the routing key begins after exchange name: frame header, ids, ticket, and the lengths of both strings.
const ROUTING_KEY_OFFSET: usize = 7 + 4 + 2 + 1 + 1;

/// What all messages of a publisher have in common.
#[derive(Clone, Debug)]
pub(super) struct MessageKind {
    exchange: ShortString,
    /// Routing keys to be used in turn; all have the same length, and there is at least one.
    routing_keys: Vec<ShortString>,
    body_bytes: usize,
    is_persistent: bool,
    frame_max_bytes: u32,
}

impl MessageKind {
    pub(super) fn new(
        args: &PerfArgs,
        routing_keys: Vec<ShortString>,
        frame_max_bytes: u32,
    ) -> Result<Self, PerfError> {
        Ok(Self {
            exchange: short_string(args.exchange.as_deref().unwrap_or_default())?,
            routing_keys,
            body_bytes: args.size,
            is_persistent: args.persistent,
            frame_max_bytes,
        })
    }
}

/// As many copies of a publish as fit a write.
#[derive(Debug)]
pub(super) struct Messages {
    octets: Vec<u8>,
    message_bytes: usize,
    timestamp_offset: Option<usize>,
    routing_keys: Vec<ShortString>,
    routing_key_offset: usize,
    next_routing_key: usize,
}

impl Messages {
    /// Encodes as many as fit `write_bytes`, at least one. `first_routing_key` says where to begin with the keys.
    pub(super) fn new(kind: &MessageKind, write_bytes: usize, first_routing_key: usize) -> Self {
        let key_count = kind.routing_keys.len();
        let publish = basic::Publish {
            exchange: kind.exchange.clone(),
            routing_key: kind.routing_keys.first().cloned().unwrap_or_default(),
            ..basic::Publish::default()
        };
        let delivery_mode = if kind.is_persistent { 2 } else { 1 };
        let mut properties = Vec::new();
        BasicProperties { delivery_mode: Some(delivery_mode), ..BasicProperties::default() }.encode(&mut properties);

        let mut message = Vec::new();
        Method::from(publish).encode_frame(CHANNEL, &mut message);
        let header_offset = message.len();
        encode_content(CHANNEL, &properties, &[], kind.frame_max_bytes, &mut message);
        let body_offset = message.len() + BODY_FRAME_HEADER_BYTES;
        message.truncate(header_offset);
        encode_content(CHANNEL, &properties, &vec![b'x'; kind.body_bytes], kind.frame_max_bytes, &mut message);

        let count = (write_bytes / message.len()).max(1);
        Self {
            octets: message.repeat(count),
            message_bytes: message.len(),
            timestamp_offset: (kind.body_bytes >= TIMESTAMP_BYTES).then_some(body_offset),
            routing_keys: kind.routing_keys.clone(),
            routing_key_offset: ROUTING_KEY_OFFSET + kind.exchange.len(),
            next_routing_key: first_routing_key % key_count.max(1),
        }
    }

    /// The largest number of messages for a write.
    #[inline]
    pub(super) fn max_count(&self) -> usize {
        self.octets.len() / self.message_bytes
    }

    /// The octets of the next messages, of which each gets one of the times; they are no more than [`max_count`].
    ///
    /// [`max_count`]: Self::max_count
    #[inline]
    pub(super) fn stamp(&mut self, due_ns: impl Iterator<Item = u64>) -> &[u8] {
        let mut used_bytes = 0;
        for (message, due_ns) in self.octets.chunks_exact_mut(self.message_bytes).zip(due_ns) {
            if let Some(offset) = self.timestamp_offset {
                put_at(message, offset, &due_ns.to_be_bytes());
            }
            if self.routing_keys.len() > 1 {
                if let Some(key) = self.routing_keys.get(self.next_routing_key) {
                    put_at(message, self.routing_key_offset, key.as_bytes());
                }
                self.next_routing_key = (self.next_routing_key + 1) % self.routing_keys.len();
            }
            used_bytes += self.message_bytes;
        }
        self.octets.get(..used_bytes).unwrap_or_default()
    }
}

/// The octets of a body frame before its payload.
const BODY_FRAME_HEADER_BYTES: usize = 7;

#[inline]
fn put_at(message: &mut [u8], offset: usize, octets: &[u8]) {
    if let Some(place) = message.get_mut(offset..offset + octets.len()) {
        place.copy_from_slice(octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_protocol::{FrameKind, HeaderRef, PropertiesRef, split_frame};

    fn kind(routing_keys: &[&'static str], body_bytes: usize) -> MessageKind {
        MessageKind {
            exchange: ShortString::from_static("ex"),
            routing_keys: routing_keys.iter().map(|key| ShortString::from_static(key)).collect(),
            body_bytes,
            is_persistent: true,
            frame_max_bytes: 4096,
        }
    }

    /// Routing key and body of each message.
    fn decode(mut octets: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut messages = Vec::new();
        while let Some((frame, consumed)) = split_frame(octets, 4096).expect("frames are well-formed") {
            octets = &octets[consumed..];
            match FrameKind::from_octet(frame.kind).expect("the frame has a type") {
                FrameKind::Method => {
                    let publish = basic::PublishRef::decode(&frame.payload[4..]).expect("the method is a publish");
                    assert_eq!(publish.exchange, b"ex");
                    messages.push((String::from_utf8_lossy(publish.routing_key).into_owned(), Vec::new()));
                }
                FrameKind::Header => {
                    let header = HeaderRef::decode(frame.payload).expect("the header is well-formed");
                    let properties = PropertiesRef::decode(header.properties).expect("the properties are well-formed");
                    assert_eq!(properties.delivery_mode, Some(2));
                }
                FrameKind::Body => messages.last_mut().expect("a method came first").1.extend_from_slice(frame.payload),
                FrameKind::Heartbeat => panic!("no heartbeat was encoded"),
            }
        }
        assert!(octets.is_empty());
        messages
    }

    #[test]
    fn times_and_keys_are_patched() {
        let mut messages = Messages::new(&kind(&["k.1", "k.2", "k.3"], 10), 65_536, 4);
        assert!(messages.max_count() > 700);
        let check = |octets: &[u8], expected: &[(&str, u64)]| {
            let expected: Vec<_> = expected
                .iter()
                .map(|(key, due_ns)| ((*key).to_owned(), [&due_ns.to_be_bytes()[..], b"xx"].concat()))
                .collect();
            assert_eq!(decode(octets), expected);
        };
        check(messages.stamp([7, 8, 9].into_iter()), &[("k.2", 7), ("k.3", 8), ("k.1", 9)]);
        check(messages.stamp([1, 2].into_iter()), &[("k.2", 1), ("k.3", 2)]);
    }

    #[test]
    fn small_bodies_carry_no_time_and_large_ones_have_several_frames() {
        let mut messages = Messages::new(&kind(&["q"], 7), 1, 0);
        assert_eq!(messages.max_count(), 1);
        assert_eq!(decode(messages.stamp([5].into_iter())), [("q".to_owned(), b"xxxxxxx".to_vec())]);
        let mut messages = Messages::new(&kind(&["q"], 0), 1, 0);
        assert_eq!(decode(messages.stamp([5].into_iter())), [("q".to_owned(), Vec::new())]);
        let mut messages = Messages::new(&kind(&["q"], 10_000), 1, 0);
        let decoded = decode(messages.stamp([5].into_iter()));
        assert_eq!(decoded[0].1[..8], 5_u64.to_be_bytes());
        assert_eq!(decoded[0].1.len(), 10_000);
    }
}
