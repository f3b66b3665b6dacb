//! What a connection counts: for its channels, for the exchanges it publishes to, for its vhost.

use leveret_protocol::ChannelId;

use super::session::Session;
use crate::engine::message::Timestamp;
use crate::engine::queue::Run;
use crate::engine::statistics::{Count, RATE_INTERVAL_MS, Rates};

impl Session {
    /// A message was published and goes to so many queues.
    #[inline]
    pub(super) fn count_publish(&mut self, at: usize, routed: u64, body_bytes: u64) {
        let channel = &mut self.channels[at];
        channel.counts[Count::Publish] += 1;
        if channel.counts[Count::Publish] == 1 {
            self.vhost.statistics.lock().publishers += 1;
        }
        self.turn.published(routed, body_bytes);
        self.routes.exchanges.count(routed);
    }

    /// Something happened on a channel.
    pub(super) fn count(&mut self, id: ChannelId, what: Count, count: u64) {
        if let Some(at) = self.channel_index(id) {
            self.channels[at].counts[what] += count;
        }
        self.turn.count(what, count);
    }

    /// Messages are delivered on a channel. Their queue counts them for the vhost.
    #[inline]
    pub(super) fn count_delivery(&mut self, at: usize, what: Count, run: &Run) {
        let counts = &mut self.channels[at].counts;
        counts[what] += u64::from(run.count);
        if run.redelivered {
            counts[Count::Redeliver] += u64::from(run.count);
        }
    }

    /// Tells exchanges and vhost what was counted in this turn.
    #[inline]
    pub(super) fn flush_counts(&mut self) {
        self.routes.exchanges.flush(&self.registry.statistics);
        let vhost = &self.vhost;
        self.turn.flush(self.output.sent().octets, |add| add(&mut vhost.statistics.lock()));
        if self.now.as_millis() >= self.sample_at {
            self.take_samples();
        }
    }

    #[cold]
    fn take_samples(&mut self) {
        self.sample_at = self.now.as_millis() + RATE_INTERVAL_MS / 5;
        for channel in &mut self.channels {
            channel.counts[Count::Ack] = channel.unacked.acked();
            let counts = channel.counts;
            channel.samples.note(self.now, &counts);
        }
        self.traffic_counts[Count::ReceivedOctets] = self.received.octets;
        self.traffic_counts[Count::SentOctets] = self.output.sent().octets;
        self.traffic_samples.note(self.now, &self.traffic_counts);
    }

    /// How fast octets come and go.
    pub(super) fn traffic_rates(&self, now: Timestamp) -> Rates {
        let mut counts = self.traffic_counts;
        counts[Count::ReceivedOctets] = self.received.octets;
        counts[Count::SentOctets] = self.output.sent().octets;
        self.traffic_samples.rates(now, &counts)
    }
}
