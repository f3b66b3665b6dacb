//! What simulated clients do by themselves: one random thing at a time, whatever state they are in.

use leveret_protocol::{BasicProperties, Method, ReplyCode, basic, channel, confirm, connection, queue, tx};

use super::client::{Answer, Channel, Client, Consumer, Phase, Role, filler, short};
use super::entities::{Standing, binding_of};
use super::invariants::{Book, Outcome, TokenId};
use super::plan::Plan;
use super::queues::{FAN, KINDS, PICK};
use super::random::Random;

/// Channels that a client has at most.
const CHANNELS_MAX: usize = 3;

/// What clients act on.
pub(super) struct Stage<'a> {
    pub(super) random: &'a mut Random,
    pub(super) book: &'a mut Book,
    pub(super) plan: &'a Plan,
}

impl Client {
    /// Does something. Returns what, for the trace.
    pub(super) fn act(&mut self, stage: &mut Stage<'_>) -> String {
        if self.phase != Phase::Open {
            return "waits".to_owned();
        }
        let random = &mut *stage.random;
        if random.once_in(400) {
            return self.close_connection(stage.book);
        }
        let usable: Vec<u16> = self.channels.iter().filter(|(_, open)| open.is_usable()).map(|(id, _)| *id).collect();
        if self.channels.len() < CHANNELS_MAX && (usable.is_empty() || random.once_in(15)) {
            return self.open_channel(stage);
        }
        let Some(&id) = random.one_of(&usable) else { return "waits".to_owned() };
        match self.channels[&id].role {
            Role::Publish | Role::Confirm => {
                if stage.random.once_in(120) {
                    self.leave(id, stage)
                } else {
                    self.publish(id, stage)
                }
            }
            Role::Consume => self.consume_something(id, stage),
            Role::Transact => self.transact(id, stage),
            Role::Arrange => self.arrange(id, stage),
        }
    }

    /// Sends connection.close.
    pub(super) fn close_connection(&mut self, book: &mut Book) -> String {
        for channel in self.channels.values_mut() {
            channel.release(book);
        }
        self.phase = Phase::Closing;
        self.send(0, connection::Close { reply_code: ReplyCode::new(200), ..connection::Close::default() });
        "closes its connection".to_owned()
    }

    fn open_channel(&mut self, stage: &mut Stage<'_>) -> String {
        let random = &mut *stage.random;
        let id = (1..=u16::MAX).find(|id| !self.channels.contains_key(id)).expect("few channels are open");
        let weights = stage.plan.roles;
        let role = match random.weighted(&weights) {
            Some(0) => Role::Publish,
            Some(1) => Role::Confirm,
            Some(2) => Role::Transact,
            Some(4) => Role::Arrange,
            _ => Role::Consume,
        };
        let mut opened = Channel::new(stage.book.opened(), role);
        self.send(id, channel::Open::default());
        opened.expect("channel.open-ok", Answer::Nothing);
        match role {
            Role::Publish | Role::Arrange => {}
            Role::Confirm => {
                self.send(id, confirm::Select::default());
                opened.expect("confirm.select-ok", Answer::Nothing);
            }
            Role::Transact => {
                self.send(id, tx::Select {});
                opened.expect("tx.select-ok", Answer::Nothing);
            }
            Role::Consume => {
                if random.once_in(4) {
                    opened.limit = u32::try_from(random.between(1, 4)).expect("small");
                    let prefetch_count = u16::try_from(opened.limit).expect("small");
                    self.send(id, basic::Qos { prefetch_count, global: true, ..basic::Qos::default() });
                    opened.expect("basic.qos-ok", Answer::Nothing);
                }
            }
        }
        self.channels.insert(id, opened);
        format!("opens channel {id} to {role:?}")
    }

    fn leave(&mut self, id: u16, stage: &mut Stage<'_>) -> String {
        let Some(open) = self.channels.get_mut(&id) else { return String::new() };
        open.release(stage.book);
        if stage.random.once_in(4) {
            open.erring = true;
            let delivery_tag = leveret_protocol::DeliveryTag::new(open.next_tag + 1_000_000);
            self.send(id, basic::Ack { delivery_tag, multiple: false });
            return format!("makes a mistake on channel {id}");
        }
        open.leaving = true;
        open.expect("channel.close-ok", Answer::Closed);
        self.send(id, channel::Close { reply_code: ReplyCode::new(200), ..channel::Close::default() });
        format!("closes channel {id}")
    }

    fn publish(&mut self, id: u16, stage: &mut Stage<'_>) -> String {
        let Stage { random, book, plan } = stage;
        let queue = *random.one_of(&plan.queues).expect("there are queues");
        let (exchange, key, targets) = match random.between(0, 7) {
            0 => (FAN, "anything", plan.fanned.clone()),
            1 => (PICK, FAN, plan.fanned.clone()),
            2 => (PICK, KINDS[queue].name, vec![queue]),
            _ => ("", KINDS[queue].name, vec![queue]),
        };
        let count = random.between(1, 4);
        let risky = targets.iter().any(|target| KINDS[*target].refuses);
        if let Some(open) = self.channels.get_mut(&id).filter(|open| risky && open.role == Role::Transact) {
            if book.has_touched(open.uid) {
                return "waits".to_owned();
            }
            open.risky = true;
        }
        let persistent = !random.once_in(4);
        let mut numbers = Vec::new();
        for _ in 0..count {
            let Some(open) = self.channels.get_mut(&id) else { break };
            let group = match open.role {
                Role::Transact => *open.group.get_or_insert_with(|| book.begin(true)),
                Role::Publish | Role::Confirm | Role::Consume | Role::Arrange => book.begin(false),
            };
            if open.role == Role::Confirm {
                open.published += 1;
                open.unconfirmed.insert(open.published, group);
            }
            let priority = u8::try_from(random.between(0, 3)).expect("small");
            let number = book.published(open.uid, group, &targets, persistent, priority);
            numbers.push(number);
            let letters = targets.iter().all(|target| KINDS[*target].dead.is_some());
            let properties = BasicProperties {
                delivery_mode: Some(if persistent { 2 } else { 1 }),
                priority: Some(priority),
                expiration: (letters && random.once_in(6)).then(|| short(&random.between(0, 2000).to_string())),
                ..BasicProperties::default()
            };
            let mut body = number.to_be_bytes().to_vec();
            let len = plan.body_len(random);
            body.extend(filler(number, len));
            let publish =
                basic::Publish { exchange: short(exchange), routing_key: short(key), ..basic::Publish::default() };
            let frame_max = if random.once_in(8) { 64 } else { 131_072 };
            self.send_content(id, publish, &properties, &body, frame_max);
        }
        let mode = if persistent { "persistent" } else { "transient" };
        format!("publishes {numbers:?} {mode} on channel {id} to {exchange:?} {key}")
    }

    /// Declares or deletes a queue of its own, or its binding.
    fn arrange(&mut self, id: u16, stage: &mut Stage<'_>) -> String {
        let Stage { random, book, .. } = stage;
        let Some(open) = self.channels.get_mut(&id) else { return String::new() };
        let name = format!("own-{}-{}", self.at, random.index(3));
        let binding = binding_of(&name);
        let asked = |standing: Standing| matches!(standing, Standing::Doubtful(uid) if book.lives(uid));
        let (queue, bound) = (book.entities.standing(&name), book.entities.standing(&binding));
        if asked(queue) || asked(bound) {
            return "waits".to_owned();
        }
        let (method, answer, arranged): (Method, _, _) = match (queue, random.between(0, 3)) {
            (Standing::There, 0) => {
                let bind = queue::Bind {
                    queue: short(&name),
                    exchange: short(PICK),
                    routing_key: short(&name),
                    ..queue::Bind::default()
                };
                (bind.into(), "queue.bind-ok", vec![(binding, true)])
            }
            (Standing::There, 1) => {
                let unbind = queue::Unbind {
                    queue: short(&name),
                    exchange: short(PICK),
                    routing_key: short(&name),
                    ..queue::Unbind::default()
                };
                (unbind.into(), "queue.unbind-ok", vec![(binding, false)])
            }
            (Standing::There, _) | (Standing::Doubtful(_), 0) => {
                let delete = queue::Delete { queue: short(&name), ..queue::Delete::default() };
                (delete.into(), "queue.delete-ok", vec![(name.clone(), false), (binding, false)])
            }
            (Standing::Gone | Standing::Doubtful(_), _) => {
                let declare = queue::Declare { queue: short(&name), durable: true, ..queue::Declare::default() };
                (declare.into(), "queue.declare-ok", vec![(name.clone(), true)])
            }
        };
        for (entity, _) in &arranged {
            book.entities.asked(entity, open.uid);
        }
        open.expect(answer, Answer::Arranged(arranged));
        let what = method.name();
        self.send(id, method);
        format!("wants {what} of {name} on channel {id}")
    }

    fn consume_something(&mut self, id: u16, stage: &mut Stage<'_>) -> String {
        let open = &self.channels[&id];
        let (live, held) = (open.consumers.values().filter(|consumer| !consumer.cancelling).count(), open.held.len());
        let weights =
            [if live < 3 { 8 } else { 0 }, if live > 0 { 2 } else { 0 }, if held > 0 { 50 } else { 0 }, 2, 8, 6, 1];
        match stage.random.weighted(&weights) {
            Some(0) => self.consume(id, stage),
            Some(1) => self.cancel(id, stage),
            Some(2) => self.settle(id, stage),
            Some(3) => self.recover(id, stage.book),
            Some(4) => self.get(id, stage),
            Some(5) => self.limit(id, stage),
            _ => self.leave(id, stage),
        }
    }

    fn transact(&mut self, id: u16, stage: &mut Stage<'_>) -> String {
        let open = &self.channels[&id];
        let live = open.consumers.values().filter(|consumer| !consumer.cancelling).count();
        let held = open.held.values().filter(|held| held.in_tx.is_none()).count();
        let weights =
            [10, if live < 2 { 4 } else { 0 }, if held > 0 { 12 } else { 0 }, 4, 8, 2, 1, u64::from(live > 0)];
        match stage.random.weighted(&weights) {
            Some(0) => self.publish(id, stage),
            Some(1) => self.consume(id, stage),
            Some(2) => self.settle(id, stage),
            Some(3) => self.get(id, stage),
            Some(4) => self.commit(id, stage.book),
            Some(5) => self.roll_back(id, stage.book),
            Some(7) => self.cancel(id, stage),
            _ => self.leave(id, stage),
        }
    }

    fn consume(&mut self, id: u16, stage: &mut Stage<'_>) -> String {
        self.tags += 1;
        let tag = format!("c{}", self.tags);
        let Some(open) = self.channels.get_mut(&id) else { return String::new() };
        let queue = stage.plan.any_queue(stage.random);
        let kind = &KINDS[queue];
        if open.risky || (kind.quorum && open.limit > 0) {
            return "waits".to_owned();
        }
        let no_ack = kind.no_ack && stage.random.once_in(2);
        stage.book.touches(open.uid, queue, no_ack);
        let prefetch = open.prefetch;
        open.consumers.insert(tag.clone(), Consumer { queue, no_ack, prefetch, unacked: 0, cancelling: false });
        open.expect("basic.consume-ok", Answer::Consuming(tag.clone()));
        let consume =
            basic::Consume { queue: short(kind.name), consumer_tag: short(&tag), no_ack, ..basic::Consume::default() };
        self.send(id, consume);
        format!("consumes {} on channel {id} as {tag}, prefetch {prefetch}, no-ack {no_ack}", kind.name)
    }

    fn cancel(&mut self, id: u16, stage: &mut Stage<'_>) -> String {
        let Some(open) = self.channels.get_mut(&id) else { return String::new() };
        let live = open.consumers.iter().filter(|(_, consumer)| !consumer.cancelling);
        let tags: Vec<String> = live.map(|(tag, _)| tag.clone()).collect();
        let Some(tag) = stage.random.one_of(&tags) else { return String::new() };
        if let Some(consumer) = open.consumers.get_mut(tag) {
            consumer.cancelling = true;
        }
        open.expect("basic.cancel-ok", Answer::Cancelled(tag.clone()));
        self.send(id, basic::Cancel { consumer_tag: short(tag), no_wait: false });
        format!("cancels {tag} on channel {id}")
    }

    fn get(&mut self, id: u16, stage: &mut Stage<'_>) -> String {
        let Some(open) = self.channels.get_mut(&id) else { return String::new() };
        let queue = stage.plan.any_queue(stage.random);
        let kind = &KINDS[queue];
        if open.risky {
            return "waits".to_owned();
        }
        let no_ack = kind.no_ack && stage.random.once_in(2);
        stage.book.touches(open.uid, queue, no_ack);
        open.expect("basic.get-ok", Answer::Got { queue, no_ack });
        self.send(id, basic::Get { queue: short(kind.name), no_ack });
        format!("gets from {} on channel {id}, no-ack {no_ack}", kind.name)
    }

    fn limit(&mut self, id: u16, stage: &mut Stage<'_>) -> String {
        let Some(open) = self.channels.get_mut(&id) else { return String::new() };
        let prefetch_count = u16::try_from(stage.random.between(0, 5)).expect("small");
        open.prefetch = prefetch_count.into();
        open.expect("basic.qos-ok", Answer::Nothing);
        self.send(id, basic::Qos { prefetch_count, ..basic::Qos::default() });
        format!("wants {prefetch_count} at a time on channel {id}")
    }

    fn settle(&mut self, id: u16, stage: &mut Stage<'_>) -> String {
        let Stage { random, book, .. } = stage;
        let Some(open) = self.channels.get_mut(&id) else { return String::new() };
        let free: Vec<u64> = open.held.iter().filter(|(_, held)| held.in_tx.is_none()).map(|(tag, _)| *tag).collect();
        let Some(&tag) = random.one_of(&free) else { return String::new() };
        let multiple = random.once_in(3);
        // Zero means everything delivered: what is still on its way would be settled unseen.
        let everything = multiple && open.consumers.is_empty() && open.expected.is_empty() && random.once_in(3);
        let tags: Vec<u64> = match (everything, multiple) {
            (true, _) => free,
            (false, true) => free.into_iter().filter(|other| *other <= tag).collect(),
            (false, false) => vec![tag],
        };
        let outcome = match random.between(0, 5) {
            0 => Outcome::Reject,
            1 => Outcome::Requeue,
            _ => Outcome::Ack,
        };
        let delivery_tag = leveret_protocol::DeliveryTag::new(if everything { 0 } else { tag });
        for tag in &tags {
            if open.role == Role::Transact {
                if let Some(held) = open.held.get_mut(tag) {
                    held.in_tx = Some(outcome);
                }
            } else if let Some(token) = open.take_held(*tag)
                && book.settled(open.uid, token, outcome)
            {
                open.note_settled(token);
            }
        }
        let requeue = outcome == Outcome::Requeue;
        if outcome == Outcome::Ack {
            self.send(id, basic::Ack { delivery_tag, multiple });
        } else if multiple || random.once_in(2) {
            self.send(id, basic::Nack { delivery_tag, multiple, requeue });
        } else {
            self.send(id, basic::Reject { delivery_tag, requeue });
        }
        format!("on channel {id}: {outcome:?} of {tags:?}")
    }

    fn recover(&mut self, id: u16, book: &mut Book) -> String {
        let Some(open) = self.channels.get_mut(&id) else { return String::new() };
        let tags: Vec<u64> = open.held.iter().filter(|(_, held)| held.in_tx.is_none()).map(|(tag, _)| *tag).collect();
        for tag in tags {
            if let Some(token) = open.take_held(tag) {
                book.settled(open.uid, token, Outcome::Requeue);
            }
        }
        book.recovers(open.uid, false);
        open.expect("basic.recover-ok", Answer::Recovered);
        self.send(id, basic::Recover { requeue: true });
        format!("recovers channel {id}")
    }

    fn commit(&mut self, id: u16, book: &mut Book) -> String {
        let Some(open) = self.channels.get_mut(&id) else { return String::new() };
        let group = open.group.take().unwrap_or_else(|| book.begin(true));
        open.risky = false;
        let mut settled: Vec<(TokenId, Outcome)> = Vec::new();
        let tags: Vec<(u64, Outcome)> =
            open.held.iter().filter_map(|(tag, held)| held.in_tx.map(|outcome| (*tag, outcome))).collect();
        for (tag, outcome) in tags {
            settled.extend(open.take_held(tag).map(|token| (token, outcome)));
        }
        book.committing(open.uid, group, &settled);
        open.expect("tx.commit-ok", Answer::Committed(group));
        self.send(id, tx::Commit {});
        format!("commits {group} on channel {id} with {settled:?}")
    }

    fn roll_back(&mut self, id: u16, book: &mut Book) -> String {
        let Some(open) = self.channels.get_mut(&id) else { return String::new() };
        open.risky = false;
        if let Some(group) = open.group.take() {
            book.voided(group);
        }
        for held in open.held.values_mut() {
            held.in_tx = None;
        }
        open.expect("tx.rollback-ok", Answer::RolledBack);
        self.send(id, tx::Rollback {});
        format!("rolls back on channel {id}")
    }
}

impl Channel {
    /// Whether something can be done on it now.
    pub(super) fn is_usable(&self) -> bool {
        let turning = |answer: &Answer| matches!(answer, Answer::Committed(_) | Answer::RolledBack);
        !self.leaving && !self.erring && !self.expected.iter().any(|expected| turning(&expected.answer))
    }

    /// Nothing more is done with what it holds: it goes back.
    fn release(&mut self, book: &mut Book) {
        book.leaves(self.uid, self.held.values().map(|held| held.token));
    }

    fn take_held(&mut self, tag: u64) -> Option<TokenId> {
        let held = self.held.remove(&tag)?;
        if let Some(consumer) = held.consumer.as_ref().and_then(|name| self.consumers.get_mut(name)) {
            consumer.unacked -= 1;
        }
        Some(held.token)
    }
}
