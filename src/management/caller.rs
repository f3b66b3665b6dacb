//! Who asks: a user who has logged in with HTTP's Basic authentication, and what their tags let them see and do.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use leveret_protocol::ShortString;
use tracing::info;

use super::problem::Problem;
use super::request::Ends;
use super::routes::Api;
use crate::engine::directory::{Access, User};
use crate::server::clock;
use crate::server::operator::{LoginRefused, OperatorError};

/// Tags of which one is needed to be answered at all.
const MANAGEMENT_TAGS: [&str; 4] = ["administrator", "monitoring", "policymaker", "management"];
/// Octets of credentials that are looked at.
const CREDENTIALS_MAX_BYTES: usize = 4096;

/// A user who has logged in.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    user: User,
    /// What they logged in with, for what is done in their name over AMQP.
    password: String,
    ends: Ends,
}

/// What stands in an `Authorization` header.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > CREDENTIALS_MAX_BYTES {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let ends = *parts.extensions.get::<Ends>().ok_or_else(Problem::login)?;
        let (user, password) = credentials(&parts.headers).ok_or_else(Problem::login)?;
        Self::log_in(api, ends, &user, password).await
    }
}

impl Caller {
    /// Checks credentials. Those that are wrong are answered later and later.
    pub(super) async fn log_in(api: &Api, ends: Ends, user: &str, password: String) -> Result<Self, Problem> {
        let from = ends.peer.ip();
        if !api.attempts.is_heard(from) {
            return Err(Problem::too_many_attempts(2));
        }
        let refused = match api.operator.log_in(user, &password, from) {
            Ok(user) if MANAGEMENT_TAGS.iter().any(|tag| user.has_tag(tag)) => {
                api.operator.count_login(true);
                return Ok(Self { user, password, ends });
            }
            Ok(_) => {
                info!(user, %from, "HTTP access denied: not a management user");
                Problem::not_authorised("Not management user")
            }
            Err(LoginRefused::NotFromThere) => {
                info!(user, %from, "HTTP access denied: this user may log in from this machine only");
                Problem::not_authorised("User can only log in via localhost")
            }
            Err(LoginRefused::WrongCredentials) => {
                info!(user, %from, "HTTP access denied: wrong credentials");
                Problem::login()
            }
        };
        api.operator.count_login(false);
        let delay = api.attempts.failed(from, clock::instant());
        // Given back even if the client does not wait for the answer.
        let _answered = Answered { api, from };
        tokio::time::sleep(delay).await;
        Err(refused)
    }

    /// The user's name.
    pub(super) fn name(&self) -> &str {
        &self.user.name
    }

    /// The user's record.
    pub(super) fn user(&self) -> &User {
        &self.user
    }

    /// The password that was right.
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// Where they ask from.
    pub(super) fn ends(&self) -> Ends {
        self.ends
    }

    fn has_any(&self, tags: &[&str]) -> bool {
        tags.iter().any(|tag| self.user.has_tag(tag))
    }

    /// Whether they may do everything.
    pub(super) fn is_admin(&self) -> bool {
        self.has_any(&["administrator"])
    }

    /// Whether they see what others do.
    pub(super) fn is_monitor(&self) -> bool {
        self.has_any(&["administrator", "monitoring"])
    }

    fn is_policymaker(&self) -> bool {
        self.has_any(&["administrator", "policymaker"])
    }

    /// Refuses all but administrators.
    pub(super) fn admin(&self) -> Result<(), Problem> {
        if self.is_admin() { Ok(()) } else { Err(Problem::not_authorised("Not administrator user")) }
    }

    /// Refuses all but those who monitor.
    pub(super) fn monitor(&self) -> Result<(), Problem> {
        if self.is_monitor() { Ok(()) } else { Err(Problem::not_authorised("Not monitor user")) }
    }

    /// Refuses all but those who set policies, for what belongs to no vhost.
    pub(super) fn policymaker(&self) -> Result<(), Problem> {
        if self.is_policymaker() { Ok(()) } else { Err(not_their_object()) }
    }

    /// Refuses all but monitors and the user whose thing it is.
    pub(super) fn owner_or_monitor(&self, owner: &str) -> Result<(), Problem> {
        if self.is_monitor() || self.name() == owner { Ok(()) } else { Err(not_their_object()) }
    }

    /// Refuses all but administrators and the user whose thing it is.
    pub(super) fn owner_or_admin(&self, owner: &str) -> Result<(), Problem> {
        if self.is_admin() || self.name() == owner { Ok(()) } else { Err(not_their_object()) }
    }

    /// Whether they have permissions in a vhost.
    pub(super) fn may_enter(&self, api: &Api, vhost: &str) -> bool {
        api.operator.directory(|directory| directory.permission(vhost, self.name()).is_some())
    }

    /// The vhost that a path names, which must exist and be theirs to enter. An empty name is the vhost `/`, as clients
    /// have it that put the vhost of an AMQP URL into a path.
    pub(super) fn vhost(&self, api: &Api, name: String) -> Result<String, Problem> {
        let name = self.entered(api, name)?;
        api.operator.check_vhost(&name)?;
        Ok(name)
    }

    /// The same for one that need not exist.
    fn entered(&self, api: &Api, name: String) -> Result<String, Problem> {
        let name = if name.is_empty() { "/".to_owned() } else { name };
        let exists = api.operator.check_vhost(&name).is_ok();
        if !exists || self.is_admin() || self.may_enter(api, &name) {
            return Ok(name);
        }
        Err(Problem::not_authorised("User not authorised to access virtual host"))
    }

    /// The vhost that a path names, for somebody who may look at it.
    pub(super) fn visible_vhost(&self, api: &Api, name: String) -> Result<String, Problem> {
        if !self.is_monitor() {
            return self.vhost(api, name);
        }
        let name = if name.is_empty() { "/".to_owned() } else { name };
        api.operator.check_vhost(&name)?;
        Ok(name)
    }

    /// The vhost that a path names, for somebody who sets policies and parameters there.
    pub(super) fn policy_vhost(&self, api: &Api, name: String) -> Result<String, Problem> {
        self.policymaker()?;
        self.vhost(api, name)
    }

    /// The vhosts whose insides they see in listings over all vhosts.
    pub(super) fn vhosts(&self, api: &Api) -> Vec<String> {
        self.vhosts_if(api, self.is_admin())
    }

    /// The vhosts of whose existence they know.
    pub(super) fn visible_vhosts(&self, api: &Api) -> Vec<String> {
        self.vhosts_if(api, self.is_monitor())
    }

    fn vhosts_if(&self, api: &Api, all: bool) -> Vec<String> {
        api.operator.directory(|directory| {
            let may_enter = |vhost: &str| all || directory.permission(vhost, self.name()).is_some();
            directory.vhosts().filter(|vhost| may_enter(&vhost.name)).map(|vhost| vhost.name.clone()).collect()
        })
    }

    /// What they may do in a vhost, by AMQP's rights.
    pub(super) fn access(&self, api: &Api, vhost: &str) -> Result<Access, Problem> {
        let no_vhost = || Problem::from(OperatorError::NoSuchVhost(vhost.to_owned()));
        let user = ShortString::try_from(self.name()).map_err(|_| no_vhost())?;
        let vhost = ShortString::try_from(vhost).map_err(|_| no_vhost())?;
        Ok(api.operator.directory(|directory| directory.access(&user, &vhost)))
    }
}

fn not_their_object() -> Problem {
    Problem::not_authorised("User not authorised to access object")
}

/// Gives back the place of a failure that waits for its answer.
struct Answered<'a> {
    api: &'a Api,
    from: IpAddr,
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        self.api.attempts.answered(self.from);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn parsed(value: &str) -> Option<(String, String)> {
        let value = HeaderValue::from_str(value).expect("a header");
        credentials(&[(header::AUTHORIZATION, value)].into_iter().collect())
    }

    #[test]
    fn credentials_are_basic_ones() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(parsed("Basic Z3Vlc3Q6Z3Vlc3Q="), pair("guest", "guest"));
        assert_eq!(parsed("basic dTpwOnc="), pair("u", "p:w"));
        for wrong in ["Basic", "Basic !!", "Bearer Z3Vlc3Q6Z3Vlc3Q=", "Basic Z3Vlc3Q=", "Basic /w=="] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
        assert_eq!(parsed(&format!("Basic {}", "QUFB".repeat(2000))), None, "too long");
    }
}
