//! Lengths of time as operators write them: `90`, `90s`, `1h30m`, `PT1H30M`.

/// Milliseconds of a length of time: seconds, or numbers with units, or ISO 8601. `None` if it is none of them.
///
/// ```
/// use leveret::engine::condition::parse_duration_ms;
/// assert_eq!(parse_duration_ms("1h30m"), Some(5_400_000));
/// assert_eq!(parse_duration_ms("P1DT0.5S"), Some(86_400_500));
/// assert_eq!(parse_duration_ms("90"), Some(90_000));
/// assert_eq!(parse_duration_ms("soon"), None);
/// ```
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.bytes().all(|octet| octet.is_ascii_digit()) && !text.is_empty() {
        return text.parse::<u64>().ok()?.checked_mul(1000);
    }
    if let Some(iso) = text.strip_prefix(['P', 'p']) {
        let upper = iso.to_ascii_uppercase();
        let (days, times) = upper.split_once('T').unwrap_or((&upper, ""));
        if upper.ends_with('T') || upper.is_empty() {
            return None;
        }
        let days = sum(days, |unit| match unit {
            "W" => Some(7 * 86_400_000),
            "D" => Some(86_400_000),
            _ => None,
        });
        let times = sum(times, |unit| match unit {
            "H" => Some(3_600_000),
            "M" => Some(60_000),
            "S" => Some(1000),
            _ => None,
        });
        return days?.checked_add(times?);
    }
    if text.is_empty() {
        return None;
    }
    sum(&text.to_ascii_lowercase(), |unit| match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        "w" => Some(7 * 86_400_000),
        _ => None,
    })
}

/// The sum of numbers with units that stand side by side.
fn sum(mut text: &str, unit_ms: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let mut all = 0_u64;
    while !text.is_empty() {
        let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, rest) = text.split_at(digits);
        let letters = rest.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(letters);
        all = all.checked_add(times(number, unit_ms(unit)?)?)?;
        text = rest;
    }
    Some(all)
}

/// A decimal number times a whole one, without rounding errors that matter: three decimal places count.
fn times(number: &str, unit_ms: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let thousandths = format!("{part:0<3}");
    let thousandths: u64 = thousandths.get(..3)?.parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(unit_ms)?.checked_add(thousandths.checked_mul(unit_ms)? / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_in_three_ways() {
        for (text, ms) in [
            ("0", 0),
            ("90", 90_000),
            ("250ms", 250),
            ("1.5s", 1500),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1w", 604_800_000),
            ("PT1H", 3_600_000),
            ("pt0.5s", 500),
            ("P1DT2H3M4S", 93_784_000),
            ("P2W", 1_209_600_000),
        ] {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
        for text in
            ["", "P", "PT", "P1DT", "h", "1x", "-5", "1..5s", ".5s", "P1M", "PT1D", "1 h", "9999999999999999999w"]
        {
            assert_eq!(parse_duration_ms(text), None, "{text}");
        }
    }
}
