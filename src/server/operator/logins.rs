//! Operators who log in: users with their passwords.

use std::net::IpAddr;

use leveret_protocol::ShortString;

use super::Operator;
use crate::config::Config;
use crate::engine::directory::User;
use crate::server::logins::{LoginFigures, LoginProtocol};

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginRefused {
    /// There is no such user, or that is not the password.
    WrongCredentials,
    /// The user may log in from this machine only.
    NotFromThere,
}

impl Operator {
    /// The user with this name and password.
    pub(crate) fn log_in(&self, user: &str, password: &str, from: IpAddr) -> Result<User, LoginRefused> {
        // A name that cannot be sent is nobody's.
        if ShortString::try_from(user).is_err() {
            return Err(LoginRefused::WrongCredentials);
        }
        let found = self.directory(|directory| directory.authenticate(user, password.as_bytes()).cloned());
        let found = found.map_err(|_| LoginRefused::WrongCredentials)?;
        if self.registry.live().may_log_in_from(user, from) { Ok(found) } else { Err(LoginRefused::NotFromThere) }
    }

    /// Counts a login over HTTP.
    pub(crate) fn count_login(&self, succeeded: bool) {
        self.registry.logins.count(LoginProtocol::Http, succeeded);
    }

    /// How many logins there were.
    pub(crate) fn logins(&self) -> [LoginFigures; 2] {
        self.registry.logins.figures()
    }

    /// Counts logins from zero again.
    pub(crate) fn reset_logins(&self) {
        self.registry.logins.reset();
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.registry.config
    }
}
