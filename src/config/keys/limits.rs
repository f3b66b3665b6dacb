//! How much there may be of what.

use crate::config::key::{Counts, Key, Shown};
use crate::config::{DISK_SHARE_MAX, Limit, Share, parse_share};

/// A budget below this leaves no room for what is on its way.
const MESSAGE_MEMORY_MIN_BYTES: u64 = 1024 * 1024;

const fn memory() -> Counts {
    Counts::AtOnce(|live, new| live.resource_limits.memory = new.resource_limits.memory)
}

const fn disk() -> Counts {
    Counts::AtOnce(|live, new| live.resource_limits.disk_free = new.resource_limits.disk_free)
}

fn share(limit: Limit) -> Shown {
    match limit {
        Limit::OfMemory(share) => Shown::one(share),
        Limit::Octets(_) => Shown::Unset,
    }
}

fn octets(limit: Limit) -> Shown {
    match limit {
        Limit::Octets(octets) => Shown::one(octets),
        Limit::OfMemory(_) => Shown::Unset,
    }
}

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "vm_memory_high_watermark.relative",
        form: "a share, from 0 to 1",
        about: "share of the memory beyond which connections that publish are blocked; 0 blocks all. The memory is the \
                machine's or the control group's, whichever is less. RabbitMQ 4's",
        counts: memory(),
        set: |settings, given| {
            let share = parse_share(given.value, Share::ALL).map_err(|cause| cause.to_string())?;
            settings.config.resource_limits.memory = Limit::OfMemory(share);
            Ok(())
        },
        show: |config| share(config.resource_limits.memory),
    },
    Key {
        name: "vm_memory_high_watermark.absolute",
        form: "octets: `2GB` (1000s), `2GiB` or `2G` (1024s)",
        about: "the same in octets. The last of both keys counts",
        counts: memory(),
        set: |settings, given| {
            settings.config.resource_limits.memory = Limit::Octets(given.octets()?);
            Ok(())
        },
        show: |config| octets(config.resource_limits.memory),
    },
    Key {
        name: "disk_free_limit.absolute",
        form: "octets",
        about: "free space on the data directory's disk below which connections that publish are blocked. RabbitMQ's. What is \
                in the journal, 16 MiB at most, still comes to the database after that: a machine with a fast disk should \
                leave more",
        counts: disk(),
        set: |settings, given| {
            settings.config.resource_limits.disk_free = Limit::Octets(given.octets()?);
            Ok(())
        },
        show: |config| octets(config.resource_limits.disk_free),
    },
    Key {
        name: "disk_free_limit.relative",
        form: "a number such as `1.5`",
        about: "the same as a multiple of the memory",
        counts: disk(),
        set: |settings, given| {
            let share = parse_share(given.value, DISK_SHARE_MAX).map_err(|cause| cause.to_string())?;
            settings.config.resource_limits.disk_free = Limit::OfMemory(share);
            Ok(())
        },
        show: |config| share(config.resource_limits.disk_free),
    },
    Key {
        name: "total_memory_available_override_value",
        form: "octets",
        about: "the memory that the relative limits are shares of, instead of what the system says",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.resource_limits.total_memory = Some(given.octets()?);
            Ok(())
        },
        show: |config| Shown::some(config.resource_limits.total_memory),
    },
    Key {
        name: "memory_monitor_interval",
        form: "milliseconds, at least 1",
        about: "between two looks at memory and disk at most; near a limit they come every 100 ms. RabbitMQ's is 2500, in \
                which a fast publisher fills some gigabytes",
        counts: Counts::AtOnce(|live, new| live.monitor_interval = new.monitor_interval),
        set: |settings, given| {
            let interval = given.millis().ok().filter(|interval| !interval.is_zero());
            settings.config.monitor_interval =
                interval.ok_or_else(|| format!("expected milliseconds, at least 1, got '{}'", given.value))?;
            Ok(())
        },
        show: |config| Shown::millis(config.monitor_interval),
    },
    Key {
        name: "collect_statistics_interval",
        form: "milliseconds, at least 1",
        about: "over which the rates of the management API are worked out. RabbitMQ's",
        counts: Counts::AtStart,
        set: |settings, given| {
            let interval = given.millis().ok().filter(|interval| !interval.is_zero());
            settings.config.statistics_interval =
                interval.ok_or_else(|| format!("expected milliseconds, at least 1, got '{}'", given.value))?;
            Ok(())
        },
        show: |config| Shown::millis(config.statistics_interval),
    },
    Key {
        name: "message_memory",
        form: "octets, at least 1 MiB",
        about: "what the messages of all queues may hold in memory. From half of it on queues leave to the disk what is not \
                needed soon, transient messages too (in `leveret.spill`, which does not survive the broker), and keep less \
                ahead of their consumers. Queues with consumers leave transient messages there only when all of it is used \
                up; before that, from a quarter on, those who publish to them are not read from for some milliseconds at a \
                time, as long as consumers take. What is on its way to the disk, redb's caches and connections come on top \
                ([performance.md](performance.md#depth)), and some 50 octets for each unacked message; what waits costs \
                nothing more. More memory saves reads when consumers are far behind, and writes of transient messages that \
                pile up for a moment. `--ephemeral` brokers have no disk to leave anything to. Leveret's own key",
        counts: Counts::AtStart,
        set: |settings, given| {
            let octets = given.octets()?;
            if octets < MESSAGE_MEMORY_MIN_BYTES {
                return Err(format!("at least 1MiB, got '{}'", given.value));
            }
            settings.config.message_memory_bytes = octets;
            Ok(())
        },
        show: |config| Shown::one(config.message_memory_bytes),
    },
    Key {
        name: "connection_max",
        form: "a number, or `infinity`",
        about: "open connections that the broker takes. RabbitMQ's",
        counts: Counts::AtOnce(|live, new| live.node_limits.connections = new.node_limits.connections),
        set: |settings, given| {
            settings.config.node_limits.connections = given.at_most()?;
            Ok(())
        },
        show: |config| Shown::or(config.node_limits.connections, "infinity"),
    },
    Key {
        name: "max_connections",
        form: "as for `connection_max`",
        about: "another name of `connection_max`",
        counts: Counts::As("connection_max"),
        set: |settings, given| settings.assign("connection_max", given),
        show: |_| Shown::Unset,
    },
    Key {
        name: "channel_max_per_node",
        form: "a number, or `infinity`",
        about: "open channels of all connections that the broker takes. RabbitMQ's",
        counts: Counts::AtOnce(|live, new| live.node_limits.channels = new.node_limits.channels),
        set: |settings, given| {
            settings.config.node_limits.channels = given.at_most()?;
            Ok(())
        },
        show: |config| Shown::or(config.node_limits.channels, "infinity"),
    },
    Key {
        name: "vhost_max",
        form: "a number, or `infinity`",
        about: "vhosts at most. Those that are there stay",
        counts: Counts::AtOnce(|live, new| live.vhost_max = new.vhost_max),
        set: |settings, given| {
            settings.config.vhost_max = given.at_most()?;
            Ok(())
        },
        show: |config| Shown::or(config.vhost_max, "infinity"),
    },
    Key {
        name: "cluster_queue_limit",
        form: "a number, or `infinity`",
        about: "queues at most, of all vhosts together",
        counts: Counts::AtOnce(|live, new| live.queue_limit = new.queue_limit),
        set: |settings, given| {
            settings.config.queue_limit = given.at_most()?;
            Ok(())
        },
        show: |config| Shown::or(config.queue_limit, "infinity"),
    },
    Key {
        name: "cluster_exchange_limit",
        form: "a number, or `infinity`",
        about: "exchanges at most, of all vhosts together; the pre-declared ones count",
        counts: Counts::AtOnce(|live, new| live.exchange_limit = new.exchange_limit),
        set: |settings, given| {
            settings.config.exchange_limit = given.at_most()?;
            Ok(())
        },
        show: |config| Shown::or(config.exchange_limit, "infinity"),
    },
];
