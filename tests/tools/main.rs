//! `leveret backup`, `restore`, `inspect` and `verify`: the real binary.
#![cfg(unix)]
#![expect(clippy::disallowed_methods, reason = "a test binary: deadlines need a clock")]

mod backup;
mod broker;
mod files;
