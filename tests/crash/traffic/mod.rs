//! Clients at work until the broker is gone: publishers, consumers, a relay, transactions, definitions.

mod consumer;
mod definitions;
mod publisher;
mod relay;
mod transactions;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use leveret_protocol::basic;

use crate::client::{Client, Content, Outcome, Stop};
use crate::log::{Delivery, Log, Settlement, Verdict};
use crate::messages::{Came, MessageId, Queue};
use crate::random::Random;

use consumer::Style;
pub use definitions::publish as publish_temporary;

/// Connections that publish with confirms, each on two channels.
const PUBLISHERS: usize = 3;

/// The frame sizes that clients choose from.
const FRAME_SIZES: [u32; 3] = [4096, 16_384, 131_072];

/// What a client needs.
struct Context {
    addr: SocketAddr,
    round: u32,
    random: Random,
    numbers: Numbers,
    log: Log,
    /// Dropped once the client is connected and begins.
    begins: Option<mpsc::Sender<()>>,
}

/// Numbers that are given once.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    stream: Arc<AtomicU32>,
    consumer: Arc<AtomicU32>,
}

impl Numbers {
    /// A new stream of messages.
    pub fn stream(&self) -> u32 {
        self.stream.fetch_add(1, Ordering::Relaxed)
    }

    fn consumer(&self) -> u32 {
        self.consumer.fetch_add(1, Ordering::Relaxed)
    }
}

impl Context {
    fn connect(&mut self) -> Outcome<Client> {
        let frame_max = FRAME_SIZES[self.random.count(0, FRAME_SIZES.len() - 1)];
        Client::open(self.addr, frame_max)
    }

    /// Everything before the work is done.
    fn begin(&mut self) {
        self.begins = None;
    }

    fn on_deliver(
        &mut self,
        queue: Queue,
        consumer: u32,
        deliver: basic::Deliver,
        content: Option<Content>,
    ) -> Outcome<MessageId> {
        let basic::Deliver { exchange, routing_key, redelivered, .. } = deliver;
        let content = content.ok_or_else(|| Stop::Problem("a delivery without content".to_owned()))?;
        let (id, came) = Came::read(exchange, routing_key, content)?;
        self.log.deliveries.push(Delivery { queue, id, redelivered, consumer, came });
        Ok(id)
    }

    fn settle(&mut self, queue: Queue, id: MessageId, verdict: Verdict) {
        self.log.settlements.push(Settlement { queue, id, verdict });
    }
}

/// Clients at work.
pub struct Traffic {
    clients: Vec<JoinHandle<Log>>,
}

impl Traffic {
    /// Starts every client, and waits until they are at work.
    pub fn start(addr: SocketAddr, round: u32, random: &mut Random, numbers: &Numbers) -> Self {
        let mut traffic = Self { clients: Vec::new() };
        let (sender, all_at_work) = mpsc::channel();
        let mut start = |name: String, work: Box<dyn FnOnce(&mut Context) -> Outcome<()> + Send>| {
            let log = Log::default();
            let (random, numbers, begins) = (random.fork(), numbers.clone(), Some(sender.clone()));
            let mut context = Context { addr, round, random, numbers, log, begins };
            let body = move || {
                if let Err(Stop::Problem(text)) = work(&mut context) {
                    let name = std::thread::current().name().unwrap_or_default().to_owned();
                    context.log.problems.push(format!("{name}: {text}"));
                }
                context.log
            };
            let thread = std::thread::Builder::new().name(name).spawn(body).expect("a thread can be started");
            traffic.clients.push(thread);
        };
        for number in 0..PUBLISHERS {
            start(format!("publisher {number}"), Box::new(publisher::run));
        }
        for style in Style::ALL {
            start(
                format!("consumer of {}", style.queue.name()),
                Box::new(move |context| consumer::run(context, style)),
            );
        }
        start("relay".to_owned(), Box::new(relay::run));
        start("transactions by get".to_owned(), Box::new(transactions::run_by_get));
        start("transactions by consume".to_owned(), Box::new(transactions::run_by_consume));
        start("definitions".to_owned(), Box::new(definitions::run));
        drop(sender);
        // Nothing is sent: this ends when the last client has begun, or failed.
        let _ = all_at_work.recv();
        traffic
    }

    /// Waits until the clients have noticed that the broker is gone; what they did and saw.
    pub fn finish(self) -> Log {
        let mut log = Log::default();
        for client in self.clients {
            log.merge(client.join().expect("a client does not panic"));
        }
        log
    }
}
