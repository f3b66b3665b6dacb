//! The directory: vhosts, users, rights, policies, parameters. Changes are on disk when they return.

use leveret_protocol::ShortString;
use tracing::warn;

use super::{Operator, OperatorError};
use crate::engine::directory::{Directory, DirectoryError, Record, RecordKey, User, VhostRecord};
use crate::server::directory::hash_password;

impl Operator {
    /// A look at the records.
    pub(crate) fn directory<R>(&self, look: impl FnOnce(&Directory) -> R) -> R {
        self.registry.with_directory(look)
    }

    /// The vhost's record; an error if there is none.
    pub(crate) fn check_vhost(&self, name: &str) -> Result<VhostRecord, OperatorError> {
        let found = self.directory(|directory| directory.vhost(name).cloned());
        found.ok_or_else(|| OperatorError::NoSuchVhost(name.to_owned()))
    }

    /// The user's record; an error if there is none.
    pub(crate) fn check_user(&self, name: &str) -> Result<User, OperatorError> {
        let found = self.directory(|directory| directory.user(name).cloned());
        found.ok_or_else(|| OperatorError::NoSuchUser(name.to_owned()))
    }

    /// Takes a record, new or changed.
    pub(crate) async fn put(&self, record: Record) -> Result<(), OperatorError> {
        self.registry.put_record(record)?;
        self.registry.flushed().await;
        Ok(())
    }

    /// Removes a record with what refers to it.
    pub(crate) async fn remove(&self, key: &RecordKey) -> Result<(), OperatorError> {
        self.registry.remove_record(key)?;
        self.registry.flushed().await;
        Ok(())
    }

    /// Changes a user in place.
    pub(crate) async fn change_user(&self, name: &str, change: impl FnOnce(&mut User)) -> Result<(), OperatorError> {
        self.registry.change_user(name, change)?;
        self.registry.flushed().await;
        Ok(())
    }

    /// Changes a vhost's own record in place.
    pub(crate) async fn change_vhost(
        &self,
        name: &str,
        change: impl FnOnce(&mut VhostRecord),
    ) -> Result<(), OperatorError> {
        self.registry.change_vhost(name, change)?;
        self.registry.flushed().await;
        Ok(())
    }

    /// Whether this is the user's password.
    pub(crate) fn authenticate(&self, user: &str, password: &str) -> bool {
        // A name that cannot be sent is nobody's.
        ShortString::try_from(user).is_ok()
            && self.directory(|directory| directory.authenticate(user, password.as_bytes()).is_ok())
    }

    /// The hash to keep of a user's new password, if it is one that users may have. `None` is no password.
    pub(crate) fn new_password(&self, user: &str, password: Option<&str>) -> Result<String, OperatorError> {
        self.registry.live().credentials.check(password).map_err(|why| {
            warn!(user, why, "credential validation failed");
            OperatorError::Invalid(why)
        })?;
        Ok(Self::hash_password(password.unwrap_or_default()))
    }

    /// The hash to keep of a password; of a blank one there is none, and nobody can log in with it.
    pub(crate) fn hash_password(password: &str) -> String {
        hash_password(password.as_bytes())
    }
}

impl From<DirectoryError> for OperatorError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::UserNotFound(name) => Self::NoSuchUser(name),
            DirectoryError::VhostNotFound(name) => Self::NoSuchVhost(name),
            DirectoryError::NotFound(_) => Self::NotFound(error.to_string()),
            DirectoryError::BadPattern { .. } | DirectoryError::Invalid(_) | DirectoryError::TooManyVhosts { .. } => {
                Self::Invalid(error.to_string())
            }
        }
    }
}
