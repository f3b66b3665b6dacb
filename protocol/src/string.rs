//! Short and long strings: octets with a length of one or of four octets (spec §4.2.5.3).
//!
//! Neither need be UTF-8: RabbitMQ keeps names and property values as the octets they came as. Both are reference-counted
//! slices, so that a clone costs no copy. A string that exists fits its length prefix.

use std::borrow::Borrow;
use std::fmt;

use bytes::Bytes;

use crate::error::StringTooLong;

/// A string of at most 255 octets (spec §4.2.5.3).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortString(Bytes);

/// A string of at most 2³² − 1 octets (spec §4.2.5.3).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LongString(Bytes);

impl ShortString {
    /// The largest number of octets.
    pub const MAX_LEN: usize = 255;

    /// The largest number of octets of text that [`truncated`](Self::truncated) keeps before its ellipsis.
    const MAX_CUT_LEN: usize = Self::MAX_LEN - ELLIPSIS.len();

    /// Cuts a text to what a short string can hold, as RabbitMQ does with reply-texts: one of more than 255 octets keeps at
    /// most 252, up to a character boundary, followed by `...`.
    pub fn truncated(text: &str) -> Self {
        if text.len() <= Self::MAX_LEN {
            return Self(Bytes::copy_from_slice(text.as_bytes()));
        }
        let end = (0..=Self::MAX_CUT_LEN).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        Self(Bytes::from([&text[..end], ELLIPSIS].concat()))
    }
}

impl LongString {
    /// The largest number of octets.
    pub const MAX_LEN: usize = u32::MAX as usize;
}

/// What stands for the rest of a text that has been cut.
const ELLIPSIS: &str = "...";

macro_rules! octet_string {
    ($name:ident) => {
        impl $name {
            /// A string known at compile time.
            ///
            /// # Panics
            ///
            /// If the text is longer than [`MAX_LEN`](Self::MAX_LEN); in a constant this is a compile error.
            pub const fn from_static(text: &'static str) -> Self {
                assert!(text.len() <= Self::MAX_LEN, "string literal too long");
                Self(Bytes::from_static(text.as_bytes()))
            }

            /// The octets.
            #[inline]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// The string as text, if it is UTF-8.
            pub fn as_str(&self) -> Option<&str> {
                std::str::from_utf8(&self.0).ok()
            }

            /// The number of octets.
            #[inline]
            pub fn len(&self) -> usize {
                self.0.len()
            }

            /// Whether there are no octets.
            #[inline]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// The octets as the shared slice they are kept in.
            pub fn into_bytes(self) -> Bytes {
                self.0
            }
        }

        impl TryFrom<Bytes> for $name {
            type Error = StringTooLong;

            fn try_from(octets: Bytes) -> Result<Self, StringTooLong> {
                if octets.len() > Self::MAX_LEN {
                    return Err(StringTooLong { len: octets.len(), max: Self::MAX_LEN });
                }
                Ok(Self(octets))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = StringTooLong;

            fn try_from(octets: &[u8]) -> Result<Self, StringTooLong> {
                if octets.len() > Self::MAX_LEN {
                    return Err(StringTooLong { len: octets.len(), max: Self::MAX_LEN });
                }
                Ok(Self(Bytes::copy_from_slice(octets)))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = StringTooLong;

            fn try_from(text: &str) -> Result<Self, StringTooLong> {
                Self::try_from(text.as_bytes())
            }
        }

        impl TryFrom<String> for $name {
            type Error = StringTooLong;

            fn try_from(text: String) -> Result<Self, StringTooLong> {
                Self::try_from(Bytes::from(text))
            }
        }

        impl TryFrom<Vec<u8>> for $name {
            type Error = StringTooLong;

            fn try_from(octets: Vec<u8>) -> Result<Self, StringTooLong> {
                Self::try_from(Bytes::from(octets))
            }
        }

        impl Borrow<[u8]> for $name {
            fn borrow(&self) -> &[u8] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                String::from_utf8_lossy(&self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
            }
        }
    };
}

octet_string!(ShortString);
octet_string!(LongString);

impl From<ShortString> for LongString {
    fn from(string: ShortString) -> Self {
        Self(string.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_string_has_at_most_255_octets() {
        assert_eq!(ShortString::try_from("x".repeat(255)).map(|string| string.len()), Ok(255));
        assert_eq!(ShortString::try_from("x".repeat(256)), Err(StringTooLong { len: 256, max: 255 }));
        assert_eq!(ShortString::try_from(&[0xFF, 0xFE][..]).map(|string| string.as_str().is_none()), Ok(true));
    }

    #[test]
    fn a_long_text_is_cut_on_a_character_boundary() {
        let check = |text: &str, expected_len: usize| {
            let cut = ShortString::truncated(text);
            assert_eq!(cut.len(), expected_len);
            let cut = cut.as_str().expect("a cut text is UTF-8").to_owned();
            assert!(cut == text || text.starts_with(cut.strip_suffix("...").expect("a cut text has an ellipsis")));
        };
        check(&"x".repeat(255), 255);
        check(&"x".repeat(256), 255);
        check(&format!("x{}", "é".repeat(200)), 254);
        check(&"é".repeat(200), 255);
    }

    #[test]
    fn strings_print_lossily() {
        let string = ShortString::try_from(&b"a\xFF\""[..]).expect("short");
        assert_eq!(string.to_string(), "a\u{FFFD}\"");
        assert_eq!(format!("{string:?}"), "\"a\u{FFFD}\\\"\"");
    }

    #[test]
    fn a_map_keyed_by_short_strings_is_searched_by_octets() {
        let map = std::collections::HashMap::from([(ShortString::from_static("orders"), 1)]);
        assert_eq!(map.get(&b"orders"[..]), Some(&1));
    }
}
