//! What a queue's arguments and its policies ask for together.
//!
//! Numbers: the smallest counts. Dead-lettering: the argument wins. Overflow: the operator policy wins over the policy; the
//! argument wins over both on classic queues, and loses on the others.

use super::{QueueSettings, QueueType};
use crate::engine::directory::{Applied, Definition};

impl QueueSettings {
    /// These settings, made from arguments, under the policies that apply to the queue.
    #[must_use]
    pub fn under(mut self, policies: Applied<'_>) -> Self {
        let regular = policies.regular.map(|policy| &policy.definition);
        let operator = policies.operator.map(|policy| &policy.definition);
        for definition in [regular, operator].into_iter().flatten() {
            self.limit(definition);
        }
        let theirs = operator
            .and_then(|definition| definition.overflow)
            .or_else(|| regular.and_then(|definition| definition.overflow));
        if self.queue_type == QueueType::Classic {
            self.overflow = self.overflow.or(theirs);
        } else {
            self.overflow = theirs.or(self.overflow);
        }
        if let Some(definition) = regular {
            if self.dead_letter_exchange.is_none() {
                self.dead_letter_exchange.clone_from(&definition.dead_letter_exchange);
            }
            if self.dead_letter_routing_key.is_none() {
                self.dead_letter_routing_key.clone_from(&definition.dead_letter_routing_key);
            }
            self.stream.max_age_s = definition.max_age_s.or(self.stream.max_age_s);
            self.stream.max_segment_size_bytes = definition.max_segment_bytes.or(self.stream.max_segment_size_bytes);
            if self.queue_type == QueueType::Stream {
                self.max_length_bytes = definition.max_length_bytes.or(self.max_length_bytes);
            }
        }
        self
    }

    fn limit(&mut self, definition: &Definition) {
        smallest(&mut self.message_ttl_ms, definition.message_ttl_ms);
        smallest(&mut self.expires_ms, definition.expires_ms);
        smallest(&mut self.max_length, definition.max_length);
        smallest(&mut self.max_length_bytes, definition.max_length_bytes);
        smallest(&mut self.consumer_timeout_ms, definition.consumer_timeout_ms);
        // Negative means no limit: of two of which one is negative the larger wins.
        self.delivery_limit = match (self.delivery_limit, definition.delivery_limit) {
            (Some(own), Some(other)) if own < 0 || other < 0 => Some(own.max(other)),
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
    }
}

fn smallest(own: &mut Option<u64>, other: Option<u64>) {
    *own = match (*own, other) {
        (Some(own), Some(other)) => Some(own.min(other)),
        (own, other) => own.or(other),
    };
}

#[cfg(test)]
mod tests {
    use leveret_protocol::ShortString;
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::directory::{Policies, Policy, PolicyRecord, PolicyTarget};
    use crate::engine::queue::Overflow;

    fn policy(operator: bool, definition: Value) -> Policy {
        let Value::Object(definition) = definition else { panic!("a definition is an object") };
        let record = PolicyRecord {
            vhost: "/".to_owned(),
            name: "p".to_owned(),
            pattern: String::new(),
            apply_to: "all".to_owned(),
            priority: 0,
            definition,
        };
        Policy::parse(&record, operator).expect("valid")
    }

    #[test]
    fn the_smallest_number_and_the_own_dead_letter_exchange_count() {
        let policies = Policies::new(
            vec![policy(false, json!({"max-length": 5, "message-ttl": 100, "dead-letter-exchange": "theirs"}))],
            vec![policy(true, json!({"max-length": 7, "message-ttl": 50, "overflow": "reject-publish"}))],
        );
        let own = QueueSettings {
            max_length: Some(6),
            dead_letter_exchange: Some(ShortString::from_static("mine")),
            ..QueueSettings::default()
        };
        let applied = policies.of(PolicyTarget::ClassicQueue, b"q");
        let both = own.clone().under(applied);
        assert_eq!((both.max_length, both.message_ttl_ms), (Some(5), Some(50)));
        assert_eq!(both.dead_letter_exchange, own.dead_letter_exchange);
        assert_eq!(both.overflow(), Overflow::RejectPublish);
        let own = QueueSettings { overflow: Some(Overflow::DropHead), ..own };
        assert_eq!(own.under(applied).overflow(), Overflow::DropHead);
    }
}
