//! Table `damaged`: batches that were set aside because they are damaged, to be looked at. Key as in `batches`.
//!
//! Content: `time u64 │ end_seq u64 │ counted u8 │ messages u64 │ body octets u64 │ settled octets u32 │ settled │ batch`.
//! `time` is when it was met; `end_seq` is one past the last sequence number that it may have had. `counted` is 1 when its
//! messages could still be told apart: `messages` were not settled then, with so many octets of bodies. `settled` is the
//! row of that table as it was, `batch` the row of `batches`.

use leveret_protocol::encode;
use redb::TableDefinition;

use super::seal::{Record, open};
use crate::engine::message::Timestamp;

pub(in crate::store) const DAMAGED: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new(NAME);

const NAME: &str = "damaged";

/// What is known of a batch that was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Aside {
    pub(in crate::store) at: Timestamp,
    /// One past the last sequence number that it may have had.
    pub(in crate::store) end_seq: u64,
    /// Messages that were not settled and the octets of their bodies, if they could be told apart.
    pub(in crate::store) lost: Option<(u64, u64)>,
}

/// What is stored of a batch that is set aside.
pub(in crate::store) fn encode_value(key: (u64, u64), aside: &Aside, settled: &[u8], batch: &[u8]) -> Vec<u8> {
    let (messages, body_bytes) = aside.lost.unwrap_or_default();
    let record = Record::new().u64(aside.at.as_millis()).u64(aside.end_seq).u8(u8::from(aside.lost.is_some()));
    let mut record = record.u64(messages).u64(body_bytes);
    let content = record.content();
    encode::put_u32(content, u32::try_from(settled.len()).expect("a bitmap of a batch"));
    content.extend_from_slice(settled);
    content.extend_from_slice(batch);
    record.seal(NAME, key)
}

/// What is known of a batch that was set aside, and its octets; `None` when not even that can be read.
pub(in crate::store) fn decode(key: (u64, u64), value: &[u8]) -> Option<(Aside, &[u8])> {
    let mut value = open(NAME, key, value)?;
    let (at, end_seq) = (Timestamp::from_millis(value.u64()?), value.u64()?);
    let counted = value.u8()? != 0;
    let lost = (value.u64()?, value.u64()?);
    let settled = value.u32()?;
    value.take(usize::try_from(settled).ok()?)?;
    Some((Aside { at, end_seq, lost: counted.then_some(lost) }, value.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_aside_reads_back_octet_for_octet() {
        for lost in [None, Some((7, 70))] {
            let aside = Aside { at: Timestamp::from_millis(5), end_seq: 9, lost };
            let value = encode_value((1, 2), &aside, b"marks", b"batch");
            assert_eq!(decode((1, 2), &value), Some((aside, &b"batch"[..])));
            assert_eq!(decode((1, 3), &value), None);
        }
    }
}
