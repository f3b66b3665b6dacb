//! A store's file to be read and never changed: what redb writes to it stays in memory.
//!
//! redb opens a file for reading only if it was closed in good order; after a crash it has to put it right first. That
//! touches few pages, which this keeps, and the file stays as it is. The lock is one for readers, on redb's own terms: a
//! broker that runs refuses it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// What is kept as a whole.
const PAGE_BYTES: u64 = 4096;

/// A file with changes that are not in it.
#[derive(Debug)]
pub(super) struct Overlay {
    file: FileBackend,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    len: u64,
    /// What of the file is still to be seen: it may have been cut in the meantime.
    file_len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(super) fn new(file: File) -> Result<Self, redb::DatabaseError> {
        let len = file.metadata().map_err(redb::StorageError::from)?.len();
        Ok(Self {
            file: FileBackend::new(file)?,
            state: Mutex::new(State { len, file_len: len, pages: BTreeMap::new() }),
        })
    }

    /// A page as the file has it.
    fn page_of_file(&self, number: u64, file_len: u64) -> io::Result<Box<[u8]>> {
        let mut page = vec![0; narrow(PAGE_BYTES)].into_boxed_slice();
        let start = number * PAGE_BYTES;
        let there = narrow(file_len.saturating_sub(start).min(PAGE_BYTES));
        if there > 0 {
            self.file.read(start, &mut page[..there])?;
        }
        Ok(page)
    }
}

fn narrow(count: u64) -> usize {
    usize::try_from(count).expect("at most a page")
}

/// The pages that `len` octets from `offset` on touch: number, where in the page, where in the octets.
fn pages(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = narrow(at % PAGE_BYTES);
        let count = (len - done).min(narrow(PAGE_BYTES) - start);
        let part = (at / PAGE_BYTES, start..start + count, done..done + count);
        done += count;
        (count > 0).then_some(part)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= state.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let first = offset / PAGE_BYTES;
        if end <= state.file_len && state.pages.range(first..=end / PAGE_BYTES).next().is_none() {
            return self.file.read(offset, out);
        }
        for (number, within, place) in pages(offset, out.len()) {
            match state.pages.get(&number) {
                Some(page) => out[place].copy_from_slice(&page[within]),
                None => out[place].copy_from_slice(&self.page_of_file(number, state.file_len)?[within]),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if len < state.len {
            // What was beyond is nought if the file grows again.
            state.pages.split_off(&len.div_ceil(PAGE_BYTES));
            if let Some(page) = state.pages.get_mut(&(len / PAGE_BYTES)) {
                page[narrow(len % PAGE_BYTES)..].fill(0);
            }
            state.file_len = state.file_len.min(len);
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        state.len = state.len.max(offset + data.len() as u64);
        for (number, within, place) in pages(offset, data.len()) {
            if !state.pages.contains_key(&number) {
                let page = self.page_of_file(number, state.file_len)?;
                state.pages.insert(number, page);
            }
            if let Some(page) = state.pages.get_mut(&number) {
                page[within].copy_from_slice(&data[place]);
            }
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_overlay_is_like_the_file_and_leaves_it_alone(
            steps in prop::collection::vec((0_u8..3, 0_u64..30_000, 0_usize..9000), 1..30),
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("file");
            let before: Vec<u8> = (0..20_000_u32).map(|nth| nth.to_be_bytes()[3] | 1).collect();
            std::fs::write(&path, &before).expect("written");
            let overlay = Overlay::new(File::open(&path).expect("there")).expect("opened");
            let mut plain = before.clone();
            for (nth, (kind, offset, len)) in steps.into_iter().enumerate() {
                let at = usize::try_from(offset).expect("small");
                match kind {
                    0 => {
                        let data = vec![u8::try_from(nth).expect("few") | 0x80; len];
                        overlay.write(offset, &data).expect("written");
                        plain.resize(plain.len().max(at + len), 0);
                        plain[at..at + len].copy_from_slice(&data);
                    }
                    1 => {
                        overlay.set_len(offset).expect("cut");
                        plain.resize(at, 0);
                    }
                    _ => {
                        let mut out = vec![0; len];
                        let read = overlay.read(offset, &mut out).is_ok();
                        prop_assert_eq!(read.then_some(&out[..]), plain.get(at..at + len));
                    }
                }
                prop_assert_eq!(overlay.len().expect("known"), plain.len() as u64);
            }
            let mut all = vec![0; plain.len()];
            overlay.read(0, &mut all).expect("read");
            prop_assert_eq!(all, plain);
            prop_assert_eq!(std::fs::read(&path).expect("there"), before);
        }
    }
}
