//! A simulated client: what it has sent, what it waits for, what it was delivered. What comes is checked and told to the
//! bookkeeper; what it does by itself stands in `acts`.

use std::collections::{BTreeMap, VecDeque};

use leveret_protocol::{
    BasicProperties, ChannelId, DeliveryTag, FrameKind, HeaderRef, LongString, Method, PROTOCOL_HEADER, ShortString,
    basic, connection, encode_content, split_frame,
};

use super::invariants::{Book, Outcome, Seen, TokenId, Uid};
use super::wire::Wire;

/// The frame-max that every client negotiates.
const FRAME_MAX: u32 = 131_072;

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not connected.
    Away,
    /// The handshake was sent.
    Opening,
    Open,
    /// connection.close was sent.
    Closing,
}

/// What a channel is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Publish,
    Confirm,
    Consume,
    Transact,
    /// Queues and bindings come and go.
    Arrange,
}

/// What the answer to a method brings about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    Consuming(String),
    Cancelled(String),
    Got {
        queue: usize,
        no_ack: bool,
    },
    Committed(u64),
    /// A queue or binding is there, or gone.
    Arranged(Vec<(String, bool)>),
    Recovered,
    RolledBack,
    Closed,
}

/// An answer that has to come.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) name: &'static str,
    pub(super) answer: Answer,
    /// Settlements sent before the method.
    settled_before: u64,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) queue: usize,
    pub(super) no_ack: bool,
    pub(super) prefetch: u32,
    pub(super) unacked: u32,
    pub(super) cancelling: bool,
}

/// A delivery that waits for its ack.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) token: TokenId,
    pub(super) queue: usize,
    pub(super) consumer: Option<String>,
    /// What the transaction will make of it.
    pub(super) in_tx: Option<Outcome>,
}

#[derive(Debug)]
struct Content {
    method: Method,
    size: u64,
    body: Vec<u8>,
}

/// A channel of a client.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) uid: Uid,
    pub(super) role: Role,
    /// Nothing more is to be heard of it: channel.close was sent, or a mistake made.
    pub(super) leaving: bool,
    /// The broker may close it.
    pub(super) erring: bool,
    pub(super) expected: VecDeque<Expected>,
    pub(super) consumers: BTreeMap<String, Consumer>,
    pub(super) held: BTreeMap<u64, Held>,
    pub(super) next_tag: u64,
    pub(super) prefetch: u32,
    /// The limit that all consumers share.
    pub(super) limit: u32,
    /// Publishes on a confirm channel so far, and the groups of those that wait.
    pub(super) published: u64,
    pub(super) unconfirmed: BTreeMap<u64, u64>,
    /// The transaction under way.
    pub(super) group: Option<u64>,
    /// It may be refused, which ends the channel: then nobody but the broker knows what becomes of deliveries.
    pub(super) risky: bool,
    settled: u64,
    settlements: VecDeque<(u64, TokenId)>,
    content: Option<Content>,
}

impl Channel {
    pub(super) fn new(uid: Uid, role: Role) -> Self {
        Self {
            uid,
            role,
            leaving: false,
            erring: false,
            expected: VecDeque::new(),
            consumers: BTreeMap::new(),
            held: BTreeMap::new(),
            next_tag: 1,
            prefetch: 0,
            limit: 0,
            published: 0,
            unconfirmed: BTreeMap::new(),
            group: None,
            risky: false,
            settled: 0,
            settlements: VecDeque::new(),
            content: None,
        }
    }

    pub(super) fn expect(&mut self, name: &'static str, answer: Answer) {
        self.expected.push_back(Expected { name, answer, settled_before: self.settled });
    }

    /// Notes an ack that was sent.
    pub(super) fn note_settled(&mut self, token: TokenId) {
        self.settled += 1;
        self.settlements.push_back((self.settled, token));
    }

    /// Deliveries that count against prefetch limits.
    pub(super) fn unacked_of_consumers(&self) -> u32 {
        let held = self.held.values().filter(|held| held.consumer.is_some());
        u32::try_from(held.count()).expect("few messages")
    }

    /// Ends the channel in the book.
    pub(super) fn end(&self, book: &mut Book) {
        book.ended(self.uid, self.held.values().map(|held| held.token));
        if let Some(group) = self.group {
            book.voided(group);
        }
    }
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    /// Its number among the clients.
    pub(super) at: usize,
    pub(super) phase: Phase,
    pub(super) wire: Wire,
    /// It takes nothing from its socket.
    pub(super) stalled: bool,
    pub(super) channels: BTreeMap<u16, Channel>,
    /// Names that it has given to consumers.
    pub(super) tags: u64,
    /// Channels of its last connection, of which the broker may not know yet that they are gone.
    ghosts: Vec<Uid>,
    input: Vec<u8>,
}

pub(super) fn short(text: &str) -> ShortString {
    ShortString::try_from(text.as_bytes()).expect("a short name")
}

/// The octets that follow the number in a message's body.
pub(super) fn filler(message: u64, len: usize) -> impl Iterator<Item = u8> {
    message.to_le_bytes().into_iter().cycle().take(len)
}

impl Client {
    pub(super) fn new(at: usize) -> Self {
        Self {
            at,
            phase: Phase::Away,
            wire: Wire::default(),
            stalled: false,
            channels: BTreeMap::new(),
            tags: 0,
            ghosts: Vec::new(),
            input: Vec::new(),
        }
    }

    /// Connects and sends the whole handshake at once.
    pub(super) fn connect(&mut self, heartbeat: u16) {
        *self = Self { tags: self.tags, phase: Phase::Opening, ..Self::new(self.at) };
        self.wire.send(&PROTOCOL_HEADER);
        self.send(
            0,
            connection::StartOk {
                client_properties: leveret_protocol::FieldTable::new(),
                mechanism: short("PLAIN"),
                response: LongString::from_static("\0guest\0guest"),
                locale: short("en_US"),
            },
        );
        self.send(0, connection::TuneOk { channel_max: 2047, frame_max: FRAME_MAX, heartbeat });
        self.send(0, connection::Open { virtual_host: short("/"), ..connection::Open::default() });
    }

    pub(super) fn send(&self, channel: u16, method: impl Into<Method>) {
        let mut octets = Vec::new();
        method.into().encode_frame(ChannelId::new(channel), &mut octets);
        self.wire.send(&octets);
    }

    pub(super) fn send_content(
        &self,
        channel: u16,
        publish: basic::Publish,
        properties: &BasicProperties,
        body: &[u8],
        frame_max: u32,
    ) {
        let (mut octets, mut encoded) = (Vec::new(), Vec::new());
        Method::from(publish).encode_frame(ChannelId::new(channel), &mut octets);
        properties.encode(&mut encoded);
        encode_content(ChannelId::new(channel), &encoded, body, frame_max, &mut octets);
        self.wire.send(&octets);
    }

    /// The connection is over: nothing more is sent or heard.
    pub(super) fn gone(&mut self, book: &mut Book) {
        for channel in std::mem::take(&mut self.channels).into_values() {
            book.leaves(channel.uid, channel.held.values().map(|held| held.token));
            if let Some(group) = channel.group {
                book.voided(group);
            }
            self.ghosts.push(channel.uid);
        }
        self.wire.lose(0);
        self.wire = Wire::default();
        self.input.clear();
        self.phase = Phase::Away;
    }

    /// The broker has ended the connection, too.
    pub(super) fn forgotten(&mut self, book: &mut Book) {
        for uid in self.ghosts.drain(..) {
            book.ended(uid, std::iter::empty());
        }
    }

    /// Reads octets.
    pub(super) fn receive(&mut self, octets: &[u8], book: &mut Book) {
        self.input.extend_from_slice(octets);
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        loop {
            match split_frame(&input[at..], FRAME_MAX) {
                Ok(Some((frame, used))) => {
                    let payload = frame.payload.to_vec();
                    let (kind, channel) = (frame.kind, frame.channel.get());
                    at += used;
                    self.on_frame(kind, channel, &payload, book);
                    if self.phase == Phase::Away {
                        return;
                    }
                }
                Ok(None) => break,
                Err(cause) => return book.fail(|| format!("the broker sent a bad frame: {cause}")),
            }
        }
        self.input = input[at..].to_vec();
    }

    fn on_frame(&mut self, kind: u8, channel: u16, payload: &[u8], book: &mut Book) {
        match FrameKind::from_octet(kind) {
            Some(FrameKind::Heartbeat) => {}
            Some(FrameKind::Method) => match Method::decode(payload) {
                Ok(method) if channel == 0 => self.on_connection_method(&method, book),
                Ok(method) => self.on_channel_method(channel, method, book),
                Err(cause) => book.fail(|| format!("the broker sent a bad method: {cause}")),
            },
            Some(FrameKind::Header | FrameKind::Body) => self.on_content(kind, channel, payload, book),
            None => book.fail(|| format!("the broker sent a frame of type {kind}")),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "of all methods only a few are expected")]
    fn on_connection_method(&mut self, method: &Method, book: &mut Book) {
        match method {
            Method::ConnectionStart(_) | Method::ConnectionTune(_) => {}
            Method::ConnectionOpenOk(_) => self.phase = Phase::Open,
            Method::ConnectionCloseOk(_) if self.phase == Phase::Closing => {
                // Everything sent before was carried out.
                for channel in self.channels.values_mut() {
                    for (_, token) in channel.settlements.drain(..) {
                        book.carried_out(token);
                    }
                }
                self.gone(book);
            }
            Method::ConnectionClose(close) => {
                if !book.stopping && self.phase != Phase::Closing {
                    book.fail(|| format!("the broker closed a connection: {close:?}"));
                }
                self.send(0, connection::CloseOk {});
                self.wire.arrive(self.wire.travelling());
                self.gone(book);
            }
            other => book.fail(|| format!("unexpected on channel 0: {other:?}")),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are answers")]
    fn on_channel_method(&mut self, id: u16, method: Method, book: &mut Book) {
        if self.phase == Phase::Closing {
            return;
        }
        let Some(channel) = self.channels.get_mut(&id) else {
            return book.fail(|| format!("on channel {id}, which is not open: {method:?}"));
        };
        if channel.content.is_some() {
            return book.fail(|| format!("{} within a content", method.name()));
        }
        match method {
            Method::BasicDeliver(_) | Method::BasicReturn(_) | Method::BasicGetOk(_) => {
                channel.content = Some(Content { method, size: u64::MAX, body: Vec::new() });
            }
            Method::BasicAck(ack) => channel.on_confirm(ack.delivery_tag.get(), ack.multiple, true, book),
            Method::BasicNack(nack) => channel.on_confirm(nack.delivery_tag.get(), nack.multiple, false, book),
            Method::ChannelClose(close) => {
                let partial = channel.role == Role::Transact
                    && matches!(channel.expected.front(), Some(Expected { answer: Answer::Committed(_), .. }));
                if !channel.erring && !partial && !channel.leaving {
                    book.fail(|| format!("the broker closed a channel: {close:?}"));
                }
                channel.end(book);
                self.channels.remove(&id);
                self.send(id, leveret_protocol::channel::CloseOk {});
            }
            other => {
                let done = channel.on_answer(&other, book);
                if done {
                    channel.end(book);
                    self.channels.remove(&id);
                }
            }
        }
    }

    fn on_content(&mut self, kind: u8, id: u16, payload: &[u8], book: &mut Book) {
        if self.phase == Phase::Closing {
            return;
        }
        let Some(channel) = self.channels.get_mut(&id) else {
            return book.fail(|| format!("a content on channel {id}, which is not open"));
        };
        let Some(content) = &mut channel.content else {
            return book.fail(|| "a content without its method".to_owned());
        };
        if kind == FrameKind::Header.octet() {
            match HeaderRef::decode(payload) {
                Ok(header) => content.size = header.body_size,
                Err(cause) => return book.fail(|| format!("a bad content header: {cause}")),
            }
        } else {
            content.body.extend_from_slice(payload);
        }
        let len = u64::try_from(content.body.len()).expect("64 bits");
        if content.size != u64::MAX && len > content.size {
            return book.fail(|| "a content longer than it said".to_owned());
        }
        if len == content.size
            && let Some(content) = channel.content.take()
        {
            channel.on_message(&content.method, &content.body, book);
        }
    }
}

impl Channel {
    /// An answer came; true when it was the last one.
    fn on_answer(&mut self, method: &Method, book: &mut Book) -> bool {
        let Some(expected) = self.expected.pop_front() else {
            book.fail(|| format!("nobody waits for {method:?}"));
            return false;
        };
        let name = if method.name() == "basic.get-empty" { "basic.get-ok" } else { method.name() };
        if name != expected.name {
            book.fail(|| format!("{} came instead of {}", method.name(), expected.name));
            return false;
        }
        while let Some((nth, token)) = self.settlements.front().copied()
            && nth <= expected.settled_before
        {
            self.settlements.pop_front();
            book.carried_out(token);
        }
        match expected.answer {
            Answer::Recovered => {
                book.recovers(self.uid, true);
                false
            }
            Answer::Nothing | Answer::RolledBack | Answer::Got { .. } | Answer::Consuming(_) => false,
            Answer::Cancelled(tag) => {
                self.consumers.remove(&tag);
                false
            }
            Answer::Arranged(entities) => {
                book.counts.defined += 1;
                for (name, there) in entities {
                    book.entities.answered(&name, there);
                }
                false
            }
            Answer::Committed(group) => {
                book.counts.committed += 1;
                book.promised(group);
                false
            }
            Answer::Closed => true,
        }
    }

    fn on_confirm(&mut self, tag: u64, multiple: bool, ack: bool, book: &mut Book) {
        if !self.unconfirmed.contains_key(&tag) {
            return book.fail(|| format!("publish {tag} was settled that does not wait for it"));
        }
        let settled: Vec<u64> =
            if multiple { self.unconfirmed.range(..=tag).map(|(number, _)| *number).collect() } else { vec![tag] };
        for number in settled {
            let Some(group) = self.unconfirmed.remove(&number) else { continue };
            if ack {
                book.counts.confirmed += 1;
                book.promised(group);
            } else {
                book.refused(group);
            }
        }
    }

    /// A message came whole.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these two carry messages here")]
    fn on_message(&mut self, method: &Method, body: &[u8], book: &mut Book) {
        let (tag, redelivered, consumer) = match method {
            Method::BasicDeliver(deliver) => {
                let consumer = String::from_utf8_lossy(deliver.consumer_tag.as_bytes()).into_owned();
                (deliver.delivery_tag, deliver.redelivered, Some(consumer))
            }
            Method::BasicGetOk(got) => (got.delivery_tag, got.redelivered, None),
            other => return book.fail(|| format!("unexpected: {other:?}")),
        };
        if tag != DeliveryTag::new(self.next_tag) {
            return book.fail(|| format!("delivery tag {tag:?} instead of {}", self.next_tag));
        }
        self.next_tag += 1;
        let (queue, no_ack) = match &consumer {
            Some(name) => match self.consumers.get(name) {
                Some(consumer) => (consumer.queue, consumer.no_ack),
                None => return book.fail(|| format!("a delivery to {name}, which does not consume")),
            },
            None => match self.expected.front() {
                Some(Expected { answer: Answer::Got { queue, no_ack }, .. }) => (*queue, *no_ack),
                other => return book.fail(|| format!("basic.get-ok came instead of {other:?}")),
            },
        };
        let number = body.first_chunk().map(|octets| u64::from_be_bytes(*octets));
        let Some(message) = number.filter(|number| filler(*number, body.len() - 8).eq(body[8..].iter().copied()))
        else {
            return book.fail(|| format!("a body of {} octets is damaged", body.len()));
        };
        if consumer.is_none() && self.on_answer(method, book) {
            return;
        }
        let taken_back = self.expected.iter().any(|expected| expected.answer == Answer::Recovered);
        if book.stopping || self.leaving || self.erring || (taken_back && !no_ack) {
            return book.glimpsed(queue, message);
        }
        let seen = Seen { channel: self.uid, queue, message, redelivered, no_ack, got: consumer.is_none() };
        let Some(token) = book.delivered(seen) else { return };
        if no_ack {
            return;
        }
        if let Some(consumer) = consumer.as_ref().and_then(|name| self.consumers.get_mut(name)) {
            consumer.unacked += 1;
            let (unacked, prefetch) = (consumer.unacked, consumer.prefetch);
            if prefetch > 0 && unacked > prefetch {
                book.fail(|| format!("{unacked} deliveries unacked with a prefetch of {prefetch}"));
            }
            if self.limit > 0 && self.unacked_of_consumers() >= self.limit {
                book.fail(|| format!("more than {} deliveries unacked on a channel", self.limit));
            }
        }
        self.held.insert(tag.get(), Held { token, queue, consumer, in_tx: None });
    }
}
