//! The connection task: it owns the socket in both directions, the connection and all of its channels.
//!
//! ```text
//!  handshake ──open──► Running ──client's close──► Ending ──EOF or deadline──► (gone)
//!                        │ hard error, shutdown                ▲
//!                        ▼                                     │
//!                      Closing ──close-ok, close, deadline─────┘   only close and close-ok are looked at
//! ```
//!
//! Each turn takes what waits in the outbox, reads what the socket has, works through all whole frames, then writes once.
//! Back-pressure is a task that stops reading: while its own output is not taken, while the store has too much to write, or for
//! a moment while consumers take what it published (`restraint`).
//!
//! A client that publishes while a resource alarm is in effect is blocked: after the first content header or body frame
//! nothing is read or processed, not even a close, until all alarms have ended. What goes out goes on: deliveries, confirms,
//! heartbeats. That the peer is gone is noticed meanwhile only by writing to it.

mod consuming;
mod counting;
mod delivery;
pub(crate) mod facts;
mod firehose;
mod handshake;
pub(crate) mod holds;
mod late_acks;
mod marked;
mod output;
mod publishing;
mod reply_to;
mod restraint;
mod rights;
mod session;
mod streaming;
pub(in crate::server) mod topology;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use leveret_protocol::{ChannelId, FRAME_OVERHEAD_BYTES, Method, ShortString, connection, split_frame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;
use tracing::info;

use super::outbox::Outbox;
use super::registry::{ConnectionEntry, Registry};
use super::statistics::Turn;
use super::tls::TlsFacts;
use super::waiting_room::Place;
use super::work::Work;
use crate::engine::channel::unacked::Settlements;
use crate::engine::statistics::{Count, Counts, Samples};
use crate::error::AmqpError;
use crate::server::clock;
use crate::store::Ticket;
use facts::ConnectionFacts;
use handshake::Opened;
use output::{Output, Traffic};
use publishing::{Batch, RouteCache};
use restraint::Restraint;
use rights::Rights;
use session::{Failure, Progress, Session};

/// Octets of output at which a connection stops to produce more: reading commands and taking deliveries wait.
const OUTPUT_HIGH_BYTES: usize = 1024 * 1024;
/// Octets read at once: at first, and at most. The buffer grows while reads fill it. More at once costs more than it saves:
/// bodies of 16 KiB would have to be copied out of it (`try_whole_publish`).
const READ_MIN_BYTES: usize = 4 * 1024;
const READ_MAX_BYTES: usize = 128 * 1024;
/// How long the peer may take to answer a close, or to close the socket after one.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// The same after an error in the framing: what follows cannot be read.
const OUT_OF_SYNC_TIMEOUT: Duration = Duration::from_secs(3);

/// The addresses that a connection leads from and to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// The proxy that said so; `None` if the socket itself does.
    pub(crate) via: Option<IpAddr>,
}

impl Ends {
    /// `ip:port -> ip:port`, as RabbitMQ names a connection.
    fn link(self) -> String {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        format!("{} -> {}", canonical(self.peer), canonical(self.local))
    }
}

/// A connection whose client has not said anything yet.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) ends: Ends,
    /// What was agreed with its client, if it speaks TLS.
    pub(crate) tls: Option<Arc<TlsFacts>>,
    /// When it has to be open.
    pub(crate) deadline: Instant,
    /// Its place among those that have not logged in.
    pub(crate) place: Option<Place>,
}

impl Arrival {
    /// A connection without TLS that comes now and has no place to give back.
    pub(crate) fn new(ends: Ends, registry: &Registry) -> Self {
        let deadline = Instant::from_std(clock::instant()) + registry.live().handshake_timeout;
        Self { ends, tls: None, deadline, place: None }
    }
}

/// Serves one client until it is gone.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S, arrival: Arrival, registry: Arc<Registry>) {
    let (ends, peer) = (arrival.ends, arrival.ends.peer);
    if registry.is_draining() {
        info!(%peer, "connection refused: the node is drained");
        return;
    }
    let mut input = BytesMut::with_capacity(READ_MIN_BYTES);
    let Some(opened) = handshake::open(&mut socket, &mut input, &registry, &arrival).await else { return };
    let Arrival { tls, place, .. } = arrival;
    drop(place);
    let is_tls = tls.is_some();
    let Opened { user, capabilities, limits, vhost, admission, client_properties, mechanism } = opened;
    let id = registry.new_connection_id();
    let outbox = Arc::new(Outbox::new(id));
    let facts = ConnectionFacts {
        id,
        ends,
        tls,
        user: user.clone(),
        vhost: vhost.name.clone(),
        mechanism,
        client_properties,
        limits,
        connected_at: clock::now(),
    };
    info!(connection = id.get(), %peer, %user, vhost = %vhost.name, name = facts.given_name(), "connection open");
    registry.add_connection(ConnectionEntry {
        outbox: outbox.clone(),
        user: user.clone(),
        vhost: vhost.clone(),
        facts: Arc::new(facts),
    });
    // Whoever reads open-ok finds the connection in every listing.
    let mut output = Output::default();
    Method::from(connection::OpenOk::default()).encode_frame(ChannelId::ZERO, output.buffer());
    let session = Session {
        registry: registry.clone(),
        rights: Rights::new(&registry, &user, &vhost),
        admission,
        vhost,
        id,
        user,
        link: ends.link().into_boxed_str(),
        capabilities,
        limits,
        channels: Vec::new(),
        output,
        waiter: outbox.clone(),
        outbox,
        work: Work::default(),
        routes: RouteCache::default(),
        batch: Batch::default(),
        settlements: Settlements::default(),
        cells: HashMap::new(),
        now: clock::now(),
        delivered_at: None,
        acks_due: None,
        close_requested: None,
        exclusive: Vec::new(),
        limit_freed: false,
        crowded: None,
        partial: false,
        last_ticket: Ticket::NONE,
        events: Vec::new(),
        traced: false,
        waiting_get: None,
        received: Traffic::default(),
        turn: Turn::default(),
        sample_at: 0,
        traffic_counts: Counts::default(),
        traffic_samples: Samples::default(),
        blocked: false,
    };
    let mut driver = Driver {
        socket,
        session,
        input,
        parked: Bytes::new(),
        read_bytes: READ_MIN_BYTES,
        phase: Phase::Running,
        durable: Ticket::NONE,
        heartbeat: Heartbeat::new(limits.heartbeat_seconds),
        restraint: Restraint::default(),
        timer: Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)),
    };
    driver.reset_timer();
    // What the client sent right behind connection.open is here already.
    let end = match driver.on_input() {
        Some(end) => end,
        None => std::future::poll_fn(|context| driver.poll(context)).await,
    };
    if is_tls {
        driver.say_goodbye();
    }
    drop(driver);
    info!(connection = id.get(), %peer, reason = end, "connection closed");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// connection.close was sent; `deaf` when the stream cannot be followed any more.
    Closing {
        deadline: Instant,
        deaf: bool,
    },
    /// close-ok was sent: the client closes the socket.
    Ending {
        deadline: Instant,
    },
}

/// What was seen of the peer, and what it was shown, since the last looks (spec §4.2.7).
#[derive(Debug)]
struct Heartbeat {
    /// Half the negotiated interval; `None` without heartbeats.
    half: Option<Duration>,
    next: Instant,
    wrote: bool,
    read: bool,
    odd: bool,
    missed: u8,
}

impl Heartbeat {
    fn new(seconds: u16) -> Self {
        let half = (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)) / 2);
        let next = Instant::from_std(clock::instant()) + half.unwrap_or(CLOSE_TIMEOUT);
        Self { half, next, wrote: true, read: true, odd: false, missed: 0 }
    }

    /// Half an interval is over: whether to send a heartbeat, and whether the peer is gone.
    fn tick(&mut self) -> (bool, bool) {
        let send = !std::mem::take(&mut self.wrote);
        self.odd = !self.odd;
        if !self.odd {
            self.missed = if std::mem::take(&mut self.read) { 0 } else { self.missed + 1 };
        }
        self.next += self.half.unwrap_or(CLOSE_TIMEOUT);
        (send, self.missed >= 2)
    }
}

/// A connection at work. Dropping it, also while a panic unwinds, gives back what it holds.
struct Driver<S> {
    socket: S,
    session: Session,
    input: BytesMut,
    /// Whole frames that wait until a basic.get is answered or the connection is not blocked any more.
    parked: Bytes,
    read_bytes: usize,
    phase: Phase,
    durable: Ticket,
    heartbeat: Heartbeat,
    restraint: Restraint,
    timer: Pin<Box<Sleep>>,
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.session.end();
        self.session.registry.remove_connection(self.session.id);
    }
}

/// Octets at the start of `input` that are whole frames, or up to one that cannot be read.
fn whole_frames(input: &[u8], frame_max: u32) -> usize {
    let mut at = 0;
    while let Some(size) = input.get(at + 3..at + 7) {
        let size = u32::from_be_bytes(size.try_into().expect("four octets"));
        if size > frame_max {
            // Judged at the seventh octet: the frame's head is handed on for the error it deserves.
            return at + 7;
        }
        let end = at + size as usize + FRAME_OVERHEAD_BYTES;
        if end > input.len() {
            break;
        }
        at = end;
    }
    at
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Works until there is nothing to do. Ready when the connection is over, with the reason.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<&'static str> {
        loop {
            let mut progress = false;
            while self.timer.as_mut().poll(context).is_ready() {
                if let Some(end) = self.on_timer() {
                    return Poll::Ready(end);
                }
                self.reset_timer();
            }
            let mut full = self.session.output.total_len() >= OUTPUT_HIGH_BYTES;
            if !full && self.session.take_events() {
                progress = true;
                self.session.end_turn();
            }
            if let Some(error) = self.session.close_requested.take() {
                self.close(&Failure::new(error, session::NO_IDS));
            }
            let durable = self.session.registry.store.durable();
            if durable != self.durable {
                self.durable = durable;
                self.session.output.open_gates(durable);
                self.session.emit_confirms();
                self.session.flush_counts();
            }
            if self.session.blocked && !self.session.registry.alarms.any() {
                self.unblock();
                progress = true;
            }
            if !self.session.blocked && (self.session.waiting_get.is_some() || !self.parked.is_empty()) {
                progress |= self.resume_parked();
            }
            if self.may_read(full) {
                self.input.reserve(self.read_bytes);
                match poll_read_buf(Pin::new(&mut self.socket), context, &mut self.input) {
                    Poll::Ready(Ok(0)) => return Poll::Ready("the client closed the socket"),
                    Poll::Ready(Ok(count)) => {
                        progress = true;
                        self.heartbeat.read = true;
                        self.session.received.add(count);
                        self.session.turn.count(Count::ReceivedOctets, count as u64);
                        self.adapt(count);
                        if let Some(end) = self.on_input() {
                            return Poll::Ready(end);
                        }
                    }
                    // Over TLS, too: many clients do not say goodbye in it.
                    Poll::Ready(Err(cause)) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                        return Poll::Ready("the client closed the socket");
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready("the connection was lost"),
                    Poll::Pending => {
                        if self.input.is_empty() {
                            self.input = BytesMut::new();
                        }
                    }
                }
            }
            if self.session.output.wants_write() {
                self.heartbeat.wrote = true;
                if let Poll::Ready(Err(_)) = self.session.output.poll_write(&mut self.socket, context) {
                    return Poll::Ready("the connection was lost");
                }
            }
            let acks_due = self.session.acks_due.filter(|_| self.phase == Phase::Running).map(Instant::from_std);
            if acks_due.is_some_and(|due| due < self.timer.deadline()) {
                self.reset_timer();
                progress = true;
            }
            // What waits because the output is full, deliveries and what the client says, goes on when the socket has taken it.
            let was_full = std::mem::replace(&mut full, self.session.output.total_len() >= OUTPUT_HIGH_BYTES);
            if progress || (was_full && !full) {
                continue;
            }
            self.session.output.shrink();
            if self.session.outbox.register(context, full) {
                return Poll::Pending;
            }
        }
    }

    /// Tells a peer that speaks TLS that nothing was cut off. Whether it can be told does not matter.
    fn say_goodbye(&mut self) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let _told = Pin::new(&mut self.socket).poll_shutdown(&mut context);
    }

    /// Back-pressure: whether to read from the socket now.
    fn may_read(&self, full: bool) -> bool {
        if self.phase != Phase::Running {
            return true;
        }
        let waits = self.session.waiting_get.is_some() || !self.parked.is_empty();
        let saturated = self.session.is_held_back();
        !full && !waits && !saturated && !self.session.blocked && !self.restraint.is_on()
    }

    /// Reads more at once while reads fill the buffer, less when they do not.
    fn adapt(&mut self, count: usize) {
        if count >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 2).min(READ_MAX_BYTES);
        } else if count < self.read_bytes / 8 {
            self.read_bytes = (self.read_bytes / 2).max(READ_MIN_BYTES);
        }
    }

    fn on_input(&mut self) -> Option<&'static str> {
        match self.phase {
            Phase::Running => {
                let whole = whole_frames(&self.input, self.session.limits.frame_max);
                if whole > 0 {
                    let data = self.input.split_to(whole).freeze();
                    self.on_frames(&data);
                }
                None
            }
            Phase::Closing { deaf: false, .. } => self.on_closing_input(),
            Phase::Closing { deaf: true, .. } | Phase::Ending { .. } => {
                self.input.clear();
                None
            }
        }
    }

    fn on_frames(&mut self, data: &Bytes) {
        match self.session.on_frames(data) {
            Ok((used, progress)) => {
                self.session.end_turn();
                if let Some(cell) = self.session.crowded.take()
                    && self.restraint.begin(clock::instant(), cell)
                {
                    self.reset_timer();
                }
                match progress {
                    Progress::Open => {}
                    Progress::Waiting => self.parked = data.slice(used..),
                    Progress::Blocked => {
                        self.parked = data.slice(used..);
                        self.block();
                    }
                    Progress::ClosedByClient => {
                        let deadline = self.close_deadline();
                        self.phase = Phase::Ending { deadline };
                        self.reset_timer();
                    }
                }
            }
            Err(failure) => {
                self.session.end_turn();
                self.close(&failure);
            }
        }
    }

    fn block(&mut self) {
        self.session.blocked = true;
        let reason = self.session.registry.alarms.reason();
        info!(connection = self.session.id.get(), reason, "connection blocked");
        if self.session.capabilities.connection_blocked {
            let reason = ShortString::truncated(&reason);
            self.session.send(ChannelId::ZERO, connection::Blocked { reason });
        }
    }

    fn unblock(&mut self) {
        self.session.blocked = false;
        info!(connection = self.session.id.get(), "connection unblocked");
        if self.session.capabilities.connection_blocked {
            self.session.send(ChannelId::ZERO, connection::Unblocked {});
        }
    }

    /// Goes on after a basic.get that waited for the disk, or after a block; false when it has to wait on.
    fn resume_parked(&mut self) -> bool {
        self.session.now = clock::now();
        match self.session.retry_get() {
            Ok(false) => false,
            Ok(true) => {
                let data = std::mem::take(&mut self.parked);
                if !data.is_empty() {
                    self.on_frames(&data);
                }
                true
            }
            Err(failure) => {
                self.close(&failure);
                true
            }
        }
    }

    /// After our close only the peer's close and close-ok are looked at.
    fn on_closing_input(&mut self) -> Option<&'static str> {
        loop {
            let (method, used) = match split_frame(&self.input, self.session.limits.frame_max) {
                Ok(None) => return None,
                Err(_) => {
                    self.input.clear();
                    return None;
                }
                Ok(Some((frame, used))) => (Method::decode(frame.payload).ok(), used),
            };
            let _seen = self.input.split_to(used);
            match method {
                Some(Method::ConnectionCloseOk(_)) => return Some("closed by the broker"),
                Some(Method::ConnectionClose(_)) => self.session.send(ChannelId::ZERO, connection::CloseOk {}),
                Some(_) | None => {}
            }
        }
    }

    /// Ends the session and tells the client why.
    fn close(&mut self, failure: &Failure) {
        if self.phase != Phase::Running {
            return;
        }
        if !matches!(failure.error, AmqpError::ConnectionForced(_)) {
            info!(connection = self.session.id.get(), error = %failure.error, "closing the connection");
        }
        self.session.end();
        self.session.send(ChannelId::ZERO, handshake::close_method(failure));
        self.session.blocked = false;
        if !self.parked.is_empty() {
            // A close may be among what the client sent and nobody has looked at.
            let mut unread = BytesMut::from(std::mem::take(&mut self.parked));
            unread.extend_from_slice(&self.input);
            self.input = unread;
        }
        let deadline = if failure.out_of_sync {
            self.input.clear();
            Instant::from_std(clock::instant()) + OUT_OF_SYNC_TIMEOUT
        } else {
            self.close_deadline()
        };
        self.phase = Phase::Closing { deadline, deaf: failure.out_of_sync };
        self.reset_timer();
    }

    fn close_deadline(&self) -> Instant {
        let heartbeat = Duration::from_secs(u64::from(self.session.limits.heartbeat_seconds));
        let patience = if heartbeat.is_zero() { CLOSE_TIMEOUT } else { heartbeat.min(CLOSE_TIMEOUT) };
        Instant::from_std(clock::instant()) + patience
    }

    fn on_timer(&mut self) -> Option<&'static str> {
        let now = Instant::from_std(clock::instant());
        match self.phase {
            Phase::Closing { deadline, .. } if deadline <= now => return Some("the client did not answer the close"),
            Phase::Ending { deadline } if deadline <= now => return Some("the client left its socket open"),
            Phase::Running | Phase::Closing { .. } | Phase::Ending { .. } => {}
        }
        if self.phase == Phase::Running
            && self.session.acks_due.is_some_and(|due| Instant::from_std(due) <= now)
            && let Err(failure) = self.session.look_for_late_acks(now.into_std())
        {
            self.close(&failure);
        }
        if self.restraint.deadline().is_some_and(|look_at| Instant::from_std(look_at) <= now) {
            self.restraint.look(now.into_std(), &self.session.registry.budget);
        }
        if self.heartbeat.half.is_some() && self.heartbeat.next <= now {
            // Whoever is not read cannot be heard.
            self.heartbeat.read |= self.session.blocked;
            let (send, gone) = self.heartbeat.tick();
            if gone {
                return Some("no heartbeat from the client");
            }
            if send && self.session.output.total_len() == 0 {
                self.session.send_heartbeat();
            }
        }
        None
    }

    fn reset_timer(&mut self) {
        let far = Instant::from_std(clock::instant()) + Duration::from_secs(24 * 3600);
        let mut next = if self.heartbeat.half.is_some() { self.heartbeat.next } else { far };
        if self.phase == Phase::Running
            && let Some(due) = self.session.acks_due
        {
            next = next.min(Instant::from_std(due));
        }
        if let Some(look_at) = self.restraint.deadline() {
            next = next.min(Instant::from_std(look_at));
        }
        if let Phase::Closing { deadline, .. } | Phase::Ending { deadline } = self.phase {
            next = next.min(deadline);
        }
        self.timer.as_mut().reset(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_stop_before_a_partial_one_and_at_one_too_large() {
        let frame = [1, 0, 0, 0, 0, 0, 4, 0, 20, 0, 10, 0xce];
        let mut input = [frame, frame].concat();
        assert_eq!(whole_frames(&input, 4096), 24);
        assert_eq!(whole_frames(&input[..23], 4096), 12);
        assert_eq!(whole_frames(&input[..5], 4096), 0);
        input.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0]);
        assert_eq!(whole_frames(&input, 4096), 31);
    }
}
