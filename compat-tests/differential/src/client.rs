//! A connection that sends what a scenario says and keeps everything that comes back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use leveret_protocol::{
    ArgumentMut, BasicProperties, ChannelId, FrameKind, HeaderRef, Method, PropertiesRef, RawFrame, channel,
    connection, split_frame,
};

use crate::masks::{Masks, is_noise, sort_words};
use crate::text::{quote, show_string, show_table};

/// How long a broker may leave a client waiting for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What has come on a channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// A frame or content, or what the harness found out.
    Line(String),
    /// The settlement of one publish.
    Settled { number: u64, is_ack: bool },
}

/// What has come on each channel of a connection.
pub(crate) type Lanes = BTreeMap<u16, Vec<Event>>;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Met,
    TimedOut,
    Closed,
}

struct Partial {
    method: Method,
    header: Option<(u64, Vec<u8>)>,
    body: Vec<u8>,
    frame_lens: Vec<usize>,
}

#[derive(Default)]
struct Publishes {
    last: u64,
    pending: BTreeSet<u64>,
}

#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub(crate) struct Connection {
    /// Gone once it has been reset.
    stream: Option<TcpStream>,
    input: Vec<u8>,
    held: Option<Vec<u8>>,
    partial: HashMap<u16, Partial>,
    masks: Rc<RefCell<Masks>>,
    pub(crate) lanes: Lanes,
    /// How many methods of a name have come on a channel, and how many of them were waited for.
    arrived: HashMap<(u16, String), usize>,
    awaited: HashMap<(u16, String), usize>,
    open: HashSet<u16>,
    publishes: HashMap<u16, Publishes>,
    /// The channel whose replies to queue.declare are not shown, and the last of them.
    muted: Option<u16>,
    muted_reply: Option<Method>,
    /// Whether what comes is shown.
    pub(crate) shows: bool,
    /// Whether a close of the broker's is answered by itself.
    pub(crate) answers_close: bool,
    /// Whether the end of the socket is no surprise.
    pub(crate) is_closing: bool,
    pub(crate) is_ended: bool,
    pub(crate) frame_max: u32,
}

impl Connection {
    pub(crate) fn open(addr: SocketAddr, masks: Rc<RefCell<Masks>>, lanes: Lanes) -> Result<Self, String> {
        let stream = TcpStream::connect(addr).map_err(|cause| format!("cannot connect to {addr}: {cause}"))?;
        let configured = stream.set_nodelay(true).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        configured.map_err(|cause| format!("cannot configure the socket: {cause}"))?;
        Ok(Self {
            stream: Some(stream),
            input: Vec::new(),
            held: None,
            partial: HashMap::new(),
            masks,
            lanes,
            arrived: HashMap::new(),
            awaited: HashMap::new(),
            open: HashSet::new(),
            publishes: HashMap::new(),
            muted: None,
            muted_reply: None,
            shows: true,
            answers_close: true,
            is_closing: false,
            is_ended: false,
            frame_max: 131_072,
        })
    }

    /// Sends octets, or keeps them until [`flush`](Self::flush). Whether the broker takes them shows in what it says.
    pub(crate) fn send_octets(&mut self, octets: &[u8]) {
        if let Some(held) = &mut self.held {
            held.extend_from_slice(octets);
        } else if let Some(stream) = &mut self.stream {
            let _ = stream.write_all(octets);
        }
    }

    pub(crate) fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    pub(crate) fn flush(&mut self) {
        if let Some(held) = self.held.take() {
            self.send_octets(&held);
        }
    }

    /// Sends what was held octet by octet.
    pub(crate) fn drip(&mut self) {
        for octet in self.held.take().unwrap_or_default() {
            self.send_octets(&[octet]);
        }
    }

    pub(crate) fn send(&mut self, channel: u16, method: &Method) {
        let mut octets = Vec::new();
        method.encode_frame(ChannelId::new(channel), &mut octets);
        match method {
            Method::ConfirmSelect(_) => {
                self.publishes.entry(channel).or_default();
            }
            Method::BasicPublish(_) => {
                if let Some(publishes) = self.publishes.get_mut(&channel) {
                    publishes.last += 1;
                    publishes.pending.insert(publishes.last);
                }
            }
            Method::ChannelOpen(_) => {
                self.open.insert(channel);
                self.publishes.remove(&channel);
            }
            Method::ChannelClose(_) => {
                self.open.remove(&channel);
            }
            Method::ConnectionClose(_) => self.is_closing = true,
            _ => {}
        }
        self.send_octets(&octets);
    }

    pub(crate) fn is_open(&self, channel: u16) -> bool {
        channel == 0 || self.open.contains(&channel)
    }

    pub(crate) fn note(&mut self, channel: u16, line: String) {
        if self.shows {
            self.lanes.entry(channel).or_default().push(Event::Line(line));
        }
    }

    /// How many methods of that name have come on the channel.
    pub(crate) fn count(&self, channel: u16, name: &str) -> usize {
        self.arrived.get(&(channel, name.to_owned())).copied().unwrap_or(0)
    }

    /// Whether these publishes are settled.
    pub(crate) fn is_settled(&self, channel: u16, up_to: u64) -> bool {
        let publishes = self.publishes.get(&channel);
        publishes.is_none_or(|publishes| publishes.last >= up_to && publishes.pending.range(..=up_to).next().is_none())
    }

    /// Waits until that many more of one of these methods have come, or the channel or connection is closed.
    pub(crate) fn wait_for(&mut self, channel: u16, names: &[&str], count: usize, patience: Duration) -> Waited {
        let key = |name: &str| (channel, name.to_owned());
        let closed_before = self.count(channel, "channel.close");
        let awaited: usize = names.iter().map(|name| self.awaited.get(&key(name)).copied().unwrap_or(0)).sum();
        let waited = self.wait_until(patience, |connection| {
            let arrived: usize = names.iter().map(|name| connection.count(channel, name)).sum();
            arrived >= awaited + count
                || connection.count(channel, "channel.close") > closed_before
                || connection.count(0, "connection.close") > 0 && !names.contains(&"connection.close-ok")
        });
        let arrived: usize = names.iter().map(|name| self.count(channel, name)).sum();
        let took = arrived.saturating_sub(awaited).min(count);
        if let Some(name) = names.first() {
            *self.awaited.entry(key(name)).or_default() += took;
        }
        waited
    }

    pub(crate) fn wait_until(&mut self, patience: Duration, is_met: impl Fn(&Self) -> bool) -> Waited {
        self.flush();
        let deadline = Instant::now() + patience;
        loop {
            if is_met(self) {
                return Waited::Met;
            }
            if self.is_ended {
                return Waited::Closed;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Waited::TimedOut;
            }
            self.read(left);
        }
    }

    /// Reads what comes within the time; whether anything did.
    pub(crate) fn read(&mut self, within: Duration) -> bool {
        let Some(stream) = self.stream.as_mut().filter(|_| !self.is_ended) else { return false };
        let mut chunk = vec![0; 1 << 16];
        let _ = stream.set_read_timeout(Some(within.max(Duration::from_millis(1))));
        match stream.read(&mut chunk) {
            Ok(len) if len > 0 => {
                self.input.extend_from_slice(&chunk[..len]);
                self.take_frames();
                true
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
            {
                false
            }
            // A reset is an end as well.
            Ok(_) | Err(_) => {
                self.is_ended = true;
                if !self.input.is_empty() {
                    let rest = quote(&self.input);
                    self.note(0, format!("octets {rest}"));
                }
                if !self.is_closing {
                    self.note(0, "eof".to_owned());
                }
                false
            }
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn shut(&mut self) {
        self.flush();
        self.is_closing = true;
        if let Some(stream) = &self.stream {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// Ends the socket with a reset, as a client does that crashes.
    pub(crate) fn reset(&mut self) {
        self.flush();
        self.is_ended = true;
        if let Some(stream) = self.stream.take() {
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// As [`send`](Self::send) for a queue.declare whose reply is given back instead of shown.
    pub(crate) fn call_muted(&mut self, channel: u16, method: &Method) -> Option<Method> {
        self.muted = Some(channel);
        self.muted_reply = None;
        self.send(channel, method);
        self.wait_until(PATIENCE, |connection| connection.muted_reply.is_some());
        self.muted = None;
        let reply = self.muted_reply.take();
        if let Some(reply) = &reply {
            // Nobody else waits for this one.
            *self.awaited.entry((channel, reply.name().to_owned())).or_default() += 1;
        }
        reply
    }

    fn take_frames(&mut self) {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        // The answer to a protocol header that is not liked is none of the frames.
        if rest.starts_with(b"AMQP") && self.arrived.is_empty() {
            self.input = input;
            return;
        }
        loop {
            match split_frame(rest, u32::MAX) {
                Ok(Some((frame, consumed))) => {
                    self.on_frame(&frame);
                    rest = &rest[consumed..];
                }
                Ok(None) => break,
                Err(error) => {
                    self.note(0, format!("(no frame: {error})"));
                    rest = &[];
                    break;
                }
            }
        }
        self.input = rest.to_vec();
    }

    fn on_frame(&mut self, frame: &RawFrame<'_>) {
        let channel = frame.channel.get();
        match FrameKind::from_octet(frame.kind) {
            Some(FrameKind::Heartbeat) => *self.arrived.entry((0, "heartbeat".to_owned())).or_default() += 1,
            Some(FrameKind::Method) => match Method::decode(frame.payload) {
                Ok(method) if method.has_content() => {
                    let partial = Partial { method, header: None, body: Vec::new(), frame_lens: Vec::new() };
                    if self.partial.insert(channel, partial).is_some() {
                        self.note(channel, "(a method interrupts a content)".to_owned());
                    }
                }
                Ok(method) => self.on_method(channel, method, None),
                Err(error) => self.note(channel, format!("(no method: {error}: {})", quote(frame.payload))),
            },
            Some(FrameKind::Header) => match (HeaderRef::decode(frame.payload), self.partial.get_mut(&channel)) {
                (Ok(header), Some(partial)) if partial.header.is_none() && header.weight == 0 => {
                    partial.header = Some((header.body_size, header.properties.to_vec()));
                    self.finish_content(channel);
                }
                _ => self.note(channel, format!("(a header out of order: {})", quote(frame.payload))),
            },
            Some(FrameKind::Body) => match self.partial.get_mut(&channel) {
                Some(partial) if partial.header.is_some() => {
                    partial.body.extend_from_slice(frame.payload);
                    partial.frame_lens.push(frame.payload.len());
                    self.finish_content(channel);
                }
                _ => self.note(channel, format!("(a body out of order: {})", quote(frame.payload))),
            },
            None => self.note(channel, format!("(a frame of type {}: {})", frame.kind, quote(frame.payload))),
        }
    }

    fn finish_content(&mut self, channel: u16) {
        let is_whole = self.partial.get(&channel).is_some_and(|partial| {
            partial
                .header
                .as_ref()
                .is_some_and(|(size, _)| u64::try_from(partial.body.len()).is_ok_and(|len| len >= *size))
        });
        if is_whole && let Some(partial) = self.partial.remove(&channel) {
            let (_, properties) = partial.header.unwrap_or_default();
            let shown = self.show_content(&properties, &partial.body, &partial.frame_lens);
            self.on_method(channel, partial.method, Some(shown));
        }
    }

    fn on_method(&mut self, channel: u16, method: Method, content: Option<String>) {
        *self.arrived.entry((channel, method.name().to_owned())).or_default() += 1;
        let is_muted =
            self.muted == Some(channel) && matches!(method, Method::QueueDeclareOk(_) | Method::ChannelClose(_));
        if !is_muted && !is_noise(&method) && !self.settle(channel, &method) {
            let shown = self.show_method(method.clone());
            self.note(channel, content.map_or_else(|| shown.clone(), |content| format!("{shown} |{content}")));
        }
        match &method {
            Method::ChannelClose(_) => {
                self.open.remove(&channel);
                if self.answers_close {
                    self.send(channel, &channel::CloseOk.into());
                }
            }
            Method::ConnectionClose(_) => {
                if self.answers_close {
                    self.send(0, &connection::CloseOk.into());
                }
                self.is_closing = true;
            }
            Method::ConnectionCloseOk(_) => self.is_closing = true,
            Method::ConnectionTune(tune) => self.frame_max = tune.frame_max,
            _ => {}
        }
        if is_muted {
            self.muted_reply = Some(method);
        }
    }

    /// Notes which publishes a confirm is about, if it is one.
    fn settle(&mut self, channel: u16, method: &Method) -> bool {
        let (tag, multiple, is_ack) = match method {
            Method::BasicAck(ack) => (ack.delivery_tag.get(), ack.multiple, true),
            Method::BasicNack(nack) => (nack.delivery_tag.get(), nack.multiple, false),
            _ => return false,
        };
        let Some(publishes) = self.publishes.get_mut(&channel) else { return false };
        let numbers: Vec<u64> = if multiple && tag == 0 {
            publishes.pending.iter().copied().collect()
        } else if multiple {
            publishes.pending.range(..=tag).copied().collect()
        } else {
            vec![tag]
        };
        let lane = self.lanes.entry(channel).or_default();
        for number in numbers {
            let known = publishes.pending.remove(&number);
            if !self.shows {
                continue;
            }
            lane.push(if known {
                Event::Settled { number, is_ack }
            } else {
                Event::Line(format!("(settles {number}, which is not pending)"))
            });
        }
        true
    }

    fn show_method(&self, mut method: Method) -> String {
        let mut masks = self.masks.borrow_mut();
        let name = method.name();
        let mut shown = name.to_owned();
        for (argument, value) in method.arguments_mut() {
            let value = match value {
                ArgumentMut::Bit(false) => continue,
                ArgumentMut::Bit(true) => {
                    shown = format!("{shown} {}", argument.replace('_', "-"));
                    continue;
                }
                ArgumentMut::U8(number) => number.to_string(),
                ArgumentMut::U16(number) => number.to_string(),
                ArgumentMut::U32(number) => number.to_string(),
                ArgumentMut::U64(number) => number.to_string(),
                ArgumentMut::ClassId(number) => number.to_string(),
                ArgumentMut::MethodId(number) => number.to_string(),
                ArgumentMut::ReplyCode(number) => number.get().to_string(),
                ArgumentMut::DeliveryTag(number) => number.to_string(),
                ArgumentMut::ShortString(string) if string.is_empty() => continue,
                ArgumentMut::ShortString(string) => show_string(&masks.hide(string.as_bytes())),
                ArgumentMut::LongString(string) if string.is_empty() => continue,
                ArgumentMut::LongString(string) if argument == "mechanisms" => {
                    show_string(&sort_words(string.as_bytes()))
                }
                ArgumentMut::LongString(string) => show_string(&masks.hide(string.as_bytes())),
                ArgumentMut::Table(table) => show_table(&masks.hide_arguments(name, table)),
            };
            shown = format!("{shown} {}={value}", argument.replace('_', "-"));
        }
        shown
    }

    fn show_content(&self, properties: &[u8], body: &[u8], frame_lens: &[usize]) -> String {
        let mut shown = match PropertiesRef::decode(properties).and_then(|_| BasicProperties::decode(properties)) {
            Ok(properties) => self.show_properties(&properties),
            Err(error) => format!(" ({error}: {})", quote(properties)),
        };
        let is_plain = body.len() <= 80 && frame_lens.len() == usize::from(!body.is_empty());
        let body_shown = if is_plain {
            show_string(&self.masks.borrow_mut().hide(body))
        } else {
            let frames: Vec<String> = frame_lens.iter().map(usize::to_string).collect();
            format!("{}#{:08x} in {}", body.len(), checksum(body), frames.join("+"))
        };
        shown.push_str(" body=");
        shown.push_str(&body_shown);
        shown
    }

    fn show_properties(&self, properties: &BasicProperties) -> String {
        let mut masks = self.masks.borrow_mut();
        let headers = masks.hide_headers(properties).map(|headers| show_table(&headers));
        let mut string = |string: &Option<leveret_protocol::ShortString>| {
            string.as_ref().map(|string| show_string(&masks.hide(string.as_bytes())))
        };
        let shown = [
            ("content-type", string(&properties.content_type)),
            ("content-encoding", string(&properties.content_encoding)),
            ("headers", headers),
            ("delivery-mode", properties.delivery_mode.map(|number| number.to_string())),
            ("priority", properties.priority.map(|number| number.to_string())),
            ("correlation-id", string(&properties.correlation_id)),
            ("reply-to", string(&properties.reply_to)),
            ("expiration", string(&properties.expiration)),
            ("message-id", string(&properties.message_id)),
            ("timestamp", properties.timestamp.map(|number| number.to_string())),
            ("type", string(&properties.kind)),
            ("user-id", string(&properties.user_id)),
            ("app-id", string(&properties.app_id)),
            ("cluster-id", string(&properties.cluster_id)),
        ];
        shown.into_iter().filter_map(|(name, value)| Some(format!(" {name}={}", value?))).collect()
    }
}

/// Tells long bodies apart (FNV-1a).
fn checksum(octets: &[u8]) -> u32 {
    octets.iter().fold(0x811C_9DC5, |sum, octet| (sum ^ u32::from(*octet)).wrapping_mul(0x0100_0193))
}

/// What has come on one channel, line by line; what was settled between two other events is one line.
pub(crate) fn lines(events: &[Event]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut settled: BTreeMap<u64, bool> = BTreeMap::new();
    for event in events {
        match event {
            Event::Settled { number, is_ack } => {
                settled.insert(*number, *is_ack);
            }
            Event::Line(line) => {
                flush_settled(&mut settled, &mut lines);
                lines.push(line.clone());
            }
        }
    }
    flush_settled(&mut settled, &mut lines);
    lines
}

fn flush_settled(settled: &mut BTreeMap<u64, bool>, lines: &mut Vec<String>) {
    let settled = std::mem::take(settled);
    for (is_ack, word) in [(true, "confirmed"), (false, "refused")] {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in settled.iter().filter(|(_, ack)| **ack == is_ack).map(|(number, _)| *number) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        if !ranges.is_empty() {
            let show = |(first, last): &(u64, u64)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            };
            lines.push(format!("({word} {})", ranges.iter().map(show).collect::<Vec<_>>().join(",")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_are_shown_as_sets() {
        let settled = |number, is_ack| Event::Settled { number, is_ack };
        let events =
            [settled(2, true), settled(1, true), settled(3, false), Event::Line("x".to_owned()), settled(4, true)];
        assert_eq!(lines(&events), ["(confirmed 1-2)", "(refused 3)", "x", "(confirmed 4)"]);
    }
}
