//! Limits of vhosts and users.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, put};
use serde_json::json;

use super::body::{self, Members, whole};
use super::caller::Caller;
use super::list::{Listing, Object};
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/vhost-limits", get(list))
        .route("/api/vhost-limits/{vhost}", get(list_vhost))
        .route("/api/vhost-limits/{vhost}/{name}", put(set).delete(clear))
        .route("/api/user-limits", get(list_users))
        .route("/api/user-limits/{user}", get(list_user))
        .route("/api/user-limits/{user}/{name}", put(set_of_user).delete(clear_of_user))
}

fn row(of: &str, name: &str, limits: &BTreeMap<String, i64>) -> Option<Object> {
    (!limits.is_empty()).then(|| object(json!({of: name, "value": limits})))
}

fn of_vhosts(api: &Api, vhosts: &[String], query: &Query) -> Answer {
    let rows = api.operator.directory(|directory| {
        let records = directory.vhosts().filter(|vhost| vhosts.contains(&vhost.name));
        records.filter_map(|vhost| row("vhost", &vhost.name, &vhost.limits)).collect()
    });
    Listing::whole(query, &[])?.objects(rows)
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    of_vhosts(&api, &caller.visible_vhosts(&api), &query)
}

async fn list_vhost(State(api): State<Arc<Api>>, caller: Caller, Params([vhost]): Params<1>, query: Query) -> Answer {
    let vhost = caller.visible_vhost(&api, vhost)?;
    of_vhosts(&api, &[vhost], &query)
}

/// The number that a limit is set to.
fn limit(body: &Object) -> Result<i64, Problem> {
    let [value] = body.need(["value"])?;
    whole(value)
        .ok_or_else(|| Problem::bad_request(format!("Validation failed\n\nlimit should be an integer, got {value}\n")))
}

async fn set(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, name]): Params<2>,
    body::Object(body): body::Object,
) -> Answer {
    caller.admin()?;
    let vhost = caller.vhost(&api, vhost)?;
    let limit = limit(&body)?;
    api.operator
        .change_vhost(&vhost, |record| {
            record.limits.insert(name, limit);
        })
        .await?;
    Ok(Reply::done())
}

async fn clear(State(api): State<Arc<Api>>, caller: Caller, Params([vhost, name]): Params<2>) -> Answer {
    caller.admin()?;
    let vhost = caller.vhost(&api, vhost)?;
    api.operator
        .change_vhost(&vhost, |record| {
            record.limits.remove(&name);
        })
        .await?;
    Ok(Reply::done())
}

async fn list_users(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    caller.admin()?;
    let rows = api
        .operator
        .directory(|directory| directory.users().filter_map(|user| row("user", &user.name, &user.limits)).collect());
    Listing::whole(&query, &[])?.objects(rows)
}

async fn list_user(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>, query: Query) -> Answer {
    caller.owner_or_monitor(&name)?;
    let user = api.operator.check_user(&name)?;
    Listing::whole(&query, &[])?.objects(row("user", &user.name, &user.limits).into_iter().collect())
}

async fn set_of_user(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([user, name]): Params<2>,
    body::Object(body): body::Object,
) -> Answer {
    caller.admin()?;
    let limit = limit(&body)?;
    api.operator
        .change_user(&user, |record| {
            record.limits.insert(name, limit);
        })
        .await?;
    Ok(Reply::done())
}

async fn clear_of_user(State(api): State<Arc<Api>>, caller: Caller, Params([user, name]): Params<2>) -> Answer {
    caller.admin()?;
    api.operator
        .change_user(&user, |record| {
            record.limits.remove(&name);
        })
        .await?;
    Ok(Reply::done())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_limit_is_a_number() {
        let of = |value: Value| limit(&object(json!({"value": value})));
        assert_eq!((of(json!(5)), of(json!("7")), of(json!(-1))), (Ok(5), Ok(7), Ok(-1)));
        assert!(of(json!("many")).is_err() && of(json!(1.5)).is_err() && limit(&Object::new()).is_err());
    }
}
