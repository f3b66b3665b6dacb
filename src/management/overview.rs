//! The broker as a whole: `/api/overview`, and who asks: `/api/whoami`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use super::caller::Caller;
use super::list::{Object, one};
use super::reply::{Answer, Reply};
use super::request::Query;
use super::routes::Api;

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

/// Tags of the cluster, which are a global parameter: a table, as RabbitMQ 4 has it, empty without any.
fn cluster_tags(api: &Api) -> Value {
    let tags = api.operator.directory(|directory| {
        let found = directory.global_parameters().find(|parameter| parameter.name == "cluster_tags");
        found.map(|parameter| parameter.value.clone())
    });
    tags.filter(Value::is_object).unwrap_or_else(|| json!({}))
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
        "cluster_tags": cluster_tags(&api),
        "node_tags": {},
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
    let visible = (!caller.is_monitor()).then(|| caller.visible_vhosts(&api));
    let statistics = object(json!(api.operator.statistics(visible.as_deref())));
    if stats_off {
        overview.extend(statistics.into_iter().filter(|(name, _)| name == "object_totals"));
    } else {
        // Where nothing has happened yet RabbitMQ has an empty table.
        overview.extend(
            statistics.into_iter().map(|(name, value)| (name, if value.is_null() { json!({}) } else { value })),
        );
        overview.insert("statistics_db_event_queue".to_owned(), 0.into());
    }
    if caller.is_monitor() {
        let listeners = super::node::listeners(&api);
        overview.insert("contexts".to_owned(), super::node::contexts(&api));
        overview.insert("listeners".to_owned(), listeners);
    }
    one(&query, overview)
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
