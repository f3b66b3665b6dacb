//! A disk that forgets what was not synced: a backend for redb in memory.
//!
//! What was written since the last sync may be there after a crash or not, sector by sector. A disk may be told to fail at
//! some operation; from then on it takes nothing.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

use super::random::Random;

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

#[derive(Debug)]
struct Write {
    offset: usize,
    octets: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Write>,
    /// Operations until it fails.
    fails_after: Option<u64>,
    dead: bool,
}

impl State {
    fn operate(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.fails_after {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => self.dead = true,
            }
        }
        if self.dead { Err(io::Error::other("the simulated disk is dead")) } else { Ok(()) }
    }
}

/// The disk of a simulated broker; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// Has it fail after this many more writes and syncs.
    pub(super) fn fail_after(&self, operations: u64) {
        self.0.lock().fails_after = Some(operations);
    }

    /// It will not fail. False when it has done so already.
    pub(super) fn heal(&self) -> bool {
        let mut state = self.0.lock();
        state.fails_after = None;
        !state.dead
    }

    /// The power is gone: the disk that is found afterwards.
    pub(super) fn crash(&self, random: &mut Random) -> Self {
        let mut state = self.0.lock();
        state.dead = true;
        let mut image = std::mem::take(&mut state.synced);
        // The file's length is metadata, which a journal keeps.
        image.resize(image.len().max(state.current.len()), 0);
        let keep = random.between(0, 2);
        for write in &state.unsynced {
            let Write { offset, octets } = write;
            let mut at = 0;
            while at < octets.len() {
                let end = octets.len().min((*offset + at) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - *offset);
                if keep == 0 || (keep == 1 && random.once_in(2)) {
                    put(&mut image, *offset + at, &octets[at..end]);
                }
                at = end;
            }
        }
        Self::holding(image)
    }

    /// The disk after an orderly stop.
    pub(super) fn reopened(&self) -> Self {
        let mut state = self.0.lock();
        state.dead = true;
        Self::holding(std::mem::take(&mut state.synced))
    }

    fn holding(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { current: image.clone(), synced: image, ..State::default() })))
    }
}

fn put(image: &mut Vec<u8>, offset: usize, octets: &[u8]) {
    let end = offset + octets.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(octets);
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).expect("a small file")
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.0.lock().current.len()).expect("64 bits"))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock();
        let offset = position(offset);
        let octets = state.current.get(offset..offset + out.len());
        out.copy_from_slice(octets.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operate()?;
        state.current.resize(position(len), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operate()?;
        let State { synced, current, unsynced, .. } = &mut *state;
        for Write { offset, octets } in unsynced.drain(..) {
            put(synced, offset, &octets);
        }
        synced.resize(current.len(), 0);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operate()?;
        put(&mut state.current, position(offset), data);
        state.unsynced.push(Write { offset: position(offset), octets: data.to_vec() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_synced_may_be_gone_after_a_crash() {
        let mut random = Random::new(1);
        let (mut kept, mut lost) = (0, 0);
        for _ in 0..50 {
            let disk = Disk::default();
            disk.set_len(4096).expect("alive");
            disk.write(0, &[1; 4096]).expect("alive");
            disk.sync_data().expect("alive");
            disk.write(100, &[2; 2000]).expect("alive");
            let found = disk.crash(&mut random);
            assert!(disk.write(0, &[3]).is_err());
            let mut octets = [0; 4096];
            found.read(0, &mut octets).expect("alive");
            assert!(octets[..100].iter().chain(&octets[2100..]).all(|octet| *octet == 1));
            kept += octets.iter().map(|octet| u32::from(*octet == 2)).sum::<u32>();
            lost += octets[100..2100].iter().map(|octet| u32::from(*octet == 1)).sum::<u32>();
        }
        assert!(kept > 0 && lost > 0);
    }

    #[test]
    fn a_disk_fails_when_it_was_told_to() {
        let disk = Disk::default();
        disk.fail_after(1);
        assert!(disk.write(0, &[1]).is_ok());
        assert!(disk.sync_data().is_err());
        assert!(disk.write(0, &[1]).is_err());
    }
}
