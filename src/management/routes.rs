//! Which handler a request is for, and what every answer has in common.
//!
//! A theme's file offers `routes()`, a [`Router`] that is merged here. Methods that a path does not have are refused by
//! the router (405 with `Allow`), before anybody has to log in.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower::ServiceExt;

use super::attempts::Attempts;
use super::body::Places;
use super::cors::Cors;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Ends, normalized};
use crate::config::ManagementConfig;
use crate::server::operator::Operator;

/// What handlers share.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) operator: Operator,
    pub(super) settings: ManagementConfig,
    pub(super) attempts: Attempts,
    pub(super) places: Places,
}

/// Every route of the API.
pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .merge(super::overview::routes())
        .merge(super::node::routes())
        .merge(super::health::routes())
        .merge(super::queues::routes())
        .merge(super::contents::routes())
        .merge(super::messages::routes())
        .merge(super::consumers::routes())
        .merge(super::exchanges::routes())
        .merge(super::bindings::routes())
        .merge(super::connections::routes())
        .merge(super::channels::routes())
        .merge(super::vhosts::routes())
        .merge(super::users::routes())
        .merge(super::permissions::routes())
        .merge(super::policies::routes())
        .merge(super::parameters::routes())
        .merge(super::limits::routes())
        .merge(super::definitions::routes())
        .merge(super::deprecated::routes())
        .merge(super::stand_ins::routes())
        .route("/", get(front_page))
        .route("/api", get(front_page))
}

/// The API, ready to answer.
#[derive(Clone, Debug)]
pub(super) struct Service {
    router: Router,
    cors: Cors,
}

impl Service {
    pub(super) fn new(operator: Operator) -> Self {
        let settings = operator.config().management.clone();
        let cors = Cors::new(settings.cors_allow_origins.clone(), settings.cors_max_age_seconds);
        let api = Api { operator, settings, attempts: Attempts::default(), places: Places::default() };
        let nothing_here = || async { Problem::not_found() };
        Self { router: router().fallback(nothing_here).with_state(Arc::new(api)), cors }
    }

    /// The pages of metrics.
    pub(super) fn metrics(operator: Operator) -> Self {
        let nothing_here = || async { Problem::not_found() };
        Self { router: super::prometheus::router(operator).fallback(nothing_here), cors: Cors::new(Vec::new(), 0) }
    }

    /// Answers a request.
    pub(super) async fn answer(self, mut request: Request<Body>, ends: Ends) -> Response {
        let (method, headers) = (request.method().clone(), request.headers().clone());
        request.extensions_mut().insert(ends);
        if let Some(uri) = normalized(request.uri()) {
            *request.uri_mut() = uri;
        }
        let mut response = match self.router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let allowed = if response.status() == StatusCode::METHOD_NOT_ALLOWED { allowed(&response) } else { None };
        if let Some(allowed) = &allowed {
            response = if method == Method::OPTIONS {
                StatusCode::OK.into_response()
            } else {
                StatusCode::METHOD_NOT_ALLOWED.into_response()
            };
            response.headers_mut().insert(header::ALLOW, allowed.clone());
        }
        self.cors.answer(&method, &headers, allowed.as_ref(), response.headers_mut());
        response
    }
}

/// The methods of a path in RabbitMQ's order, with OPTIONS, which every path has.
fn allowed(response: &Response) -> Option<HeaderValue> {
    let known = response.headers().get(header::ALLOW)?.to_str().ok()?;
    let known: Vec<&str> = known.split(',').map(str::trim).collect();
    let order = ["HEAD", "GET", "POST", "PUT", "DELETE", "OPTIONS"];
    let listed = order.into_iter().filter(|method| *method == "OPTIONS" || known.contains(method));
    HeaderValue::from_str(&listed.collect::<Vec<_>>().join(", ")).ok()
}

/// What people see who look with a browser.
async fn front_page() -> Answer {
    let text = "Leveret: the management HTTP API is under /api, as RabbitMQ's. There is no web page.\n";
    Ok(Reply::text(text.to_owned(), "text/plain; charset=utf-8"))
}
