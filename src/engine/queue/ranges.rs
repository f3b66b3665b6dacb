//! A set of sequence numbers as ranges: what comes back mostly comes back side by side, however much it is.

use std::collections::BTreeMap;

/// Sequence numbers, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// First and last number of each range; no two of them touch.
    ranges: BTreeMap<u64, u64>,
}

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The lowest number.
    pub(super) fn first(&self) -> Option<u64> {
        self.ranges.first_key_value().map(|(first, _)| *first)
    }

    pub(super) fn contains(&self, seq: u64) -> bool {
        self.ranges.range(..=seq).next_back().is_some_and(|(_, last)| seq <= *last)
    }

    /// Adds a number; false if it was there.
    pub(super) fn insert(&mut self, seq: u64) -> bool {
        let before = self.ranges.range(..=seq).next_back().map(|(first, last)| (*first, *last));
        let (mut from, mut to) = (seq, seq);
        match before {
            Some((_, last)) if seq <= last => return false,
            Some((first, last)) if last + 1 == seq => from = first,
            Some(_) | None => {}
        }
        if let Some(last) = self.ranges.remove(&(seq + 1)) {
            to = last;
        }
        self.ranges.insert(from, to);
        true
    }

    /// Removes a number; false if it was not there.
    pub(super) fn remove(&mut self, seq: u64) -> bool {
        let Some((&first, &last)) = self.ranges.range(..=seq).next_back().filter(|(_, last)| seq <= **last) else {
            return false;
        };
        if first == seq {
            self.ranges.remove(&first);
        } else {
            self.ranges.insert(first, seq - 1);
        }
        if seq < last {
            self.ranges.insert(seq + 1, last);
        }
        true
    }

    /// The ranges among `from..=to`, cut to it.
    pub(super) fn within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
        let before = self.ranges.range(..from).next_back().filter(|(_, last)| **last >= from && from <= to);
        let inside = if from <= to { Some(self.ranges.range(from..=to)) } else { None };
        before
            .into_iter()
            .chain(inside.into_iter().flatten())
            .map(move |(first, last)| ((*first).max(from), (*last).min(to)))
    }

    /// All ranges.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_agree_with_a_plain_set(
            acts in prop::collection::vec((any::<bool>(), 0_u64..40), 0..80),
            cut in (0_u64..40, 0_u64..40),
        ) {
            let (mut ranges, mut plain) = (Ranges::default(), BTreeSet::new());
            for (insert, seq) in acts {
                if insert {
                    prop_assert_eq!(ranges.insert(seq), plain.insert(seq));
                } else {
                    prop_assert_eq!(ranges.remove(seq), plain.remove(&seq));
                }
                prop_assert_eq!(ranges.first(), plain.first().copied());
            }
            prop_assert_eq!(ranges.iter().flat_map(|(first, last)| first..=last).collect::<BTreeSet<_>>(), plain.clone());
            prop_assert!(ranges.iter().zip(ranges.iter().skip(1)).all(|(before, after)| before.1 + 1 < after.0));
            prop_assert!((0..40).all(|seq| ranges.contains(seq) == plain.contains(&seq)));
            let (from, to) = cut;
            let within: BTreeSet<_> = ranges.within(from, to).flat_map(|(first, last)| first..=last).collect();
            prop_assert_eq!(within, plain.into_iter().filter(|seq| (from..=to).contains(seq)).collect());
        }
    }
}
