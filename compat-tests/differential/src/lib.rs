//! The same scripted sessions against Leveret and a real RabbitMQ, compared frame by frame.
//!
//! A scenario is a short script of what clients send. It is said to a RabbitMQ node in a vhost of its own, and to a Leveret
//! of its own; what comes back on each channel is written down, what differs by nature is masked (`masks`), and the two
//! transcripts must be the same, but for differences that the scenario lists and that have a row in `docs/deviations.md`.
//!
//! Not here: whether the codec is right, which golden frames of real clients show (`protocol/tests`); load; crashes.
#![expect(
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "deadlines need a clock; what is not handled in a special way is any other method"
)]

mod client;
mod compare;
mod ctl;
mod leveret;
mod masks;
mod oracle;
mod releases;
mod run;
mod script;
mod session;
mod text;

pub use oracle::{Managed, Plain, start_managed, start_plain};
pub use run::{Options, run};
