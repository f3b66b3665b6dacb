//! The broker's promise, kept by the real binary: kill -9 at any moment loses nothing that was confirmed.
//!
//! Each round starts the broker on the directory that the last one left, looks into every queue, lets clients work, and
//! kills the broker at a random moment. `ledger` says what must, may and must not be there; whatever is in doubt when the
//! broker dies (a publish without confirm, an ack, a commit without commit-ok) may have happened or not, but not by halves.
//!
//! A kill shows what the process had handed to the operating system, not what the disk had: that a commit is synced is not
//! shown here.
//!
//! `LEVERET_CRASH_SEED` repeats the random decisions of a run, although not the moment at which the machine carries them out;
//! `LEVERET_CRASH_ROUNDS` sets the number of rounds, or `LEVERET_CRASH_SECONDS` how long they go on. 200 kills, which
//! `.ci/soak` does, too:
//!
//!     LEVERET_CRASH_ROUNDS=200 cargo test --release --test crash nothing_confirmed -- --nocapture
//!
//! After a failure the directory stays: the broker's log, the store, and the store as it was before the last start.
#![expect(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "a test binary: nothing is exported, deadlines need a clock, what was not expected is any method but one"
)]

#[allow(dead_code, reason = "shared with tests/disk")]
mod broker;
mod client;
mod delays;
mod inspection;
mod ledger;
mod log;
mod messages;
mod orderly;
mod random;
#[cfg(unix)]
mod redrive;
mod returns;
#[cfg(target_os = "linux")]
mod soak;
mod storm;
mod streams;
mod topology;
mod traffic;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use leveret_protocol::{Method, queue};
use tempfile::TempDir;

use crate::broker::{Broker, Launch, log_tail};
use crate::client::{Client, Stop, s};
use crate::inspection::{Inspection, check_temporaries, must};
use crate::ledger::{After, Ledger};
use crate::log::{Done, Log, Standing, Temporary};
use crate::messages::{Queue, WIDTHS};
use crate::random::Random;
use crate::traffic::{Numbers, Plan, Traffic};

/// Rounds without `LEVERET_CRASH_ROUNDS`.
const ROUNDS: u32 = 20;

/// When the broker is killed, in milliseconds after the clients have begun.
const KILL_MS: (u64, u64) = (5, 700);

/// Rounds of the test of a deep queue, and when the broker is killed in them.
const DEEP_ROUNDS: u32 = 3;
const DEEP_KILL_MS: (u64, u64) = (300, 1200);

/// Rounds of the test of delayed messages.
const DELAY_ROUNDS: u32 = 6;

/// Rounds of the test of a redrive.
#[cfg(unix)]
const REDRIVE_ROUNDS: u32 = 10;

/// Rounds of the test of a stream, and when the broker is killed in them.
const STREAM_ROUNDS: u32 = 8;
const STREAM_KILL_MS: (u64, u64) = (20, 400);

/// The store's files in the data directory begin with this.
const STORE_FILES: &str = "leveret.";

/// A data directory with a log beside it; both stay when the test fails.
struct Place {
    dir: Option<TempDir>,
    data: PathBuf,
    log: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (data, log) = (dir.path().join("data"), dir.path().join("broker.log"));
        Self { dir: Some(dir), data, log }
    }

    fn start(&self) -> Broker {
        // Nobody writes: what was killed has been waited for.
        let before = self.data.with_file_name("before");
        std::fs::create_dir_all(&before).expect("a directory can be made");
        for entry in std::fs::read_dir(&self.data).into_iter().flatten() {
            let entry = entry.expect("the data directory can be read");
            if entry.file_name().to_string_lossy().starts_with(STORE_FILES) {
                std::fs::copy(entry.path(), before.join(entry.file_name())).expect("the store can be copied");
            }
        }
        Broker::start(&self.data, &self.log)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("left as it was: {}", dir.keep().display());
        }
    }
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Rounds on one data directory.
struct Trial {
    place: Place,
    random: Random,
    numbers: Numbers,
    ledger: Ledger,
    queues: Vec<Queue>,
    temporaries: Vec<Temporary>,
    standing: Standing,
}

impl Trial {
    /// A trial with the queues that have a meaning of their own.
    fn new() -> Self {
        let seed = setting("LEVERET_CRASH_SEED").unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            u64::from(now.subsec_nanos())
        });
        eprintln!("LEVERET_CRASH_SEED={seed}");
        Self {
            place: Place::new(),
            random: Random::new(seed),
            numbers: Numbers::default(),
            ledger: Ledger::default(),
            queues: Queue::ALL.to_vec(),
            temporaries: Vec::new(),
            standing: Standing { reborn: Done::Yes, ..Standing::default() },
        }
    }

    /// The same with the many queues.
    fn wide() -> Self {
        let mut trial = Self::new();
        trial.queues.extend(Queue::many());
        trial
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{what}\n{}", log_tail(&self.place.log));
    }

    fn step<T>(&self, step: &str, outcome: Result<T, Stop>) -> T {
        must(step, outcome).unwrap_or_else(|fault| {
            let verdict = self.ledger.verdict().unwrap_or_default();
            self.fail(&format!("{fault}\n{verdict}"))
        })
    }

    /// Makes the definitions. They are in no doubt from here on.
    fn define(&self) {
        let broker = self.place.start();
        let mut client = self.step("connecting", Client::open(broker.addr, 4096));
        self.step("opening a channel", client.open_channel(1));
        self.step("declaring", topology::declare(&mut client, 1, &self.queues));
        broker.kill();
    }

    /// Looks into every queue and fails if something is wrong.
    fn inspect(&mut self, broker: &Broker, after: After) -> Inspection {
        let reborn = self.standing.reborn;
        let inspection = Inspection::start(broker.addr, &mut self.ledger, &self.queues, reborn, after);
        let inspection = self.step("inspection", inspection);
        self.standing.reborn = Done::Yes;
        if let Some(verdict) = self.ledger.verdict() {
            self.fail(&verdict);
        }
        inspection
    }

    /// Starts the broker and looks into every queue.
    fn restart(&mut self) -> Broker {
        if self.random.once_in(5) {
            // It dies while it recovers.
            let lifetime = Duration::from_millis(self.random.between(0, 80));
            Broker::start_and_kill(&self.place.data, &self.place.log, lifetime);
        }
        let broker = self.place.start();
        let after = After::start(broker.clean_start);
        let mut inspection = self.inspect(&broker, after);
        let thinned = inspection.thin_out(&mut self.ledger, &mut self.random);
        self.step("thinning out", thinned);
        if self.random.once_in(8) {
            // What commit-ok was said of a moment ago holds, too.
            broker.kill();
            return self.restart();
        }
        self.step("putting back", inspection.finish());
        let temporaries = std::mem::take(&mut self.temporaries);
        let checked = check_temporaries(broker.addr, &temporaries, after);
        self.step("temporary definitions", checked);
        broker
    }

    /// Clients work until `end` has ended the broker; it says whether the broker was told before.
    fn work(&mut self, plan: Plan, broker: Broker, end: impl FnOnce(Broker, &mut Random) -> bool) {
        let traffic = self.start_traffic(plan, &broker);
        let told = end(broker, &mut self.random);
        self.absorb(traffic.finish(), told);
    }

    fn start_traffic(&mut self, plan: Plan, broker: &Broker) -> Traffic {
        let round = self.ledger.round();
        Traffic::start(plan, broker.addr, round, &mut self.random, &self.numbers, self.standing)
    }

    /// Takes in what the clients did; `one_by_one`: connections ended one after the other, so that what one client had may
    /// have gone to the next.
    fn absorb(&mut self, mut log: Log, one_by_one: bool) {
        if one_by_one {
            log.deserted.extend(&self.queues);
        }
        self.temporaries = std::mem::take(&mut log.temporaries);
        self.standing.reborn = log.reborn.unwrap_or(self.standing.reborn);
        self.standing.shifts = log.shifts.unwrap_or(self.standing.shifts);
        self.ledger.absorb(log);
        if let Some(verdict) = self.ledger.verdict() {
            self.fail(&verdict);
        }
    }
}

/// One round works on one of the many queues, the next on ten, the next on all.
fn plan(round: u32) -> Plan {
    let widths = u32::try_from(WIDTHS.len()).expect("few");
    Plan::Everything(WIDTHS[usize::try_from(round % widths).expect("few")])
}

fn random_pause(random: &mut Random) {
    std::thread::sleep(Duration::from_millis(random.between(KILL_MS.0, KILL_MS.1)));
}

#[test]
fn nothing_confirmed_is_lost_when_the_broker_is_killed() {
    let mut trial = Trial::wide();
    let wanted = setting("LEVERET_CRASH_ROUNDS").map_or(ROUNDS, |rounds| u32::try_from(rounds).expect("not that many"));
    let time = setting("LEVERET_CRASH_SECONDS").map(Duration::from_secs);
    let started = Instant::now();
    trial.define();
    let mut rounds = 0;
    while time.map_or(rounds < wanted, |time| started.elapsed() < time) {
        rounds += 1;
        let round = rounds;
        trial.ledger.begin_round(round);
        let broker = trial.restart();
        trial.work(plan(round), broker, |broker, random| {
            random_pause(random);
            let told = random.once_in(6);
            if told {
                broker.terminate_and_kill(Duration::from_millis(random.between(0, 12)));
            } else {
                broker.kill();
            }
            told
        });
        eprintln!("round {round} at {:?}: {:?}", started.elapsed(), trial.ledger.totals);
    }

    // The last one stops in good order, under load.
    trial.ledger.begin_round(rounds + 1);
    let broker = trial.restart();
    trial.work(plan(rounds + 1), broker, |broker, random| {
        random_pause(random);
        broker.terminate();
        true
    });
    let broker = trial.place.start();
    assert!(broker.clean_start, "the stop was orderly\n{}", log_tail(&trial.place.log));
    let inspection = trial.inspect(&broker, After::Stop);
    // Closed, so that everything is back in its queue before it is purged.
    trial.step("closing", inspection.close());
    trial.stop_in_good_order(broker);
    eprintln!("finished at {:?}: {:?}", started.elapsed(), trial.ledger.totals);
    trial.check_totals(rounds);
}

impl Trial {
    /// With everything known: an orderly stop changes nothing, and the flags tell what was delivered.
    fn stop_in_good_order(&self, broker: Broker) {
        let scene = self.step("preparing", orderly::prepare(broker.addr));
        let mut expected = scene.expected.clone();
        broker.send_sigterm();
        let (getter, consumer) = scene.end();
        for told in [getter, consumer] {
            assert!(matches!(told, Err(Stop::ShutDown)), "a client is told {told:?} instead of a shutdown");
        }
        broker.wait_for_end();
        // First none are touched, then a few, then all.
        for take in [0, 20, usize::MAX] {
            let broker = self.place.start();
            assert!(broker.clean_start, "the stop was orderly\n{}", log_tail(&self.place.log));
            let checked = orderly::check(broker.addr, &mut expected, take);
            self.step(&format!("after an orderly stop, taking {take}"), checked);
            self.step("publishing more", orderly::add(broker.addr, &mut expected));
            broker.terminate();
        }
    }

    /// A run in which nothing happened shows nothing.
    fn check_totals(&self, rounds: u32) {
        let totals = self.ledger.totals;
        let rounds = usize::try_from(rounds).expect("32 bits");
        let enough = totals.confirmed >= 20 * rounds
            && totals.deliveries >= 20 * rounds
            && totals.found >= 20 * rounds
            && totals.transactions >= rounds
            && totals.moved >= rounds
            && totals.given_up > 0
            && totals.in_doubt >= rounds
            && totals.groups_in_doubt > 0
            && totals.removals >= rounds
            && totals.settled_for_sure >= rounds;
        assert!(enough, "too little happened: {totals:?}");
    }
}

/// What is read from disk while it is consumed, and consumed while more comes in, is neither lost nor out of order.
#[test]
fn a_queue_deeper_than_memory_survives_kills_in_a_row() {
    let mut trial = Trial::new();
    trial.define();
    for round in 1..=DEEP_ROUNDS {
        trial.ledger.begin_round(round);
        let mut broker = trial.place.start();
        // The first time to fill the queue, then to work on what was found on disk: it has not been looked at.
        for _ in 0..2 {
            trial.work(Plan::Deep, broker, |broker, random| {
                std::thread::sleep(Duration::from_millis(random.between(DEEP_KILL_MS.0, DEEP_KILL_MS.1)));
                broker.kill();
                true
            });
            broker = trial.place.start();
        }
        let inspection = trial.inspect(&broker, After::Kill);
        trial.step("closing", inspection.close());
        broker.kill();
        eprintln!("round {round}: {:?}", trial.ledger.totals);
    }
    assert!(trial.ledger.totals.confirmed >= 100, "too little happened: {:?}", trial.ledger.totals);
}

#[test]
fn messages_of_many_connections_for_one_new_queue_survive() {
    let place = Place::new();
    let broker = place.start();
    let step = |what: &str, outcome| {
        must(what, outcome).unwrap_or_else(|fault| panic!("{fault}\n{}", log_tail(&place.log)));
    };
    step("declaring", storm::declare(broker.addr));
    step("publishing", storm::publish(broker.addr));
    broker.kill();
    let broker = place.start();
    step("looking", storm::check(broker.addr));
    broker.kill();
}

/// Messages that wait, or leave their delay, when the broker is killed, arrive once, and everywhere or nowhere.
#[test]
fn delayed_messages_survive_kills_in_a_row() {
    let place = Place::new();
    let mut random = Random::new(setting("LEVERET_CRASH_SEED").unwrap_or(7));
    let fail = |what: &str, fault: &dyn std::fmt::Display| -> ! { panic!("{what}: {fault}\n{}", log_tail(&place.log)) };
    let step = |what: &str, outcome| must(what, outcome).unwrap_or_else(|fault| fail(what, &fault));
    let mut published = delays::Published::default();
    let broker = place.start();
    step("declaring", delays::declare(broker.addr));
    broker.kill();
    for _ in 0..DELAY_ROUNDS {
        let broker = place.start();
        let (addr, seed) = (broker.addr, random.between(0, u64::MAX - 1));
        let lifetime = Duration::from_millis(random.between(100, 700));
        std::thread::scope(|scope| {
            let client = scope.spawn(|| delays::publish(addr, seed, &mut published));
            std::thread::sleep(lifetime);
            broker.kill();
            match client.join().expect("a publisher does not panic") {
                Err(Stop::Lost) => {}
                other => fail("publishing", &format!("{other:?}")),
            }
        });
    }
    let broker = place.start();
    step("looking", delays::check(broker.addr, &published));
    broker.terminate();
    assert!(published.confirmed.len() >= 100, "too little happened: {}", published.confirmed.len());
}

#[test]
fn a_kill_forgets_no_return() {
    let place = Place::new();
    let mut random = Random::new(setting("LEVERET_CRASH_SEED").unwrap_or(7));
    let broker = place.start();
    let mut counts = must("filling", returns::fill(broker.addr)).expect("the queues are filled");
    broker.kill();
    let mut rounds = 0;
    while !counts.is_empty() {
        rounds += 1;
        assert!(rounds < 100, "these do not go: {counts:?}");
        let broker = place.start();
        let client = must("giving back", returns::give_back_some(broker.addr, &mut counts, &mut random));
        let client = client.unwrap_or_else(|fault| panic!("{fault}\n{}", log_tail(&place.log)));
        broker.kill();
        drop(client);
    }
    assert!(rounds > returns::LIMIT, "each went after {} returns, {rounds} rounds", returns::LIMIT);
}

#[cfg(unix)]
#[test]
fn a_kill_during_a_redrive_neither_loses_nor_doubles_a_message() {
    let place = Place::new();
    let mut random = Random::new(setting("LEVERET_CRASH_SEED").unwrap_or(7));
    let broker = place.start();
    must("filling", redrive::fill(broker.addr)).unwrap_or_else(|fault| panic!("{fault}"));
    broker.kill();
    let (mut back, mut halfway) = (true, 0);
    for _ in 0..REDRIVE_ROUNDS {
        let broker = place.start();
        let moved = redrive::move_and_kill(broker, &place.data, back, &mut random);
        let there = must("moving", moved).unwrap_or_else(|fault| panic!("{fault}\n{}", log_tail(&place.log)));
        halfway += u32::from(there > 0 && there < redrive::MESSAGES);
        // What is left is moved in the next round, or all of it goes the other way.
        back = if there == 0 { !back } else { back };
    }
    let broker = place.start();
    must("looking", redrive::check(broker.addr)).unwrap_or_else(|fault| panic!("{fault}\n{}", log_tail(&place.log)));
    broker.terminate();
    assert!(halfway > 0, "no kill came in the middle of a redrive");
}

#[test]
fn a_stream_keeps_what_was_confirmed_and_what_was_read() {
    let mut trial = Trial::new();
    let mut known = streams::Known::default();
    for _ in 0..STREAM_ROUNDS {
        let broker = trial.place.start();
        let log = &trial.place.log;
        let step =
            |what: &str, outcome| must(what, outcome).unwrap_or_else(|fault| panic!("{fault}\n{}", log_tail(log)));
        step("looking", streams::check(broker.addr, &mut known));
        let lifetime = Duration::from_millis(trial.random.between(STREAM_KILL_MS.0, STREAM_KILL_MS.1));
        step("working", streams::work(broker, lifetime, &mut trial.random, &mut known));
    }
    let broker = trial.place.start();
    must("looking", streams::check(broker.addr, &mut known)).unwrap_or_else(|fault| panic!("{fault}"));
    broker.kill();
}

#[test]
fn a_broker_killed_while_it_makes_its_store_starts_the_next_time() {
    let mut random = Random::new(1);
    let open = |broker: &Broker| {
        let mut client = must("connecting", Client::open(broker.addr, 4096)).expect("the broker serves");
        must("opening a channel", client.open_channel(1)).expect("the broker serves");
        client
    };
    for attempt in 0..24 {
        let place = Place::new();
        for _ in 0..random.between(1, 2) {
            // How soon it comes to its store depends on the machine.
            let micros = if attempt % 2 == 0 { 15_000 } else { 60_000 };
            Broker::start_and_kill(&place.data, &place.log, Duration::from_micros(random.between(0, micros)));
        }
        let broker = place.start();
        let mut client = open(&broker);
        client.send(1, queue::Declare { queue: s("q"), durable: true, ..queue::Declare::default() });
        must("declaring", client.expect("queue.declare-ok")).expect("the broker serves");
        broker.kill();
        let broker = place.start();
        let mut client = open(&broker);
        client.send(1, queue::Declare { queue: s("q"), passive: true, ..queue::Declare::default() });
        must("looking", client.expect("queue.declare-ok")).expect("the queue is there");
        broker.kill();
    }
}

#[test]
fn a_second_broker_on_the_same_data_directory_refuses_and_the_first_goes_on() {
    let place = Place::new();
    let mut first = place.start();
    let mut client = must("connecting", Client::open(first.addr, 4096)).expect("the broker serves");
    must("opening", client.open_channel(1)).expect("the broker serves");

    let second_log = place.data.with_file_name("second.log");
    let (status, output) = Launch::new(&place.data, &second_log).start_in_vain();
    assert!(!status.success(), "the second broker ends with {status}:\n{output}");
    let data_dir = place.data.to_str().expect("a path in UTF-8");
    let complaint = output.lines().find(|line| line.starts_with("leveret: "));
    assert!(complaint.is_some_and(|line| line.contains(data_dir)), "no complaint about {data_dir} in:\n{output}");
    assert!(!output.contains("panicked"), "{output}");

    assert!(first.is_running());
    client.send(1, queue::Declare { queue: s("q"), durable: true, ..queue::Declare::default() });
    must("declaring", client.expect("queue.declare-ok")).expect("the first broker goes on");
    drop(client);
    first.terminate();
    assert!(Path::new(&place.data).join("leveret.redb").exists());
    // Nothing was damaged.
    let broker = place.start();
    assert!(broker.clean_start);
    let mut client = must("connecting", Client::open(broker.addr, 4096)).expect("the broker serves");
    must("opening", client.open_channel(1)).expect("the broker serves");
    client.send(1, queue::Declare { queue: s("q"), passive: true, ..queue::Declare::default() });
    must("looking", client.expect("queue.declare-ok")).expect("the queue is there");
    broker.terminate();
}

#[test]
fn sigterm_tells_clients_and_ends_with_success() {
    let place = Place::new();
    let broker = place.start();
    let mut clients: Vec<Client> = Vec::new();
    for channels in 0..3 {
        let mut client = must("connecting", Client::open(broker.addr, 4096)).expect("the broker serves");
        for channel in 1..=channels {
            must("opening", client.open_channel(channel)).expect("the broker serves");
        }
        clients.push(client);
    }
    broker.send_sigterm();
    for client in &mut clients {
        let told: Result<Method, Stop> = client.call();
        // Only connection.close 320 with RabbitMQ's text is a shutdown to the client.
        assert!(matches!(told, Err(Stop::ShutDown)), "a client is told {told:?}");
    }
    broker.wait_for_end();
}
