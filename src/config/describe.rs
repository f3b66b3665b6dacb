//! The settings in effect, in the words of the configuration file, and where each comes from.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Compat, Config, ControlSocket, DataDir, Limit};

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

/// A number or `none`, whatever the file calls it.
fn optional<T: ToString>(value: Option<T>, none: &str) -> String {
    value.map_or_else(|| none.to_owned(), |value| value.to_string())
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

impl Config {
    /// Every setting but passwords.
    pub(crate) fn describe(&self) -> Vec<Setting> {
        let mut all = Vec::new();
        let mut add = |key: &str, value: String| {
            let kind = key.rsplit_once('.').map(|(kind, _)| format!("{kind}.*"));
            let source = self.sources.get(key).or_else(|| self.sources.get(&kind?));
            let source = source.map_or("default", String::as_str).to_owned();
            all.push(Setting { key: key.to_owned(), value, source });
        };
        for (number, address) in (1..).zip(&self.listen) {
            add(&format!("listeners.tcp.{number}"), address.to_string());
        }
        self.describe_places(&mut add);
        self.describe_first_records(&mut add);
        self.describe_protocol(&mut add);
        self.describe_limits(&mut add);
        self.management.describe(&mut add);
        self.prometheus.describe(&mut add);
        all
    }

    fn describe_places(&self, add: &mut impl FnMut(&str, String)) {
        let place = match &self.data_dir {
            DataDir::Ephemeral => "none (in memory)".to_owned(),
            DataDir::Path(path) => path.display().to_string(),
        };
        add("data_dir", place);
        let socket = match &self.control_socket {
            ControlSocket::Off => None,
            ControlSocket::Default | ControlSocket::Path(_) | ControlSocket::IfFree(_) => {
                crate::control::socket_path(self).map(|path| path.display().to_string())
            }
        };
        add("control.socket", optional(socket, "none"));
        add("load_definitions", optional(self.load_definitions.as_ref().map(|path| path.display()), "none"));
        add("cluster_name", self.identity.cluster_name.clone());
    }

    fn describe_first_records(&self, add: &mut impl FnMut(&str, String)) {
        add("default_user", self.default_user.clone());
        add("default_vhost", self.default_vhost.to_string());
        add("default_queue_type", self.default_queue_type.as_str().to_owned());
        for tag in &self.default_user_tags {
            add(&format!("default_user_tags.{tag}"), "true".to_owned());
        }
        for (what, pattern) in ["configure", "write", "read"].iter().zip(&self.default_permissions) {
            add(&format!("default_permissions.{what}"), pattern.clone());
        }
        for user in &self.loopback_users {
            add(&format!("loopback_users.{user}"), "true".to_owned());
        }
        add("anonymous_login_user", optional(self.anonymous_login.as_ref().map(|(user, _)| user), "none"));
    }

    fn describe_protocol(&self, add: &mut impl FnMut(&str, String)) {
        add("heartbeat", self.heartbeat_seconds.to_string());
        add("frame_max", self.frame_max.to_string());
        add("channel_max", self.channel_max.to_string());
        add("max_message_size", self.max_message_size.to_string());
        add("handshake_timeout", millis(self.handshake_timeout));
        add("collect_statistics_interval", millis(self.statistics_interval));
        add("consumer_timeout", optional(self.consumer_timeout.map(millis), "undefined"));
        let compat = match self.compat {
            Compat::V3 => "3.13",
            Compat::V4 => "4.x",
        };
        add("compat", compat.to_owned());
    }

    fn describe_limits(&self, add: &mut impl FnMut(&str, String)) {
        add("consumer_max_per_channel", optional(self.consumer_max_per_channel, "infinity"));
        add("connection_max", optional(self.node_limits.connections, "infinity"));
        add("channel_max_per_node", optional(self.node_limits.channels, "infinity"));
        add("cluster_queue_limit", optional(self.queue_limit, "none"));
        add("cluster_exchange_limit", optional(self.exchange_limit, "none"));
        for (key, limit) in [
            ("vm_memory_high_watermark", self.resource_limits.memory),
            ("disk_free_limit", self.resource_limits.disk_free),
        ] {
            match limit {
                Limit::Octets(octets) => add(&format!("{key}.absolute"), octets.to_string()),
                Limit::OfMemory(share) => add(&format!("{key}.relative"), share.to_string()),
            }
        }
        add("total_memory_available_override_value", optional(self.resource_limits.total_memory, "none"));
        add("memory_monitor_interval", millis(self.monitor_interval));
        add("message_memory", self.message_memory_bytes.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::file::KEYS;
    use super::*;

    /// Passwords, other names of described keys, forms that the description does without, and what the log is asked for.
    const LEFT_OUT: [&str; 15] = [
        "default_pass",
        "anonymous_login_pass",
        "loopback_users",
        "log.console.level",
        "log.console.formatter",
        "management.load_definitions",
        "definitions.import_backend",
        "definitions.local.path",
        "definitions.skip_if_unchanged",
        "vm_memory_high_watermark.absolute",
        "disk_free_limit.relative",
        "default_user_tags.*",
        "management.listener.port",
        "management.listener.ip",
        "management.cors.allow_origins.*",
    ];

    #[test]
    fn every_key_of_the_file_is_described() {
        let described = Config::default().describe();
        for key in KEYS.iter().filter(|key| !LEFT_OUT.contains(key)) {
            let prefix = key.trim_end_matches('*');
            let found = described
                .iter()
                .any(|setting| if key.ends_with('*') { setting.key.starts_with(prefix) } else { setting.key == *key });
            assert!(found, "{key} is not described");
        }
    }

    #[test]
    fn a_description_has_sources_and_no_password() {
        let mut settings = Settings::default();
        settings.apply_text("default_pass = hunter2\nheartbeat = 5\nlisteners.tcp.7 = 127.0.0.1:1\n").expect("valid");
        let variables = |name: &str| (name == "RABBITMQ_DEFAULT_USER").then(|| "ada".to_owned());
        settings.apply_environment(variables).expect("valid");
        let described = settings.config.describe();
        let check = |key: &str, value: &str, source: &str| {
            let setting = described.iter().find(|setting| setting.key == key).expect("described");
            assert_eq!((setting.value.as_str(), setting.source.as_str()), (value, source));
        };
        check("heartbeat", "5", "text, line 2");
        check("default_user", "ada", "environment, RABBITMQ_DEFAULT_USER");
        check("listeners.tcp.1", "127.0.0.1:1", "text, line 3");
        check("frame_max", "131072", "default");
        check("vm_memory_high_watermark.relative", "0.6", "default");
        assert!(described.iter().all(|setting| !setting.value.contains("hunter2")));
    }
}
