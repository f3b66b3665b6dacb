//! How much of a stream is kept.

use crate::engine::queue::QueueSettings;

/// Octets of a segment if nothing else is asked for, as in RabbitMQ.
const SEGMENT_BYTES: u64 = 500_000_000;

/// How much of a stream is kept. Whole segments go, the oldest first; the last one always stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `x-max-age` in milliseconds: a segment goes when its last message is older.
    pub max_age_ms: Option<u64>,
    /// `x-max-length-bytes`: segments go while there is more.
    pub max_bytes: Option<u64>,
    /// `x-stream-max-segment-size-bytes`: octets after which the next segment begins.
    pub segment_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age_ms: None, max_bytes: None, segment_bytes: SEGMENT_BYTES }
    }
}

impl Retention {
    /// What the settings of a stream ask for.
    pub fn of(settings: &QueueSettings) -> Self {
        Self {
            max_age_ms: settings.stream.max_age_s.map(|age| age.saturating_mul(1000)),
            max_bytes: settings.max_length_bytes,
            segment_bytes: settings.stream.max_segment_size_bytes.unwrap_or(SEGMENT_BYTES),
        }
    }
}
