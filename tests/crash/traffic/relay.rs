//! A relay: what it consumes on one channel it publishes on another, ack and publish in one write.
//!
//! The limit of unacked messages is the channel's (`global`), so an ack makes the broker look at the queue again while a
//! publish of the same turn has not been confirmed.

use leveret_protocol::{Method, basic};

use super::Context;
use super::publisher::Stream;
use crate::client::{Arrived, Outcome, problem, s};
use crate::log::Verdict;
use crate::messages::{Queue, Route};

const SOURCE: Queue = Queue::Second;
const TARGET: Route = Route::To(Queue::First);
const PREFETCH: u16 = 20;

pub fn run(context: &mut Context) -> Outcome<()> {
    let mut client = context.connect()?;
    let mut stream = Stream::open(&mut client, 1, context.numbers.stream())?;
    client.open_channel(2)?;
    client.send(2, basic::Qos { prefetch_count: PREFETCH, global: true, ..basic::Qos::default() });
    client.expect("basic.qos-ok")?;
    client.send(2, basic::Consume { queue: s(SOURCE.name()), consumer_tag: s("relay"), ..basic::Consume::default() });
    client.expect("basic.consume-ok")?;
    let consumer = context.numbers.consumer();
    context.begin();
    loop {
        let Arrived { channel, method, content } = client.next()?;
        match method {
            Method::BasicAck(ack) if channel == 1 => stream.on_ack(&ack, &mut context.log)?,
            Method::BasicDeliver(deliver) if channel == 2 => {
                let delivery_tag = deliver.delivery_tag;
                let id = context.on_deliver(SOURCE, consumer, deliver, content)?;
                context.settle(SOURCE, id, Verdict::Ack);
                stream.publish(&mut client, TARGET, &mut context.random, &mut context.log);
                client.send(2, basic::Ack { delivery_tag, multiple: false });
            }
            other => return problem(format!("unexpected on channel {channel}: {other:?}")),
        }
    }
}
