//! Password hashes as RabbitMQ writes them: base64 of four octets of salt and the digest of salt and password.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};

const SALT_BYTES: usize = 4;

/// How a password's digest is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashingAlgorithm {
    /// SHA-256, for new passwords.
    #[default]
    #[serde(rename = "rabbit_password_hashing_sha256")]
    Sha256,
    /// SHA-512.
    #[serde(rename = "rabbit_password_hashing_sha512")]
    Sha512,
    /// MD5, in definitions of old releases.
    #[serde(rename = "rabbit_password_hashing_md5")]
    Md5,
}

impl HashingAlgorithm {
    fn digest(self, salt: &[u8], password: &[u8]) -> Vec<u8> {
        fn of<D: Digest>(salt: &[u8], password: &[u8]) -> Vec<u8> {
            D::new().chain_update(salt).chain_update(password).finalize().to_vec()
        }
        match self {
            Self::Sha256 => of::<Sha256>(salt, password),
            Self::Sha512 => of::<Sha512>(salt, password),
            Self::Md5 => of::<Md5>(salt, password),
        }
    }

    /// The hash of a password with this salt.
    pub fn hash(self, salt: [u8; SALT_BYTES], password: &[u8]) -> String {
        let mut octets = salt.to_vec();
        octets.extend(self.digest(&salt, password));
        BASE64_STANDARD.encode(octets)
    }

    /// Whether this is the password that was hashed. A blank password or hash never is.
    pub fn verify(self, hash: &str, password: &[u8]) -> bool {
        let Ok(octets) = BASE64_STANDARD.decode(hash) else { return false };
        let Some((salt, digest)) = octets.split_at_checked(SALT_BYTES) else { return false };
        !password.is_empty() && same_octets(digest, &self.digest(salt, password))
    }
}

/// Compares in a time that does not tell where the difference is.
fn same_octets(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_that_rabbitmq_made_is_understood() {
        // rabbitmqctl hash_password test12 (an example of RabbitMQ's documentation on credentials).
        let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        assert!(HashingAlgorithm::Sha256.verify(hash, b"test12"));
        assert!(!HashingAlgorithm::Sha256.verify(hash, b"test13"));
    }

    #[test]
    fn every_algorithm_verifies_its_own_hash_only() {
        let all = [HashingAlgorithm::Sha256, HashingAlgorithm::Sha512, HashingAlgorithm::Md5];
        for made in all {
            let hash = made.hash([1, 2, 3, 4], b"secret");
            for checked in all {
                assert_eq!(checked.verify(&hash, b"secret"), made == checked);
            }
            assert!(!made.verify(&hash, b"") && !made.verify("", b"secret") && !made.verify("AQID", b"secret"));
        }
    }
}
