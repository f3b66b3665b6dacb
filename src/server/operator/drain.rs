//! Taking a node out of service: no new connections, no new deliveries, acks are waited for; and back again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Operator;
use crate::error::AmqpError;
use crate::server::clock;

/// How often it is looked whether acks still wait.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How a node was drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drained {
    /// Deliveries whose acks did not come in time; they will be delivered again.
    pub(crate) unacked: u64,
    /// Connections that were closed.
    pub(crate) connections: u64,
}

impl Operator {
    /// Takes the node out of service: from now on no connection is taken and no consumer gets anything. Waits for acks as
    /// long as `patience`, then closes all connections.
    pub(crate) async fn drain(&self, patience: Duration) -> Drained {
        let registry = &self.registry;
        registry.set_draining(true, clock::now());
        tracing::info!("the node is drained: no new connections, no deliveries");
        let deadline = clock::instant() + patience;
        let unacked = || registry.node_totals().gauges.unacked;
        while unacked() > 0 && clock::instant() < deadline && registry.is_draining() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let drained = Drained { unacked: unacked(), connections: registry.connection_count() as u64 };
        if registry.is_draining() {
            let reason = "Node was put into maintenance mode".to_owned();
            registry.close_connections(&AmqpError::ConnectionForced(reason));
            tracing::info!(unacked = drained.unacked, connections = drained.connections, "drained");
        }
        drained
    }

    /// Puts the node back into service.
    pub(crate) fn revive(&self) {
        self.registry.set_draining(false, clock::now());
        tracing::info!("the node is in service again");
    }

    /// Whether the node is out of service.
    pub(crate) fn is_draining(&self) -> bool {
        self.registry.is_draining()
    }

    /// How many connections are open, and how many there may be.
    pub(crate) fn connections_and_limit(&self) -> (u64, Option<u64>) {
        let limit = self.registry.config.node_limits.connections.map(u64::from);
        (self.registry.connection_count() as u64, limit)
    }

    /// Completes when the store has written everything that was promised until now.
    pub(crate) async fn is_alive(&self) {
        self.registry.flushed().await;
    }

    /// The resource alarms in effect.
    pub(crate) fn alarms_in_effect(&self) -> Vec<crate::server::alarms::Resource> {
        self.registry.resource_status().alarms
    }
}
