//! What real clients and RabbitMQ said to each other, decoded and encoded again; see `golden/README.md`.
//!
//! Every octet of every stream is accounted for: frame by frame, method by method, content by content. What is encoded must
//! be the octets that came. There is one exception: py-amqp tags large integers in tables with `L`, RabbitMQ hands them on as
//! they came, and this crate writes `l`, the letter of everybody else, for the same value. Before two messages are compared
//! these letters are made the same; how many messages have them is pinned, so that nothing else can hide behind it. Access
//! tickets, which this crate writes as 0 whatever it reads, are 0 in all of these sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use leveret_protocol::{
    BasicProperties, ChannelId, ClassId, FieldTable, FrameKind, HeaderRef, Method, PROTOCOL_HEADER, PropertiesRef,
    RawFrame, ShortString, decode_table_content, encode_content, encode_heartbeat, split_frame,
};

/// The sessions that must be there, whatever else is.
const SESSIONS: &[&str] = &["amqplib", "pika", "lapin", "py-amqp", "amqp091-go", "java-amqp-client"];

/// Fewer of these in one direction of a session, and it is not the session that the README describes: py-amqp's, the
/// shortest, has 35 and 37 methods and 4 and 7 contents.
const METHODS_MIN: usize = 35;
const CONTENTS_MIN: usize = 4;

/// Methods that occur in one session or another, of 66. The others: access, secure, blocked and recover-async.
const METHODS_SEEN: usize = 59;

/// The flags of all fourteen properties (spec §1.8).
const ALL_PROPERTIES: u16 = 0xFFFC;

/// The body that every session publishes and gets has so many octets.
const LARGE_BODY_BYTES: usize = 10_000;

/// The frame size until tune-ok (spec §4.2.3), which all of these sessions keep to.
const UNTUNED_FRAME_MAX: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Client,
    Server,
}

/// A content on its way: the method came.
struct Partial {
    header: Option<Header>,
    body: Vec<u8>,
    /// The frames from the header on, octet for octet.
    octets: Vec<u8>,
}

struct Header {
    body_size: u64,
    properties: Vec<u8>,
}

/// What a stream held.
#[derive(Debug, Default)]
struct Summary {
    methods: usize,
    contents: usize,
    largest_body: usize,
    heartbeats: usize,
    names: BTreeSet<&'static str>,
    /// Methods and content headers with integers tagged `L`.
    tagged_l: usize,
    property_flags: u16,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The streams by session and side.
fn streams() -> BTreeMap<(String, Side), Vec<u8>> {
    let mut streams = BTreeMap::new();
    for entry in fs::read_dir(golden()).expect("the directory of golden frames") {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name in ASCII");
        let Some(name) = name.strip_suffix(".bin") else { continue };
        let (session, side) = match (name.strip_suffix(".client"), name.strip_suffix(".server")) {
            (Some(session), _) => (session, Side::Client),
            (None, Some(session)) => (session, Side::Server),
            (None, None) => panic!("{name}.bin is neither .client nor .server"),
        };
        streams.insert((session.to_owned(), side), fs::read(&path).expect("a readable file"));
    }
    streams
}

/// The frame size that the client settled.
fn tuned_frame_max(client: &[u8]) -> u32 {
    let mut rest = &client[PROTOCOL_HEADER.len()..];
    while let Some((frame, used)) = split_frame(rest, UNTUNED_FRAME_MAX).expect("frames before tune-ok are small") {
        if let Ok(Method::ConnectionTuneOk(tune)) = Method::decode(frame.payload) {
            return tune.frame_max;
        }
        rest = &rest[used..];
    }
    panic!("no tune-ok");
}

struct Walk<'a> {
    context: &'a str,
    side: Side,
    frame_max: u32,
    tuned: bool,
    partial: BTreeMap<ChannelId, Partial>,
    summary: Summary,
}

/// Decodes a whole stream and encodes it again.
fn walk(context: &str, side: Side, stream: &[u8], frame_max: u32) -> Summary {
    let mut rest = stream;
    if side == Side::Client {
        rest = rest.strip_prefix(&PROTOCOL_HEADER).unwrap_or_else(|| panic!("{context}: no protocol header"));
    }
    let summary = Summary::default();
    let mut walk = Walk { context, side, frame_max, tuned: false, partial: BTreeMap::new(), summary };
    while !rest.is_empty() {
        let at = stream.len() - rest.len();
        let limit = if walk.tuned { frame_max } else { UNTUNED_FRAME_MAX };
        let (frame, used) = split_frame(rest, limit)
            .unwrap_or_else(|error| panic!("{context} at {at}: {error}"))
            .unwrap_or_else(|| panic!("{context} at {at}: the stream ends within a frame"));
        assert!(u64::try_from(used).expect("small") <= u64::from(limit), "{context} at {at}: a frame of {used} octets");
        walk.frame(&frame, &rest[..used]);
        rest = &rest[used..];
    }
    assert!(walk.partial.is_empty(), "{context}: the stream ends within a content");
    walk.summary
}

impl Walk<'_> {
    fn frame(&mut self, frame: &RawFrame<'_>, octets: &[u8]) {
        match FrameKind::from_octet(frame.kind) {
            Some(FrameKind::Method) => self.method(frame, octets),
            Some(FrameKind::Header) => self.header(frame, octets),
            Some(FrameKind::Body) => self.body(frame, octets),
            Some(FrameKind::Heartbeat) => {
                let mut out = Vec::new();
                encode_heartbeat(&mut out);
                assert_eq!(out, octets, "{}: a heartbeat", self.context);
                self.summary.heartbeats += 1;
            }
            None => panic!("{}: a frame of type {}", self.context, frame.kind),
        }
    }

    fn method(&mut self, frame: &RawFrame<'_>, octets: &[u8]) {
        let context = self.context;
        assert!(!self.partial.contains_key(&frame.channel), "{context}: a method within a content");
        let method = Method::decode(frame.payload).unwrap_or_else(|error| panic!("{context}: {error}: {octets:?}"));
        let name = method.name();
        assert!(
            self.side == Side::Server || !method.is_from_server_only(),
            "{context}: {name} comes from servers only"
        );
        let mut encoded = Vec::new();
        method.encode_frame(frame.channel, &mut encoded);
        if encoded != octets {
            // Any other difference is still there after this, and fails.
            let mut expected = octets.to_vec();
            self.summary.tagged_l += usize::from(retag_integers(&mut expected, &encoded));
            assert_eq!(encoded, expected, "{context}: {name} is encoded otherwise");
        }
        let (again, used) = split_frame(&encoded, u32::MAX).expect("a frame").expect("a whole frame");
        assert_eq!((again.channel, used), (frame.channel, encoded.len()), "{context}: {name}");
        assert_eq!(Method::decode(again.payload).as_ref(), Ok(&method), "{context}: {name} is decoded otherwise");

        self.tuned |= matches!(method, Method::ConnectionTune(_) | Method::ConnectionTuneOk(_));
        self.summary.methods += 1;
        self.summary.names.insert(name);
        if method.has_content() {
            let partial = Partial { header: None, body: Vec::new(), octets: Vec::new() };
            self.partial.insert(frame.channel, partial);
        }
    }

    fn header(&mut self, frame: &RawFrame<'_>, octets: &[u8]) {
        let context = self.context;
        let header = HeaderRef::decode(frame.payload).expect("a content header");
        assert_eq!((header.class, header.weight), (ClassId::new(60), 0), "{context}");
        let (flags, tagged_l) = check_properties(context, header.properties);
        self.summary.property_flags |= flags;
        self.summary.tagged_l += usize::from(tagged_l);
        let partial =
            self.partial.get_mut(&frame.channel).unwrap_or_else(|| panic!("{context}: a header without a method"));
        assert!(partial.header.is_none(), "{context}: a second header");
        partial.octets.extend_from_slice(octets);
        let body_size = header.body_size;
        partial.header = Some(Header { body_size, properties: header.properties.to_vec() });
        self.finish_content(frame.channel);
    }

    fn body(&mut self, frame: &RawFrame<'_>, octets: &[u8]) {
        let context = self.context;
        let partial =
            self.partial.get_mut(&frame.channel).unwrap_or_else(|| panic!("{context}: a body without a method"));
        assert!(partial.header.is_some(), "{context}: a body without a header");
        assert!(!frame.payload.is_empty(), "{context}: an empty body frame");
        partial.body.extend_from_slice(frame.payload);
        partial.octets.extend_from_slice(octets);
        self.finish_content(frame.channel);
    }

    /// Checks a content that is complete, and forgets it.
    fn finish_content(&mut self, channel: ChannelId) {
        let Some(Partial { header: Some(header), body, octets }) = self.partial.get(&channel) else { return };
        let len = u64::try_from(body.len()).expect("small");
        assert!(len <= header.body_size, "{}: {len} octets of a body of {}", self.context, header.body_size);
        if len < header.body_size {
            return;
        }
        // All of these clients fill their frames as this crate does.
        let mut encoded = Vec::new();
        encode_content(channel, &header.properties, body, self.frame_max, &mut encoded);
        assert!(encoded == *octets, "{}: a content of {len} octets is encoded otherwise", self.context);
        self.summary.largest_body = self.summary.largest_body.max(body.len());
        self.summary.contents += 1;
        self.partial.remove(&channel);
    }
}

/// Writes `l` for `L` where `encoded` has the former; whether there was one.
fn retag_integers(octets: &mut [u8], encoded: &[u8]) -> bool {
    let mut found = false;
    for (octet, encoded) in octets.iter_mut().zip(encoded) {
        if *octet == b'L' && *encoded == b'l' {
            *octet = b'l';
            found = true;
        }
    }
    found
}

/// Decodes a property list in both ways and encodes it again. Returns its flags, and whether integers were tagged `L`.
fn check_properties(context: &str, octets: &[u8]) -> (u16, bool) {
    let properties = BasicProperties::decode(octets).unwrap_or_else(|error| panic!("{context}: {error}: {octets:?}"));
    let borrowed = PropertiesRef::decode(octets).unwrap_or_else(|error| panic!("{context}: {error}: {octets:?}"));
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let mut expected = octets.to_vec();
    let tagged_l = encoded != expected && retag_integers(&mut expected, &encoded);
    assert_eq!(encoded, expected, "{context}: properties are encoded otherwise");
    assert_eq!(BasicProperties::decode(&encoded).as_ref(), Ok(&properties), "{context}");

    let check = |name: &str, owned: &Option<ShortString>, borrowed: Option<&[u8]>| {
        assert_eq!(owned.as_ref().map(ShortString::as_bytes), borrowed, "{context}: {name}");
    };
    check("content-type", &properties.content_type, borrowed.content_type);
    check("content-encoding", &properties.content_encoding, borrowed.content_encoding);
    check("correlation-id", &properties.correlation_id, borrowed.correlation_id);
    check("reply-to", &properties.reply_to, borrowed.reply_to);
    check("expiration", &properties.expiration, borrowed.expiration);
    check("message-id", &properties.message_id, borrowed.message_id);
    check("type", &properties.kind, borrowed.kind);
    check("user-id", &properties.user_id, borrowed.user_id);
    check("app-id", &properties.app_id, borrowed.app_id);
    check("cluster-id", &properties.cluster_id, borrowed.cluster_id);
    assert_eq!(properties.delivery_mode, borrowed.delivery_mode, "{context}");
    assert_eq!(properties.priority, borrowed.priority, "{context}");
    assert_eq!(properties.timestamp, borrowed.timestamp, "{context}");
    let headers: Option<FieldTable> =
        borrowed.headers.map(|content| decode_table_content(content).expect("a table that was checked"));
    assert_eq!(properties.headers, headers, "{context}");
    (u16::from_be_bytes([octets[0], octets[1]]), tagged_l)
}

fn summaries() -> BTreeMap<(String, Side), Summary> {
    let streams = streams();
    streams
        .iter()
        .map(|((session, side), stream)| {
            let client = streams.get(&(session.clone(), Side::Client)).expect("a session has both sides");
            let context = format!("{session} {side:?}");
            ((session.clone(), *side), walk(&context, *side, stream, tuned_frame_max(client)))
        })
        .collect()
}

#[test]
fn every_session_has_both_sides() {
    let streams = streams();
    for client in SESSIONS {
        for side in [Side::Client, Side::Server] {
            let found = streams.keys().filter(|(session, of)| session.starts_with(client) && *of == side).count();
            assert!(found > 0, "no {side:?} stream of {client} in {}", golden().display());
        }
    }
    for (session, side) in streams.keys() {
        let other = if *side == Side::Client { Side::Server } else { Side::Client };
        assert!(streams.contains_key(&(session.clone(), other)), "{session} has no {other:?} stream");
    }
}

#[test]
fn what_is_decoded_is_encoded_as_it_came() {
    for ((session, side), summary) in summaries() {
        let context = format!("{session} {side:?}: {summary:?}");
        println!("{context}");
        assert!(summary.methods >= METHODS_MIN, "{context}");
        assert!(summary.contents >= CONTENTS_MIN, "{context}");
        assert!(summary.heartbeats > 0, "{context}");
        assert_eq!(summary.largest_body, LARGE_BODY_BYTES, "{context}");
        let tagged_l = match (session.starts_with("py-amqp"), side) {
            (true, Side::Client) => 7,
            (true, Side::Server) => 2,
            (false, _) => 0,
        };
        assert_eq!(summary.tagged_l, tagged_l, "{context}");
    }
}

#[test]
fn the_sessions_together_use_nearly_everything() {
    let summaries = summaries();
    let names: BTreeSet<_> = summaries.values().flat_map(|summary| &summary.names).collect();
    assert!(names.len() >= METHODS_SEEN, "{} methods: {names:?}", names.len());
    for side in [Side::Client, Side::Server] {
        let of_side = summaries.iter().filter(|((_, of), _)| *of == side);
        let flags = of_side.fold(0, |flags, (_, summary)| flags | summary.property_flags);
        assert_eq!(flags, ALL_PROPERTIES, "{side:?}: {flags:#x}");
    }
}
