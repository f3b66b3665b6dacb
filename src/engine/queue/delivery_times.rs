//! When the messages of a lane were handed out: for ack latencies, and for how long the oldest one waits for its ack.
//!
//! Messages are handed out in the order of their numbers, so a stretch of them that left at one moment needs one entry, and
//! nothing is done for a single message. The entries are few: when there are too many, neighbours become one and count as
//! handed out when the first of them was. So a time is never understated, and off by no more than a sixteenth of the time
//! that the lane's deliveries span. What is handed out again is remembered by itself, up to a bound.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::message::Timestamp;

/// Stretches at most: a kilobyte.
const STRETCHES_MAX: usize = 64;
/// When they are thinned out, none becomes longer than this part of the time that all of them span.
const STEPS: u64 = 16;
/// Messages handed out again whose times are known; of more the time of the first delivery counts.
const AGAIN_MAX: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Stretch {
    at: Timestamp,
    /// What comes before this number, and not before the end of the stretch before.
    until: u64,
}

/// When messages were handed out.
#[derive(Debug, Default)]
pub(super) struct DeliveryTimes {
    stretches: VecDeque<Stretch>,
    again: BTreeMap<u64, Timestamp>,
}

impl DeliveryTimes {
    /// Nobody waits for an ack any more.
    pub(super) fn clear(&mut self) {
        self.stretches.clear();
        self.again.clear();
    }

    /// Messages `first_seq..until` are handed out now. Everything below `settled_below` is settled.
    #[inline]
    pub(super) fn note(&mut self, now: Timestamp, first_seq: u64, until: u64, settled_below: u64) {
        match self.stretches.back_mut() {
            Some(last) if until <= last.until => self.note_again(now, first_seq, until),
            Some(last) if last.at >= now => last.until = until,
            Some(_) | None => {
                if self.stretches.len() >= STRETCHES_MAX {
                    self.thin_out(settled_below);
                }
                self.stretches.push_back(Stretch { at: now, until });
            }
        }
    }

    fn note_again(&mut self, now: Timestamp, first_seq: u64, until: u64) {
        for seq in first_seq..until {
            if self.again.len() >= AGAIN_MAX && !self.again.contains_key(&seq) {
                return;
            }
            self.again.insert(seq, now);
        }
    }

    fn thin_out(&mut self, settled_below: u64) {
        while self.stretches.front().is_some_and(|first| first.until <= settled_below) {
            self.stretches.pop_front();
        }
        if self.stretches.len() < STRETCHES_MAX {
            return;
        }
        let ends = self.stretches.front().zip(self.stretches.back());
        let span = ends.map_or(0, |(first, last)| last.at.as_millis().saturating_sub(first.at.as_millis()));
        let mut kept: VecDeque<Stretch> = VecDeque::with_capacity(STRETCHES_MAX);
        for (at, stretch) in self.stretches.iter().enumerate() {
            // All of it was handed out before the next one was.
            let end = self.stretches.get(at + 1).unwrap_or(stretch).at;
            match kept.back_mut() {
                Some(last) if end <= last.at.plus_millis(span / STEPS) => last.until = stretch.until,
                Some(_) | None => kept.push_back(*stretch),
            }
        }
        self.stretches = kept;
    }

    /// These messages wait no longer for an ack.
    #[inline]
    pub(super) fn forget(&mut self, first_seq: u64, last_seq: u64) {
        if self.again.is_empty() {
            return;
        }
        while let Some((&seq, _)) = self.again.range(first_seq..=last_seq).next() {
            self.again.remove(&seq);
        }
    }

    /// When this message was handed out.
    pub(super) fn of(&self, seq: u64) -> Option<Timestamp> {
        if let Some(at) = self.again.get(&seq) {
            return Some(*at);
        }
        self.stretches.get(self.stretch_of(seq)).map(|stretch| stretch.at)
    }

    /// Whether it was handed out more than once.
    pub(super) fn is_again(&self, seq: u64) -> bool {
        self.again.contains_key(&seq)
    }

    fn stretch_of(&self, seq: u64) -> usize {
        match self.stretches.front() {
            Some(first) if seq < first.until => 0,
            _ => self.stretches.partition_point(|stretch| stretch.until <= seq),
        }
    }

    /// For how long these messages waited: calls `note` with milliseconds and how many.
    #[inline]
    pub(super) fn waited(&self, now: Timestamp, first_seq: u64, last_seq: u64, mut note: impl FnMut(u64, u64)) {
        let since = |at: Timestamp| now.as_millis().saturating_sub(at.as_millis());
        if first_seq == last_seq {
            if let Some(at) = self.of(first_seq) {
                note(since(at), 1);
            }
            return;
        }
        let (mut from, mut at) = (first_seq, self.stretch_of(first_seq));
        while from <= last_seq
            && let Some(stretch) = self.stretches.get(at)
        {
            let end = stretch.until.min(last_seq + 1);
            note(since(stretch.at), end - from);
            (from, at) = (end, at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn waited(times: &DeliveryTimes, now: u64, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        times.waited(at(now), first, last, |millis, count| all.push((millis, count)));
        all
    }

    #[test]
    fn a_range_of_acks_is_told_apart_by_delivery() {
        let mut times = DeliveryTimes::default();
        times.note(at(10), 0, 5, 0);
        times.note(at(10), 5, 6, 0);
        times.note(at(20), 6, 10, 0);
        assert_eq!(waited(&times, 30, 0, 7), [(20, 6), (10, 2)]);
        assert_eq!(waited(&times, 30, 9, 9), [(10, 1)]);
        assert_eq!(waited(&times, 30, 10, 12), []);
    }

    #[test]
    fn what_is_handed_out_again_waits_anew() {
        let mut times = DeliveryTimes::default();
        times.note(at(10), 0, 5, 0);
        times.note(at(40), 2, 3, 0);
        assert_eq!((times.of(2), times.of(3)), (Some(at(40)), Some(at(10))));
        times.forget(0, 4);
        assert!(!times.is_again(2));
    }

    #[test]
    fn there_are_few_entries_and_no_age_is_understated() {
        let mut times = DeliveryTimes::default();
        for seq in 0..10_000 {
            times.note(at(seq), seq, seq + 1, 100);
            assert!(times.stretches.len() <= STRETCHES_MAX);
        }
        for seq in (100..10_000).step_by(77) {
            let told = times.of(seq).expect("known").as_millis();
            assert!(told <= seq && seq - told <= 10_000 / 16, "{seq} {told}");
        }
        for seq in 0..5000 {
            times.note(at(20_000), seq, seq + 1, 0);
        }
        assert_eq!(times.again.len(), AGAIN_MAX);
    }
}
