//! Stores as files: what is shown of them, what is refused.

use std::path::Path;

use redb::{Database, ReadableTable, TableDefinition};

use crate::broker::{Broker, done, leveret, refused, text, unpack};

const BATCHES: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("batches");
const QUEUES: TableDefinition<u64, &[u8]> = TableDefinition::new("queues");

/// The queues of the checked-in stores as `inspect` shows them, without ages.
const SHOWN: &str = "vhost\tqueue\ttype\tmessages\tbytes\treturned\n\
                     orders\tlater\tclassic\t1\t7\t0\n\
                     orders\tclassic\tclassic\t6\t54\t0\n\
                     orders\tpriorities\tclassic\t8\t96\t0\n\
                     orders\tquorum\tquorum\t4\t32\t1\n\
                     orders\tlarge\tclassic\t3\t100014\t0\n\
                     orders\texpiring\tclassic\t1\t10\t0\n\
                     orders\tempty\tclassic\t0\t0\t0\n\
                     \n\
                     vhost\tstream\tfirst\tnext\tbytes\tblocks\n\
                     orders\tstream\t0\t20\t950\t1\n";

/// `inspect`'s tables, without the last column.
fn tables(shown: &str) -> String {
    let tables = shown.split_once("\n\n").expect("tables").1;
    let line = |line: &str| format!("{}\n", line.rsplit_once('\t').map_or(line, |(rest, _)| rest));
    tables.lines().map(line).collect()
}

/// Flips a bit in the middle of a record.
fn damage<K: redb::Key + 'static>(dir: &Path, definition: TableDefinition<'_, K, &'static [u8]>, nth: usize) {
    let database = Database::create(dir.join("leveret.redb")).expect("opens");
    let txn = database.begin_write().expect("begins");
    {
        let mut table = txn.open_table(definition).expect("there");
        let (key, mut value) = {
            let (key, value) = table.iter().expect("read").nth(nth).expect("there").expect("read");
            (K::as_bytes(&key.value()).as_ref().to_vec(), value.value().to_vec())
        };
        let middle = value.len() / 2;
        value[middle] ^= 8;
        table.insert(K::from_bytes(&key), value.as_slice()).expect("written");
    }
    txn.commit().expect("committed");
}

#[test]
fn a_store_is_shown_and_verified_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, stop) in [("format-1-clean", "in good order"), ("format-1-killed", "not in good order")] {
        let data = dir.path().join(name);
        let file = unpack(name, &data);
        let before = std::fs::read(&file).expect("there");
        let shown = done(&["inspect", text(&data)]);
        assert_eq!(tables(&shown), SHOWN, "{shown}");
        assert!(shown.contains(&format!("last stop    {stop}\n")) && shown.contains("format       1\n"), "{shown}");
        let counts = "2 vhosts, 2 users, 4 permissions, 2 policies, 1 parameters, 5 exchanges, 8 queues, 5 bindings";
        assert!(shown.contains(counts), "{shown}");
        let json: serde_json::Value = serde_json::from_str(&done(&["inspect", "--json", text(&data)])).expect("JSON");
        assert_eq!(json["queues"][3]["name"], "quorum");
        assert_eq!((&json["queues"][3]["messages"], &json["queues"][3]["returned"]), (&4.into(), &1.into()));
        assert_eq!((&json["streams"][0]["next_offset"], &json["damaged"]), (&20.into(), &serde_json::json!([])));
        assert!(json["queues"][1]["oldest_at"].as_u64().is_some_and(|at| at > 1_700_000_000_000));
        let verified = done(&["verify", text(&data)]);
        assert!(verified.contains("batches with 43 messages"), "{verified}");
        assert_eq!(std::fs::read(&file).expect("there"), before);
        assert_eq!(std::fs::read_dir(&data).expect("listed").count(), 1);
    }
}

#[test]
fn what_is_damaged_is_listed_and_what_is_set_aside_is_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let file = unpack("format-1-clean", &data);
    // A start brings it up to date.
    Broker::start(&data).stop(&data);
    assert!(leveret(&["verify", text(&data)]).success);
    damage(&data, BATCHES, 0);
    damage(&data, QUEUES, 7);
    let verified = leveret(&["verify", text(&data)]);
    assert!(!verified.success && verified.err == "leveret: 2 places are damaged\n", "{verified:?}");
    assert!(verified.out.contains("damaged: batches (256, 0): its checksum is wrong"), "{verified:?}");
    assert!(verified.out.contains("damaged: queues 8: its checksum is wrong"), "{verified:?}");

    let backup = dir.path().join("backup");
    std::fs::copy(&file, &backup).expect("copied");
    let copy = dir.path().join("copy");
    let damaged = refused(&["restore", text(&backup), "--data-dir", text(&copy)]);
    assert!(damaged.contains("is damaged in 2 places") && !copy.exists(), "{damaged}");
    done(&["restore", text(&backup), "--data-dir", text(&copy), "--force"]);
    // The delayed message is read at once, and found damaged.
    let broker = Broker::start(&copy);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let log = || std::fs::read_to_string(copy.with_extension("log")).expect("a log");
    while !log().contains("set aside") {
        assert!(std::time::Instant::now() < deadline, "{}", log());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    broker.stop(&copy);
    let log = log();
    assert!(log.contains("a record of the store is damaged and left out") && log.contains("table=\"queues\""), "{log}");
    let said = ["later in vhost orders", "first_seq=0 last_seq=0", "leveret.redb"];
    assert!(said.iter().all(|said| log.contains(said)), "{log}");
    let shown = done(&["inspect", text(&copy)]);
    assert!(shown.contains("\nlater in vhost orders\t0\t0\t0\t1\t"), "{shown}");
    assert!(shown.contains("orders\tlater\tclassic\t0\t0\t0\t-\n"), "{shown}");
}

#[test]
fn a_restore_sets_aside_what_is_there_only_if_it_is_told_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    unpack("format-1-killed", dir.path());
    std::fs::rename(dir.path().join("leveret.redb"), &backup).expect("moved");
    let data_dir = format!("--data-dir={}", data.display());
    done(&["restore", text(&backup), &data_dir]);
    let names = |dir: &Path| {
        let names = std::fs::read_dir(dir).expect("listed").map(|entry| entry.expect("read").file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().expect("text")).collect();
        names.sort();
        names
    };
    assert_eq!(names(&data), ["leveret.redb"]);
    std::fs::write(data.join("leveret.journal"), "of another history").expect("written");
    let refusal = refused(&["restore", text(&backup), &data_dir]);
    assert!(refusal.contains("is not empty"), "{refusal}");
    let done = done(&["restore", text(&backup), &data_dir, "--force"]);
    assert!(done.contains("leveret.journal.replaced") && done.contains("leveret.redb.replaced"), "{done}");
    assert_eq!(names(&data), ["leveret.journal.replaced", "leveret.redb", "leveret.redb.replaced"]);
    Broker::start(&data).stop(&data);
}

#[test]
fn what_is_no_store_is_refused_in_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let (letter, empty) = (dir.path().join("letter"), dir.path().join("empty"));
    std::fs::write(&letter, "a letter, not a store").expect("written");
    std::fs::write(&empty, "").expect("written");
    let data = dir.path().join("data");
    for file in [&letter, &empty] {
        assert!(refused(&["verify", text(file)]).contains("is not a store"));
        assert!(refused(&["restore", text(file), "--data-dir", text(&data)]).contains("is not a store"));
    }
    let missing = dir.path().join("missing");
    assert!(refused(&["verify", text(&missing)]).contains("cannot open"));
    assert!(refused(&["inspect", text(dir.path())]).contains("cannot open"));
    let nobody = refused(&["backup", text(&missing), "--data-dir", text(dir.path())]);
    assert!(nobody.contains("no broker can be reached"), "{nobody}");
    assert!(!data.exists() && !missing.exists());
}
