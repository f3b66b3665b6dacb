//! The tables: a file each, with keys, values, layout and version. Keys sort; numbers that reached a disk are not reused.
//!
//! Every record is sealed (`seal`): it carries a format octet, and a checksum over itself, its key and its table's name.
//! Strings are short strings, tables are field tables as on the wire.

pub(super) mod all;
pub(super) mod batches;
pub(super) mod bindings;
pub(super) mod damaged;
pub(super) mod directory;
pub(super) mod early;
pub(super) mod exchanges;
pub(super) mod lanes;
pub(super) mod logs;
pub(super) mod meta;
pub(super) mod parts;
pub(super) mod queues;
pub(super) mod returns;
pub(super) mod seal;

use leveret_protocol::{FieldTable, ShortString, decode_table};

/// Reads a stored value piece by piece; `None` when it is too short or malformed.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|octets| octets[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4).and_then(|octets| Some(u32::from_be_bytes(octets.try_into().ok()?)))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take(8).and_then(|octets| Some(u64::from_be_bytes(octets.try_into().ok()?)))
    }

    pub(super) fn short_string(&mut self) -> Option<ShortString> {
        let len = self.u8()?;
        ShortString::try_from(self.take(usize::from(len))?).ok()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn table(&mut self) -> Option<FieldTable> {
        let (table, used) = decode_table(self.0).ok()?;
        self.0 = &self.0[used..];
        Some(table)
    }
}
