//! The directory of a running broker: changes reach the store, open connections and queues at once.
//!
//! Lock order: the directory, then a vhost's state, then a queue cell.

use std::collections::HashMap;
use std::sync::Arc;

use leveret_protocol::ShortString;
use tracing::info;

use super::clock;
use super::connection::Ends;
use super::logins::LoginProtocol;
use super::outbox::Event;
use super::quota::{Permit, Quota};
use super::registry::{Registry, VhostCell};
use super::work::Work;
use crate::config::Config;
use crate::engine::directory::{
    Access, Directory, DirectoryChange, DirectoryError, HashingAlgorithm, PermissionRecord, Record, RecordKey,
    RecordKind, User, VhostRecord,
};
use crate::engine::vhost::Vhost;
use crate::error::AmqpError;
use crate::store::{Op, Ticket, Transaction};

/// What a user's connections may have together.
#[derive(Debug)]
pub(super) struct UserQuotas {
    connections: Arc<Quota>,
    channels: Arc<Quota>,
}

impl Default for UserQuotas {
    fn default() -> Self {
        Self { connections: Quota::new(None), channels: Quota::new(None) }
    }
}

/// A connection's share of what the broker, its vhost and its user may have; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    vhost: Arc<VhostCell>,
    user_channels: Arc<Quota>,
    node_channels: Arc<Quota>,
    /// It counts as one of the broker's connections as long as its socket is there.
    _socket: Permit,
    /// The vhost's and the user's, until it is closed.
    places: Option<[Permit; 2]>,
    channels: Vec<[Permit; 2]>,
}

/// The limit on channels that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelLimitReached {
    /// The broker's.
    Node(u64),
    /// The user's.
    User(u64),
}

impl Admission {
    /// The vhost entered.
    pub(super) fn vhost(&self) -> &Arc<VhostCell> {
        &self.vhost
    }

    /// Takes a channel.
    pub(super) fn take_channel(&mut self) -> Result<(), ChannelLimitReached> {
        let node = self.node_channels.take().map_err(ChannelLimitReached::Node)?;
        let user = self.user_channels.take().map_err(ChannelLimitReached::User)?;
        self.channels.push([node, user]);
        Ok(())
    }

    /// The connection is closed: others may have its places before its client has read that.
    pub(super) fn leave(&mut self) {
        self.places = None;
        self.channels.clear();
    }

    /// Gives channels back until `open` are left.
    pub(super) fn keep_channels(&mut self, open: usize) {
        self.channels.truncate(open);
    }
}

/// What a broker starts with that finds no user and no vhost.
pub(super) fn first_records(config: &Config) -> Vec<Record> {
    if config.load_definitions.is_some() {
        // They say who may do what; a user with a known password would not be in their spirit. RabbitMQ does the same.
        return Vec::new();
    }
    let vhost = config.default_vhost.to_string();
    let [configure, write, read] = config.default_permissions.clone();
    vec![
        Record::Vhost(VhostRecord {
            name: vhost.clone(),
            description: "Default virtual host".to_owned(),
            ..VhostRecord::default()
        }),
        Record::User(User {
            name: config.default_user.clone(),
            password_hash: hash_password(config.default_pass.as_bytes()),
            hashing_algorithm: HashingAlgorithm::default(),
            tags: config.default_user_tags.clone(),
            limits: std::collections::BTreeMap::new(),
        }),
        Record::Permission(PermissionRecord { user: config.default_user.clone(), vhost, configure, write, read }),
    ]
}

/// The hash of a new password, with a salt of its own. A blank password gives no hash: nobody can log in with it.
pub(crate) fn hash_password(password: &[u8]) -> String {
    if password.is_empty() {
        return String::new();
    }
    let mut salt = [0; 4];
    if getrandom::fill(&mut salt).is_err() {
        // Without the system's randomness the clock must do: a salt only has to differ.
        salt.copy_from_slice(&clock::seed().to_be_bytes()[..4]);
    }
    HashingAlgorithm::default().hash(salt, password)
}

impl Registry {
    /// A look at the directory.
    pub(crate) fn with_directory<R>(&self, look: impl FnOnce(&Directory) -> R) -> R {
        look(&self.directory.read())
    }

    /// What the cluster is called: the global parameter `cluster_name`, or what the configuration says.
    pub(crate) fn cluster_name(&self) -> String {
        self.with_directory(|directory| {
            let name = directory.global_parameter("cluster_name").and_then(|record| record.value.as_str());
            name.unwrap_or(&self.config.identity.cluster_name).to_owned()
        })
    }

    /// Takes a record, new or changed. It counts at once; the ticket says when it is on disk.
    pub(crate) fn put_record(self: &Arc<Self>, record: Record) -> Result<Ticket, DirectoryError> {
        self.change_directory(|directory| {
            if let Record::Vhost(vhost) = &record
                && directory.vhost(&vhost.name).is_none()
            {
                return self.put_new_vhost(directory, vhost.clone());
            }
            directory.put(record).map(|change| vec![change])
        })
    }

    /// Changes a user in place.
    pub(crate) fn change_user(
        self: &Arc<Self>,
        name: &str,
        change: impl FnOnce(&mut User),
    ) -> Result<Ticket, DirectoryError> {
        self.change_directory(|directory| {
            let mut user =
                directory.user(name).cloned().ok_or_else(|| DirectoryError::UserNotFound(name.to_owned()))?;
            change(&mut user);
            directory.put(Record::User(user)).map(|change| vec![change])
        })
    }

    /// Changes a vhost's own record in place.
    pub(crate) fn change_vhost(
        self: &Arc<Self>,
        name: &str,
        change: impl FnOnce(&mut VhostRecord),
    ) -> Result<Ticket, DirectoryError> {
        self.change_directory(|directory| {
            let missing = || DirectoryError::VhostNotFound(name.to_owned());
            let mut vhost = directory.vhost(name).cloned().ok_or_else(missing)?;
            change(&mut vhost);
            directory.put(Record::Vhost(vhost)).map(|change| vec![change])
        })
    }

    /// Removes a record with what refers to it. Connections of a user or in a vhost that goes are closed; a vhost goes with
    /// everything in it.
    pub(crate) fn remove_record(self: &Arc<Self>, key: &RecordKey) -> Result<Ticket, DirectoryError> {
        self.change_directory(|directory| directory.remove(key))
    }

    fn change_directory(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Directory) -> Result<Vec<DirectoryChange>, DirectoryError>,
    ) -> Result<Ticket, DirectoryError> {
        let mut directory = self.directory.write();
        let changes = change(&mut directory)?;
        let mut ops: Vec<Op> = Vec::new();
        for change in &changes {
            match change {
                DirectoryChange::Put(record) => self.apply_record(&directory, record),
                DirectoryChange::Removed(key) => self.unapply_record(&directory, key, &mut ops),
            }
        }
        ops.extend(changes.into_iter().map(Op::Directory));
        Ok(self.store.submit(Transaction { ops, waiter: None }))
    }

    /// Lets a record take effect.
    pub(super) fn apply_record(self: &Arc<Self>, directory: &Directory, record: &Record) {
        match record {
            Record::Vhost(record) => {
                let Ok(name) = ShortString::try_from(record.name.as_str()) else { return };
                let vhost = self.add_vhost(&name);
                vhost.connections.limit(record.limit("max-connections"));
                vhost.state.write().configure(record, self.config.default_queue_type);
            }
            Record::User(user) => {
                let quotas = self.users.entry(user.name.clone()).or_default().clone();
                quotas.connections.limit(user.limit("max-connections"));
                quotas.channels.limit(user.limit("max-channels"));
                // Its tags may have changed.
                self.forget_rights(None);
            }
            Record::Permission(record) => self.forget_rights(Some(&record.vhost)),
            Record::TopicPermission(record) => self.forget_rights(Some(&record.vhost)),
            Record::Policy(policy) | Record::OperatorPolicy(policy) => self.apply_policies(directory, &policy.vhost),
            Record::Parameter(_) | Record::GlobalParameter(_) => {}
        }
    }

    fn unapply_record(self: &Arc<Self>, directory: &Directory, key: &RecordKey, ops: &mut Vec<Op>) {
        let name = key.names[0].as_str();
        match key.kind {
            RecordKind::Vhost => self.end_vhost(name, ops),
            RecordKind::User => {
                self.users.remove(name);
                self.forget_rights(None);
                self.close_connections_of(&format!("user '{name}' is deleted"), |entry| {
                    entry.user.as_bytes() == name.as_bytes()
                });
            }
            RecordKind::Permission | RecordKind::TopicPermission => self.forget_rights(Some(name)),
            RecordKind::Policy | RecordKind::OperatorPolicy => self.apply_policies(directory, name),
            RecordKind::Parameter | RecordKind::GlobalParameter => {}
        }
    }

    /// Has open connections look their rights up anew, in one vhost or all.
    fn forget_rights(&self, vhost: Option<&str>) {
        for cell in self.vhost_cells() {
            if vhost.is_none_or(|vhost| cell.name.as_bytes() == vhost.as_bytes()) {
                cell.forget_rights();
            }
        }
    }

    /// Has every queue and exchange of a vhost follow the policies as they are now.
    pub(super) fn apply_policies(self: &Arc<Self>, directory: &Directory, vhost: &str) {
        let Some(cell) = ShortString::try_from(vhost).ok().and_then(|name| self.vhost(&name)) else { return };
        let changed = cell.change(|state| state.set_policies(directory.policies_of(vhost)));
        let mut work = Work::default();
        let now = clock::now();
        for (id, settings) in changed {
            if let Some(queue) = self.queue(id) {
                queue.apply_settings(self, &mut work, now, settings.share());
            }
        }
        self.finish(&mut work, None);
    }

    /// Ends a vhost: its connections, queues and exchanges.
    fn end_vhost(self: &Arc<Self>, name: &str, ops: &mut Vec<Op>) {
        let Some(vhost) = ShortString::try_from(name).ok().and_then(|name| self.remove_vhost(&name)) else { return };
        self.close_connections_of(&format!("vhost '{name}' is deleted"), |entry| Arc::ptr_eq(&entry.vhost, &vhost));
        let mut state = vhost.state.write();
        let queues: Vec<_> = state.queues().map(|queue| queue.id).collect();
        for id in queues {
            self.drop_queue(id);
        }
        let changes = state.end();
        self.drop_orphans(state.take_orphans());
        ops.extend(changes.into_iter().map(|change| Op::Define { vhost: vhost.name.clone(), change }));
        drop(state);
        self.keep_statistics_of(&vhost.statistics.lock());
        vhost.change(Vhost::forget_routes);
        info!(vhost = name, "vhost deleted");
    }

    /// Closes the connections that `chosen` says, with this reason. Returns how many.
    pub(crate) fn close_connections_of(
        &self,
        reason: &str,
        chosen: impl Fn(&super::registry::ConnectionEntry) -> bool,
    ) -> usize {
        let outboxes: Vec<_> = self
            .connections
            .iter()
            .filter(|entry| chosen(entry.value()))
            .map(|entry| entry.value().outbox.clone())
            .collect();
        for outbox in &outboxes {
            outbox.push(Event::Close(AmqpError::ConnectionForced(reason.to_owned())));
        }
        outboxes.len()
    }

    /// Whether this user may log in with this password from this address; else the reason, for the log.
    pub(super) fn check_login(&self, user: &ShortString, password: &[u8], ends: Ends) -> Result<(), String> {
        let name = user.to_string();
        let known = self.with_directory(|directory| directory.authenticate(&name, password).map(|_| ()));
        let checked = known.map_err(|cause| cause.to_string()).and_then(|()| self.check_origin(&name, ends));
        self.logins.count(LoginProtocol::Amqp, checked.is_ok());
        checked
    }

    /// Whether somebody whose certificate was found good may log in as the user that it names.
    pub(super) fn check_certified_login(&self, user: &ShortString, ends: Ends) -> Result<(), String> {
        let name = user.to_string();
        let known = self.with_directory(|directory| directory.user(&name).is_some());
        let known = if known { Ok(()) } else { Err("there is no such user".to_owned()) };
        let checked = known.and_then(|()| self.check_origin(&name, ends));
        self.logins.count(LoginProtocol::Amqp, checked.is_ok());
        checked
    }

    /// What a proxy says does not make a connection one from this machine, unless the proxy is here too.
    fn check_origin(&self, user: &str, ends: Ends) -> Result<(), String> {
        let live = self.live();
        let may_from = |address| live.may_log_in_from(user, address);
        if may_from(ends.peer.ip()) && ends.via.is_none_or(may_from) {
            Ok(())
        } else {
            Err("this user may log in from this machine only".to_owned())
        }
    }

    /// What a user may do in a vhost, and of which version of the rights there that is. Its patterns are compiled once for
    /// all connections: that takes half a millisecond and some 15 KiB.
    pub(super) fn rights(&self, user: &ShortString, vhost: &VhostCell) -> (u64, Arc<Access>) {
        // The version first: a change in between is seen by the next look.
        let version = vhost.rights_version();
        {
            let (of, users) = &*vhost.known_rights.lock();
            if let Some(access) = users.get(user).filter(|_| *of == version) {
                return (version, access.clone());
            }
        }
        let access = Arc::new(self.with_directory(|directory| directory.access(user, &vhost.name)));
        let mut known = vhost.known_rights.lock();
        if known.0 != version {
            *known = (version, HashMap::new());
        }
        known.1.insert(user.clone(), access.clone());
        (version, access)
    }

    /// connection.open: takes a connection's share of the broker's, its vhost's and its user's limits, and checks that the
    /// user may enter.
    pub(super) fn admit(&self, user: &ShortString, vhost_name: &ShortString) -> Result<Admission, AmqpError> {
        let node = self.connection_quota.take().map_err(AmqpError::NodeConnectionLimit)?;
        let vhost = self.vhost(vhost_name).ok_or_else(|| AmqpError::VhostNotFound(vhost_name.clone()))?;
        let refused = format!("access to vhost '{vhost_name}' refused for user '{user}'");
        let in_vhost = vhost
            .connections
            .take()
            .map_err(|max| AmqpError::VhostRefused(format!("{refused}: connection limit ({max}) is reached")))?;
        let quotas = self.users.get(&user.to_string()).map(|quotas| quotas.value().clone()).unwrap_or_default();
        let of_user = quotas.connections.take().map_err(|max| {
            AmqpError::VhostRefused(format!(
                "connection refused for user '{user}': user connection limit ({max}) is reached"
            ))
        })?;
        if !self.rights(user, &vhost).1.may_enter() {
            return Err(AmqpError::VhostRefused(refused));
        }
        Ok(Admission {
            vhost,
            user_channels: quotas.channels.clone(),
            node_channels: self.channel_quota.clone(),
            _socket: node,
            places: Some([in_vhost, of_user]),
            channels: Vec::new(),
        })
    }
}
