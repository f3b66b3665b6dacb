//! A file that is written past the system's page cache.
//!
//! The journal is written once and read only after a crash. Through the page cache each octet of it is copied, and every 4 KiB
//! of it are a page that the system keeps account of and writes back during the fsync: 0.9 ns of system time an octet
//! where direct I/O takes 0.3, and less throughput (`dd bs=2M oflag=dsync` beside `oflag=direct,dsync`).

use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use redb::StorageBackend;
use redb::backends::FileBackend;

#[cfg(target_os = "linux")]
use super::PAGE;
#[cfg(target_os = "linux")]
use super::stage::Stage;

/// The file at `path`, which `file` has open: past the page cache if its file system can do that.
pub(super) fn open(path: &Path, file: File) -> io::Result<Box<dyn StorageBackend>> {
    #[cfg(target_os = "linux")]
    if let Some(direct) = DirectFile::open(path, &file)? {
        return Ok(Box::new(direct));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = path;
    Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
}

/// Writes must begin and end at multiples of [`PAGE`], in the file and in memory; anything may be read.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct DirectFile {
    file: File,
    direct: File,
}

#[cfg(target_os = "linux")]
impl DirectFile {
    /// `None` if the file system does not do it, or wants more than pages.
    fn open(path: &Path, file: &File) -> io::Result<Option<Self>> {
        let Ok(direct) = File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open(path) else {
            return Ok(None);
        };
        let mut stage = Stage::default();
        stage.append(|out| out.resize(out.len() + PAGE, 0));
        // Some say only now that they do not.
        if file.metadata()?.len() < PAGE as u64 || direct.read_exact_at(stage.octets_mut(), 0).is_err() {
            return Ok(None);
        }
        Ok(Some(Self { file: file.try_clone()?, direct }))
    }
}

#[cfg(target_os = "linux")]
impl StorageBackend for DirectFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.direct.sync_data()
    }

    fn write(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.direct.write_all_at(octets, offset)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::ALIGNMENT;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let file = File::options().read(true).write(true).create_new(true).open(&path).expect("made");
        assert!(DirectFile::open(&path, &file).expect("opened").is_none(), "there is nothing to try it with");
        file.set_len(16 * ALIGNMENT).expect("longer");
        // On a file system without direct I/O it is the other kind, which must do the same.
        let backend = open(&path, file).expect("opened");
        let mut stage = Stage::default();
        stage.append(|out| out.extend((0..3 * PAGE).map(|nth| u8::try_from(nth % 251).expect("small"))));
        for offset in [ALIGNMENT, 13 * ALIGNMENT, 14 * ALIGNMENT] {
            backend.write(offset, stage.octets()).expect("written");
            let mut found = vec![0; 3 * PAGE];
            backend.read(offset, &mut found).expect("read");
            assert_eq!(found, stage.octets());
        }
        backend.sync_data().expect("synced");
        assert_eq!(backend.len().expect("known"), 17 * ALIGNMENT);
        backend.set_len(ALIGNMENT).expect("shorter");
        assert_eq!(std::fs::metadata(&path).expect("there").len(), ALIGNMENT);
    }
}
