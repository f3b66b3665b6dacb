//! Closing connections.

use super::CTL;
use crate::control::request::{ConnectionRequest, Request};
use crate::ctl::call::Call;
use crate::ctl::failure::Failure;
use crate::ctl::output::Output;
use crate::ctl::table::{Command, Group};
use crate::server::operator::ConnectionSelection;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "close_connection",
        group: Group::Operations,
        tools: CTL,
        usage: "<connection pid> <explanation>",
        about: "Instructs the broker to close the connection with this pid (see list_connections pid)",
        args: (2, 2),
        switches: &[],
        run: close_connection,
    },
    Command {
        name: "close_all_connections",
        group: Group::Operations,
        tools: CTL,
        usage: "[--vhost <vhost> --limit <limit>] [-n <node> --global] [--per-connection-delay <delay>] <explanation>",
        about: "Instructs the broker to close all connections for the specified vhost or entire RabbitMQ node",
        args: (1, 1),
        switches: &["global", "limit=", "per-connection-delay="],
        run: close_all_connections,
    },
    Command {
        name: "close_all_user_connections",
        group: Group::Operations,
        tools: CTL,
        usage: "<username> <explanation>",
        about: "Instructs the broker to close all connections of the specified user",
        args: (2, 2),
        switches: &[],
        run: close_all_user_connections,
    },
];

fn close_connection(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (pid, reason) = (call.word(0).to_owned(), call.word(1).to_owned());
    call.banner(&format!("Closing connection {pid}, reason: {reason}..."))?;
    call.ask::<()>(&Request::Connections(ConnectionRequest::Close { pid, reason }))?;
    Ok(Output::Done)
}

fn number<N: std::str::FromStr + Default>(call: &Call<'_>, switch: &str) -> Result<N, Failure> {
    let Some(value) = call.own(switch) else { return Ok(N::default()) };
    value.parse().map_err(|_| call.misused(&format!("Invalid options for this command:\n--{switch} : {value}")))
}

fn close_all_connections(call: &mut Call<'_>) -> Result<Output, Failure> {
    let reason = call.word(0).to_owned();
    let global = call.has("global");
    let limit: usize = number(call, "limit")?;
    let pause_ms = number(call, "per-connection-delay")?;
    let vhost = call.vhost();
    call.banner(&match (global, limit) {
        (true, _) => format!("Closing all connections to node {} (global), reason: {reason}...", call.node()),
        (false, 0) => format!("Closing all connections in vhost {vhost}, reason: {reason}..."),
        (false, limit) => format!("Closing {limit} connections in vhost {vhost}, reason: {reason}..."),
    })?;
    let which = ConnectionSelection { vhost: (!global).then_some(vhost), user: None, limit, pause_ms };
    let closed: usize = call.ask(&Request::Connections(ConnectionRequest::CloseMany { which, reason }))?;
    Ok(Output::Message(format!("Closed {closed} connections")))
}

fn close_all_user_connections(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (user, reason) = (call.word(0).to_owned(), call.word(1).to_owned());
    call.banner(&format!("Closing connections of user {user}, reason: {reason}..."))?;
    let which = ConnectionSelection { vhost: None, user: Some(user), limit: 0, pause_ms: 0 };
    call.ask::<usize>(&Request::Connections(ConnectionRequest::CloseMany { which, reason }))?;
    Ok(Output::Done)
}
