//! An open connection: its channels, and what their frames cause.
//!
//! Publishes and acks are collected while the read buffer is worked through; [`Session::end_turn`] carries them out, one
//! lock a queue. Any other method first carries out what was collected, so that it sees its effects.
//!
//! Invariants: a channel in `Closing` has no consumers and no unacked deliveries; each soft error sends one channel.close;
//! after a hard error nothing but close and close-ok is looked at.

#![expect(clippy::wildcard_enum_match_arm, reason = "of all methods only a few are expected at a time")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use leveret_protocol::{
    ChannelId, ClassId, DecodeError, FrameKind, HeaderRef, Method, MethodId, RawFrame, ShortString, access, basic,
    channel, connection, encode_heartbeat, erlang_octets, peek_ids, split_frame,
};

use super::output::{Output, Traffic};
use super::publishing::{Batch, ContentRef, Held, RouteCache};
use super::rights::Rights;
use crate::engine::channel::content::{BASIC_CLASS, Content, check_header};
use crate::engine::channel::unacked::{Outcome, Settlements};
use crate::engine::channel::{Channel, Lifecycle, Mode};
use crate::engine::directory::Access;
use crate::engine::handshake::{ClientCapabilities, Limits};
use crate::engine::message::{Body, OUTSIDE_BODY_MIN_BYTES, Timestamp};
use crate::engine::queue::{Queue, QueueId};
use crate::engine::statistics::{Count, Counts, Samples};
use crate::engine::vhost::ConnectionId;
use crate::error::{AmqpError, Severity};
use crate::server::clock;
use crate::server::directory::{Admission, ChannelLimitReached};
use crate::server::outbox::{Event, Outbox};
use crate::server::queue_cell::QueueCell;
use crate::server::registry::{Registry, VhostCell};
use crate::server::statistics::{Event as Happened, Turn};
use crate::server::work::Work;
use crate::store::{Ticket, Waiter};

/// Method ids of a frame, for the close method that may follow.
pub(super) type Ids = (ClassId, MethodId);

/// No method is to blame.
pub(super) const NO_IDS: Ids = (ClassId::new(0), MethodId::new(0));

const PUBLISH_IDS: Ids = (basic::Publish::CLASS, basic::Publish::METHOD);
const ACK_IDS: Ids = (basic::Ack::CLASS, basic::Ack::METHOD);

/// Queues remembered by number before a connection starts anew.
const CELLS_MAX: usize = 4096;

/// Why the connection ends.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: AmqpError,
    pub(super) ids: Ids,
    /// The octet stream cannot be followed any more.
    pub(super) out_of_sync: bool,
}

impl Failure {
    pub(super) fn new(error: AmqpError, ids: Ids) -> Self {
        Self { error, ids, out_of_sync: false }
    }
}

/// What a frame meant for the connection as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Go on.
    Open,
    /// The client closed; close-ok was sent.
    ClosedByClient,
    /// A basic.get waits for the disk: the rest of the input waits with it.
    Waiting,
    /// A content began, or went on, while a resource alarm is in effect: the rest of the input waits for its end.
    Blocked,
}

/// An open connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each with its own life")]
pub(super) struct Session {
    pub(super) registry: Arc<Registry>,
    pub(super) vhost: Arc<VhostCell>,
    pub(super) id: ConnectionId,
    pub(super) user: ShortString,
    pub(super) rights: Rights,
    pub(super) admission: Admission,
    /// The connection as RabbitMQ writes it: `ip:port -> ip:port`.
    pub(super) link: Box<str>,
    pub(super) capabilities: ClientCapabilities,
    pub(super) limits: Limits,
    /// Open and closing channels, ascending.
    pub(super) channels: Vec<Channel<Held>>,
    pub(super) output: Output,
    pub(super) outbox: Arc<Outbox>,
    pub(super) waiter: Arc<dyn Waiter>,
    pub(super) work: Work,
    pub(super) routes: RouteCache,
    pub(super) batch: Batch,
    pub(super) settlements: Settlements,
    /// Queues that deliveries came from.
    pub(super) cells: HashMap<QueueId, Arc<QueueCell>>,
    /// The time of this turn.
    pub(super) now: Timestamp,
    /// When deliveries are made that are taken together.
    pub(super) delivered_at: Option<Instant>,
    /// When to look for acks that are overdue.
    pub(super) acks_due: Option<Instant>,
    /// Somebody wants the connection closed.
    pub(super) close_requested: Option<AmqpError>,
    /// Queues that go away with this connection.
    pub(super) exclusive: Vec<QueueId>,
    /// A channel's shared limit has room again.
    pub(super) limit_freed: bool,
    /// A queue that this turn published to while much is in memory; its consumers may take some of it soon.
    pub(super) crowded: Option<Arc<QueueCell>>,
    /// A queue refused a message that no confirm tells of.
    pub(super) partial: bool,
    /// The last ticket that this connection waits for.
    pub(super) last_ticket: Ticket,
    pub(super) events: Vec<Event>,
    /// The vhost was traced when this turn began.
    pub(super) traced: bool,
    /// The queue whose get waits for the disk, to be tried again.
    pub(super) waiting_get: Option<(ChannelId, basic::Get)>,
    /// The client published during a resource alarm: nothing is read until all alarms have ended.
    pub(super) blocked: bool,
    /// What came over the socket.
    pub(super) received: Traffic,
    /// What was counted in this turn.
    pub(super) turn: Turn,
    /// When counts are looked at next for rates, in milliseconds since 1970.
    pub(super) sample_at: u64,
    pub(super) traffic_counts: Counts,
    pub(super) traffic_samples: Samples,
}

impl Session {
    /// The index of a channel.
    #[inline]
    pub(super) fn channel_index(&self, id: ChannelId) -> Option<usize> {
        if let [only] = self.channels.as_slice() {
            return (only.id == id).then_some(0);
        }
        self.channels.binary_search_by_key(&id, |channel| channel.id).ok()
    }

    /// What the user may do now.
    pub(super) fn access(&mut self) -> Arc<Access> {
        self.rights.current(&self.registry, &self.user, &self.vhost)
    }

    /// A queue by number, remembered for the next time.
    pub(super) fn cell(&mut self, id: QueueId) -> Option<Arc<QueueCell>> {
        if let Some(cell) = self.cells.get(&id) {
            return Some(cell.clone());
        }
        let cell = self.registry.queue(id)?;
        if self.cells.len() >= CELLS_MAX {
            self.cells.clear();
        }
        self.cells.insert(id, cell.clone());
        Some(cell)
    }

    pub(super) fn send(&mut self, channel: ChannelId, method: impl Into<Method>) {
        method.into().encode_frame(channel, self.output.buffer());
    }

    /// Sends a reply that promises something durable: it leaves once `ticket` is on disk.
    pub(super) fn send_durable(&mut self, channel: ChannelId, method: impl Into<Method>, ticket: Ticket) {
        self.last_ticket = self.last_ticket.max(ticket);
        let durable = self.registry.store.durable();
        if ticket > durable {
            self.registry.store.hurry();
        }
        self.output.gate(ticket, durable);
        self.send(channel, method);
    }

    /// Whether this connection waits for the store's next commits.
    pub(super) fn waits_for_store(&self) -> bool {
        self.last_ticket > self.registry.store.durable()
    }

    /// Whether the disk has more to write than it should, and some of it is this connection's.
    pub(super) fn is_held_back(&self) -> bool {
        let store = &self.registry.store;
        self.waits_for_store() && store.is_saturated()
            || self.work.spilled_under > store.spilled() && store.is_spill_saturated()
    }

    /// Works through whole frames. Returns how many octets were used up; fewer than all only when something must wait.
    pub(super) fn on_frames(&mut self, data: &Bytes) -> Result<(usize, Progress), Failure> {
        self.now = clock::now();
        self.traced = self.vhost.is_traced();
        let alarm = self.registry.alarms.any();
        let mut at = 0;
        while at < data.len() {
            let frame = match split_frame(&data[at..], self.limits.frame_max) {
                Ok(Some((frame, used))) => {
                    at += used;
                    frame
                }
                Ok(None) => break,
                Err(error) => {
                    let error = AmqpError::BadFrame(error.to_string());
                    return Err(Failure { error, ids: NO_IDS, out_of_sync: true });
                }
            };
            if !alarm
                && frame.kind == FrameKind::Method as u8
                && frame.channel != ChannelId::ZERO
                && peek_ids(frame.payload) == Some(PUBLISH_IDS)
                && let Some(used) = self.try_whole_publish(&frame, data, at)?
            {
                at = used;
                continue;
            }
            match self.on_frame(&frame, data)? {
                Progress::Open => {}
                ended @ (Progress::ClosedByClient | Progress::Waiting | Progress::Blocked) => return Ok((at, ended)),
            }
            if alarm && (frame.kind == FrameKind::Header as u8 || frame.kind == FrameKind::Body as u8) {
                return Ok((at, Progress::Blocked));
            }
        }
        Ok((at, Progress::Open))
    }

    /// A publish whose header and body are in the buffer too, the body in one frame: no need to assemble anything.
    /// `None` when it is not so simple; else where the next frame starts.
    #[inline]
    fn try_whole_publish(&mut self, frame: &RawFrame<'_>, data: &Bytes, at: usize) -> Result<Option<usize>, Failure> {
        let Some(index) = self.channel_index(frame.channel) else { return Ok(None) };
        let channel = &self.channels[index];
        if channel.lifecycle != Lifecycle::Open || !channel.assembly.is_idle() {
            return Ok(None);
        }
        let Ok(publish) = basic::PublishRef::decode(&frame.payload[4..]) else { return Ok(None) };
        let frame_max = self.limits.frame_max;
        let Ok(Some((header_frame, header_used))) = split_frame(&data[at..], frame_max) else { return Ok(None) };
        if header_frame.kind != FrameKind::Header as u8 || header_frame.channel != frame.channel {
            return Ok(None);
        }
        let Ok(header) = HeaderRef::decode(header_frame.payload) else { return Ok(None) };
        let mut at = at + header_used;
        let body: &[u8] = if header.body_size == 0 {
            &[]
        } else {
            let Ok(Some((body_frame, body_used))) = split_frame(&data[at..], frame_max) else { return Ok(None) };
            if body_frame.kind != FrameKind::Body as u8
                || body_frame.channel != frame.channel
                || body_frame.payload.len() as u64 != header.body_size
            {
                return Ok(None);
            }
            at += body_used;
            body_frame.payload
        };
        if let Err(error) = check_header(&header) {
            return Err(Failure::new(error, PUBLISH_IDS));
        }
        let content = ContentRef {
            exchange: publish.exchange,
            routing_key: publish.routing_key,
            mandatory: publish.mandatory,
            immediate: publish.immediate,
            properties: header.properties,
            // A large body stays where it is, unless it would keep a much larger buffer alive.
            body: if body.len() >= OUTSIDE_BODY_MIN_BYTES && body.len() >= data.len() / 16 {
                Body::Shared(data.slice_ref(body))
            } else {
                Body::Borrowed(body)
            },
            body_size: header.body_size,
        };
        if let Err(error) = self.publish(index, &content) {
            self.fail(frame.channel, error, PUBLISH_IDS)?;
        }
        Ok(Some(at))
    }

    fn on_frame(&mut self, frame: &RawFrame<'_>, data: &Bytes) -> Result<Progress, Failure> {
        let described = |suffix: &str| format!("type {}, {}{suffix}", frame.kind, erlang_octets(frame.payload));
        let Some(kind) = FrameKind::from_octet(frame.kind) else {
            return Err(Failure::new(AmqpError::BadFrame(described(": unknown_frame")), NO_IDS));
        };
        if kind == FrameKind::Heartbeat {
            if !frame.payload.is_empty() {
                return Err(Failure::new(AmqpError::BadFrame(described(": unknown_frame")), NO_IDS));
            }
            if frame.channel != ChannelId::ZERO {
                return Err(Failure::new(AmqpError::UnexpectedFrame(described("")), NO_IDS));
            }
            return Ok(Progress::Open);
        }
        if kind == FrameKind::Method {
            let Some(ids) = peek_ids(frame.payload) else {
                return Err(Failure::new(AmqpError::BadFrame(described(": unknown_frame")), NO_IDS));
            };
            return self.on_method_frame(frame, ids);
        }
        if frame.channel == ChannelId::ZERO {
            return Err(Failure::new(AmqpError::UnexpectedFrame(described("")), NO_IDS));
        }
        let Some(index) = self.channel_index(frame.channel) else {
            return Err(Failure::new(AmqpError::ChannelNotOpen, NO_IDS));
        };
        let assembly = &mut self.channels[index].assembly;
        let ids = if assembly.is_idle() { NO_IDS } else { PUBLISH_IDS };
        let content = if kind == FrameKind::Header {
            match HeaderRef::decode(frame.payload) {
                Ok(header) => assembly.on_header(&header, self.registry.config.max_message_size),
                Err(_) => Err(AmqpError::UndecodableProperties),
            }
        } else {
            assembly.on_body(&data.slice_ref(frame.payload))
        };
        match content {
            Ok(None) => Ok(Progress::Open),
            Ok(Some(content)) => self.on_content(frame.channel, index, &content).map(|()| Progress::Open),
            Err(error) => Err(Failure::new(error, ids)),
        }
    }

    fn on_content(&mut self, id: ChannelId, index: usize, content: &Content) -> Result<(), Failure> {
        if self.channels[index].lifecycle == Lifecycle::Closing {
            return Ok(());
        }
        match self.publish(index, &ContentRef::of(content)) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(id, error, PUBLISH_IDS),
        }
    }

    fn on_method_frame(&mut self, frame: &RawFrame<'_>, ids: Ids) -> Result<Progress, Failure> {
        let id = frame.channel;
        let index = self.channel_index(id);
        if let Some(index) = index {
            let channel = &mut self.channels[index];
            if let Err(error) = channel.assembly.on_method() {
                return Err(Failure::new(error, PUBLISH_IDS));
            }
            if ids == ACK_IDS
                && channel.lifecycle == Lifecycle::Open
                && let Ok(ack) = basic::Ack::decode(&frame.payload[4..])
            {
                return match self.settle(index, ack.delivery_tag, ack.multiple, Outcome::Ack) {
                    Ok(()) => Ok(Progress::Open),
                    Err(error) => self.fail(id, error, ids).map(|()| Progress::Open),
                };
            }
        }
        let method = match Method::decode(frame.payload) {
            Ok(method) => method,
            Err(error) => return Err(decode_failure(&error, ids)),
        };
        if method.is_from_server_only() {
            return Err(Failure::new(AmqpError::UnimplementedMethod, ids));
        }
        if id == ChannelId::ZERO {
            return self.on_connection_method(&method, ids);
        }
        if ids.0 == connection::Close::CLASS {
            return Err(Failure::new(AmqpError::UnimplementedMethod, ids));
        }
        match index {
            None => self.open_channel(id, &method, ids).map(|()| Progress::Open),
            Some(index) if self.channels[index].lifecycle == Lifecycle::Closing => {
                self.on_closing_channel(index, method);
                Ok(Progress::Open)
            }
            Some(index) => match self.on_channel_method(id, index, method) {
                Ok(progress) => Ok(progress),
                Err(error) => self.fail(id, error, ids).map(|()| Progress::Open),
            },
        }
    }

    fn open_channel(&mut self, id: ChannelId, method: &Method, ids: Ids) -> Result<(), Failure> {
        if !matches!(method, Method::ChannelOpen(_)) {
            return Err(Failure::new(AmqpError::ChannelNotOpen, ids));
        }
        let (open, channel_max) = (self.channels.len(), self.limits.channel_max);
        if open >= usize::from(channel_max) {
            return Err(Failure::new(AmqpError::TooManyChannels { open, channel_max }, NO_IDS));
        }
        self.admission.take_channel().map_err(|reached| {
            let error = match reached {
                ChannelLimitReached::Node(max) => {
                    AmqpError::NodeChannelLimit { node: self.registry.config.node_name.clone(), max }
                }
                ChannelLimitReached::User(max) => AmqpError::UserChannelLimit { user: self.user.clone(), max },
            };
            Failure::new(error, NO_IDS)
        })?;
        let at = self.channels.partition_point(|channel| channel.id < id);
        self.channels.insert(at, Channel::new(id));
        self.registry.statistics.note(Happened::ChannelCreated, 1);
        self.vhost.statistics.lock().channels += 1;
        self.send(id, channel::OpenOk::default());
        Ok(())
    }

    /// channel.close was sent: only its answer, or the peer's own close, is looked at.
    fn on_closing_channel(&mut self, index: usize, method: Method) {
        let channel = &mut self.channels[index];
        let id = channel.id;
        if matches!(method, Method::ChannelClose(_)) {
            self.send(id, channel::CloseOk {});
        } else if let Method::BasicPublish(publish) = method {
            // Its content still has to follow in good order.
            channel.assembly.on_publish(publish.into());
        } else if matches!(method, Method::ChannelCloseOk(_)) {
            self.remove_channel(index);
        }
    }

    /// Channels are gone.
    fn forget_channels(&mut self, channels: &[Channel<Held>]) {
        if channels.is_empty() {
            return;
        }
        let publishers = channels.iter().filter(|channel| channel.counts[Count::Publish] > 0).count() as u64;
        let mut totals = self.vhost.statistics.lock();
        totals.channels -= channels.len() as u64;
        totals.publishers -= publishers;
        drop(totals);
        self.registry.statistics.note(Happened::ChannelClosed, channels.len() as u64);
    }

    fn remove_channel(&mut self, index: usize) {
        let channel = self.channels.remove(index);
        self.forget_channels(&[channel]);
        self.admission.keep_channels(self.channels.len());
    }

    fn on_channel_method(&mut self, id: ChannelId, index: usize, method: Method) -> Result<Progress, AmqpError> {
        match method {
            Method::BasicPublish(publish) => {
                self.channels[index].assembly.on_publish(publish.into());
                Ok(Progress::Open)
            }
            Method::BasicAck(ack) => {
                self.settle(index, ack.delivery_tag, ack.multiple, Outcome::Ack)?;
                Ok(Progress::Open)
            }
            Method::BasicNack(nack) => {
                let outcome = if nack.requeue { Outcome::Requeue } else { Outcome::Reject };
                self.settle(index, nack.delivery_tag, nack.multiple, outcome)?;
                Ok(Progress::Open)
            }
            Method::BasicReject(reject) => {
                let outcome = if reject.requeue { Outcome::Requeue } else { Outcome::Reject };
                self.settle(index, reject.delivery_tag, false, outcome)?;
                Ok(Progress::Open)
            }
            other => {
                self.end_turn();
                self.on_other_method(id, index, other)
            }
        }
    }

    fn on_other_method(&mut self, id: ChannelId, index: usize, method: Method) -> Result<Progress, AmqpError> {
        match method {
            Method::ChannelOpen(_) => Err(AmqpError::ChannelAlreadyOpen),
            Method::ChannelFlow(flow) if flow.active => {
                self.send(id, channel::FlowOk { active: true });
                Ok(Progress::Open)
            }
            Method::ChannelFlow(_) => Err(AmqpError::NotImplemented("active=false".to_owned())),
            Method::ChannelClose(_) => {
                self.end_channel(index);
                self.remove_channel(index);
                self.send(id, channel::CloseOk {});
                Ok(Progress::Open)
            }
            Method::ChannelFlowOk(_) | Method::ChannelCloseOk(_) => Err(AmqpError::UnimplementedMethod),
            Method::AccessRequest(_) => {
                self.send(id, access::RequestOk { ticket: 1 });
                Ok(Progress::Open)
            }
            Method::ExchangeDeclare(declare) => self.exchange_declare(id, declare),
            Method::ExchangeDelete(delete) => self.exchange_delete(id, &delete),
            Method::ExchangeBind(bind) => self.exchange_bind(id, bind),
            Method::ExchangeUnbind(unbind) => self.exchange_unbind(id, unbind),
            Method::QueueDeclare(declare) => self.queue_declare(id, index, declare),
            Method::QueueBind(bind) => self.queue_bind(id, index, bind),
            Method::QueueUnbind(unbind) => self.queue_unbind(id, index, unbind),
            Method::QueuePurge(purge) => self.queue_purge(id, index, &purge),
            Method::QueueDelete(delete) => self.queue_delete(id, index, &delete),
            Method::BasicQos(qos) => self.basic_qos(id, index, &qos),
            Method::BasicConsume(consume) => self.basic_consume(id, index, consume),
            Method::BasicCancel(cancel) => Ok(self.basic_cancel(id, index, cancel)),
            Method::BasicCancelOk(_) => Ok(Progress::Open),
            Method::BasicGet(get) => self.basic_get(id, index, get),
            Method::BasicRecover(recover) => {
                self.basic_recover(index, recover.requeue)?;
                self.send(id, basic::RecoverOk {});
                Ok(Progress::Open)
            }
            Method::BasicRecoverAsync(recover) => {
                self.basic_recover(index, recover.requeue)?;
                Ok(Progress::Open)
            }
            Method::ConfirmSelect(select) => {
                self.channels[index].select_confirm()?;
                if !select.no_wait {
                    self.send(id, leveret_protocol::confirm::SelectOk {});
                }
                Ok(Progress::Open)
            }
            Method::TxSelect(_) => {
                self.channels[index].select_tx()?;
                self.send(id, leveret_protocol::tx::SelectOk {});
                Ok(Progress::Open)
            }
            Method::TxCommit(_) => self.tx_commit(id, index),
            Method::TxRollback(_) => self.tx_rollback(id, index),
            other => {
                debug_assert!(other.is_from_server_only(), "every client method has its arm: {}", other.name());
                Err(AmqpError::UnimplementedMethod)
            }
        }
    }

    fn on_connection_method(&mut self, method: &Method, ids: Ids) -> Result<Progress, Failure> {
        self.end_turn();
        match method {
            Method::ConnectionClose(_) => {
                self.end();
                self.send(ChannelId::ZERO, connection::CloseOk {});
                Ok(Progress::ClosedByClient)
            }
            Method::ConnectionUpdateSecret(_) => {
                self.send(ChannelId::ZERO, connection::UpdateSecretOk {});
                Ok(Progress::Open)
            }
            _ => Err(Failure::new(AmqpError::UnexpectedMethod("running"), ids)),
        }
    }

    /// Answers an error: channel.close, or the end of the connection.
    pub(super) fn fail(&mut self, id: ChannelId, error: AmqpError, ids: Ids) -> Result<(), Failure> {
        // What came before the failing method counts.
        self.end_turn();
        if error.severity() == Severity::Connection {
            return Err(Failure::new(error, ids));
        }
        tracing::info!(connection = self.id.get(), channel = id.get(), %error, "channel closed");
        if let Some(index) = self.channel_index(id) {
            self.end_channel(index);
            self.channels[index].lifecycle = Lifecycle::Closing;
        }
        let (class_id, method_id) = if error.blames_no_method() { NO_IDS } else { ids };
        let close = channel::Close { reply_code: error.code(), reply_text: error.text(), class_id, method_id };
        self.send(id, close);
        Ok(())
    }

    /// Carries out what was collected: publishes, settlements, and what they caused; then settles confirms.
    pub(super) fn end_turn(&mut self) {
        self.flush_groups();
        self.flush_settlements();
        let ticket = self.submit();
        self.settle_confirms(ticket);
        self.flush_counts();
    }

    /// Submits what queues left behind as one transaction. Returns its ticket, which the connection waits for from now on.
    pub(super) fn submit(&mut self) -> Ticket {
        let ticket = self.registry.finish(&mut self.work, Some(&self.waiter));
        self.last_ticket = self.last_ticket.max(ticket);
        ticket
    }

    /// Ends a channel's consumers, deliveries and transaction. The channel stays in the list.
    fn end_channel(&mut self, index: usize) {
        let id = self.channels[index].id;
        let consumers = std::mem::take(&mut self.channels[index].consumers);
        self.end_replies(index);
        self.channels[index].lifecycle = Lifecycle::Closing;
        let mut unused = Vec::new();
        for consumer in consumers.into_values() {
            if let Some(cell) = self.cell(consumer.queue)
                && cell.remove_consumer(&self.registry, &mut self.work, self.now, consumer.id)
            {
                unused.push(cell);
            }
        }
        // What was on its way to these consumers goes back with the rest.
        self.take_events();
        let Some(index) = self.channel_index(id) else { return };
        let channel = &mut self.channels[index];
        channel.unacked.abandon(&mut self.settlements);
        channel.mode = Mode::Plain;
        self.flush_settlements();
        self.submit();
        for cell in unused {
            self.delete_unused(&cell);
        }
    }

    /// Deletes an auto-delete queue whose last consumer is gone.
    pub(super) fn delete_unused(&mut self, cell: &Arc<QueueCell>) {
        let still_unused = |queue: &Queue| {
            if queue.consumer_count() == 0 { Ok(()) } else { Err(AmqpError::Internal) }
        };
        if let Ok((_, ticket)) = self.registry.delete_queue(cell, Some(&self.waiter), still_unused) {
            self.last_ticket = self.last_ticket.max(ticket);
        }
    }

    /// Ends every channel and deletes the connection's exclusive queues.
    pub(super) fn end(&mut self) {
        self.now = clock::now();
        self.end_turn();
        for index in (0..self.channels.len()).rev() {
            self.end_channel(index);
        }
        let channels = std::mem::take(&mut self.channels);
        self.forget_channels(&channels);
        self.admission.leave();
        for id in std::mem::take(&mut self.exclusive) {
            if let Some(cell) = self.registry.queue(id) {
                let deleted = self.registry.delete_queue(&cell, None, |_| Ok(()));
                debug_assert!(deleted.is_ok(), "nothing is asked of an exclusive queue before it goes");
            }
        }
        self.flush_counts();
    }

    pub(super) fn send_heartbeat(&mut self) {
        encode_heartbeat(self.output.buffer());
    }
}

/// What an undecodable method means.
pub(super) fn decode_failure(error: &DecodeError, ids: Ids) -> Failure {
    match error {
        DecodeError::UnknownMethod { .. } => Failure::new(AmqpError::UnimplementedMethod, ids),
        DecodeError::BadUtf8 { .. } => Failure::new(AmqpError::BadFrame(error.to_string()), NO_IDS),
        DecodeError::TooShort
        | DecodeError::Malformed { .. }
        | DecodeError::BadTable { .. }
        | DecodeError::BadHeader => Failure::new(AmqpError::BadFrame(error.to_string()), ids),
    }
}

const _: () = assert!(BASIC_CLASS == basic::Publish::CLASS.get());
