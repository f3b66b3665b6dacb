//! Endpoints for what there is nothing of, or nothing to do: plugins that are not there, members of a cluster of one,
//! feature flags that are always on. Tools ask for them and expect an answer. And logins: how many there were.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::routing::{delete, get, post, put};
use serde_json::{Value, json};

use super::body::Form;
use super::caller::Caller;
use super::list::{Listing, one};
use super::node::check_node;
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Ends, Params, Query};
use super::routes::Api;
use crate::built_in;

/// Lists that are always empty, for whoever may monitor.
const EMPTY: [&str; 14] = [
    "/api/federation-links",
    "/api/federation-links/{vhost}",
    "/api/federation-links/state/down",
    "/api/federation-links/{vhost}/state/down",
    "/api/shovels",
    "/api/shovels/{vhost}",
    "/api/stream/connections",
    "/api/stream/connections/{vhost}",
    "/api/stream/connections/{vhost}/{name}/consumers",
    "/api/stream/connections/{vhost}/{name}/publishers",
    "/api/stream/consumers",
    "/api/stream/consumers/{vhost}",
    "/api/stream/publishers",
    "/api/stream/publishers/{vhost}",
];

pub(super) fn routes() -> Router<Arc<Api>> {
    let mut routes = Router::new()
        .route("/api/feature-flags", get(feature_flags))
        .route("/api/feature-flags/{name}/enable", put(enable_feature_flag))
        .route("/api/rebalance/queues", post(nothing_to_do))
        .route("/api/reset", delete(nothing_to_do))
        .route("/api/reset/{node}", delete(reset_node))
        .route("/api/auth/attempts/{node}", get(attempts).delete(reset_attempts))
        .route("/api/auth/attempts/{node}/source", get(attempts_by_source).delete(reset_attempts))
        .route("/api/login", post(login).delete(log_out))
        .route("/api/queues/quorum/{vhost}/{queue}/status", get(quorum_status))
        .route("/api/queues/quorum/{vhost}/{queue}/replicas/add", post(other_member))
        .route("/api/queues/quorum/{vhost}/{queue}/replicas/delete", delete(other_member))
        .route("/api/queues/quorum/replicas/on/{node}/grow", post(reset_node))
        .route("/api/queues/quorum/replicas/on/{node}/shrink", delete(reset_node));
    for path in EMPTY {
        routes = routes.route(path, get(nothing));
    }
    routes
}

async fn nothing(caller: Caller) -> Answer {
    caller.monitor()?;
    Reply::json(&json!([]))
}

async fn nothing_to_do(caller: Caller) -> Answer {
    caller.admin()?;
    Ok(Reply::done())
}

async fn reset_node(State(api): State<Arc<Api>>, caller: Caller, Params([node]): Params<1>) -> Answer {
    caller.admin()?;
    check_node(&api, &node)?;
    Ok(Reply::done())
}

async fn feature_flags(_: Caller, query: Query) -> Answer {
    Listing::whole(&query, &["name"])?.objects(built_in::feature_flag_states().map(object).collect())
}

async fn enable_feature_flag(caller: Caller, Params([name]): Params<1>) -> Answer {
    caller.admin()?;
    if name == "all" || built_in::feature_flags().any(|known| known == name) {
        return Ok(Reply::done());
    }
    Err(Problem::bad_request(format!("unsupported: there is no feature flag '{name}'")))
}

async fn attempts(State(api): State<Arc<Api>>, caller: Caller, Params([node]): Params<1>) -> Answer {
    caller.monitor()?;
    check_node(&api, &node)?;
    let rows: Vec<Value> = api
        .operator
        .logins()
        .iter()
        .map(|logins| {
            json!({
                "protocol": logins.protocol.name(),
                "auth_attempts": logins.succeeded + logins.failed,
                "auth_attempts_failed": logins.failed,
                "auth_attempts_succeeded": logins.succeeded,
            })
        })
        .collect();
    Reply::json(&rows)
}

/// Sources are not kept, as RabbitMQ does not unless it is asked to.
async fn attempts_by_source(State(api): State<Arc<Api>>, caller: Caller, Params([node]): Params<1>) -> Answer {
    caller.monitor()?;
    check_node(&api, &node)?;
    Reply::json(&json!([]))
}

async fn reset_attempts(State(api): State<Arc<Api>>, caller: Caller, Params([node]): Params<1>) -> Answer {
    caller.admin()?;
    check_node(&api, &node)?;
    api.operator.reset_logins();
    Ok(Reply::done())
}

/// What a web page asks before it remembers a password.
async fn login(State(api): State<Arc<Api>>, axum::Extension(ends): axum::Extension<Ends>, Form(form): Form) -> Answer {
    let (Some(user), Some(password)) = (form.get("username"), form.get("password")) else {
        return Err(Problem::login());
    };
    let caller = Caller::log_in(&api, ends, user, password.to_owned()).await?;
    let user = object(json!({"name": caller.name(), "tags": caller.user().tags, "is_internal_user": true}));
    let mut reply = one(&Query::default(), user)?;
    reply.header(header::CACHE_CONTROL, axum::http::HeaderValue::from_static("no-store"));
    Ok(reply)
}

async fn log_out() -> Answer {
    Ok(Reply::done())
}

/// The only member of a quorum queue.
async fn quorum_status(State(api): State<Arc<Api>>, caller: Caller, Params([vhost, queue]): Params<2>) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    let info = api.operator.queue(&vhost, &queue)?;
    if info.kind != "quorum" {
        let reason = json!({"status": "failed", "reason": format!("{}_queue_not_supported", info.kind)});
        return Ok(Reply::json(&reason)?.with_status(axum::http::StatusCode::SERVICE_UNAVAILABLE));
    }
    Reply::json(&json!([{
        "Node Name": api.operator.config().node_name, "Raft State": "leader", "Membership": "voter",
        "Last Log Index": 0, "Last Written": 0, "Last Applied": 0, "Commit Index": 0, "Snapshot Index": -1, "Term": 1,
        "Machine Version": 0,
    }]))
}

/// There is nobody who could become or cease to be a member.
async fn other_member(State(api): State<Arc<Api>>, caller: Caller, Params([vhost, queue]): Params<2>) -> Answer {
    caller.admin()?;
    let vhost = caller.vhost(&api, vhost)?;
    api.operator.queue(&vhost, &queue)?;
    Err(Problem::bad_request("node_not_running"))
}
