//! Which metrics are wanted: families, by RabbitMQ's names.

use std::collections::BTreeSet;

/// Metrics that are asked for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    QueueCoarse,
    QueueConsumerCount,
    Queue,
    QueueDelivery,
    QueueExchange,
    /// Beyond RabbitMQ: how old messages are, why they wait.
    QueueAge,
    /// Beyond RabbitMQ: histograms of each queue. Never without being asked for: they are many series.
    QueueLatency,
    ConnectionCoarse,
    Connection,
    ConnectionChurn,
    Channel,
    ChannelExchange,
    ChannelQueue,
    Exchange,
    ExchangeBindings,
    ExchangeNames,
    VhostStatus,
    Node,
    NodeCoarse,
    AuthAttempts,
    StreamConsumers,
}

const NAMES: &[(&str, Family)] = &[
    ("queue_coarse_metrics", Family::QueueCoarse),
    ("queue_consumer_count", Family::QueueConsumerCount),
    ("queue_metrics", Family::Queue),
    ("queue_delivery_metrics", Family::QueueDelivery),
    ("queue_exchange_metrics", Family::QueueExchange),
    ("channel_queue_exchange_metrics", Family::QueueExchange),
    ("queue_age_metrics", Family::QueueAge),
    ("queue_latency_metrics", Family::QueueLatency),
    ("connection_coarse_metrics", Family::ConnectionCoarse),
    ("connection_metrics", Family::Connection),
    ("connection_churn_metrics", Family::ConnectionChurn),
    ("channel_metrics", Family::Channel),
    ("channel_exchange_metrics", Family::ChannelExchange),
    ("channel_queue_metrics", Family::ChannelQueue),
    ("exchange_metrics", Family::Exchange),
    ("exchange_bindings", Family::ExchangeBindings),
    ("exchange_names", Family::ExchangeNames),
    ("vhost_status", Family::VhostStatus),
    ("node_metrics", Family::Node),
    ("node_coarse_metrics", Family::NodeCoarse),
    ("auth_attempt_metrics", Family::AuthAttempts),
    ("auth_attempt_detailed_metrics", Family::AuthAttempts),
    ("stream_consumer_metrics", Family::StreamConsumers),
];

impl Family {
    fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, family)| *family)
    }

    /// What `/metrics/per-object` shows.
    pub(super) fn usual() -> BTreeSet<Self> {
        use Family::{
            AuthAttempts, Channel, ChannelExchange, ChannelQueue, Connection, ConnectionChurn, ConnectionCoarse,
            Exchange, Node, NodeCoarse, Queue, QueueAge, QueueCoarse, QueueDelivery,
        };
        [
            QueueCoarse,
            Queue,
            QueueDelivery,
            QueueAge,
            ConnectionCoarse,
            Connection,
            ConnectionChurn,
            Channel,
            ChannelExchange,
            ChannelQueue,
            Exchange,
            Node,
            NodeCoarse,
            AuthAttempts,
        ]
        .into()
    }
}

/// What a scrape asks for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) families: BTreeSet<Family>,
    /// `None` for all.
    pub(super) vhosts: Option<Vec<String>>,
    /// A pattern that names of queues have to match.
    pub(super) queue: Option<fancy_regex::Regex>,
    /// Only this many queues.
    pub(super) top: Option<usize>,
    /// Of the queue those with most of this.
    pub(super) by: By,
    /// Only queues with at least so many messages.
    pub(super) min_messages: u64,
}

/// By what queues are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum By {
    #[default]
    Messages,
    Ready,
    Unacked,
    Age,
}

impl Wanted {
    /// Reads the query of a request; text for who asked wrongly.
    pub(super) fn parse<'a>(query: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut wanted = Self::default();
        for (key, value) in query {
            let number = || value.parse().map_err(|_| format!("{key}: a number, not '{value}'"));
            match key {
                // Families that there are not are passed over, as in RabbitMQ: scrapers ask brokers of several versions.
                "family" => wanted.families.extend(Family::named(value)),
                "vhost" => wanted.vhosts.get_or_insert_default().push(value.to_owned()),
                "queue" => {
                    let pattern = fancy_regex::Regex::new(value).map_err(|cause| format!("queue: {cause}"))?;
                    wanted.queue = Some(pattern);
                }
                "top" => wanted.top = Some(usize::try_from(number()?).unwrap_or(usize::MAX)),
                "min_messages" => wanted.min_messages = number()?,
                "by" => {
                    wanted.by = match value {
                        "messages" => By::Messages,
                        "ready" => By::Ready,
                        "unacked" => By::Unacked,
                        "age" => By::Age,
                        _ => return Err("by: messages, ready, unacked or age".to_owned()),
                    };
                }
                _ => {}
            }
        }
        Ok(wanted)
    }

    pub(super) fn has(&self, family: Family) -> bool {
        self.families.contains(&family)
    }

    /// Whether it asks for one of these.
    pub(super) fn has_any(&self, families: &[Family]) -> bool {
        families.iter().any(|family| self.has(*family))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_selects_families_vhosts_and_queues() {
        let query = [
            ("family", "queue_coarse_metrics"),
            ("family", "ra_metrics"),
            ("vhost", "/"),
            ("vhost", "b"),
            ("queue", "^jobs"),
            ("top", "10"),
            ("by", "age"),
            ("min_messages", "1"),
        ];
        let wanted = Wanted::parse(query.into_iter()).expect("well-formed");
        assert_eq!(wanted.families, [Family::QueueCoarse].into());
        assert_eq!(wanted.vhosts.as_deref(), Some(&["/".to_owned(), "b".to_owned()][..]));
        assert_eq!((wanted.top, wanted.by, wanted.min_messages), (Some(10), By::Age, 1));
        for wrong in [("top", "x"), ("by", "size"), ("queue", "(")] {
            assert!(Wanted::parse([wrong].into_iter()).is_err(), "{wrong:?}");
        }
    }
}
