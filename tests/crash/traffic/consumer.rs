//! Consuming: acks, nacks and rejects in every form, consumers that leave and come back, and one that does not ack.

use std::collections::BTreeMap;

use leveret_protocol::{ClassId, DeliveryTag, Method, MethodId, ReplyCode, ShortString, basic, channel};

use super::Context;
use crate::client::{Arrived, Client, Outcome, problem, s};
use crate::log::Verdict;
use crate::messages::{MessageId, Queue};

/// How a consumer behaves.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub queue: Queue,
    prefetch: u16,
    /// It leaves now and then, in one way or another, and comes back.
    leaves: bool,
    /// It does not ack.
    auto_ack: bool,
    /// After so many acks it keeps what it gets.
    acks_max: usize,
}

impl Style {
    const fn new(queue: Queue, prefetch: u16) -> Self {
        Self { queue, prefetch, leaves: false, auto_ack: false, acks_max: usize::MAX }
    }

    /// Consumers of a deep queue: one of them is slow to ack.
    pub const DEEP: [Self; 2] = [Self::new(Queue::First, 30), Self { leaves: true, ..Self::new(Queue::First, 300) }];

    /// The consumers of a round. The queues that are not here are looked at between the rounds only.
    pub const ALL: [Self; 9] = [
        Self::new(Queue::First, 40),
        Self { leaves: true, ..Self::new(Queue::First, 8) },
        Self { leaves: true, ..Self::new(Queue::FanA, 100) },
        Self::new(Queue::TopicEven, 10),
        Self { auto_ack: true, ..Self::new(Queue::TopicOdd, 0) },
        Self::new(Queue::Work, 30),
        Self::new(Queue::Work, 1),
        Self { acks_max: 50, ..Self::new(Queue::Dead, 20) },
        Self::new(Queue::Ranked, 25),
    ];
}

/// One life of a consumer's connection.
struct Life {
    client: Client,
    style: Style,
    consumer: u32,
    unacked: BTreeMap<u64, MessageId>,
    acks: usize,
}

pub fn run(context: &mut Context, style: Style) -> Outcome<()> {
    if style.leaves {
        context.log.deserted.insert(style.queue);
    }
    if style.auto_ack {
        context.log.auto_acked.insert(style.queue);
    }
    loop {
        let mut life = Life::begin(context, style)?;
        context.begin();
        let deliveries = if style.leaves { context.random.count(10, 300) } else { usize::MAX };
        for _ in 0..deliveries {
            life.consume(context)?;
        }
        life.leave(context)?;
    }
}

impl Life {
    fn begin(context: &mut Context, style: Style) -> Outcome<Self> {
        let mut client = context.connect()?;
        client.open_channel(1)?;
        client.send(1, basic::Qos { prefetch_count: style.prefetch, ..basic::Qos::default() });
        client.expect("basic.qos-ok")?;
        client.send(
            1,
            basic::Consume {
                queue: s(style.queue.name()),
                consumer_tag: s("c"),
                no_ack: style.auto_ack,
                ..basic::Consume::default()
            },
        );
        client.expect("basic.consume-ok")?;
        Ok(Self { client, style, consumer: context.numbers.consumer(), unacked: BTreeMap::new(), acks: 0 })
    }

    /// Takes one delivery and decides about it.
    fn consume(&mut self, context: &mut Context) -> Outcome<()> {
        let Arrived { method, content, .. } = self.client.next()?;
        let Method::BasicDeliver(deliver) = method else { return problem(format!("unexpected: {method:?}")) };
        let (tag, redelivered) = (deliver.delivery_tag.get(), deliver.redelivered);
        let id = context.on_deliver(self.style.queue, self.consumer, deliver, content)?;
        if self.style.auto_ack {
            return Ok(());
        }
        if self.unacked.insert(tag, id).is_some() {
            return problem(format!("delivery tag {tag} comes twice"));
        }
        if self.style.prefetch > 0 && self.unacked.len() > usize::from(self.style.prefetch) {
            return problem(format!("{} unacked with a prefetch of {}", self.unacked.len(), self.style.prefetch));
        }
        if self.acks >= self.style.acks_max {
            return Ok(());
        }
        let rejects = self.style.queue.graveyard().is_some();
        match context.random.between(0, 99) {
            0..=44 => self.settle(context, tag, false, Verdict::Ack),
            45..=49 => self.settle(context, tag, true, Verdict::Ack),
            50..=74 if rejects => self.settle(context, tag, false, Verdict::Reject),
            75..=76 if rejects => self.settle(context, tag, true, Verdict::Reject),
            // What comes back at once is not sent back for ever.
            77..=84 if !redelivered || context.random.once_in(4) => self.settle(context, tag, false, Verdict::Requeue),
            _ => {}
        }
        // What was kept is settled before it stops the deliveries.
        if let Some((&last, _)) = self.unacked.last_key_value()
            && self.unacked.len() * 4 >= usize::from(self.style.prefetch) * 3
        {
            let verdict = match context.random.between(0, 9) {
                0..=1 => Verdict::Requeue,
                2..=4 if rejects => Verdict::Reject,
                _ => Verdict::Ack,
            };
            self.settle(context, last, true, verdict);
        }
        Ok(())
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
        for &id in settled.values() {
            context.settle(self.style.queue, id, verdict);
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
