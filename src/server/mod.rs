//! The shell: sockets, locks, timers. It carries out what the engine decides.

pub(crate) mod alarms;
pub(crate) mod broker;
mod budget;
pub(crate) mod clock;
mod connection;
mod definitions;
pub(crate) mod directory;
pub(crate) mod listener;
pub(crate) mod logins;
mod new_vhost;
pub(crate) mod operator;
mod outbox;
mod placing;
mod proxy;
mod queue_cell;
mod queue_order;
mod quota;
pub(crate) mod registry;
mod replies;
mod scan;
pub(crate) mod statistics;
mod stream_cell;
mod timer;
pub(crate) mod tls;
mod transfer;
mod waiting_room;
mod work;

#[cfg(test)]
#[path = "../../tests/sim/mod.rs"]
pub(crate) mod sim;
