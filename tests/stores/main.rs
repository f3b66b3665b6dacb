//! Stores that earlier releases wrote open in this one, and have exactly what was put into them.
//!
//! `format-N-clean` was stopped in good order, `format-N-killed` was killed; `fill.py` made both with a broker of that
//! format. The text beside each says what must be found.

mod flips;
mod listing;

use std::io::Read;
use std::path::{Path, PathBuf};

use leveret::store::Store;
use leveret::store::disk::DiskStore;

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores")
}

/// Puts a checked-in store into a directory, with its journal if it has one.
fn unpack(name: &str, dir: &Path) {
    for (extension, file) in [("redb.gz", "leveret.redb"), ("journal.gz", "leveret.journal")] {
        let packed = here().join(name).with_extension(extension);
        if extension == "journal.gz" && !packed.exists() {
            continue;
        }
        let packed = std::fs::File::open(packed).expect("checked in");
        let mut octets = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut octets).expect("packed by gzip");
        std::fs::write(dir.join(file), octets).expect("written");
    }
}

fn open(dir: &Path) -> String {
    let (store, recovered) = DiskStore::open(dir, 1, || panic!("no commit fails here")).expect("opens");
    let found = listing::of(&store, recovered);
    store.close();
    found
}

fn check(name: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    unpack(name, dir.path());
    let found = open(dir.path());
    let path = here().join(name).with_extension("txt");
    if std::env::var_os("LEVERET_WRITE_EXPECTED").is_some() {
        std::fs::write(&path, &found).expect("written");
    }
    let expected = std::fs::read_to_string(&path).expect("checked in");
    assert_eq!(found, expected, "{name}");
    // The same again, now that it is of the present format and was closed in good order.
    let again = open(dir.path());
    let after = |text: &str| text.lines().skip(1).map(listing::without_redelivered).collect::<Vec<_>>();
    assert_eq!(after(&again), after(&expected), "{name}");
    assert!(again.starts_with("clean true\n"), "{again}");
}

#[test]
fn a_store_of_format_1_opens_and_has_everything() {
    check("format-1-clean");
}

#[test]
fn a_store_of_format_1_that_was_not_stopped_opens_and_has_everything() {
    check("format-1-killed");
}

#[test]
fn a_store_of_format_2_opens_and_has_everything() {
    check("format-2-clean");
}

#[test]
fn a_store_of_format_2_that_was_not_stopped_has_what_is_in_its_journal() {
    check("format-2-killed");
}

#[test]
fn a_store_of_format_3_opens_and_has_everything() {
    check("format-3-clean");
}

#[test]
fn a_store_of_format_3_that_was_not_stopped_has_what_is_in_its_journal() {
    check("format-3-killed");
}
