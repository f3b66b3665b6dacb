//! Metrics of queues, one series for each.
//!
//! Prometheus wants all samples of a metric side by side, so the queues are looked at once and their numbers kept in
//! columns: eight octets for each queue and metric until the text is written.

use super::families::{By, Family, Wanted};
use super::text::{Kind, Seconds, Text, write_labels};
use crate::engine::queue::QueueType;
use crate::engine::statistics::{Count, Histogram};
use crate::server::operator::{Operator, QueueView};

/// A metric of queues. Queues without a value have no sample.
struct Metric {
    family: Family,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&QueueView<'_>) -> Option<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are such")]
fn number(value: u64) -> f64 {
    value as f64
}

fn seconds(millis: u64) -> f64 {
    number(millis) / 1000.0
}

macro_rules! metrics {
    ($($family:ident $kind:ident $name:literal $help:literal $value:expr;)*) => {
        &[$(Metric { family: Family::$family, name: $name, kind: Kind::$kind, help: $help, value: $value }),*]
    };
}

const METRICS: &[Metric] = metrics! {
    QueueCoarse Gauge "queue_messages_ready" "Messages ready to be delivered to consumers"
        |queue| Some(number(queue.gauges().ready));
    QueueCoarse Gauge "queue_messages_unacked" "Messages delivered to consumers but not yet acknowledged"
        |queue| Some(number(queue.gauges().unacked));
    QueueCoarse Gauge "queue_messages" "Sum of ready and unacknowledged messages - total queue depth"
        |queue| Some(number(queue.gauges().ready + queue.gauges().unacked));
    QueueConsumerCount Gauge "queue_consumers" "Consumers on a queue"
        |queue| Some(number(queue.gauges().consumers));
    Queue Gauge "queue_consumer_capacity" "Consumer capacity" |queue| Some(queue.consumer_capacity());
    Queue Gauge "queue_consumer_utilisation" "Same as consumer capacity" |queue| Some(queue.consumer_capacity());
    Queue Gauge "queue_process_memory_bytes" "Memory in bytes used by the messages of a queue"
        |queue| Some(number(queue.figures().resident_bytes as u64));
    Queue Gauge "queue_messages_bytes" "Size in bytes of ready and unacknowledged messages"
        |queue| Some(number(queue.figures().ready_body_bytes + queue.figures().unacked_body_bytes));
    Queue Gauge "queue_messages_ready_bytes" "Size in bytes of ready messages"
        |queue| Some(number(queue.figures().ready_body_bytes));
    Queue Gauge "queue_messages_unacked_bytes" "Size in bytes of all unacknowledged messages"
        |queue| Some(number(queue.figures().unacked_body_bytes));
    Queue Gauge "queue_head_message_timestamp" "Timestamp of the first message in the queue, if any"
        |queue| queue.head_message_timestamp().map(number);
    Queue Counter "queue_disk_reads_total" "Total number of times queue read messages from disk"
        |queue| Some(number(queue.count(Count::DiskReads)));
    Queue Counter "queue_disk_writes_total" "Total number of times queue wrote messages to disk"
        |queue| Some(number(queue.count(Count::DiskWrites)));
    QueueExchange Counter "queue_messages_published_total" "Total number of messages published into a queue"
        |queue| Some(number(queue.count(Count::Publish)));
    QueueDelivery Counter "queue_get_ack_total"
        "Total number of messages fetched from a queue with basic.get in manual acknowledgement mode"
        |queue| Some(number(queue.count(Count::Get)));
    QueueDelivery Counter "queue_get_total"
        "Total number of messages fetched from a queue with basic.get in automatic acknowledgement mode"
        |queue| Some(number(queue.count(Count::GetNoAck)));
    QueueDelivery Counter "queue_messages_delivered_ack_total"
        "Total number of messages delivered from a queue to consumers in manual acknowledgement mode"
        |queue| Some(number(queue.count(Count::Deliver)));
    QueueDelivery Counter "queue_messages_delivered_total"
        "Total number of messages delivered from a queue to consumers in automatic acknowledgement mode"
        |queue| Some(number(queue.count(Count::DeliverNoAck)));
    QueueDelivery Counter "queue_messages_redelivered_total"
        "Total number of messages redelivered from a queue to consumers"
        |queue| Some(number(queue.count(Count::Redeliver)));
    QueueDelivery Counter "queue_messages_acked_total"
        "Total number of messages acknowledged by consumers on a queue"
        |queue| Some(number(queue.count(Count::Ack)));
    QueueDelivery Counter "queue_get_empty_total"
        "Total number of times basic.get operations fetched no message on a queue"
        |queue| Some(number(queue.count(Count::GetEmpty)));
    QueueDelivery Counter "queue_messages_requeued_total"
        "Total number of messages that came back to a queue without being acknowledged"
        |queue| Some(number(queue.count(Count::Requeue)));
    QueueAge Gauge "queue_oldest_message_age_seconds" "For how long the oldest ready message has been in the queue"
        |queue| queue.oldest_message_age_ms().map(seconds);
    QueueAge Gauge "queue_oldest_unacked_age_seconds" "For how long the oldest delivery has waited for its acknowledgement"
        |queue| queue.oldest_unacked_age_ms().map(seconds);
    QueueAge Gauge "queue_stalled_seconds" "For how long ready messages have not been taken by anybody"
        |queue| queue.stalled_ms().map(seconds);
};

/// How messages die, with what is counted when the queue dead-letters, and when it does not.
const DEATHS: [(&str, Count, Count); 4] = [
    ("expired", Count::Expired, Count::DroppedExpired),
    ("maxlen", Count::MaxLen, Count::DroppedMaxLen),
    ("rejected", Count::Rejected, Count::DroppedRejected),
    ("delivery_limit", Count::DeliveryLimit, Count::DroppedDeliveryLimit),
];

/// A row for each queue.
#[derive(Default)]
struct Table {
    /// The labels of all queues, one after the other, and where each ends.
    labels: String,
    ends: Vec<usize>,
    columns: Vec<Vec<f64>>,
    deaths: Vec<[u64; 8]>,
    histograms: Vec<(Histogram, Histogram)>,
}

/// Writes what is wanted of queues.
pub(super) fn write(operator: &Operator, wanted: &Wanted, text: &mut Text<'_>) {
    let metrics: Vec<&Metric> = METRICS.iter().filter(|metric| asks_for(wanted, metric)).collect();
    let (deaths, histograms) = (wanted.has(Family::QueueAge), wanted.has(Family::QueueLatency));
    if metrics.is_empty() && !deaths && !histograms {
        return;
    }
    let least = least_rank(operator, wanted);
    let mut table = Table { columns: metrics.iter().map(|_| Vec::new()).collect(), ..Table::default() };
    operator.view_queues(wanted.vhosts.as_deref(), &mut |queue| {
        if !is_chosen(wanted, queue) || least.is_some_and(|least| rank(wanted.by, queue) < least) {
            return true;
        }
        let (vhost, name) = (queue.vhost().to_string(), queue.name().to_string());
        write_labels(&[("vhost", &vhost), ("queue", &name)], &mut table.labels);
        table.ends.push(table.labels.len());
        for (column, metric) in table.columns.iter_mut().zip(&metrics) {
            column.push((metric.value)(queue).unwrap_or(f64::NAN));
        }
        if deaths {
            let mut all = [0; 8];
            for (pair, (_, buried, dropped)) in all.chunks_mut(2).zip(DEATHS) {
                pair.copy_from_slice(&[queue.count(buried), queue.count(dropped)]);
            }
            table.deaths.push(all);
        }
        if histograms {
            table.histograms.push((queue.time_in_queue(), queue.ack_latency()));
        }
        true
    });
    table.write(&metrics, text);
}

fn asks_for(wanted: &Wanted, metric: &Metric) -> bool {
    // RabbitMQ has the consumers in both families.
    wanted.has(metric.family) || metric.family == Family::QueueConsumerCount && wanted.has(Family::Queue)
}

fn is_chosen(wanted: &Wanted, queue: &QueueView<'_>) -> bool {
    queue.gauges().ready + queue.gauges().unacked >= wanted.min_messages
        && wanted.queue.as_ref().is_none_or(|pattern| pattern.is_match(&queue.name().to_string()).unwrap_or(false))
}

fn rank(by: By, queue: &QueueView<'_>) -> u64 {
    match by {
        By::Messages => queue.gauges().ready + queue.gauges().unacked,
        By::Ready => queue.gauges().ready,
        By::Unacked => queue.gauges().unacked,
        By::Age => queue.oldest_message_age_ms().unwrap_or(0),
    }
}

/// The rank of the last queue that is shown, if only some are.
fn least_rank(operator: &Operator, wanted: &Wanted) -> Option<u64> {
    let top = wanted.top?;
    let mut ranks = Vec::new();
    operator.view_queues(wanted.vhosts.as_deref(), &mut |queue| {
        if is_chosen(wanted, queue) {
            ranks.push(rank(wanted.by, queue));
        }
        true
    });
    ranks.sort_unstable_by(|one, other| other.cmp(one));
    match top.checked_sub(1) {
        None => Some(u64::MAX),
        Some(last) => ranks.get(last).copied(),
    }
}

impl Table {
    fn labels(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.labels[start..*end])
    }

    fn write(&self, metrics: &[&Metric], text: &mut Text<'_>) {
        for (metric, column) in metrics.iter().zip(&self.columns) {
            text.family(metric.name, metric.kind, metric.help);
            for (labels, value) in self.labels().zip(column).filter(|(_, value)| !value.is_nan()) {
                text.sample(metric.name, labels, value);
            }
            if text.is_broken() {
                return;
            }
        }
        for (name, which, help) in [
            ("queue_messages_dead_lettered_total", 0, "Total number of messages of a queue that were dead-lettered"),
            (
                "queue_messages_dropped_total",
                1,
                "Total number of messages of a queue that died without a dead-letter exchange",
            ),
        ] {
            if self.deaths.is_empty() {
                break;
            }
            text.family(name, Kind::Counter, help);
            for (labels, deaths) in self.labels().zip(&self.deaths) {
                for (nth, (reason, ..)) in DEATHS.iter().enumerate() {
                    let count = deaths[nth * 2 + which];
                    // Most queues have none, and four series for each of many thousand are many.
                    if count > 0 {
                        text.sample(name, &with_label(labels, "reason", reason), count);
                    }
                }
            }
        }
        if self.histograms.is_empty() {
            return;
        }
        let names = [
            ("queue_time_in_queue_seconds", "From the arrival of a message in a queue to its delivery"),
            ("queue_ack_latency_seconds", "From a delivery to its acknowledgement"),
        ];
        for (nth, (name, help)) in names.into_iter().enumerate() {
            text.family(name, Kind::Histogram, help);
            for (labels, both) in self.labels().zip(&self.histograms) {
                let histogram = if nth == 0 { &both.0 } else { &both.1 };
                if histogram.count() > 0 {
                    write_histogram(name, labels, histogram, text);
                }
            }
        }
    }
}

/// Written labels with one more.
fn with_label(labels: &str, name: &str, value: &str) -> String {
    let open = labels.strip_suffix('}').unwrap_or(labels);
    format!("{open},{name}=\"{value}\"}}")
}

fn write_histogram(name: &str, labels: &str, histogram: &Histogram, text: &mut Text<'_>) {
    let bucket = format!("{name}_bucket");
    for (bound, below) in histogram.cumulative() {
        text.sample(&bucket, &with_label(labels, "le", &Seconds(bound).to_string()), below);
    }
    text.sample(&bucket, &with_label(labels, "le", "+Inf"), histogram.count());
    text.sample(&format!("{name}_sum"), labels, Seconds(histogram.sum_ms()));
    text.sample(&format!("{name}_count"), labels, histogram.count());
}

/// The oldest messages of all queues.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Oldest {
    pub(super) ready_ms: Option<u64>,
    pub(super) unacked_ms: Option<u64>,
    /// Queues with ready messages that nobody has taken for a minute.
    pub(super) stalled: u64,
}

/// For how long nothing must move before a queue counts as stalled.
const STALLED_AFTER_MS: u64 = 60_000;

/// Looks for the oldest messages of all queues.
pub(super) fn oldest(operator: &Operator) -> Oldest {
    let mut oldest = Oldest::default();
    operator.view_occupied_queues(&mut |queue| {
        if queue.queue_type() != QueueType::Stream {
            oldest.ready_ms = oldest.ready_ms.max(queue.oldest_message_age_ms());
            oldest.unacked_ms = oldest.unacked_ms.max(queue.oldest_unacked_age_ms());
            oldest.stalled += u64::from(queue.stalled_ms().is_some_and(|for_ms| for_ms >= STALLED_AFTER_MS));
        }
        true
    });
    oldest
}
