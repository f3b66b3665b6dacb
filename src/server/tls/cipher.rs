//! Versions of TLS and cipher suites, by the names that configurations have for them.

use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuite, ProtocolVersion, SupportedProtocolVersion, version};
use tracing::warn;

use crate::config::TlsSettings;

/// A cipher suite and its names: OpenSSL's, the standard's, and the three parts in which RabbitMQ shows it.
struct Suite {
    id: CipherSuite,
    openssl: &'static str,
    standard: &'static str,
    key_exchange: &'static str,
    cipher: &'static str,
}

/// What the TLS library can do. All of them authenticate what they encrypt.
const SUITES: [Suite; 9] = [
    Suite {
        id: CipherSuite::TLS13_AES_256_GCM_SHA384,
        openssl: "TLS_AES_256_GCM_SHA384",
        standard: "TLS_AES_256_GCM_SHA384",
        key_exchange: "any",
        cipher: "aes_256_gcm",
    },
    Suite {
        id: CipherSuite::TLS13_AES_128_GCM_SHA256,
        openssl: "TLS_AES_128_GCM_SHA256",
        standard: "TLS_AES_128_GCM_SHA256",
        key_exchange: "any",
        cipher: "aes_128_gcm",
    },
    Suite {
        id: CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        openssl: "TLS_CHACHA20_POLY1305_SHA256",
        standard: "TLS_CHACHA20_POLY1305_SHA256",
        key_exchange: "any",
        cipher: "chacha20_poly1305",
    },
    Suite {
        id: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        openssl: "ECDHE-ECDSA-AES256-GCM-SHA384",
        standard: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        key_exchange: "ecdhe_ecdsa",
        cipher: "aes_256_gcm",
    },
    Suite {
        id: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        openssl: "ECDHE-ECDSA-AES128-GCM-SHA256",
        standard: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        key_exchange: "ecdhe_ecdsa",
        cipher: "aes_128_gcm",
    },
    Suite {
        id: CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        openssl: "ECDHE-ECDSA-CHACHA20-POLY1305",
        standard: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        key_exchange: "ecdhe_ecdsa",
        cipher: "chacha20_poly1305",
    },
    Suite {
        id: CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        openssl: "ECDHE-RSA-AES256-GCM-SHA384",
        standard: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        key_exchange: "ecdhe_rsa",
        cipher: "aes_256_gcm",
    },
    Suite {
        id: CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        openssl: "ECDHE-RSA-AES128-GCM-SHA256",
        standard: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        key_exchange: "ecdhe_rsa",
        cipher: "aes_128_gcm",
    },
    Suite {
        id: CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        openssl: "ECDHE-RSA-CHACHA20-POLY1305",
        standard: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        key_exchange: "ecdhe_rsa",
        cipher: "chacha20_poly1305",
    },
];

/// How RabbitMQ shows a suite: key exchange, cipher, hash.
pub(super) fn parts(suite: CipherSuite) -> [&'static str; 3] {
    let found = SUITES.iter().find(|known| known.id == suite);
    found.map_or(["", "", ""], |known| [known.key_exchange, known.cipher, "aead"])
}

/// How RabbitMQ shows a version.
#[expect(clippy::wildcard_enum_match_arm, reason = "others are not spoken")]
pub(super) const fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "tlsv1.3",
        ProtocolVersion::TLSv1_2 => "tlsv1.2",
        _ => "",
    }
}

/// The cipher suites of the settings, in their order, or all that there are.
pub(super) fn provider(prefix: &str, settings: &TlsSettings) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if settings.ciphers.is_empty() {
        return Ok(provider);
    }
    let mut chosen = Vec::new();
    let mut passed_over = Vec::new();
    for (_, name) in &settings.ciphers {
        let known = SUITES.iter().find(|known| known.openssl == name || known.standard == name);
        match known.and_then(|known| provider.cipher_suites.iter().find(|suite| suite.suite() == known.id)) {
            Some(suite) => chosen.push(*suite),
            None => passed_over.push(name.as_str()),
        }
    }
    if !passed_over.is_empty() {
        warn!(ciphers = passed_over.join(" "), "{prefix}.ciphers: these are not there and are passed over");
    }
    if chosen.is_empty() {
        return Err("ciphers: none of these is there".to_owned());
    }
    provider.cipher_suites = chosen;
    Ok(provider)
}

/// The versions of the settings, or both.
pub(super) fn versions(prefix: &str, settings: &TlsSettings) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    if settings.versions.is_empty() {
        return Ok(vec![&version::TLS13, &version::TLS12]);
    }
    let mut chosen = Vec::new();
    for (_, name) in &settings.versions {
        match name.as_str() {
            "tlsv1.3" => chosen.push(&version::TLS13),
            "tlsv1.2" => chosen.push(&version::TLS12),
            "tlsv1.1" | "tlsv1" | "sslv3" => {
                warn!(version = name, "{prefix}.versions: it is too old to be safe and is passed over");
            }
            other => return Err(format!("versions: tlsv1.2 or tlsv1.3, not '{other}'")),
        }
    }
    if chosen.is_empty() { Err("versions: none of these is spoken".to_owned()) } else { Ok(chosen) }
}

#[cfg(test)]
mod tests {
    use rustls::SupportedCipherSuite;

    use super::*;

    fn settings(ciphers: &[&str], versions: &[&str]) -> TlsSettings {
        let numbered = |words: &[&str]| {
            words.iter().enumerate().map(|(number, word)| (number.to_string(), (*word).to_owned())).collect()
        };
        TlsSettings { ciphers: numbered(ciphers), versions: numbered(versions), ..TlsSettings::default() }
    }

    #[test]
    fn every_suite_of_the_library_has_names() {
        let all = provider("ssl_options", &TlsSettings::default()).expect("the default").cipher_suites;
        assert_eq!(all.len(), SUITES.len());
        for suite in all {
            assert_ne!(parts(suite.suite()), ["", "", ""], "{suite:?}");
        }
    }

    #[test]
    fn suites_are_chosen_by_either_name_and_keep_their_order() {
        let chosen = |ciphers: &[&str]| {
            let provider = provider("ssl_options", &settings(ciphers, &[]));
            provider.map(|provider| provider.cipher_suites.iter().map(SupportedCipherSuite::suite).collect::<Vec<_>>())
        };
        assert_eq!(
            chosen(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "DHE-RSA-AES256-SHA", "ECDHE-ECDSA-AES256-GCM-SHA384"]),
            Ok(vec![
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            ])
        );
        assert!(chosen(&["DHE-RSA-AES256-SHA"]).is_err());
    }

    #[test]
    fn old_versions_are_passed_over() {
        let chosen = |names: &[&str]| {
            let versions = versions("ssl_options", &settings(&[], names));
            versions.map(|versions| versions.iter().map(|version| version.version).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[]).map(|all| all.len()), Ok(2));
        assert_eq!(chosen(&["tlsv1.2", "tlsv1.1"]), Ok(vec![ProtocolVersion::TLSv1_2]));
        assert!(chosen(&["tlsv1.1"]).is_err() && chosen(&["tls"]).is_err());
    }
}
