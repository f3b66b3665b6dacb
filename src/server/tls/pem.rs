//! Certificates and private keys in PEM files.

use std::path::Path;

use pkcs8::{EncryptedPrivateKeyInfoRef, Error, SecretDocument, pkcs5};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::traditional;
use crate::config::CertificateFiles;

/// How the part of a PEM file begins and ends that holds an encrypted key.
const ENCRYPTED: [&str; 2] = ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "-----END ENCRYPTED PRIVATE KEY-----"];

/// A certificate with those behind it, and its key.
pub(super) fn certificate(
    files: &CertificateFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let certfile = files.certfile.as_ref().ok_or("certfile is not set")?;
    let keyfile = files.keyfile.as_ref().ok_or("keyfile is not set")?;
    Ok((certificates(certfile)?, key(keyfile, files.password.as_deref())?))
}

/// The authorities of a file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|cause| format!("{}: {cause}", path.display()))?;
    }
    Ok(roots)
}

/// All certificates of a file.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let all = all.map_err(|cause| format!("{}: {cause}", path.display()))?;
    if all.is_empty() { Err(format!("{} has no certificate", path.display())) } else { Ok(all) }
}

fn key(path: &Path, password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(path)?;
    let wrong = |cause: &str| format!("{}: {cause}", path.display());
    let needed = || password.ok_or_else(|| wrong("the key is encrypted, and there is no password"));
    if let Some(encrypted) = traditional::Encrypted::find(&text) {
        return encrypted.decrypt(needed()?).map_err(wrong);
    }
    let Some(encrypted) = section(&text) else {
        return PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| wrong("has no private key"));
    };
    let password = needed()?;
    let (_, document) = SecretDocument::from_pem(encrypted).map_err(|_| wrong("the encrypted key cannot be read"))?;
    let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| wrong(traditional::UNKNOWN))?;
    let key = info.decrypt(password).map_err(|cause| {
        let unknown = matches!(cause, Error::EncryptedPrivateKey(pkcs5::Error::UnsupportedAlgorithm { .. }));
        wrong(if unknown { traditional::UNKNOWN } else { traditional::WRONG_PASSWORD })
    })?;
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec())))
}

fn section(text: &str) -> Option<&str> {
    let start = text.find(ENCRYPTED[0])?;
    let end = text[start..].find(ENCRYPTED[1])? + ENCRYPTED[1].len();
    Some(&text[start..start + end])
}

fn read(path: &Path) -> Result<String, String> {
    let octets = std::fs::read(path).map_err(|cause| format!("cannot read {}: {cause}", path.display()))?;
    // What stands between the parts is for people and may have any encoding.
    Ok(String::from_utf8_lossy(&octets).into_owned())
}
