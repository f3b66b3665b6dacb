//! Values as they are written in scenarios and shown in transcripts.
//!
//! | Written | Is |
//! |---|---|
//! | `5`, `true`, `void` | `I`, `t`, `V` in a table; a number or bit of a method's arguments |
//! | `"text"`, `text` | `S` in a table, a string elsewhere; `\"`, `\\`, `\n`, `\r`, `\xHH` in quotes |
//! | `b:1` `B:1` `s:1` `u:1` `i:1` `l:1` `f:1.5` `d:1.5` `D:2/314` `T:0` `x:"octets"` `S:"text"` | that type tag |
//! | `{name=value, …}`, `[value, …]` | `F`, `A` |
//! | `text*300` | the text 300 times |

use std::fmt::Write as _;

use leveret_protocol::{FieldTable, FieldValue, LongString, ShortString};

/// A value as written. Names of the server's making are put in when it is sent, so it is kept as text until then.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Word(String),
    Quoted(Vec<u8>),
    Tagged(char, Box<Value>),
    Table(Vec<(Vec<u8>, Value)>),
    Array(Vec<Value>),
}

/// Gives what stands for a name of the server's making, and anything else back as it is.
pub(crate) type Resolve<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

impl Value {
    /// The octets of a string.
    pub(crate) fn octets(&self, resolve: Resolve<'_>) -> Result<Vec<u8>, String> {
        match self {
            Self::Word(word) => Ok(resolve(&repeated(word))),
            Self::Quoted(octets) => Ok(resolve(octets)),
            Self::Tagged(..) | Self::Table(_) | Self::Array(_) => Err(format!("{self:?} is no string")),
        }
    }

    pub(crate) fn text(&self) -> Result<String, String> {
        String::from_utf8(self.octets(&<[u8]>::to_vec)?).map_err(|_| format!("{self:?} is no text"))
    }

    pub(crate) fn short(&self, resolve: Resolve<'_>) -> Result<ShortString, String> {
        ShortString::try_from(self.octets(resolve)?).map_err(|error| format!("{self:?}: {error}"))
    }

    pub(crate) fn long(&self, resolve: Resolve<'_>) -> Result<LongString, String> {
        LongString::try_from(self.octets(resolve)?).map_err(|error| format!("{self:?}: {error}"))
    }

    pub(crate) fn number<T: std::str::FromStr>(&self) -> Result<T, String> {
        if let Self::Word(word) = self
            && let Ok(number) = word.parse()
        {
            return Ok(number);
        }
        Err(format!("{self:?} is not a number of that width"))
    }

    pub(crate) fn flag(&self) -> Result<bool, String> {
        match self {
            Self::Word(word) if word == "true" => Ok(true),
            Self::Word(word) if word == "false" => Ok(false),
            other => Err(format!("{other:?} is neither true nor false")),
        }
    }

    pub(crate) fn table(&self, resolve: Resolve<'_>) -> Result<FieldTable, String> {
        let Self::Table(entries) = self else { return Err(format!("{self:?} is no table")) };
        let mut table = FieldTable::new();
        for (name, value) in entries {
            let name = ShortString::try_from(&name[..]).map_err(|error| error.to_string())?;
            table.push(name, value.field(resolve)?);
        }
        Ok(table)
    }

    fn field(&self, resolve: Resolve<'_>) -> Result<FieldValue, String> {
        Ok(match self {
            Self::Word(word) if word == "true" || word == "false" => FieldValue::Boolean(word == "true"),
            Self::Word(word) if word == "void" => FieldValue::Void,
            Self::Word(word) if word.parse::<i64>().is_ok() => FieldValue::Int32(self.number()?),
            Self::Word(_) | Self::Quoted(_) => FieldValue::LongString(self.long(resolve)?),
            Self::Table(_) => FieldValue::Table(self.table(resolve)?),
            Self::Array(items) => {
                FieldValue::Array(items.iter().map(|item| item.field(resolve)).collect::<Result<_, _>>()?)
            }
            Self::Tagged(tag, value) => match tag {
                'b' => FieldValue::Int8(value.number()?),
                'B' => FieldValue::UInt8(value.number()?),
                's' => FieldValue::Int16(value.number()?),
                'u' => FieldValue::UInt16(value.number()?),
                'I' => FieldValue::Int32(value.number()?),
                'i' => FieldValue::UInt32(value.number()?),
                'l' => FieldValue::Int64(value.number()?),
                'f' => FieldValue::Float(value.number()?),
                'd' => FieldValue::Double(value.number()?),
                'T' => FieldValue::Timestamp(value.number()?),
                'D' => decimal(&value.text()?)?,
                'x' => FieldValue::ByteArray(value.octets(resolve)?.into()),
                'S' => FieldValue::LongString(value.long(resolve)?),
                _ => return Err(format!("unknown type tag {tag}")),
            },
        })
    }
}

fn decimal(text: &str) -> Result<FieldValue, String> {
    let parse = || {
        let (scale, value) = text.split_once('/')?;
        Some(FieldValue::Decimal { scale: scale.parse().ok()?, value: value.parse().ok()? })
    };
    parse().ok_or_else(|| format!("{text} is no decimal: SCALE/VALUE"))
}

/// `text*300` is the text 300 times; anything else is itself.
fn repeated(word: &str) -> Vec<u8> {
    match word.rsplit_once('*') {
        Some((text, times)) if !text.is_empty() => {
            times.parse().map_or_else(|_| word.into(), |times| text.repeat(times).into())
        }
        _ => word.into(),
    }
}

/// One argument of a statement: `name=value`, or a name alone.
pub(crate) type Argument = (String, Option<Value>);

/// Reads a statement word by word.
pub(crate) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a str {
        self.rest.trim()
    }

    /// The next word up to a space.
    pub(crate) fn word(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let end = rest.find(' ').unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    /// The next word, if it is this one.
    pub(crate) fn take(&mut self, wanted: &str) -> bool {
        let before = self.rest;
        let found = self.word() == Some(wanted);
        if !found {
            self.rest = before;
        }
        found
    }

    /// The arguments up to the end.
    pub(crate) fn arguments(&mut self) -> Result<Vec<Argument>, String> {
        let mut arguments = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.is_empty() {
                return Ok(arguments);
            }
            let end = self.rest.find([' ', '=']).unwrap_or(self.rest.len());
            let (name, rest) = self.rest.split_at(end);
            self.rest = rest;
            let value = match rest.strip_prefix('=') {
                Some(rest) => {
                    self.rest = rest;
                    Some(self.value(&[' '])?)
                }
                None => None,
            };
            arguments.push((name.to_owned(), value));
        }
    }

    /// The next value, a bare word ending at one of these characters.
    pub(crate) fn value(&mut self, ends: &[char]) -> Result<Value, String> {
        if let Some(rest) = self.rest.strip_prefix('"') {
            self.rest = rest;
            return Ok(Value::Quoted(self.quoted()?));
        }
        if let Some(rest) = self.rest.strip_prefix('{') {
            self.rest = rest;
            return self.table();
        }
        if let Some(rest) = self.rest.strip_prefix('[') {
            self.rest = rest;
            return self.array();
        }
        let mut characters = self.rest.chars();
        if let (Some(tag), Some(':')) = (characters.next(), characters.next())
            && "bBsuIilfdDTxS".contains(tag)
        {
            self.rest = &self.rest[2..];
            return Ok(Value::Tagged(tag, Box::new(self.value(ends)?)));
        }
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(Value::Word(word.trim_end().to_owned()))
    }

    fn quoted(&mut self) -> Result<Vec<u8>, String> {
        let mut octets = Vec::new();
        loop {
            let mut characters = self.rest.chars();
            let character = characters.next().ok_or("a quote has no end")?;
            self.rest = characters.as_str();
            match character {
                '"' => return Ok(octets),
                '\\' => octets.push(self.escaped()?),
                other => octets.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn escaped(&mut self) -> Result<u8, String> {
        let mut characters = self.rest.chars();
        let octet = match characters.next() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('0') => 0,
            Some(same @ ('"' | '\\')) => {
                if same == '"' {
                    b'"'
                } else {
                    b'\\'
                }
            }
            Some('x') => {
                let digits = characters.as_str().get(..2).ok_or("\\x needs two digits")?;
                self.rest = &characters.as_str()[2..];
                return u8::from_str_radix(digits, 16).map_err(|_| format!("\\x{digits}"));
            }
            other => return Err(format!("unknown escape {other:?}")),
        };
        self.rest = characters.as_str();
        Ok(octet)
    }

    fn table(&mut self) -> Result<Value, String> {
        let mut entries = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            if self.ends_with('}') {
                return Ok(Value::Table(entries));
            }
            let name = if let Some(rest) = self.rest.strip_prefix('"') {
                self.rest = rest;
                self.quoted()?
            } else {
                let end = self.rest.find('=').ok_or("a table entry needs '='")?;
                let (name, rest) = self.rest.split_at(end);
                self.rest = rest;
                name.as_bytes().to_vec()
            };
            self.rest = self.rest.strip_prefix('=').ok_or("a table entry needs '='")?;
            entries.push((name, self.value(&[',', '}'])?));
            self.separator('}')?;
        }
    }

    fn array(&mut self) -> Result<Value, String> {
        let mut items = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            if self.ends_with(']') {
                return Ok(Value::Array(items));
            }
            items.push(self.value(&[',', ']'])?);
            self.separator(']')?;
        }
    }

    fn ends_with(&mut self, end: char) -> bool {
        self.rest.strip_prefix(end).is_some_and(|rest| {
            self.rest = rest;
            true
        })
    }

    fn separator(&mut self, end: char) -> Result<(), String> {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(',') {
            Some(rest) => self.rest = rest,
            None if self.rest.starts_with(end) => {}
            None => return Err(format!("expected ',' or '{end}' before '{}'", self.rest)),
        }
        Ok(())
    }
}

/// A string in quotes, octets that are no text escaped.
pub(crate) fn quote(octets: &[u8]) -> String {
    let mut shown = String::from("\"");
    for chunk in octets.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => shown.push_str("\\\""),
                '\\' => shown.push_str("\\\\"),
                '\n' => shown.push_str("\\n"),
                '\r' => shown.push_str("\\r"),
                control if control.is_ascii_control() => {
                    let _ = write!(shown, "\\x{:02X}", u32::from(control));
                }
                other => shown.push(other),
            }
        }
        for octet in chunk.invalid() {
            let _ = write!(shown, "\\x{octet:02X}");
        }
    }
    shown.push('"');
    shown
}

/// A string as an argument: without quotes if that can be read back.
pub(crate) fn show_string(octets: &[u8]) -> String {
    let bare = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.:/<>#".contains(octet);
    match std::str::from_utf8(octets) {
        Ok(text) if !text.is_empty() && octets.iter().all(bare) => text.to_owned(),
        _ => quote(octets),
    }
}

pub(crate) fn show_field(value: &FieldValue) -> String {
    match value {
        FieldValue::Boolean(value) => value.to_string(),
        FieldValue::Int8(number) => format!("b:{number}"),
        FieldValue::UInt8(number) => format!("B:{number}"),
        FieldValue::Int16(number) => format!("s:{number}"),
        FieldValue::UInt16(number) => format!("u:{number}"),
        FieldValue::Int32(number) => number.to_string(),
        FieldValue::UInt32(number) => format!("i:{number}"),
        FieldValue::Int64(number) => format!("l:{number}"),
        FieldValue::Float(number) => format!("f:{number}"),
        FieldValue::Double(number) => format!("d:{number}"),
        FieldValue::Decimal { scale, value } => format!("D:{scale}/{value}"),
        FieldValue::LongString(string) => quote(string.as_bytes()),
        FieldValue::ByteArray(octets) => format!("x:{}", quote(octets)),
        FieldValue::Timestamp(seconds) => format!("T:{seconds}"),
        FieldValue::Void => "void".to_owned(),
        FieldValue::Array(items) => {
            let items: Vec<String> = items.iter().map(show_field).collect();
            format!("[{}]", items.join(", "))
        }
        FieldValue::Table(table) => show_table(table),
    }
}

pub(crate) fn show_table(table: &FieldTable) -> String {
    let entries: Vec<String> =
        table.iter().map(|(name, value)| format!("{}={}", show_string(name.as_bytes()), show_field(value))).collect();
    format!("{{{}}}", entries.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> FieldTable {
        let value = Words::new(text).value(&[' ']).expect("a value");
        value.table(&<[u8]>::to_vec).expect("a table")
    }

    #[test]
    fn every_type_is_read_as_it_is_shown() {
        let text = r#"{a=5, b=b:-1, c=B:255, d=s:-2, e=u:2, f=i:7, g=l:-9, h=f:1.5, i=d:2.5, j=D:2/314, k="x\"\\y\n\x00", l=x:"\xFF", m=T:12, n=void, o=true, p=[1, "2", {q="r"}], s={}, t=[]}"#;
        let table = read(text);
        assert_eq!(table.len(), 18);
        assert_eq!(show_table(&table), text);
    }

    #[test]
    fn bare_words_are_strings() {
        assert_eq!(show_table(&read("{a=x y, b=-, c=a*3}")), r#"{a="x y", b="-", c="aaa"}"#);
    }

    #[test]
    fn arguments_are_separated_by_spaces() {
        let arguments = Words::new(r#" queue=q durable  arguments={a=1, b="c d"} body="x y""#).arguments();
        let arguments = arguments.expect("they can be read");
        let names: Vec<&str> = arguments.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["queue", "durable", "arguments", "body"]);
        assert_eq!(arguments[1].1, None);
        assert_eq!(arguments[3].1, Some(Value::Quoted(b"x y".to_vec())));
        for wrong in ["a={b}", "a=\"x", "a=[1 2]", "a={b=1", "a=\"\\q\""] {
            let value = Words::new(wrong).arguments();
            assert!(value.is_err() || wrong == "a=[1 2]", "{wrong}: {value:?}");
        }
    }
}
