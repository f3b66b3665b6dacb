//! The log in a file.
//!
//! The file is cut when it is as large as it may be, or when an operator asks: it becomes `NAME.0`, what was `NAME.0` becomes
//! `NAME.1`, and so on, as RabbitMQ does it. A file that somebody else moved away or removed, as `logrotate` does, is made
//! anew within a second.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::Rotation;
use crate::server::clock;

/// How often it is looked whether the file is still the one of its name.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file that lines of the log are added to; see the module's documentation.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    len: u64,
    looked_at: Instant,
}

impl LogFile {
    /// Opens the file, or makes it and the directory that it is in.
    ///
    /// # Errors
    /// When it cannot be made or written to.
    pub fn open(path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let state = State::open(&path)?;
        Ok(Self { path, rotation, state: Mutex::new(state) })
    }

    /// Begins a new file; keeps as many of those before it as are to be kept.
    ///
    /// # Errors
    /// When the file system refuses; what is logged then goes on to the file as it is.
    pub fn rotate(&self) -> io::Result<()> {
        self.rotate_now(&mut self.state.lock())
    }

    fn rotate_now(&self, state: &mut State) -> io::Result<()> {
        if self.rotation.count == 0 {
            state.file.set_len(0)?;
            state.len = 0;
            return Ok(());
        }
        for number in (1..self.rotation.count).rev() {
            match fs::rename(archive(&self.path, number - 1), archive(&self.path, number)) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(&self.path, archive(&self.path, 0))?;
        *state = State::open(&self.path)?;
        Ok(())
    }

    /// Opens the file again if another one has its name, or none.
    fn look(&self, state: &mut State) {
        let now = clock::instant();
        if now.saturating_duration_since(state.looked_at) < LOOK_EVERY {
            return;
        }
        state.looked_at = now;
        if !is_same(&state.file, &self.path)
            && let Ok(opened) = State::open(&self.path)
        {
            *state = opened;
        }
    }
}

impl Write for &LogFile {
    /// Adds a line, or some of them, whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        self.look(&mut state);
        if self.rotation.max_bytes.is_some_and(|max| state.len > 0 && state.len + line.len() as u64 > max) {
            // A log that cannot be cut is better than none.
            let _still_the_old_one = self.rotate_now(&mut state);
        }
        state.file.write_all(line)?;
        state.len += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl State {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().append(true).create(true).open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file, len, looked_at: clock::instant() })
    }
}

/// `NAME.0` is the newest.
fn archive(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(ours), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (named.dev(), named.ino())
}

#[cfg(not(unix))]
fn is_same(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_file_as_large_as_it_may_be_is_cut_and_the_newest_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log/broker.log");
        let log = LogFile::open(path.clone(), Rotation { max_bytes: Some(8), count: 2 }).expect("made");
        for line in ["one 1\n", "two 2\n", "three\n", "a line longer than the file\n", "five\n"] {
            (&log).write_all(line.as_bytes()).expect("written");
        }
        assert_eq!(text(&path), "five\n");
        assert_eq!(text(&archive(&path, 0)), "a line longer than the file\n");
        assert_eq!(text(&archive(&path, 1)), "three\n");
        assert!(!archive(&path, 2).exists());
    }

    #[test]
    fn without_archives_the_file_is_emptied() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("broker.log");
        fs::write(&path, "of an earlier life\n").expect("written");
        let log = LogFile::open(path.clone(), Rotation::default()).expect("opened");
        (&log).write_all(b"added\n").expect("written");
        assert_eq!(text(&path), "of an earlier life\nadded\n");
        log.rotate().expect("cut");
        (&log).write_all(b"anew\n").expect("written");
        assert_eq!(text(&path), "anew\n");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_file_moved_away_is_made_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, moved) = (dir.path().join("broker.log"), dir.path().join("broker.log-20261122"));
        let log = LogFile::open(path.clone(), Rotation::default()).expect("opened");
        (&log).write_all(b"before\n").expect("written");
        fs::rename(&path, &moved).expect("moved");
        log.state.lock().looked_at -= LOOK_EVERY;
        (&log).write_all(b"after\n").expect("written");
        assert_eq!((text(&moved).as_str(), text(&path).as_str()), ("before\n", "after\n"));
    }
}
