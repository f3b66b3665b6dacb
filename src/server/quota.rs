//! How many of a kind there may be: a count that whoever takes part in gives back by being dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// No limit.
const UNLIMITED: u64 = u64::MAX;

/// A count with an upper limit that may change.
#[derive(Debug)]
pub(super) struct Quota {
    taken: AtomicU64,
    max: AtomicU64,
}

/// One of the count.
#[derive(Debug)]
pub(super) struct Permit(Arc<Quota>);

impl Quota {
    pub(super) fn new(max: Option<u64>) -> Arc<Self> {
        Arc::new(Self { taken: AtomicU64::new(0), max: AtomicU64::new(max.unwrap_or(UNLIMITED)) })
    }

    /// Another limit. Whoever has a permit keeps it.
    pub(super) fn limit(&self, max: Option<u64>) {
        self.max.store(max.unwrap_or(UNLIMITED), Ordering::Relaxed);
    }

    /// How many there are.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// One more, or the limit that is reached.
    pub(super) fn take(self: &Arc<Self>) -> Result<Permit, u64> {
        let max = self.max.load(Ordering::Relaxed);
        let more = |taken: u64| (taken < max).then(|| taken + 1);
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Permit(self.clone())),
            Err(_) => Err(max),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_at_most_so_many_until_one_is_given_back() {
        let quota = Quota::new(Some(2));
        let (first, _second) = (quota.take().expect("the first"), quota.take().expect("the second"));
        assert_eq!(quota.take().err(), Some(2));
        drop(first);
        let _third = quota.take().expect("the place of the first");
        quota.limit(None);
        assert!(quota.take().is_ok());
        assert!(Quota::new(None).take().is_ok());
        assert_eq!(Quota::new(Some(0)).take().err(), Some(0));
    }
}
