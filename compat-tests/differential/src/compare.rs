//! Two transcripts side by side, and whether what differs was to be expected.

use crate::releases::{in_old_words, without_old_extras};
use crate::script::Scenario;
use crate::session::Transcript;

/// A line of two transcripts laid over each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Same(String),
    Oracle(String),
    Leveret(String),
}

impl Line {
    /// As it is written in a scenario, or with two spaces in front.
    pub(crate) fn show(&self) -> String {
        match self {
            Self::Same(line) => format!("  {line}"),
            Self::Oracle(line) => format!("- {line}"),
            Self::Leveret(line) => format!("+ {line}"),
        }
    }
}

/// Lays the transcripts over each other so that as many lines as possible are the same.
pub(crate) fn diff(oracle: &[String], leveret: &[String]) -> Vec<Line> {
    // lengths[i][j]: how many lines can be the same from these on.
    let mut lengths = vec![vec![0_usize; leveret.len() + 1]; oracle.len() + 1];
    for i in (0..oracle.len()).rev() {
        for j in (0..leveret.len()).rev() {
            lengths[i][j] = if oracle[i] == leveret[j] {
                lengths[i + 1][j + 1] + 1
            } else {
                lengths[i + 1][j].max(lengths[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < oracle.len() || j < leveret.len() {
        if i < oracle.len() && j < leveret.len() && oracle[i] == leveret[j] {
            lines.push(Line::Same(oracle[i].clone()));
            (i, j) = (i + 1, j + 1);
        } else if j == leveret.len() || i < oracle.len() && lengths[i + 1][j] >= lengths[i][j + 1] {
            lines.push(Line::Oracle(oracle[i].clone()));
            i += 1;
        } else {
            lines.push(Line::Leveret(leveret[j].clone()));
            j += 1;
        }
    }
    lines
}

/// What is wrong with what the two said; nothing if all differences are those that the scenario lists.
pub(crate) fn judge(scenario: &Scenario, oracle: Option<&Transcript>, leveret: &Transcript) -> Vec<String> {
    let mut wrong: Vec<String> =
        missing(scenario, leveret).into_iter().map(|line| format!("Leveret does not say: {line}")).collect();
    let Some(oracle) = oracle else { return wrong };
    let oracle: Transcript = oracle.iter().map(|line| without_old_extras(line)).collect();
    let leveret: Transcript = leveret.iter().map(|line| in_old_words(line)).collect();
    let lines = diff(&oracle, &leveret);
    let mut listed = scenario.differences.clone();
    let mut unlisted = false;
    for line in lines.iter().filter(|line| !matches!(line, Line::Same(_))) {
        let shown = line.show();
        match listed.iter().position(|pattern| matches(pattern, &shown)) {
            Some(place) => drop(listed.remove(place)),
            None => unlisted = true,
        }
    }
    if unlisted {
        wrong.push("they differ (- RabbitMQ, + Leveret):".to_owned());
        wrong.extend(lines.iter().map(Line::show));
    }
    wrong.extend(listed.into_iter().map(|line| format!("listed, but they do not differ so: {line}")));
    wrong
}

/// The expected lines that do not come, or not in this order on their channel.
fn missing(scenario: &Scenario, transcript: &Transcript) -> Vec<String> {
    let lane = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let mut lanes: Vec<String> = scenario.expected.iter().map(|line| lane(line)).collect();
    lanes.dedup();
    lanes.sort();
    lanes.dedup();
    let mut missing = Vec::new();
    for name in lanes {
        let mut said = transcript.iter().filter(|line| lane(line) == name);
        let wanted = scenario.expected.iter().filter(|line| lane(line) == name);
        missing.extend(wanted.filter(|pattern| !said.by_ref().any(|line| matches(pattern, line))).cloned());
    }
    missing
}

/// Whether the text is what the pattern says; `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    (0..=text.len()).filter(|&at| text.is_char_boundary(at)).any(|at| matches(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Theme;

    fn transcript(lines: &[&str]) -> Transcript {
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn a_diff_keeps_what_is_the_same() {
        let shown: Vec<String> =
            diff(&transcript(&["a", "b", "c"]), &transcript(&["a", "x", "c", "d"])).iter().map(Line::show).collect();
        assert_eq!(shown, ["  a", "- b", "+ x", "  c", "+ d"]);
    }

    #[test]
    fn only_listed_differences_pass_and_all_of_them_must_show() {
        let text = "scenario s\n  - A b*\n  + A x\n  expect A c";
        let theme = Theme::parse("t", text).expect("it can be read");
        let scenario = &theme.scenarios[0];
        let judge =
            |oracle: &[&str], leveret: &[&str]| judge(scenario, Some(&transcript(oracle)), &transcript(leveret));
        assert_eq!(judge(&["A a", "A bbb", "A c"], &["A a", "A x", "A c"]), Vec::<String>::new());
        assert_eq!(judge(&["A a", "A c"], &["A a", "A x", "A c"]), ["listed, but they do not differ so: - A b*"]);
        let wrong = judge(&["A b"], &["A x", "A y"]);
        assert_eq!(wrong[..2], ["Leveret does not say: A c", "they differ (- RabbitMQ, + Leveret):"]);
    }

    #[test]
    fn stars_stand_for_any_text() {
        assert!(matches("a*c*", "abbc") && matches("*", "") && matches("a", "a"));
        assert!(!matches("a*c", "abcd") && !matches("b*", "ab"));
    }
}
