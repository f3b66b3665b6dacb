//! Which certificate a client is shown: by the server name that it asks for (SNI), or the listener's own.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pem;
use crate::config::{CertificateFiles, TlsSettings};

/// A listener's certificates.
#[derive(Debug)]
pub(super) struct Certificates {
    own: Arc<CertifiedKey>,
    /// By name, in lower case; `*.example.com` stands for any one word there.
    named: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    pub(super) fn load(settings: &TlsSettings, provider: &CryptoProvider) -> Result<Self, String> {
        let own = certified(&settings.certificate, provider)?;
        let mut named = HashMap::new();
        for (word, certificate) in &settings.named {
            let key = certified(&certificate.files, provider).map_err(|cause| format!("sni.{word}: {cause}"))?;
            let hosts = certificate.hosts.split([',', ' ']).filter(|host| !host.is_empty());
            let before = named.len();
            named.extend(hosts.map(|host| (host.to_ascii_lowercase(), key.clone())));
            if named.len() == before {
                return Err(format!("sni.{word}.hosts names no host of its own"));
            }
        }
        Ok(Self { own, named })
    }

    fn find(&self, name: &str) -> &Arc<CertifiedKey> {
        let name = name.to_ascii_lowercase();
        let found = self.named.get(&name).or_else(|| {
            let (_, domain) = name.split_once('.')?;
            self.named.get(&format!("*.{domain}"))
        });
        found.unwrap_or(&self.own)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(hello.server_name().map_or(&self.own, |name| self.find(name)).clone())
    }
}

fn certified(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, String> {
    let (chain, key) = pem::certificate(files)?;
    let certified = CertifiedKey::from_der(chain, key, provider);
    certified.map(Arc::new).map_err(|cause| format!("certificate and key cannot be used: {cause}"))
}
