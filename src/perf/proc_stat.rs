//! What processes cost, as Linux counts it in `/proc`.
//!
//! The time of a process includes that of its threads, ended ones too, and of children it has waited for; living children
//! are added here. Not here: other systems, where nothing can be read and nothing is reported.

use std::collections::BTreeSet;
use std::iter::Sum;
use std::ops::Sub;
use std::{fs, io};

use super::error::PerfError;

/// Ticks of CPU time in a second: `USER_HZ`, which is 100 on every architecture that Rust's standard library runs on.
const TICK_US: u64 = 10_000;

/// CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In the programs themselves, in µs.
    pub user_us: u64,
    /// In the kernel on their behalf, in µs.
    pub system_us: u64,
}

impl CpuTime {
    /// Both in µs.
    pub const fn total_us(self) -> u64 {
        self.user_us + self.system_us
    }
}

impl Sub for CpuTime {
    type Output = Self;

    /// The time since an earlier one; not negative when a process has gone in between.
    fn sub(self, earlier: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
        }
    }
}

impl Sum for CpuTime {
    fn sum<I: Iterator<Item = Self>>(times: I) -> Self {
        times.fold(Self::default(), |sum, time| Self {
            user_us: sum.user_us + time.user_us,
            system_us: sum.system_us + time.system_us,
        })
    }
}

/// Memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The most that was ever resident (`VmHWM`).
    pub high_water_kib: u64,
    /// What is resident.
    pub resident_kib: u64,
    /// What of it belongs to no file.
    pub anonymous_kib: u64,
}

impl Memory {
    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            high_water_kib: self.high_water_kib.max(other.high_water_kib),
            resident_kib: self.resident_kib.max(other.resident_kib),
            anonymous_kib: self.anonymous_kib.max(other.anonymous_kib),
        }
    }
}

impl Sum for Memory {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            high_water_kib: sum.high_water_kib + part.high_water_kib,
            resident_kib: sum.resident_kib + part.resident_kib,
            anonymous_kib: sum.anonymous_kib + part.anonymous_kib,
        })
    }
}

/// CPU time of this process so far; zero where there is no `/proc`.
pub fn own_cpu_time() -> CpuTime {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    stat.and_then(|text| Stat::parse(&text)).map(|stat| stat.cpu).unwrap_or_default()
}

/// CPU time of one process so far, without its children that live; none if it is gone.
pub fn cpu_time(pid: u32) -> Option<CpuTime> {
    Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|stat| stat.cpu)
}

/// CPU time of those threads of this process whose names begin so.
pub fn own_threads_cpu_time(name: &str) -> CpuTime {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    let is_meant = |line: &String| line.split_once('(').is_some_and(|(_, found)| found.starts_with(name));
    stats.filter(is_meant).filter_map(|line| Stat::parse(&line)).map(|stat| stat.cpu).sum()
}

/// Memory of one process; zeros if it is gone.
pub fn memory(pid: u32) -> Memory {
    fs::read_to_string(format!("/proc/{pid}/status")).map(|text| parse_memory(&text)).unwrap_or_default()
}

/// Has the system forget the most that was resident of a process ([`Memory::high_water_kib`]).
pub fn forget_high_water(pid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// CPU time so far and memory now of a process and its descendants.
pub fn tree_usage(pid: u32) -> Result<(CpuTime, Memory), PerfError> {
    let failed = |source| PerfError::BrokerProcess { pid, source };
    let processes = processes().map_err(failed)?;
    let tree = descendants(pid, &processes);
    if tree.is_empty() {
        return Err(failed(io::ErrorKind::NotFound.into()));
    }
    let cpu = processes.iter().filter(|process| tree.contains(&process.pid)).map(|process| process.stat.cpu).sum();
    Ok((cpu, tree.into_iter().map(memory).sum()))
}

/// A process that was there a moment ago.
#[derive(Clone, Copy, Debug)]
struct Process {
    pid: u32,
    stat: Stat,
}

fn processes() -> io::Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended since is no longer a process.
        if let Some(stat) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|text| Stat::parse(&text)) {
            processes.push(Process { pid, stat });
        }
    }
    Ok(processes)
}

/// A process, its children, theirs, and so on; nothing if there is no such process.
fn descendants(root: u32, processes: &[Process]) -> BTreeSet<u32> {
    let mut tree: BTreeSet<u32> = processes.iter().map(|process| process.pid).filter(|&pid| pid == root).collect();
    loop {
        let known = tree.len();
        for process in processes {
            if tree.contains(&process.stat.parent) {
                tree.insert(process.pid);
            }
        }
        if tree.len() == known {
            return tree;
        }
    }
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    cpu: CpuTime,
}

impl Stat {
    /// Parses the line; the name in it, in parentheses, may contain anything.
    fn parse(line: &str) -> Option<Self> {
        let (_, fields) = line.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let [user, system, children_user, children_system] = [number(11)?, number(12)?, number(13)?, number(14)?];
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            cpu: CpuTime { user_us: (user + children_user) * TICK_US, system_us: (system + children_system) * TICK_US },
        })
    }
}

/// Parses `/proc/PID/status`; what it does not say (of a kernel thread) is 0.
fn parse_memory(status: &str) -> Memory {
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
    };
    Memory { high_water_kib: kib("VmHWM"), resident_kib: kib("VmRSS"), anonymous_kib: kib("RssAnon") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line =
            "3833 (beam) smp (x) S 3827 3833 3833 0 -1 4194304 156835 199 3 0 1074 354 20 5 20 0 20 0 71290 1 2 3";
        let cpu = CpuTime { user_us: 10_940_000, system_us: 3_590_000 };
        assert_eq!(Stat::parse(line), Some(Stat { parent: 3827, cpu }));
        assert_eq!(Stat::parse("1 (init) S 0 1"), None);
    }

    #[test]
    fn memory_is_found_by_name() {
        let status = "Name:\tbeam\nVmHWM:\t  141252 kB\nVmRSS:\t  141000 kB\nRssAnon:\t     99 kB\nThreads:\t26\n";
        let memory = Memory { high_water_kib: 141_252, resident_kib: 141_000, anonymous_kib: 99 };
        assert_eq!(parse_memory(status), memory);
        assert_eq!(parse_memory("Name:\tkthreadd\n"), Memory::default());
    }

    #[test]
    fn a_tree_holds_children_of_children_in_any_order() {
        let process = |pid, parent| Process { pid, stat: Stat { parent, cpu: CpuTime { user_us: 1, system_us: 1 } } };
        let processes = [process(9, 7), process(7, 5), process(5, 1), process(6, 1), process(1, 0)];
        assert_eq!(descendants(5, &processes), BTreeSet::from([5, 7, 9]));
        assert_eq!(descendants(4, &processes), BTreeSet::new());
    }

    #[test]
    fn the_most_that_was_resident_can_be_forgotten() {
        let own = std::process::id();
        drop(std::hint::black_box(vec![1_u8; 64 << 20]));
        let before = memory(own).high_water_kib;
        forget_high_water(own).expect("this process may forget");
        assert!(memory(own).high_water_kib < before);
        assert_eq!(own_threads_cpu_time("no thread has this name"), CpuTime::default());
        assert!(cpu_time(own).is_some());
    }

    #[test]
    fn this_process_can_be_read() {
        let (_, memory) = tree_usage(std::process::id()).expect("this process is there");
        assert!(memory.resident_kib > 0 && memory.high_water_kib >= memory.resident_kib);
    }
}
