//! Arguments as RabbitMQ's tools take them: options anywhere, `--name value` or `--name=value`, `-p value`, `--` before
//! words that look like options.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How a result is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Formatter {
    /// Columns with tabs between them, or text.
    #[default]
    Default,
    Table,
    Json,
    Csv,
    Pretty,
}

/// Options that every command takes, and those of the command at hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub(super) struct Options {
    pub(super) help: bool,
    pub(super) version: bool,
    pub(super) quiet: bool,
    pub(super) silent: bool,
    pub(super) verbose: bool,
    pub(super) no_table_headers: bool,
    pub(super) node: Option<String>,
    pub(super) vhost: Option<String>,
    /// `None` without the option; infinite if it says so.
    pub(super) timeout: Option<Patience>,
    pub(super) formatter: Formatter,
    pub(super) socket: Option<PathBuf>,
    pub(super) data_dir: Option<PathBuf>,
    /// Switches that only some commands know, with their values; a flag has an empty one.
    pub(super) own: BTreeMap<String, String>,
}

/// How long a command may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Infinite,
    For(Duration),
}

/// A command line taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    /// The command and its arguments.
    pub(super) words: Vec<String>,
    pub(super) options: Options,
    /// Options that cannot be: name and value.
    pub(super) bad: Vec<(String, String)>,
}

/// Switches of single commands that take a value.
const OWN_VALUED: [&str; 28] = [
    "description",
    "tags",
    "default-queue-type",
    "priority",
    "apply-to",
    "user",
    "limit",
    "per-connection-delay",
    "unit",
    "within",
    "format",
    "queue-timeout",
    "vhost-pattern",
    "queue-pattern",
    "address-family",
    "pid",
    "number",
    "duration",
    "cipher",
    "where",
    "ids",
    "from",
    "state",
    "body",
    "to-queue",
    "to-exchange",
    "routing-key",
    "rate",
];

/// Switches of single commands that take none.
const OWN_FLAGS: [&str; 28] = [
    "if-empty",
    "if-unused",
    "global",
    "online",
    "offline",
    "local",
    "wait",
    "idempotent",
    "minimal",
    "enabled",
    "implicitly-enabled",
    "all",
    "list-commands",
    "skip-if-unchanged",
    "by-source",
    "errors-only",
    "tracking",
    "disc",
    "ram",
    "dry-run",
    "pre-hashed-password",
    "force",
    "hard",
    "sync",
    "opt-in",
    "keep-headers",
    "no-wait",
    "to-source",
];

impl Parsed {
    /// Takes a command line apart. Whether the command knows its switches is looked at later.
    pub(super) fn of(arguments: &[String]) -> Self {
        let mut parsed = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                parsed.words.extend(rest.cloned());
                break;
            }
            if let Some(long) = argument.strip_prefix("--") {
                let (name, inline) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                parsed.long(name, inline, &mut rest);
            } else if argument.len() > 1 && argument.starts_with('-') && !is_number(argument) {
                parsed.short(argument, &mut rest);
            } else {
                parsed.words.push(argument.clone());
            }
        }
        parsed
    }

    fn long<'a>(&mut self, name: &str, inline: Option<String>, rest: &mut impl Iterator<Item = &'a String>) {
        let options = &mut self.options;
        let flag = match name {
            "help" => Some(&mut options.help),
            "version" => Some(&mut options.version),
            "quiet" => Some(&mut options.quiet),
            "silent" => Some(&mut options.silent),
            "verbose" => Some(&mut options.verbose),
            "no-table-headers" => Some(&mut options.no_table_headers),
            _ => None,
        };
        if let Some(flag) = flag {
            match inline.as_deref() {
                None | Some("true") => *flag = true,
                Some("false") => *flag = false,
                Some(other) => self.bad.push((format!("--{name}"), other.to_owned())),
            }
            return;
        }
        if matches!(name, "longnames" | "shortnames" | "table-headers") {
            return;
        }
        if OWN_FLAGS.contains(&name) {
            self.options.own.insert(name.to_owned(), inline.unwrap_or_default());
            return;
        }
        let known = matches!(
            name,
            "node"
                | "vhost"
                | "timeout"
                | "formatter"
                | "printer"
                | "socket"
                | "data-dir"
                | "file"
                | "script-name"
                | "rabbitmq-home"
                | "mnesia-dir"
                | "plugins-dir"
                | "enabled-plugins-file"
                | "erlang-cookie"
        );
        if !known && !OWN_VALUED.contains(&name) {
            self.bad.push((format!("--{name}"), inline.unwrap_or_default()));
            return;
        }
        match inline.or_else(|| rest.next().cloned()) {
            Some(value) => self.valued(name, &format!("--{name}"), value),
            None => self.bad.push((format!("--{name}"), String::new())),
        }
    }

    fn short<'a>(&mut self, argument: &str, rest: &mut impl Iterator<Item = &'a String>) {
        let mut letters = argument[1..].chars();
        let Some(letter) = letters.next() else { return };
        let tail = letters.as_str();
        let shown = format!("-{letter}");
        let long = match letter {
            'n' => "node",
            'p' => "vhost",
            't' => "timeout",
            'P' => "pid",
            'N' => "number",
            'd' => "duration",
            '?' | 'h' | 'q' | 's' | 'l' | 'V' | 'e' | 'u' | 'a' | 'E' | 'm' | 'v' => {
                for letter in argument[1..].chars() {
                    self.short_flag(letter);
                }
                return;
            }
            _ => return self.bad.push((argument.to_owned(), String::new())),
        };
        let inline = tail.strip_prefix('=').unwrap_or(tail);
        let value = if inline.is_empty() { rest.next().cloned() } else { Some(inline.to_owned()) };
        match value {
            Some(value) => self.valued(long, &shown, value),
            None => self.bad.push((shown, String::new())),
        }
    }

    fn short_flag(&mut self, letter: char) {
        let options = &mut self.options;
        match letter {
            '?' | 'h' => options.help = true,
            'q' => options.quiet = true,
            's' => options.silent = true,
            'V' | 'v' => options.verbose = true,
            'l' => {}
            // What these mean is up to the command: empty for queues, explicitly enabled for plugins.
            'e' | 'u' | 'a' | 'E' | 'm' => {
                options.own.insert(letter.to_string(), String::new());
            }
            other => self.bad.push((format!("-{other}"), String::new())),
        }
    }

    fn valued(&mut self, name: &str, shown: &str, value: String) {
        let options = &mut self.options;
        match name {
            "node" => options.node = Some(value),
            "vhost" => options.vhost = Some(value),
            "timeout" if matches!(value.as_str(), "infinity" | "-1") => options.timeout = Some(Patience::Infinite),
            "timeout" => {
                match value.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
                    Some(timeout) => options.timeout = Some(Patience::For(timeout)),
                    None => self.bad.push((shown.to_owned(), value)),
                }
            }
            "formatter" => match value.as_str() {
                "table" => options.formatter = Formatter::Table,
                "json" => options.formatter = Formatter::Json,
                "csv" => options.formatter = Formatter::Csv,
                "pretty_table" => options.formatter = Formatter::Pretty,
                "string" | "report" | "plugins" => options.formatter = Formatter::Default,
                _ => self.bad.push((shown.to_owned(), value)),
            },
            "socket" => options.socket = Some(PathBuf::from(value)),
            "data-dir" => options.data_dir = Some(PathBuf::from(value)),
            // Where RabbitMQ's tools look for its installation: there is nothing to look for.
            "printer"
            | "file"
            | "script-name"
            | "rabbitmq-home"
            | "mnesia-dir"
            | "plugins-dir"
            | "enabled-plugins-file"
            | "erlang-cookie" => {}
            _ => {
                options.own.insert(name.to_owned(), value);
            }
        }
    }
}

/// A negative number is a word.
fn is_number(argument: &str) -> bool {
    argument.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Parsed {
        Parsed::of(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        let before = parse("-n rabbit@host -q -p v --formatter=json list_queues name");
        let after = parse("list_queues name --vhost v --node=rabbit@host --quiet --formatter json");
        assert_eq!(before, after);
        assert_eq!(before.words, ["list_queues", "name"]);
        assert_eq!(before.options.vhost.as_deref(), Some("v"));
        assert!(before.options.quiet && before.bad.is_empty());
    }

    #[test]
    fn what_is_no_option_is_named() {
        assert_eq!(parse("list_queues --bogus-opt").bad, [("--bogus-opt".to_owned(), String::new())]);
        assert_eq!(parse("list_queues -t abc").bad, [("-t".to_owned(), "abc".to_owned())]);
        assert_eq!(parse("list_queues --formatter=erlang").bad, [("--formatter".to_owned(), "erlang".to_owned())]);
        assert_eq!(parse("list_queues -p").bad, [("-p".to_owned(), String::new())]);
    }

    #[test]
    fn time_is_in_seconds_or_infinite() {
        assert_eq!(parse("-t 2.5 ping").options.timeout, Some(Patience::For(Duration::from_millis(2500))));
        assert_eq!(parse("ping --timeout infinity").options.timeout, Some(Patience::Infinite));
        assert_eq!(parse("ping --timeout=1e400").bad.len(), 1);
    }

    #[test]
    fn words_may_look_like_options_behind_two_dashes() {
        assert_eq!(parse("add_user u -- --secret").words, ["add_user", "u", "--secret"]);
        assert_eq!(parse("set_x -1").words, ["set_x", "-1"]);
    }
}
