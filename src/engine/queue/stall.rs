//! Why messages wait: what keeps a queue's consumers from taking what is ready.

use super::Queue;

/// Why ready messages do not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// Nobody consumes.
    NoConsumers,
    /// Every consumer has as many unacked messages as it may have.
    AllAtPrefetch,
    /// The same of the single active consumer, while others wait for its end.
    SingleActiveIdle,
    /// Consumers could take messages, but their sockets do not.
    TcpBackpressure,
    /// The next message is on its way from disk.
    Loading,
    /// The node is drained: nobody gets anything.
    Paused,
}

impl Stall {
    /// The word for operators.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoConsumers => "no_consumers",
            Self::AllAtPrefetch => "all_at_prefetch",
            Self::SingleActiveIdle => "single_active_idle",
            Self::TcpBackpressure => "tcp_backpressure",
            Self::Loading => "loading",
            Self::Paused => "paused",
        }
    }
}

/// What keeps a consumer from taking a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// Its own prefetch limit.
    Prefetch,
    /// The limit that it shares with its channel.
    ChannelLimit,
    /// Its connection takes no octets.
    Socket,
}

impl HeldBy {
    /// The word for operators.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prefetch => "prefetch",
            Self::ChannelLimit => "channel_prefetch",
            Self::Socket => "socket",
        }
    }
}

impl Queue {
    /// Why nothing leaves although messages are ready; `None` if something does, or nothing is there.
    pub fn stall(&self) -> Option<Stall> {
        if self.ready() == 0 {
            return None;
        }
        if self.consumers.is_empty() {
            return Some(Stall::NoConsumers);
        }
        if self.paused {
            return Some(Stall::Paused);
        }
        if self.consumers.anybody_takes() {
            return self.loading.map(|_| Stall::Loading);
        }
        let mut active = self.consumers.iter().filter(|each| each.active);
        if active.any(|each| matches!(each.held_by, Some(HeldBy::Prefetch | HeldBy::ChannelLimit))) {
            let others_wait = self.settings.single_active_consumer && self.consumers.len() > 1;
            return Some(if others_wait { Stall::SingleActiveIdle } else { Stall::AllAtPrefetch });
        }
        Some(Stall::TcpBackpressure)
    }
}
