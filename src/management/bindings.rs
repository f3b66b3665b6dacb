//! Bindings: listing, making and removing them. One is found by its `properties_key`, made of routing key and arguments.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use leveret_protocol::{FieldTable, ShortString};
use serde_json::json;

use super::body::{self, Members};
use super::caller::Caller;
use super::list::{Listing, Object, one};
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;
use crate::definitions::from_json;
use crate::server::operator::{Acting, BindingEnds, BindingInfo, BindingKey, BindingsOf};

const SORTS: [&str; 6] = ["vhost", "source", "type", "destination", "routing_key", "properties_key"];

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/bindings", get(list))
        .route("/api/bindings/{vhost}", get(list_vhost))
        .route("/api/bindings/{vhost}/e/{source}/{kind}/{destination}", get(list_between).post(bind))
        .route("/api/bindings/{vhost}/e/{source}/{kind}/{destination}/{key}", get(show).delete(unbind))
        .route("/api/exchanges/{vhost}/{exchange}/bindings/source", get(list_source))
        .route("/api/exchanges/{vhost}/{exchange}/bindings/destination", get(list_destination))
        .route("/api/queues/{vhost}/{queue}/bindings", get(list_queue))
}

/// Text as RabbitMQ writes it into a path.
fn quote_plus(text: &str) -> String {
    let safe = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'~' | b'_');
    text.bytes()
        .map(|octet| match octet {
            b' ' => "+".to_owned(),
            octet if safe(octet) => char::from(octet).to_string(),
            octet => format!("%{octet:02X}"),
        })
        .collect()
}

/// The opposite.
fn unquote_plus(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(octets).ok()
}

/// What stands for a binding's arguments.
fn hash(arguments: &Object) -> String {
    // Members are in the order of their names, so equal tables have equal texts.
    let text = serde_json::Value::Object(arguments.clone()).to_string();
    BASE64_URL_SAFE_NO_PAD.encode(crc32c::crc32c(text.as_bytes()).to_be_bytes())
}

/// What tells a binding from others between the same two ends.
fn properties_key(routing_key: &str, arguments: &Object) -> String {
    let key = quote_plus(routing_key).replace('~', "%7E");
    match (routing_key, arguments.is_empty()) {
        ("", true) => "~".to_owned(),
        (_, true) => key,
        (_, false) => format!("{key}~{}", hash(arguments)),
    }
}

fn arguments(info: &BindingInfo) -> Object {
    object(info.arguments.to_object())
}

/// A binding as RabbitMQ's API shows it.
fn binding_object(info: &BindingInfo) -> Object {
    let arguments = arguments(info);
    object(json!({
        "source": info.source_name,
        "vhost": info.vhost,
        "destination": info.destination_name,
        "destination_type": info.destination_kind,
        "routing_key": info.routing_key,
        "properties_key": properties_key(&info.routing_key, &arguments),
        "arguments": arguments,
    }))
}

fn listed(bindings: &[BindingInfo], query: &Query) -> Answer {
    Listing::whole(query, &SORTS)?.objects(bindings.iter().map(binding_object).collect())
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    let vhosts = caller.vhosts(&api);
    let all: Vec<_> = vhosts.iter().flat_map(|vhost| api.operator.bindings(vhost).unwrap_or_default()).collect();
    listed(&all, &query)
}

async fn list_vhost(State(api): State<Arc<Api>>, caller: Caller, Params([vhost]): Params<1>, query: Query) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    listed(&api.operator.bindings(&vhost)?, &query)
}

async fn list_source(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, exchange]): Params<2>,
    query: Query,
) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    let exchange = super::exchanges::name(exchange);
    listed(&api.operator.some_bindings(&vhost, BindingsOf::Source(&exchange))?, &query)
}

async fn list_destination(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, exchange]): Params<2>,
    query: Query,
) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    let exchange = super::exchanges::name(exchange);
    listed(&api.operator.some_bindings(&vhost, BindingsOf::Exchange(&exchange))?, &query)
}

async fn list_queue(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, queue]): Params<2>,
    query: Query,
) -> Answer {
    let vhost = caller.vhost(&api, vhost)?;
    listed(&api.operator.some_bindings(&vhost, BindingsOf::Queue(&queue))?, &query)
}

/// The two ends that a path names.
#[derive(Debug)]
struct Between {
    vhost: String,
    source: String,
    to_queue: bool,
    destination: String,
}

impl Between {
    fn parse(api: &Api, caller: &Caller, names: [String; 4]) -> Result<Self, Problem> {
        let [vhost, source, kind, destination] = names;
        let to_queue = match kind.as_str() {
            "q" => true,
            "e" => false,
            _ => return Err(Problem::not_found()),
        };
        let vhost = caller.vhost(api, vhost)?;
        let destination = if to_queue { destination } else { super::exchanges::name(destination) };
        Ok(Self { vhost, source: super::exchanges::name(source), to_queue, destination })
    }

    fn ends(&self) -> Result<BindingEnds, Problem> {
        let short = |name: &str| ShortString::try_from(name).map_err(|_| Problem::not_found());
        Ok(BindingEnds {
            source: short(&self.source)?,
            destination: short(&self.destination)?,
            to_queue: self.to_queue,
        })
    }

    /// The bindings that are there.
    fn bindings(&self, api: &Api) -> Result<Vec<BindingInfo>, Problem> {
        let destination = self.destination.as_str();
        let to = if self.to_queue { BindingsOf::Queue(destination) } else { BindingsOf::Exchange(destination) };
        let mut found = api.operator.some_bindings(&self.vhost, to)?;
        found.retain(|binding| binding.source_name == self.source);
        Ok(found)
    }

    /// The binding with this key.
    fn find(&self, api: &Api, key: &str) -> Result<BindingInfo, Problem> {
        let key_of = |binding: &BindingInfo| properties_key(&binding.routing_key, &arguments(binding));
        let bindings = self.bindings(api)?;
        let exact = bindings.iter().find(|binding| key_of(binding) == key);
        let wanted = normal(key);
        let found = exact.or_else(|| bindings.iter().find(|binding| normal(&key_of(binding)) == wanted));
        found.cloned().ok_or_else(Problem::not_found)
    }
}

/// A key in a form in which it can be compared: clients may have undone its quoting.
fn normal(key: &str) -> String {
    unquote_plus(key).unwrap_or_else(|| key.to_owned())
}

async fn list_between(State(api): State<Arc<Api>>, caller: Caller, Params(names): Params<4>, query: Query) -> Answer {
    let between = Between::parse(&api, &caller, names)?;
    listed(&between.bindings(&api)?, &query)
}

async fn bind(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params(names): Params<4>,
    body::Object(body): body::Object,
) -> Answer {
    let between = Between::parse(&api, &caller, names)?;
    let key = body.text("routing_key")?.unwrap_or_default().to_owned();
    let json = body.object("arguments")?;
    let arguments: FieldTable = from_json(&json).map_err(Problem::bad_request)?;
    let wrong = |_| Problem::bad_request("routing_key is longer than 255 octets");
    let routing_key = ShortString::try_from(key.as_str()).map_err(wrong)?;
    let access = caller.access(&api, &between.vhost)?;
    let acting = Acting::new(&between.vhost, access);
    api.operator.bind(&acting, &between.ends()?, BindingKey { routing_key, arguments }).await?;
    // Relative to where it was posted, as clients expect that look for the key behind the slash.
    let location = format!("{}/{}", quote_plus(&between.destination), quote_plus(&properties_key(&key, &json)));
    Ok(Reply::created_at(&location))
}

async fn show(State(api): State<Arc<Api>>, caller: Caller, Params(names): Params<5>, query: Query) -> Answer {
    let [vhost, source, kind, destination, key] = names;
    let between = Between::parse(&api, &caller, [vhost, source, kind, destination])?;
    one(&query, binding_object(&between.find(&api, &key)?))
}

async fn unbind(State(api): State<Arc<Api>>, caller: Caller, Params(names): Params<5>) -> Answer {
    let [vhost, source, kind, destination, key] = names;
    let between = Between::parse(&api, &caller, [vhost, source, kind, destination])?;
    let found = between.find(&api, &key)?;
    let routing_key = ShortString::try_from(found.routing_key).map_err(|_| Problem::not_found())?;
    let access = caller.access(&api, &between.vhost)?;
    let acting = Acting::new(&between.vhost, access);
    let key = BindingKey { routing_key, arguments: found.arguments.0 };
    api.operator.unbind(&acting, &between.ends()?, key).await?;
    Ok(Reply::done())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(routing_key: &str, arguments: serde_json::Value) -> String {
        properties_key(routing_key, &object(arguments))
    }

    #[test]
    fn keys_are_told_apart() {
        assert_eq!(key("", json!({})), "~");
        assert_eq!(key("a.b", json!({})), "a.b");
        assert_eq!(key("a b~/", json!({})), "a+b%7E%2F");
        let with_arguments = key("", json!({"x-match": "all"}));
        assert!(with_arguments.starts_with('~') && with_arguments.len() == 7, "{with_arguments}");
        assert_ne!(with_arguments, key("", json!({"x-match": "any"})));
        assert_eq!(key("k", json!({"a": 1, "b": 2})), key("k", json!({"b": 2, "a": 1})));
    }

    #[test]
    fn quoting_can_be_undone() {
        assert_eq!(unquote_plus(&quote_plus("a b~/é+")), Some("a b~/é+".to_owned()));
        assert_eq!((unquote_plus("%"), unquote_plus("%zz"), unquote_plus("%ff")), (None, None, None));
        assert_eq!(normal("a+b%7E%2F"), normal("a b~/"));
    }
}
