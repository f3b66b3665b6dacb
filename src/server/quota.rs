//! How many of a kind there may be in the whole broker: a count that whoever takes part in gives back by being dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A count with an upper limit.
#[derive(Debug)]
pub(super) struct Quota {
    taken: AtomicU32,
    max: Option<u32>,
}

/// One of the count.
#[derive(Debug)]
pub(super) struct Permit(Arc<Quota>);

impl Quota {
    pub(super) fn new(max: Option<u32>) -> Arc<Self> {
        Arc::new(Self { taken: AtomicU32::new(0), max })
    }

    /// One more, or the limit that is reached.
    pub(super) fn take(self: &Arc<Self>) -> Result<Permit, u32> {
        let max = self.max.unwrap_or(u32::MAX);
        let more = |taken: u32| (taken < max).then(|| taken + 1);
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
        assert!(quota.take().is_ok());
        assert!(Quota::new(None).take().is_ok());
        assert_eq!(Quota::new(Some(0)).take().err(), Some(0));
    }
}
