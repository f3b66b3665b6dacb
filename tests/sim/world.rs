//! The simulated world: a broker with its real connection tasks, queues and store, clients, a disk, a clock. One generator
//! decides who takes the next step, so that one seed gives one history.

use std::collections::VecDeque;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use leveret_protocol::{ShortString, basic, channel};

use super::acts::Stage;
use super::client::{Answer, Channel, Client, Phase, Role, short};
use super::disk::Disk;
use super::invariants::{Book, Counts};
use super::late::Late;
use super::log::Complaints;
use super::plan::Plan;
use super::queues::{self, KINDS, PICK};
use super::random::Random;
use super::wire::Flag;
use crate::config::Config;
use crate::engine::exchange::Destination;
use crate::engine::message::Timestamp;
use crate::engine::vhost::ConnectionId;
use crate::server::clock::simulated;
use crate::server::connection::{self, Arrival, Ends};
use crate::server::registry::Registry;
use crate::server::timer;
use crate::store::stepped::{Step, Stepped};

/// Lines of the history that a failure shows.
const SHOWN_LINES: usize = 60;
/// How long a message of a queue may live that is brief.
const BRIEF_MS: u64 = 3000;
/// redb's cache: small, so that it is read from the disk again.
const CACHE_BYTES: usize = 1024 * 1024;

/// A connection's task in the broker.
pub(super) struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    flag: Arc<Flag>,
}

/// A broker that runs.
pub(super) struct Broker {
    pub(super) registry: Arc<Registry>,
    pub(super) store: Stepped,
    pub(super) late: Arc<Late>,
    /// By client.
    pub(super) tasks: Vec<Option<Task>>,
}

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    loud: bool,
}

impl Trace {
    fn octets(&mut self, octets: &[u8]) {
        for octet in octets {
            self.hash = (self.hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(super) fn note(&mut self, line: String) {
        self.octets(line.as_bytes());
        if self.loud {
            eprintln!("{line}");
        }
        if self.lines.len() == SHOWN_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// How a simulation ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) hash: u64,
    pub(super) counts: Counts,
    /// The rule that was broken, and what came before.
    pub(super) violation: Option<String>,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) plan: Plan,
    pub(super) book: Book,
    pub(super) clients: Vec<Client>,
    pub(super) broker: Option<Broker>,
    pub(super) disk: Disk,
    pub(super) trace: Trace,
    complaints: Complaints,
    runtime: tokio::runtime::Runtime,
    now: Timestamp,
    /// When the broker last did something for a client.
    last_act: Timestamp,
    steps: u64,
}

/// Runs the simulation of a seed, at most this many steps of it.
pub(super) fn run(seed: u64, steps_max: u64, loud: bool) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O");
    let handle = runtime.handle().clone();
    let _entered = handle.enter();
    let complaints = Complaints::default();
    let _listening = tracing::subscriber::set_default(complaints.clone());
    let mut random = Random::new(seed);
    let mut plan = Plan::new(&mut random);
    plan.steps = plan.steps.min(steps_max);
    let mut world = World {
        clients: (0..plan.clients).map(Client::new).collect(),
        plan,
        random,
        book: Book::default(),
        broker: None,
        disk: Disk::default(),
        trace: Trace { loud, ..Trace::default() },
        complaints,
        runtime,
        now: Timestamp::from_millis(1_700_000_000_000),
        last_act: Timestamp::from_millis(0),
        steps: 0,
    };
    world.trace.note(format!("{:?}", world.plan));
    world.play();
    let violation = world.book.violation().map(|what| {
        let lines: Vec<_> = world.trace.lines.iter().cloned().collect();
        format!("{}\n--- step {}: {what}", lines.join("\n"), world.steps)
    });
    Ended { hash: world.trace.hash, counts: world.book.counts, violation }
}

impl World {
    fn is_broken(&self) -> bool {
        self.book.violation().is_some()
    }

    fn play(&mut self) {
        self.start();
        self.set_up();
        self.calm();
        while self.steps < self.plan.steps && !self.is_broken() {
            self.steps += 1;
            self.step();
            self.listen();
        }
        if !self.is_broken() {
            self.finish();
        }
        self.kill();
    }

    /// What the broker logs as unusual is a failure.
    fn listen(&mut self) {
        if let Some(complaint) = self.complaints.take() {
            self.book.fail(|| format!("the broker logs {complaint}"));
        }
    }

    /// Starts a broker on the disk.
    pub(super) fn start(&mut self) {
        simulated::set(self.now);
        let opened = Stepped::open(self.disk.file(0), self.disk.file(1), CACHE_BYTES);
        let (store, recovered) = match opened {
            Ok(opened) => opened,
            Err(cause) => return self.book.fail(|| format!("the broker does not start: {cause}")),
        };
        let late = Arc::new(Late::new(store.store(), self.random.fork(), self.plan.late_one_in));
        let registry = Registry::new(Config::for_tests(), late.clone(), recovered, self.random.next(), self.now);
        let tasks = self.clients.iter().map(|_| None).collect();
        self.broker = Some(Broker { registry, store, late, tasks });
    }

    /// Has the first client declare everything before the others come: after a restart what is not durable is missing.
    /// What is durable is there already, and nobody has to wait for the disk then.
    pub(super) fn set_up(&mut self) {
        self.connect(0, 0);
        let uid = self.book.opened();
        let mut setting_up = Channel::new(uid, Role::Publish);
        let client = &mut self.clients[0];
        client.send(1, channel::Open::default());
        setting_up.expect("channel.open-ok", Answer::Nothing);
        for exchange in queues::exchanges() {
            client.send(1, exchange);
            setting_up.expect("exchange.declare-ok", Answer::Nothing);
        }
        for kind in &KINDS {
            client.send(1, kind.declaration());
            setting_up.expect("queue.declare-ok", Answer::Nothing);
        }
        for binding in queues::bindings(&self.plan.fanned) {
            client.send(1, binding);
            setting_up.expect("queue.bind-ok", Answer::Nothing);
        }
        client.send(1, queues::relay());
        setting_up.expect("exchange.bind-ok", Answer::Nothing);
        client.channels.insert(1, setting_up);
        client.wire.arrive(usize::MAX);
        self.poll(0);
        self.read(0, usize::MAX);
    }

    /// A client connects.
    pub(super) fn connect(&mut self, at: usize, heartbeat: u16) {
        let Some(broker) = &mut self.broker else { return };
        let client = &mut self.clients[at];
        client.connect(heartbeat);
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(1024 + at).expect("few clients")));
        let ends = Ends { peer, local: SocketAddr::from((Ipv4Addr::LOCALHOST, 5672)), via: None };
        let arrival = Arrival::new(ends, &broker.registry);
        let future = Box::pin(connection::serve(client.wire.socket(), arrival, broker.registry.clone()));
        broker.tasks[at] = Some(Task { future, flag: Flag::raised() });
        self.trace.note(format!("client {at} connects"));
    }

    /// The task of a client's connection does what it can.
    pub(super) fn poll(&mut self, at: usize) {
        let Some(task) = self.broker.as_mut().and_then(|broker| broker.tasks[at].as_mut()) else { return };
        self.last_act = self.now;
        task.flag.lower();
        let waker = Waker::from(task.flag.clone());
        let over = task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        self.trace.note(format!("  broker works for client {at}{}", if over { ", for the last time" } else { "" }));
        if over {
            self.forget_task(at);
            if self.clients[at].phase != Phase::Away && !self.book.stopping {
                // A heartbeat that did not come, or the client's own doing. Its deliveries are free from now on.
                self.clients[at].gone(&mut self.book);
            }
            if !self.book.stopping {
                self.clients[at].forgotten(&mut self.book);
            }
        }
    }

    fn forget_task(&mut self, at: usize) {
        if let Some(broker) = &mut self.broker {
            broker.tasks[at] = None;
        }
    }

    fn wants_poll(&self, at: usize) -> bool {
        let task = self.broker.as_ref().and_then(|broker| broker.tasks[at].as_ref());
        task.is_some_and(|task| task.flag.is_raised())
    }

    /// One step of somebody.
    fn step(&mut self) {
        if self.random.once_in(self.plan.fault_one_in) {
            return self.fault();
        }
        let at = self.random.index(self.clients.len());
        let weights = [
            if self.wants_poll(at) { 40 } else { 0 },
            if self.clients[at].wire.travelling() > 0 { 40 } else { 0 },
            if self.clients[at].wire.readable() > 0 && !self.clients[at].stalled { 40 } else { 0 },
            30,
            self.plan.writer_speed,
            8,
            2,
            2,
            self.plan.spills,
        ];
        match self.random.weighted(&weights) {
            Some(0) => self.poll(at),
            Some(1) => {
                let all = self.clients[at].wire.travelling();
                let count = if self.random.once_in(3) { 1 + self.random.index(all) } else { all };
                self.clients[at].wire.arrive(count);
                self.trace.note(format!("  {count} octets of client {at} arrive"));
            }
            Some(2) => {
                let all = self.clients[at].wire.readable();
                let count = if self.random.once_in(3) { 1 + self.random.index(all) } else { all };
                self.read(at, count);
            }
            Some(3) => self.act(at),
            Some(4) => {
                self.write();
            }
            Some(5) => {
                if self.broker.as_mut().is_some_and(|broker| broker.store.answer()) {
                    self.trace.note("  messages are read from disk".to_owned());
                }
            }
            Some(6) => {
                let millis = if self.random.once_in(5) { 4000 } else { 400 };
                let millis = self.random.between(0, millis);
                self.pass(millis);
            }
            Some(7) => {
                if let Some(broker) = &self.broker {
                    broker.late.release();
                }
            }
            _ => self.spill(),
        }
    }

    fn act(&mut self, at: usize) {
        if self.clients[at].phase == Phase::Away {
            if self.random.once_in(3) && self.broker.as_ref().is_some_and(|broker| broker.tasks[at].is_none()) {
                let heartbeat = if self.random.once_in(6) { 2 } else { 0 };
                self.connect(at, heartbeat);
            }
            return;
        }
        let mut stage = Stage { random: &mut self.random, book: &mut self.book, plan: &self.plan };
        let what = self.clients[at].act(&mut stage);
        if what != "waits" {
            self.trace.note(format!("client {at} {what}"));
        }
    }

    pub(super) fn read(&mut self, at: usize, count: usize) {
        let octets = self.clients[at].wire.take(count);
        self.trace.octets(&octets);
        self.trace.note(format!("client {at} reads {} octets", octets.len()));
        self.clients[at].receive(&octets, &mut self.book);
    }

    /// The store's writer takes a step; false when there is nothing to do.
    pub(super) fn write(&mut self) -> bool {
        let Some(broker) = &mut self.broker else { return false };
        if broker.store.is_idle() {
            broker.late.feed();
        }
        if self.random.once_in(2) {
            broker.store.spill();
        }
        let step = broker.store.step();
        match step {
            Step::Idle => return false,
            Step::Took(_) | Step::Committed | Step::Published | Step::Checkpointed => {
                self.trace.note(format!("  store: {step:?}"));
            }
            Step::Failed => {
                self.trace.note("  a commit fails".to_owned());
                self.crash();
            }
        }
        true
    }

    /// Time passes.
    pub(super) fn pass(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        simulated::set(self.now);
        self.runtime.block_on(tokio::time::advance(Duration::from_millis(millis)));
        if let Some(broker) = &self.broker {
            timer::fire(&broker.registry);
        }
        self.trace.note(format!("{millis} ms pass"));
    }

    /// Everybody does what there is to do, until nothing is left. Then everything must have been answered.
    pub(super) fn calm(&mut self) {
        self.trace.note("calm".to_owned());
        for client in &mut self.clients {
            client.stalled = false;
        }
        let mut rounds = 0;
        loop {
            let mut busy = false;
            for at in 0..self.clients.len() {
                if self.clients[at].wire.travelling() > 0 {
                    self.clients[at].wire.arrive(usize::MAX);
                    busy = true;
                }
                if self.wants_poll(at) {
                    self.poll(at);
                    busy = true;
                }
                if self.clients[at].wire.readable() > 0 {
                    self.read(at, usize::MAX);
                    busy = true;
                }
            }
            if let Some(broker) = &mut self.broker {
                busy |= broker.store.answer() | broker.late.release();
            }
            busy |= self.write();
            if self.is_broken() {
                return;
            }
            if !busy {
                break;
            }
            rounds += 1;
            if rounds > 100_000 {
                return self.book.fail(|| "the broker does not come to rest".to_owned());
            }
        }
        self.listen();
        self.check_calm();
    }

    /// Nothing moves: all questions are answered, all confirms sent, and nobody starves beside a full queue.
    fn check_calm(&mut self) {
        let Some(broker) = &self.broker else { return };
        let mut wrong = Vec::new();
        let mut with_clients = [0; KINDS.len()];
        let depths: Vec<(u64, u64)> = KINDS.iter().map(|kind| depth(&broker.registry, kind.name)).collect();
        for (at, client) in self.clients.iter().enumerate() {
            if client.phase == Phase::Opening {
                wrong.push(format!("client {at} waits for connection.open-ok"));
            }
            for (id, open) in &client.channels {
                if let Some(expected) = open.expected.front() {
                    wrong.push(format!("client {at} waits for {expected:?} on channel {id}"));
                }
                if let Some((number, _)) = open.unconfirmed.first_key_value() {
                    wrong.push(format!("publish {number} of client {at} on channel {id} was not settled"));
                }
                for delivery in open.held.values() {
                    with_clients[delivery.queue] += 1;
                }
                let full = open.limit > 0 && open.unacked_of_consumers() >= open.limit;
                for (tag, consumer) in &open.consumers {
                    let ready = depths[consumer.queue].0;
                    let room = consumer.no_ack || consumer.prefetch == 0 || consumer.unacked < consumer.prefetch;
                    if ready > 0 && room && !full && !KINDS[consumer.queue].single {
                        let queue = KINDS[consumer.queue].name;
                        wrong.push(format!("{ready} ready in {queue}, but client {at} gets nothing as {tag}"));
                    }
                }
            }
        }
        for (queue, kind) in KINDS.iter().enumerate() {
            let (ready, unacked) = depths[queue];
            if unacked != with_clients[queue] {
                wrong.push(format!("{unacked} unacked in {}, but clients have {}", kind.name, with_clients[queue]));
            }
            if kind.brief && ready > 0 && self.now > self.last_act.plus_millis(BRIEF_MS) {
                wrong.push(format!("{ready} messages in {} have outlived their time", kind.name));
            }
            let letters = kind.dead.map_or(0, |dead| depths[dead].0 + depths[dead].1);
            let owed = self.book.owed(queue);
            if kind.letters_of.is_none() && owed > ready + unacked + letters {
                let there = ready + unacked + letters;
                wrong.push(format!("{owed} messages are owed of {}, but {there} are there", kind.name));
            }
        }
        wrong.extend(self.book.entities.check(|name| exists(&broker.registry, name)));
        if !wrong.is_empty() {
            self.book.fail(|| wrong.join("; "));
        }
    }

    /// The last acts: time passes, perhaps there is a restart, then every queue is emptied and counted.
    fn finish(&mut self) {
        if !self.disk.heal() {
            self.crash();
        }
        self.calm();
        if self.random.once_in(2) {
            self.pass(BRIEF_MS + 1);
            self.calm();
        }
        match self.random.between(0, 2) {
            0 => self.crash(),
            1 => self.restart(),
            _ => {}
        }
        self.calm();
        for at in 0..self.clients.len() {
            if self.clients[at].phase == Phase::Open {
                self.clients[at].close_connection(&mut self.book);
            }
        }
        self.calm();
        if self.is_broken() {
            return;
        }
        self.trace.note("everything is counted".to_owned());
        self.book.start_draining();
        self.connect(0, 0);
        self.clients[0].send(1, channel::Open::default());
        let mut opened = Channel::new(self.book.opened(), Role::Consume);
        opened.expect("channel.open-ok", Answer::Nothing);
        self.clients[0].channels.insert(1, opened);
        self.calm();
        for (queue, kind) in KINDS.iter().enumerate() {
            while let Some(broker) = &self.broker
                && depth(&broker.registry, kind.name).0 > 0
                && !self.is_broken()
            {
                self.drain(queue);
            }
        }
        self.book.check_drained();
    }

    fn drain(&mut self, queue: usize) {
        let Some(open) = self.clients[0].channels.get_mut(&1) else { return };
        for _ in 0..20 {
            open.expect("basic.get-ok", Answer::Got { queue, no_ack: true });
        }
        for _ in 0..20 {
            self.clients[0].send(1, basic::Get { queue: short(KINDS[queue].name), no_ack: true });
        }
        self.calm();
    }
}

/// Whether there is a queue of this name, or the binding of one.
fn exists(registry: &Arc<Registry>, name: &str) -> bool {
    let vhost = registry.vhost(&ShortString::from_static("/")).expect("the default vhost exists");
    let state = vhost.state.read();
    let id = |name: &str| state.queue(&short(name), ConnectionId::new(0)).map(|queue| queue.id).ok();
    match name.strip_prefix("binding of ") {
        None => id(name).is_some(),
        Some(queue) => {
            let destination = id(queue).map(Destination::Queue);
            state.bindings().any(|binding| binding.source == PICK && Some(&binding.destination) == destination.as_ref())
        }
    }
}

/// How many messages are ready and unacked in a queue.
fn depth(registry: &Arc<Registry>, name: &str) -> (u64, u64) {
    let vhost = registry.vhost(&ShortString::from_static("/"));
    let vhost = vhost.expect("the default vhost exists");
    let id = vhost.state.read().queue(&short(name), ConnectionId::new(0)).map(|queue| queue.id).ok();
    let cell = id.and_then(|id| registry.queue(id));
    cell.and_then(|cell| cell.read(|queue| (queue.ready(), queue.unacked()))).unwrap_or_default()
}
