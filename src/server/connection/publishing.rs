//! Publishing: from a content to the queues, in groups.
//!
//! Consecutive messages for the same queues are packed into one arena and handed to each queue at once, when the turn of
//! the connection ends or something else has to see them. Groups keep the order of messages for any one queue: before a
//! group is opened that shares a queue with another one, all are handed over.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use leveret_protocol::{ChannelId, DeliveryTag, Method, PropertiesRef, ShortString, basic};

use super::delivery::encode_return;
use super::marked::is_marked;
use super::rights::Rights;
use super::session::Session;
use crate::engine::channel::Mode;
use crate::engine::channel::content::{Content, Publish};
use crate::engine::channel::expiration::parse_expiration;
use crate::engine::directory::{Resource, Right};
use crate::engine::exchange::Routing;
use crate::engine::exchange::delayed::with_negated_delay;
use crate::engine::message::{Arena, ArenaBuilder, Body, MessageParts, Timestamp};
use crate::engine::queue::QueueId;
use crate::engine::statistics::Count;
use crate::engine::vhost::Route;
use crate::error::AmqpError;
use crate::server::placing::alone;
use crate::server::queue_cell::QueueCell;
use crate::server::registry::{Registry, VhostCell};
use crate::server::statistics::ExchangeTallies;
use crate::store::Ticket;

/// Octets at which an arena is cut: about one batch of the store, so that spilling and releasing work in small units.
const ARENA_BYTES: usize = 60 * 1024;
/// Routes remembered by a connection before it starts anew.
const ROUTES_MAX: usize = 8192;

/// Where messages go.
#[derive(Debug, Default)]
pub(super) struct Targets {
    cells: Vec<Arc<QueueCell>>,
    /// Where else; `cells` is empty then.
    beyond: Option<Box<Beyond>>,
}

/// Where a message goes if it does not just go to queues.
#[derive(Debug)]
struct Beyond {
    /// The queues.
    queues: Arc<Targets>,
    /// Those in which it waits, with the milliseconds, and what its properties are meanwhile.
    delays: Vec<(Arc<Targets>, u64)>,
    waiting: Vec<u8>,
    /// Names of those who wait for it as a reply.
    replies: Vec<ShortString>,
}

/// Routes that a connection has used: by exchange and routing key, valid for one version of the vhost.
#[derive(Debug, Default)]
pub(super) struct RouteCache {
    version: u64,
    /// The last route: length of the exchange's name, the name, the key.
    last: Option<(Vec<u8>, Arc<Targets>, usize)>,
    /// Room for the next one.
    scratch: Vec<u8>,
    /// Written in the same way; with the number of the exchange in `exchanges`.
    by_key: HashMap<Vec<u8>, (Arc<Targets>, usize)>,
    /// One `Targets` for each set of queues, so that groups can be told apart by address.
    by_queues: HashMap<Vec<QueueId>, Arc<Targets>>,
    /// What is counted for the exchanges.
    pub(super) exchanges: ExchangeTallies,
}

/// On whose behalf a route is looked up.
pub(super) struct Asker<'a> {
    pub(super) registry: &'a Registry,
    pub(super) vhost: &'a VhostCell,
    pub(super) user: &'a ShortString,
    pub(super) rights: &'a mut Rights,
}

impl RouteCache {
    /// Where a message goes; asks the vhost if that is not remembered. `message` is for exchanges that remember it.
    fn find(
        &mut self,
        asker: Asker<'_>,
        exchange: &[u8],
        key: &[u8],
        properties: &[u8],
        message: &dyn Fn() -> Option<Arc<Arena>>,
    ) -> Result<Arc<Targets>, AmqpError> {
        let version = asker.vhost.version();
        if version != self.version {
            self.exchanges.flush(&asker.registry.statistics);
            *self = Self { version, ..Self::default() };
        }
        if let Some((last, targets, number)) = &self.last
            && usize::from(last[0]) == exchange.len()
            && last[1..=exchange.len()] == *exchange
            && last[1 + exchange.len()..] == *key
        {
            self.exchanges.select(*number);
            return Ok(targets.clone());
        }
        let mut route = std::mem::take(&mut self.scratch);
        route.clear();
        route.push(u8::try_from(exchange.len()).unwrap_or(u8::MAX));
        route.extend_from_slice(exchange);
        route.extend_from_slice(key);
        let (targets, number) = if let Some(known) = self.by_key.get(&route) {
            known.clone()
        } else {
            let vhost = asker.vhost;
            let keys = [key];
            let routing = Routing::new(&keys, properties, asker.registry.random());
            let (targets, by_key) = self.ask(asker, exchange, &routing, message)?;
            let number = self.exchanges.number(vhost, exchange);
            if !by_key {
                // Not to be remembered: the next message with this key may go elsewhere.
                self.exchanges.select(number);
                return Ok(targets);
            }
            if self.by_key.len() >= ROUTES_MAX {
                self.by_key.clear();
            }
            self.by_key.insert(route.clone(), (targets.clone(), number));
            (targets, number)
        };
        self.exchanges.select(number);
        if let Some((before, ..)) = self.last.replace((route, targets.clone(), number)) {
            self.scratch = before;
        }
        Ok(targets)
    }

    /// Asks the vhost where a message goes, and whether all with its exchange and first key go there.
    pub(super) fn ask(
        &mut self,
        Asker { registry, vhost, user, rights }: Asker<'_>,
        exchange: &[u8],
        routing: &Routing<'_>,
        message: &dyn Fn() -> Option<Arc<Arena>>,
    ) -> Result<(Arc<Targets>, bool), AmqpError> {
        let name = ShortString::try_from(exchange).map_err(|_| AmqpError::Internal)?;
        let access = rights.current(registry, user, vhost);
        access.check(Right::Write, Resource::Exchange(exchange))?;
        let state = vhost.state.read();
        let mut route = state.route_publish(&name, routing)?;
        if access.restricts_topic(exchange) && state.is_topic(&name) {
            routing.keys.iter().try_for_each(|key| access.check_topic(Right::Write, exchange, key))?;
        }
        drop(state);
        if !route.histories.is_empty() {
            route = Registry::route(vhost, exchange, routing, message).unwrap_or_default();
        }
        let Route { queues, by_key, replies, delays, histories: _ } = route;
        let queues = self.targets_of(registry, queues);
        if replies.is_empty() && delays.is_empty() {
            return Ok((queues, by_key));
        }
        let waiting = if delays.is_empty() { Vec::new() } else { with_negated_delay(routing.properties) };
        let delays = delays.into_iter().map(|(id, ms)| (self.targets_of(registry, vec![id]), ms)).collect();
        let beyond = Some(Box::new(Beyond { queues, delays, waiting, replies }));
        Ok((Arc::new(Targets { cells: Vec::new(), beyond }), by_key))
    }

    /// Where a message goes that was routed some time ago: to the queues that have those names now.
    fn still_there(&mut self, registry: &Registry, vhost: &VhostCell, targets: Arc<Targets>) -> Arc<Targets> {
        if targets.cells.iter().all(|cell| registry.queue(cell.id).is_some()) {
            return targets;
        }
        let state = vhost.state.read();
        let queues = targets.cells.iter().filter_map(|cell| state.queue_id(&cell.name)).collect();
        drop(state);
        self.targets_of(registry, queues)
    }

    fn targets_of(&mut self, registry: &Registry, queues: Vec<QueueId>) -> Arc<Targets> {
        if self.by_queues.len() >= ROUTES_MAX {
            self.by_queues.clear();
        }
        if let Some(targets) = self.by_queues.get(&queues) {
            return targets.clone();
        }
        let cells = queues.iter().filter_map(|id| registry.queue(*id)).collect();
        let targets = Arc::new(Targets { cells, beyond: None });
        self.by_queues.insert(queues, targets.clone());
        targets
    }
}

impl Targets {
    /// Names of the queues, and of those who wait for a reply.
    pub(super) fn names(&self) -> impl Iterator<Item = &ShortString> {
        let queues = self.beyond.as_ref().map_or(&self.cells, |beyond| &beyond.queues.cells);
        let replies = self.beyond.iter().flat_map(|beyond| &beyond.replies);
        queues.iter().map(|cell| &cell.name).chain(replies)
    }

    /// How many queues a message goes to.
    fn queue_count(&self) -> u64 {
        let beyond = self.beyond.as_ref().map_or(0, |beyond| beyond.queues.cells.len() + beyond.delays.len());
        (self.cells.len() + beyond) as u64
    }

    fn shares_a_queue(&self, other: &Self) -> bool {
        self.cells.iter().any(|cell| other.cells.iter().any(|theirs| cell.id == theirs.id))
    }
}

/// The publish that a confirm or nack is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    channel: ChannelId,
    number: u64,
}

#[derive(Debug)]
struct Group {
    targets: Arc<Targets>,
    persistent: bool,
    builder: ArenaBuilder,
    /// Where each message came from, up to the last one that is to be confirmed; others come from nowhere.
    origins: Vec<Option<Origin>>,
}

/// What a connection published in this turn and has not handed over yet, and what became of the rest.
#[derive(Debug, Default)]
pub(super) struct Batch {
    groups: Vec<Group>,
    /// Publishes that a queue refused.
    refused: Vec<Origin>,
    /// Publishes of confirm channels in this turn: first and last number.
    numbered: Vec<(ChannelId, u64, u64)>,
    /// Size of the last arena, to start the next one with.
    last_size: (usize, usize),
}

/// What the header of a message says that the broker acts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits {
    persistent: bool,
    priority: u8,
    expiration_ms: Option<u64>,
}

/// A publish that a transaction holds back.
#[derive(Debug)]
pub(super) struct Held {
    targets: Arc<Targets>,
    publish: Publish,
    properties: Bytes,
    body: Bytes,
    traits: Traits,
}

/// A content whose octets are still in the read buffer.
#[derive(Debug)]
pub(super) struct ContentRef<'a> {
    pub(super) exchange: &'a [u8],
    pub(super) routing_key: &'a [u8],
    pub(super) mandatory: bool,
    pub(super) immediate: bool,
    pub(super) properties: &'a [u8],
    pub(super) body: Body<'a>,
    pub(super) body_size: u64,
}

impl<'a> ContentRef<'a> {
    pub(super) fn of(content: &'a Content) -> Self {
        Self {
            exchange: content.publish.exchange.as_bytes(),
            routing_key: content.publish.routing_key.as_bytes(),
            mandatory: content.publish.mandatory,
            immediate: content.publish.immediate,
            properties: &content.properties,
            body: Body::Shared(content.body.clone()),
            body_size: content.body_size,
        }
    }

    #[inline]
    fn parts(&self, traits: Traits, now: Timestamp) -> MessageParts<'a> {
        MessageParts {
            exchange: self.exchange,
            routing_key: self.routing_key,
            properties: self.properties,
            body: self.body.clone(),
            persistent: traits.persistent,
            priority: traits.priority,
            expiration_ms: traits.expiration_ms,
            broker_deaths: false,
            enqueued_at: now,
        }
    }

    /// The message by itself. Its body is copied: whoever keeps it long shall not keep a read buffer.
    pub(super) fn to_arena(&self, traits: Traits, now: Timestamp) -> Arc<Arena> {
        let body = match &self.body {
            Body::Borrowed(octets) => octets,
            Body::Shared(octets) => &octets[..],
        };
        alone(&MessageParts { body: Body::Borrowed(body), ..self.parts(traits, now) })
    }

    fn keep(&self) -> Result<(Publish, Bytes, Bytes), AmqpError> {
        let own = |octets: &[u8]| ShortString::try_from(octets).map_err(|_| AmqpError::Internal);
        let publish = Publish {
            exchange: own(self.exchange)?,
            routing_key: own(self.routing_key)?,
            mandatory: self.mandatory,
            immediate: self.immediate,
        };
        let body = match &self.body {
            Body::Borrowed(octets) => Bytes::copy_from_slice(octets),
            Body::Shared(octets) => octets.clone(),
        };
        Ok((publish, Bytes::copy_from_slice(self.properties), body))
    }
}

/// The message's own time to live in milliseconds.
pub(super) fn expiration_of(properties: &PropertiesRef<'_>) -> Result<Option<u64>, AmqpError> {
    properties.expiration.map(parse_expiration).transpose()
}

impl Session {
    /// Reads what the broker acts on from the properties.
    #[inline]
    fn traits(&mut self, properties: &[u8]) -> Result<Traits, AmqpError> {
        // Nothing but a delivery mode: what most messages have.
        if let [0x10, 0, mode] = properties {
            return Ok(Traits { persistent: *mode == 2, ..Traits::default() });
        }
        let properties = PropertiesRef::decode(properties).map_err(|_| AmqpError::UndecodableProperties)?;
        self.traits_of(&properties)
    }

    /// The same of decoded properties.
    pub(super) fn traits_of(&mut self, properties: &PropertiesRef<'_>) -> Result<Traits, AmqpError> {
        let expiration_ms = expiration_of(properties)?;
        if let Some(claimed) = properties.user_id
            && claimed != self.user.as_bytes()
            && !self.access().is_impersonator()
        {
            let claimed = ShortString::try_from(claimed).unwrap_or_default();
            return Err(AmqpError::UserIdMismatch { claimed, user: self.user.clone() });
        }
        Ok(Traits {
            persistent: properties.delivery_mode == Some(2),
            priority: properties.priority.unwrap_or(0),
            expiration_ms,
        })
    }

    /// A complete content came on an open channel.
    #[inline]
    pub(super) fn publish(&mut self, at: usize, content: &ContentRef<'_>) -> Result<(), AmqpError> {
        if content.immediate {
            return Err(AmqpError::NotImplemented("immediate=true".to_owned()));
        }
        let max = self.registry.config.max_message_size;
        if content.body_size > max {
            return Err(AmqpError::MessageTooLarge { size: content.body_size, max });
        }
        if is_marked(content.properties) {
            return self.publish_marked(at, content);
        }
        let traits = self.traits(content.properties);
        self.route_and_accept(at, content, traits)
    }

    /// Routes a content by its own key. A missing exchange comes before what is wrong with the properties.
    #[inline]
    pub(super) fn route_and_accept(
        &mut self,
        at: usize,
        content: &ContentRef<'_>,
        traits: Result<Traits, AmqpError>,
    ) -> Result<(), AmqpError> {
        let now = self.now;
        let message = || traits.as_ref().ok().map(|traits| content.to_arena(*traits, now));
        let ContentRef { exchange, routing_key, properties, .. } = *content;
        let asker = Asker { registry: &self.registry, vhost: &self.vhost, user: &self.user, rights: &mut self.rights };
        let targets = self.routes.find(asker, exchange, routing_key, properties, &message)?;
        self.accept(at, content, targets, traits?)
    }

    /// Takes in a routed content, or holds it back for a transaction.
    #[inline]
    pub(super) fn accept(
        &mut self,
        at: usize,
        content: &ContentRef<'_>,
        targets: Arc<Targets>,
        traits: Traits,
    ) -> Result<(), AmqpError> {
        if self.traced {
            self.trace_publish(self.channels[at].id, &targets, content);
        }
        let channel = &mut self.channels[at];
        let origin = match &mut channel.mode {
            Mode::Plain => None,
            Mode::Confirm(confirms) => Some(Origin { channel: channel.id, number: confirms.number() }),
            Mode::Tx(held) => {
                let (publish, properties, body) = content.keep()?;
                held.push(Held { targets, publish, properties, body, traits });
                return Ok(());
            }
        };
        if let Some(origin) = origin {
            self.batch.number(origin);
            self.turn.counts[Count::PublishConfirm] += 1;
        }
        self.count_publish(at, targets.queue_count(), content.body_size);
        if targets.cells.is_empty() {
            let id = self.channels[at].id;
            return self.accept_beyond(id, &targets, traits, content, origin);
        }
        self.enqueue(&targets, traits, content, origin);
        Ok(())
    }

    /// Takes in a content that does not just go to queues, or to none.
    fn accept_beyond(
        &mut self,
        channel: ChannelId,
        targets: &Targets,
        traits: Traits,
        content: &ContentRef<'_>,
        origin: Option<Origin>,
    ) -> Result<(), AmqpError> {
        let mut routed = false;
        if let Some(beyond) = &targets.beyond {
            for (queue, delay_ms) in &beyond.delays {
                let traits = Traits { expiration_ms: Some(*delay_ms), ..traits };
                let content = ContentRef { properties: &beyond.waiting, body: content.body.clone(), ..*content };
                self.enqueue(queue, traits, &content, origin);
            }
            if !beyond.replies.is_empty() {
                // A reply is never unroutable, whether or not somebody waits for it.
                routed = true;
                let reply = content.to_arena(traits, self.now);
                beyond.replies.iter().for_each(|name| self.registry.replies.send(&self.vhost.name, name, &reply));
            }
            if !beyond.queues.cells.is_empty() {
                routed = true;
                self.enqueue(&beyond.queues, traits, content, origin);
            }
        }
        if !routed && content.mandatory {
            self.count(channel, Count::ReturnUnroutable, 1);
            let (publish, properties, body) = content.keep()?;
            self.return_unrouted(channel, &publish, &properties, &body);
        } else if !routed && targets.queue_count() == 0 {
            self.count(channel, Count::DropUnroutable, 1);
        }
        Ok(())
    }

    fn return_unrouted(&mut self, channel: ChannelId, publish: &Publish, properties: &[u8], body: &[u8]) {
        let frame_max = self.limits.frame_max;
        let out = self.output.buffer();
        encode_return(channel, &publish.exchange, &publish.routing_key, properties, body, frame_max, out);
    }

    /// Adds a message to the group for its queues.
    #[inline]
    fn enqueue(&mut self, targets: &Arc<Targets>, traits: Traits, content: &ContentRef<'_>, origin: Option<Origin>) {
        let fits = |group: &Group| Arc::ptr_eq(&group.targets, targets) && group.persistent == traits.persistent;
        let at = if let Some(at) = self.batch.groups.iter().position(fits) {
            at
        } else {
            if self.batch.groups.iter().any(|group| group.targets.shares_a_queue(targets)) {
                self.flush_groups();
            }
            let (octets, messages) = self.batch.last_size;
            self.batch.groups.push(Group {
                targets: targets.clone(),
                persistent: traits.persistent,
                builder: ArenaBuilder::with_capacity(octets, messages),
                origins: Vec::new(),
            });
            self.batch.groups.len() - 1
        };
        let group = &mut self.batch.groups[at];
        if origin.is_some() {
            // Other channels, which are not in confirm mode, may publish to the same queues.
            group.origins.resize(group.builder.len(), None);
            group.origins.push(origin);
        }
        group.builder.push(&content.parts(traits, self.now));
        if group.builder.size_bytes() >= ARENA_BYTES {
            let group = self.batch.groups.swap_remove(at);
            self.hand_over(group);
        }
    }

    /// Hands every group to its queues.
    pub(super) fn flush_groups(&mut self) {
        if self.batch.groups.is_empty() {
            return;
        }
        let mut groups = std::mem::take(&mut self.batch.groups);
        for group in groups.drain(..) {
            self.hand_over(group);
        }
        self.batch.groups = groups;
    }

    fn hand_over(&mut self, group: Group) {
        // Acks that came before these publishes are seen before them.
        self.flush_settlements();
        let Group { targets, persistent, builder, origins } = group;
        self.batch.last_size = (builder.size_bytes().min(ARENA_BYTES + 4096), builder.len());
        let arena = builder.finish();
        let now = self.now;
        for cell in &targets.cells {
            let refused = cell.publish(&self.registry, &mut self.work, now, &arena, persistent);
            for index in refused {
                match origins.get(index as usize).copied().flatten() {
                    Some(origin) if !self.batch.refused.contains(&origin) => self.batch.refused.push(origin),
                    Some(_) => {}
                    None => self.partial = true,
                }
            }
        }
        if self.registry.budget.is_tight() && self.crowded.is_none() {
            let much = self.registry.budget.ready_share();
            self.crowded = targets.cells.iter().find(|cell| cell.has_ready(much)).cloned();
        }
    }

    /// Settles the confirms of this turn: nacks at once, acks when `ticket` is durable.
    pub(super) fn settle_confirms(&mut self, ticket: Ticket) {
        if self.batch.numbered.is_empty() {
            return;
        }
        if ticket > self.registry.store.durable() {
            self.registry.store.hurry();
        }
        let mut refused = std::mem::take(&mut self.batch.refused);
        refused.sort_by_key(|origin| origin.number);
        for (id, first, last) in std::mem::take(&mut self.batch.numbered) {
            let mine: Vec<u64> =
                refused.iter().filter(|origin| origin.channel == id).map(|origin| origin.number).collect();
            let Some(at) = self.channel_index(id) else { continue };
            let Mode::Confirm(confirms) = &mut self.channels[at].mode else { continue };
            for &number in &mine {
                let nack = basic::Nack { delivery_tag: DeliveryTag::new(number), multiple: false, requeue: true };
                Method::from(nack).encode_frame(id, self.output.buffer());
            }
            confirms.accepted(first, last, &mine, ticket.get());
        }
        self.emit_confirms();
    }

    /// Sends the acks that are due.
    pub(super) fn emit_confirms(&mut self) {
        let durable = self.registry.store.durable().get();
        let mut due = Vec::new();
        for channel in &mut self.channels {
            let Mode::Confirm(confirms) = &mut channel.mode else { continue };
            if confirms.is_settled() {
                continue;
            }
            let confirmed = confirms.durable(durable, &mut due);
            if confirmed > 0 {
                channel.counts[Count::Confirm] += confirmed;
                self.turn.count(Count::Confirm, confirmed);
            }
            for ack in due.drain(..) {
                Method::from(ack).encode_frame(channel.id, self.output.buffer());
            }
        }
    }

    /// Publishes what a transaction held back; true if a queue refused some of it.
    pub(super) fn publish_held(&mut self, channel: ChannelId, held: Vec<Held>) -> bool {
        // What other channels published is no affair of the transaction's.
        self.flush_groups();
        self.partial = false;
        for Held { targets, publish, properties, body, traits } in held {
            let targets = self.routes.still_there(&self.registry, &self.vhost, targets);
            let body_size = body.len() as u64;
            if let Some(at) = self.channel_index(channel) {
                let number = self.routes.exchanges.number(&self.vhost, publish.exchange.as_bytes());
                self.routes.exchanges.select(number);
                self.count_publish(at, targets.queue_count(), body_size);
            }
            let content = Content { publish, properties, body, body_size };
            let content = ContentRef::of(&content);
            if !targets.cells.is_empty() {
                self.enqueue(&targets, traits, &content, None);
            } else if let Err(cause) = self.accept_beyond(channel, &targets, traits, &content, None) {
                debug_assert!(false, "what was held is whole: {cause}");
            }
        }
        self.flush_groups();
        std::mem::take(&mut self.partial)
    }
}

impl Batch {
    /// Whether nothing waits to be handed over.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether something waits to be handed to this queue, or to any if it is not known.
    #[inline]
    pub(super) fn is_for(&self, queue: Option<QueueId>) -> bool {
        self.groups
            .iter()
            .any(|group| queue.is_none_or(|queue| group.targets.cells.iter().any(|cell| cell.id == queue)))
    }

    fn number(&mut self, origin: Origin) {
        match self.numbered.last_mut() {
            Some((channel, _, last)) if *channel == origin.channel => *last = origin.number,
            _ => match self.numbered.iter_mut().find(|(channel, ..)| *channel == origin.channel) {
                Some((_, _, last)) => *last = origin.number,
                None => self.numbered.push((origin.channel, origin.number, origin.number)),
            },
        }
    }
}
