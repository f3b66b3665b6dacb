//! Exchanges and bindings.

use serde::Serialize;

use super::arguments::Arguments;
use super::message_stats::{MessageStats, Of};
use super::{Operator, OperatorError};
use crate::engine::exchange::Destination;

/// An exchange as listings show it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExchangeInfo {
    pub(crate) name: String,
    pub(crate) vhost: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: Arguments,
    /// The policy that applies.
    pub(crate) policy: Option<String>,
    /// `None` as long as nobody has published to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message_stats: Option<MessageStats>,
}

/// A binding as listings show it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BindingInfo {
    pub(crate) source_name: String,
    pub(crate) source_kind: &'static str,
    pub(crate) destination_name: String,
    pub(crate) destination_kind: &'static str,
    pub(crate) routing_key: String,
    pub(crate) arguments: Arguments,
    pub(crate) vhost: String,
}

impl Operator {
    /// The exchanges of a vhost by name.
    pub(crate) fn exchanges(&self, vhost: &str) -> Result<Vec<ExchangeInfo>, OperatorError> {
        let vhost = self.vhost(vhost)?;
        let state = vhost.state.read();
        let info = |record: &crate::engine::vhost::ExchangeRecord| ExchangeInfo {
            name: record.name.to_string(),
            vhost: vhost.name.to_string(),
            kind: record.kind.to_string(),
            durable: record.durable,
            auto_delete: record.auto_delete,
            internal: record.internal,
            arguments: Arguments(record.arguments.clone()),
            policy: state.policy_of_exchange(&record.name).map(str::to_owned),
            message_stats: vhost.known_exchange_statistics(&record.name).and_then(|figures| {
                let flow = figures.flow();
                MessageStats::new(Of::Exchange, flow.counts(), flow.rates())
            }),
        };
        Ok(state.sorted_exchanges().into_iter().map(info).collect())
    }

    /// The bindings of a vhost: first those that every queue has with the default exchange, then the others.
    pub(crate) fn bindings(&self, vhost: &str) -> Result<Vec<BindingInfo>, OperatorError> {
        let vhost = self.vhost(vhost)?;
        let state = vhost.state.read();
        let implicit = state.sorted_queues().into_iter().map(|queue| BindingInfo {
            source_name: String::new(),
            source_kind: "exchange",
            destination_name: queue.name.to_string(),
            destination_kind: "queue",
            routing_key: queue.name.to_string(),
            arguments: Arguments::default(),
            vhost: vhost.name.to_string(),
        });
        let explicit = state.sorted_bindings().into_iter().filter_map(|binding| {
            Some(BindingInfo {
                source_name: binding.source.to_string(),
                source_kind: "exchange",
                destination_name: state.destination_name(&binding.destination)?.to_string(),
                destination_kind: match binding.destination {
                    Destination::Queue(_) => "queue",
                    Destination::Exchange(_) => "exchange",
                },
                routing_key: binding.routing_key.to_string(),
                arguments: Arguments(binding.arguments.clone()),
                vhost: vhost.name.to_string(),
            })
        });
        Ok(implicit.chain(explicit).collect())
    }
}
