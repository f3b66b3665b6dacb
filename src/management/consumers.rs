//! Consumers, as RabbitMQ's API lists them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::json;

use super::caller::Caller;
use super::list::{Listing, Object};
use super::overview::object;
use super::reply::Answer;
use super::request::{Params, Query};
use super::routes::Api;
use crate::server::operator::ConsumerInfo;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/api/consumers", get(list)).route("/api/consumers/{vhost}", get(list_vhost))
}

/// A consumer as RabbitMQ's API shows it.
pub(super) fn consumer_object(api: &Api, consumer: &ConsumerInfo) -> Object {
    let channel = consumer.owner.as_ref().map_or_else(
        || json!({}),
        |owner| {
            json!({
                "connection_name": owner.name,
                "name": format!("{} ({})", owner.name, consumer.channel),
                "node": api.operator.config().node_name,
                "number": consumer.channel,
                "peer_host": owner.peer_host,
                "peer_port": owner.peer_port,
                "user": owner.user,
            })
        },
    );
    object(json!({
        "ack_required": consumer.ack_required,
        "active": consumer.active,
        "activity_status": consumer.activity_status,
        "arguments": consumer.arguments,
        "channel_details": channel,
        "consumer_tag": consumer.consumer_tag,
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.prefetch_count,
        "queue": {"name": consumer.queue_name, "vhost": consumer.vhost},
    }))
}

fn listed(api: &Api, caller: &Caller, vhosts: &[String], query: &Query) -> Answer {
    let listing = Listing::whole(query, &["queue.vhost", "queue.name"])?;
    let mut all = Vec::new();
    for vhost in vhosts {
        // One that has just gone has no consumers.
        all.extend(api.operator.consumers(vhost).unwrap_or_default());
    }
    all.retain(|consumer| {
        caller.is_monitor() || consumer.owner.as_ref().is_some_and(|owner| owner.user == caller.name())
    });
    listing.objects(all.iter().map(|consumer| consumer_object(api, consumer)).collect())
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    listed(&api, &caller, &caller.visible_vhosts(&api), &query)
}

async fn list_vhost(State(api): State<Arc<Api>>, caller: Caller, Params([vhost]): Params<1>, query: Query) -> Answer {
    let vhost = caller.visible_vhost(&api, vhost)?;
    listed(&api, &caller, &[vhost], &query)
}
