//! A client of the broker within the broker: what the API does with messages it does over AMQP, as the caller's user.
//!
//! So a message that is published here goes where any other goes: rights, alternate exchanges, confirms, limits and traces
//! are those of a connection. RabbitMQ's API does the same. The connection is a pipe in memory, seen by operators while
//! it lasts.

use std::time::Duration;

use bytes::BytesMut;
use leveret_protocol::{
    BasicProperties, ChannelId, FieldTable, FieldValue, FrameKind, HeaderRef, LongString, Method, PROTOCOL_HEADER,
    ReplyCode, ShortString, basic, channel, confirm, connection, encode_content, split_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::caller::Caller;
use super::problem::Problem;
use super::routes::Api;
use crate::server::operator::Operator;

/// The channel that everything happens on.
const CHANNEL: ChannelId = ChannelId::new(1);
/// Octets that the pipe holds in either direction.
const PIPE_BYTES: usize = 256 * 1024;
/// The largest frame.
const FRAME_MAX_BYTES: u32 = 131_072;
/// How long the broker may take for an answer: as long as RabbitMQ waits for a confirm.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the broker did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It closed the channel or the connection.
    Closed(ReplyCode, String),
    /// It let nobody in.
    NotAuthorised,
    /// It took too long.
    TooLate,
    /// The pipe broke.
    Gone,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Closed(ReplyCode::NOT_FOUND, text) => Self::missing(text),
            Refused::Closed(ReplyCode::ACCESS_REFUSED, text) => Self::not_authorised(text),
            Refused::Closed(code, text) => Self::bad_request(format!("{} {text}", code.get())),
            Refused::NotAuthorised => Self::not_authorised("Access refused."),
            Refused::TooLate => Self::bad_request(
                "confirm_timeout Timed out waiting for a publisher confirm. The message may still have been enqueued. \
                 Check the health of the queues bound to this exchange.",
            ),
            Refused::Gone => Self::new(
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                "service_unavailable",
                "The broker closed the connection",
            ),
        }
    }
}

/// A message that came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content {
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// What became of a message that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    Routed,
    Unroutable,
    /// A queue that it went to did not take it.
    Rejected,
}

/// A connection with an open channel.
pub(super) struct Client {
    pipe: DuplexStream,
    input: BytesMut,
    frame_max: u32,
}

impl Client {
    /// Connects as the caller, to a vhost.
    pub(super) async fn connect(api: &Api, caller: &Caller, vhost: &str) -> Result<Self, Refused> {
        let (pipe, far_end) = tokio::io::duplex(PIPE_BYTES);
        let ends = caller.ends();
        let operator: Operator = api.operator.clone();
        // It ends when its pipe is closed, which this side does when it is dropped.
        tokio::spawn(async move { operator.serve_within(far_end, ends.peer, ends.local).await });
        let mut client = Self { pipe, input: BytesMut::new(), frame_max: FRAME_MAX_BYTES };
        client.open(caller, vhost).await?;
        Ok(client)
    }

    async fn open(&mut self, caller: &Caller, vhost: &str) -> Result<(), Refused> {
        self.pipe.write_all(&PROTOCOL_HEADER).await.map_err(|_| Refused::Gone)?;
        self.method().await?;
        let response = LongString::try_from(format!("\0{}\0{}", caller.name(), caller.password()));
        let start_ok = connection::StartOk {
            client_properties: client_properties(),
            mechanism: ShortString::from_static("PLAIN"),
            response: response.map_err(|_| Refused::NotAuthorised)?,
            locale: ShortString::from_static("en_US"),
        };
        let Method::ConnectionTune(tune) = self.entering(start_ok).await? else { return Err(Refused::Gone) };
        if tune.frame_max > 0 {
            self.frame_max = self.frame_max.min(tune.frame_max);
        }
        self.send(connection::TuneOk { channel_max: tune.channel_max, frame_max: self.frame_max, heartbeat: 0 })
            .await?;
        let virtual_host = ShortString::try_from(vhost).map_err(|_| Refused::NotAuthorised)?;
        self.entering(connection::Open { virtual_host, ..connection::Open::default() }).await?;
        self.call(channel::Open::default()).await?;
        Ok(())
    }

    /// A step of entering: whoever is refused here has no right to be there.
    async fn entering(&mut self, method: impl Into<Method>) -> Result<Method, Refused> {
        match self.call(method).await {
            Err(Refused::Closed(..) | Refused::Gone) => Err(Refused::NotAuthorised),
            other => other,
        }
    }

    async fn send(&mut self, method: impl Into<Method>) -> Result<(), Refused> {
        let method = method.into();
        let mut out = Vec::new();
        let on = if method.ids().0 == connection::Open::CLASS { ChannelId::ZERO } else { CHANNEL };
        method.encode_frame(on, &mut out);
        self.write(&out).await
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), Refused> {
        let written = tokio::time::timeout(PATIENCE, self.pipe.write_all(octets)).await;
        written.map_err(|_| Refused::TooLate)?.map_err(|_| Refused::Gone)
    }

    /// Sends a method and waits for the answer.
    async fn call(&mut self, method: impl Into<Method>) -> Result<Method, Refused> {
        self.send(method).await?;
        self.method().await
    }

    async fn frame(&mut self) -> Result<(u8, Vec<u8>), Refused> {
        loop {
            let split = split_frame(&self.input, self.frame_max).map_err(|_| Refused::Gone)?;
            if let Some((frame, used)) = split.map(|(frame, used)| ((frame.kind, frame.payload.to_vec()), used)) {
                let _taken = self.input.split_to(used);
                return Ok(frame);
            }
            let read = tokio::time::timeout(PATIENCE, self.pipe.read_buf(&mut self.input)).await;
            if read.map_err(|_| Refused::TooLate)?.map_err(|_| Refused::Gone)? == 0 {
                return Err(Refused::Gone);
            }
        }
    }

    /// The next method. A close is a refusal.
    async fn method(&mut self) -> Result<Method, Refused> {
        loop {
            let (kind, payload) = self.frame().await?;
            if kind != FrameKind::Method.octet() {
                continue;
            }
            let closed = |code, text: &ShortString| Refused::Closed(code, text.to_string());
            #[expect(clippy::wildcard_enum_match_arm, reason = "all other methods are answers")]
            match Method::decode(&payload).map_err(|_| Refused::Gone)? {
                Method::ChannelClose(close) => return Err(closed(close.reply_code, &close.reply_text)),
                Method::ConnectionClose(close) => return Err(closed(close.reply_code, &close.reply_text)),
                Method::ConnectionBlocked(_) | Method::ConnectionUnblocked(_) => {}
                method => return Ok(method),
            }
        }
    }

    /// The content that follows a method.
    async fn content(&mut self) -> Result<Content, Refused> {
        let (_, header) = self.frame().await?;
        let header = HeaderRef::decode(&header).map_err(|_| Refused::Gone)?;
        let properties = BasicProperties::decode(header.properties).map_err(|_| Refused::Gone)?;
        let mut content = Content { properties, body: Vec::new() };
        let size = usize::try_from(header.body_size).map_err(|_| Refused::Gone)?;
        while content.body.len() < size {
            let (_, part) = self.frame().await?;
            content.body.extend_from_slice(&part);
        }
        Ok(content)
    }

    /// Publishes a message that must be routed, and waits until the broker has it.
    pub(super) async fn publish(
        &mut self,
        exchange: ShortString,
        routing_key: ShortString,
        content: &Content,
    ) -> Result<Published, Refused> {
        self.call(confirm::Select { no_wait: false }).await?;
        self.send(basic::Publish { exchange, routing_key, mandatory: true, ..basic::Publish::default() }).await?;
        let mut properties = Vec::new();
        content.properties.encode(&mut properties);
        let mut out = Vec::new();
        encode_content(CHANNEL, &properties, &content.body, self.frame_max, &mut out);
        // What the broker says meanwhile is little and waits in the pipe.
        self.write(&out).await?;
        let mut published = Published::Routed;
        loop {
            #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is sent to this channel")]
            match self.method().await? {
                Method::BasicReturn(_) => {
                    self.content().await?;
                    published = Published::Unroutable;
                }
                Method::BasicAck(_) => return Ok(published),
                Method::BasicNack(_) => return Ok(Published::Rejected),
                _ => {}
            }
        }
    }

    /// Takes a message from a queue.
    pub(super) async fn get(
        &mut self,
        queue: ShortString,
        no_ack: bool,
    ) -> Result<Option<(basic::GetOk, Content)>, Refused> {
        let Method::BasicGetOk(found) = self.call(basic::Get { queue, no_ack }).await? else {
            return Ok(None);
        };
        let content = self.content().await?;
        Ok(Some((found, content)))
    }

    /// Gives messages back, or drops them.
    pub(super) async fn reject(
        &mut self,
        tags: &[leveret_protocol::DeliveryTag],
        requeue: bool,
    ) -> Result<(), Refused> {
        for delivery_tag in tags.iter().copied() {
            self.send(basic::Reject { delivery_tag, requeue }).await?;
        }
        Ok(())
    }

    /// Ends the connection once the broker has done all that was asked.
    pub(super) async fn close(mut self) -> Result<(), Refused> {
        let reply_code = ReplyCode::REPLY_SUCCESS;
        self.call(channel::Close { reply_code, ..channel::Close::default() }).await?;
        self.call(connection::Close { reply_code, ..connection::Close::default() }).await?;
        Ok(())
    }
}

/// With these capabilities a refused login is told.
fn client_properties() -> FieldTable {
    let text = |text| FieldValue::from(LongString::from_static(text));
    let capabilities: FieldTable = ["publisher_confirms", "basic.nack", "authentication_failure_close"]
        .into_iter()
        .map(|name| (ShortString::from_static(name), FieldValue::from(true)))
        .collect();
    [
        (ShortString::from_static("product"), text("Leveret management API")),
        (ShortString::from_static("connection_name"), text("management API")),
        (ShortString::from_static("capabilities"), FieldValue::from(capabilities)),
    ]
    .into_iter()
    .collect()
}
