//! Table `batches`: messages. Key: lane and the first sequence number in the batch.
//!
//! ```text
//! crc32c u32 │ format u8 │ span u32 │ runs: ( offset u32 │ count u32 │ octets u32 │ records )*
//! ```
//!
//! The checksum covers everything after it; in format 2, as in every sealed record, the table's name and the key too.
//! Batches of format 1 stay as they are until their messages have gone. `span` is the distance from the first sequence number to one past the last. A
//! run holds records (see `engine::message`) of consecutive sequence numbers, the first being key + `offset`; numbers in
//! no run were settled before the batch was written, so batches of a lane never overlap. A batch is cut at [`BATCH_BYTES`], a little under a power of two,
//! because redb keeps a large value in a power-of-two run of pages; a larger message stands alone, in parts (`parts`).
//!
//! Table `settled`: which messages of a batch have gone since, one bit each from the batch's first sequence number on.
//! Same key, a sealed record. Absent while none has, or while those that have lie below the lane's `head_seq`.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use redb::TableDefinition;

use super::Reader;
use super::seal::{Record, checksum, open};
use crate::engine::message::{Arena, record_body_len, record_len};
use crate::engine::queue::{Gone, Kept, Loaded};

pub(in crate::store) const BATCHES: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new(NAME);
pub(in crate::store) const SETTLED: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new(SETTLED_NAME);

const NAME: &str = "batches";
const SETTLED_NAME: &str = "settled";

/// Octets at which a batch is cut.
pub(in crate::store) const BATCH_BYTES: usize = 64 * 1024 - 512;

const FORMAT: u8 = 2;
/// Its checksum says nothing of the key.
const FORMAT_1: u8 = 1;
/// The row only stands for a batch that is in parts (`parts`).
pub(super) const SPLIT: u8 = 3;
const HEADER: usize = 9;
const RUN_HEADER: usize = 12;

/// A run of messages to be written: consecutive sequence numbers, side by side in an arena.
#[derive(Clone, Debug)]
pub(in crate::store) struct BatchRun {
    pub(in crate::store) first_seq: u64,
    pub(in crate::store) arena: Arc<Arena>,
    pub(in crate::store) index: u32,
    pub(in crate::store) count: u32,
}

/// The checksum of a row under this key; `content` begins with its format.
pub(super) fn row_checksum(key: (u64, u64), content: &[u8]) -> u32 {
    checksum(NAME, key, content)
}

/// Encodes runs of a lane as one batch, and returns its key. `out` is cleared first.
pub(in crate::store) fn encode_batch(lane: u64, runs: &[BatchRun], out: &mut Vec<u8>) -> (u64, u64) {
    out.clear();
    out.resize(HEADER, 0);
    let first_seq = runs.first().map_or(0, |run| run.first_seq);
    let key = (lane, first_seq);
    let end_seq = runs.last().map_or(0, |run| run.first_seq + u64::from(run.count));
    for run in runs {
        let at = out.len();
        out.resize(at + RUN_HEADER, 0);
        for nth in 0..run.count {
            run.arena.message(run.index + nth).write_record(out);
        }
        let octets = out.len() - at - RUN_HEADER;
        out[at..at + 4].copy_from_slice(&narrow(run.first_seq - first_seq).to_be_bytes());
        out[at + 4..at + 8].copy_from_slice(&run.count.to_be_bytes());
        out[at + 8..at + 12].copy_from_slice(&narrow(octets as u64).to_be_bytes());
    }
    out[4] = FORMAT;
    out[5..9].copy_from_slice(&narrow(end_seq - first_seq).to_be_bytes());
    let sum = row_checksum(key, &out[4..]);
    out[0..4].copy_from_slice(&sum.to_be_bytes());
    key
}

/// The row of `settled` with this bitmap.
pub(in crate::store) fn encode_settled(key: (u64, u64), bitmap: &[u8]) -> Vec<u8> {
    Record::of(bitmap).seal(SETTLED_NAME, key)
}

/// The bitmap of a row of `settled`; `None` when it is damaged.
pub(in crate::store) fn decode_settled(key: (u64, u64), value: &[u8]) -> Option<&[u8]> {
    open(SETTLED_NAME, key, value).map(|bitmap| bitmap.rest())
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("a batch is far smaller than 4 GiB and 4 G messages")
}

/// A batch's span and the runs in it, without its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct BatchShape {
    pub(in crate::store) span: u64,
    /// Offset and count of each run.
    pub(in crate::store) runs: Vec<(u64, u64)>,
}

/// Reads a batch's shape; `None` when it is damaged.
pub(in crate::store) fn read_shape(key: (u64, u64), value: &[u8]) -> Option<BatchShape> {
    let mut shape = BatchShape { span: 0, runs: Vec::new() };
    shape.span = walk(key, value, |offset, count, _| {
        shape.runs.push((offset, count));
        Some(())
    })?;
    Some(shape)
}

/// Checks the batch and visits each run: offset, count, and where its records lie.
fn walk(
    key: (u64, u64),
    value: &[u8],
    mut visit: impl FnMut(u64, u64, std::ops::Range<usize>) -> Option<()>,
) -> Option<u64> {
    let mut reader = Reader::new(value);
    let sum = reader.u32()?;
    let checked = reader.rest();
    let expected = match reader.u8()? {
        FORMAT => row_checksum(key, checked),
        FORMAT_1 => crc32c::crc32c(checked),
        _ => return None,
    };
    if sum != expected {
        return None;
    }
    let span = u64::from(reader.u32()?);
    key.1.checked_add(span)?;
    let mut at = HEADER;
    while at < value.len() {
        let offset = u64::from(reader.u32()?);
        let count = u64::from(reader.u32()?);
        let octets = reader.u32()? as usize;
        reader.take(octets)?;
        if offset + count > span {
            return None;
        }
        visit(offset, count, at + RUN_HEADER..at + RUN_HEADER + octets)?;
        at += RUN_HEADER + octets;
    }
    Some(span)
}

/// The messages that a damaged batch seems to have had: sequence number and octets of the body. `None` unless they still
/// can be told apart: a flipped bit mostly is somewhere in a body.
pub(in crate::store) fn salvage(key: (u64, u64), value: &[u8]) -> Option<Vec<Gone>> {
    let mut reader = Reader::new(value);
    reader.take(HEADER - 4)?;
    let span = u64::from(reader.u32()?);
    key.1.checked_add(span)?;
    let (mut found, mut next) = (Vec::new(), 0);
    while !reader.rest().is_empty() {
        let (offset, count) = (u64::from(reader.u32()?), u64::from(reader.u32()?));
        let octets = reader.u32()? as usize;
        let mut records = reader.take(octets)?;
        if offset < next || count == 0 {
            return None;
        }
        next = offset + count;
        for seq in key.1 + offset..key.1 + next {
            let len = record_len(records)?;
            found.push(Gone { seq, body_bytes: record_body_len(records)? });
            records = &records[len..];
        }
        if !records.is_empty() {
            return None;
        }
    }
    (next == span && next > 0).then_some(found)
}

/// Decodes the live messages of a batch from `from_seq` on; `None` when it is damaged.
pub(in crate::store) fn decode_batch(
    key: (u64, u64),
    value: Cow<'_, [u8]>,
    from_seq: u64,
    is_settled: impl Fn(u64) -> bool,
    stored_under: u64,
) -> Option<(u64, Vec<Loaded>)> {
    let mut offsets = Vec::new();
    let mut parts: Vec<(u64, u32, u32)> = Vec::new();
    let (_, first_seq) = key;
    let span = walk(key, &value, |offset, count, records| {
        let mut at = records.start;
        for nth in 0..count {
            let seq = first_seq + offset + nth;
            let len = record_len(&value[at..records.end])?;
            if seq >= from_seq && !is_settled(seq) {
                let index = narrow(offsets.len() as u64);
                match parts.last_mut() {
                    Some((first, _, count)) if *first + u64::from(*count) == seq => *count += 1,
                    _ => parts.push((seq, index, 1)),
                }
                offsets.push(narrow(at as u64));
            }
            at += len;
        }
        (at == records.end).then_some(())
    })?;
    let arena = Arena::from_records(Bytes::from(value.into_owned()), offsets, stored_under)?;
    let loaded = parts
        .into_iter()
        .map(|(first_seq, index, count)| Loaded { first_seq, arena: arena.clone(), index, count, kept: Kept::Durable })
        .collect();
    Some((first_seq + span, loaded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::message::{ArenaBuilder, Body, MessageParts, Timestamp};

    fn arena(count: u8) -> Arc<Arena> {
        let mut builder = ArenaBuilder::new();
        for nth in 0..count {
            builder.push(&MessageParts {
                exchange: b"",
                routing_key: b"q",
                properties: &[0, 0],
                body: Body::Borrowed(&[nth]),
                persistent: true,
                priority: 0,
                expiration_ms: None,
                broker_deaths: false,
                enqueued_at: Timestamp::from_millis(1),
            });
        }
        builder.finish()
    }

    const KEY: (u64, u64) = (3, 100);

    fn batch() -> Vec<u8> {
        let arena = arena(6);
        let mut out = Vec::new();
        let run = |first_seq, index, count| BatchRun { first_seq, arena: arena.clone(), index, count };
        assert_eq!(encode_batch(3, &[run(100, 0, 2), run(104, 4, 2)], &mut out), KEY);
        out
    }

    #[test]
    fn live_messages_come_back_in_dense_runs() {
        let (end, loaded) = decode_batch(KEY, batch().into(), 101, |seq| seq == 104, 1).expect("whole");
        assert_eq!(end, 106);
        let got: Vec<_> = loaded
            .iter()
            .map(|part| (part.first_seq, part.count, part.arena.message(part.index).body().to_vec()))
            .collect();
        assert_eq!(got, [(101, 1, vec![1]), (105, 1, vec![5])]);
        assert_eq!(read_shape(KEY, &batch()), Some(BatchShape { span: 6, runs: vec![(0, 2), (4, 2)] }));
    }

    #[test]
    fn every_flipped_octet_is_noticed() {
        let whole = batch();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            assert!(decode_batch(KEY, damaged.into(), 0, |_| false, 1).is_none(), "octet {at}");
        }
        assert!(decode_batch(KEY, whole[..whole.len() - 1].into(), 0, |_| false, 1).is_none());
        for elsewhere in [(3, 101), (4, 100)] {
            assert!(decode_batch(elsewhere, whole.as_slice().into(), 0, |_| false, 1).is_none(), "{elsewhere:?}");
        }
    }

    #[test]
    fn messages_of_a_damaged_batch_are_told_apart_while_its_structure_holds() {
        let whole = batch();
        let seqs = [100, 101, 104, 105];
        let expected = seqs.map(|seq| Gone { seq, body_bytes: 1 }).to_vec();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                if let Some(found) = salvage(KEY, &damaged) {
                    // The offset of a run is all that cannot be checked.
                    let same = found.len() == 4 && found.iter().all(|gone| gone.body_bytes == 1);
                    assert!(same || found == expected, "octet {at}: {found:?}");
                }
            }
        }
        let mut damaged = whole.clone();
        *damaged.last_mut().expect("a body") ^= 1;
        assert_eq!(salvage(KEY, &damaged), Some(expected));
        assert_eq!(salvage(KEY, &whole[..whole.len() - 1]), None);
        assert_eq!(salvage(KEY, &[]), None);
        assert_eq!(salvage((3, u64::MAX - 2), &whole), None);
    }

    #[test]
    fn a_batch_of_format_1_is_read_as_ever() {
        let mut batch = batch();
        batch[4] = FORMAT_1;
        let sum = crc32c::crc32c(&batch[4..]);
        batch[..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(read_shape(KEY, &batch).map(|shape| shape.span), Some(6));
        batch[20] ^= 1;
        assert_eq!(read_shape(KEY, &batch), None);
    }

    #[test]
    fn which_messages_are_gone_is_known_only_if_it_is_whole() {
        let row = encode_settled(KEY, &[5, 0]);
        assert_eq!(decode_settled(KEY, &row), Some(&[5, 0][..]));
        assert_eq!(decode_settled((3, 101), &row), None);
    }
}
