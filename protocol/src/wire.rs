//! Method arguments one after another (spec §4.2.5).
//!
//! A [`Reader`] and a [`Writer`] differ from plain parsing and appending in one thing: they remember how many bits of the
//! current octet have been used, because consecutive bit arguments share an octet, the first in the lowest bit
//! (spec §4.2.5.2). Any other argument ends the octet.

use nom::IResult;
use nom::number::complete::{be_u8, be_u16, be_u32, be_u64};

use crate::encode::{put_long_octets, put_short_string, put_u8, put_u16, put_u32, put_u64};
use crate::error::{DecodeError, MALFORMED_SAMPLE_BYTES};
use crate::ids::{ClassId, DeliveryTag, MethodId, ReplyCode};
use crate::method::ArgumentMut;
use crate::string::{LongString, ShortString};
use crate::table::{decode_table_content, long_octets, put_table, short_octets};
use crate::value::FieldTable;

/// Why arguments cannot be decoded; a [`DecodeError`] that does not yet know its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldError {
    /// Too few octets, or too many.
    Length,
    /// A checked short string is not UTF-8.
    BadUtf8,
    /// The content of a table is not one.
    BadTable,
}

impl FieldError {
    /// The error of the method that these arguments were meant for.
    #[cold]
    pub(crate) fn of(self, class: ClassId, method: MethodId, arguments: &[u8]) -> DecodeError {
        match self {
            Self::Length => {
                let sample = arguments.get(..MALFORMED_SAMPLE_BYTES).unwrap_or(arguments);
                DecodeError::Malformed { class, method, arguments: sample.to_vec() }
            }
            Self::BadUtf8 => DecodeError::BadUtf8 { class, method },
            Self::BadTable => DecodeError::BadTable { class, method },
        }
    }
}

/// Reads arguments in order.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    bits: u8,
    /// The place of the next bit in `bits`; 0 if the next bit begins an octet.
    next_bit: u8,
    checks_utf8: bool,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(arguments: &'a [u8], checks_utf8: bool) -> Self {
        Self { rest: arguments, bits: 0, next_bit: 0, checks_utf8 }
    }

    /// The next argument.
    #[inline]
    pub(crate) fn read<T: Field>(&mut self) -> Result<T, FieldError> {
        T::read(self)
    }

    /// The octets of a short string, unchecked.
    #[inline]
    pub(crate) fn short_octets(&mut self) -> Result<&'a [u8], FieldError> {
        self.parse(short_octets)
    }

    /// Refuses arguments that go on.
    #[inline]
    pub(crate) fn finish(self) -> Result<(), FieldError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FieldError::Length) }
    }

    #[inline]
    fn parse<T>(&mut self, parser: impl Fn(&'a [u8]) -> IResult<&'a [u8], T, ()>) -> Result<T, FieldError> {
        let (rest, value) = parser(self.rest).map_err(|_| FieldError::Length)?;
        self.rest = rest;
        self.next_bit = 0;
        Ok(value)
    }

    #[inline]
    fn bit(&mut self) -> Result<bool, FieldError> {
        let place = self.next_bit;
        if place == 0 {
            self.bits = self.parse(be_u8)?;
        }
        self.next_bit = (place + 1) % 8;
        Ok(self.bits >> place & 1 == 1)
    }
}

/// Writes arguments in order.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// The place of the next bit in the last octet written; 0 if the next bit begins an octet.
    next_bit: u8,
}

impl<'a> Writer<'a> {
    #[inline]
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, next_bit: 0 }
    }

    /// Appends an argument.
    #[inline]
    pub(crate) fn write<T: Field>(&mut self, value: &T) {
        value.write(self);
    }

    /// The buffer, for anything but bits.
    #[inline]
    pub(crate) fn octets(&mut self) -> &mut Vec<u8> {
        self.next_bit = 0;
        self.out
    }

    #[inline]
    fn bit(&mut self, bit: bool) {
        let place = self.next_bit;
        if place == 0 {
            self.out.push(0);
        }
        if let Some(octet) = self.out.last_mut() {
            *octet |= u8::from(bit) << place;
        }
        self.next_bit = (place + 1) % 8;
    }
}

/// A type that method arguments may have.
pub(crate) trait Field: Sized {
    fn read(reader: &mut Reader<'_>) -> Result<Self, FieldError>;
    fn write(&self, writer: &mut Writer<'_>);
    fn as_argument(&mut self) -> ArgumentMut<'_>;
}

impl Field for bool {
    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        reader.bit()
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>) {
        writer.bit(*self);
    }

    fn as_argument(&mut self) -> ArgumentMut<'_> {
        ArgumentMut::Bit(self)
    }
}

macro_rules! number_field {
    ($($number:ty, $parse:ident, $put:ident, $argument:ident;)*) => {
        $(impl Field for $number {
            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
                reader.parse($parse)
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>) {
                $put(writer.octets(), *self);
            }

            fn as_argument(&mut self) -> ArgumentMut<'_> {
                ArgumentMut::$argument(self)
            }
        })*
    };
}

number_field! {
    u8, be_u8, put_u8, U8;
    u16, be_u16, put_u16, U16;
    u32, be_u32, put_u32, U32;
    u64, be_u64, put_u64, U64;
}

macro_rules! newtype_field {
    ($($newtype:ident),*) => {
        $(impl Field for $newtype {
            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
                reader.read().map(Self::new)
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>) {
                writer.write(&self.get());
            }

            fn as_argument(&mut self) -> ArgumentMut<'_> {
                ArgumentMut::$newtype(self)
            }
        })*
    };
}

newtype_field!(ClassId, DeliveryTag, MethodId, ReplyCode);

impl Field for ShortString {
    fn read(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let octets = reader.short_octets()?;
        if reader.checks_utf8 && std::str::from_utf8(octets).is_err() {
            return Err(FieldError::BadUtf8);
        }
        Self::try_from(octets).map_err(|_| FieldError::Length)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        put_short_string(writer.octets(), self.as_bytes());
    }

    fn as_argument(&mut self) -> ArgumentMut<'_> {
        ArgumentMut::ShortString(self)
    }
}

impl Field for LongString {
    fn read(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let octets = reader.parse(long_octets)?;
        Self::try_from(octets).map_err(|_| FieldError::Length)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        put_long_octets(writer.octets(), self.as_bytes());
    }

    fn as_argument(&mut self) -> ArgumentMut<'_> {
        ArgumentMut::LongString(self)
    }
}

impl Field for FieldTable {
    fn read(reader: &mut Reader<'_>) -> Result<Self, FieldError> {
        let content = reader.parse(long_octets)?;
        decode_table_content(content).map_err(|_| FieldError::BadTable)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        put_table(writer.octets(), self);
    }

    fn as_argument(&mut self) -> ArgumentMut<'_> {
        ArgumentMut::Table(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_bits_share_octets_and_other_arguments_part_them() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        for place in 0..9 {
            writer.write(&(place == 0 || place == 7 || place == 8));
        }
        writer.write(&5_u8);
        writer.write(&true);
        assert_eq!(out, [0b1000_0001, 0b0000_0001, 5, 1]);

        let mut reader = Reader::new(&out, true);
        let bits: Vec<bool> = (0..9).map(|_| reader.read().expect("bits are there")).collect();
        assert_eq!(bits, [true, false, false, false, false, false, false, true, true]);
        assert_eq!(reader.read::<u8>(), Ok(5));
        assert_eq!(reader.read::<bool>(), Ok(true));
        assert_eq!(reader.finish(), Ok(()));
    }
}
