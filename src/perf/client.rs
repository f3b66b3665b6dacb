//! A blocking AMQP client with one channel on one connection, as thin as a load generator needs it.
//!
//! Reads and writes time out after [`TICK`], so that whoever waits can look at flags; the connection has no heartbeats.
//! While a write cannot go on, input is read into memory: a broker that serves the directions of a connection in turn
//! would otherwise wait for us as we wait for it.
//! Not here: contents; publishers encode and consumers parse them.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use leveret_protocol::{
    ChannelId, FieldTable, FieldValue, FrameKind, LongString, Method, PROTOCOL_HEADER, RawFrame, ReplyCode,
    ShortString, StringTooLong, channel, connection,
};

use super::error::PerfError;
use super::input::Input;
use super::url::Url;

/// The channel that everything happens on.
pub(super) const CHANNEL: ChannelId = ChannelId::new(1);

/// How long a read or a write blocks before flags are looked at.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// How many ticks without an octet a reply may take: half a minute, for deleting a long queue takes time.
const REPLY_TICKS: u32 = 120;

/// The largest frame we ask for; RabbitMQ's default.
const FRAME_MAX_BYTES: u32 = 131_072;

/// What came of waiting for input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// Octets have come.
    Octets,
    /// Nothing has come in time.
    Nothing,
}

/// A connection with an open channel.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    input: Input,
    frame_max_bytes: u32,
}

impl Client {
    /// Connects, logs in, opens the vhost and a channel.
    pub(super) fn connect(url: &Url, name: &str) -> Result<Self, PerfError> {
        let stream = TcpStream::connect((url.host.as_str(), url.port))
            .map_err(|source| PerfError::Connect { address: url.to_string(), source })?;
        stream.set_nodelay(true).map_err(PerfError::Io)?;
        stream.set_read_timeout(Some(TICK)).map_err(PerfError::Io)?;
        stream.set_write_timeout(Some(TICK)).map_err(PerfError::Io)?;
        let mut client = Self { stream, input: Input::new(), frame_max_bytes: FRAME_MAX_BYTES };
        client.log_in(url, name)?;
        client.call_for(channel::Open::default(), |reply| matches!(reply, Method::ChannelOpenOk(_)))?;
        Ok(client)
    }

    fn log_in(&mut self, url: &Url, name: &str) -> Result<(), PerfError> {
        self.write(&PROTOCOL_HEADER)?;
        let start = self.next_method("the protocol header")?;
        if !matches!(start, Method::ConnectionStart(_)) {
            return Err(unexpected(&start));
        }
        let start_ok = connection::StartOk {
            client_properties: client_properties(name)?,
            mechanism: ShortString::from_static("PLAIN"),
            response: LongString::try_from(format!("\0{}\0{}", url.user, url.password)).map_err(too_long)?,
            locale: ShortString::from_static("en_US"),
        };
        let reply = self.call(start_ok)?;
        let Method::ConnectionTune(tune) = reply else {
            return Err(unexpected(&reply));
        };
        if tune.frame_max != 0 {
            self.frame_max_bytes = self.frame_max_bytes.min(tune.frame_max);
        }
        let (channel_max, frame_max) = (tune.channel_max, self.frame_max_bytes);
        self.send(connection::TuneOk { channel_max, frame_max, heartbeat: 0 })?;
        let open = connection::Open { virtual_host: short_string(&url.vhost)?, ..connection::Open::default() };
        self.call_for(open, |reply| matches!(reply, Method::ConnectionOpenOk(_)))
    }

    /// The size of a frame that has been agreed upon.
    pub(super) fn frame_max_bytes(&self) -> u32 {
        self.frame_max_bytes
    }

    /// A handle to the socket, for another thread to write to it or to break it off.
    pub(super) fn stream(&self) -> Result<TcpStream, PerfError> {
        self.stream.try_clone().map_err(PerfError::Io)
    }

    /// Sends a method and returns the one that comes back.
    pub(super) fn call(&mut self, method: impl Into<Method>) -> Result<Method, PerfError> {
        let method = method.into();
        self.send_method(&method)?;
        self.next_method(method.name())
    }

    /// Sends a method, and refuses a reply that is not the one for it.
    pub(super) fn call_for(
        &mut self,
        method: impl Into<Method>,
        is_reply: impl Fn(&Method) -> bool,
    ) -> Result<(), PerfError> {
        let reply = self.call(method)?;
        if is_reply(&reply) { Ok(()) } else { Err(unexpected(&reply)) }
    }

    /// Sends a method.
    pub(super) fn send(&mut self, method: impl Into<Method>) -> Result<(), PerfError> {
        self.send_method(&method.into())
    }

    fn send_method(&mut self, method: &Method) -> Result<(), PerfError> {
        let is_connection_method = method.ids().0 == connection::Open::CLASS;
        let mut out = Vec::new();
        method.encode_frame(if is_connection_method { ChannelId::ZERO } else { CHANNEL }, &mut out);
        self.write(&out)
    }

    /// Writes octets, reading what comes in the meantime.
    #[inline]
    pub(super) fn write(&mut self, octets: &[u8]) -> Result<(), PerfError> {
        let Self { stream, input, .. } = self;
        write_all(stream, octets, || input.read_available(stream).map(|_| ())).map_err(|error| self.explain(error))
    }

    /// Waits for input, at most a [`TICK`].
    #[inline]
    pub(super) fn fill(&mut self) -> Result<Filled, PerfError> {
        self.input.read(&self.stream).map_err(from_read)
    }

    /// Takes the input that is there.
    pub(super) fn fill_available(&mut self) -> Result<Filled, PerfError> {
        self.input.read_available(&self.stream).map_err(from_read)
    }

    /// The next complete frame that has been read.
    #[inline]
    pub(super) fn next_frame(&mut self) -> Result<Option<RawFrame<'_>>, PerfError> {
        self.input.next_frame(self.frame_max_bytes).map_err(PerfError::Frame)
    }

    /// Closes the channel, which the broker answers once it has handled all that was sent, and then the connection.
    pub(super) fn close(mut self) -> Result<(), PerfError> {
        let reply_code = ReplyCode::REPLY_SUCCESS;
        self.call_for(channel::Close { reply_code, ..channel::Close::default() }, |reply| {
            matches!(reply, Method::ChannelCloseOk(_))
        })?;
        self.call_for(connection::Close { reply_code, ..connection::Close::default() }, |reply| {
            matches!(reply, Method::ConnectionCloseOk(_))
        })
    }

    /// The next method that is an answer; what the broker sends on its own account is skipped.
    fn next_method(&mut self, waiting_after: &'static str) -> Result<Method, PerfError> {
        let mut idle_ticks = 0;
        loop {
            while let Some(frame) = self.next_frame()? {
                if let Some(method) = answer(&frame)? {
                    return Ok(method);
                }
            }
            match self.fill()? {
                Filled::Octets => idle_ticks = 0,
                Filled::Nothing if idle_ticks == REPLY_TICKS => return Err(PerfError::TimedOut { waiting_after }),
                Filled::Nothing => idle_ticks += 1,
            }
        }
    }

    /// Why a socket cannot be written to, in the broker's words if it left any.
    #[cold]
    fn explain(&mut self, error: io::Error) -> PerfError {
        while let Ok(Filled::Octets) = self.fill_available() {}
        while let Ok(Some(frame)) = self.next_frame() {
            if let Err(closed @ PerfError::Closed { .. }) = answer(&frame) {
                return closed;
            }
        }
        PerfError::Io(error)
    }
}

/// Writes all octets, calling `on_stall` each time the socket has taken none for a [`TICK`].
#[inline]
pub(super) fn write_all(
    mut stream: &TcpStream,
    mut octets: &[u8],
    mut on_stall: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    while !octets.is_empty() {
        match stream.write(octets) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => octets = octets.get(written..).unwrap_or_default(),
            Err(error) if is_timeout(&error) => on_stall()?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a socket's time was up; a blocking socket says so as one that does not block.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What a frame other than the ones looked for says: an error if it is a method that ends the connection, or has no place
/// there.
#[cold]
pub(super) fn check_other_frame(frame: &RawFrame<'_>) -> Result<(), PerfError> {
    answer(frame)?.map_or(Ok(()), |method| Err(unexpected(&method)))
}

/// The method in a frame, unless the broker sends it on its own account. A close is an error.
fn answer(frame: &RawFrame<'_>) -> Result<Option<Method>, PerfError> {
    if frame.kind != FrameKind::Method.octet() {
        return Ok(None);
    }
    let method = Method::decode(frame.payload).map_err(PerfError::Decode)?;
    let is_notice = matches!(
        method,
        Method::BasicDeliver(_)
            | Method::BasicReturn(_)
            | Method::BasicAck(_)
            | Method::BasicNack(_)
            | Method::ConnectionBlocked(_)
            | Method::ConnectionUnblocked(_)
    );
    match (closed(&method), is_notice) {
        (Some(closed), _) => Err(closed),
        (None, true) => Ok(None),
        (None, false) => Ok(Some(method)),
    }
}

fn closed(method: &Method) -> Option<PerfError> {
    let (scope, code, text) = if let Method::ChannelClose(close) = method {
        ("channel", close.reply_code, &close.reply_text)
    } else if let Method::ConnectionClose(close) = method {
        ("connection", close.reply_code, &close.reply_text)
    } else {
        return None;
    };
    Some(PerfError::Closed { scope, code, text: text.to_string() })
}

pub(super) fn unexpected(method: &Method) -> PerfError {
    PerfError::Unexpected(method.name().to_owned())
}

fn from_read(error: io::Error) -> PerfError {
    if error.kind() == ErrorKind::UnexpectedEof { PerfError::Disconnected } else { PerfError::Io(error) }
}

/// A name from the command line as the wire wants it.
pub(super) fn short_string(text: &str) -> Result<ShortString, PerfError> {
    ShortString::try_from(text).map_err(too_long)
}

fn too_long(error: StringTooLong) -> PerfError {
    PerfError::BadArguments(error.to_string())
}

/// What the broker shows of us; with the capabilities a broken login and a deleted queue are told to us.
fn client_properties(name: &str) -> Result<FieldTable, PerfError> {
    let text = |text| FieldValue::from(LongString::from_static(text));
    let capabilities: FieldTable = [
        "publisher_confirms",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "authentication_failure_close",
    ]
    .into_iter()
    .map(|name| (ShortString::from_static(name), FieldValue::from(true)))
    .collect();
    Ok([
        (ShortString::from_static("product"), text("leveret perf")),
        (ShortString::from_static("version"), text(env!("CARGO_PKG_VERSION"))),
        (ShortString::from_static("connection_name"), FieldValue::from(LongString::from(short_string(name)?))),
        (ShortString::from_static("capabilities"), FieldValue::from(capabilities)),
    ]
    .into_iter()
    .collect())
}
