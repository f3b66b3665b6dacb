//! The generator's clock: nanoseconds since the run began, and sleeping until one of them.

use std::time::{Duration, Instant};
use std::{fs, io, thread};

/// Counts nanoseconds from its creation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    epoch: Instant,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the generator's only reading of a clock; it is no part of the broker"
    )]
    fn instant() -> Instant {
        Instant::now()
    }

    pub(super) fn start() -> Self {
        Self { epoch: Self::instant() }
    }

    /// Nanoseconds since the start.
    #[inline]
    pub(super) fn now_ns(&self) -> u64 {
        let elapsed = Self::instant().duration_since(self.epoch);
        elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos())
    }

    /// Sleeps until the given nanosecond; not at all if it is past.
    pub(super) fn sleep_until(&self, at_ns: u64) {
        let ahead_ns = at_ns.saturating_sub(self.now_ns());
        if ahead_ns > 0 {
            thread::sleep(Duration::from_nanos(ahead_ns));
        }
    }
}

/// Has the kernel wake this thread, and those it starts, at the time asked for.
///
/// Linux otherwise adds up to 50 µs to each sleep, which would be counted as the broker's latency. Where the file is
/// missing, sleeps are merely less exact.
pub(super) fn sharpen_sleep() -> io::Result<()> {
    let thread = fs::read_link("/proc/thread-self")?;
    let Some(thread_id) = thread.file_name() else {
        return Ok(());
    };
    fs::write(std::path::Path::new("/proc").join(thread_id).join("timerslack_ns"), "1")
}
