//! Publisher confirms: which publishes are settled, and with how few frames (RabbitMQ extension).
//!
//! Publishes are numbered from 1. What waits for the disk stands in ranges, each with the store's ticket; tickets rise
//! with the numbers, so what becomes durable is always a prefix, and one ack with `multiple` settles it.

use std::collections::VecDeque;

use leveret_protocol::{DeliveryTag, basic};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u64,
    last: u64,
    ticket: u64,
}

/// The confirms that a channel owes.
#[derive(Debug)]
pub struct Confirms {
    next: u64,
    pending: VecDeque<Range>,
}

impl Default for Confirms {
    fn default() -> Self {
        Self { next: 1, pending: VecDeque::new() }
    }
}

impl Confirms {
    /// Numbers one more publish.
    #[inline]
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Publishes that are not confirmed yet.
    pub fn unconfirmed(&self) -> u64 {
        self.pending.iter().map(|range| range.last - range.first + 1).sum()
    }

    /// Publishes `first..=last` were taken in by their queues, but for the `refused`; they are settled once `ticket` is
    /// durable (0: at once). `refused` is in ascending order.
    pub fn accepted(&mut self, first: u64, last: u64, refused: &[u64], ticket: u64) {
        // What needs no disk but follows something that does is settled with it, by one frame.
        let ticket = ticket.max(self.pending.back().map_or(0, |range| range.ticket));
        let mut from = first;
        for &number in refused {
            self.push(from, number.saturating_sub(1), ticket);
            from = number + 1;
        }
        self.push(from, last, ticket);
    }

    fn push(&mut self, first: u64, last: u64, ticket: u64) {
        if first > last {
            return;
        }
        match self.pending.back_mut() {
            Some(range) if range.ticket == ticket && range.last + 1 == first => range.last = last,
            _ => self.pending.push_back(Range { first, last, ticket }),
        }
    }

    /// Everything up to this ticket is on disk: the acks that are due. Returns how many publishes they confirm.
    pub fn durable(&mut self, ticket: u64, out: &mut Vec<basic::Ack>) -> u64 {
        let mut confirmed = 0;
        let mut due: Option<(u64, u64)> = None;
        while let Some(range) = self.pending.front().copied()
            && range.ticket <= ticket
        {
            self.pending.pop_front();
            confirmed += range.last - range.first + 1;
            due = match due {
                Some((first, _)) => Some((first, range.last)),
                None => Some((range.first, range.last)),
            };
        }
        if let Some((first, last)) = due {
            out.push(basic::Ack { delivery_tag: DeliveryTag::new(last), multiple: first < last });
        }
        confirmed
    }

    /// Whether nothing waits.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(confirms: &mut Confirms, ticket: u64) -> Vec<(u64, bool)> {
        let mut out = Vec::new();
        confirms.durable(ticket, &mut out);
        out.into_iter().map(|ack| (ack.delivery_tag.get(), ack.multiple)).collect()
    }

    #[test]
    fn what_becomes_durable_is_settled_by_one_frame() {
        let mut confirms = Confirms::default();
        confirms.accepted(1, 10, &[], 5);
        confirms.accepted(11, 12, &[], 6);
        assert_eq!(due(&mut confirms, 4), []);
        assert_eq!(due(&mut confirms, 6), [(12, true)]);
        confirms.accepted(13, 13, &[], 0);
        assert_eq!(due(&mut confirms, 6), [(13, false)]);
    }

    #[test]
    fn a_refused_number_is_never_the_one_acked() {
        let mut confirms = Confirms::default();
        confirms.accepted(1, 5, &[1, 5], 2);
        assert_eq!(due(&mut confirms, 2), [(4, true)]);
        confirms.accepted(6, 6, &[6], 3);
        assert!(confirms.is_settled());
    }

    #[test]
    fn transient_publishes_wait_for_the_persistent_ones_before_them() {
        let mut confirms = Confirms::default();
        confirms.accepted(1, 1, &[], 9);
        confirms.accepted(2, 3, &[], 0);
        assert_eq!(due(&mut confirms, 8), []);
        assert_eq!(due(&mut confirms, 9), [(3, true)]);
    }
}
