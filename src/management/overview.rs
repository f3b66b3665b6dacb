//! The broker as a whole: `/api/overview`, and who asks: `/api/whoami`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::caller::Caller;
use super::list::{Object, one};
use super::reply::{Answer, Reply};
use super::request::Query;
use super::routes::Api;
use crate::server::clock;
use crate::server::operator::Totals;

/// Types of exchanges, with RabbitMQ's descriptions.
const EXCHANGE_TYPES: [(&str, &str); 10] = [
    ("direct", "AMQP direct exchange, as per the AMQP specification"),
    ("fanout", "AMQP fanout exchange, as per the AMQP specification"),
    ("headers", "AMQP headers exchange, as per the AMQP specification"),
    ("topic", "AMQP topic exchange, as per the AMQP specification"),
    ("x-consistent-hash", "Consistent Hashing Exchange"),
    ("x-delayed-message", "Delayed Message Exchange."),
    ("x-local-random", "Picks one random local binding (queue) to route via (to)."),
    ("x-modulus-hash", "Modulus Hashing Exchange"),
    ("x-random", "Randomly picks a binding (queue) to route via (to)."),
    ("x-recent-history", "Recent History Exchange."),
];
/// With fewer queues they are added up for everybody who asks.
const QUEUES_ADDED_UP: usize = 5_000;
/// How old a sum may be before a new one is made.
const SUM_KEPT_FOR: Duration = Duration::from_secs(1);

/// The last sum of everything: with many queues nobody waits for the next one.
#[derive(Debug, Default)]
pub(super) struct LastTotals(Mutex<Option<(Instant, Totals)>>);

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/overview", get(overview))
        .route("/api/whoami", get(whoami))
        .route("/api/version", get(version))
        .route("/api/extensions", get(extensions))
}

/// The types of exchanges that there are.
pub(super) fn exchange_types() -> Value {
    let types = EXCHANGE_TYPES.iter();
    types.map(|(name, description)| json!({"name": name, "description": description, "enabled": true})).collect()
}

/// Adds everything up, or has it added up for the next one who asks.
async fn totals(api: &Arc<Api>) -> Totals {
    if api.operator.queue_count() < QUEUES_ADDED_UP {
        return api.operator.totals(None).await;
    }
    let last = *api.last_totals.0.lock();
    let now = clock::instant();
    let Some((at, totals)) = last else {
        let totals = api.operator.totals(None).await;
        *api.last_totals.0.lock() = Some((now, totals));
        return totals;
    };
    if now.saturating_duration_since(at) > SUM_KEPT_FOR {
        // Who asks meanwhile gets the old one too.
        *api.last_totals.0.lock() = Some((now, totals));
        let api = api.clone();
        tokio::spawn(async move {
            let totals = api.operator.totals(None).await;
            *api.last_totals.0.lock() = Some((clock::instant(), totals));
        });
    }
    totals
}

async fn overview(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    let config = api.operator.config();
    let stats_off = query.is_true("disable_stats");
    let mut overview = object(json!({
        "management_version": config.identity.version,
        "rates_mode": "basic",
        "sample_retention_policies": {
            "global": [600, 3600, 28800, 86400], "basic": [600, 3600], "detailed": [600],
        },
        "exchange_types": exchange_types(),
        "product_version": env!("CARGO_PKG_VERSION"),
        "product_name": "Leveret",
        "rabbitmq_version": config.identity.version,
        "cluster_name": api.operator.cluster_name(),
        "cluster_tags": [],
        "node_tags": [],
        "erlang_version": "none",
        "erlang_full_version": "none: Leveret is not written in Erlang",
        "crypto_lib_version": "none",
        "release_series_support_status": "supported",
        "disable_stats": stats_off,
        "default_queue_type": config.default_queue_type.as_str(),
        "is_op_policy_updating_enabled": true,
        "enable_queue_totals": query.is_true("enable_queue_totals"),
        "require_definition_json_extension": false,
        "node": config.node_name,
    }));
    let totals = if caller.is_monitor() {
        totals(&api).await
    } else {
        api.operator.totals(Some(&caller.visible_vhosts(&api))).await
    };
    overview.insert("object_totals".to_owned(), json!(totals.objects));
    if !stats_off {
        statistics(&api, &caller, &totals, &mut overview);
    }
    if caller.is_monitor() {
        let listeners = super::node::listeners(&api);
        overview.insert("contexts".to_owned(), super::node::contexts(&api));
        overview.insert("listeners".to_owned(), listeners);
    }
    one(&query, overview)
}

/// What is counted and measured: messages, rates, churn.
fn statistics(_api: &Api, _caller: &Caller, totals: &Totals, overview: &mut Object) {
    overview.insert("queue_totals".to_owned(), json!(totals.messages));
    overview.insert("statistics_db_event_queue".to_owned(), 0.into());
}

async fn whoami(caller: Caller, query: Query) -> Answer {
    one(&query, object(json!({"name": caller.name(), "tags": caller.user().tags, "is_internal_user": true})))
}

async fn version(State(api): State<Arc<Api>>, _: Caller) -> Answer {
    Reply::json(&api.operator.config().identity.version)
}

async fn extensions(_: Caller) -> Answer {
    Reply::json(&json!([{"javascript": "dispatcher.js"}]))
}

/// The members of an object that was just written down.
pub(super) fn object(value: Value) -> Object {
    if let Value::Object(object) = value { object } else { Object::new() }
}
