//! The whole broker in a simulated world: virtual time, a network of octets, a disk that forgets.
//!
//! The broker is the real one: connection tasks, queues, registry, the store's writer and reader on redb. Simulated are the
//! sockets, the disk under redb, the clock, and who runs when: one thread takes one step after the other, as a seeded
//! generator says. Clients publish, confirm, transact, consume, and go wrong in all the ways that `faults` knows; the
//! bookkeeper in `invariants` says what must not happen.
//!
//! A seed that fails is printed. `LEVERET_SIM_SEED` runs one seed (`LEVERET_SIM_LOG=1` shows everything that happens),
//! `LEVERET_SIM_ROUNDS` so many fresh ones (from `LEVERET_SIM_FIRST` on, if it is set), `LEVERET_SIM_STEPS` cuts the history
//! after so many steps.
//!
//! Not here: threads. A connection's turn is one step; only what it submits to the store may come late (`late`).

mod acts;
mod client;
pub(crate) mod disk;
mod entities;
mod faults;
mod invariants;
mod late;
mod log;
mod plan;
mod queues;
pub(crate) mod random;
mod wire;
mod world;

use std::thread;

use invariants::Counts;
use world::Ended;

/// Seeds that every run of the tests tries. CI tries more: see `.ci/run`.
const SEEDS: u64 = 25;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Runs a seed in a thread that has its name, so that a panic tells it.
fn simulate(seed: u64) -> Ended {
    let steps = number("LEVERET_SIM_STEPS").unwrap_or(u64::MAX);
    let loud = std::env::var_os("LEVERET_SIM_LOG").is_some();
    let thread = thread::Builder::new().name(format!("LEVERET_SIM_SEED={seed}"));
    let running = thread.spawn(move || world::run(seed, steps, loud)).expect("a thread");
    running.join().unwrap_or_else(|_| panic!("LEVERET_SIM_SEED={seed} fails"))
}

fn check(seed: u64) -> Counts {
    let Ended { violation, counts, .. } = simulate(seed);
    if let Some(violation) = violation {
        panic!("{violation}\n--- again with LEVERET_SIM_SEED={seed} cargo test --lib sim::");
    }
    counts
}

#[test]
fn nothing_that_was_promised_is_broken_by_any_fault() {
    if let Some(seed) = number("LEVERET_SIM_SEED") {
        check(seed);
        return;
    }
    let mut sum = Counts::default();
    for seed in 0..SEEDS {
        sum.add(&check(seed));
    }
    println!("{sum:?}");
    let Counts { confirmed, refused, committed, defined, redelivered, dead, drained, crashes, restarts, .. } = sum;
    for count in [confirmed, refused, committed, defined, redelivered, dead, drained, crashes, restarts] {
        assert!(count > 10, "too little happens: {sum:?}");
    }
    let rounds = number("LEVERET_SIM_ROUNDS").unwrap_or(0);
    let first =
        number("LEVERET_SIM_FIRST").unwrap_or_else(|| if rounds > 0 { crate::server::clock::seed() } else { 0 });
    for round in 0..rounds {
        check(first.wrapping_add(round));
    }
}

#[test]
fn one_seed_gives_one_history() {
    for seed in 1000..1005 {
        let (once, again) = (simulate(seed), simulate(seed));
        assert_eq!(once.hash, again.hash, "seed {seed} gave two histories");
    }
}
