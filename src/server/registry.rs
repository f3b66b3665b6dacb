//! Everything that connections share: vhosts, queues by number, open connections, the store.
//!
//! Locks and their order: the directory → a vhost's `state` → one queue cell → outboxes and the timer; never backwards, never two cells,
//! never a guard across an await. Definitions are handed to the store under the vhost's lock, so that the store sees them
//! in the order in which they happened. A map's guard is dropped before anything else is locked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use leveret_protocol::ShortString;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tracing::info;

use super::alarms::Alarms;
use super::budget::Budget;
use super::connection::facts::ConnectionFacts;
use super::directory::{UserQuotas, first_records};
use super::logins::Logins;
use super::new_vhost;
use super::outbox::{Event, Outbox};
use super::queue_cell::QueueCell;
use super::queue_order::QueueOrder;
use super::quota::Quota;
use super::replies::Replies;
use super::statistics::{Event as Happened, ExchangeStatistics, Statistics, VhostTotals};
use super::timer::Timer;
use super::waiting_room::WaitingRoom;
use super::work::Work;
use crate::config::Config;
use crate::engine::directory::{Access, Directory, DirectoryChange, Record};
use crate::engine::message::Timestamp;
use crate::engine::names::NameGenerator;
use crate::engine::queue::{Queue, QueueId, QueueSettings, QueueType, RecoveredLane, TimeoutOutcome};
use crate::engine::stream::RecoveredLog;
use crate::engine::vhost::{Change, ConnectionId, Declared, QueueDeclaration, QueueRecord, Vhost};
use crate::error::AmqpError;
use crate::store::{LaneKey, Op, Recovered, Store, Ticket, Transaction, Waiter};

/// What users may do in a vhost, of those who asked since this version of the rights there.
pub(super) type KnownRights = (u64, HashMap<ShortString, Arc<Access>>);

/// A virtual host with its lock.
#[derive(Debug)]
pub(crate) struct VhostCell {
    pub(super) name: ShortString,
    pub(super) state: RwLock<Vhost>,
    pub(super) connections: Arc<Quota>,
    /// A copy of the state's version, to be read without the lock.
    version: AtomicU64,
    rights_version: AtomicU64,
    /// A leaf.
    pub(super) known_rights: Mutex<KnownRights>,
    /// What is published and delivered is copied to the trace exchange.
    traced: AtomicBool,
    /// What its connections and queues did.
    pub(super) statistics: Mutex<VhostTotals>,
    exchange_statistics: DashMap<ShortString, Arc<ExchangeStatistics>>,
    /// Queues with messages, as of the last look at their figures.
    pub(super) occupied: Mutex<HashSet<QueueId>>,
    /// The ticket of the last change of what is durable.
    changed_under: AtomicU64,
}

impl VhostCell {
    fn new(state: Vhost) -> Self {
        Self {
            name: state.name().clone(),
            connections: Quota::new(None),
            version: AtomicU64::new(state.version()),
            rights_version: AtomicU64::new(0),
            known_rights: Mutex::default(),
            changed_under: AtomicU64::new(0),
            traced: AtomicBool::new(false),
            statistics: Mutex::default(),
            exchange_statistics: DashMap::new(),
            occupied: Mutex::default(),
            state: RwLock::new(state),
        }
    }

    /// Whether what is published and delivered is copied to the trace exchange.
    #[inline]
    pub(super) fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Relaxed)
    }

    /// The figures of an exchange that somebody publishes to.
    pub(super) fn exchange_statistics(&self, exchange: &ShortString) -> Arc<ExchangeStatistics> {
        self.exchange_statistics.entry(exchange.clone()).or_default().clone()
    }

    /// The figures of an exchange, if it has any.
    pub(super) fn known_exchange_statistics(&self, exchange: &ShortString) -> Option<Arc<ExchangeStatistics>> {
        self.exchange_statistics.get(exchange).map(|figures| figures.value().clone())
    }

    /// Drops the figures of exchanges that are gone.
    pub(super) fn forget_lost_exchanges(&self) {
        if self.exchange_statistics.is_empty() {
            return;
        }
        let names: Vec<_> = self.exchange_statistics.iter().map(|entry| entry.key().clone()).collect();
        let gone: Vec<_> = {
            let state = self.state.read();
            names.into_iter().filter(|name| !name.is_empty() && state.check_exchange(name).is_err()).collect()
        };
        for name in gone {
            self.exchange_statistics.remove(&name);
        }
    }

    /// Grows with every change that can alter a route, or whether a user may publish.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Grows with every change of somebody's rights here.
    pub(super) fn rights_version(&self) -> u64 {
        self.rights_version.load(Ordering::Acquire)
    }

    /// Somebody's rights changed: connections look theirs up anew.
    pub(super) fn forget_rights(&self) {
        self.rights_version.fetch_add(1, Ordering::AcqRel);
        self.change(Vhost::forget_routes);
    }

    /// Changes the state in a way that needs no store.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Vhost) -> R) -> R {
        let mut state = self.state.write();
        let result = change(&mut state);
        self.version.store(state.version(), Ordering::Release);
        result
    }
}

/// An open connection as others see it.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionEntry {
    pub(super) outbox: Arc<Outbox>,
    pub(super) user: ShortString,
    pub(super) vhost: Arc<VhostCell>,
    pub(super) facts: Arc<ConnectionFacts>,
}

/// Waits for the store.
#[derive(Debug, Default)]
struct Barrier(Notify);

impl Waiter for Barrier {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Registry {
    /// The configuration at the start.
    pub(crate) config: Config,
    /// The configuration now: what a reload or an operator changed is different.
    live: RwLock<Arc<Config>>,
    /// Connections that have not logged in.
    pub(super) waiting_room: Arc<WaitingRoom>,
    pub(crate) store: Arc<dyn Store>,
    pub(super) timer: Timer,
    pub(super) directory: RwLock<Directory>,
    pub(super) users: DashMap<String, Arc<UserQuotas>>,
    pub(super) alarms: Alarms,
    pub(super) budget: Budget,
    /// Open connections, and open channels of all of them.
    pub(super) connection_quota: Arc<Quota>,
    pub(super) channel_quota: Arc<Quota>,
    vhosts: DashMap<ShortString, Arc<VhostCell>>,
    queues: DashMap<QueueId, Arc<QueueCell>>,
    pub(super) queue_order: QueueOrder,
    pub(super) connections: DashMap<ConnectionId, ConnectionEntry>,
    next_queue_id: AtomicU64,
    next_connection_id: AtomicU64,
    pub(super) names: Mutex<NameGenerator>,
    pub(super) replies: Replies,
    pub(crate) statistics: Statistics,
    /// No new connections, no deliveries: the node is about to be stopped.
    draining: AtomicBool,
    pub(super) logins: Logins,
    random: AtomicU64,
}

impl Registry {
    /// A registry with what the store found.
    pub(super) fn new(
        config: Config,
        store: Arc<dyn Store>,
        recovered: Recovered,
        seed: u64,
        now: Timestamp,
    ) -> Arc<Self> {
        let registry = Arc::new(Self {
            store,
            timer: Timer::default(),
            directory: RwLock::default(),
            users: DashMap::new(),
            alarms: Alarms::new(config.resource_limits),
            budget: Budget::new(config.message_memory_bytes),
            connection_quota: Quota::new(config.node_limits.connections.map(u64::from)),
            channel_quota: Quota::new(config.node_limits.channels.map(u64::from)),
            vhosts: DashMap::new(),
            queues: DashMap::new(),
            queue_order: QueueOrder::default(),
            connections: DashMap::new(),
            next_queue_id: AtomicU64::new(recovered.next_queue_id.max(1)),
            next_connection_id: AtomicU64::new(1),
            names: Mutex::new(NameGenerator::new(seed)),
            replies: Replies::default(),
            statistics: Statistics::default(),
            draining: AtomicBool::new(false),
            logins: Logins::default(),
            random: AtomicU64::new(seed),
            live: RwLock::new(Arc::new(config.clone())),
            waiting_room: WaitingRoom::new(config.handshake_connections_max),
            config,
        });
        registry.restore(recovered, now);
        registry
    }

    /// The configuration as it is now.
    pub(crate) fn live(&self) -> Arc<Config> {
        self.live.read().clone()
    }

    /// Changes the configuration of the running broker; what follows from it counts at once.
    pub(super) fn change_live(&self, change: impl FnOnce(&mut Config)) {
        let live = {
            let mut live = self.live.write();
            let mut new = (**live).clone();
            change(&mut new);
            *live = Arc::new(new);
            live.clone()
        };
        self.connection_quota.limit(live.node_limits.connections.map(u64::from));
        self.channel_quota.limit(live.node_limits.channels.map(u64::from));
        self.waiting_room.resize(live.handshake_connections_max);
        self.limit_resources(live.resource_limits);
    }

    /// Puts back vhosts, users, rights and policies; a broker without any starts with the configured ones.
    fn restore_directory(self: &Arc<Self>, records: Vec<Record>) {
        let mut directory = self.directory.write();
        for record in records {
            directory.restore(record);
        }
        if directory.is_blank() {
            let mut records = first_records(&self.config);
            new_vhost::complete_first(&self.config, &mut records);
            let ops = records.iter().map(|record| Op::Directory(DirectoryChange::Put(record.clone()))).collect();
            for record in records {
                directory.restore(record);
            }
            self.store.submit(Transaction { ops, waiter: None });
        }
        let directory = &*directory;
        directory.vhosts().for_each(|vhost| self.apply_record(directory, &Record::Vhost(vhost.clone())));
        directory.users().for_each(|user| self.apply_record(directory, &Record::User(user.clone())));
        directory.vhosts().for_each(|vhost| self.apply_policies(directory, &vhost.name));
    }

    pub(super) fn add_vhost(&self, name: &ShortString) -> Arc<VhostCell> {
        self.vhosts.entry(name.clone()).or_insert_with(|| Arc::new(VhostCell::new(Vhost::new(name.clone())))).clone()
    }

    fn restore(self: &Arc<Self>, recovered: Recovered, now: Timestamp) {
        self.restore_directory(recovered.directory);
        for (vhost, exchange) in recovered.exchanges {
            let name = exchange.name.clone();
            if let Err(cause) = self.add_vhost(&vhost).state.write().restore_exchange(exchange) {
                tracing::error!(exchange = %name, %vhost, %cause, "exchange of the store is left out");
            }
        }
        let mut work = Work::default();
        let mut logs = recovered.logs;
        for (vhost, record, lanes) in recovered.queues {
            let vhost = self.add_vhost(&vhost);
            if record.delays {
                self.restore_delay_queue(&vhost, &record, &lanes, now, &mut work);
                continue;
            }
            let settings = vhost.state.read().settings_of(&record);
            let settings = settings.unwrap_or_else(|cause| {
                tracing::error!(queue = %record.name, vhost = %vhost.name, %cause, "arguments of the store are ignored");
                QueueSettings::default()
            });
            let cell = if settings.queue_type == QueueType::Stream {
                let log = logs.remove(&record.id).unwrap_or_default();
                Arc::new(QueueCell::with_stream(&record, settings.share(), &log, vhost.clone()))
            } else {
                Arc::new(QueueCell::new(&record, Queue::recovered(settings.share(), &lanes, now), vhost.clone()))
            };
            vhost.state.write().restore_queue(record);
            self.add_queue(cell.clone());
            if lanes.iter().any(|lane| lane.count > 0) {
                self.statistics.unknown_ages.lock().push(cell.id);
            }
            // Arms the timer of a queue that expires; brings back the head of one whose messages do.
            cell.turn(self, &mut work, |queue, fx| queue.recall(&lanes, fx));
            cell.turn_stream(self, &mut work, |stream, fx| stream.handle_timeout(now, fx));
        }
        for (vhost, binding) in recovered.bindings {
            self.add_vhost(&vhost).state.write().restore_binding(binding);
        }
        self.finish(&mut work, None);
    }

    /// Puts back the queue of a delayed-message exchange, and has its messages brought back: their time may come.
    fn restore_delay_queue(
        &self,
        vhost: &Arc<VhostCell>,
        record: &QueueRecord,
        lanes: &[RecoveredLane],
        now: Timestamp,
        work: &mut Work,
    ) {
        if !vhost.state.write().restore_delay_queue(record) {
            tracing::error!(exchange = %record.name, vhost = %vhost.name, "delayed messages without their exchange");
        }
        let cell = self.add_delay_queue(vhost, record, lanes, now);
        cell.turn(self, work, Queue::recall_all);
    }

    /// The number of a queue to be made.
    pub(super) fn new_queue_id(&self) -> QueueId {
        QueueId::new(self.next_queue_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a queue known by its number.
    pub(super) fn add_queue(&self, cell: Arc<QueueCell>) {
        self.queues.insert(cell.id, cell);
        self.queue_order.changed();
    }

    /// Forgets a queue.
    pub(super) fn take_queue(&self, id: QueueId) -> Option<Arc<QueueCell>> {
        let taken = self.queues.remove(&id).map(|(_, cell)| cell);
        self.queue_order.changed();
        taken
    }

    /// A number for exchanges that choose at random. Nothing that must not be guessed.
    pub(super) fn random(&self) -> u64 {
        self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }

    /// A vhost by name.
    pub(super) fn vhost(&self, name: &ShortString) -> Option<Arc<VhostCell>> {
        self.vhosts.get(name).map(|vhost| vhost.value().clone())
    }

    /// Every vhost.
    pub(super) fn vhost_cells(&self) -> Vec<Arc<VhostCell>> {
        self.vhosts.iter().map(|vhost| vhost.value().clone()).collect()
    }

    /// Takes a vhost out of the map.
    pub(super) fn remove_vhost(&self, name: &ShortString) -> Option<Arc<VhostCell>> {
        self.vhosts.remove(name).map(|(_, vhost)| vhost)
    }

    /// Every queue, in the order of their numbers.
    pub(super) fn all_queues(&self) -> Vec<Arc<QueueCell>> {
        let mut cells: Vec<_> = self.queues.iter().map(|entry| entry.value().clone()).collect();
        cells.sort_unstable_by_key(|cell| cell.id);
        cells
    }

    /// A queue by number.
    pub(super) fn queue(&self, id: QueueId) -> Option<Arc<QueueCell>> {
        self.queues.get(&id).map(|cell| cell.value().clone())
    }

    /// A number for a connection.
    pub(super) fn new_connection_id(&self) -> ConnectionId {
        ConnectionId::new(self.next_connection_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Remembers what a connection is and how to reach it.
    pub(super) fn add_connection(&self, entry: ConnectionEntry) {
        self.statistics.note(Happened::ConnectionCreated, 1);
        self.connections.insert(entry.facts.id, entry);
    }

    /// The open connections, oldest first.
    pub(super) fn connections(&self) -> Vec<ConnectionEntry> {
        let mut all: Vec<_> = self.connections.iter().map(|entry| entry.value().clone()).collect();
        all.sort_by_key(|connection| connection.facts.id);
        all
    }

    /// An open connection by number.
    pub(super) fn connection(&self, id: ConnectionId) -> Option<ConnectionEntry> {
        self.connections.get(&id).map(|entry| entry.value().clone())
    }

    /// How many queues there are.
    pub(super) fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// The queues in no order.
    pub(super) fn queues(&self) -> Vec<Arc<QueueCell>> {
        self.queues.iter().map(|entry| entry.value().clone()).collect()
    }

    /// Forgets a connection.
    pub(super) fn remove_connection(&self, id: ConnectionId) {
        if self.connections.remove(&id).is_some() {
            self.statistics.note(Happened::ConnectionClosed, 1);
        }
    }

    /// How many connections are open.
    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    fn outboxes(&self) -> Vec<Arc<Outbox>> {
        self.connections.iter().map(|entry| entry.value().outbox.clone()).collect()
    }

    /// Whether the node takes no new connections and delivers nothing.
    #[inline]
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Holds back new connections and deliveries, or lets them go on.
    pub(super) fn set_draining(self: &Arc<Self>, draining: bool, now: Timestamp) {
        if self.draining.swap(draining, Ordering::Relaxed) == draining {
            return;
        }
        let mut work = Work::default();
        for cell in self.all_queues() {
            // Streams go on: nobody has to ack what they deliver.
            cell.turn(self, &mut work, |queue, fx| {
                if queue.consumer_count() > 0 {
                    queue.resume(now, fx);
                }
            });
            self.finish(&mut work, None);
        }
    }

    /// Tells every connection to close.
    pub(super) fn close_connections(&self, reason: &AmqpError) {
        for outbox in self.outboxes() {
            outbox.push(Event::Close(reason.clone()));
        }
    }

    /// Refuses one exchange more than the configured limit. Exchanges declared at the same moment may both get through.
    pub(super) fn check_exchange_limit(&self, vhost: &VhostCell, exchange: &ShortString) -> Result<(), AmqpError> {
        let Some(max) = self.live().exchange_limit else { return Ok(()) };
        if vhost.state.read().check_exchange(exchange).is_ok() {
            return Ok(());
        }
        let count: usize = self.vhost_cells().iter().map(|cell| cell.state.read().exchanges().count()).sum();
        if (count as u64) < max {
            return Ok(());
        }
        Err(AmqpError::BadArgument(format!(
            "cannot declare exchange '{exchange}' in vhost '{}': exchange limit of {max} is reached",
            vhost.name
        )))
    }

    /// Has every connection look around: something that it may wait for has come.
    pub(super) fn wake_connections(&self) {
        for outbox in self.outboxes() {
            outbox.wake();
        }
    }

    /// Switches copies of a vhost's messages to its trace exchange on or off, until a restart. False without such a vhost.
    pub(crate) fn set_tracing(&self, vhost: &ShortString, on: bool) -> bool {
        let Some(vhost) = self.vhost(vhost) else { return false };
        info!(vhost = %vhost.name, on, "tracing switched");
        vhost.traced.store(on, Ordering::Relaxed);
        true
    }

    /// Whether a vhost's messages are copied to its trace exchange.
    pub(super) fn is_tracing(&self, vhost: &ShortString) -> bool {
        self.vhost(vhost).is_some_and(|vhost| vhost.traced.load(Ordering::Relaxed))
    }

    /// Changes a vhost's definitions and hands what is durable to the store, under the vhost's lock.
    pub(super) fn define<R>(
        &self,
        vhost: &VhostCell,
        waiter: &Arc<dyn Waiter>,
        change: impl FnOnce(&mut Vhost) -> Result<(R, Vec<Change>), AmqpError>,
    ) -> Result<(R, Ticket), AmqpError> {
        let mut state = vhost.state.write();
        if state.is_ended() {
            return Err(AmqpError::VhostNotFound(vhost.name.clone()));
        }
        let (result, changes) = change(&mut state)?;
        vhost.version.store(state.version(), Ordering::Release);
        self.drop_orphans(state.take_orphans());
        let ticket = self.submit_changes(vhost, changes, Some(waiter));
        Ok((result, ticket))
    }

    /// Completes when everything submitted before is on disk; never if the store has failed.
    pub(crate) async fn flushed(&self) {
        let barrier = Arc::new(Barrier::default());
        let ticket = self.store.submit(Transaction { ops: Vec::new(), waiter: Some(barrier.clone()) });
        while self.store.durable() < ticket {
            barrier.0.notified().await;
        }
    }

    /// Call with the vhost's lock held.
    fn submit_changes(&self, vhost: &VhostCell, changes: Vec<Change>, waiter: Option<&Arc<dyn Waiter>>) -> Ticket {
        // What is there already may not be durable yet: whoever declares it again is promised that it is.
        if changes.is_empty() && vhost.changed_under.load(Ordering::Acquire) <= self.store.durable().get() {
            return Ticket::NONE;
        }
        let ops = changes.into_iter().map(|change| Op::Define { vhost: vhost.name.clone(), change }).collect();
        let ticket = self.store.submit(Transaction { ops, waiter: waiter.cloned() });
        vhost.changed_under.fetch_max(ticket.get(), Ordering::AcqRel);
        ticket
    }

    /// queue.declare: the queue, which exists now, and the ticket to wait for before saying so.
    pub(super) fn declare_queue(
        &self,
        vhost: &Arc<VhostCell>,
        declaration: QueueDeclaration,
        connection: ConnectionId,
        access: &Access,
        now: Timestamp,
        waiter: &Arc<dyn Waiter>,
    ) -> Result<(Arc<QueueCell>, Ticket), AmqpError> {
        let name = declaration.name.clone();
        let missing = || AmqpError::QueueNotFound { queue: name.clone(), vhost: vhost.name.clone() };
        self.define(vhost, waiter, |state| {
            let next_id = || match self.live().queue_limit {
                Some(max) if self.queues.len() as u64 >= max => Err(AmqpError::BadArgument(format!(
                    "cannot declare queue '{name}': queue limit in cluster ({max}) is reached"
                ))),
                _ => Ok(self.new_queue_id()),
            };
            let (declared, changes) = state.declare_queue(declaration, connection, access, next_id)?;
            self.statistics.note(Happened::QueueDeclared, 1);
            let cell = match declared {
                Declared::Existed(id) => self.queue(id).ok_or_else(missing)?,
                Declared::Created(id, settings) => {
                    let record = state.queue_by_id(id).ok_or_else(missing)?;
                    let cell = Arc::new(if settings.queue_type == QueueType::Stream {
                        QueueCell::with_stream(record, settings.share(), &RecoveredLog::default(), vhost.clone())
                    } else {
                        QueueCell::new(record, Queue::new(settings.share(), record.durable, now), vhost.clone())
                    });
                    self.add_queue(cell.clone());
                    self.statistics.note(Happened::QueueCreated, 1);
                    // Arms the timer of a queue that expires when unused.
                    cell.turn(self, &mut Work::default(), |_, _| ());
                    cell
                }
            };
            Ok((cell, changes))
        })
    }

    /// Deletes a queue if `allowed` says so: consumers are told, bindings go. Returns how many messages were ready.
    pub(super) fn delete_queue(
        &self,
        cell: &Arc<QueueCell>,
        waiter: Option<&Arc<dyn Waiter>>,
        allowed: impl FnOnce(&Queue) -> Result<(), AmqpError>,
    ) -> Result<(u64, Ticket), AmqpError> {
        let vhost = &cell.vhost;
        let mut state = vhost.state.write();
        let ready = cell.delete(self, allowed)?;
        if self.take_queue(cell.id).is_some() {
            self.statistics.note(Happened::QueueDeleted, 1);
        }
        let changes = state.remove_queue(cell.id).map(|(_, changes)| changes).unwrap_or_default();
        vhost.version.store(state.version(), Ordering::Release);
        self.drop_orphans(state.take_orphans());
        Ok((ready, self.submit_changes(vhost, changes, waiter)))
    }

    /// Ends a queue that goes with its vhost, whatever is in it.
    pub(super) fn drop_queue(&self, id: QueueId) {
        if let Some(cell) = self.take_queue(id) {
            let deleted = cell.delete(self, |_| Ok::<(), std::convert::Infallible>(()));
            debug_assert!(deleted.is_ok(), "nothing is asked of the queue");
            self.statistics.note(Happened::QueueDeleted, 1);
        }
    }

    /// A queue's deadline has come.
    pub(super) fn queue_timeout(self: &Arc<Self>, id: QueueId, now: Timestamp) {
        let Some(cell) = self.queue(id) else { return };
        cell.disarm();
        let mut work = Work::default();
        let outcome = cell.turn(self, &mut work, |queue, fx| queue.handle_timeout(now, fx));
        if outcome.is_none() {
            cell.turn_stream(self, &mut work, |stream, fx| stream.handle_timeout(now, fx));
        }
        self.finish(&mut work, None);
        if outcome == Some(TimeoutOutcome::QueueExpired) {
            let unused = |queue: &Queue| {
                // Somebody may have used it since the timeout was handled.
                if queue.is_expired(now) { Ok(()) } else { Err(AmqpError::Internal) }
            };
            if self.delete_queue(&cell, None, unused).is_ok() {
                info!(queue = %cell.name, vhost = %cell.vhost.name, "queue expired");
            }
        }
    }

    /// Notes for the next start which messages were delivered, and closes the store. Connections must be gone.
    pub(super) fn close(&self) {
        let mut ops = Vec::new();
        for cell in self.all_queues() {
            cell.read(|queue| {
                if queue.is_durable() {
                    let marks = queue.delivered_marks();
                    ops.extend(marks.map(|(lane, below)| Op::Delivered { lane: LaneKey::new(cell.id, lane), below }));
                }
            });
        }
        if !ops.is_empty() {
            self.store.submit(Transaction { ops, waiter: None });
        }
        self.store.close();
    }
}
