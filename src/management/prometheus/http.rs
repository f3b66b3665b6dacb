//! The pages of metrics over HTTP: no login, as in RabbitMQ; who may reach the port may read them.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::families::Wanted;
use super::text::Sink;
use super::{Page, Scrape};
use crate::server::operator::Operator;

/// What Prometheus expects of this format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Pieces that are written ahead of a slow scraper.
const PIECES_AHEAD: usize = 4;

/// All pages.
pub(in crate::management) fn router(operator: Operator) -> Router {
    Router::new()
        .route("/metrics", get(aggregated))
        .route("/metrics/per-object", get(per_object))
        .route("/metrics/detailed", get(detailed))
        .route("/metrics/memory-breakdown", get(memory))
        .route("/", get(front_page))
        .with_state(operator)
}

async fn front_page() -> Response {
    let text = "Metrics for Prometheus are under /metrics, /metrics/per-object and /metrics/detailed.\n";
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

async fn aggregated(State(operator): State<Operator>, RawQuery(query): RawQuery) -> Response {
    let page = if operator.config().prometheus.per_object { Page::PerObject } else { Page::Aggregated };
    scrape(operator, page, query).await
}

async fn per_object(State(operator): State<Operator>, RawQuery(query): RawQuery) -> Response {
    scrape(operator, Page::PerObject, query).await
}

async fn detailed(State(operator): State<Operator>, RawQuery(query): RawQuery) -> Response {
    scrape(operator, Page::Detailed, query).await
}

async fn memory(State(operator): State<Operator>, RawQuery(query): RawQuery) -> Response {
    scrape(operator, Page::Memory, query).await
}

/// Hands text to a response.
struct Pieces(mpsc::Sender<Result<Bytes, std::convert::Infallible>>);

impl Sink for Pieces {
    fn take(&mut self, text: String) -> bool {
        self.0.blocking_send(Ok(Bytes::from(text))).is_ok()
    }
}

async fn scrape(operator: Operator, page: Page, query: Option<String>) -> Response {
    let query = query.unwrap_or_default();
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let wanted = match Wanted::parse(pairs.iter().map(|(key, value)| (&**key, &**value))) {
        Ok(wanted) => wanted,
        Err(cause) => return (StatusCode::BAD_REQUEST, format!("{cause}\n")).into_response(),
    };
    let scrape = Scrape::gather(operator, page, wanted).await;
    let (pieces, taken) = mpsc::channel(PIECES_AHEAD);
    // A scraper that takes its time holds a thread for waiting, not one that serves others.
    tokio::task::spawn_blocking(move || scrape.write(&mut Pieces(pieces)));
    let body = Body::from_stream(ReceiverStream::new(taken));
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response()
}
