//! What there is to see of a stream: figures for listings, in the terms of queues.

use super::Stream;
use crate::engine::queue::{ConsumerFigures, HeldBy, QueueFigures};

impl Stream {
    /// What it holds. All of its messages count as ready, whoever has read them.
    pub fn figures(&self) -> QueueFigures {
        QueueFigures {
            ready: self.count,
            unacked: 0,
            ready_body_bytes: self.record_bytes,
            unacked_body_bytes: 0,
            resident_bytes: self.resident_bytes(),
        }
    }

    /// Its consumers in the order of subscription. All of them are active.
    pub fn consumer_figures(&self) -> Vec<ConsumerFigures> {
        self.readers
            .iter()
            .map(|(id, reader)| ConsumerFigures {
                id: *id,
                tag: reader.spec.tag.clone(),
                channel: reader.spec.channel,
                no_ack: reader.spec.no_ack,
                exclusive: false,
                prefetch: reader.spec.prefetch,
                unacked: reader.unacked,
                active: true,
                held_by: (reader.unacked >= reader.spec.prefetch).then_some(HeldBy::Prefetch),
                waits_since: None,
            })
            .collect()
    }
}
