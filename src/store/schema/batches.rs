//! Table `batches`: messages. Key: lane and the first sequence number in the batch.
//!
//! Value, format 1:
//!
//! ```text
//! crc32c u32 │ format u8 │ span u32 │ runs: ( offset u32 │ count u32 │ octets u32 │ records )*
//! ```
//!
//! The checksum covers everything after it. `span` is the distance from the first sequence number to one past the last. A
//! run holds records (see `engine::message`) of consecutive sequence numbers, the first being key + `offset`; numbers in
//! no run were settled before the batch was written, so batches of a lane never overlap. A batch is cut at [`BATCH_BYTES`], a little under a power of two,
//! because redb keeps a large value in a power-of-two run of pages; a larger message stands alone.
//!
//! Table `settled`: which messages of a batch have gone since, one bit each from the batch's first sequence number on.
//! Same key. Absent while none has, or while those that have lie below the lane's `head_seq`.

use std::sync::Arc;

use bytes::Bytes;
use redb::TableDefinition;

use super::Reader;
use crate::engine::message::{Arena, record_len};
use crate::engine::queue::Loaded;

pub(in crate::store) const BATCHES: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("batches");
pub(in crate::store) const SETTLED: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("settled");

/// Octets at which a batch is cut.
pub(in crate::store) const BATCH_BYTES: usize = 60 * 1024;

const FORMAT: u8 = 1;
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

/// Encodes runs as one batch. `out` is cleared first.
pub(in crate::store) fn encode_batch(runs: &[BatchRun], out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER, 0);
    let first_seq = runs.first().map_or(0, |run| run.first_seq);
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
    let checksum = crc32c::crc32c(&out[4..]);
    out[0..4].copy_from_slice(&checksum.to_be_bytes());
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
pub(in crate::store) fn read_shape(value: &[u8]) -> Option<BatchShape> {
    let mut shape = BatchShape { span: 0, runs: Vec::new() };
    shape.span = walk(value, |offset, count, _| {
        shape.runs.push((offset, count));
        Some(())
    })?;
    Some(shape)
}

/// Checks the batch and visits each run: offset, count, and where its records lie.
fn walk(value: &[u8], mut visit: impl FnMut(u64, u64, std::ops::Range<usize>) -> Option<()>) -> Option<u64> {
    let mut reader = Reader::new(value);
    let checksum = reader.u32()?;
    if crc32c::crc32c(value.get(4..)?) != checksum || reader.u8()? != FORMAT {
        return None;
    }
    let span = u64::from(reader.u32()?);
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

/// Decodes the live messages of a batch from `from_seq` on; `None` when it is damaged.
pub(in crate::store) fn decode_batch(
    first_seq: u64,
    value: &[u8],
    from_seq: u64,
    is_settled: impl Fn(u64) -> bool,
    stored_under: u64,
) -> Option<(u64, Vec<Loaded>)> {
    let data = Bytes::copy_from_slice(value);
    let mut offsets = Vec::new();
    let mut parts: Vec<(u64, u32, u32)> = Vec::new();
    let span = walk(value, |offset, count, records| {
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
    let arena = Arena::from_records(data, offsets, stored_under)?;
    let loaded = parts
        .into_iter()
        .map(|(first_seq, index, count)| Loaded { first_seq, arena: arena.clone(), index, count })
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

    fn batch() -> Vec<u8> {
        let arena = arena(6);
        let mut out = Vec::new();
        let run = |first_seq, index, count| BatchRun { first_seq, arena: arena.clone(), index, count };
        encode_batch(&[run(100, 0, 2), run(104, 4, 2)], &mut out);
        out
    }

    #[test]
    fn live_messages_come_back_in_dense_runs() {
        let (end, loaded) = decode_batch(100, &batch(), 101, |seq| seq == 104, 1).expect("whole");
        assert_eq!(end, 106);
        let got: Vec<_> = loaded
            .iter()
            .map(|part| (part.first_seq, part.count, part.arena.message(part.index).body().to_vec()))
            .collect();
        assert_eq!(got, [(101, 1, vec![1]), (105, 1, vec![5])]);
        assert_eq!(read_shape(&batch()), Some(BatchShape { span: 6, runs: vec![(0, 2), (4, 2)] }));
    }

    #[test]
    fn every_flipped_octet_is_noticed() {
        let whole = batch();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            assert!(decode_batch(100, &damaged, 0, |_| false, 1).is_none(), "octet {at}");
        }
        assert!(decode_batch(100, &whole[..whole.len() - 1], 0, |_| false, 1).is_none());
    }
}
