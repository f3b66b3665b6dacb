//! The directory: vhosts, users, their rights, policies and parameters, as records by name.
//!
//! Invariants: a permission's user and vhost, a policy's and a parameter's vhost exist; every pattern compiles and every
//! policy is valid; a change of the directory is told to the store by a [`DirectoryChange`] of the same call.
//! Not here: what is in a vhost (see [`crate::engine::vhost`]), connections, locks.

mod access;
mod password;
mod pattern;
mod policy;
mod records;

use std::collections::BTreeMap;
use std::fmt;

use leveret_protocol::ShortString;

pub use access::{Access, Resource, Right};
pub use password::HashingAlgorithm;
pub use pattern::Pattern;
pub use policy::{Applied, Definition, Policies, Policy, PolicyTarget};
pub use records::{
    DirectoryChange, GlobalParameterRecord, ParameterRecord, PermissionRecord, PolicyRecord, Record, RecordKey,
    RecordKind, TopicPermissionRecord, User, VhostRecord,
};

/// Octets that a name may have, as on the wire.
const NAME_MAX_BYTES: usize = 255;

/// Why a record is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryError {
    /// There is no such user.
    UserNotFound(String),
    /// There is no such vhost.
    VhostNotFound(String),
    /// There is no such record of another kind.
    NotFound(RecordKey),
    /// A pattern is no regular expression.
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// The value breaks a rule, in RabbitMQ's words.
    Invalid(String),
    /// There are as many vhosts as there may be.
    TooManyVhosts {
        /// The one that is too much.
        vhost: String,
        /// How many there may be.
        max: u64,
    },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserNotFound(name) => write!(f, "User \"{name}\" does not exist"),
            Self::VhostNotFound(name) => write!(f, "Virtual host '{name}' does not exist"),
            Self::NotFound(RecordKey { kind: RecordKind::Permission | RecordKind::TopicPermission, names }) => {
                write!(f, "User \"{}\" has no permissions in virtual host '{}'", names[1], names[0])
            }
            Self::NotFound(_) => f.write_str("Parameter does not exist"),
            Self::BadPattern { pattern, why } => write!(f, "regular expression '{pattern}' is invalid: {why}"),
            Self::TooManyVhosts { vhost, max } => {
                write!(f, "cannot create vhost '{vhost}': vhost limit of {max} is reached")
            }
            Self::Invalid(why) => write!(f, "Validation failed\n\n{why}\n"),
        }
    }
}

impl std::error::Error for DirectoryError {}

/// Why a login is refused; for the log, never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// No such user.
    UnknownUser,
    /// The password is wrong or blank.
    WrongPassword,
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownUser => "unknown user",
            Self::WrongPassword => "wrong password",
        })
    }
}

/// The records.
#[derive(Debug, Default)]
pub struct Directory {
    records: BTreeMap<RecordKey, Record>,
}

/// Iterators over one kind of record, in the order of their names.
macro_rules! records_of {
    ($($(#[$doc:meta])* $name:ident: $kind:ident => $record:ty;)*) => {
        $($(#[$doc])*
        pub fn $name(&self) -> impl Iterator<Item = &$record> {
            self.of_kind(RecordKind::$kind)
                .filter_map(|record| if let Record::$kind(record) = record { Some(record) } else { None })
        })*
    };
}

impl Directory {
    /// Puts back a record from the store.
    pub fn restore(&mut self, record: Record) {
        self.records.insert(record.key(), record);
    }

    /// Whether it has neither vhosts nor users: a broker that starts for the first time.
    pub fn is_blank(&self) -> bool {
        self.vhosts().next().is_none() && self.users().next().is_none()
    }

    fn of_kind(&self, kind: RecordKind) -> impl Iterator<Item = &Record> {
        self.records
            .range(RecordKey::new(kind, "", "", "")..)
            .map_while(move |(key, record)| (key.kind == kind).then_some(record))
    }

    records_of! {
        /// Every vhost.
        vhosts: Vhost => VhostRecord;
        /// Every user.
        users: User => User;
        /// Every user's rights, by vhost.
        permissions: Permission => PermissionRecord;
        /// Every topic permission, by vhost.
        topic_permissions: TopicPermission => TopicPermissionRecord;
        /// Every policy, by vhost.
        policies: Policy => PolicyRecord;
        /// Every operator policy, by vhost.
        operator_policies: OperatorPolicy => PolicyRecord;
        /// Every parameter, by vhost.
        parameters: Parameter => ParameterRecord;
        /// Every global parameter.
        global_parameters: GlobalParameter => GlobalParameterRecord;
    }

    /// A record by its key.
    pub fn get(&self, key: &RecordKey) -> Option<&Record> {
        self.records.get(key)
    }

    /// A vhost by name.
    pub fn vhost(&self, name: &str) -> Option<&VhostRecord> {
        let record = self.get(&RecordKey::new(RecordKind::Vhost, name, "", ""))?;
        if let Record::Vhost(vhost) = record { Some(vhost) } else { None }
    }

    /// A user by name.
    pub fn user(&self, name: &str) -> Option<&User> {
        let record = self.get(&RecordKey::new(RecordKind::User, name, "", ""))?;
        if let Record::User(user) = record { Some(user) } else { None }
    }

    /// A user's rights in a vhost.
    pub fn permission(&self, vhost: &str, user: &str) -> Option<&PermissionRecord> {
        let record = self.get(&RecordKey::new(RecordKind::Permission, vhost, user, ""))?;
        if let Record::Permission(permission) = record { Some(permission) } else { None }
    }

    /// A parameter of the whole broker.
    pub fn global_parameter(&self, name: &str) -> Option<&GlobalParameterRecord> {
        let record = self.get(&RecordKey::new(RecordKind::GlobalParameter, name, "", ""))?;
        if let Record::GlobalParameter(parameter) = record { Some(parameter) } else { None }
    }

    /// A policy, or an operator policy.
    pub fn policy(&self, vhost: &str, name: &str, operator: bool) -> Option<&PolicyRecord> {
        let kind = if operator { RecordKind::OperatorPolicy } else { RecordKind::Policy };
        match self.get(&RecordKey::new(kind, vhost, name, ""))? {
            Record::Policy(policy) | Record::OperatorPolicy(policy) => Some(policy),
            Record::Vhost(_)
            | Record::User(_)
            | Record::Permission(_)
            | Record::TopicPermission(_)
            | Record::Parameter(_)
            | Record::GlobalParameter(_) => None,
        }
    }

    /// Takes a record, new or changed.
    pub fn put(&mut self, record: Record) -> Result<DirectoryChange, DirectoryError> {
        self.check(&record)?;
        self.records.insert(record.key(), record.clone());
        Ok(DirectoryChange::Put(record))
    }

    fn check(&self, record: &Record) -> Result<(), DirectoryError> {
        let key = record.key();
        let named = if matches!(key.kind, RecordKind::Permission | RecordKind::TopicPermission) { 2 } else { 1 };
        if key.names[..named].iter().any(String::is_empty) {
            return Err(DirectoryError::Invalid("a name cannot be an empty string".to_owned()));
        }
        if key.names.iter().any(|name| name.len() > NAME_MAX_BYTES) {
            return Err(DirectoryError::Invalid(format!("a name cannot be longer than {NAME_MAX_BYTES} bytes")));
        }
        let vhost =
            |name: &str| self.vhost(name).map(|_| ()).ok_or_else(|| DirectoryError::VhostNotFound(name.to_owned()));
        let user =
            |name: &str| self.user(name).map(|_| ()).ok_or_else(|| DirectoryError::UserNotFound(name.to_owned()));
        match record {
            Record::Vhost(record) => check_limits(&record.limits, ["max-connections", "max-queues"], "limits"),
            Record::User(record) => check_limits(&record.limits, ["max-connections", "max-channels"], "user-limits"),
            Record::Permission(record) => {
                user(&record.user)?;
                vhost(&record.vhost)?;
                [&record.configure, &record.write, &record.read].into_iter().try_for_each(|text| check_pattern(text))
            }
            Record::TopicPermission(record) => {
                user(&record.user)?;
                vhost(&record.vhost)?;
                [&record.write, &record.read].into_iter().try_for_each(|text| check_pattern(text))
            }
            Record::Policy(record) | Record::OperatorPolicy(record) => {
                vhost(&record.vhost)?;
                let operator = key.kind == RecordKind::OperatorPolicy;
                Policy::parse(record, operator).map(|_| ()).map_err(DirectoryError::Invalid)
            }
            Record::Parameter(record) => vhost(&record.vhost),
            Record::GlobalParameter(_) => Ok(()),
        }
    }

    /// Removes a record and those that refer to it; the record itself is the last change.
    pub fn remove(&mut self, key: &RecordKey) -> Result<Vec<DirectoryChange>, DirectoryError> {
        if !self.records.contains_key(key) {
            return Err(match key.kind {
                RecordKind::User => DirectoryError::UserNotFound(key.names[0].clone()),
                RecordKind::Vhost => DirectoryError::VhostNotFound(key.names[0].clone()),
                RecordKind::Permission
                | RecordKind::TopicPermission
                | RecordKind::Policy
                | RecordKind::OperatorPolicy
                | RecordKind::Parameter
                | RecordKind::GlobalParameter => DirectoryError::NotFound(key.clone()),
            });
        }
        let refers = |other: &RecordKey| match (key.kind, other.kind) {
            (RecordKind::User, RecordKind::Permission | RecordKind::TopicPermission) => other.names[1] == key.names[0],
            (
                RecordKind::Vhost,
                RecordKind::Permission
                | RecordKind::TopicPermission
                | RecordKind::Policy
                | RecordKind::OperatorPolicy
                | RecordKind::Parameter,
            ) => other.names[0] == key.names[0],
            _ => false,
        };
        let mut doomed: Vec<RecordKey> = self.records.keys().filter(|other| refers(other)).cloned().collect();
        doomed.push(key.clone());
        for key in &doomed {
            self.records.remove(key);
        }
        Ok(doomed.into_iter().map(DirectoryChange::Removed).collect())
    }

    /// Checks a password. Where the user may log in from is for the caller to say.
    pub fn authenticate(&self, user: &str, password: &[u8]) -> Result<&User, LoginError> {
        let user = self.user(user).ok_or(LoginError::UnknownUser)?;
        if user.hashing_algorithm.verify(&user.password_hash, password) {
            Ok(user)
        } else {
            Err(LoginError::WrongPassword)
        }
    }

    /// What a user may do in a vhost.
    pub fn access(&self, user: &ShortString, vhost: &ShortString) -> Access {
        let (user_text, vhost_text) = (user.to_string(), vhost.to_string());
        let topics = self.topic_permissions().filter(|record| record.user == user_text && record.vhost == vhost_text);
        let impersonator = self.user(&user_text).is_some_and(|user| user.has_tag("impersonator"));
        Access::new(user, vhost, self.permission(&vhost_text, &user_text), topics, impersonator)
    }

    /// The policies of a vhost, ready to be applied.
    pub fn policies_of(&self, vhost: &str) -> Policies {
        // They were checked when they came; one that is not understood any more does not apply.
        let parse = |record: &PolicyRecord, operator| Policy::parse(record, operator).ok();
        let regular = self.policies().filter(|record| record.vhost == vhost).filter_map(|record| parse(record, false));
        let operator = self.operator_policies().filter(|record| record.vhost == vhost);
        Policies::new(regular.collect(), operator.filter_map(|record| parse(record, true)).collect())
    }
}

fn check_pattern(text: &str) -> Result<(), DirectoryError> {
    Pattern::of_permission(text).map(|_| ()).map_err(|why| DirectoryError::BadPattern { pattern: text.to_owned(), why })
}

fn check_limits(limits: &BTreeMap<String, i64>, known: [&str; 2], what: &str) -> Result<(), DirectoryError> {
    let strange: Vec<_> = limits
        .iter()
        .filter(|(key, _)| !known.contains(&key.as_str()))
        .map(|(key, value)| format!("{{<<\"{key}\">>,{value}}}"))
        .collect();
    if strange.is_empty() {
        return Ok(());
    }
    Err(DirectoryError::Invalid(format!("Unrecognised terms [{}] in {what}", strange.join(","))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vhost(name: &str) -> Record {
        Record::Vhost(VhostRecord { name: name.to_owned(), ..VhostRecord::default() })
    }

    fn user(name: &str) -> Record {
        Record::User(User {
            name: name.to_owned(),
            password_hash: HashingAlgorithm::Sha256.hash([1, 2, 3, 4], b"secret"),
            hashing_algorithm: HashingAlgorithm::Sha256,
            tags: Vec::new(),
            limits: BTreeMap::new(),
        })
    }

    fn permission(vhost: &str, user: &str, pattern: &str) -> Record {
        let pattern = || pattern.to_owned();
        Record::Permission(PermissionRecord {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            configure: pattern(),
            write: pattern(),
            read: pattern(),
        })
    }

    fn filled() -> Directory {
        let mut directory = Directory::default();
        for record in [vhost("/"), vhost("v"), user("u"), permission("/", "u", ".*"), permission("v", "u", "^a")] {
            directory.put(record).expect("taken");
        }
        directory
    }

    #[test]
    fn what_is_referred_to_must_exist() {
        let mut directory = filled();
        let missing = directory.put(permission("w", "u", ".*"));
        assert_eq!(missing, Err(DirectoryError::VhostNotFound("w".to_owned())));
        let missing = directory.put(permission("v", "nobody", ".*"));
        assert_eq!(missing, Err(DirectoryError::UserNotFound("nobody".to_owned())));
        assert!(matches!(directory.put(permission("v", "u", "[")), Err(DirectoryError::BadPattern { .. })));
        assert!(matches!(directory.put(vhost("")), Err(DirectoryError::Invalid(_))));
    }

    #[test]
    fn what_refers_to_a_removed_record_goes_with_it() {
        let mut directory = filled();
        let changes = directory.remove(&vhost("v").key()).expect("there");
        assert_eq!(
            changes,
            [DirectoryChange::Removed(permission("v", "u", "").key()), DirectoryChange::Removed(vhost("v").key())]
        );
        assert_eq!(directory.permissions().count(), 1);
        directory.remove(&user("u").key()).expect("there");
        assert_eq!(directory.permissions().count(), 0);
        assert!(directory.remove(&user("u").key()).is_err());
    }

    #[test]
    fn rights_are_those_of_user_and_vhost() {
        let directory = filled();
        let access =
            |vhost: &'static str| directory.access(&ShortString::from_static("u"), &ShortString::from_static(vhost));
        assert!(access("/").check(Right::Write, Resource::Queue(b"b")).is_ok());
        assert!(access("v").check(Right::Write, Resource::Queue(b"b")).is_err());
        assert!(!access("w").may_enter());
    }

    #[test]
    fn a_password_is_checked() {
        let directory = filled();
        assert!(directory.authenticate("u", b"secret").is_ok());
        assert_eq!(directory.authenticate("u", b"").err(), Some(LoginError::WrongPassword));
        assert_eq!(directory.authenticate("v", b"secret").err(), Some(LoginError::UnknownUser));
    }
}
