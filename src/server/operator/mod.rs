//! What an operator sees and does: the only way into a running broker beside AMQP.
//!
//! The control socket is one door to it; whatever else serves operators takes the same functions. What they return are
//! plain records that serde writes; what they change is durable when they return.
//! Not here: who may ask (the door decides), how answers look.

mod arguments;
mod connections;
mod definitions;
mod directory;
mod drain;
mod exchanges;
mod logins;
mod message_stats;
mod messages;
mod node;
mod queues;
mod redrive;
mod reload;
mod samples;
mod stall;
mod statistics;
mod store;
mod topology;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use leveret_protocol::ShortString;
use tokio_util::sync::CancellationToken;

use redrive::Redrives;

use super::clock;
pub(crate) use super::queue_order::QueueHead;
use super::registry::{Registry, VhostCell};
use crate::engine::vhost::ConnectionId;
use crate::log_file::LogFile;

pub(crate) use arguments::Arguments;
pub(crate) use connections::{ChannelInfo, ConnectionDetails, ConnectionInfo, ConnectionSelection, ConsumerInfo};
pub(crate) use definitions::Imported;
pub(crate) use drain::Drained;
pub(crate) use exchanges::{BindingInfo, BindingsOf, ExchangeInfo};
pub(crate) use logins::LoginRefused;
pub(crate) use messages::{BodyWish, Choice, Destination, MessageState, PeekQuestion};
pub(crate) use node::{ListenerInfo, LogControl, NodeInfo, Protocol, ServedAddress};
pub(crate) use queues::{DeleteCondition, QueueInfo};
pub(crate) use redrive::{RedriveInfo, RedriveOrder};
pub(crate) use reload::{Reloaded, SettingsControl};
pub(crate) use samples::{NodeSample, QueueView};
pub(crate) use statistics::ObjectTotals;
pub(crate) use topology::{Acting, BindingEnds, BindingKey};

/// Why something asked for was not done. The texts of [`fmt::Display`] are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OperatorError {
    NoSuchVhost(String),
    NoSuchQueue {
        queue: String,
        vhost: String,
    },
    QueueInUse,
    QueueNotEmpty,
    NoSuchConnection,
    NoSuchUser(String),
    /// A record that has no name of its own in texts.
    NotFound(String),
    /// What was to be made is there.
    Exists(String),
    /// A value breaks a rule.
    Invalid(String),
    /// The broker cannot do it, whoever asks.
    Unsupported(String),
}

impl fmt::Display for OperatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchVhost(vhost) => write!(f, "Virtual host '{vhost}' does not exist"),
            Self::NoSuchQueue { queue, vhost } => write!(f, "no queue '{queue}' in vhost '{vhost}'"),
            Self::QueueInUse => f.write_str("Queue is in use"),
            Self::QueueNotEmpty => f.write_str("Queue is not empty"),
            Self::NoSuchConnection => f.write_str("no such connection"),
            Self::NoSuchUser(user) => write!(f, "User \"{user}\" does not exist"),
            Self::NotFound(text) | Self::Exists(text) | Self::Invalid(text) | Self::Unsupported(text) => {
                f.write_str(text)
            }
        }
    }
}

/// The operator's view of a running broker.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    registry: Arc<Registry>,
    node: Arc<Node>,
}

/// What a broker knows of itself as a process.
#[derive(Debug)]
struct Node {
    served: Vec<ServedAddress>,
    started: Instant,
    /// Seconds since 1970 at the start: tells this life's process names from a former one's.
    born_at: u64,
    stop_requested: CancellationToken,
    log_control: OnceLock<LogControl>,
    log_file: OnceLock<Arc<LogFile>>,
    redrives: Redrives,
    reloading: reload::Reloading,
}

impl Operator {
    /// The view of a broker that serves these addresses.
    pub(super) fn new(registry: Arc<Registry>, served: Vec<ServedAddress>) -> Self {
        let node = Node {
            served,
            started: clock::instant(),
            born_at: clock::now().as_millis() / 1000,
            stop_requested: CancellationToken::new(),
            log_control: OnceLock::new(),
            log_file: OnceLock::new(),
            redrives: Redrives::default(),
            reloading: reload::Reloading::new(registry.config.clone()),
        };
        Self { registry, node: Arc::new(node) }
    }

    fn vhost(&self, name: &str) -> Result<Arc<VhostCell>, OperatorError> {
        let found = ShortString::try_from(name).ok().and_then(|name| self.registry.vhost(&name));
        found.ok_or_else(|| OperatorError::NoSuchVhost(name.to_owned()))
    }

    /// Something in the shape of RabbitMQ's process names, by which tools tell connections and channels apart.
    fn pid(&self, number: u64, part: u64) -> String {
        format!("<{}.{}.{number}.{part}>", self.registry.config.node_name, self.node.born_at)
    }

    fn connection_pid(&self, id: ConnectionId) -> String {
        self.pid(id.get(), 0)
    }
}
