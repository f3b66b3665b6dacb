//! The table of keys, theme by theme. Who adds a setting adds its field to [`Config`](super::Config) and its entry here.

mod clients;
mod first;
mod http_listener;
mod limits;
mod listeners;
mod logging;
mod login;
mod management;
mod new_vhost;
mod node;
mod prometheus;
mod tls;

use super::key::{Key, matched};
use super::known;

/// Keys that belong together.
pub(super) struct Theme {
    pub(super) heading: &'static str,
    pub(super) keys: &'static [&'static [Key]],
}

/// All keys, in the order of the reference.
pub(super) const THEMES: &[Theme] = &[
    Theme { heading: "Listeners", keys: &[listeners::KEYS] },
    Theme { heading: "TLS of AMQP listeners", keys: &[tls::OPTIONS] },
    Theme { heading: "The management HTTP API", keys: &[management::KEYS] },
    Theme { heading: "TLS of the management listener", keys: &[tls::MANAGEMENT, tls::MANAGEMENT_OPTIONS] },
    Theme { heading: "Metrics for Prometheus", keys: &[prometheus::KEYS] },
    Theme { heading: "TLS of the Prometheus listener", keys: &[tls::PROMETHEUS, tls::PROMETHEUS_OPTIONS] },
    Theme { heading: "Logging in", keys: &[login::KEYS, tls::LOGIN] },
    Theme { heading: "What a new broker starts with", keys: &[first::KEYS] },
    Theme { heading: "What a new vhost gets", keys: &[new_vhost::KEYS] },
    Theme { heading: "Connections and messages", keys: &[clients::KEYS] },
    Theme { heading: "Memory, disk and numbers", keys: &[limits::KEYS] },
    Theme { heading: "The node", keys: &[node::KEYS] },
    Theme { heading: "The log", keys: &[logging::KEYS] },
];

/// Every key that means something.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    THEMES.iter().flat_map(|theme| theme.keys.iter().copied().flatten())
}

/// The key that a name is, with what stands for its `*`. Of several it is the one that says most.
pub(super) fn find(name: &str) -> Option<(&'static Key, &str)> {
    let found = all().filter_map(|key| matched(key.name, name).map(|word| (key, word)));
    found.max_by_key(|(key, _)| key.name.len())
}

/// The known name that is nearest to one that is not known, with the words that were put for its `*`s.
pub(super) fn nearest(name: &str) -> String {
    let candidates = all().map(|key| key.name).chain(known::names()).map(|known| filled(known, name));
    candidates.min_by_key(|known| strsim::levenshtein(known, name)).unwrap_or_default()
}

/// A pattern with words of `name` for its `*`s, if `name` has as many parts.
fn filled(pattern: &str, name: &str) -> String {
    if !pattern.contains('*') || pattern.split('.').count() != name.split('.').count() {
        return pattern.to_owned();
    }
    let parts = pattern.split('.').zip(name.split('.'));
    parts.map(|(part, word)| if part == "*" { word } else { part }).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::super::key::Counts;
    use super::*;

    #[test]
    fn every_key_has_one_entry_a_form_and_a_text() {
        let mut seen = std::collections::HashSet::new();
        for key in all() {
            assert!(seen.insert(key.name), "{} twice", key.name);
            assert!(!key.form.is_empty() && !key.about.is_empty(), "{}", key.name);
            let example = key.name.replace('*', "word");
            assert_eq!(find(&example).expect("found").0.name, key.name);
            if let Counts::As(other) = key.counts {
                let other = find(other).expect("found").0;
                assert!(!matches!(other.counts, Counts::As(_)), "{}", key.name);
            }
        }
    }

    #[test]
    fn a_misspelt_key_has_a_neighbour() {
        assert_eq!(nearest("heartbaet"), "heartbeat");
        assert_eq!(nearest("listeners.tpc.default"), "listeners.tcp.default");
        assert_eq!(nearest("mqtt.exchagne"), "mqtt.exchange");
    }
}
