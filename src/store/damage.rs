//! Batches that are damaged: the reader (or the writer) meets one, the writer sets it aside.
//!
//! A batch whose checksum is wrong is moved to the table `damaged`, where it is kept to be looked at. Its messages are lost;
//! they are counted out, of the queue at once and of the lane's counters in the same commit. A flipped bit mostly is in a
//! body: then the messages can still be told apart, and the count is exact. Otherwise nothing is counted out that may not
//! have been there: the queue misses the rest when it has read the whole lane, and tells the store (`Repair::Recount`).
//! What lies behind the batch is delivered as if nothing had happened.
//!
//! Repairs reach the writer beside its transactions: they are about what is on disk, and are found again if they are lost.
//! The lock of `Repairs` is a leaf.

use std::collections::HashSet;
use std::path::Path;

use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableError, WriteTransaction};
use tracing::error;

use super::ledger::{Ledger, Ledgers};
use super::schema::batches::{BATCHES, SETTLED, decode_settled, read_shape, salvage};
use super::schema::damaged::{self, Aside, DAMAGED};
use super::schema::lanes::LANES;
use super::schema::parts::{self, PARTS};
use super::schema::queues;
use super::{Damage, LaneKey};
use crate::engine::message::Timestamp;
use crate::engine::queue::{Gone, Marks};

/// Something that the writer is to put right.
#[derive(Clone, Copy, Debug)]
pub(super) enum Repair {
    /// A batch is damaged.
    SetAside { key: (u64, u64), at: Timestamp },
    /// Which messages of a batch are settled cannot be read.
    Unmark { key: (u64, u64) },
    /// A lane has more messages than were counted, or fewer.
    Recount { lane: LaneKey, count: i64, body_bytes: i64 },
}

/// What waits to be put right, and what was set aside.
#[derive(Debug, Default)]
pub(super) struct Repairs(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Repair>,
    /// Batches that were reported: each is once.
    reported: HashSet<(u64, u64)>,
    damage: Damage,
}

impl Repairs {
    /// With what an earlier run set aside.
    pub(super) fn recovered(database: &Database) -> Result<Self, redb::Error> {
        let mut damage = Damage::default();
        match database.begin_read()?.open_table(DAMAGED) {
            Ok(table) => {
                for entry in table.iter()? {
                    let (key, value) = entry?;
                    let aside = damaged::decode(key.value(), value.value()).map(|(aside, _)| aside);
                    damage.add(aside.and_then(|aside| aside.lost));
                }
            }
            Err(TableError::TableDoesNotExist(_)) => {}
            Err(cause) => return Err(cause.into()),
        }
        Ok(Self(Mutex::new(State { damage, ..State::default() })))
    }

    pub(super) fn push(&self, repair: Repair) {
        self.0.lock().waiting.push(repair);
    }

    /// Whether there is something to put right.
    pub(super) fn are_waiting(&self) -> bool {
        !self.0.lock().waiting.is_empty()
    }

    pub(super) fn take(&self) -> Vec<Repair> {
        std::mem::take(&mut self.0.lock().waiting)
    }

    pub(super) fn damage(&self) -> Damage {
        self.0.lock().damage
    }

    /// A batch turned out to be damaged. False if that is no news.
    pub(super) fn found(&self, batch: &Broken, queue: &str, file: &Path, at: Timestamp) -> bool {
        {
            let mut state = self.0.lock();
            if !state.reported.insert(batch.key) {
                return false;
            }
            state.waiting.push(Repair::SetAside { key: batch.key, at });
        }
        let (lane, first_seq) = batch.key;
        error!(
            queue,
            lane,
            first_seq,
            last_seq = batch.end_seq.saturating_sub(1),
            messages = batch.live.as_ref().map(Vec::len),
            file = %file.display(),
            "a batch of messages is damaged: they are lost, the batch is set aside in the store"
        );
        true
    }

    /// The row that says what is settled of a batch turned out to be damaged.
    pub(super) fn found_row(&self, key: (u64, u64), queue: &str, file: &Path) {
        let (lane, first_seq) = key;
        error!(
            queue,
            lane,
            first_seq,
            file = %file.display(),
            "which messages of a batch are settled cannot be read: those that were come back"
        );
        self.push(Repair::Unmark { key });
    }
}

impl Damage {
    fn add(&mut self, lost: Option<(u64, u64)>) {
        self.batches += 1;
        self.messages += lost.map_or(0, |(messages, _)| messages);
    }
}

/// A damaged batch.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) key: (u64, u64),
    /// One past the last sequence number that it may have.
    pub(super) end_seq: u64,
    /// The messages that were live, if they can be told apart.
    pub(super) live: Option<Vec<Gone>>,
}

/// Looks at a damaged batch; `next_seq` says where the next one begins, if that matters.
pub(super) fn examine(
    key: (u64, u64),
    value: &[u8],
    is_settled: impl Fn(u64) -> bool,
    next_seq: impl FnOnce() -> Result<Option<u64>, redb::Error>,
) -> Result<Broken, redb::Error> {
    let Some(mut live) = salvage(key, value) else {
        return Ok(Broken { key, end_seq: next_seq()?.unwrap_or(key.1.saturating_add(1)), live: None });
    };
    let end_seq = live.last().map_or(key.1, |last| last.seq + 1);
    live.retain(|gone| !is_settled(gone.seq));
    Ok(Broken { key, end_seq, live: Some(live) })
}

/// Where the batch after this one begins.
pub(super) fn next_batch(
    batches: &impl ReadableTable<(u64, u64), &'static [u8]>,
    (lane, first_seq): (u64, u64),
) -> Result<Option<u64>, redb::Error> {
    let next = batches.range((lane, first_seq.saturating_add(1))..=(lane, u64::MAX))?.next().transpose()?;
    Ok(next.map(|(key, _)| key.value().1))
}

/// A lane's queue, as a log shows it.
pub(super) fn queue_name(queues: &impl ReadableTable<u64, &'static [u8]>, lane: u64) -> Result<String, redb::Error> {
    let id = LaneKey::from_number(lane).queue().get();
    let found = queues.get(id)?.and_then(|value| queues::decode(id, value.value()));
    Ok(found.map_or_else(|| format!("number {id}"), |(vhost, record)| format!("{} in vhost {vhost}", record.name)))
}

/// The tables that repairs change.
struct Tables<'txn> {
    batches: Table<'txn, (u64, u64), &'static [u8]>,
    parts: Table<'txn, &'static [u8], &'static [u8]>,
    settled: Table<'txn, (u64, u64), &'static [u8]>,
    damaged: Table<'txn, (u64, u64), &'static [u8]>,
    lanes: Table<'txn, u64, &'static [u8]>,
}

/// Puts things right as part of a commit. Returns the lanes that are to be written by it, too.
pub(super) fn repair(
    txn: &WriteTransaction,
    repairs: &Repairs,
    waiting: Vec<Repair>,
    ledgers: &mut Ledgers,
) -> Result<Vec<LaneKey>, redb::Error> {
    let mut touched = Vec::new();
    let mut tables = Tables {
        batches: txn.open_table(BATCHES)?,
        parts: txn.open_table(PARTS)?,
        settled: txn.open_table(SETTLED)?,
        damaged: txn.open_table(DAMAGED)?,
        lanes: txn.open_table(LANES)?,
    };
    for repair in waiting {
        match repair {
            Repair::SetAside { key, at } => {
                let ledger = ledgers.get_mut(&LaneKey::from_number(key.0)).map(Box::as_mut);
                if let Some(aside) = set_aside(&mut tables, key, at, ledger)? {
                    repairs.0.lock().damage.add(aside.lost);
                }
            }
            Repair::Unmark { key } => {
                let lane = LaneKey::from_number(key.0);
                tables.settled.remove(key)?;
                // The writer may know better.
                if let Some(ledger) = ledgers.get_mut(&lane)
                    && ledger.mark_again(key.1)
                {
                    touched.push(lane);
                }
            }
            Repair::Recount { lane, count, body_bytes } => {
                if let Some(ledger) = ledgers.get_mut(&lane) {
                    ledger.recount(count, body_bytes);
                    write_counters(&mut tables, lane, ledger)?;
                }
            }
        }
    }
    Ok(touched)
}

/// Moves a batch to `damaged`, and counts its messages out. `None` if it is gone or was whole after all.
fn set_aside(
    tables: &mut Tables<'_>,
    key: (u64, u64),
    at: Timestamp,
    ledger: Option<&mut Ledger>,
) -> Result<Option<Aside>, redb::Error> {
    let Some(row) = tables.batches.get(key)? else { return Ok(None) };
    let value = parts::whole(key, row.value(), Some(&tables.parts))?.into_owned();
    drop(row);
    if read_shape(key, &value).is_some() {
        return Ok(None);
    }
    let row = tables.settled.get(key)?.map(|row| row.value().to_vec()).unwrap_or_default();
    let marks = decode_settled(key, &row).map(marks_of);
    let head_seq = ledger.as_ref().map_or(0, |ledger| ledger.state.head_seq);
    let is_settled = |seq| is_settled(key.1, seq, head_seq, marks.as_ref());
    let broken = examine(key, &value, is_settled, || next_batch(&tables.batches, key))?;
    let lost = broken.live.map(|live| (live.len() as u64, live.iter().map(|gone| gone.body_bytes).sum()));
    let aside = Aside { at, end_seq: broken.end_seq, lost };
    tables.damaged.insert(key, damaged::encode_value(key, &aside, &row, &value).as_slice())?;
    parts::remove(&mut tables.batches, &mut tables.parts, key)?;
    tables.settled.remove(key)?;
    if let Some(ledger) = ledger {
        ledger.set_aside(key.1, broken.end_seq, lost);
        write_counters(tables, LaneKey::from_number(key.0), ledger)?;
    }
    Ok(Some(aside))
}

fn write_counters(tables: &mut Tables<'_>, lane: LaneKey, ledger: &mut Ledger) -> Result<(), redb::Error> {
    if let Some(counters) = ledger.take_counters(true) {
        tables.lanes.insert(lane.get(), counters.encode(lane.get()).as_slice())?;
    }
    Ok(())
}

/// What a bitmap says.
pub(super) fn marks_of(bitmap: &[u8]) -> Marks {
    let mut marks = Marks::new(bitmap.len() as u64 * 8);
    marks.settle_bytes(bitmap);
    marks
}

/// Whether a message of a batch is settled.
pub(super) fn is_settled(first_seq: u64, seq: u64, head_seq: u64, marks: Option<&Marks>) -> bool {
    let position = seq - first_seq;
    seq < head_seq || marks.is_some_and(|marks| position < marks.span() && marks.is_settled(position))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::stream::Block;
    use crate::store::schema::lanes::LANES;
    use crate::store::schema::logs::{BLOCKS, LOGS};
    use crate::store::schema::queues::QUEUES;
    use crate::store::schema::returns::RETURNS;
    use crate::store::testing::{append, change, declare, lane, load, log, open, settle, stored, submit};
    use crate::store::{Op, Store};

    const SIZE: usize = 1000;

    /// A queue with five batches of 50 messages, some settled, as it was closed.
    fn queue(dir: &Path) {
        let (store, _) = open(dir);
        submit(&store, vec![declare(1, "classic"), declare(2, "classic"), append(2, 0, 10, SIZE)]);
        for first in [0, 50, 100, 150, 200] {
            submit(&store, vec![append(1, first, 50, SIZE)]);
        }
        let size = SIZE as u64;
        submit(&store, vec![settle(1, 0, 4, size), settle(1, 60, 64, size), settle(1, 120, 129, size)]);
        store.close();
    }

    fn numbers(ranges: &[std::ops::Range<u64>]) -> Vec<u64> {
        ranges.iter().cloned().flatten().collect()
    }

    fn up_to(end: u64) -> Vec<u64> {
        (0..end).collect()
    }

    fn counters(dir: &Path) -> Vec<(u64, u64)> {
        let (store, recovered) = open(dir);
        store.close();
        let lanes = recovered.queues.iter().flat_map(|(_, _, lanes)| lanes);
        lanes.map(|lane| (lane.count, lane.body_bytes)).collect()
    }

    fn in_body(nth: usize, batch: &mut [u8]) {
        if nth == 2 {
            batch[20_000] ^= 4;
        }
    }

    fn in_structure(nth: usize, batch: &mut [u8]) {
        if nth == 2 {
            batch[13..17].fill(0xff);
        }
    }

    #[test]
    fn a_damaged_batch_is_set_aside_and_counted_out_once() {
        let dir = tempfile::tempdir().expect("directory");
        queue(dir.path());
        change(dir.path(), BATCHES, |nth, batch| in_body(nth, batch));
        assert_eq!(counters(dir.path())[0], (230, 230_000));
        let (store, _) = open(dir.path());
        let reply = load(&store, lane(1), 100);
        let gone: Vec<_> = reply.gone.iter().map(|gone| (gone.seq, gone.body_bytes)).collect();
        let lost = numbers(&[100..120, 130..150]);
        assert_eq!(gone, lost.iter().map(|seq| (*seq, SIZE as u64)).collect::<Vec<_>>());
        let left = numbers(&[5..60, 65..100, 150..250]);
        assert_eq!(stored(&store, lane(1)), left);
        // The prompt of the reader is before this one.
        submit(&store, Vec::new());
        assert_eq!(store.damage(), Damage { batches: 1, messages: 40 });
        assert_eq!((stored(&store, lane(1)), load(&store, lane(1), 100).gone), (left, Vec::new()));
        // Somebody still had some of its messages.
        submit(&store, vec![settle(1, 90, 109, SIZE as u64), append(1, 250, 10, SIZE)]);
        store.close();
        drop(store);
        assert_eq!(counters(dir.path()), [(190, 190_000), (10, 10_000)]);
        let (store, _) = open(dir.path());
        assert_eq!(store.damage(), Damage { batches: 1, messages: 40 });
        assert_eq!(stored(&store, lane(1)), numbers(&[5..60, 65..90, 150..260]));
        assert_eq!(stored(&store, lane(2)), up_to(10));
        let size = SIZE as u64;
        submit(&store, vec![settle(1, 5, 59, size), settle(1, 65, 89, size), settle(1, 150, 259, size)]);
        store.close();
        drop(store);
        assert_eq!(counters(dir.path())[0], (0, 0));
    }

    #[test]
    fn a_batch_that_cannot_be_counted_is_missed_by_the_queue() {
        let dir = tempfile::tempdir().expect("directory");
        queue(dir.path());
        change(dir.path(), BATCHES, |nth, batch| in_structure(nth, batch));
        let (store, _) = open(dir.path());
        assert_eq!((load(&store, lane(1), 100).gone, stored(&store, lane(1)).len()), (Vec::new(), 190));
        submit(&store, Vec::new());
        assert_eq!(store.damage(), Damage { batches: 1, messages: 0 });
        // The queue has read the whole lane and tells what it missed.
        store.recount(lane(1), -40, -40_000);
        submit(&store, Vec::new());
        store.close();
        drop(store);
        assert_eq!(counters(dir.path())[0], (190, 190_000));
    }

    #[test]
    fn the_writer_sets_aside_what_it_meets_itself() {
        let dir = tempfile::tempdir().expect("directory");
        queue(dir.path());
        change(dir.path(), BATCHES, |nth, batch| in_body(nth, batch));
        let (store, _) = open(dir.path());
        submit(&store, vec![settle(1, 100, 102, SIZE as u64)]);
        submit(&store, Vec::new());
        assert_eq!(store.damage(), Damage { batches: 1, messages: 40 });
        store.close();
        drop(store);
        assert_eq!(counters(dir.path())[0], (190, 190_000));
    }

    #[test]
    fn settled_messages_come_back_when_their_marks_are_damaged() {
        let dir = tempfile::tempdir().expect("directory");
        queue(dir.path());
        change(dir.path(), SETTLED, |nth, row| row[5] ^= u8::from(nth == 0));
        let (store, _) = open(dir.path());
        assert_eq!(stored(&store, lane(1)), numbers(&[5..120, 130..250]));
        submit(&store, Vec::new());
        // The queue counted five more.
        store.recount(lane(1), 5, 5000);
        submit(&store, Vec::new());
        store.close();
        drop(store);
        assert_eq!(counters(dir.path())[0], (235, 235_000));
        let (store, _) = open(dir.path());
        assert_eq!(stored(&store, lane(1)), numbers(&[5..120, 130..250]));
        store.close();
    }

    #[test]
    fn damaged_counters_are_counted_anew() {
        let dir = tempfile::tempdir().expect("directory");
        queue(dir.path());
        change(dir.path(), LANES, |nth, row| row[7] ^= u8::from(nth == 0));
        // What the head alone said is not known any more.
        let (store, recovered) = open(dir.path());
        let found = &recovered.queues[0].2[0];
        assert_eq!((found.head_seq, found.next_seq, found.count, found.body_bytes), (0, 250, 235, 235_000));
        assert_eq!(stored(&store, lane(1)), numbers(&[0..60, 65..120, 130..250]));
        store.close();
        drop(store);
        assert_eq!(counters(dir.path())[0], (235, 235_000));
    }

    #[test]
    fn a_stream_has_a_hole_that_is_known_from_then_on() {
        let dir = tempfile::tempdir().expect("directory");
        let (store, _) = open(dir.path());
        submit(&store, vec![declare(1, "stream")]);
        for first in [0, 50, 100, 150, 200] {
            submit(&store, vec![log(1, first, 50, SIZE)]);
        }
        store.close();
        drop(store);
        change(dir.path(), BATCHES, |nth, batch| in_body(nth, batch));
        for start in 0..3 {
            let (store, recovered) = open(dir.path());
            assert_eq!(recovered.logs.values().next().map(|log| log.next_seq), Some(250));
            assert_eq!(load(&store, lane(1), 60).known_gone, 50, "start {start}");
            assert_eq!(stored(&store, lane(1)), numbers(&[0..100, 150..250]));
            submit(&store, Vec::new());
            assert_eq!(store.damage(), Damage { batches: 1, messages: 50 });
            store.close();
        }
    }

    #[test]
    fn a_stream_whose_end_is_not_known_is_measured_anew() {
        let dir = tempfile::tempdir().expect("directory");
        let (store, _) = open(dir.path());
        submit(&store, vec![declare(1, "stream")]);
        for first in (0..500).step_by(50) {
            submit(&store, vec![log(1, first, 50, SIZE)]);
        }
        store.close();
        drop(store);
        let (store, before) = open(dir.path());
        store.close();
        drop(store);
        change(dir.path(), LOGS, |_, row| row[7] ^= 1);
        change(dir.path(), BLOCKS, |nth, row| row[7] ^= u8::from(nth == 1));
        for _ in 0..2 {
            let (store, recovered) = open(dir.path());
            let (log, known) = (recovered.logs.values().next().expect("a stream"), before.logs.values().next());
            assert_eq!(log.next_seq, 500);
            let ends = |blocks: &[Block]| blocks.iter().map(Block::end_seq).collect::<Vec<_>>();
            assert_eq!(Some(ends(&log.blocks)), known.map(|log| ends(&log.blocks)));
            assert_eq!(stored(&store, lane(1)), up_to(500));
            store.close();
        }
    }

    #[test]
    fn what_belongs_to_a_queue_that_cannot_be_read_is_kept() {
        let dir = tempfile::tempdir().expect("directory");
        let (store, _) = open(dir.path());
        submit(&store, vec![declare(1, "stream"), declare(2, "classic"), log(1, 0, 10, SIZE), append(2, 0, 10, SIZE)]);
        submit(&store, vec![Op::Returned { lane: lane(2), seq: 3, count: 2 }]);
        store.close();
        drop(store);
        change(dir.path(), QUEUES, |_, row| row[9] ^= 1);
        let (store, recovered) = open(dir.path());
        assert!(recovered.queues.is_empty());
        assert_eq!(recovered.next_queue_id, 3);
        submit(&store, vec![declare(3, "classic")]);
        store.close();
        drop(store);
        change(dir.path(), QUEUES, |nth, row| row[9] ^= u8::from(nth < 2));
        change(dir.path(), RETURNS, |_, row| row[7] ^= 1);
        let (store, recovered) = open(dir.path());
        assert_eq!((recovered.queues.len(), recovered.queues[1].2[0].returns.len()), (3, 0));
        assert_eq!((stored(&store, lane(1)), stored(&store, lane(2))), (up_to(10), up_to(10)));
        store.close();
    }

    #[test]
    fn what_was_set_aside_goes_with_its_queue() {
        let dir = tempfile::tempdir().expect("directory");
        queue(dir.path());
        change(dir.path(), BATCHES, |nth, batch| in_body(nth, batch));
        let (store, _) = open(dir.path());
        stored(&store, lane(1));
        submit(&store, Vec::new());
        let removed = crate::engine::vhost::Change::QueueRemoved(crate::engine::queue::QueueId::new(1));
        submit(&store, vec![Op::Define { vhost: leveret_protocol::ShortString::from_static("/"), change: removed }]);
        store.close();
        drop(store);
        let (store, _) = open(dir.path());
        assert_eq!(store.damage(), Damage::default());
        store.close();
    }
}
