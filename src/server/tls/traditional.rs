//! Private keys that are encrypted as OpenSSL did it before PKCS #8: the parameters stand in lines above the base64 text, and
//! the encryption key is MD5 of password and salt. `openssl rsa -aes256` of today still does with `-traditional`.

use aes::{Aes128, Aes192, Aes256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use des::TdesEde3;
use md5::{Digest, Md5};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivateSec1KeyDer};

pub(super) const WRONG_PASSWORD: &str = "the key cannot be decrypted with this password";
pub(super) const UNKNOWN: &str =
    "the key is encrypted in a way that is not known here; 'openssl pkcs8 -topk8' makes it readable";

/// The octets of the initial vector that are the key's salt, too.
const SALT: usize = 8;

/// An encrypted key as it stands in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Encrypted<'a> {
    kind: Kind,
    /// Cipher and initial vector, as the file has them.
    parameters: &'a str,
    base64: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    Ec,
}

impl<'a> Encrypted<'a> {
    /// The first key of a file, if it is such a one.
    pub(super) fn find(text: &'a str) -> Option<Self> {
        [("RSA", Kind::Rsa), ("EC", Kind::Ec)].into_iter().find_map(|(name, kind)| {
            let (_, rest) = text.split_once(&format!("-----BEGIN {name} PRIVATE KEY-----"))?;
            let (section, _) = rest.split_once(&format!("-----END {name} PRIVATE KEY-----"))?;
            let rest = section.trim_start().strip_prefix("Proc-Type: 4,ENCRYPTED")?;
            let (parameters, base64) = rest.trim_start().strip_prefix("DEK-Info:")?.split_once('\n')?;
            Some(Self { kind, parameters: parameters.trim(), base64 })
        })
    }

    pub(super) fn decrypt(&self, password: &str) -> Result<PrivateKeyDer<'static>, &'static str> {
        let unreadable = "the encrypted key cannot be read";
        let (cipher, iv) = self.parameters.split_once(',').ok_or(unreadable)?;
        let iv = octets(iv).ok_or(unreadable)?;
        let base64: String = self.base64.split_ascii_whitespace().collect();
        let mut sealed = STANDARD.decode(base64).map_err(|_| unreadable)?;
        let salt = iv.get(..SALT).ok_or(unreadable)?;
        let password = password.as_bytes();
        let key = match cipher {
            "AES-128-CBC" => opened::<Aes128>(&derived::<16>(password, salt), &iv, &mut sealed),
            "AES-192-CBC" => opened::<Aes192>(&derived::<24>(password, salt), &iv, &mut sealed),
            "AES-256-CBC" => opened::<Aes256>(&derived::<32>(password, salt), &iv, &mut sealed),
            "DES-EDE3-CBC" => opened::<TdesEde3>(&derived::<24>(password, salt), &iv, &mut sealed),
            _ => return Err(UNKNOWN),
        };
        // A wrong password makes noise, of which one in some hundred ends as if it were padded.
        let key = key.filter(|key| is_sequence(key)).ok_or(WRONG_PASSWORD)?;
        Ok(match self.kind {
            Kind::Rsa => PrivatePkcs1KeyDer::from(key).into(),
            Kind::Ec => PrivateSec1KeyDer::from(key).into(),
        })
    }
}

/// OpenSSL's `EVP_BytesToKey` with MD5 and one round.
fn derived<const LENGTH: usize>(password: &[u8], salt: &[u8]) -> [u8; LENGTH] {
    let mut key = [0; LENGTH];
    let mut block: Vec<u8> = Vec::new();
    for part in key.chunks_mut(Md5::output_size()) {
        block = Md5::new().chain_update(&block).chain_update(password).chain_update(salt).finalize().to_vec();
        part.copy_from_slice(&block[..part.len()]);
    }
    key
}

fn opened<C: BlockCipherDecrypt + KeyInit>(key: &[u8], iv: &[u8], sealed: &mut [u8]) -> Option<Vec<u8>> {
    let cipher = cbc::Decryptor::<C>::new_from_slices(key, iv).ok()?;
    cipher.decrypt_padded::<Pkcs7>(sealed).ok().map(<[u8]>::to_vec)
}

/// Whether these octets are one DER sequence, as any key is.
fn is_sequence(der: &[u8]) -> bool {
    let Some((&[0x30, first], rest)) = der.split_first_chunk() else { return false };
    if first < 0x80 {
        return rest.len() == usize::from(first);
    }
    let Some((length, content)) = rest.split_at_checked(usize::from(first & 0x7f)) else { return false };
    length.len() <= 4 && length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)) == content.len()
}

/// Reads hexadecimal digits.
fn octets(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.trim().as_bytes();
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => {
            let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            Some(digit(high)? << 4 | digit(low)?)
        }
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_such_key_is_passed_over_or_refused() {
        for text in [
            "",
            "-----BEGIN RSA PRIVATE KEY-----\nMII=\n-----END RSA PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n-----END RSA PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n",
        ] {
            assert_eq!(Encrypted::find(text), None, "{text}");
        }
        let refused = |parameters: &str, base64: &str| {
            let head = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED";
            let text = format!("{head}\nDEK-Info: {parameters}\n\n{base64}\n-----END EC PRIVATE KEY-----");
            Encrypted::find(&text).expect("it looks like one").decrypt("secret").expect_err("it is none")
        };
        let unreadable = "the encrypted key cannot be read";
        assert_eq!(refused("AES-128-CBC", "AAAA"), unreadable);
        assert_eq!(refused("AES-128-CBC,00", "AAAA"), unreadable);
        assert_eq!(refused("AES-128-CBC,0g112233445566778899aabbccddeeff", "AAAA"), unreadable);
        assert_eq!(refused("AES-128-CBC,00112233445566778899aabbccddeeff", "not base64!"), unreadable);
        assert_eq!(refused("RC2-CBC,0011223344556677", "AAAA"), UNKNOWN);
        // The initial vector of another cipher, a text that is no whole number of blocks, none at all, and noise.
        for text in ["AAAAAAAAAAAAAAAAAAAAAA==", "AAAA", ""] {
            assert_eq!(refused("AES-128-CBC,0011223344556677", text), WRONG_PASSWORD);
            assert_eq!(refused("AES-128-CBC,00112233445566778899aabbccddeeff", text), WRONG_PASSWORD);
        }
    }

    #[test]
    fn a_sequence_is_known_by_its_length() {
        assert!(is_sequence(&[0x30, 0]) && is_sequence(&[0x30, 1, 7]) && is_sequence(&[0x30, 0x81, 1, 7]));
        for der in [
            &[][..],
            &[0x30],
            &[0x31, 0],
            &[0x30, 2, 7],
            &[0x30, 0x82, 1],
            &[0x30, 0x85, 0, 0, 0, 0, 1, 7],
            &[0x30, 0xff],
        ] {
            assert!(!is_sequence(der), "{der:?}");
        }
    }
}
