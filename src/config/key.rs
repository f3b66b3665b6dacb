//! A key of the configuration: how its value is read, shown and explained, and when a change of it counts.
//!
//! A setting is one entry of a table in [`keys`](super::keys): what a file may say, what `leveret ctl` shows, what a reload
//! changes and the reference in `docs/configuration.md` all follow from it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use leveret_protocol::ShortString;

use super::{Config, Settings, parse_octets};

/// A key that means something to the broker.
pub(super) struct Key {
    /// Its name; `*` stands for a word that the operator chooses.
    pub(super) name: &'static str,
    /// What its value looks like, with its unit.
    pub(super) form: &'static str,
    /// What it does, and why its default is what it is.
    pub(super) about: &'static str,
    /// When a changed value counts.
    pub(super) counts: Counts,
    /// Takes a value.
    pub(super) set: fn(&mut Settings, &Given<'_>) -> Result<(), String>,
    /// The value in effect.
    pub(super) show: fn(&Config) -> Shown,
}

/// Takes a setting over from a newer configuration.
type TakeOver = fn(&mut Config, &Config);

/// When a changed value counts.
#[derive(Clone, Copy)]
pub(super) enum Counts {
    /// As soon as the configuration is loaded again.
    AtOnce(TakeOver),
    /// As soon as the configuration is loaded again, for connections that come then.
    ForNew(TakeOver),
    /// When the broker starts.
    AtStart,
    /// When a broker starts that has no data yet.
    WhenNew,
    /// It is another name of this key.
    As(&'static str),
}

impl Counts {
    /// The words of the reference.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::AtOnce(_) => "reload",
            Self::ForNew(_) => "reload, new connections",
            Self::AtStart => "restart",
            Self::WhenNew => "new broker",
            Self::As(_) => "",
        }
    }
}

/// A value in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Of a key that has one value.
    One(String),
    /// Of a key with `*`: what stands there, and the values.
    Each(Vec<(String, String)>),
    /// Something that nobody is to see is set.
    Secret,
    /// It is not set.
    Unset,
}

impl Shown {
    pub(super) fn one(value: impl fmt::Display) -> Self {
        Self::One(value.to_string())
    }

    pub(super) fn some(value: Option<impl fmt::Display>) -> Self {
        value.map_or(Self::Unset, Self::one)
    }

    /// A number, or the word for none.
    pub(super) fn or(value: Option<impl fmt::Display>, none: &str) -> Self {
        value.map_or_else(|| Self::one(none), Self::one)
    }

    pub(super) fn millis(time: Duration) -> Self {
        Self::one(time.as_millis())
    }

    pub(super) fn secret(is_set: bool) -> Self {
        if is_set { Self::Secret } else { Self::Unset }
    }

    /// Values that are numbered from one.
    pub(super) fn numbered(values: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        Self::Each((1_u32..).zip(values).map(|(number, value)| (number.to_string(), value.to_string())).collect())
    }

    /// Names that are on.
    pub(super) fn names<'a>(names: impl IntoIterator<Item = &'a String>) -> Self {
        Self::Each(names.into_iter().map(|name| (name.clone(), "true".to_owned())).collect())
    }
}

/// A key and its value as they were given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    /// What stands for the key's `*`.
    pub(super) word: &'a str,
    pub(super) value: &'a str,
}

impl Given<'_> {
    pub(super) fn number<N: FromStr>(&self) -> Result<N, String> {
        self.value.parse().map_err(|_| format!("expected a number in range, got '{}'", self.value))
    }

    /// A number, or `infinity`.
    pub(super) fn at_most<N: FromStr>(&self) -> Result<Option<N>, String> {
        if self.value == "infinity" {
            return Ok(None);
        }
        let number = self.value.parse();
        number.map(Some).map_err(|_| format!("expected a number or 'infinity', got '{}'", self.value))
    }

    pub(super) fn millis(&self) -> Result<Duration, String> {
        self.number().map(Duration::from_millis)
    }

    pub(super) fn octets(&self) -> Result<u64, String> {
        parse_octets(self.value).map_err(|cause| cause.to_string())
    }

    pub(super) fn truth(&self) -> Result<bool, String> {
        match self.value {
            "true" | "on" => Ok(true),
            "false" | "off" => Ok(false),
            other => Err(format!("true or false, not '{other}'")),
        }
    }

    pub(super) fn name(&self) -> Result<ShortString, String> {
        ShortString::try_from(self.value).map_err(|_| "at most 255 octets".to_owned())
    }

    pub(super) fn text(&self) -> String {
        self.value.to_owned()
    }

    /// One of some words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, String> {
        let found = words.iter().find(|(word, _)| *word == self.value);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("one of {}, not '{}'", words.join(", "), self.value)
        })
    }
}

/// What stands for the first `*` of `pattern` in `key`; `None` if they do not match. A `*` at the end takes all the rest.
pub(super) fn matched<'a>(pattern: &str, key: &'a str) -> Option<&'a str> {
    let mut word = None;
    let (mut pattern, mut rest) = (pattern, key);
    loop {
        let (part, more) = pattern.split_once('.').map_or((pattern, None), |(part, more)| (part, Some(more)));
        let (have, left) = match more {
            Some(_) => rest.split_once('.').map(|(have, left)| (have, Some(left)))?,
            None => (rest, None),
        };
        if have.is_empty() || (part != "*" && part != have) {
            return None;
        }
        if part == "*" {
            word = word.or(Some(have));
        }
        match (more, left) {
            (Some(more), Some(left)) => (pattern, rest) = (more, left),
            (None, None) => return Some(word.unwrap_or("")),
            (Some(_), None) | (None, Some(_)) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_a_word_and_at_the_end_for_the_rest() {
        assert_eq!(matched("heartbeat", "heartbeat"), Some(""));
        assert_eq!(matched("listeners.tcp.*", "listeners.tcp.default"), Some("default"));
        assert_eq!(matched("loopback_users.*", "loopback_users.ada.lovelace"), Some("ada.lovelace"));
        assert_eq!(matched("default_users.*.tags", "default_users.ada.tags"), Some("ada"));
        assert_eq!(matched("a.*.b.*", "a.x.b.y"), Some("x"));
        for (pattern, key) in [
            ("heartbeat", "heartbeats"),
            ("heartbeat", "heartbeat.x"),
            ("listeners.tcp.*", "listeners.tcp"),
            ("listeners.tcp.*", "listeners.tcp."),
            ("default_users.*.tags", "default_users.ada.lovelace.tags"),
            ("default_users.*.tags", "default_users..tags"),
            ("a.b", "a"),
        ] {
            assert_eq!(matched(pattern, key), None, "{pattern} {key}");
        }
    }

    #[test]
    fn values_say_what_was_expected() {
        let given = |value| Given { word: "", value };
        assert_eq!(given("7").number::<u16>(), Ok(7));
        assert_eq!(given("70000").number::<u16>(), Err("expected a number in range, got '70000'".to_owned()));
        assert_eq!(given("infinity").at_most::<u32>(), Ok(None));
        assert_eq!(given("on").truth(), Ok(true));
        assert_eq!(given("b").one_of(&[("a", 1), ("b", 2)]), Ok(2));
        assert_eq!(given("c").one_of(&[("a", 1), ("b", 2)]), Err("one of a, b, not 'c'".to_owned()));
    }
}
