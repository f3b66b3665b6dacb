//! Health checks: success is exit code 0, anything else is not.

use std::collections::BTreeSet;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::json;

use super::{CTL, DIAGNOSTICS};
use crate::control::request::{NodeRequest, Request};
use crate::ctl::Tool;
use crate::ctl::call::Call;
use crate::ctl::failure::{Failure, UNAVAILABLE};
use crate::ctl::output::Output;
use crate::ctl::table::{Command, Group};
use crate::server::clock;
use crate::server::operator::{ListenerInfo, NodeInfo};
use crate::server::tls::Held;

/// How long a listener may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const fn check(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    args: (usize, usize),
    run: fn(&mut Call<'_>) -> Result<Output, Failure>,
) -> Command {
    Command {
        name,
        group: Group::Monitoring,
        tools: DIAGNOSTICS,
        usage,
        about,
        args,
        switches: &["within=", "unit="],
        run,
    }
}

pub(super) const COMMANDS: &[Command] = &[
    check(
        "alarms",
        "[--timeout <timeout>]",
        "Lists resource alarms (local or cluster-wide) in effect on the target node",
        (0, 0),
        alarms,
    ),
    check(
        "check_alarms",
        "[--timeout <timeout>]",
        "Health check that exits with a non-zero code if the target node reports any alarms, local or cluster-wide.",
        (0, 0),
        check_alarms,
    ),
    check(
        "check_local_alarms",
        "[--timeout <timeout>]",
        "Health check that exits with a non-zero code if the target node reports any local alarms",
        (0, 0),
        check_local_alarms,
    ),
    check(
        "check_running",
        "[--timeout <timeout>]",
        "Health check that exits with a non-zero code if the broker on the target node is not running",
        (0, 0),
        check_running,
    ),
    check(
        "check_virtual_hosts",
        "[--timeout <timeout>]",
        "Health check that checks if all vhosts are running in the target node",
        (0, 0),
        check_virtual_hosts,
    ),
    check(
        "check_port_connectivity",
        "[--timeout <timeout>]",
        "Basic TCP connectivity health check for each listener's port on the target node",
        (0, 0),
        check_port_connectivity,
    ),
    check(
        "check_port_listener",
        "<port> [--timeout <timeout>]",
        "Health check that exits with a non-zero code if target node does not have an active listener for given port",
        (1, 1),
        check_port_listener,
    ),
    check(
        "check_protocol_listener",
        "<protocol> [--timeout <timeout>]",
        "Health check that exits with a non-zero code if target node does not have an active listener for given protocol",
        (1, 1),
        check_protocol_listener,
    ),
    check(
        "check_certificate_expiration",
        "[--within <period>] [--unit <unit>]",
        "Checks the expiration date on the certificates for every listener configured to use TLS",
        (0, 0),
        check_certificate_expiration,
    ),
    Command {
        name: "node_health_check",
        group: Group::Deprecated,
        tools: &[Tool::Ctl, Tool::Diagnostics],
        usage: "[--timeout <timeout>]",
        about: "DEPRECATED. See the checks of rabbitmq-diagnostics",
        args: (0, 0),
        switches: &[],
        run: node_health_check,
    },
    Command {
        name: "list_unresponsive_queues",
        group: Group::Monitoring,
        tools: CTL,
        usage: "[--local] [--queue-timeout <milliseconds>] [<column> ...] [--no-table-headers] [--timeout <timeout>]",
        about: "Tests queues to respond within timeout. Lists those which did not respond",
        args: (0, crate::ctl::table::ANY),
        switches: &["local", "queue-timeout="],
        run: list_unresponsive_queues,
    },
];

fn alarms(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node();
    call.banner(&format!("Asking node {node} to report any known resource alarms ..."))?;
    let info = super::node::info(call)?;
    let text = if info.alarms.is_empty() {
        format!("Node {node} reported no alarms, local or clusterwide")
    } else {
        info.alarms.join("\n")
    };
    let json = json!({"result": "ok", "node": node, "alarms": info.alarms});
    Ok(Output::Value { text, json })
}

fn no_alarms(call: &mut Call<'_>, what: &str) -> Result<Output, Failure> {
    let node = call.node();
    call.banner(&format!("Asking node {node} to report any local resource alarms ..."))?;
    let info = super::node::info(call)?;
    if !info.alarms.is_empty() {
        return Err(Failure::error(UNAVAILABLE, info.alarms.join("\n")));
    }
    call.banner(&format!("Node {node} reported no {what}"))?;
    Ok(Output::Done)
}

fn check_alarms(call: &mut Call<'_>) -> Result<Output, Failure> {
    no_alarms(call, "alarms, local or clusterwide")
}

fn check_local_alarms(call: &mut Call<'_>) -> Result<Output, Failure> {
    no_alarms(call, "local alarms")
}

fn check_running(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node();
    call.banner(&format!("Checking if RabbitMQ is running on node {node} ..."))?;
    super::node::info(call)?;
    Ok(Output::Message(format!("RabbitMQ on node {node} is fully booted and running")))
}

fn check_virtual_hosts(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node();
    call.banner(&format!("Checking if all vhosts are running on node {node} ..."))?;
    super::node::info(call)?;
    call.banner(&format!("Node {node} reported all vhosts as running"))?;
    Ok(Output::Done)
}

/// The ports in ascending order, each once.
fn ports(info: &NodeInfo) -> String {
    let ports: BTreeSet<u16> = info.listeners.iter().map(|listener| listener.port).collect();
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether something accepts there. A listener on every address is tried on this machine's own.
fn accepts(listener: &ListenerInfo) -> bool {
    let host = match listener.interface.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        other => other,
    };
    let reach = |host: &str| {
        let addresses = format!("{host}:{}", listener.port).to_socket_addrs();
        addresses.is_ok_and(|mut all| all.any(|at| TcpStream::connect_timeout(&at, CONNECT_TIMEOUT).is_ok()))
    };
    // A listener on [::] serves IPv4 too, and a machine may have nothing else.
    reach(host) || (listener.interface == "[::]" && reach("127.0.0.1"))
}

fn check_port_connectivity(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node();
    call.banner(&format!("Testing TCP connections to all active listeners on node {node} ..."))?;
    let info = super::node::info(call)?;
    let deaf: Vec<_> = info.listeners.iter().filter(|listener| !accepts(listener)).collect();
    if deaf.is_empty() {
        return Ok(Output::Message(format!("Successfully connected to ports {} on node {node}.", ports(&info))));
    }
    let lines: Vec<_> = deaf.into_iter().map(super::node::listener_line).collect();
    let text = format!("Connection to ports of the following listeners on node {node} failed: \n{}", lines.join("\n"));
    Err(Failure::error(UNAVAILABLE, text))
}

fn check_port_listener(call: &mut Call<'_>) -> Result<Output, Failure> {
    let wanted = call.word(0);
    let Some(port) = wanted.parse::<u16>().ok().filter(|port| *port > 0) else {
        return Err(call.invalid("Bad argument: Argument must be a positive integer"));
    };
    let node = call.node();
    call.banner(&format!("Asking node {node} if there's an active listener on port {port} ..."))?;
    let info = super::node::info(call)?;
    if info.listeners.iter().any(|listener| listener.port == port) {
        return Ok(Output::Message(format!("A listener for port {port} is running on node {node}.")));
    }
    let found = ports(&info);
    Err(Failure::plain(
        UNAVAILABLE,
        format!(
            "No listener for port {port} is active on node {node}. Found listeners that use the following ports: {found}"
        ),
    ))
}

fn check_protocol_listener(call: &mut Call<'_>) -> Result<Output, Failure> {
    let wanted = call.word(0);
    let node = call.node();
    call.banner(&format!("Asking node {node} if there's an active listener for protocol {wanted} ..."))?;
    let info = super::node::info(call)?;
    // RabbitMQ takes several names for its own protocol.
    let name = match wanted.to_ascii_lowercase().as_str() {
        "amqp091" | "amqp0.9.1" | "amqp0-9-1" | "amqp" => "amqp".to_owned(),
        other => other.to_owned(),
    };
    if info.listeners.iter().any(|listener| listener.protocol.name() == name) {
        return Ok(Output::Message(format!("A listener for protocol {wanted} is running on node {node}.")));
    }
    let found: BTreeSet<_> = info.listeners.iter().map(|listener| listener.protocol.name()).collect();
    let found = found.into_iter().collect::<Vec<_>>().join(", ");
    Err(Failure::error(
        UNAVAILABLE,
        format!(
            "No listener for protocol {wanted} is active on node {node}. Found listeners for the following protocols: \
             {found}"
        ),
    ))
}

/// Days of the units in which a time to come may be given.
const UNITS: [(&str, u64); 4] = [("days", 1), ("weeks", 7), ("months", 30), ("years", 365)];

fn check_certificate_expiration(call: &mut Call<'_>) -> Result<Output, Failure> {
    let within = call.own("within").unwrap_or("4").to_owned();
    let unit = call.own("unit").unwrap_or("weeks").to_owned();
    let days = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, days)| *days).ok_or_else(|| {
        call.invalid(&format!("unit '{unit}' is not supported. Please use one of: days, weeks, months, years"))
    })?;
    let periods: u64 = within.parse().map_err(|_| call.invalid(&format!("'{within}' is no number of {unit}")))?;
    let node = call.node();
    call.banner(&format!("Checking certificate expiration on node {node} ..."))?;
    let held: Vec<Held> = call.ask(&Request::Node(NodeRequest::Certificates))?;
    let horizon = clock::now().as_millis() / 1000 + periods.saturating_mul(days).saturating_mul(24 * 3600);
    let expiring: Vec<&Held> = held.iter().filter(|held| held.expires_at <= horizon).collect();
    let label = if periods == 1 { unit.trim_end_matches('s') } else { &unit };
    if expiring.is_empty() {
        return Ok(Output::Message(format!("No certificates are expiring within {within} {label}.")));
    }
    let lines = expiring.iter().map(|held| format!("{}: {} of {}", held.listener, held.subject, held.file));
    let lines = lines.collect::<Vec<_>>().join("\n");
    Err(Failure::error(UNAVAILABLE, format!("Certificates expiring within {within} {label}:\n{lines}")))
}

fn node_health_check(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node();
    call.banner("This command is DEPRECATED and will be removed in a future version.")?;
    call.banner(&format!("Checking health of node {node} ..."))?;
    let info = super::node::info(call)?;
    if info.alarms.is_empty() {
        return Ok(Output::Message("Health check passed".to_owned()));
    }
    Err(Failure::error(UNAVAILABLE, format!("resource alarm(s) in effect:\n{}", info.alarms.join("\n"))))
}

fn list_unresponsive_queues(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Listing unresponsive queues for vhost {} ...", call.vhost()))?;
    // Whoever answers for a queue holds its lock: one that does not respond would keep the answer from coming.
    super::listings::queues_respond(call)?;
    Ok(Output::Done)
}
