//! A run: which scenarios, against what, and what came of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::compare::judge;
use crate::leveret::Leveret;
use crate::oracle::{Oracle, OracleControl};
use crate::releases::ROWS;
use crate::script::{Scenario, Theme};
use crate::session::{self, Transcript};

/// How often a scenario is said again in which the brokers differed.
const RETRIES: usize = 4;

/// What to run and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program to test.
    pub leveret: PathBuf,
    /// The folder of the scenarios.
    pub scenarios: PathBuf,
    /// Where differences that are accepted are listed.
    pub deviations: PathBuf,
    /// Only scenarios whose label contains one of these texts; all if there is none.
    pub filters: Vec<String>,
    /// A RabbitMQ that runs already.
    pub oracle: Option<std::net::SocketAddr>,
    /// What does as rabbitmqctl does for that one.
    pub oracle_ctl: Option<String>,
    /// Whether it is a failure that there is no RabbitMQ.
    pub requires_oracle: bool,
    /// How many sessions are held at once with each broker.
    pub jobs: usize,
    /// Whether to show what both said instead of judging it.
    pub records: bool,
    /// Whether to run what Leveret is known not to do yet.
    pub pending: bool,
}

impl Options {
    /// How many sessions are usually held at once.
    pub const JOBS: usize = 16;

    /// All scenarios of this repository against this program.
    pub fn of_repository(leveret: PathBuf) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self {
            leveret,
            scenarios: here.join("scenarios"),
            deviations: here.join("../../docs/deviations.md"),
            filters: Vec::new(),
            oracle: None,
            oracle_ctl: None,
            requires_oracle: std::env::var("LEVERET_REQUIRE_ORACLE").is_ok_and(|required| required == "1"),
            jobs: Self::JOBS,
            records: false,
            pending: false,
        }
    }
}

/// What came of a scenario.
struct Outcome {
    wrong: Vec<String>,
    /// It was well only when it was tried again.
    is_unsteady: bool,
    transcripts: (Option<Transcript>, Transcript),
}

/// Runs the scenarios and prints what came of them; whether all is well.
pub fn run(options: &Options) -> Result<bool, String> {
    let started = Instant::now();
    let themes = read_themes(options)?;
    let is_wanted = |scenario: &&Scenario| {
        let label = scenario.label();
        options.filters.is_empty() || options.filters.iter().any(|filter| label.contains(filter))
    };
    let scenarios: Vec<&Scenario> = themes.iter().flat_map(|theme| &theme.scenarios).filter(is_wanted).collect();
    if scenarios.is_empty() {
        return Err("no scenario is called that".to_owned());
    }
    let mut wrong = check_deviations(options, &themes)?;
    let Some(oracle) = find_oracle(options)? else {
        println!("skip: there is no RabbitMQ (Debian's package rabbitmq-server); nothing is compared");
        return Ok(true);
    };
    println!("{} scenarios; the oracle is {}", scenarios.len(), oracle.version());

    let bench = Bench { options, oracle: &oracle, made: AtomicUsize::new(0) };
    let outcomes = bench.run_all(&scenarios);
    if options.records {
        for (scenario, outcome) in scenarios.iter().zip(&outcomes) {
            show_transcripts(scenario, outcome);
        }
    }
    for (scenario, outcome) in scenarios.iter().zip(&outcomes) {
        if !outcome.wrong.is_empty() {
            wrong.push(format!("FAIL {}\n    {}", scenario.label(), outcome.wrong.join("\n    ")));
        }
    }
    for failure in &wrong {
        println!("{failure}");
    }
    summarize(&scenarios, &outcomes);
    println!("{} s", started.elapsed().as_secs());
    Ok(wrong.is_empty())
}

fn read_themes(options: &Options) -> Result<Vec<Theme>, String> {
    let mut folders = vec![options.scenarios.clone()];
    if options.pending {
        folders.push(options.scenarios.join("pending"));
    }
    let mut paths = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(&folder).map_err(|cause| format!("{}: {cause}", folder.display()))?;
        paths.extend(entries.flatten().map(|entry| entry.path()).filter(|path| is_scenarios(path)));
    }
    paths.sort();
    paths.iter().map(|path| Theme::read(path)).collect()
}

fn is_scenarios(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "amqp")
}

/// Each scenario that differs names rows of the list of deviations, and each such row has its scenario.
fn check_deviations(options: &Options, themes: &[Theme]) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(&options.deviations)
        .map_err(|cause| format!("{}: {cause}", options.deviations.display()))?;
    let mut rows: BTreeMap<&str, bool> = BTreeMap::new();
    for part in text.split("`diff:").skip(1) {
        let id = part.split('`').next().unwrap_or_default();
        rows.insert(id, ROWS.contains(&id));
    }
    let mut wrong = Vec::new();
    let unknown = ROWS.iter().filter(|id| !rows.contains_key(**id));
    wrong.extend(unknown.map(|id| format!("FAIL no row of the deviations has `diff:{id}`")));
    for scenario in themes.iter().flat_map(|theme| &theme.scenarios) {
        for id in &scenario.deviations {
            match rows.get_mut(id.as_str()) {
                Some(is_used) => *is_used = true,
                None => wrong.push(format!("FAIL {}: no row of the deviations has `diff:{id}`", scenario.label())),
            }
        }
        if scenario.deviations.is_empty() != scenario.differences.is_empty() {
            wrong.push(format!("FAIL {}: differences and deviations belong together", scenario.label()));
        }
    }
    if !options.pending {
        let unused = rows.iter().filter(|(_, is_used)| !**is_used);
        wrong.extend(unused.map(|(id, _)| format!("FAIL no scenario shows the deviation `diff:{id}`")));
    }
    Ok(wrong)
}

fn find_oracle(options: &Options) -> Result<Option<Oracle>, String> {
    if let Some(addr) = options.oracle {
        let oracle = Oracle::running(addr, options.oracle_ctl.clone());
        if !oracle.can_be_controlled() {
            return Err("--oracle needs --oracle-ctl: vhosts are made for the scenarios".to_owned());
        }
        return Ok(Some(oracle));
    }
    if Oracle::is_installed() {
        return Oracle::start().map(Some);
    }
    if options.requires_oracle {
        return Err("there is no RabbitMQ: install Debian's package rabbitmq-server".to_owned());
    }
    Ok(None)
}

struct Bench<'a> {
    options: &'a Options,
    oracle: &'a Oracle,
    /// How many vhosts have been made.
    made: AtomicUsize,
}

impl Bench<'_> {
    /// Those that only wait begin first and run side by side; then those that restart the oracle, at the same time; then,
    /// one after the other, those that nothing may run beside.
    fn run_all(&self, scenarios: &[&Scenario]) -> Vec<Outcome> {
        let outcomes: Mutex<BTreeMap<usize, Outcome>> = Mutex::new(BTreeMap::new());
        let keep = |index: usize, outcome: Outcome| {
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(index, outcome);
        };
        let indexes = |wanted: &dyn Fn(&Scenario) -> bool| -> Vec<usize> {
            (0..scenarios.len()).filter(|&index| wanted(scenarios[index])).collect()
        };
        let mut side_by_side = indexes(&|scenario| !scenario.restarts() && !scenario.alone);
        side_by_side.sort_by_key(|&index| std::cmp::Reverse(scenarios[index].idle()));
        self.run_side_by_side(&side_by_side, self.options.jobs, scenarios, &keep);

        let restarting = indexes(&|scenario| scenario.restarts());
        let with_oracle = restarting.iter().filter(|&&index| scenarios[index].only_leveret.is_none()).count();
        self.oracle.expect_restarts(with_oracle);
        self.run_side_by_side(&restarting, restarting.len(), scenarios, &keep);
        for index in indexes(&|scenario| scenario.alone && !scenario.restarts()) {
            keep(index, self.run_one(scenarios[index]));
        }

        let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (index, outcome) in &mut outcomes {
            let scenario = scenarios[*index];
            // Some depend on when RabbitMQ notices an alarm: a difference that is one shows each time.
            for _ in 0..RETRIES {
                if outcome.wrong.is_empty() || scenario.restarts() {
                    break;
                }
                let again = self.run_one(scenario);
                *outcome = Outcome { is_unsteady: again.wrong.is_empty(), ..again };
            }
        }
        outcomes.into_values().collect()
    }

    fn run_side_by_side(
        &self,
        indexes: &[usize],
        jobs: usize,
        scenarios: &[&Scenario],
        keep: &(impl Fn(usize, Outcome) + Sync),
    ) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..jobs.min(indexes.len()) {
                scope.spawn(|| {
                    while let Some(&index) = indexes.get(next.fetch_add(1, Ordering::Relaxed)) {
                        keep(index, self.run_one(scenarios[index]));
                    }
                });
            }
        });
    }

    /// Says a scenario to both brokers at the same time.
    fn run_one(&self, scenario: &Scenario) -> Outcome {
        let vhost = format!("vh{:05}", self.made.fetch_add(1, Ordering::Relaxed));
        let (oracle, leveret) = std::thread::scope(|scope| {
            let oracle = scenario.only_leveret.is_none().then(|| scope.spawn(|| self.ask_oracle(scenario, &vhost)));
            let leveret = self.ask_leveret(scenario, &vhost);
            let join = |handle: std::thread::ScopedJoinHandle<'_, _>| {
                handle.join().unwrap_or_else(|_| Err("the harness panicked".to_owned()))
            };
            (oracle.map(join), leveret)
        });
        let mut wrong = Vec::new();
        let mut unpack = |side: &str, result: Result<Transcript, String>| {
            result.unwrap_or_else(|cause| {
                wrong.push(format!("{side}: {cause}"));
                Transcript::new()
            })
        };
        let oracle = oracle.map(|result| unpack("RabbitMQ", result));
        let leveret = unpack("Leveret", leveret);
        if wrong.is_empty() {
            wrong = judge(scenario, oracle.as_ref(), &leveret);
        }
        Outcome { wrong, is_unsteady: false, transcripts: (oracle, leveret) }
    }

    fn ask_oracle(&self, scenario: &Scenario, vhost: &str) -> Result<Transcript, String> {
        let outcome = self.oracle.add_vhost(vhost).and_then(|()| {
            let mut control = OracleControl { oracle: self.oracle, vhost: vhost.to_owned() };
            session::run(scenario, &mut control)
        });
        if scenario.restarts() {
            self.oracle.leave_restarts();
        }
        self.oracle.delete_vhost(vhost);
        outcome
    }

    fn ask_leveret(&self, scenario: &Scenario, vhost: &str) -> Result<Transcript, String> {
        let mut leveret = Leveret::start(&self.options.leveret, vhost)?;
        let transcript = session::run(scenario, &mut leveret)?;
        leveret.stop()?;
        Ok(transcript)
    }
}

fn show_transcripts(scenario: &Scenario, outcome: &Outcome) {
    println!("{}", scenario.label());
    if let Some(oracle) = &outcome.transcripts.0 {
        for line in crate::compare::diff(oracle, &outcome.transcripts.1) {
            println!("    {}", line.show());
        }
    } else {
        for line in &outcome.transcripts.1 {
            println!("    {line}");
        }
    }
}

fn summarize(scenarios: &[&Scenario], outcomes: &[Outcome]) {
    let mut rows: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    let mut total = [0; 4];
    for (scenario, outcome) in scenarios.iter().zip(outcomes) {
        let row = rows.entry(&scenario.theme).or_default();
        let marks = [true, !scenario.differences.is_empty(), outcome.is_unsteady, !outcome.wrong.is_empty()];
        for (place, mark) in marks.into_iter().enumerate() {
            row[place] += usize::from(mark);
            total[place] += usize::from(mark);
        }
        if outcome.is_unsteady {
            println!("unsteady: {}", scenario.label());
        }
    }
    println!("{:20} {:>9} {:>9} {:>9} {:>9}", "theme", "scenarios", "deviate", "unsteady", "failed");
    for (name, row) in rows.into_iter().chain([("all", total)]) {
        let [ran, deviate, unsteady, failed] = row;
        println!("{name:20} {ran:>9} {deviate:>9} {unsteady:>9} {failed:>9}");
    }
}
