//! What a request that was done is answered with.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::problem::Problem;

/// A reply, or why there is none.
pub(super) type Answer = Result<Reply, Problem>;

/// An answer that is not a refusal.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    body: Vec<u8>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    fn empty(status: StatusCode) -> Self {
        Self { status, body: Vec::new(), headers: Vec::new() }
    }

    /// 200 with a value.
    pub(super) fn json(value: &impl Serialize) -> Answer {
        let body = serde_json::to_vec(value).map_err(|cause| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", cause.to_string())
        })?;
        Ok(Self::json_octets(body))
    }

    /// 200 with JSON that was written already.
    pub(super) fn json_octets(body: Vec<u8>) -> Self {
        let mut reply = Self { status: StatusCode::OK, body, headers: Vec::new() };
        reply.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        reply.header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        reply
    }

    /// 200 with plain text.
    pub(super) fn text(text: String, kind: &'static str) -> Self {
        let mut reply = Self { status: StatusCode::OK, body: text.into_bytes(), headers: Vec::new() };
        reply.header(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        reply
    }

    /// 201: it is new.
    pub(super) fn created() -> Self {
        Self::empty(StatusCode::CREATED)
    }

    /// 201, and where it is now.
    pub(super) fn created_at(location: &str) -> Self {
        let mut reply = Self::created();
        // What cannot be a header is no place either.
        if let Ok(location) = HeaderValue::from_str(location) {
            reply.header(header::LOCATION, location);
        }
        reply
    }

    /// 204: it is done, and there is nothing to say.
    pub(super) fn done() -> Self {
        Self::empty(StatusCode::NO_CONTENT)
    }

    /// 201 for what is new, 204 for what was there.
    pub(super) fn put(existed: bool) -> Self {
        if existed { Self::done() } else { Self::created() }
    }

    /// The same with another status.
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds a header.
    pub(super) fn header(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.push((name, value));
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        headers.extend(self.headers.into_iter().map(|(name, value)| (Some(name), value)));
        response
    }
}
