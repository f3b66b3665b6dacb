//! Operations as the octets of a journal record.
//!
//! A record is a row of items, each a tag and what follows from it; numbers are big-endian. Messages come first, as an
//! *arena*; the operations that put them into queues name its number in the record. So a message that goes to ten queues is
//! in the journal once.
//!
//! | Tag | Item |
//! |---|---|
//! | 0 | an arena: count u32 │ octets u32 │ records (see `engine::message`) |
//! | 1 | append: lane u64 │ first sequence number u64 │ arena u32 │ index u32 │ count u32 |
//! | 2 | settled: lane u64 │ first u64 │ last u64 │ count u64 │ body octets u64 |
//! | 3 | returned: lane u64 │ sequence number u64 │ count u32 |
//! | 4 | append to a stream: lane u64 │ block octets u64 │ arena u32 │ index u32 │ count u32 |
//! | 5 | truncate a stream: lane u64 │ first offset that stays u64 |
//! | 6 | delivered: lane u64 │ below u64 |
//! | 7, 8 | exchange added, removed: key │ value; key |
//! | 9, 10 | queue added, removed: number u64 │ value; number u64 |
//! | 11, 12 | binding added, removed: key |
//! | 13, 14 | record of the directory put, removed: kind u8 │ value; kind u8 │ key |
//!
//! Keys and values of definitions are those of their tables, each with its length u32 in front.

use std::sync::Arc;

use bytes::Bytes;
use leveret_protocol::{ShortString, encode};

use crate::engine::directory::{DirectoryChange, Record, RecordKey, RecordKind};
use crate::engine::message::{Arena, record_len};
use crate::engine::queue::{Kept, QueueId, Settled};
use crate::engine::vhost::Change;
use crate::store::schema::{Reader, bindings, directory, exchanges, queues};
use crate::store::{LaneKey, LogSink, LogUpdate, Op};

const ARENA: u8 = 0;
const APPEND: u8 = 1;
const SETTLED: u8 = 2;
const RETURNED: u8 = 3;
const LOG: u8 = 4;
const TRUNCATE: u8 = 5;
const DELIVERED: u8 = 6;
const EXCHANGE_ADDED: u8 = 7;
const EXCHANGE_REMOVED: u8 = 8;
const QUEUE_ADDED: u8 = 9;
const QUEUE_REMOVED: u8 = 10;
const BINDING_ADDED: u8 = 11;
const BINDING_REMOVED: u8 = 12;
const RECORD_PUT: u8 = 13;
const RECORD_REMOVED: u8 = 14;

/// More octets than any operation takes but for messages and definitions.
const PLAIN_MAX: usize = 64;

/// Writes operations as items of one record.
#[derive(Debug, Default)]
pub(super) struct Encoder<'a> {
    last: Option<&'a Arc<Arena>>,
    arenas: u32,
}

impl<'a> Encoder<'a> {
    /// Appends what an operation is in the journal; nothing if it need not survive.
    pub(super) fn put(&mut self, op: &'a Op, out: &mut Vec<u8>) {
        match op {
            Op::Append { lane, first_seq, arena, index, count } => {
                let place = self.place(arena, *index, *count, out);
                put_numbers(out, APPEND, &[lane.get(), *first_seq]);
                put_place(out, place, *count);
            }
            Op::Log { lane, arena, index, count, block_bytes, sink: _ } => {
                let place = self.place(arena, *index, *count, out);
                put_numbers(out, LOG, &[lane.get(), *block_bytes]);
                put_place(out, place, *count);
            }
            Op::Settled { lane, settled } => {
                let Settled { first_seq, last_seq, count, body_bytes, .. } = *settled;
                put_numbers(out, SETTLED, &[lane.get(), first_seq, last_seq, count, body_bytes]);
            }
            Op::Returned { lane, seq, count } => {
                put_numbers(out, RETURNED, &[lane.get(), *seq]);
                encode::put_u32(out, *count);
            }
            Op::Truncate { lane, below_seq } => put_numbers(out, TRUNCATE, &[lane.get(), *below_seq]),
            Op::Delivered { lane, below } => put_numbers(out, DELIVERED, &[lane.get(), *below]),
            Op::Define { vhost, change } => put_change(out, vhost, change),
            Op::Directory(change) => put_directory(out, change),
        }
    }

    /// Where the messages are in the record: arena and index. Writes them unless the operation before was about the same.
    fn place(&mut self, arena: &'a Arc<Arena>, index: u32, count: u32, out: &mut Vec<u8>) -> (u32, u32) {
        if self.last.is_some_and(|last| Arc::ptr_eq(last, arena)) {
            return (self.arenas - 1, index);
        }
        // Much else in the arena is not worth writing for these few.
        let whole = count >= arena.count() / 4;
        let (first, written) = if whole { (0, arena.count()) } else { (index, count) };
        out.push(ARENA);
        encode::put_u32(out, written);
        let at = out.len();
        encode::put_u32(out, 0);
        arena.write_records(first, written, out);
        let octets = u32::try_from(out.len() - at - 4).expect("an arena has less than 4 GiB");
        out[at..at + 4].copy_from_slice(&octets.to_be_bytes());
        self.last = whole.then_some(arena);
        self.arenas += 1;
        (self.arenas - 1, index - first)
    }
}

fn put_numbers(out: &mut Vec<u8>, tag: u8, numbers: &[u64]) {
    out.push(tag);
    for number in numbers {
        encode::put_u64(out, *number);
    }
}

fn put_place(out: &mut Vec<u8>, (arena, index): (u32, u32), count: u32) {
    for number in [arena, index, count] {
        encode::put_u32(out, number);
    }
}

fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    encode::put_u32(out, u32::try_from(octets.len()).expect("definitions are far smaller than 4 GiB"));
    out.extend_from_slice(octets);
}

fn put_change(out: &mut Vec<u8>, vhost: &ShortString, change: &Change) {
    match change {
        Change::ExchangeAdded(record) => {
            out.push(EXCHANGE_ADDED);
            let key = exchanges::key(vhost, &record.name);
            put_octets(out, &key);
            put_octets(out, &exchanges::encode_value(&key, record));
        }
        Change::ExchangeRemoved(name) => {
            out.push(EXCHANGE_REMOVED);
            put_octets(out, &exchanges::key(vhost, name));
        }
        Change::QueueAdded(record) => {
            put_numbers(out, QUEUE_ADDED, &[record.id.get()]);
            put_octets(out, &queues::encode_value(vhost, record));
        }
        Change::QueueRemoved(id) => put_numbers(out, QUEUE_REMOVED, &[id.get()]),
        Change::BindingAdded(binding) => {
            out.push(BINDING_ADDED);
            put_octets(out, &bindings::key(vhost, binding));
        }
        Change::BindingRemoved(binding) => {
            out.push(BINDING_REMOVED);
            put_octets(out, &bindings::key(vhost, binding));
        }
    }
}

fn put_directory(out: &mut Vec<u8>, change: &DirectoryChange) {
    match change {
        DirectoryChange::Put(record) => {
            out.extend([RECORD_PUT, kind_number(record.key().kind)]);
            put_octets(out, &record.to_json());
        }
        DirectoryChange::Removed(key) => {
            out.extend([RECORD_REMOVED, kind_number(key.kind)]);
            put_octets(out, &directory::key(key));
        }
    }
}

fn kind_number(kind: RecordKind) -> u8 {
    let at = RecordKind::ALL.iter().position(|other| *other == kind).expect("ALL has every kind");
    u8::try_from(at).expect("a handful of kinds")
}

/// The most octets that an operation can take in a record.
pub(super) fn bound(op: &Op) -> usize {
    match op {
        Op::Append { arena, .. } | Op::Log { arena, .. } => arena.size_bytes() + PLAIN_MAX,
        Op::Define { vhost, change } => {
            let mut out = Vec::new();
            put_change(&mut out, vhost, change);
            out.len()
        }
        Op::Directory(change) => {
            let mut out = Vec::new();
            put_directory(&mut out, change);
            out.len()
        }
        Op::Settled { .. } | Op::Returned { .. } | Op::Truncate { .. } | Op::Delivered { .. } => PLAIN_MAX,
    }
}

/// A stream that is not there yet: at a replay.
#[derive(Debug)]
struct Nobody;

impl LogSink for Nobody {
    fn committed(&self, _update: LogUpdate) {}
}

/// Reads the operations of a record; `None` when they are malformed.
pub(super) fn decode(payload: &Bytes) -> Option<Vec<Op>> {
    let nobody: Arc<dyn LogSink> = Arc::new(Nobody);
    let mut arenas: Vec<Arc<Arena>> = Vec::new();
    let mut ops = Vec::new();
    let mut reader = Reader::new(payload);
    while !reader.rest().is_empty() {
        let op = match reader.u8()? {
            ARENA => {
                arenas.push(read_arena(payload, &mut reader)?);
                continue;
            }
            APPEND => {
                let (lane, first_seq) = (read_lane(&mut reader)?, reader.u64()?);
                let (arena, index, count) = read_place(&mut reader, &arenas)?;
                Op::Append { lane, first_seq, arena, index, count }
            }
            LOG => {
                let (lane, block_bytes) = (read_lane(&mut reader)?, reader.u64()?);
                let (arena, index, count) = read_place(&mut reader, &arenas)?;
                Op::Log { lane, arena, index, count, block_bytes, sink: nobody.clone() }
            }
            SETTLED => Op::Settled {
                lane: read_lane(&mut reader)?,
                settled: Settled {
                    first_seq: reader.u64()?,
                    last_seq: reader.u64()?,
                    count: reader.u64()?,
                    body_bytes: reader.u64()?,
                    kept: Kept::Durable,
                },
            },
            RETURNED => Op::Returned { lane: read_lane(&mut reader)?, seq: reader.u64()?, count: reader.u32()? },
            TRUNCATE => Op::Truncate { lane: read_lane(&mut reader)?, below_seq: reader.u64()? },
            DELIVERED => Op::Delivered { lane: read_lane(&mut reader)?, below: reader.u64()? },
            tag @ (EXCHANGE_ADDED | EXCHANGE_REMOVED | QUEUE_ADDED | QUEUE_REMOVED | BINDING_ADDED
            | BINDING_REMOVED) => {
                let (vhost, change) = read_change(tag, &mut reader)?;
                Op::Define { vhost, change }
            }
            RECORD_PUT => {
                let kind = *RecordKind::ALL.get(usize::from(reader.u8()?))?;
                Op::Directory(DirectoryChange::Put(Record::from_json(kind, read_octets(&mut reader)?)?))
            }
            RECORD_REMOVED => {
                let kind = *RecordKind::ALL.get(usize::from(reader.u8()?))?;
                let mut key = Reader::new(read_octets(&mut reader)?);
                let mut name = || Some(key.short_string()?.to_string());
                Op::Directory(DirectoryChange::Removed(RecordKey { kind, names: [name()?, name()?, name()?] }))
            }
            _ => return None,
        };
        ops.push(op);
    }
    Some(ops)
}

fn read_arena(payload: &Bytes, reader: &mut Reader<'_>) -> Option<Arc<Arena>> {
    let (count, octets) = (reader.u32()?, reader.u32()? as usize);
    let start = payload.len() - reader.rest().len();
    let records = reader.take(octets)?;
    let mut offsets = Vec::new();
    let mut at = 0;
    for _ in 0..count {
        offsets.push(u32::try_from(at).ok()?);
        at += record_len(records.get(at..)?)?;
    }
    (at == octets).then(|| Arena::from_records(payload.slice(start..start + octets), offsets, 0))?
}

fn read_lane(reader: &mut Reader<'_>) -> Option<LaneKey> {
    reader.u64().map(LaneKey::from_number)
}

fn read_place(reader: &mut Reader<'_>, arenas: &[Arc<Arena>]) -> Option<(Arc<Arena>, u32, u32)> {
    let arena = arenas.get(reader.u32()? as usize)?;
    let (index, count) = (reader.u32()?, reader.u32()?);
    (index.checked_add(count)? <= arena.count()).then(|| (arena.clone(), index, count))
}

fn read_octets<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = reader.u32()? as usize;
    reader.take(len)
}

fn read_change(tag: u8, reader: &mut Reader<'_>) -> Option<(ShortString, Change)> {
    let nowhere = || ShortString::from_static("");
    Some(match tag {
        EXCHANGE_ADDED => {
            let (vhost, record) = exchanges::decode(read_octets(reader)?, read_octets(reader)?)?;
            (vhost, Change::ExchangeAdded(record))
        }
        EXCHANGE_REMOVED => {
            let mut key = Reader::new(read_octets(reader)?);
            (key.short_string()?, Change::ExchangeRemoved(key.short_string()?))
        }
        QUEUE_ADDED => {
            let (vhost, record) = queues::decode(reader.u64()?, read_octets(reader)?)?;
            (vhost, Change::QueueAdded(record))
        }
        QUEUE_REMOVED => (nowhere(), Change::QueueRemoved(QueueId::new(reader.u64()?))),
        _ => {
            let key = read_octets(reader)?;
            let (vhost, binding) = bindings::decode(key, &bindings::value(key))?;
            let binding = Arc::new(binding);
            (vhost, if tag == BINDING_ADDED { Change::BindingAdded(binding) } else { Change::BindingRemoved(binding) })
        }
    })
}
