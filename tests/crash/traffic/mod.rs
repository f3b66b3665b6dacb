//! Clients at work until the broker is gone or their connections are cut: publishers, consumers, a relay, transactions,
//! definitions, and clients that purge, delete and bind.

mod changes;
mod consumer;
mod definitions;
mod publisher;
mod relay;
mod transactions;

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread::JoinHandle;

use leveret_protocol::basic;

use crate::client::{Client, Content, Outcome, Stop};
use crate::log::{Delivery, Log, Settlement, Standing, Verdict};
use crate::messages::{Came, MessageId, Queue};
use crate::random::Random;

use consumer::{Source, Style};
pub use definitions::publish as publish_temporary;
pub use publisher::confirm_mode;

/// Connections that publish with confirms, each on two channels.
const PUBLISHERS: usize = 4;

/// Connections that publish to many queues.
const WIDE_PUBLISHERS: usize = 2;

/// Connections that publish large messages.
const LARGE_PUBLISHERS: usize = 2;

/// The frame sizes that clients choose from.
const FRAME_SIZES: [u32; 3] = [4096, 16_384, 131_072];

/// What a client needs.
struct Context {
    addr: SocketAddr,
    round: u32,
    random: Random,
    numbers: Numbers,
    log: Log,
    /// Which of the clients it is.
    slot: usize,
    /// The definitions that it may find.
    standing: Standing,
    cutter: Cutter,
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

/// Cuts connections, as a network would. `None` once it has.
#[derive(Clone, Debug)]
struct Cutter(Arc<Mutex<Option<Vec<Weak<TcpStream>>>>>);

impl Cutter {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(Vec::new()))))
    }

    /// A connection to be cut; it is refused if that has happened.
    fn add(&self, stream: Weak<TcpStream>) -> Outcome<()> {
        // A client that panicked leaves it as it was.
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(streams) => streams.push(stream),
            None => return Err(Stop::Lost),
        }
        Ok(())
    }

    fn cut(&self) {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        for stream in streams.into_iter().flatten().filter_map(|stream| stream.upgrade()) {
            // It may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Context {
    fn connect(&mut self) -> Outcome<Client> {
        let frame_max = FRAME_SIZES[self.random.count(0, FRAME_SIZES.len() - 1)];
        let client = Client::open(self.addr, frame_max)?;
        self.cutter.add(client.socket())?;
        Ok(client)
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
        self.log.settlements.push(Settlement { queue, id, verdict, stored: false });
    }
}

/// Clients at work.
pub struct Traffic {
    clients: Vec<JoinHandle<Log>>,
    cutter: Cutter,
}

/// What the clients of a round do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// A little of everything, some of it spread over so many of the many queues.
    Everything(u16),
    /// Large messages through one queue, deeper than what is kept in memory.
    Deep,
}

type Work = Box<dyn FnOnce(&mut Context) -> Outcome<()> + Send>;

impl Plan {
    fn clients(self) -> Vec<(String, Work)> {
        let mut clients: Vec<(String, Work)> = Vec::new();
        let consumer = |style: Style| {
            let work: Work = Box::new(move |context| consumer::run(context, style));
            let name = match style.source {
                Source::One(queue) => format!("consumer of {}", queue.name()),
                Source::Wide(width) => format!("consumer of {width} queues"),
            };
            (name, work)
        };
        match self {
            Self::Everything(width) => {
                clients.extend(Style::ALL.map(consumer));
                clients.extend(Style::wide(width).map(consumer));
                for number in 0..PUBLISHERS {
                    let work: Work = Box::new(|context| publisher::run(context, publisher::any_route));
                    clients.push((format!("publisher {number}"), work));
                }
                for number in 0..WIDE_PUBLISHERS {
                    let route = move |random: &mut Random| publisher::wide_route(width, random);
                    let work: Work = Box::new(move |context| publisher::run(context, route));
                    clients.push((format!("publisher {number} to {width} queues"), work));
                }
                let work: Work = Box::new(move |context| transactions::run_wide(context, width));
                clients.push((format!("transactions over {width} queues"), work));
                clients.push(("purges".to_owned(), Box::new(changes::purge)));
                clients.push(("rebirths".to_owned(), Box::new(changes::rebirth)));
                clients.push(("bindings".to_owned(), Box::new(changes::shift)));
                clients.push(("relay".to_owned(), Box::new(relay::run)));
                clients.push(("transactions by get".to_owned(), Box::new(transactions::run_by_get)));
                clients.push(("transactions by consume".to_owned(), Box::new(transactions::run_by_consume)));
                clients.push(("definitions".to_owned(), Box::new(definitions::run)));
            }
            Self::Deep => {
                clients.extend(Style::DEEP.map(consumer));
                for number in 0..LARGE_PUBLISHERS {
                    let work: Work = Box::new(|context| publisher::run_large(context, Queue::First));
                    clients.push((format!("publisher {number} of large messages"), work));
                }
            }
        }
        clients
    }
}

impl Traffic {
    /// Starts every client, and waits until they are at work.
    pub fn start(
        plan: Plan,
        addr: SocketAddr,
        round: u32,
        random: &mut Random,
        numbers: &Numbers,
        standing: Standing,
    ) -> Self {
        let (sender, all_at_work) = mpsc::channel();
        let cutter = Cutter::new();
        let start = |(slot, (name, work)): (usize, (String, Work))| {
            let (random, numbers, begins) = (random.fork(), numbers.clone(), Some(sender.clone()));
            let (log, cutter) = (Log::default(), cutter.clone());
            let mut context = Context { addr, round, random, numbers, log, slot, standing, cutter, begins };
            let body = move || {
                if let Err(Stop::Problem(text)) = work(&mut context) {
                    let name = std::thread::current().name().unwrap_or_default().to_owned();
                    context.log.problems.push(format!("{name}: {text}"));
                }
                context.log
            };
            std::thread::Builder::new().name(name).spawn(body).expect("a thread can be started")
        };
        let clients = plan.clients().into_iter().enumerate().map(start).collect();
        drop(sender);
        // Nothing is sent: this ends when the last client has begun, or failed.
        let _ = all_at_work.recv();
        Self { clients, cutter }
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.cutter.cut();
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
