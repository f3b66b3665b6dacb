//! Listings: queues, exchanges, bindings, connections, channels, consumers.

use serde_json::{Map, Value};

use super::CTL;
use crate::control::request::{ConnectionRequest, QueueRequest, Request, TopologyRequest};
use crate::ctl::call::Call;
use crate::ctl::failure::Failure;
use crate::ctl::output::{Output, Style, Table};
use crate::ctl::table::{ANY, Command, Group};

/// Columns of queues: what RabbitMQ's tools accept. Those that mean nothing here are empty.
const QUEUE_COLUMNS: [&str; 42] = [
    "arguments",
    "auto_delete",
    "consumer_capacity",
    "consumer_utilisation",
    "consumers",
    "disk_reads",
    "disk_writes",
    "durable",
    "effective_policy_definition",
    "exclusive",
    "exclusive_consumer_pid",
    "exclusive_consumer_tag",
    "head_message_timestamp",
    "leader",
    "members",
    "memory",
    "message_bytes",
    "message_bytes_persistent",
    "message_bytes_ram",
    "message_bytes_ready",
    "message_bytes_unacknowledged",
    "messages",
    "messages_persistent",
    "messages_ram",
    "messages_ready",
    "messages_ready_ram",
    "messages_unacknowledged",
    "messages_unacknowledged_ram",
    "name",
    "online",
    "operator_policy",
    "owner_pid",
    "pid",
    "policy",
    "single_active_consumer_pid",
    "single_active_consumer_tag",
    "slave_pids",
    "state",
    "storage_version",
    "synchronised_slave_pids",
    "type",
    "vhost",
];

const EXCHANGE_COLUMNS: [&str; 8] =
    ["name", "type", "durable", "auto_delete", "internal", "arguments", "policy", "vhost"];

const BINDING_COLUMNS: [&str; 6] =
    ["source_name", "source_kind", "destination_name", "destination_kind", "routing_key", "arguments"];

const CONNECTION_COLUMNS: [&str; 34] = [
    "pid",
    "name",
    "port",
    "host",
    "peer_port",
    "peer_host",
    "ssl",
    "ssl_protocol",
    "ssl_key_exchange",
    "ssl_cipher",
    "ssl_hash",
    "peer_cert_subject",
    "peer_cert_issuer",
    "peer_cert_validity",
    "state",
    "channels",
    "protocol",
    "auth_mechanism",
    "user",
    "vhost",
    "timeout",
    "frame_max",
    "channel_max",
    "client_properties",
    "recv_oct",
    "recv_cnt",
    "send_oct",
    "send_cnt",
    "send_pend",
    "connected_at",
    "user_provided_name",
    "container_id",
    "node",
    "garbage_collection",
];

const CHANNEL_COLUMNS: [&str; 17] = [
    "pid",
    "connection",
    "name",
    "number",
    "user",
    "vhost",
    "transactional",
    "confirm",
    "consumer_count",
    "messages_unacknowledged",
    "messages_uncommitted",
    "acks_uncommitted",
    "messages_unconfirmed",
    "prefetch_count",
    "global_prefetch_count",
    "state",
    "node",
];

const CONSUMER_COLUMNS: [&str; 10] = [
    "queue_name",
    "channel_pid",
    "consumer_tag",
    "ack_required",
    "prefetch_count",
    "active",
    "activity_status",
    "exclusive",
    "arguments",
    "vhost",
];

pub(super) const COMMANDS: &[Command] = &[
    listing(
        "list_queues",
        "[--vhost <vhost>] [--online] [--offline] [--local] [--no-table-headers] [<column>, ...] [--timeout <timeout>]",
        "Lists queues and their properties",
        list_queues,
    ),
    listing(
        "list_exchanges",
        "[--vhost <vhost>] [--no-table-headers] [<column> ...] [--timeout <timeout>]",
        "Lists exchanges",
        list_exchanges,
    ),
    listing(
        "list_bindings",
        "[--vhost <vhost>] [--no-table-headers] [<column> ...] [--timeout <timeout>]",
        "Lists all bindings on a vhost",
        list_bindings,
    ),
    listing(
        "list_connections",
        "[--no-table-headers] [<column> ...] [--timeout <timeout>]",
        "Lists AMQP 0.9.1 connections for the node",
        list_connections,
    ),
    listing("list_channels", "[--no-table-headers] [<column> ...]", "Lists all channels in the node", list_channels),
    listing(
        "list_consumers",
        "[--vhost <vhost>] [--no-table-headers] [<column> ...] [--timeout <timeout>]",
        "Lists all consumers for a vhost",
        list_consumers,
    ),
];

const fn listing(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&mut Call<'_>) -> Result<Output, Failure>,
) -> Command {
    let switches = &["online", "offline", "local"];
    Command { name, group: Group::Monitoring, tools: CTL, usage, about, args: (0, ANY), switches, run }
}

/// The columns asked for, or the default ones. They may have commas between them.
pub(super) fn columns(call: &Call<'_>, known: &[&str], default: &[&str]) -> Result<Vec<String>, Failure> {
    let asked: Vec<&str> =
        call.words().iter().flat_map(|word| word.split([',', ' '])).filter(|word| !word.is_empty()).collect();
    let mut bad: Vec<&str> = asked.iter().copied().filter(|column| !known.contains(column)).collect();
    if !bad.is_empty() {
        bad.sort_unstable();
        return Err(call.misused(&format!("Info key(s) {} are not supported", bad.join(","))));
    }
    let chosen = if asked.is_empty() { default } else { &asked };
    Ok(chosen.iter().map(|column| (*column).to_owned()).collect())
}

fn streamed(columns: Vec<String>, rows: Vec<Map<String, Value>>) -> Output {
    Output::Table(Table { columns, rows, streamed: true, headed: true })
}

/// The first line of listings that can take long.
fn timeout_line(call: &Call<'_>) -> Result<(), Failure> {
    match call.timeout() {
        Some(timeout) => call.banner(&format!("Timeout: {:?} seconds ...", timeout.as_secs_f64())),
        None => Ok(()),
    }
}

fn list_queues(call: &mut Call<'_>) -> Result<Output, Failure> {
    let columns = columns(call, &QUEUE_COLUMNS, &["name", "messages"])?;
    timeout_line(call)?;
    let vhost = call.vhost();
    call.banner(&format!("Listing queues for vhost {vhost} ..."))?;
    let mut rows: Vec<Map<String, Value>> = call.ask(&Request::Queues(QueueRequest::List { vhost }))?;
    if call.has("offline") {
        // A queue of a single node is where the answer comes from.
        rows.clear();
    }
    Ok(streamed(columns, rows))
}

/// Asks for all queues of the vhost.
pub(super) fn queues_respond(call: &mut Call<'_>) -> Result<(), Failure> {
    let vhost = call.vhost();
    call.ask::<Value>(&Request::Queues(QueueRequest::List { vhost })).map(|_| ())
}

fn list_exchanges(call: &mut Call<'_>) -> Result<Output, Failure> {
    let columns = columns(call, &EXCHANGE_COLUMNS, &["name", "type"])?;
    let vhost = call.vhost();
    call.banner(&format!("Listing exchanges for vhost {vhost} ..."))?;
    Ok(streamed(columns, call.ask(&Request::Topology(TopologyRequest::Exchanges { vhost }))?))
}

fn list_bindings(call: &mut Call<'_>) -> Result<Output, Failure> {
    let columns = columns(call, &BINDING_COLUMNS, &BINDING_COLUMNS)?;
    let vhost = call.vhost();
    call.banner(&format!("Listing bindings for vhost {vhost}..."))?;
    Ok(streamed(columns, call.ask(&Request::Topology(TopologyRequest::Bindings { vhost }))?))
}

fn list_connections(call: &mut Call<'_>) -> Result<Output, Failure> {
    let columns = columns(call, &CONNECTION_COLUMNS, &["user", "peer_host", "peer_port", "state"])?;
    call.banner("Listing connections ...")?;
    Ok(streamed(columns, call.ask(&Request::Connections(ConnectionRequest::List))?))
}

fn list_channels(call: &mut Call<'_>) -> Result<Output, Failure> {
    let default = ["pid", "user", "consumer_count", "messages_unacknowledged"];
    let columns = columns(call, &CHANNEL_COLUMNS, &default)?;
    call.banner("Listing channels ...")?;
    Ok(streamed(columns, call.ask(&Request::Connections(ConnectionRequest::Channels))?))
}

fn list_consumers(call: &mut Call<'_>) -> Result<Output, Failure> {
    let default =
        ["queue_name", "channel_pid", "consumer_tag", "ack_required", "prefetch_count", "active", "arguments"];
    let columns = columns(call, &CONSUMER_COLUMNS, &default)?;
    let vhost = call.vhost();
    call.banner(&format!("Listing consumers in vhost {vhost} ..."))?;
    Ok(streamed(columns, call.ask(&Request::Queues(QueueRequest::Consumers { vhost }))?))
}

/// All listings of the vhost, for a report.
pub(super) fn report(call: &mut Call<'_>) -> Result<String, Failure> {
    let style = Style { headers: true, ..Style::default() };
    let vhost = call.vhost();
    let parts = [
        ("Connections", &CONNECTION_COLUMNS[..], Request::Connections(ConnectionRequest::List)),
        ("Channels", &CHANNEL_COLUMNS[..], Request::Connections(ConnectionRequest::Channels)),
        ("Queues", &QUEUE_COLUMNS[..], Request::Queues(QueueRequest::List { vhost: vhost.clone() })),
        ("Exchanges", &EXCHANGE_COLUMNS[..], Request::Topology(TopologyRequest::Exchanges { vhost: vhost.clone() })),
        ("Bindings", &BINDING_COLUMNS[..], Request::Topology(TopologyRequest::Bindings { vhost: vhost.clone() })),
        ("Consumers", &CONSUMER_COLUMNS[..], Request::Queues(QueueRequest::Consumers { vhost })),
    ];
    let mut text = String::new();
    for (heading, columns, request) in parts {
        let rows = call.ask(&request)?;
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        text.extend(["\n", heading, "\n\n", &streamed(columns, rows).render(style)]);
    }
    Ok(text)
}
