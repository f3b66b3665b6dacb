//! The two headers of streams: the offset that the broker adds, the filter value that a publisher sets.

use leveret_protocol::{BasicProperties, PropertiesRef, ShortString, decode_table_content, encode};

/// Where a delivery says which offset its message has, and where a consumer says which one it wants.
pub const OFFSET: &str = "x-stream-offset";
/// Where a publisher says which filter value a message has.
pub const FILTER_VALUE: &str = "x-stream-filter-value";

/// Property flag of the header table (spec §4.2.6.1).
const HEADERS_FLAG: u8 = 1 << 5;
/// Octets of the entry: name, type tag, value.
const ENTRY_BYTES: usize = 1 + OFFSET.len() + 1 + 8;

/// Writes properties (a header frame's worth) with the header `x-stream-offset` into `out`, which is cleared first.
pub fn with_offset(properties: &[u8], offset: u64, out: &mut Vec<u8>) {
    out.clear();
    let Ok(decoded) = PropertiesRef::decode(properties) else {
        debug_assert!(false, "properties are checked when they are published");
        out.extend_from_slice(properties);
        return;
    };
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let headers = decoded.headers.unwrap_or_default();
    if contains(headers, OFFSET.as_bytes()) {
        // The message was in a stream before: the old offset goes.
        let mut owned = BasicProperties::decode(properties).unwrap_or_default();
        owned.headers.get_or_insert_default().insert(ShortString::from_static(OFFSET), offset);
        owned.encode(out);
        return;
    }
    let short = |text: Option<&[u8]>| text.map_or(0, |text| 1 + text.len());
    // Flags, then the properties that stand before the header table.
    let before = 2 + short(decoded.content_type) + short(decoded.content_encoding);
    let after = before + decoded.headers.map_or(0, |headers| 4 + headers.len());
    out.reserve(properties.len() + 4 + ENTRY_BYTES);
    out.extend_from_slice(&properties[..before]);
    out[0] |= HEADERS_FLAG;
    let len = u32::try_from(headers.len() + ENTRY_BYTES).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(headers);
    encode::put_short_string(out, OFFSET.as_bytes());
    out.push(b'l');
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&properties[after..]);
}

/// Lets `look` see the filter value of a message: `None` if it has none.
pub fn filter_value<R>(properties: &[u8], look: impl FnOnce(Option<&[u8]>) -> R) -> R {
    let headers = PropertiesRef::decode(properties).ok().and_then(|properties| properties.headers).unwrap_or_default();
    if !contains(headers, FILTER_VALUE.as_bytes()) {
        return look(None);
    }
    let table = decode_table_content(headers).unwrap_or_default();
    look(table.get(FILTER_VALUE).and_then(|value| value.as_long_str()))
}

fn contains(octets: &[u8], word: &[u8]) -> bool {
    octets.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use leveret_protocol::{FieldTable, FieldValue};

    use super::*;

    fn encode(properties: &BasicProperties) -> Vec<u8> {
        let mut out = Vec::new();
        properties.encode(&mut out);
        out
    }

    fn table(entries: &[(&'static str, FieldValue)]) -> FieldTable {
        entries.iter().map(|(name, value)| (ShortString::from_static(name), value.clone())).collect()
    }

    #[test]
    fn the_offset_joins_the_headers_and_nothing_else_changes() {
        let full = BasicProperties {
            content_type: Some(ShortString::from_static("text/plain")),
            content_encoding: Some(ShortString::from_static("gzip")),
            headers: Some(table(&[("a", FieldValue::Int32(1))])),
            delivery_mode: Some(2),
            app_id: Some(ShortString::from_static("app")),
            ..BasicProperties::default()
        };
        let bare = BasicProperties { headers: None, ..full.clone() };
        let again = BasicProperties { headers: Some(table(&[(OFFSET, FieldValue::Int64(3))])), ..full.clone() };
        for (properties, names) in
            [(full, &["a", OFFSET][..]), (bare, &[OFFSET]), (again, &[OFFSET]), (BasicProperties::default(), &[OFFSET])]
        {
            let mut out = vec![9; 3];
            with_offset(&encode(&properties), 77, &mut out);
            let mut read = BasicProperties::decode(&out).expect("decodes");
            let headers = read.headers.take().expect("headers");
            assert_eq!(headers.get(OFFSET), Some(&FieldValue::Int64(77)));
            assert_eq!(headers.iter().map(|(name, _)| name.as_str().expect("text")).collect::<Vec<_>>(), names);
            assert_eq!(read, BasicProperties { headers: None, ..properties });
        }
    }

    #[test]
    fn the_filter_value_is_found_if_it_is_a_string() {
        let seen = |entries: &[(&'static str, FieldValue)]| {
            let properties = BasicProperties { headers: Some(table(entries)), ..BasicProperties::default() };
            filter_value(&encode(&properties), |value| value.map(<[u8]>::to_vec))
        };
        let text = FieldValue::LongString("eu".try_into().expect("short"));
        assert_eq!(seen(&[("a", FieldValue::Int32(1)), (FILTER_VALUE, text)]), Some(b"eu".to_vec()));
        assert_eq!(seen(&[(FILTER_VALUE, FieldValue::Int32(1))]), None);
        assert_eq!(seen(&[("a", FieldValue::Int32(1))]), None);
        assert_eq!(filter_value(&[0, 0], |value| value.map(<[u8]>::to_vec)), None);
    }
}
