//! The scenarios, and what each of them is to cost.

/// A load, and its targets.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Octets of a body.
    pub(crate) size: u32,
    /// Options of `leveret perf`.
    pub(crate) options: &'static str,
    /// What is counted.
    pub(crate) per: Per,
    /// The broker's CPU time for a message in µs that is aimed at, and how many times less than RabbitMQ's that is.
    pub(crate) target: Option<(f64, f64)>,
}

/// What is counted as a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Per {
    Published,
    Delivered,
}

const AUTO: &str = "--auto-ack";
const ACK: &str = "--prefetch 1000";
const CONFIRM: &str = "--persistent --confirm 1000 --prefetch 1000";
const MANY: &str = "--persistent --confirm 1000 --prefetch 1000 --publishers 10 --consumers 10 --queues 10";
const SHARED: &str = "--persistent --confirm 1000 --prefetch 1000 --publishers 50 --consumers 50";
const FANOUT: &str = "--auto-ack --exchange leveret-perf --exchange-type fanout --queues 10 --consumers 10";
const TOPIC: &str =
    "--auto-ack --exchange leveret-perf --exchange-type topic --topic-bindings 1000 --queues 10 --consumers 10";
const STEADY: &str = "--persistent --confirm 1000 --prefetch 1000 --rate 1000 --write-bytes 1";
const SINGLE: &str = "--persistent --confirm 1 --prefetch 1000 --write-bytes 1";

const fn published(
    name: &'static str,
    title: &'static str,
    size: u32,
    options: &'static str,
    target: Option<(f64, f64)>,
) -> Scenario {
    Scenario { name, title, size, options, per: Per::Published, target }
}

const fn delivered(
    name: &'static str,
    title: &'static str,
    size: u32,
    options: &'static str,
    target: (f64, f64),
) -> Scenario {
    Scenario { name, title, size, options, per: Per::Delivered, target: Some(target) }
}

/// One publisher, one consumer, one queue, unless it says otherwise.
pub(crate) const SCENARIOS: &[Scenario] = &[
    published("auto-16", "transient, auto-ack, 16 B", 16, AUTO, Some((0.20, 50.0))),
    published("auto-1k", "the same, 1 KiB", 1024, AUTO, Some((0.40, 24.0))),
    published("auto-16k", "the same, 16 KiB", 16_384, AUTO, None),
    published("ack-16", "transient, each acked, prefetch 1000, 16 B", 16, ACK, Some((0.25, 64.0))),
    published("ack-1k", "the same, 1 KiB", 1024, ACK, Some((0.45, 44.0))),
    published("ack-16k", "the same, 16 KiB", 16_384, ACK, Some((4.0, 6.7))),
    published(
        "confirm-16",
        "persistent, confirms (1000 outstanding), each acked, 16 B",
        16,
        CONFIRM,
        Some((0.40, 72.0)),
    ),
    published("confirm-1k", "the same, 1 KiB", 1024, CONFIRM, Some((1.2, 30.0))),
    published("confirm-16k", "the same, 16 KiB", 16_384, CONFIRM, Some((12.0, 8.0))),
    published("many-16", "the same, 10 publishers, consumers, queues, 16 B", 16, MANY, Some((0.45, 68.0))),
    published("many-1k", "the same, 1 KiB", 1024, MANY, Some((1.3, 26.0))),
    published("shared-16", "the same, 50 publishers and consumers, 1 queue, 16 B", 16, SHARED, Some((0.5, 100.0))),
    published("shared-1k", "the same, 1 KiB", 1024, SHARED, Some((1.3, 46.0))),
    delivered("fanout-16", "fan-out to 10 queues, a delivery, 16 B", 16, FANOUT, (0.15, 41.0)),
    delivered("fanout-1k", "the same, 1 KiB", 1024, FANOUT, (0.4, 24.0)),
    published("topic-16", "topic exchange, 1,000 bindings, 10 queues, 16 B", 16, TOPIC, Some((0.5, 70.0))),
    published("steady-1k", "persistent, confirms, 1,000 a second, 1 KiB", 1024, STEADY, None),
    published("single-16", "persistent, one publish at a time, 16 B", 16, SINGLE, None),
];
