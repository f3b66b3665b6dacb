//! A database file that is cut off, or something else, or must not be touched: the broker does not start, says which file it
//! is about, and leaves it as it is.

use std::fs::{File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::broker::{Broker, Launch};
use crate::mounts::{is_root, skip};
use crate::traffic::{Books, End, Publisher, consume_all};

const STORE_FILE: &str = "leveret.redb";

/// Root may do everything, unless it gives this away.
const WITHOUT_PRIVILEGES: &[&str] = &["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];

/// A data directory with some messages, after an orderly stop or a kill.
struct Place {
    directory: tempfile::TempDir,
    data: PathBuf,
    books: Books,
}

impl Place {
    fn new(orderly: bool) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("data");
        let broker = Broker::start(&data, &directory.path().join("first.log"));
        let mut publisher = Publisher::open(broker.addr).expect("the broker serves");
        let mut books = Books::default();
        assert_eq!(publisher.publish(300, &mut books).expect("the broker serves"), End::Done);
        if orderly {
            broker.terminate();
        } else {
            broker.kill();
        }
        Self { directory, data, books }
    }

    /// The same once more, to be damaged.
    fn copy(&self) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("data");
        std::fs::create_dir(&data).expect("a directory can be made");
        for entry in std::fs::read_dir(&self.data).expect("it can be read") {
            let entry = entry.expect("it can be read");
            if entry.file_type().expect("it has a type").is_file() {
                std::fs::copy(entry.path(), data.join(entry.file_name())).expect("it can be copied");
            }
        }
        Self { directory, data, books: self.books.clone() }
    }

    fn file(&self) -> PathBuf {
        self.data.join(STORE_FILE)
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("broker.log")
    }

    /// The broker must start and have every message.
    #[track_caller]
    fn expect_everything(mut self, what: &str) {
        let broker = Broker::start(&self.data, &self.log());
        let count = consume_all(broker.addr, &mut self.books).unwrap_or_else(|fault| panic!("{what}: {fault:?}"));
        assert_eq!(count, 300, "{what}");
        broker.terminate();
    }

    /// The broker must refuse, with a line that has these words.
    #[track_caller]
    fn expect_refusal(&self, what: &str, wrapper: &[&str], words: &[&str]) {
        let log = self.log();
        let _ = std::fs::remove_file(&log);
        let (status, output) = Launch { wrapper, ..Launch::new(&self.data, &log) }.start_in_vain();
        assert_eq!(status.code(), Some(1), "{what}: {output}");
        assert!(!output.contains("panicked") && !output.contains("stack backtrace"), "{what}: {output}");
        let complains = |line: &str| line.starts_with("leveret: ") && words.iter().all(|word| line.contains(word));
        assert!(output.lines().any(complains), "{what}: no complaint with {words:?} in:\n{output}");
    }
}

fn read(path: &Path) -> Vec<u8> {
    let mut octets = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut octets)).expect("it can be read");
    octets
}

fn garbage(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn a_file_that_is_cut_off_is_refused_and_left_alone() {
    for orderly in [true, false] {
        let place = Place::new(orderly);
        let whole = read(&place.file());
        for len in [whole.len() - 1, whole.len() - 4096, whole.len() / 2, 65_536, 4096, 100, 1, 0] {
            let place = place.copy();
            let path = place.file();
            std::fs::write(&path, &whole[..len]).expect("it can be written");
            let what = format!("{len} octets of {}, orderly: {orderly}", whole.len());
            // What a kill left may have a tail that is not in use yet.
            if !orderly && len + 4096 >= whole.len() && Launch::new(&place.data, &place.log()).try_start().is_some() {
                place.expect_everything(&what);
                continue;
            }
            place.expect_refusal(&what, &[], &[path.to_str().expect("UTF-8")]);
            let left = std::fs::metadata(&path).expect("it is there").len();
            assert_eq!(left, u64::try_from(len).expect("small"), "{what}: it was changed");
            // Whole again, it is as good as before.
            std::fs::write(&path, &whole).expect("it can be written");
            if len == 65_536 {
                place.expect_everything("whole again");
            }
        }
    }
}

#[test]
fn something_else_in_place_of_the_file_is_refused() {
    let place = Place::new(true);
    let path = place.file();
    let name = path.to_str().expect("UTF-8");
    let whole = read(&path);
    let with_garbage_behind = |len: usize| {
        let mut octets = whole[..len].to_vec();
        octets.extend(garbage(whole.len() - len));
        octets
    };
    let others = [
        ("random octets", garbage(whole.len())),
        ("nothing but zeros", vec![0; whole.len()]),
        ("text", b"This is not the database that you are looking for.\n".repeat(1000)),
        ("random octets behind the first page", with_garbage_behind(4096)),
    ];
    for (what, octets) in others {
        std::fs::write(&path, &octets).expect("it can be written");
        place.expect_refusal(what, &[], &[name]);
        assert!(read(&path) == octets, "{what}: it was changed");
    }
    std::fs::remove_file(&path).expect("it is there");
    std::fs::create_dir(&path).expect("a directory can be made");
    place.expect_refusal("a directory", &[], &[name]);
    std::fs::remove_dir(&path).expect("it is empty");
    std::fs::write(&path, &whole).expect("it can be written");
    std::fs::remove_file(place.log()).expect("it is there");
    place.expect_everything("whole again");
}

/// Whatever 4 KiB of the file are overwritten, the broker starts or says what is wrong with which file; it never panics.
#[test]
fn a_page_of_garbage_anywhere_is_no_panic_at_the_start() {
    let place = Place::new(true);
    let pages = read(&place.file()).len() / 4096;
    let mut refused = 0;
    // The first pages hold headers and roots; of the others some.
    for page in (0..pages.min(12)).chain((12..pages).step_by(pages.div_ceil(12))) {
        let place = place.copy();
        let path = place.file();
        let name = path.to_str().expect("UTF-8");
        let mut file = File::options().write(true).open(&path).expect("it can be written");
        file.seek(SeekFrom::Start(u64::try_from(page * 4096).expect("small"))).expect("it can be sought");
        file.write_all(&garbage(4096)).expect("it can be written");
        drop(file);
        let broker = Launch::new(&place.data, &place.log()).try_start();
        let output = std::fs::read_to_string(place.log()).expect("the log can be read");
        assert!(!output.contains("panicked"), "page {page}: {output}");
        if broker.is_none() {
            refused += 1;
            let complains = |line: &str| line.starts_with("leveret: ") && line.contains(name);
            assert!(output.lines().any(complains), "page {page}: no complaint about {name} in:\n{output}");
        }
    }
    assert!(refused > 0, "no page matters");
}

#[test]
fn a_directory_that_must_not_be_written_is_named() {
    let wrapper = if is_root() { WITHOUT_PRIVILEGES } else { &[] };
    if let [program, privileges @ ..] = wrapper
        && !Command::new(program).args(privileges).arg("true").status().is_ok_and(|status| status.success())
    {
        return skip("root cannot give its privileges away here");
    }
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions can be set");
    };
    let place = Place::new(true);
    let (path, data) = (place.file(), place.data.clone());
    let name = path.to_str().expect("UTF-8");
    for (what, mode) in [("unreadable", 0o000), ("read-only", 0o444)] {
        set_mode(&path, mode);
        place.expect_refusal(what, wrapper, &[name, "Permission denied"]);
    }
    set_mode(&path, 0o644);
    // A new store in a directory where nothing can be made.
    std::fs::remove_file(&path).expect("it is there");
    set_mode(&data, 0o555);
    place.expect_refusal(
        "a directory that is read-only",
        wrapper,
        &[data.to_str().expect("UTF-8"), "Permission denied"],
    );
    set_mode(&data, 0o755);
    let inside = Place { data: place.directory.path().join("first.log"), ..place };
    inside.expect_refusal("a file in place of the directory", &[], &[inside.data.to_str().expect("UTF-8")]);
}
