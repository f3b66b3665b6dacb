//! The management HTTP API over sockets: what RabbitMQ's tools ask for, and what nobody should.
#![expect(
    clippy::disallowed_methods,
    clippy::format_collect,
    clippy::format_push_string,
    reason = "a test binary: deadlines need a clock, and requests are put together where they can be read"
)]

mod access;
mod definitions;
mod health;
mod hostile;
mod lists;
mod messages;
mod objects;
mod support;
mod walk;
