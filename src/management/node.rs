//! The node: `/api/nodes`, its memory, the cluster's name, the configuration in effect.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use super::body::{self, Members};
use super::caller::Caller;
use super::list::{Listing, Object, one};
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;
use crate::built_in::PLUGINS;
use crate::engine::directory::{GlobalParameterRecord, Record};
use crate::server::operator::{ListenerInfo, NodeInfo, Protocol};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/nodes", get(nodes))
        .route("/api/nodes/{node}", get(node))
        .route("/api/nodes/{node}/memory", get(memory))
        .route("/api/nodes/{node}/memory/relative", get(relative_memory))
        .route("/api/cluster-name", get(cluster_name).put(set_cluster_name))
        .route("/api/config/effective", get(configuration))
}

/// What listens, as RabbitMQ's API lists it.
pub(super) fn listeners(api: &Api) -> Value {
    let mut all = api.operator.listeners();
    all.sort_by(|a, b| (a.protocol.name(), a.port, &a.interface).cmp(&(b.protocol.name(), b.port, &b.interface)));
    all.iter().map(listener).collect()
}

fn listener(listener: &ListenerInfo) -> Value {
    json!({
        "ip_address": address(listener),
        "node": listener.node,
        "port": listener.port,
        "protocol": listener.protocol.name(),
        "socket_opts": { "nodelay": true },
        "tls": listener.protocol.is_encrypted(),
    })
}

fn address(listener: &ListenerInfo) -> &str {
    listener.interface.trim_start_matches('[').trim_end_matches(']')
}

/// The same for HTTP only, with other names.
pub(super) fn contexts(api: &Api) -> Value {
    let all = api.operator.listeners();
    all.iter().filter(|listener| matches!(listener.protocol, Protocol::Http | Protocol::Https)).map(context).collect()
}

fn context(listener: &ListenerInfo) -> Value {
    json!({
        "cowboy_opts": "[]",
        "description": "RabbitMQ Management",
        "ip": address(listener),
        "node": listener.node,
        "path": "/",
        "port": listener.port.to_string(),
        "protocol": "http",
        "ssl_opts": [],
    })
}

/// A node as RabbitMQ's API shows it. What only Erlang has is left out or 0.
fn node_object(api: &Api, info: &NodeInfo, stats_off: bool) -> Object {
    let mut node = object(json!({
        "name": info.name,
        "running": true,
        "type": "disc",
        "being_drained": false,
    }));
    if stats_off {
        return node;
    }
    let alarm = |start: &str| info.alarms.iter().any(|alarm| alarm.starts_with(start));
    // Tools find the version whose behaviour they may expect at the application `rabbit`.
    let applications = json!([
        {"name": "leveret", "description": "Leveret, an AMQP 0-9-1 message broker", "version": info.version},
        {"name": "rabbit", "description": "RabbitMQ", "version": info.rabbitmq_version},
    ]);
    node.extend(object(json!({
        "os_pid": info.os_pid.to_string(),
        "fd_total": info.open_files_limit,
        "fd_used": info.open_files,
        "sockets_total": info.open_files_limit,
        "sockets_used": info.connections,
        "mem_limit": info.memory_limit_bytes,
        "mem_used": info.memory_bytes,
        "mem_alarm": alarm("Memory"),
        "mem_calculation_strategy": "rss",
        "disk_free_limit": info.disk_free_limit_bytes,
        "disk_free": info.disk_free_bytes.unwrap_or(u64::MAX >> 11),
        "disk_free_alarm": alarm("Free disk"),
        // Nothing is so limited; monitors divide by it.
        "proc_total": 1_048_576,
        "proc_used": 0,
        "rates_mode": "basic",
        "uptime": info.uptime_seconds * 1000,
        "run_queue": 0,
        "processors": info.processors,
        "exchange_types": super::overview::exchange_types(),
        "auth_mechanisms": [
            {"name": "PLAIN", "description": "SASL PLAIN authentication mechanism", "enabled": true},
            {"name": "AMQPLAIN", "description": "QPid AMQPLAIN mechanism", "enabled": true},
        ],
        "applications": applications,
        "contexts": contexts(api),
        "log_files": info.log_files,
        "db_dir": info.data_dir.clone().unwrap_or_else(|| "none (in memory)".to_owned()),
        "storage_damaged_batches": info.damaged_batches,
        "storage_damaged_messages": info.damaged_messages,
        "config_files": [],
        "net_ticktime": 60,
        "enabled_plugins": PLUGINS,
        "ra_open_file_metrics": {},
        "metrics_gc_queue_length": {},
        "cluster_links": [],
        "partitions": [],
    })));
    node.extend(object(json!(api.operator.statistics(None).churn_rates)));
    node
}

async fn nodes(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    caller.monitor()?;
    let node = node_object(&api, &api.operator.node(), query.is_true("disable_stats"));
    Listing::whole(&query, &["name"])?.objects(vec![node])
}

/// There is one node only.
pub(super) fn check_node(api: &Api, name: &str) -> Result<(), Problem> {
    if name == api.operator.config().node_name { Ok(()) } else { Err(Problem::not_found()) }
}

async fn node(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>, query: Query) -> Answer {
    caller.monitor()?;
    check_node(&api, &name)?;
    let info = api.operator.node();
    let mut node = node_object(&api, &info, query.is_true("disable_stats"));
    if query.is_true("memory") {
        node.insert("memory".to_owned(), breakdown(&info));
    }
    one(&query, node)
}

/// What the process uses: messages, and everything else.
fn breakdown(info: &NodeInfo) -> Value {
    let total = info.memory_bytes;
    let messages = info.message_bytes.min(total);
    let names = [
        "connection_readers",
        "connection_writers",
        "connection_channels",
        "connection_other",
        "queue_slave_procs",
        "quorum_queue_procs",
        "quorum_queue_dlx_procs",
        "stream_queue_procs",
        "stream_queue_replica_reader_procs",
        "stream_queue_coordinator_procs",
        "plugins",
        "metrics",
        "mnesia",
        "metadata_store",
        "metadata_store_ets",
        "mgmt_db",
        "quorum_ets",
        "other_ets",
        "binary",
        "msg_index",
        "code",
        "atom",
        "other_system",
        "allocated_unused",
        "reserved_unallocated",
    ];
    let mut all = object(json!({
        "strategy": "rss",
        "queue_procs": messages,
        "other_proc": total - messages,
        "total": {"erlang": total, "rss": total, "allocated": total},
    }));
    all.extend(names.into_iter().map(|name| (name.to_owned(), Value::from(0))));
    all.into()
}

async fn memory(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>, query: Query) -> Answer {
    caller.monitor()?;
    check_node(&api, &name)?;
    one(&query, object(json!({"memory": breakdown(&api.operator.node())})))
}

async fn relative_memory(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([name]): Params<1>,
    query: Query,
) -> Answer {
    caller.monitor()?;
    check_node(&api, &name)?;
    let info = api.operator.node();
    let share = |octets: u64| match octets * 100 / info.memory_bytes.max(1) {
        0 if octets > 0 => 1,
        percent => percent,
    };
    let mut all = Object::new();
    if let Value::Object(breakdown) = breakdown(&info) {
        let numbers = breakdown.into_iter().filter_map(|(name, value)| Some((name, value.as_u64()?)));
        all.extend(numbers.map(|(name, octets)| (name, share(octets).into())));
    }
    all.insert("total".to_owned(), 100.into());
    one(&query, object(json!({ "memory": all })))
}

async fn cluster_name(State(api): State<Arc<Api>>, _: Caller, query: Query) -> Answer {
    one(&query, object(json!({"name": api.operator.cluster_name()})))
}

async fn set_cluster_name(State(api): State<Arc<Api>>, caller: Caller, body::Object(body): body::Object) -> Answer {
    caller.admin()?;
    let value = Value::from(body.need_text("name")?);
    let record = GlobalParameterRecord { name: "cluster_name".to_owned(), value };
    api.operator.put(Record::GlobalParameter(record)).await?;
    Ok(Reply::done())
}

async fn configuration(State(api): State<Arc<Api>>, caller: Caller) -> Answer {
    caller.admin()?;
    let lines: Vec<String> = api.operator.environment().iter().map(ToString::to_string).collect();
    Ok(Reply::text(lines.join("\n") + "\n", "text/plain; charset=utf-8"))
}
