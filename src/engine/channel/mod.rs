//! A channel: what it has delivered, what it confirms, what it holds back for a transaction.
//!
//! ```text
//!   (not open) ──open──► Open ──close / close-ok──► (not open)
//!                          │ soft error: channel.close sent
//!                          ▼
//!                       Closing ──close-ok──► (not open)      everything but close and close-ok is discarded
//! ```
//!
//! Invariants: delivery tags rise by one; an entry is outstanding, held by the transaction, or settled; each publish of a
//! confirm channel is settled exactly once.
//! Not here: sockets, queues, who the peer is. Content frames: `content`.

pub mod ack_timeout;
pub mod confirm;
pub mod content;
pub mod copies;
pub mod expiration;
#[cfg(test)]
mod model;
pub mod unacked;

use std::collections::HashMap;
use std::sync::Arc;

use leveret_protocol::{ChannelId, ShortString};

use crate::engine::queue::{ChannelLimit, ConsumerId, QueueId};
use crate::engine::statistics::{Counts, Samples};
use crate::error::AmqpError;

use confirm::Confirms;
use content::Assembly;
use unacked::Unacked;

/// What kind of publishing a channel was switched to; there is no way back.
#[derive(Debug, Default)]
pub enum Mode<H> {
    /// Neither confirms nor transactions.
    #[default]
    Plain,
    /// Every publish is confirmed (RabbitMQ extension).
    Confirm(Confirms),
    /// Publishes and acks take effect at commit; `H` is what a held publish consists of.
    Tx(Vec<H>),
}

/// Whether a channel works or waits for the peer's close-ok.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Methods are carried out.
    Open,
    /// channel.close was sent: everything but close and close-ok is discarded.
    Closing,
}

/// A consumer as its channel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelConsumer {
    /// The queue it consumes from.
    pub queue: QueueId,
    /// Its number there.
    pub id: ConsumerId,
}

/// Who takes replies on a channel (direct reply-to).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyConsumer {
    /// Its consumer tag.
    pub tag: ShortString,
    /// The name that requests carry as `reply-to`.
    pub name: ShortString,
}

/// The state of one channel. `H` is what a publish held back by a transaction consists of.
#[derive(Debug)]
pub struct Channel<H> {
    /// Its number.
    pub id: ChannelId,
    /// Open or closing.
    pub lifecycle: Lifecycle,
    /// Where it stands between a publish and its last body frame.
    pub assembly: Assembly,
    /// Plain, confirm or transaction mode.
    pub mode: Mode<H>,
    /// Deliveries that wait for an ack.
    pub unacked: Unacked,
    /// Consumers by tag.
    pub consumers: HashMap<ShortString, ChannelConsumer>,
    /// Who takes replies.
    pub reply_consumer: Option<ReplyConsumer>,
    /// `basic.qos` without `global`: the limit of consumers to come; 0 for none.
    pub prefetch: u32,
    /// `basic.qos` with `global`: the limit that all consumers share.
    pub limit: Arc<ChannelLimit>,
    /// How often its consumers' queues were told that the limit has room: each of them comes first in turn.
    pub resumed: usize,
    /// What went over it.
    pub counts: Counts,
    /// What its counts were some seconds ago, for rates.
    pub samples: Samples,
    last_declared: Option<ShortString>,
}

impl<H> Channel<H> {
    /// A channel just opened.
    pub fn new(id: ChannelId) -> Self {
        Self {
            id,
            lifecycle: Lifecycle::Open,
            assembly: Assembly::Idle,
            mode: Mode::Plain,
            unacked: Unacked::default(),
            consumers: HashMap::new(),
            reply_consumer: None,
            prefetch: 0,
            limit: Arc::default(),
            resumed: 0,
            counts: Counts::default(),
            samples: Samples::default(),
            last_declared: None,
        }
    }

    /// Whether a consumer has this tag.
    pub fn has_consumer(&self, tag: &ShortString) -> bool {
        self.consumers.contains_key(tag.as_bytes())
            || self.reply_consumer.as_ref().is_some_and(|consumer| consumer.tag == *tag)
    }

    /// The name that requests of this channel carry as `reply-to`.
    pub fn reply_name(&self) -> Option<&ShortString> {
        self.reply_consumer.as_ref().map(|consumer| &consumer.name)
    }

    /// Remembers the queue that an empty name stands for from now on.
    pub fn declared(&mut self, queue: ShortString) {
        self.last_declared = Some(queue);
    }

    /// The queue meant by a name: an empty one stands for the last declared queue.
    pub fn queue_name(&self, name: &ShortString) -> Result<ShortString, AmqpError> {
        if name.is_empty() {
            self.last_declared.clone().ok_or(AmqpError::NoPreviouslyDeclaredQueue)
        } else {
            Ok(name.clone())
        }
    }

    /// confirm.select.
    pub fn select_confirm(&mut self) -> Result<(), AmqpError> {
        match self.mode {
            Mode::Plain => self.mode = Mode::Confirm(Confirms::default()),
            Mode::Confirm(_) => {}
            Mode::Tx(_) => return Err(AmqpError::CannotSwitchMode { from: "tx", to: "confirm" }),
        }
        Ok(())
    }

    /// tx.select.
    pub fn select_tx(&mut self) -> Result<(), AmqpError> {
        match self.mode {
            Mode::Plain => self.mode = Mode::Tx(Vec::new()),
            Mode::Tx(_) => {}
            Mode::Confirm(_) => return Err(AmqpError::CannotSwitchMode { from: "confirm", to: "tx" }),
        }
        Ok(())
    }

    /// Takes what the transaction held back; an error outside of one.
    pub fn take_held(&mut self) -> Result<Vec<H>, AmqpError> {
        match &mut self.mode {
            Mode::Tx(held) => Ok(std::mem::take(held)),
            Mode::Plain | Mode::Confirm(_) => Err(AmqpError::NotTransactional),
        }
    }

    /// Whether acks wait for a commit.
    pub fn is_transactional(&self) -> bool {
        matches!(self.mode, Mode::Tx(_))
    }
}
