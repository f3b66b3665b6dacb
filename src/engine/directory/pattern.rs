//! Patterns for names: regular expressions as RabbitMQ's users write them (with look-around), searched unanchored.

use std::fmt;

use fancy_regex::{Regex, RegexBuilder};

/// Steps after which a search is given up, so that no pattern holds a connection for long.
const BACKTRACK_LIMIT: usize = 100_000;

/// A compiled pattern.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    /// `None` for the empty pattern, which matches the empty name only.
    regex: Option<Regex>,
}

impl Pattern {
    /// Compiles a permission's pattern: the empty one matches nothing but the empty name.
    ///
    /// # Errors
    /// What is wrong with the pattern, in words.
    pub fn of_permission(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(Self { text: String::new(), regex: None }) } else { Self::of_policy(text) }
    }

    /// Compiles a policy's pattern: the empty one matches every name.
    ///
    /// # Errors
    /// What is wrong with the pattern, in words.
    pub fn of_policy(text: &str) -> Result<Self, String> {
        let regex = RegexBuilder::new(text).backtrack_limit(BACKTRACK_LIMIT).build();
        regex.map(|regex| Self { text: text.to_owned(), regex: Some(regex) }).map_err(|cause| cause.to_string())
    }

    /// Whether it is found in a name.
    pub fn matches(&self, name: &[u8]) -> bool {
        match &self.regex {
            None => name.is_empty(),
            Some(regex) => {
                let name = String::from_utf8_lossy(name);
                // A search that is given up is no match: rights are never given by accident.
                regex.is_match(&*name).unwrap_or(false)
            }
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.regex.is_some() == other.regex.is_some()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_searched() {
        let matches =
            |pattern: &str, name: &str| Pattern::of_permission(pattern).expect("a pattern").matches(name.as_bytes());
        assert!(matches(".*", "q") && matches("rd", "orders") && matches("^orders$", "orders"));
        assert!(!matches("^rd", "orders") && !matches("", "q") && matches("", ""));
        assert!(matches("^(?!amq\\.).*", "q") && !matches("^(?!amq\\.).*", "amq.direct"));
        assert!(Pattern::of_permission("[").is_err());
        assert!(Pattern::of_policy("").expect("a pattern").matches(b"anything"));
    }

    #[test]
    fn a_pattern_that_explodes_is_no_match() {
        let pattern = Pattern::of_permission("^(?=(a+)+$)b").expect("a pattern");
        assert!(!pattern.matches("a".repeat(40).as_bytes()));
    }
}
