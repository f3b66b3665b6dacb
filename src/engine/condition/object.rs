//! Conditions as JSON objects: each member names something of a message and what it has to be; all of them must be met.

use serde_json::{Map, Value};

use super::duration::parse_duration_ms;
use super::field::Field;
use super::{Check, Condition, Literal, Node, Number};

impl Condition {
    /// The condition that an object says.
    ///
    /// Besides names of fields there are `older_than` and `younger_than` (lengths of time), `body_contains`, and `where`, an
    /// expression.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_object(object: &Map<String, Value>) -> Result<Self, String> {
        let nodes = object.iter().map(|(name, value)| member(name, value)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Node::All(nodes)).flat())
    }
}

fn member(name: &str, value: &Value) -> Result<Node, String> {
    let text = || value.as_str().ok_or_else(|| format!("'{name}' needs a text"));
    match name {
        "where" => Condition::parse(text()?).map(|condition| condition.0),
        "body_contains" => Ok(Node::Test(Field::Body, Check::Contains(text()?.as_bytes().to_vec()))),
        "older_than" => Ok(Node::Test(Field::Age, Check::Above(age(name, value)?))),
        "younger_than" => Ok(Node::Test(Field::Age, Check::Below(age(name, value)?))),
        _ => {
            let field = Field::named(name)?;
            let literals = match value {
                Value::Array(values) => values.iter().map(|value| literal(name, value)).collect::<Result<_, _>>()?,
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    vec![literal(name, value)?]
                }
            };
            Ok(Node::Test(field, Check::OneOf(literals)))
        }
    }
}

fn literal(name: &str, value: &Value) -> Result<Literal, String> {
    match value {
        Value::String(text) => Ok(Literal::quoted(text.clone())),
        Value::Bool(_) | Value::Number(_) => Ok(Literal::bare(value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(format!("'{name}' needs a text, a number, a truth value, or a list of them"))
        }
    }
}

fn age(name: &str, value: &Value) -> Result<Literal, String> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let ms = parse_duration_ms(&text).ok_or_else(|| format!("'{name}' needs a length of time such as 90s or PT1H"))?;
    let number = Number::Integer(i64::try_from(ms).unwrap_or(i64::MAX));
    Ok(Literal { text, number: Some(number) })
}
