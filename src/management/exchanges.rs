//! Exchanges: listing, declaring, deleting.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use leveret_protocol::ShortString;
use serde_json::json;

use super::body::{self, Members};
use super::caller::Caller;
use super::list::{Key, Listing, Object, one};
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;
use crate::definitions::from_json;
use crate::engine::vhost::ExchangeRecord;
use crate::server::operator::{Acting, ExchangeInfo};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/exchanges", get(list))
        .route("/api/exchanges/{vhost}", get(list_vhost))
        .route("/api/exchanges/{vhost}/{exchange}", get(show).put(declare).delete(remove))
}

/// The name that a path means: the default exchange has one here.
pub(super) fn name(name: String) -> String {
    if name == "amq.default" { String::new() } else { name }
}

/// An exchange as RabbitMQ's API shows it: the operator's record.
fn exchange_object(info: &ExchangeInfo) -> Object {
    let mut exchange = object(json!(info));
    if info.policy.is_none() {
        exchange.remove("policy");
    }
    // Who declared it is not remembered.
    exchange.insert("user_who_performed_action".to_owned(), "rmq-internal".into());
    exchange
}

fn quick(info: &ExchangeInfo, column: &str) -> Option<Key> {
    Some(match column {
        "name" => info.name.as_str().into(),
        "vhost" => info.vhost.as_str().into(),
        "type" => info.kind.as_str().into(),
        "durable" => info.durable.into(),
        "auto_delete" => info.auto_delete.into(),
        "internal" => info.internal.into(),
        _ => return None,
    })
}

fn listed(api: &Api, vhosts: &[String], query: &Query) -> Answer {
    let listing = Listing::parse(query, &["vhost", "name"])?;
    // One that has just gone has no exchanges.
    let all: Vec<_> = vhosts.iter().flat_map(|vhost| api.operator.exchanges(vhost).unwrap_or_default()).collect();
    listing.reply(&all, quick, |info| Some(exchange_object(info)))
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    listed(&api, &caller.vhosts(&api), &query)
}

async fn list_vhost(State(api): State<Arc<Api>>, caller: Caller, Params([vhost]): Params<1>, query: Query) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    listed(&api, &[vhost], &query)
}

async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, exchange]): Params<2>,
    query: Query,
) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    let mut exchange = exchange_object(&api.operator.exchange(&vhost, &name(exchange))?);
    // Who published to it, and where that went, is not kept apart.
    exchange.extend(object(json!({"incoming": [], "outgoing": []})));
    one(&query, exchange)
}

fn short(name: &str) -> Result<ShortString, Problem> {
    ShortString::try_from(name).map_err(|_| Problem::bad_request(format!("'{name}' is longer than 255 octets")))
}

async fn declare(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, exchange]): Params<2>,
    body::Object(body): body::Object,
) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    let exchange = name(exchange);
    let existed = api.operator.exchange(&vhost, &exchange).is_ok();
    let record = ExchangeRecord {
        name: short(&exchange)?,
        kind: short(body.text("type")?.unwrap_or("direct"))?,
        durable: body.truth("durable")?.unwrap_or(false),
        auto_delete: body.truth("auto_delete")?.unwrap_or(false),
        internal: body.truth("internal")?.unwrap_or(false),
        arguments: from_json(&body.object("arguments")?).map_err(Problem::bad_request)?,
    };
    let access = caller.access(&api, &vhost)?;
    api.operator.declare_exchange(&Acting::new(&vhost, access), record).await?;
    Ok(Reply::put(existed))
}

async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, exchange]): Params<2>,
    query: Query,
) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    let exchange = name(exchange);
    api.operator.exchange(&vhost, &exchange)?;
    let access = caller.access(&api, &vhost)?;
    let acting = Acting::new(&vhost, access);
    api.operator.delete_exchange(&acting, &short(&exchange)?, query.is_true("if-unused")).await?;
    Ok(Reply::done())
}
