//! Connections: listing them, and closing them with a reason that their client gets to read.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::get;
use serde_json::{Value, json};

use super::caller::Caller;
use super::list::{Key, Listing, Object, one};
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;
use crate::server::operator::{ConnectionInfo, ConnectionSelection};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/connections", get(list))
        .route("/api/connections/{connection}", get(show).delete(close))
        .route("/api/connections/{connection}/channels", get(super::channels::list_of_connection))
        .route("/api/connections/{connection}/sessions", get(sessions))
        .route("/api/connections/username/{user}", get(list_of_user).delete(close_of_user))
        .route("/api/vhosts/{vhost}/connections", get(list_vhost))
}

/// A connection as RabbitMQ's API shows it: the operator's record, without what names processes.
fn connection_object(info: &ConnectionInfo) -> Object {
    let mut connection = object(json!(info));
    connection.remove("pid");
    // What a connection that is stuck did not tell.
    connection.retain(|_, value| !value.is_null());
    if info.user_provided_name.is_empty() {
        connection.remove("user_provided_name");
    }
    let more = object(json!({
        "protocol": "AMQP 0-9-1",
        "reductions": 0,
        "type": "network",
        "user_who_performed_action": info.user,
    }));
    connection.extend(more);
    for name in UNENCRYPTED {
        connection.entry(name).or_insert(Value::Null);
    }
    connection
}

/// What is said of TLS where there is none.
const UNENCRYPTED: [&str; 7] = [
    "peer_cert_issuer",
    "peer_cert_subject",
    "peer_cert_validity",
    "ssl_cipher",
    "ssl_hash",
    "ssl_key_exchange",
    "ssl_protocol",
];

fn quick(info: &ConnectionInfo, column: &str) -> Option<Key> {
    Some(match column {
        "name" => info.name.as_str().into(),
        "vhost" => info.vhost.as_str().into(),
        "user" => info.user.as_str().into(),
        "state" => info.state.into(),
        "channels" => Key::count(info.channels.unwrap_or(0)),
        "connected_at" => Key::count(info.connected_at),
        _ => return None,
    })
}

/// The connections that a caller sees, of one vhost or all.
async fn seen(api: &Api, caller: &Caller, vhost: Option<&str>) -> Vec<ConnectionInfo> {
    let mut all = api.operator.connections().await;
    all.retain(|connection| {
        (caller.is_monitor() || connection.user == caller.name()) && vhost.is_none_or(|vhost| connection.vhost == vhost)
    });
    all
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    let listing = Listing::parse(&query, &["vhost", "name"])?;
    listing.reply(&seen(&api, &caller, None).await, quick, |info| Some(connection_object(info)))
}

async fn list_vhost(State(api): State<Arc<Api>>, caller: Caller, Params([vhost]): Params<1>, query: Query) -> Answer {
    let vhost = caller.visible_vhost(&api, vhost)?;
    let listing = Listing::parse(&query, &["vhost", "name"])?;
    listing.reply(&seen(&api, &caller, Some(&vhost)).await, quick, |info| Some(connection_object(info)))
}

async fn show(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>, query: Query) -> Answer {
    let found = api.operator.connections().await.into_iter().find(|connection| connection.name == name);
    let found = found.ok_or_else(Problem::not_found)?;
    caller.owner_or_monitor(&found.user)?;
    one(&query, connection_object(&found))
}

/// There is no AMQP 1.0.
async fn sessions(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>) -> Answer {
    caller.owner_or_monitor(&api.operator.connection_owner(&name)?)?;
    Reply::json(&json!([]))
}

/// Why a connection is closed, in the words of who closes it.
fn reason(headers: &HeaderMap) -> String {
    let given = headers.get("x-reason").map(|reason| String::from_utf8_lossy(reason.as_bytes()).into_owned());
    given.filter(|reason| !reason.is_empty()).unwrap_or_else(|| "Closed via management plugin".to_owned())
}

async fn close(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>, headers: HeaderMap) -> Answer {
    caller.owner_or_admin(&api.operator.connection_owner(&name)?)?;
    api.operator.close_named(&name, &reason(&headers))?;
    Ok(Reply::done())
}

async fn list_of_user(State(api): State<Arc<Api>>, caller: Caller, Params([user]): Params<1>, query: Query) -> Answer {
    caller.owner_or_monitor(&user)?;
    let listing = Listing::parse(&query, &["vhost", "name"])?;
    let of_user = seen(&api, &caller, None).await.into_iter().filter(|connection| connection.user == user);
    let tracked = |info: &ConnectionInfo| {
        Some(object(json!({"name": info.name, "vhost": info.vhost, "user": info.user, "node": info.node})))
    };
    listing.reply(&of_user.collect::<Vec<_>>(), quick, tracked)
}

async fn close_of_user(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([user]): Params<1>,
    headers: HeaderMap,
) -> Answer {
    caller.owner_or_admin(&user)?;
    let which = ConnectionSelection { vhost: None, user: Some(user), limit: 0, pause_ms: 0 };
    api.operator.close_connections(&which, &reason(&headers)).await;
    Ok(Reply::done())
}
