//! A small workload on a disk that fails: at every write, every sync, every read of it once.
//!
//! The disk is that of the simulation (`tests/sim/disk`): what was not synced may be there afterwards or not, sector by
//! sector. What was promised before must be there, each transaction as a whole or not at all, and in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::stepped::{Step, Stepped};
use super::testing::{append, declare, lane, log, numbers, settle};
use super::{LaneKey, LoadReply, LoadRequest, Op, Recovered, Store, Transaction};
use crate::engine::queue::QueueId;
use crate::engine::vhost::Change;
use crate::server::sim::disk::Disk;
use crate::server::sim::random::Random;

const SIZE: usize = 300;
const CACHE_BYTES: usize = 256 * 1024;
/// How often each failure is tried, with another fate of what was not synced.
const SEEDS: u64 = 2;

/// What must be there: the numbers of the messages of each queue; the stream is number 3.
type Model = BTreeMap<u64, BTreeSet<u64>>;

/// A transaction and what it does.
struct Act {
    ops: Vec<Op>,
    effect: Box<dyn Fn(&mut Model)>,
}

fn act(ops: Vec<Op>, effect: impl Fn(&mut Model) + 'static) -> Act {
    Act { ops, effect: Box::new(effect) }
}

fn publish(queue: u64, first: u64, count: u32) -> Act {
    let all = first..first + u64::from(count);
    act(vec![append(queue, first, count, SIZE)], move |model| model.entry(queue).or_default().extend(all.clone()))
}

/// Acks of messages that came in one publish, as queues settle them.
fn ack(queue: u64, first: u64, last: u64) -> Act {
    act(vec![settle(queue, first, last, SIZE as u64)], move |model| {
        model.entry(queue).or_default().retain(|seq| !(first..=last).contains(seq));
    })
}

/// Definitions, publishes, acks from the front and out of order, a move from queue to queue, a stream, a deletion.
fn workload() -> Vec<Act> {
    let define = |queue, kind| {
        act(vec![declare(queue, kind)], move |model| {
            model.entry(queue).or_default();
        })
    };
    let stream = |first: u32, count: u32| {
        act(vec![log(3, first, count, SIZE)], move |model| {
            model.entry(3).or_default().extend(u64::from(first)..u64::from(first + count));
        })
    };
    // What a dead letter does: out of one queue, into another.
    let moved = act(vec![settle(1, 6, 7, SIZE as u64), append(2, 0, 2, SIZE)], |model| {
        model.entry(1).or_default().retain(|seq| ![6, 7].contains(seq));
        model.entry(2).or_default().extend(0..2);
    });
    let removed = Change::QueueRemoved(QueueId::new(4));
    let removed = Op::Define { vhost: leveret_protocol::ShortString::from_static("/"), change: removed };
    vec![
        act(vec![declare(1, "classic"), declare(2, "classic")], |model| {
            model.extend([(1, BTreeSet::new()), (2, BTreeSet::new())]);
        }),
        define(3, "stream"),
        publish(1, 0, 10),
        stream(0, 5),
        ack(1, 0, 2),
        moved,
        publish(1, 10, 40),
        define(4, "classic"),
        publish(4, 0, 3),
        ack(1, 20, 24),
        stream(5, 10),
        act(vec![removed], |model| {
            model.remove(&4);
        }),
        ack(1, 8, 9),
        ack(1, 10, 19),
        publish(2, 2, 5),
        ack(2, 0, 1),
        ack(2, 2, 6),
        publish(1, 50, 1),
    ]
}

/// What must be there after so many transactions.
fn model_after(count: usize) -> Model {
    let mut model = Model::new();
    for act in workload().into_iter().take(count) {
        (act.effect)(&mut model);
    }
    model
}

fn open(disk: &Disk) -> Option<(Stepped, Recovered)> {
    match Stepped::open(disk.file(0), disk.file(1), CACHE_BYTES) {
        Ok(opened) => Some(opened),
        Err(cause) => {
            assert!(cause.to_string().contains("simulated"), "{cause}");
            None
        }
    }
}

/// A disk with a new store. A real one gets its name when it is whole.
fn new_store() -> Disk {
    let disk = Disk::default();
    let (stepped, _) = open(&disk).expect("opens");
    assert!(stepped.close());
    disk.reopened()
}

/// Steps until nothing waits; false when a write failed.
fn settle_down(store: &mut Stepped) -> bool {
    loop {
        match store.step() {
            Step::Idle => return true,
            Step::Failed => return false,
            Step::Took(_) | Step::Committed | Step::Published | Step::Checkpointed => {}
        }
    }
}

/// Does the workload until the disk fails: how many transactions were promised, how many handed over.
fn run(disk: &Disk) -> (usize, usize) {
    let Some((mut stepped, _)) = open(disk) else { return (0, 0) };
    let mut promised = 0;
    for (nth, act) in workload().into_iter().enumerate() {
        let ticket = stepped.store().submit(Transaction { ops: act.ops, waiter: None });
        let whole = settle_down(&mut stepped);
        assert!(!whole || stepped.store().durable() >= ticket);
        if stepped.store().durable() >= ticket {
            promised = nth + 1;
        }
        if !whole {
            return (promised, nth + 1);
        }
    }
    (promised, promised)
}

fn read(stepped: &mut Stepped, lane: LaneKey, from_seq: u64) -> LoadReply {
    let (sender, receiver) = std::sync::mpsc::channel();
    let reply = Box::new(move |reply| sender.send(reply).expect("somebody waits"));
    stepped.store().load(LoadRequest { lane, from_seq, max_bytes: 4000, latest: true, window: None, reply });
    assert!(stepped.answer());
    receiver.recv().expect("answered")
}

/// Everything that is there; a read that fails is asked for again.
fn content(stepped: &mut Stepped, recovered: &Recovered) -> Model {
    let mut model = Model::new();
    for (_, record, lanes) in &recovered.queues {
        let queue = record.id.get();
        let (mut found, mut from_seq) = (Vec::new(), 0);
        while from_seq < u64::MAX {
            let reply = read(stepped, lane(queue), from_seq);
            assert!(reply.gone.is_empty());
            found.extend(numbers(&reply));
            from_seq = reply.complete_below;
        }
        assert!(found.is_sorted(), "order");
        match recovered.logs.get(&record.id) {
            Some(log) => assert_eq!(log.next_seq, found.len() as u64),
            None => assert_eq!(lanes.iter().map(|lane| lane.count).sum::<u64>(), found.len() as u64, "queue {queue}"),
        }
        model.insert(queue, found.into_iter().collect());
    }
    model
}

#[track_caller]
fn check(disk: &Disk, (promised, handed_over): (usize, usize), what: &str) {
    let Some((mut stepped, recovered)) = open(disk) else { panic!("{what}: it does not open") };
    let found = content(&mut stepped, &recovered);
    let possible = (promised..=handed_over).find(|count| model_after(*count) == found);
    assert!(possible.is_some(), "{what}: promised {promised} of {handed_over}, found {found:?}");
    // It goes on as if nothing had happened.
    stepped.store().submit(Transaction { ops: vec![declare(9, "classic"), append(9, 0, 3, SIZE)], waiter: None });
    assert!(settle_down(&mut stepped) && stepped.close(), "{what}: it does not go on");
}

#[test]
fn whatever_write_or_sync_fails_what_was_promised_is_there() {
    let (mut operations, mut losses) = (0, 0);
    loop {
        let mut ended = false;
        for seed in 0..SEEDS {
            let what = format!("operation {operations}, seed {seed}");
            let mut random = Random::new(operations * 100 + seed);
            let disk = new_store();
            disk.fail_after(operations);
            let (promised, handed_over) = run(&disk);
            ended = disk.heal();
            losses += u64::from(promised < handed_over);
            let mut found = disk.crash(&mut random);
            // The recovery may be cut off as well, anywhere.
            if seed % 2 == 1 {
                found.fail_after(random.between(0, 60));
                drop(open(&found));
                found = found.crash(&mut random);
            }
            check(&found, (promised, handed_over), &what);
        }
        if ended {
            break;
        }
        operations += 1;
    }
    println!("{operations} operations, {losses} times something was not promised");
    assert!(operations > 100 && losses > 20, "{operations}, {losses}");
}

#[test]
fn a_read_that_fails_is_an_error_and_takes_nothing() {
    let whole = new_store();
    let done = run(&whole);
    assert_eq!(done.0, workload().len());
    let mut random = Random::new(1);
    let mut image = whole.crash(&mut random);
    let mut refused = 0;
    for reads in 0.. {
        image.fail_read_after(reads);
        let opened = open(&image);
        let Some((mut stepped, recovered)) = opened else {
            refused += 1;
            image = image.crash(&mut random);
            continue;
        };
        assert_eq!(content(&mut stepped, &recovered), model_after(done.0), "read {reads}");
        let ended = image.awaits_read();
        image.heal();
        drop(stepped);
        if ended {
            break;
        }
        image = image.crash(&mut random);
    }
    assert!(refused > 5, "{refused}");
    check(&image.crash(&mut random), done, "after all");
}

#[test]
fn a_store_that_failed_promises_nothing_more() {
    let disk = new_store();
    let (mut stepped, _) = open(&disk).expect("opens");
    disk.fail_after(0);
    let store: Arc<_> = stepped.store();
    let first = store.submit(Transaction { ops: vec![declare(1, "classic")], waiter: None });
    assert!(!settle_down(&mut stepped));
    let second = store.submit(Transaction { ops: vec![append(1, 0, 3, SIZE)], waiter: None });
    assert!(!settle_down(&mut stepped) || store.durable() < second);
    assert!(store.durable() < first);
}
