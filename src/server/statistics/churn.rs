//! What comes and goes: connections, channels, queues.

/// Something that came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Event {
    ConnectionCreated,
    ConnectionClosed,
    ChannelCreated,
    ChannelClosed,
    QueueDeclared,
    QueueCreated,
    QueueDeleted,
}

const EVENTS: usize = Event::QueueDeleted as usize + 1;

/// How often what came or went, and how fast.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Churn {
    counts: [u64; EVENTS],
    since: [u64; EVENTS],
    rates: [f32; EVENTS],
}

impl Churn {
    pub(super) fn note(&mut self, event: Event, count: u64) {
        self.counts[event as usize] += count;
        self.since[event as usize] += count;
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a rate is for people")]
    pub(super) fn tick(&mut self, interval_ms: u64) {
        for (rate, since) in self.rates.iter_mut().zip(&mut self.since) {
            *rate = (std::mem::take(since) as f64 * 1000.0 / interval_ms.max(1) as f64) as f32;
        }
    }

    /// How often.
    pub(crate) fn count(&self, event: Event) -> u64 {
        self.counts[event as usize]
    }

    /// How often a second.
    pub(crate) fn rate(&self, event: Event) -> f32 {
        self.rates[event as usize]
    }
}
