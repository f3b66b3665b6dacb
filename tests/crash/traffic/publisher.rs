//! Publishing with confirms: bursts over two channels of one connection, to every kind of exchange.

use leveret_protocol::{Method, basic, confirm};

use super::Context;
use crate::client::{Arrived, Client, Outcome, problem};
use crate::log::{Log, Published};
use crate::messages::{Many, MessageId, Queue, Route, Sent};
use crate::random::Random;

/// Messages of one connection in one round; after them it only waits for the end. A fast machine shall not fill the disk.
const MESSAGES_MAX: usize = 4000;

/// Large messages of one connection in one round.
const LARGE_MESSAGES_MAX: usize = 1500;

/// Messages written at once.
const BURST_MAX: usize = 60;

/// Messages without a confirm before the next burst.
const UNCONFIRMED_MAX: usize = 200;

/// Opens a channel and puts it into confirm mode.
pub fn confirm_mode(client: &mut Client, channel: u16) -> Outcome<()> {
    client.open_channel(channel)?;
    client.send(channel, confirm::Select { no_wait: false });
    client.expect("confirm.select-ok")
}

/// What a confirm channel sent.
pub struct Stream {
    channel: u16,
    number: u32,
    /// Where the publish with this confirm number (less one) stands in the log; `None` once it is confirmed.
    waiting: Vec<Option<usize>>,
    /// How many of them wait.
    pub unconfirmed: usize,
}

impl Stream {
    /// A new channel in confirm mode.
    pub fn open(client: &mut Client, channel: u16, stream: u32) -> Outcome<Self> {
        confirm_mode(client, channel)?;
        Ok(Self { channel, number: stream, waiting: Vec::new(), unconfirmed: 0 })
    }

    /// The next message of the stream.
    fn next_id(&self) -> MessageId {
        MessageId { stream: self.number, number: u32::try_from(self.waiting.len()).expect("few") }
    }

    /// The number of the next message.
    pub fn next_number(&self) -> u32 {
        self.next_id().number
    }

    /// Appends a message to what will be sent.
    pub fn publish(&mut self, client: &mut Client, route: Route, random: &mut Random, log: &mut Log) {
        self.publish_this(client, Sent::new(self.next_id(), route, random), log);
    }

    /// The same for a message that comes back if it goes nowhere.
    pub fn publish_mandatory(&mut self, client: &mut Client, route: Route, random: &mut Random, log: &mut Log) {
        let sent = Sent::new(self.next_id(), route, random);
        self.note(sent, log);
        let publish = basic::Publish { mandatory: true, ..sent.publish() };
        client.publish(self.channel, publish, &sent.properties(), &sent.body());
    }

    fn publish_this(&mut self, client: &mut Client, sent: Sent, log: &mut Log) {
        self.note(sent, log);
        client.publish(self.channel, sent.publish(), &sent.properties(), &sent.body());
    }

    fn note(&mut self, sent: Sent, log: &mut Log) {
        self.waiting.push(Some(log.published.len()));
        self.unconfirmed += 1;
        log.published.push(Published { sent, confirmed: false });
    }

    /// A confirm came. Each message is confirmed once.
    pub fn on_ack(&mut self, ack: &basic::Ack, log: &mut Log) -> Outcome<()> {
        let tag = usize::try_from(ack.delivery_tag.get()).expect("64 bits");
        if !matches!(tag.checked_sub(1).and_then(|last| self.waiting.get(last)), Some(Some(_))) {
            return problem(format!("{ack:?}, which is not waited for"));
        }
        let first = if ack.multiple { 0 } else { tag - 1 };
        for slot in &mut self.waiting[first..tag] {
            if let Some(at) = slot.take() {
                log.published[at].confirmed = true;
                self.unconfirmed -= 1;
            }
        }
        Ok(())
    }
}

/// Any of the queues that have a meaning of their own.
pub fn any_route(random: &mut Random) -> Route {
    match random.between(0, 29) {
        0..=3 => Route::To(Queue::First),
        4..=7 => Route::To(Queue::Second),
        8..=11 => Route::Fan,
        12..=13 => Route::Even,
        14..=15 => Route::Odd,
        16..=19 => Route::To(Queue::Work),
        20..=21 => Route::To(Queue::Bounded),
        22 => Route::To(Queue::Brief),
        23..=24 => Route::To(Queue::TxIn),
        25..=27 => Route::To(Queue::Failing),
        _ => Route::To(Queue::Ranked),
    }
}

/// Any of the first so many of the many queues, and sometimes all of them.
pub fn wide_route(width: u16, random: &mut Random) -> Route {
    if random.once_in(40) {
        return Route::Spread(width);
    }
    let number = u16::try_from(random.between(0, u64::from(width) - 1)).expect("at most the width");
    match Many::of(number) {
        // Only dead letters come there.
        Many::Dead | Many::Expired => Route::To(Queue::Many(number - 1)),
        _ => Route::To(Queue::Many(number)),
    }
}

pub fn run(context: &mut Context, random_route: impl Fn(&mut Random) -> Route) -> Outcome<()> {
    let mut client = context.connect()?;
    let mut streams = [
        Stream::open(&mut client, 1, context.numbers.stream())?,
        Stream::open(&mut client, 2, context.numbers.stream())?,
    ];
    context.begin();
    let (mut published, mut route) = (0, random_route(&mut context.random));
    loop {
        if published < MESSAGES_MAX {
            for _ in 0..context.random.count(1, BURST_MAX) {
                // Several in a row for the same queues: the broker treats them as one.
                if context.random.once_in(4) {
                    route = random_route(&mut context.random);
                }
                let at = context.random.count(0, 1);
                streams[at].publish(&mut client, route, &mut context.random, &mut context.log);
                published += 1;
            }
            client.flush()?;
        }
        let allowed = if published < MESSAGES_MAX { context.random.count(0, UNCONFIRMED_MAX) } else { 0 };
        loop {
            let unconfirmed: usize = streams.iter().map(|stream| stream.unconfirmed).sum();
            if unconfirmed <= allowed && published < MESSAGES_MAX {
                break;
            }
            let Arrived { channel, method, .. } = client.next()?;
            match (method, streams.iter_mut().find(|stream| stream.channel == channel)) {
                (Method::BasicAck(ack), Some(stream)) => stream.on_ack(&ack, &mut context.log)?,
                (other, _) => return problem(format!("unexpected on channel {channel}: {other:?}")),
            }
        }
    }
}

/// Publishes large messages to one queue, as fast as they are confirmed.
pub fn run_large(context: &mut Context, queue: Queue) -> Outcome<()> {
    let mut client = context.connect()?;
    let mut stream = Stream::open(&mut client, 1, context.numbers.stream())?;
    context.begin();
    loop {
        while stream.unconfirmed < UNCONFIRMED_MAX && stream.waiting.len() < LARGE_MESSAGES_MAX {
            let sent = Sent::large(stream.next_id(), Route::To(queue), &mut context.random);
            stream.publish_this(&mut client, sent, &mut context.log);
        }
        match client.next()?.method {
            Method::BasicAck(ack) => stream.on_ack(&ack, &mut context.log)?,
            other => return problem(format!("unexpected: {other:?}")),
        }
    }
}
