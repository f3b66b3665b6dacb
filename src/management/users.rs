//! Users: listing, making, changing and deleting them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::body::{self, Members, whole};
use super::caller::Caller;
use super::list::{Listing, Object, one};
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;
use crate::engine::directory::{HashingAlgorithm, PermissionRecord, Record, RecordKey, RecordKind, User};
use crate::server::operator::Operator;

/// Tags of one user or vhost at most, as in RabbitMQ.
const TAGS_MAX: usize = 64;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/users", get(list))
        .route("/api/users/without-permissions", get(list_without_permissions))
        .route("/api/users/bulk-delete", post(bulk_delete))
        .route("/api/users/{user}", get(show).put(put).delete(remove))
        .route("/api/auth/hash_password/{password}", get(hash))
}

/// A user as RabbitMQ's API shows it.
fn user_object(user: &User) -> Object {
    object(json!({
        "name": user.name,
        "password_hash": user.password_hash,
        "hashing_algorithm": user.hashing_algorithm,
        "tags": user.tags,
        "limits": user.limits,
    }))
}

fn listed(query: &Query, users: &[User]) -> Answer {
    Listing::parse(query, &["name"])?.objects(users.iter().map(user_object).collect())
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    caller.admin()?;
    let users: Vec<User> = api.operator.directory(|directory| directory.users().cloned().collect());
    listed(&query, &users)
}

async fn list_without_permissions(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    caller.admin()?;
    let users: Vec<User> = api.operator.directory(|directory| {
        let with: BTreeSet<&str> = directory.permissions().map(|each| each.user.as_str()).collect();
        directory.users().filter(|user| !with.contains(user.name.as_str())).cloned().collect()
    });
    listed(&query, &users)
}

async fn show(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>, query: Query) -> Answer {
    caller.admin()?;
    one(&query, user_object(&api.operator.check_user(&name)?))
}

/// Tags as a list, or as text with commas.
pub(super) fn tags(value: &Value) -> Result<Vec<String>, Problem> {
    let wrong = || Problem::bad_request("tags must be a string or a list of strings");
    let words: Vec<&str> = match value {
        Value::String(text) => text.split(',').collect(),
        Value::Array(items) => items.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(wrong)?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return Err(wrong()),
    };
    let mut tags: Vec<String> = Vec::new();
    for word in words.into_iter().map(str::trim).filter(|word| !word.is_empty()) {
        if !tags.iter().any(|known| known == word) {
            tags.push(word.to_owned());
        }
    }
    if tags.len() > TAGS_MAX {
        let count = tags.len();
        return Err(Problem::bad_request(format!("A user can have at most {TAGS_MAX} tags (received {count})")));
    }
    Ok(tags)
}

/// How the user is to log in: hash and algorithm; a blank hash for nobody. `judged` makes the hash of a password that may be one.
fn password(
    body: &Map<String, Value>,
    is_new: bool,
    judged: impl Fn(Option<&str>) -> Result<String, Problem>,
) -> Result<(String, HashingAlgorithm), Problem> {
    match (body.contains_key("password"), body.contains_key("password_hash")) {
        (true, true) => Err(Problem::bad_request("both_password_and_password_hash_are_provided")),
        (true, false) => {
            let text = body.need_text("password")?;
            Ok((judged(Some(text))?, HashingAlgorithm::default()))
        }
        (false, true) => {
            let hash = body.need_text("password_hash")?;
            if BASE64_STANDARD.decode(hash).is_err() {
                return Err(Problem::bad_request(json!(["not_base64", hash.chars().take(64).collect::<String>()])));
            }
            let algorithm = match body.get("hashing_algorithm") {
                None | Some(Value::Null) => HashingAlgorithm::default(),
                Some(word) => serde_json::from_value(word.clone())
                    .map_err(|_| Problem::bad_request(format!("unknown hashing_algorithm {word}")))?,
            };
            Ok((hash.to_owned(), algorithm))
        }
        (false, false) if is_new => Ok((judged(None)?, HashingAlgorithm::default())),
        (false, false) => Ok((String::new(), HashingAlgorithm::default())),
    }
}

/// Limits by name.
pub(super) fn limits(value: &Value) -> Result<BTreeMap<String, i64>, Problem> {
    let limits = match value {
        Value::Object(limits) => limits.clone(),
        Value::Array(items) if items.is_empty() => Map::new(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(Problem::bad_request("limits must be an object"));
        }
    };
    let number = |(name, value): (String, Value)| {
        let number = whole(&value).ok_or_else(|| Problem::bad_request(format!("{name} must be an integer")))?;
        Ok((name, number))
    };
    limits.into_iter().map(number).collect()
}

/// Rights that a new user is given at once.
fn permissions(body: &Map<String, Value>, user: &str) -> Result<Vec<PermissionRecord>, Problem> {
    let of_vhost = |(vhost, rights): (String, Value)| {
        let rights = rights.as_object().cloned().ok_or_else(|| Problem::bad_request("permissions must be objects"))?;
        Ok(PermissionRecord {
            user: user.to_owned(),
            vhost,
            configure: rights.need_text("configure")?.to_owned(),
            write: rights.need_text("write")?.to_owned(),
            read: rights.need_text("read")?.to_owned(),
        })
    };
    body.object("permissions")?.into_iter().map(of_vhost).collect()
}

async fn put(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([name]): Params<1>,
    body::Object(body): body::Object,
) -> Answer {
    caller.admin()?;
    let existing = api.operator.check_user(&name).ok();
    let tags = match (body.get("tags"), body.truth("administrator")?) {
        (Some(value), _) => tags(value)?,
        (None, Some(true)) => vec!["administrator".to_owned()],
        (None, Some(false)) => Vec::new(),
        (None, None) => return Err(Problem::bad_request("tags_not_present")),
    };
    let (password_hash, hashing_algorithm) = password(&body, existing.is_none(), |password| {
        let hash = api.operator.new_password(&name, password);
        // RabbitMQ tells the reason in its log only.
        hash.map_err(|_| Problem::bad_request("credential validation failed"))
    })?;
    let rights = if existing.is_none() { permissions(&body, &name)? } else { Vec::new() };
    let limits = match body.get("limits").filter(|limits| !limits.is_null()) {
        Some(value) => limits(value)?,
        None => existing.as_ref().map(|user| user.limits.clone()).unwrap_or_default(),
    };
    let user = User { name, password_hash, hashing_algorithm, tags, limits };
    api.operator.put(Record::User(user)).await?;
    for record in rights {
        api.operator.put(Record::Permission(record)).await?;
    }
    Ok(Reply::put(existing.is_some()))
}

async fn delete(api: &Api, name: String) -> Result<(), Problem> {
    let key = RecordKey { kind: RecordKind::User, names: [name, String::new(), String::new()] };
    Ok(api.operator.remove(&key).await?)
}

async fn remove(State(api): State<Arc<Api>>, caller: Caller, Params([name]): Params<1>) -> Answer {
    caller.admin()?;
    delete(&api, name).await?;
    Ok(Reply::done())
}

async fn bulk_delete(State(api): State<Arc<Api>>, caller: Caller, body::Object(body): body::Object) -> Answer {
    caller.admin()?;
    let [users] = body.need(["users"])?;
    let names: Option<Vec<&str>> = users.as_array().and_then(|all| all.iter().map(Value::as_str).collect());
    let names = names.ok_or_else(|| Problem::bad_request("users must be a list of strings"))?;
    for name in names {
        // Who is not there needs no deleting.
        if api.operator.check_user(name).is_ok() {
            delete(&api, name.to_owned()).await?;
        }
    }
    Ok(Reply::done())
}

async fn hash(caller: Caller, Params([password]): Params<1>) -> Answer {
    caller.admin()?;
    Reply::json(&json!({"ok": Operator::hash_password(&password)}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_as_text_or_list() {
        assert_eq!(
            tags(&json!("administrator, monitoring,,administrator")).expect("tags"),
            ["administrator", "monitoring"]
        );
        assert_eq!(tags(&json!(["a", "b"])).expect("tags"), ["a", "b"]);
        assert_eq!(tags(&json!("")).expect("tags"), [""; 0]);
        assert!(tags(&json!(5)).is_err() && tags(&json!([5])).is_err());
        let many: Vec<String> = (0..=TAGS_MAX).map(|number| number.to_string()).collect();
        assert!(tags(&json!(many)).is_err());
    }

    #[test]
    fn a_password_or_a_hash_but_not_both() {
        let of = |body: Value| {
            let hashed = |password: Option<&str>| Ok(Operator::hash_password(password.unwrap_or_default()));
            password(body.as_object().expect("an object"), true, hashed)
        };
        assert!(of(json!({"password": "x", "password_hash": "x"})).is_err());
        assert!(!of(json!({"password": "x"})).expect("hashed").0.is_empty());
        let (hash, algorithm) =
            of(json!({"password_hash": "aGFzaA==", "hashing_algorithm": "rabbit_password_hashing_md5"}))
                .expect("taken");
        assert_eq!((hash.as_str(), algorithm), ("aGFzaA==", HashingAlgorithm::Md5));
        assert!(of(json!({"password_hash": "%"})).is_err());
        assert!(of(json!({"password_hash": "", "hashing_algorithm": "rot13"})).is_err());
        assert_eq!(of(json!({})).expect("nobody can log in").0, "");
    }
}
