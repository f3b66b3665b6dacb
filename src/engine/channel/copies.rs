//! Sender-selected distribution: the headers `CC` and `BCC` add routing keys to a publish (RabbitMQ extension).
//!
//! Each is an array of long strings; items of other types are passed over. `BCC` is removed before anybody sees it.

use leveret_protocol::{EntryRef, FieldValue, ValueRef, table_entries};

use crate::error::AmqpError;

/// The header whose keys are for everybody to see.
pub const CC: &[u8] = b"CC";
/// The header that is removed.
pub const BCC: &[u8] = b"BCC";

/// Routing keys that the publisher added.
#[derive(Debug, PartialEq, Eq)]
pub struct Copies<'a> {
    /// The keys: of `CC`, then of `BCC`.
    pub keys: Vec<&'a [u8]>,
    /// There is a `BCC` header to be removed.
    pub has_bcc: bool,
}

/// Looks for `CC` and `BCC` in the content of a header table; `None` if neither is there.
pub fn copies(headers: &[u8]) -> Result<Option<Copies<'_>>, AmqpError> {
    let mut found: [Option<EntryRef<'_>>; 2] = [None; 2];
    for entry in table_entries(headers) {
        let slot = match entry.name {
            name if name == CC => &mut found[0],
            name if name == BCC => &mut found[1],
            _ => continue,
        };
        // Of several headers with one name the first counts.
        slot.get_or_insert(entry);
    }
    if found == [None; 2] {
        return Ok(None);
    }
    let mut keys = Vec::new();
    for entry in found.into_iter().flatten() {
        let items = entry.value.as_array().ok_or_else(|| {
            let name = String::from_utf8_lossy(entry.name);
            let kind = entry.value.decode().as_ref().map_or("undefined", FieldValue::type_name);
            AmqpError::BadArgument(format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{kind}}}"))
        })?;
        keys.extend(items.filter_map(ValueRef::as_long_str));
    }
    Ok(Some(Copies { keys, has_bcc: found[1].is_some() }))
}

#[cfg(test)]
mod tests {
    use leveret_protocol::{FieldTable, ShortString, table};

    use super::*;

    fn text(text: &'static str) -> FieldValue {
        FieldValue::LongString(text.try_into().expect("short"))
    }

    fn content(entries: &[(&'static str, FieldValue)]) -> Vec<u8> {
        let fields: FieldTable =
            entries.iter().map(|(name, value)| (ShortString::from_static(name), value.clone())).collect();
        let mut out = Vec::new();
        table::put_table(&mut out, &fields);
        out.split_off(4)
    }

    #[test]
    fn keys_of_cc_come_first_and_what_is_no_string_is_passed_over() {
        let mixed = FieldValue::Array(vec![text("a"), FieldValue::Int32(1), FieldValue::Void, text("")]);
        let headers = content(&[("BCC", FieldValue::Array(vec![text("b")])), ("x", FieldValue::Void), ("CC", mixed)]);
        let copies = copies(&headers).expect("arrays").expect("there");
        assert_eq!((copies.keys, copies.has_bcc), (vec![&b"a"[..], b"", b"b"], true));
    }

    #[test]
    fn other_headers_are_none_of_ours() {
        assert_eq!(copies(&content(&[("cc", text("a")), ("BCc", FieldValue::Void)])), Ok(None));
        assert_eq!(copies(&[]), Ok(None));
    }

    #[test]
    fn anything_but_an_array_is_refused() {
        for (name, value, kind) in [("CC", text("q"), "longstr"), ("BCC", FieldValue::Void, "void")] {
            let expected = format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{kind}}}");
            assert_eq!(copies(&content(&[(name, value)])).map_err(|error| error.to_string()), Err(expected));
        }
    }
}
