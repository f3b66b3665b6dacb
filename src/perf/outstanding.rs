//! Publishes that wait for their confirm (RabbitMQ's publisher confirms).
//!
//! Tags are those of the channel, 1 for the first publish. Confirms may come singly, out of order, or for all tags so far.

use std::collections::VecDeque;

/// When a publish was due that is no longer waited for.
const SETTLED: u64 = u64::MAX;

/// The unconfirmed publishes of a channel.
#[derive(Debug)]
pub(super) struct Outstanding {
    /// When each publish from `first_tag` on was due, or [`SETTLED`]; the first one is not settled.
    due_ns: VecDeque<u64>,
    first_tag: u64,
    count: u64,
}

impl Outstanding {
    pub(super) fn new() -> Self {
        Self { due_ns: VecDeque::new(), first_tag: 1, count: 0 }
    }

    /// How many there are.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Adds a publish that was due at this time.
    #[inline]
    pub(super) fn push(&mut self, due_ns: u64) {
        self.due_ns.push_back(due_ns);
        self.count += 1;
    }

    /// Settles the publish of a tag, or all up to it, telling `on_settled` when each was due. Returns how many they were:
    /// 0 for a tag that does not wait.
    #[inline]
    pub(super) fn settle(&mut self, tag: u64, multiple: bool, mut on_settled: impl FnMut(u64)) -> u64 {
        let Some(index) = tag.checked_sub(self.first_tag).and_then(|index| usize::try_from(index).ok()) else {
            return 0;
        };
        if index >= self.due_ns.len() {
            return 0;
        }
        let mut settled = 0;
        if multiple {
            for due_ns in self.due_ns.drain(..=index).filter(|&due_ns| due_ns != SETTLED) {
                on_settled(due_ns);
                settled += 1;
            }
            self.first_tag = tag + 1;
        } else if let Some(due_ns) = self.due_ns.get_mut(index).filter(|due_ns| **due_ns != SETTLED) {
            on_settled(*due_ns);
            *due_ns = SETTLED;
            settled = 1;
        }
        while self.due_ns.front() == Some(&SETTLED) {
            self.due_ns.pop_front();
            self.first_tag += 1;
        }
        self.count -= settled;
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outstanding(count: u64) -> Outstanding {
        let mut outstanding = Outstanding::new();
        (1..=count).for_each(|tag| outstanding.push(tag * 10));
        outstanding
    }

    #[test]
    fn tags_are_settled_singly_in_any_order() {
        let mut outstanding = outstanding(4);
        let mut settled = Vec::new();
        for tag in [3, 1, 2, 4] {
            assert_eq!(outstanding.settle(tag, false, |due_ns| settled.push(due_ns)), 1);
        }
        assert_eq!(settled, [30, 10, 20, 40]);
        assert_eq!((outstanding.count(), outstanding.due_ns.len()), (0, 0));
    }

    #[test]
    fn multiple_settles_what_is_left_up_to_the_tag() {
        let mut outstanding = outstanding(5);
        outstanding.settle(2, false, |_| {});
        let mut settled = Vec::new();
        assert_eq!(outstanding.settle(4, true, |due_ns| settled.push(due_ns)), 3);
        assert_eq!(settled, [10, 30, 40]);
        assert_eq!(outstanding.count(), 1);
        assert_eq!(outstanding.settle(5, false, |_| {}), 1);
    }

    #[test]
    fn tags_that_do_not_wait_settle_nothing() {
        let mut outstanding = outstanding(2);
        outstanding.settle(1, false, |_| {});
        for (tag, multiple) in [(0, false), (0, true), (1, false), (1, true), (3, false), (3, true)] {
            assert_eq!(outstanding.settle(tag, multiple, |_| {}), 0, "{tag} {multiple}");
        }
        assert_eq!(outstanding.count(), 1);
    }
}
