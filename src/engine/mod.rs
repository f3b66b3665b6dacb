//! The engine: values in, effects out. No I/O, no clock, no randomness, no locks, no runtime.
//!
//! Time comes as a parameter, names from a generator that the caller seeds, and where the order of iteration can be
//! observed it is defined. What two threads must see (a prefetch limit shared by a channel's consumers) is an atomic.

pub mod channel;
pub mod condition;
pub mod dead_letter;
pub mod directory;
pub mod exchange;
pub mod firehose;
pub mod handshake;
pub mod message;
pub mod names;
pub mod queue;
pub mod redrive;
pub mod statistics;
pub mod stream;
pub mod vhost;
