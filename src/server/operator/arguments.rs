//! Argument tables as JSON: as plain objects, and with the type of each value beside it.

use leveret_protocol::{FieldTable, FieldValue, ShortString};
use serde::{Serialize, Serializer};
use serde_json::{Map, Number, Value};

/// An argument table. As JSON it is an object without types, as RabbitMQ's HTTP API and definitions have it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Arguments(pub(crate) FieldTable);

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_object().serialize(serializer)
    }
}

impl Arguments {
    /// `{"name": value, …}`
    pub(crate) fn to_object(&self) -> Value {
        object(&self.0)
    }

    /// `[["name", "type", value], …]`, as RabbitMQ's command line prints tables in JSON.
    pub(crate) fn to_triples(&self) -> Value {
        triples(&self.0)
    }
}

fn object(table: &FieldTable) -> Value {
    Value::Object(table.iter().map(|(name, value)| (name.to_string(), plain(value))).collect::<Map<String, Value>>())
}

fn triples(table: &FieldTable) -> Value {
    let triple = |(name, value): &(ShortString, FieldValue)| {
        Value::Array(vec![name.to_string().into(), value.type_name().into(), typed(value)])
    };
    Value::Array(table.iter().map(triple).collect())
}

/// A value; what is inside it has its types beside it.
fn typed(value: &FieldValue) -> Value {
    if let Some(table) = value.as_table() {
        return triples(table);
    }
    let Some(items) = value.as_array() else { return plain(value) };
    Value::Array(items.iter().map(|item| Value::Array(vec![item.type_name().into(), typed(item)])).collect())
}

/// A value without its type.
fn plain(value: &FieldValue) -> Value {
    if let Some(number) = value.as_integer() {
        return number.into();
    }
    match value {
        FieldValue::Boolean(on) => Value::Bool(*on),
        FieldValue::Float(number) => float(f64::from(*number)),
        FieldValue::Double(number) => float(*number),
        FieldValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        FieldValue::ByteArray(octets) => String::from_utf8_lossy(octets).into(),
        FieldValue::Array(items) => Value::Array(items.iter().map(plain).collect()),
        FieldValue::Table(table) => object(table),
        FieldValue::Timestamp(seconds) => (*seconds).into(),
        FieldValue::Decimal { scale, value } => float(f64::from(*value) / 10_f64.powi(i32::from(*scale))),
        FieldValue::Void
        | FieldValue::Int8(_)
        | FieldValue::UInt8(_)
        | FieldValue::Int16(_)
        | FieldValue::UInt16(_)
        | FieldValue::Int32(_)
        | FieldValue::UInt32(_)
        | FieldValue::Int64(_) => Value::Null,
    }
}

/// JSON has no infinities.
fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_objects_and_triples() {
        let inner: FieldTable = [(ShortString::from_static("k"), FieldValue::Boolean(true))].into_iter().collect();
        let table: FieldTable = [
            (ShortString::from_static("n"), FieldValue::Int32(5)),
            (ShortString::from_static("s"), FieldValue::LongString("x".try_into().expect("short"))),
            (ShortString::from_static("t"), FieldValue::Table(inner)),
            (ShortString::from_static("a"), FieldValue::Array(vec![FieldValue::Double(0.5), FieldValue::Void])),
        ]
        .into_iter()
        .collect();
        let arguments = Arguments(table);
        assert_eq!(arguments.to_object(), json!({"n": 5, "s": "x", "t": {"k": true}, "a": [0.5, null]}));
        assert_eq!(
            arguments.to_triples(),
            json!([
                ["n", "signedint", 5],
                ["s", "longstr", "x"],
                ["t", "table", [["k", "bool", true]]],
                ["a", "array", [["double", 0.5], ["void", null]]]
            ])
        );
    }
}
