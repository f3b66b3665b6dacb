//! Virtual hosts: listing, making, changing and deleting them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::body::{self, Members};
use super::caller::Caller;
use super::list::{Listing, Object, one};
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;
use super::users::tags;
use crate::engine::directory::{PermissionRecord, Record, RecordKey, RecordKind, VhostRecord};
use crate::engine::queue::QueueType;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/vhosts", get(list))
        .route("/api/vhosts/{vhost}", get(show).put(put).delete(remove))
        .route("/api/vhosts/{vhost}/deletion/protection", get(show_protection).post(protect).delete(unprotect))
        .route("/api/vhosts/{vhost}/start/{node}", post(start))
}

/// A vhost as RabbitMQ's API shows it.
fn vhost_object(api: &Api, record: &VhostRecord, query: &Query) -> Object {
    let node = &api.operator.config().node_name;
    let kind = record.default_queue_type.as_deref().unwrap_or(api.operator.config().default_queue_type.as_str());
    let mut cluster_state = Object::new();
    cluster_state.insert(node.clone(), "running".into());
    let mut vhost = object(json!({
        "name": record.name,
        "description": record.description,
        "tags": record.tags,
        "default_queue_type": kind,
        "metadata": {"description": record.description, "tags": record.tags, "default_queue_type": kind},
        "tracing": api.operator.is_tracing(&record.name),
        "cluster_state": cluster_state,
        "protected_from_deletion": record.protected_from_deletion,
    }));
    if !query.is_true("disable_stats")
        && let Ok(figures) = api.operator.vhost_figures(&record.name)
    {
        vhost.extend(object(json!(figures)));
    }
    vhost
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    let listing = Listing::parse(&query, &["name"])?;
    let visible = caller.visible_vhosts(&api);
    let records: Vec<VhostRecord> =
        api.operator.directory(|directory| visible.iter().filter_map(|name| directory.vhost(name).cloned()).collect());
    listing.objects(records.iter().map(|record| vhost_object(&api, record, &query)).collect())
}

async fn show(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>, query: Query) -> Answer {
    let name = caller.visible_vhost(&api, name)?;
    let record = api.operator.check_vhost(&name)?;
    one(&query, vhost_object(&api, &record, &query))
}

/// The type of queues declared without one; an empty or undefined one is none.
fn default_queue_type(body: &Object) -> Result<Option<String>, Problem> {
    let named = match body.text("default_queue_type")? {
        None => body.text("defaultqueuetype")?,
        named => named,
    };
    let Some(kind) = named.filter(|kind| !matches!(*kind, "" | "undefined")) else { return Ok(None) };
    if QueueType::from_word(kind.as_bytes()).is_none() {
        return Err(Problem::bad_request(format!("Unsupported default queue type: {kind}")));
    }
    Ok(Some(kind.to_owned()))
}

async fn put(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([name]): Params<1>,
    body::Object(body): body::Object,
) -> Answer {
    caller.admin()?;
    let existing = api.operator.check_vhost(&name).ok();
    let tracing = body.truth("tracing")?;
    let kind = default_queue_type(&body)?;
    let description = body.text("description")?.map(str::to_owned);
    let tags = body.get("tags").filter(|tags| !tags.is_null()).map(tags).transpose()?;
    let protected = body.truth("protected_from_deletion")?;
    if existing.is_some() {
        api.operator
            .change_vhost(&name, |record| {
                record.description = description.unwrap_or_default();
                record.tags = tags.unwrap_or_default();
                record.default_queue_type = kind.or(record.default_queue_type.take());
                record.protected_from_deletion = protected.unwrap_or(record.protected_from_deletion);
            })
            .await?;
    } else {
        let record = VhostRecord {
            name: name.clone(),
            description: description.unwrap_or_default(),
            tags: tags.unwrap_or_default(),
            default_queue_type: kind,
            protected_from_deletion: protected.unwrap_or(false),
            ..VhostRecord::default()
        };
        api.operator.put(Record::Vhost(record)).await?;
        // Whoever makes one may use it.
        let all = || ".*".to_owned();
        let rights = PermissionRecord {
            user: caller.name().to_owned(),
            vhost: name.clone(),
            configure: all(),
            write: all(),
            read: all(),
        };
        api.operator.put(Record::Permission(rights)).await?;
    }
    if let Some(on) = tracing {
        api.operator.set_tracing(&name, on)?;
    }
    Ok(Reply::put(existing.is_some()))
}

async fn remove(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>) -> Answer {
    caller.admin()?;
    let record = api.operator.check_vhost(&name)?;
    if record.protected_from_deletion {
        let reason = format!("Refusing to delete virtual host '{name}' because it is protected from deletion");
        return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", reason));
    }
    api.operator.remove(&RecordKey { kind: RecordKind::Vhost, names: [name, String::new(), String::new()] }).await?;
    Ok(Reply::done())
}

async fn show_protection(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>) -> Answer {
    caller.admin()?;
    let record = api.operator.check_vhost(&name)?;
    Reply::json(&json!({"protected_from_deletion": record.protected_from_deletion}))
}

async fn set_protection(api: &Api, caller: &Caller, name: &str, on: bool) -> Answer {
    caller.admin()?;
    api.operator.check_vhost(name)?;
    api.operator.change_vhost(name, |record| record.protected_from_deletion = on).await?;
    Ok(Reply::done())
}

async fn protect(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>) -> Answer {
    set_protection(&api, &caller, &name, true).await
}

async fn unprotect(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>) -> Answer {
    set_protection(&api, &caller, &name, false).await
}

/// A vhost that is there runs.
async fn start(State(api): State<Arc<Api>>, caller: Caller, Params([name, node]): Params<2>) -> Answer {
    caller.admin()?;
    api.operator.check_vhost(&name)?;
    if super::node::check_node(&api, &node).is_err() {
        return Err(Problem::bad_request(Value::from(format!("Unknown node: {node}"))));
    }
    Ok(Reply::done())
}
