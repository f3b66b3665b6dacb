//! Field tables where they lie: entry by entry, without allocating, and without decoding what is not asked for.
//!
//! For the few headers that a broker acts on in messages that it otherwise forwards untouched. Reading ends at the first
//! entry that is unsound; [`crate::PropertiesRef::decode`] has made sure that there is none in a message's headers.

use crate::table;
use crate::value::FieldValue;

/// A value as it lies in a table or an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueRef<'a> {
    tag: u8,
    octets: &'a [u8],
}

impl<'a> ValueRef<'a> {
    /// The type tag.
    pub const fn tag(self) -> u8 {
        self.tag
    }

    /// The octets after tag and length.
    pub const fn octets(self) -> &'a [u8] {
        self.octets
    }

    /// The octets, if this is a long string.
    pub fn as_long_str(self) -> Option<&'a [u8]> {
        (self.tag == b'S').then_some(self.octets)
    }

    /// The items, if this is an array.
    pub fn as_array(self) -> Option<Items<'a>> {
        (self.tag == b'A').then_some(Items { rest: self.octets })
    }

    /// The value; `None` if it is unsound.
    pub fn decode(self) -> Option<FieldValue> {
        table::value(self.tag, self.octets, 1)
    }
}

/// An entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its value.
    pub value: ValueRef<'a>,
    /// All of it as it lies there.
    pub octets: &'a [u8],
}

/// The entries of a table's content, which has no length prefix.
pub const fn table_entries(content: &[u8]) -> Entries<'_> {
    Entries { rest: content }
}

/// Reads a table, entry by entry.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    /// The value of the first entry with this name.
    pub fn find(mut self, name: &[u8]) -> Option<ValueRef<'a>> {
        Iterator::find(&mut self, |entry| entry.name == name).map(|entry| entry.value)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = EntryRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<EntryRef<'a>> {
        let (rest, (name, tag, octets)) = table::entry(self.rest).ok()?;
        let whole = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        Some(EntryRef { name, value: ValueRef { tag, octets }, octets: whole })
    }
}

/// Reads an array, item by item.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = ValueRef<'a>;

    fn next(&mut self) -> Option<ValueRef<'a>> {
        let (rest, (tag, octets)) = table::item(self.rest).ok()?;
        self.rest = rest;
        Some(ValueRef { tag, octets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_items_are_read_where_they_lie() {
        let content = b"\x01aI\0\0\0\x07\x01bA\0\0\0\x08S\0\0\0\x01xVV\x01aV";
        let names: Vec<_> = table_entries(content).map(|entry| (entry.name, entry.octets.len())).collect();
        assert_eq!(names, [(&b"a"[..], 7), (b"b", 15), (b"a", 3)]);
        assert_eq!(table_entries(content).find(b"a").and_then(ValueRef::decode), Some(FieldValue::Int32(7)));
        let items: Vec<_> = table_entries(content).find(b"b").and_then(ValueRef::as_array).expect("array").collect();
        assert_eq!(items.iter().map(|item| item.as_long_str()).collect::<Vec<_>>(), [Some(&b"x"[..]), None, None]);
        assert_eq!(table_entries(content).find(b"c"), None);
    }

    #[test]
    fn reading_ends_at_what_is_unsound() {
        assert_eq!(table_entries(b"\x01aV\x01b").count(), 1);
        assert_eq!(table_entries(b"\x01aS\0\0\0\x09x").count(), 0);
    }
}
