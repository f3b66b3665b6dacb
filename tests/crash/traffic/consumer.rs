//! Consuming: acks, nacks, rejects and recovers in every form, consumers that leave and come back, and one that does not ack.

use std::collections::BTreeMap;

use leveret_protocol::{ClassId, DeliveryTag, Method, MethodId, ReplyCode, ShortString, basic, channel, exchange};

use super::Context;
use crate::client::{Arrived, Client, Content, Outcome, problem, s};
use crate::log::Verdict;
use crate::messages::{Many, MessageId, Queue};

/// Where a consumer's messages come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    One(Queue),
    /// The first so many of the many queues, but those that messages die in or expire from.
    Wide(u16),
}

impl Source {
    fn queues(self) -> Vec<Queue> {
        let consumed = |number: &u16| matches!(Many::of(*number), Many::Plain | Many::Work | Many::Ranked);
        match self {
            Self::One(queue) => vec![queue],
            Self::Wide(width) => (0..width).filter(consumed).map(Queue::Many).collect(),
        }
    }
}

/// How a consumer behaves.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub source: Source,
    prefetch: u16,
    /// It leaves now and then, in one way or another, and comes back.
    leaves: bool,
    /// It does not ack.
    auto_ack: bool,
    /// Mostly it sends back what it gets.
    fails: bool,
    /// After so many acks it keeps what it gets.
    acks_max: usize,
}

impl Style {
    const fn of(source: Source, prefetch: u16) -> Self {
        Self { source, prefetch, leaves: false, auto_ack: false, fails: false, acks_max: usize::MAX }
    }

    const fn new(queue: Queue, prefetch: u16) -> Self {
        Self::of(Source::One(queue), prefetch)
    }

    /// Consumers of a deep queue: one of them is slow to ack.
    pub const DEEP: [Self; 2] = [Self::new(Queue::First, 30), Self { leaves: true, ..Self::new(Queue::First, 300) }];

    /// The consumers of a round. The queues that are not here are looked at between the rounds only.
    pub const ALL: [Self; 11] = [
        Self::new(Queue::First, 40),
        Self { leaves: true, ..Self::new(Queue::First, 8) },
        Self { leaves: true, ..Self::new(Queue::FanA, 100) },
        Self::new(Queue::TopicEven, 10),
        Self { auto_ack: true, ..Self::new(Queue::TopicOdd, 0) },
        Self::new(Queue::Work, 30),
        Self::new(Queue::Work, 1),
        Self { acks_max: 50, ..Self::new(Queue::Dead, 20) },
        Self::new(Queue::Ranked, 25),
        Self { fails: true, ..Self::new(Queue::Failing, 20) },
        Self { fails: true, leaves: true, ..Self::new(Queue::Failing, 5) },
    ];

    /// The consumers of the many queues, one limit of unacked messages for all of them.
    pub fn wide(width: u16) -> [Self; 2] {
        let source = Source::Wide(width);
        [Self::of(source, 100), Self { leaves: true, ..Self::of(source, 30) }]
    }
}

/// One life of a consumer's connection.
struct Life {
    client: Client,
    style: Style,
    /// By consumer tag.
    queues: BTreeMap<ShortString, Queue>,
    consumer: u32,
    unacked: BTreeMap<u64, (Queue, MessageId)>,
    acks: usize,
    /// Settlements in the log before this life.
    settled_before: usize,
}

pub fn run(context: &mut Context, style: Style) -> Outcome<()> {
    let queues = style.source.queues();
    if style.leaves {
        context.log.deserted.extend(&queues);
    }
    if style.auto_ack {
        context.log.auto_acked.extend(&queues);
    }
    loop {
        let mut life = Life::begin(context, style, &queues)?;
        context.begin();
        let deliveries = if style.leaves { context.random.count(10, 300) } else { usize::MAX };
        for _ in 0..deliveries {
            life.consume(context)?;
        }
        life.leave(context)?;
    }
}

impl Life {
    fn begin(context: &mut Context, style: Style, queues: &[Queue]) -> Outcome<Self> {
        let mut client = context.connect()?;
        client.open_channel(1)?;
        client.open_channel(2)?;
        let global = matches!(style.source, Source::Wide(_));
        client.send(1, basic::Qos { prefetch_count: style.prefetch, global, ..basic::Qos::default() });
        client.expect("basic.qos-ok")?;
        for queue in queues {
            let (queue, no_ack) = (s(queue.name()), style.auto_ack);
            client.send(1, basic::Consume { consumer_tag: queue.clone(), queue, no_ack, ..basic::Consume::default() });
        }
        let mut life = Self {
            client,
            style,
            queues: queues.iter().map(|queue| (s(queue.name()), *queue)).collect(),
            consumer: context.numbers.consumer(),
            unacked: BTreeMap::new(),
            acks: 0,
            settled_before: context.log.settlements.len(),
        };
        // The first ones bring messages before the last one is there.
        for _ in queues {
            life.wait_for("basic.consume-ok", context)?;
        }
        life.make_room(context);
        Ok(life)
    }

    /// Waits for an answer; deliveries that come before it are kept.
    fn wait_for(&mut self, name: &str, context: &mut Context) -> Outcome<()> {
        loop {
            let Arrived { method, content, .. } = self.client.next()?;
            match method {
                Method::BasicDeliver(deliver) => self.on_delivery(deliver, content, context).map(drop)?,
                method if method.name() == name => return Ok(()),
                method => return problem(format!("{method:?} instead of {name}")),
            }
        }
    }

    fn on_delivery(
        &mut self,
        deliver: basic::Deliver,
        carried: Option<Content>,
        context: &mut Context,
    ) -> Outcome<Queue> {
        let tag = deliver.delivery_tag.get();
        let Some(&queue) = self.queues.get(&deliver.consumer_tag) else {
            return problem(format!("a delivery for {:?}", deliver.consumer_tag));
        };
        let id = context.on_deliver(queue, self.consumer, deliver, carried)?;
        if self.style.auto_ack {
            return Ok(queue);
        }
        if self.unacked.insert(tag, (queue, id)).is_some() {
            return problem(format!("delivery tag {tag} comes twice"));
        }
        if self.style.prefetch > 0 && self.unacked.len() > usize::from(self.style.prefetch) {
            return problem(format!("{} unacked with a prefetch of {}", self.unacked.len(), self.style.prefetch));
        }
        Ok(queue)
    }

    /// Takes one delivery and decides about it.
    fn consume(&mut self, context: &mut Context) -> Outcome<()> {
        let Arrived { method, content, .. } = self.client.next()?;
        let Method::BasicDeliver(deliver) = method else { return problem(format!("unexpected: {method:?}")) };
        let (tag, redelivered) = (deliver.delivery_tag.get(), deliver.redelivered);
        let queue = self.on_delivery(deliver, content, context)?;
        if self.style.auto_ack || self.acks >= self.style.acks_max {
            return Ok(());
        }
        let rejects = queue.graveyard().is_some();
        let decision = context.random.between(0, 99);
        if self.style.fails {
            match decision {
                0..=59 => self.settle(context, tag, false, Verdict::Requeue),
                60..=69 => self.settle(context, tag, true, Verdict::Requeue),
                70..=74 => self.recover(context)?,
                75..=79 => self.settle(context, tag, false, Verdict::Ack),
                80 => self.make_sure(context)?,
                _ => {}
            }
        } else {
            match decision {
                0..=44 => self.settle(context, tag, false, Verdict::Ack),
                45..=49 => self.settle(context, tag, true, Verdict::Ack),
                50..=74 if rejects => self.settle(context, tag, false, Verdict::Reject),
                75..=76 if rejects => self.settle(context, tag, true, Verdict::Reject),
                // What comes back at once is not sent back for ever.
                77..=84 if !redelivered || context.random.once_in(4) => {
                    self.settle(context, tag, false, Verdict::Requeue);
                }
                85 if context.random.once_in(2) => self.recover(context)?,
                86 => self.make_sure(context)?,
                _ => {}
            }
        }
        self.make_room(context);
        Ok(())
    }

    /// What was kept is settled before it stops the deliveries.
    fn make_room(&mut self, context: &mut Context) {
        if let Some((&last, (queue, _))) = self.unacked.last_key_value()
            && self.unacked.len() * 4 >= usize::from(self.style.prefetch) * 3
            && self.acks < self.style.acks_max
        {
            let rejects = queue.graveyard().is_some();
            let verdict = match context.random.between(0, 9) {
                0..=1 => Verdict::Requeue,
                2..=8 if self.style.fails => Verdict::Requeue,
                2..=4 if rejects => Verdict::Reject,
                _ => Verdict::Ack,
            };
            self.settle(context, last, true, verdict);
        }
    }

    /// Settles one delivery, or all up to it.
    fn settle(&mut self, context: &mut Context, tag: u64, multiple: bool, verdict: Verdict) {
        let rest = self.unacked.split_off(&(tag + 1));
        let mut settled = std::mem::replace(&mut self.unacked, rest);
        if !multiple {
            let others = settled.split_off(&tag);
            self.unacked.append(&mut settled);
            settled = others;
        }
        if settled.is_empty() {
            return;
        }
        for &(queue, id) in settled.values() {
            let dropped = verdict == Verdict::Reject && queue.graveyard().is_none();
            context.settle(queue, id, if dropped { Verdict::Ack } else { verdict });
        }
        self.acks += settled.len();
        let delivery_tag = DeliveryTag::new(tag);
        let requeue = verdict == Verdict::Requeue;
        match verdict {
            Verdict::Ack => self.client.send(1, basic::Ack { delivery_tag, multiple }),
            Verdict::Reject | Verdict::Requeue if multiple || context.random.once_in(2) => {
                self.client.send(1, basic::Nack { delivery_tag, multiple, requeue });
            }
            Verdict::Reject | Verdict::Requeue => self.client.send(1, basic::Reject { delivery_tag, requeue }),
        }
    }

    /// Sends everything back at once.
    fn recover(&mut self, context: &mut Context) -> Outcome<()> {
        self.client.send(1, basic::Recover { requeue: true });
        // What is delivered before the answer goes back, too.
        self.wait_for("basic.recover-ok", context)?;
        for (queue, id) in std::mem::take(&mut self.unacked).into_values() {
            context.settle(queue, id, Verdict::Requeue);
        }
        Ok(())
    }

    /// Waits until everything settled so far is on disk: so is what was asked for before a definition that is known to be. But
    /// for dead letters: one whose body has left memory moves when it was read back.
    fn make_sure(&mut self, context: &mut Context) -> Outcome<()> {
        let settled = context.log.settlements.len();
        let exchange = s(&format!("sure-{}", context.slot));
        // The first answer tells that the settlements have been carried out; the second waits for a commit after them.
        self.client.send(2, exchange::Delete { exchange: exchange.clone(), ..exchange::Delete::default() });
        self.wait_for("exchange.delete-ok", context)?;
        let kind = s("fanout");
        self.client.send(2, exchange::Declare { exchange, kind, durable: true, ..exchange::Declare::default() });
        self.wait_for("exchange.declare-ok", context)?;
        for settlement in &mut context.log.settlements[self.settled_before..settled] {
            settlement.stored = settlement.verdict != Verdict::Reject;
        }
        Ok(())
    }

    /// Leaves the broker, with a word or without.
    fn leave(mut self, context: &mut Context) -> Outcome<()> {
        match context.random.between(0, 3) {
            // What has been sent may or may not be read.
            0 => self.client.flush(),
            1 => self.client.close(),
            _ => {
                let close = channel::Close {
                    reply_code: ReplyCode::REPLY_SUCCESS,
                    reply_text: ShortString::default(),
                    class_id: ClassId::new(0),
                    method_id: MethodId::new(0),
                };
                self.client.send(1, close);
                loop {
                    match self.client.next()?.method {
                        Method::BasicDeliver(_) => {}
                        Method::ChannelCloseOk(_) => return Ok(()),
                        other => return problem(format!("unexpected: {other:?}")),
                    }
                }
            }
        }
    }
}
