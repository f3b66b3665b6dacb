//! Consistent-hash exchange: each message goes to one destination, which its hash chooses in proportion to the weights
//! that the binding keys are (RabbitMQ plugin).
//!
//! The choice is a weighted rendezvous: every destination draws a number from the message's hash and its own, the weight
//! stretches it, the best draw wins. So shares are exact, a weight costs no memory however large it is, and when a
//! destination goes, only its own messages move.
//!
//! A destination that is bound more than once counts with the weight of its oldest binding.

use leveret_protocol::{FieldTable, PropertiesRef, ShortString, erlang_binary};

use super::hashing::{hash, mix};
use super::{Destination, Routing};
use crate::error::AmqpError;

/// What of a message is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Input {
    RoutingKeys,
    /// The header with this name.
    Header(Vec<u8>),
    CorrelationId,
    MessageId,
    Timestamp,
}

#[derive(Debug)]
struct Share {
    destination: Destination,
    seed: u64,
    /// The binding keys, oldest first, and what each weighs.
    weights: Vec<(ShortString, f64)>,
}

/// Destinations with their weights.
#[derive(Debug)]
pub struct ConsistentHash {
    input: Input,
    shares: Vec<Share>,
}

/// The weight that a binding key stands for.
fn weight(key: &ShortString) -> Result<f64, AmqpError> {
    let no_integer = || {
        let shown = erlang_binary(key.as_bytes());
        AmqpError::BadArgument(format!("The binding key must be an integer: {shown}"))
    };
    let text = key.as_str().ok_or_else(no_integer)?;
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) | None => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(no_integer());
    }
    // 255 digits are a finite number.
    let weight: f64 = digits.parse().map_err(|_| no_integer())?;
    if negative || weight < 1.0 {
        return Err(AmqpError::BadArgument("The binding key must be greater than 0".to_owned()));
    }
    Ok(weight)
}

impl ConsistentHash {
    pub(super) fn new(arguments: &FieldTable) -> Result<Self, AmqpError> {
        let input = match (arguments.get("hash-header"), arguments.get("hash-property")) {
            (Some(_), Some(_)) => {
                let text = "hash-header and hash-property are mutually exclusive";
                return Err(AmqpError::BadArgument(text.to_owned()));
            }
            (None, None) => Input::RoutingKeys,
            // A name that is no string is no header's.
            (Some(header), None) => Input::Header(header.as_long_str().unwrap_or_default().to_vec()),
            (None, Some(property)) => match property.as_long_str() {
                Some(b"correlation_id") => Input::CorrelationId,
                Some(b"message_id") => Input::MessageId,
                Some(b"timestamp") => Input::Timestamp,
                other => {
                    let shown = match (other, property.as_integer()) {
                        (Some(text), _) => String::from_utf8_lossy(text).into_owned(),
                        (None, Some(number)) => number.to_string(),
                        (None, None) => property.type_name().to_owned(),
                    };
                    return Err(AmqpError::BadArgument(format!("Unsupported property: {shown}")));
                }
            },
        };
        Ok(Self { input, shares: Vec::new() })
    }

    pub(super) fn check_binding(key: &ShortString) -> Result<(), AmqpError> {
        weight(key).map(|_| ())
    }

    pub(super) fn bind(&mut self, key: &ShortString, destination: &Destination) {
        let weight = (key.clone(), weight(key).unwrap_or(1.0));
        match self.shares.binary_search_by(|share| share.destination.cmp(destination)) {
            Ok(at) => self.shares[at].weights.push(weight),
            Err(at) => {
                let seed = match destination {
                    Destination::Queue(id) => mix(id.get()),
                    Destination::Exchange(name) => hash([name.as_bytes()]),
                };
                let destination = destination.clone();
                self.shares.insert(at, Share { destination, seed, weights: vec![weight] });
            }
        }
    }

    pub(super) fn unbind(&mut self, key: &ShortString, destination: &Destination) {
        let Ok(at) = self.shares.binary_search_by(|share| share.destination.cmp(destination)) else { return };
        let weights = &mut self.shares[at].weights;
        if let Some(nth) = weights.iter().position(|(known, _)| known == key) {
            weights.remove(nth);
        }
        if weights.is_empty() {
            self.shares.remove(at);
        }
    }

    /// Whether nothing but the routing keys decides.
    pub(super) fn routes_by_key(&self) -> bool {
        self.input == Input::RoutingKeys
    }

    fn message_hash(&self, routing: &Routing<'_>) -> u64 {
        let properties = || PropertiesRef::decode(routing.properties).unwrap_or_default();
        match &self.input {
            Input::RoutingKeys => hash(routing.keys.iter().copied()),
            Input::Header(name) => match routing.header(name) {
                Some(value) => hash([&[value.tag()][..], value.octets()]),
                None => hash([]),
            },
            Input::CorrelationId => hash(properties().correlation_id),
            Input::MessageId => hash(properties().message_id),
            Input::Timestamp => match properties().timestamp {
                Some(seconds) => hash([&seconds.to_be_bytes()[..]]),
                None => hash([]),
            },
        }
    }

    pub(super) fn route<'a>(&'a self, routing: &Routing<'_>, out: &mut Vec<&'a Destination>) {
        if let [only] = self.shares.as_slice() {
            out.push(&only.destination);
            return;
        }
        let message = self.message_hash(routing);
        let draw = |share: &Share| {
            let word = u32::try_from(mix(message ^ share.seed) >> 32).expect("32 bits");
            // Between 0 and 1, neither of them: an exponential variate whose rate is the weight; the least wins.
            let uniform = (f64::from(word) + 0.5) / 4_294_967_296.0;
            let weight = share.weights.first().map_or(1.0, |(_, weight)| *weight);
            -uniform.ln() / weight
        };
        let best = self.shares.iter().map(|share| (draw(share), share)).min_by(|(a, _), (b, _)| a.total_cmp(b));
        out.extend(best.map(|(_, share)| &share.destination));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use leveret_protocol::{BasicProperties, FieldValue};

    use super::*;
    use crate::engine::queue::QueueId;

    fn s(text: &str) -> ShortString {
        ShortString::try_from(text).expect("short")
    }

    fn arguments(entries: &[(&str, &'static str)]) -> FieldTable {
        let value = |text: &'static str| FieldValue::LongString(text.try_into().expect("short"));
        entries.iter().map(|(name, text)| (s(name), value(text))).collect()
    }

    fn queue(number: u64) -> Destination {
        Destination::Queue(QueueId::new(number))
    }

    fn exchange(weights: &[(u64, &str)]) -> ConsistentHash {
        let mut exchange = ConsistentHash::new(&FieldTable::new()).expect("no arguments");
        for (number, key) in weights {
            exchange.bind(&s(key), &queue(*number));
        }
        exchange
    }

    fn routed(exchange: &ConsistentHash, key: &str, properties: &[u8]) -> Destination {
        let keys = [key.as_bytes()];
        let mut out = Vec::new();
        exchange.route(&Routing::new(&keys, properties, 0), &mut out);
        assert_eq!(out.len(), 1, "one destination for each message");
        out[0].clone()
    }

    fn shares(exchange: &ConsistentHash) -> HashMap<Destination, u32> {
        let mut counts = HashMap::new();
        for number in 0..10_000 {
            *counts.entry(routed(exchange, &format!("key-{number}"), &[0, 0])).or_default() += 1;
        }
        counts
    }

    #[test]
    fn shares_are_proportional_to_weights() {
        let counts = shares(&exchange(&[(1, "1"), (2, "3"), (3, "6")]));
        for (number, expected) in [(1, 1000_u32), (2, 3000), (3, 6000)] {
            let got = counts[&queue(number)];
            assert!(got.abs_diff(expected) < 200, "queue {number}: {got} of about {expected}");
        }
        let counts = shares(&exchange(&[(1, "1"), (2, "99999999999999999999999999999999999999")]));
        assert_eq!(counts.get(&queue(2)), Some(&10_000));
    }

    #[test]
    fn only_the_messages_of_what_goes_move() {
        let mut exchange = exchange(&[(1, "2"), (2, "3"), (3, "5")]);
        let before: Vec<_> = (0..1000).map(|key| routed(&exchange, &key.to_string(), &[0, 0])).collect();
        exchange.unbind(&s("3"), &queue(2));
        for (key, before) in before.iter().enumerate() {
            let after = routed(&exchange, &key.to_string(), &[0, 0]);
            assert!(*before == after || *before == queue(2), "key {key} moved from {before:?} to {after:?}");
        }
    }

    #[test]
    fn the_oldest_binding_of_a_destination_decides_its_weight() {
        let mut exchange = exchange(&[(1, "1"), (1, "1000"), (2, "1")]);
        assert!(shares(&exchange)[&queue(1)].abs_diff(5000) < 300);
        exchange.unbind(&s("1"), &queue(1));
        assert!(shares(&exchange)[&queue(1)] > 9900);
        exchange.unbind(&s("1000"), &queue(1));
        assert_eq!(shares(&exchange).get(&queue(1)), None);
    }

    #[test]
    fn a_header_or_a_property_may_decide() {
        let encode = |properties: &BasicProperties| {
            let mut out = Vec::new();
            properties.encode(&mut out);
            out
        };
        let spread = |arguments: &FieldTable, properties: &dyn Fn(i32) -> BasicProperties| {
            let mut exchange = ConsistentHash::new(arguments).expect("valid");
            assert!(!exchange.routes_by_key());
            (1..=4).for_each(|number| exchange.bind(&s("1"), &queue(number)));
            let mut used: Vec<_> =
                (0..50).map(|nth| routed(&exchange, &nth.to_string(), &encode(&properties(nth)))).collect();
            used.sort();
            used.dedup();
            used.len()
        };
        let by_header = arguments(&[("hash-header", "to")]);
        let header = |nth: i32| BasicProperties {
            headers: Some([(s("to"), FieldValue::Int32(nth))].into_iter().collect()),
            ..BasicProperties::default()
        };
        assert_eq!(spread(&by_header, &header), 4);
        assert_eq!(spread(&by_header, &|_| BasicProperties::default()), 1, "without the header all go one way");
        let by_id = arguments(&[("hash-property", "message_id")]);
        let id = |nth: i32| BasicProperties { message_id: Some(s(&nth.to_string())), ..BasicProperties::default() };
        assert_eq!((spread(&by_id, &id), spread(&by_id, &header)), (4, 1));
        let by_time = arguments(&[("hash-property", "timestamp")]);
        let time = |nth: i32| BasicProperties { timestamp: u64::try_from(nth).ok(), ..BasicProperties::default() };
        assert_eq!((spread(&by_time, &time), spread(&by_time, &id)), (4, 1));
    }

    #[test]
    fn bad_weights_and_arguments_are_refused_in_rabbitmqs_words() {
        let refused = |key: &'static str| ConsistentHash::check_binding(&s(key)).map_err(|error| error.to_string());
        assert_eq!((refused("1"), refused("+7"), refused("007")), (Ok(()), Ok(()), Ok(())));
        for key in ["0", "-1", "-0"] {
            assert_eq!(refused(key), Err("The binding key must be greater than 0".into()));
        }
        assert_eq!(refused("abc"), Err("The binding key must be an integer: <<\"abc\">>".into()));
        assert_eq!(refused("1.5"), Err("The binding key must be an integer: <<\"1.5\">>".into()));
        assert_eq!(refused(""), Err("The binding key must be an integer: <<>>".into()));
        let new = |entries: &[(&str, &'static str)]| {
            ConsistentHash::new(&arguments(entries)).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(new(&[("hash-property", "app_id")]), Err("Unsupported property: app_id".into()));
        let both = new(&[("hash-property", "message_id"), ("hash-header", "h")]);
        assert_eq!(both, Err("hash-header and hash-property are mutually exclusive".into()));
    }
}
