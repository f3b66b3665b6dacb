//! What RabbitMQ has as plugins and feature flags, and what is built in here: always there, always on. Tools ask for them.

use serde_json::{Value, json};

/// RabbitMQ's plugins whose work the broker does by itself.
pub(crate) const PLUGINS: [&str; 8] = [
    "rabbitmq_auth_mechanism_ssl",
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_delayed_message_exchange",
    "rabbitmq_management",
    "rabbitmq_management_agent",
    "rabbitmq_prometheus",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
];

/// Flags that RabbitMQ 4 cannot do without any more, each with its description.
const REQUIRED: [(&str, &str); 12] = [
    ("classic_mirrored_queue_version", "Support setting version for classic mirrored queues"),
    ("classic_queue_type_delivery_support", "Bug fix for classic queue deliveries using mixed versions"),
    ("direct_exchange_routing_v2", "v2 direct exchange routing implementation"),
    ("drop_unroutable_metric", "Count unroutable publishes to be dropped in stats"),
    ("empty_basic_get_metric", "Count AMQP `basic.get` on empty queues in stats"),
    ("implicit_default_bindings", "Default bindings are now implicit, instead of being stored in the database"),
    ("maintenance_mode_status", "Maintenance mode status"),
    ("quorum_queue", "Support queues of type `quorum`"),
    ("stream_queue", "Support queues of type `stream`"),
    ("stream_single_active_consumer", "Single active consumer for streams"),
    ("user_limits", "Configure connection and channel limits for a user"),
    ("virtual_host_metadata", "Virtual host metadata (description, tags, etc)"),
];

/// Flags that an administrator of RabbitMQ 4 switches on.
const STABLE: [(&str, &str); 6] = [
    (
        "detailed_queues_endpoint",
        "Add a detailed queues HTTP API endpoint. Reduce number of metrics in the default endpoint.",
    ),
    ("khepri_db", "New Raft-based metadata store. Fully supported as of RabbitMQ 4.0"),
    ("message_containers_deaths_v2", "Bug fix for dead letter cycle detection"),
    ("rabbitmq_4.0.0", "Allows rolling upgrades from 3.13.x to 4.0.x"),
    ("rabbitmq_4.1.0", "Allows rolling upgrades to 4.1.x"),
    ("rabbitmq_4.2.0", "Allows rolling upgrades to 4.2.x"),
];

/// The names of all feature flags.
pub(crate) fn feature_flags() -> impl Iterator<Item = &'static str> {
    REQUIRED.into_iter().chain(STABLE).map(|(name, _)| name)
}

/// Every feature flag as RabbitMQ lists it.
pub(crate) fn feature_flag_states() -> impl Iterator<Item = Value> {
    let state = |(name, about): (&str, &str), stability: &str| {
        let provider = if name == "detailed_queues_endpoint" { "rabbitmq_management" } else { "rabbit" };
        json!({
            "name": name,
            "state": "enabled",
            "stability": stability,
            "provided_by": provider,
            "desc": about,
            "doc_url": "",
        })
    };
    let required = REQUIRED.into_iter().map(move |flag| state(flag, "required"));
    required.chain(STABLE.into_iter().map(move |flag| state(flag, "stable")))
}
