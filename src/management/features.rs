//! Feature flags, all of them on, and deprecated features: what tools of RabbitMQ 4 ask before they
//! use something.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, put};
use serde_json::json;

use super::caller::Caller;
use super::list::{Listing, Object};
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;

/// Flags that RabbitMQ 4 cannot do without any more.
const REQUIRED: [(&str, &str); 12] = [
    ("classic_mirrored_queue_version", "Support setting version for classic mirrored queues"),
    ("classic_queue_type_delivery_support", "Bug fix for classic queue deliveries using mixed versions"),
    ("direct_exchange_routing_v2", "v2 direct exchange routing implementation"),
    ("drop_unroutable_metric", "Count unroutable publishes to be dropped in stats"),
    ("empty_basic_get_metric", "Count AMQP `basic.get` on empty queues in stats"),
    ("implicit_default_bindings", "Default bindings are now implicit, instead of being stored in the database"),
    ("maintenance_mode_status", "Maintenance mode status"),
    ("quorum_queue", "Support queues of type `quorum`"),
    ("stream_queue", "Support queues of type `stream`"),
    ("stream_single_active_consumer", "Single active consumer for streams"),
    ("user_limits", "Configure connection and channel limits for a user"),
    ("virtual_host_metadata", "Virtual host metadata (description, tags, etc)"),
];
/// Flags that an administrator of RabbitMQ 4 switches on.
const STABLE: [(&str, &str); 6] = [
    (
        "detailed_queues_endpoint",
        "Add a detailed queues HTTP API endpoint. Reduce number of metrics in the default endpoint.",
    ),
    ("khepri_db", "New Raft-based metadata store. Fully supported as of RabbitMQ 4.0"),
    ("message_containers_deaths_v2", "Bug fix for dead letter cycle detection"),
    ("rabbitmq_4.0.0", "Allows rolling upgrades from 3.13.x to 4.0.x"),
    ("rabbitmq_4.1.0", "Allows rolling upgrades to 4.1.x"),
    ("rabbitmq_4.2.0", "Allows rolling upgrades to 4.2.x"),
];
/// What RabbitMQ means to give up, and Leveret does not.
const TRANSIENT_QUEUES: (&str, &str) = ("transient_nonexcl_queues", "Queues that are neither durable nor exclusive");
const PERMITTED: [(&str, &str); 2] = [("global_qos", "Prefetch limits for a whole channel"), TRANSIENT_QUEUES];
/// What there is not, as it is not in a new cluster of RabbitMQ 4.
const DENIED: [(&str, &str); 1] = [("ram_node_type", "Nodes that keep definitions in memory only")];

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/feature-flags", get(flags))
        .route("/api/feature-flags/{name}/enable", put(enable))
        .route("/api/deprecated-features", get(deprecated))
        .route("/api/deprecated-features/used", get(deprecated_in_use))
}

fn flag((name, about): &(&str, &str), stability: &str) -> Object {
    let provider = if *name == "detailed_queues_endpoint" { "rabbitmq_management" } else { "rabbit" };
    object(json!({"name": name, "desc": about, "doc_url": "", "provided_by": provider, "stability": stability,
        "state": "enabled"}))
}

async fn flags(_: Caller, query: Query) -> Answer {
    let all = REQUIRED.iter().map(|each| flag(each, "required")).chain(STABLE.iter().map(|each| flag(each, "stable")));
    Listing::whole(&query, &["name"])?.objects(all.collect())
}

async fn enable(caller: Caller, Params([name]): Params<1>) -> Answer {
    caller.admin()?;
    if name == "all" || REQUIRED.iter().chain(&STABLE).any(|(known, _)| *known == name) {
        return Ok(Reply::done());
    }
    Err(Problem::bad_request(format!("unsupported: there is no feature flag '{name}'")))
}

fn feature((name, about): &(&str, &str), state: &str) -> Object {
    object(json!({"name": name, "desc": about, "doc_url": "", "provided_by": "rabbit", "state": state,
        "deprecation_phase": format!("{state}_by_default")}))
}

async fn deprecated(caller: Caller, query: Query) -> Answer {
    caller.monitor()?;
    let permitted = PERMITTED.iter().map(|each| feature(each, "permitted"));
    let all = permitted.chain(DENIED.iter().map(|each| feature(each, "denied")));
    Listing::whole(&query, &["name"])?.objects(all.collect())
}

/// As in RabbitMQ, prefetch limits of channels are not looked for.
async fn deprecated_in_use(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    caller.monitor()?;
    let used = api.operator.has_transient_queues().then(|| feature(&TRANSIENT_QUEUES, "permitted"));
    Listing::whole(&query, &["name"])?.objects(used.into_iter().collect())
}
