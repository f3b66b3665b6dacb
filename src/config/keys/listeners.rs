//! Where the broker listens, and how it takes connections in.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::key::{Counts, Given, Key, Shown};
use crate::config::{Settings, parse_listener};

/// One more address, or none at all.
fn add(addresses: &mut Vec<SocketAddr>, value: &str) -> Result<(), String> {
    if value != "none" {
        addresses.push(parse_listener(value)?);
    }
    Ok(())
}

fn only_none(given: &Given<'_>) -> Result<(), String> {
    given.one_of(&[("none", ())])
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| format!("expected an address or a network such as 10.0.0.0/8, got '{text}'"))
}

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "listeners.tcp.*",
        form: "a port (every address), an address with a port, or `none`",
        about: "where AMQP is spoken. The first one replaces the defaults, further ones add to it. Loopback by default, \
                because the password is known to everybody; a machine without IPv6 does without the second",
        counts: Counts::AtStart,
        set: |settings, given| {
            if !std::mem::replace(&mut settings.listeners_set, true) {
                settings.config.listen.clear();
                settings.config.listen_is_default = false;
            }
            add(&mut settings.config.listen, given.value)
        },
        show: |config| Shown::numbered(&config.listen),
    },
    Key {
        name: "listeners.tcp",
        form: "`none`",
        about: "AMQP is spoken only over TLS",
        counts: Counts::As("listeners.tcp.*"),
        set: |settings, given| {
            only_none(given)?;
            settings.listen_on(Vec::new());
            Ok(())
        },
        show: |_| Shown::Unset,
    },
    Key {
        name: "listeners.ssl.*",
        form: "as for `listeners.tcp.*`",
        about: "where AMQP is spoken over TLS; usually 5671. Needs `ssl_options.certfile` and `ssl_options.keyfile`",
        counts: Counts::AtStart,
        set: |settings, given| add(&mut settings.config.tls_listen, given.value),
        show: |config| Shown::numbered(&config.tls_listen),
    },
    Key {
        name: "listeners.ssl",
        form: "`none`",
        about: "AMQP is not spoken over TLS",
        counts: Counts::As("listeners.ssl.*"),
        set: |settings, given| {
            only_none(given)?;
            settings.config.tls_listen.clear();
            Ok(())
        },
        show: |_| Shown::Unset,
    },
    Key {
        name: "handshake_timeout",
        form: "milliseconds, or `infinity`",
        about: "from the accept to connection.open-ok, a PROXY header and the TLS handshake included; `infinity` is a day. \
                RabbitMQ's",
        counts: Counts::ForNew(|live, new| live.handshake_timeout = new.handshake_timeout),
        set: |settings, given| {
            const DAY_MS: u64 = 24 * 3600 * 1000;
            let millis = given.at_most()?.unwrap_or(DAY_MS).min(DAY_MS);
            settings.config.handshake_timeout = std::time::Duration::from_millis(millis);
            Ok(())
        },
        show: |config| Shown::millis(config.handshake_timeout),
    },
    Key {
        name: "ssl_handshake_timeout",
        form: "milliseconds",
        about: "for the TLS handshake alone, within `handshake_timeout`. RabbitMQ's",
        counts: Counts::ForNew(|live, new| live.tls_handshake_timeout = new.tls_handshake_timeout),
        set: |settings, given| {
            settings.config.tls_handshake_timeout = given.millis()?;
            Ok(())
        },
        show: |config| Shown::millis(config.tls_handshake_timeout),
    },
    Key {
        name: "handshake_connections_max",
        form: "a number, or `infinity`",
        about: "connections that have not logged in yet. One more than that ends the one that has waited longest, of the \
                address that has most of them: who floods the broker with silent connections loses them, and others get \
                through. Leveret's own key",
        counts: Counts::AtOnce(|live, new| live.handshake_connections_max = new.handshake_connections_max),
        set: |settings, given| {
            let max = given.at_most()?;
            if max == Some(0) {
                return Err("at least 1".to_owned());
            }
            settings.config.handshake_connections_max = max;
            Ok(())
        },
        show: |config| Shown::or(config.handshake_connections_max, "infinity"),
    },
    Key {
        name: "proxy_protocol",
        form: "`true` or `false`",
        about: "connections begin with a header of the PROXY protocol, version 1 or 2, which says where they come from",
        counts: Counts::ForNew(|live, new| live.proxy_protocol = new.proxy_protocol),
        set: |settings, given| {
            settings.config.proxy_protocol = given.truth()?;
            Ok(())
        },
        show: |config| Shown::one(config.proxy_protocol),
    },
    Key {
        name: "proxy_protocol.trusted.*",
        form: "an address or a network such as `10.0.0.0/8`",
        about: "only connections from here begin with a PROXY header; others are taken as they are, and a header of theirs \
                is refused. Without any, every connection must have one, as in RabbitMQ. Leveret's own key",
        counts: Counts::ForNew(|live, new| live.proxy_trusted.clone_from(&new.proxy_trusted)),
        set: |settings, given| {
            settings.config.proxy_trusted.push(network(given.value)?);
            Ok(())
        },
        show: |config| Shown::numbered(&config.proxy_trusted),
    },
    Key {
        name: "tcp_listen_options.backlog",
        form: "connections",
        about: "connections that the system holds ready while the broker accepts others. RabbitMQ's 128 is little when \
                all clients of a restarted broker come back",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.sockets.backlog = given.number()?;
            Ok(())
        },
        show: |config| Shown::one(config.sockets.backlog),
    },
    Key {
        name: "tcp_listen_options.nodelay",
        form: "`true` or `false`",
        about: "small packets are sent at once (TCP_NODELAY). RabbitMQ's",
        counts: socket_option(),
        set: |settings, given| {
            settings.config.sockets.nodelay = given.truth()?;
            Ok(())
        },
        show: |config| Shown::one(config.sockets.nodelay),
    },
    Key {
        name: "tcp_listen_options.keepalive",
        form: "`true` or `false`",
        about: "the system looks whether silent peers are there (SO_KEEPALIVE). RabbitMQ's; heartbeats find out sooner",
        counts: socket_option(),
        set: |settings, given| {
            settings.config.sockets.keepalive = given.truth()?;
            Ok(())
        },
        show: |config| Shown::one(config.sockets.keepalive),
    },
    Key {
        name: "tcp_listen_options.sndbuf",
        form: "octets",
        about: "the system's buffer for what is sent; without it the system decides",
        counts: socket_option(),
        set: |settings, given| buffer(settings, given, |settings| &mut settings.config.sockets.send_buffer),
        show: |config| Shown::some(config.sockets.send_buffer),
    },
    Key {
        name: "tcp_listen_options.recbuf",
        form: "octets",
        about: "the system's buffer for what is received; without it the system decides",
        counts: socket_option(),
        set: |settings, given| buffer(settings, given, |settings| &mut settings.config.sockets.receive_buffer),
        show: |config| Shown::some(config.sockets.receive_buffer),
    },
];

const fn socket_option() -> Counts {
    Counts::ForNew(|live, new| live.sockets = new.sockets)
}

fn buffer(
    settings: &mut Settings,
    given: &Given<'_>,
    field: fn(&mut Settings) -> &mut Option<u32>,
) -> Result<(), String> {
    *field(settings) = Some(given.number()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_addresses_or_ranges() {
        assert_eq!(network("10.0.0.0/8").map(|network| network.to_string()), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(network("::1").map(|network| network.to_string()), Ok("::1/128".to_owned()));
        assert!(network("somewhere").is_err() && network("10.0.0.0/40").is_err());
    }
}
