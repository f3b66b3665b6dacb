//! A disk that fills up.

use std::path::{Path, PathBuf};

use crate::broker::{Broker, Launch, check_log, log_tail};
use crate::client::{Outcome, Stop};
use crate::mounts::{mount, remount, with_mounts};
use crate::traffic::{Books, End, Publisher, consume_all};

/// More messages than there is room for.
const MANY: usize = 1_000_000;

const MIB: u64 = 1024 * 1024;

/// A data directory on a disk of its own.
struct Place {
    disk: PathBuf,
    data: PathBuf,
    log: PathBuf,
    config: PathBuf,
}

impl Place {
    fn new(directory: &Path, mebibytes: u32, disk_free_limit: u64) -> Self {
        let disk = directory.join("disk");
        mount(&disk, mebibytes);
        let (data, log, config) = (disk.join("data"), directory.join("broker.log"), directory.join("leveret.conf"));
        std::fs::write(&config, format!("disk_free_limit.absolute = {disk_free_limit}\n")).expect("it can be written");
        Self { disk, data, log, config }
    }

    fn launch(&self) -> Launch<'_> {
        Launch { config: Some(&self.config), ..Launch::new(&self.data, &self.log) }
    }

    fn free(&self) -> u64 {
        fs4::available_space(&self.disk).expect("the disk can be asked")
    }

    fn must<T>(&self, step: &str, outcome: Outcome<T>) -> T {
        outcome.unwrap_or_else(|stop: Stop| panic!("{step}: {stop:?}\n{}", log_tail(&self.log)))
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log can be read")
    }
}

/// Publishes until the alarm comes, which must be early enough.
fn fill(place: &Place, publisher: &mut Publisher, books: &mut Books) {
    let end = place.must("filling", publisher.publish(MANY, books));
    assert_eq!(end, End::Blocked("low on disk".to_owned()), "{}", log_tail(&place.log));
    let (free, confirmed) = (place.free(), books.confirmed.len());
    assert!(free > 8 * MIB, "the alarm came when {free} octets were left");
    assert!(confirmed > 500, "{confirmed} messages fill the disk");
}

#[test]
fn publishers_wait_while_the_disk_is_low_and_consumers_do_not() {
    with_mounts("space::publishers_wait_while_the_disk_is_low_and_consumers_do_not", |directory| {
        let place = Place::new(directory, 192, 64 * MIB);
        // Somebody else needs room on the same disk.
        let other = place.disk.join("other");
        std::fs::write(&other, vec![1; 64 * 1024 * 1024]).expect("there is room");
        let broker = place.launch().start();
        let mut books = Books::default();
        let mut publisher = place.must("opening", Publisher::open(broker.addr));
        fill(&place, &mut publisher, &mut books);
        let confirmed = books.confirmed.len();
        let consumed = place.must("consuming", consume_all(broker.addr, &mut books));
        eprintln!("{confirmed} confirmed, {consumed} consumed, then {} MiB are free", place.free() / MIB);
        std::fs::remove_file(&other).expect("it is there");
        place.must("waiting for the end of the alarm", publisher.wait_for_unblocked(&mut books));
        assert_eq!(place.must("publishing on", publisher.publish(1000, &mut books)), End::Done);
        place.must("consuming the rest", consume_all(broker.addr, &mut books));
        broker.terminate();
        check_log(&place.log);
        let text = place.log_text();
        assert!(
            text.contains("disk alarm: connections that publish are blocked") && text.contains("disk alarm cleared")
        );
    });
}

#[test]
fn consumers_make_room_and_end_the_alarm() {
    with_mounts("space::consumers_make_room_and_end_the_alarm", |directory| {
        let place = Place::new(directory, 160, 64 * MIB);
        let broker = place.launch().start();
        let mut books = Books::default();
        let mut publisher = place.must("opening", Publisher::open(broker.addr));
        // More than once: what was made room with is used again.
        for round in 0..2 {
            fill(&place, &mut publisher, &mut books);
            let (free, confirmed) = (place.free() / MIB, books.confirmed.len());
            let consumed = place.must("consuming", consume_all(broker.addr, &mut books));
            place.must("waiting for the end of the alarm", publisher.wait_for_unblocked(&mut books));
            let after = place.free() / MIB;
            eprintln!("round {round}: {confirmed} confirmed, {consumed} consumed, {free} MiB free, then {after}");
        }
        assert_eq!(place.must("publishing on", publisher.publish(100, &mut books)), End::Done);
        place.must("consuming the rest", consume_all(broker.addr, &mut books));
        broker.terminate();
        check_log(&place.log);
    });
}

#[test]
fn a_full_disk_stops_the_broker_and_takes_nothing_that_was_confirmed() {
    with_mounts("space::a_full_disk_stops_the_broker_and_takes_nothing_that_was_confirmed", |directory| {
        let place = Place::new(directory, 72, 1);
        let broker = place.launch().start();
        let mut books = Books::default();
        let mut publisher = place.must("opening", Publisher::open(broker.addr));
        let end = place.must("filling", publisher.publish(MANY, &mut books));
        assert_eq!(end, End::Gone, "{}", log_tail(&place.log));
        let status = broker.wait_for_failure();
        assert_eq!(status.code(), Some(1), "{}", log_tail(&place.log));
        expect_complaint(&place);
        let confirmed = books.confirmed.len();
        assert!(confirmed > 500, "{confirmed} messages fill the disk");
        // Still full: it starts, and cannot write anything; or it says why it does not.
        std::fs::remove_file(&place.log).expect("it is there");
        if place.launch().try_start().is_none() {
            expect_complaint(&place);
        }
        std::fs::remove_file(&place.log).expect("it is there");
        remount(&place.disk, "size=256m");
        let broker = place.launch().start();
        let consumed = place.must("consuming", consume_all(broker.addr, &mut books));
        eprintln!("{confirmed} confirmed, {consumed} found");
        let mut publisher = place.must("opening", Publisher::open(broker.addr));
        assert_eq!(place.must("publishing", publisher.publish(100, &mut books)), End::Done);
        place.must("consuming", consume_all(broker.addr, &mut books));
        broker.terminate();
        check_log(&place.log);
    });
}

/// The log says what is wrong with which file, and shows no panic.
fn expect_complaint(place: &Place) {
    let text = place.log_text();
    assert!(!text.contains("panicked"), "{}", log_tail(&place.log));
    let file = place.data.join("leveret.");
    let file = file.to_str().expect("UTF-8");
    let complains = |line: &str| {
        (line.contains(" ERROR ") || line.starts_with("leveret: "))
            && line.contains(file)
            && line.contains("No space left on device")
    };
    assert!(text.lines().any(complains), "no complaint about {file}\n{}", log_tail(&place.log));
}

#[test]
fn a_disk_that_is_read_only_is_named() {
    with_mounts("space::a_disk_that_is_read_only_is_named", |directory| {
        let place = Place::new(directory, 72, 1);
        place.launch().start().terminate();
        std::fs::remove_file(&place.log).expect("it is there");
        remount(&place.disk, "ro");
        let (status, output) = place.launch().start_in_vain();
        assert_eq!(status.code(), Some(1), "{output}");
        let data = place.data.to_str().expect("UTF-8");
        let complains = |line: &str| line.starts_with("leveret: ") && line.contains(data) && line.contains("Read-only");
        assert!(output.lines().any(complains), "{output}");
        assert!(!output.contains("panicked"), "{output}");
        remount(&place.disk, "rw");
        let broker: Broker = place.launch().start();
        broker.terminate();
    });
}
