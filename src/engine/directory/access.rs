//! What one user may do in one vhost (RabbitMQ's permissions and topic permissions).

use std::collections::BTreeMap;

use leveret_protocol::ShortString;

use super::pattern::Pattern;
use super::records::{PermissionRecord, TopicPermissionRecord};
use crate::error::AmqpError;

/// A kind of right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Declare and delete.
    Configure,
    /// Publish to an exchange; bind a queue.
    Write,
    /// Consume from a queue; bind to an exchange.
    Read,
}

impl Right {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// What a right is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A queue.
    Queue(&'a [u8]),
    /// An exchange; the default exchange has the empty name here.
    Exchange(&'a [u8]),
}

#[derive(Debug)]
struct TopicAccess {
    write: Pattern,
    read: Pattern,
}

/// The rights of a user in a vhost, compiled.
#[derive(Debug)]
pub struct Access {
    user: ShortString,
    vhost: ShortString,
    /// Configure, write, read; `None` when the user has no permission entry in the vhost.
    rights: Option<[Pattern; 3]>,
    topics: BTreeMap<Vec<u8>, TopicAccess>,
    impersonator: bool,
}

impl Access {
    pub(super) fn new<'a>(
        user: &ShortString,
        vhost: &ShortString,
        permission: Option<&PermissionRecord>,
        topics: impl Iterator<Item = &'a TopicPermissionRecord>,
        impersonator: bool,
    ) -> Self {
        // Patterns were checked when they were set; one that does not compile any more gives no right.
        let rights = permission.and_then(|permission| {
            let compile = |text: &str| Pattern::of_permission(text).ok();
            Some([compile(&permission.configure)?, compile(&permission.write)?, compile(&permission.read)?])
        });
        let expand = |text: &str| text.replace("{username}", &user.to_string()).replace("{vhost}", &vhost.to_string());
        let nothing = || Pattern::of_permission("").expect("the empty pattern compiles");
        let topics = topics
            .map(|record| {
                let compile = |text: &str| Pattern::of_permission(&expand(text)).unwrap_or_else(|_| nothing());
                let access = TopicAccess { write: compile(&record.write), read: compile(&record.read) };
                (record.exchange.as_bytes().to_vec(), access)
            })
            .collect();
        Self { user: user.clone(), vhost: vhost.clone(), rights, topics, impersonator }
    }

    /// The rights of the broker itself: everything.
    ///
    /// # Panics
    /// Never: the empty pattern compiles.
    pub fn unlimited() -> Self {
        let all = || Pattern::of_policy("").expect("the empty pattern compiles");
        Self {
            user: ShortString::default(),
            vhost: ShortString::default(),
            rights: Some([all(), all(), all()]),
            topics: BTreeMap::new(),
            impersonator: true,
        }
    }

    /// Whether the user has an entry in the vhost, be it an empty one: else it cannot connect.
    pub fn may_enter(&self) -> bool {
        self.rights.is_some()
    }

    /// Whether the user may publish with the `user-id` of another.
    pub fn is_impersonator(&self) -> bool {
        self.impersonator
    }

    /// Refuses (403) what the user has no right to.
    pub fn check(&self, right: Right, resource: Resource<'_>) -> Result<(), AmqpError> {
        let (kind, name) = match resource {
            Resource::Queue(name) => ("queue", name),
            Resource::Exchange(b"") => ("exchange", &b"amq.default"[..]),
            Resource::Exchange(name) => ("exchange", name),
        };
        if self.rights.as_ref().is_some_and(|rights| rights[right as usize].matches(name)) {
            return Ok(());
        }
        Err(AmqpError::AccessRefused(format!(
            "{} access to {kind} '{}' in vhost '{}' refused for user '{}'",
            right.as_str(),
            String::from_utf8_lossy(name),
            self.vhost,
            self.user
        )))
    }

    /// Whether routing keys at this topic exchange are restricted.
    pub fn restricts_topic(&self, exchange: &[u8]) -> bool {
        self.topics.contains_key(exchange)
    }

    /// Refuses (403) a routing key at a topic exchange. Without an entry for the exchange every key is allowed.
    pub fn check_topic(&self, right: Right, exchange: &[u8], key: &[u8]) -> Result<(), AmqpError> {
        let Some(topic) = self.topics.get(exchange) else { return Ok(()) };
        let pattern = match right {
            Right::Write => &topic.write,
            Right::Read | Right::Configure => &topic.read,
        };
        if pattern.matches(key) {
            return Ok(());
        }
        Err(AmqpError::AccessRefused(format!(
            "{} access to topic '{}' in exchange '{}' in vhost '{}' refused for user '{}'",
            right.as_str(),
            String::from_utf8_lossy(key),
            String::from_utf8_lossy(exchange),
            self.vhost,
            self.user
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(configure: &str, write: &str, read: &str) -> Access {
        let permission = PermissionRecord {
            user: "u".to_owned(),
            vhost: "/".to_owned(),
            configure: configure.to_owned(),
            write: write.to_owned(),
            read: read.to_owned(),
        };
        let topic = TopicPermissionRecord {
            user: "u".to_owned(),
            vhost: "/".to_owned(),
            exchange: "amq.topic".to_owned(),
            write: "^{username}\\.".to_owned(),
            read: String::new(),
        };
        let (user, vhost) = (ShortString::from_static("u"), ShortString::from_static("/"));
        Access::new(&user, &vhost, Some(&permission), std::iter::once(&topic), false)
    }

    #[test]
    fn each_right_has_its_pattern() {
        let access = access("^c", "^amq\\.default$", "");
        assert_eq!(access.check(Right::Configure, Resource::Queue(b"c1")), Ok(()));
        assert_eq!(access.check(Right::Write, Resource::Exchange(b"")), Ok(()));
        let refused = access.check(Right::Read, Resource::Queue(b"c1")).expect_err("refused");
        assert_eq!(refused.to_string(), "read access to queue 'c1' in vhost '/' refused for user 'u'");
    }

    #[test]
    fn a_topic_pattern_may_name_the_user() {
        let access = access(".*", ".*", ".*");
        assert_eq!(access.check_topic(Right::Write, b"amq.topic", b"u.x"), Ok(()));
        assert_eq!(access.check_topic(Right::Write, b"other", b"x"), Ok(()));
        let refused = access.check_topic(Right::Write, b"amq.topic", b"v.x").expect_err("refused");
        let text = "write access to topic 'v.x' in exchange 'amq.topic' in vhost '/' refused for user 'u'";
        assert_eq!(refused.to_string(), text);
    }

    #[test]
    fn without_an_entry_nothing_is_allowed() {
        let (user, vhost) = (ShortString::from_static("u"), ShortString::from_static("/"));
        let access = Access::new(&user, &vhost, None, std::iter::empty(), false);
        assert!(!access.may_enter() && access.check(Right::Read, Resource::Queue(b"q")).is_err());
    }
}
