//! Table `parts`: the octets of a batch that is too large for one row, cut. Key: lane, first sequence number and number of
//! the part, each big-endian (`u64 │ u64 │ u32`).
//!
//! redb keeps a value in a power-of-two run of pages and writes all of it: a message of 1 MiB in one row takes 2 MiB. Such a
//! batch has a row in `batches` that says only how it was cut:
//!
//! ```text
//! crc32c u32 │ 3 u8 │ octets u32
//! ```
//!
//! The checksum is that of a batch's row (`batches`). The parts have none: put together they are a batch, which has one. A
//! part that is missing or short makes a batch that is too short, which its readers find damaged as any other.

use std::borrow::Cow;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition, TableError};

use super::Reader;
use super::batches::{BATCH_BYTES, SPLIT, row_checksum};

pub(in crate::store) const PARTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new(NAME);

pub(in crate::store) const NAME: &str = "parts";

/// Octets of a part: as many as a batch has at most that holds more than one message.
const PART_BYTES: usize = BATCH_BYTES;
/// A row may have some more, for what a batch has beside messages.
const ROW_BYTES: usize = BATCH_BYTES + 256;

/// A row that stands for parts; every other one is longer.
const SPLIT_ROW_BYTES: usize = 9;

type Rows<'txn> = Table<'txn, (u64, u64), &'static [u8]>;
type ReadParts = ReadOnlyTable<&'static [u8], &'static [u8]>;
type Parts<'txn> = Table<'txn, &'static [u8], &'static [u8]>;

fn part_key((lane, first_seq): (u64, u64), number: u32) -> [u8; 20] {
    let mut key = [0; 20];
    key[..8].copy_from_slice(&lane.to_be_bytes());
    key[8..16].copy_from_slice(&first_seq.to_be_bytes());
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Octets of the batch for whose parts a row stands.
fn read_row(key: (u64, u64), row: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(row);
    let sum = reader.u32()?;
    let checked = reader.rest();
    if reader.u8()? != SPLIT || sum != row_checksum(key, checked) {
        return None;
    }
    let octets = reader.u32()? as usize;
    reader.rest().is_empty().then_some(octets)
}

/// A batch as it was encoded: the row itself, or what its parts make.
pub(in crate::store) fn whole<'v>(
    key: (u64, u64),
    row: &'v [u8],
    parts: Option<&impl ReadableTable<&'static [u8], &'static [u8]>>,
) -> Result<Cow<'v, [u8]>, StorageError> {
    let (Some(octets), Some(parts)) = (read_row(key, row), parts) else { return Ok(Cow::Borrowed(row)) };
    let mut batch = Vec::new();
    for entry in parts.range(part_key(key, 0).as_slice()..=part_key(key, u32::MAX).as_slice())? {
        let (_, part) = entry?;
        if batch.len() + part.value().len() > octets {
            break;
        }
        batch.extend_from_slice(part.value());
    }
    Ok(Cow::Owned(batch))
}

/// Writes a batch, whole or cut.
pub(in crate::store) fn insert(
    rows: &mut Rows<'_>,
    parts: &mut Parts<'_>,
    key: (u64, u64),
    batch: &[u8],
) -> Result<(), StorageError> {
    if batch.len() <= ROW_BYTES {
        rows.insert(key, batch)?;
        return Ok(());
    }
    for (number, part) in (0..).zip(batch.chunks(PART_BYTES)) {
        parts.insert(part_key(key, number).as_slice(), part)?;
    }
    let octets = u32::try_from(batch.len()).expect("a batch is far smaller than 4 GiB");
    let mut row = [0; SPLIT_ROW_BYTES];
    row[4] = SPLIT;
    row[5..].copy_from_slice(&octets.to_be_bytes());
    let sum = row_checksum(key, &row[4..]);
    row[..4].copy_from_slice(&sum.to_be_bytes());
    rows.insert(key, row.as_slice())?;
    Ok(())
}

/// Removes a batch; the octets that it had.
pub(in crate::store) fn remove(
    rows: &mut Rows<'_>,
    parts: &mut Parts<'_>,
    key: (u64, u64),
) -> Result<usize, StorageError> {
    let Some(row) = rows.remove(key)? else { return Ok(0) };
    let row = row.value();
    // One that is damaged still has the length of a row that stands for parts.
    if row.len() == SPLIT_ROW_BYTES {
        let (from, to) = (part_key(key, 0), part_key(key, u32::MAX));
        parts.retain_in(from.as_slice()..=to.as_slice(), |_, _| false)?;
    }
    Ok(read_row(key, row).unwrap_or(row.len()))
}

/// Removes all parts of some lanes' batches.
pub(in crate::store) fn remove_lanes(parts: &mut Parts<'_>, first: u64, last: u64) -> Result<(), StorageError> {
    let (from, to) = (part_key((first, 0), 0), part_key((last, u64::MAX), u32::MAX));
    parts.retain_in(from.as_slice()..=to.as_slice(), |_, _| false)
}

/// The table, if the store has it: those of earlier releases do not.
pub(in crate::store) fn open(txn: &ReadTransaction) -> Result<Option<ReadParts>, redb::Error> {
    match txn.open_table(PARTS) {
        Ok(parts) => Ok(Some(parts)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(cause) => Err(cause.into()),
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableDatabase, ReadableTableMetadata};

    use super::super::batches::BATCHES;
    use super::*;

    const KEY: (u64, u64) = (7, 40);

    fn octets(count: usize) -> Vec<u8> {
        (0..count).map(|nth| u8::try_from(nth % 251).expect("small")).collect()
    }

    fn database() -> Database {
        Database::builder().create_with_backend(InMemoryBackend::new()).expect("made")
    }

    /// Changes both tables.
    fn change(database: &Database, change: impl FnOnce(&mut Rows<'_>, &mut Parts<'_>)) {
        let txn = database.begin_write().expect("begun");
        change(&mut txn.open_table(BATCHES).expect("opened"), &mut txn.open_table(PARTS).expect("opened"));
        txn.commit().expect("committed");
    }

    /// What is read under the key, and how many parts there are.
    fn read(database: &Database) -> (Option<Vec<u8>>, u64) {
        let txn = database.begin_read().expect("begun");
        let (rows, parts) = (txn.open_table(BATCHES).expect("there"), open(&txn).expect("read").expect("there"));
        let row = rows.get(KEY).expect("read");
        let batch = row.map(|row| whole(KEY, row.value(), Some(&parts)).expect("read").into_owned());
        (batch, parts.len().expect("counted"))
    }

    #[test]
    fn a_batch_is_cut_if_it_is_too_long_for_a_row_and_reads_back_whole() {
        for (count, expected) in
            [(100, 0), (ROW_BYTES, 0), (ROW_BYTES + 1, 2), (2 * PART_BYTES, 2), (2 * PART_BYTES + 1, 3), (1 << 20, 17)]
        {
            let database = database();
            change(&database, |rows, parts| insert(rows, parts, KEY, &octets(count)).expect("written"));
            assert_eq!(read(&database), (Some(octets(count)), expected), "{count}");
            change(&database, |rows, parts| assert_eq!(remove(rows, parts, KEY).expect("removed"), count));
            assert_eq!(read(&database), (None, 0), "{count}");
        }
    }

    #[test]
    fn neighbours_keep_their_parts() {
        let database = database();
        let neighbours = [(6, u64::MAX), (7, 39), (7, 41), (8, 0)];
        change(&database, |rows, parts| {
            for key in neighbours {
                insert(rows, parts, key, &octets(1 << 17)).expect("written");
            }
            insert(rows, parts, KEY, &octets(1 << 18)).expect("written");
        });
        assert_eq!(read(&database).0, Some(octets(1 << 18)));
        change(&database, |rows, parts| assert_eq!(remove(rows, parts, KEY).expect("removed"), 1 << 18));
        assert_eq!(read(&database), (None, 4 * 3));
        change(&database, |_, parts| remove_lanes(parts, 7, 7).expect("removed"));
        assert_eq!(read(&database), (None, 2 * 3));
    }

    #[test]
    fn what_is_damaged_reads_back_as_another_batch_and_goes_whole() {
        let lost = |parts: &mut Parts<'_>| drop(parts.remove(part_key(KEY, 1).as_slice()).expect("removed"));
        let database = database();
        change(&database, |rows, parts| {
            insert(rows, parts, KEY, &octets(1 << 20)).expect("written");
            lost(parts);
        });
        let (batch, parts) = read(&database);
        assert_eq!((batch.expect("something").len(), parts), ((1 << 20) - PART_BYTES, 16));
        change(&database, |rows, parts| {
            let mut row = rows.get(KEY).expect("read").expect("there").value().to_vec();
            row[7] ^= 1;
            rows.insert(KEY, row.as_slice()).expect("written");
            remove(rows, parts, KEY).expect("removed");
        });
        assert_eq!(read(&database), (None, 0));
    }
}
