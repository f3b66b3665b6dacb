//! Where the management HTTP API listens, and what it allows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of the management HTTP API.
pub const MANAGEMENT_PORT: u16 = 15672;

/// The management HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagementConfig {
    /// Addresses to listen on; none for no API; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The addresses are the default ones: one that cannot be had is done without.
    pub listen_is_default: bool,
    /// Origins whose web pages may use it; `*` for all.
    pub cors_allow_origins: Vec<String>,
    /// For how many seconds a browser may remember that.
    pub cors_max_age_seconds: u64,
    /// Octets of a request's body at most, as RabbitMQ's.
    pub max_body_bytes: usize,
}

impl Default for ManagementConfig {
    fn default() -> Self {
        Self {
            listen: vec![
                SocketAddr::from((Ipv4Addr::LOCALHOST, MANAGEMENT_PORT)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, MANAGEMENT_PORT)),
            ],
            listen_is_default: true,
            cors_allow_origins: Vec::new(),
            cors_max_age_seconds: 1800,
            max_body_bytes: 20_000_000,
        }
    }
}

impl ManagementConfig {
    /// No API.
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
        let port = self.listen.first().map_or(MANAGEMENT_PORT, SocketAddr::port);
        self.listen_is_default = false;
        self.listen = vec![SocketAddr::new(address, port)];
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;

    fn listening(text: &str) -> Vec<String> {
        let mut settings = Settings::default();
        settings.apply_text(text).expect("valid");
        settings.config.management.listen.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn port_and_address_may_come_in_any_order() {
        assert_eq!(listening(""), ["127.0.0.1:15672", "[::1]:15672"]);
        assert_eq!(listening("management.tcp.port = 80"), ["[::]:80"]);
        assert_eq!(listening("management.tcp.ip = 192.0.2.1"), ["192.0.2.1:15672"]);
        assert_eq!(listening("management.tcp.port = 80\nmanagement.tcp.ip = 192.0.2.1"), ["192.0.2.1:80"]);
        assert_eq!(listening("management.tcp.ip = 192.0.2.1\nmanagement.tcp.port = 80"), ["192.0.2.1:80"]);
        assert_eq!(listening("management.tcp.port = none"), [""; 0]);
    }

    #[test]
    fn origins_add_up() {
        let mut settings = Settings::default();
        let text = "management.cors.allow_origins.1 = https://a\nmanagement.cors.allow_origins.2 = https://b";
        settings.apply_text(text).expect("valid");
        assert_eq!(settings.config.management.cors_allow_origins, ["https://a", "https://b"]);
    }
}
