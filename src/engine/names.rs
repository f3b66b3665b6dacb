//! Names that the broker makes: server-named queues and consumer tags.
//!
//! A name is a prefix and 22 characters of URL-safe base64, as RabbitMQ's are. The octets come from a counter-based
//! generator (`SplitMix64`) with a seed of the caller's, so that a simulation can repeat them.

use leveret_protocol::ShortString;

/// The pseudo-queue of direct reply-to (RabbitMQ extension): who consumes from it gets replies.
pub const REPLY_QUEUE: &[u8] = b"amq.rabbitmq.reply-to";
/// What the name of a reply consumer starts with.
pub const REPLY_NAME_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// Whether this is, or could be, the name of a reply consumer.
pub fn is_reply_name(name: &[u8]) -> bool {
    name.starts_with(REPLY_NAME_PREFIX.as_bytes())
}

/// Makes names that do not repeat.
#[derive(Debug)]
pub struct NameGenerator {
    state: u64,
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const RANDOM_CHARACTERS: usize = 22;

impl NameGenerator {
    /// A generator; two with the same seed make the same names.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn with_prefix(&mut self, prefix: &str) -> ShortString {
        name(prefix, (u128::from(self.next()) << 64) | u128::from(self.next()))
    }

    /// A name for a queue that was declared without one: `amq.gen-…`.
    pub fn queue(&mut self) -> ShortString {
        self.with_prefix("amq.gen-")
    }

    /// A name for a queue whose declaration asks for another prefix (`x-name-prefix`).
    pub fn queue_with_prefix(&mut self, prefix: &str) -> ShortString {
        self.with_prefix(&format!("{prefix}-"))
    }

    /// A tag for a consumer that came without one: `amq.ctag-…`.
    pub fn consumer_tag(&mut self) -> ShortString {
        self.with_prefix("amq.ctag-")
    }
}

fn name(prefix: &str, mut bits: u128) -> ShortString {
    let mut name = prefix.to_owned();
    for _ in 0..RANDOM_CHARACTERS {
        name.push(char::from(ALPHABET[usize::try_from(bits & 63).expect("below 64")]));
        bits >>= 6;
    }
    ShortString::truncated(&name)
}

/// The name of a reply consumer. Whoever knows it may send to it: the number must be one that nobody can guess, which
/// those of [`NameGenerator`] are not.
pub fn reply_name(random: u128) -> ShortString {
    name(REPLY_NAME_PREFIX, random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_rabbitmqs_shape_and_differ() {
        let mut names = NameGenerator::new(7);
        let first = names.queue();
        assert_eq!(first.len(), "amq.gen-".len() + RANDOM_CHARACTERS);
        assert_ne!(first, names.queue());
        assert_eq!(NameGenerator::new(7).queue(), first);
    }
}
