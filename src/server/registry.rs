//! Everything that connections share: vhosts, queues by number, open connections, the store.
//!
//! Locks and their order: a vhost's `state` → one queue cell → outboxes and the timer; never backwards, never two cells,
//! never a guard across an await. Definitions are handed to the store under the vhost's lock, so that the store sees them
//! in the order in which they happened. A map's guard is dropped before anything else is locked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use leveret_protocol::ShortString;
use parking_lot::{Mutex, RwLock};
use tracing::info;

use super::outbox::{Event, Outbox};
use super::queue_cell::QueueCell;
use super::replies::Replies;
use super::timer::Timer;
use super::work::Work;
use crate::config::Config;
use crate::engine::message::Timestamp;
use crate::engine::names::NameGenerator;
use crate::engine::queue::{Queue, QueueId, QueueSettings, RecoveredLane, TimeoutOutcome};
use crate::engine::vhost::{Change, ConnectionId, Declared, QueueDeclaration, QueueRecord, Vhost};
use crate::error::AmqpError;
use crate::store::{LaneKey, Op, Recovered, Store, Ticket, Transaction, Waiter};

/// A virtual host with its lock.
#[derive(Debug)]
pub(crate) struct VhostCell {
    pub(super) name: ShortString,
    pub(super) state: RwLock<Vhost>,
    /// A copy of the state's version, to be read without the lock.
    version: AtomicU64,
}

impl VhostCell {
    fn new(state: Vhost) -> Self {
        Self { name: state.name().clone(), version: AtomicU64::new(state.version()), state: RwLock::new(state) }
    }

    /// Grows with every change that can alter a route.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(super) timer: Timer,
    vhosts: DashMap<ShortString, Arc<VhostCell>>,
    queues: DashMap<QueueId, Arc<QueueCell>>,
    connections: DashMap<ConnectionId, Arc<Outbox>>,
    next_queue_id: AtomicU64,
    next_connection_id: AtomicU64,
    pub(super) names: Mutex<NameGenerator>,
    pub(super) replies: Replies,
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
            vhosts: DashMap::new(),
            queues: DashMap::new(),
            connections: DashMap::new(),
            next_queue_id: AtomicU64::new(recovered.next_queue_id.max(1)),
            next_connection_id: AtomicU64::new(1),
            names: Mutex::new(NameGenerator::new(seed)),
            replies: Replies::default(),
            random: AtomicU64::new(seed),
            config,
        });
        registry.add_vhost(&registry.config.default_vhost.clone());
        registry.restore(recovered, now);
        registry
    }

    fn add_vhost(&self, name: &ShortString) -> Arc<VhostCell> {
        self.vhosts.entry(name.clone()).or_insert_with(|| Arc::new(VhostCell::new(Vhost::new(name.clone())))).clone()
    }

    fn restore(self: &Arc<Self>, recovered: Recovered, now: Timestamp) {
        for (vhost, exchange) in recovered.exchanges {
            let name = exchange.name.clone();
            if let Err(cause) = self.add_vhost(&vhost).state.write().restore_exchange(exchange) {
                tracing::error!(exchange = %name, %vhost, %cause, "exchange of the store is left out");
            }
        }
        let mut work = Work::default();
        for (vhost, record, lanes) in recovered.queues {
            let vhost = self.add_vhost(&vhost);
            if record.delays {
                self.restore_delay_queue(&vhost, &record, &lanes, now, &mut work);
                continue;
            }
            let settings = QueueSettings::from_arguments(&record.arguments, &record.name, &vhost.name);
            let settings = settings.unwrap_or_else(|cause| {
                tracing::error!(queue = %record.name, vhost = %vhost.name, %cause, "arguments of the store are ignored");
                QueueSettings::default()
            });
            let cell = Arc::new(QueueCell::new(&record, Queue::recovered(settings, &lanes, now), vhost.clone()));
            vhost.state.write().restore_queue(record);
            self.queues.insert(cell.id, cell.clone());
            // Arms the timer of a queue that expires; brings back the head of one whose messages do.
            cell.turn(self, &mut work, |queue, fx| queue.recall(&lanes, fx));
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
    }

    /// Forgets a queue.
    pub(super) fn take_queue(&self, id: QueueId) -> Option<Arc<QueueCell>> {
        self.queues.remove(&id).map(|(_, cell)| cell)
    }

    /// A number for exchanges that choose at random. Nothing that must not be guessed.
    pub(super) fn random(&self) -> u64 {
        self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }

    /// A vhost by name.
    pub(super) fn vhost(&self, name: &ShortString) -> Option<Arc<VhostCell>> {
        self.vhosts.get(name).map(|vhost| vhost.value().clone())
    }

    /// A queue by number.
    pub(super) fn queue(&self, id: QueueId) -> Option<Arc<QueueCell>> {
        self.queues.get(&id).map(|cell| cell.value().clone())
    }

    /// Numbers a connection and remembers how to reach it.
    pub(super) fn add_connection(&self, outbox: &Arc<Outbox>) -> ConnectionId {
        let id = ConnectionId::new(self.next_connection_id.fetch_add(1, Ordering::Relaxed));
        self.connections.insert(id, outbox.clone());
        id
    }

    /// Forgets a connection.
    pub(super) fn remove_connection(&self, id: ConnectionId) {
        self.connections.remove(&id);
    }

    /// How many connections are open.
    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Tells every connection to close.
    pub(super) fn close_connections(&self, reason: &AmqpError) {
        let outboxes: Vec<_> = self.connections.iter().map(|entry| entry.value().clone()).collect();
        for outbox in outboxes {
            outbox.push(Event::Close(reason.clone()));
        }
    }

    /// Changes a vhost's definitions and hands what is durable to the store, under the vhost's lock.
    pub(super) fn define<R>(
        &self,
        vhost: &VhostCell,
        waiter: &Arc<dyn Waiter>,
        change: impl FnOnce(&mut Vhost) -> Result<(R, Vec<Change>), AmqpError>,
    ) -> Result<(R, Ticket), AmqpError> {
        let mut state = vhost.state.write();
        let (result, changes) = change(&mut state)?;
        vhost.version.store(state.version(), Ordering::Release);
        self.drop_orphans(state.take_orphans());
        let ticket = self.submit_changes(vhost, changes, Some(waiter));
        Ok((result, ticket))
    }

    /// Call with the vhost's lock held.
    fn submit_changes(&self, vhost: &VhostCell, changes: Vec<Change>, waiter: Option<&Arc<dyn Waiter>>) -> Ticket {
        if changes.is_empty() {
            return Ticket::NONE;
        }
        let ops = changes.into_iter().map(|change| Op::Define { vhost: vhost.name.clone(), change }).collect();
        self.store.submit(Transaction { ops, waiter: waiter.cloned() })
    }

    /// queue.declare: the queue, which exists now, and the ticket to wait for before saying so.
    pub(super) fn declare_queue(
        &self,
        vhost: &Arc<VhostCell>,
        declaration: QueueDeclaration,
        connection: ConnectionId,
        now: Timestamp,
        waiter: &Arc<dyn Waiter>,
    ) -> Result<(Arc<QueueCell>, Ticket), AmqpError> {
        let name = declaration.name.clone();
        let missing = || AmqpError::QueueNotFound { queue: name.clone(), vhost: vhost.name.clone() };
        self.define(vhost, waiter, |state| {
            let (declared, changes) = state.declare_queue(declaration, connection, || self.new_queue_id())?;
            let cell = match declared {
                Declared::Existed(id) => self.queue(id).ok_or_else(missing)?,
                Declared::Created(id, settings) => {
                    let record = state.queue_by_id(id).ok_or_else(missing)?;
                    let queue = Queue::new(*settings, record.durable, now);
                    let cell = Arc::new(QueueCell::new(record, queue, vhost.clone()));
                    self.queues.insert(id, cell.clone());
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
        let ready = cell.delete(allowed)?;
        self.queues.remove(&cell.id);
        let changes = state.remove_queue(cell.id).map(|(_, changes)| changes).unwrap_or_default();
        vhost.version.store(state.version(), Ordering::Release);
        self.drop_orphans(state.take_orphans());
        Ok((ready, self.submit_changes(vhost, changes, waiter)))
    }

    /// A queue's deadline has come.
    pub(super) fn queue_timeout(self: &Arc<Self>, id: QueueId, now: Timestamp) {
        let Some(cell) = self.queue(id) else { return };
        cell.disarm();
        let mut work = Work::default();
        let outcome = cell.turn(self, &mut work, |queue, fx| queue.handle_timeout(now, fx));
        self.finish(&mut work, None);
        if outcome == TimeoutOutcome::QueueExpired {
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
        let cells: Vec<_> = self.queues.iter().map(|entry| entry.value().clone()).collect();
        let mut ops = Vec::new();
        for cell in cells {
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
