//! The metrics for Prometheus.

use std::net::SocketAddr;

use crate::config::key::{Counts, Key, Shown};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "prometheus.tcp.port",
        form: "a port, or `none`",
        about: "where metrics are served for Prometheus; RabbitMQ's. `none`: no metrics without TLS. Of the default addresses \
                one that another broker has is done without",
        counts: Counts::AtStart,
        set: |settings, given| {
            let prometheus = &mut settings.config.prometheus;
            if given.value == "none" {
                (prometheus.listen, prometheus.listen_is_default) = (Vec::new(), false);
            } else {
                prometheus.set_port(given.number()?);
            }
            Ok(())
        },
        show: |config| Shown::or(config.prometheus.listen.first().map(SocketAddr::port), "none"),
    },
    Key {
        name: "prometheus.tcp.ip",
        form: "an address",
        about: "the address. Without one it is the loopback addresses, or every address if a port is named",
        counts: Counts::AtStart,
        set: |settings, given| {
            let address = given.value.parse().map_err(|_| format!("no address: '{}'", given.value))?;
            settings.config.prometheus.set_address(address);
            Ok(())
        },
        show: |config| Shown::or(config.prometheus.listen.first().map(SocketAddr::ip), "none"),
    },
    Key {
        name: "prometheus.return_per_object_metrics",
        form: "`true` or `false`",
        about: "`/metrics` shows what `/metrics/per-object` does. RabbitMQ's",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.prometheus.per_object = given.truth()?;
            Ok(())
        },
        show: |config| Shown::one(config.prometheus.per_object),
    },
];
