//! Metrics for Prometheus: RabbitMQ's names, so that dashboards and alerts that exist go on working, and what is beyond.
//!
//! `/metrics` has sums, and costs the same however many queues there are (but for a look at the ages of those with messages); per-object and
//! detailed pages have a series for each queue, connection and channel that is asked for.
//!
//! A scrape is gathered first ([`Scrape::gather`], which asks connections), then written on a thread where waiting for a
//! slow scraper hurts nobody; locks are held for a queue at a time.
//! Not here: sockets (`http`).

mod families;
mod http;
mod node;
mod peers;
mod queues;
mod text;

use families::{Family, Wanted};
use peers::Peers;
use text::{Sink, Text};

pub(super) use http::router;

use crate::server::operator::{NodeInfo, NodeSample, ObjectTotals, Operator};

const PREFIX: &str = "rabbitmq_";
const DETAILED_PREFIX: &str = "rabbitmq_detailed_";
const CLUSTER_PREFIX: &str = "rabbitmq_cluster_";

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Aggregated,
    PerObject,
    Detailed,
    Memory,
}

impl Page {
    /// The word in `rabbitmq_identity_info`.
    const fn endpoint(self) -> &'static str {
        match self {
            Self::Aggregated => "aggregated",
            Self::PerObject => "per-object",
            Self::Detailed => "detailed",
            Self::Memory => "memory-breakdown",
        }
    }
}

/// What every page is written from.
#[derive(Debug)]
struct Facts {
    node: NodeInfo,
    sample: NodeSample,
    objects: ObjectTotals,
    /// Protocol, and how many logins succeeded and failed.
    logins: [(&'static str, u64, u64); 2],
    vhosts: Vec<String>,
    cluster_id: String,
}

/// A page to be written.
struct Scrape {
    operator: Operator,
    page: Page,
    wanted: Wanted,
    facts: Facts,
    peers: Peers,
}

impl Scrape {
    async fn gather(operator: Operator, page: Page, wanted: Wanted) -> Self {
        let wanted = match page {
            Page::PerObject => Wanted { families: Family::usual(), ..wanted },
            Page::Aggregated | Page::Detailed | Page::Memory => wanted,
        };
        let peers = Peers::ask(&operator, &wanted).await;
        let facts = Facts {
            node: operator.node(),
            sample: operator.node_sample(),
            objects: operator.statistics(None).object_totals,
            logins: operator.logins().map(|figures| (figures.protocol.name(), figures.succeeded, figures.failed)),
            vhosts: operator.vhost_names(),
            cluster_id: operator.cluster_id(),
        };
        Self { operator, page, wanted, facts, peers }
    }

    /// Writes it; stops when nobody takes it any more.
    fn write(&self, sink: &mut dyn Sink) {
        let (facts, operator, wanted) = (&self.facts, &self.operator, &self.wanted);
        let mut text = Text::new(PREFIX, sink);
        node::identity(facts, self.page.endpoint(), &mut text);
        match self.page {
            Page::Aggregated => {
                node::churn(facts, &mut text);
                node::resources(facts, &mut text);
                node::limits(facts, &mut text);
                node::alarms(facts, &mut text);
                node::logins(facts, &mut text);
                node::objects(facts, &mut text);
                node::sums(facts, &mut text);
                node::globals(facts, &mut text);
                node::beyond(operator, facts, &mut text);
            }
            Page::PerObject => {
                node::alarms(facts, &mut text);
                node::objects(facts, &mut text);
                self.objects(&mut text);
                node::globals(facts, &mut text);
            }
            Page::Detailed => {
                text.set_prefix(DETAILED_PREFIX);
                self.objects(&mut text);
            }
            Page::Memory => node::memory(facts, &mut text),
        }
        text.set_prefix(CLUSTER_PREFIX);
        peers::write_cluster(operator, facts, wanted, &mut text);
        text.flush();
    }

    /// The families that are wanted.
    fn objects(&self, text: &mut Text<'_>) {
        let (facts, operator, wanted) = (&self.facts, &self.operator, &self.wanted);
        if wanted.has(Family::ConnectionChurn) {
            node::churn(facts, text);
        }
        if wanted.has(Family::NodeCoarse) {
            node::resources(facts, text);
        }
        if wanted.has(Family::Node) {
            node::limits(facts, text);
        }
        if wanted.has(Family::AuthAttempts) {
            node::logins(facts, text);
        }
        self.peers.write(wanted, text);
        peers::write_exchanges(operator, wanted, text);
        queues::write(operator, wanted, text);
    }
}
