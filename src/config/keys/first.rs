//! What a broker starts with that has no data yet.

use crate::config::key::{Counts, Key, Shown};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "default_user",
        form: "text",
        about: "the administrator that a new broker starts with; RabbitMQ's name for it, which clients use unasked. A broker \
                that has users or vhosts already keeps those",
        counts: Counts::WhenNew,
        set: |settings, given| {
            settings.config.default_user = given.text();
            Ok(())
        },
        show: |config| Shown::one(&config.default_user),
    },
    Key {
        name: "default_pass",
        form: "text",
        about: "its password; `guest` unless it is set",
        counts: Counts::WhenNew,
        set: |settings, given| {
            settings.config.default_pass = given.text();
            Ok(())
        },
        show: |_| Shown::Secret,
    },
    Key {
        name: "default_user_tags.*",
        form: "`true` or `false`",
        about: "`true`: the default user has this tag",
        counts: Counts::WhenNew,
        set: |settings, given| {
            let tags = &mut settings.config.default_user_tags;
            tags.retain(|known| known != given.word);
            if given.truth()? {
                tags.push(given.word.to_owned());
            }
            Ok(())
        },
        show: |config| Shown::names(&config.default_user_tags),
    },
    Key {
        name: "default_permissions.configure",
        form: "a pattern",
        about: "what the default user may configure in the default vhost",
        counts: Counts::WhenNew,
        set: |settings, given| {
            settings.config.default_permissions[0] = given.text();
            Ok(())
        },
        show: |config| Shown::one(&config.default_permissions[0]),
    },
    Key {
        name: "default_permissions.write",
        form: "a pattern",
        about: "where it may write",
        counts: Counts::WhenNew,
        set: |settings, given| {
            settings.config.default_permissions[1] = given.text();
            Ok(())
        },
        show: |config| Shown::one(&config.default_permissions[1]),
    },
    Key {
        name: "default_permissions.read",
        form: "a pattern",
        about: "where it may read",
        counts: Counts::WhenNew,
        set: |settings, given| {
            settings.config.default_permissions[2] = given.text();
            Ok(())
        },
        show: |config| Shown::one(&config.default_permissions[2]),
    },
    Key {
        name: "default_vhost",
        form: "text",
        about: "the vhost that a new broker starts with; RabbitMQ's",
        counts: Counts::WhenNew,
        set: |settings, given| {
            settings.config.default_vhost = given.name()?;
            Ok(())
        },
        show: |config| Shown::one(&config.default_vhost),
    },
];
