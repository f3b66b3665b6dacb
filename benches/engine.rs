//! What the engine and the codec cost: `cargo bench --bench engine`. Prints numbers and asserts nothing.

use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use leveret::engine::directory::Access;
use leveret::engine::exchange::{Destination, Routing};
use leveret::engine::message::{Arena, ArenaBuilder, Body, MessageParts, Timestamp};
use leveret::engine::queue::{ConsumerSpec, Delivered, Queue, QueueEffect, QueueId, QueueSettings, Window};
use leveret::engine::vhost::{Binding, ConnectionId, QueueDeclaration, Vhost};
use leveret_protocol::{
    BasicProperties, ChannelId, FieldTable, Method, PropertiesRef, ShortString, basic, encode_content, split_frame,
};

fn main() {
    divan::main();
}

const BATCH: u32 = 512;
const NOW: Timestamp = Timestamp::from_millis(1);

fn arena(body: &[u8]) -> Arc<Arena> {
    let mut builder = ArenaBuilder::with_capacity(BATCH as usize * (body.len() + 64), BATCH as usize);
    for _ in 0..BATCH {
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

#[divan::bench(args = [16, 1024])]
fn pack_messages(bencher: Bencher<'_, '_>, size: usize) {
    let body = vec![7; size];
    bencher.counter(ItemsCount::new(BATCH)).bench(|| arena(black_box(&body)));
}

/// In, out to a consumer with prefetch, acked: what a queue does for a message in all.
#[divan::bench]
fn queue_publish_deliver_ack(bencher: Bencher<'_, '_>) {
    let messages = arena(&[7; 16]);
    let window = Arc::new(Window::new(usize::MAX));
    let mut queue = Queue::new(QueueSettings::default(), false, NOW);
    let consumer = queue.add_consumer(
        NOW,
        ConsumerSpec {
            tag: ShortString::from_static("c"),
            channel: ChannelId::new(1),
            no_ack: false,
            exclusive: false,
            prefetch: 1000,
            priority: 0,
            ack_timeout: None,
            channel_limit: Arc::default(),
            window,
        },
    );
    let mut effects = Vec::new();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        queue.publish(NOW, &messages, false, &mut effects);
        for effect in std::mem::take(&mut effects) {
            if let QueueEffect::Deliver { run, .. } = effect {
                let last = run.first_seq + u64::from(run.count) - 1;
                let (consumer, lane) = (Some(consumer), run.lane);
                queue.ack(NOW, Delivered { consumer, lane, first_seq: run.first_seq, last_seq: last }, &mut effects);
            }
        }
    });
}

/// A topic exchange with bindings of which a third is literal, a third has `*`, a third `#`; each key matches one.
#[divan::bench(args = [10, 1_000, 100_000])]
fn route_by_topic(bencher: Bencher<'_, '_>, bindings: u32) {
    let mut vhost = Vhost::new(ShortString::from_static("/"));
    for number in 0..10 {
        let name = ShortString::truncated(&format!("q{number}"));
        let declaration = QueueDeclaration {
            name,
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::new(),
            server_named: false,
        };
        let id = QueueId::new(number + 1);
        vhost.declare_queue(declaration, ConnectionId::new(1), &Access::unlimited(), || Ok(id)).expect("declared");
    }
    for number in 0..bindings {
        let pattern = match number % 3 {
            0 => format!("k{number}.a.b"),
            1 => format!("k{number}.*.b"),
            _ => format!("k{number}.#"),
        };
        let binding = Binding {
            source: ShortString::from_static("amq.topic"),
            destination: Destination::Queue(QueueId::new(u64::from(number % 10) + 1)),
            routing_key: ShortString::truncated(&pattern),
            arguments: FieldTable::new(),
        };
        vhost.bind(binding).expect("bound");
    }
    let exchange = ShortString::from_static("amq.topic");
    let mut number = 0;
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        number = (number + 7919) % bindings;
        let key = format!("k{number}.a.b");
        let keys = [key.as_bytes()];
        vhost.route_publish(&exchange, &Routing::new(&keys, &[0, 0], 0))
    });
}

#[divan::bench]
fn decode_publish_frames(bencher: Bencher<'_, '_>) {
    let mut octets = Vec::new();
    let mut properties = Vec::new();
    BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() }.encode(&mut properties);
    for _ in 0..BATCH {
        let publish = basic::Publish { routing_key: ShortString::from_static("orders"), ..basic::Publish::default() };
        Method::from(publish).encode_frame(ChannelId::new(1), &mut octets);
        encode_content(ChannelId::new(1), &properties, &[7; 16], 131_072, &mut octets);
    }
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        let mut rest = black_box(&octets[..]);
        let mut frames = 0;
        while let Ok(Some((frame, used))) = split_frame(rest, 131_072) {
            if frame.kind == 1 {
                black_box(basic::PublishRef::decode(&frame.payload[4..]).is_ok());
            }
            frames += 1;
            rest = &rest[used..];
        }
        frames
    });
}

#[divan::bench]
fn decode_properties_with_headers(bencher: Bencher<'_, '_>) {
    let headers: FieldTable = (0..8).map(|n| (ShortString::truncated(&format!("key-{n}")), n.into())).collect();
    let properties = BasicProperties {
        content_type: Some(ShortString::from_static("application/json")),
        headers: Some(headers),
        delivery_mode: Some(2),
        ..BasicProperties::default()
    };
    let mut octets = Vec::new();
    properties.encode(&mut octets);
    bencher.bench(|| PropertiesRef::decode(black_box(&octets)).is_ok());
}
