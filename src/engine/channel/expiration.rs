//! The `expiration` property: a decimal number of milliseconds in a short string (RabbitMQ extension).

use leveret_protocol::ShortString;

use crate::engine::queue::TTL_MAX_MS;
use crate::error::AmqpError;

/// Reads an `expiration` property; RabbitMQ's rules and words.
pub fn parse_expiration(value: &[u8]) -> Result<u64, AmqpError> {
    let error = |why: String| AmqpError::BadExpiration { value: ShortString::try_from(value).unwrap_or_default(), why };
    let (negative, digits) = match value.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, value),
    };
    let length = digits.iter().take_while(|octet| octet.is_ascii_digit()).count();
    if length == 0 {
        return Err(error("no_integer".to_owned()));
    }
    if length < digits.len() {
        return Err(error(format!("{{leftover_string,\"{}\"}}", String::from_utf8_lossy(&digits[length..]))));
    }
    let text = String::from_utf8_lossy(digits);
    let number = text.trim_start_matches('0');
    let millis: Option<u64> = if number.is_empty() { Some(0) } else { number.parse().ok() };
    match millis {
        Some(0) => Ok(0),
        _ if negative => Err(error(format!("{{value_negative,-{number}}}"))),
        Some(millis) if millis <= TTL_MAX_MS => Ok(millis),
        _ => Err(error(format!("{{value_too_large,{number}}}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rabbitmqs_rules() {
        for (text, millis) in [("0", 0), ("+5", 5), ("05", 5), ("315360000000", TTL_MAX_MS)] {
            assert_eq!(parse_expiration(text.as_bytes()), Ok(millis), "{text}");
        }
        for (text, why) in [
            ("abc", "no_integer"),
            ("", "no_integer"),
            (" 5", "no_integer"),
            ("10x", "{leftover_string,\"x\"}"),
            ("1.5", "{leftover_string,\".5\"}"),
            ("-1", "{value_negative,-1}"),
            ("315360000001", "{value_too_large,315360000001}"),
            ("99999999999999999999999", "{value_too_large,99999999999999999999999}"),
        ] {
            let error = parse_expiration(text.as_bytes()).expect_err(text).to_string();
            assert_eq!(error, format!("invalid expiration '{text}': {why}"));
        }
    }
}
