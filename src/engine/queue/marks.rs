//! Which positions of a stretch of consecutive sequence numbers are settled.
//!
//! Queues settle mostly from the front, so a counter does for that; a bitmap appears once something is settled out of order.

/// Settled positions of a stretch.
#[derive(Clone, Debug)]
pub struct Marks {
    span: u64,
    live: u64,
    /// Everything below this position is settled.
    prefix: u64,
    bits: Option<Vec<u64>>,
}

fn word(position: u64) -> usize {
    usize::try_from(position / 64).expect("a stretch with a bitmap has far fewer positions than usize holds")
}

fn bit(position: u64) -> u64 {
    1 << (position % 64)
}

impl Marks {
    /// A stretch of `span` positions, none settled.
    pub const fn new(span: u64) -> Self {
        Self { span, live: span, prefix: 0, bits: None }
    }

    /// Positions in all.
    pub const fn span(&self) -> u64 {
        self.span
    }

    /// Positions not settled.
    pub const fn live(&self) -> u64 {
        self.live
    }

    /// Everything below this position is settled.
    pub const fn prefix(&self) -> u64 {
        self.prefix
    }

    /// Whether the settled positions are just the first ones.
    pub const fn is_prefix_only(&self) -> bool {
        self.bits.is_none()
    }

    /// Whether this position is settled.
    #[inline]
    pub fn is_settled(&self, position: u64) -> bool {
        position < self.prefix || self.bits.as_ref().is_some_and(|bits| bits[word(position)] & bit(position) != 0)
    }

    /// The first unsettled position at or after `from`.
    pub fn next_live(&self, from: u64) -> Option<u64> {
        let from = from.max(self.prefix);
        match &self.bits {
            None => (from < self.span).then_some(from),
            Some(_) => (from..self.span).find(|position| !self.is_settled(*position)),
        }
    }

    /// The last position of the unsettled run that starts at `first`, at most `to`.
    pub fn live_until(&self, first: u64, to: u64) -> u64 {
        match &self.bits {
            None => to,
            Some(_) => (first + 1..=to).find(|position| self.is_settled(*position)).map_or(to, |settled| settled - 1),
        }
    }

    /// Settles positions `from..=to`; returns how many were not before.
    pub fn settle(&mut self, from: u64, to: u64) -> u64 {
        if from <= self.prefix && self.bits.is_none() {
            let fresh = (to + 1).saturating_sub(self.prefix);
            self.prefix = self.prefix.max(to + 1);
            self.live -= fresh;
            return fresh;
        }
        let words = word(self.span - 1) + 1;
        let bits = self.bits.get_or_insert_with(|| vec![0; words]);
        let mut fresh = 0;
        for position in from.max(self.prefix)..=to {
            let slot = &mut bits[word(position)];
            if *slot & bit(position) == 0 {
                *slot |= bit(position);
                fresh += 1;
            }
        }
        self.live -= fresh;
        while self.prefix < self.span && bits[word(self.prefix)] & bit(self.prefix) != 0 {
            self.prefix += 1;
        }
        fresh
    }

    /// Adds another stretch behind this one; the `gap` positions between them are settled.
    pub fn join(&mut self, gap: u64, other: &Self) {
        let start = self.span;
        self.span += gap + other.span;
        self.live += gap + other.span;
        if let Some(bits) = &mut self.bits {
            bits.resize(word(self.span - 1) + 1, 0);
        }
        if gap > 0 {
            self.settle(start, start + gap - 1);
        }
        let start = start + gap;
        if other.prefix > 0 {
            self.settle(start, start + other.prefix - 1);
        }
        if other.bits.is_some() {
            for position in (other.prefix..other.span).filter(|position| other.is_settled(*position)) {
                self.settle(start + position, start + position);
            }
        }
    }

    /// Positions `from..=to` as a stretch of their own.
    #[must_use]
    pub fn part(&self, from: u64, to: u64) -> Self {
        let mut part = Self::new(to + 1 - from);
        if self.prefix > from {
            part.settle(0, self.prefix.min(to + 1) - from - 1);
        }
        if self.bits.is_some() {
            for position in (from.max(self.prefix)..=to).filter(|position| self.is_settled(*position)) {
                part.settle(position - from, position - from);
            }
        }
        part
    }

    /// The runs of unsettled positions among `from..=to`, ascending.
    pub fn live_runs(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut next = from;
        std::iter::from_fn(move || {
            let first = self.next_live(next).filter(|first| *first <= to)?;
            let last = self.live_until(first, to);
            next = last + 1;
            Some((first, last))
        })
    }

    /// Settles everything; returns how many were not before.
    pub fn settle_all(&mut self) -> u64 {
        self.prefix = self.span;
        self.bits = None;
        std::mem::take(&mut self.live)
    }

    /// The settled positions as a bitmap of little-endian words, for the disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        (0..self.span.div_ceil(8))
            .map(|octet| {
                (0..8_u64).fold(0_u8, |bits, nth| {
                    let position = octet * 8 + nth;
                    bits | (u8::from(position < self.span && self.is_settled(position)) << nth)
                })
            })
            .collect()
    }

    /// Settles what a bitmap of [`Marks::to_bytes`] says.
    pub fn settle_bytes(&mut self, bitmap: &[u8]) {
        for (octet, bits) in (0_u64..).zip(bitmap) {
            for nth in (0..8_u64).filter(|nth| bits & (1 << nth) != 0) {
                let position = octet * 8 + nth;
                if position < self.span {
                    self.settle(position, position);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn marks_agree_with_a_plain_set(span in 1_u64..200, ranges in prop::collection::vec((0_u64..200, 0_u64..30), 0..20)) {
            let mut marks = Marks::new(span);
            let mut plain = std::collections::BTreeSet::new();
            for (from, length) in ranges {
                let (from, to) = (from.min(span - 1), (from + length).min(span - 1));
                let fresh = (from..=to).filter(|position| plain.insert(*position)).count() as u64;
                prop_assert_eq!(marks.settle(from, to), fresh);
            }
            prop_assert_eq!(marks.live(), span - plain.len() as u64);
            for position in 0..span {
                prop_assert_eq!(marks.is_settled(position), plain.contains(&position));
            }
            prop_assert_eq!(marks.next_live(0), (0..span).find(|position| !plain.contains(position)));
            let mut again = Marks::new(span);
            again.settle_bytes(&marks.to_bytes());
            prop_assert_eq!(again.live(), marks.live());
            let runs: Vec<_> = marks.live_runs(0, span - 1).flat_map(|(first, last)| first..=last).collect();
            let live: Vec<_> = (0..span).filter(|position| !plain.contains(position)).collect();
            prop_assert_eq!(runs, live);
        }

        #[test]
        fn stretches_join_and_part(
            settled in prop::collection::vec(any::<bool>(), 1..200),
            more in prop::collection::vec(any::<bool>(), 1..100),
            gap in 0_u64..70,
            cut in (0_u64..200, 0_u64..200),
        ) {
            let marks = |settled: &[bool]| {
                let mut marks = Marks::new(settled.len() as u64);
                for (position, _) in (0_u64..).zip(settled).filter(|(_, settled)| **settled) {
                    marks.settle(position, position);
                }
                marks
            };
            let mut joined = marks(&settled);
            joined.join(gap, &marks(&more));
            let gap = usize::try_from(gap).expect("small");
            let plain = [settled, vec![true; gap], more].concat();
            let state = |marks: &Marks| (0..marks.span()).map(|position| marks.is_settled(position)).collect::<Vec<_>>();
            prop_assert_eq!(state(&joined), plain.clone());
            prop_assert_eq!(joined.live(), plain.iter().filter(|settled| !**settled).count() as u64);
            let last = joined.span() - 1;
            let (from, to) = (cut.0.min(cut.1).min(last), cut.0.max(cut.1).min(last));
            let part = joined.part(from, to);
            let range = usize::try_from(from).expect("small")..=usize::try_from(to).expect("small");
            prop_assert_eq!(state(&part), plain[range.clone()].to_vec());
            prop_assert_eq!(part.live(), plain[range].iter().filter(|settled| !**settled).count() as u64);
        }
    }
}
