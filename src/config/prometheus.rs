//! Where metrics are served for Prometheus, and which.

use super::HttpListener;

/// The port of the metrics.
pub const PROMETHEUS_PORT: u16 = 15692;

/// The metrics for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusConfig {
    /// Where they are served.
    pub listen: HttpListener,
    /// `/metrics` shows what `/metrics/per-object` does.
    pub per_object: bool,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self { listen: HttpListener::new(PROMETHEUS_PORT), per_object: false }
    }
}

impl PrometheusConfig {
    /// No metrics.
    pub fn off() -> Self {
        Self { listen: HttpListener::new(PROMETHEUS_PORT).on(Vec::new()), ..Self::default() }
    }

    /// On a free port of the loopback interface.
    pub fn for_tests() -> Self {
        Self { listen: HttpListener::new(PROMETHEUS_PORT).for_tests(), ..Self::default() }
    }
}
