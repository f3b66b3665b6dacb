//! Bits flip in every page of a small store: nothing panics or hangs, nothing wrong is delivered, and what is intact is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use leveret::store::disk::DiskStore;
use leveret::store::{LaneKey, LoadReply, LoadRequest, Recovered, Store};

use crate::unpack;

const PAGE: usize = 4096;
/// How long one damaged store may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer may take; the store asks again and again for what it cannot read.
const ANSWER: Duration = Duration::from_millis(200);

/// Bodies by lane and sequence number.
type Messages = BTreeMap<(u64, u64), Vec<u8>>;

/// What came of a damaged store.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Refused(String),
    /// `counted` is how many messages there should be.
    Opened {
        messages: Messages,
        counted: u64,
        failed: bool,
    },
}

/// What is logged while the test runs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics with the lock").write(octets)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn take(&self) -> String {
        let octets = std::mem::take(&mut *self.0.lock().expect("nobody panics with the lock"));
        String::from_utf8(octets).expect("text")
    }
}

fn read(store: &DiskStore, lane: LaneKey, messages: &mut Messages) {
    let mut from_seq = 0;
    while from_seq < u64::MAX {
        let (sender, receiver) = channel();
        // Nobody may wait any more.
        let reply = Box::new(move |reply| drop(sender.send(reply)));
        store.load(LoadRequest { lane, from_seq, max_bytes: 10_000, latest: false, window: None, reply });
        let Ok(LoadReply { loaded, complete_below, .. }) = receiver.recv_timeout(ANSWER) else { return };
        for part in loaded {
            for nth in 0..part.count {
                let body = part.arena.message(part.index + nth).body().to_vec();
                messages.insert((lane.get(), part.first_seq + u64::from(nth)), body);
            }
        }
        assert!(complete_below > from_seq, "it goes on");
        from_seq = complete_below;
    }
}

fn read_all(store: &DiskStore, recovered: &Recovered) -> Messages {
    let mut messages = Messages::new();
    for (_, record, lanes) in &recovered.queues {
        let streams = recovered.logs.contains_key(&record.id).then_some(0);
        for lane in lanes.iter().map(|lane| lane.lane).chain(streams) {
            read(store, LaneKey::new(record.id, lane), &mut messages);
        }
    }
    messages
}

/// Opens, reads everything and closes, on a thread that may hang.
fn attempt(dir: &Path) -> Outcome {
    let (sender, receiver) = mpsc::channel();
    let dir = dir.to_owned();
    let thread = std::thread::spawn(move || {
        let failures = Arc::new(AtomicU32::new(0));
        let noticed = failures.clone();
        let outcome = match DiskStore::open(&dir, 1, move || {
            noticed.fetch_add(1, Ordering::AcqRel);
        }) {
            Err(cause) => Outcome::Refused(cause.to_string()),
            Ok((store, recovered)) => {
                let messages = read_all(&store, &recovered);
                store.close();
                let lanes = recovered.queues.iter().flat_map(|(_, _, lanes)| lanes.iter().map(|lane| lane.count));
                let blocks = recovered.logs.values().flat_map(|log| log.blocks.iter().map(|block| block.count));
                let counted = lanes.chain(blocks).sum();
                Outcome::Opened { messages, counted, failed: failures.load(Ordering::Acquire) > 0 }
            }
        };
        // The other side gives up only by failing.
        let _ = sender.send(outcome);
    });
    let outcome = receiver.recv_timeout(PATIENCE);
    if outcome.is_ok() || thread.is_finished() {
        thread.join().expect("no panic comes out");
    }
    outcome.expect("it does not hang")
}

/// What came of a store with bits flipped in one page after the other.
struct Tally {
    refused: u32,
    harmless: u32,
    /// How many messages a flip cost, where it cost any: page, number of flips, messages.
    losses: BTreeSet<(usize, usize, usize)>,
}

/// Flips bits of a checked-in store, at these places of each page in turn; each list is tried alone.
fn flip_all(name: &str, log: &Log, patterns: &[&[usize]]) -> Tally {
    let dir = tempfile::tempdir().expect("a directory");
    let whole = dir.path().join("whole");
    std::fs::create_dir(&whole).expect("made");
    unpack(name, &whole);
    let Outcome::Opened { messages: expected, counted: 43, failed: false } = attempt(&whole) else {
        panic!("it is whole")
    };
    assert_eq!(expected.len(), 43);
    // As this release has it, after the upgrade.
    let image = std::fs::read(whole.join("leveret.redb")).expect("there");
    let mut tally = Tally { refused: 0, harmless: 0, losses: BTreeSet::new() };
    for page in 0..image.len() / PAGE {
        for flips in patterns {
            let damaged = dir.path().join("damaged");
            let _ = std::fs::remove_dir_all(&damaged);
            std::fs::create_dir(&damaged).expect("made");
            let mut octets = image.clone();
            for (nth, at) in flips.iter().enumerate() {
                octets[page * PAGE + at] ^= 1 << ((nth + page) % 8);
            }
            std::fs::write(damaged.join("leveret.redb"), &octets).expect("written");
            log.take();
            let outcome = attempt(&damaged);
            let log = log.take();
            match outcome {
                Outcome::Refused(cause) => {
                    assert!(cause.contains("leveret.redb"), "page {page}: {cause}");
                    tally.refused += 1;
                }
                Outcome::Opened { messages, counted, failed } => {
                    for (key, body) in &messages {
                        // A settled message may come back when it is not known any more that it was.
                        if let Some(expected) = expected.get(key) {
                            assert!(body == expected, "page {page}: {key:?} is another message");
                        }
                    }
                    let lost = expected.keys().filter(|key| !messages.contains_key(key)).count();
                    // What is missing was told by the store, or the queue finds out that it has fewer than it should.
                    let noticed = log.contains("ERROR") || counted > messages.len() as u64;
                    assert!(lost == 0 || noticed, "page {page}, {flips:?}: {lost} are lost: {log}");
                    assert!(!log.contains("ERROR") || log.contains("leveret.redb"), "page {page}: {log}");
                    tally.harmless += u32::from(lost == 0 && !failed);
                    tally.losses.extend((lost > 0).then_some((page, flips.len(), lost)));
                }
            }
        }
    }
    tally
}

#[test]
fn bits_flipped_in_any_page_are_noticed_and_cost_no_more_than_they_must() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    // One bit in the head of the page, one somewhere, or many.
    let patterns = [&[3_usize][..], &[100, 101, 700], &[1900], &[0, 8, 16, 64, 512, 1024, 2048, 4000]];
    // The second has a message in parts.
    for (name, patterns) in [("format-1-killed", &patterns[..]), ("format-3-clean", &patterns[1..2])] {
        let Tally { refused, harmless, losses } = flip_all(name, &log, patterns);
        let worst: Vec<_> = losses.iter().filter(|(_, _, lost)| *lost > 1).collect();
        println!(
            "{name}: {refused} refused, {harmless} without loss, {} with; more than one message: {worst:?}",
            losses.len()
        );
        assert!(refused > 0 && harmless > 0 && !losses.is_empty());
        assert!(worst.len() * 5 < losses.len(), "mostly no more than the batch is lost that the flip is in");
    }
}
