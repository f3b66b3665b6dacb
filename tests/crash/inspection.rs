//! A look into every queue after a start: everything is taken, compared with the ledger, and most of it put back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use leveret_protocol::{DeliveryTag, Method, ReplyCode, basic, channel, exchange, queue, tx};

use crate::client::{Arrived, Client, Outcome, Stop, problem, s};
use crate::ledger::{After, Contents, Ledger, Seen};
use crate::log::{Done, Temporary};
use crate::messages::{Came, MessageId, Queue};
use crate::random::Random;
use crate::topology;
use crate::traffic;

/// How long messages may be on their way from a queue to its graveyard.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests of basic.get sent at once.
const GETS: usize = 100;

/// What is left in a queue for the next round, so that the rounds take no longer and longer.
const KEPT_MAX: usize = 250;

/// As [`KEPT_MAX`], for queues that grow over some rounds.
const KEPT_DEEP_MAX: usize = 2500;

/// As [`KEPT_MAX`], for each of the many queues.
const KEPT_IN_MANY_MAX: usize = 8;

/// A look at everything.
pub struct Inspection {
    addr: SocketAddr,
    client: Client,
    queues: Vec<Queue>,
    contents: Contents,
    tags: BTreeMap<(Queue, MessageId), DeliveryTag>,
    /// What is left for the next round.
    kept: BTreeMap<Queue, usize>,
}

impl Inspection {
    /// Takes every message from these queues, and compares. `reborn`: whether [`Queue::Reborn`] must be there.
    pub fn start(addr: SocketAddr, ledger: &mut Ledger, queues: &[Queue], reborn: Done, after: After) -> Outcome<Self> {
        let mut client = Client::open(addr, 131_072)?;
        let is_there = exists(&mut client, 3, topology::passive(Queue::Reborn))?;
        if expectation(reborn, Done::No).is_some_and(|expected| expected != is_there) {
            return problem(format!("reborn is there: {is_there}; it was declared: {reborn:?}"));
        }
        client.open_channel(1)?;
        if !is_there {
            client.send(1, topology::declaration(Queue::Reborn));
            client.expect("queue.declare-ok")?;
        }
        let expected = topology::verify(&mut client, 1, queues)?;
        client.open_channel(2)?;
        client.send(2, tx::Select);
        client.expect("tx.select-ok")?;
        let (contents, tags, kept) = (Contents::new(), BTreeMap::new(), BTreeMap::new());
        let mut this = Self { addr, client, queues: queues.to_vec(), contents, tags, kept };
        for (&queue, &expected) in queues.iter().zip(&expected) {
            this.drain(queue, expected)?;
        }
        let deadline = Instant::now() + PATIENCE;
        while !ledger.in_transit(&this.contents, after).is_empty() && Instant::now() < deadline {
            for &queue in queues.iter().filter(|queue| is_moving(**queue)) {
                this.drain(queue, 0)?;
            }
        }
        ledger.compare(&this.contents, after);
        for (&queue, &expected) in queues.iter().zip(&expected) {
            let found = this.contents[&queue].len();
            if found != expected && !is_moving(queue) {
                return problem(format!("{} said it had {expected} messages, {found} came", queue.name()));
            }
        }
        Ok(this)
    }

    /// Takes what is ready in a queue, which is about so much.
    fn drain(&mut self, queue: Queue, expected: usize) -> Outcome<()> {
        let found = self.contents.entry(queue).or_default();
        let gets = expected.min(GETS) + 1;
        loop {
            for _ in 0..gets {
                self.client.send(2, basic::Get { queue: s(queue.name()), no_ack: false });
            }
            let mut empty = false;
            for _ in 0..gets {
                let Arrived { method, content, .. } = self.client.next()?;
                match (method, content) {
                    (Method::BasicGetOk(get), Some(content)) => {
                        let (id, came) = Came::read(get.exchange, get.routing_key, content)?;
                        self.tags.insert((queue, id), get.delivery_tag);
                        found.push(Seen { id, redelivered: get.redelivered, came });
                    }
                    (Method::BasicGetEmpty(_), None) => empty = true,
                    (other, _) => return problem(format!("{}: {other:?}", queue.name())),
                }
            }
            if empty {
                return Ok(());
            }
        }
    }

    /// Removes some of what was found, in one transaction: when this returns they are gone for good.
    pub fn thin_out(&mut self, ledger: &mut Ledger, random: &mut Random) -> Outcome<()> {
        let mut removed = Vec::new();
        for (&queue, found) in &self.contents {
            // Empty queues and queues found on disk go different ways in the broker.
            let limit = match random.between(0, 9) {
                0..=4 => 0,
                _ if matches!(queue, Queue::Many(_)) => random.count(0, KEPT_IN_MANY_MAX),
                5..=7 => random.count(0, KEPT_MAX),
                _ => KEPT_DEEP_MAX,
            };
            let mut ids: Vec<_> = found.iter().map(|seen| seen.id).collect();
            // From the front, from the back, or from anywhere.
            let excess = ids.len().saturating_sub(limit);
            let gone: Vec<_> = match random.between(0, 2) {
                0 => ids.drain(..excess).collect(),
                1 => ids.split_off(ids.len() - excess),
                _ => (0..excess).map(|_| ids.swap_remove(random.count(0, ids.len() - 1))).collect(),
            };
            self.kept.insert(queue, ids.len());
            removed.push((queue, gone));
        }
        for (queue, ids) in &removed {
            for id in ids {
                let delivery_tag = self.tags[&(*queue, *id)];
                self.client.send(2, basic::Ack { delivery_tag, multiple: false });
            }
        }
        self.client.send(2, tx::Commit);
        self.client.expect("tx.commit-ok")?;
        for (queue, ids) in &removed {
            ledger.removed(*queue, ids);
        }
        Ok(())
    }

    /// Removes everything that was found.
    pub fn take_all(mut self, ledger: &mut Ledger) -> Outcome<()> {
        self.client.send(2, basic::Ack { delivery_tag: DeliveryTag::new(0), multiple: true });
        self.client.send(2, tx::Commit);
        self.client.expect("tx.commit-ok")?;
        for (&queue, found) in &self.contents {
            ledger.removed(queue, &found.iter().map(|seen| seen.id).collect::<Vec<_>>());
        }
        self.client.close()
    }

    /// Puts everything back.
    pub fn close(self) -> Outcome<()> {
        self.client.close()
    }

    /// Puts the rest back and waits until it is ready.
    pub fn finish(self) -> Outcome<()> {
        self.client.close()?;
        let mut client = Client::open(self.addr, 4096)?;
        client.open_channel(1)?;
        let deadline = Instant::now() + PATIENCE;
        let queues: Vec<_> = self.queues.into_iter().filter(|queue| !is_moving(*queue)).collect();
        loop {
            let ready = topology::ready_in(&mut client, 1, &queues)?;
            let mut compared = queues.iter().zip(ready).map(|(queue, ready)| (*queue, ready, self.kept[queue]));
            let Some((queue, ready, kept)) = compared.find(|(_, ready, kept)| ready != kept) else { break };
            if Instant::now() > deadline {
                return problem(format!("{} has {ready} messages instead of {kept}", queue.name()));
            }
        }
        client.close()
    }
}

/// Messages move into or out of it by themselves.
fn is_moving(queue: Queue) -> bool {
    queue.drains_itself() || queue.death().is_some_and(|(source, _)| source.drains_itself())
}

/// What came of the temporary definitions; they are removed.
pub fn check_temporaries(addr: SocketAddr, temporaries: &[Temporary], after: After) -> Outcome<()> {
    let mut client = Client::open(addr, 4096)?;
    for (number, temporary) in temporaries.iter().enumerate() {
        // Each on a channel of its own, because what is missing closes the channel.
        let channel = u16::try_from(number % 8).expect("small") + 1;
        let faults = check_temporary(&mut client, channel, temporary, after)?;
        if !faults.is_empty() {
            return problem(format!("{faults:?}: {temporary:?}"));
        }
    }
    client.close()
}

/// Whether something exists, by a passive declaration.
fn exists(client: &mut Client, number: u16, declare: impl Into<Method>) -> Outcome<bool> {
    client.open_channel(number)?;
    client.send(number, declare);
    match client.call()? {
        Method::ChannelClose(close) if close.reply_code.get() == 404 => {
            client.send(number, channel::CloseOk);
            Ok(false)
        }
        Method::QueueDeclareOk(_) | Method::ExchangeDeclareOk(_) => {
            close_channel(client, number)?;
            Ok(true)
        }
        other => problem(format!("unexpected: {other:?}")),
    }
}

fn close_channel(client: &mut Client, number: u16) -> Outcome<()> {
    client.send(number, channel::Close { reply_code: ReplyCode::REPLY_SUCCESS, ..Default::default() });
    client.expect("channel.close-ok")
}

/// Whether what was `done` and perhaps `undone` must be there; `None` if either may be.
fn expectation(done: Done, undone: Done) -> Option<bool> {
    match (done, undone) {
        (Done::No, _) | (_, Done::Yes) => Some(false),
        (Done::Yes, Done::No) => Some(true),
        (Done::InDoubt, _) | (_, Done::InDoubt) => None,
    }
}

fn check_temporary(
    client: &mut Client,
    channel: u16,
    temporary: &Temporary,
    after: After,
) -> Outcome<BTreeSet<&'static str>> {
    let mut faults = BTreeSet::new();
    let name = s(&temporary.name);
    let mut compare = |what: &'static str, expected: Option<bool>, found: bool| {
        if expected.is_some_and(|expected| expected != found) {
            faults.insert(what);
        }
    };
    let passive = exchange::Declare { exchange: name.clone(), passive: true, ..Default::default() };
    let has_exchange = exists(client, channel, passive)?;
    compare("exchange", expectation(temporary.exchange_declared, temporary.exchange_deleted), has_exchange);
    let passive = queue::Declare { queue: name.clone(), passive: true, ..Default::default() };
    let has_queue = exists(client, channel, passive)?;
    compare("queue", expectation(temporary.declared, temporary.deleted), has_queue);

    traffic::confirm_mode(client, channel)?;
    if has_queue {
        let mut messages = 0;
        loop {
            client.send(channel, basic::Get { queue: name.clone(), no_ack: true });
            let Arrived { method, content, .. } = client.next()?;
            match (method, content) {
                (Method::BasicGetOk(get), Some(content)) if content.body == temporary.name.as_bytes() => {
                    messages += 1;
                    // Nobody got it before, but after a crash the broker does not know that.
                    compare("flag", Some(after == After::Kill), get.redelivered);
                }
                (Method::BasicGetEmpty(_), None) => break,
                (other, _) => return problem(format!("unexpected: {other:?}")),
            }
        }
        // A queue and its messages are deleted together.
        let published =
            if temporary.published == Done::Yes { Some(true) } else { expectation(temporary.published, Done::No) };
        compare("message", published, messages == 1);
        compare("messages", Some(true), messages <= 1);
    }
    // The binding leads to the queue, or it is gone with it.
    traffic::publish_temporary(client, channel, &temporary.name);
    let mut returned = false;
    loop {
        match client.next()?.method {
            Method::BasicReturn(_) => returned = true,
            Method::BasicAck(_) => break,
            other => return problem(format!("unexpected: {other:?}")),
        }
    }
    let bound = if has_queue { expectation(temporary.bound, Done::No) } else { Some(false) };
    compare("binding", bound, !returned);
    if has_queue {
        client.send(channel, queue::Delete { queue: name.clone(), ..Default::default() });
        client.expect("queue.delete-ok")?;
    }
    if has_exchange {
        client.send(channel, exchange::Delete { exchange: name, ..Default::default() });
        client.expect("exchange.delete-ok")?;
    }
    close_channel(client, channel)?;
    Ok(faults)
}

/// The result of a step during which the broker must not go away.
pub fn must<T>(step: &str, outcome: Outcome<T>) -> Result<T, String> {
    outcome.map_err(|stop| match stop {
        Stop::Problem(text) => format!("{step}: {text}"),
        Stop::Lost => format!("{step}: the broker closes the socket"),
        Stop::ShutDown => format!("{step}: the broker shuts down"),
    })
}
