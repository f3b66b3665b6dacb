//! The management HTTP API: RabbitMQ's `/api`, for its tools, its clients and whatever was written for them.
//!
//! It runs on threads of its own ([`Management`]): whatever is asked here, connections of AMQP do not wait for it.
//! `server` takes HTTP/1.1 from sockets, bounded in time and octets; `routes` finds the handler; a handler is a function of
//! a [`Caller`](caller::Caller), who has logged in, that calls `server/operator` and turns its records into JSON. There is a
//! file for each theme, each with its `routes`.
//!
//! Invariants: nothing but `/` and `/api` itself is answered without a login that has one of the management tags (a health
//! check that probes call without credentials says so itself); a body is read only of somebody who has logged in; what a
//! caller sees is of the vhosts that they may enter.
//! Not here: what a change means (`server/operator`), AMQP.

mod attempts;
mod bindings;
mod body;
mod caller;
mod channels;
mod client;
mod connections;
mod consumers;
mod contents;
mod cors;
mod definitions;
mod deprecated;
mod exchanges;
mod health;
mod limits;
mod list;
mod messages;
mod node;
mod overview;
mod parameters;
mod permissions;
mod policies;
mod problem;
mod prometheus;
mod queues;
mod reply;
mod request;
mod routes;
mod server;
mod stand_ins;
mod users;
mod vhosts;

pub(crate) use server::{Door, Management, bind};
