//! Reads a journal after a crash: which records the database does not have yet.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use redb::StorageBackend;
use tracing::error;

use super::{ALIGNMENT, HEADER, MAGIC, codec};
use crate::store::Op;
use crate::store::schema::Reader;

/// Octets read at once while looking for records.
const WINDOW: usize = 1024 * 1024;

#[derive(Clone, Copy, Debug)]
struct Place {
    start: u64,
    payload_len: u64,
    payload_crc: u32,
}

/// Records after the ones that the database has.
#[derive(Debug, Default)]
pub(in crate::store) struct Found {
    places: BTreeMap<u64, Place>,
    applied: u64,
}

/// Looks through a whole journal for records of this epoch that come after `applied`.
pub(in crate::store) fn scan(file: &dyn StorageBackend, epoch: u64, applied: u64) -> io::Result<Found> {
    let mut places = BTreeMap::new();
    let len = file.len()?;
    let mut window = vec![0; WINDOW];
    let mut start = 0;
    while start < len {
        let size = usize::try_from(len - start).unwrap_or(WINDOW).min(WINDOW);
        file.read(start, &mut window[..size])?;
        for (nth, page) in window[..size].chunks(usize::try_from(ALIGNMENT).unwrap_or(WINDOW)).enumerate() {
            let start = start + nth as u64 * ALIGNMENT;
            if let Some((found_epoch, seq, place)) = read_header(start, page)
                && found_epoch == epoch
                && seq > applied
                && place.payload_len <= len - start - HEADER as u64
            {
                places.insert(seq, place);
            }
        }
        start += size as u64;
    }
    Ok(Found { places, applied })
}

fn read_header(start: u64, page: &[u8]) -> Option<(u64, u64, Place)> {
    let header = page.get(..HEADER)?;
    let mut reader = Reader::new(header);
    if reader.take(MAGIC.len())? != MAGIC {
        return None;
    }
    let (epoch, seq, payload_len) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let (payload_crc, header_crc) = (reader.u32()?, reader.u32()?);
    (crc32c::crc32c(&header[..HEADER - 4]) == header_crc).then_some((
        epoch,
        seq,
        Place { start, payload_len, payload_crc },
    ))
}

impl Found {
    /// Whether the database has everything.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many records there are.
    pub(in crate::store) fn len(&self) -> usize {
        self.places.len()
    }

    /// The last record found; what the database has if there is none.
    pub(in crate::store) fn last_seq(&self) -> u64 {
        self.places.last_key_value().map_or(self.applied, |(seq, _)| *seq)
    }

    /// Hands the operations of each whole record to `apply`, in order. Returns how many records that were durable cannot be
    /// read.
    ///
    /// A record was begun only after the one before was fsynced. So the last one may be torn: nobody was promised anything
    /// of it. A record that is not whole and has others after it is damaged.
    pub(in crate::store) fn replay<E: From<io::Error>>(
        &self,
        file: &dyn StorageBackend,
        mut apply: impl FnMut(u64, Vec<Op>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let (mut expected, mut damaged) = (self.applied + 1, 0);
        for (&seq, place) in &self.places {
            let gap = seq - expected;
            expected = seq + 1;
            match read(file, place)? {
                Some(ops) => {
                    if gap > 0 {
                        error!(records = gap, before = seq, "records of the journal are missing");
                        damaged += gap;
                    }
                    apply(seq, ops)?;
                }
                None if seq == self.last_seq() => damaged += gap,
                None => {
                    error!(record = seq, at = place.start, "a record of the journal is damaged and left out");
                    damaged += gap + 1;
                }
            }
        }
        Ok(damaged)
    }
}

fn read(file: &dyn StorageBackend, place: &Place) -> io::Result<Option<Vec<Op>>> {
    let mut payload = vec![0; usize::try_from(place.payload_len).map_err(io::Error::other)?];
    file.read(place.start + HEADER as u64, &mut payload)?;
    if crc32c::crc32c(&payload) != place.payload_crc {
        return Ok(None);
    }
    Ok(codec::decode(&Bytes::from(payload)))
}
