//! Values of columns as RabbitMQ's tools print them, which is how Erlang prints terms.

use serde_json::Value;

/// A value in a column: text as it is, argument tables as `[{"name",value}]`, lists of words as `[a, b]`.
pub(super) fn display(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if !items.is_empty() && items.iter().all(is_triple) => term(value),
        Value::Array(items) => format!("[{}]", items.iter().map(display).collect::<Vec<_>>().join(", ")),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// `["name", "type", value]`, which is how argument tables come.
fn is_triple(value: &Value) -> bool {
    value.as_array().is_some_and(|parts| parts.len() == 3 && parts[0].is_string() && parts[1].is_string())
}

/// A value inside an argument table.
fn term(value: &Value) -> String {
    match value {
        Value::Null => "undefined".to_owned(),
        Value::String(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        Value::Array(items) if !items.is_empty() && items.iter().all(is_triple) => {
            let pairs =
                items.iter().map(|triple| format!("{{{},{}}}", term(&triple[0]), typed(&triple[1], &triple[2])));
            format!("[{}]", pairs.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(term).collect::<Vec<_>>().join(",")),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// The items of an array have their types before them.
fn typed(kind: &Value, value: &Value) -> String {
    let Some(items) = value.as_array().filter(|_| kind == "array") else { return term(value) };
    let items = items.iter().map(|item| typed(&item[0], &item[1]));
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_look_as_in_erlang() {
        let check = |value: Value, expected: &str| assert_eq!(display(&value), expected);
        check(json!("text"), "text");
        check(json!(["administrator", "monitoring"]), "[administrator, monitoring]");
        check(json!([]), "[]");
        check(json!(5), "5");
        check(Value::Null, "");
        check(json!([["k", "signedint", 1], ["x-match", "longstr", "a\"ll"]]), "[{\"k\",1},{\"x-match\",\"a\\\"ll\"}]");
        check(
            json!([["t", "table", [["k", "bool", true]]], ["a", "array", [["longstr", "x"], ["long", 2]]]]),
            "[{\"t\",[{\"k\",true}]},{\"a\",[\"x\",2]}]",
        );
        check(json!([["t", "table", []]]), "[{\"t\",[]}]");
    }
}
