//! Field values and field tables as values (spec §4.2.5.5, with RabbitMQ's type tags).
//!
//! The octet side is in `table`. A table keeps its entries in the order in which they came, duplicates included: RabbitMQ
//! does not refuse them, and a look-up finds the first.

use bytes::Bytes;

use crate::string::{LongString, ShortString};
use crate::table;

/// A typed value in a table or array. The letter after each kind is its type tag on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// `t`
    Boolean(bool),
    /// `b`
    Int8(i8),
    /// `B`
    UInt8(u8),
    /// `s`, which the spec gives to short strings; also `U` on receipt
    Int16(i16),
    /// `u`
    UInt16(u16),
    /// `I`
    Int32(i32),
    /// `i`
    UInt32(u32),
    /// `l`; also `L` on receipt
    Int64(i64),
    /// `f`
    Float(f32),
    /// `d`
    Double(f64),
    /// `D`: `value` divided by ten to the power of `scale`
    Decimal {
        /// The number of decimal places.
        scale: u8,
        /// The number without its decimal point.
        value: i32,
    },
    /// `S`, any octets
    LongString(LongString),
    /// `x`
    ByteArray(Bytes),
    /// `A`
    Array(Vec<FieldValue>),
    /// `T`, seconds since 1970
    Timestamp(u64),
    /// `F`
    Table(FieldTable),
    /// `V`
    Void,
}

impl FieldValue {
    /// The name of the type as RabbitMQ's reply-texts give it.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "bool",
            Self::Int8(_) => "byte",
            Self::UInt8(_) => "unsignedbyte",
            Self::Int16(_) => "short",
            Self::UInt16(_) => "unsignedshort",
            Self::Int32(_) => "signedint",
            Self::UInt32(_) => "unsignedint",
            Self::Int64(_) => "long",
            Self::Float(_) => "float",
            Self::Double(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongString(_) => "longstr",
            Self::ByteArray(_) => "binary",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Void => "void",
        }
    }

    /// The number, if this is an integer of any width: clients choose the width by value or by their language's types.
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::Int8(number) => Some(number.into()),
            Self::UInt8(number) => Some(number.into()),
            Self::Int16(number) => Some(number.into()),
            Self::UInt16(number) => Some(number.into()),
            Self::Int32(number) => Some(number.into()),
            Self::UInt32(number) => Some(number.into()),
            Self::Int64(number) => Some(number),
            Self::Boolean(_)
            | Self::Float(_)
            | Self::Double(_)
            | Self::Decimal { .. }
            | Self::LongString(_)
            | Self::ByteArray(_)
            | Self::Array(_)
            | Self::Timestamp(_)
            | Self::Table(_)
            | Self::Void => None,
        }
    }

    /// The octets, if this is a long string.
    pub fn as_long_str(&self) -> Option<&[u8]> {
        if let Self::LongString(string) = self { Some(string.as_bytes()) } else { None }
    }

    /// The truth value, if this is a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Boolean(value) = self { Some(*value) } else { None }
    }

    /// The table, if this is one.
    pub fn as_table(&self) -> Option<&FieldTable> {
        if let Self::Table(table) = self { Some(table) } else { None }
    }

    /// The items, if this is an array.
    pub fn as_array(&self) -> Option<&[FieldValue]> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }
}

impl From<bool> for FieldValue {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for FieldValue {
    fn from(number: i32) -> Self {
        Self::Int32(number)
    }
}

impl From<i64> for FieldValue {
    fn from(number: i64) -> Self {
        Self::Int64(number)
    }
}

impl From<LongString> for FieldValue {
    fn from(string: LongString) -> Self {
        Self::LongString(string)
    }
}

/// A name becomes a long string: tables have no short ones.
impl From<ShortString> for FieldValue {
    fn from(string: ShortString) -> Self {
        Self::LongString(string.into())
    }
}

impl From<Vec<FieldValue>> for FieldValue {
    fn from(items: Vec<FieldValue>) -> Self {
        Self::Array(items)
    }
}

impl From<FieldTable> for FieldValue {
    fn from(table: FieldTable) -> Self {
        Self::Table(table)
    }
}

/// Named values in the order in which they came (spec §4.2.5.5).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldTable(Vec<(ShortString, FieldValue)>);

impl FieldTable {
    /// An empty table.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of the first entry of that name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&FieldValue> {
        let name = name.as_ref();
        self.0.iter().find(|(key, _)| key.as_bytes() == name).map(|(_, value)| value)
    }

    /// Gives the first entry of that name a new value and returns the old one, or appends an entry.
    pub fn insert(&mut self, name: ShortString, value: impl Into<FieldValue>) -> Option<FieldValue> {
        let value = value.into();
        if let Some((_, old)) = self.0.iter_mut().find(|(key, _)| *key == name) {
            return Some(std::mem::replace(old, value));
        }
        self.0.push((name, value));
        None
    }

    /// Appends an entry, whether or not there is one of that name.
    pub fn push(&mut self, name: ShortString, value: impl Into<FieldValue>) {
        self.0.push((name, value.into()));
    }

    /// Removes all entries of that name and returns the value of the first.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> Option<FieldValue> {
        let name = name.as_ref();
        let index = self.0.iter().position(|(key, _)| key.as_bytes() == name)?;
        let (_, value) = self.0.remove(index);
        self.0.retain(|(key, _)| key.as_bytes() != name);
        Some(value)
    }

    /// The entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, (ShortString, FieldValue)> {
        self.0.iter()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of octets of the encoded table, its length prefix included.
    pub fn encoded_len(&self) -> usize {
        table::LENGTH_PREFIX_BYTES
            + self.iter().map(|(name, value)| 1 + name.len() + table::encoded_value_len(value)).sum::<usize>()
    }

    /// A table of entries already counted and decoded.
    pub(crate) fn from_entries(entries: Vec<(ShortString, FieldValue)>) -> Self {
        Self(entries)
    }
}

impl FromIterator<(ShortString, FieldValue)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (ShortString, FieldValue)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl IntoIterator for FieldTable {
    type Item = (ShortString, FieldValue);
    type IntoIter = std::vec::IntoIter<(ShortString, FieldValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a FieldTable {
    type Item = &'a (ShortString, FieldValue);
    type IntoIter = std::slice::Iter<'a, (ShortString, FieldValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ShortString = ShortString::from_static("a");
    const B: ShortString = ShortString::from_static("b");

    #[test]
    fn a_look_up_finds_the_first_of_duplicates() {
        let mut table = FieldTable::new();
        table.push(A, 1);
        table.push(B, 2);
        table.push(A, 3);
        assert_eq!(table.get("a"), Some(&FieldValue::Int32(1)));
        assert_eq!(table.insert(A, 4), Some(FieldValue::Int32(1)));
        assert_eq!(table.get(b"a"), Some(&FieldValue::Int32(4)));
        assert_eq!(table.len(), 3);
        assert_eq!(table.remove("a"), Some(FieldValue::Int32(4)));
        assert_eq!(table.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), [B]);
        assert_eq!(table.remove("a"), None);
        assert_eq!(table.insert(A, true), None);
        assert_eq!(table.get("a").and_then(FieldValue::as_bool), Some(true));
    }

    #[test]
    fn every_integer_width_is_an_integer() {
        let values = [
            FieldValue::Int8(-1),
            FieldValue::UInt8(255),
            FieldValue::Int16(-1),
            FieldValue::UInt16(65_535),
            FieldValue::Int32(-1),
            FieldValue::UInt32(u32::MAX),
            FieldValue::Int64(i64::MIN),
        ];
        let numbers: Vec<_> = values.iter().filter_map(FieldValue::as_integer).collect();
        assert_eq!(numbers, [-1, 255, -1, 65_535, -1, i64::from(u32::MAX), i64::MIN]);
        assert_eq!(FieldValue::Timestamp(1).as_integer(), None);
        assert_eq!(FieldValue::Boolean(true).as_integer(), None);
    }
}
