//! The management HTTP API.

use super::http_listener;
use crate::config::key::{Counts, Key, Shown};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "management.tcp.port",
        form: "a port, or `none`",
        about: "the port of the management HTTP API; RabbitMQ's. `none`: no API without TLS. Of the default addresses one \
                that another broker has is done without",
        counts: Counts::AtStart,
        set: |settings, given| http_listener::set_port(&mut settings.config.management.listen, given),
        show: |config| http_listener::port(&config.management.listen),
    },
    Key {
        name: "management.tcp.ip",
        form: "an address",
        about: "its address. Without one it is the loopback addresses, or every address if a port is named",
        counts: Counts::AtStart,
        set: |settings, given| http_listener::set_address(&mut settings.config.management.listen, given),
        show: |config| http_listener::address(&config.management.listen),
    },
    Key {
        name: "management.listener.port",
        form: "a port, or `none`",
        about: "another name of `management.tcp.port`",
        counts: Counts::As("management.tcp.port"),
        set: |settings, given| settings.assign("management.tcp.port", given),
        show: |_| Shown::Unset,
    },
    Key {
        name: "management.listener.ip",
        form: "an address",
        about: "another name of `management.tcp.ip`",
        counts: Counts::As("management.tcp.ip"),
        set: |settings, given| settings.assign("management.tcp.ip", given),
        show: |_| Shown::Unset,
    },
    Key {
        name: "management.listener.ssl",
        form: "`true` or `false`",
        about: "`true`: that listener speaks TLS. `management.listener.ssl_opts` is another name of `management.ssl`",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.management_is_tls = given.truth()?;
            Ok(())
        },
        show: |_| Shown::Unset,
    },
    Key {
        name: "management.cors.allow_origins.*",
        form: "an origin, or `*`",
        about: "origins whose web pages may use the API; `*` for all",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.management.cors_allow_origins.push(given.text());
            Ok(())
        },
        show: |config| Shown::numbered(&config.management.cors_allow_origins),
    },
    Key {
        name: "management.cors.allow_origins",
        form: "`none`",
        about: "no other web page may use the API",
        counts: Counts::As("management.cors.allow_origins.*"),
        set: |settings, given| {
            given.one_of(&[("none", ())])?;
            settings.config.management.cors_allow_origins.clear();
            Ok(())
        },
        show: |_| Shown::Unset,
    },
    Key {
        name: "management.cors.max_age",
        form: "seconds",
        about: "for how long a browser may remember that. RabbitMQ's",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.management.cors_max_age_seconds = given.number()?;
            Ok(())
        },
        show: |config| Shown::one(config.management.cors_max_age_seconds),
    },
    Key {
        name: "management.http.max_body_size",
        form: "octets",
        about: "body of a request at most. RabbitMQ's",
        counts: Counts::AtStart,
        set: |settings, given| {
            let octets = usize::try_from(given.octets()?).map_err(|_| "too many octets".to_owned())?;
            settings.config.management.max_body_bytes = octets;
            Ok(())
        },
        show: |config| Shown::one(config.management.max_body_bytes),
    },
];
