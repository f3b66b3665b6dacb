//! Who may log in, and how.

use crate::config::CredentialRule;
use crate::config::key::{Counts, Key, Shown};
use crate::engine::directory::Pattern;
use crate::engine::handshake::Mechanism;

/// RabbitMQ's words for how passwords are judged.
const RULES: [(&str, CredentialRule); 3] = [
    ("rabbit_credential_validator_accept_everything", CredentialRule::Anything),
    ("rabbit_credential_validator_min_password_length", CredentialRule::MinLength),
    ("rabbit_credential_validator_password_regexp", CredentialRule::Regexp),
];

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "auth_mechanisms.*",
        form: "`PLAIN`, `AMQPLAIN`, `ANONYMOUS` or `EXTERNAL`",
        about: "SASL mechanisms that are offered; the first one given replaces the defaults. `EXTERNAL` (clients log in with \
                their certificate and no password) is offered over TLS only, and needs `ssl_options.verify = verify_peer`",
        counts: Counts::ForNew(|live, new| live.auth_mechanisms.clone_from(&new.auth_mechanisms)),
        set: |settings, given| {
            let mechanism = Mechanism::from_name(given.value.as_bytes())
                .ok_or_else(|| format!("PLAIN, AMQPLAIN, ANONYMOUS or EXTERNAL, not '{}'", given.value))?;
            if !std::mem::replace(&mut settings.mechanisms_set, true) {
                settings.config.auth_mechanisms.clear();
            }
            settings.config.auth_mechanisms.push(mechanism);
            Ok(())
        },
        show: |config| Shown::numbered(config.auth_mechanisms.iter().map(|mechanism| mechanism.name())),
    },
    Key {
        name: "credential_validator.validation_backend",
        form: "`rabbit_credential_validator_accept_everything`, `rabbit_credential_validator_min_password_length` or \
               `rabbit_credential_validator_password_regexp`",
        about: "how new passwords are judged, also those that are changed. Hashes, and the passwords of this file, are taken as \
                they are",
        counts: Counts::AtOnce(|live, new| live.credentials.rule = new.credentials.rule),
        set: |settings, given| {
            settings.config.credentials.rule = given.one_of(&RULES)?;
            Ok(())
        },
        show: |config| {
            let rule = config.credentials.rule;
            Shown::some(RULES.iter().find(|(_, known)| *known == rule).map(|(word, _)| word))
        },
    },
    Key {
        name: "credential_validator.min_length",
        form: "octets",
        about: "for `rabbit_credential_validator_min_password_length`: octets of a password at least. RabbitMQ's",
        counts: Counts::AtOnce(|live, new| live.credentials.min_length = new.credentials.min_length),
        set: |settings, given| {
            settings.config.credentials.min_length = given.number()?;
            Ok(())
        },
        show: |config| Shown::one(config.credentials.min_length),
    },
    Key {
        name: "credential_validator.regexp",
        form: "a pattern",
        about: "for `rabbit_credential_validator_password_regexp`: what is to be found in a password",
        counts: Counts::AtOnce(|live, new| live.credentials.regexp.clone_from(&new.credentials.regexp)),
        set: |settings, given| {
            Pattern::of_policy(given.value).map_err(|cause| format!("no regular expression: {cause}"))?;
            settings.config.credentials.regexp = Some(given.text());
            Ok(())
        },
        show: |config| Shown::some(config.credentials.regexp.as_ref()),
    },
    Key {
        name: "auth_backends.*",
        form: "`internal`",
        about: "users are the broker's own. Other backends are refused rather than left out, so that nobody is let in \
                whom they would keep out",
        counts: Counts::AtStart,
        set: |_, given| given.one_of(&[("internal", ()), ("rabbit_auth_backend_internal", ())]),
        show: |_| Shown::Unset,
    },
    Key {
        name: "auth_backends.*.authn",
        form: "`internal`",
        about: "as `auth_backends`",
        counts: Counts::AtStart,
        set: |_, given| given.one_of(&[("internal", ()), ("rabbit_auth_backend_internal", ())]),
        show: |_| Shown::Unset,
    },
    Key {
        name: "auth_backends.*.authz",
        form: "`internal`",
        about: "as `auth_backends`",
        counts: Counts::AtStart,
        set: |_, given| given.one_of(&[("internal", ()), ("rabbit_auth_backend_internal", ())]),
        show: |_| Shown::Unset,
    },
    Key {
        name: "loopback_users.*",
        form: "`true` or `false`",
        about: "`true`: this user may log in only from this machine. As in RabbitMQ, so that an open port with the default \
                password gives nothing away",
        counts: Counts::ForNew(|live, new| live.loopback_users.clone_from(&new.loopback_users)),
        set: |settings, given| {
            let users = &mut settings.config.loopback_users;
            users.retain(|known| known != given.word);
            if given.truth()? {
                users.push(given.word.to_owned());
            }
            Ok(())
        },
        show: |config| Shown::names(&config.loopback_users),
    },
    Key {
        name: "loopback_users",
        form: "`none`",
        about: "nobody is confined to this machine",
        counts: Counts::As("loopback_users.*"),
        set: |settings, given| {
            if given.value != "none" {
                return Err("only 'none' is known; name users with loopback_users.NAME = true".to_owned());
            }
            settings.config.loopback_users.clear();
            Ok(())
        },
        show: |_| Shown::Unset,
    },
    Key {
        name: "anonymous_login_user",
        form: "a user, or `none`",
        about: "whom clients with the mechanism ANONYMOUS log in as; `none` refuses them. As in RabbitMQ 4",
        counts: anonymous(),
        set: |settings, given| {
            let login = &mut settings.config.anonymous_login;
            if given.value == "none" {
                *login = None;
            } else {
                login.get_or_insert_default().0 = given.text();
            }
            Ok(())
        },
        show: |config| Shown::or(config.anonymous_login.as_ref().map(|(user, _)| user), "none"),
    },
    Key {
        name: "anonymous_login_pass",
        form: "text",
        about: "that user's password",
        counts: anonymous(),
        set: |settings, given| {
            settings.config.anonymous_login.get_or_insert_default().1 = given.text();
            Ok(())
        },
        show: |config| Shown::secret(config.anonymous_login.is_some()),
    },
];

const fn anonymous() -> Counts {
    Counts::ForNew(|live, new| live.anonymous_login.clone_from(&new.anonymous_login))
}
