//! Definitions out and in: everything, or what one vhost has.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::routing::get;
use serde_json::{Map, Value, json};
use tracing::warn;

use super::body::Large;
use super::caller::Caller;
use super::overview::object;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;
use crate::definitions::Definitions;

/// What of definitions belongs to a vhost.
const OF_VHOST: [&str; 5] = ["bindings", "exchanges", "parameters", "policies", "queues"];
/// Octets of the other parts of an upload.
const PART_MAX_BYTES: usize = 4096;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/definitions", get(export).post(import))
        .route("/api/all-configuration", get(export).post(import))
        .route("/api/definitions/{vhost}", get(export_vhost).post(import_vhost))
}

/// The definitions as JSON; a browser may be told to save them under a name.
fn exported(query: &Query, definitions: &Value) -> Answer {
    let mut reply = Reply::json(definitions)?;
    let plain = |name: &&str| {
        let harmless = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
        !name.is_empty() && name.bytes().all(harmless)
    };
    if let Some(name) = query.get("download").filter(plain)
        && let Ok(value) = HeaderValue::from_str(&format!("attachment; filename={name}"))
    {
        reply.header(header::CONTENT_DISPOSITION, value);
    }
    Ok(reply)
}

async fn export(State(api): State<Arc<Api>>, caller: Caller, query: Query) -> Answer {
    caller.admin()?;
    let mut all = json!(api.operator.export());
    let cluster = api.operator.cluster_name();
    all["rabbitmq_definition_format"] = "cluster".into();
    all["explanation"] = format!("Definitions of cluster '{cluster}'").into();
    all["original_cluster_name"] = cluster.into();
    exported(&query, &all)
}

async fn export_vhost(State(api): State<Arc<Api>>, caller: Caller, Params([vhost]): Params<1>, query: Query) -> Answer {
    caller.admin()?;
    let vhost = caller.vhost(&api, vhost)?;
    let record = api.operator.check_vhost(&vhost)?;
    let mut all = object(json!(api.operator.export()));
    let mut own = Map::new();
    for name in ["rabbit_version", "rabbitmq_version", "product_name", "product_version"] {
        own.extend(all.remove(name).map(|value| (name.to_owned(), value)));
    }
    for name in OF_VHOST {
        let items = all.remove(name).and_then(|items| if let Value::Array(items) = items { Some(items) } else { None });
        let of_vhost = items.unwrap_or_default().into_iter().filter_map(|mut item| {
            let scoped = item.as_object_mut()?.remove("vhost")?;
            (scoped.as_str() == Some(vhost.as_str())).then_some(item)
        });
        own.insert(name.to_owned(), of_vhost.collect());
    }
    own.extend(object(json!({
        "rabbitmq_definition_format": "single_virtual_host",
        "original_vhost_name": vhost,
        "explanation": format!("Definitions of virtual host '{vhost}'"),
        "metadata": {"description": record.description, "tags": record.tags,
            "default_queue_type": record.default_queue_type},
        "description": record.description,
        "default_queue_type": record.default_queue_type,
        "limits": record.limits,
    })));
    exported(&query, &own.into())
}

/// What an upload consists of.
#[derive(Debug)]
struct Upload {
    body: Large,
    /// The part of a form that is the file, if it came as a form.
    part: Option<Vec<u8>>,
    redirect: Option<String>,
}

impl Upload {
    fn octets(&self) -> &[u8] {
        self.part.as_deref().unwrap_or(self.body.octets())
    }
}

impl FromRequest<Arc<Api>> for Upload {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).cloned();
        let body = Large::from_request(request, api).await?;
        let is_form = kind
            .as_ref()
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data"));
        let mut upload = Self { body, part: None, redirect: None };
        if is_form {
            upload.read_form(kind).await?;
        }
        Ok(upload)
    }
}

impl Upload {
    /// Finds the file in a form; the whole form is in memory already.
    async fn read_form(&mut self, kind: Option<HeaderValue>) -> Result<(), Problem> {
        let broken = |_| Problem::bad_request("the form cannot be read");
        let mut request = Request::new(axum::body::Body::from(self.body.octets().to_vec()));
        request.headers_mut().extend(kind.map(|kind| (header::CONTENT_TYPE, kind)));
        let mut form = Multipart::from_request(request, &()).await.map_err(|_| Problem::bad_request("no form"))?;
        while let Some(field) = form.next_field().await.map_err(broken)? {
            let name = field.name().unwrap_or_default().to_owned();
            let octets = field.bytes().await.map_err(broken)?;
            match name.as_str() {
                "file" => self.part = Some(octets.to_vec()),
                "redirect" if octets.len() <= PART_MAX_BYTES => {
                    self.redirect = String::from_utf8(octets.to_vec()).ok();
                }
                _ => {}
            }
        }
        if self.part.is_none() { Err(Problem::bad_request("the form has no file")) } else { Ok(()) }
    }
}

async fn taken(api: &Api, upload: &Upload, octets: &[u8], vhost: &str) -> Answer {
    let definitions = Definitions::parse(octets).map_err(|cause| {
        warn!(%cause, "definitions over HTTP cannot be read");
        Problem::bad_request(format!("failed_to_parse_json: {cause}"))
    })?;
    let imported = api.operator.import(definitions, vhost).await?;
    for kept in &imported.kept {
        warn!("left as it is, although the definitions differ: {kept}");
    }
    let Some(redirect) = &upload.redirect else { return Ok(Reply::done()) };
    let mut reply = Reply::done().with_status(StatusCode::SEE_OTHER);
    if let Ok(place) = HeaderValue::from_str(redirect) {
        reply.header(HeaderName::from_static("location"), place);
    }
    Ok(reply)
}

/// Definitions without a byte order mark; nothing stands for none.
fn text(octets: &[u8]) -> &[u8] {
    match octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets) {
        b"" => b"{}",
        text => text,
    }
}

async fn import(State(api): State<Arc<Api>>, caller: Caller, upload: Upload) -> Answer {
    caller.admin()?;
    taken(&api, &upload, text(upload.octets()), "/").await
}

async fn import_vhost(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost]): Params<1>,
    upload: Upload,
) -> Answer {
    caller.admin()?;
    let vhost = caller.vhost(&api, vhost)?;
    let all: Map<String, Value> = serde_json::from_slice(text(upload.octets()))
        .map_err(|cause| Problem::bad_request(format!("failed_to_parse_json: {cause}")))?;
    let scoped = Value::Object(scoped(all)).to_string();
    taken(&api, &upload, scoped.as_bytes(), &vhost).await
}

/// Only what belongs to a vhost, and of no vhost yet.
fn scoped(mut all: Map<String, Value>) -> Map<String, Value> {
    all.retain(|name, _| OF_VHOST.contains(&name.as_str()));
    for items in all.values_mut().filter_map(Value::as_array_mut) {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.remove("vhost");
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_for_a_vhost_are_freed_of_theirs() {
        let all = object(json!({"users": [{"name": "u"}], "queues": [{"name": "q", "vhost": "elsewhere"}]}));
        assert_eq!(Value::Object(scoped(all)), json!({"queues": [{"name": "q"}]}));
    }

    #[test]
    fn a_mark_of_byte_order_is_no_text() {
        assert_eq!((text(b"\xef\xbb\xbf{}"), text(b""), text(b"[]")), (&b"{}"[..], &b"{}"[..], &b"[]"[..]));
    }
}
