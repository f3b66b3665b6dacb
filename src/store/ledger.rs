//! What the writer knows of a lane on disk, and what one commit does to it.
//!
//! A commit first collects what its transactions do to each lane, then writes the sum: a message that came and went in the
//! same commit is never written. Batches that were written lately are known by their marks; those further back are looked
//! up on disk when they are needed, so a deep queue costs the ledger no memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::LaneKey;
use super::schema::batches::{BATCH_BYTES, BatchRun, BatchShape};
use super::schema::lanes::LaneState;
use crate::engine::message::Arena;
use crate::engine::queue::{Marks, Settled};

/// Batches of one lane known by their marks before untouched ones are forgotten again.
const KNOWN_BATCHES_MAX: usize = 4096;
/// The same for all lanes together, of which there may be very many: the first of a lane costs some 600 octets.
const KNOWN_TOTAL_MAX: usize = 1024;

/// What a ledger has room for in a busy lane: less is not kept from one commit to the next.
const ROOM_KEPT: usize = 16;

/// What is known of all lanes. A table with room for growth holds places only, not ledgers.
pub(super) type Ledgers = HashMap<LaneKey, Box<Ledger>>;

/// How many batches all ledgers know.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// At most.
    count: usize,
    /// Those that could not be forgotten the last time.
    kept: usize,
}

impl Known {
    /// A ledger that knew `before` batches now knows `after`.
    pub(super) fn note(&mut self, before: usize, after: usize) {
        self.count = (self.count + after).saturating_sub(before);
    }

    /// Forgets untouched batches of all lanes if too many are known.
    pub(super) fn limit(&mut self, ledgers: &mut Ledgers) {
        if self.count > KNOWN_TOTAL_MAX + 2 * self.kept {
            for ledger in ledgers.values_mut() {
                ledger.forget();
            }
            self.kept = ledgers.values().map(|ledger| ledger.known()).sum();
            self.count = self.kept;
        }
    }
}

/// A batch on disk.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) marks: Marks,
    /// Marks changed since they were written.
    dirty: bool,
    /// A row in `settled` exists.
    pub(super) has_row: bool,
}

impl Batch {
    /// A batch of this shape with the settled row found beside it.
    pub(super) fn on_disk(shape: &BatchShape, row: Option<&[u8]>) -> Self {
        let mut marks = Marks::new(shape.span);
        let mut next = 0;
        for &(offset, count) in &shape.runs {
            if offset > next {
                marks.settle(next, offset - 1);
            }
            next = offset + count;
        }
        if let Some(bitmap) = row {
            marks.settle_bytes(bitmap);
        }
        Self { marks, dirty: false, has_row: row.is_some() }
    }
}

#[derive(Debug)]
struct Appended {
    first_seq: u64,
    /// Not kept once all of it is settled.
    arena: Option<Arc<Arena>>,
    index: u32,
    marks: Marks,
}

/// A batch that was set aside because it is damaged. Some of its messages may be in memory and settled yet.
#[derive(Clone, Copy, Debug)]
struct Aside {
    first_seq: u64,
    end_seq: u64,
    /// Its messages were counted out.
    counted: bool,
}

/// A lane on disk, and what the commit under way does to it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) state: LaneState,
    batches: BTreeMap<u64, Batch>,
    /// Batches in this range may be on disk without being known.
    unknown: Option<(u64, u64)>,
    /// Settlements that came before their append.
    early: Vec<Settled>,
    /// By first sequence number.
    appended: VecDeque<Appended>,
    settled: Vec<Settled>,
    /// Messages that came back, as this commit tells.
    came_back: Vec<(u64, u32)>,
    /// How often messages came back, as it stands on disk.
    returns: BTreeMap<u64, u32>,
    /// Batches whose marks this commit changed.
    touched: Vec<u64>,
    /// Batches that were set aside.
    aside: Vec<Aside>,
    pub(super) dirty: bool,
    /// Counters as they stand on disk.
    written: LaneState,
}

/// Rows of `batches` and `settled` to write for a lane.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Batches to write, each a list of runs.
    pub(super) insert: Vec<Vec<BatchRun>>,
    /// Batches to remove, and whether they have a settled row.
    pub(super) remove: BTreeMap<u64, bool>,
    /// Settled rows to write.
    pub(super) mark: Vec<(u64, Vec<u8>)>,
    /// Rows of `returns` to write: sequence number and count.
    pub(super) count: BTreeMap<u64, u32>,
    /// Rows of `returns` to remove.
    pub(super) uncount: Vec<u64>,
}

impl Rows {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.insert.is_empty()
            && self.remove.is_empty()
            && self.mark.is_empty()
            && self.count.is_empty()
            && self.uncount.is_empty()
    }
}

impl Ledger {
    /// A lane found at start.
    pub(super) fn recovered(state: LaneState, returns: BTreeMap<u64, u32>) -> Self {
        let unknown = (state.count > 0).then(|| (state.head_seq, state.next_seq.saturating_sub(1)));
        Self { state, written: state, unknown, returns, ..Self::default() }
    }

    /// Settlements whose messages have not come yet.
    pub(super) fn early(&self) -> &[Settled] {
        &self.early
    }

    /// Messages came in.
    pub(super) fn append(&mut self, first_seq: u64, arena: Arc<Arena>, index: u32, count: u32) {
        let marks = Marks::new(u64::from(count));
        self.state.next_seq = self.state.next_seq.max(first_seq + marks.span());
        let item = Appended { first_seq, arena: Some(arena), index, marks };
        // Connections submit in their own order, but mostly in that of the queue.
        let at = match self.appended.back() {
            Some(last) if last.first_seq > first_seq => {
                self.appended.partition_point(|item| item.first_seq < first_seq)
            }
            Some(_) | None => self.appended.len(),
        };
        self.appended.insert(at, item);
    }

    /// Messages left.
    pub(super) fn settle(&mut self, settled: Settled) {
        // What has a count on disk, or gets one, is looked at when the round is closed.
        if !self.counts_returns() && self.settle_appended(&settled) {
            return;
        }
        self.settled.push(settled);
    }

    fn counts_returns(&self) -> bool {
        !self.returns.is_empty() || !self.came_back.is_empty()
    }

    /// A message came back this often.
    pub(super) fn came_back(&mut self, seq: u64, count: u32) {
        self.came_back.push((seq, count));
    }

    /// Sums up the commit: what to write and remove. `find` looks a batch up on disk: the one that starts at or before a
    /// sequence number, or the first one after it.
    pub(super) fn close_round<E>(
        &mut self,
        mut find: impl FnMut(u64, u64) -> Result<Option<(u64, Batch)>, E>,
    ) -> Result<Rows, E> {
        let mut rows = Rows::default();
        self.dirty = false;
        let mut settled = std::mem::take(&mut self.settled);
        if !self.early.is_empty() {
            settled.append(&mut self.early);
        }
        self.count_returns(&settled, &mut rows);
        if !self.aside.is_empty() {
            settled = settled.drain(..).flat_map(|settled| self.without_aside(settled)).collect();
        }
        for settled in settled.drain(..) {
            if self.settle_appended(&settled) {
                continue;
            }
            if !self.settle_stored(&settled, &mut rows, &mut find)? {
                self.early.push(settled);
            }
        }
        self.settled = settled;
        self.write_appended(&mut rows);
        self.update_head();
        self.mark_rows(&mut rows);
        if self.batches.len() > KNOWN_BATCHES_MAX {
            self.forget();
        }
        self.release();
        Ok(rows)
    }

    /// Gives back room that little was collected in: there may be a ledger for each of very many queues.
    fn release(&mut self) {
        if self.appended.capacity() <= ROOM_KEPT {
            self.appended = VecDeque::new();
        }
        if self.settled.capacity() <= ROOM_KEPT {
            self.settled = Vec::new();
        }
        if self.touched.capacity() <= ROOM_KEPT {
            self.touched = Vec::new();
        }
    }

    /// A batch was set aside; `lost` are its live messages and the octets of their bodies, if they could be counted.
    pub(super) fn set_aside(&mut self, first_seq: u64, end_seq: u64, lost: Option<(u64, u64)>) {
        self.batches.remove(&first_seq);
        if let Some((count, body_bytes)) = lost {
            self.state.count = self.state.count.saturating_sub(count);
            self.state.body_bytes = self.state.body_bytes.saturating_sub(body_bytes);
        }
        self.aside.push(Aside { first_seq, end_seq, counted: lost.is_some() });
    }

    /// The parts of a settlement that are not about what was set aside. What is about it and was not counted out then is now.
    fn without_aside(&mut self, settled: Settled) -> Vec<Settled> {
        let mut left = vec![settled];
        for aside in &self.aside {
            for part in std::mem::take(&mut left) {
                if part.last_seq < aside.first_seq || part.first_seq >= aside.end_seq {
                    left.push(part);
                    continue;
                }
                let cut = |first_seq: u64, last_seq: u64| {
                    let count = (last_seq - first_seq + 1).min(part.count);
                    let body_bytes = part.body_bytes / part.count.max(1) * count;
                    Settled { first_seq, last_seq, count, body_bytes, ..part }
                };
                if part.first_seq < aside.first_seq {
                    left.push(cut(part.first_seq, aside.first_seq - 1));
                }
                if part.last_seq >= aside.end_seq {
                    left.push(cut(aside.end_seq, part.last_seq));
                }
                if !aside.counted {
                    let gone = cut(part.first_seq.max(aside.first_seq), part.last_seq.min(aside.end_seq - 1));
                    self.state.count = self.state.count.saturating_sub(gone.count);
                    self.state.body_bytes = self.state.body_bytes.saturating_sub(gone.body_bytes);
                }
            }
        }
        left
    }

    /// The row that says what is settled of a batch is gone; whether it will be written again.
    pub(super) fn mark_again(&mut self, first_seq: u64) -> bool {
        let Some(batch) = self.batches.get_mut(&first_seq) else { return false };
        batch.has_row = false;
        if !batch.dirty && batch.marks.live() < batch.marks.span() {
            batch.dirty = true;
            self.touched.push(first_seq);
        }
        batch.dirty
    }

    /// The disk has that many more messages than were counted, or fewer.
    pub(super) fn recount(&mut self, count: i64, body_bytes: i64) {
        self.state.count = self.state.count.saturating_add_signed(count).min(self.state.next_seq - self.state.head_seq);
        self.state.body_bytes = self.state.body_bytes.saturating_add_signed(body_bytes);
    }

    /// Whether the counters have to be written; taken to be written by the call. What came and went without being written
    /// changes only numbers that a restart may start anew from.
    pub(super) fn take_counters(&mut self, rows_changed: bool) -> Option<LaneState> {
        let (old, new) = (self.written, self.state);
        let worth = rows_changed || old.count != new.count || old.delivered_below != new.delivered_below;
        worth.then(|| {
            self.written = new;
            new
        })
    }

    /// Writes down how often messages came back, and forgets it of those that left. Connections submit in their own order,
    /// so counts only grow, and a count that comes after its message left stays until the next start: it means nothing.
    fn count_returns(&mut self, settled: &[Settled], rows: &mut Rows) {
        for (seq, count) in self.came_back.drain(..) {
            let known = self.returns.entry(seq).or_insert(0);
            if count > *known {
                *known = count;
                rows.count.insert(seq, count);
            }
        }
        if self.returns.is_empty() {
            return;
        }
        for settled in settled {
            while let Some((&seq, _)) = self.returns.range(settled.first_seq..=settled.last_seq).next() {
                self.returns.remove(&seq);
                rows.count.remove(&seq);
                rows.uncount.push(seq);
            }
        }
    }

    /// Settles what came in with this same commit: it will not be written.
    fn settle_appended(&mut self, settled: &Settled) -> bool {
        let at = self.appended.partition_point(|item| item.first_seq <= settled.first_seq);
        let Some(item) = at.checked_sub(1).and_then(|at| self.appended.get_mut(at)) else { return false };
        let from = settled.first_seq - item.first_seq;
        let to = settled.last_seq - item.first_seq;
        if to >= item.marks.span() {
            return false;
        }
        item.marks.settle(from, to);
        if item.marks.live() == 0 {
            item.arena = None;
            while self.appended.front().is_some_and(|item| item.arena.is_none()) {
                self.appended.pop_front();
            }
        }
        true
    }

    /// Settles what is on disk.
    fn settle_stored<E>(
        &mut self,
        settled: &Settled,
        rows: &mut Rows,
        find: &mut impl FnMut(u64, u64) -> Result<Option<(u64, Batch)>, E>,
    ) -> Result<bool, E> {
        let mut found = false;
        let mut seq = settled.first_seq;
        while seq <= settled.last_seq {
            let Some(first) = self.locate(seq, settled.last_seq, rows, find)? else { break };
            found = true;
            let batch = self.batches.get_mut(&first).expect("located above");
            let from = seq.saturating_sub(first);
            let to = (settled.last_seq - first).min(batch.marks.span() - 1);
            batch.marks.settle(from, to);
            if !batch.dirty {
                batch.dirty = true;
                self.touched.push(first);
            }
            seq = first + batch.marks.span();
            if batch.marks.live() == 0 {
                rows.remove.insert(first, batch.has_row);
                self.batches.remove(&first);
            }
        }
        if found {
            self.state.count = self.state.count.saturating_sub(settled.count);
            self.state.body_bytes = self.state.body_bytes.saturating_sub(settled.body_bytes);
        }
        Ok(found)
    }

    /// The first sequence number of the batch that holds `seq`, or else of the next one up to `last_seq`; known after it.
    fn locate<E>(
        &mut self,
        seq: u64,
        last_seq: u64,
        rows: &Rows,
        find: &mut impl FnMut(u64, u64) -> Result<Option<(u64, Batch)>, E>,
    ) -> Result<Option<u64>, E> {
        if let Some((&first, batch)) = self.batches.range(..=seq).next_back()
            && seq < first + batch.marks.span()
        {
            return Ok(Some(first));
        }
        if let Some((from, to)) = self.unknown
            && seq <= to
            && last_seq >= from
            && let Some((first, mut batch)) = find(seq, last_seq)?
            && !rows.remove.contains_key(&first)
        {
            if let Some(below) = self.state.head_seq.checked_sub(first + 1) {
                batch.marks.settle(0, below.min(batch.marks.span() - 1));
            }
            self.batches.entry(first).or_insert(batch);
            return Ok(Some(first));
        }
        Ok(self.batches.range(seq..=last_seq).next().map(|(first, _)| *first))
    }

    /// Cuts what came in and stayed into batches.
    fn write_appended(&mut self, rows: &mut Rows) {
        let mut runs: Vec<BatchRun> = Vec::new();
        let mut octets = 0;
        let appended = std::mem::take(&mut self.appended);
        let mut end_seq = None;
        for item in &appended {
            // A number that is missing may still come, with a commit to follow: batches must not overlap then.
            if end_seq.replace(item.first_seq + item.marks.span()) != Some(item.first_seq) {
                self.add_batch(std::mem::take(&mut runs), rows);
                octets = 0;
            }
            let Some(arena) = &item.arena else { continue };
            let mut next = item.marks.next_live(0);
            while let Some(position) = next {
                let index = item.index + u32::try_from(position).expect("positions index an arena");
                let message = arena.message(index);
                let size = message.record_len();
                if octets > 0 && octets + size > BATCH_BYTES {
                    self.add_batch(std::mem::take(&mut runs), rows);
                    octets = 0;
                }
                octets += size;
                self.state.count += 1;
                self.state.body_bytes += message.body_len() as u64;
                self.state.expiring |= message.expiration_ms().is_some();
                let seq = item.first_seq + position;
                match runs.last_mut() {
                    Some(run)
                        if run.first_seq + u64::from(run.count) == seq
                            && run.index + run.count == index
                            && Arc::ptr_eq(&run.arena, arena) =>
                    {
                        run.count += 1;
                    }
                    _ => runs.push(BatchRun { first_seq: seq, arena: arena.clone(), index, count: 1 }),
                }
                next = item.marks.next_live(position + 1);
            }
        }
        self.add_batch(runs, rows);
        self.appended = appended;
        self.appended.clear();
    }

    fn add_batch(&mut self, runs: Vec<BatchRun>, rows: &mut Rows) {
        let Some(first) = runs.first().map(|run| run.first_seq) else { return };
        if first < self.state.head_seq {
            self.lower_head(first);
        }
        let shape = BatchShape {
            span: runs.last().map_or(0, |run| run.first_seq + u64::from(run.count)) - first,
            runs: runs.iter().map(|run| (run.first_seq - first, u64::from(run.count))).collect(),
        };
        self.batches.insert(first, Batch::on_disk(&shape, None));
        rows.insert.push(runs);
    }

    /// An append came later than ones after it that are settled already: the head has said too much. What it said of other
    /// batches has to be written down for each.
    fn lower_head(&mut self, head_seq: u64) {
        self.state.head_seq = head_seq;
        for (first, batch) in &mut self.batches {
            if batch.marks.prefix() > 0 && !batch.dirty {
                batch.dirty = true;
                self.touched.push(*first);
            }
        }
    }

    /// Moves the lower bound of what is live, if it is known.
    fn update_head(&mut self) {
        let first = self.batches.first_key_value().map(|(first, batch)| first + batch.marks.prefix());
        if self.state.count == 0 {
            self.unknown = None;
            self.state.expiring = false;
        }
        match (first, self.unknown) {
            (Some(first), Some((from, _))) if first < from => self.state.head_seq = self.state.head_seq.max(first),
            (Some(first), None) => self.state.head_seq = self.state.head_seq.max(first),
            (None, None) => self.state.head_seq = self.state.next_seq,
            (Some(_) | None, Some(_)) => {}
        }
    }

    /// Writes down which messages of a batch are gone, unless the head says it all.
    fn mark_rows(&mut self, rows: &mut Rows) {
        let head_seq = self.state.head_seq;
        for first in self.touched.drain(..) {
            let Some(batch) = self.batches.get_mut(&first) else { continue };
            batch.dirty = false;
            let said_by_head = batch.marks.is_prefix_only() && first + batch.marks.prefix() <= head_seq;
            if !said_by_head {
                rows.mark.push((first, batch.marks.to_bytes()));
                batch.has_row = true;
            }
        }
    }

    /// Batches known by their marks.
    pub(super) fn known(&self) -> usize {
        self.batches.len()
    }

    /// Forgets untouched batches.
    fn forget(&mut self) {
        let (mut from, mut to) = self.unknown.unwrap_or((u64::MAX, 0));
        self.batches.retain(|seq, batch| {
            let keep = batch.dirty || batch.marks.live() < batch.marks.span();
            if !keep {
                from = from.min(*seq);
                to = to.max(seq + batch.marks.span() - 1);
            }
            keep
        });
        if self.batches.is_empty() {
            // An empty tree keeps a node.
            self.batches = BTreeMap::new();
        }
        self.unknown = (from <= to).then_some((from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::message::{ArenaBuilder, Body, MessageParts, Timestamp};
    use crate::engine::queue::Kept;

    fn arena(count: u32) -> Arc<Arena> {
        let mut builder = ArenaBuilder::new();
        for _ in 0..count {
            builder.push(&MessageParts {
                exchange: b"",
                routing_key: b"q",
                properties: &[0, 0],
                body: Body::Borrowed(b"x"),
                persistent: true,
                priority: 0,
                expiration_ms: None,
                broker_deaths: false,
                enqueued_at: Timestamp::from_millis(0),
            });
        }
        builder.finish()
    }

    fn settled(first_seq: u64, last_seq: u64) -> Settled {
        let count = last_seq - first_seq + 1;
        Settled { first_seq, last_seq, count, body_bytes: count, kept: Kept::Durable }
    }

    fn close(ledger: &mut Ledger) -> Rows {
        ledger.close_round(|_, _| Ok::<_, ()>(None)).expect("nothing is looked up")
    }

    fn written(rows: &Rows) -> Vec<(u64, u32)> {
        rows.insert.iter().flatten().map(|run| (run.first_seq, run.count)).collect()
    }

    #[test]
    fn what_came_and_went_in_one_commit_is_not_written() {
        let mut ledger = Ledger::default();
        ledger.append(0, arena(10), 0, 10);
        ledger.settle(settled(0, 3));
        ledger.settle(settled(6, 6));
        let rows = close(&mut ledger);
        assert_eq!(written(&rows), [(4, 2), (7, 3)]);
        assert_eq!((ledger.state.count, ledger.state.next_seq, ledger.state.head_seq), (5, 10, 4));
        ledger.append(10, arena(5), 0, 5);
        ledger.settle(settled(10, 14));
        assert!(written(&close(&mut ledger)).is_empty());
    }

    #[test]
    fn counts_of_returns_go_with_their_messages() {
        let mut ledger = Ledger::default();
        ledger.append(0, arena(5), 0, 5);
        ledger.came_back(1, 1);
        ledger.came_back(3, 2);
        let rows = close(&mut ledger);
        assert_eq!(rows.count.into_iter().collect::<Vec<_>>(), [(1, 1), (3, 2)]);
        // A count that was overtaken says nothing new.
        ledger.came_back(3, 1);
        ledger.came_back(1, 2);
        ledger.settle(settled(3, 4));
        let rows = close(&mut ledger);
        assert_eq!((rows.count.into_iter().collect::<Vec<_>>(), rows.uncount), (vec![(1, 2)], vec![3]));
        ledger.settle(settled(0, 2));
        assert_eq!(close(&mut ledger).uncount, [1]);
        assert!(ledger.returns.is_empty());
    }

    #[test]
    fn a_batch_goes_with_its_last_message() {
        let mut ledger = Ledger::default();
        ledger.append(0, arena(10), 0, 10);
        close(&mut ledger);
        ledger.settle(settled(0, 4));
        let rows = close(&mut ledger);
        assert!(rows.remove.is_empty() && rows.mark.is_empty(), "the head says it");
        assert_eq!(ledger.state.head_seq, 5);
        ledger.settle(settled(7, 7));
        let rows = close(&mut ledger);
        assert_eq!(rows.mark.len(), 1);
        ledger.settle(settled(5, 6));
        ledger.settle(settled(8, 9));
        let rows = close(&mut ledger);
        assert_eq!(rows.remove.into_iter().collect::<Vec<_>>(), [(0, true)]);
        assert_eq!(ledger.state.count, 0);
    }

    #[test]
    fn a_settlement_before_its_append_waits_for_it() {
        let mut ledger = Ledger::default();
        ledger.settle(settled(3, 4));
        close(&mut ledger);
        ledger.append(0, arena(5), 0, 5);
        assert_eq!(written(&close(&mut ledger)), [(0, 3)]);
        assert_eq!(ledger.state.count, 3);
    }

    #[test]
    fn a_batch_leaves_room_for_an_append_that_comes_late() {
        let mut ledger = Ledger::default();
        ledger.append(0, arena(5), 0, 5);
        ledger.append(10, arena(5), 0, 5);
        assert_eq!(close(&mut ledger).insert.len(), 2);
        ledger.append(5, arena(5), 0, 5);
        close(&mut ledger);
        ledger.settle(settled(10, 14));
        assert_eq!(close(&mut ledger).remove.into_keys().collect::<Vec<_>>(), [10]);
    }

    #[test]
    fn messages_of_an_arena_that_go_to_different_lanes_are_not_taken_for_neighbours() {
        let (mut ledger, arena) = (Ledger::default(), arena(4));
        ledger.append(0, arena.clone(), 0, 1);
        ledger.append(1, arena.clone(), 3, 1);
        let rows = close(&mut ledger);
        let indexes: Vec<_> = rows.insert.iter().flatten().map(|run| (run.index, run.count)).collect();
        assert_eq!(indexes, [(0, 1), (3, 1)]);
    }

    #[test]
    fn an_append_that_comes_late_is_not_taken_for_settled() {
        let mut ledger = Ledger::default();
        ledger.append(5, arena(5), 0, 5);
        ledger.append(10, arena(10), 0, 10);
        close(&mut ledger);
        ledger.settle(settled(5, 9));
        ledger.settle(settled(10, 12));
        close(&mut ledger);
        assert_eq!(ledger.state.head_seq, 13);
        ledger.append(0, arena(5), 0, 5);
        let rows = close(&mut ledger);
        assert_eq!((written(&rows), ledger.state.head_seq, ledger.state.count), (vec![(0, 5)], 0, 12));
        assert_eq!(rows.mark.iter().map(|(first, _)| *first).collect::<Vec<_>>(), [5]);
        assert_eq!(rows.mark[0].1, [0xff, 0]);
    }

    #[test]
    fn what_was_set_aside_is_settled_no_more() {
        for counted in [true, false] {
            let mut ledger = Ledger::default();
            for first in [0, 10, 20] {
                ledger.append(first, arena(10), 0, 10);
                close(&mut ledger);
            }
            ledger.set_aside(10, 20, counted.then_some((10, 10)));
            assert_eq!(ledger.state.count, if counted { 20 } else { 30 });
            ledger.settle(settled(5, 24));
            close(&mut ledger);
            assert_eq!((ledger.state.count, ledger.state.body_bytes, ledger.early.len()), (10, 10, 0));
            ledger.settle(settled(0, 4));
            ledger.settle(settled(25, 29));
            assert_eq!(close(&mut ledger).remove.into_keys().collect::<Vec<_>>(), [0, 20]);
            assert_eq!((ledger.state.count, ledger.state.head_seq), (0, 30));
        }
    }

    #[test]
    fn counters_are_put_right_as_far_as_they_can_be() {
        let mut ledger = Ledger::default();
        ledger.append(0, arena(10), 0, 10);
        close(&mut ledger);
        ledger.recount(-3, -3);
        assert_eq!((ledger.state.count, ledger.state.body_bytes), (7, 7));
        ledger.recount(5, 5);
        assert_eq!((ledger.state.count, ledger.state.body_bytes), (10, 12));
        ledger.recount(-50, -50);
        assert_eq!((ledger.state.count, ledger.state.body_bytes), (0, 0));
    }

    #[test]
    fn a_batch_of_before_the_start_is_looked_up() {
        let state = LaneState { head_seq: 10, next_seq: 20, count: 10, body_bytes: 10, ..LaneState::default() };
        let mut ledger = Ledger::recovered(state, BTreeMap::new());
        ledger.settle(settled(10, 19));
        let rows = ledger
            .close_round(|seq, _| {
                assert_eq!(seq, 10);
                let shape = BatchShape { span: 10, runs: vec![(0, 10)] };
                Ok::<_, ()>(Some((10, Batch::on_disk(&shape, None))))
            })
            .expect("found");
        assert_eq!(rows.remove.len(), 1);
        assert_eq!((ledger.state.count, ledger.state.head_seq), (0, 20));
    }
}
