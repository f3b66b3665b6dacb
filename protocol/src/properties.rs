//! Content headers and the properties of class basic (spec §4.2.6.1, §1.8).
//!
//! [`PropertiesRef`] checks a property list once, without allocating, and leaves it where it is: what the broker forwards
//! untouched is octet for octet what came. [`BasicProperties`] is the owned form, for headers the broker makes or changes.
//!
//! As in RabbitMQ, the two lowest flag bits are ignored (there are no continuation flags), strings need not be UTF-8, and
//! octets after the last property are an error.

use nom::IResult;
use nom::number::complete::{be_u8, be_u16, be_u64};

use crate::encode::{put_short_string, put_u8, put_u16, put_u64};
use crate::error::DecodeError;
use crate::ids::ClassId;
use crate::string::ShortString;
use crate::table::{decode_table_content, long_octets, put_table, short_octets, validate_table_content};
use crate::value::FieldTable;

/// The only class whose methods carry content.
pub(crate) const BASIC_CLASS: ClassId = ClassId::new(60);

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const KIND: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;

/// A content header whose property list has not been looked at (spec §4.2.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRef<'a> {
    /// The class, which must be that of the method before.
    pub class: ClassId,
    /// Always 0 in a correct header.
    pub weight: u16,
    /// The number of octets of all body frames together.
    pub body_size: u64,
    /// Property flags and list, for [`PropertiesRef::decode`].
    pub properties: &'a [u8],
}

impl<'a> HeaderRef<'a> {
    /// Decodes the payload of a header frame up to the properties.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let (properties, (class, weight, body_size)) =
            Self::fixed_fields(payload).map_err(|_| DecodeError::BadHeader)?;
        Ok(Self { class: ClassId::new(class), weight, body_size, properties })
    }

    #[inline]
    fn fixed_fields(input: &[u8]) -> IResult<&[u8], (u16, u16, u64), ()> {
        let (input, class) = be_u16(input)?;
        let (input, weight) = be_u16(input)?;
        let (input, body_size) = be_u64(input)?;
        Ok((input, (class, weight, body_size)))
    }
}

/// The properties of a message as they lie in its header, checked (spec §1.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PropertiesRef<'a> {
    /// MIME content type.
    pub content_type: Option<&'a [u8]>,
    /// MIME content encoding.
    pub content_encoding: Option<&'a [u8]>,
    /// The content of the header table, without its length prefix; a valid table.
    pub headers: Option<&'a [u8]>,
    /// 2 for persistent, 1 for transient.
    pub delivery_mode: Option<u8>,
    /// The priority.
    pub priority: Option<u8>,
    /// What a reply refers to.
    pub correlation_id: Option<&'a [u8]>,
    /// Where a reply goes to.
    pub reply_to: Option<&'a [u8]>,
    /// The message's time to live, as decimal digits of milliseconds.
    pub expiration: Option<&'a [u8]>,
    /// The application's message identifier.
    pub message_id: Option<&'a [u8]>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// The property `type`, which is no name in Rust.
    pub kind: Option<&'a [u8]>,
    /// The user that publishes.
    pub user_id: Option<&'a [u8]>,
    /// The application that publishes.
    pub app_id: Option<&'a [u8]>,
    /// Reserved; kept and passed on.
    pub cluster_id: Option<&'a [u8]>,
}

impl<'a> PropertiesRef<'a> {
    /// Checks property flags and list, which `octets` must consist of.
    #[inline]
    pub fn decode(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let (rest, flags) = be_u16::<_, ()>(octets).map_err(|_| DecodeError::BadHeader)?;
        let mut list = PropertyList { flags, rest };
        let mut properties = Self::default();
        if flags & !(CONTENT_TYPE | DELIVERY_MODE) == 0 {
            properties.content_type = list.short(CONTENT_TYPE)?;
            properties.delivery_mode = list.octet(DELIVERY_MODE)?;
        } else {
            properties.read_all(&mut list)?;
        }
        if list.rest.is_empty() { Ok(properties) } else { Err(DecodeError::BadHeader) }
    }

    fn read_all(&mut self, list: &mut PropertyList<'a>) -> Result<(), DecodeError> {
        self.content_type = list.short(CONTENT_TYPE)?;
        self.content_encoding = list.short(CONTENT_ENCODING)?;
        self.headers = list.table(HEADERS)?;
        self.delivery_mode = list.octet(DELIVERY_MODE)?;
        self.priority = list.octet(PRIORITY)?;
        self.correlation_id = list.short(CORRELATION_ID)?;
        self.reply_to = list.short(REPLY_TO)?;
        self.expiration = list.short(EXPIRATION)?;
        self.message_id = list.short(MESSAGE_ID)?;
        self.timestamp = list.long(TIMESTAMP)?;
        self.kind = list.short(KIND)?;
        self.user_id = list.short(USER_ID)?;
        self.app_id = list.short(APP_ID)?;
        self.cluster_id = list.short(CLUSTER_ID)?;
        Ok(())
    }
}

/// What is left of a property list; a property is there if its flag is set.
struct PropertyList<'a> {
    flags: u16,
    rest: &'a [u8],
}

impl<'a> PropertyList<'a> {
    #[inline]
    fn property<T>(
        &mut self,
        flag: u16,
        parser: impl Fn(&'a [u8]) -> IResult<&'a [u8], T, ()>,
    ) -> Result<Option<T>, DecodeError> {
        if self.flags & flag == 0 {
            return Ok(None);
        }
        let (rest, value) = parser(self.rest).map_err(|_| DecodeError::BadHeader)?;
        self.rest = rest;
        Ok(Some(value))
    }

    #[inline]
    fn octet(&mut self, flag: u16) -> Result<Option<u8>, DecodeError> {
        self.property(flag, be_u8)
    }

    #[inline]
    fn long(&mut self, flag: u16) -> Result<Option<u64>, DecodeError> {
        self.property(flag, be_u64)
    }

    #[inline]
    fn short(&mut self, flag: u16) -> Result<Option<&'a [u8]>, DecodeError> {
        self.property(flag, short_octets)
    }

    #[inline]
    fn table(&mut self, flag: u16) -> Result<Option<&'a [u8]>, DecodeError> {
        let content = self.property(flag, long_octets)?;
        if content.is_none_or(validate_table_content) { Ok(content) } else { Err(DecodeError::BadHeader) }
    }
}

/// The properties of a message, owned (spec §1.8).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BasicProperties {
    /// MIME content type.
    pub content_type: Option<ShortString>,
    /// MIME content encoding.
    pub content_encoding: Option<ShortString>,
    /// The header table; an absent one differs from an empty one.
    pub headers: Option<FieldTable>,
    /// 2 for persistent, 1 for transient.
    pub delivery_mode: Option<u8>,
    /// The priority.
    pub priority: Option<u8>,
    /// What a reply refers to.
    pub correlation_id: Option<ShortString>,
    /// Where a reply goes to.
    pub reply_to: Option<ShortString>,
    /// The message's time to live, as decimal digits of milliseconds.
    pub expiration: Option<ShortString>,
    /// The application's message identifier.
    pub message_id: Option<ShortString>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// The property `type`, which is no name in Rust.
    pub kind: Option<ShortString>,
    /// The user that publishes.
    pub user_id: Option<ShortString>,
    /// The application that publishes.
    pub app_id: Option<ShortString>,
    /// Reserved; kept and passed on.
    pub cluster_id: Option<ShortString>,
}

impl BasicProperties {
    /// Decodes property flags and list, which `octets` must consist of.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let properties = PropertiesRef::decode(octets)?;
        let headers = properties.headers.map(decode_table_content).transpose().map_err(|_| DecodeError::BadHeader)?;
        Ok(Self {
            content_type: owned(properties.content_type)?,
            content_encoding: owned(properties.content_encoding)?,
            headers,
            delivery_mode: properties.delivery_mode,
            priority: properties.priority,
            correlation_id: owned(properties.correlation_id)?,
            reply_to: owned(properties.reply_to)?,
            expiration: owned(properties.expiration)?,
            message_id: owned(properties.message_id)?,
            timestamp: properties.timestamp,
            kind: owned(properties.kind)?,
            user_id: owned(properties.user_id)?,
            app_id: owned(properties.app_id)?,
            cluster_id: owned(properties.cluster_id)?,
        })
    }

    /// Appends property flags and list.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, self.flags());
        let short = |out: &mut Vec<u8>, string: &Option<ShortString>| {
            if let Some(string) = string {
                put_short_string(out, string.as_bytes());
            }
        };
        short(out, &self.content_type);
        short(out, &self.content_encoding);
        if let Some(headers) = &self.headers {
            put_table(out, headers);
        }
        if let Some(delivery_mode) = self.delivery_mode {
            put_u8(out, delivery_mode);
        }
        if let Some(priority) = self.priority {
            put_u8(out, priority);
        }
        short(out, &self.correlation_id);
        short(out, &self.reply_to);
        short(out, &self.expiration);
        short(out, &self.message_id);
        if let Some(timestamp) = self.timestamp {
            put_u64(out, timestamp);
        }
        short(out, &self.kind);
        short(out, &self.user_id);
        short(out, &self.app_id);
        short(out, &self.cluster_id);
    }

    fn flags(&self) -> u16 {
        [
            (CONTENT_TYPE, self.content_type.is_some()),
            (CONTENT_ENCODING, self.content_encoding.is_some()),
            (HEADERS, self.headers.is_some()),
            (DELIVERY_MODE, self.delivery_mode.is_some()),
            (PRIORITY, self.priority.is_some()),
            (CORRELATION_ID, self.correlation_id.is_some()),
            (REPLY_TO, self.reply_to.is_some()),
            (EXPIRATION, self.expiration.is_some()),
            (MESSAGE_ID, self.message_id.is_some()),
            (TIMESTAMP, self.timestamp.is_some()),
            (KIND, self.kind.is_some()),
            (USER_ID, self.user_id.is_some()),
            (APP_ID, self.app_id.is_some()),
            (CLUSTER_ID, self.cluster_id.is_some()),
        ]
        .into_iter()
        .filter(|&(_, is_set)| is_set)
        .fold(0, |flags, (flag, _)| flags | flag)
    }
}

fn owned(octets: Option<&[u8]>) -> Result<Option<ShortString>, DecodeError> {
    octets.map(ShortString::try_from).transpose().map_err(|_| DecodeError::BadHeader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::FieldValue;

    fn check_refused(octets: &[u8]) {
        assert_eq!(PropertiesRef::decode(octets), Err(DecodeError::BadHeader), "{octets:?}");
        assert_eq!(BasicProperties::decode(octets), Err(DecodeError::BadHeader), "{octets:?}");
    }

    #[test]
    fn every_property_stands_in_its_place() {
        let string = |text: &'static str| Some(ShortString::from_static(text));
        let properties = BasicProperties {
            content_type: string("a"),
            content_encoding: string("b"),
            headers: Some(FieldTable::from_iter([(ShortString::from_static("k"), FieldValue::Void)])),
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: string("c"),
            reply_to: string("d"),
            expiration: string("e"),
            message_id: string("f"),
            timestamp: Some(7),
            kind: string("g"),
            user_id: string("h"),
            app_id: string("i"),
            cluster_id: string(""),
        };
        let mut octets = Vec::new();
        properties.encode(&mut octets);
        let list = b"\xFF\xFC\x01a\x01b\0\0\0\x03\x01kV\x02\x09\x01c\x01d\x01e\x01f\0\0\0\0\0\0\0\x07\x01g\x01h\x01i\0";
        assert_eq!(octets, list);
        assert_eq!(BasicProperties::decode(&octets), Ok(properties));
        let borrowed = PropertiesRef::decode(&octets).expect("the list is valid");
        assert_eq!(borrowed.headers, Some(&b"\x01kV"[..]));
        assert_eq!(borrowed.kind, Some(&b"g"[..]));
        assert_eq!(borrowed.timestamp, Some(7));
        for end in 0..octets.len() {
            check_refused(&octets[..end]);
        }
    }

    #[test]
    fn common_short_lists_are_read() {
        assert_eq!(PropertiesRef::decode(&[0, 0]), Ok(PropertiesRef::default()));
        let persistent = PropertiesRef { delivery_mode: Some(2), ..PropertiesRef::default() };
        assert_eq!(PropertiesRef::decode(&[0x10, 0, 2]), Ok(persistent));
        let text = PropertiesRef { content_type: Some(b"t"), ..persistent };
        assert_eq!(PropertiesRef::decode(&[0x90, 0, 1, b't', 2]), Ok(text));
    }

    #[test]
    fn the_two_lowest_flags_are_ignored() {
        assert_eq!(PropertiesRef::decode(&[0, 3]), Ok(PropertiesRef::default()));
    }

    #[test]
    fn wrong_lists_are_refused() {
        check_refused(&[]);
        check_refused(&[0]);
        check_refused(&[0, 0, 0]);
        check_refused(&[0x10, 0]);
        check_refused(&[0x10, 0, 2, 0]);
        check_refused(&[0x20, 0, 0, 0, 0, 1, 0]);
        check_refused(&[0x20, 0, 0, 0, 0, 2, 0, b'Q']);
        check_refused(&[0x20, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    }

    #[test]
    fn a_header_is_split_into_fields_and_properties() {
        let payload = [0, 60, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0x10, 0, 2];
        let header = HeaderRef { class: BASIC_CLASS, weight: 1, body_size: 256, properties: &[0x10, 0, 2] };
        assert_eq!(HeaderRef::decode(&payload), Ok(header));
        for end in 0..12 {
            assert_eq!(HeaderRef::decode(&payload[..end]), Err(DecodeError::BadHeader));
        }
    }
}
