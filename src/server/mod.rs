//! The shell: sockets, locks, timers. It carries out what the engine decides.

pub(crate) mod broker;
pub(crate) mod clock;
mod connection;
pub(crate) mod directory;
pub(crate) mod listener;
mod outbox;
mod queue_cell;
pub(crate) mod registry;
mod timer;
mod work;
