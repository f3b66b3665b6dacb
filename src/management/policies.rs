//! Policies and operator policies.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::json;

use super::body::{self, Members, whole};
use super::caller::Caller;
use super::list::{Listing, one};
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;
use crate::engine::directory::{PolicyRecord, Record, RecordKey, RecordKind};

/// The same for both kinds: `$operator` says which.
macro_rules! routes_of {
    ($path:literal, $operator:literal) => {
        Router::new()
            .route(
                concat!("/api/", $path),
                get(|State(api): State<Arc<Api>>, caller: Caller, query: Query| async move {
                    listed(&query, &of_vhosts(&api, &caller.vhosts(&api), $operator))
                }),
            )
            .route(
                concat!("/api/", $path, "/{vhost}"),
                get(
                    |State(api): State<Arc<Api>>, caller: Caller, Params([vhost]): Params<1>, query: Query| async move {
                        let vhost = caller.vhost(&api, vhost)?;
                        listed(&query, &of_vhosts(&api, &[vhost], $operator))
                    },
                ),
            )
            .route(
                concat!("/api/", $path, "/{vhost}/{name}"),
                get(|State(api): State<Arc<Api>>, caller: Caller, Params(names): Params<2>, query: Query| async move {
                    show(&api, &caller, names, &query, $operator)
                })
                .put(|state, caller, names, body| put(state, caller, names, body, $operator))
                .delete(|state, caller, names| remove(state, caller, names, $operator)),
            )
    };
}

pub(super) fn routes() -> Router<Arc<Api>> {
    routes_of!("policies", false).merge(routes_of!("operator-policies", true))
}

fn of_vhosts(api: &Api, vhosts: &[String], operator: bool) -> Vec<PolicyRecord> {
    api.operator.directory(|directory| {
        let wanted = |policy: &&PolicyRecord| vhosts.contains(&policy.vhost);
        if operator {
            directory.operator_policies().filter(wanted).cloned().collect()
        } else {
            directory.policies().filter(wanted).cloned().collect()
        }
    })
}

fn listed(query: &Query, policies: &[PolicyRecord]) -> Answer {
    Listing::whole(query, &["priority"])?.objects(policies.iter().map(|policy| object(json!(policy))).collect())
}

/// The vhost of a policy that a caller may see and set.
fn allowed(api: &Api, caller: &Caller, vhost: String, operator: bool) -> Result<String, Problem> {
    if operator {
        caller.admin()?;
    }
    caller.policy_vhost(api, vhost)
}

fn found(api: &Api, vhost: &str, name: &str, operator: bool) -> Result<PolicyRecord, Problem> {
    let found = api.operator.directory(|directory| directory.policy(vhost, name, operator).cloned());
    found.ok_or_else(Problem::not_found)
}

fn show(api: &Api, caller: &Caller, [vhost, name]: [String; 2], query: &Query, operator: bool) -> Answer {
    let vhost = allowed(api, caller, vhost, operator)?;
    one(query, object(json!(found(api, &vhost, &name, operator)?)))
}

async fn put(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, name]): Params<2>,
    body::Object(body): body::Object,
    operator: bool,
) -> Answer {
    let vhost = allowed(&api, &caller, vhost, operator)?;
    body.need(["pattern", "definition"])?;
    let priority = match body.get("priority").filter(|priority| !priority.is_null()) {
        None => 0,
        Some(value) => whole(value).ok_or_else(|| {
            Problem::bad_request(format!("Validation failed\n\npriority should be a number, got {value}\n"))
        })?,
    };
    let existed = found(&api, &vhost, &name, operator).is_ok();
    let policy = PolicyRecord {
        vhost,
        name,
        pattern: body.need_text("pattern")?.to_owned(),
        apply_to: body.text("apply-to")?.unwrap_or("all").to_owned(),
        priority,
        definition: body.object("definition")?,
    };
    let record = if operator { Record::OperatorPolicy(policy) } else { Record::Policy(policy) };
    api.operator.put(record).await?;
    Ok(Reply::put(existed))
}

async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, name]): Params<2>,
    operator: bool,
) -> Answer {
    let vhost = allowed(&api, &caller, vhost, operator)?;
    found(&api, &vhost, &name, operator)?;
    let kind = if operator { RecordKind::OperatorPolicy } else { RecordKind::Policy };
    api.operator.remove(&RecordKey { kind, names: [vhost, name, String::new()] }).await?;
    Ok(Reply::done())
}
