//! Behaviour tests over real sockets: a module per AMQP behaviour, one binary.
//!
//! The client is synchronous and speaks raw frames (`support`), so that a test can send what no client library would. All
//! tests share one ephemeral broker inside this process, each with names of its own; `durability` and the tests of limits start brokers of their own.
//!
//! `LEVERET_TEST_BROKER=127.0.0.1:5672 cargo test --test amqp` runs the same tests against whatever listens there, usually
//! RabbitMQ 3.10, the oracle that proves the tests themselves. Where the target is RabbitMQ 4's behaviour or one of our own
//! choosing, the test asks `support::is_oracle()` and says so.
#![expect(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "a test binary: nothing is exported, deadlines need a clock, what was not expected is any method but one"
)]

mod support;

mod ack_timeout;
mod acks;
mod alarms;
mod cc_bcc;
mod channels;
mod confirms;
mod consume;
mod dead_letter;
mod delayed;
mod delivery_limit;
mod depth;
mod durability;
mod exchanges;
mod frames;
mod handshake;
mod hash_exchanges;
mod headers;
mod heartbeats;
mod hostile;
mod length_limits;
mod memory;
mod metrics;
mod node_limits;
mod permissions;
mod pipelining;
mod policies;
mod prefetch;
mod priorities;
mod private_keys;
mod proxy;
mod publish_return;
mod queue_arguments;
mod queues;
mod quorum;
mod recent_history;
mod reply_to;
mod routing;
mod statistics;
mod streams;
mod tls;
mod topics;
mod tracing;
mod transactions;
mod ttl;
mod vhosts;
mod waiting_room;
