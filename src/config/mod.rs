//! Configuration: flags over environment over file over defaults, into one validated [`Config`].

mod credentials;
mod describe;
mod error;
mod http_listener;
mod key;
mod keys;
mod known;
mod limits;
mod logging;
mod management;
mod new_vhost;
mod place;
mod prometheus;
mod reference;
mod settings;
mod sources;
mod text;
mod tls;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use leveret_protocol::ShortString;

use crate::engine::handshake::Mechanism;
use crate::engine::queue::QueueType;

pub use credentials::{CredentialRule, CredentialValidator};
pub(crate) use describe::{MASK, Setting};
pub use error::ConfigError;
pub use http_listener::HttpListener;
pub(crate) use limits::DISK_SHARE_MAX;
pub use limits::{Limit, ResourceLimits, Share, parse_octets, parse_share};
pub use logging::{Format, Logging, Rotation, Target};
pub use management::{MANAGEMENT_PORT, ManagementConfig};
pub use new_vhost::{NewVhostSettings, VhostLimits, VhostPolicy, VhostUser};
pub(crate) use place::ephemeral_socket;
pub use prometheus::{PROMETHEUS_PORT, PrometheusConfig};
pub use reference::reference;
use settings::parse_listener;
pub use settings::{Settings, parse_listen};
pub use tls::{CertificateFiles, CertificateLogin, HttpsSettings, LoginFrom, NamedCertificate, SanType, TlsSettings};

/// The port of AMQP 0-9-1.
pub const AMQP_PORT: u16 = 5672;

/// Where definitions and messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// In memory: nothing survives.
    Ephemeral,
    /// In this directory, created if it is missing.
    Path(PathBuf),
}

/// Where operators' tools reach the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ControlSocket {
    /// `control.sock` in the data directory; nowhere if everything is in memory.
    #[default]
    Default,
    /// Nowhere.
    Off,
    /// A Unix-domain socket with this path; without it the broker does not start.
    Path(PathBuf),
    /// A Unix-domain socket with this path, unless another broker has it or it cannot be opened.
    IfFree(PathBuf),
}

/// What the broker says it is. Clients switch features on by product and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `product` of the server properties.
    pub product: String,
    /// `version` of the server properties: the RabbitMQ version whose behaviour is followed.
    pub version: String,
    /// `cluster_name` of the server properties.
    pub cluster_name: String,
}

/// A line of RabbitMQ releases whose rules a broker follows where they differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// As the last releases before 4.0.
    V3,
    /// As 4.x.
    #[default]
    V4,
}

/// How many of a kind the whole broker takes; `None` for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLimits {
    /// Open connections.
    pub connections: Option<u32>,
    /// Open channels of all connections.
    pub channels: Option<u32>,
}

/// How the system treats the sockets of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Connections that wait to be accepted.
    pub backlog: u32,
    /// Small packets are sent at once.
    pub nodelay: bool,
    /// Silent peers are looked for.
    pub keepalive: bool,
    /// Octets of the send buffer; `None` leaves them to the system.
    pub send_buffer: Option<u32>,
    /// Octets of the receive buffer; `None` leaves them to the system.
    pub receive_buffer: Option<u32>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { backlog: 1024, nodelay: true, keepalive: false, send_buffer: None, receive_buffer: None }
    }
}

/// A broker's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses to listen on; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The addresses are the default ones: one that the machine lacks is left out.
    pub listen_is_default: bool,
    /// Addresses to listen on for AMQP over TLS.
    pub tls_listen: Vec<SocketAddr>,
    /// How AMQP listeners speak TLS.
    pub tls: TlsSettings,
    /// The management API over TLS.
    pub management_ssl: HttpsSettings,
    /// Metrics over TLS.
    pub prometheus_ssl: HttpsSettings,
    /// How the system treats the sockets of connections.
    pub sockets: SocketOptions,
    /// Connections begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Only those from here do; without any, all.
    pub proxy_trusted: Vec<IpNet>,
    /// Where definitions and messages are kept.
    pub data_dir: DataDir,
    /// A file or directory of definitions to take in at the start.
    pub load_definitions: Option<PathBuf>,
    /// Where operators' tools reach it.
    pub control_socket: ControlSocket,
    /// The user that a new broker starts with.
    pub default_user: String,
    /// Its password.
    pub default_pass: String,
    /// Its tags.
    pub default_user_tags: Vec<String>,
    /// Its patterns in the default vhost: configure, write, read.
    pub default_permissions: [String; 3],
    /// What new vhosts get.
    pub new_vhosts: NewVhostSettings,
    /// Vhosts at most.
    pub vhost_max: Option<u64>,
    /// What new passwords have to be.
    pub credentials: CredentialValidator,
    /// Users that may log in only from this machine.
    pub loopback_users: Vec<String>,
    /// The type of queues declared without one, in vhosts that have no default of their own.
    pub default_queue_type: QueueType,
    /// Queues at most, of all vhosts together.
    pub queue_limit: Option<u64>,
    /// Exchanges at most, of all vhosts together.
    pub exchange_limit: Option<u64>,
    /// SASL mechanisms that are offered.
    pub auth_mechanisms: Vec<Mechanism>,
    /// How clients that log in with their certificate are named.
    pub certificate_login: CertificateLogin,
    /// Name and password that clients with the mechanism ANONYMOUS log in with; `None` refuses them.
    pub anonymous_login: Option<(String, String)>,
    /// The vhost that a new broker starts with.
    pub default_vhost: ShortString,
    /// Proposed heartbeat interval in seconds; 0 for none. RabbitMQ proposes 60.
    pub heartbeat_seconds: u16,
    /// Proposed largest frame in octets, as RabbitMQ's.
    pub frame_max: u32,
    /// Largest frame before that is agreed, as RabbitMQ's.
    pub initial_frame_max: u32,
    /// Proposed number of channels, as RabbitMQ's.
    pub channel_max: u16,
    /// Largest body in octets. RabbitMQ 3.x takes 128 MiB, 4.x 16: the larger, so that no client breaks.
    pub max_message_size: u64,
    /// Consumers of a channel at most; `None` for no limit, as in RabbitMQ.
    pub consumer_max_per_channel: Option<usize>,
    /// Within which time a delivery has to be acked; `None` for no limit. RabbitMQ's.
    pub consumer_timeout: Option<Duration>,
    /// The RabbitMQ release whose rules count where releases differ.
    pub compat: Compat,
    /// From the accept to connection.open-ok.
    pub handshake_timeout: Duration,
    /// For the TLS handshake, within that.
    pub tls_handshake_timeout: Duration,
    /// Connections that have not logged in, at most; `None` for no limit.
    pub handshake_connections_max: Option<usize>,
    /// What the broker says it is.
    pub identity: Identity,
    /// The broker's name among others, `rabbit@host`.
    pub node_name: String,
    /// When publishers are stopped because memory or disk run low.
    pub resource_limits: ResourceLimits,
    /// Longest time between two looks at memory and disk. They are looked at more often when they are near their limits.
    pub monitor_interval: Duration,
    /// Over which time rates are worked out, as RabbitMQ's.
    pub statistics_interval: Duration,
    /// Octets that the messages of all queues may hold in memory together, as far as the disk can take them.
    pub message_memory_bytes: u64,
    /// How many connections and channels there may be.
    pub node_limits: NodeLimits,
    /// The management HTTP API.
    pub management: ManagementConfig,
    /// The metrics for Prometheus.
    pub prometheus: PrometheusConfig,
    /// What the `leveret` command logs.
    pub logging: Logging,
    /// Keys that were set and mean nothing here, each with the reason.
    pub without_effect: BTreeMap<String, &'static str>,
    /// Where settings that are not the defaults come from, by key; for people who look.
    pub sources: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![
                SocketAddr::from((Ipv4Addr::LOCALHOST, AMQP_PORT)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, AMQP_PORT)),
            ],
            listen_is_default: true,
            tls_listen: Vec::new(),
            tls: TlsSettings::default(),
            management_ssl: HttpsSettings::default(),
            prometheus_ssl: HttpsSettings::default(),
            sockets: SocketOptions::default(),
            proxy_protocol: false,
            proxy_trusted: Vec::new(),
            data_dir: DataDir::Ephemeral,
            load_definitions: None,
            control_socket: ControlSocket::Default,
            default_user: "guest".to_owned(),
            default_pass: "guest".to_owned(),
            default_user_tags: vec!["administrator".to_owned()],
            default_permissions: [".*", ".*", ".*"].map(str::to_owned),
            new_vhosts: NewVhostSettings::default(),
            vhost_max: None,
            credentials: CredentialValidator::default(),
            loopback_users: vec!["guest".to_owned()],
            default_queue_type: QueueType::Classic,
            queue_limit: None,
            exchange_limit: None,
            auth_mechanisms: vec![Mechanism::Plain, Mechanism::AmqPlain, Mechanism::Anonymous],
            certificate_login: CertificateLogin::default(),
            anonymous_login: Some(("guest".to_owned(), "guest".to_owned())),
            default_vhost: ShortString::from_static("/"),
            heartbeat_seconds: 60,
            frame_max: 131_072,
            initial_frame_max: 8192,
            channel_max: 2047,
            max_message_size: 128 * 1024 * 1024,
            consumer_max_per_channel: None,
            consumer_timeout: Some(Duration::from_secs(30 * 60)),
            compat: Compat::V4,
            handshake_timeout: Duration::from_secs(10),
            tls_handshake_timeout: Duration::from_secs(5),
            handshake_connections_max: Some(1024),
            identity: Identity {
                product: "RabbitMQ".to_owned(),
                version: "4.2.0".to_owned(),
                cluster_name: "leveret".to_owned(),
            },
            node_name: full_node_name("rabbit"),
            resource_limits: ResourceLimits::default(),
            monitor_interval: Duration::from_secs(1),
            statistics_interval: Duration::from_secs(5),
            message_memory_bytes: 16 * 1024 * 1024,
            node_limits: NodeLimits::default(),
            management: ManagementConfig::default(),
            prometheus: PrometheusConfig::default(),
            logging: Logging::default(),
            without_effect: BTreeMap::new(),
            sources: BTreeMap::new(),
        }
    }
}

impl Config {
    /// A broker in memory on a free port of the loopback interface, without management API.
    pub fn for_tests() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            listen_is_default: false,
            management: ManagementConfig::off(),
            prometheus: PrometheusConfig::off(),
            ..Self::default()
        }
    }

    /// Whether a user may log in from this address.
    pub(crate) fn may_log_in_from(&self, user: &str, from: IpAddr) -> bool {
        let local = from.is_loopback() || from.to_canonical().is_loopback();
        local || !self.loopback_users.iter().any(|name| name == user)
    }
}

/// A node's name with its host: `name` itself if it names one, else this machine's, up to its first dot.
pub(crate) fn full_node_name(name: &str) -> String {
    if name.contains('@') {
        return name.to_owned();
    }
    let host = sysinfo::System::host_name().unwrap_or_default();
    let host = host.split('.').next().filter(|host| !host.is_empty()).unwrap_or("localhost");
    format!("{name}@{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_logs_in_from_this_machine_only() {
        let config = Config::default();
        let check = |user: &str, from: &str| config.may_log_in_from(user, from.parse().expect("address"));
        assert!(check("guest", "127.0.0.1") && check("guest", "::1") && check("guest", "::ffff:127.0.0.1"));
        assert!(!check("guest", "192.0.2.1") && check("somebody", "192.0.2.1"));
    }
}
