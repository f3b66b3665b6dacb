//! The queues of the simulated world: one of each kind whose rules differ, and where their dead letters go.

use leveret_protocol::{FieldTable, FieldValue, ShortString, exchange, queue};

use crate::engine::vhost::long_string;

/// An argument's value.
#[derive(Clone, Copy, Debug)]
enum Value {
    Number(i64),
    Text(&'static str),
}

/// What is known of a queue.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// It survives a restart.
    pub(super) durable: bool,
    /// A quorum queue: transient messages are stored too, priorities count.
    pub(super) quorum: bool,
    /// Deliveries without ack are allowed; what such a consumer loses nobody knows.
    pub(super) no_ack: bool,
    /// Messages of higher priority overtake others.
    pub(super) priorities: bool,
    /// What comes back keeps its place.
    pub(super) ordered: bool,
    /// A full queue refuses what is published.
    pub(super) refuses: bool,
    /// Only one consumer is served.
    pub(super) single: bool,
    /// How often a message may come back.
    pub(super) limit: Option<u32>,
    /// Its messages live for a few seconds only.
    pub(super) brief: bool,
    /// The index of the queue that gets its dead letters.
    pub(super) dead: Option<usize>,
    /// The index of the queue whose dead letters it gets.
    pub(super) letters_of: Option<usize>,
    arguments: &'static [(&'static str, Value)],
}

const PLAIN: Kind = Kind {
    name: "plain",
    durable: true,
    quorum: false,
    no_ack: false,
    priorities: false,
    ordered: true,
    refuses: false,
    single: false,
    limit: None,
    brief: false,
    dead: None,
    letters_of: None,
    arguments: &[],
};

/// The exchange for dead letters.
const LETTERS: &str = "letters";
/// The exchange that sends to several queues.
pub(super) const FAN: &str = "fan";
/// The exchange that sends to the queue that the routing key names, and for the key `fan` to all that [`FAN`] has.
pub(super) const PICK: &str = "pick";

const fn letters(name: &'static str, of: usize) -> Kind {
    Kind { name, letters_of: Some(of), ..PLAIN }
}

/// How many queues messages are published to; the others get dead letters.
pub(super) const SOURCES: usize = 12;

/// Every queue.
pub(super) const KINDS: [Kind; 16] = [
    PLAIN,
    Kind { name: "shared", no_ack: true, ..PLAIN },
    Kind { name: "priority", priorities: true, arguments: &[("x-max-priority", Value::Number(3))], ..PLAIN },
    Kind {
        name: "quorum",
        quorum: true,
        priorities: true,
        limit: Some(2),
        dead: Some(12),
        arguments: &[
            ("x-queue-type", Value::Text("quorum")),
            ("x-delivery-limit", Value::Number(2)),
            ("x-dead-letter-exchange", Value::Text(LETTERS)),
            ("x-dead-letter-routing-key", Value::Text("dead-quorum")),
        ],
        ..PLAIN
    },
    Kind {
        name: "brief",
        brief: true,
        dead: Some(13),
        arguments: &[
            ("x-message-ttl", Value::Number(3000)),
            ("x-dead-letter-exchange", Value::Text(LETTERS)),
            ("x-dead-letter-routing-key", Value::Text("dead-brief")),
        ],
        ..PLAIN
    },
    Kind {
        name: "short",
        dead: Some(14),
        arguments: &[
            ("x-max-length", Value::Number(6)),
            ("x-dead-letter-exchange", Value::Text(LETTERS)),
            ("x-dead-letter-routing-key", Value::Text("dead-short")),
        ],
        ..PLAIN
    },
    Kind {
        name: "full",
        refuses: true,
        arguments: &[("x-max-length", Value::Number(6)), ("x-overflow", Value::Text("reject-publish"))],
        ..PLAIN
    },
    Kind { name: "memory", durable: false, no_ack: true, ..PLAIN },
    Kind { name: "single", single: true, arguments: &[("x-single-active-consumer", Value::Text("true"))], ..PLAIN },
    Kind {
        name: "mortal",
        dead: Some(15),
        arguments: &[
            ("x-dead-letter-exchange", Value::Text(LETTERS)),
            ("x-dead-letter-routing-key", Value::Text("dead-mortal")),
        ],
        ..PLAIN
    },
    Kind {
        name: "forever",
        quorum: true,
        priorities: true,
        ordered: false,
        arguments: &[("x-queue-type", Value::Text("quorum")), ("x-delivery-limit", Value::Number(-1))],
        ..PLAIN
    },
    Kind {
        name: "counted",
        limit: Some(4),
        // Without dead letters what came back too often is gone; nobody is told.
        arguments: &[("x-delivery-limit", Value::Number(4))],
        ..PLAIN
    },
    letters("dead-quorum", 3),
    letters("dead-brief", 4),
    letters("dead-short", 5),
    letters("dead-mortal", 9),
];

fn s(text: &str) -> ShortString {
    ShortString::try_from(text.as_bytes()).expect("a short name")
}

impl Kind {
    /// The queue that a message came into first, whose dead letters these may be.
    pub(super) fn source(&self, own: usize) -> usize {
        self.letters_of.unwrap_or(own)
    }

    fn arguments(&self) -> FieldTable {
        let value = |value: &Value| match *value {
            Value::Number(number) => FieldValue::Int64(number),
            Value::Text("true") => FieldValue::Boolean(true),
            Value::Text(text) => long_string(text.as_bytes()),
        };
        self.arguments.iter().map(|(name, argument)| (s(name), value(argument))).collect()
    }

    /// How it is declared.
    pub(super) fn declaration(&self) -> queue::Declare {
        queue::Declare {
            queue: s(self.name),
            durable: self.durable,
            arguments: self.arguments(),
            ..queue::Declare::default()
        }
    }
}

/// The exchanges.
pub(super) fn exchanges() -> Vec<exchange::Declare> {
    let declare = |name: &str, kind: &str| exchange::Declare {
        exchange: s(name),
        kind: s(kind),
        durable: true,
        ..exchange::Declare::default()
    };
    vec![declare(LETTERS, "direct"), declare(FAN, "fanout"), declare(PICK, "direct")]
}

/// The bindings of queues; `fanned` are bound to [`FAN`].
pub(super) fn bindings(fanned: &[usize]) -> Vec<queue::Bind> {
    let bind = |queue: usize, source: &str| queue::Bind {
        queue: s(KINDS[queue].name),
        exchange: s(source),
        routing_key: s(KINDS[queue].name),
        ..queue::Bind::default()
    };
    let letters = (SOURCES..KINDS.len()).map(|queue| bind(queue, LETTERS));
    let picked = (0..SOURCES).map(|queue| bind(queue, PICK));
    letters.chain(picked).chain(fanned.iter().map(|queue| bind(*queue, FAN))).collect()
}

/// The binding between the two exchanges.
pub(super) fn relay() -> exchange::Bind {
    exchange::Bind { destination: s(FAN), source: s(PICK), routing_key: s(FAN), ..exchange::Bind::default() }
}
