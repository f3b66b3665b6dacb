//! Counts and rates in the shape that RabbitMQ's tools read: `{"publish": 7, "publish_details": {"rate": 1.4}, …}`.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::engine::statistics::{Count, Counts, Rates};

/// A rate as JSON has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Rate {
    pub(crate) rate: f64,
}

impl Rate {
    /// One decimal more than anybody looks at.
    pub(crate) fn of(rate: f32) -> Self {
        Self { rate: (f64::from(rate) * 100.0).round() / 100.0 }
    }
}

/// Whose figures they are: not every count means something for everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Queue,
    Exchange,
    Channel,
    /// A vhost, or the node.
    Vhost,
}

const QUEUE: &[(&str, &str, Count)] = &[
    ("ack", "ack_details", Count::Ack),
    ("deliver", "deliver_details", Count::Deliver),
    ("deliver_no_ack", "deliver_no_ack_details", Count::DeliverNoAck),
    ("get", "get_details", Count::Get),
    ("get_empty", "get_empty_details", Count::GetEmpty),
    ("get_no_ack", "get_no_ack_details", Count::GetNoAck),
    ("publish", "publish_details", Count::Publish),
    ("redeliver", "redeliver_details", Count::Redeliver),
];
const EXCHANGE: &[(&str, &str, Count)] = &[
    ("publish_in", "publish_in_details", Count::PublishIn),
    ("publish_out", "publish_out_details", Count::PublishOut),
];
const CHANNEL: &[(&str, &str, Count)] = &[
    ("confirm", "confirm_details", Count::Confirm),
    ("drop_unroutable", "drop_unroutable_details", Count::DropUnroutable),
    ("return_unroutable", "return_unroutable_details", Count::ReturnUnroutable),
];
const STORE: &[(&str, &str, Count)] = &[
    ("disk_reads", "disk_reads_details", Count::DiskReads),
    ("disk_writes", "disk_writes_details", Count::DiskWrites),
];

impl Of {
    fn keys(self) -> impl Iterator<Item = &'static (&'static str, &'static str, Count)> {
        let (first, second, third): (&[_], &[_], &[_]) = match self {
            Self::Queue => (QUEUE, &[], &[]),
            Self::Exchange => (EXCHANGE, &[], &[]),
            Self::Channel => (QUEUE, CHANNEL, &[]),
            Self::Vhost => (QUEUE, CHANNEL, STORE),
        };
        first.iter().chain(second).chain(third)
    }
}

/// What was counted for something.
#[derive(Clone, Debug)]
pub(crate) struct MessageStats {
    pub(crate) counts: Counts,
    pub(crate) rates: Rates,
    of: Of,
}

impl MessageStats {
    /// The figures; `None` if nothing has happened yet, as in RabbitMQ.
    pub(crate) fn new(of: Of, counts: &Counts, rates: &Rates) -> Option<Self> {
        let any = of.keys().any(|(.., count)| counts[*count] > 0);
        any.then_some(Self { counts: *counts, rates: *rates, of })
    }
}

impl Serialize for MessageStats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, details, count) in self.of.keys() {
            map.serialize_entry(name, &self.counts[*count])?;
            map.serialize_entry(details, &Rate::of(self.rates[*count]))?;
        }
        if self.of != Of::Exchange {
            map.serialize_entry("deliver_get", &self.counts.deliver_get())?;
            map.serialize_entry("deliver_get_details", &Rate::of(self.rates.deliver_get()))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_look_as_rabbitmq_writes_them() {
        let mut counts = Counts::default();
        assert!(MessageStats::new(Of::Queue, &counts, &Rates::default()).is_none());
        counts[Count::PublishIn] = 10;
        let rates = Rates::of([0, 7].into_iter(), 5000);
        let stats = MessageStats::new(Of::Exchange, &counts, &rates).expect("something was counted");
        assert_eq!(
            serde_json::to_value(&stats).expect("plain"),
            serde_json::json!({
                "publish_in": 10, "publish_in_details": {"rate": 1.4},
                "publish_out": 0, "publish_out_details": {"rate": 0.0},
            })
        );
        let stats = MessageStats::new(
            Of::Vhost,
            &{
                counts[Count::GetNoAck] = 3;
                counts
            },
            &rates,
        );
        let value = serde_json::to_value(stats).expect("plain");
        assert_eq!((&value["deliver_get"], &value["disk_writes"]), (&3.into(), &0.into()));
    }
}
