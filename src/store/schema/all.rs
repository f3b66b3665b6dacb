//! All tables, by the types of their keys: for what treats them alike. Values are octets everywhere.

use redb::TableDefinition;

use super::{batches, bindings, damaged, directory, early, exchanges, lanes, logs, meta, parts, queues, returns};
use crate::engine::directory::RecordKind;

/// Tables whose keys are one number.
pub(in crate::store) const NUMBERED: [TableDefinition<u64, &[u8]>; 3] = [queues::QUEUES, lanes::LANES, logs::LOGS];

/// Tables whose keys are a lane and a sequence number.
pub(in crate::store) const SEQUENCED: [TableDefinition<(u64, u64), &[u8]>; 6] =
    [batches::BATCHES, batches::SETTLED, returns::RETURNS, logs::BLOCKS, damaged::DAMAGED, early::EARLY];

/// Tables whose keys are names.
pub(in crate::store) fn named() -> impl Iterator<Item = TableDefinition<'static, &'static [u8], &'static [u8]>> {
    let others = [exchanges::EXCHANGES, bindings::BINDINGS, meta::FACTS, parts::PARTS];
    others.into_iter().chain(RecordKind::ALL.into_iter().map(directory::table))
}
