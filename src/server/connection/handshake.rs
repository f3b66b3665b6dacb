//! Opening a connection: protocol header, start, tune, open (spec §2.2.4).
//!
//! Whoever does not get through within the time allowed is dropped without a word; whoever fails to log in is kept waiting
//! for a moment, which brakes guessing.

#![expect(clippy::wildcard_enum_match_arm, reason = "of all methods only a few are expected at a time")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use leveret_protocol::{
    ChannelId, FieldTable, FieldValue, FrameKind, LongString, Method, PROTOCOL_HEADER, ShortString, connection,
    erlang_octets, peek_ids, split_frame,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tracing::info;

use super::Arrival;
use super::session::{Failure, NO_IDS, decode_failure};
use crate::config::Config;
use crate::engine::handshake::{Claim, ClientCapabilities, Credentials, Limits, Mechanism, claim};
use crate::engine::vhost::long_string;
use crate::error::AmqpError;
use crate::server::directory::Admission;
use crate::server::registry::{Registry, VhostCell};

/// How long a socket stays open after a failed login.
const FAILURE_LINGER: Duration = Duration::from_secs(3);
/// The older protocol header that clients of 0-9 send; what follows is 0-9-1.
const PROTOCOL_HEADER_0_9: [u8; 8] = *b"AMQP\x01\x01\x00\x09";

/// A client that got through.
pub(super) struct Opened {
    pub(super) user: ShortString,
    pub(super) capabilities: ClientCapabilities,
    pub(super) limits: Limits,
    pub(super) vhost: Arc<VhostCell>,
    pub(super) admission: Admission,
    pub(super) client_properties: FieldTable,
    pub(super) mechanism: ShortString,
}

/// Why a client did not get through.
enum Refusal {
    /// Say nothing (or nothing more) and close.
    Silent,
    /// Keep the socket for a moment, then close.
    Brake,
    /// Send connection.close.
    Close(Failure),
}

impl From<std::io::Error> for Refusal {
    fn from(_: std::io::Error) -> Self {
        // The peer is gone: there is nobody to tell.
        Self::Silent
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Close(failure)
    }
}

struct Handshake<'a, S> {
    socket: &'a mut S,
    input: &'a mut BytesMut,
    registry: &'a Arc<Registry>,
    /// The configuration as it is now.
    config: Arc<Config>,
    arrival: &'a Arrival,
    peer: SocketAddr,
}

/// Opens a connection, up to the open-ok, which is the caller's to send; `None` when the client did not get through (it was told what it should know).
pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    input: &mut BytesMut,
    registry: &Arc<Registry>,
    arrival: &Arrival,
) -> Option<Opened> {
    let peer = arrival.ends.peer;
    let mut handshake = Handshake { socket, input, registry, config: registry.live(), arrival, peer };
    let ended = async {
        match &arrival.place {
            Some(place) => place.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(ended);
    let refusal = tokio::select! {
        // Its own progress counts first: this also keeps the simulated world in order.
        biased;
        done = tokio::time::timeout_at(arrival.deadline, handshake.run()) => match done {
            Ok(Ok(opened)) => return Some(opened),
            Ok(Err(refusal)) => refusal,
            Err(_) => {
                info!(%peer, "connection closed: the handshake took too long");
                return None;
            }
        },
        () = &mut ended => {
            info!(%peer, "connection closed: too many have not logged in");
            return None;
        }
    };
    tokio::select! {
        biased;
        () = handshake.refuse(refusal) => {}
        () = &mut ended => {}
    }
    None
}

impl<S: AsyncRead + AsyncWrite + Unpin> Handshake<'_, S> {
    async fn run(&mut self) -> Result<Opened, Refusal> {
        self.protocol_header().await?;
        let offered = self.offered();
        let mechanisms: Vec<&str> = offered.iter().map(|mechanism| mechanism.name()).collect();
        self.send(connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: server_properties(self.registry),
            mechanisms: LongString::try_from(mechanisms.join(" ")).expect("a few words"),
            locales: LongString::from_static("en_US"),
        })
        .await?;
        let initial_frame_max = self.config.initial_frame_max;
        let start_ok = match self.method("starting", initial_frame_max).await? {
            Method::ConnectionStartOk(start_ok) => start_ok,
            other => return Err(unexpected(&other, "starting")),
        };
        let capabilities = ClientCapabilities::from_properties(&start_ok.client_properties);
        let user = self.log_in(&start_ok, capabilities, &offered)?;
        let proposed = Limits {
            channel_max: self.config.channel_max,
            frame_max: self.config.frame_max,
            heartbeat_seconds: self.config.heartbeat_seconds,
        };
        self.send(connection::Tune {
            channel_max: proposed.channel_max,
            frame_max: proposed.frame_max,
            heartbeat: proposed.heartbeat_seconds,
        })
        .await?;
        let limits = match self.method("tuning", initial_frame_max).await? {
            Method::ConnectionTuneOk(answer) => proposed.agree(&answer).map_err(|error| {
                Refusal::Close(Failure::new(error, (connection::Tune::CLASS, connection::Tune::METHOD)))
            })?,
            other => return Err(unexpected(&other, "tuning")),
        };
        let open = match self.method("opening", limits.frame_max).await? {
            Method::ConnectionOpen(open) => open,
            other => return Err(unexpected(&other, "opening")),
        };
        let refused = |error| Failure::new(error, (connection::Open::CLASS, connection::Open::METHOD));
        let admission = self.registry.admit(&user, &open.virtual_host).map_err(refused)?;
        let vhost = admission.vhost().clone();
        let connection::StartOk { client_properties, mechanism, .. } = start_ok;
        Ok(Opened { user, capabilities, limits, vhost, admission, client_properties, mechanism })
    }

    async fn protocol_header(&mut self) -> Result<(), Refusal> {
        while self.input.len() < PROTOCOL_HEADER.len() {
            if self.socket.read_buf(self.input).await? == 0 {
                return Err(Refusal::Silent);
            }
        }
        let header = self.input.split_to(PROTOCOL_HEADER.len());
        if header[..] == PROTOCOL_HEADER || header[..] == PROTOCOL_HEADER_0_9 {
            return Ok(());
        }
        info!(peer = %self.peer, "connection refused: it does not speak AMQP 0-9-1");
        self.socket.write_all(&PROTOCOL_HEADER).await?;
        Err(Refusal::Silent)
    }

    async fn send(&mut self, method: impl Into<Method>) -> Result<(), Refusal> {
        let mut out = Vec::new();
        method.into().encode_frame(ChannelId::ZERO, &mut out);
        self.socket.write_all(&out).await?;
        Ok(())
    }

    /// The next method on channel 0.
    async fn method(&mut self, state: &'static str, max_payload: u32) -> Result<Method, Refusal> {
        loop {
            if let Some(method) = self.buffered_method(max_payload)? {
                if let Method::ConnectionClose(_) = method {
                    self.send(connection::CloseOk {}).await?;
                    return Err(Refusal::Silent);
                }
                if method.is_from_server_only() {
                    return Err(Failure::new(AmqpError::UnimplementedMethod, method.ids()).into());
                }
                return Ok(method);
            }
            if self.socket.read_buf(self.input).await? == 0 {
                info!(peer = %self.peer, state, "connection closed by the client before it was open");
                return Err(Refusal::Silent);
            }
        }
    }

    fn buffered_method(&mut self, max_payload: u32) -> Result<Option<Method>, Failure> {
        loop {
            let (frame, used) = match split_frame(self.input, max_payload) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(None),
                Err(error) => {
                    let error = AmqpError::BadFrame(error.to_string());
                    return Err(Failure { error, ids: NO_IDS, out_of_sync: true });
                }
            };
            let described = || format!("type {}, {}", frame.kind, erlang_octets(frame.payload));
            let unexpected = || Failure::new(AmqpError::UnexpectedFrame(described()), NO_IDS);
            if frame.channel != ChannelId::ZERO {
                return Err(unexpected());
            }
            match FrameKind::from_octet(frame.kind) {
                Some(FrameKind::Heartbeat) => self.input.advance(used),
                Some(FrameKind::Method) => {
                    let ids = peek_ids(frame.payload).unwrap_or(NO_IDS);
                    let method = Method::decode(frame.payload).map_err(|error| decode_failure(&error, ids))?;
                    self.input.advance(used);
                    return Ok(Some(method));
                }
                Some(FrameKind::Header | FrameKind::Body) => return Err(unexpected()),
                None => {
                    let text = format!("{}: unknown_frame", described());
                    return Err(Failure::new(AmqpError::BadFrame(text), NO_IDS));
                }
            }
        }
    }

    /// The mechanisms that this client may choose from.
    fn offered(&self) -> Vec<Mechanism> {
        let is_possible = |mechanism: &Mechanism| match mechanism {
            Mechanism::Plain | Mechanism::AmqPlain => true,
            Mechanism::Anonymous => self.config.anonymous_login.is_some(),
            // Also to a client without a certificate, which then learns better why it is refused. RabbitMQ does the same.
            Mechanism::External => self.arrival.tls.is_some(),
        };
        self.config.auth_mechanisms.iter().copied().filter(is_possible).collect()
    }

    fn log_in(
        &self,
        start_ok: &connection::StartOk,
        capabilities: ClientCapabilities,
        offered: &[Mechanism],
    ) -> Result<ShortString, Refusal> {
        let mechanism = &start_ok.mechanism;
        let claimed = claim(mechanism.as_bytes(), start_ok.response.as_bytes(), offered).map_err(|cause| {
            info!(peer = %self.peer, %mechanism, ?cause, "login refused: no credentials");
            Refusal::Brake
        })?;
        let (name, checked) = self.check(claimed);
        match checked {
            Ok(()) => Ok(name),
            Err(cause) => {
                info!(peer = %self.peer, user = %name, cause, "login refused");
                if capabilities.authentication_failure_close {
                    let error = AmqpError::LoginRefused { mechanism: mechanism.clone() };
                    Err(Failure::new(error, NO_IDS).into())
                } else {
                    Err(Refusal::Brake)
                }
            }
        }
    }

    /// Who a client is, and whether it may log in.
    fn check(&self, claimed: Claim) -> (ShortString, Result<(), String>) {
        let credentials = match claimed {
            Claim::Password(credentials) => credentials,
            Claim::Anonymous => {
                let login = self.config.anonymous_login.as_ref();
                let (user, password) = login.map_or(("", ""), |(user, password)| (user, password));
                Credentials { user: user.as_bytes().to_vec(), password: password.as_bytes().to_vec() }
            }
            Claim::Certificate => {
                let peer = self.arrival.tls.as_ref().and_then(|tls| tls.peer.as_ref());
                let Some(peer) = peer else {
                    return (ShortString::default(), Err("the client has no certificate".to_owned()));
                };
                let named = peer.user(self.config.certificate_login).and_then(|name| ShortString::try_from(name).ok());
                let Some(name) = named else {
                    let cause = format!("the certificate of {} names no user as configured", peer.name);
                    return (ShortString::default(), Err(cause));
                };
                let checked = self.registry.check_certified_login(&name, self.arrival.ends);
                return (name, checked);
            }
        };
        let name = ShortString::try_from(credentials.user).unwrap_or_default();
        let checked = self.registry.check_login(&name, &credentials.password, self.arrival.ends);
        (name, checked)
    }

    async fn refuse(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Silent => {
                let _closed = self.socket.shutdown().await;
                return;
            }
            Refusal::Brake => {}
            Refusal::Close(failure) => {
                let close = close_method(&failure);
                info!(peer = %self.peer, error = %failure.error, "connection refused");
                if self.send(close).await.is_err() {
                    return;
                }
            }
        }
        // Read on, so that what the client sends meanwhile does not reset the connection before it has read our answer.
        let discard = async {
            loop {
                self.input.clear();
                match self.socket.read_buf(self.input).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        let _gone = tokio::time::timeout(FAILURE_LINGER, discard).await;
        let _closed = self.socket.shutdown().await;
    }
}

fn unexpected(method: &Method, state: &'static str) -> Refusal {
    Failure::new(AmqpError::UnexpectedMethod(state), method.ids()).into()
}

/// The connection.close that tells of a failure.
pub(super) fn close_method(failure: &Failure) -> connection::Close {
    let (class_id, method_id) = if failure.error.blames_no_method() { NO_IDS } else { failure.ids };
    connection::Close { reply_code: failure.error.code(), reply_text: failure.error.text(), class_id, method_id }
}

/// What the broker says of itself.
fn server_properties(registry: &Registry) -> FieldTable {
    let capabilities: FieldTable = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ]
    .into_iter()
    .map(|name| (ShortString::from_static(name), FieldValue::Boolean(true)))
    .collect();
    let identity = &registry.config.identity;
    let cluster_name = registry.cluster_name();
    let mut properties = FieldTable::new();
    properties.push(ShortString::from_static("capabilities"), FieldValue::Table(capabilities));
    for (name, value) in [
        ("cluster_name", cluster_name.as_str()),
        ("copyright", "Copyright (c) the Leveret authors"),
        ("information", "Leveret, licensed under MIT or Apache-2.0"),
        ("platform", concat!("Leveret ", env!("CARGO_PKG_VERSION"))),
        ("product", identity.product.as_str()),
        ("version", identity.version.as_str()),
    ] {
        properties.push(ShortString::from_static(name), long_string(value.as_bytes()));
    }
    properties
}
