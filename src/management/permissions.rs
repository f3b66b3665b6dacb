//! What users may do: permissions and topic permissions.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Serialize;
use serde_json::json;

use super::body::{self, Members};
use super::caller::Caller;
use super::list::{Listing, one};
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;
use crate::engine::directory::{PermissionRecord, Record, RecordKey, RecordKind, TopicPermissionRecord};
use crate::server::operator::OperatorError;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/permissions", get(list))
        .route("/api/permissions/{vhost}/{user}", get(show).put(put).delete(remove))
        .route("/api/users/{user}/permissions", get(list_of_user))
        .route("/api/vhosts/{vhost}/permissions", get(list_of_vhost))
        .route("/api/topic-permissions", get(list_topics))
        .route("/api/topic-permissions/{vhost}/{user}", get(show_topics).put(put_topic).delete(remove_topics))
        .route(
            "/api/topic-permissions/{vhost}/{user}/{exchange}",
            get(show_topic).put(put_topic_at).delete(remove_topic),
        )
        .route("/api/users/{user}/topic-permissions", get(list_topics_of_user))
        .route("/api/vhosts/{vhost}/topic-permissions", get(list_topics_of_vhost))
}

fn listed(query: &Query, records: &[impl Serialize]) -> Answer {
    let objects = records.iter().map(|record| object(json!(record))).collect();
    Listing::whole(query, &["vhost", "user"])?.objects(objects)
}

fn plain(api: &Api, wanted: impl Fn(&PermissionRecord) -> bool) -> Vec<PermissionRecord> {
    api.operator.directory(|directory| directory.permissions().filter(|each| wanted(each)).cloned().collect())
}

fn topics(api: &Api, wanted: impl Fn(&TopicPermissionRecord) -> bool) -> Vec<TopicPermissionRecord> {
    api.operator.directory(|directory| directory.topic_permissions().filter(|each| wanted(each)).cloned().collect())
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    caller.admin()?;
    listed(&query, &plain(&api, |_| true))
}

async fn list_of_user(State(api): State<Arc<Api>>, caller: Caller, Params([user]): Params<1>, query: Query) -> Answer {
    caller.admin()?;
    api.operator.check_user(&user)?;
    listed(&query, &plain(&api, |each| each.user == user))
}

async fn list_of_vhost(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost]): Params<1>,
    query: Query,
) -> Answer {
    caller.admin()?;
    let vhost = caller.vhost(&api, vhost)?;
    listed(&query, &plain(&api, |each| each.vhost == vhost))
}

async fn list_topics(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    caller.admin()?;
    listed(&query, &topics(&api, |_| true))
}

async fn list_topics_of_user(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([user]): Params<1>,
    query: Query,
) -> Answer {
    caller.admin()?;
    api.operator.check_user(&user)?;
    listed(&query, &topics(&api, |each| each.user == user))
}

async fn list_topics_of_vhost(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost]): Params<1>,
    query: Query,
) -> Answer {
    caller.admin()?;
    let vhost = caller.vhost(&api, vhost)?;
    listed(&query, &topics(&api, |each| each.vhost == vhost))
}

/// A user and a vhost that both exist, for a look.
fn found(api: &Api, caller: &Caller, [vhost, user]: [String; 2]) -> Result<(String, String), Problem> {
    caller.admin()?;
    let vhost = caller.vhost(api, vhost)?;
    api.operator.check_user(&user)?;
    Ok((vhost, user))
}

/// The same for a change, which is told otherwise.
fn changed(api: &Api, caller: &Caller, names: [String; 2]) -> Result<(String, String), Problem> {
    caller.admin()?;
    found(api, caller, names).map_err(|_| Problem::bad_request("vhost_or_user_not_found"))
}

async fn show(State(api): State<Arc<Api>>, caller: Caller, Params(names): Params<2>, query: Query) -> Answer {
    let (vhost, user) = found(&api, &caller, names)?;
    let record = api.operator.directory(|directory| directory.permission(&vhost, &user).cloned());
    one(&query, object(json!(record.ok_or_else(Problem::not_found)?)))
}

async fn put(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params(names): Params<2>,
    body::Object(body): body::Object,
) -> Answer {
    let (vhost, user) = changed(&api, &caller, names)?;
    body.need(["configure", "write", "read"])?;
    let text = |name: &str| body.need_text(name).map(str::to_owned);
    let existed = api.operator.directory(|directory| directory.permission(&vhost, &user).is_some());
    let record =
        PermissionRecord { user, vhost, configure: text("configure")?, write: text("write")?, read: text("read")? };
    api.operator.put(Record::Permission(record)).await?;
    Ok(Reply::put(existed))
}

async fn remove(State(api): State<Arc<Api>>, caller: Caller, Params(names): Params<2>) -> Answer {
    let (vhost, user) = found(&api, &caller, names)?;
    let key = RecordKey { kind: RecordKind::Permission, names: [vhost, user, String::new()] };
    api.operator.remove(&key).await?;
    Ok(Reply::done())
}

fn shown_topics(api: &Api, query: &Query, wanted: impl Fn(&TopicPermissionRecord) -> bool) -> Answer {
    let records = topics(api, wanted);
    if records.is_empty() {
        return Err(Problem::not_found());
    }
    listed(query, &records)
}

async fn show_topics(State(api): State<Arc<Api>>, caller: Caller, Params(names): Params<2>, query: Query) -> Answer {
    let (vhost, user) = found(&api, &caller, names)?;
    shown_topics(&api, &query, |each| each.vhost == vhost && each.user == user)
}

async fn show_topic(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, user, exchange]): Params<3>,
    query: Query,
) -> Answer {
    let (vhost, user) = found(&api, &caller, [vhost, user])?;
    let exchange = super::exchanges::name(exchange);
    shown_topics(&api, &query, |each| each.vhost == vhost && each.user == user && each.exchange == exchange)
}

async fn put_topic(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params(names): Params<2>,
    body::Object(body): body::Object,
) -> Answer {
    let (vhost, user) = changed(&api, &caller, names)?;
    body.need(["exchange", "write", "read"])?;
    let text = |name: &str| body.need_text(name).map(str::to_owned);
    let existed = !topics(&api, |each| each.vhost == vhost && each.user == user).is_empty();
    let record =
        TopicPermissionRecord { user, vhost, exchange: text("exchange")?, write: text("write")?, read: text("read")? };
    api.operator.put(Record::TopicPermission(record)).await?;
    Ok(Reply::put(existed))
}

/// The exchange is the body's, as in RabbitMQ.
async fn put_topic_at(
    state: State<Arc<Api>>,
    caller: Caller,
    Params([vhost, user, _]): Params<3>,
    body: body::Object,
) -> Answer {
    put_topic(state, caller, Params([vhost, user]), body).await
}

async fn remove_matching(api: &Api, wanted: impl Fn(&TopicPermissionRecord) -> bool) -> Answer {
    let doomed = topics(api, wanted);
    if doomed.is_empty() {
        return Err(Problem::not_found());
    }
    for record in doomed {
        match api.operator.remove(&Record::TopicPermission(record).key()).await {
            // Somebody else was quicker.
            Ok(()) | Err(OperatorError::NotFound(_)) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(Reply::done())
}

async fn remove_topics(State(api): State<Arc<Api>>, caller: Caller, Params(names): Params<2>) -> Answer {
    let (vhost, user) = found(&api, &caller, names)?;
    remove_matching(&api, |each| each.vhost == vhost && each.user == user).await
}

async fn remove_topic(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, user, exchange]): Params<3>,
) -> Answer {
    let (vhost, user) = found(&api, &caller, [vhost, user])?;
    let exchange = super::exchanges::name(exchange);
    remove_matching(&api, |each| each.vhost == vhost && each.user == user && each.exchange == exchange).await
}
