//! What is around every record: a format octet, and a checksum over the record and where it belongs.
//!
//! ```text
//! format u8 (2) │ crc32c u32 │ content
//! ```
//!
//! The checksum covers the table's name, the key, the format and the content: a record that came to a wrong place (a page
//! of the file written elsewhere, a flipped bit in a key) is noticed as one that was changed. Batches have the checksum
//! first and the format after it; see `batches`.

use leveret_protocol::encode;

use super::Reader;

/// The format of sealed records.
pub(in crate::store) const SEALED: u8 = 2;

/// Octets in front of the content.
const HEADER: usize = 5;

/// A key, as the checksum has it.
pub(in crate::store) trait Key: Copy {
    /// Continues a checksum with the key.
    fn checksum(self, checksum: u32) -> u32;
}

impl Key for u64 {
    fn checksum(self, checksum: u32) -> u32 {
        crc32c::crc32c_append(checksum, &self.to_be_bytes())
    }
}

impl Key for (u64, u64) {
    fn checksum(self, checksum: u32) -> u32 {
        self.1.checksum(self.0.checksum(checksum))
    }
}

impl Key for &[u8] {
    fn checksum(self, checksum: u32) -> u32 {
        crc32c::crc32c_append(checksum, self)
    }
}

/// The checksum of what follows under this key of this table; `content` begins with its format.
pub(in crate::store) fn checksum(table: &str, key: impl Key, content: &[u8]) -> u32 {
    crc32c::crc32c_append(key.checksum(crc32c::crc32c(table.as_bytes())), content)
}

/// A record in the making: the content is appended to it, then it is sealed.
#[derive(Debug)]
pub(in crate::store) struct Record(Vec<u8>);

impl Record {
    pub(in crate::store) fn new() -> Self {
        Self(vec![0; HEADER])
    }

    /// A record with this content.
    pub(in crate::store) fn of(content: &[u8]) -> Self {
        let mut record = Self::new();
        record.0.extend_from_slice(content);
        record
    }

    pub(in crate::store) fn u8(mut self, number: u8) -> Self {
        self.0.push(number);
        self
    }

    pub(in crate::store) fn u64(mut self, number: u64) -> Self {
        encode::put_u64(&mut self.0, number);
        self
    }

    /// Where the content is appended.
    pub(in crate::store) fn content(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// The value to be stored under this key of this table.
    pub(in crate::store) fn seal(mut self, table: &str, key: impl Key) -> Vec<u8> {
        let sum = content_checksum(table, key, &self.0[HEADER..]);
        self.0[0] = SEALED;
        self.0[1..HEADER].copy_from_slice(&sum.to_be_bytes());
        self.0
    }
}

fn content_checksum(table: &str, key: impl Key, content: &[u8]) -> u32 {
    crc32c::crc32c_append(checksum(table, key, &[SEALED]), content)
}

/// The content of a sealed record; `None` when it is damaged or not of this place.
pub(in crate::store) fn open<'a>(table: &str, key: impl Key, value: &'a [u8]) -> Option<Reader<'a>> {
    let mut reader = Reader::new(value);
    if reader.u8()? != SEALED {
        return None;
    }
    let sum = reader.u32()?;
    (content_checksum(table, key, reader.rest()) == sum).then_some(reader)
}

/// The content of a record of format 1, which had no checksum.
pub(in crate::store) fn open_1(value: &[u8]) -> Option<Reader<'_>> {
    let mut reader = Reader::new(value);
    (reader.u8()? == 1).then_some(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_opens_only_unchanged_and_where_it_belongs() {
        let sealed = Record::of(b"content").u8(7).u64(9).seal("lanes", 5);
        assert_eq!(sealed.len(), HEADER + 7 + 1 + 8);
        let mut reader = open("lanes", 5, &sealed).expect("whole");
        assert_eq!((reader.take(7), reader.u8(), reader.u64()), (Some(&b"content"[..]), Some(7), Some(9)));
        assert!(open("lanes", 6, &sealed).is_none(), "another key");
        assert!(open("logs", 5, &sealed).is_none(), "another table");
        assert!(open("lanes", 5, &sealed[..sealed.len() - 1]).is_none(), "cut off");
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(open("lanes", 5, &damaged).is_none(), "octet {at}");
        }
        assert!(open("lanes", 5, b"").is_none());
    }

    #[test]
    fn an_empty_record_is_checked_too() {
        let sealed = Record::new().seal("bindings", &b"key"[..]);
        assert!(open("bindings", &b"key"[..], &sealed).is_some());
        assert!(open("bindings", &b"kez"[..], &sealed).is_none());
    }
}
