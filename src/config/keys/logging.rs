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
        about: "`false`: nothing is logged to standard error or output",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.logging.console = given.truth()?;
            Ok(())
        },
        show: |config| Shown::one(config.logging.console),
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
    Key {
        name: "log.file",
        form: "a path, or `false`",
        about: "the log goes to this file, too; with `log.console = false` to nowhere else. One that is moved away is made anew",
        counts: Counts::AtStart,
        set: |settings, given| {
            let file = given.truth().map_or_else(|_| Some(given.text().into()), |_| None);
            settings.config.logging.file = file;
            Ok(())
        },
        show: |config| Shown::some(config.logging.file.as_ref().map(|file| file.display())),
    },
    Key {
        name: "log.dir",
        form: "a directory",
        about: "where `log.file` is, unless that is an absolute path",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.logging.dir = Some(given.text().into());
            Ok(())
        },
        show: |config| Shown::some(config.logging.dir.as_ref().map(|dir| dir.display())),
    },
    Key {
        name: "log.file.level",
        form: "as for `log.console.level`",
        about: "the same: there is one log",
        counts: Counts::As("log.console.level"),
        set: |settings, given| settings.assign("log.console.level", given),
        show: |_| Shown::Unset,
    },
    Key {
        name: "log.file.formatter",
        form: "as for `log.console.formatter`",
        about: "the same: there is one log",
        counts: Counts::As("log.console.formatter"),
        set: |settings, given| settings.assign("log.console.formatter", given),
        show: |_| Shown::Unset,
    },
    Key {
        name: "log.file.rotation.size",
        form: "octets, or `0`",
        about: "the file is cut before it is larger: it becomes `NAME.0`, what was that becomes `NAME.1`; `0`: only \
                `leveret ctl rotate_logs` cuts it",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.logging.rotation.max_bytes = Some(given.octets()?).filter(|octets| *octets > 0);
            Ok(())
        },
        show: |config| Shown::some(config.logging.rotation.max_bytes),
    },
    Key {
        name: "log.file.rotation.count",
        form: "a number",
        about: "so many cut files are kept; with 0 the file is emptied instead",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.logging.rotation.count = given.number()?;
            Ok(())
        },
        show: |config| Shown::one(config.logging.rotation.count),
    },
];
