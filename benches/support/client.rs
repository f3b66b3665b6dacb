//! A client that says what it wants and asserts what it gets.
#![expect(clippy::wildcard_enum_match_arm, reason = "what was not expected is any method but one")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use leveret_protocol::{
    ChannelId, FieldTable, LongString, Method, PROTOCOL_HEADER, ShortString, basic, channel, connection, queue,
    split_frame,
};

pub(crate) const FRAME_MAX: u32 = 131_072;
/// Octets written, and read, at once.
pub(crate) const WRITE_BYTES: usize = 128 * 1024;
pub(crate) const CHANNEL: ChannelId = ChannelId::new(1);

/// A connection with channel 1 open.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
    used: usize,
}

impl Client {
    pub(crate) fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the broker accepts connections");
        stream.set_nodelay(true).expect("a fresh socket");
        let mut client = Self { stream, input: Vec::new(), used: 0 };
        let mut octets = PROTOCOL_HEADER.to_vec();
        let start_ok = connection::StartOk {
            client_properties: FieldTable::new(),
            mechanism: ShortString::from_static("PLAIN"),
            response: LongString::try_from(b"\0guest\0guest".to_vec()).expect("short"),
            locale: ShortString::from_static("en_US"),
        };
        Method::from(start_ok).encode_frame(ChannelId::ZERO, &mut octets);
        let tune_ok = connection::TuneOk { channel_max: 2047, frame_max: FRAME_MAX, heartbeat: 0 };
        Method::from(tune_ok).encode_frame(ChannelId::ZERO, &mut octets);
        let open = connection::Open { virtual_host: ShortString::from_static("/"), ..connection::Open::default() };
        Method::from(open).encode_frame(ChannelId::ZERO, &mut octets);
        Method::from(channel::Open::default()).encode_frame(CHANNEL, &mut octets);
        client.stream.write_all(&octets).expect("the broker reads");
        client.wait(|method| matches!(method, Method::ChannelOpenOk(_)));
        client
    }

    pub(crate) fn send(&mut self, method: impl Into<Method>) {
        let mut octets = Vec::new();
        method.into().encode_frame(CHANNEL, &mut octets);
        self.stream.write_all(&octets).expect("the broker reads");
    }

    /// The next frame: its kind and its payload.
    pub(crate) fn frame<R>(&mut self, look: impl Fn(u8, &[u8]) -> R) -> R {
        loop {
            if let Some((frame, used)) = split_frame(&self.input[self.used..], FRAME_MAX).expect("whole frames") {
                let found = look(frame.kind, frame.payload);
                self.used += used;
                return found;
            }
            self.input.drain(..self.used);
            self.used = 0;
            let at = self.input.len();
            self.input.resize(at + WRITE_BYTES, 0);
            let count = self.stream.read(&mut self.input[at..]).expect("the broker answers");
            assert!(count > 0, "the broker closed the connection");
            self.input.truncate(at + count);
        }
    }

    pub(crate) fn wait(&mut self, wanted: impl Fn(&Method) -> bool) -> Method {
        loop {
            let method = self.frame(|kind, payload| (kind == 1).then(|| Method::decode(payload).expect("a method")));
            match method {
                Some(method) if wanted(&method) => return method,
                Some(other @ (Method::ChannelClose(_) | Method::ConnectionClose(_))) => panic!("{other:?}"),
                Some(_) | None => {}
            }
        }
    }

    pub(crate) fn declare(&mut self, name: &str, durable: bool) {
        self.send(queue::Declare { queue: short(name), durable, ..queue::Declare::default() });
        self.wait(|method| matches!(method, Method::QueueDeclareOk(_)));
    }

    pub(crate) fn ready(&mut self, name: &str) -> u64 {
        self.send(queue::Declare { queue: short(name), passive: true, ..queue::Declare::default() });
        match self.wait(|method| matches!(method, Method::QueueDeclareOk(_))) {
            Method::QueueDeclareOk(ok) => ok.message_count.into(),
            _ => 0,
        }
    }

    pub(crate) fn consume(&mut self, name: &str, no_ack: bool) {
        self.send(basic::Consume { queue: short(name), no_ack, ..basic::Consume::default() });
        self.wait(|method| matches!(method, Method::BasicConsumeOk(_)));
    }

    /// Takes messages that must come with these numbers, acking some at a time if asked to.
    pub(crate) fn take(&mut self, numbers: std::ops::Range<u64>, redelivered: bool, ack: bool) {
        for (nth, expected) in (1_u64..).zip(numbers.clone()) {
            let method = self.wait(|method| matches!(method, Method::BasicDeliver(_)));
            let Method::BasicDeliver(deliver) = method else { continue };
            assert_eq!(deliver.redelivered, redelivered, "message {expected}");
            let delivery_tag = deliver.delivery_tag;
            let mut number = None;
            while number.is_none() {
                number = self.frame(|kind, payload| {
                    (kind == 3).then(|| u64::from_be_bytes(payload[..8].try_into().expect("eight octets")))
                });
            }
            assert_eq!(number, Some(expected), "messages come in order");
            if ack && (nth % 1000 == 0 || expected + 1 == numbers.end) {
                self.send(basic::Ack { delivery_tag, multiple: true });
            }
        }
    }

    pub(crate) fn delete(&mut self, name: &str) {
        self.send(queue::Delete { queue: short(name), ..queue::Delete::default() });
        self.wait(|method| matches!(method, Method::QueueDeleteOk(_)));
    }
}

/// A short string.
pub(crate) fn short(name: &str) -> ShortString {
    ShortString::try_from(name.as_bytes()).expect("a short name")
}
