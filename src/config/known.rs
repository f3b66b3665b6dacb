//! Keys that RabbitMQ knows and that change nothing here: they are accepted, so that its files can be taken as they are, and
//! the log says so once for each.
//!
//! `rabbitmq_keys.txt` has the names of RabbitMQ's keys, of 3.10 to 4.3 with all plugins. A key that means something here
//! is in [`keys`](super::keys) too.

use super::key::matched;

const NAMES: &str = include_str!("rabbitmq_keys.txt");

/// Every key that RabbitMQ knows.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.lines()
}

/// Why a key that RabbitMQ knows has no effect; `None` if RabbitMQ does not know it either.
pub(super) fn reason(key: &str) -> Option<&'static str> {
    let name = names().find(|name| matched(name, key).is_some())?;
    let found = REASONS.iter().find(|(start, _)| name.starts_with(start));
    Some(found.map_or("it has no meaning here", |(_, reason)| reason))
}

/// How names of keys without effect begin, and why they have none.
pub(super) fn reasons() -> impl Iterator<Item = (&'static str, &'static str)> {
    REASONS.iter().copied()
}

/// By how the names begin; the first that fits counts.
const REASONS: &[(&str, &str)] = &[
    ("amqp10_client.", "there is no AMQP 1.0 client"),
    ("amqp1_0.", "AMQP 1.0 is not spoken"),
    ("amqp_client.", "there are no shovels or federation links"),
    ("auth_cache.", "there is only the internal authentication backend, which needs no cache"),
    ("auth_http.", "there is no HTTP authentication backend"),
    ("auth_ldap.", "there is no LDAP authentication backend"),
    ("auth_oauth2.", "there is no OAuth 2 authentication backend"),
    ("aws.", "there is no discovery of other nodes"),
    ("background_gc", "there is no garbage collector"),
    ("channel_interceptor.", "there are no interceptors"),
    ("classic_queue", "queues are stored in another way"),
    ("cluster_formation.", "there is one node, which discovers no others"),
    ("cluster_keepalive", "there is one node"),
    ("cluster_partition_handling", "there is one node, which cannot be partitioned"),
    ("collect_statistics", "statistics are always kept"),
    ("consumer_disconnected_timeout", "consumers do not outlive their connections"),
    ("default_policies.", "there are no mirrored queues, and one version of classic queues"),
    ("default_worker_pool_size", "there is no Erlang"),
    ("definitions.", "definitions are read from local files"),
    ("delegate_count", "there is no Erlang"),
    ("deprecated_features.", "whatever RabbitMQ 3.13 and 4 permit is permitted"),
    ("distribution.", "there is one node"),
    ("event_exchange.", "there is no event exchange"),
    ("exchange_types.", "all exchange types are always there"),
    ("federation.", "there are no federation links"),
    ("hipe_compile", "there is no Erlang"),
    ("http_dispatch.", "HTTP is served in another way"),
    ("link_max_per_session", "AMQP 1.0 is not spoken"),
    ("log.", "there is one log, to the console or to a file: who collects it ships and formats it"),
    ("management.listener.ssl_opts.", "the TLS library decides it, safely"),
    ("management.", "the management API has nothing of the kind"),
    ("message_interceptors.", "messages are not changed when they come in"),
    ("message_store", "messages are stored in another way"),
    ("metadata_store.", "definitions are stored in another way"),
    ("mirroring_", "there are no mirrored queues"),
    ("mnesia_", "there is no Mnesia"),
    ("motd_file", "the log begins without a banner"),
    ("mqtt.", "MQTT is not spoken"),
    ("net_ticktime", "there is one node"),
    ("num_acceptors.", "a listener accepts as fast as connections come"),
    ("password_hashing_module", "new passwords are hashed with SHA-256; other hashes are taken from definitions"),
    ("prometheus.", "the metrics have nothing of the kind"),
    ("prevent_startup_if_node_was_reset", "a node is what its data directory holds"),
    ("queue_index_", "queues are stored in another way"),
    ("queue_leader_locator", "there is one node"),
    ("queue_master_locator", "there is one node"),
    ("queue_types.", "all queue types are always there"),
    ("quorum_queue.", "quorum queues have one member"),
    ("raft.", "there is no Raft"),
    ("ranch_connection_max", "connection_max is the limit"),
    ("reverse_dns_lookups", "addresses are shown as numbers"),
    ("runtime_parameters.", "parameters are not limited by kind"),
    ("session_max_per_connection", "AMQP 1.0 is not spoken"),
    ("shovel.", "there are no shovels"),
    ("socket_writer.", "there is no Erlang"),
    ("ssl_allow_poodle_attack", "there is no SSL 3"),
    ("ssl_options.", "the TLS library decides it, safely"),
    ("stomp.", "STOMP is not spoken"),
    ("stream.", "the stream protocol is not spoken; streams are read over AMQP 0-9-1"),
    ("tcp_listen_options.", "the system decides it"),
    ("tracing.", "the firehose has no files of its own"),
    ("trust_store.", "trusted certificates are those of ssl_options.cacertfile"),
    ("vhost_restart_strategy", "vhosts do not fail by themselves"),
    ("vm_memory_calculation_strategy", "memory is the process's resident set"),
    ("vm_memory_high_watermark_paging_ratio", "queues leave memory by message_memory"),
    ("web_mqtt.", "MQTT is not spoken"),
    ("web_stomp.", "STOMP is not spoken"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_rabbitmq_are_known_with_a_reason() {
        assert_eq!(reason("mqtt.exchange"), Some("MQTT is not spoken"));
        assert_eq!(
            reason("cluster_formation.classic_config.nodes.1"),
            Some("there is one node, which discovers no others")
        );
        assert_eq!(reason("mqtt.exchagne"), None);
        assert_eq!(reason("heartbaet"), None);
    }

    #[test]
    fn names_are_sorted_and_reasons_are_used() {
        let all: Vec<&str> = names().collect();
        assert!(all.is_sorted() && all.len() > 1000);
        for (start, _) in REASONS {
            assert!(all.iter().any(|name| name.starts_with(start)), "{start}");
        }
    }
}
