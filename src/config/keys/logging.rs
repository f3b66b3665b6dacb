//! What the `leveret` command logs, and how.

use crate::config::key::{Counts, Given, Key, Shown};
use crate::config::logging::{Format, LEVELS, Target};

fn level(given: &Given<'_>) -> Result<String, String> {
    given.one_of(&LEVELS)?;
    Ok(given.text())
}

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "log.console.level",
        form: "`debug`, `info`, `notice`, `warning`, `error`, `critical`, `alert`, `emergency` or `none`",
        about: "what is logged, as with the flag `--log-level`; the last three before `none` are `error` here, `notice` is \
                `info`",
        counts: Counts::AtOnce(|live, new| live.logging.level.clone_from(&new.logging.level)),
        set: |settings, given| {
            settings.config.logging.level = level(given)?;
            Ok(())
        },
        show: |config| Shown::one(&config.logging.level),
    },
    Key {
        name: "log.default.level",
        form: "as for `log.console.level`",
        about: "the same: there is one log",
        counts: Counts::As("log.console.level"),
        set: |settings, given| settings.assign("log.console.level", given),
        show: |_| Shown::Unset,
    },
    Key {
        name: "log.console",
        form: "`true` or `false`",
        about: "`false`: nothing is logged",
        counts: Counts::As("log.console.level"),
        set: |settings, given| {
            if !given.truth()? {
                "none".clone_into(&mut settings.config.logging.level);
            }
            Ok(())
        },
        show: |_| Shown::Unset,
    },
    Key {
        name: "log.connection.level",
        form: "as for `log.console.level`",
        about: "what is logged of connections, if that is to be more or less than of the rest",
        counts: Counts::AtOnce(|live, new| {
            live.logging.connection_level.clone_from(&new.logging.connection_level);
        }),
        set: |settings, given| {
            settings.config.logging.connection_level = Some(level(given)?);
            Ok(())
        },
        show: |config| Shown::some(config.logging.connection_level.as_ref()),
    },
    Key {
        name: "log.console.formatter",
        form: "`plaintext` or `json`",
        about: "how lines look, as with the flag `--log-json`",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.logging.format = given.one_of(&[("plaintext", Format::Plain), ("json", Format::Json)])?;
            Ok(())
        },
        show: |config| Shown::one(config.logging.format),
    },
    Key {
        name: "log.console.stdio",
        form: "`stderr` or `stdout`",
        about: "where the log goes. RabbitMQ's is standard output",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.logging.target = given.one_of(&[("stderr", Target::Stderr), ("stdout", Target::Stdout)])?;
            Ok(())
        },
        show: |config| Shown::one(config.logging.target),
    },
];
