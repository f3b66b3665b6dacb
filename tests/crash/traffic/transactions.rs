//! Transactions: messages for several queues, and the acks of the messages that they were made from, all or none.

use std::collections::VecDeque;

use leveret_protocol::{DeliveryTag, Method, basic, tx};

use super::Context;
use super::publisher::wide_route;
use crate::client::{Arrived, Client, Outcome, problem, s};
use crate::log::{Ending, Transaction};
use crate::messages::{Many, MessageId, Queue, Route, Sent};
use crate::random::Random;

/// Unacked messages of the transactional consumer, a limit of its channel.
const PREFETCH: u16 = 10;

/// Transactions of one connection in one round.
const TRANSACTIONS_MAX: usize = 1000;

/// Where messages come from and where they go to.
#[derive(Clone, Copy, Debug)]
enum Scope {
    /// From [`Queue::TxIn`] to [`Queue::TxLeft`] and [`Queue::TxRight`].
    Own,
    /// From some of the many queues to others.
    Wide(u16),
}

impl Scope {
    fn source(self, random: &mut Random) -> Queue {
        match self {
            Self::Own => Queue::TxIn,
            Self::Wide(width) => {
                let number = u16::try_from(random.between(0, u64::from(width) - 1)).expect("at most the width");
                // A message that expires may do so while a transaction has it.
                Queue::Many(if Many::of(number) == Many::Brief { number - 1 } else { number })
            }
        }
    }

    fn target(self, at: usize, random: &mut Random) -> Route {
        match self {
            Self::Own => Route::To(if at.is_multiple_of(2) { Queue::TxLeft } else { Queue::TxRight }),
            Self::Wide(width) => wide_route(width, random),
        }
    }
}

struct Worker<'a> {
    context: &'a mut Context,
    scope: Scope,
    client: Client,
    stream: u32,
    next_number: u32,
    consumer: u32,
    /// Deliveries that are not in a transaction yet.
    delivered: VecDeque<(DeliveryTag, Queue, MessageId)>,
}

/// Takes messages with basic.get.
pub fn run_by_get(context: &mut Context) -> Outcome<()> {
    run_getting(context, Scope::Own)
}

/// The same with the first so many of the many queues.
pub fn run_wide(context: &mut Context, width: u16) -> Outcome<()> {
    run_getting(context, Scope::Wide(width))
}

fn run_getting(context: &mut Context, scope: Scope) -> Outcome<()> {
    let mut worker = Worker::new(context, scope)?;
    worker.context.begin();
    for _ in 0..TRANSACTIONS_MAX {
        // A transaction that only publishes is one, too.
        if worker.context.random.once_in(4) || worker.get()? {
            worker.work(1)?;
        }
    }
    worker.wait_for_the_end()
}

/// Takes messages as a consumer.
pub fn run_by_consume(context: &mut Context) -> Outcome<()> {
    let mut worker = Worker::new(context, Scope::Own)?;
    worker.client.send(1, basic::Qos { prefetch_count: PREFETCH, global: true, ..basic::Qos::default() });
    worker.client.expect("basic.qos-ok")?;
    let queue = s(Queue::TxIn.name());
    worker.client.send(1, basic::Consume { queue, consumer_tag: s("tx"), ..basic::Consume::default() });
    worker.client.expect("basic.consume-ok")?;
    worker.context.begin();
    for _ in 0..TRANSACTIONS_MAX {
        let wanted = worker.context.random.count(1, 3);
        while worker.delivered.len() < wanted {
            let arrived = worker.client.next()?;
            worker.on_delivery(arrived, Queue::TxIn)?;
        }
        worker.work(wanted)?;
    }
    worker.wait_for_the_end()
}

impl<'a> Worker<'a> {
    fn new(context: &'a mut Context, scope: Scope) -> Outcome<Self> {
        let mut client = context.connect()?;
        client.open_channel(1)?;
        client.send(1, tx::Select);
        client.expect("tx.select-ok")?;
        let (stream, consumer) = (context.numbers.stream(), context.numbers.consumer());
        Ok(Self { context, scope, client, stream, next_number: 0, consumer, delivered: VecDeque::new() })
    }

    /// Whether there was a message.
    fn get(&mut self) -> Outcome<bool> {
        let source = self.scope.source(&mut self.context.random);
        self.client.send(1, basic::Get { queue: s(source.name()), no_ack: false });
        let Arrived { method, content, .. } = self.client.next()?;
        match (method, content) {
            (Method::BasicGetEmpty(_), None) => Ok(false),
            (Method::BasicGetOk(get), Some(content)) => {
                let deliver = basic::Deliver {
                    consumer_tag: s(""),
                    delivery_tag: get.delivery_tag,
                    redelivered: get.redelivered,
                    exchange: get.exchange,
                    routing_key: get.routing_key,
                };
                self.on_delivery(Arrived { channel: 1, method: deliver.into(), content: Some(content) }, source)?;
                Ok(true)
            }
            (other, _) => problem(format!("unexpected: {other:?}")),
        }
    }

    fn on_delivery(&mut self, arrived: Arrived, queue: Queue) -> Outcome<()> {
        let Method::BasicDeliver(deliver) = arrived.method else {
            return problem(format!("unexpected: {:?}", arrived.method));
        };
        let tag = deliver.delivery_tag;
        let id = self.context.on_deliver(queue, self.consumer, deliver, arrived.content)?;
        self.delivered.push_back((tag, queue, id));
        Ok(())
    }

    /// Waits for the answer to what was sent; deliveries may come before it.
    fn wait_for(&mut self, name: &str) -> Outcome<()> {
        loop {
            let arrived = self.client.next()?;
            if arrived.method.name() == name {
                return Ok(());
            }
            self.on_delivery(arrived, Queue::TxIn)?;
        }
    }

    /// One transaction with up to so many deliveries; some are rolled back first.
    fn work(&mut self, deliveries: usize) -> Outcome<()> {
        let taken: Vec<_> = self.delivered.drain(..deliveries.min(self.delivered.len())).collect();
        if self.context.random.once_in(8) {
            let created = self.send(&taken);
            let acked = taken.iter().map(|(_, queue, id)| (*queue, *id)).collect();
            self.context.log.transactions.push(Transaction { created, acked, ending: Ending::RolledBack });
            self.client.send(1, tx::Rollback);
            self.wait_for("tx.rollback-ok")?;
        }
        let created = self.send(&taken);
        let acked = taken.iter().map(|(_, queue, id)| (*queue, *id)).collect();
        let at = self.context.log.transactions.len();
        self.context.log.transactions.push(Transaction { created, acked, ending: Ending::InDoubt });
        self.client.send(1, tx::Commit);
        self.wait_for("tx.commit-ok")?;
        self.context.log.transactions[at].ending = Ending::Committed;
        Ok(())
    }

    /// Publishes and acks, without ending the transaction.
    fn send(&mut self, taken: &[(DeliveryTag, Queue, MessageId)]) -> Vec<Sent> {
        let mut created = Vec::new();
        let each = self.context.random.count(1, 3);
        for at in 0..2 * each {
            let route = self.scope.target(at, &mut self.context.random);
            let id = MessageId { stream: self.stream, number: self.next_number };
            self.next_number += 1;
            let sent = Sent { persistent: true, ..Sent::new(id, route, &mut self.context.random) };
            self.client.publish(1, sent.publish(), &sent.properties(), &sent.body());
            created.push(sent);
        }
        for &(delivery_tag, _, _) in taken {
            self.client.send(1, basic::Ack { delivery_tag, multiple: false });
        }
        created
    }

    fn wait_for_the_end(&mut self) -> Outcome<()> {
        loop {
            let arrived = self.client.next()?;
            self.on_delivery(arrived, Queue::TxIn)?;
        }
    }
}
