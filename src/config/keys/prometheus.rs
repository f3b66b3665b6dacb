//! The metrics for Prometheus.

use super::http_listener;
use crate::config::key::{Counts, Key, Shown};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "prometheus.tcp.port",
        form: "a port, or `none`",
        about: "where metrics are served for Prometheus; RabbitMQ's. `none`: no metrics without TLS. Of the default addresses \
                one that another broker has is done without",
        counts: Counts::AtStart,
        set: |settings, given| http_listener::set_port(&mut settings.config.prometheus.listen, given),
        show: |config| http_listener::port(&config.prometheus.listen),
    },
    Key {
        name: "prometheus.tcp.ip",
        form: "an address",
        about: "the address. Without one it is the loopback addresses, or every address if a port is named",
        counts: Counts::AtStart,
        set: |settings, given| http_listener::set_address(&mut settings.config.prometheus.listen, given),
        show: |config| http_listener::address(&config.prometheus.listen),
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
