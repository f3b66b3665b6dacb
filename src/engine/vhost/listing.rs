//! What there is to see of a vhost, in the order of names.

use leveret_protocol::ShortString;

use super::{Binding, ExchangeRecord, QueueRecord, Vhost};
use crate::engine::exchange::Destination;

impl Vhost {
    /// Its exchanges by name.
    pub fn sorted_exchanges(&self) -> Vec<&ExchangeRecord> {
        let mut all: Vec<_> = self.exchanges.values().map(|exchange| &exchange.record).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Its queues by name.
    pub fn sorted_queues(&self) -> Vec<&QueueRecord> {
        let mut all: Vec<_> = self.queues.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// An exchange by its name.
    pub fn exchange_record(&self, name: &[u8]) -> Option<&ExchangeRecord> {
        self.exchanges.get(name).map(|exchange| &exchange.record)
    }

    /// A queue by its name, whoever may use it.
    pub fn queue_record(&self, name: &[u8]) -> Option<&QueueRecord> {
        self.queues.get(name)
    }

    /// How many queues there are.
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// Its bindings by source, destination and key; those of the default exchange, which every queue has, are left out.
    pub fn sorted_bindings(&self) -> Vec<&Binding> {
        let mut all: Vec<_> =
            self.exchanges.values().flat_map(|exchange| exchange.outbound.values()).map(AsRef::as_ref).collect();
        let place = |binding: &Binding| {
            let name = self.destination_name(&binding.destination).cloned().unwrap_or_default();
            let kind = matches!(binding.destination, Destination::Exchange(_));
            (binding.source.clone(), kind, name, binding.routing_key.clone())
        };
        all.sort_by_cached_key(|binding| place(binding));
        all
    }

    /// The bindings that start at an exchange, in no order that tells anything.
    pub fn bindings_from(&self, exchange: &[u8]) -> Vec<&Binding> {
        let exchange = self.exchanges.get(exchange);
        exchange.map(|exchange| exchange.outbound.values().map(AsRef::as_ref).collect()).unwrap_or_default()
    }

    /// The bindings that lead to a queue or an exchange, by source and key.
    pub fn bindings_to(&self, destination: &Destination) -> Vec<&Binding> {
        let inbound = self.inbound.get(destination);
        inbound.map(|bindings| bindings.values().map(AsRef::as_ref).collect()).unwrap_or_default()
    }

    /// What a binding points at, by name.
    pub fn destination_name<'a>(&'a self, destination: &'a Destination) -> Option<&'a ShortString> {
        match destination {
            Destination::Queue(id) => self.names.get(id),
            Destination::Exchange(name) => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use leveret_protocol::FieldTable;

    use super::*;
    use crate::engine::directory::Access;
    use crate::engine::queue::QueueId;
    use crate::engine::vhost::{ConnectionId, QueueDeclaration};

    #[test]
    fn listings_are_in_the_order_of_names() {
        let mut vhost = Vhost::new(ShortString::from_static("/"));
        for (number, name) in [(1, "b"), (2, "a")] {
            let declaration = QueueDeclaration {
                name: ShortString::from_static(name),
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: FieldTable::new(),
                server_named: false,
            };
            vhost
                .declare_queue(declaration, ConnectionId::new(1), &Access::unlimited(), || Ok(QueueId::new(number)))
                .expect("declared");
            let binding = Binding {
                source: ShortString::from_static("amq.direct"),
                destination: Destination::Queue(QueueId::new(number)),
                routing_key: ShortString::from_static("k"),
                arguments: FieldTable::new(),
            };
            vhost.bind(binding).expect("bound");
        }
        let names: Vec<_> = vhost.sorted_queues().iter().map(|queue| queue.name.to_string()).collect();
        assert_eq!(names, ["a", "b"]);
        let names: Vec<_> = vhost
            .sorted_bindings()
            .iter()
            .map(|binding| vhost.destination_name(&binding.destination).expect("it exists").to_string())
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(vhost.sorted_exchanges().first().map(|exchange| exchange.name.to_string()), Some(String::new()));
        assert!(vhost.queue_record(b"a").is_some() && vhost.exchange_record(b"nope").is_none());
        assert_eq!(vhost.queue_count(), 2);
    }
}
