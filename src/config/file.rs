//! `rabbitmq.conf`-style files (`key = value`) and the environment, as settings laid over the defaults.
//!
//! A key that is not known is an error that names the nearest one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use leveret_protocol::{FRAME_MIN_SIZE, ShortString};

use super::limits::{DISK_SHARE_MAX, Limit, Share, parse_octets, parse_share};
use super::{AMQP_PORT, Compat, Config, ControlSocket, DataDir, full_node_name, place};
use crate::engine::queue::QueueType;

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub(super) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Plain,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// `error`, `warning`, `info`, `debug` or `none`.
    pub level: String,
    /// How lines look.
    pub format: Format,
}

/// Configuration on its way to a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The broker's configuration.
    pub config: Config,
    /// What is logged.
    pub logging: Logging,
    /// The listeners were set, so the next `listeners.tcp.*` adds to them.
    listeners_set: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            config: Config::default(),
            logging: Logging { level: "info".to_owned(), format: Format::Plain },
            listeners_set: false,
        }
    }
}

/// A budget below this leaves no room for what is on its way.
const MESSAGE_MEMORY_MIN_BYTES: u64 = 1024 * 1024;

/// Every key that a file may have. `*` stands for one word.
pub(super) const KEYS: &[&str] = &[
    "listeners.tcp.*",
    "default_user",
    "default_pass",
    "default_vhost",
    "default_queue_type",
    "cluster_queue_limit",
    "cluster_exchange_limit",
    "anonymous_login_user",
    "anonymous_login_pass",
    "default_user_tags.*",
    "default_permissions.configure",
    "default_permissions.write",
    "default_permissions.read",
    "loopback_users",
    "loopback_users.*",
    "heartbeat",
    "frame_max",
    "channel_max",
    "max_message_size",
    "handshake_timeout",
    "collect_statistics_interval",
    "consumer_max_per_channel",
    "consumer_timeout",
    "compat",
    "log.console.level",
    "log.console.formatter",
    "data_dir",
    "control.socket",
    "load_definitions",
    "management.load_definitions",
    "definitions.import_backend",
    "definitions.local.path",
    "definitions.skip_if_unchanged",
    "cluster_name",
    "vm_memory_high_watermark.relative",
    "vm_memory_high_watermark.absolute",
    "disk_free_limit.relative",
    "disk_free_limit.absolute",
    "total_memory_available_override_value",
    "memory_monitor_interval",
    "message_memory",
    "connection_max",
    "channel_max_per_node",
    "management.tcp.port",
    "management.tcp.ip",
    "management.listener.port",
    "management.listener.ip",
    "management.cors.allow_origins",
    "management.cors.allow_origins.*",
    "management.cors.max_age",
    "management.http.max_body_size",
    "prometheus.tcp.port",
    "prometheus.tcp.ip",
    "prometheus.return_per_object_metrics",
];

impl Settings {
    /// The defaults on this system: data in the user's folder, a node named after the machine.
    pub fn of_system() -> Self {
        let mut settings = Self::default();
        settings.config.data_dir = place::data_dir();
        settings
    }

    /// The environment over a file over the defaults of this system. Without a `file` the environment may name one.
    pub fn gather(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut settings = Self::of_system();
        let named = std::env::var_os("RABBITMQ_CONFIG_FILE").map(PathBuf::from);
        if let Some(file) = file.or(named.as_deref()) {
            settings.read_file(file)?;
        }
        settings.apply_environment(|name| std::env::var(name).ok())?;
        Ok(settings)
    }

    /// Keeps everything in memory. The control socket, if none was named, is in the user's own folder.
    pub fn make_ephemeral(&mut self) {
        self.config.data_dir = DataDir::Ephemeral;
        if self.config.control_socket == ControlSocket::Default {
            let path = place::ephemeral_socket();
            // Without the folder the socket cannot be opened, which is told then.
            let _told = path.parent().map(std::fs::create_dir_all);
            self.config.control_socket = ControlSocket::IfFree(path);
        }
    }

    /// Lays a file over these settings.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError(format!("cannot read {}: {cause}", path.display())))?;
        let name = path.display().to_string();
        self.apply_lines(&text, &name).map_err(|ConfigError(text)| ConfigError(format!("{name}: {text}")))
    }

    /// Lays `key = value` lines over these settings.
    pub fn apply_text(&mut self, text: &str) -> Result<(), ConfigError> {
        self.apply_lines(text, "text")
    }

    fn apply_lines(&mut self, text: &str, name: &str) -> Result<(), ConfigError> {
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| ConfigError(format!("line {number}: expected 'key = value', got '{line}'")))?;
            self.set(key.trim(), unquote(value.trim()))
                .map_err(|ConfigError(text)| ConfigError(format!("line {number}: {text}")))?;
            self.set_by(key.trim(), format!("{name}, line {number}"));
        }
        Ok(())
    }

    /// Lays the environment over these settings: RabbitMQ's variables.
    pub fn apply_environment(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        for (name, key) in [
            ("RABBITMQ_DEFAULT_USER", "default_user"),
            ("RABBITMQ_DEFAULT_PASS", "default_pass"),
            ("RABBITMQ_DEFAULT_VHOST", "default_vhost"),
            ("RABBITMQ_VM_MEMORY_HIGH_WATERMARK", "vm_memory_high_watermark.relative"),
        ] {
            if let Some(value) = variable(name) {
                self.set(key, &value).map_err(|ConfigError(text)| ConfigError(format!("{name}: {text}")))?;
                self.set_by(key, format!("environment, {name}"));
            }
        }
        if let Some(name) = variable("RABBITMQ_NODENAME").filter(|name| !name.is_empty()) {
            self.config.node_name = full_node_name(&name);
        }
        let port = variable("RABBITMQ_NODE_PORT").map(|port| number(&port, "RABBITMQ_NODE_PORT")).transpose()?;
        let address = variable("RABBITMQ_NODE_IP_ADDRESS").filter(|address| !address.is_empty());
        let address: Option<IpAddr> = address
            .map(|text| {
                text.parse().map_err(|_| ConfigError(format!("RABBITMQ_NODE_IP_ADDRESS: no address: '{text}'")))
            })
            .transpose()?;
        match (address, port) {
            (None, None) => return Ok(()),
            (Some(address), port) => self.listen_on(vec![SocketAddr::new(address, port.unwrap_or(AMQP_PORT))]),
            (None, Some(port)) => self.listen_on(loopback(port)),
        }
        self.set_by("listeners.tcp.*", "environment, RABBITMQ_NODE_IP_ADDRESS and RABBITMQ_NODE_PORT".to_owned());
        Ok(())
    }

    /// Notes where a setting comes from. Listeners are numbered as they come, whatever the file calls them.
    pub fn set_by(&mut self, key: &str, source: String) {
        let key = match key {
            "management.load_definitions" | "definitions.local.path" => "load_definitions",
            "vm_memory_high_watermark.relative" | "vm_memory_high_watermark.absolute" => "vm_memory_high_watermark.*",
            "disk_free_limit.relative" | "disk_free_limit.absolute" => "disk_free_limit.*",
            _ if key.starts_with("listeners.tcp.") => "listeners.tcp.*",
            _ => key,
        };
        self.config.sources.insert(key.to_owned(), source);
    }

    /// Listens on these addresses and no others.
    pub fn listen_on(&mut self, addresses: Vec<SocketAddr>) {
        self.config.listen = addresses;
        self.config.listen_is_default = false;
        self.listeners_set = true;
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each key")]
    fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let named = |ConfigError(text)| ConfigError(format!("{key}: {text}"));
        let listens = self.config.management.set(key, value)? || self.config.prometheus.set(key, value)?;
        if listens || self.set_limit(key, value).map_err(named)? {
            return Ok(());
        }
        let config = &mut self.config;
        match key {
            "default_user" => value.clone_into(&mut config.default_user),
            "default_pass" => value.clone_into(&mut config.default_pass),
            "default_queue_type" => {
                config.default_queue_type = QueueType::from_word(value.as_bytes())
                    .ok_or_else(|| ConfigError(format!("{key}: classic, quorum or stream, not '{value}'")))?;
            }
            "cluster_queue_limit" => config.queue_limit = Some(number(value, key)?),
            "cluster_exchange_limit" => config.exchange_limit = Some(number(value, key)?),
            "anonymous_login_user" if value == "none" => config.anonymous_login = None,
            "anonymous_login_user" => value.clone_into(&mut config.anonymous_login.get_or_insert_default().0),
            "anonymous_login_pass" => value.clone_into(&mut config.anonymous_login.get_or_insert_default().1),
            "default_permissions.configure" => value.clone_into(&mut config.default_permissions[0]),
            "default_permissions.write" => value.clone_into(&mut config.default_permissions[1]),
            "default_permissions.read" => value.clone_into(&mut config.default_permissions[2]),
            "default_vhost" => config.default_vhost = name(value, key)?,
            "loopback_users" if value == "none" => config.loopback_users.clear(),
            "loopback_users" => {
                return Err(ConfigError(
                    "loopback_users: only 'none' is known; name users with loopback_users.NAME = true".to_owned(),
                ));
            }
            "heartbeat" => config.heartbeat_seconds = number(value, key)?,
            "frame_max" => {
                config.frame_max = number(value, key)?;
                if config.frame_max < FRAME_MIN_SIZE {
                    return Err(ConfigError(format!("frame_max: at least {FRAME_MIN_SIZE}, got {value}")));
                }
            }
            "channel_max" => {
                config.channel_max = number(value, key)?;
                if config.channel_max == 0 {
                    return Err(ConfigError("channel_max: at least 1".to_owned()));
                }
            }
            "max_message_size" => config.max_message_size = number(value, key)?,
            "consumer_max_per_channel" => {
                config.consumer_max_per_channel = if value == "infinity" { None } else { Some(number(value, key)?) };
            }
            "consumer_timeout" if matches!(value, "undefined" | "0") => config.consumer_timeout = None,
            "consumer_timeout" => config.consumer_timeout = Some(Duration::from_millis(number(value, key)?)),
            "compat" => {
                config.compat = match value {
                    "3.13" => Compat::V3,
                    "4.x" => Compat::V4,
                    _ => return Err(ConfigError(format!("{key}: 3.13 or 4.x, not '{value}'"))),
                }
            }
            "handshake_timeout" => config.handshake_timeout = Duration::from_millis(number(value, key)?),
            "collect_statistics_interval" => {
                config.statistics_interval = Duration::from_millis(number(value, key).map(NonZeroU64::get)?);
            }
            "log.console.level" => match value {
                "error" | "warning" | "info" | "debug" | "none" => value.clone_into(&mut self.logging.level),
                _ => return Err(ConfigError(format!("{key}: error, warning, info, debug or none, not '{value}'"))),
            },
            "log.console.formatter" => {
                self.logging.format = match value {
                    "json" => Format::Json,
                    "plaintext" => Format::Plain,
                    _ => return Err(ConfigError(format!("{key}: plaintext or json, not '{value}'"))),
                }
            }
            "load_definitions" | "management.load_definitions" | "definitions.local.path" => {
                config.load_definitions = Some(PathBuf::from(value));
            }
            "definitions.import_backend" if value == "local_filesystem" => {}
            "definitions.import_backend" => {
                return Err(ConfigError(format!("{key}: only local_filesystem is known, not '{value}'")));
            }
            // Taking in what is there already changes nothing.
            "definitions.skip_if_unchanged" => {
                truth(value, key)?;
            }
            "control.socket" if value == "none" => config.control_socket = ControlSocket::Off,
            "control.socket" => config.control_socket = ControlSocket::Path(PathBuf::from(value)),
            "data_dir" => config.data_dir = DataDir::Path(PathBuf::from(value)),
            "cluster_name" => value.clone_into(&mut config.identity.cluster_name),
            _ => {
                if let Some(user) = key.strip_prefix("loopback_users.") {
                    config.loopback_users.retain(|known| known != user);
                    if truth(value, key)? {
                        config.loopback_users.push(user.to_owned());
                    }
                } else if let Some(tag) = key.strip_prefix("default_user_tags.") {
                    config.default_user_tags.retain(|known| known != tag);
                    if truth(value, key)? {
                        config.default_user_tags.push(tag.to_owned());
                    }
                } else if key.starts_with("listeners.tcp.") {
                    self.add_listener(value, key)?;
                } else {
                    return Err(unknown(key));
                }
            }
        }
        Ok(())
    }

    /// Sets a limit of the whole broker; false if the key is none.
    fn set_limit(&mut self, key: &str, value: &str) -> Result<bool, ConfigError> {
        let Config { resource_limits, monitor_interval, node_limits, message_memory_bytes, .. } = &mut self.config;
        match key {
            "vm_memory_high_watermark.relative" => {
                resource_limits.memory = Limit::OfMemory(parse_share(value, Share::ALL)?);
            }
            "vm_memory_high_watermark.absolute" => resource_limits.memory = Limit::Octets(parse_octets(value)?),
            "disk_free_limit.relative" => {
                resource_limits.disk_free = Limit::OfMemory(parse_share(value, DISK_SHARE_MAX)?);
            }
            "disk_free_limit.absolute" => resource_limits.disk_free = Limit::Octets(parse_octets(value)?),
            "total_memory_available_override_value" => resource_limits.total_memory = Some(parse_octets(value)?),
            "memory_monitor_interval" => {
                *monitor_interval = Duration::from_millis(
                    value
                        .parse()
                        .ok()
                        .filter(|millis| *millis > 0)
                        .ok_or_else(|| ConfigError(format!("expected milliseconds, at least 1, got '{value}'")))?,
                );
            }
            "message_memory" => {
                *message_memory_bytes = parse_octets(value)?;
                if *message_memory_bytes < MESSAGE_MEMORY_MIN_BYTES {
                    return Err(ConfigError(format!("{key}: at least 1MiB, got '{value}'")));
                }
            }
            "connection_max" => node_limits.connections = at_most(value)?,
            "channel_max_per_node" => node_limits.channels = at_most(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A port on every address, or an address with a port; `none` for no listener.
    fn add_listener(&mut self, value: &str, key: &str) -> Result<(), ConfigError> {
        if !std::mem::replace(&mut self.listeners_set, true) {
            self.config.listen.clear();
            self.config.listen_is_default = false;
        }
        if value == "none" {
            return Ok(());
        }
        if let Ok(port) = value.parse() {
            self.config.listen.push(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        } else {
            let address = parse_listen(value).map_err(|text| ConfigError(format!("{key}: {text}")))?;
            self.config.listen.push(address);
        }
        Ok(())
    }
}

/// A number, or `infinity` for no limit.
fn at_most(value: &str) -> Result<Option<u32>, ConfigError> {
    if value == "infinity" {
        return Ok(None);
    }
    let number = value.parse().map_err(|_| ConfigError(format!("expected a number or 'infinity', got '{value}'")))?;
    Ok(Some(number))
}

fn loopback(port: u16) -> Vec<SocketAddr> {
    vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))]
}

/// Reads `ADDR:PORT`; `localhost` is this machine.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    numeric.parse().map_err(|_| format!("expected ADDRESS:PORT, got '{text}'"))
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(value)
}

pub(super) fn number<N: FromStr>(value: &str, key: &str) -> Result<N, ConfigError> {
    value.parse().map_err(|_| ConfigError(format!("{key}: expected a number in range, got '{value}'")))
}

fn name(value: &str, key: &str) -> Result<ShortString, ConfigError> {
    ShortString::try_from(value).map_err(|_| ConfigError(format!("{key}: at most 255 octets")))
}

fn truth(value: &str, key: &str) -> Result<bool, ConfigError> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ConfigError(format!("{key}: true or false, not '{value}'"))),
    }
}

fn unknown(key: &str) -> ConfigError {
    let nearest = KEYS.iter().min_by_key(|known| distance(key, known)).unwrap_or(&KEYS[0]);
    ConfigError(format!("unknown key '{key}'; did you mean '{nearest}'?"))
}

/// Edits that turn one word into the other (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        settings.apply_text(text).map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn a_file_is_read() {
        let settings = read(
            "# a comment\nlisteners.tcp.1 = 127.0.0.1:5673\nlisteners.tcp.2 = 5674\ndefault_user = 'me'\n\
             loopback_users = none\nlog.console.formatter = json\n",
        )
        .expect("valid");
        assert_eq!(settings.config.listen.len(), 2);
        assert_eq!(settings.config.listen[0].port(), 5673);
        assert_eq!(settings.config.default_user, "me");
        assert!(settings.config.loopback_users.is_empty());
        assert_eq!(settings.logging.format, Format::Json);
    }

    #[test]
    fn rules_and_patience_can_be_chosen() {
        let config = read("compat = 3.13\nconsumer_timeout = 900\n").expect("valid").config;
        assert_eq!((config.compat, config.consumer_timeout), (Compat::V3, Some(Duration::from_millis(900))));
        assert_eq!(read("consumer_timeout = undefined").expect("valid").config.consumer_timeout, None);
        assert!(read("compat = 2").is_err() && read("consumer_timeout = -1").is_err());
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            read("heartbaet = 3").err().as_deref(),
            Some("line 1: unknown key 'heartbaet'; did you mean 'heartbeat'?")
        );
        assert!(read("\nheartbeat").expect_err("no value").starts_with("line 2: expected 'key = value'"));
        assert!(read("channel_max = 0").is_err() && read("frame_max = 100").is_err());
        assert!(read("heartbeat = 70000").is_err() && read("listeners.tcp.1 = nowhere").is_err());
    }

    #[test]
    fn limits_are_read() {
        let settings = read(
            "vm_memory_high_watermark.relative = 0.4\ndisk_free_limit.absolute = 2GB\nconnection_max = 7\n\
             channel_max_per_node = infinity\nmemory_monitor_interval = 2500\n",
        );
        let config = settings.expect("valid").config;
        assert_eq!(config.resource_limits.memory, Limit::OfMemory(Share::from_thousandths(400)));
        assert_eq!(config.resource_limits.disk_free, Limit::Octets(2_000_000_000));
        assert_eq!(config.monitor_interval, Duration::from_millis(2500));
        let limits = config.node_limits;
        assert_eq!((limits.connections, limits.channels), (Some(7), None));
        assert_eq!(
            read("disk_free_limit.absolute = much").err().as_deref(),
            Some("line 1: disk_free_limit.absolute: expected octets such as 50MB, 1GiB or 1048576, got 'much'")
        );
        assert!(read("vm_memory_high_watermark.relative = 1.5").is_err());
        assert!(read("memory_monitor_interval = 0").is_err() && read("connection_max = -1").is_err());
    }

    #[test]
    fn the_environment_overrides() {
        let mut settings = Settings::default();
        let variables = |name: &str| match name {
            "RABBITMQ_NODE_PORT" => Some("5999".to_owned()),
            "RABBITMQ_DEFAULT_PASS" => Some("secret".to_owned()),
            _ => None,
        };
        settings.apply_environment(variables).expect("valid");
        assert_eq!(settings.config.listen[0].port(), 5999);
        assert_eq!(settings.config.default_pass, "secret");
    }
}
