//! Scenario files: what is said to a broker, line by line. `compat-tests/README.md` describes the format.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use leveret_protocol::Method;

use crate::text::{Argument, Value, Words};

/// A file of scenarios.
pub(crate) struct Theme {
    pub(crate) scenarios: Vec<Scenario>,
}

/// One session with a broker of its own, or with a vhost of its own on the oracle.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) theme: String,
    pub(crate) title: String,
    /// The numbers of the list of behaviours that it covers.
    pub(crate) numbers: Vec<u32>,
    pub(crate) steps: Vec<Step>,
    /// Rows of docs/deviations.md.
    pub(crate) deviations: Vec<String>,
    /// What is different, line by line: `- …` only the oracle says, `+ …` only Leveret.
    pub(crate) differences: Vec<String>,
    /// What Leveret must say, in this order.
    pub(crate) expected: Vec<String>,
    /// Why the oracle cannot be asked.
    pub(crate) only_leveret: Option<String>,
    /// Nothing else may run on the oracle meanwhile.
    pub(crate) alone: bool,
}

impl Scenario {
    pub(crate) fn restarts(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.statement, Statement::Restart | Statement::Kill))
    }

    /// How long it only waits.
    pub(crate) fn idle(&self) -> Duration {
        self.steps
            .iter()
            .map(|step| match &step.statement {
                Statement::Sleep(time) => *time,
                Statement::Wait { between: Some((from, _)), .. } => *from,
                _ => Duration::ZERO,
            })
            .sum()
    }

    pub(crate) fn label(&self) -> String {
        let numbers: Vec<String> = self.numbers.iter().map(u32::to_string).collect();
        if numbers.is_empty() {
            format!("{}: {}", self.theme, self.title)
        } else {
            format!("{}: {} {}", self.theme, numbers.join(","), self.title)
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) statement: Statement,
}

/// The name of a connection within its scenario.
pub(crate) type Name = String;

#[derive(Clone, Debug)]
pub(crate) enum Statement {
    /// Opens a connection; `arguments` may say how.
    Connect {
        connection: Name,
        arguments: Vec<Argument>,
    },
    /// Sends a method, with a content if it carries one, as often as `times` says.
    Send {
        connection: Name,
        channel: u16,
        /// Whether the reply is waited for.
        waits: bool,
        /// Whether a channel that is not open is opened before.
        opens: bool,
        method: String,
        arguments: Vec<Argument>,
    },
    /// A frame put together by hand.
    Frame {
        connection: Name,
        channel: u16,
        words: String,
    },
    /// Octets as they are.
    Octets {
        connection: Name,
        octets: Value,
    },
    Hold {
        connection: Name,
    },
    Flush {
        connection: Name,
    },
    /// As `Flush`, octet by octet.
    Drip {
        connection: Name,
    },
    /// Waits until as many methods of this name have come, or the end of the socket (`eof`).
    Wait {
        connection: Name,
        channel: u16,
        what: String,
        count: usize,
        between: Option<(Duration, Duration)>,
    },
    /// Waits until these publishes of the channel are settled.
    Confirms {
        connection: Name,
        channel: u16,
        up_to: u64,
    },
    /// Asks for a queue until it has as many ready messages.
    Ready {
        connection: Name,
        channel: u16,
        queue: Value,
        at_least: u32,
        at_most: u32,
    },
    /// Asks for a queue until it is gone, or an exchange.
    Gone {
        connection: Name,
        channel: u16,
        queue: Value,
    },
    /// Fetches messages without acks until the queue is empty.
    Drain {
        connection: Name,
        channel: u16,
        queue: Value,
    },
    /// Says that nothing more will be sent.
    Shut {
        connection: Name,
    },
    /// Resets the socket.
    Drop {
        connection: Name,
    },
    Sleep(Duration),
    Restart,
    /// Kills Leveret without a warning and starts it again; the oracle is restarted in good order.
    Kill,
    Ctl(Vec<String>),
}

impl Theme {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).map_err(|cause| format!("{}: {cause}", path.display()))?;
        Self::parse(&name, &text)
    }

    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut scenarios: Vec<Scenario> = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with("# ") || text == "#" {
                continue;
            }
            let fail = |cause: String| format!("{name}.amqp:{line}: {cause}");
            if let Some(title) = text.strip_prefix("scenario ") {
                scenarios.push(scenario(name, title));
                continue;
            }
            let scenario = scenarios.last_mut().ok_or_else(|| fail("no scenario has begun".to_owned()))?;
            scenario.add_line(line, text).map_err(fail)?;
        }
        let mut titles = BTreeSet::new();
        if let Some(twice) = scenarios.iter().find(|scenario| !titles.insert(&scenario.title)) {
            return Err(format!("{name}.amqp: two scenarios are called '{}'", twice.title));
        }
        Ok(Self { scenarios })
    }
}

/// `scenario 40,41 What it is about`.
fn scenario(theme: &str, heading: &str) -> Scenario {
    let (first, rest) = heading.split_once(' ').unwrap_or((heading, ""));
    let numbers: Result<Vec<u32>, _> = first.split(',').map(str::parse).collect();
    let (numbers, title) = numbers.map_or_else(|_| (Vec::new(), heading), |numbers| (numbers, rest));
    Scenario {
        theme: theme.to_owned(),
        title: title.trim().to_owned(),
        numbers,
        steps: Vec::new(),
        deviations: Vec::new(),
        differences: Vec::new(),
        expected: Vec::new(),
        only_leveret: None,
        alone: false,
    }
}

impl Scenario {
    fn add_line(&mut self, line: usize, text: &str) -> Result<(), String> {
        let mut words = Words::new(text);
        let first = words.word().unwrap_or_default();
        match first {
            "deviation" => self.deviations.push(words.rest().to_owned()),
            "-" | "+" => self.differences.push(text.to_owned()),
            "expect" => self.expected.push(words.rest().to_owned()),
            "only" => {
                let reason = words.rest().strip_prefix("leveret:").ok_or("only leveret: REASON")?;
                self.only_leveret = Some(reason.trim().to_owned());
            }
            "alone" => self.alone = true,
            _ => {
                let statement = statement(first, &mut words)?;
                self.steps.push(Step { line, text: text.to_owned(), statement });
            }
        }
        Ok(())
    }
}

fn statement(first: &str, words: &mut Words<'_>) -> Result<Statement, String> {
    match first {
        "sleep" => return Ok(Statement::Sleep(milliseconds(words.rest())?)),
        "restart" => return Ok(Statement::Restart),
        "kill" => return Ok(Statement::Kill),
        "ctl" => return Ok(Statement::Ctl(ctl_words(words)?)),
        _ => {}
    }
    let (connection, channel) = place(first).ok_or_else(|| format!("unknown statement '{first}'"))?;
    let mut send = SendOptions { waits: true, opens: true };
    loop {
        let word = words.word().ok_or("a statement is missing")?;
        match word {
            ">" => send.waits = false,
            "!" => send.opens = false,
            "connect" => return Ok(Statement::Connect { connection, arguments: words.arguments()? }),
            "frame" => return Ok(Statement::Frame { connection, channel, words: words.rest().to_owned() }),
            "octets" => return Ok(Statement::Octets { connection, octets: argument(words)? }),
            "hold" => return Ok(Statement::Hold { connection }),
            "flush" => return Ok(Statement::Flush { connection }),
            "drip" => return Ok(Statement::Drip { connection }),
            "shut" => return Ok(Statement::Shut { connection }),
            "drop" => return Ok(Statement::Drop { connection }),
            "wait" => return wait(connection, channel, words),
            "confirms" => return Ok(Statement::Confirms { connection, channel, up_to: number(words)? }),
            "ready" => {
                let queue = argument(words)?;
                let at_least = number(words)?;
                let at_most = if words.take("to") { number(words)? } else { at_least };
                return Ok(Statement::Ready { connection, channel, queue, at_least, at_most });
            }
            "gone" => return Ok(Statement::Gone { connection, channel, queue: argument(words)? }),
            "drain" => return Ok(Statement::Drain { connection, channel, queue: argument(words)? }),
            method => {
                Method::named(method).ok_or_else(|| format!("unknown method '{method}'"))?;
                let (method, arguments) = (method.to_owned(), words.arguments()?);
                let SendOptions { waits, opens } = send;
                return Ok(Statement::Send { connection, channel, waits, opens, method, arguments });
            }
        }
    }
}

struct SendOptions {
    waits: bool,
    opens: bool,
}

/// `A` is a connection and `A.1` a channel of it.
fn place(word: &str) -> Option<(Name, u16)> {
    let (name, channel) = word.split_once('.').unwrap_or((word, "0"));
    let is_name = name.len() <= 2 && name.starts_with(|first: char| first.is_ascii_uppercase());
    if is_name { Some((name.to_owned(), channel.parse().ok()?)) } else { None }
}

/// `wait WHAT [COUNT] [between MS MS]`
fn wait(connection: Name, channel: u16, words: &mut Words<'_>) -> Result<Statement, String> {
    let what = words.word().ok_or("wait for what?")?.to_owned();
    if !matches!(what.as_str(), "eof" | "heartbeat") && Method::named(&what).is_none() {
        return Err(format!("nothing to wait for is called '{what}'"));
    }
    let mut count = 1;
    let mut between = None;
    while let Some(word) = words.word() {
        if word == "between" {
            let mut bound = || milliseconds(words.word().unwrap_or_default());
            between = Some((bound()?, bound()?));
        } else {
            count = word.parse().map_err(|_| format!("'{word}' is no count"))?;
        }
    }
    Ok(Statement::Wait { connection, channel, what, count, between })
}

fn argument(words: &mut Words<'_>) -> Result<Value, String> {
    let rest = words.rest();
    let mut inner = Words::new(rest);
    let value = inner.value(&[' '])?;
    *words = inner;
    Ok(value)
}

fn number<T: std::str::FromStr>(words: &mut Words<'_>) -> Result<T, String> {
    let word = words.word().unwrap_or_default();
    word.parse().map_err(|_| format!("'{word}' is no number"))
}

fn milliseconds(word: &str) -> Result<Duration, String> {
    word.parse().map(Duration::from_millis).map_err(|_| format!("'{word}' is no number of milliseconds"))
}

/// Words as a shell would see them: quotes may hold spaces.
fn ctl_words(words: &mut Words<'_>) -> Result<Vec<String>, String> {
    let mut arguments = Vec::new();
    while !words.rest().is_empty() {
        arguments.push(match words.rest().strip_prefix('\'') {
            Some(rest) => {
                let (quoted, rest) = rest.split_once('\'').ok_or("a quote has no end")?;
                *words = Words::new(rest);
                quoted.to_owned()
            }
            None => argument(words)?.text()?,
        });
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_read_line_by_line() {
        let text = "\
# a comment
scenario 40,41 Predeclared exchanges
  A connect heartbeat=1
  A.1 > ! queue.declare queue=q durable
  A.1 wait basic.deliver 3 between 100 200
  B.2 ready q 3 to 5
  sleep 250
  ctl set_policy p '^a b$' '{\"max-length\":2}'
  deviation some-id
    - A.1 x
    + A.1 y
  expect A.1 y
scenario Another
  only leveret: the oracle is too old
  A drop
";
        let theme = Theme::parse("t", text).expect("the file is good");
        let [first, second] = &theme.scenarios[..] else { panic!("two scenarios") };
        assert_eq!(first.label(), "t: 40,41 Predeclared exchanges");
        assert_eq!(first.steps.len(), 6);
        assert_eq!(first.idle(), Duration::from_millis(350));
        assert_eq!(first.deviations, ["some-id"]);
        assert_eq!(first.differences, ["- A.1 x", "+ A.1 y"]);
        assert_eq!(first.expected, ["A.1 y"]);
        assert!(matches!(&first.steps[1].statement, Statement::Send { waits: false, opens: false, channel: 1, .. }));
        let Statement::Ctl(words) = &first.steps[5].statement else { panic!("ctl") };
        assert_eq!(words[..], ["set_policy", "p", "^a b$", "{\"max-length\":2}"]);
        assert_eq!(second.only_leveret.as_deref(), Some("the oracle is too old"));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, message) in [
            ("A.1 tx.select", "t.amqp:1: no scenario has begun"),
            ("scenario x\n  A.1 queue.declaim", "t.amqp:2: unknown method 'queue.declaim'"),
            ("scenario x\n  nonsense", "t.amqp:2: unknown statement 'nonsense'"),
            ("scenario x\n  A wait bread", "t.amqp:2: nothing to wait for is called 'bread'"),
            ("scenario x\nscenario x", "t.amqp: two scenarios are called 'x'"),
        ] {
            assert_eq!(Theme::parse("t", text).err().as_deref(), Some(message));
        }
    }
}
