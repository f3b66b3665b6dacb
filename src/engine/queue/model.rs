//! The queue against a naive model of it: random operations in virtual time, including messages that go to disk and back.
//!
//! The model keeps every message with its state and decides nothing by itself but what the rules say: deliveries come in
//! the order of arrival, requeued ones at their old place; nobody has more unacked than its prefetch limit; a message is in
//! one state; what expired is never delivered; what is rejected is dead-lettered once, also when its body has to be read
//! before; what the store was told adds up, with what it was given only to save memory; what came back says how often, and leaves
//! when that is more than the queue's limit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leveret_protocol::{ChannelId, ShortString};
use proptest::prelude::*;

use super::*;
use crate::engine::message::{ArenaBuilder, Body, MessageParts};

#[derive(Clone, Debug)]
enum Step {
    Publish {
        count: u8,
        persistent: bool,
        expiration_ms: Option<u8>,
    },
    Get {
        no_ack: bool,
    },
    Consume {
        prefetch: u8,
        no_ack: bool,
    },
    Cancel {
        nth: u8,
    },
    Settle {
        nth: u8,
        count: u8,
        outcome: u8,
    },
    Purge,
    Wait {
        millis: u8,
    },
    /// Messages leave memory, but for a window.
    Spill {
        window: usize,
        memory: bool,
    },
    /// An operator looks at all messages, and takes some out.
    Withdraw {
        every: u8,
    },
    /// What was spilled so far can be read back.
    Written,
    /// What was asked for is read.
    Answer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u8..20, any::<bool>(), prop::option::weighted(0.2, 0_u8..60))
            .prop_map(|(count, persistent, expiration_ms)| Step::Publish { count, persistent, expiration_ms }),
        2 => any::<bool>().prop_map(|no_ack| Step::Get { no_ack }),
        1 => (0_u8..6, prop::bool::weighted(0.3)).prop_map(|(prefetch, no_ack)| Step::Consume { prefetch, no_ack }),
        1 => any::<u8>().prop_map(|nth| Step::Cancel { nth }),
        5 => (any::<u8>(), 1_u8..8, 0_u8..3).prop_map(|(nth, count, outcome)| Step::Settle { nth, count, outcome }),
        1 => Just(Step::Purge),
        2 => (0_u8..40).prop_map(|millis| Step::Wait { millis }),
        4 => (prop::sample::select(vec![0, 1, 300, 100_000]), prop::bool::weighted(0.7))
            .prop_map(|(window, memory)| Step::Spill { window, memory }),
        2 => (1_u8..9).prop_map(|every| Step::Withdraw { every }),
        2 => Just(Step::Written),
        3 => Just(Step::Answer),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Unacked(Option<ConsumerId>),
    Gone,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
struct Known {
    state: State,
    delivered: bool,
    persistent: bool,
    /// The store was given it.
    spilled: bool,
    rejected: bool,
    dead: bool,
    expires: Option<Timestamp>,
    arena: Arc<Arena>,
    index: u32,
    returns: u32,
}

/// What a queue of the model is asked to be.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent wishes")]
struct Asked {
    quorum: bool,
    ttl_ms: Option<u64>,
    max_length: Option<u64>,
    delivery_limit: Option<u8>,
    at_head: bool,
    /// The queue is not durable.
    transient: bool,
    /// The disk takes its time, and has yet to forget what is settled.
    slow_disk: bool,
}

/// A read that was asked for.
struct Read {
    lane: u8,
    from_seq: u64,
    /// What the disk had at that moment.
    found: Vec<Loaded>,
}

struct Model {
    queue: Queue,
    now: Timestamp,
    messages: BTreeMap<u64, Known>,
    consumers: BTreeMap<ConsumerId, (u32, bool)>,
    cancelled: BTreeSet<ConsumerId>,
    appended: u64,
    settled: u64,
    /// Given to the store to save memory, and taken back.
    spilled: u64,
    unspilled: u64,
    /// Tickets of what was spilled.
    tickets: u64,
    written: u64,
    read: Option<Read>,
    asked: Asked,
    limit: Option<u32>,
    /// What the store knows of returns.
    stored_returns: BTreeMap<u64, u32>,
}

impl Model {
    fn new(asked: Asked) -> Self {
        let settings = QueueSettings {
            queue_type: if asked.quorum { QueueType::Quorum } else { QueueType::Classic },
            message_ttl_ms: asked.ttl_ms,
            max_length: asked.max_length,
            delivery_limit: asked.delivery_limit.map(i64::from),
            expiry_mode: if asked.at_head { ExpiryMode::Head } else { ExpiryMode::OnTime },
            dead_letter_exchange: Some(ShortString::from_static("dlx")),
            ..QueueSettings::default()
        };
        let now = Timestamp::from_millis(1_000);
        let limit = settings.return_limit();
        Self {
            queue: Queue::new(settings, !asked.transient, now),
            now,
            messages: BTreeMap::new(),
            consumers: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            appended: 0,
            settled: 0,
            spilled: 0,
            unspilled: 0,
            tickets: 0,
            written: 0,
            read: None,
            asked,
            limit,
            stored_returns: BTreeMap::new(),
        }
    }

    /// The lane that every message goes to.
    fn lane(&self) -> u8 {
        if self.asked.quorum { 4 } else { 0 }
    }

    fn arena(&self, count: u8, persistent: bool, expiration_ms: Option<u8>) -> Arc<Arena> {
        let mut builder = ArenaBuilder::new();
        for nth in 0..count {
            builder.push(&MessageParts {
                exchange: b"",
                routing_key: b"q",
                properties: &[0, 0],
                body: Body::Borrowed(&vec![nth; usize::from(nth)]),
                persistent,
                priority: 0,
                expiration_ms: expiration_ms.map(u64::from),
                broker_deaths: false,
                enqueued_at: self.now,
            });
        }
        builder.finish()
    }

    fn is_expired(&self, known: &Known) -> bool {
        known.expires.is_some_and(|expires| expires <= self.now)
    }

    /// Follows what the queue says it did.
    fn follow(&mut self, fx: Vec<QueueEffect>) {
        for effect in fx {
            match effect {
                QueueEffect::Deliver { consumer, run } => {
                    let (prefetch, no_ack) = self.consumers[&consumer];
                    self.delivered(&run, if no_ack { State::Gone } else { State::Unacked(Some(consumer)) });
                    let held = self.messages.values().filter(|known| known.state == State::Unacked(Some(consumer)));
                    assert!(no_ack || prefetch == 0 || held.count() <= prefetch as usize, "prefetch exceeded");
                }
                QueueEffect::Append { count, .. } => self.appended += u64::from(count),
                QueueEffect::Spill { first_seq, count, arena, index, ticket, .. } => {
                    self.tickets += u64::from(ticket.get() == 0);
                    ticket.set(self.tickets);
                    self.spilled += u64::from(count);
                    for nth in 0..count {
                        let seq = first_seq + u64::from(nth);
                        let awaited = self.is_awaited(seq);
                        let known = self.messages.get_mut(&seq).expect("known");
                        assert!(!known.persistent && !known.spilled && (awaited || known.state != State::Gone));
                        assert_eq!(known.arena.message(known.index).body(), arena.message(index + nth).body());
                        known.spilled = true;
                    }
                }
                QueueEffect::Settled { settled, .. } if settled.kept == Kept::Spilled => {
                    self.unspilled += settled.count;
                }
                QueueEffect::Settled { settled, .. } => {
                    assert_eq!(settled.kept, Kept::Durable, "what only memory has needs no word");
                    self.settled += settled.count;
                    self.stored_returns.retain(|seq, _| !(settled.first_seq..=settled.last_seq).contains(seq));
                }
                QueueEffect::Returned { seq, count, .. } => {
                    self.stored_returns.insert(seq, count);
                }
                QueueEffect::DeadLetter { run, .. } => {
                    for (seq, message) in run.messages() {
                        let known = self.messages.get_mut(&seq).expect("known");
                        assert_eq!(message.body(), known.arena.message(known.index).body());
                        assert!(!std::mem::replace(&mut known.dead, true), "{seq} died twice");
                        if known.state == State::Ready {
                            // Expired or dropped; a rejected one is marked by who rejects it.
                            known.state = State::Gone;
                        }
                    }
                }
                QueueEffect::Load { from_seq, lane, .. } => {
                    assert!(self.read.is_none(), "one read at a time");
                    let found = self.on_disk(from_seq);
                    self.read = Some(Read { lane, from_seq, found });
                    if !self.asked.slow_disk {
                        self.answer();
                    }
                }
            }
        }
    }

    /// What is stored from there on. A slow disk has what is settled too.
    fn on_disk(&self, from_seq: u64) -> Vec<Loaded> {
        let slow = self.asked.slow_disk;
        let all = self.messages.range(from_seq..).filter(|(seq, known)| {
            let there = slow || known.state != State::Gone || self.is_awaited(**seq);
            there && (known.persistent || known.spilled)
        });
        all.take(5)
            .map(|(seq, known)| Loaded {
                first_seq: *seq,
                arena: known.arena.clone(),
                index: known.index,
                count: 1,
                kept: if known.persistent { Kept::Durable } else { Kept::Spilled },
            })
            .collect()
    }

    /// Rejected, but not gone before its body is read.
    fn is_awaited(&self, seq: u64) -> bool {
        self.queue.lane(self.lane()).is_some_and(|lane| lane.awaited.iter().any(|awaited| awaited.contains(seq)))
    }

    /// The disk answers.
    fn answer(&mut self) {
        let Some(Read { lane, from_seq, found }) = self.read.take() else { return };
        let complete_below = if found.len() == 5 { found[4].first_seq + 1 } else { u64::MAX };
        let mut fx = Vec::new();
        let answer = Answer { from_seq, complete_below, loaded: found, gone: Vec::new() };
        let difference = self.queue.loaded(self.now, lane, answer, &mut fx);
        assert_eq!(difference, Difference::default(), "what was spilled comes back");
        self.follow(fx);
    }

    /// What an operator sees: everything, from memory and from the disk.
    fn look(&self) -> Vec<Seen> {
        let wanted = Wanted { ready: true, unacked: true };
        let (mut seen, mut from) = (Vec::new(), None);
        loop {
            let look = self.queue.look(from, wanted, 7);
            seen.extend(look.seen);
            from = match look.next {
                Next::End => return seen,
                Next::At(id) => Some(id),
                Next::Disk { from: MessageId { lane, seq }, until_seq } => {
                    let found = self.on_disk(seq);
                    let read_below = if found.len() == 5 { found[4].first_seq + 1 } else { u64::MAX };
                    let below = read_below.min(until_seq);
                    seen.extend(self.queue.seen_on_disk(lane, &found, below, wanted));
                    Some(MessageId { lane, seq: below })
                }
            };
        }
    }

    /// An operator takes out every so many of all messages; of them those that are ready leave.
    fn withdraw(&mut self, every: u8, fx: &mut Vec<QueueEffect>) {
        let seen = self.look();
        let expected: Vec<_> = self
            .messages
            .iter()
            .filter_map(|(seq, known)| match known.state {
                State::Ready => Some((*seq, Standing::Ready)),
                State::Unacked(_) => Some((*seq, Standing::Unacked)),
                State::Gone => self.is_awaited(*seq).then_some((*seq, Standing::Unacked)),
            })
            .collect();
        assert_eq!(seen.iter().map(|each| (each.id.seq, each.standing)).collect::<Vec<_>>(), expected);
        for each in &seen {
            let known = &self.messages[&each.id.seq];
            assert_eq!(each.message().body(), known.arena.message(known.index).body());
            assert!(each.standing == Standing::Unacked || each.redelivered == known.delivered, "{each:?}");
        }
        let chosen: Vec<_> = seen.iter().step_by(every.into()).collect();
        let picks: Vec<_> = chosen.iter().map(|each| each.pick()).collect();
        let taken = self.queue.withdraw(self.now, &picks, fx);
        for (each, taken) in chosen.iter().zip(taken) {
            assert_eq!(taken, each.standing == Standing::Ready, "{each:?}");
            if taken {
                self.messages.get_mut(&each.id.seq).expect("known").state = State::Gone;
            }
        }
        let again = self.queue.withdraw(self.now, &picks, fx);
        assert!(again.iter().all(|taken| !taken), "taken twice");
    }

    fn delivered(&mut self, run: &Run, state: State) {
        for (seq, message) in run.messages() {
            // Lower ones that are ready now must have come ready later than this was handed out: there are none.
            let lowest = self.messages.iter().find(|(_, known)| known.state == State::Ready && !self.is_expired(known));
            let lowest = lowest.map(|(seq, _)| *seq);
            assert!(self.is_fresh_expiry(seq) || lowest == Some(seq), "delivered {seq}, but {lowest:?} is the oldest");
            let known = self.messages.get_mut(&seq).expect("known");
            assert_eq!(known.state, State::Ready, "{seq} was not ready");
            assert_eq!(known.delivered, run.redelivered, "redelivered flag of {seq}");
            let returns = if self.limit.is_some() { known.returns } else { 0 };
            assert_eq!(run.delivery_count, returns, "returns of {seq}");
            assert_eq!(message.body(), known.arena.message(known.index).body());
            known.state = state;
            known.delivered = true;
        }
    }

    /// Delivered in the moment of its arrival although it lives for no time: that is allowed.
    fn is_fresh_expiry(&self, seq: u64) -> bool {
        let known = &self.messages[&seq];
        self.is_expired(known) && known.arena.message(known.index).enqueued_at() == self.now
    }

    fn outstanding(&self) -> Vec<(u64, Option<ConsumerId>)> {
        let unacked = self.messages.iter().filter_map(|(seq, known)| match known.state {
            State::Unacked(consumer) => Some((*seq, consumer)),
            State::Ready | State::Gone => None,
        });
        unacked.collect()
    }

    fn step(&mut self, step: &Step) {
        let mut fx = Vec::new();
        match *step {
            Step::Publish { count, persistent, expiration_ms } => {
                let arena = self.arena(count, persistent, expiration_ms);
                let as_sent = persistent;
                arena.set_ticket(1);
                let first = self.messages.last_key_value().map_or(0, |(seq, _)| seq + 1);
                let persistent = (persistent || self.asked.quorum) && !self.asked.transient;
                let ttl = self.asked.ttl_ms.into_iter().chain(expiration_ms.map(u64::from)).min();
                for nth in 0..u32::from(count) {
                    let known = Known {
                        state: State::Ready,
                        delivered: false,
                        persistent,
                        spilled: false,
                        rejected: false,
                        dead: false,
                        expires: ttl.map(|ttl| self.now.plus_millis(ttl)),
                        arena: arena.clone(),
                        index: nth,
                        returns: 0,
                    };
                    self.messages.insert(first + u64::from(nth), known);
                }
                assert!(self.queue.publish(self.now, &arena, as_sent, &mut fx).is_empty());
            }
            Step::Get { no_ack } => match self.queue.get(self.now, no_ack, &mut fx) {
                Get::Message { run, .. } => {
                    // What expired on the way is told by the effects, which come first.
                    self.follow(std::mem::take(&mut fx));
                    self.delivered(&run, if no_ack { State::Gone } else { State::Unacked(None) });
                }
                Get::Empty | Get::Loading => {}
            },
            Step::Consume { prefetch, no_ack } => {
                let spec = ConsumerSpec {
                    tag: ShortString::from_static("c"),
                    channel: ChannelId::new(1),
                    no_ack,
                    exclusive: false,
                    prefetch: prefetch.into(),
                    priority: 0,
                    ack_timeout: None,
                    channel_limit: Arc::default(),
                    window: Arc::new(Window::new(usize::MAX)),
                };
                let id = self.queue.add_consumer(self.now, spec);
                self.consumers.insert(id, (prefetch.into(), no_ack));
                self.queue.resume(self.now, &mut fx);
            }
            Step::Cancel { nth } => {
                let live: Vec<_> = self.consumers.keys().filter(|id| !self.cancelled.contains(id)).copied().collect();
                if let Some(id) = live.get(usize::from(nth) % live.len().max(1)) {
                    self.cancelled.insert(*id);
                    self.queue.remove_consumer(self.now, *id, &mut fx);
                }
            }
            Step::Settle { nth, count, outcome } => {
                let outstanding = self.outstanding();
                let start = usize::from(nth) % outstanding.len().max(1);
                for &(seq, consumer) in outstanding.iter().skip(start).take(count.into()) {
                    let known = self.messages.get_mut(&seq).expect("known");
                    known.state = if outcome == 0 { State::Ready } else { State::Gone };
                    known.rejected = outcome == 2;
                    if outcome == 0 {
                        known.returns += 1;
                        if self.limit.is_some_and(|limit| known.returns > limit) {
                            known.state = State::Gone;
                            known.rejected = true;
                        }
                    }
                    let delivered = Delivered { consumer, lane: self.lane(), first_seq: seq, last_seq: seq };
                    match outcome {
                        0 => self.queue.requeue(self.now, delivered, &mut fx),
                        1 => self.queue.ack(self.now, delivered, &mut fx),
                        _ => self.queue.reject(self.now, delivered, &mut fx),
                    }
                    self.follow(std::mem::take(&mut fx));
                }
            }
            Step::Purge => {
                self.queue.purge(&mut fx);
                for known in self.messages.values_mut().filter(|known| known.state == State::Ready) {
                    known.state = State::Gone;
                }
            }
            Step::Wait { millis } => {
                self.now = self.now.plus_millis(millis.into());
                self.queue.handle_timeout(self.now, &mut fx);
            }
            Step::Spill { window, memory } => {
                let plan = SpillPlan { window_bytes: window, spill_memory: memory, spilled: self.written };
                self.queue.set_window(window);
                self.queue.spill(plan, |ticket| ticket > 0, &mut fx);
            }
            Step::Withdraw { every } => self.withdraw(every, &mut fx),
            Step::Written => self.written = self.tickets,
            Step::Answer => self.answer(),
        }
        self.follow(fx);
        self.check();
    }

    fn check(&self) {
        let count =
            |wanted: fn(State) -> bool| self.messages.values().filter(|known| wanted(known.state)).count() as u64;
        let (ready, unacked) =
            (count(|state| state == State::Ready), count(|state| matches!(state, State::Unacked(_))));
        let awaited = |known: &Known, seq: u64| known.state == State::Gone && self.is_awaited(seq);
        let leaving: Vec<_> = self.messages.iter().filter(|(seq, known)| awaited(known, **seq)).collect();
        assert_eq!(
            (self.queue.ready(), self.queue.unacked()),
            (ready, unacked + leaving.len() as u64),
            "ready and unacked"
        );
        let body_bytes = |(seq, known): (&u64, &Known)| {
            let stays = known.state != State::Gone || awaited(known, *seq);
            if stays { known.arena.message(known.index).body_len() as u64 } else { 0 }
        };
        let figures = self.queue.figures();
        let sum: u64 = self.messages.iter().map(body_bytes).sum();
        assert_eq!(figures.ready_body_bytes + figures.unacked_body_bytes, sum, "octets of bodies");
        for (seq, known) in &self.messages {
            let due = known.rejected && !awaited(known, *seq);
            assert!(!due || known.dead, "{seq} was rejected and is no dead letter");
        }
        if let Some(max) = self.asked.max_length.filter(|_| !self.asked.slow_disk) {
            assert!(ready <= max, "{ready} ready, at most {max} allowed");
        }
        let there = |kept: fn(&Known) -> bool| {
            let all = self
                .messages
                .iter()
                .filter(|(seq, known)| kept(known) && (known.state != State::Gone || awaited(known, **seq)));
            all.count() as u64
        };
        assert_eq!(self.appended - self.settled, there(|known| known.persistent), "what the store was told");
        assert_eq!(self.spilled - self.unspilled, there(|known| known.spilled), "what is spilled");
        let returns: BTreeMap<_, _> = self
            .messages
            .iter()
            .filter(|(seq, known)| known.persistent && (known.state != State::Gone || awaited(known, **seq)))
            .map(|(seq, known)| (*seq, known.returns))
            .filter(|(_, returns)| self.limit.is_some() && *returns > 0)
            .collect();
        assert_eq!(self.stored_returns, returns, "what the store was told of returns");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_queue_behaves_as_the_model_says(
        steps in steps(),
        ttl_ms in prop::option::weighted(0.2, 0_u64..50),
        max_length in prop::option::weighted(0.2, 0_u64..30),
        delivery_limit in prop::option::weighted(0.4, 0_u8..4),
        quorum in any::<bool>(),
        at_head in prop::bool::weighted(0.2),
        transient in prop::bool::weighted(0.3),
        slow_disk in any::<bool>(),
    ) {
        let quorum = quorum && !transient;
        let mut model = Model::new(Asked { quorum, ttl_ms, max_length, delivery_limit, at_head, transient, slow_disk });
        for step in &steps {
            model.step(step);
        }
        // In the end everything can be taken and settled.
        while model.queue.ready() + model.queue.unacked() > 0 {
            model.step(&Step::Settle { nth: 0, count: 255, outcome: 1 });
            model.step(&Step::Get { no_ack: true });
            model.step(&Step::Answer);
        }
        prop_assert_eq!(model.appended, model.settled);
        prop_assert_eq!(model.spilled, model.unspilled);
    }
}
