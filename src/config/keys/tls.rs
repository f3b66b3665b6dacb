//! TLS: the same keys for each kind of listener, and what certificates say of users.

use std::path::PathBuf;

use crate::config::key::{Counts, Given, Key, Shown};
use crate::config::{CertificateFiles, LoginFrom, NamedCertificate, SanType, TlsSettings};

/// Puts a value in the place of the one with the same word, or behind all.
fn put(values: &mut Vec<(String, String)>, given: &Given<'_>) {
    match values.iter_mut().find(|(word, _)| word == given.word) {
        Some((_, value)) => *value = given.text(),
        None => values.push((given.word.to_owned(), given.text())),
    }
}

fn path(given: &Given<'_>) -> PathBuf {
    PathBuf::from(given.value)
}

fn shown(path: Option<&PathBuf>) -> Shown {
    Shown::some(path.map(|path| path.display()))
}

fn named<'a>(tls: &'a mut TlsSettings, given: &Given<'_>) -> &'a mut NamedCertificate {
    tls.named.entry(given.word.to_owned()).or_default()
}

fn each_named(tls: &TlsSettings, value: impl Fn(&NamedCertificate) -> Option<String>) -> Shown {
    let values = tls.named.iter().filter_map(|(word, named)| Some((word.clone(), value(named)?)));
    Shown::Each(values.collect())
}

fn file_of(files: &CertificateFiles, file: impl Fn(&CertificateFiles) -> Option<&PathBuf>) -> Option<String> {
    file(files).map(|path| path.display().to_string())
}

/// The keys of a listener that begin with a prefix and whose settings are in a field of the configuration.
macro_rules! tls_keys {
    ($prefix:literal, $($field:ident).+) => {
        &[
            Key {
                name: concat!($prefix, ".certfile"),
                form: "a PEM file",
                about: "the broker's certificate, followed by those that lead to its authority. Read again with each \
                        reload",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    settings.config.$($field).+.certificate.certfile = Some(path(given));
                    Ok(())
                },
                show: |config| shown(config.$($field).+.certificate.certfile.as_ref()),
            },
            Key {
                name: concat!($prefix, ".keyfile"),
                form: "a PEM file",
                about: "its private key: PKCS #8, PKCS #1 or SEC 1",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    settings.config.$($field).+.certificate.keyfile = Some(path(given));
                    Ok(())
                },
                show: |config| shown(config.$($field).+.certificate.keyfile.as_ref()),
            },
            Key {
                name: concat!($prefix, ".password"),
                form: "text",
                about: "the password of a private key that is encrypted, as PKCS #8 (PBES2) or as OpenSSL did it before (`Proc-Type: \
                        4,ENCRYPTED`; AES or 3DES)",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    settings.config.$($field).+.certificate.password = Some(given.text());
                    Ok(())
                },
                show: |config| Shown::secret(config.$($field).+.certificate.password.is_some()),
            },
            Key {
                name: concat!($prefix, ".cacertfile"),
                form: "a PEM file",
                about: "the authorities whose client certificates are trusted",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    settings.config.$($field).+.cacertfile = Some(path(given));
                    Ok(())
                },
                show: |config| shown(config.$($field).+.cacertfile.as_ref()),
            },
            Key {
                name: concat!($prefix, ".verify"),
                form: "`verify_none` or `verify_peer`",
                about: "`verify_peer`: clients are asked for a certificate, and one that no trusted authority stands \
                        behind ends the handshake",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    settings.config.$($field).+.verify_peer =
                        given.one_of(&[("verify_none", false), ("verify_peer", true)])?;
                    Ok(())
                },
                show: |config| {
                    Shown::one(if config.$($field).+.verify_peer { "verify_peer" } else { "verify_none" })
                },
            },
            Key {
                name: concat!($prefix, ".fail_if_no_peer_cert"),
                form: "`true` or `false`",
                about: "with `verify_peer`: clients must have a certificate",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    settings.config.$($field).+.fail_if_no_peer_cert = given.truth()?;
                    Ok(())
                },
                show: |config| Shown::one(config.$($field).+.fail_if_no_peer_cert),
            },
            Key {
                name: concat!($prefix, ".depth"),
                form: "a number",
                about: "certificates at most between a client's and its authority's. Without it the TLS library's own \
                        bound counts",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    settings.config.$($field).+.depth = Some(given.number()?);
                    Ok(())
                },
                show: |config| Shown::some(config.$($field).+.depth),
            },
            Key {
                name: concat!($prefix, ".versions.*"),
                form: "`tlsv1.2` or `tlsv1.3`",
                about: "versions of TLS that are spoken; both without any. Older ones are passed over with a warning",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    put(&mut settings.config.$($field).+.versions, given);
                    Ok(())
                },
                show: |config| Shown::Each(config.$($field).+.versions.clone()),
            },
            Key {
                name: concat!($prefix, ".ciphers.*"),
                form: "a cipher suite, as OpenSSL or the standard names it",
                about: "cipher suites that are offered, the first first; all of the TLS library's without any. Others \
                        are passed over with a warning",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    put(&mut settings.config.$($field).+.ciphers, given);
                    Ok(())
                },
                show: |config| Shown::Each(config.$($field).+.ciphers.clone()),
            },
            Key {
                name: concat!($prefix, ".honor_cipher_order"),
                form: "`true` or `false`",
                about: "the broker's order of cipher suites counts, not the client's",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    settings.config.$($field).+.honor_cipher_order = given.truth()?;
                    Ok(())
                },
                show: |config| Shown::one(config.$($field).+.honor_cipher_order),
            },
            Key {
                name: concat!($prefix, ".reuse_sessions"),
                form: "`true` or `false`",
                about: "clients may resume sessions",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    settings.config.$($field).+.reuse_sessions = given.truth()?;
                    Ok(())
                },
                show: |config| Shown::one(config.$($field).+.reuse_sessions),
            },
            Key {
                name: concat!($prefix, ".crl_check"),
                form: "`false`",
                about: "revocation lists are not looked at: anything else is refused, so that nobody relies on it",
                counts: Counts::AtStart,
                set: |_, given| given.one_of(&[("false", ())]),
                show: |_| Shown::Unset,
            },
            Key {
                name: concat!($prefix, ".sni.*.hosts"),
                form: "host names with commas or spaces between them",
                about: "clients that ask for one of these names (SNI) get the certificate of the same word; \
                        `*.example.com` stands for any one word there. Leveret's own key, as the next three",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    named(&mut settings.config.$($field).+, given).hosts = given.text();
                    Ok(())
                },
                show: |config| each_named(&config.$($field).+, |named| Some(named.hosts.clone())),
            },
            Key {
                name: concat!($prefix, ".sni.*.certfile"),
                form: "a PEM file",
                about: "that certificate",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    named(&mut settings.config.$($field).+, given).files.certfile = Some(path(given));
                    Ok(())
                },
                show: |config| {
                    each_named(&config.$($field).+, |named| file_of(&named.files, |files| files.certfile.as_ref()))
                },
            },
            Key {
                name: concat!($prefix, ".sni.*.keyfile"),
                form: "a PEM file",
                about: "its private key",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    named(&mut settings.config.$($field).+, given).files.keyfile = Some(path(given));
                    Ok(())
                },
                show: |config| {
                    each_named(&config.$($field).+, |named| file_of(&named.files, |files| files.keyfile.as_ref()))
                },
            },
            Key {
                name: concat!($prefix, ".sni.*.password"),
                form: "text",
                about: "the key's password",
                counts: Counts::ForNew(|live, new| live.$($field).+.clone_from(&new.$($field).+)),
                set: |settings, given| {
                    named(&mut settings.config.$($field).+, given).files.password = Some(given.text());
                    Ok(())
                },
                show: |config| {
                    let secret = |named: &NamedCertificate| {
                        named.files.password.is_some().then(|| crate::config::MASK.to_owned())
                    };
                    each_named(&config.$($field).+, secret)
                },
            },
        ]
    };
}

pub(super) const OPTIONS: &[Key] = tls_keys!("ssl_options", tls);
pub(super) const MANAGEMENT_OPTIONS: &[Key] = tls_keys!("management.ssl", management_ssl.tls);
pub(super) const PROMETHEUS_OPTIONS: &[Key] = tls_keys!("prometheus.ssl", prometheus_ssl.tls);

/// Where a listener of HTTP over TLS listens.
macro_rules! https_keys {
    ($prefix:literal, $field:ident, $port:literal) => {
        &[
            Key {
                name: concat!($prefix, ".port"),
                form: "a port",
                about: concat!("the port for HTTPS, usually ", $port, "; without it there is no such listener"),
                counts: Counts::AtStart,
                set: |settings, given| {
                    settings.config.$field.port = Some(given.number()?);
                    Ok(())
                },
                show: |config| Shown::some(config.$field.port),
            },
            Key {
                name: concat!($prefix, ".ip"),
                form: "an address",
                about: "its address; every address without one",
                counts: Counts::AtStart,
                set: |settings, given| {
                    let ip = given.value.parse().map_err(|_| format!("no address: '{}'", given.value))?;
                    settings.config.$field.ip = Some(ip);
                    Ok(())
                },
                show: |config| Shown::some(config.$field.ip),
            },
        ]
    };
}

pub(super) const MANAGEMENT: &[Key] = https_keys!("management.ssl", management_ssl, "15671");
pub(super) const PROMETHEUS: &[Key] = https_keys!("prometheus.ssl", prometheus_ssl, "15691");

/// The user's name in a certificate.
pub(super) const LOGIN: &[Key] = &[
    Key {
        name: "ssl_cert_login_from",
        form: "`distinguished_name`, `common_name` or `subject_alternative_name`",
        about: "what of a client's certificate is the name of its user, for the mechanism EXTERNAL. `subject_alt_name` is \
                the same as the last",
        counts: login(),
        set: |settings, given| {
            settings.config.certificate_login.from = given.one_of(&[
                ("distinguished_name", LoginFrom::DistinguishedName),
                ("common_name", LoginFrom::CommonName),
                ("subject_alternative_name", LoginFrom::SubjectAlternativeName),
                ("subject_alt_name", LoginFrom::SubjectAlternativeName),
            ])?;
            Ok(())
        },
        show: |config| {
            Shown::one(match config.certificate_login.from {
                LoginFrom::DistinguishedName => "distinguished_name",
                LoginFrom::CommonName => "common_name",
                LoginFrom::SubjectAlternativeName => "subject_alternative_name",
            })
        },
    },
    Key {
        name: "ssl_cert_login_san_type",
        form: "`dns`, `ip`, `email`, `uri` or `other_name`",
        about: "which kind of subject alternative names counts",
        counts: login(),
        set: |settings, given| {
            settings.config.certificate_login.san_type = given.one_of(&[
                ("dns", SanType::Dns),
                ("ip", SanType::Ip),
                ("email", SanType::Email),
                ("uri", SanType::Uri),
                ("other_name", SanType::OtherName),
            ])?;
            Ok(())
        },
        show: |config| {
            Shown::one(match config.certificate_login.san_type {
                SanType::Dns => "dns",
                SanType::Ip => "ip",
                SanType::Email => "email",
                SanType::Uri => "uri",
                SanType::OtherName => "other_name",
            })
        },
    },
    Key {
        name: "ssl_cert_login_san_index",
        form: "a number",
        about: "which of them, from 0",
        counts: login(),
        set: |settings, given| {
            settings.config.certificate_login.san_index = given.number()?;
            Ok(())
        },
        show: |config| Shown::one(config.certificate_login.san_index),
    },
];

const fn login() -> Counts {
    Counts::ForNew(|live, new| live.certificate_login = new.certificate_login)
}
