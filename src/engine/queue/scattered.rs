//! A set of sequence numbers that may stand anywhere: a bit each, in pieces that exist where there is something.
//!
//! For what is taken out of the middle of a deep queue: ranges would cost too much where every other message goes, one
//! bitmap where two go that are far apart.

use std::collections::BTreeMap;

const WORDS: usize = 64;
/// Numbers a piece has room for.
const SPAN: u64 = WORDS as u64 * 64;

/// Sequence numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Scattered {
    /// By number of the piece; none is empty.
    pieces: BTreeMap<u64, Box<[u64; WORDS]>>,
}

fn place(seq: u64) -> (u64, usize, u64) {
    let within = seq % SPAN;
    (seq / SPAN, usize::try_from(within / 64).expect("a word of a piece"), 1 << (within % 64))
}

impl Scattered {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    #[inline]
    pub(super) fn contains(&self, seq: u64) -> bool {
        if self.pieces.is_empty() {
            return false;
        }
        let (piece, word, bit) = place(seq);
        self.pieces.get(&piece).is_some_and(|words| words[word] & bit != 0)
    }

    /// Adds a number.
    pub(super) fn insert(&mut self, seq: u64) {
        let (piece, word, bit) = place(seq);
        self.pieces.entry(piece).or_insert_with(|| Box::new([0; WORDS]))[word] |= bit;
    }

    /// Removes the numbers `first..=last`.
    pub(super) fn remove_range(&mut self, first: u64, last: u64) {
        if self.pieces.is_empty() || first > last {
            return;
        }
        let touched: Vec<u64> = self.pieces.range(first / SPAN..=last / SPAN).map(|(piece, _)| *piece).collect();
        for piece in touched {
            let (start, end) = (piece * SPAN, piece * SPAN + (SPAN - 1));
            if first > start || last < end {
                let words = self.pieces.get_mut(&piece).expect("found above");
                for seq in first.max(start)..=last.min(end) {
                    let (_, word, bit) = place(seq);
                    words[word] &= !bit;
                }
                if words.iter().any(|word| *word != 0) {
                    continue;
                }
            }
            self.pieces.remove(&piece);
        }
    }

    /// The runs of numbers among `first..=last` that are not in the set, ascending.
    pub(super) fn outside(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut next = Some(first);
        std::iter::from_fn(move || {
            if self.is_empty() {
                return next.take().filter(|first| *first <= last).map(|first| (first, last));
            }
            let start = (next.take()?..=last).find(|seq| !self.contains(*seq))?;
            let end = (start..=last).take_while(|seq| !self.contains(*seq)).last()?;
            next = end.checked_add(1);
            Some((start, end))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn scattered_numbers_agree_with_a_plain_set(
            acts in prop::collection::vec((0_u8..3, 0_u64..3 * SPAN, 0_u64..2 * SPAN), 0..40),
            cut in (0_u64..3 * SPAN, 0_u64..200),
        ) {
            let (mut scattered, mut plain) = (Scattered::default(), BTreeSet::new());
            for (act, seq, more) in acts {
                if act == 0 {
                    scattered.remove_range(seq, seq + more);
                    plain.retain(|each| !(seq..=seq + more).contains(each));
                } else {
                    scattered.insert(seq);
                    plain.insert(seq);
                }
            }
            prop_assert_eq!(scattered.is_empty(), plain.is_empty());
            let (first, last) = (cut.0, cut.0 + cut.1);
            prop_assert!((first..=last).all(|seq| scattered.contains(seq) == plain.contains(&seq)));
            let runs: Vec<_> = scattered.outside(first, last).collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?} are no runs", runs);
            let outside: Vec<_> = runs.iter().flat_map(|(first, last)| *first..=*last).collect();
            let expected: Vec<_> = (first..=last).filter(|seq| !plain.contains(seq)).collect();
            prop_assert_eq!(outside, expected);
        }
    }
}
