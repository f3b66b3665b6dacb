//! Exchanges that give each message to one of their bindings, whatever the binding keys: modulus-hash, random and
//! local-random (RabbitMQ plugins; in a broker of one node every queue is local).

use leveret_protocol::ShortString;

use super::hashing::{below, hash, mix};
use super::{BoundTo, Destination, Routing};
use crate::engine::queue::QueueType;
use crate::error::AmqpError;

/// Destinations in their order, each as often as it is bound.
#[derive(Debug, Default)]
pub struct Spread(Vec<Destination>);

impl Spread {
    pub(super) fn bind(&mut self, destination: &Destination) {
        let at = self.0.partition_point(|other| other <= destination);
        self.0.insert(at, destination.clone());
    }

    pub(super) fn unbind(&mut self, destination: &Destination) {
        if let Ok(at) = self.0.binary_search(destination) {
            self.0.remove(at);
        }
    }

    fn pick<'a>(&'a self, word: u64, out: &mut Vec<&'a Destination>) {
        if !self.0.is_empty() {
            out.push(&self.0[below(word, self.0.len())]);
        }
    }

    /// The binding that the routing keys stand for.
    pub(super) fn route_by_hash<'a>(&'a self, routing: &Routing<'_>, out: &mut Vec<&'a Destination>) {
        self.pick(hash(routing.keys.iter().copied()), out);
    }

    /// Any binding.
    pub(super) fn route_at_random<'a>(&'a self, routing: &Routing<'_>, out: &mut Vec<&'a Destination>) {
        self.pick(mix(routing.seed), out);
    }

    /// What may be bound to a local-random exchange.
    pub(super) fn check_local_binding(key: &ShortString, destination: BoundTo) -> Result<(), AmqpError> {
        if !key.is_empty() {
            return Err(AmqpError::BadArgument(format!("Non empty binding '{key}' key not permitted")));
        }
        match destination {
            BoundTo::Queue(QueueType::Classic) => Ok(()),
            BoundTo::Queue(kind @ (QueueType::Quorum | QueueType::Stream)) => {
                let text = format!("Queue type {} not valid for this exchange type", kind.module_name());
                Err(AmqpError::BadArgument(text))
            }
            BoundTo::Exchange => Err(AmqpError::BadArgument("Destination not found".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::queue::QueueId;

    fn queue(number: u64) -> Destination {
        Destination::Queue(QueueId::new(number))
    }

    #[test]
    fn every_binding_gets_its_share_and_each_message_has_one_destination() {
        let mut spread = Spread::default();
        for number in [3, 1, 2, 1] {
            spread.bind(&queue(number));
        }
        let mut counts = [[0_u32; 4]; 2];
        for number in 0..4000_u64 {
            let key = number.to_string();
            let keys = [key.as_bytes()];
            let routing = Routing::new(&keys, &[0, 0], number);
            let mut out = Vec::new();
            spread.route_by_hash(&routing, &mut out);
            spread.route_at_random(&routing, &mut out);
            for (counts, got) in counts.iter_mut().zip(&out) {
                let Destination::Queue(id) = got else { panic!("only queues are bound") };
                counts[usize::try_from(id.get()).expect("small")] += 1;
            }
            assert_eq!(out.len(), 2);
        }
        for [none, twice, once, again] in counts {
            assert!(none == 0 && twice.abs_diff(2000) < 150 && once.abs_diff(1000) < 150 && again.abs_diff(1000) < 150);
        }
    }

    #[test]
    fn the_order_of_binding_does_not_matter_and_unbinding_undoes_it() {
        let (mut one, mut other) = (Spread::default(), Spread::default());
        for number in [1, 2, 3] {
            one.bind(&queue(number));
            other.bind(&queue(4 - number));
        }
        assert_eq!(one.0, other.0);
        for number in [2, 1, 3] {
            one.unbind(&queue(number));
        }
        let mut out = Vec::new();
        one.route_at_random(&Routing::new(&[b"k"], &[0, 0], 7), &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn a_local_random_exchange_takes_classic_queues_without_a_key() {
        let empty = ShortString::from_static("");
        let check = |key: &ShortString, to| Spread::check_local_binding(key, to).map_err(|error| error.to_string());
        assert_eq!(check(&empty, BoundTo::Queue(QueueType::Classic)), Ok(()));
        let key = ShortString::from_static("k");
        assert_eq!(
            check(&key, BoundTo::Queue(QueueType::Classic)),
            Err("Non empty binding 'k' key not permitted".into())
        );
        assert_eq!(
            check(&empty, BoundTo::Queue(QueueType::Stream)),
            Err("Queue type rabbit_stream_queue not valid for this exchange type".into())
        );
        assert!(check(&empty, BoundTo::Exchange).is_err());
    }
}
