//! A synchronous AMQP client of raw frames: the test decides what is in flight when the broker dies.
//!
//! What is sent is collected and leaves with [`Client::flush`]. What comes is read in order. The end of the connection is an
//! ordinary result, [`Stop`]: it is what this test is about.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::Duration;

use leveret_protocol::{
    BasicProperties, ChannelId, ClassId, FieldTable, FieldValue, FrameKind, HeaderRef, LongString, Method, MethodId,
    PROTOCOL_HEADER, ReplyCode, ShortString, basic, channel, connection, encode_content, split_frame,
};

/// How long the broker may be silent while something is expected of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What RabbitMQ's clients are told when it stops.
const SHUTDOWN_TEXT: &str = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";

/// Octets read at once.
const READ_BYTES: usize = 64 * 1024;

/// Why a client stops.
#[derive(Debug)]
pub enum Stop {
    /// The broker is gone.
    Lost,
    /// The broker says that it shuts down: connection.close 320.
    ShutDown,
    /// The broker did something that it should not.
    Problem(String),
}

/// What a client's step leads to.
pub type Outcome<T> = Result<T, Stop>;

/// A method, and its content if it has one.
#[derive(Debug)]
pub struct Arrived {
    pub channel: u16,
    pub method: Method,
    pub content: Option<Content>,
}

#[derive(Debug)]
pub struct Content {
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

/// A content on its way.
struct Partial {
    method: Method,
    header: Option<(u64, BasicProperties)>,
    body: Vec<u8>,
}

/// A connection.
pub struct Client {
    stream: Arc<TcpStream>,
    input: Vec<u8>,
    /// Octets of `input` that are used up.
    used: usize,
    output: Vec<u8>,
    partial: HashMap<u16, Partial>,
    frame_max: u32,
}

pub fn problem<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Stop::Problem(text.into()))
}

/// A short string; the names of this test are short.
pub fn s(text: &str) -> ShortString {
    ShortString::truncated(text)
}

impl Client {
    /// Connects, logs in, and settles the frame size.
    pub fn open(addr: SocketAddr, frame_max: u32) -> Outcome<Self> {
        let stream = TcpStream::connect(addr).map_err(|_| Stop::Lost)?;
        stream.set_nodelay(true).expect("a fresh socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a fresh socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a fresh socket");
        let (input, output) = (Vec::new(), PROTOCOL_HEADER.to_vec());
        let mut client = Self { stream: Arc::new(stream), input, used: 0, output, partial: HashMap::new(), frame_max };
        match client.call()? {
            Method::ConnectionStart(_) => {}
            other => return problem(format!("{} instead of start", other.name())),
        }
        // To be told why nothing goes on.
        let capabilities = FieldTable::from_iter([(s("connection.blocked"), FieldValue::Boolean(true))]);
        client.send(
            0,
            connection::StartOk {
                mechanism: s("PLAIN"),
                response: LongString::from_static("\0guest\0guest"),
                locale: s("en_US"),
                client_properties: FieldTable::from_iter([(s("capabilities"), FieldValue::Table(capabilities))]),
            },
        );
        match client.call()? {
            Method::ConnectionTune(_) => {}
            other => return problem(format!("{} instead of tune", other.name())),
        }
        client.send(0, connection::TuneOk { channel_max: 16, frame_max, heartbeat: 0 });
        client.send(0, connection::Open { virtual_host: s("/"), ..connection::Open::default() });
        match client.call()? {
            Method::ConnectionOpenOk(_) => Ok(client),
            other => problem(format!("{} instead of open-ok", other.name())),
        }
    }

    /// Its socket, for who wants to cut the connection.
    pub fn socket(&self) -> Weak<TcpStream> {
        Arc::downgrade(&self.stream)
    }

    /// Opens a channel.
    pub fn open_channel(&mut self, channel: u16) -> Outcome<()> {
        self.send(channel, channel::Open::default());
        self.expect("channel.open-ok")
    }

    /// Appends a method to what will be sent.
    pub fn send(&mut self, channel: u16, method: impl Into<Method>) {
        method.into().encode_frame(ChannelId::new(channel), &mut self.output);
    }

    /// Appends a publish with its content to what will be sent.
    pub fn publish(&mut self, channel: u16, publish: basic::Publish, properties: &BasicProperties, body: &[u8]) {
        self.send(channel, publish);
        let mut octets = Vec::new();
        properties.encode(&mut octets);
        encode_content(ChannelId::new(channel), &octets, body, self.frame_max, &mut self.output);
    }

    /// Sends what was appended.
    pub fn flush(&mut self) -> Outcome<()> {
        let sent = (&*self.stream).write_all(&self.output);
        self.output.clear();
        match sent {
            Err(cause) if is_timeout(&cause) => problem("the broker does not read"),
            Err(_) => Err(Stop::Lost),
            Ok(()) => Ok(()),
        }
    }

    /// What comes next. What was appended is sent before this waits.
    pub fn next(&mut self) -> Outcome<Arrived> {
        loop {
            if let Some(arrived) = self.take()? {
                return Ok(arrived);
            }
            if !self.output.is_empty() {
                self.flush()?;
            }
            self.read()?;
        }
    }

    /// The next method, which must not have a content.
    pub fn call(&mut self) -> Outcome<Method> {
        let Arrived { method, content, .. } = self.next()?;
        if content.is_some() { problem(format!("unexpected {method:?}")) } else { Ok(method) }
    }

    /// The next method must have this name.
    pub fn expect(&mut self, name: &str) -> Outcome<()> {
        let method = self.call()?;
        if method.name() == name { Ok(()) } else { problem(format!("{method:?} instead of {name}")) }
    }

    /// Closes the connection and waits for close-ok; deliveries on their way are passed over.
    pub fn close(mut self) -> Outcome<()> {
        let close = connection::Close {
            reply_code: ReplyCode::REPLY_SUCCESS,
            reply_text: ShortString::default(),
            class_id: ClassId::new(0),
            method_id: MethodId::new(0),
        };
        self.send(0, close);
        loop {
            if matches!(self.next()?.method, Method::ConnectionCloseOk(_)) {
                return Ok(());
            }
        }
    }

    /// What is there without reading more.
    fn take(&mut self) -> Outcome<Option<Arrived>> {
        loop {
            let frame = split_frame(&self.input[self.used..], self.frame_max);
            let (frame, len) = match frame {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(None),
                Err(error) => return problem(format!("the broker sends {error}")),
            };
            let channel = frame.channel.get();
            let arrived = match FrameKind::from_octet(frame.kind) {
                Some(FrameKind::Heartbeat) => None,
                Some(FrameKind::Method) => {
                    let method = Method::decode(frame.payload).map_err(|error| Stop::Problem(error.to_string()))?;
                    if method.has_content() {
                        self.partial.insert(channel, Partial { method, header: None, body: Vec::new() });
                        None
                    } else {
                        Some(Arrived { channel, method, content: None })
                    }
                }
                Some(FrameKind::Header) => {
                    let header = HeaderRef::decode(frame.payload).map_err(|error| Stop::Problem(error.to_string()))?;
                    let properties = BasicProperties::decode(header.properties)
                        .map_err(|error| Stop::Problem(format!("properties: {error}")))?;
                    let Some(partial) = self.partial.get_mut(&channel) else { return problem("a stray header") };
                    partial.header = Some((header.body_size, properties));
                    self.complete(channel)
                }
                Some(FrameKind::Body) => {
                    let Some(partial) = self.partial.get_mut(&channel) else { return problem("a stray body") };
                    partial.body.extend_from_slice(frame.payload);
                    self.complete(channel)
                }
                None => return problem(format!("a frame of type {}", frame.kind)),
            };
            self.used += len;
            match arrived {
                None => {}
                Some(Arrived { method: Method::ConnectionClose(close), .. }) => return self.closed(&close),
                some => return Ok(some),
            }
        }
    }

    fn complete(&mut self, channel: u16) -> Option<Arrived> {
        let partial = self.partial.get(&channel)?;
        let (size, _) = partial.header.as_ref()?;
        if u64::try_from(partial.body.len()) != Ok(*size) {
            return None;
        }
        let Partial { method, header, body } = self.partial.remove(&channel)?;
        let (_, properties) = header?;
        Some(Arrived { channel, method, content: Some(Content { properties, body }) })
    }

    fn closed<T>(&mut self, close: &connection::Close) -> Outcome<T> {
        self.send(0, connection::CloseOk);
        // The broker may be gone before it reads this.
        let _ = self.flush();
        let text = close.reply_text.to_string();
        if close.reply_code == ReplyCode::CONNECTION_FORCED && text == SHUTDOWN_TEXT {
            return Err(Stop::ShutDown);
        }
        problem(format!("the broker closes the connection: {} {text}", close.reply_code))
    }

    fn read(&mut self) -> Outcome<()> {
        self.input.drain(..self.used);
        self.used = 0;
        let len = self.input.len();
        self.input.resize(len + READ_BYTES, 0);
        let read = (&*self.stream).read(&mut self.input[len..]);
        self.input.truncate(len + read.as_ref().map_or(0, |count| *count));
        match read {
            Ok(0) => Err(Stop::Lost),
            Ok(_) => Ok(()),
            Err(cause) if is_timeout(&cause) => problem(format!("the broker is silent for {PATIENCE:?}")),
            Err(_) => Err(Stop::Lost),
        }
    }
}

fn is_timeout(cause: &std::io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
