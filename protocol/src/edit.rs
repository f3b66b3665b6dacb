//! Changes to encoded properties: one header or one property is exchanged, everything else stays octet for octet.
//!
//! What cannot be decoded is handed back as it is; whoever accepts a message has decoded its properties before.

use crate::encode::{put_short_string, put_u32};
use crate::properties::PropertiesRef;
use crate::string::ShortString;
use crate::table::put_value;
use crate::table_ref::table_entries;
use crate::value::FieldValue;

/// Octets of the property flags.
const FLAGS_BYTES: usize = 2;
/// Octets in front of a table.
const LENGTH_BYTES: usize = 4;

fn short_len(property: Option<&[u8]>) -> usize {
    property.map_or(0, |octets| 1 + octets.len())
}

/// Where the header table begins, its length prefix included.
fn table_start(properties: &PropertiesRef<'_>) -> usize {
    FLAGS_BYTES + short_len(properties.content_type) + short_len(properties.content_encoding)
}

/// The properties with every header of this name replaced by the first one's new value, or removed without one.
fn edit_header(octets: &[u8], name: &[u8], value: Option<&FieldValue>) -> Vec<u8> {
    let Ok(properties) = PropertiesRef::decode(octets) else { return octets.to_vec() };
    let Some(content) = properties.headers else { return octets.to_vec() };
    let start = table_start(&properties);
    let mut table = Vec::with_capacity(content.len() + 16);
    let mut value = value;
    for entry in table_entries(content) {
        if entry.name != name {
            table.extend_from_slice(entry.octets);
        } else if let Some(value) = value.take() {
            table.extend_from_slice(&entry.octets[..=name.len()]);
            put_value(&mut table, value);
        }
    }
    let mut out = Vec::with_capacity(octets.len() + 16);
    out.extend_from_slice(&octets[..start]);
    put_u32(&mut out, u32::try_from(table.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(&table);
    out.extend_from_slice(&octets[start + LENGTH_BYTES + content.len()..]);
    out
}

/// Encoded properties without the headers of this name. The header table stays, though it may be empty now.
pub fn without_header(properties: &[u8], name: &[u8]) -> Vec<u8> {
    edit_header(properties, name, None)
}

/// Encoded properties with another value for the header of this name, if there is one.
pub fn with_header(properties: &[u8], name: &[u8], value: &FieldValue) -> Vec<u8> {
    edit_header(properties, name, Some(value))
}

/// Encoded properties with another `reply-to`, if there is one.
pub fn with_reply_to(octets: &[u8], reply_to: &ShortString) -> Vec<u8> {
    let Ok(properties) = PropertiesRef::decode(octets) else { return octets.to_vec() };
    let Some(old) = properties.reply_to else { return octets.to_vec() };
    let start = table_start(&properties)
        + properties.headers.map_or(0, |content| LENGTH_BYTES + content.len())
        + usize::from(properties.delivery_mode.is_some())
        + usize::from(properties.priority.is_some())
        + short_len(properties.correlation_id);
    let mut out = Vec::with_capacity(octets.len() + reply_to.len());
    out.extend_from_slice(&octets[..start]);
    put_short_string(&mut out, reply_to.as_bytes());
    out.extend_from_slice(&octets[start + 1 + old.len()..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::BasicProperties;
    use crate::value::FieldTable;

    fn s(text: &'static str) -> ShortString {
        ShortString::from_static(text)
    }

    fn full(headers: &[(&'static str, FieldValue)]) -> BasicProperties {
        BasicProperties {
            content_type: Some(s("text/plain")),
            content_encoding: Some(s("utf-8")),
            headers: Some(headers.iter().map(|(name, value)| (s(name), value.clone())).collect::<FieldTable>()),
            delivery_mode: Some(2),
            priority: Some(3),
            correlation_id: Some(s("c")),
            reply_to: Some(s("old")),
            expiration: Some(s("10")),
            cluster_id: Some(s("")),
            ..BasicProperties::default()
        }
    }

    fn encode(properties: &BasicProperties) -> Vec<u8> {
        let mut out = Vec::new();
        properties.encode(&mut out);
        out
    }

    #[test]
    fn a_header_is_removed_or_replaced_and_nothing_else_changes() {
        let (one, two) = (("a", FieldValue::Int32(1)), ("b", FieldValue::Void));
        let before = encode(&full(&[one.clone(), two.clone(), ("a", FieldValue::Void)]));
        assert_eq!(without_header(&before, b"a"), encode(&full(std::slice::from_ref(&two))));
        let replaced = [("a", FieldValue::Int64(-1)), two];
        assert_eq!(with_header(&before, b"a", &FieldValue::Int64(-1)), encode(&full(&replaced)));
        assert_eq!(without_header(&before, b"c"), before);
        assert_eq!(without_header(&encode(&full(&[one])), b"a"), encode(&full(&[])));
        assert_eq!(without_header(&[0, 0], b"a"), [0, 0]);
    }

    #[test]
    fn a_reply_to_is_replaced_and_nothing_else_changes() {
        for headers in [None, Some(FieldTable::new())] {
            let before = BasicProperties { headers, ..full(&[]) };
            let after = BasicProperties { reply_to: Some(s("somewhere else")), ..before.clone() };
            assert_eq!(with_reply_to(&encode(&before), &s("somewhere else")), encode(&after));
        }
        assert_eq!(with_reply_to(&[0x10, 0, 2], &s("x")), [0x10, 0, 2]);
    }
}
