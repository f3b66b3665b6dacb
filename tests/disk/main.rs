//! The real binary and bad disks: one that fills up, one that is full, files that are cut off or something else, a directory
//! that cannot be written. What was confirmed stays, and who runs the broker reads which file is to blame.
//!
//! A disk of a size of its own is a tmpfs in a mount namespace of the test's process (`mounts`): the tests run as root, or
//! where users may have namespaces; elsewhere they say that they were skipped, or fail if `LEVERET_REQUIRE_MOUNT` is set.
#![cfg(target_os = "linux")]
#![expect(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "a test binary: nothing is exported, deadlines need a clock, what was not expected is any method but one"
)]

#[path = "../crash/broker.rs"]
#[allow(dead_code, reason = "shared with tests/crash")]
mod broker;
#[path = "../crash/client.rs"]
#[allow(dead_code, reason = "shared with tests/crash")]
mod client;
mod damage;
mod mounts;
mod space;
mod traffic;
