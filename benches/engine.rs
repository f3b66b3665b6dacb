//! What the engine and the codec cost: `cargo bench --bench engine`. Prints times and asserts nothing; `counts` counts the
//! instructions of the same pieces of work.

#[path = "support/cases.rs"]
mod cases;

use cases::{CASES, Case};
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

#[divan::bench(args = CASES)]
fn engine(bencher: Bencher<'_, '_>, case: &Case) {
    bencher.counter(ItemsCount::new(case.items)).bench_local((case.prepare)());
}
