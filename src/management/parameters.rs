//! Runtime parameters, of vhosts and of the whole broker.
//!
//! Limits of vhosts and operator policies are parameters too in RabbitMQ, with components of their own.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use super::body::{self, Members};
use super::caller::Caller;
use super::list::{Listing, Object, one};
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;
use crate::engine::directory::{GlobalParameterRecord, ParameterRecord, Record, RecordKey, RecordKind};

/// Components whose parameters have endpoints of their own.
const VHOST_LIMITS: &str = "vhost-limits";
const OPERATOR_POLICY: &str = "operator_policy";

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/parameters", get(list))
        .route("/api/parameters/{component}", get(list_component))
        .route("/api/parameters/{component}/{vhost}", get(list_vhost))
        .route("/api/parameters/{component}/{vhost}/{name}", get(show).put(put).delete(remove))
        .route("/api/global-parameters", get(list_global))
        .route("/api/global-parameters/{name}", get(show_global).put(put_global).delete(remove_global))
}

/// Every parameter of some vhosts, with what RabbitMQ keeps as parameters.
fn parameters(api: &Api, vhosts: &[String], component: Option<&str>) -> Vec<Object> {
    let row = |component: &str, vhost: &str, name: &str, value: Value| {
        object(json!({"component": component, "vhost": vhost, "name": name, "value": value}))
    };
    let mut all: Vec<Object> = api.operator.directory(|directory| {
        let within = |vhost: &String| vhosts.contains(vhost);
        let plain = directory.parameters().filter(|each| within(&each.vhost));
        let plain = plain.map(|each| row(&each.component, &each.vhost, &each.name, each.value.clone()));
        let limited = directory.vhosts().filter(|vhost| within(&vhost.name) && !vhost.limits.is_empty());
        let limits = limited.map(|vhost| row(VHOST_LIMITS, &vhost.name, "limits", json!(vhost.limits)));
        let policies = directory.operator_policies().filter(|policy| within(&policy.vhost)).map(|policy| {
            let value = json!({"pattern": policy.pattern, "apply-to": policy.apply_to, "priority": policy.priority,
                "definition": policy.definition});
            row(OPERATOR_POLICY, &policy.vhost, &policy.name, value)
        });
        plain.chain(limits).chain(policies).collect()
    });
    all.retain(|each| {
        component.is_none_or(|component| each.get("component").and_then(Value::as_str) == Some(component))
    });
    all
}

fn listed(api: &Api, query: &Query, vhosts: &[String], component: Option<&str>) -> Answer {
    Listing::whole(query, &["vhost", "name"])?.objects(parameters(api, vhosts, component))
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    caller.policymaker()?;
    listed(&api, &query, &caller.vhosts(&api), None)
}

async fn list_component(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([component]): Params<1>,
    query: Query,
) -> Answer {
    caller.policymaker()?;
    listed(&api, &query, &caller.vhosts(&api), Some(&component))
}

async fn list_vhost(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([component, vhost]): Params<2>,
    query: Query,
) -> Answer {
    let vhost = caller.policy_vhost(&api, vhost)?;
    listed(&api, &query, &[vhost], Some(&component))
}

fn found(api: &Api, component: &str, vhost: &str, name: &str) -> Result<Object, Problem> {
    let all = parameters(api, &[vhost.to_owned()], Some(component));
    let found = all.into_iter().find(|each| each.get("name").and_then(Value::as_str) == Some(name));
    found.ok_or_else(Problem::not_found)
}

async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([component, vhost, name]): Params<3>,
    query: Query,
) -> Answer {
    let vhost = caller.policy_vhost(&api, vhost)?;
    one(&query, found(&api, &component, &vhost, &name)?)
}

async fn put(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([component, vhost, name]): Params<3>,
    body::Object(body): body::Object,
) -> Answer {
    let vhost = caller.policy_vhost(&api, vhost)?;
    let [value] = body.need(["value"])?;
    let existed = found(&api, &component, &vhost, &name).is_ok();
    if component == VHOST_LIMITS {
        caller.admin()?;
        let limits = super::users::limits(value)?;
        api.operator.change_vhost(&vhost, |record| record.limits = limits).await?;
    } else if component == OPERATOR_POLICY {
        return Err(Problem::bad_request("operator policies are set under /api/operator-policies"));
    } else {
        let record = ParameterRecord { value: value.clone(), vhost, component, name };
        api.operator.put(Record::Parameter(record)).await?;
    }
    Ok(Reply::put(existed))
}

async fn remove(State(api): State<Arc<Api>>, caller: Caller, Params([component, vhost, name]): Params<3>) -> Answer {
    let vhost = caller.policy_vhost(&api, vhost)?;
    found(&api, &component, &vhost, &name)?;
    if component == VHOST_LIMITS {
        caller.admin()?;
        api.operator.change_vhost(&vhost, |record| record.limits.clear()).await?;
    } else if component == OPERATOR_POLICY {
        caller.admin()?;
        api.operator
            .remove(&RecordKey { kind: RecordKind::OperatorPolicy, names: [vhost, name, String::new()] })
            .await?;
    } else {
        api.operator.remove(&RecordKey { kind: RecordKind::Parameter, names: [vhost, component, name] }).await?;
    }
    Ok(Reply::done())
}

/// Every global parameter; the cluster's name is always one.
fn globals(api: &Api) -> Vec<Object> {
    let mut all: Vec<Object> = api.operator.directory(|directory| {
        directory.global_parameters().map(|each| object(json!({"name": each.name, "value": each.value}))).collect()
    });
    let has =
        |all: &[Object], name: &str| all.iter().any(|each| each.get("name").and_then(Value::as_str) == Some(name));
    if !has(&all, "cluster_name") {
        all.push(object(json!({"name": "cluster_name", "value": api.operator.cluster_name()})));
    }
    all
}

fn global(api: &Api, name: &str) -> Result<Object, Problem> {
    let found = globals(api).into_iter().find(|each| each.get("name").and_then(Value::as_str) == Some(name));
    found.ok_or_else(Problem::not_found)
}

async fn list_global(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    caller.policymaker()?;
    Listing::whole(&query, &["vhost", "name"])?.objects(globals(&api))
}

async fn show_global(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>, query: Query) -> Answer {
    caller.policymaker()?;
    one(&query, global(&api, &name)?)
}

async fn put_global(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([name]): Params<1>,
    body::Object(body): body::Object,
) -> Answer {
    caller.policymaker()?;
    let [value] = body.need(["value"])?;
    let existed = global(&api, &name).is_ok();
    api.operator.put(Record::GlobalParameter(GlobalParameterRecord { name, value: value.clone() })).await?;
    Ok(Reply::put(existed))
}

async fn remove_global(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>) -> Answer {
    caller.policymaker()?;
    global(&api, &name)?;
    let key = RecordKey { kind: RecordKind::GlobalParameter, names: [name, String::new(), String::new()] };
    match api.operator.remove(&key).await {
        // The cluster's name may be the configuration's.
        Ok(()) | Err(crate::server::operator::OperatorError::NotFound(_)) => Ok(Reply::done()),
        Err(other) => Err(other.into()),
    }
}
