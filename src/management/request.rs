//! What a request says besides its body: names in the path, the query, where it comes from.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::Uri;
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;

use super::problem::Problem;

/// What stands for an empty segment on the way through the router, which has no place for one.
const EMPTY_SEGMENT: &str = "%00";
/// The same when it comes out of there.
const EMPTY_NAME: &str = "\0";

/// The ends of the connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
}

/// The path as the router is to see it: without a trailing slash, and with a mark where a segment is empty.
pub(super) fn normalized(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if path == "/" {
        return None;
    }
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let segments: Vec<&str> = trimmed.split('/').skip(1).collect();
    if trimmed.len() == path.len() && !segments.iter().any(|segment| segment.is_empty()) {
        return None;
    }
    let mut fixed = String::with_capacity(path.len() + 8);
    for segment in segments {
        fixed.push('/');
        fixed.push_str(if segment.is_empty() { EMPTY_SEGMENT } else { segment });
    }
    if let Some(query) = uri.query() {
        fixed.push('?');
        fixed.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(fixed).ok()?);
    Uri::from_parts(parts).ok()
}

/// The names in a path, as many as its route has.
#[derive(Clone, Debug)]
pub(super) struct Params<const N: usize>(pub(super) [String; N]);

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for Params<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // Octets that are no UTF-8 name nothing.
        let raw = RawPathParams::from_request_parts(parts, state).await.map_err(|_| Problem::not_found())?;
        let unmarked = |(_, name): (&str, &str)| if name == EMPTY_NAME { String::new() } else { name.to_owned() };
        let names: Vec<String> = raw.iter().map(unmarked).collect();
        names.try_into().map(Self).map_err(|_| Problem::not_found())
    }
}

/// What follows the question mark.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads it; what makes no sense is left out.
    pub(super) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a name has the value `true`.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<&str>) {
        let uri: Uri = path.parse().expect("a URI");
        assert_eq!(normalized(&uri).map(|uri| uri.to_string()).as_deref(), expected, "{path}");
    }

    #[test]
    fn slashes_at_the_end_and_empty_segments_are_seen_to() {
        check("/api/overview", None);
        check("/", None);
        check("/api/nodes/", Some("/api/nodes"));
        check("/api/queues//", Some("/api/queues/%00"));
        check("/api/queues//q?columns=name", Some("/api/queues/%00/q?columns=name"));
        check("/api/queues/%2F/a%2Fb", None);
    }

    #[test]
    fn a_query_is_decoded() {
        let query = Query::parse("name=a%2Fb+c&use_regex=true&name=later&broken=%ff");
        assert_eq!((query.get("name"), query.is_true("use_regex"), query.get("none")), (Some("a/b c"), true, None));
    }
}
