//! Copies of what is published and delivered, while the vhost is traced (RabbitMQ's firehose).

use leveret_protocol::ChannelId;

use super::publishing::{ContentRef, Targets};
use super::session::Session;
use crate::engine::firehose::{self, Copy, Seen, TRACE_EXCHANGE, Tap};
use crate::engine::message::{Body, MessageParts};
use crate::engine::queue::Run;
use crate::server::placing::Start;
use crate::server::queue_cell::QueueCell;

impl Session {
    fn tap(&self, channel: ChannelId) -> Tap<'_> {
        Tap {
            node: &self.registry.config.node_name,
            vhost: &self.vhost.name,
            connection: &self.link,
            channel: channel.get(),
            user: &self.user,
        }
    }

    /// A message was published to these queues.
    #[cold]
    pub(super) fn trace_publish(&mut self, channel: ChannelId, targets: &Targets, content: &ContentRef<'_>) {
        let seen =
            Seen { exchange: content.exchange, routing_key: content.routing_key, properties: content.properties };
        let copy = firehose::published(&self.tap(channel), &seen, targets.names());
        self.send_copy(&copy, content.body.clone());
    }

    /// Messages were delivered, or fetched with basic.get.
    #[cold]
    pub(super) fn trace_delivery(&mut self, channel: ChannelId, queue: &QueueCell, run: &Run) {
        for (_, message) in run.messages() {
            if message.exchange() == TRACE_EXCHANGE {
                continue;
            }
            let seen = Seen {
                exchange: message.exchange(),
                routing_key: message.routing_key(),
                properties: message.properties(),
            };
            let copy = firehose::delivered(&self.tap(channel), &seen, &queue.name, run.redelivered);
            self.send_copy(&copy, Body::Shared(message.shared_body()));
        }
    }

    fn send_copy(&mut self, copy: &Copy, body: Body<'_>) {
        let Copy { routing_key, properties } = copy;
        let parts = MessageParts {
            exchange: TRACE_EXCHANGE,
            routing_key,
            properties,
            body,
            persistent: false,
            priority: 0,
            expiration_ms: None,
            broker_deaths: false,
            enqueued_at: self.now,
        };
        let start = Start { vhost: &self.vhost, exchange: TRACE_EXCHANGE, keys: &[routing_key] };
        self.registry.place(&start, &parts, properties, &|_| false, &mut self.work);
    }
}
