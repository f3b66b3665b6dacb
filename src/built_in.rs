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

/// RabbitMQ 4's feature flags, each with its description.
const FEATURE_FLAGS: [(&str, &str); 12] = [
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

/// The names of all feature flags.
pub(crate) fn feature_flags() -> impl Iterator<Item = &'static str> {
    FEATURE_FLAGS.into_iter().map(|(name, _)| name)
}

/// A feature flag as RabbitMQ lists it, for each.
pub(crate) fn feature_flag_states() -> impl Iterator<Item = Value> {
    FEATURE_FLAGS.into_iter().map(|(name, about)| {
        json!({
            "name": name,
            "state": "enabled",
            "stability": "required",
            "provided_by": "rabbit",
            "desc": about,
            "doc_url": "",
        })
    })
}
