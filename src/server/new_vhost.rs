//! A vhost that is made, and what the configuration has it get: limits, operator policies, users with their rights.

use std::sync::Arc;

use tracing::{info, warn};

use super::directory::hash_password;
use super::registry::Registry;
use crate::config::Config;
use crate::engine::directory::{
    Directory, DirectoryChange, DirectoryError, HashingAlgorithm, PermissionRecord, PolicyRecord, Record, User,
    VhostRecord,
};

impl Registry {
    /// Takes a new vhost with what it gets, unless there are enough.
    pub(super) fn put_new_vhost(
        self: &Arc<Self>,
        directory: &mut Directory,
        mut vhost: VhostRecord,
    ) -> Result<Vec<DirectoryChange>, DirectoryError> {
        let config = self.live();
        let name = vhost.name.clone();
        if let Some(max) = config.vhost_max
            && directory.vhosts().count() as u64 >= max
        {
            return Err(DirectoryError::TooManyVhosts { vhost: name, max });
        }
        take_limits(&config, &mut vhost);
        let mut changes = vec![directory.put(Record::Vhost(vhost))?];
        for record in records_of(&config, &name) {
            // The configuration of one vhost more must not be in the way of it.
            match taken(directory, record) {
                Ok(change) => changes.extend(change),
                Err(cause) => warn!(vhost = name, %cause, "the vhost does not get what the configuration says"),
            }
        }
        if changes.len() > 1 {
            info!(vhost = name, records = changes.len() - 1, "the vhost got what the configuration says");
        }
        Ok(changes)
    }
}

/// The first vhost's share of it, for a broker that starts with these records.
pub(super) fn complete_first(config: &Config, records: &mut Vec<Record>) {
    let mut more = Vec::new();
    for record in records.iter_mut() {
        if let Record::Vhost(vhost) = record {
            take_limits(config, vhost);
            more.extend(records_of(config, &vhost.name));
        }
    }
    for record in more {
        let key = record.key();
        if !records.iter().any(|known| known.key() == key) {
            records.push(record);
        }
    }
}

/// Limits of its own count more.
fn take_limits(config: &Config, vhost: &mut VhostRecord) {
    for (limit, value) in config.new_vhosts.limits_of(&vhost.name) {
        vhost.limits.entry(limit).or_insert(value);
    }
}

fn records_of(config: &Config, vhost: &str) -> Vec<Record> {
    let policies = config.new_vhosts.policies_of(vhost).map(|(name, policy)| {
        Record::OperatorPolicy(PolicyRecord {
            vhost: vhost.to_owned(),
            name: name.clone(),
            pattern: policy.queue_pattern.clone().unwrap_or_else(|| ".*".to_owned()),
            apply_to: policy.apply_to.clone().unwrap_or_else(|| "all".to_owned()),
            priority: 0,
            definition: policy.definition.clone(),
        })
    });
    let users = config.new_vhosts.users_of(vhost).flat_map(|(name, user)| {
        let [configure, write, read] = user.rights.clone().map(|pattern| pattern.unwrap_or_else(|| ".*".to_owned()));
        let rights = PermissionRecord { user: name.clone(), vhost: vhost.to_owned(), configure, write, read };
        let user = User {
            name: name.clone(),
            password_hash: hash_password(user.password.as_deref().unwrap_or_default().as_bytes()),
            hashing_algorithm: HashingAlgorithm::default(),
            tags: user.tags.clone(),
            limits: std::collections::BTreeMap::new(),
        };
        [Record::User(user), Record::Permission(rights)]
    });
    policies.chain(users).collect()
}

/// Takes a record; a user who exists stays as it is.
fn taken(directory: &mut Directory, record: Record) -> Result<Option<DirectoryChange>, DirectoryError> {
    if let Record::User(user) = &record
        && directory.user(&user.name).is_some()
    {
        return Ok(None);
    }
    directory.put(record).map(Some)
}
