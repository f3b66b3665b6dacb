//! A disk that forgets what was not synced: files in memory, as backends for redb and for the journal.
//!
//! What was written since the last sync of its file may be there after a crash or not, sector by sector. A disk may be told to
//! fail at some operation; from then on it takes nothing.

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
struct Content {
    synced: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Debug, Default)]
struct State {
    files: [Content; 2],
    /// Operations until it fails.
    fails_after: Option<u64>,
    /// Reads until one fails; those after it do not.
    read_fails_after: Option<u64>,
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

impl Content {
    fn holding(image: Vec<u8>) -> Self {
        Self { current: image.clone(), synced: image, unsynced: Vec::new() }
    }

    /// What is found after a crash: of what was not synced nothing, some, or all.
    fn crash(&mut self, random: &mut Random) -> Vec<u8> {
        let mut image = std::mem::take(&mut self.synced);
        // The file's length is metadata, which a journal keeps.
        image.resize(image.len().max(self.current.len()), 0);
        let keep = random.between(0, 2);
        for Write { offset, octets } in &self.unsynced {
            let mut at = 0;
            while at < octets.len() {
                let end = octets.len().min((*offset + at) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - *offset);
                if keep == 0 || (keep == 1 && random.once_in(2)) {
                    put(&mut image, *offset + at, &octets[at..end]);
                }
                at = end;
            }
        }
        image
    }
}

/// The disk of a simulated broker; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

/// One of its files.
#[derive(Debug)]
pub(crate) struct DiskFile {
    disk: Disk,
    number: usize,
}

impl Disk {
    /// One of its files.
    pub(crate) fn file(&self, number: usize) -> DiskFile {
        DiskFile { disk: self.clone(), number }
    }

    /// Has it fail after this many more writes and syncs.
    pub(crate) fn fail_after(&self, operations: u64) {
        self.0.lock().fails_after = Some(operations);
    }

    /// Has one read fail after this many more.
    pub(crate) fn fail_read_after(&self, reads: u64) {
        self.0.lock().read_fails_after = Some(reads);
    }

    /// Whether no read has failed since it was told to.
    pub(crate) fn awaits_read(&self) -> bool {
        self.0.lock().read_fails_after.is_some()
    }

    /// It will not fail. False when it has done so already.
    pub(crate) fn heal(&self) -> bool {
        let mut state = self.0.lock();
        state.fails_after = None;
        !state.dead
    }

    /// The power is gone: the disk that is found afterwards.
    pub(crate) fn crash(&self, random: &mut Random) -> Self {
        let mut state = self.0.lock();
        state.dead = true;
        Self::holding(state.files.each_mut().map(|file| file.crash(random)))
    }

    /// The disk after an orderly stop.
    pub(crate) fn reopened(&self) -> Self {
        let mut state = self.0.lock();
        state.dead = true;
        Self::holding(state.files.each_mut().map(|file| std::mem::take(&mut file.synced)))
    }

    fn holding(images: [Vec<u8>; 2]) -> Self {
        Self(Arc::new(Mutex::new(State { files: images.map(Content::holding), ..State::default() })))
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

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.disk.0.lock().files[self.number].current.len()).expect("64 bits"))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if let Some(left) = &mut state.read_fails_after {
            if let Some(fewer) = left.checked_sub(1) {
                *left = fewer;
            } else {
                state.read_fails_after = None;
                return Err(io::Error::other("the simulated disk cannot read this"));
            }
        }
        let offset = position(offset);
        let octets = state.files[self.number].current.get(offset..offset + out.len());
        out.copy_from_slice(octets.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.operate()?;
        state.files[self.number].current.resize(position(len), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.operate()?;
        let Content { synced, current, unsynced } = &mut state.files[self.number];
        for Write { offset, octets } in unsynced.drain(..) {
            put(synced, offset, &octets);
        }
        synced.resize(current.len(), 0);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.operate()?;
        let file = &mut state.files[self.number];
        put(&mut file.current, position(offset), data);
        file.unsynced.push(Write { offset: position(offset), octets: data.to_vec() });
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
            let file = disk.file(1);
            file.set_len(4096).expect("alive");
            file.write(0, &[1; 4096]).expect("alive");
            file.sync_data().expect("alive");
            file.write(100, &[2; 2000]).expect("alive");
            let found = disk.crash(&mut random).file(1);
            assert!(file.write(0, &[3]).is_err());
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
        let file = disk.file(0);
        disk.fail_after(1);
        assert!(file.write(0, &[1]).is_ok());
        assert!(file.sync_data().is_err());
        assert!(disk.file(1).write(0, &[1]).is_err());
    }
}
