//! Certificates for tests: an authority of the test's own, and who it vouches for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::stream::{SERVER_NAME, TlsClient};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate with its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&[(DnType::CommonName, name)]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A broker's certificate for these host names.
    pub fn broker(&self, hosts: &[&str]) -> Identity {
        self.vouch(&[(DnType::CommonName, hosts[0])], host_names(hosts))
    }

    /// A client's certificate.
    pub fn client(&self, parts: &[(DnType, &str)], names: Vec<SanType>) -> Identity {
        self.vouch(parts, names)
    }

    /// A broker's certificate for a key that it has already.
    pub fn broker_with(&self, hosts: &[&str], key: &str) -> String {
        let key = KeyPair::from_pem(key).expect("a key");
        self.sign(&[(DnType::CommonName, hosts[0])], host_names(hosts), &key)
    }

    fn vouch(&self, parts: &[(DnType, &str)], names: Vec<SanType>) -> Identity {
        let key = KeyPair::generate().expect("a key");
        Identity { certificate: self.sign(parts, names, &key), key: key.serialize_pem() }
    }

    fn sign(&self, parts: &[(DnType, &str)], names: Vec<SanType>, key: &KeyPair) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(parts);
        params.subject_alt_names = names;
        params.signed_by(key, &self.issuer).expect("a certificate").pem()
    }

    /// A client that trusts this authority, and shows a certificate if it has one.
    pub fn trusting(&self, identity: Option<&Identity>) -> TlsClient {
        self.trusting_with(identity, rustls::ALL_VERSIONS)
    }

    /// The same with certain versions of TLS.
    pub fn trusting_with(
        &self,
        identity: Option<&Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("a certificate")).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).expect("known versions").with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("it is one")];
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("they fit")
            }
        };
        TlsClient { config: Arc::new(config), server_name: SERVER_NAME }
    }
}

impl Identity {
    /// Writes both into a directory, as `NAME.pem` and `NAME.key`; their paths.
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&certificate, &self.certificate).expect("written");
        std::fs::write(&key, &self.key).expect("written");
        (certificate, key)
    }
}

fn host_names(hosts: &[&str]) -> Vec<SanType> {
    hosts.iter().map(|host| SanType::DnsName((*host).try_into().expect("a name"))).collect()
}

fn named(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in parts {
        name.push(kind.clone(), *value);
    }
    name
}
