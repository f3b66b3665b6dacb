//! The only place that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::message::Timestamp;

/// The wall clock, in milliseconds.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> Timestamp {
    #[cfg(test)]
    if let Some(now) = simulated::now() {
        return now;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The monotonic clock, for deadlines of connections.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn instant() -> Instant {
    #[cfg(test)]
    if simulated::now().is_some() {
        return tokio::time::Instant::now().into_std();
    }
    Instant::now()
}

/// A number that differs from start to start, to seed generators of names.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(now().as_millis())
}

/// The clock of a simulation, for the thread that it runs in.
#[cfg(test)]
pub(super) mod simulated {
    use std::cell::Cell;

    use crate::engine::message::Timestamp;

    thread_local! {
        static NOW: Cell<Option<Timestamp>> = const { Cell::new(None) };
    }

    pub(super) fn now() -> Option<Timestamp> {
        NOW.get()
    }

    /// From now on it is this time on this thread. The monotonic clock is tokio's, which has to be paused.
    pub(in crate::server) fn set(now: Timestamp) {
        NOW.set(Some(now));
    }
}
