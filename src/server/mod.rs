//! The shell: sockets, locks, timers. It carries out what the engine decides.

pub(crate) mod broker;
pub(crate) mod clock;
mod connection;
mod definitions;
pub(crate) mod directory;
pub(crate) mod listener;
mod outbox;
mod placing;
mod queue_cell;
pub(crate) mod registry;
mod replies;
mod timer;
mod work;
