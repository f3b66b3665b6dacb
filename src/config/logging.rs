//! What the `leveret` command logs.

use std::fmt;
use std::path::PathBuf;

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

/// When a log file is cut, and what is kept of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Octets that the file may have; `None`: it is only cut when an operator asks.
    pub max_bytes: Option<u64>,
    /// Files before the current one that are kept; with 0 the file is emptied.
    pub count: u32,
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
    /// Where they go, unless `console` is false.
    pub target: Target,
    /// Lines go to standard error or output.
    pub console: bool,
    /// Lines go to this file, in `dir` if that is not said otherwise.
    pub file: Option<PathBuf>,
    /// Where log files are.
    pub dir: Option<PathBuf>,
    /// When the file is cut.
    pub rotation: Rotation,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            connection_level: None,
            format: Format::Plain,
            target: Target::Stderr,
            console: true,
            file: None,
            dir: None,
            rotation: Rotation::default(),
        }
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
    /// The file that is logged to, if one is.
    pub fn path(&self) -> Option<PathBuf> {
        let file = self.file.as_ref()?;
        Some(self.dir.as_ref().map_or_else(|| file.clone(), |dir| dir.join(file)))
    }

    /// Where the log goes, as tools show it.
    pub(crate) fn locations(&self) -> Vec<String> {
        let console = self.console.then(|| format!("<{}>", self.target));
        console.into_iter().chain(self.path().map(|path| path.display().to_string())).collect()
    }

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

    #[test]
    fn the_file_is_in_the_directory_for_logs_unless_it_says_another() {
        let mut logging = Logging::default();
        assert_eq!((logging.path(), logging.locations()), (None, vec!["<stderr>".to_owned()]));
        logging.file = Some(PathBuf::from("broker.log"));
        logging.dir = Some(PathBuf::from("/var/log/broker"));
        assert_eq!(logging.locations(), ["<stderr>", "/var/log/broker/broker.log"]);
        logging.console = false;
        logging.file = Some(PathBuf::from("/srv/broker.log"));
        assert_eq!(logging.locations(), ["/srv/broker.log"]);
    }
}
