//! Channels, as RabbitMQ's API lists them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::json;

use super::caller::Caller;
use super::list::{Key, Listing, Object, one};
use super::overview::object;
use super::problem::Problem;
use super::queues::connection_details;
use super::reply::Answer;
use super::request::{Params, Query};
use super::routes::Api;
use crate::server::operator::ChannelInfo;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/channels", get(list))
        .route("/api/channels/{channel}", get(show))
        .route("/api/vhosts/{vhost}/channels", get(list_vhost))
}

/// A channel as RabbitMQ's API shows it: the operator's record, without what names processes.
fn channel_object(info: &ChannelInfo) -> Object {
    let mut channel = object(json!(info));
    for name in ["pid", "connection"] {
        channel.remove(name);
    }
    channel.extend(object(json!({
        "connection_details": connection_details(&info.owner),
        "pending_raft_commands": 0,
        "reductions": 0,
        "user_who_performed_action": info.user,
    })));
    channel
}

fn quick(info: &ChannelInfo, column: &str) -> Option<Key> {
    Some(match column {
        "name" => info.name.as_str().into(),
        "vhost" => info.vhost.as_str().into(),
        "user" => info.user.as_str().into(),
        "number" => Key::count(info.number.into()),
        "consumer_count" => Key::count(info.consumer_count),
        "messages_unacknowledged" => Key::count(info.messages_unacknowledged),
        _ => return None,
    })
}

async fn listed(api: &Api, caller: &Caller, query: &Query, wanted: impl Fn(&ChannelInfo) -> bool) -> Answer {
    let listing = Listing::parse(query, &["vhost", "name"])?;
    let mut all = api.operator.channels().await;
    all.retain(|channel| (caller.is_monitor() || channel.user == caller.name()) && wanted(channel));
    listing.reply(&all, quick, |info| Some(channel_object(info)))
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    listed(&api, &caller, &query, |_| true).await
}

async fn list_vhost(State(api): State<Arc<Api>>, caller: Caller, Params([vhost]): Params<1>, query: Query) -> Answer {
    let vhost = caller.visible_vhost(&api, vhost)?;
    listed(&api, &caller, &query, |channel| channel.vhost == vhost).await
}

/// The channels of one connection.
pub(super) async fn list_of_connection(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([name]): Params<1>,
    query: Query,
) -> Answer {
    caller.owner_or_monitor(&api.operator.connection_owner(&name)?)?;
    listed(&api, &caller, &query, |channel| channel.owner.name == name).await
}

async fn show(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>, query: Query) -> Answer {
    let found = api.operator.channels().await.into_iter().find(|channel| channel.name == name);
    let found = found.ok_or_else(Problem::not_found)?;
    caller.owner_or_monitor(&found.user)?;
    let mut channel = channel_object(&found);
    let consumers = api.operator.consumers(&found.vhost).unwrap_or_default();
    let own = consumers.iter().filter(|consumer| consumer.channel_pid == found.pid);
    let own: Vec<_> = own.map(|consumer| super::consumers::consumer_object(&api, consumer)).collect();
    channel.insert("consumer_details".to_owned(), json!(own));
    one(&query, channel)
}
