//! What changes all the time: a queue that is purged, one that is deleted and declared again, bindings of a topic exchange.
//! Each queue has one publisher, the client that changes it, which therefore knows what is in it.

use leveret_protocol::{Method, basic, queue};

use super::Context;
use super::publisher::Stream;
use crate::client::{Arrived, Client, Outcome, Stop, problem, s};
use crate::log::{Done, Removal};
use crate::messages::{Queue, Route};
use crate::topology::{SHIFTS, bind, declaration, ready};

/// Changes of one client in one round; after them it only waits for the end.
const CHANGES_MAX: usize = 400;

/// Messages between two changes.
const BURST_MAX: usize = 20;

/// The exchange whose bindings come and go.
const SHIFTING: &str = "shifts";

/// A client that publishes to a queue of its own.
struct Worker<'a> {
    context: &'a mut Context,
    client: Client,
    stream: Stream,
    number: u32,
}

impl<'a> Worker<'a> {
    fn new(context: &'a mut Context) -> Outcome<Self> {
        let mut client = context.connect()?;
        let number = context.numbers.stream();
        let stream = Stream::open(&mut client, 1, number)?;
        Ok(Self { context, client, stream, number })
    }

    /// Publishes some messages; some of the confirms, or all, or none of them are waited for. How many messages.
    fn publish(&mut self, route: Route) -> Outcome<usize> {
        let count = self.context.random.count(1, BURST_MAX);
        for _ in 0..count {
            self.stream.publish(&mut self.client, route, &mut self.context.random, &mut self.context.log);
        }
        let allowed = self.context.random.count(0, 2 * BURST_MAX);
        while self.stream.unconfirmed > allowed {
            match self.client.call()? {
                Method::BasicAck(ack) => self.stream.on_ack(&ack, &mut self.context.log)?,
                other => return problem(format!("unexpected: {other:?}")),
            }
        }
        Ok(count)
    }

    /// The answer to a method; confirms may come before it.
    fn answer(&mut self) -> Outcome<Method> {
        loop {
            match self.client.call()? {
                Method::BasicAck(ack) => self.stream.on_ack(&ack, &mut self.context.log)?,
                other => return Ok(other),
            }
        }
    }

    /// Asks for something that removes everything from a queue, which has so many messages.
    fn remove(&mut self, queue: Queue, method: Method, expected: usize) -> Outcome<()> {
        let at = self.context.log.removals.len();
        let (stream, below) = (self.number, self.stream.next_number());
        self.context.log.removals.push(Removal { queue, stream, below, done: Done::InDoubt });
        self.client.send(1, method);
        let count = match self.answer()? {
            Method::QueuePurgeOk(ok) => ok.message_count,
            Method::QueueDeleteOk(ok) => ok.message_count,
            other => return problem(format!("unexpected: {other:?}")),
        };
        self.context.log.removals[at].done = Done::Yes;
        if usize::try_from(count) != Ok(expected) {
            return problem(format!("{count} messages were removed from {} instead of {expected}", queue.name()));
        }
        Ok(())
    }

    fn wait_for_the_end(&mut self) -> Outcome<()> {
        let method = self.answer()?;
        problem(format!("unexpected: {method:?}"))
    }
}

/// Purges a queue again and again.
pub fn purge(context: &mut Context) -> Outcome<()> {
    const QUEUE: Queue = Queue::Washed;
    let mut worker = Worker::new(context)?;
    let mut inside = ready(&mut worker.client, 1, QUEUE)?;
    worker.context.begin();
    for _ in 0..CHANGES_MAX {
        inside += worker.publish(Route::To(QUEUE))?;
        if worker.context.random.once_in(3) {
            let purge = queue::Purge { queue: s(QUEUE.name()), no_wait: false };
            worker.remove(QUEUE, purge.into(), inside)?;
            inside = 0;
        }
    }
    worker.wait_for_the_end()
}

/// Deletes a queue and declares it again.
pub fn rebirth(context: &mut Context) -> Outcome<()> {
    const QUEUE: Queue = Queue::Reborn;
    let mut worker = Worker::new(context)?;
    let mut inside = ready(&mut worker.client, 1, QUEUE)?;
    worker.context.log.reborn = Some(Done::Yes);
    worker.context.begin();
    for _ in 0..CHANGES_MAX {
        worker.context.log.reborn = Some(Done::InDoubt);
        let delete = queue::Delete { queue: s(QUEUE.name()), ..queue::Delete::default() };
        worker.remove(QUEUE, delete.into(), inside)?;
        worker.context.log.reborn = Some(Done::No);
        if worker.context.random.once_in(3) {
            worker.publish(Route::Unborn)?;
        }
        worker.context.log.reborn = Some(Done::InDoubt);
        worker.client.send(1, declaration(QUEUE));
        match worker.answer()? {
            Method::QueueDeclareOk(ok) if ok.message_count == 0 => {}
            other => return problem(format!("{other:?} instead of an empty queue")),
        }
        worker.context.log.reborn = Some(Done::Yes);
        if worker.context.random.once_in(3) {
            // Its old bindings went with it.
            worker.publish(Route::Unborn)?;
        }
        worker.client.send(1, bind(QUEUE, Route::Reborn.exchange(), "*.born"));
        match worker.answer()? {
            Method::QueueBindOk(_) => {}
            other => return problem(format!("unexpected: {other:?}")),
        }
        inside = 0;
        for _ in 0..worker.context.random.count(1, 3) {
            inside += worker.publish(Route::Reborn)?;
        }
    }
    worker.wait_for_the_end()
}

/// Binds and unbinds with several keys, each of which matches what is published.
pub fn shift(context: &mut Context) -> Outcome<()> {
    const QUEUE: Queue = Queue::Shifted;
    let before = context.standing.shifts;
    context.log.shifts = Some(before);
    let mut worker = Worker::new(context)?;
    worker.context.begin();
    let arrived = worker.probe()?;
    if before.contains(&Done::Yes) && !arrived || before == [Done::No; 3] && arrived {
        return problem(format!("a message comes through: {arrived}, but {before:?} of {SHIFTS:?} is bound"));
    }
    let mut bound = [false; 3];
    for change in 0..CHANGES_MAX {
        // First all that may be there are taken away, one after the other.
        let at = if change < SHIFTS.len() { change } else { worker.context.random.count(0, SHIFTS.len() - 1) };
        let binds = change >= SHIFTS.len() && !bound[at];
        let method: Method = if binds {
            bind(QUEUE, SHIFTING, SHIFTS[at]).into()
        } else {
            let (queue, exchange, routing_key) = (s(QUEUE.name()), s(SHIFTING), s(SHIFTS[at]));
            queue::Unbind { queue, exchange, routing_key, ..queue::Unbind::default() }.into()
        };
        worker.note_shift(at, Done::InDoubt);
        worker.client.send(1, method);
        match worker.answer()? {
            Method::QueueBindOk(_) | Method::QueueUnbindOk(_) => {}
            other => return problem(format!("unexpected: {other:?}")),
        }
        bound[at] = binds;
        worker.note_shift(at, if binds { Done::Yes } else { Done::No });
        if bound.contains(&true) {
            worker.publish(Route::Shifted)?;
        } else if change + 1 >= SHIFTS.len() && worker.probe()? {
            return problem("a message comes through without a binding");
        }
    }
    worker.wait_for_the_end()
}

impl Worker<'_> {
    fn note_shift(&mut self, at: usize, done: Done) {
        if let Some(shifts) = &mut self.context.log.shifts {
            shifts[at] = done;
        }
    }

    /// Publishes one message and tells whether it came to a queue.
    fn probe(&mut self) -> Outcome<bool> {
        let at = self.context.log.published.len();
        let route = Route::Shifted;
        self.stream.publish_mandatory(&mut self.client, route, &mut self.context.random, &mut self.context.log);
        let mut returned = false;
        while self.stream.unconfirmed > 0 {
            let Arrived { method, .. } = self.client.next()?;
            match method {
                Method::BasicReturn(basic::Return { .. }) => returned = true,
                Method::BasicAck(ack) => self.stream.on_ack(&ack, &mut self.context.log)?,
                other => return Err(Stop::Problem(format!("unexpected: {other:?}"))),
            }
        }
        if returned {
            // It went nowhere: it must never be seen.
            self.context.log.published.remove(at);
        }
        Ok(!returned)
    }
}
