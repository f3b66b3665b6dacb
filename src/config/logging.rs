//! What the `leveret` command logs.

use std::fmt;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Plain,
    /// One JSON object a line.
    Json,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plaintext",
            Self::Json => "json",
        })
    }
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stderr => "stderr",
            Self::Stdout => "stdout",
        })
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// One of RabbitMQ's words for levels.
    pub level: String,
    /// The level of what connections log, if it is another.
    pub connection_level: Option<String>,
    /// How lines look.
    pub format: Format,
    /// Where they go.
    pub target: Target,
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: "info".to_owned(), connection_level: None, format: Format::Plain, target: Target::Stderr }
    }
}

/// RabbitMQ's words for levels, each with the one of `tracing` that it comes nearest to.
pub(super) const LEVELS: [(&str, &str); 9] = [
    ("debug", "debug"),
    ("info", "info"),
    ("notice", "info"),
    ("warning", "warn"),
    ("error", "error"),
    ("critical", "error"),
    ("alert", "error"),
    ("emergency", "error"),
    ("none", "off"),
];

/// Where in the code connections log.
const CONNECTION_TARGETS: [&str; 2] = ["leveret::server::connection", "leveret::server::listener"];

impl Logging {
    /// The directives of `tracing` for these levels, with `level` instead of the configured one if it is given.
    ///
    /// # Errors
    /// When the level has none of RabbitMQ's words.
    pub fn directives(&self, level: Option<&str>) -> Result<String, String> {
        let word = |level: &str| {
            let found = LEVELS.iter().find(|(word, _)| *word == level);
            found.map(|(_, word)| *word).ok_or_else(|| {
                let words = "debug, info, warning, error, critical, none";
                format!("level {level} is not supported. Try one of {words}")
            })
        };
        let mut directives = word(level.unwrap_or(&self.level))?.to_owned();
        if let Some(level) = &self.connection_level {
            let level = word(level)?;
            for target in CONNECTION_TARGETS {
                directives.extend([",", target, "=", level]);
            }
        }
        Ok(directives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_become_directives() {
        let mut logging = Logging::default();
        assert_eq!(logging.directives(None).as_deref(), Ok("info"));
        assert_eq!(logging.directives(Some("warning")).as_deref(), Ok("warn"));
        logging.connection_level = Some("critical".to_owned());
        assert_eq!(
            logging.directives(None).as_deref(),
            Ok("info,leveret::server::connection=error,leveret::server::listener=error")
        );
        assert!(logging.directives(Some("loud")).is_err());
    }
}
