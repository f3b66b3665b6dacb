//! Table `meta`: facts about the store itself. Key: a word. Value: a big-endian u64.
//!
//! | key | value |
//! |---|---|
//! | `format` | version of the whole layout; a newer one is refused |
//! | `node` | a random number that names this store for ever |
//! | `next_queue_id` | the number that the next queue gets |
//! | `clean` | 1 after an orderly stop, 0 while the broker runs |

use redb::TableDefinition;

pub(in crate::store) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The layout that this release writes.
pub(in crate::store) const FORMAT: u64 = 1;

pub(in crate::store) const KEY_FORMAT: &str = "format";
pub(in crate::store) const KEY_NODE: &str = "node";
pub(in crate::store) const KEY_NEXT_QUEUE_ID: &str = "next_queue_id";
pub(in crate::store) const KEY_CLEAN: &str = "clean";
