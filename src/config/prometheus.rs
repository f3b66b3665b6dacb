//! Where metrics are served for Prometheus.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of the metrics.
pub const PROMETHEUS_PORT: u16 = 15692;

/// The metrics for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusConfig {
    /// Addresses to listen on; none for no metrics; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The addresses are the default ones: one that cannot be had is done without.
    pub listen_is_default: bool,
    /// `/metrics` shows what `/metrics/per-object` does.
    pub per_object: bool,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self {
            listen: vec![
                SocketAddr::from((Ipv4Addr::LOCALHOST, PROMETHEUS_PORT)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, PROMETHEUS_PORT)),
            ],
            listen_is_default: true,
            per_object: false,
        }
    }
}

impl PrometheusConfig {
    /// No metrics.
    pub fn off() -> Self {
        Self { listen: Vec::new(), listen_is_default: false, ..Self::default() }
    }

    /// On a free port of the loopback interface.
    pub fn for_tests() -> Self {
        Self { listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], listen_is_default: false, ..Self::default() }
    }

    /// Listens on this port, on every address unless one was named.
    pub(super) fn set_port(&mut self, port: u16) {
        if std::mem::replace(&mut self.listen_is_default, false) {
            self.listen = vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))];
        }
        for address in &mut self.listen {
            address.set_port(port);
        }
    }

    /// Listens on this address, on the default port unless one was named.
    pub(super) fn set_address(&mut self, address: IpAddr) {
        let port = self.listen.first().map_or(PROMETHEUS_PORT, SocketAddr::port);
        self.listen_is_default = false;
        self.listen = vec![SocketAddr::new(address, port)];
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;

    #[test]
    fn port_and_address_may_come_in_any_order_or_not_at_all() {
        let listening = |text: &str| {
            let mut settings = Settings::default();
            settings.apply_text(text).expect("valid");
            settings.config.prometheus.listen.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(listening(""), ["127.0.0.1:15692", "[::1]:15692"]);
        assert_eq!(listening("prometheus.tcp.port = 80"), ["[::]:80"]);
        assert_eq!(listening("prometheus.tcp.ip = 192.0.2.1\nprometheus.tcp.port = 80"), ["192.0.2.1:80"]);
        assert_eq!(listening("prometheus.tcp.port = none"), [""; 0]);
    }
}
