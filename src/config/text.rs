//! The text of a configuration file: `key = value` lines, as cuttlefish reads them.
//!
//! A `#` begins a comment, also behind a value; a value in single quotes may hold one. `$(NAME)` in a value stands for a
//! variable of the environment. `include PATTERN` reads other files in its place.

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Blank,
    Include(String),
    Setting { key: String, value: String },
}

/// Reads one line; `variable` looks the environment up.
pub(super) fn read(line: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Line, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(Line::Blank);
    }
    let Some((key, value)) = line.split_once('=') else {
        let included = line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t']));
        let pattern = included.map(str::trim).ok_or_else(|| format!("expected 'key = value', got '{line}'"))?;
        return Ok(Line::Include(unquoted(pattern)?.to_owned()));
    };
    let value = interpolated(unquoted(value.trim())?, variable)?;
    Ok(Line::Setting { key: key.trim().replace("\\.", "."), value })
}

/// A value without its quotes or the comment behind it.
fn unquoted(value: &str) -> Result<&str, String> {
    let Some(rest) = value.strip_prefix('\'') else {
        return Ok(value.split('#').next().unwrap_or(value).trim_end());
    };
    let (value, behind) = rest.split_once('\'').ok_or("a quote is not closed")?;
    let behind = behind.trim_start();
    if behind.is_empty() || behind.starts_with('#') {
        Ok(value)
    } else {
        Err(format!("what is '{behind}' behind the quoted value?"))
    }
}

fn interpolated(mut value: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut whole = String::new();
    while let Some((before, rest)) = value.split_once("$(") {
        let (name, after) = rest.split_once(')').ok_or("'$(' without ')'")?;
        whole += before;
        whole += &variable(name).ok_or_else(|| format!("the environment has no variable {name}"))?;
        value = after;
    }
    Ok(whole + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<&str, &str>) {
        let variable = |name: &str| (name == "USER_NAME").then(|| "ada".to_owned());
        let read = read(line, variable).map(|line| match line {
            Line::Blank => String::new(),
            Line::Include(pattern) => format!("<{pattern}>"),
            Line::Setting { key, value } => format!("{key}|{value}"),
        });
        assert_eq!(read.as_deref().map_err(String::as_str), expected, "{line}");
    }

    #[test]
    fn lines_are_keys_with_values() {
        check("  heartbeat=5  ", Ok("heartbeat|5"));
        check("# heartbeat = 5", Ok(""));
        check("", Ok(""));
        check("heartbeat = 5 # five", Ok("heartbeat|5"));
        check("default_pass = 'a # b = c'  # quoted", Ok("default_pass|a # b = c"));
        check("default_pass = a=b", Ok("default_pass|a=b"));
        check("loopback_users.ada\\.l = true", Ok("loopback_users.ada.l|true"));
        check("include conf.d/*.conf", Ok("<conf.d/*.conf>"));
        check("heartbeat", Err("expected 'key = value', got 'heartbeat'"));
        check("default_pass = 'a", Err("a quote is not closed"));
        check("default_pass = 'a' b", Err("what is 'b' behind the quoted value?"));
    }

    #[test]
    fn variables_are_put_in() {
        check("default_user = x-$(USER_NAME)-$(USER_NAME)", Ok("default_user|x-ada-ada"));
        check("default_user = $(NOBODY)", Err("the environment has no variable NOBODY"));
        check("default_user = $(USER_NAME", Err("'$(' without ')'"));
        check("default_pass = $5 and (6)", Ok("default_pass|$5 and (6)"));
    }
}
