//! Bodies of requests: how much of one is read, within which time, and what of it is JSON.
//!
//! Only a few large ones are in memory at once; who brings another waits. What a body of JSON becomes is some twenty times
//! its size in the worst case, so those that name or change one thing may be small only.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use super::routes::Api;

/// Octets of a body that is about one thing.
const SMALL_MAX_BYTES: usize = 1024 * 1024;
/// Octets of a form with name and password.
const FORM_MAX_BYTES: usize = 4096;
/// Octets that anybody may send without waiting for a place.
const FREE_BYTES: usize = 64 * 1024;
/// Bodies larger than that at once.
const LARGE_AT_ONCE: usize = 4;
/// How long a body may take in all, and to go on at all.
const TIMEOUT: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(20);

/// Places for large bodies.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_AT_ONCE)))
    }
}

fn too_large() -> Problem {
    Problem::bad_request("Exceeded HTTP request body size limit")
}

fn too_slow() -> Problem {
    Problem::new(axum::http::StatusCode::REQUEST_TIMEOUT, "request_timeout", "The request body took too long")
}

/// A body, and its place among the large ones.
#[derive(Debug, Default)]
struct Octets {
    octets: Vec<u8>,
    place: Option<OwnedSemaphorePermit>,
}

async fn read(body: Body, announced: Option<usize>, max: usize, places: &Places) -> Result<Octets, Problem> {
    if announced.is_some_and(|announced| announced > max) {
        return Err(too_large());
    }
    let mut body = body;
    let mut read = Octets::default();
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.map_err(|_| too_slow())?;
        let Some(frame) = frame else { return Ok(read) };
        let Ok(data) = frame.map_err(|_| Problem::bad_request("incomplete body"))?.into_data() else { continue };
        let size = read.octets.len() + data.len();
        if size > max {
            return Err(too_large());
        }
        if size > FREE_BYTES && read.place.is_none() {
            let place = places.0.clone().acquire_owned().await.map_err(|_| too_slow())?;
            read.place = Some(place);
        }
        read.octets.extend_from_slice(&data);
    }
}

async fn read_in_time(request: Request, max: usize, places: &Places) -> Result<Octets, Problem> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    tokio::time::timeout(TIMEOUT, read(request.into_body(), announced, max, places)).await.map_err(|_| too_slow())?
}

/// JSON as RabbitMQ's API takes it: an object, or nothing, which is an empty one.
pub(super) fn object(octets: &[u8]) -> Result<Map<String, Value>, Problem> {
    if matches!(octets, b"" | b"null" | b"undefined") {
        return Ok(Map::new());
    }
    // serde_json stops at 128 levels.
    match serde_json::from_slice(octets) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::String(_)) => Err(Problem::bad_request(
            "invalid payload: the request body JSON-decoded to a string. Is the input doubly-JSON-encoded?",
        )),
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | Err(_) => {
            Err(Problem::bad_request("not_json"))
        }
    }
}

/// A small body that is an object of JSON.
#[derive(Clone, Debug)]
pub(super) struct Object(pub(super) Map<String, Value>);

impl FromRequest<Arc<Api>> for Object {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        let body = read_in_time(request, SMALL_MAX_BYTES.min(api.settings.max_body_bytes), &api.places).await?;
        object(&body.octets).map(Self)
    }
}

/// A few octets from somebody who has not logged in.
#[derive(Clone, Debug)]
pub(super) struct Form(pub(super) super::request::Query);

impl FromRequest<Arc<Api>> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        let body = read_in_time(request, FORM_MAX_BYTES, &api.places).await?;
        Ok(Self(super::request::Query::parse(&String::from_utf8_lossy(&body.octets))))
    }
}

/// A body of any kind, up to the limit; it holds its place until it is dropped.
#[derive(Debug)]
pub(super) struct Large {
    body: Octets,
}

impl Large {
    pub(super) fn octets(&self) -> &[u8] {
        &self.body.octets
    }
}

impl FromRequest<Arc<Api>> for Large {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        Ok(Self { body: read_in_time(request, api.settings.max_body_bytes, &api.places).await? })
    }
}

/// Looks at the members of an object, and says in RabbitMQ's words what is wrong with them.
pub(super) trait Members {
    /// Members that must be there; the first that is not is named.
    fn need<const N: usize>(&self, names: [&str; N]) -> Result<[&Value; N], Problem>;
    /// Text, if it is there.
    fn text(&self, name: &str) -> Result<Option<&str>, Problem>;
    /// Text that must be there.
    fn need_text(&self, name: &str) -> Result<&str, Problem>;
    /// `true` or `false`, as such or as text, if it is there.
    fn truth(&self, name: &str) -> Result<Option<bool>, Problem>;
    /// An object, an empty list for an empty one, or nothing.
    fn object(&self, name: &str) -> Result<Map<String, Value>, Problem>;
}

impl Members for Map<String, Value> {
    fn need<const N: usize>(&self, names: [&str; N]) -> Result<[&Value; N], Problem> {
        let missing: Vec<&str> = names.into_iter().filter(|name| !self.contains_key(*name)).collect();
        if !missing.is_empty() {
            let list: Vec<String> = missing.into_iter().map(|name| format!("{{key_missing,{name}}}")).collect();
            return Err(Problem::bad_request(format!("[{}]", list.join(","))));
        }
        Ok(names.map(|name| self.get(name).unwrap_or(&Value::Null)))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Problem::bad_request(format!("{name} must be a string, not {}", kind(other)))),
        }
    }

    fn need_text(&self, name: &str) -> Result<&str, Problem> {
        self.need([name])?;
        self.text(name)?.ok_or_else(|| Problem::bad_request(format!("{name} must be a string, not null")))
    }

    fn truth(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(on)) => Ok(Some(*on)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(other) => {
                let shown = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
                Err(Problem::bad_request(Value::from(vec!["not_boolean".to_owned(), shown])))
            }
        }
    }

    fn object(&self, name: &str) -> Result<Map<String, Value>, Problem> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(object)) => Ok(object.clone()),
            // What PHP makes of an empty table.
            Some(Value::Array(items)) if items.is_empty() => Ok(Map::new()),
            Some(other) => Err(Problem::bad_request(format!("{name} must be an object, not {}", kind(other)))),
        }
    }
}

/// A number, as such or as text.
pub(super) fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_or_nothing_is_taken() {
        assert_eq!(object(b""), Ok(Map::new()));
        assert_eq!(object(b"null"), Ok(Map::new()));
        assert!(object(br#"{"a": 1}"#).is_ok());
        for wrong in [&b"[]"[..], b"1", b"{", b"\"{}\"", b"\xff"] {
            assert!(object(wrong).is_err(), "{wrong:?}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(object(deep.as_bytes()), Err(Problem::bad_request("not_json")));
    }

    #[test]
    fn members_are_looked_at() {
        let body = json!({"a": "x", "b": 1, "t": "true", "e": [], "o": {"k": 1}, "n": null});
        let body = body.as_object().expect("an object");
        assert_eq!(body.need(["a", "c", "d"]), Err(Problem::bad_request("[{key_missing,c},{key_missing,d}]")));
        assert_eq!(body.need_text("a"), Ok("x"));
        assert!(body.text("b").is_err() && body.text("n").is_ok() && body.truth("b").is_err());
        assert_eq!(body.truth("t"), Ok(Some(true)));
        assert!(body.object("e").expect("empty").is_empty() && body.object("a").is_err());
        assert_eq!(whole(&json!("7")), Some(7));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_whatever_was_announced() {
        let places = Places::default();
        let body = || Body::from(vec![b' '; 100]);
        assert_eq!(read(body(), Some(101), 100, &places).await.err(), Some(too_large()));
        assert_eq!(read(body(), None, 99, &places).await.err(), Some(too_large()));
        assert_eq!(read(body(), None, 100, &places).await.expect("read").octets.len(), 100);
    }

    #[tokio::test]
    async fn large_bodies_have_places_of_their_own() {
        let places = Places::default();
        let large = read(Body::from(vec![b' '; FREE_BYTES + 1]), None, FREE_BYTES * 2, &places).await.expect("read");
        assert_eq!(places.0.available_permits(), LARGE_AT_ONCE - 1);
        drop(large);
        assert_eq!(places.0.available_permits(), LARGE_AT_ONCE);
    }
}
