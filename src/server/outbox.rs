//! What others have for a connection: deliveries, cancelled consumers, an order to close, news from the store.
//!
//! The outbox is a leaf: it may be locked under a queue cell, and nothing under it. Its size is bounded by the window,
//! which queues look at before they hand out messages. Whoever fills it takes the connection's waker, so a batch of
//! deliveries costs one wake-up.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use leveret_protocol::{ChannelId, ShortString};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::connection::facts::ConnectionFigures;
use super::connection::holds::Held;
use crate::engine::message::Arena;
use crate::engine::queue::{ConsumerId, MessageId, QueueId, Run, Window};
use crate::engine::vhost::ConnectionId;
use crate::error::AmqpError;
use crate::store::Waiter;

/// Octets of deliveries that may wait for a connection. Enough for a fast consumer to be fed while its task sleeps, little
/// enough that ten thousand stalled ones stay within a few gigabytes.
const WINDOW_BYTES: usize = 512 * 1024;

/// Messages for one consumer.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) channel: ChannelId,
    pub(super) tag: ShortString,
    pub(super) consumer: ConsumerId,
    pub(super) queue: QueueId,
    pub(super) no_ack: bool,
    pub(super) ack_timeout: Option<Duration>,
    /// It tells the offsets of its messages.
    pub(super) from_stream: bool,
    pub(super) run: Run,
}

/// Something for a connection to do.
#[derive(Debug)]
pub(super) enum Event {
    /// Send these messages.
    Deliver(Delivery),
    /// Send this reply, the only message of its arena, to the channel's reply consumer if it still has this name.
    Reply { channel: ChannelId, name: ShortString, message: Arc<Arena> },
    /// A consumer's queue is gone.
    Cancelled { channel: ChannelId, tag: ShortString, consumer: ConsumerId, queue: QueueId },
    /// Close the connection.
    Close(AmqpError),
    /// Tell what there is to see.
    Inspect(oneshot::Sender<ConnectionFigures>),
    /// Tell which of these messages of a queue it has not settled.
    Holds(HoldsQuestion),
}

/// A question which messages of a queue a connection has not settled.
#[derive(Debug)]
pub(super) struct HoldsQuestion {
    pub(super) queue: QueueId,
    pub(super) messages: Arc<HashSet<MessageId>>,
    pub(super) reply: oneshot::Sender<Vec<Held>>,
}

#[derive(Debug, Default)]
struct Inner {
    events: Vec<Event>,
    waker: Option<Waker>,
    /// Somebody had news while the connection was not asleep.
    news: bool,
}

/// The mailbox of a connection.
#[derive(Debug)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    /// Whose it is.
    pub(super) owner: ConnectionId,
    pub(super) window: Arc<Window>,
}

impl Outbox {
    pub(super) fn new(owner: ConnectionId) -> Self {
        Self { inner: Mutex::default(), owner, window: Arc::new(Window::new(WINDOW_BYTES)) }
    }

    /// Adds an event and wakes the connection.
    pub(super) fn push(&self, event: Event) {
        let waker = {
            let mut inner = self.inner.lock();
            inner.events.push(event);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Asks the connection for its figures. Questions that nobody waits for any more make room: a connection whose client
    /// takes nothing looks at none of them.
    pub(super) fn inspect(&self) -> oneshot::Receiver<ConnectionFigures> {
        let (reply, figures) = oneshot::channel();
        self.inner.lock().events.retain(|event| !matches!(event, Event::Inspect(reply) if reply.is_closed()));
        self.push(Event::Inspect(reply));
        figures
    }

    /// Asks which of these messages of a queue the connection has not settled. As with [`Outbox::inspect`].
    pub(super) fn ask_holds(&self, queue: QueueId, messages: Arc<HashSet<MessageId>>) -> oneshot::Receiver<Vec<Held>> {
        let (reply, held) = oneshot::channel();
        let is_over = |event: &Event| matches!(event, Event::Holds(question) if question.reply.is_closed());
        self.inner.lock().events.retain(|event| !is_over(event));
        self.push(Event::Holds(HoldsQuestion { queue, messages, reply }));
        held
    }

    /// Takes what is there into `events`, which is empty.
    pub(super) fn take(&self, events: &mut Vec<Event>) {
        std::mem::swap(&mut self.inner.lock().events, events);
    }

    /// Remembers whom to wake; false when there is news already. Waiting events are news unless `events_wait`.
    pub(super) fn register(&self, context: &Context<'_>, events_wait: bool) -> bool {
        let mut inner = self.inner.lock();
        if std::mem::take(&mut inner.news) || (!events_wait && !inner.events.is_empty()) {
            return false;
        }
        match &inner.waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => inner.waker = Some(context.waker().clone()),
        }
        true
    }
}

impl Waiter for Outbox {
    fn wake(&self) {
        let waker = {
            let mut inner = self.inner.lock();
            inner.news = true;
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
