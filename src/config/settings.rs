//! Configuration on its way to a [`Config`]: files and the environment, laid over the defaults.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::key::{Counts, Given};
use super::sources::{Files, Variables, matching};
use super::text::Line;
use super::{AMQP_PORT, Config, ConfigError, ControlSocket, DataDir, full_node_name, keys, known, place, text};

/// How keys of the management listener's TLS began in older releases.
const OLD_MANAGEMENT_TLS: &str = "management.listener.ssl_opts";
/// Files that include files that include files, at most.
const INCLUDES_MAX: usize = 8;

/// Configuration on its way to a [`Config`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The broker's configuration.
    pub config: Config,
    /// What whoever wrote the configuration should know, once.
    pub notes: Vec<String>,
    variables: Variables,
    /// The listeners were set, so the next `listeners.tcp.*` adds to them.
    pub(super) listeners_set: bool,
    /// Likewise the mechanisms.
    pub(super) mechanisms_set: bool,
    /// The listener of the management API speaks TLS.
    pub(super) management_is_tls: bool,
}

impl Settings {
    /// The defaults on this system: data in the user's folder, a node named after the machine.
    pub fn of_system() -> Self {
        let mut settings = Self::default();
        settings.config.data_dir = place::data_dir();
        settings
    }

    /// The environment over files over the defaults of this system. Without a `file` the environment may name one.
    pub fn gather(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut settings = Self::of_system();
        settings.variables = Variables::of_process()?;
        let variables = settings.variables.clone();
        let files = Files::find(file, |name| variables.get(name));
        for file in &files.read {
            settings.read_file(file)?;
        }
        if let Some(path) = files.advanced {
            let note = "is in Erlang's terms and is not read: what it sets has to be said with keys";
            settings.notes.push(format!("{} {note}", path.display()));
        }
        settings.apply_environment(|name| variables.get(name))?;
        settings.finish();
        Ok(settings)
    }

    /// Works out what only all settings together say.
    fn finish(&mut self) {
        let Config { management, management_ssl, .. } = &mut self.config;
        if let Some(address) = management.listen.addresses.first().filter(|_| self.management_is_tls) {
            (management_ssl.ip, management_ssl.port) = (Some(address.ip()), Some(address.port()));
            management.listen.listen_on(Vec::new());
        }
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
        self.read_included(path, 0)
    }

    fn read_included(&mut self, path: &Path, depth: usize) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError(format!("cannot read {}: {cause}", path.display())))?;
        let name = path.display().to_string();
        let folder = path.parent().unwrap_or(Path::new(""));
        self.apply_lines(&text, &name, folder, depth)
            .map_err(|ConfigError(text)| ConfigError(format!("{name}: {text}")))
    }

    /// Lays `key = value` lines over these settings.
    pub fn apply_text(&mut self, text: &str) -> Result<(), ConfigError> {
        self.apply_lines(text, "text", Path::new(""), 0)
    }

    fn apply_lines(&mut self, text: &str, name: &str, folder: &Path, depth: usize) -> Result<(), ConfigError> {
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |text: String| ConfigError(format!("line {number}: {text}"));
            match text::read(line, |name| self.variables.get(name)).map_err(wrong)? {
                Line::Blank => {}
                Line::Include(pattern) => {
                    if depth == INCLUDES_MAX {
                        return Err(wrong(format!("more than {INCLUDES_MAX} files include each other")));
                    }
                    let files = matching(&folder.join(&pattern));
                    if files.is_empty() && !pattern.contains('*') {
                        return Err(wrong(format!("there is no file {pattern}")));
                    }
                    for file in files {
                        self.read_included(&file, depth + 1).map_err(|ConfigError(text)| wrong(text))?;
                    }
                }
                Line::Setting { key, value } => {
                    let source = format!("{name}, line {number}");
                    self.set(&key, &value, source).map_err(|ConfigError(text)| wrong(text))?;
                }
            }
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
                let source = format!("environment, {name}");
                self.set(key, &value, source).map_err(|ConfigError(text)| ConfigError(format!("{name}: {text}")))?;
            }
        }
        if let Some(name) = variable("RABBITMQ_NODENAME").filter(|name| !name.is_empty()) {
            self.config.node_name = full_node_name(&name);
        }
        let port = variable("RABBITMQ_NODE_PORT").filter(|port| !port.is_empty());
        let port: Option<u16> = port
            .map(|text| text.parse().map_err(|_| ConfigError(format!("RABBITMQ_NODE_PORT: no port: '{text}'"))))
            .transpose()?;
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

    /// Notes where a setting comes from.
    pub fn set_by(&mut self, key: &str, source: String) {
        let Some((known, _)) = keys::find(key) else { return };
        let name = if let Counts::As(other) = known.counts { other } else { known.name };
        if name != key && known.name == name {
            self.config.sources.insert(key.to_owned(), source.clone());
        }
        // What was known of single ones is out of date when all of them change.
        if key == name
            && let Some(start) = name.strip_suffix('*')
        {
            self.config.sources.retain(|set, _| !set.starts_with(start));
        }
        self.config.sources.insert(name.to_owned(), source);
    }

    /// Listens on these addresses and no others.
    pub fn listen_on(&mut self, addresses: Vec<SocketAddr>) {
        self.config.listen = addresses;
        self.config.listen_is_default = false;
        self.listeners_set = true;
    }

    /// Keeps the definitions and messages in this directory.
    pub fn keep_in(&mut self, path: PathBuf) {
        self.config.data_dir = DataDir::Path(path);
    }

    fn set(&mut self, name: &str, value: &str, source: String) -> Result<(), ConfigError> {
        let renamed = name.strip_prefix(OLD_MANAGEMENT_TLS).map(|rest| format!("management.ssl{rest}"));
        let name = renamed.as_deref().filter(|renamed| keys::find(renamed).is_some()).unwrap_or(name);
        if let Some((key, word)) = keys::find(name) {
            (key.set)(self, &Given { word, value }).map_err(|text| ConfigError(format!("{name}: {text}")))?;
            self.set_by(name, source);
            return Ok(());
        }
        let Some(reason) = known::reason(name) else {
            let nearest = keys::nearest(name);
            return Err(ConfigError(format!("unknown key '{name}'; did you mean '{nearest}'?")));
        };
        if self.config.without_effect.insert(name.to_owned(), reason).is_none() {
            self.notes.push(format!("{name} ({source}) has no effect: {reason}"));
        }
        Ok(())
    }

    /// Takes a value that was given under another name.
    pub(super) fn assign(&mut self, name: &str, given: &Given<'_>) -> Result<(), String> {
        let (key, _) = keys::find(name).ok_or("no such key")?;
        (key.set)(self, given)
    }
}

fn loopback(port: u16) -> Vec<SocketAddr> {
    vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))]
}

/// Reads `ADDR:PORT`; `localhost` is this machine. An IPv6 address may lack its brackets, as in RabbitMQ's files.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    let bare = || {
        let (ip, port) = numeric.rsplit_once(':')?;
        Some(SocketAddr::from((ip.parse::<Ipv6Addr>().ok()?, port.parse().ok()?)))
    };
    numeric.parse().ok().or_else(bare).ok_or_else(|| format!("expected ADDRESS:PORT, got '{text}'"))
}

/// As [`parse_listen`], or only a port, which stands for every address.
pub(super) fn parse_listener(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_or_else(|_| parse_listen(text), |port: u16| Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Compat, Format, Limit, Share};
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        settings.apply_text(text).map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn a_file_is_read() {
        let settings = read(
            "# a comment\nlisteners.tcp.1 = 127.0.0.1:5673\nlisteners.tcp.2 = 5674\nlisteners.tcp.3 = ::1:5675\n\
             default_user = 'me'\nloopback_users = none\nlog.console.formatter = json\n",
        );
        let config = settings.expect("valid").config;
        let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["127.0.0.1:5673", "[::]:5674", "[::1]:5675"]);
        assert_eq!(config.default_user, "me");
        assert!(config.loopback_users.is_empty());
        assert_eq!(config.logging.format, Format::Json);
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
        assert!(read("frame_max = 100").is_err() && read("auth_backends.1 = ldap").is_err());
        assert!(read("heartbeat = 70000").is_err() && read("listeners.tcp.1 = nowhere").is_err());
    }

    #[test]
    fn keys_of_rabbitmq_without_a_meaning_are_noted_once() {
        let settings = read("mqtt.exchange = a\nmqtt.exchange = b\ncollect_statistics = fine\n").expect("accepted");
        assert_eq!(
            settings.notes,
            [
                "mqtt.exchange (text, line 1) has no effect: MQTT is not spoken",
                "collect_statistics (text, line 3) has no effect: statistics are always kept",
            ]
        );
    }

    #[test]
    fn other_names_set_the_same() {
        let settings = read("max_connections = 7\nmanagement.load_definitions = /d.json\nlog.default.level = debug\n");
        let config = settings.expect("valid").config;
        assert_eq!(config.node_limits.connections, Some(7));
        assert_eq!(config.load_definitions, Some(PathBuf::from("/d.json")));
        assert_eq!(config.logging.level, "debug");
        assert_eq!(config.sources.get("connection_max").map(String::as_str), Some("text, line 1"));
    }

    #[test]
    fn limits_are_read() {
        let settings = read(
            "vm_memory_high_watermark.relative = 0.4\ndisk_free_limit.absolute = 2GB\nconnection_max = 7\n\
             channel_max_per_node = infinity\nmemory_monitor_interval = 2500\nchannel_max = 0\n",
        );
        let config = settings.expect("valid").config;
        assert_eq!(config.resource_limits.memory, Limit::OfMemory(Share::from_thousandths(400)));
        assert_eq!(config.resource_limits.disk_free, Limit::Octets(2_000_000_000));
        assert_eq!(config.monitor_interval, Duration::from_millis(2500));
        assert_eq!(config.channel_max, u16::MAX);
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
    fn tls_is_read() {
        let text = "listeners.ssl.default = 5671\nssl_options.certfile = /c.pem\nssl_options.password = secret\n\
                    ssl_options.verify = verify_peer\nssl_options.versions.1 = tlsv1.3\nssl_options.versions.1 = tlsv1.2\n\
                    ssl_options.sni.web.hosts = a.example\nssl_cert_login_from = common_name\nmanagement.ssl.port = 15671\n";
        let config = read(text).expect("valid").config;
        assert_eq!(config.tls_listen, [SocketAddr::from((Ipv6Addr::UNSPECIFIED, 5671))]);
        assert!(config.tls.verify_peer && !config.management_ssl.tls.verify_peer);
        assert_eq!(config.tls.versions, [("1".to_owned(), "tlsv1.2".to_owned())]);
        assert_eq!(config.tls.named["web"].hosts, "a.example");
        assert_eq!(config.management_ssl.address(), Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 15671))));
        assert!(read("ssl_options.verify = maybe").is_err() && read("ssl_options.crl_check = peer").is_err());
    }

    #[test]
    fn older_names_of_the_management_listener_are_understood() {
        let mut settings = read(
            "management.listener.port = 15671\nmanagement.listener.ssl = true\n\
             management.listener.ssl_opts.certfile = /c.pem\nmanagement.listener.ssl_opts.dhfile = /d\n",
        )
        .expect("valid");
        settings.finish();
        let config = settings.config;
        assert_eq!((config.management_ssl.port, config.management.listen.addresses.len()), (Some(15671), 0));
        assert_eq!(config.management_ssl.tls.certificate.certfile, Some(PathBuf::from("/c.pem")));
        assert!(config.without_effect.contains_key("management.listener.ssl_opts.dhfile"));
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

    #[test]
    fn files_include_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        write("main.conf", "heartbeat = 1\ninclude more-*.conf\ninclude none-*.conf\n");
        write("more-1.conf", "heartbeat = 2\n");
        let read = |name: &str| {
            let mut settings = Settings::default();
            let read = settings.read_file(&dir.path().join(name)).map_err(|error| error.to_string());
            read.map(|()| settings.config)
        };
        let config = read("main.conf").expect("valid");
        assert_eq!(config.heartbeat_seconds, 2);
        assert!(config.sources["heartbeat"].ends_with("more-1.conf, line 1"));
        write("bad.conf", "include gone.conf\n");
        assert!(read("bad.conf").expect_err("no such file").ends_with("line 1: there is no file gone.conf"));
        write("loop.conf", "include loop.conf\n");
        assert!(read("loop.conf").expect_err("endless").contains("more than 8 files"));
    }
}
