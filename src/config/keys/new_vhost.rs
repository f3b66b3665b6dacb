//! What a vhost gets when it is made.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::key::{Counts, Given, Key, Shown};
use crate::config::{MASK, NewVhostSettings, VhostLimits, VhostPolicy, VhostUser};
use crate::engine::directory::Pattern;

/// What an operator policy may be for.
const QUEUES: [(&str, ()); 5] =
    [("all", ()), ("queues", ()), ("classic_queues", ()), ("quorum_queues", ()), ("streams", ())];

const fn users() -> Counts {
    Counts::AtOnce(|live, new| live.new_vhosts.users.clone_from(&new.new_vhosts.users))
}

const fn policies() -> Counts {
    Counts::AtOnce(|live, new| live.new_vhosts.operator_policies.clone_from(&new.new_vhosts.operator_policies))
}

const fn limits() -> Counts {
    Counts::AtOnce(|live, new| live.new_vhosts.limits.clone_from(&new.new_vhosts.limits))
}

fn user<'a>(all: &'a mut NewVhostSettings, given: &Given<'_>) -> &'a mut VhostUser {
    all.users.entry(given.word.to_owned()).or_default()
}

fn policy<'a>(all: &'a mut NewVhostSettings, given: &Given<'_>) -> &'a mut VhostPolicy {
    all.operator_policies.entry(given.word.to_owned()).or_default()
}

fn limited<'a>(all: &'a mut NewVhostSettings, given: &Given<'_>) -> &'a mut VhostLimits {
    all.limits.entry(given.word.to_owned()).or_default()
}

/// A value that each entry may have.
fn each<T>(entries: &BTreeMap<String, T>, value: impl Fn(&T) -> Option<String>) -> Shown {
    Shown::Each(entries.iter().filter_map(|(word, entry)| Some((word.clone(), value(entry)?))).collect())
}

fn pattern(given: &Given<'_>) -> Result<Option<String>, String> {
    let wrong = |cause| format!("'{}' is no regular expression: {cause}", given.value);
    Pattern::of_policy(given.value).map(|_| Some(given.text())).map_err(wrong)
}

fn positive(given: &Given<'_>) -> Result<i64, String> {
    let number = given.number().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("expected a number, at least 1, got '{}'", given.value))
}

fn octets(given: &Given<'_>) -> Result<i64, String> {
    let octets = i64::try_from(given.octets()?).ok().filter(|octets| *octets > 0);
    octets.ok_or_else(|| format!("expected octets, at least 1, got '{}'", given.value))
}

/// Milliseconds of a length of time as RabbitMQ's files have it: `1h30m`, or a number of milliseconds.
fn millis(given: &Given<'_>) -> Result<i64, String> {
    const UNITS: [(&str, i64); 7] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 604_800_000),
        ("f", 1_209_600_000),
    ];
    let wrong = || format!("expected a length of time such as 90s, 1h30m or milliseconds, got '{}'", given.value);
    if let Ok(number) = given.value.parse() {
        return Some(number).filter(|number| *number >= 0).ok_or_else(wrong);
    }
    let (mut rest, mut sum) = (given.value, 0_i64);
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(unit_at);
        let unit_end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = number.parse().ok().and_then(|number: i64| number.checked_mul(*millis)).ok_or_else(wrong)?;
        (sum, rest) = (sum.checked_add(part).ok_or_else(wrong)?, behind);
    }
    if given.value.is_empty() { Err(wrong()) } else { Ok(sum) }
}

/// The key of a right: what a user may configure, write or read.
macro_rules! right {
    ($name:literal, $at:literal, $about:literal) => {
        Key {
            name: concat!("default_users.*.", $name),
            form: "a pattern",
            about: $about,
            counts: users(),
            set: |settings, given| {
                user(&mut settings.config.new_vhosts, given).rights[$at] = pattern(given)?;
                Ok(())
            },
            show: |config| each(&config.new_vhosts.users, |user| user.rights[$at].clone()),
        }
    };
}

/// A key of an operator policy's definition, read in some way.
macro_rules! defined {
    ($name:literal, $key:literal, $read:ident, $form:literal, $about:literal) => {
        Key {
            name: concat!("default_policies.operator.*.", $name),
            form: $form,
            about: $about,
            counts: policies(),
            set: |settings, given| {
                let value = Value::from($read(given)?);
                policy(&mut settings.config.new_vhosts, given).definition.insert($key.to_owned(), value);
                Ok(())
            },
            show: |config| {
                let value = |policy: &VhostPolicy| policy.definition.get($key).map(ToString::to_string);
                each(&config.new_vhosts.operator_policies, value)
            },
        }
    };
}

/// A limit.
macro_rules! limit {
    ($name:literal, $key:literal, $about:literal) => {
        Key {
            name: concat!("default_limits.vhosts.*.", $name),
            form: "a number, at least 1",
            about: $about,
            counts: limits(),
            set: |settings, given| {
                let number = positive(given)?;
                limited(&mut settings.config.new_vhosts, given).limits.insert($key.to_owned(), number);
                Ok(())
            },
            show: |config| each(&config.new_vhosts.limits, |entry| entry.limits.get($key).map(ToString::to_string)),
        }
    };
}

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "default_users.*.vhost_pattern",
        form: "a pattern",
        about: "a user of this name is made with each new vhost whose name the pattern is found in, and given rights there; all \
                vhosts without a pattern. One that exists only gets the rights. Vhosts that are there already stay as they are, \
                here and below",
        counts: users(),
        set: |settings, given| {
            user(&mut settings.config.new_vhosts, given).vhost_pattern = pattern(given)?;
            Ok(())
        },
        show: |config| each(&config.new_vhosts.users, |user| user.vhost_pattern.clone()),
    },
    Key {
        name: "default_users.*.password",
        form: "text",
        about: "its password; without one nobody can log in as it",
        counts: users(),
        set: |settings, given| {
            user(&mut settings.config.new_vhosts, given).password = Some(given.text());
            Ok(())
        },
        show: |config| each(&config.new_vhosts.users, |user| user.password.as_ref().map(|_| MASK.to_owned())),
    },
    Key {
        name: "default_users.*.tags",
        form: "words, with commas between them",
        about: "its tags",
        counts: users(),
        set: |settings, given| {
            let tags = given.value.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned);
            user(&mut settings.config.new_vhosts, given).tags = tags.collect();
            Ok(())
        },
        show: |config| {
            let tags = |user: &VhostUser| (!user.tags.is_empty()).then(|| user.tags.join(","));
            each(&config.new_vhosts.users, tags)
        },
    },
    right!("configure", 0, "what it may configure there; everything unless this says otherwise"),
    right!("write", 1, "where it may write"),
    right!("read", 2, "where it may read"),
    Key {
        name: "default_policies.operator.*.vhost_pattern",
        form: "a pattern",
        about: "each new vhost whose name the pattern is found in gets an operator policy of this name; all without a pattern",
        counts: policies(),
        set: |settings, given| {
            policy(&mut settings.config.new_vhosts, given).vhost_pattern = pattern(given)?;
            Ok(())
        },
        show: |config| each(&config.new_vhosts.operator_policies, |policy| policy.vhost_pattern.clone()),
    },
    Key {
        name: "default_policies.operator.*.queue_pattern",
        form: "a pattern",
        about: "for queues in whose names it is found; all without it",
        counts: policies(),
        set: |settings, given| {
            policy(&mut settings.config.new_vhosts, given).queue_pattern = pattern(given)?;
            Ok(())
        },
        show: |config| each(&config.new_vhosts.operator_policies, |policy| policy.queue_pattern.clone()),
    },
    Key {
        name: "default_policies.operator.*.apply_to",
        form: "`all`, `queues`, `classic_queues`, `quorum_queues` or `streams`",
        about: "for which kind of queues; `all` unless this says otherwise",
        counts: policies(),
        set: |settings, given| {
            given.one_of(&QUEUES)?;
            policy(&mut settings.config.new_vhosts, given).apply_to = Some(given.text());
            Ok(())
        },
        show: |config| each(&config.new_vhosts.operator_policies, |policy| policy.apply_to.clone()),
    },
    defined!("expires", "expires", millis, "milliseconds, or `1h30m`", "its `expires`"),
    defined!("message_ttl", "message-ttl", millis, "milliseconds, or `1h30m`", "its `message-ttl`"),
    defined!("max_length", "max-length", positive, "a number, at least 1", "its `max-length`"),
    defined!("max_length_bytes", "max-length-bytes", octets, "octets", "its `max-length-bytes`"),
    defined!(
        "max_in_memory_length",
        "max-in-memory-length",
        positive,
        "a number, at least 1",
        "its `max-in-memory-length`, which changes nothing here"
    ),
    defined!(
        "max_in_memory_bytes",
        "max-in-memory-bytes",
        octets,
        "octets",
        "its `max-in-memory-bytes`, which changes nothing here"
    ),
    defined!("delivery_limit", "delivery-limit", positive, "a number, at least 1", "its `delivery-limit`"),
    Key {
        name: "default_limits.vhosts.*.pattern",
        form: "a pattern",
        about: "each new vhost whose name the pattern is found in gets these limits; of several, by their words' order, the first \
                counts",
        counts: limits(),
        set: |settings, given| {
            limited(&mut settings.config.new_vhosts, given).pattern = pattern(given)?;
            Ok(())
        },
        show: |config| each(&config.new_vhosts.limits, |entry| entry.pattern.clone()),
    },
    limit!("max_connections", "max-connections", "connections at most"),
    limit!("max_queues", "max-queues", "queues at most"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_units() {
        let millis = |value: &str| millis(&Given { word: "", value }).ok();
        assert_eq!((millis("250"), millis("1h30m"), millis("1w2d")), (Some(250), Some(5_400_000), Some(777_600_000)));
        assert_eq!((millis("5ms"), millis("1m1s"), millis("0")), (Some(5), Some(61_000), Some(0)));
        for text in ["", "-1", "h", "1x", "1.5h", "1h30", "9223372036854775807w", "1 h"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }
}
