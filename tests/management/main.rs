//! The management HTTP API over sockets: what RabbitMQ's tools ask for, and what nobody should.

mod access;
mod hostile;
mod lists;
mod objects;
mod support;
