//! Field tables and arrays as octets (spec §4.2.5.5, with RabbitMQ's type tags).
//!
//! Every value is first cut out of its surroundings by its tag and length, then decoded on its own; so a nested table
//! cannot reach beyond its end, and the entries of one level can be counted without looking at the levels below.
//!
//! Invariants: space is reserved only for entries that have been counted, each of which takes at least one octet; nesting
//! goes no deeper than [`MAX_TABLE_DEPTH`], so that recursion here and in `Drop` is bounded.
//! Tolerance: `U` is read as a 16-bit integer and `L` as a signed one of 64 bits; neither is written.

use bytes::Bytes;
use nom::IResult;
use nom::bytes::complete::take;
use nom::number::complete::{be_f32, be_f64, be_i8, be_i16, be_i32, be_i64, be_u8, be_u16, be_u32, be_u64};

use crate::encode::{put_long_octets, put_short_string, put_u8, put_u32};
use crate::error::TableError;
use crate::string::{LongString, ShortString};
use crate::value::{FieldTable, FieldValue};

/// How deep tables and arrays may be nested, the outermost table included. Real messages stay far below: a dead-lettering
/// history is four levels deep.
pub const MAX_TABLE_DEPTH: usize = 32;

/// The octets of the length in front of a table, an array or a long string.
pub(crate) const LENGTH_PREFIX_BYTES: usize = 4;

/// An entry of a table: name, type tag, value without its length prefix.
pub(crate) type Entry<'a> = (&'a [u8], u8, &'a [u8]);

/// An item of an array: type tag, value without its length prefix.
pub(crate) type Item<'a> = (u8, &'a [u8]);

/// Decodes a table with its length prefix, and tells how many octets both take.
pub fn decode_table(input: &[u8]) -> Result<(FieldTable, usize), TableError> {
    let (_, content) = long_octets(input).map_err(|_| TableError)?;
    let table = decode_table_content(content)?;
    Ok((table, LENGTH_PREFIX_BYTES + content.len()))
}

/// Decodes the content of a table, without length prefix; all of `content` must belong to it.
pub fn decode_table_content(content: &[u8]) -> Result<FieldTable, TableError> {
    table(content, 1).ok_or(TableError)
}

/// Whether [`decode_table_content`] would succeed. Allocates nothing.
#[inline]
pub fn validate_table_content(content: &[u8]) -> bool {
    is_table(content, 1)
}

/// Four octets of length, then as many octets.
#[inline]
pub(crate) fn long_octets(input: &[u8]) -> IResult<&[u8], &[u8], ()> {
    let (input, len) = be_u32(input)?;
    take(len)(input)
}

/// One octet of length, then as many octets.
#[inline]
pub(crate) fn short_octets(input: &[u8]) -> IResult<&[u8], &[u8], ()> {
    let (input, len) = be_u8(input)?;
    take(len)(input)
}

#[inline]
pub(crate) fn entry(input: &[u8]) -> IResult<&[u8], Entry<'_>, ()> {
    let (input, name) = short_octets(input)?;
    let (input, (tag, octets)) = item(input)?;
    Ok((input, (name, tag, octets)))
}

#[inline]
pub(crate) fn item(input: &[u8]) -> IResult<&[u8], Item<'_>, ()> {
    let (input, tag) = be_u8(input)?;
    let (input, octets) = match tag {
        b'V' => take(0_usize)(input)?,
        b't' | b'b' | b'B' => take(1_usize)(input)?,
        b's' | b'U' | b'u' => take(2_usize)(input)?,
        b'I' | b'i' | b'f' => take(4_usize)(input)?,
        b'D' => take(5_usize)(input)?,
        b'l' | b'L' | b'd' | b'T' => take(8_usize)(input)?,
        b'S' | b'x' | b'A' | b'F' => long_octets(input)?,
        _ => return Err(nom::Err::Error(())),
    };
    Ok((input, (tag, octets)))
}

/// How often `element` fits into `content`, which it must use up.
fn count<'a, T>(mut content: &'a [u8], element: impl Fn(&'a [u8]) -> IResult<&'a [u8], T, ()>) -> Option<usize> {
    let mut elements = 0;
    while !content.is_empty() {
        (content, _) = element(content).ok()?;
        elements += 1;
    }
    Some(elements)
}

fn table(mut content: &[u8], depth: usize) -> Option<FieldTable> {
    if depth > MAX_TABLE_DEPTH {
        return None;
    }
    let mut entries = Vec::with_capacity(count(content, entry)?);
    while !content.is_empty() {
        let (rest, (name, tag, octets)) = entry(content).ok()?;
        entries.push((ShortString::try_from(name).ok()?, value(tag, octets, depth)?));
        content = rest;
    }
    Some(FieldTable::from_entries(entries))
}

fn array(mut content: &[u8], depth: usize) -> Option<Vec<FieldValue>> {
    if depth > MAX_TABLE_DEPTH {
        return None;
    }
    let mut items = Vec::with_capacity(count(content, item)?);
    while !content.is_empty() {
        let (rest, (tag, octets)) = item(content).ok()?;
        items.push(value(tag, octets, depth)?);
        content = rest;
    }
    Some(items)
}

/// Decodes a value that stands in a table or array at `depth`.
pub(crate) fn value(tag: u8, octets: &[u8], depth: usize) -> Option<FieldValue> {
    Some(match tag {
        b't' => FieldValue::Boolean(whole(be_u8(octets))? != 0),
        b'b' => FieldValue::Int8(whole(be_i8(octets))?),
        b'B' => FieldValue::UInt8(whole(be_u8(octets))?),
        b's' | b'U' => FieldValue::Int16(whole(be_i16(octets))?),
        b'u' => FieldValue::UInt16(whole(be_u16(octets))?),
        b'I' => FieldValue::Int32(whole(be_i32(octets))?),
        b'i' => FieldValue::UInt32(whole(be_u32(octets))?),
        b'l' | b'L' => FieldValue::Int64(whole(be_i64(octets))?),
        b'f' => FieldValue::Float(whole(be_f32(octets))?),
        b'd' => FieldValue::Double(whole(be_f64(octets))?),
        b'D' => whole(decimal(octets))?,
        b'S' => FieldValue::LongString(LongString::try_from(octets).ok()?),
        b'x' => FieldValue::ByteArray(Bytes::copy_from_slice(octets)),
        b'A' => FieldValue::Array(array(octets, depth + 1)?),
        b'T' => FieldValue::Timestamp(whole(be_u64(octets))?),
        b'F' => FieldValue::Table(table(octets, depth + 1)?),
        b'V' => FieldValue::Void,
        _ => return None,
    })
}

fn decimal(octets: &[u8]) -> IResult<&[u8], FieldValue, ()> {
    let (octets, scale) = be_u8(octets)?;
    let (octets, value) = be_i32(octets)?;
    Ok((octets, FieldValue::Decimal { scale, value }))
}

/// The result of a parser that has used up its input.
fn whole<T>(result: IResult<&[u8], T, ()>) -> Option<T> {
    result.ok().filter(|(rest, _)| rest.is_empty()).map(|(_, value)| value)
}

#[inline]
fn is_table(mut content: &[u8], depth: usize) -> bool {
    while !content.is_empty() {
        match entry(content) {
            Ok((rest, (_, tag, octets))) if is_value(tag, octets, depth) => content = rest,
            Ok(_) | Err(_) => return false,
        }
    }
    depth <= MAX_TABLE_DEPTH
}

fn is_array(mut content: &[u8], depth: usize) -> bool {
    while !content.is_empty() {
        match item(content) {
            Ok((rest, (tag, octets))) if is_value(tag, octets, depth) => content = rest,
            Ok(_) | Err(_) => return false,
        }
    }
    depth <= MAX_TABLE_DEPTH
}

/// Whether a value at `depth` is sound; [`item`] has vouched for all but the insides of nested ones.
#[inline]
fn is_value(tag: u8, octets: &[u8], depth: usize) -> bool {
    match tag {
        b'A' => depth < MAX_TABLE_DEPTH && is_array(octets, depth + 1),
        b'F' => depth < MAX_TABLE_DEPTH && is_table(octets, depth + 1),
        _ => true,
    }
}

/// Appends a table with its length prefix.
pub fn put_table(out: &mut Vec<u8>, table: &FieldTable) {
    let mark = begin_length(out);
    for (name, value) in table {
        put_short_string(out, name.as_bytes());
        put_value(out, value);
    }
    end_length(out, mark);
}

/// Appends a value with its type tag.
pub fn put_value(out: &mut Vec<u8>, value: &FieldValue) {
    match value {
        FieldValue::Boolean(value) => put_tagged(out, b't', &[u8::from(*value)]),
        FieldValue::Int8(number) => put_tagged(out, b'b', &number.to_be_bytes()),
        FieldValue::UInt8(number) => put_tagged(out, b'B', &number.to_be_bytes()),
        FieldValue::Int16(number) => put_tagged(out, b's', &number.to_be_bytes()),
        FieldValue::UInt16(number) => put_tagged(out, b'u', &number.to_be_bytes()),
        FieldValue::Int32(number) => put_tagged(out, b'I', &number.to_be_bytes()),
        FieldValue::UInt32(number) => put_tagged(out, b'i', &number.to_be_bytes()),
        FieldValue::Int64(number) => put_tagged(out, b'l', &number.to_be_bytes()),
        FieldValue::Float(number) => put_tagged(out, b'f', &number.to_be_bytes()),
        FieldValue::Double(number) => put_tagged(out, b'd', &number.to_be_bytes()),
        FieldValue::Decimal { scale, value } => {
            put_tagged(out, b'D', &[*scale]);
            out.extend_from_slice(&value.to_be_bytes());
        }
        FieldValue::LongString(string) => {
            put_u8(out, b'S');
            put_long_octets(out, string.as_bytes());
        }
        FieldValue::ByteArray(octets) => {
            put_u8(out, b'x');
            put_long_octets(out, octets);
        }
        FieldValue::Array(items) => {
            put_u8(out, b'A');
            let mark = begin_length(out);
            for item in items {
                put_value(out, item);
            }
            end_length(out, mark);
        }
        FieldValue::Timestamp(seconds) => put_tagged(out, b'T', &seconds.to_be_bytes()),
        FieldValue::Table(table) => {
            put_u8(out, b'F');
            put_table(out, table);
        }
        FieldValue::Void => put_u8(out, b'V'),
    }
}

fn put_tagged(out: &mut Vec<u8>, tag: u8, octets: &[u8]) {
    put_u8(out, tag);
    out.extend_from_slice(octets);
}

/// Leaves room for a length prefix; returns where the counted octets begin.
fn begin_length(out: &mut Vec<u8>) -> usize {
    put_u32(out, 0);
    out.len()
}

/// Fills in the length of what came since [`begin_length`].
fn end_length(out: &mut [u8], mark: usize) {
    // A table of 4 GiB cannot be held next to its encoding in any frame; saturating keeps the function total.
    let len = u32::try_from(out.len() - mark).unwrap_or(u32::MAX);
    out[mark - LENGTH_PREFIX_BYTES..mark].copy_from_slice(&len.to_be_bytes());
}

/// The number of octets of an encoded value, its type tag included.
pub(crate) fn encoded_value_len(value: &FieldValue) -> usize {
    1 + match value {
        FieldValue::Void => 0,
        FieldValue::Boolean(_) | FieldValue::Int8(_) | FieldValue::UInt8(_) => 1,
        FieldValue::Int16(_) | FieldValue::UInt16(_) => 2,
        FieldValue::Int32(_) | FieldValue::UInt32(_) | FieldValue::Float(_) => 4,
        FieldValue::Decimal { .. } => 5,
        FieldValue::Int64(_) | FieldValue::Double(_) | FieldValue::Timestamp(_) => 8,
        FieldValue::LongString(string) => LENGTH_PREFIX_BYTES + string.len(),
        FieldValue::ByteArray(octets) => LENGTH_PREFIX_BYTES + octets.len(),
        FieldValue::Array(items) => LENGTH_PREFIX_BYTES + items.iter().map(encoded_value_len).sum::<usize>(),
        FieldValue::Table(table) => table.encoded_len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that `content` is a table with one entry `k`, and what its value is.
    fn check_value(tagged: &[u8], expected: FieldValue) {
        let content = [&[1, b'k'], tagged].concat();
        let table = FieldTable::from_iter([(ShortString::from_static("k"), expected)]);
        assert!(validate_table_content(&content));
        assert_eq!(decode_table_content(&content), Ok(table));
    }

    fn check_refused(content: &[u8]) {
        assert_eq!(decode_table_content(content), Err(TableError), "{content:?}");
        assert!(!validate_table_content(content), "{content:?}");
    }

    #[test]
    fn every_type_tag_is_read() {
        check_value(b"t\x02", FieldValue::Boolean(true));
        check_value(b"b\xFF", FieldValue::Int8(-1));
        check_value(b"B\xFF", FieldValue::UInt8(255));
        check_value(b"s\xFF\xFE", FieldValue::Int16(-2));
        check_value(b"U\xFF\xFE", FieldValue::Int16(-2));
        check_value(b"u\xFF\xFE", FieldValue::UInt16(65_534));
        check_value(b"I\xFF\xFF\xFF\xFF", FieldValue::Int32(-1));
        check_value(b"i\xFF\xFF\xFF\xFF", FieldValue::UInt32(u32::MAX));
        check_value(b"l\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", FieldValue::Int64(-1));
        check_value(b"L\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", FieldValue::Int64(-1));
        check_value(b"f\x3F\x80\0\0", FieldValue::Float(1.0));
        check_value(b"d\x3F\xF0\0\0\0\0\0\0", FieldValue::Double(1.0));
        check_value(b"D\x02\xFF\xFF\xFF\x9C", FieldValue::Decimal { scale: 2, value: -100 });
        check_value(b"S\0\0\0\x02\xFF\xFE", FieldValue::LongString(vec![0xFF, 0xFE].try_into().expect("short")));
        check_value(b"x\0\0\0\x01\x07", FieldValue::ByteArray(Bytes::from_static(&[7])));
        check_value(b"A\0\0\0\x03Vt\0", FieldValue::Array(vec![FieldValue::Void, FieldValue::Boolean(false)]));
        check_value(b"T\0\0\0\0\0\0\0\x05", FieldValue::Timestamp(5));
        check_value(b"F\0\0\0\0", FieldValue::Table(FieldTable::new()));
        check_value(b"V", FieldValue::Void);
    }

    #[test]
    fn undecodable_tables_are_refused() {
        check_refused(b"\x01");
        check_refused(b"\x01k");
        check_refused(b"\x01kQ");
        check_refused(b"\x01kI\0\0\0");
        check_refused(b"\x01kS\0\0\0\x02a");
        check_refused(b"\x01kS\xFF\xFF\xFF\xFFa");
        check_refused(b"\x01kA\0\0\0\x01tV");
        check_refused(b"\x01kF\0\0\0\x02\x01k");
        check_refused(b"\x01kV\0");
    }

    #[test]
    fn a_nested_table_cannot_reach_beyond_its_end() {
        // The inner table has two octets, which its entry's name overruns.
        check_refused(b"\x01kF\0\0\0\x02\x05aaaaaV");
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |levels: usize| {
            let mut content = Vec::new();
            for _ in 1..levels {
                let len = u32::try_from(content.len()).expect("small");
                content = [&[0, b'F'], &len.to_be_bytes()[..], &content].concat();
            }
            content
        };
        assert!(decode_table_content(&nested(MAX_TABLE_DEPTH)).is_ok());
        assert!(validate_table_content(&nested(MAX_TABLE_DEPTH)));
        check_refused(&nested(MAX_TABLE_DEPTH + 1));
        check_refused(&nested(10_000));
    }

    #[test]
    fn a_table_with_prefix_tells_its_length() {
        assert_eq!(decode_table(b"\0\0\0\x03\x01kVrest").map(|(table, len)| (table.len(), len)), Ok((1, 7)));
        assert_eq!(decode_table(b"\0\0\0\x04\x01kV"), Err(TableError));
        assert_eq!(decode_table(b"\0\0"), Err(TableError));
    }

    #[test]
    fn long_integers_of_either_tag_are_written_as_l() {
        let mut out = Vec::new();
        put_value(&mut out, &FieldValue::Int64(-1));
        assert_eq!(out, b"l\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
    }
}
