//! Metrics of the node as a whole: the names that RabbitMQ's dashboards read, and what is beyond them.

use super::Facts;
use super::queues::oldest;
use super::text::{Kind, Seconds, Text, written};
use crate::engine::queue::QueueType;
use crate::engine::statistics::{Count, Counts, Histogram};
use crate::server::alarms::Resource;
use crate::server::operator::Operator;
use crate::server::statistics::Event;

const PROTOCOL: (&str, &str) = ("protocol", "amqp091");

/// Who this is. Every other series is joined with it.
pub(super) fn identity(facts: &Facts, endpoint: &str, text: &mut Text<'_>) {
    let node = &facts.node;
    text.family("build_info", Kind::Untyped, "RabbitMQ & Erlang/OTP version info");
    let build = [
        ("rabbitmq_version", node.rabbitmq_version.as_str()),
        ("prometheus_plugin_version", node.rabbitmq_version.as_str()),
        ("prometheus_client_version", "none"),
        ("erlang_version", "none"),
        ("product_name", "Leveret"),
        ("product_version", node.version.as_str()),
    ];
    text.sample("build_info", &written(&build), 1);
    text.family("identity_info", Kind::Untyped, "RabbitMQ node & cluster identity info");
    let identity = [
        ("rabbitmq_node", node.name.as_str()),
        ("rabbitmq_cluster", node.cluster_name.as_str()),
        ("rabbitmq_cluster_permanent_id", facts.cluster_id.as_str()),
        ("rabbitmq_endpoint", endpoint),
    ];
    text.sample("identity_info", &written(&identity), 1);
}

/// What comes and goes.
pub(super) fn churn(facts: &Facts, text: &mut Text<'_>) {
    let churn = &facts.sample.churn;
    for (name, help, event) in [
        ("connections_opened_total", "Total number of connections opened", Event::ConnectionCreated),
        ("connections_closed_total", "Total number of connections closed or terminated", Event::ConnectionClosed),
        ("channels_opened_total", "Total number of channels opened", Event::ChannelCreated),
        ("channels_closed_total", "Total number of channels closed", Event::ChannelClosed),
        ("queues_declared_total", "Total number of queues declared", Event::QueueDeclared),
        ("queues_created_total", "Total number of queues created", Event::QueueCreated),
        ("queues_deleted_total", "Total number of queues deleted", Event::QueueDeleted),
    ] {
        text.single(name, Kind::Counter, help, churn.count(event));
    }
}

/// What the process uses, and may use.
pub(super) fn resources(facts: &Facts, text: &mut Text<'_>) {
    let node = &facts.node;
    for (name, help, value) in [
        ("process_open_fds", "Open file descriptors", node.open_files),
        ("process_open_tcp_sockets", "Open TCP sockets", node.connections),
        ("process_resident_memory_bytes", "Memory used in bytes", node.memory_bytes),
        ("disk_space_available_bytes", "Disk space available in bytes", node.disk_free_bytes.unwrap_or(0)),
        ("erlang_processes_used", "Erlang processes used", 0),
    ] {
        text.single(name, Kind::Gauge, help, value);
    }
}

/// The limits of it.
pub(super) fn limits(facts: &Facts, text: &mut Text<'_>) {
    let node = &facts.node;
    for (name, help, value) in [
        ("process_max_fds", "Open file descriptors limit", node.open_files_limit),
        ("process_max_tcp_sockets", "Open TCP sockets limit", node.open_files_limit),
        ("resident_memory_limit_bytes", "Memory high watermark in bytes", node.memory_limit_bytes),
        ("disk_space_available_limit_bytes", "Free disk space low watermark in bytes", node.disk_free_limit_bytes),
        ("erlang_processes_limit", "Erlang processes limit", 0),
        ("erlang_scheduler_run_queue", "Erlang scheduler run queue", 0),
        ("erlang_uptime_seconds", "Node uptime", node.uptime_seconds),
    ] {
        text.single(name, Kind::Gauge, help, value);
    }
}

/// Alarms that stop publishers.
pub(super) fn alarms(facts: &Facts, text: &mut Text<'_>) {
    let on = |resource| u64::from(facts.sample.alarms.contains(&resource));
    for (name, help, value) in [
        ("alarms_file_descriptor_limit", "is 1 if file descriptor limit alarm is in effect", 0),
        (
            "alarms_free_disk_space_watermark",
            "is 1 if free disk space watermark alarm is in effect",
            on(Resource::Disk),
        ),
        ("alarms_memory_used_watermark", "is 1 if VM memory watermark alarm is in effect", on(Resource::Memory)),
    ] {
        text.single(name, Kind::Gauge, help, value);
    }
}

/// Logins.
pub(super) fn logins(facts: &Facts, text: &mut Text<'_>) {
    let all = [
        ("auth_attempts_total", "Total number of authorization attempts"),
        ("auth_attempts_succeeded_total", "Total number of successful authentication attempts"),
        ("auth_attempts_failed_total", "Total number of failed authentication attempts"),
    ];
    for (nth, (name, help)) in all.into_iter().enumerate() {
        text.family(name, Kind::Counter, help);
        for (protocol, succeeded, failed) in &facts.logins {
            let value = [succeeded + failed, *succeeded, *failed][nth];
            text.sample(name, &written(&[("protocol", protocol)]), value);
        }
    }
}

/// How much there is of what.
pub(super) fn objects(facts: &Facts, text: &mut Text<'_>) {
    let objects = &facts.objects;
    for (name, help, value) in [
        ("connections", "Connections currently open", objects.connections),
        ("channels", "Channels currently open", objects.channels),
        ("consumers", "Consumers currently connected", objects.consumers),
        ("queues", "Queues available", objects.queues),
        ("exchanges", "Exchanges available", objects.exchanges),
    ] {
        text.single(name, Kind::Gauge, help, value);
    }
}

/// Sums over all queues, connections and channels, by the names that each of them has with labels.
pub(super) fn sums(facts: &Facts, text: &mut Text<'_>) {
    let totals = &facts.sample.totals;
    let (counts, gauges) = (totals.flow.counts(), totals.gauges);
    for (name, help, value) in [
        ("queue_messages_ready", "Messages ready to be delivered to consumers", gauges.ready),
        ("queue_messages_unacked", "Messages delivered to consumers but not yet acknowledged", gauges.unacked),
        (
            "queue_messages",
            "Sum of ready and unacknowledged messages - total queue depth",
            gauges.ready + gauges.unacked,
        ),
        ("queue_consumers", "Consumers on a queue", gauges.consumers),
        ("queue_process_memory_bytes", "Memory in bytes used by the messages of a queue", facts.node.message_bytes),
    ] {
        text.single(name, Kind::Gauge, help, value);
    }
    for (name, help, count) in [
        ("queue_disk_reads_total", "Total number of times queue read messages from disk", Count::DiskReads),
        ("queue_disk_writes_total", "Total number of times queue wrote messages to disk", Count::DiskWrites),
        ("connection_incoming_bytes_total", "Total number of bytes received on a connection", Count::ReceivedOctets),
        ("connection_outgoing_bytes_total", "Total number of bytes sent on a connection", Count::SentOctets),
        (
            "channel_messages_published_total",
            "Total number of messages published into an exchange on a channel",
            Count::Publish,
        ),
        (
            "channel_messages_confirmed_total",
            "Total number of messages published into an exchange and confirmed on the channel",
            Count::Confirm,
        ),
        (
            "channel_messages_unroutable_returned_total",
            "Total number of messages published as mandatory into an exchange and returned to the publisher as unroutable",
            Count::ReturnUnroutable,
        ),
        (
            "channel_messages_unroutable_dropped_total",
            "Total number of messages published as non-mandatory into an exchange and dropped as unroutable",
            Count::DropUnroutable,
        ),
        (
            "channel_get_ack_total",
            "Total number of messages fetched with basic.get in manual acknowledgement mode",
            Count::Get,
        ),
        (
            "channel_get_total",
            "Total number of messages fetched with basic.get in automatic acknowledgement mode",
            Count::GetNoAck,
        ),
        (
            "channel_messages_delivered_ack_total",
            "Total number of messages delivered to consumers in manual acknowledgement mode",
            Count::Deliver,
        ),
        (
            "channel_messages_delivered_total",
            "Total number of messages delivered to consumers in automatic acknowledgement mode",
            Count::DeliverNoAck,
        ),
        ("channel_messages_redelivered_total", "Total number of messages redelivered to consumers", Count::Redeliver),
        ("channel_messages_acked_total", "Total number of messages acknowledged by consumers", Count::Ack),
        ("channel_get_empty_total", "Total number of times basic.get operations fetched no message", Count::GetEmpty),
        (
            "queue_messages_published_total",
            "Total number of messages published into a queue through an exchange on a channel",
            Count::PublishOut,
        ),
        (
            "queue_messages_requeued_total",
            "Total number of messages that came back to a queue without being acknowledged",
            Count::Requeue,
        ),
    ] {
        text.single(name, Kind::Counter, help, counts[count]);
    }
}

/// RabbitMQ's global counters.
pub(super) fn globals(facts: &Facts, text: &mut Text<'_>) {
    let totals = &facts.sample.totals;
    let counts = totals.flow.counts();
    let labels = written(&[PROTOCOL]);
    for (name, help, value) in [
        ("global_messages_received_total", "Total number of messages received from publishers", counts[Count::Publish]),
        (
            "global_messages_received_confirm_total",
            "Total number of messages received from publishers expecting confirmations",
            counts[Count::PublishConfirm],
        ),
        (
            "global_messages_routed_total",
            "Total number of messages routed to queues or streams",
            counts[Count::PublishOut],
        ),
        (
            "global_messages_unroutable_dropped_total",
            "Total number of messages published as non-mandatory into an exchange and dropped as unroutable",
            counts[Count::DropUnroutable],
        ),
        (
            "global_messages_unroutable_returned_total",
            "Total number of messages published as mandatory into an exchange and returned to the publisher as unroutable",
            counts[Count::ReturnUnroutable],
        ),
        ("global_messages_confirmed_total", "Total number of messages confirmed to publishers", counts[Count::Confirm]),
    ] {
        text.family(name, Kind::Counter, help);
        text.sample(name, &labels, value);
    }
    text.family("global_publishers", Kind::Gauge, "Current number of publishers");
    text.sample("global_publishers", &labels, totals.publishers);
    text.family("global_consumers", Kind::Gauge, "Current number of consumers");
    text.sample("global_consumers", &labels, totals.gauges.consumers);
    by_type(facts, text);
    dead_letters(facts, text);
    text.family("message_size_bytes", Kind::Histogram, "Size of messages received from publishers");
    let sizes = &totals.sizes;
    text.histogram("message_size_bytes", &[PROTOCOL], sizes.cumulative(), sizes.count(), sizes.sum_bytes());
}

fn type_name(queue_type: QueueType) -> &'static str {
    match queue_type {
        QueueType::Classic => "rabbit_classic_queue",
        QueueType::Quorum => "rabbit_quorum_queue",
        QueueType::Stream => "rabbit_stream_queue",
    }
}

/// What one of the counters of deliveries adds up.
type Sum = fn(&Counts) -> u64;

fn by_type(facts: &Facts, text: &mut Text<'_>) {
    let all: [(&str, &str, Sum); 9] = [
        ("global_messages_delivered_total", "Total number of messages delivered to consumers", |counts| {
            counts.deliver_get()
        }),
        (
            "global_messages_delivered_consume_manual_ack_total",
            "Total number of messages delivered to consumers using basic.consume with manual acknowledgment",
            |counts| counts[Count::Deliver],
        ),
        (
            "global_messages_delivered_consume_auto_ack_total",
            "Total number of messages delivered to consumers using basic.consume with automatic acknowledgment",
            |counts| counts[Count::DeliverNoAck],
        ),
        (
            "global_messages_delivered_get_manual_ack_total",
            "Total number of messages delivered to consumers using basic.get with manual acknowledgment",
            |counts| counts[Count::Get],
        ),
        (
            "global_messages_delivered_get_auto_ack_total",
            "Total number of messages delivered to consumers using basic.get with automatic acknowledgment",
            |counts| counts[Count::GetNoAck],
        ),
        (
            "global_messages_get_empty_total",
            "Total number of times basic.get operations fetched no message",
            |counts| counts[Count::GetEmpty],
        ),
        ("global_messages_redelivered_total", "Total number of messages redelivered to consumers", |counts| {
            counts[Count::Redeliver]
        }),
        ("global_messages_acknowledged_total", "Total number of messages acknowledged by consumers", |counts| {
            counts[Count::Ack]
        }),
        (
            "global_messages_requeued_total",
            "Total number of messages that came back to a queue without being acknowledged",
            |counts| counts[Count::Requeue],
        ),
    ];
    for (name, help, sum) in all {
        text.family(name, Kind::Counter, help);
        for (queue_type, counts, _) in facts.sample.totals.by_type() {
            let labels = written(&[PROTOCOL, ("queue_type", type_name(queue_type))]);
            text.sample(name, &labels, sum(counts));
        }
    }
}

fn dead_letters(facts: &Facts, text: &mut Text<'_>) {
    let all = [
        (
            "global_messages_dead_lettered_maxlen_total",
            "Total number of messages dead-lettered due to overflow drop-head or reject-publish-dlx",
            Count::MaxLen,
            Count::DroppedMaxLen,
        ),
        (
            "global_messages_dead_lettered_expired_total",
            "Total number of messages dead-lettered due to message TTL exceeded",
            Count::Expired,
            Count::DroppedExpired,
        ),
        (
            "global_messages_dead_lettered_rejected_total",
            "Total number of messages dead-lettered due to basic.reject or basic.nack",
            Count::Rejected,
            Count::DroppedRejected,
        ),
        (
            "global_messages_dead_lettered_delivery_limit_total",
            "Total number of messages dead-lettered due to delivery-limit exceeded",
            Count::DeliveryLimit,
            Count::DroppedDeliveryLimit,
        ),
    ];
    for (name, help, buried, dropped) in all {
        text.family(name, Kind::Counter, help);
        for (queue_type, counts, _) in facts.sample.totals.by_type() {
            for (strategy, count) in [("at_most_once", buried), ("disabled", dropped)] {
                let labels = [("queue_type", type_name(queue_type)), ("dead_letter_strategy", strategy)];
                text.sample(name, &written(&labels), counts[count]);
            }
        }
    }
    // Only quorum queues of RabbitMQ wait for the confirm of a dead letter; here its move is one transaction.
    let name = "global_messages_dead_lettered_confirmed_total";
    text.family(name, Kind::Counter, "Total number of messages dead-lettered and confirmed by target queues");
    let labels = [("queue_type", type_name(QueueType::Quorum)), ("dead_letter_strategy", "at_least_once")];
    text.sample(name, &written(&labels), 0);
}

/// What RabbitMQ does not tell: ages, latencies, the store's work.
pub(super) fn beyond(operator: &Operator, facts: &Facts, text: &mut Text<'_>) {
    let totals = &facts.sample.totals;
    let oldest = oldest(operator);
    text.single(
        "queue_oldest_message_age_seconds",
        Kind::Gauge,
        "For how long the oldest ready message has been in its queue, of all queues",
        Seconds(oldest.ready_ms.unwrap_or(0)),
    );
    text.single(
        "queue_oldest_unacked_age_seconds",
        Kind::Gauge,
        "For how long the oldest delivery has waited for its acknowledgement, of all queues",
        Seconds(oldest.unacked_ms.unwrap_or(0)),
    );
    text.single(
        "stalled_queues",
        Kind::Gauge,
        "Queues with ready messages of which none has left for a minute",
        oldest.stalled,
    );
    let histogram = |name, help, histogram: &Histogram, text: &mut Text<'_>| {
        text.family(name, Kind::Histogram, help);
        let buckets = histogram.cumulative().map(|(bound, below)| (Seconds(bound), below));
        text.histogram(name, &[], buckets, histogram.count(), Seconds(histogram.sum_ms()));
    };
    let help = "From the arrival of a message in a queue to its first delivery";
    histogram("queue_time_in_queue_seconds", help, &totals.time_in_queue, text);
    histogram("consumer_ack_latency_seconds", "From a delivery to its acknowledgement", &totals.ack_latency, text);
    store(facts, text);
}

fn store(facts: &Facts, text: &mut Text<'_>) {
    let store = &facts.sample.store;
    for (name, help, value) in [
        ("storage_commits_total", "Writes of the journal, each with one sync", store.commits),
        ("storage_transactions_total", "Transactions that were made durable", store.transactions),
        ("storage_written_bytes_total", "Octets written to the journal", store.octets),
        ("storage_checkpoints_total", "Commits of the database", store.checkpoints),
    ] {
        text.single(name, Kind::Counter, help, value);
    }
    text.single(
        "storage_checkpoint_seconds_total",
        Kind::Counter,
        "Time that commits of the database took",
        store.checkpoint_time.as_secs_f64(),
    );
    for (name, help, value) in [
        ("storage_damaged_batches", "Batches of messages that were damaged and set aside", facts.node.damaged_batches),
        ("storage_damaged_messages", "Messages in them, as far as they could be counted", facts.node.damaged_messages),
    ] {
        text.single(name, Kind::Gauge, help, value);
    }
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let per_commit = facts.sample.totals.flow.counts()[Count::Confirm] as f64 / store.commits.max(1) as f64;
    text.single(
        "storage_confirms_per_commit",
        Kind::Gauge,
        "Confirms that left for each write of the journal, since the start",
        per_commit,
    );
    text.family(
        "storage_sync_seconds",
        Kind::Histogram,
        "How long the disk took to make a write of the journal durable",
    );
    #[expect(clippy::cast_precision_loss, reason = "bounds are small")]
    let buckets = store.cumulative_syncs().map(|(micros, below)| (micros as f64 / 1e6, below));
    text.histogram("storage_sync_seconds", &[], buckets, store.commits, store.sync_time.as_secs_f64());
}

/// Where the memory is, as far as the broker knows.
pub(super) fn memory(facts: &Facts, text: &mut Text<'_>) {
    let node = &facts.node;
    let rest = node.memory_bytes.saturating_sub(node.message_bytes);
    for (name, help, value) in [
        ("memory_messages_bytes", "Memory that messages of queues use", node.message_bytes),
        ("memory_other_bytes", "Memory that all else uses", rest),
        ("memory_total_bytes", "Memory that the process uses", node.memory_bytes),
    ] {
        text.single(name, Kind::Gauge, help, value);
    }
}
