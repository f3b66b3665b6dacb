//! What the connection's user may do: looked up once, and anew when somebody's rights have changed.

use std::sync::Arc;

use leveret_protocol::ShortString;

use crate::engine::directory::Access;
use crate::server::registry::{Registry, VhostCell};

/// The rights of a connection.
#[derive(Debug)]
pub(super) struct Rights {
    version: u64,
    access: Arc<Access>,
}

impl Rights {
    pub(super) fn new(registry: &Registry, user: &ShortString, vhost: &VhostCell) -> Self {
        let (version, access) = registry.rights(user, vhost);
        Self { version, access }
    }

    /// The rights as they are now.
    pub(super) fn current(&mut self, registry: &Registry, user: &ShortString, vhost: &VhostCell) -> Arc<Access> {
        if vhost.rights_version() != self.version {
            *self = Self::new(registry, user, vhost);
        }
        self.access.clone()
    }
}
