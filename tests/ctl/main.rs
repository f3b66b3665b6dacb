//! The command line against a running broker: the real binary, under the names of RabbitMQ's tools.
//!
//! `recorded.txt` is what the tools of RabbitMQ 3.10 wrote, command by command, against a fresh vhost; `recorded` runs the
//! same commands here and compares every line and every exit code.
#![cfg(unix)]
#![expect(clippy::disallowed_methods, reason = "a test binary: deadlines need a clock")]

mod broker;
mod commands;
mod configuration;
mod messages;
mod recorded;
mod systemd;
