//! A synchronous client that speaks raw frames.
//!
//! It reads frames until what is asked for has come, puts contents together on each channel, and keeps what came for other
//! channels. A content interrupted by another frame of its channel, which no broker may send, fails the test at once.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use leveret_protocol::{
    BasicProperties, ChannelId, FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD_BYTES, FrameKind, HeaderRef, Method, basic,
    encode_content, split_frame,
};

use super::Stream;

/// The content of a message as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub properties: BasicProperties,
    /// Property flags and list, octet for octet.
    pub property_octets: Vec<u8>,
    pub body: Vec<u8>,
    /// The payload lengths of its body frames.
    pub frame_lens: Vec<usize>,
}

/// A method with its content, if it carries one.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    pub channel: u16,
    pub method: Method,
    pub content: Option<Content>,
}

impl fmt::Display for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on channel {}: {:?}", self.method.name(), self.channel, self.method)?;
        if let Some(content) = &self.content {
            let shown = String::from_utf8_lossy(&content.body[..content.body.len().min(40)]);
            write!(f, " with {} octets {shown:?}", content.body.len())?;
        }
        Ok(())
    }
}

/// A content that is still coming.
struct Partial {
    method: Method,
    header: Option<(u64, Vec<u8>)>,
    body: Vec<u8>,
    frame_lens: Vec<usize>,
}

/// What reading the socket for a while led to.
enum Progress {
    Some,
    TimedOut,
    Closed,
}

/// One connection to the broker.
pub struct Client {
    stream: Stream,
    input: Vec<u8>,
    partial: HashMap<u16, Partial>,
    /// What has come and has not been asked for.
    arrived: VecDeque<Arrived>,
    heartbeats: usize,
    closed: bool,
    frame_max: u32,
}

impl Client {
    pub fn new(stream: Stream, frame_max: u32) -> Self {
        Self {
            stream,
            input: Vec::new(),
            partial: HashMap::new(),
            arrived: VecDeque::new(),
            heartbeats: 0,
            closed: false,
            frame_max,
        }
    }

    /// Sends octets as they are.
    #[track_caller]
    pub fn send_bytes(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).expect("the broker reads");
    }

    /// Sends octets as they are; whether the broker takes them does not matter.
    pub fn try_send_bytes(&mut self, octets: &[u8]) -> bool {
        self.stream.write_all(octets).is_ok()
    }

    #[track_caller]
    pub fn send(&mut self, channel: u16, method: impl Into<Method>) {
        self.send_bytes(&method_frame(channel, method));
    }

    #[track_caller]
    pub fn send_content(&mut self, channel: u16, publish: basic::Publish, properties: &BasicProperties, body: &[u8]) {
        let octets = self.content_frames(channel, publish, properties, body);
        self.send_bytes(&octets);
    }

    /// A publish with its content, cut to the negotiated frame-max.
    pub fn content_frames(
        &self,
        channel: u16,
        publish: basic::Publish,
        properties: &BasicProperties,
        body: &[u8],
    ) -> Vec<u8> {
        let mut octets = method_frame(channel, publish);
        let mut property_octets = Vec::new();
        properties.encode(&mut property_octets);
        encode_content(ChannelId::new(channel), &property_octets, body, self.frame_max, &mut octets);
        octets
    }

    /// Says that nothing more will be sent.
    pub fn shut_down_sending(&mut self) {
        // The broker may have closed the connection already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// What was agreed in the TLS handshake.
    pub fn tls(&self) -> &rustls::ClientConnection {
        self.stream.tls().expect("the client speaks TLS")
    }

    /// The heartbeats received so far.
    pub const fn heartbeats(&self) -> usize {
        self.heartbeats
    }

    /// What comes next on the channel; `None` if nothing comes within the time, or the broker closes the socket.
    #[track_caller]
    pub fn next_on(&mut self, channel: u16, within: Duration) -> Option<Arrived> {
        self.next_matching(within, |arrived| arrived.channel == channel)
    }

    /// What comes next on any channel.
    #[track_caller]
    pub fn next(&mut self, within: Duration) -> Option<Arrived> {
        self.next_matching(within, |_| true)
    }

    #[track_caller]
    pub fn next_matching(&mut self, within: Duration, wanted: impl Fn(&Arrived) -> bool) -> Option<Arrived> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(position) = self.arrived.iter().position(&wanted) {
                return self.arrived.remove(position);
            }
            match self.read_some(deadline) {
                Progress::Some => self.take_frames(),
                Progress::TimedOut | Progress::Closed => return None,
            }
        }
    }

    /// Whether the broker closes the socket within the time. What else comes is kept.
    #[track_caller]
    pub fn is_closed_within(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            match self.read_some(deadline) {
                Progress::Some => self.take_frames(),
                Progress::TimedOut => return false,
                Progress::Closed => return true,
            }
        }
    }

    /// Whether the broker has closed the socket, as far as is known.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// The octets that come until the broker closes the socket, not looked at.
    #[track_caller]
    pub fn read_to_end(&mut self, within: Duration) -> Vec<u8> {
        let deadline = Instant::now() + within;
        loop {
            match self.read_some(deadline) {
                Progress::Some => {}
                Progress::TimedOut => panic!("the socket is still open after {within:?}; came: {:?}", self.input),
                Progress::Closed => return std::mem::take(&mut self.input),
            }
        }
    }

    /// What has come and not been asked for, for messages of failure.
    pub fn left_over(&self) -> String {
        let shown: Vec<String> = self.arrived.iter().take(5).map(Arrived::to_string).collect();
        if shown.is_empty() { String::from("nothing else came") } else { format!("also came: {}", shown.join("; ")) }
    }

    fn read_some(&mut self, deadline: Instant) -> Progress {
        if self.closed {
            return Progress::Closed;
        }
        let mut chunk = vec![0; 1 << 16];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Progress::TimedOut;
            }
            self.stream.set_read_timeout(Some(left)).expect("the time is not zero");
            match self.stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(len) => {
                    self.input.extend_from_slice(&chunk[..len]);
                    return Progress::Some;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Progress::TimedOut;
                }
                // A reset is an end as well: what the broker had not read may have caused it.
                Err(_) => break,
            }
        }
        self.closed = true;
        Progress::Closed
    }

    fn take_frames(&mut self) {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some((frame, consumed)) = split_frame(rest, u32::MAX).expect("the broker sends frames") {
            let len = frame.payload.len() + FRAME_OVERHEAD_BYTES;
            let fits = u32::try_from(len).is_ok_and(|len| len <= self.frame_max.max(FRAME_MIN_SIZE));
            assert!(fits || self.frame_max == 0, "a frame of {len} octets exceeds frame-max {}", self.frame_max);
            self.on_frame(frame.kind, frame.channel.get(), frame.payload);
            rest = &rest[consumed..];
        }
        self.input = rest.to_vec();
    }

    fn on_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        match FrameKind::from_octet(kind).expect("the broker sends known frame types") {
            FrameKind::Heartbeat => {
                assert_eq!((channel, payload.len()), (0, 0), "a heartbeat is empty and on channel 0");
                self.heartbeats += 1;
            }
            FrameKind::Method => {
                let method = Method::decode(payload).expect("the broker sends known methods");
                assert!(!self.partial.contains_key(&channel), "{} interrupts a content", method.name());
                if method.has_content() {
                    let partial = Partial { method, header: None, body: Vec::new(), frame_lens: Vec::new() };
                    self.partial.insert(channel, partial);
                } else {
                    self.arrived.push_back(Arrived { channel, method, content: None });
                }
            }
            FrameKind::Header => {
                let header = HeaderRef::decode(payload).expect("the broker sends decodable headers");
                assert_eq!((header.class.get(), header.weight), (60, 0), "class and weight of a content header");
                let partial = self.partial.get_mut(&channel).expect("a header follows its method");
                assert!(partial.header.is_none(), "a second header");
                partial.header = Some((header.body_size, header.properties.to_vec()));
                self.finish_content(channel);
            }
            FrameKind::Body => {
                let partial = self.partial.get_mut(&channel).expect("a body follows its method");
                assert!(partial.header.is_some(), "a body before its header");
                partial.body.extend_from_slice(payload);
                partial.frame_lens.push(payload.len());
                self.finish_content(channel);
            }
        }
    }

    fn finish_content(&mut self, channel: u16) {
        let Some(partial) = self.partial.get(&channel) else { return };
        let Some((body_size, _)) = partial.header else { return };
        if u64::try_from(partial.body.len()).expect("fits") < body_size {
            return;
        }
        let Some(Partial { method, header: Some((_, property_octets)), body, frame_lens }) =
            self.partial.remove(&channel)
        else {
            return;
        };
        assert_eq!(u64::try_from(body.len()).expect("fits"), body_size, "the body has its announced size");
        let properties = BasicProperties::decode(&property_octets).expect("the broker sends decodable properties");
        let content = Content { properties, property_octets, body, frame_lens };
        self.arrived.push_back(Arrived { channel, method, content: Some(content) });
    }
}

/// The octets of a method frame.
pub fn method_frame(channel: u16, method: impl Into<Method>) -> Vec<u8> {
    let mut octets = Vec::new();
    method.into().encode_frame(ChannelId::new(channel), &mut octets);
    octets
}

/// The octets of any frame, however wrong.
pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![kind];
    octets.extend_from_slice(&channel.to_be_bytes());
    octets.extend_from_slice(&u32::try_from(payload.len()).expect("fits").to_be_bytes());
    octets.extend_from_slice(payload);
    octets.push(FRAME_END);
    octets
}

/// The octets of a content header frame without properties.
pub fn header_frame(channel: u16, class: u16, weight: u16, body_size: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend_from_slice(&class.to_be_bytes());
    payload.extend_from_slice(&weight.to_be_bytes());
    payload.extend_from_slice(&body_size.to_be_bytes());
    payload.extend_from_slice(&[0, 0]);
    frame(2, channel, &payload)
}
