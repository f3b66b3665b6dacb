//! Throughput and CPU time by size of body, as SVG: two panels with logarithmic axes, a line for each broker and load.

use std::fmt::Write;

use crate::Row;
use crate::peer::Figures;
use crate::table::{medians, number};

const LOADS: [(&str, &str); 3] =
    [("auto-", "transient, auto-ack"), ("ack-", "transient, acked"), ("confirm-", "persistent, confirmed")];
const COLOURS: [&str; 3] = ["#1b7837", "#2166ac", "#b2182b"];
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;

/// A panel: where it begins, what it shows, and the powers of ten at the ends of its axis.
struct Panel {
    x: f64,
    title: &'static str,
    powers: [i32; 2],
    figure: fn(&Figures) -> f64,
}

const PANELS: [Panel; 2] = [
    Panel { x: LEFT, title: "messages a second", powers: [3, 7], figure: |one| one.per_second },
    Panel { x: LEFT + WIDTH + 90.0, title: "µs CPU a message", powers: [-1, 3], figure: |one| one.cpu_us },
];

/// The plot of the rows that are there.
pub(crate) fn svg(rows: &[Row]) -> String {
    let (width, height) = (2.0 * WIDTH + 200.0, HEIGHT + 150.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for panel in &PANELS {
        panel.frame(&mut out);
        for ((start, _), colour) in LOADS.iter().zip(COLOURS) {
            let of_load: Vec<&Row> = rows.iter().filter(|row| row.scenario.name.starts_with(start)).collect();
            panel.line(&of_load, |row| medians(&row.leveret), colour, "", &mut out);
            panel.line(&of_load, |row| medians(&row.rabbitmq), colour, " stroke-dasharray=\"5 4\"", &mut out);
        }
    }
    let y = TOP + HEIGHT + 60.0;
    for ((nth, (_, title)), colour) in (0_i32..).zip(LOADS).zip(COLOURS) {
        let x = LEFT + 250.0 * f64::from(nth);
        text(&mut out, x, y, "start", colour, title);
    }
    text(&mut out, LEFT, y + 22.0, "start", "#333", "solid: Leveret; dashed: RabbitMQ");
    out.push_str("</svg>\n");
    out
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, colour: &str, words: &str) {
    writeln!(out, "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{words}</text>")
        .expect("a string takes everything");
}

impl Panel {
    fn x(&self, size: u32) -> f64 {
        // From 8 B to 32 KiB: twelve doublings.
        self.x + WIDTH * (f64::from(size).log2() - 3.0) / 12.0
    }

    fn y(&self, value: f64) -> f64 {
        let [low, high] = self.powers.map(f64::from);
        TOP + HEIGHT * (high - value.log10().clamp(low, high)) / (high - low)
    }

    fn frame(&self, out: &mut String) {
        text(out, self.x, TOP - 14.0, "start", "#333", self.title);
        let [low, high] = self.powers;
        for power in low..=high {
            let value = 10_f64.powi(power);
            let y = self.y(value);
            writeln!(out, "<path d=\"M{:.0} {y:.1}h{WIDTH}\" stroke=\"#ddd\"/>", self.x)
                .expect("a string takes everything");
            let label = if value < 1.0 { format!("{value}") } else { number(value) };
            text(out, self.x - 6.0, y + 4.0, "end", "#333", &label);
        }
        for (size, label) in [(16, "16 B"), (1024, "1 KiB"), (16_384, "16 KiB")] {
            text(out, self.x(size), TOP + HEIGHT + 20.0, "middle", "#333", label);
        }
    }

    fn line(&self, rows: &[&Row], of: impl Fn(&Row) -> Option<Figures>, colour: &str, dashes: &str, out: &mut String) {
        let points = rows.iter().filter_map(|row| Some((row.scenario.size, (self.figure)(&of(row)?))));
        let points: Vec<String> =
            points.map(|(size, value)| format!("{:.1},{:.1}", self.x(size), self.y(value))).collect();
        if !points.is_empty() {
            let points = points.join(" ");
            writeln!(
                out,
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>"
            )
            .expect("a string takes everything");
        }
    }
}
