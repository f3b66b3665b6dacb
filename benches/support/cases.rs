//! What the engine, the codec and the store's encoding do for messages, in pieces small enough to be measured alone: timed by
//! `engine`, counted in instructions by `counts`.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use leveret::engine::directory::Access;
use leveret::engine::exchange::{Destination, Routing};
use leveret::engine::message::{Arena, ArenaBuilder, Body, MessageParts, Timestamp};
use leveret::engine::queue::{ConsumerSpec, Delivered, Queue, QueueEffect, QueueId, QueueSettings, Window};
use leveret::engine::vhost::{Binding, ConnectionId, QueueDeclaration, Vhost};
use leveret_protocol::{
    BasicProperties, ChannelId, FieldTable, FieldValue, LongString, Method, PropertiesRef, ShortString, basic,
    encode_content, split_frame,
};

const BATCH: u32 = 512;
const NOW: Timestamp = Timestamp::from_millis(1);

/// A piece of work. It can be done again and again.
pub(crate) type Work = Box<dyn FnMut()>;

/// A piece of work that is measured.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Messages, or whatever else it is about, that it deals with.
    pub(crate) items: u32,
    pub(crate) prepare: fn() -> Work,
}

const fn case(name: &'static str, items: u32, prepare: fn() -> Work) -> Case {
    Case { name, items, prepare }
}

/// All of them.
pub(crate) const CASES: &[Case] = &[
    case("codec: decode a publish", BATCH, decode_publishes),
    case("codec: encode a publish", BATCH, encode_publishes),
    case("codec: properties with 8 headers", 1, decode_headers),
    case("pack 16 B", BATCH, || pack(16)),
    case("pack 1 KiB", BATCH, || pack(1024)),
    case("queue: in, out, acked, 512 at once", BATCH, || queue_cycle(BATCH)),
    case("queue: in, out, acked, one by one", 1, || queue_cycle(1)),
    case("queue: delivered and requeued", BATCH, requeue),
    case("route: direct, 1,000 bindings", 1, || route("amq.direct", 1000)),
    case("route: topic, 10 bindings", 1, || route("amq.topic", 10)),
    case("route: topic, 1,000 bindings", 1, || route("amq.topic", 1000)),
    case("route: topic, 10,000 bindings", 1, || route("amq.topic", 10_000)),
    case("route: topic, 100,000 bindings", 1, || route("amq.topic", 100_000)),
    case("route: headers, 1,000 bindings", 1, || route("amq.headers", 1000)),
    case("store: write records of 16 B", BATCH, || write_records(16)),
    case("store: write records of 1 KiB", BATCH, || write_records(1024)),
    case("store: read records of 16 B", BATCH, || read_records(16)),
];

fn arena(count: u32, body: &[u8]) -> Arc<Arena> {
    let mut builder = ArenaBuilder::with_capacity(count as usize * (body.len() + 64), count as usize);
    for _ in 0..count {
        builder.push(&MessageParts {
            exchange: b"",
            routing_key: b"orders",
            properties: &[0x10, 0, 1],
            body: Body::Borrowed(body),
            persistent: false,
            priority: 0,
            expiration_ms: None,
            broker_deaths: false,
            enqueued_at: NOW,
        });
    }
    builder.finish()
}

fn pack(size: usize) -> Work {
    let body = vec![7; size];
    Box::new(move || drop(black_box(arena(BATCH, black_box(&body)))))
}

fn queue() -> (Queue, ConsumerSpec) {
    let queue = Queue::new(QueueSettings::default(), false, NOW);
    let spec = ConsumerSpec {
        tag: ShortString::from_static("c"),
        channel: ChannelId::new(1),
        no_ack: false,
        exclusive: false,
        prefetch: 1000,
        priority: 0,
        ack_timeout: None,
        channel_limit: Arc::default(),
        window: Arc::new(Window::new(usize::MAX)),
    };
    (queue, spec)
}

/// In, out to a consumer with prefetch, acked: what a queue does for a message in all.
fn queue_cycle(count: u32) -> Work {
    let messages = arena(count, &[7; 16]);
    let (mut queue, spec) = queue();
    let consumer = queue.add_consumer(NOW, spec);
    let mut effects = Vec::new();
    Box::new(move || {
        queue.publish(NOW, &messages, false, &mut effects);
        for effect in std::mem::take(&mut effects) {
            if let QueueEffect::Deliver { run, .. } = effect {
                let last_seq = run.first_seq + u64::from(run.count) - 1;
                let delivered =
                    Delivered { consumer: Some(consumer), lane: run.lane, first_seq: run.first_seq, last_seq };
                queue.ack(NOW, delivered, &mut effects);
            }
        }
        effects.clear();
    })
}

/// Delivered to a consumer that hands everything back; the queue always holds the same messages.
fn requeue() -> Work {
    let (mut queue, spec) = queue();
    let consumer = queue.add_consumer(NOW, spec);
    let mut effects = Vec::new();
    queue.publish(NOW, &arena(BATCH, &[7; 16]), false, &mut effects);
    Box::new(move || {
        for effect in std::mem::take(&mut effects) {
            if let QueueEffect::Deliver { run, .. } = effect {
                let last_seq = run.first_seq + u64::from(run.count) - 1;
                let delivered =
                    Delivered { consumer: Some(consumer), lane: run.lane, first_seq: run.first_seq, last_seq };
                queue.requeue(NOW, delivered, &mut effects);
            }
        }
    })
}

/// A publish with a key of one binding. Of a topic exchange a third of the bindings is literal, a third has `*`, a third `#`;
/// to a headers exchange a message with one header comes.
fn route(exchange: &'static str, bindings: u32) -> Work {
    let mut vhost = Vhost::new(ShortString::from_static("/"));
    for number in 0..10 {
        let declaration = QueueDeclaration {
            name: ShortString::truncated(&format!("q{number}")),
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::new(),
            server_named: false,
        };
        let id = QueueId::new(number + 1);
        vhost.declare_queue(declaration, ConnectionId::new(1), &Access::unlimited(), || Ok(id)).expect("declared");
    }
    let exchange_name = ShortString::from_static(exchange);
    let value = |number: u32| {
        let text = LongString::try_from(format!("v{number}").into_bytes()).expect("short");
        std::iter::once((ShortString::from_static("kind"), FieldValue::LongString(text))).collect::<FieldTable>()
    };
    for number in 0..bindings {
        let pattern = match number % 3 {
            _ if exchange == "amq.direct" => format!("k{number}.a.b"),
            0 => format!("k{number}.a.b"),
            1 => format!("k{number}.*.b"),
            _ => format!("k{number}.#"),
        };
        let arguments = if exchange == "amq.headers" { value(number) } else { FieldTable::new() };
        let binding = Binding {
            source: exchange_name.clone(),
            destination: Destination::Queue(QueueId::new(u64::from(number % 10) + 1)),
            routing_key: ShortString::truncated(&pattern),
            arguments,
        };
        vhost.bind(binding).expect("bound");
    }
    let mut properties = Vec::new();
    let headers = (exchange == "amq.headers").then(|| value(bindings / 2));
    BasicProperties { headers, ..BasicProperties::default() }.encode(&mut properties);
    let mut number = 0;
    Box::new(move || {
        number = (number + 7919) % bindings;
        let key = format!("k{number}.a.b");
        let keys = [key.as_bytes()];
        black_box(vhost.route_publish(&exchange_name, &Routing::new(&keys, &properties, 0)).is_ok());
    })
}

fn publishes() -> Vec<u8> {
    let mut octets = Vec::new();
    let mut properties = Vec::new();
    BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() }.encode(&mut properties);
    for _ in 0..BATCH {
        let publish = basic::Publish { routing_key: ShortString::from_static("orders"), ..basic::Publish::default() };
        Method::from(publish).encode_frame(ChannelId::new(1), &mut octets);
        encode_content(ChannelId::new(1), &properties, &[7; 16], 131_072, &mut octets);
    }
    octets
}

fn encode_publishes() -> Work {
    Box::new(|| drop(black_box(publishes())))
}

fn decode_publishes() -> Work {
    let octets = publishes();
    Box::new(move || {
        let mut rest = black_box(&octets[..]);
        while let Ok(Some((frame, used))) = split_frame(rest, 131_072) {
            if frame.kind == 1 {
                black_box(basic::PublishRef::decode(&frame.payload[4..]).is_ok());
            }
            rest = &rest[used..];
        }
    })
}

fn decode_headers() -> Work {
    let headers: FieldTable = (0..8).map(|n| (ShortString::truncated(&format!("key-{n}")), n.into())).collect();
    let properties = BasicProperties {
        content_type: Some(ShortString::from_static("application/json")),
        headers: Some(headers),
        delivery_mode: Some(2),
        ..BasicProperties::default()
    };
    let mut octets = Vec::new();
    properties.encode(&mut octets);
    Box::new(move || {
        black_box(PropertiesRef::decode(black_box(&octets)).is_ok());
    })
}

/// As the journal and the database get them.
fn write_records(size: usize) -> Work {
    let messages = arena(BATCH, &vec![7; size]);
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        messages.write_records(0, BATCH, &mut out);
        black_box(&out);
    })
}

/// As they come back from the disk.
fn read_records(size: usize) -> Work {
    let messages = arena(BATCH, &vec![7; size]);
    let (mut out, mut offsets) = (Vec::new(), Vec::new());
    for index in 0..BATCH {
        offsets.push(u32::try_from(out.len()).expect("small"));
        messages.write_records(index, 1, &mut out);
    }
    let octets = Bytes::from(out);
    Box::new(move || {
        black_box(Arena::from_records(octets.clone(), offsets.clone(), 1).is_some());
    })
}
