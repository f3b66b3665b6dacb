//! The settings in effect, in the words of the configuration file, and where each comes from.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::key::{Counts, Shown};
use super::{Config, keys};

/// What stands for a value that nobody is to see.
pub(crate) const MASK: &str = "********";

/// A setting in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: String,
    /// `default`, or the file, variable or flag that set it.
    pub(crate) source: String,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key, self.value, self.source)
    }
}

impl Config {
    /// Every setting that has a value; secrets are masked.
    pub(crate) fn describe(&self) -> Vec<Setting> {
        let mut all = Vec::new();
        for key in keys::all() {
            let source = |name: &str| {
                let source = self.sources.get(name).or_else(|| self.sources.get(key.name));
                source.map_or("default", String::as_str).to_owned()
            };
            let mut add = |name: String, value: String| all.push(Setting { source: source(&name), key: name, value });
            match (key.show)(self) {
                Shown::One(value) => add(key.name.to_owned(), value),
                Shown::Secret => add(key.name.to_owned(), MASK.to_owned()),
                Shown::Each(values) => {
                    for (word, value) in values {
                        add(key.name.replace('*', &word), value);
                    }
                }
                Shown::Unset => {}
            }
        }
        all
    }

    /// What has to change for this configuration to become `new`: the keys that a reload changes, and those that wait for
    /// a restart.
    pub(crate) fn differences(&self, new: &Self) -> (Vec<&'static str>, Vec<&'static str>) {
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for key in keys::all() {
            let differ = match key.name {
                // Secrets are shown as what they are not.
                "default_users.*.password" => self.new_vhosts.users != new.new_vhosts.users,
                "default_pass" => self.default_pass != new.default_pass,
                "anonymous_login_pass" => self.anonymous_login != new.anonymous_login,
                "ssl_options.password" | "ssl_options.sni.*.password" => self.tls != new.tls,
                "management.ssl.password" | "management.ssl.sni.*.password" => {
                    self.management_ssl.tls != new.management_ssl.tls
                }
                "prometheus.ssl.password" | "prometheus.ssl.sni.*.password" => {
                    self.prometheus_ssl.tls != new.prometheus_ssl.tls
                }
                _ => (key.show)(self) != (key.show)(new),
            };
            match key.counts {
                _ if !differ => {}
                Counts::AtOnce(_) | Counts::ForNew(_) => now.push(key.name),
                Counts::AtStart | Counts::WhenNew => later.push(key.name),
                Counts::As(_) => {}
            }
        }
        (now, later)
    }

    /// Takes some keys' settings over from a newer configuration, with where they come from.
    pub(crate) fn take_over(&mut self, names: &[&str], new: &Self) {
        for key in keys::all().filter(|key| names.contains(&key.name)) {
            if let Counts::AtOnce(take_over) | Counts::ForNew(take_over) = key.counts {
                take_over(self, new);
                self.take_source(key.name, new);
            }
        }
    }

    /// Notes that an operator changed the settings whose keys begin so, until a restart.
    pub(crate) fn set_by_operator(&mut self, start: &str) {
        self.sources.retain(|key, _| !key.starts_with(start));
        let keys = keys::all().filter(|key| key.name.starts_with(start));
        self.sources.extend(keys.map(|key| (key.name.to_owned(), "an operator, until a restart".to_owned())));
    }

    fn take_source(&mut self, name: &str, new: &Self) {
        let belongs = |key: &str| super::key::matched(name, key).is_some() || key == name;
        self.sources.retain(|key, _| !belongs(key));
        let sources = new.sources.iter().filter(|(key, _)| belongs(key));
        self.sources.extend(sources.map(|(key, source)| (key.clone(), source.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn read(text: &str) -> Config {
        let mut settings = Settings::default();
        settings.apply_text(text).expect("valid");
        settings.config
    }

    #[test]
    fn a_description_has_sources_and_no_password() {
        let mut settings = Settings::default();
        let text = "default_pass = hunter2\nheartbeat = 5\nlisteners.tcp.7 = 127.0.0.1:1\n\
                    ssl_options.password = hunter2\nssl_options.sni.a.password = hunter2\nanonymous_login_pass = hunter2\n";
        settings.apply_text(text).expect("valid");
        let variables = |name: &str| (name == "RABBITMQ_DEFAULT_USER").then(|| "ada".to_owned());
        settings.apply_environment(variables).expect("valid");
        let described = settings.config.describe();
        let check = |key: &str, value: &str, source: &str| {
            let setting = described.iter().find(|setting| setting.key == key).expect(key);
            assert_eq!((setting.value.as_str(), setting.source.as_str()), (value, source));
        };
        check("heartbeat", "5", "text, line 2");
        check("default_user", "ada", "environment, RABBITMQ_DEFAULT_USER");
        check("listeners.tcp.1", "127.0.0.1:1", "text, line 3");
        check("frame_max", "131072", "default");
        check("vm_memory_high_watermark.relative", "0.6", "default");
        check("default_pass", MASK, "text, line 1");
        check("ssl_options.password", MASK, "text, line 4");
        check("ssl_options.sni.a.password", MASK, "text, line 5");
        assert!(described.iter().all(|setting| !setting.value.contains("hunter2")));
    }

    #[test]
    fn what_a_reload_can_change_is_taken_over_and_the_rest_is_named() {
        let mut live = read("heartbeat = 5\nmax_message_size = 1\n");
        let new = read("\nheartbeat = 6\nmax_message_size = 2\nconnection_max = 9\nlog.console.level = debug\n");
        let (now, later) = live.differences(&new);
        assert_eq!(now, ["heartbeat", "connection_max", "log.console.level"]);
        assert_eq!(later, ["max_message_size"]);
        live.take_over(&now, &new);
        assert_eq!((live.heartbeat_seconds, live.max_message_size), (6, 1));
        assert_eq!(live.node_limits.connections, Some(9));
        assert_eq!(live.sources["heartbeat"], "text, line 2");
        assert_eq!(live.sources["max_message_size"], "text, line 2");
        assert_eq!(live.differences(&new), (Vec::new(), vec!["max_message_size"]));
    }

    /// An example of each key that a reload changes: the setting is taken over, whatever it is.
    #[test]
    fn every_reloadable_key_is_taken_over() {
        for key in keys::all() {
            if !matches!(key.counts, Counts::AtOnce(_) | Counts::ForNew(_)) {
                continue;
            }
            let name = key.name.replace('*', "w");
            let values =
                ["7", "9000", "true", "false", "10.0.0.0/8", "EXTERNAL", "0.5", "verify_peer", "ip", "debug", "/f"];
            let values =
                values.into_iter().chain(["common_name", "streams", "rabbit_credential_validator_password_regexp"]);
            let changed = values.into_iter().find_map(|value| {
                let mut settings = Settings::default();
                settings.apply_text(&format!("{name} = {value}")).ok()?;
                Some(settings.config).filter(|config| (key.show)(config) != (key.show)(&Config::default()))
            });
            let Some(changed) = changed else {
                assert!(key.name == "anonymous_login_pass", "no value changes {name}");
                continue;
            };
            let mut live = Config::default();
            live.take_over(&[key.name], &changed);
            assert_eq!((key.show)(&live), (key.show)(&changed), "{name}");
        }
    }
}
