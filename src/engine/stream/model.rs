//! The stream against a naive model of it: a vector of messages, and for each reader what it must get next.

use std::sync::Arc;

use leveret_protocol::{BasicProperties, ChannelId, FieldTable, FieldValue, ShortString};
use proptest::prelude::*;

use super::*;
use crate::engine::message::{Arena, ArenaBuilder, Body, MessageParts};
use crate::engine::queue::{ChannelLimit, Kept, Window};

#[derive(Clone, Debug)]
enum Step {
    Append {
        values: Vec<Option<u8>>,
        size: u16,
    },
    Consume {
        start: Start,
        prefetch: u8,
        filter: Option<(u8, bool)>,
    },
    Cancel {
        nth: u8,
    },
    Settle {
        nth: u8,
        count: u8,
    },
    /// The disk answers; `lose` drops one batch, as a damaged one would be.
    Answer {
        lose: bool,
    },
    Wait {
        millis: u16,
    },
    /// The connection of a consumer takes nothing, or goes on.
    Stall {
        nth: u8,
        stalled: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Start {
    First,
    Last,
    Next,
    Offset(u8),
    Ago(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let start = prop_oneof![
        Just(Start::First),
        Just(Start::Last),
        Just(Start::Next),
        any::<u8>().prop_map(Start::Offset),
        (0_u16..2000).prop_map(Start::Ago)
    ];
    let step = prop_oneof![
        6 => (prop::collection::vec(prop::option::of(0_u8..3), 1..12), 0_u16..300)
            .prop_map(|(values, size)| Step::Append { values, size }),
        2 => (start, 1_u8..10, prop::option::weighted(0.3, (0_u8..3, any::<bool>())))
            .prop_map(|(start, prefetch, filter)| Step::Consume { start, prefetch, filter }),
        1 => any::<u8>().prop_map(|nth| Step::Cancel { nth }),
        6 => (any::<u8>(), 1_u8..9).prop_map(|(nth, count)| Step::Settle { nth, count }),
        5 => prop::bool::weighted(0.05).prop_map(|lose| Step::Answer { lose }),
        2 => (0_u16..800).prop_map(|millis| Step::Wait { millis }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(nth, stalled)| Step::Stall { nth, stalled }),
    ];
    prop::collection::vec(step, 1..80)
}

struct Written {
    arena: Arc<Arena>,
    index: u32,
    time: Timestamp,
    value: Option<u8>,
    lost: bool,
}

struct Known {
    id: ConsumerId,
    prefetch: u32,
    /// Offset below which everything was delivered or is not wanted.
    position: u64,
    not_before: Option<Timestamp>,
    filter: Option<(u8, bool)>,
    unacked: VecDeque<u64>,
    window: Arc<Window>,
    stalled: bool,
}

struct Model {
    stream: Stream,
    now: Timestamp,
    log: Vec<Written>,
    /// What the disk still has.
    first_on_disk: u64,
    open: Block,
    readers: Vec<Known>,
    pending: Option<(u64, u64)>,
}

const WINDOW: usize = 1 << 20;

fn filter_arguments(value: u8, unfiltered: bool) -> FieldTable {
    let text = FieldValue::LongString(value.to_string().as_str().try_into().expect("short"));
    [("x-stream-filter", text), ("x-stream-match-unfiltered", FieldValue::Boolean(unfiltered))]
        .into_iter()
        .map(|(key, value)| (ShortString::from_static(key), value))
        .collect()
}

impl Model {
    fn new(retention: Retention) -> Self {
        let mut stream = Stream::new(retention, &RecoveredLog::default());
        // So little memory that most has to come from disk.
        stream.cache = Cache::new(1500);
        let now = Timestamp::from_millis(1_000_000);
        let open = Block::default();
        Self { stream, now, log: Vec::new(), first_on_disk: 0, open, readers: Vec::new(), pending: None }
    }

    fn append(&mut self, values: &[Option<u8>], size: u16) {
        let mut builder = ArenaBuilder::new();
        for value in values {
            let headers = value.map(|value| {
                let text = FieldValue::LongString(value.to_string().as_str().try_into().expect("short"));
                [(ShortString::from_static(FILTER_VALUE), text)].into_iter().collect()
            });
            let mut properties = Vec::new();
            BasicProperties { headers, ..BasicProperties::default() }.encode(&mut properties);
            builder.push(&MessageParts {
                exchange: b"",
                routing_key: b"s",
                properties: &properties,
                body: Body::Borrowed(&vec![1; usize::from(size)]),
                persistent: false,
                priority: 0,
                expiration_ms: None,
                broker_deaths: false,
                enqueued_at: self.now,
            });
        }
        let arena = builder.finish();
        arena.set_ticket(1);
        let first_seq = self.log.len() as u64;
        let mut record_bytes = 0;
        for (index, value) in values.iter().enumerate() {
            let index = u32::try_from(index).expect("few");
            record_bytes += arena.message(index).record_len() as u64;
            self.log.push(Written { arena: arena.clone(), index, time: self.now, value: *value, lost: false });
        }
        let block = Block { first_seq, count: values.len() as u64, record_bytes, last_time: self.now };
        let mut blocks: Vec<_> = self.open.add(block, self.stream.block_bytes()).into_iter().collect();
        blocks.push(self.open);
        let part = Loaded { first_seq, arena: arena.clone(), index: 0, count: arena.count(), kept: Kept::Durable };
        let mut fx = Vec::new();
        self.stream.committed(self.now, vec![part], &blocks, &mut fx);
        self.apply(fx);
    }

    fn consume(&mut self, start: Start, prefetch: u8, filter: Option<(u8, bool)>) {
        let spec = match start {
            Start::First => OffsetSpec::First,
            Start::Last => OffsetSpec::Last,
            Start::Next => OffsetSpec::Next,
            Start::Offset(seq) => OffsetSpec::Offset(seq.into()),
            Start::Ago(millis) => OffsetSpec::Time(Timestamp::from_millis(self.now.as_millis() - u64::from(millis))),
        };
        let (first, next) = (self.first_on_disk, self.log.len() as u64);
        let (position, not_before) = match spec {
            OffsetSpec::First => (first, None),
            OffsetSpec::Last => (next.saturating_sub(1).max(first), None),
            OffsetSpec::Next => (next, None),
            OffsetSpec::Offset(seq) => (seq.max(first), None),
            OffsetSpec::Time(time) => {
                let there = (first..next).any(|seq| self.log[as_index(seq)].time >= time);
                (if there { first } else { next }, there.then_some(time))
            }
        };
        let window = Arc::new(Window::new(WINDOW));
        let spec_of = ConsumerSpec {
            tag: ShortString::from_static("c"),
            channel: ChannelId::new(1),
            no_ack: false,
            exclusive: false,
            prefetch: prefetch.into(),
            priority: 0,
            ack_timeout: None,
            channel_limit: Arc::<ChannelLimit>::default(),
            window: window.clone(),
        };
        let wanted = filter.and_then(|(value, unfiltered)| Filter::parse(&filter_arguments(value, unfiltered)));
        let id = self.stream.add_reader(spec_of, spec, wanted);
        let (prefetch, unacked) = (prefetch.into(), VecDeque::new());
        self.readers.push(Known { id, prefetch, position, not_before, filter, unacked, window, stalled: false });
        self.resume();
    }

    fn resume(&mut self) {
        let mut fx = Vec::new();
        self.stream.resume(&mut fx);
        self.apply(fx);
    }

    fn apply(&mut self, fx: Vec<StreamEffect>) {
        // Deliveries may be of messages that a truncation of the same step removes.
        for effect in fx {
            match effect {
                StreamEffect::Deliver { consumer, run } => self.delivered(consumer, &run),
                StreamEffect::Read { from_seq, .. } => {
                    assert!(self.pending.is_none(), "one read at a time");
                    self.pending = Some((from_seq, self.log.len() as u64));
                }
                StreamEffect::Truncate { below_seq } => {
                    assert!(below_seq > self.first_on_disk && below_seq < self.log.len() as u64, "never all of it");
                    self.first_on_disk = below_seq;
                }
            }
        }
        for reader in &self.readers {
            assert!(reader.unacked.len() as u64 <= u64::from(reader.prefetch));
        }
        self.check_progress();
    }

    fn delivered(&mut self, consumer: ConsumerId, run: &Run) {
        let at = self.readers.iter().position(|reader| reader.id == consumer).expect("a reader that is there");
        for (seq, message) in run.messages() {
            let expected = self.next_for(at).expect("something is wanted");
            let reader = &mut self.readers[at];
            assert_eq!(seq, expected, "the next message that the reader wants");
            let written = &self.log[as_index(seq)];
            assert_eq!(message.enqueued_at(), written.time);
            reader.position = seq + 1;
            reader.not_before = None;
            reader.unacked.push_back(seq);
        }
        self.readers[at].window.remove(run.size_bytes());
    }

    /// The next message that a reader wants, of those that are there.
    fn next_for(&self, at: usize) -> Option<u64> {
        let reader = &self.readers[at];
        (reader.position.max(self.first_on_disk)..self.log.len() as u64).find(|seq| {
            let written = &self.log[as_index(*seq)];
            let wanted = match (reader.filter, written.value) {
                (None, _) => true,
                (Some((_, unfiltered)), None) => unfiltered,
                (Some((value, _)), Some(has)) => value == has,
            };
            wanted && !written.lost && reader.not_before.is_none_or(|time| written.time >= time)
        })
    }

    /// Nobody who may take a message waits for nothing.
    fn check_progress(&self) {
        for (at, reader) in self.readers.iter().enumerate() {
            let may_take = !reader.stalled && (reader.unacked.len() as u64) < u64::from(reader.prefetch);
            if may_take && self.pending.is_none() {
                assert_eq!(self.next_for(at), None, "reader {at} waits though nothing is read for it");
            }
        }
    }

    fn answer(&mut self, lose: bool) {
        let Some((from_seq, until)) = self.pending.take() else { return };
        // Some messages at a time, cut elsewhere than they were written.
        let end = until.min(from_seq + 7);
        let mut loaded = Vec::new();
        for seq in from_seq.max(self.first_on_disk)..end {
            // What is in memory is delivered though the disk has lost it.
            let is_on_disk_alone = seq >= self.stream.first_seq && self.stream.cache.peek(seq).is_none();
            if lose && is_on_disk_alone && !self.readers.iter().any(|reader| reader.position > seq) {
                self.log[as_index(seq)].lost = true;
            }
            let written = &self.log[as_index(seq)];
            if !written.lost {
                let (arena, index) = (written.arena.clone(), written.index);
                loaded.push(Loaded { first_seq: seq, arena, index, count: 1, kept: Kept::Durable });
            }
        }
        let complete_below = if end == self.log.len() as u64 { u64::MAX } else { end };
        let mut fx = Vec::new();
        self.stream.loaded(from_seq, complete_below, loaded, &mut fx);
        self.apply(fx);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append { values, size } => self.append(values, *size),
            Step::Consume { start, prefetch, filter } => self.consume(*start, *prefetch, *filter),
            Step::Cancel { nth } if !self.readers.is_empty() => {
                let at = usize::from(*nth) % self.readers.len();
                let reader = self.readers.remove(at);
                self.stream.remove_reader(reader.id);
            }
            Step::Settle { nth, count } if !self.readers.is_empty() => {
                let at = usize::from(*nth) % self.readers.len();
                let reader = &mut self.readers[at];
                for _ in 0..*count {
                    // Out of order, too.
                    let Some(seq) = reader.unacked.remove(usize::from(*nth) % reader.unacked.len().max(1)) else {
                        break;
                    };
                    let delivered = Delivered { consumer: Some(reader.id), lane: 0, first_seq: seq, last_seq: seq };
                    self.stream.settle(delivered);
                }
                self.resume();
            }
            Step::Answer { lose } => self.answer(*lose),
            Step::Wait { millis } => {
                self.now = self.now.plus_millis(u64::from(*millis));
                let mut fx = Vec::new();
                if self.stream.deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.stream.handle_timeout(self.now, &mut fx);
                    assert!(!fx.is_empty(), "a deadline has a reason");
                }
                self.apply(fx);
                assert!(self.stream.deadline().is_none_or(|deadline| deadline > self.now), "nothing too old is left");
            }
            Step::Stall { nth, stalled } if !self.readers.is_empty() => {
                let at = usize::from(*nth) % self.readers.len();
                let reader = &mut self.readers[at];
                if reader.stalled != *stalled {
                    reader.stalled = *stalled;
                    if *stalled {
                        reader.window.add(WINDOW);
                    } else {
                        reader.window.remove(WINDOW);
                    }
                }
                self.resume();
            }
            Step::Cancel { .. } | Step::Settle { .. } | Step::Stall { .. } => {}
        }
        assert_eq!(self.stream.count(), self.log.len() as u64 - self.first_on_disk);
    }

    /// Everybody acks and goes on until nothing is left: each has got all that it wanted.
    fn finish(&mut self) {
        for at in 0..self.readers.len() {
            if self.readers[at].stalled {
                self.readers[at].window.remove(WINDOW);
                self.readers[at].stalled = false;
            }
        }
        for _ in 0..10_000 {
            self.resume();
            self.answer(false);
            let mut settled = false;
            for reader in &mut self.readers {
                for seq in reader.unacked.drain(..) {
                    settled = true;
                    let delivered = Delivered { consumer: Some(reader.id), lane: 0, first_seq: seq, last_seq: seq };
                    self.stream.settle(delivered);
                }
            }
            if !settled && self.pending.is_none() {
                break;
            }
        }
        for at in 0..self.readers.len() {
            assert_eq!(self.next_for(at), None, "reader {at} has everything");
        }
    }
}

fn as_index(seq: u64) -> usize {
    usize::try_from(seq).expect("few messages")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn readers_get_what_they_want_in_order_and_once(
        steps in steps(),
        max_bytes in prop::option::of(0_u64..4000),
        max_age_ms in prop::option::of(0_u64..1500),
        segment_bytes in 1_u64..1500,
    ) {
        let mut model = Model::new(Retention { max_age_ms, max_bytes, segment_bytes });
        for step in &steps {
            model.step(step);
        }
        model.finish();
    }
}

#[test]
fn whole_segments_go_and_the_last_one_stays() {
    let mut model = Model::new(Retention { max_age_ms: None, max_bytes: Some(0), segment_bytes: 1 });
    for _ in 0..10 {
        model.append(&[None, None], 10);
    }
    assert_eq!((model.first_on_disk, model.stream.count()), (18, 2));
    assert_eq!(model.stream.deadline(), None);
}

#[test]
fn a_recovered_stream_goes_on_where_it_was() {
    let block = |first_seq, millis| Block {
        first_seq,
        count: 10,
        record_bytes: 500,
        last_time: Timestamp::from_millis(millis),
    };
    let log = RecoveredLog { next_seq: 40, blocks: vec![block(10, 5), block(20, 6), block(30, 7)] };
    let stream = Stream::new(Retention::default(), &log);
    assert_eq!((stream.count(), stream.record_bytes()), (30, 1500));
    let place = |spec| stream.place(spec).0;
    assert_eq!(place(OffsetSpec::First), 10);
    assert_eq!(place(OffsetSpec::Last), 39);
    assert_eq!(place(OffsetSpec::Next), 40);
    assert_eq!(place(OffsetSpec::Offset(3)), 10);
    assert_eq!(place(OffsetSpec::Offset(1000)), 1000);
    assert_eq!(place(OffsetSpec::Time(Timestamp::from_millis(6))), 20);
    assert_eq!(place(OffsetSpec::Time(Timestamp::from_millis(8))), 40);
}

#[test]
fn other_limits_hold_at_once() {
    let mut model = Model::new(Retention { segment_bytes: 100, ..Retention::default() });
    for _ in 0..10 {
        model.append(&[None, None], 100);
    }
    assert_eq!(model.stream.count(), 20);
    let mut fx = Vec::new();
    let retention = Retention { max_age_ms: None, max_bytes: Some(700), segment_bytes: 100 };
    model.stream.set_retention(model.now, retention, &mut fx);
    model.apply(fx);
    assert!(model.stream.record_bytes() <= 700 && model.stream.count() == 20 - model.first_on_disk);
    assert!(model.stream.count() > 2);
}
