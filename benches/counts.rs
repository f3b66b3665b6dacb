//! How many instructions the broker's pieces of work take: `cargo bench --bench counts`. Needs `valgrind`.
//!
//! Each piece of work of `support/cases.rs` is done under callgrind, in a process of its own: once to warm up, then some times
//! that are counted. Printed are the instructions for an item, and the change against `counts.baseline`, if there is one;
//! other loads on the machine change nothing, other compilers and C libraries some. Words after `--` pick the cases whose names
//! contain them; `--save` writes the baseline; `--where` also tells in which functions the instructions are.
//!
//! No harness crate: gungraun, which is well kept, brings fifteen crates to every build of the tests, and a runner of the same
//! version that has to be installed; what is needed of it is the line below that starts callgrind.
#![expect(clippy::cast_precision_loss, reason = "a benchmark prints averages")]

#[path = "support/cases.rs"]
mod cases;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cases::{CASES, Case};

/// Times that are counted.
const TIMES: u32 = 16;
/// The option with which this program starts itself.
const ONE: &str = "--one";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [option, name] = &arguments[..]
        && option == ONE
    {
        return do_one(name);
    }
    if !Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("there is no valgrind: install it (Debian's package has this name)");
        return;
    }
    let (options, words): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|argument| argument.starts_with("--"));
    let has = |option: &str| options.iter().any(|given| given == option);
    let mut baseline = Baseline::read();
    println!("{:<44} {:>12} {:>12} {:>9}", "instructions for an item", "now", "baseline", "change");
    for case in
        CASES.iter().filter(|case| words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str())))
    {
        let out = tempfile::NamedTempFile::new().expect("a file");
        let now = count(case, out.path());
        let before = baseline.counts.get(case.name).copied();
        let change =
            before.map_or_else(|| "new".to_owned(), |before| format!("{:+.1} %", 100.0 * (now / before - 1.0)));
        let before = before.map_or_else(|| "-".to_owned(), |before| format!("{before:.1}"));
        println!("{:<44} {now:>12.1} {before:>12} {change:>9}", case.name);
        if has("--where") {
            tell_where(out.path());
        }
        baseline.counts.insert(case.name.to_owned(), now);
    }
    if has("--save") {
        baseline.write();
    }
}

/// Does a piece of work, as it is to be counted.
fn do_one(name: &str) {
    let case = CASES.iter().find(|case| case.name == name).expect("a case of this name");
    let mut work = (case.prepare)();
    work();
    for _ in 0..TIMES {
        collected(&mut *work);
    }
}

/// What callgrind collects; it knows this function by its name.
#[inline(never)]
fn collected(work: &mut dyn FnMut()) {
    work();
    // Whatever follows keeps the call above from being a jump out of here.
    std::hint::black_box(());
}

/// Instructions for an item.
fn count(case: &Case, out: &Path) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counts*collected*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("this program"))
        .args([ONE, case.name])
        .output()
        .expect("valgrind starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<u64>().ok());
    let collected = collected.unwrap_or_else(|| panic!("{}: {said}", case.name));
    collected as f64 / f64::from(TIMES) / f64::from(case.items)
}

/// Prints the functions that take most.
fn tell_where(out: &Path) {
    let output = Command::new("callgrind_annotate").arg(out).output().expect("valgrind comes with it");
    let said = String::from_utf8_lossy(&output.stdout);
    let functions = said.lines().skip_while(|line| !line.contains("PROGRAM TOTALS")).skip(1);
    let functions = functions.filter(|line| line.contains('(') && !line.contains("file:function")).take(12);
    functions.for_each(|line| println!("    {}", line.trim()));
}

/// The counts that are checked in.
struct Baseline {
    path: PathBuf,
    counts: BTreeMap<String, f64>,
}

impl Baseline {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/counts.baseline");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let line = |line: &str| {
            let (count, name) = line.trim().split_once(' ')?;
            Some((name.to_owned(), count.parse().ok()?))
        };
        Self { path, counts: text.lines().filter_map(line).collect() }
    }

    fn write(&self) {
        let lines = self.counts.iter().map(|(name, count)| format!("{count:>12.1} {name}\n"));
        std::fs::write(&self.path, lines.collect::<String>()).expect("the baseline can be written");
    }
}
