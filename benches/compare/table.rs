//! The figures as text: medians of the rounds.

use std::fmt::Write;

use crate::Row;
use crate::peer::Figures;
use crate::support::median;

/// Medians, each by itself.
pub(crate) fn medians(runs: &[Figures]) -> Option<Figures> {
    let of = |figure: fn(&Figures) -> f64| median(runs.iter().map(figure));
    let quantiles = |figure: fn(&Figures) -> Option<[f64; 3]>| {
        let found: Vec<[f64; 3]> = runs.iter().filter_map(figure).collect();
        let at = |nth: usize| median(found.iter().map(|quantiles| quantiles[nth]));
        Some([at(0)?, at(1)?, at(2)?])
    };
    Some(Figures {
        per_second: of(|run| run.per_second)?,
        cpu_us: of(|run| run.cpu_us)?,
        rss_mib: of(|run| run.rss_mib)?,
        latency: quantiles(|run| run.latency),
        confirm: quantiles(|run| run.confirm),
    })
}

/// A line about the last run of both.
pub(crate) fn short(row: &Row) -> String {
    let one = |runs: &[Figures]| match runs.last() {
        Some(run) => format!("{:.2} µs ({}/s)", run.cpu_us, number(run.per_second)),
        None => "-".to_owned(),
    };
    format!("{:<12} Leveret {}, RabbitMQ {}", row.scenario.name, one(&row.leveret), one(&row.rabbitmq))
}

const HEAD: &str = "\
| scenario | µs CPU a message: Leveret (range), RabbitMQ (range) | ratio | target: µs, ratio | messages/s: Leveret, RabbitMQ | RSS MiB | \
latency µs p50 / p99 / p99.9: Leveret, RabbitMQ | confirm µs: Leveret, RabbitMQ |
|---|---|---|---|---|---|---|---|
";

/// The table of all rows.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut out = HEAD.to_owned();
    for row in rows {
        let both = [medians(&row.leveret), medians(&row.rabbitmq)];
        let pair = |figure: &dyn Fn(&Figures) -> String| {
            both.iter().map(|one| one.as_ref().map_or("-".to_owned(), figure)).collect::<Vec<_>>().join(", ")
        };
        let [leveret, rabbitmq] = [&row.leveret, &row.rabbitmq].map(|runs| cpu(runs));
        let ratio = match &both {
            [Some(leveret), Some(rabbitmq)] => format!("{:.1}", rabbitmq.cpu_us / leveret.cpu_us),
            _ => "-".to_owned(),
        };
        let target = row.scenario.target.map_or("-".to_owned(), |(cpu_us, ratio)| format!("{cpu_us}, {ratio}"));
        let rates = pair(&|one| number(one.per_second));
        let memory = pair(&|one| format!("{:.0}", one.rss_mib));
        let [latency, confirm] = [pair(&|one| quantiles(one.latency)), pair(&|one| quantiles(one.confirm))];
        let title = row.scenario.title;
        writeln!(
            out,
            "| {title} | {leveret}, {rabbitmq} | {ratio} | {target} | {rates} | {memory} | {latency} | {confirm} |"
        )
        .expect("a string takes everything");
    }
    out
}

/// The CPU time in µs, and the least and the most of it.
fn cpu(runs: &[Figures]) -> String {
    let Some(middle) = median(runs.iter().map(|run| run.cpu_us)) else { return "-".to_owned() };
    let least = runs.iter().map(|run| run.cpu_us).fold(f64::INFINITY, f64::min);
    let most = runs.iter().map(|run| run.cpu_us).fold(0.0, f64::max);
    format!("**{}** ({}–{})", micros(middle), micros(least), micros(most))
}

fn micros(us: f64) -> String {
    if us < 10.0 { format!("{us:.2}") } else { format!("{us:.1}") }
}

fn quantiles(quantiles: Option<[f64; 3]>) -> String {
    match quantiles {
        Some(quantiles) => quantiles.map(number).join(" / "),
        None => "-".to_owned(),
    }
}

/// A whole number, with commas: three significant digits above a thousand.
pub(crate) fn number(value: f64) -> String {
    let digits = format!("{value:.0}");
    let cut = digits.len().saturating_sub(3);
    let rounded = if cut > 0 { format!("{}{}", &round_to(value, cut), "0".repeat(cut)) } else { digits };
    let mut out = String::new();
    for (nth, digit) in rounded.chars().enumerate() {
        if nth > 0 && (rounded.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The digits that are left when so many at the end are rounded away.
fn round_to(value: f64, cut: usize) -> String {
    let unit = i32::try_from(cut).map_or(f64::INFINITY, |cut| 10_f64.powi(cut));
    format!("{:.0}", value / unit)
}
