//! What the behaviour tests share: brokers, a client that speaks raw frames, expectations, short names for common steps.
//!
//! Nothing here sleeps to let something happen: an expectation waits for its event, up to [`DEADLINE`].

mod broker;
mod certificates;
mod client;
mod expect;
mod options;
mod steps;
mod stream;
mod values;

use std::time::{Duration, Instant};

pub use broker::{DirectoryOf, Fixture, TestBroker, TunedBroker, is_oracle, policy};
pub use certificates::{Authority, Identity};
pub use client::{Arrived, Client, frame, header_frame, method_frame};
pub use expect::Received;
pub use options::{Options, amqplain, plain};
pub use steps::{
    close_channel_method, close_connection_method, consume, exclusive, mandatory, passive, passive_exchange, publish_to,
};
pub use stream::{Stream, TlsClient};
pub use values::*;

/// How long a test waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Polls until the condition holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub const fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}
