//! Why a request is not done: a status with `{"error": …, "reason": …}`, in RabbitMQ's words.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use leveret_protocol::ReplyCode;
use serde_json::{Value, json};

use crate::error::AmqpError;
use crate::server::operator::OperatorError;

/// What a client without credentials is asked for.
const REALM: &str = "Basic realm=\"RabbitMQ Management\"";

/// An answer that is a refusal.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    status: StatusCode,
    error: &'static str,
    reason: Value,
    /// Boxed, since few have one.
    header: Option<Box<(header::HeaderName, HeaderValue)>>,
}

impl Problem {
    /// Any status with its words.
    pub(super) fn new(status: StatusCode, error: &'static str, reason: impl Into<Value>) -> Self {
        Self { status, error, reason: reason.into(), header: None }
    }

    /// 400: the request makes no sense, or breaks a rule.
    pub(super) fn bad_request(reason: impl Into<Value>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    /// 404: there is nothing at this path.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
    }

    /// 404: what the request needs does not exist.
    pub(super) fn missing(reason: impl Into<Value>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", reason)
    }

    /// 401: who asks may not do it.
    pub(super) fn not_authorised(reason: impl Into<Value>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_authorised", reason)
    }

    /// 401: nobody has logged in, or not with the right password.
    pub(super) fn login() -> Self {
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, "not_authorized", "Login failed");
        problem.header = Some(Box::new((header::WWW_AUTHENTICATE, HeaderValue::from_static(REALM))));
        problem
    }

    /// 429: too many wrong credentials come from there.
    pub(super) fn too_many_attempts(seconds: u64) -> Self {
        let reason = "Too many failed logins";
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", reason);
        problem.header = Some(Box::new((header::RETRY_AFTER, HeaderValue::from(seconds))));
        problem
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::NoSuchVhost(_)
            | OperatorError::NoSuchQueue { .. }
            | OperatorError::NoSuchConnection
            | OperatorError::NoSuchUser(_)
            | OperatorError::NotFound(_) => Self::not_found(),
            OperatorError::QueueInUse
            | OperatorError::QueueNotEmpty
            | OperatorError::Exists(_)
            | OperatorError::Invalid(_)
            | OperatorError::Unsupported(_) => Self::bad_request(error.to_string()),
        }
    }
}

impl From<AmqpError> for Problem {
    /// As RabbitMQ's API tells of what a channel would be closed for.
    fn from(error: AmqpError) -> Self {
        match error.code() {
            ReplyCode::NOT_FOUND => Self::missing(error.to_string()),
            // Who may not do it is not told more.
            ReplyCode::ACCESS_REFUSED | ReplyCode::NOT_ALLOWED => Self::not_authorised("Access refused."),
            _ => Self::bad_request(error.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "reason": self.reason });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.header.map(|header| *header));
        response
    }
}

#[cfg(test)]
mod tests {
    use leveret_protocol::ShortString;

    use super::*;

    #[test]
    fn errors_of_amqp_keep_their_words_unless_they_are_about_rights() {
        let name = ShortString::from_static("q");
        let missing = AmqpError::QueueNotFound { queue: name.clone(), vhost: ShortString::from_static("/") };
        assert_eq!(Problem::from(missing), Problem::missing("no queue 'q' in vhost '/'"));
        let refused = Problem::from(AmqpError::AccessRefused("write access to queue 'q' refused".to_owned()));
        assert_eq!(refused, Problem::not_authorised("Access refused."));
        assert_eq!(Problem::from(AmqpError::Inequivalent("differs".to_owned())).status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn who_has_no_credentials_is_told_how_to_send_them() {
        let response = Problem::login().into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], REALM);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    }
}
