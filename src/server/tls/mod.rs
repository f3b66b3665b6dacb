//! TLS for any listener: certificates, who may connect, and the same again when the configuration is loaded anew.
//!
//! An [`Acceptor`] has what a listener needs at the moment. Loading replaces it as a whole, or not at all: a certificate that
//! cannot be used leaves the old one in place, and connections that are open keep what they have.

mod certificate;
mod cipher;
mod facts;
mod pem;
mod resolver;
mod traditional;
mod verifier;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::warn;

use crate::config::TlsSettings;
pub(crate) use facts::TlsFacts;

/// Protocols that HTTPS listeners agree on (ALPN).
pub(crate) const HTTP: &[&[u8]] = &[b"http/1.1"];
/// AMQP has none; whatever clients propose is passed over.
pub(crate) const AMQP: &[&[u8]] = &[];

/// What accepts TLS connections for a listener.
pub(crate) struct Acceptor {
    /// The keys of its settings begin with this.
    prefix: &'static str,
    protocols: &'static [&'static [u8]],
    current: RwLock<Loaded>,
}

/// What was loaded last.
struct Loaded {
    acceptor: TlsAcceptor,
    certificates: Vec<Held>,
}

/// A certificate of a listener's files, whether its own, of its chain, or of an authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The keys of the listener's settings begin with this.
    pub(crate) listener: String,
    pub(crate) file: String,
    pub(crate) subject: String,
    /// Seconds since 1970.
    pub(crate) expires_at: u64,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// An acceptor with the settings whose keys begin with `prefix`.
    pub(crate) fn new(
        prefix: &'static str,
        settings: &TlsSettings,
        protocols: &'static [&'static [u8]],
    ) -> Result<Arc<Self>, String> {
        let current = load(prefix, settings, protocols)?;
        Ok(Arc::new(Self { prefix, protocols, current: RwLock::new(current) }))
    }

    /// The keys of its settings begin with this.
    pub(crate) fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// Reads certificates and keys again, with these settings. If that fails everything stays as it is.
    pub(crate) fn reload(&self, settings: &TlsSettings) -> Result<(), String> {
        let new = load(self.prefix, settings, self.protocols)?;
        *self.current.write() = new;
        Ok(())
    }

    /// The certificates in use.
    pub(crate) fn certificates(&self) -> Vec<Held> {
        self.current.read().certificates.clone()
    }

    /// The TLS handshake.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
        within: Duration,
    ) -> io::Result<TlsStream<S>> {
        let acceptor = self.current.read().acceptor.clone();
        tokio::time::timeout(within, acceptor.accept(socket))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")))
    }
}

/// Everything that a listener needs, from files.
fn load(prefix: &'static str, settings: &TlsSettings, protocols: &'static [&'static [u8]]) -> Result<Loaded, String> {
    let wrong = |cause: String| format!("{prefix}: {cause}");
    let provider = Arc::new(cipher::provider(prefix, settings).map_err(wrong)?);
    let versions = cipher::versions(prefix, settings).map_err(wrong)?;
    let resolver = resolver::Certificates::load(settings, &provider).map_err(wrong)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|cause| wrong(cause.to_string()))?;
    let builder = if settings.verify_peer {
        let file = settings.cacertfile.as_ref();
        let file = file.ok_or_else(|| wrong("verify_peer needs cacertfile".to_owned()))?;
        let roots = Arc::new(pem::authorities(file).map_err(wrong)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
        let verifier = if settings.fail_if_no_peer_cert { verifier } else { verifier.allow_unauthenticated() };
        let verifier = verifier.build().map_err(|cause| wrong(cause.to_string()))?;
        builder.with_client_cert_verifier(match settings.depth {
            Some(depth) => verifier::Bounded::wrap(verifier, depth),
            None => verifier,
        })
    } else {
        if settings.fail_if_no_peer_cert {
            warn!("{prefix}.fail_if_no_peer_cert has no effect without {prefix}.verify = verify_peer");
        }
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.ignore_client_order = settings.honor_cipher_order;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    if !settings.reuse_sessions {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Loaded { acceptor: TlsAcceptor::from(Arc::new(config)), certificates: held(prefix, settings) })
}

/// The certificates of all files. Those of a file that is named but not needed may be missing.
fn held(prefix: &str, settings: &TlsSettings) -> Vec<Held> {
    let named = settings.named.values().filter_map(|named| named.files.certfile.as_ref());
    let files = settings.certificate.certfile.iter().chain(&settings.cacertfile).chain(named);
    let all = files.flat_map(|file| {
        let certificates = pem::certificates(file).unwrap_or_default();
        certificates.into_iter().filter_map(move |der| {
            let (subject, expires_at) = certificate::expiry(&der)?;
            Some(Held { listener: prefix.to_owned(), file: file.display().to_string(), subject, expires_at })
        })
    });
    all.collect()
}
