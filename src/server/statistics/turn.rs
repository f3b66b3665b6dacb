//! What a connection did in a turn, for the totals of its vhost.

use super::vhost::VhostTotals;
use crate::engine::statistics::{Count, Counts, MessageSizes};

/// Counts of one turn.
#[derive(Debug, Default)]
pub(in crate::server) struct Turn {
    pub(in crate::server) counts: Counts,
    sizes: MessageSizes,
    any: bool,
    /// Octets sent that the vhost knows of.
    sent_told: u64,
}

impl Turn {
    /// A message was published and routed to so many queues.
    #[inline]
    pub(in crate::server) fn published(&mut self, routed: u64, body_bytes: u64) {
        self.any = true;
        self.counts[Count::Publish] += 1;
        self.counts[Count::PublishOut] += routed;
        self.sizes.note(body_bytes);
    }

    /// Something else happened.
    #[inline]
    pub(in crate::server) fn count(&mut self, what: Count, count: u64) {
        self.any = true;
        self.counts[what] += count;
    }

    /// Tells the vhost, if there is anything to tell. `sent` is what was sent over the socket so far.
    #[inline]
    pub(in crate::server) fn flush(&mut self, sent: u64, totals: impl FnOnce(&dyn Fn(&mut VhostTotals))) {
        let unsaid = sent - self.sent_told;
        if !self.any && unsaid == 0 {
            return;
        }
        self.sent_told = sent;
        self.counts[Count::SentOctets] += unsaid;
        totals(&|totals| totals.add_turn(&self.counts, &self.sizes));
        self.any = false;
        self.counts = Counts::default();
        self.sizes = MessageSizes::default();
    }
}
