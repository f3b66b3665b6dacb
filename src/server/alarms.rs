//! Resource alarms: memory and free disk space (RabbitMQ extension).
//!
//! A monitor measures both. While the process uses more memory than its limit, or the data directory's disk has less space
//! than its own, an alarm is in effect and connections that publish are blocked (`connection`). It ends as soon as the
//! figure is back within its limit; connections are woken when the last one ended.
//!
//! Memory is the process's resident set: what the system counts when it looks for a process to end. So what is freed must
//! be given back to the system; the binary's allocator does that within ten seconds.
//!
//! Connections read one atomic a turn. The lock is a leaf and held for the comparison only.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::registry::Registry;
use crate::config::{DataDir, Limit, ResourceLimits};

/// What memory and disk are taken to fill up with at most, in octets a second: the nearer a limit, the sooner the next look.
const FILLS_PER_SECOND: u64 = 1024 * 1024 * 1024;
/// Shortest time between two looks.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(100);

/// Something that can run low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Space on the disk of the data directory.
    Disk,
    /// Memory of the process.
    Memory,
}

impl Resource {
    const ALL: [Self; 2] = [Self::Disk, Self::Memory];

    const fn bit(self) -> u8 {
        match self {
            Self::Disk => 1,
            Self::Memory => 2,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
        })
    }
}

/// What was measured last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Octets of memory that the process uses.
    pub memory_used: u64,
    /// Octets of memory that there are for it.
    pub memory_total: u64,
    /// Octets that are free on the disk of the data directory; `None` without one, or if it cannot be asked.
    pub disk_free: Option<u64>,
}

/// How the broker's resources stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceStatus {
    /// What was measured last.
    pub levels: Levels,
    /// Octets of memory that the process may use.
    pub memory_limit: u64,
    /// Octets that must be free on the disk.
    pub disk_free_limit: u64,
    /// What runs low.
    pub alarms: Vec<Resource>,
}

#[derive(Debug)]
struct State {
    limits: ResourceLimits,
    levels: Levels,
}

impl State {
    fn memory_limit(&self) -> u64 {
        self.limits.memory.octets(self.levels.memory_total)
    }

    fn disk_free_limit(&self) -> u64 {
        self.limits.disk_free.octets(self.levels.memory_total)
    }

    fn is_low(&self, resource: Resource) -> bool {
        match resource {
            Resource::Memory => self.levels.memory_used > self.memory_limit(),
            Resource::Disk => self.levels.disk_free.is_some_and(|free| free < self.disk_free_limit()),
        }
    }

    /// Octets until the next limit is met, from whichever side.
    fn distance(&self) -> u64 {
        let memory = self.levels.memory_used.abs_diff(self.memory_limit());
        let disk = self.levels.disk_free.map_or(u64::MAX, |free| free.abs_diff(self.disk_free_limit()));
        memory.min(disk)
    }
}

/// The alarms in effect, and the limits that cause them.
#[derive(Debug)]
pub(crate) struct Alarms {
    in_effect: AtomicU8,
    state: Mutex<State>,
    limits_changed: Notify,
}

impl Alarms {
    pub(super) fn new(limits: ResourceLimits) -> Self {
        Self {
            in_effect: AtomicU8::new(0),
            state: Mutex::new(State { limits, levels: Levels::default() }),
            limits_changed: Notify::new(),
        }
    }

    /// Whether any alarm is in effect.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.in_effect.load(Ordering::Relaxed) != 0
    }

    fn list(&self) -> Vec<Resource> {
        let in_effect = self.in_effect.load(Ordering::Acquire);
        Resource::ALL.into_iter().filter(|resource| in_effect & resource.bit() != 0).collect()
    }

    /// What connection.blocked says: `low on memory`, `low on disk & memory`.
    pub(super) fn reason(&self) -> String {
        let names: Vec<String> = self.list().iter().map(Resource::to_string).collect();
        format!("low on {}", names.join(" & "))
    }

    fn status(&self) -> ResourceStatus {
        let state = self.state.lock();
        ResourceStatus {
            levels: state.levels,
            memory_limit: state.memory_limit(),
            disk_free_limit: state.disk_free_limit(),
            alarms: self.list(),
        }
    }

    /// Applies new levels or limits; true if that ended the last alarm.
    fn update(&self, change: impl FnOnce(&mut State)) -> bool {
        let mut state = self.state.lock();
        change(&mut state);
        let before = self.in_effect.load(Ordering::Relaxed);
        let mut now = 0;
        for resource in Resource::ALL {
            let low = state.is_low(resource);
            if low {
                now |= resource.bit();
            }
            if low != (before & resource.bit() != 0) {
                report(resource, low, &state);
            }
        }
        self.in_effect.store(now, Ordering::Release);
        before != 0 && now == 0
    }
}

fn report(resource: Resource, low: bool, state: &State) {
    let (used, free) = (state.levels.memory_used, state.levels.disk_free.unwrap_or_default());
    let (memory_limit, disk_free_limit) = (state.memory_limit(), state.disk_free_limit());
    match (resource, low) {
        (Resource::Memory, true) => {
            warn!(used, limit = memory_limit, "memory alarm: connections that publish are blocked");
        }
        (Resource::Memory, false) => info!(used, limit = memory_limit, "memory alarm cleared"),
        (Resource::Disk, true) => {
            warn!(free, limit = disk_free_limit, "disk alarm: connections that publish are blocked");
        }
        (Resource::Disk, false) => info!(free, limit = disk_free_limit, "disk alarm cleared"),
    }
}

impl Registry {
    /// How memory and disk stand, and the alarms in effect.
    pub(crate) fn resource_status(&self) -> ResourceStatus {
        self.alarms.status()
    }

    /// Sets the memory that the process may use (`set_vm_memory_high_watermark`); in effect at once, until a restart.
    pub(crate) fn set_memory_limit(&self, limit: Limit) {
        info!(?limit, "memory limit set");
        self.change_live(|live| {
            live.resource_limits.memory = limit;
            live.set_by_operator("vm_memory_high_watermark");
        });
    }

    /// Sets the space that must be free on the disk (`set_disk_free_limit`); in effect at once, until a restart.
    pub(crate) fn set_disk_free_limit(&self, limit: Limit) {
        info!(?limit, "limit of free disk space set");
        self.change_live(|live| {
            live.resource_limits.disk_free = limit;
            live.set_by_operator("disk_free_limit");
        });
    }

    /// Lets other limits count at once.
    pub(super) fn limit_resources(&self, limits: ResourceLimits) {
        self.update_alarms(|state| state.limits = limits);
        self.alarms.limits_changed.notify_one();
    }

    fn update_alarms(&self, change: impl FnOnce(&mut State)) {
        if self.alarms.update(change) {
            self.wake_connections();
        }
    }
}

/// Asks the system how much memory the process uses and how much space a disk has.
#[derive(Debug)]
pub(super) struct Meter {
    system: System,
    this: Option<Pid>,
    total_memory: u64,
    data_dir: Option<PathBuf>,
    /// The disk could not be asked; said once.
    disk_failed: bool,
}

impl Meter {
    pub(super) fn new(data_dir: &DataDir, total_memory: Option<u64>) -> Self {
        let mut system = System::new();
        system.refresh_memory();
        let machine = system.total_memory();
        let available = system.cgroup_limits().map_or(machine, |group| group.total_memory.min(machine));
        let this = sysinfo::get_current_pid().inspect_err(|cause| warn!(%cause, "memory cannot be measured")).ok();
        let data_dir = match data_dir {
            DataDir::Ephemeral => None,
            DataDir::Path(path) => Some(path.clone()),
        };
        Self { system, this, total_memory: total_memory.unwrap_or(available), data_dir, disk_failed: false }
    }

    fn measure(&mut self) -> Levels {
        let disk_free = self.data_dir.clone().and_then(|path| self.disk_free(&path));
        Levels { memory_used: self.memory_used(), memory_total: self.total_memory, disk_free }
    }

    fn memory_used(&mut self) -> u64 {
        let Some(this) = self.this else { return 0 };
        let what = ProcessRefreshKind::nothing().with_memory();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[this]), false, what);
        self.system.process(this).map_or(0, sysinfo::Process::memory)
    }

    fn disk_free(&mut self, path: &Path) -> Option<u64> {
        match fs4::available_space(path) {
            Ok(free) => {
                self.disk_failed = false;
                Some(free)
            }
            Err(cause) => {
                if !std::mem::replace(&mut self.disk_failed, true) {
                    warn!(path = %path.display(), %cause, "free disk space cannot be measured: no disk alarm");
                }
                None
            }
        }
    }
}

/// The first look at memory and disk, before anybody can publish.
pub(super) fn look(registry: &Registry, meter: &mut Meter) {
    let levels = meter.measure();
    registry.update_alarms(|state| state.levels = levels);
}

/// Looks at memory and disk again and again, until the task is aborted.
pub(super) async fn run(registry: Arc<Registry>, mut meter: Meter) {
    loop {
        let pause = pause(registry.alarms.state.lock().distance(), registry.live().monitor_interval);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = registry.alarms.limits_changed.notified() => {}
        }
        let at_work = registry.clone();
        // A disk may take its time to answer.
        let looked = tokio::task::spawn_blocking(move || {
            look(&at_work, &mut meter);
            meter
        });
        match looked.await {
            Ok(back) => meter = back,
            // The runtime ends.
            Err(_) => return,
        }
    }
}

/// How long until the next look, with so many octets to go to a limit.
fn pause(distance: u64, longest: Duration) -> Duration {
    let soon = Duration::from_millis(distance.saturating_mul(1000) / FILLS_PER_SECOND);
    soon.max(LOOK_AGAIN_MIN).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Share;

    fn alarms(memory: u64, disk_free: u64) -> Alarms {
        let limits = ResourceLimits {
            memory: Limit::Octets(memory),
            disk_free: Limit::Octets(disk_free),
            ..ResourceLimits::default()
        };
        Alarms::new(limits)
    }

    fn levels(memory_used: u64, disk_free: u64) -> impl FnOnce(&mut State) {
        let levels = Levels { memory_used, memory_total: 1000, disk_free: Some(disk_free) };
        move |state| state.levels = levels
    }

    #[test]
    fn an_alarm_is_in_effect_exactly_while_a_limit_is_passed() {
        let alarms = alarms(100, 50);
        assert!(!alarms.update(levels(100, 50)) && !alarms.any());
        assert!(!alarms.update(levels(101, 50)) && alarms.any());
        assert_eq!(alarms.reason(), "low on memory");
        assert!(!alarms.update(levels(101, 49)));
        assert_eq!(alarms.reason(), "low on disk & memory");
        assert!(!alarms.update(levels(100, 49)), "one is left");
        assert_eq!((alarms.reason().as_str(), alarms.list()), ("low on disk", vec![Resource::Disk]));
        assert!(alarms.update(levels(100, 50)) && !alarms.any());
        assert!(!alarms.update(levels(100, 50)), "nothing ended that was not there");
    }

    #[test]
    fn a_limit_counts_at_once_and_may_be_a_share_of_memory() {
        let alarms = alarms(1000, 0);
        alarms.update(levels(500, 0));
        alarms.update(|state| state.limits.memory = Limit::OfMemory(Share::from_thousandths(400)));
        assert_eq!(alarms.status().memory_limit, 400);
        assert!(alarms.any());
        assert!(alarms.update(|state| state.limits.memory = Limit::OfMemory(Share::from_thousandths(600))));
        alarms.update(|state| state.limits.memory = Limit::Octets(0));
        assert!(alarms.any(), "a limit of 0 stops all publishers");
    }

    #[test]
    fn a_disk_that_cannot_be_asked_raises_no_alarm() {
        let alarms = alarms(u64::MAX, u64::MAX);
        alarms.update(|state| state.levels.disk_free = None);
        assert!(!alarms.any());
    }

    #[test]
    fn looks_come_sooner_near_a_limit() {
        let longest = Duration::from_secs(1);
        assert_eq!(pause(u64::MAX, longest), longest);
        assert_eq!(pause(FILLS_PER_SECOND / 2, longest), longest / 2);
        assert_eq!(pause(0, longest), LOOK_AGAIN_MIN);
        assert_eq!(pause(0, LOOK_AGAIN_MIN / 2), LOOK_AGAIN_MIN / 2);
    }

    #[test]
    fn this_process_and_its_disk_can_be_measured() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut meter = Meter::new(&DataDir::Path(directory.path().to_owned()), None);
        let levels = meter.measure();
        assert!(levels.memory_used > 1024 * 1024 && levels.memory_used < levels.memory_total, "{levels:?}");
        assert!(levels.disk_free.is_some_and(|free| free > 0));
        let mut meter = Meter::new(&DataDir::Path(directory.path().join("missing")), Some(5));
        let levels = meter.measure();
        assert_eq!((levels.memory_total, levels.disk_free), (5, None));
    }
}
