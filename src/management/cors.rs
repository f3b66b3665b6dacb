//! Which web pages of other origins may use the API: none, unless the configuration names them.

use axum::http::{HeaderMap, HeaderValue, Method, header};

/// The origins that `management.cors.allow_origins` names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cors {
    origins: Vec<String>,
    max_age_seconds: u64,
}

impl Cors {
    pub(super) fn new(origins: Vec<String>, max_age_seconds: u64) -> Self {
        Self { origins, max_age_seconds }
    }

    /// Tells the browser what a page of the request's origin may do.
    pub(super) fn answer(
        &self,
        method: &Method,
        request: &HeaderMap,
        allowed: Option<&HeaderValue>,
        response: &mut HeaderMap,
    ) {
        response.insert(header::VARY, HeaderValue::from_static("origin"));
        let Some(origin) = request.get(header::ORIGIN) else { return };
        let listed = |name: &str| self.origins.iter().any(|known| known == name);
        match origin.to_str() {
            Ok("null" | "*") | Err(_) => return,
            Ok(text) if listed(text) => {
                response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
            Ok(_) if listed("*") => {
                response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Ok(_) => return,
        }
        if method != Method::OPTIONS {
            return;
        }
        response.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age_seconds));
        if let Some(allowed) = allowed {
            response.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allowed.clone());
        }
        if let Some(wanted) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            response.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(origins: &[&str], origin: &'static str) -> HeaderMap {
        let cors = Cors::new(origins.iter().map(|&origin| origin.to_owned()).collect(), 1800);
        let request = [(header::ORIGIN, HeaderValue::from_static(origin))].into_iter().collect();
        let mut response = HeaderMap::new();
        cors.answer(&Method::OPTIONS, &request, Some(&HeaderValue::from_static("GET")), &mut response);
        response
    }

    #[test]
    fn only_named_origins_are_allowed() {
        let allowed =
            |origins: &[&str], origin| answer(origins, origin).get(header::ACCESS_CONTROL_ALLOW_ORIGIN).cloned();
        assert_eq!(allowed(&[], "http://a"), None);
        assert_eq!(allowed(&["http://a"], "http://b"), None);
        assert_eq!(allowed(&["http://a"], "http://a"), Some(HeaderValue::from_static("http://a")));
        assert_eq!(allowed(&["*"], "http://b"), Some(HeaderValue::from_static("*")));
        assert_eq!(allowed(&["null", "*"], "null"), None);
        assert_eq!(answer(&["*"], "http://b")[header::ACCESS_CONTROL_ALLOW_METHODS], "GET");
    }
}
