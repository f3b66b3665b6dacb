//! Argument tables in JSON, as RabbitMQ converts them: whole numbers are `long`, text is `longstr`.

use leveret_protocol::{FieldTable, FieldValue, LongString, ShortString};
use serde_json::{Map, Value};

use crate::server::operator::Arguments;

/// Levels of tables and arrays, as on the wire.
const NESTING_MAX: usize = 32;

/// A table as a JSON object.
pub(crate) fn to_json(table: &FieldTable) -> Map<String, Value> {
    match Arguments(table.clone()).to_object() {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

/// A JSON object as a table.
pub(crate) fn from_json(object: &Map<String, Value>) -> Result<FieldTable, String> {
    table(object, 0)
}

fn table(object: &Map<String, Value>, depth: usize) -> Result<FieldTable, String> {
    let entry = |(name, item): (&String, &Value)| {
        let short =
            ShortString::try_from(name.as_str()).map_err(|_| format!("argument '{name}' has a name too long"))?;
        Ok((short, value(name, item, depth + 1)?))
    };
    object.iter().map(entry).collect()
}

fn value(name: &str, json: &Value, depth: usize) -> Result<FieldValue, String> {
    if depth > NESTING_MAX {
        return Err(format!("argument '{name}' is nested too deeply"));
    }
    Ok(match json {
        Value::Null => FieldValue::Void,
        Value::Bool(on) => FieldValue::Boolean(*on),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => FieldValue::Int64(whole),
            None => FieldValue::Double(number.as_f64().ok_or_else(|| format!("argument '{name}': {number}"))?),
        },
        Value::String(text) => FieldValue::LongString(
            LongString::try_from(text.as_bytes()).map_err(|_| format!("argument '{name}' is too long"))?,
        ),
        Value::Array(items) => {
            FieldValue::Array(items.iter().map(|item| value(name, item, depth + 1)).collect::<Result<_, _>>()?)
        }
        Value::Object(object) => FieldValue::Table(table(object, depth + 1)?),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_come_back_as_they_went() {
        let json = json!({"n": 5, "f": 0.5, "s": "text", "b": true, "a": [1, "x", {"t": null}], "t": {"k": -1}});
        let object = json.as_object().expect("an object");
        let table = from_json(object).expect("a table");
        assert_eq!(table.get("n"), Some(&FieldValue::Int64(5)));
        assert_eq!(&to_json(&table), object);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let deep = (0..40).fold(json!(1), |inner, _| json!({"k": inner}));
        assert!(from_json(deep.as_object().expect("an object")).is_err());
        let long = json!({"k".repeat(256): 1});
        assert!(from_json(long.as_object().expect("an object")).is_err());
    }
}
