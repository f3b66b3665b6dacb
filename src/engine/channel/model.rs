//! A channel's books against naive ones: every delivery and every publish in a plain list, looked through from the start.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;
use leveret_protocol::{ChannelId, ClassId, DeliveryTag, HeaderRef, basic};
use proptest::prelude::*;

use super::Channel;
use super::confirm::Confirms;
use super::content::Assembly;
use super::unacked::{Entry, Outcome, Settlements, Unacked};
use crate::engine::queue::{ConsumerId, QueueId};
use crate::error::AmqpError;

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![3 => Just(Outcome::Ack), 1 => Just(Outcome::Reject), 1 => Just(Outcome::Requeue)]
}

#[derive(Clone, Debug)]
enum Step {
    Deliver { queue: u8, consumer: Option<u8>, count: u8 },
    DeliverWithoutAck,
    Settle { tag: u64, multiple: bool, outcome: Outcome },
    Hold { tag: u64, multiple: bool, outcome: Outcome },
    Commit,
    RollBack,
    Recover,
    Lapse { queue: u8, consumer: u8 },
    End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let settling = || (0_u64..30, any::<bool>(), outcomes());
    let step = prop_oneof![
        8 => (0_u8..3, prop::option::weighted(0.7, 0_u8..2), 1_u8..5)
            .prop_map(|(queue, consumer, count)| Step::Deliver { queue, consumer, count }),
        2 => Just(Step::DeliverWithoutAck),
        8 => settling().prop_map(|(tag, multiple, outcome)| Step::Settle { tag, multiple, outcome }),
        4 => settling().prop_map(|(tag, multiple, outcome)| Step::Hold { tag, multiple, outcome }),
        2 => Just(Step::Commit),
        1 => Just(Step::RollBack),
        1 => Just(Step::Recover),
        1 => (0_u8..3, 0_u8..2).prop_map(|(queue, consumer)| Step::Lapse { queue, consumer }),
        1 => Just(Step::End),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Outstanding,
    Held(Outcome),
    Lapsed,
    Settled,
}

/// One delivery after the other; the tag is the place in the list.
#[derive(Debug, Default)]
struct Naive {
    deliveries: Vec<(Entry, Known)>,
    next_seq: BTreeMap<QueueId, u64>,
}

impl Naive {
    fn deliver(&mut self, queue: QueueId, consumer: Option<ConsumerId>, known: Known) -> (Entry, DeliveryTag) {
        let seq = self.next_seq.entry(queue).or_default();
        let entry = Entry { queue, seq: *seq, consumer, lane: u8::try_from(*seq % 7 / 6).expect("small") };
        *seq += 1;
        self.deliveries.push((entry, known));
        (entry, DeliveryTag::new(self.deliveries.len() as u64))
    }

    /// The places that a tag stands for; `None` if it is unknown.
    fn places(&self, tag: u64, multiple: bool) -> Option<Vec<usize>> {
        if tag == 0 && multiple {
            return Some((0..self.deliveries.len()).collect());
        }
        let at = usize::try_from(tag).expect("small").checked_sub(1)?;
        let (_, known) = self.deliveries.get(at)?;
        if !matches!(known, Known::Outstanding | Known::Lapsed) {
            return None;
        }
        Some(if multiple { (0..=at).collect() } else { vec![at] })
    }

    fn take(&mut self, places: &[usize], outcome: Outcome) -> Vec<(Entry, Outcome)> {
        let mut settled = Vec::new();
        for &at in places {
            let (entry, known) = &mut self.deliveries[at];
            match known {
                Known::Outstanding => {
                    settled.push((*entry, outcome));
                    *known = Known::Settled;
                }
                Known::Lapsed => *known = Known::Settled,
                Known::Held(_) | Known::Settled => {}
            }
        }
        settled
    }

    fn take_where(&mut self, pick: impl Fn(&Entry, Known) -> Option<Outcome>, then: Known) -> Vec<(Entry, Outcome)> {
        let mut settled = Vec::new();
        for (entry, known) in &mut self.deliveries {
            if let Some(outcome) = pick(entry, *known) {
                settled.push((*entry, outcome));
                *known = then;
            }
        }
        settled
    }
}

/// What was collected, one delivery at a time.
fn expanded(out: &mut Settlements) -> Vec<(Entry, Outcome)> {
    let mut all = Vec::new();
    for settlement in out.by_queue().flatten() {
        let delivered = settlement.delivered;
        for seq in delivered.first_seq..=delivered.last_seq {
            let entry = Entry { queue: settlement.queue, seq, consumer: delivered.consumer, lane: delivered.lane };
            all.push((entry, settlement.outcome));
        }
    }
    out.clear();
    all
}

/// As a queue takes back what comes back together: its own order, not that of the deliveries.
fn in_queue_order(mut settled: Vec<(Entry, Outcome)>) -> Vec<(Entry, Outcome)> {
    settled.sort_by_key(|(entry, _)| (entry.queue, Reverse(entry.lane), entry.seq));
    settled
}

fn of_consumers(settled: &[(Entry, Outcome)]) -> u32 {
    u32::try_from(settled.iter().filter(|(entry, _)| entry.consumer.is_some()).count()).expect("few")
}

fn step(unacked: &mut Unacked, naive: &mut Naive, step: &Step) {
    let mut out = Settlements::default();
    match *step {
        Step::Deliver { queue, consumer, count } => {
            for _ in 0..count {
                let (queue, consumer) = (QueueId::new(queue.into()), consumer.map(|id| ConsumerId::new(id.into())));
                let (entry, tag) = naive.deliver(queue, consumer, Known::Outstanding);
                assert_eq!(unacked.push(entry), tag);
                assert_eq!(unacked.queue_of(tag), Some(queue));
            }
        }
        Step::DeliverWithoutAck => {
            let (entry, tag) = naive.deliver(QueueId::new(0), None, Known::Settled);
            assert_eq!(unacked.push_settled(entry), tag);
            assert_eq!(unacked.queue_of(tag), None);
        }
        Step::Settle { tag, multiple, outcome } => {
            let done = unacked.settle(DeliveryTag::new(tag), multiple, outcome, &mut out);
            match naive.places(tag, multiple) {
                Some(places) => {
                    let expected = naive.take(&places, outcome);
                    let expected = if outcome == Outcome::Requeue { in_queue_order(expected) } else { expected };
                    assert_eq!(done, Ok(of_consumers(&expected)));
                    assert_eq!(expanded(&mut out), expected);
                }
                None => assert_eq!(done, Err(AmqpError::UnknownDeliveryTag(DeliveryTag::new(tag)))),
            }
        }
        Step::Hold { tag, multiple, outcome } => {
            let done = unacked.hold(DeliveryTag::new(tag), multiple, outcome);
            assert_eq!(done.is_ok(), naive.places(tag, multiple).is_some());
            for at in naive.places(tag, multiple).unwrap_or_default() {
                let (_, known) = &mut naive.deliveries[at];
                if *known == Known::Outstanding {
                    *known = Known::Held(outcome);
                }
            }
        }
        Step::Commit => {
            let held = |_: &Entry, known| if let Known::Held(outcome) = known { Some(outcome) } else { None };
            let expected = naive.take_where(held, Known::Settled);
            assert_eq!(unacked.commit(&mut out), of_consumers(&expected));
            assert_eq!(expanded(&mut out), expected);
        }
        Step::RollBack => {
            unacked.roll_back();
            naive.take_where(|_, known| matches!(known, Known::Held(_)).then_some(Outcome::Ack), Known::Outstanding);
        }
        Step::Recover => {
            let everything: Vec<usize> = (0..naive.deliveries.len()).collect();
            let expected = in_queue_order(naive.take(&everything, Outcome::Requeue));
            assert_eq!(unacked.recover(&mut out), of_consumers(&expected));
            assert_eq!(expanded(&mut out), expected);
        }
        Step::Lapse { queue, consumer } => {
            let (queue, consumer) = (QueueId::new(queue.into()), ConsumerId::new(consumer.into()));
            let its = |entry: &Entry, known| {
                let late = known == Known::Outstanding && entry.queue == queue && entry.consumer == Some(consumer);
                late.then_some(Outcome::Requeue)
            };
            let expected = in_queue_order(naive.take_where(its, Known::Lapsed));
            assert_eq!(unacked.lapse(queue, consumer, &mut out), of_consumers(&expected));
            assert_eq!(expanded(&mut out), expected);
        }
        Step::End => {
            let open =
                |_: &Entry, known| matches!(known, Known::Outstanding | Known::Held(_)).then_some(Outcome::Requeue);
            let expected = in_queue_order(naive.take_where(open, Known::Settled));
            unacked.abandon(&mut out);
            assert_eq!(expanded(&mut out), expected);
            assert!(unacked.is_empty());
            (*unacked, *naive) = (Unacked::default(), Naive::default());
        }
    }
    assert_eq!(expanded(&mut out), [], "what fails settles nothing");
    for (at, (entry, known)) in naive.deliveries.iter().enumerate() {
        let queue = matches!(known, Known::Outstanding | Known::Lapsed).then_some(entry.queue);
        assert_eq!(unacked.queue_of(DeliveryTag::new(at as u64 + 1)), queue);
    }
}

/// One turn of a publisher, or news from the store.
#[derive(Clone, Debug)]
enum Turn {
    Publish { refused: Vec<bool>, ticket: u64 },
    Durable(u64),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        3 => (prop::collection::vec(prop::bool::weighted(0.2), 1..6), prop_oneof![Just(0), 1_u64..40])
            .prop_map(|(refused, ticket)| Turn::Publish { refused, ticket }),
        2 => (0_u64..8).prop_map(Turn::Durable),
    ];
    prop::collection::vec(turn, 1..40)
}

/// A publish as the naive books have it.
#[derive(Clone, Copy, Debug)]
struct Published {
    ticket: u64,
    refused: bool,
    acked: bool,
}

fn confirm(confirms: &mut Confirms, published: &mut Vec<Published>, durable: &mut u64, turn: &Turn) {
    match turn {
        Turn::Publish { refused, ticket } => {
            let first = published.len() as u64 + 1;
            let mut numbers = Vec::new();
            for refused in refused {
                let number = confirms.number();
                published.push(Published { ticket: *ticket, refused: *refused, acked: false });
                assert_eq!(number, published.len() as u64, "numbers rise by one");
                numbers.extend(refused.then_some(number));
            }
            confirms.accepted(first, published.len() as u64, &numbers, *ticket);
        }
        Turn::Durable(more) => *durable += more,
    }
    let mut out: Vec<basic::Ack> = Vec::new();
    confirms.durable(*durable, &mut out);
    assert!(out.len() <= 1, "one frame is enough");
    for ack in out {
        let tag = usize::try_from(ack.delivery_tag.get()).expect("small");
        let only = &published[tag - 1];
        assert!(!only.refused && !only.acked, "{tag} was settled before");
        let from = if ack.multiple { 0 } else { tag - 1 };
        for publish in &mut published[from..tag] {
            if !publish.refused {
                assert!(publish.acked || publish.ticket <= *durable, "an ack before its time");
                publish.acked = true;
            }
        }
    }
    // Nothing overtakes: what waits has something before or at it that is not durable yet.
    let mut held_back = false;
    for publish in published.iter().filter(|publish| !publish.refused) {
        held_back |= publish.ticket > *durable;
        assert_eq!(publish.acked, !held_back, "settled as soon as it may be: {published:?}");
    }
    assert_eq!(confirms.is_settled(), !held_back);
}

/// A frame on a channel.
#[derive(Clone, Debug)]
enum Frame {
    Publish,
    Header(u8),
    Body(u8),
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    // Mostly in good order: a publish, its header, bodies that may add up.
    let content = (0_u8..9, prop::collection::vec(1_u8..5, 0..5)).prop_map(|(size, bodies)| {
        let bodies = bodies.into_iter().map(Frame::Body);
        [Frame::Publish, Frame::Header(size)].into_iter().chain(bodies).collect::<Vec<_>>()
    });
    let stray = prop_oneof![Just(Frame::Publish), (0_u8..9).prop_map(Frame::Header), (1_u8..5).prop_map(Frame::Body)];
    let part = prop_oneof![8 => content, 1 => stray.prop_map(|frame| vec![frame])];
    prop::collection::vec(part, 1..8).prop_map(|parts| parts.concat())
}

/// Where the naive assembly stands: what was announced, and what has come.
#[derive(Debug)]
enum Standing {
    Nothing,
    Published,
    Wanted(usize, Vec<u8>),
}

fn assemble(frames: &[Frame], max: u64) {
    let (mut assembly, mut standing) = (Assembly::default(), Standing::Nothing);
    let mut next = 0_u8;
    for frame in frames {
        let answer = match frame {
            Frame::Publish => assembly.on_method().map(|()| {
                assembly.on_publish(basic::Publish::default().into());
                None
            }),
            Frame::Header(size) => {
                let properties: &[u8] = &[0, 0];
                let header = HeaderRef { class: ClassId::new(60), weight: 0, body_size: (*size).into(), properties };
                assembly.on_header(&header, max)
            }
            Frame::Body(len) => {
                let octets: Vec<u8> = (0..*len).map(|nth| next.wrapping_add(nth)).collect();
                assembly.on_body(&Bytes::from(octets))
            }
        };
        let mut whole = None;
        standing = match (standing, frame) {
            (Standing::Nothing, Frame::Publish) => Standing::Published,
            (Standing::Published, Frame::Header(size)) if *size > 0 => Standing::Wanted((*size).into(), Vec::new()),
            (Standing::Published, Frame::Header(_)) => {
                whole = Some(Vec::new());
                Standing::Nothing
            }
            (Standing::Wanted(size, mut octets), Frame::Body(len)) if octets.len() + usize::from(*len) <= size => {
                octets.extend((0..*len).map(|nth| next.wrapping_add(nth)));
                if octets.len() == size {
                    whole = Some(octets);
                    Standing::Nothing
                } else {
                    Standing::Wanted(size, octets)
                }
            }
            (standing, frame) => {
                assert!(answer.is_err(), "{frame:?} is not due: {standing:?}");
                return;
            }
        };
        next = next.wrapping_add(17);
        let content = answer.expect("all is in order");
        assert_eq!(content.is_some(), whole.is_some());
        if let (Some(content), Some(whole)) = (content, whole) {
            assert_eq!(content.body_size, whole.len() as u64);
            let kept: &[u8] = if whole.len() as u64 > max { &[] } else { &whole };
            assert_eq!(content.body, kept);
        }
        assert_eq!(assembly.is_idle(), matches!(standing, Standing::Nothing));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn deliveries_are_settled_as_a_list_says(steps in steps()) {
        let (mut unacked, mut naive) = (Unacked::default(), Naive::default());
        for one in &steps {
            step(&mut unacked, &mut naive, one);
        }
    }

    #[test]
    fn publishes_are_confirmed_once_and_in_order(turns in turns()) {
        let (mut confirms, mut published, mut durable) = (Confirms::default(), Vec::new(), 0);
        for turn in &turns {
            confirm(&mut confirms, &mut published, &mut durable, turn);
        }
    }

    #[test]
    fn contents_are_whole_whatever_frames_come(frames in frames(), max in 0_u64..9) {
        assemble(&frames, max);
    }

    #[test]
    fn a_channel_is_switched_once(selects in prop::collection::vec(0_u8..4, 1..12)) {
        let mut channel = Channel::<u8>::new(ChannelId::new(1));
        let mut mode = None;
        for select in selects {
            match select {
                0 => {
                    prop_assert_eq!(channel.select_confirm().is_ok(), mode != Some("tx"));
                    mode = mode.or(Some("confirm"));
                }
                1 => {
                    prop_assert_eq!(channel.select_tx().is_ok(), mode != Some("confirm"));
                    mode = mode.or(Some("tx"));
                }
                2 => {
                    let held = channel.take_held();
                    prop_assert_eq!(held.is_ok(), mode == Some("tx"));
                }
                _ => {
                    if let super::Mode::Tx(held) = &mut channel.mode {
                        held.push(1);
                        prop_assert_eq!(channel.take_held(), Ok(vec![1]));
                    }
                }
            }
            prop_assert_eq!(channel.is_transactional(), mode == Some("tx"));
        }
    }
}
