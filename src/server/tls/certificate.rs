//! What a client's certificate says: its names, written as RabbitMQ writes them, and the user that it stands for.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{BmpString, Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::{RdnSequence, RelativeDistinguishedName};

use crate::config::{CertificateLogin, LoginFrom, SanType};

/// Attributes that RabbitMQ has a word for; others are shown by their numbers.
const WORDS: [(&str, &str); 16] = [
    ("2.5.4.4", "SN"),
    ("2.5.4.42", "GIVENNAME"),
    ("2.5.4.43", "INITIALS"),
    ("2.5.4.44", "GENERATIONQUALIFIER"),
    (COMMON_NAME, "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "TITLE"),
    ("2.5.4.6", "C"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.65", "PSEUDONYM"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "EMAILADDRESS"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];
const COMMON_NAME: &str = "2.5.4.3";

/// Names and dates of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Whose it is, such as `CN=ada,O=Analytical Engines`.
    pub(crate) name: String,
    /// Who vouches for it.
    pub(crate) issuer: String,
    /// `2026-01-01T00:00:00Z - 2027-01-01T00:00:00Z`.
    pub(crate) validity: String,
    common_names: Vec<String>,
    alternative_names: Vec<(SanType, String)>,
}

impl Subject {
    /// Reads a certificate; `None` if it is none.
    pub(super) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let body = certificate.tbs_certificate();
        let validity = body.validity();
        let common_names = attributes(body.subject().as_ref()).filter(|(kind, _)| kind == COMMON_NAME);
        let alternative = body.get_extension::<SubjectAltName>().ok().flatten();
        let alternative = alternative.map(|(_, names)| names.0).unwrap_or_default();
        Some(Self {
            name: distinguished_name(body.subject().as_ref()),
            issuer: distinguished_name(body.issuer().as_ref()),
            validity: format!("{} - {}", validity.not_before.to_date_time(), validity.not_after.to_date_time()),
            common_names: common_names.map(|(_, value)| value).collect(),
            alternative_names: alternative.iter().filter_map(alternative_name).collect(),
        })
    }

    /// The user that it stands for.
    pub(crate) fn user(&self, how: CertificateLogin) -> Option<String> {
        let name = match how.from {
            LoginFrom::DistinguishedName => self.name.clone(),
            LoginFrom::CommonName => self.common_names.join(","),
            LoginFrom::SubjectAlternativeName => {
                let mut of_type = self.alternative_names.iter().filter(|(kind, _)| *kind == how.san_type);
                of_type.nth(how.san_index)?.1.clone()
            }
        };
        Some(name).filter(|name| !name.is_empty())
    }
}

/// Whose a certificate is, and the second since 1970 at which it expires.
pub(super) fn expiry(der: &CertificateDer<'_>) -> Option<(String, u64)> {
    let certificate = Certificate::from_der(der).ok()?;
    let body = certificate.tbs_certificate();
    let expires_at = body.validity().not_after.to_unix_duration().as_secs();
    Some((distinguished_name(body.subject().as_ref()), expires_at))
}

/// Whether a certificate is signed with a key of its own name.
pub(super) fn is_self_issued(der: &CertificateDer<'_>) -> bool {
    Certificate::from_der(der).is_ok_and(|certificate| {
        let body = certificate.tbs_certificate();
        body.subject() == body.issuer()
    })
}

/// A name as RabbitMQ writes it: as RFC 4514 does, the last part first.
fn distinguished_name(name: &RdnSequence) -> String {
    let part = |attribute: &AttributeTypeAndValue| {
        let kind = attribute.oid.to_string();
        let word = WORDS.iter().find(|(known, _)| *known == kind).map_or(kind.as_str(), |(_, word)| *word);
        format!("{word}={}", escaped(&value(attribute)))
    };
    let parts = name.iter().map(|set| set.iter().map(part).collect::<Vec<_>>().join("+"));
    let parts: Vec<String> = parts.collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attributes(name: &RdnSequence) -> impl Iterator<Item = (String, String)> {
    let all = name.iter().flat_map(RelativeDistinguishedName::iter);
    all.map(|attribute| (attribute.oid.to_string(), value(attribute)))
}

/// An attribute's value as text; what is no text is shown octet for octet.
#[expect(clippy::wildcard_enum_match_arm, reason = "most types of ASN.1 are no text")]
fn value(attribute: &AttributeTypeAndValue) -> String {
    let any = &attribute.value;
    let text = match any.tag() {
        Tag::Utf8String => any.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::PrintableString => any.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::Ia5String => any.decode_as::<Ia5StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::TeletexString => any.decode_as::<TeletexStringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::BmpString => any.decode_as::<BmpString>().ok().map(|text| text.to_string()),
        _ => None,
    };
    text.unwrap_or_else(|| {
        let octets = any.to_der().unwrap_or_default();
        octets.iter().fold("#".to_owned(), |text, octet| format!("{text}{octet:02X}"))
    })
}

/// A value with what would end it escaped, and all that is not ASCII as its octets.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    let last = value.len().saturating_sub(1);
    for (at, octet) in value.bytes().enumerate() {
        match octet {
            b' ' | b'#' if at == 0 => text.extend(['\\', char::from(octet)]),
            b' ' if at == last => text.push_str("\\ "),
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => text.extend(['\\', char::from(octet)]),
            0..32 | 126.. => text.extend(hexadecimal(octet)),
            _ => text.push(char::from(octet)),
        }
    }
    text
}

/// An octet as RFC 4514 writes one that is no character.
fn hexadecimal(octet: u8) -> [char; 3] {
    let digit = |number: u8| char::from(b"0123456789ABCDEF"[usize::from(number)]);
    ['\\', digit(octet >> 4), digit(octet & 15)]
}

fn alternative_name(name: &GeneralName) -> Option<(SanType, String)> {
    match name {
        GeneralName::DnsName(name) => Some((SanType::Dns, name.as_str().to_owned())),
        GeneralName::Rfc822Name(name) => Some((SanType::Email, name.as_str().to_owned())),
        GeneralName::UniformResourceIdentifier(name) => Some((SanType::Uri, name.as_str().to_owned())),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()?;
            Some((SanType::Ip, ip.to_string()))
        }
        GeneralName::OtherName(name) => {
            let text = name.value.decode_as::<Utf8StringRef<'_>>().ok()?;
            Some((SanType::OtherName, text.as_str().to_owned()))
        }
        GeneralName::DirectoryName(_) | GeneralName::EdiPartyName(_) | GeneralName::RegisteredId(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, Issuer, KeyPair, SanType as RcgenSan};

    use super::*;

    fn subject(parts: &[(DnType, DnValue)], names: Vec<RcgenSan>) -> Subject {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.subject_alt_names = names;
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2051, 3, 4);
        let mut authority = CertificateParams::default();
        authority.distinguished_name = DistinguishedName::new();
        authority.distinguished_name.push(DnType::CommonName, "the authority");
        let (key, authority_key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let issuer = Issuer::new(authority, authority_key);
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        Subject::read(certificate.der()).expect("it is read")
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn names_are_written_as_rabbitmq_does() {
        let found = subject(
            &[
                (DnType::CountryName, DnValue::PrintableString("DE".try_into().expect("printable"))),
                (DnType::OrganizationName, utf8("Müller, Söhne \"+\" Co")),
                (DnType::CustomDnType(vec![1, 2, 3, 4]), utf8("x")),
                (DnType::CommonName, utf8(" #ada~ ")),
            ],
            Vec::new(),
        );
        assert_eq!(found.name, "CN=\\ #ada\\7E\\ ,1.2.3.4=x,O=M\\C3\\BCller\\, S\\C3\\B6hne \\\"\\+\\\" Co,C=DE");
        assert_eq!(found.issuer, "CN=the authority");
        assert_eq!(found.validity, "2026-01-02T00:00:00Z - 2051-03-04T00:00:00Z");
        assert_eq!(found.user(CertificateLogin::default()), Some(found.name.clone()));
    }

    #[test]
    fn the_user_is_taken_from_where_the_configuration_says() {
        let names = vec![
            RcgenSan::DnsName("a.example".try_into().expect("a name")),
            RcgenSan::DnsName("b.example".try_into().expect("a name")),
            RcgenSan::Rfc822Name("ada@example".try_into().expect("a name")),
            RcgenSan::URI("urn:ada".try_into().expect("a name")),
            RcgenSan::IpAddress(IpAddr::from([192, 0, 2, 1])),
            RcgenSan::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], "ada@realm".into())),
        ];
        let found = subject(&[(DnType::CommonName, utf8("ada"))], names);
        let user = |from, san_type, san_index| found.user(CertificateLogin { from, san_type, san_index });
        let check = |san_type, index, expected: Option<&str>| {
            assert_eq!(user(LoginFrom::SubjectAlternativeName, san_type, index).as_deref(), expected);
        };
        assert_eq!(user(LoginFrom::CommonName, SanType::Dns, 0).as_deref(), Some("ada"));
        check(SanType::Dns, 0, Some("a.example"));
        check(SanType::Dns, 1, Some("b.example"));
        check(SanType::Dns, 2, None);
        check(SanType::Email, 0, Some("ada@example"));
        check(SanType::Uri, 0, Some("urn:ada"));
        check(SanType::Ip, 0, Some("192.0.2.1"));
        check(SanType::OtherName, 0, Some("ada@realm"));
    }

    #[test]
    fn a_certificate_without_the_name_asked_for_stands_for_nobody() {
        let found = subject(&[(DnType::OrganizationName, utf8("o"))], Vec::new());
        let from = |from| found.user(CertificateLogin { from, ..CertificateLogin::default() });
        assert_eq!(from(LoginFrom::CommonName), None);
        assert_eq!(from(LoginFrom::SubjectAlternativeName), None);
        assert_eq!(from(LoginFrom::DistinguishedName).as_deref(), Some("O=o"));
        assert_eq!(Subject::read(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
