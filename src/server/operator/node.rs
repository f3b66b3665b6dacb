//! The node: what it is, where it listens, and stopping it.

use std::fmt;
use std::net::SocketAddr;

use leveret_protocol::ShortString;
use serde::{Deserialize, Serialize};

use super::{Operator, OperatorError};
use crate::config::{DataDir, Limit, Setting};
use crate::log_file::LogFile;
use crate::server::alarms::Resource;
use crate::server::clock;

/// What is spoken at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    Amqp,
    #[serde(rename = "amqp/ssl")]
    AmqpOverTls,
    /// The management HTTP API.
    Http,
    Https,
    /// The metrics.
    #[serde(rename = "http/prometheus")]
    Prometheus,
    #[serde(rename = "https/prometheus")]
    PrometheusOverTls,
}

impl Protocol {
    /// The word for it in RabbitMQ's tools.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::AmqpOverTls => "amqp/ssl",
            Self::Http => "http",
            Self::Https => "https",
            Self::Prometheus => "http/prometheus",
            Self::PrometheusOverTls => "https/prometheus",
        }
    }

    /// Whether it is spoken over TLS.
    pub(crate) const fn is_encrypted(self) -> bool {
        match self {
            Self::Amqp | Self::Http | Self::Prometheus => false,
            Self::AmqpOverTls | Self::Https | Self::PrometheusOverTls => true,
        }
    }

    /// What it is for, as RabbitMQ words it.
    pub(crate) const fn purpose(self) -> &'static str {
        match self {
            Self::Amqp => "AMQP 0-9-1",
            Self::AmqpOverTls => "AMQP 0-9-1 over TLS",
            Self::Http => "HTTP API",
            Self::Https => "HTTP API over TLS (HTTPS)",
            Self::Prometheus => "Prometheus exporter API over HTTP",
            Self::PrometheusOverTls => "Prometheus exporter API over TLS (HTTPS)",
        }
    }
}

/// An address that the broker listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServedAddress {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
}

/// A listener as listings show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenerInfo {
    pub(crate) interface: String,
    pub(crate) node: String,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) purpose: String,
}

/// How what is logged is changed while the broker runs, by directives of `tracing`; whoever set up the log provides it.
#[derive(Clone)]
pub(crate) struct LogControl(pub(super) std::sync::Arc<SetLog>);

pub(super) type SetLog = dyn Fn(&str) -> Result<(), String> + Send + Sync;

impl LogControl {
    pub(crate) fn new(set: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(std::sync::Arc::new(set))
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogControl")
    }
}

/// What a node is and uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeInfo {
    pub(crate) name: String,
    pub(crate) cluster_name: String,
    /// The broker's own version.
    pub(crate) version: String,
    /// The RabbitMQ version whose behaviour is followed.
    pub(crate) rabbitmq_version: String,
    pub(crate) product: String,
    pub(crate) os: String,
    pub(crate) os_pid: u32,
    pub(crate) processors: u64,
    pub(crate) uptime_seconds: u64,
    /// It takes no connections and delivers nothing.
    pub(crate) draining: bool,
    /// Where the log goes.
    pub(crate) log_files: Vec<String>,
    /// `None`: everything is in memory.
    pub(crate) data_dir: Option<String>,
    pub(crate) listeners: Vec<ListenerInfo>,
    /// Resource alarms in effect.
    pub(crate) alarms: Vec<String>,
    pub(crate) memory_bytes: u64,
    /// Octets of memory beyond which publishers are blocked.
    pub(crate) memory_limit_bytes: u64,
    /// Octets that are free on the disk of the data directory; `None` without one.
    pub(crate) disk_free_bytes: Option<u64>,
    /// Octets of free space below which publishers are blocked.
    pub(crate) disk_free_limit_bytes: u64,
    pub(crate) open_files: u64,
    pub(crate) open_files_limit: u64,
    pub(crate) connections: u64,
    pub(crate) queues: u64,
    pub(crate) vhosts: u64,
    /// Octets of memory that messages take, in all queues.
    pub(crate) message_bytes: u64,
    /// Batches of messages that were found to be damaged and were set aside, since the store was made.
    pub(crate) damaged_batches: u64,
    /// Messages in them, as far as they could be counted.
    pub(crate) damaged_messages: u64,
}

impl Operator {
    /// The resource alarms in effect, in RabbitMQ's words.
    fn alarms(&self) -> Vec<String> {
        let node = &self.registry.config.node_name;
        let alarms = self.registry.resource_status().alarms.into_iter();
        alarms
            .map(|resource| match resource {
                Resource::Memory => format!("Memory alarm on node {node}"),
                Resource::Disk => format!("Free disk space alarm on node {node}"),
            })
            .collect()
    }

    /// Sets the memory that the process may use, until a restart.
    pub(crate) fn set_memory_limit(&self, limit: Limit) {
        self.registry.set_memory_limit(limit);
    }

    /// Sets the space that must be free on the disk, until a restart.
    pub(crate) fn set_disk_free_limit(&self, limit: Limit) {
        self.registry.set_disk_free_limit(limit);
    }

    /// Switches copies of a vhost's messages to its trace exchange on or off, until a restart.
    pub(crate) fn set_tracing(&self, vhost: &str, on: bool) -> Result<(), OperatorError> {
        let known = ShortString::try_from(vhost).is_ok_and(|vhost| self.registry.set_tracing(&vhost, on));
        if known { Ok(()) } else { Err(OperatorError::NoSuchVhost(vhost.to_owned())) }
    }

    /// Whether a vhost's messages are copied to its trace exchange.
    pub(crate) fn is_tracing(&self, vhost: &str) -> bool {
        ShortString::try_from(vhost).is_ok_and(|vhost| self.registry.is_tracing(&vhost))
    }

    /// What the cluster is called: the global parameter, or what the configuration says.
    pub(crate) fn cluster_name(&self) -> String {
        self.registry.cluster_name()
    }

    /// What the node is and uses now.
    pub(crate) fn node(&self) -> NodeInfo {
        let config = &self.registry.config;
        let resources = self.registry.resource_status();
        let damage = self.registry.store.damage();
        NodeInfo {
            name: config.node_name.clone(),
            cluster_name: self.cluster_name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rabbitmq_version: config.identity.version.clone(),
            product: config.identity.product.clone(),
            os: capitalized(std::env::consts::OS),
            os_pid: std::process::id(),
            processors: std::thread::available_parallelism().map_or(1, |number| number.get() as u64),
            draining: self.is_draining(),
            uptime_seconds: clock::instant().saturating_duration_since(self.node.started).as_secs(),
            data_dir: match &config.data_dir {
                DataDir::Ephemeral => None,
                DataDir::Path(path) => Some(path.display().to_string()),
            },
            log_files: config.logging.locations(),
            listeners: self.listeners(),
            alarms: self.alarms(),
            memory_bytes: resident_bytes().unwrap_or(resources.levels.memory_used),
            memory_limit_bytes: resources.memory_limit,
            disk_free_bytes: resources.levels.disk_free,
            disk_free_limit_bytes: resources.disk_free_limit,
            open_files: open_files().unwrap_or(0),
            open_files_limit: rlimit::Resource::NOFILE.get().map_or(0, |(soft, _)| soft),
            connections: self.registry.connection_count() as u64,
            queues: self.registry.queue_count() as u64,
            vhosts: self.registry.vhost_cells().len() as u64,
            message_bytes: self.registry.budget.used() as u64,
            damaged_batches: damage.batches,
            damaged_messages: damage.messages,
        }
    }

    /// The first address at which this is spoken.
    pub(crate) fn address_of(&self, protocol: Protocol) -> Option<SocketAddr> {
        let served = self.node.served.iter().find(|served| served.protocol == protocol);
        served.map(|served| served.address)
    }

    /// What it listens on.
    pub(crate) fn listeners(&self) -> Vec<ListenerInfo> {
        self.node
            .served
            .iter()
            .map(|served| ListenerInfo {
                interface: match served.address {
                    SocketAddr::V4(address) => address.ip().to_string(),
                    SocketAddr::V6(address) => format!("[{}]", address.ip()),
                },
                node: self.registry.config.node_name.clone(),
                port: served.address.port(),
                protocol: served.protocol,
                purpose: served.protocol.purpose().to_owned(),
            })
            .collect()
    }

    /// The settings in effect, by their names in the configuration file; passwords are left out.
    pub(crate) fn environment(&self) -> Vec<Setting> {
        self.registry.live().describe()
    }

    /// Asks whoever runs the broker to stop it in good order.
    pub(crate) fn request_stop(&self) {
        tracing::info!("an operator stops the broker");
        self.node.stop_requested.cancel();
    }

    /// Completes when an operator wants the broker to stop.
    pub(crate) async fn stop_requested(&self) {
        self.node.stop_requested.cancelled().await;
    }

    /// Says how the log's level is changed; only the first word counts.
    pub(crate) fn control_log(&self, control: LogControl) {
        let _kept = self.node.log_control.set(control);
    }

    /// The file that is logged to; only the first word counts.
    pub(crate) fn control_log_file(&self, file: std::sync::Arc<LogFile>) {
        let _kept = self.node.log_file.set(file);
    }

    /// Begins a new log file; false when there is none.
    pub(crate) fn rotate_log(&self) -> Result<bool, OperatorError> {
        let Some(file) = self.node.log_file.get() else { return Ok(false) };
        file.rotate()
            .map_err(|cause| OperatorError::Unsupported(format!("the log file cannot be rotated: {cause}")))?;
        tracing::info!("log file rotated by an operator");
        Ok(true)
    }

    /// Changes the log's level.
    pub(crate) fn set_log_level(&self, level: &str) -> Result<(), OperatorError> {
        let control = self.node.log_control.get();
        let control = control.ok_or_else(|| OperatorError::Unsupported("the log is not this broker's".to_owned()))?;
        let directives = self.registry.live().logging.directives(Some(level)).map_err(OperatorError::Unsupported)?;
        (control.0)(&directives).map_err(OperatorError::Unsupported)?;
        self.registry.change_live(|live| {
            level.clone_into(&mut live.logging.level);
            live.set_by_operator("log.console.level");
        });
        tracing::info!(level, "log level set by an operator");
        Ok(())
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Octets of memory that the process has in use; only where `/proc` tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn open_files() -> Option<u64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}
