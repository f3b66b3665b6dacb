//! A bound on how many certificates may stand between a client's and its authority's (`depth`).

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::certificate::is_self_issued;

/// Verifies as another does, and refuses clients that send longer chains. Certificates that issued themselves do not count.
#[derive(Debug)]
pub(super) struct Bounded {
    inner: Arc<dyn ClientCertVerifier>,
    depth: u32,
}

impl Bounded {
    pub(super) fn wrap(inner: Arc<dyn ClientCertVerifier>, depth: u32) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Self { inner, depth })
    }
}

impl ClientCertVerifier for Bounded {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let between = intermediates.iter().filter(|certificate| !is_self_issued(certificate)).count();
        if u32::try_from(between).map_or(true, |between| between > self.depth) {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        }
        self.inner.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
