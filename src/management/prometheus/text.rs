//! Prometheus' text format (version 0.0.4), written piece by piece: what is written goes on before the rest is known.
//!
//! No crate is used for it. Those there are keep a registry of metric objects (`prometheus`) or write `OpenMetrics`, whose
//! names of counters differ (`prometheus-client`), and both want all series in memory; here a scrape of 100,000 queues is a
//! loop over numbers that the broker has anyway.

use std::fmt::{self, Write as _};

/// Octets that are collected before they go on.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// As RabbitMQ calls what is only there for its labels.
    Untyped,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Untyped => "untyped",
        }
    }
}

/// Where finished text goes; false when nobody takes it any more.
pub(super) trait Sink {
    fn take(&mut self, text: String) -> bool;
}

impl Sink for String {
    fn take(&mut self, text: String) -> bool {
        self.push_str(&text);
        true
    }
}

/// Text in the making.
pub(super) struct Text<'a> {
    prefix: &'static str,
    out: String,
    sink: &'a mut dyn Sink,
    broken: bool,
}

impl<'a> Text<'a> {
    /// Names of metrics begin with `prefix`.
    pub(super) fn new(prefix: &'static str, sink: &'a mut dyn Sink) -> Self {
        Self { prefix, out: String::with_capacity(CHUNK_BYTES + 4096), sink, broken: false }
    }

    /// Names begin with this from here on.
    pub(super) fn set_prefix(&mut self, prefix: &'static str) {
        self.prefix = prefix;
    }

    /// Nobody takes it any more: there is no point in going on.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Begins a metric: all its samples follow.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let prefix = self.prefix;
        self.put(format_args!("# TYPE {prefix}{name} {}\n# HELP {prefix}{name} ", kind.name()));
        for letter in help.chars() {
            match letter {
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                other => self.out.push(other),
            }
        }
        self.out.push('\n');
    }

    /// One sample; `labels` are written, with braces, or empty.
    pub(super) fn sample(&mut self, name: &str, labels: &str, value: impl fmt::Display) {
        let prefix = self.prefix;
        self.put(format_args!("{prefix}{name}{labels} {value}\n"));
        if self.out.len() >= CHUNK_BYTES {
            self.flush();
        }
    }

    /// A metric of one sample without labels.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }

    /// The samples of one histogram. `buckets` are bounds, as they are to be written, with how many are not above.
    pub(super) fn histogram<B: fmt::Display>(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        buckets: impl Iterator<Item = (B, u64)>,
        count: u64,
        sum: impl fmt::Display,
    ) {
        let bucket = format!("{name}_bucket");
        let with = |bound: &dyn fmt::Display| {
            let bound = bound.to_string();
            let all: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            written(&all)
        };
        for (bound, below) in buckets {
            self.sample(&bucket, &with(&bound), below);
        }
        self.sample(&bucket, &with(&"+Inf"), count);
        let labels = written(labels);
        self.sample(&format!("{name}_sum"), &labels, sum);
        self.sample(&format!("{name}_count"), &labels, count);
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _written = self.out.write_fmt(text);
    }

    /// Hands on what is there.
    pub(super) fn flush(&mut self) {
        if self.out.is_empty() || self.broken {
            self.out.clear();
            return;
        }
        let text = std::mem::replace(&mut self.out, String::with_capacity(CHUNK_BYTES + 4096));
        self.broken = !self.sink.take(text);
    }
}

/// Labels as they stand behind a name.
pub(super) fn written(labels: &[(&str, &str)]) -> String {
    let mut out = String::new();
    write_labels(labels, &mut out);
    out
}

/// Appends labels to a text.
pub(super) fn write_labels(labels: &[(&str, &str)], out: &mut String) {
    if labels.is_empty() {
        return;
    }
    for (nth, (name, value)) in labels.iter().enumerate() {
        out.push(if nth == 0 { '{' } else { ',' });
        out.push_str(name);
        out.push_str("=\"");
        for letter in value.chars() {
            match letter {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
    out.push('}');
}

/// Seconds of a number of milliseconds, as exact as they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds(pub(super) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, self.0 % 1000);
        if rest == 0 { write!(f, "{whole}") } else { write!(f, "{whole}.{rest:03}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_reads_as_prometheus_wants_it() {
        let mut out = String::new();
        let mut text = Text::new("leveret_", &mut out);
        text.family("time_seconds", Kind::Histogram, "How long\nit took");
        let buckets = [(Seconds(1), 2_u64), (Seconds(2500), 3)];
        text.histogram("time_seconds", &[("queue", "a\"b\\")], buckets.into_iter(), 4, Seconds(12_040));
        text.flush();
        assert_eq!(
            out,
            "# TYPE leveret_time_seconds histogram\n\
             # HELP leveret_time_seconds How long\\nit took\n\
             leveret_time_seconds_bucket{queue=\"a\\\"b\\\\\",le=\"0.001\"} 2\n\
             leveret_time_seconds_bucket{queue=\"a\\\"b\\\\\",le=\"2.500\"} 3\n\
             leveret_time_seconds_bucket{queue=\"a\\\"b\\\\\",le=\"+Inf\"} 4\n\
             leveret_time_seconds_sum{queue=\"a\\\"b\\\\\"} 12.040\n\
             leveret_time_seconds_count{queue=\"a\\\"b\\\\\"} 4\n"
        );
    }

    #[test]
    fn long_texts_leave_in_pieces_until_nobody_takes_them() {
        struct Three(usize);
        impl Sink for Three {
            fn take(&mut self, text: String) -> bool {
                assert!(text.len() >= CHUNK_BYTES);
                self.0 += 1;
                self.0 < 3
            }
        }
        let mut three = Three(0);
        let mut text = Text::new("", &mut three);
        for number in 0..100_000 {
            text.sample("a_metric_with_a_name", "", number);
        }
        assert!(text.is_broken());
        text.flush();
        assert_eq!(three.0, 3);
    }
}
