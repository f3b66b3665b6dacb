//! Short ways to write names, tables and properties.

use std::sync::atomic::{AtomicU32, Ordering};

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, LongString, ShortString};

/// A short string.
#[track_caller]
pub fn s(text: impl AsRef<[u8]>) -> ShortString {
    ShortString::try_from(text.as_ref()).expect("at most 255 octets")
}

/// A long string as a field value.
#[track_caller]
pub fn long(text: impl AsRef<[u8]>) -> FieldValue {
    FieldValue::LongString(LongString::try_from(text.as_ref()).expect("not too long"))
}

/// A table.
pub fn table<const N: usize>(entries: [(&str, FieldValue); N]) -> FieldTable {
    entries.into_iter().map(|(name, value)| (s(name), value)).collect()
}

/// An integer as most clients send it.
pub const fn int(number: i32) -> FieldValue {
    FieldValue::Int32(number)
}

pub fn no_properties() -> BasicProperties {
    BasicProperties::default()
}

pub fn persistent() -> BasicProperties {
    BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() }
}

pub fn with_headers(headers: FieldTable) -> BasicProperties {
    BasicProperties { headers: Some(headers), ..BasicProperties::default() }
}

pub fn with_priority(priority: u8) -> BasicProperties {
    BasicProperties { priority: Some(priority), ..BasicProperties::default() }
}

pub fn with_expiration(expiration: &str) -> BasicProperties {
    BasicProperties { expiration: Some(s(expiration)), ..BasicProperties::default() }
}

/// A name that no other test uses, not even one of another process on the same broker.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{stem}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Random numbers that are the same in every run (splitmix64).
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number less than `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("fits");
        usize::try_from(self.next() % end).expect("less than a usize")
    }

    pub fn octets(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}
