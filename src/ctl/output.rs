//! Results as text: columns with tabs, JSON, CSV, boxes.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::failure::{Failure, INPUT_OUTPUT};
use super::parse::Formatter;
use super::term;

/// What a command found.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// It worked, and there is nothing to say.
    Done,
    /// All is said already.
    Quiet,
    /// A sentence.
    Message(String),
    /// A text, and the same as JSON.
    Value { text: String, json: Value },
    /// Rows with named columns.
    Table(Table),
}

/// Rows with named columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Map<String, Value>>,
    /// RabbitMQ sends these row by row: an empty one is shown as nothing at all.
    pub(super) streamed: bool,
    /// The names of the columns stand above them.
    pub(super) headed: bool,
}

/// How to show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) formatter: Formatter,
    pub(super) headers: bool,
}

impl Output {
    /// A value that is text in both forms.
    pub(super) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        let json = serde_json::json!({"result": "ok", "value": text});
        Self::Value { text, json }
    }

    /// Writes it to standard output.
    pub(super) fn print(&self, style: Style) -> Result<(), Failure> {
        let text = self.render(style);
        if text.is_empty() { Ok(()) } else { write(&text) }
    }

    /// It as text that ends with a line break, or nothing.
    pub(super) fn render(&self, style: Style) -> String {
        let json = style.formatter == Formatter::Json;
        match self {
            Self::Done if json => "{\"result\":\"ok\"}\n".to_owned(),
            Self::Done | Self::Quiet => String::new(),
            Self::Message(text) if json => format!("{}\n", serde_json::json!({"message": text})),
            Self::Value { json: value, .. } if json => format!("{value}\n"),
            Self::Message(text) | Self::Value { text, .. } => format!("{text}\n"),
            Self::Table(table) => table.render(style),
        }
    }
}

impl Table {
    fn render(&self, style: Style) -> String {
        match style.formatter {
            Formatter::Default | Formatter::Table => self.tabs(style.headers && self.headed),
            Formatter::Json => self.json(),
            Formatter::Csv => self.csv(),
            Formatter::Pretty => self.boxes(),
        }
    }

    fn cells(&self) -> impl Iterator<Item = Vec<String>> {
        self.rows.iter().map(|row| {
            self.columns.iter().map(|column| row.get(column).map(term::display).unwrap_or_default()).collect()
        })
    }

    fn tabs(&self, headers: bool) -> String {
        if self.rows.is_empty() {
            return if self.streamed { String::new() } else { "\n".to_owned() };
        }
        let header = headers.then(|| self.columns.clone());
        header.into_iter().chain(self.cells()).map(|cells| cells.join("\t") + "\n").collect()
    }

    fn json(&self) -> String {
        if self.rows.is_empty() {
            return if self.streamed { "[\n]\n".to_owned() } else { "[]\n".to_owned() };
        }
        let object = |row: &Map<String, Value>| {
            let fields = self.columns.iter().map(|column| {
                let null = Value::Null;
                let value = row.get(column).unwrap_or(&null);
                // What has no value is an empty text there.
                let value = if value.is_null() { Value::String(String::new()) } else { value.clone() };
                format!("{}:{value}", Value::String(column.clone()))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        };
        format!("[\n{}\n]\n", self.rows.iter().map(object).collect::<Vec<_>>().join("\n,"))
    }

    fn csv(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let quoted = |cell: String| format!("\"{}\"", cell.replace('"', "\"\""));
        let line = |cells: Vec<String>| cells.into_iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
        std::iter::once(self.columns.clone()).chain(self.cells()).map(line).collect()
    }

    fn boxes(&self) -> String {
        if self.rows.is_empty() && self.streamed {
            return String::new();
        }
        let rows: Vec<Vec<String>> = self.cells().collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                let cells = rows.iter().map(|row| &row[at]).chain([&self.columns[at]]);
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let rule = |left: char, middle: &str, right: char| {
            let bars: Vec<_> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
            format!("{left}{}{right}\n", bars.join(middle))
        };
        let line = |cells: &[String]| {
            let padded: Vec<_> = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} ")).collect();
            format!("│{}│\n", padded.join("│"))
        };
        let mut out = rule('┌', "┬", '┐') + &line(&self.columns);
        for row in &rows {
            out += &rule('├', "┼", '┤');
            out += &line(row);
        }
        out + &rule('└', "┴", '┘')
    }
}

/// Writes a text and a line break to standard output.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    write(&format!("{text}\n"))
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|cause| Failure::error(INPUT_OUTPUT, format!("cannot write: {cause}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Output {
        let row = |name: &str, tags: Value| {
            Map::from_iter([("name".to_owned(), name.into()), ("tags".to_owned(), tags), ("n".to_owned(), 1.into())])
        };
        Output::Table(Table {
            columns: vec!["name".to_owned(), "tags".to_owned(), "n".to_owned(), "none".to_owned()],
            rows: vec![row("a \"b\"", json!(["x", "y"])), row("c", json!([]))],
            streamed: false,
            headed: true,
        })
    }

    fn check(formatter: Formatter, expected: &str) {
        assert_eq!(table().render(Style { formatter, headers: true }), expected);
    }

    #[test]
    fn tables_have_rabbitmqs_forms() {
        check(Formatter::Default, "name\ttags\tn\tnone\na \"b\"\t[x, y]\t1\t\nc\t[]\t1\t\n");
        check(
            Formatter::Json,
            "[\n{\"name\":\"a \\\"b\\\"\",\"tags\":[\"x\",\"y\"],\"n\":1,\"none\":\"\"}\n\
             ,{\"name\":\"c\",\"tags\":[],\"n\":1,\"none\":\"\"}\n]\n",
        );
        check(
            Formatter::Csv,
            "\"name\",\"tags\",\"n\",\"none\"\n\"a \"\"b\"\"\",\"[x, y]\",\"1\",\"\"\n\"c\",\"[]\",\"1\",\"\"\n",
        );
        check(
            Formatter::Pretty,
            "┌───────┬────────┬───┬──────┐\n│ name  │ tags   │ n │ none │\n├───────┼────────┼───┼──────┤\n\
             │ a \"b\" │ [x, y] │ 1 │      │\n├───────┼────────┼───┼──────┤\n│ c     │ []     │ 1 │      │\n\
             └───────┴────────┴───┴──────┘\n",
        );
    }

    #[test]
    fn an_empty_listing_has_no_heading() {
        let empty = |streamed| Output::Table(Table { columns: vec!["name".to_owned()], streamed, ..Table::default() });
        let style = |formatter| Style { formatter, headers: true };
        assert_eq!(empty(true).render(style(Formatter::Default)), "");
        assert_eq!(empty(false).render(style(Formatter::Default)), "\n");
        assert_eq!(empty(true).render(style(Formatter::Json)), "[\n]\n");
        assert_eq!(empty(false).render(style(Formatter::Json)), "[]\n");
    }

    #[test]
    fn sentences_are_messages_in_json() {
        let style = Style { formatter: Formatter::Json, headers: true };
        assert_eq!(Output::Message("Ping succeeded".to_owned()).render(style), "{\"message\":\"Ping succeeded\"}\n");
        assert_eq!(Output::Done.render(style), "{\"result\":\"ok\"}\n");
        assert_eq!(Output::text("4.2.0").render(Style::default()), "4.2.0\n");
    }
}
