//! How a listener speaks TLS, and what a client's certificate says of its user.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// A certificate with its key, from PEM files.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by those that lead to its authority.
    pub certfile: Option<PathBuf>,
    /// Its private key.
    pub keyfile: Option<PathBuf>,
    /// The password of an encrypted key.
    pub password: Option<String>,
}

impl fmt::Debug for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateFiles").field("certfile", &self.certfile).finish_non_exhaustive()
    }
}

/// A certificate for certain server names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedCertificate {
    /// The names, separated by commas or spaces; `*.example.com` stands for any one word there.
    pub hosts: String,
    /// The certificate.
    pub files: CertificateFiles,
}

/// How a listener speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own in the configuration")]
pub struct TlsSettings {
    /// The authorities whose client certificates are trusted.
    pub cacertfile: Option<PathBuf>,
    /// What the broker shows.
    pub certificate: CertificateFiles,
    /// Clients are asked for a certificate, which must be good if they have one.
    pub verify_peer: bool,
    /// Clients must have one.
    pub fail_if_no_peer_cert: bool,
    /// Certificates at most between a client's and its authority's.
    pub depth: Option<u32>,
    /// TLS versions as the configuration names them, by the words behind the key; none for all that there are.
    pub versions: Vec<(String, String)>,
    /// Cipher suites, likewise.
    pub ciphers: Vec<(String, String)>,
    /// The broker's order of cipher suites counts, not the client's.
    pub honor_cipher_order: bool,
    /// Clients may resume sessions.
    pub reuse_sessions: bool,
    /// Certificates for server names (SNI).
    pub named: BTreeMap<String, NamedCertificate>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            cacertfile: None,
            certificate: CertificateFiles::default(),
            verify_peer: false,
            fail_if_no_peer_cert: false,
            depth: None,
            versions: Vec::new(),
            ciphers: Vec::new(),
            honor_cipher_order: false,
            reuse_sessions: true,
            named: BTreeMap::new(),
        }
    }
}

/// A listener of HTTP over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpsSettings {
    /// Its address; without one it is every address.
    pub ip: Option<IpAddr>,
    /// Its port; without one there is no such listener.
    pub port: Option<u16>,
    /// How it speaks TLS.
    pub tls: TlsSettings,
}

impl HttpsSettings {
    /// Where to listen, if anywhere.
    pub fn address(&self) -> Option<SocketAddr> {
        let ip = self.ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        self.port.map(|port| SocketAddr::new(ip, port))
    }
}

/// What of a certificate is the user's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoginFrom {
    /// The whole subject, such as `CN=ada,O=Analytical Engines`.
    #[default]
    DistinguishedName,
    /// The subject's common names, joined by commas.
    CommonName,
    /// A subject alternative name.
    SubjectAlternativeName,
}

/// A kind of subject alternative names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SanType {
    /// A host name.
    #[default]
    Dns,
    /// An address.
    Ip,
    /// A mail address.
    Email,
    /// A URI.
    Uri,
    /// A text of another kind.
    OtherName,
}

/// How clients that log in with their certificate (EXTERNAL) are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CertificateLogin {
    /// What of the certificate counts.
    pub from: LoginFrom,
    /// Which kind of alternative names.
    pub san_type: SanType,
    /// Which of them, from 0.
    pub san_index: usize,
}
