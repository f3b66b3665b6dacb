//! What the node is, what it keeps and where.

use std::path::PathBuf;

use crate::config::key::{Counts, Key, Shown};
use crate::config::{Config, ControlSocket, DataDir};

fn socket(config: &Config) -> Shown {
    let path = match &config.control_socket {
        ControlSocket::Off => None,
        ControlSocket::Default | ControlSocket::Path(_) | ControlSocket::IfFree(_) => {
            crate::control::socket_path(config).map(|path| path.display().to_string())
        }
    };
    Shown::or(path, "none")
}

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "data_dir",
        form: "a directory",
        about: "as the flag `--data-dir`. Leveret's own key",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.data_dir = DataDir::Path(PathBuf::from(given.value));
            Ok(())
        },
        show: |config| match &config.data_dir {
            DataDir::Ephemeral => Shown::one("none (in memory)"),
            DataDir::Path(path) => Shown::one(path.display()),
        },
    },
    Key {
        name: "control.socket",
        form: "a path, or `none`",
        about: "the Unix socket for `leveret ctl`, mode 0600; `none` for no such socket. Without a data directory it is in the \
                user's runtime directory. Leveret's own key",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.control_socket = match given.value {
                "none" => ControlSocket::Off,
                path => ControlSocket::Path(PathBuf::from(path)),
            };
            Ok(())
        },
        show: socket,
    },
    Key {
        name: "load_definitions",
        form: "a file, or a directory of files",
        about: "definitions as JSON, taken in before the broker listens ([operating.md](operating.md)). A new broker with \
                definitions has no default user and vhost: they say who there is",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.load_definitions = Some(PathBuf::from(given.value));
            Ok(())
        },
        show: |config| Shown::some(config.load_definitions.as_ref().map(|path| path.display())),
    },
    Key {
        name: "management.load_definitions",
        form: "as for `load_definitions`",
        about: "another name of `load_definitions`",
        counts: Counts::As("load_definitions"),
        set: |settings, given| settings.assign("load_definitions", given),
        show: |_| Shown::Unset,
    },
    Key {
        name: "definitions.local.path",
        form: "as for `load_definitions`",
        about: "another name of `load_definitions`",
        counts: Counts::As("load_definitions"),
        set: |settings, given| settings.assign("load_definitions", given),
        show: |_| Shown::Unset,
    },
    Key {
        name: "definitions.import_backend",
        form: "`local_filesystem`",
        about: "where definitions come from; nothing else is known",
        counts: Counts::AtStart,
        set: |_, given| given.one_of(&[("local_filesystem", ()), ("rabbit_definitions_import_local_filesystem", ())]),
        show: |_| Shown::Unset,
    },
    Key {
        name: "definitions.skip_if_unchanged",
        form: "`true` or `false`",
        about: "accepted; taking in what is there already changes nothing",
        counts: Counts::AtStart,
        set: |_, given| given.truth().map(|_| ()),
        show: |_| Shown::Unset,
    },
    Key {
        name: "cluster_name",
        form: "text",
        about: "the name that the server properties have",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.identity.cluster_name = given.text();
            Ok(())
        },
        show: |config| Shown::one(&config.identity.cluster_name),
    },
    Key {
        name: "product.name",
        form: "text",
        about: "the product that the server properties have. Clients switch features on by it",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.identity.product = given.text();
            Ok(())
        },
        show: |config| Shown::one(&config.identity.product),
    },
    Key {
        name: "product.version",
        form: "text",
        about: "the version that the server properties have: that of the RabbitMQ whose behaviour is followed. Clients switch \
                features on by it",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.identity.version = given.text();
            Ok(())
        },
        show: |config| Shown::one(&config.identity.version),
    },
];
