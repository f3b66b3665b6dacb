//! The journal: what was promised, and is not yet in the database.
//!
//! A file of fixed size, `leveret.journal`, used as a ring. What a group of transactions does is one record: appended,
//! fsynced, and with that durable, as a whole or not at all. The database follows with checkpoints, each of which says up to
//! which record it has everything; the records up to there may be overwritten. After a crash the records that follow are
//! replayed. So a confirm costs one write and one fsync of one file, and a message that comes and goes between two
//! checkpoints never reaches the database.
//!
//! ```text
//! magic 8 octets │ epoch u64 │ sequence number u64 │ payload length u64 │ crc32c of the payload u32 │ crc32c of all before u32
//! payload (see `codec`), then zeros up to the next 4 KiB
//! ```
//!
//! Invariants: a record begins at a multiple of 4 KiB, so that no write touches octets that were promised; a record is
//! written only after the one before is fsynced, so a record that is there proves all before it; sequence numbers rise by
//! one and are never given twice; the epoch is new with each start, so that a journal is never replayed over another
//! history.
//! Not here: who waits for what, and what a record does to the database.

mod codec;
mod direct;
mod replay;
mod stage;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use fs4::FileExt;
use redb::StorageBackend;
use tracing::info;

use super::{Op, Transaction};
use crate::server::clock;
use codec::Encoder;
use stage::Stage;

pub(super) use replay::scan;

/// The journal's file in the data directory.
pub(super) const FILE_NAME: &str = "leveret.journal";
/// Octets of the ring. It bounds what a start after a crash replays, and what waits in memory for the database.
pub(super) const CAPACITY: u64 = 16 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"LVRTJNL1";
const HEADER: usize = 40;
/// Records begin at multiples of this: what a disk writes as a whole.
const PAGE: usize = 4096;
/// The same where it is an offset in the file.
const ALIGNMENT: u64 = PAGE as u64;
/// Octets that are encoded before they are written.
const CHUNK: usize = 256 * 1024;

/// Opens the journal's file, and has the system set its place on the disk aside.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn StorageBackend>> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() < CAPACITY {
        // Not every file system can; then a full disk is noticed when the journal is written.
        if let Err(cause) = file.allocate(CAPACITY) {
            info!(file = %path.display(), %cause, "the place for the journal cannot be set aside");
        }
    }
    direct::open(path, file)
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    seq: u64,
    start: u64,
}

/// The journal as its one writer has it.
#[derive(Debug)]
pub(super) struct Journal {
    file: Box<dyn StorageBackend>,
    epoch: u64,
    capacity: u64,
    len: u64,
    head: u64,
    next_seq: u64,
    /// Records that the database does not have yet, in order.
    live: VecDeque<Extent>,
    stage: Stage,
    last_sync: Duration,
}

/// What became of an attempt to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// It is on disk under this sequence number, and took so many octets. Without anything to write: the last number.
    Record(u64, u64),
    /// There is no room before the database has caught up.
    Full,
}

impl Journal {
    /// A journal in `file`, whose content is not needed any more; its first record gets the number `next_seq`.
    pub(super) fn start(file: Box<dyn StorageBackend>, epoch: u64, next_seq: u64, capacity: u64) -> io::Result<Self> {
        if file.len()? != capacity {
            file.set_len(capacity)?;
            file.sync_data()?;
        }
        Ok(Self {
            file,
            epoch,
            capacity,
            len: capacity,
            head: 0,
            next_seq,
            live: VecDeque::new(),
            stage: Stage::default(),
            last_sync: Duration::ZERO,
        })
    }

    /// How long the disk took for the last record.
    pub(super) fn last_sync(&self) -> Duration {
        self.last_sync
    }

    /// Whether the database has every record.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// The database has every record up to this one.
    pub(super) fn release(&mut self, seq: u64) {
        while self.live.front().is_some_and(|extent| extent.seq <= seq) {
            self.live.pop_front();
        }
    }

    /// Appends what these transactions do as one record, and waits until it is on disk.
    pub(super) fn append(&mut self, transactions: &[Transaction]) -> io::Result<Appended> {
        let ops = || transactions.iter().flat_map(|transaction| &transaction.ops).filter(|op| op.is_durable());
        if ops().next().is_none() {
            return Ok(Appended::Record(self.next_seq - 1, 0));
        }
        let bound: usize = HEADER + ops().map(codec::bound).sum::<usize>();
        let Some(start) = self.place(aligned(bound as u64))? else { return Ok(Appended::Full) };
        let payload_len = self.write(start, ops())?;
        let began = clock::instant();
        self.file.sync_data()?;
        self.last_sync = clock::instant().saturating_duration_since(began);
        let end = start + aligned(HEADER as u64 + payload_len);
        let seq = self.next_seq;
        self.live.push_back(Extent { seq, start });
        self.next_seq += 1;
        self.head = end;
        Ok(Appended::Record(seq, end - start))
    }

    /// Where a record of at most so many octets goes.
    fn place(&mut self, size: u64) -> io::Result<Option<u64>> {
        let Some(Extent { start: tail, .. }) = self.live.front().copied() else {
            let len = self.capacity.max(size);
            if len != self.len {
                // A record that is larger than the ring has it to itself.
                self.file.set_len(len)?;
                self.len = len;
            }
            return Ok(Some(0));
        };
        let fits = if self.head <= tail {
            (self.head + size <= tail).then_some(self.head)
        } else if self.head + size <= self.len {
            Some(self.head)
        } else {
            (size <= tail).then_some(0)
        };
        Ok(fits)
    }

    /// Writes payload and header; returns the payload's length. A record in several pieces gets its first page last.
    fn write<'a>(&mut self, start: u64, ops: impl Iterator<Item = &'a Op>) -> io::Result<u64> {
        let mut stage = std::mem::take(&mut self.stage);
        stage.clear();
        stage.append(|out| out.extend([0; HEADER]));
        let mut encoder = Encoder::default();
        let mut crc = 0;
        // How far what is staged is in the checksum, and what was written before it.
        let (mut summed, mut written) = (HEADER, 0);
        let mut first_page = None;
        for op in ops {
            stage.append(|out| encoder.put(op, out));
            if stage.len() >= CHUNK {
                crc = crc32c::crc32c_append(crc, &stage.octets()[summed..]);
                first_page.get_or_insert_with(|| stage.octets()[..PAGE].to_vec());
                let pages = stage.len() / PAGE * PAGE;
                self.file.write(start + written, &stage.octets()[..pages])?;
                stage.drop_front(pages);
                summed = stage.len();
                written += pages as u64;
            }
        }
        crc = crc32c::crc32c_append(crc, &stage.octets()[summed..]);
        let payload_len = written + stage.len() as u64 - HEADER as u64;
        let blank = stage.len().next_multiple_of(PAGE) - stage.len();
        stage.append(|out| out.resize(out.len() + blank, 0));
        if let Some(first_page) = first_page {
            self.file.write(start + written, stage.octets())?;
            stage.clear();
            stage.append(|out| out.extend(first_page));
        }
        stage.octets_mut()[..HEADER].copy_from_slice(&header(self.epoch, self.next_seq, payload_len, crc));
        self.file.write(start, stage.octets())?;
        if stage.capacity() <= 4 * CHUNK {
            self.stage = stage;
        }
        Ok(payload_len)
    }
}

fn aligned(octets: u64) -> u64 {
    octets.div_ceil(ALIGNMENT) * ALIGNMENT
}

fn header(epoch: u64, seq: u64, payload_len: u64, payload_crc: u32) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..8].copy_from_slice(&MAGIC);
    out[8..16].copy_from_slice(&epoch.to_be_bytes());
    out[16..24].copy_from_slice(&seq.to_be_bytes());
    out[24..32].copy_from_slice(&payload_len.to_be_bytes());
    out[32..36].copy_from_slice(&payload_crc.to_be_bytes());
    let crc = crc32c::crc32c(&out[..36]);
    out[36..].copy_from_slice(&crc.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use leveret_protocol::{FieldTable, FieldValue, ShortString};
    use parking_lot::Mutex;
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::engine::directory::{DirectoryChange, Record, VhostRecord};
    use crate::engine::exchange::Destination;
    use crate::engine::message::{Arena, ArenaBuilder, Body, MessageParts, Timestamp};
    use crate::engine::queue::{Kept, QueueId, Settled};
    use crate::engine::vhost::{Binding, Change, ExchangeRecord, QueueRecord};
    use crate::store::{LaneKey, LogSink, LogUpdate};

    const EPOCH: u64 = 77;
    const LANE: LaneKey = LaneKey::from_number(0x0705);

    /// A file that outlives its journal.
    #[derive(Clone, Debug, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl StorageBackend for Shared {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.lock().len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let at = usize::try_from(offset).expect("small");
            out.copy_from_slice(&self.0.lock()[at..at + out.len()]);
            Ok(())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.lock().resize(usize::try_from(len).expect("small"), 0);
            Ok(())
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn write(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
            let at = usize::try_from(offset).expect("small");
            self.0.lock()[at..at + octets.len()].copy_from_slice(octets);
            Ok(())
        }
    }

    impl Shared {
        fn journal(&self, next_seq: u64, capacity: u64) -> Journal {
            Journal::start(Box::new(self.clone()), EPOCH, next_seq, capacity).expect("starts")
        }

        /// Numbers and operations of what is found after `applied`, and how much is damaged.
        fn replay(&self, applied: u64) -> (Vec<(u64, Vec<Op>)>, u64) {
            let mut found = Vec::new();
            let damaged = scan(self, EPOCH, applied).expect("read").replay(self, |seq, ops| {
                found.push((seq, ops));
                Ok::<_, io::Error>(())
            });
            (found, damaged.expect("read"))
        }

        fn flip(&self, at: usize) {
            self.0.lock()[at] ^= 0x10;
        }
    }

    fn arena(first: u32, sizes: &[usize]) -> Arc<Arena> {
        let mut builder = ArenaBuilder::new();
        for (number, size) in (first..).zip(sizes) {
            builder.push(&MessageParts {
                exchange: b"x",
                routing_key: b"q",
                properties: &[0x10, 0, 2],
                body: Body::Shared(vec![u8::try_from(number % 251).expect("small"); *size].into()),
                persistent: true,
                priority: 0,
                expiration_ms: None,
                broker_deaths: false,
                enqueued_at: Timestamp::from_millis(9),
            });
        }
        builder.finish()
    }

    fn group(ops: Vec<Op>) -> [Transaction; 1] {
        [Transaction { ops, waiter: None }]
    }

    fn append_of(size: usize) -> [Transaction; 1] {
        group(vec![Op::Append { lane: LANE, first_seq: 3, arena: arena(0, &[size]), index: 0, count: 1 }])
    }

    #[derive(Debug)]
    struct Nobody;

    impl LogSink for Nobody {
        fn committed(&self, _update: LogUpdate) {}
    }

    /// What an operation says, with its messages spelled out.
    fn said(op: &Op) -> String {
        match op {
            Op::Append { lane, first_seq, arena, index, count } => {
                format!("append {lane:?} {first_seq} {:?}", bodies(arena, *index, *count))
            }
            Op::Log { lane, arena, index, count, block_bytes, .. } => {
                format!("log {lane:?} {block_bytes} {:?}", bodies(arena, *index, *count))
            }
            Op::Settled { .. }
            | Op::Returned { .. }
            | Op::Truncate { .. }
            | Op::Define { .. }
            | Op::Directory(_)
            | Op::Delivered { .. } => format!("{op:?}"),
        }
    }

    fn bodies(arena: &Arena, index: u32, count: u32) -> Vec<(usize, Option<u8>)> {
        let bodies = (index..index + count).map(|at| arena.message(at).body());
        bodies.map(|body| (body.len(), body.first().copied())).collect()
    }

    fn every_op() -> Vec<Op> {
        let word = ShortString::from_static;
        let many = arena(5, &[0, 10, 5000, 3, 70_000, 1, 2, 3]);
        let few = arena(90, &[4, 5]);
        let append = |arena: &Arc<Arena>, index, count| Op::Append {
            lane: LANE,
            first_seq: 40,
            arena: arena.clone(),
            index,
            count,
        };
        let arguments: FieldTable = [(word("a"), FieldValue::Int32(1))].into_iter().collect();
        let binding = |destination| {
            let (source, routing_key) = (word("x"), word("k.*"));
            Arc::new(Binding { source, destination, routing_key, arguments: arguments.clone() })
        };
        let record = Record::Vhost(VhostRecord { name: "orders".to_owned(), ..VhostRecord::default() });
        let exchange = ExchangeRecord {
            name: word("x"),
            kind: word("topic"),
            durable: true,
            auto_delete: false,
            internal: true,
            arguments: arguments.clone(),
        };
        let queue = QueueRecord {
            id: QueueId::new(7),
            name: word("q"),
            durable: true,
            auto_delete: true,
            exclusive_owner: None,
            arguments: arguments.clone(),
            delays: false,
        };
        let mut ops = vec![
            append(&many, 0, 8),
            append(&many, 2, 3),
            append(&few, 1, 1),
            append(&many, 4, 1),
            append(&many, 5, 1),
            Op::Log { lane: LANE, arena: few, index: 0, count: 2, block_bytes: 99, sink: Arc::new(Nobody) },
            Op::Settled {
                lane: LANE,
                settled: Settled { first_seq: 1, last_seq: 9, count: 8, body_bytes: 70, kept: Kept::Durable },
            },
            Op::Returned { lane: LANE, seq: 4, count: 2 },
            Op::Truncate { lane: LANE, below_seq: 12 },
            Op::Delivered { lane: LANE, below: 13 },
            Op::Directory(DirectoryChange::Put(record.clone())),
            Op::Directory(DirectoryChange::Removed(record.key())),
        ];
        for change in [
            Change::ExchangeAdded(exchange),
            Change::QueueAdded(queue),
            Change::BindingAdded(binding(Destination::Queue(QueueId::new(7)))),
            Change::BindingRemoved(binding(Destination::Exchange(word("y")))),
            Change::ExchangeRemoved(word("x")),
        ] {
            ops.push(Op::Define { vhost: word("v"), change });
        }
        ops.push(Op::Define { vhost: word(""), change: Change::QueueRemoved(QueueId::new(7)) });
        ops
    }

    #[test]
    fn every_operation_comes_back_as_it_was() {
        let file = Shared::default();
        let mut journal = file.journal(1, CAPACITY);
        // More than a chunk, so that a record is written in pieces.
        let ops: Vec<Op> = (0..8).flat_map(|_| every_op()).collect();
        let expected: Vec<_> = ops.iter().map(said).collect();
        let bound: usize = ops.iter().map(codec::bound).sum();
        let Appended::Record(1, bytes) = journal.append(&group(ops)).expect("written") else { panic!("no room") };
        assert!(bytes > 2 * CHUNK as u64 && bytes <= aligned((HEADER + bound) as u64), "{bytes} {bound}");
        let (found, damaged) = file.replay(0);
        assert_eq!(damaged, 0);
        assert_eq!(found[0].1.iter().map(said).collect::<Vec<_>>(), expected);
        assert!(file.replay(1).0.is_empty(), "the database has it");
        assert!(scan(&file, EPOCH + 1, 0).expect("read").is_empty(), "another history");
    }

    #[test]
    fn a_message_of_many_queues_is_written_once() {
        let messages = arena(0, &[30_000]);
        let ops = (0..10).map(|queue| Op::Append {
            lane: LaneKey::new(QueueId::new(queue), 0),
            first_seq: queue,
            arena: messages.clone(),
            index: 0,
            count: 1,
        });
        let file = Shared::default();
        let appended = file.journal(1, CAPACITY).append(&group(ops.collect())).expect("written");
        assert_eq!(appended, Appended::Record(1, 32_768));
    }

    #[test]
    fn the_ring_goes_round_and_overwrites_nothing_that_is_needed() {
        let file = Shared::default();
        let mut journal = file.journal(1, 64 * 1024);
        let mut released = 0;
        for seq in 1..200 {
            // Between one and four pages.
            let group = append_of(500 + usize::try_from(seq % 4).expect("small") * 4096);
            let mut tries = 0;
            while journal.append(&group).expect("written") == Appended::Full {
                assert!(seq - released > 3, "the ring has room for four records");
                released = (released + 2).min(seq - 1);
                journal.release(released);
                tries += 1;
                assert!(tries < 4);
            }
            let (found, damaged) = file.replay(released);
            assert_eq!(damaged, 0);
            assert_eq!(found.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (released + 1..=seq).collect::<Vec<_>>());
        }
        assert_eq!(file.len().expect("known"), 64 * 1024);
    }

    #[test]
    fn a_record_larger_than_the_ring_has_it_to_itself() {
        let file = Shared::default();
        let mut journal = file.journal(1, 16 * 1024);
        assert_eq!(journal.append(&append_of(10)).expect("written"), Appended::Record(1, 4096));
        assert_eq!(journal.append(&append_of(100_000)).expect("written"), Appended::Full);
        journal.release(1);
        assert!(matches!(journal.append(&append_of(100_000)), Ok(Appended::Record(2, _))));
        assert_eq!(file.replay(1).0.len(), 1);
        assert_eq!(journal.append(&append_of(10)).expect("written"), Appended::Full);
        journal.release(2);
        assert_eq!(journal.append(&append_of(10)).expect("written"), Appended::Record(3, 4096));
        assert_eq!(file.len().expect("known"), 16 * 1024);
    }

    #[test]
    fn a_torn_end_is_no_loss_and_a_damaged_middle_is_one() {
        for at in (0..3 * 4096).step_by(37) {
            let file = Shared::default();
            let mut journal = file.journal(5, 64 * 1024);
            for _ in 0..3 {
                assert!(matches!(journal.append(&append_of(3900)), Ok(Appended::Record(_, 4096))));
            }
            // At least so much is used; what is after the payload means nothing.
            let used = at % 4096 < HEADER + 3900;
            file.flip(at);
            let (found, damaged) = file.replay(4);
            let whole: Vec<_> = found.iter().map(|(seq, _)| *seq).collect();
            match (used, at / 4096) {
                (true, 2) => assert_eq!((whole, damaged), (vec![5, 6], 0), "octet {at}"),
                (true, 1) => assert_eq!((whole, damaged), (vec![5, 7], 1), "octet {at}"),
                (true, _) => assert_eq!((whole, damaged), (vec![6, 7], 1), "octet {at}"),
                (false, _) => assert!(damaged <= 1 && whole.len() >= 2, "octet {at}"),
            }
        }
    }

    #[test]
    fn what_need_not_survive_is_not_written() {
        let mut journal = Journal::start(Box::new(InMemoryBackend::new()), EPOCH, 9, 64 * 1024).expect("starts");
        assert_eq!(journal.append(&group(Vec::new())).expect("nothing"), Appended::Record(8, 0));
        assert!(journal.is_empty());
    }
}
