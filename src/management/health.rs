//! Health checks: 200 with `{"status": "ok"}`, or 503 with what is wrong. Load balancers, probes and people ask them.
//!
//! All but `reached-target-cluster-size` need a login; that one is what a Kubernetes operator's start-up probe asks.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::caller::Caller;
use super::problem::Problem;
use super::request::Params;
use super::routes::Api;
use crate::server::alarms::Resource;
use crate::server::clock;

/// Months and years as RabbitMQ counts them.
const UNITS: [(&str, u64); 8] = [
    ("day", 86_400),
    ("days", 86_400),
    ("week", 7 * 86_400),
    ("weeks", 7 * 86_400),
    ("month", 28 * 86_400),
    ("months", 28 * 86_400),
    ("year", 365 * 86_400),
    ("years", 365 * 86_400),
];
/// For how long nothing must have left a queue with ready messages before it counts as stalled, unless it is said.
const STALLED_AFTER_SECONDS: u64 = 60;

type Checked = Result<Response, Problem>;

pub(super) fn routes() -> Router<Arc<Api>> {
    let check = |name: &str| format!("/api/health/checks/{name}");
    let mut router = Router::new()
        .route(&check("alarms"), get(alarms))
        .route(&check("local-alarms"), get(local_alarms))
        .route(&check("port-listener/{port}"), get(port_listener))
        .route(&check("protocol-listener/{protocols}"), get(protocol_listener))
        .route(&check("virtual-hosts"), get(fine))
        .route(&check("certificate-expiration/{within}/{unit}"), get(certificate_expiration))
        .route(&check("reached-target-cluster-size"), get(|| async { healthy(json!({})) }))
        .route(&check("ready-to-serve-clients"), get(ready_to_serve))
        .route(&check("is-in-service"), get(ready_to_serve))
        .route(&check("below-node-connection-limit"), get(below_connection_limit))
        .route(&check("metadata-store/initialized"), get(fine))
        .route(&check("metadata-store/initialized/with-data"), get(fine))
        .route(&check("quorum-queues-without-elected-leaders/all-vhosts"), get(fine))
        .route(&check("quorum-queues-without-elected-leaders/all-vhosts/pattern/{pattern}"), get(no_leader_missing_1))
        .route(&check("quorum-queues-without-elected-leaders/vhost/{vhost}"), get(no_leader_missing_1))
        .route(
            &check("quorum-queues-without-elected-leaders/vhost/{vhost}/pattern/{pattern}"),
            get(no_leader_missing_2),
        )
        .route(&check("queue-age/{seconds}"), get(queue_age))
        .route(&check("queue-age/{seconds}/pattern/{pattern}"), get(queue_age_pattern))
        .route(&check("queue-age/{seconds}/vhost/{vhost}"), get(queue_age_vhost))
        .route(&check("queue-age/{seconds}/vhost/{vhost}/pattern/{pattern}"), get(queue_age_vhost_pattern))
        .route(&check("stalled-queues"), get(stalled))
        .route(&check("stalled-queues/{seconds}"), get(stalled_for))
        .route("/api/aliveness-test/{vhost}", get(aliveness))
        .route("/api/healthchecks/node", get(node_is_fine))
        .route("/api/healthchecks/node/{node}", get(this_node_is_fine));
    for name in ["node-is-quorum-critical", "node-is-mirror-sync-critical"] {
        router = router.route(&check(name), get(single_node));
    }
    router
}

/// A body with a status before what else there is.
fn answer(status: StatusCode, word: &str, more: Value) -> Response {
    let mut body = json!({ "status": word });
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (status, headers, body.to_string()).into_response()
}

fn healthy(more: Value) -> Response {
    answer(StatusCode::OK, "ok", more)
}

fn unhealthy(reason: &str, more: Value) -> Response {
    let mut whole = json!({ "reason": reason });
    if let (Value::Object(whole), Value::Object(more)) = (&mut whole, more) {
        whole.extend(more);
    }
    answer(StatusCode::SERVICE_UNAVAILABLE, "failed", whole)
}

/// What cannot be wrong here: there is one node, and it answers.
async fn fine(_: Caller) -> Response {
    healthy(json!({}))
}

async fn single_node(_: Caller) -> Response {
    healthy(json!({ "reason": "single node cluster" }))
}

async fn no_leader_missing_1(_: Caller, _: Params<1>) -> Response {
    healthy(json!({}))
}

async fn no_leader_missing_2(_: Caller, _: Params<2>) -> Response {
    healthy(json!({}))
}

fn alarms_answer(api: &Api, reason: &str) -> Response {
    let node = &api.operator.config().node_name;
    let word = |resource: &Resource| match resource {
        Resource::Memory => "memory",
        Resource::Disk => "disk space",
    };
    let alarms = api.operator.alarms_in_effect();
    if alarms.is_empty() {
        return healthy(json!({}));
    }
    let listed: Vec<_> = alarms.iter().map(|alarm| json!({ "node": node, "resource": word(alarm) })).collect();
    unhealthy(reason, json!({ "alarms": listed }))
}

async fn alarms(State(api): State<Arc<Api>>, _: Caller) -> Response {
    alarms_answer(&api, "There are alarms in effect in the cluster")
}

async fn local_alarms(State(api): State<Arc<Api>>, _: Caller) -> Response {
    alarms_answer(&api, "There are alarms in effect on the node")
}

async fn port_listener(State(api): State<Arc<Api>>, _: Caller, Params([port]): Params<1>) -> Checked {
    let port: i64 = port.parse().map_err(|_| Problem::bad_request("Invalid port"))?;
    let ports: Vec<i64> = api.operator.listeners().iter().map(|listener| listener.port.into()).collect();
    Ok(if ports.contains(&port) {
        healthy(json!({ "port": port }))
    } else {
        unhealthy("No active listener", json!({ "missing": port, "ports": ports }))
    })
}

/// RabbitMQ's word for a protocol, whichever of its names was used.
fn canonical(protocol: &str) -> &str {
    match protocol {
        "amqp091" | "amqp0.9.1" | "amqp-0-9-1" | "amqp0-9-1" | "amqp10" | "amqp1.0" => "amqp",
        "amqps" | "amqp091s" | "amqp/tls" => "amqp/ssl",
        "https" => "https",
        "prometheus" | "http/prom" => "http/prometheus",
        other => other,
    }
}

async fn protocol_listener(State(api): State<Arc<Api>>, _: Caller, Params([protocols]): Params<1>) -> Response {
    let mut active: Vec<&str> = api.operator.listeners().iter().map(|listener| listener.protocol.name()).collect();
    active.sort_unstable();
    active.dedup();
    let wanted: Vec<&str> = protocols.split(',').map(|protocol| canonical(protocol.trim())).collect();
    let missing: Vec<&str> = wanted.iter().copied().filter(|wanted| !active.contains(wanted)).collect();
    if missing.is_empty() {
        return healthy(json!({ "protocol": wanted.join(",") }));
    }
    unhealthy("No active listener", json!({ "missing": missing.join(","), "protocols": active }))
}

async fn certificate_expiration(State(api): State<Arc<Api>>, _: Caller, Params([within, unit]): Params<2>) -> Checked {
    let count: u64 = within.parse().map_err(|_| Problem::bad_request("Invalid expiration value."))?;
    let known = UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name));
    let Some((_, seconds)) = known else {
        return Err(Problem::bad_request("Time unit not recognised. Supported units: days, weeks, months, years."));
    };
    let until = (clock::now().as_millis() / 1000).saturating_add(count.saturating_mul(*seconds));
    let expiring: Vec<_> = api.operator.certificates().into_iter().filter(|held| held.expires_at <= until).collect();
    Ok(if expiring.is_empty() {
        healthy(json!({}))
    } else {
        unhealthy("Certificates expiring", json!({ "expired": expiring }))
    })
}

async fn ready_to_serve(State(api): State<Arc<Api>>, _: Caller) -> Response {
    if api.operator.is_draining() {
        return unhealthy("the node is in maintenance mode", json!({}));
    }
    below_limit(&api)
}

async fn below_connection_limit(State(api): State<Arc<Api>>, _: Caller) -> Response {
    below_limit(&api)
}

fn below_limit(api: &Api) -> Response {
    let (open, max) = api.operator.connections_and_limit();
    match max {
        Some(max) if open >= max => {
            unhealthy("node connection limit is reached", json!({ "connections": open, "limit": max }))
        }
        _ => healthy(json!({})),
    }
}

/// RabbitMQ declares a queue, publishes to it and takes the message back. Here a broker that looks the vhost up and
/// answers has its store, or it would have stopped.
async fn aliveness(State(api): State<Arc<Api>>, caller: Caller, Params([vhost]): Params<1>) -> Checked {
    caller.vhost(&api, vhost)?;
    api.operator.is_alive().await;
    Ok(healthy(json!({})))
}

/// The check of older releases, which names alarms as Erlang writes them.
fn node_answer(api: &Api) -> Response {
    let node = &api.operator.config().node_name;
    let in_erlang = |resource: &Resource| match resource {
        Resource::Memory => format!("{{resource_limit,memory,{node}}}"),
        Resource::Disk => format!("{{resource_limit,disk,{node}}}"),
    };
    let alarms: Vec<_> = api.operator.alarms_in_effect().iter().map(in_erlang).collect();
    if alarms.is_empty() {
        return healthy(json!({}));
    }
    unhealthy(&format!("resource alarm(s) in effect:[{}]", alarms.join(",")), json!({}))
}

async fn node_is_fine(State(api): State<Arc<Api>>, _: Caller) -> Response {
    node_answer(&api)
}

async fn this_node_is_fine(State(api): State<Arc<Api>>, _: Caller, Params([node]): Params<1>) -> Checked {
    if node != api.operator.config().node_name {
        return Err(Problem::not_found());
    }
    Ok(node_answer(&api))
}

fn seconds(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| Problem::bad_request("Invalid number of seconds"))
}

/// Queues of vhosts that the caller sees whose oldest ready message is older.
fn ages(api: &Api, vhosts: &[String], older_than: u64, pattern: Option<&str>) -> Checked {
    let pattern = pattern.map(fancy_regex::Regex::new).transpose();
    let pattern = pattern.map_err(|cause| Problem::bad_request(format!("Invalid pattern: {cause}")))?;
    let chosen = |name: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(name).unwrap_or(false));
    let old = api.operator.old_queues(Some(vhosts), older_than.saturating_mul(1000), &chosen);
    Ok(if old.is_empty() {
        healthy(json!({}))
    } else {
        unhealthy("There are queues with messages older than allowed", json!({ "queues": old }))
    })
}

async fn queue_age(State(api): State<Arc<Api>>, caller: Caller, Params([older]): Params<1>) -> Checked {
    ages(&api, &caller.visible_vhosts(&api), seconds(&older)?, None)
}

async fn queue_age_pattern(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([older, pattern]): Params<2>,
) -> Checked {
    ages(&api, &caller.visible_vhosts(&api), seconds(&older)?, Some(&pattern))
}

async fn queue_age_vhost(State(api): State<Arc<Api>>, caller: Caller, Params([older, vhost]): Params<2>) -> Checked {
    let vhost = caller.visible_vhost(&api, vhost)?;
    ages(&api, &[vhost], seconds(&older)?, None)
}

async fn queue_age_vhost_pattern(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([older, vhost, pattern]): Params<3>,
) -> Checked {
    let vhost = caller.visible_vhost(&api, vhost)?;
    ages(&api, &[vhost], seconds(&older)?, Some(&pattern))
}

fn stalls(api: &Api, caller: &Caller, for_seconds: u64) -> Response {
    let stalled = api.operator.stalled_queues(Some(&caller.visible_vhosts(api)), for_seconds.saturating_mul(1000));
    if stalled.is_empty() {
        healthy(json!({}))
    } else {
        unhealthy("There are queues whose messages do not move", json!({ "queues": stalled }))
    }
}

async fn stalled(State(api): State<Arc<Api>>, caller: Caller) -> Response {
    stalls(&api, &caller, STALLED_AFTER_SECONDS)
}

async fn stalled_for(State(api): State<Arc<Api>>, caller: Caller, Params([for_seconds]): Params<1>) -> Checked {
    Ok(stalls(&api, &caller, seconds(&for_seconds)?))
}
