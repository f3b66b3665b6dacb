//! The recording of RabbitMQ's tools, replayed.

use crate::broker::{Broker, NODE, Ran};

/// `$ tool words…`, then lines of standard output (`1| …`) and standard error (`2| …`), then `= exit code`.
const RECORDING: &str = include_str!("recorded.txt");

struct Step {
    command: Vec<String>,
    expected: Ran,
}

fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in RECORDING.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(command) = line.strip_prefix("$ ") {
            let expected = Ran { out: String::new(), err: String::new(), code: -1 };
            steps.push(Step { command: words(command), expected });
            continue;
        }
        let step = steps.last_mut().expect("a command comes first");
        if let Some(out) = line.strip_prefix("1|") {
            step.expected.out.extend([out.strip_prefix(' ').unwrap_or(out), "\n"]);
        } else if let Some(err) = line.strip_prefix("2|") {
            step.expected.err.extend([err.strip_prefix(' ').unwrap_or(err), "\n"]);
        } else {
            step.expected.code = line.strip_prefix("= ").and_then(|code| code.parse().ok()).expect("an exit code");
        }
    }
    steps
}

/// Words with spaces between them; one in single quotes may have spaces in it.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, tail) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').expect("a closing quote"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = tail.trim_start();
    }
    words
}

/// Without blank lines and what a terminal shows in bold: their places differ from release to release.
fn essence(ran: &Ran) -> Ran {
    let kept = |text: &str| {
        let text = text.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        lines.join("\n")
    };
    Ran { out: kept(&ran.out), err: kept(&ran.err), code: ran.code }
}

#[test]
fn commands_write_and_end_as_rabbitmqs() {
    let broker = Broker::start();
    let steps = steps();
    assert!(steps.len() > 90, "the recording is there");
    for Step { command, expected } in &steps {
        let arguments: Vec<&str> = ["-n", NODE].into_iter().chain(command[1..].iter().map(String::as_str)).collect();
        let ran = broker.run(&command[0], &arguments);
        assert_eq!(essence(&ran), essence(expected), "{command:?}");
    }
}
