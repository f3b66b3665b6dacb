//! Queues: listing, declaring, deleting, purging. What they bring out one message at a time is `contents`'.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{delete, get, post};
use leveret_protocol::ShortString;
use serde_json::{Map, Value, json};

use super::body::{self, Members};
use super::caller::Caller;
use super::list::{Columns, Key, Listing, Object, one};
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;
use crate::definitions::from_json;
use crate::engine::vhost::QueueDeclaration;
use crate::server::operator::{Acting, ConnectionDetails, DeleteCondition, QueueHead, QueueInfo};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/queues", get(list))
        .route("/api/queues/detailed", get(list_detailed))
        .route("/api/queues/{vhost}", get(list_vhost))
        .route("/api/queues/{vhost}/{queue}", get(show).put(declare).delete(remove))
        .route("/api/queues/{vhost}/{queue}/contents", delete(purge))
        .route("/api/queues/{vhost}/{queue}/actions", post(act))
        .route("/api/users/{user}/queues", get(list_of_user))
}

/// How much of a queue is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// What it was declared with.
    Declared,
    /// That, and its messages.
    Totals,
    /// All that a listing has.
    Listed,
    /// And its consumers.
    Full,
}

impl Detail {
    fn of(query: &Query, otherwise: Self) -> Self {
        match (query.is_true("disable_stats"), query.is_true("enable_queue_totals")) {
            (false, _) => otherwise,
            (true, true) => Self::Totals,
            (true, false) => Self::Declared,
        }
    }
}

/// A column of a queue that can be told at once.
fn quick(head: &QueueHead, column: &str) -> Option<Key> {
    Some(match column {
        "name" => head.name().into(),
        "vhost" => head.vhost().into(),
        "type" => head.kind().into(),
        "state" => "running".into(),
        "messages" => {
            let gauges = head.gauges();
            Key::count(gauges.ready + gauges.unacked)
        }
        "messages_ready" => Key::count(head.gauges().ready),
        "messages_unacknowledged" => Key::count(head.gauges().unacked),
        "consumers" => Key::count(head.gauges().consumers),
        "message_bytes" => {
            let figures = head.figures();
            Key::count(figures.ready_body_bytes + figures.unacked_body_bytes)
        }
        "memory" => Key::count(head.figures().resident_bytes as u64),
        // As of all that is not there.
        _ if column.starts_with("message_stats.") && !head.was_used() => Key::Int(0),
        _ => return None,
    })
}

/// What is shown of a queue without statistics.
const DECLARED: [&str; 10] =
    ["arguments", "auto_delete", "durable", "exclusive", "name", "operator_policy", "policy", "state", "type", "vhost"];
const TOTALS: [&str; 3] = ["messages", "messages_ready", "messages_unacknowledged"];

/// A queue as RabbitMQ's API shows it: the operator's record, without what names processes, and with what hangs together
/// with other things.
fn queue_object(api: &Api, info: &QueueInfo, detail: Detail, columns: &Columns) -> Object {
    let mut queue = object(json!(info));
    for name in ["pid", "owner_pid"] {
        queue.remove(name);
    }
    queue.insert("node".to_owned(), api.operator.config().node_name.as_str().into());
    if matches!(detail, Detail::Declared | Detail::Totals) {
        let totals = detail == Detail::Totals;
        queue.retain(|name, _| {
            let name = name.as_str();
            DECLARED.contains(&name) || name == "node" || (totals && TOTALS.contains(&name))
        });
        return queue;
    }
    if columns.wants("effective_policy_definition") {
        queue.insert("effective_policy_definition".to_owned(), effective_policy(api, info).into());
    }
    if let Some(owner) = &info.owner {
        queue.insert("owner_pid_details".to_owned(), connection_details(owner));
    }
    if info.kind == "quorum" {
        let node = &api.operator.config().node_name;
        queue.extend(object(json!({"leader": node, "members": [node], "online": [node]})));
    }
    if detail == Detail::Full && columns.wants("consumer_details") {
        let consumers = api.operator.consumers_of(&info.vhost, &info.name).unwrap_or_default();
        let consumers = consumers.iter().map(|consumer| super::consumers::consumer_object(api, consumer));
        queue.insert("consumer_details".to_owned(), json!(consumers.collect::<Vec<_>>()));
        // By exchange and by channel nothing is kept apart.
        queue.extend(object(json!({"incoming": [], "deliveries": []})));
    }
    queue
}

/// The connection that something belongs to.
pub(super) fn connection_details(owner: &ConnectionDetails) -> Value {
    json!({"name": owner.name, "peer_host": owner.peer_host, "peer_port": owner.peer_port})
}

/// What a queue's policy and operator policy ask for together; where both say something the lower number counts, or else
/// the operator's word.
fn effective_policy(api: &Api, info: &QueueInfo) -> Map<String, Value> {
    if info.policy.is_none() && info.operator_policy.is_none() {
        return Map::new();
    }
    let of = |name: &Option<String>, operator: bool| {
        let name = name.as_deref()?;
        api.operator
            .directory(|directory| directory.policy(&info.vhost, name, operator).map(|found| found.definition.clone()))
    };
    let mut merged = of(&info.policy, false).unwrap_or_default();
    for (key, value) in of(&info.operator_policy, true).unwrap_or_default() {
        let lower =
            merged.get(&key).and_then(Value::as_i64).zip(value.as_i64()).map(|(own, operator)| own.min(operator));
        merged.insert(key, lower.map_or(value, Value::from));
    }
    merged
}

/// Lists the queues of some vhosts that are chosen.
fn listed(
    api: &Api,
    vhosts: Vec<String>,
    query: &Query,
    detail: Detail,
    chosen: Option<&dyn Fn(&QueueHead) -> bool>,
) -> Answer {
    let listing = Listing::of_sorted(query, "vhost")?;
    let detail = Detail::of(query, detail);
    let vhosts: HashSet<Vec<u8>> = vhosts.into_iter().map(String::into_bytes).collect();
    let heads = api.operator.queue_heads();
    let mut places = of_vhosts(&heads, &vhosts);
    if let Some(chosen) = chosen {
        places.retain(|at| chosen(&heads[*at]));
    }
    let whole = |head: &QueueHead| {
        let info = api.operator.queue_of(head)?;
        Some(queue_object(api, &info, detail, listing.columns()))
    };
    listing.reply_some(&heads, places, quick, whole)
}

/// The places of the queues of some vhosts.
fn of_vhosts(heads: &[QueueHead], vhosts: &HashSet<Vec<u8>>) -> Vec<usize> {
    let mut places = Vec::with_capacity(heads.len());
    let mut start = 0;
    // Those of a vhost stand side by side.
    while let Some(first) = heads.get(start) {
        let end = start + heads[start..].partition_point(|head| head.vhost() == first.vhost());
        if vhosts.contains(first.vhost().as_bytes()) {
            places.extend(start..end);
        }
        start = end;
    }
    places
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    listed(&api, caller.vhosts(&api), &query, Detail::Listed, None)
}

async fn list_detailed(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    listed(&api, caller.vhosts(&api), &query, Detail::Full, None)
}

async fn list_vhost(State(api): State<Arc<Api>>, caller: Caller, Params([vhost]): Params<1>, query: Query) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    listed(&api, vec![vhost], &query, Detail::Listed, None)
}

/// The queues that a user's connections have for themselves: who declared other queues is not remembered.
async fn list_of_user(State(api): State<Arc<Api>>, caller: Caller, Params([user]): Params<1>, query: Query) -> Answer {
    caller.owner_or_monitor(&user)?;
    api.operator.check_user(&user)?;
    let whose = |head: &QueueHead| api.operator.queue_of(head)?.owner.map(|connection| connection.user);
    let is_theirs = |head: &QueueHead| whose(head).is_some_and(|owner| owner == user);
    listed(&api, caller.vhosts(&api), &query, Detail::Listed, Some(&is_theirs))
}

async fn show(State(api): State<Arc<Api>>, caller: Caller, Params([vhost, queue]): Params<2>, query: Query) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    let info = api.operator.queue(&vhost, &queue)?;
    one(&query, queue_object(&api, &info, Detail::of(&query, Detail::Full), &Columns::default()))
}

async fn declare(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, queue]): Params<2>,
    body::Object(body): body::Object,
) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    let existed = api.operator.queue(&vhost, &queue).is_ok();
    if queue.is_empty() {
        return Err(Problem::bad_request("queue name cannot be empty"));
    }
    let name = ShortString::try_from(queue.as_str())
        .map_err(|_| Problem::bad_request(format!("queue name '{queue}' is longer than 255 octets")))?;
    let mut arguments = from_json(&body.object("arguments")?).map_err(Problem::bad_request)?;
    if let Some(kind) = body.text("queue_type")?
        && arguments.get("x-queue-type").is_none()
    {
        arguments.push(ShortString::from_static("x-queue-type"), crate::engine::vhost::long_string(kind.as_bytes()));
    }
    let declaration = QueueDeclaration {
        name,
        durable: body.truth("durable")?.unwrap_or(false),
        exclusive: false,
        auto_delete: body.truth("auto_delete")?.unwrap_or(false),
        arguments,
        server_named: false,
    };
    let access = caller.access(&api, &vhost)?;
    api.operator.declare_queue(&Acting::new(&vhost, access), declaration).await?;
    Ok(Reply::put(existed))
}

async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, queue]): Params<2>,
    query: Query,
) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    api.operator.queue(&vhost, &queue)?;
    let condition = DeleteCondition { if_empty: query.is_true("if-empty"), if_unused: query.is_true("if-unused") };
    let access = caller.access(&api, &vhost)?;
    let name = ShortString::try_from(queue.as_str()).map_err(|_| Problem::not_found())?;
    api.operator.delete_queue_as(&Acting::new(&vhost, access), &name, condition).await?;
    Ok(Reply::done())
}

async fn purge(State(api): State<Arc<Api>>, caller: Caller, Params([vhost, queue]): Params<2>) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    api.operator.queue(&vhost, &queue)?;
    let access = caller.access(&api, &vhost)?;
    let name = ShortString::try_from(queue.as_str()).map_err(|_| Problem::not_found())?;
    api.operator.purge_queue_as(&Acting::new(&vhost, access), &name).await?;
    Ok(Reply::done())
}

/// What mirrored queues could be asked for; there are none.
async fn act(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, queue]): Params<2>,
    body::Object(body): body::Object,
) -> Answer {
    caller.admin()?;
    let vhost = caller.vhost(&api, vhost)?;
    api.operator.queue(&vhost, &queue)?;
    match body.need_text("action")? {
        "sync" | "cancel_sync" => Ok(Reply::done()),
        other => Err(Problem::bad_request(json!(["unknown", other]))),
    }
}
