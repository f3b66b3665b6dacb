//! Where something is served over HTTP without TLS: the management API, and the metrics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Addresses to listen on. Port and address are set apart and in any order, as RabbitMQ's keys do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpListener {
    /// The addresses; none for no listener; port 0 takes a free one.
    pub addresses: Vec<SocketAddr>,
    /// The addresses are the default ones: one that cannot be had is done without.
    pub is_default: bool,
    /// The port unless one is named.
    default_port: u16,
}

impl HttpListener {
    /// On the loopback addresses.
    pub fn new(default_port: u16) -> Self {
        let addresses = vec![
            SocketAddr::from((Ipv4Addr::LOCALHOST, default_port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, default_port)),
        ];
        Self { addresses, is_default: true, default_port }
    }

    /// Listens on these addresses and no others.
    pub fn listen_on(&mut self, addresses: Vec<SocketAddr>) {
        (self.addresses, self.is_default) = (addresses, false);
    }

    /// The same listener, on these addresses.
    pub(super) fn on(mut self, addresses: Vec<SocketAddr>) -> Self {
        self.listen_on(addresses);
        self
    }

    /// The same listener, on a free port of the loopback interface.
    pub(super) fn for_tests(self) -> Self {
        self.on(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])
    }

    /// Listens on this port, on every address unless one was named.
    pub(super) fn set_port(&mut self, port: u16) {
        if self.is_default {
            self.listen_on(vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))]);
        }
        for address in &mut self.addresses {
            address.set_port(port);
        }
    }

    /// Listens on this address, on the default port unless one was named.
    pub(super) fn set_address(&mut self, address: IpAddr) {
        let port = self.addresses.first().map_or(self.default_port, SocketAddr::port);
        self.listen_on(vec![SocketAddr::new(address, port)]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;

    fn listening(text: &str) -> [Vec<String>; 2] {
        let mut settings = Settings::default();
        settings.apply_text(text).expect("valid");
        let config = settings.config;
        [config.management.listen, config.prometheus.listen]
            .map(|listen| listen.addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn port_and_address_may_come_in_any_order_or_not_at_all() {
        assert_eq!(listening(""), [["127.0.0.1:15672", "[::1]:15672"], ["127.0.0.1:15692", "[::1]:15692"]]);
        for (name, which) in [("management", 0), ("prometheus", 1)] {
            let listening = |text: &str| listening(&text.replace('@', name))[which].clone();
            assert_eq!(listening("@.tcp.port = 80"), ["[::]:80"]);
            assert_eq!(listening("@.tcp.port = 80\n@.tcp.ip = 192.0.2.1"), ["192.0.2.1:80"]);
            assert_eq!(listening("@.tcp.ip = 192.0.2.1\n@.tcp.port = 80"), ["192.0.2.1:80"]);
            assert_eq!(listening("@.tcp.port = none"), [""; 0]);
        }
        assert_eq!(listening("management.tcp.ip = 192.0.2.1")[0], ["192.0.2.1:15672"]);
        assert_eq!(listening("prometheus.tcp.ip = 192.0.2.1")[1], ["192.0.2.1:15692"]);
    }
}
