//! Leveret, an AMQP 0-9-1 message broker: a drop-in for RabbitMQ's clients.
//!
//! ```text
//! socket ─► codec (leveret-protocol) ─► connection task ─► channel ─► routing ─► queue ─► outbox ─► connection task ─► socket
//!                                                                        └► store thread (redb, group commit) ─► confirms
//! ```
//!
//! - [`engine`] decides: pure state machines, values in, effects out. No I/O, no clock, no locks.
//! - `server` acts: sockets, locks, timers. Its map of locks stands in `server/registry.rs`.
//! - [`store`] keeps: definitions and messages, on redb or in memory.
//! - `control` lets operators in: a socket, and requests that end in `server/operator`.
//! - `management` is RabbitMQ's management HTTP API, another door to the same place.
//! - [`tools`] backs a store up, restores, inspects and verifies it.
//! - [`config`] and [`error`] are what their names say; [`perf`] is a load generator for any AMQP 0-9-1 broker.
//!
//! Invariants: a confirm leaves after the fsynced commit of every durable queue that the message went to; what one client
//! operation does to several queues is one transaction of the store; no lock is held across an await; every buffer has a
//! bound.
//!
//! [`Broker::start`] embeds a broker in a program or a test.

mod built_in;
pub mod config;
mod control;
#[cfg(unix)]
pub mod ctl;
mod definitions;
pub mod engine;
pub mod error;
pub mod log_file;
mod management;
mod panics;
pub mod perf;
mod server;
pub mod store;
pub mod tools;

pub use config::{Compat, Config, ControlSocket, DataDir, ManagementConfig};
pub use server::alarms::{Levels, Resource, ResourceStatus};
pub use server::broker::{Broker, StartError};
