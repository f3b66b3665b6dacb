//! Deprecated features: what RabbitMQ 4 means to give up, and whether it is used here. Tools ask before an upgrade.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::json;

use super::caller::Caller;
use super::list::{Listing, Object};
use super::overview::object;
use super::reply::Answer;
use super::request::Query;
use super::routes::Api;

/// What RabbitMQ means to give up, and Leveret does not.
const TRANSIENT_QUEUES: (&str, &str) = ("transient_nonexcl_queues", "Queues that are neither durable nor exclusive");
const PERMITTED: [(&str, &str); 2] = [("global_qos", "Prefetch limits for a whole channel"), TRANSIENT_QUEUES];
/// What there is not, as it is not in a new cluster of RabbitMQ 4.
const DENIED: [(&str, &str); 1] = [("ram_node_type", "Nodes that keep definitions in memory only")];

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/deprecated-features", get(deprecated))
        .route("/api/deprecated-features/used", get(deprecated_in_use))
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
