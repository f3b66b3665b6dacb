//! The reference of all keys as Markdown: the part of `docs/configuration.md` that follows from the code.

use std::fmt::Write;

use super::key::{Counts, Key, Shown};
use super::keys::THEMES;
use super::{Config, known};

/// Where the reference begins in the document, and where it ends.
#[cfg(test)]
const MARKS: [&str; 2] =
    ["<!-- the reference begins here: written by the code -->\n", "<!-- the reference ends here -->\n"];

/// All keys with their forms, defaults and meanings.
pub fn reference() -> String {
    let mut text = String::new();
    for theme in THEMES {
        let _infallible = write!(
            text,
            "\n### {}\n\n| Key | Value | Default | Change counts after | Meaning, and why this default |\n|---|---|---|---|---|\n",
            theme.heading
        );
        for key in theme.keys.iter().copied().flatten() {
            text += &row(key);
        }
    }
    text += "\n### Keys without effect\n\nThese keys of RabbitMQ are accepted, so that its files can be taken as they are, and \
             noted in the log once. The words stand for all keys that begin so and are not listed above.\n\n| Keys | Why \
             |\n|---|---|\n";
    for (start, reason) in known::reasons() {
        let _infallible = writeln!(text, "| `{start}` | {reason} |");
    }
    text
}

fn row(key: &Key) -> String {
    let name = key.name.replace('*', "NAME");
    let counts = match key.counts {
        Counts::As(other) => format!("as `{}`", other.replace('*', "NAME")),
        Counts::AtOnce(_) | Counts::ForNew(_) | Counts::AtStart | Counts::WhenNew => key.counts.words().to_owned(),
    };
    format!("| `{name}` | {} | {} | {counts} | {} |\n", key.form, default(key), key.about)
}

fn default(key: &Key) -> String {
    if key.name == "data_dir" {
        return "see above".to_owned();
    }
    if key.name == "control.socket" {
        return "in the data directory".to_owned();
    }
    match (key.show)(&Config::default()) {
        Shown::One(value) => format!("`{value}`"),
        Shown::Each(values) if key.name.ends_with('*') && values.iter().any(|(_, value)| value == "true") => {
            values.iter().map(|(word, value)| format!("`{word}`: `{value}`")).collect::<Vec<_>>().join(", ")
        }
        Shown::Each(values) => values.iter().map(|(_, value)| format!("`{value}`")).collect::<Vec<_>>().join(", "),
        Shown::Secret => "`guest`".to_owned(),
        Shown::Unset => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With this variable the document is written anew instead of compared.
    const WRITE_VARIABLE: &str = "LEVERET_WRITE_REFERENCE";

    #[test]
    fn the_document_has_the_reference_of_this_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let document = std::fs::read_to_string(path).expect("the document can be read");
        let (before, rest) = document.split_once(MARKS[0]).expect("the reference begins somewhere");
        let (_, after) = rest.split_once(MARKS[1]).expect("the reference ends somewhere");
        let written = format!("{before}{}{}\n{}{after}", MARKS[0], reference(), MARKS[1]);
        if std::env::var_os(WRITE_VARIABLE).is_some() {
            std::fs::write(path, written).expect("the document can be written");
        } else {
            assert!(document == written, "run this test with {WRITE_VARIABLE}=1 to write docs/configuration.md anew");
        }
    }
}
