//! The settings in effect, in the words of the configuration file.

use super::{Config, ControlSocket, DataDir};

impl Config {
    /// Every setting but passwords: key and value.
    pub(crate) fn describe(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        let mut add = |key: &str, value: String| all.push((key.to_owned(), value));
        for (number, address) in (1..).zip(&self.listen) {
            add(&format!("listeners.tcp.{number}"), address.to_string());
        }
        let place = match &self.data_dir {
            DataDir::Ephemeral => "none (in memory)".to_owned(),
            DataDir::Path(path) => path.display().to_string(),
        };
        add("data_dir", place);
        let socket = match &self.control_socket {
            ControlSocket::Off => "none".to_owned(),
            ControlSocket::Default | ControlSocket::Path(_) | ControlSocket::IfFree(_) => {
                crate::control::socket_path(self).map_or_else(|| "none".to_owned(), |path| path.display().to_string())
            }
        };
        add("control.socket", socket);
        if let Some(path) = &self.load_definitions {
            add("load_definitions", path.display().to_string());
        }
        add("default_user", self.default_user.clone());
        add("default_vhost", self.default_vhost.to_string());
        for user in &self.loopback_users {
            add(&format!("loopback_users.{user}"), "true".to_owned());
        }
        add("heartbeat", self.heartbeat_seconds.to_string());
        add("frame_max", self.frame_max.to_string());
        add("channel_max", self.channel_max.to_string());
        add("max_message_size", self.max_message_size.to_string());
        add("handshake_timeout", self.handshake_timeout.as_millis().to_string());
        add("cluster_name", self.identity.cluster_name.clone());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_can_be_read_as_a_file_and_has_no_password() {
        let config = Config { default_pass: "hunter2".to_owned(), ..Config::default() };
        let described = config.describe();
        assert!(described.iter().all(|(_, value)| !value.contains("hunter2")));
        let text: Vec<String> = described.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let mut settings = super::super::Settings::default();
        settings.apply_text(&text.join("\n")).expect("every key is known");
        assert_eq!(settings.config.listen, config.listen);
        assert_eq!(settings.config.frame_max, config.frame_max);
    }
}
