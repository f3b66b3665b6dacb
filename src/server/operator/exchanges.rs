//! Exchanges and bindings.

use leveret_protocol::ShortString;
use serde::Serialize;

use super::arguments::Arguments;
use super::message_stats::{MessageStats, Of};
use super::{Operator, OperatorError};
use crate::engine::exchange::Destination;
use crate::engine::vhost::{Binding, ExchangeRecord, QueueRecord, Vhost};
use crate::server::registry::VhostCell;

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

/// Which bindings of a vhost are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindingsOf<'a> {
    All,
    /// Those that start at an exchange.
    Source(&'a str),
    /// Those that lead to a queue.
    Queue(&'a str),
    /// Those that lead to an exchange.
    Exchange(&'a str),
}

fn exchange_info(vhost: &VhostCell, state: &Vhost, record: &ExchangeRecord) -> ExchangeInfo {
    ExchangeInfo {
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
    }
}

/// The binding that every queue has with the default exchange.
fn implicit(vhost: &VhostCell, queue: &QueueRecord) -> BindingInfo {
    BindingInfo {
        source_name: String::new(),
        source_kind: "exchange",
        destination_name: queue.name.to_string(),
        destination_kind: "queue",
        routing_key: queue.name.to_string(),
        arguments: Arguments::default(),
        vhost: vhost.name.to_string(),
    }
}

fn explicit(vhost: &VhostCell, state: &Vhost, binding: &Binding) -> Option<BindingInfo> {
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
}

impl Operator {
    /// The exchanges of a vhost by name.
    pub(crate) fn exchanges(&self, vhost: &str) -> Result<Vec<ExchangeInfo>, OperatorError> {
        let vhost = self.vhost(vhost)?;
        let state = vhost.state.read();
        Ok(state.sorted_exchanges().into_iter().map(|record| exchange_info(&vhost, &state, record)).collect())
    }

    /// An exchange by name.
    pub(crate) fn exchange(&self, vhost: &str, name: &str) -> Result<ExchangeInfo, OperatorError> {
        let vhost = self.vhost(vhost)?;
        let state = vhost.state.read();
        let found = state.exchange_record(name.as_bytes()).map(|record| exchange_info(&vhost, &state, record));
        found.ok_or_else(|| OperatorError::NotFound(format!("no exchange '{name}' in vhost '{}'", vhost.name)))
    }

    /// The bindings of a vhost: first those that every queue has with the default exchange, then the others.
    pub(crate) fn bindings(&self, vhost: &str) -> Result<Vec<BindingInfo>, OperatorError> {
        self.some_bindings(vhost, BindingsOf::All)
    }

    /// Some of the bindings of a vhost, in the same order. What is not there has none.
    pub(crate) fn some_bindings(&self, vhost: &str, which: BindingsOf<'_>) -> Result<Vec<BindingInfo>, OperatorError> {
        let vhost = self.vhost(vhost)?;
        let state = vhost.state.read();
        let every_queue = || state.sorted_queues().into_iter().map(|queue| implicit(&vhost, queue));
        let listed = |bindings: Vec<&Binding>| -> Vec<BindingInfo> {
            bindings.into_iter().filter_map(|binding| explicit(&vhost, &state, binding)).collect()
        };
        Ok(match which {
            BindingsOf::All => every_queue().chain(listed(state.sorted_bindings())).collect(),
            BindingsOf::Source("") => every_queue().collect(),
            BindingsOf::Source(name) => listed(state.bindings_from(name.as_bytes())),
            BindingsOf::Queue(name) => {
                let Some(queue) = state.queue_record(name.as_bytes()) else { return Ok(Vec::new()) };
                let to = Destination::Queue(queue.id);
                std::iter::once(implicit(&vhost, queue)).chain(listed(state.bindings_to(&to))).collect()
            }
            BindingsOf::Exchange(name) => {
                let name = ShortString::try_from(name).unwrap_or_default();
                listed(state.bindings_to(&Destination::Exchange(name)))
            }
        })
    }
}
