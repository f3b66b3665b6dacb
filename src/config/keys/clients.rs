//! What connections, channels and messages may be like.

use std::time::Duration;

use leveret_protocol::FRAME_MIN_SIZE;

use crate::config::Compat;
use crate::config::key::{Counts, Given, Key, Shown};
use crate::engine::queue::QueueType;

/// A frame size, of which the protocol asks for some room.
fn frame_size(given: &Given<'_>) -> Result<u32, String> {
    let octets = given.octets()?;
    let size = u32::try_from(octets).ok().filter(|size| *size >= FRAME_MIN_SIZE);
    size.ok_or_else(|| format!("at least {FRAME_MIN_SIZE}, got {}", given.value))
}

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "heartbeat",
        form: "seconds",
        about: "proposed to clients; 0 for none. The client's answer counts",
        counts: Counts::ForNew(|live, new| live.heartbeat_seconds = new.heartbeat_seconds),
        set: |settings, given| {
            settings.config.heartbeat_seconds = given.number()?;
            Ok(())
        },
        show: |config| Shown::one(config.heartbeat_seconds),
    },
    Key {
        name: "frame_max",
        form: "octets, at least 4096",
        about: "largest frame proposed. RabbitMQ's",
        counts: Counts::ForNew(|live, new| live.frame_max = new.frame_max),
        set: |settings, given| {
            settings.config.frame_max = frame_size(given)?;
            Ok(())
        },
        show: |config| Shown::one(config.frame_max),
    },
    Key {
        name: "initial_frame_max",
        form: "octets, at least 4096",
        about: "largest frame before that is agreed. RabbitMQ's; long client properties or tokens may need more",
        counts: Counts::ForNew(|live, new| live.initial_frame_max = new.initial_frame_max),
        set: |settings, given| {
            settings.config.initial_frame_max = frame_size(given)?;
            Ok(())
        },
        show: |config| Shown::one(config.initial_frame_max),
    },
    Key {
        name: "channel_max",
        form: "a number; 0 for no limit",
        about: "channels of a connection proposed. RabbitMQ's",
        counts: Counts::ForNew(|live, new| live.channel_max = new.channel_max),
        set: |settings, given| {
            let max = given.number()?;
            settings.config.channel_max = if max == 0 { u16::MAX } else { max };
            Ok(())
        },
        show: |config| Shown::one(config.channel_max),
    },
    Key {
        name: "max_channels_per_connection",
        form: "as for `channel_max`",
        about: "another name of `channel_max`",
        counts: Counts::As("channel_max"),
        set: |settings, given| settings.assign("channel_max", given),
        show: |_| Shown::Unset,
    },
    Key {
        name: "consumer_max_per_channel",
        form: "a number, or `infinity`",
        about: "consumers of a channel at most; one more is 530",
        counts: Counts::ForNew(|live, new| live.consumer_max_per_channel = new.consumer_max_per_channel),
        set: |settings, given| {
            settings.config.consumer_max_per_channel = given.at_most()?;
            Ok(())
        },
        show: |config| Shown::or(config.consumer_max_per_channel, "infinity"),
    },
    Key {
        name: "consumer_timeout",
        form: "milliseconds; `0` or `undefined` for no limit",
        about: "within which a delivery has to be acked. RabbitMQ's 30 minutes. A queue's argument `x-consumer-timeout` \
                counts more, a consumer's more than that. It is looked at four times within that time, at most once a minute",
        counts: Counts::ForNew(|live, new| live.consumer_timeout = new.consumer_timeout),
        set: |settings, given| {
            settings.config.consumer_timeout = match given.value {
                "undefined" | "infinity" => None,
                _ => Some(given.millis()?).filter(|timeout| *timeout > Duration::ZERO),
            };
            Ok(())
        },
        show: |config| Shown::or(config.consumer_timeout.map(|timeout| timeout.as_millis()), "undefined"),
    },
    Key {
        name: "max_message_size",
        form: "octets",
        about: "largest body. RabbitMQ 3 takes 128 MiB, 4 takes 16: the larger, so that no client breaks. Above 512 MiB \
                nothing is taken, whatever this says",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.max_message_size = given.octets()?;
            Ok(())
        },
        show: |config| Shown::one(config.max_message_size),
    },
    Key {
        name: "default_queue_type",
        form: "`classic`, `quorum` or `stream`",
        about: "the type of queues declared without one in vhosts that have no default of their own. Queues that cannot be of \
                that type stay classic",
        counts: Counts::AtStart,
        set: |settings, given| {
            let found = QueueType::from_word(given.value.as_bytes());
            settings.config.default_queue_type =
                found.ok_or_else(|| format!("classic, quorum or stream, not '{}'", given.value))?;
            Ok(())
        },
        show: |config| Shown::one(config.default_queue_type.as_str()),
    },
    Key {
        name: "compat",
        form: "`4.x` or `3.13`",
        about: "whose rules count where RabbitMQ's releases differ and clients can feel it. With `3.13` an `x-death` header \
                that a client sends is continued instead of replaced, a dead letter that goes by its queue's own routing \
                key loses its `CC` header, an unknown exchange type closes the connection (503) instead of the channel \
                (406), and a late ack closes the channel also for quorum queues, whose consumer is cancelled otherwise. \
                Leveret's own key",
        counts: Counts::AtStart,
        set: |settings, given| {
            settings.config.compat = given.one_of(&[("3.13", Compat::V3), ("4.x", Compat::V4)])?;
            Ok(())
        },
        show: |config| {
            Shown::one(match config.compat {
                Compat::V3 => "3.13",
                Compat::V4 => "4.x",
            })
        },
    },
];
