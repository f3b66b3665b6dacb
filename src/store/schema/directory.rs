//! Tables of the directory, one a kind of record: `vhosts`, `users`, `permissions`, `topic_permissions`, `policies`,
//! `operator_policies`, `parameters`, `global_parameters`. Key: up to three names, short strings, the vhost's first.
//!
//! Content: JSON, the record as RabbitMQ's definitions have it.

use leveret_protocol::encode;
use redb::TableDefinition;

use super::seal::{self, open};
use crate::engine::directory::{Record, RecordKey, RecordKind};

/// The table of a kind of record.
pub(in crate::store) const fn table(kind: RecordKind) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(name(kind))
}

const fn name(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Vhost => "vhosts",
        RecordKind::User => "users",
        RecordKind::Permission => "permissions",
        RecordKind::TopicPermission => "topic_permissions",
        RecordKind::Policy => "policies",
        RecordKind::OperatorPolicy => "operator_policies",
        RecordKind::Parameter => "parameters",
        RecordKind::GlobalParameter => "global_parameters",
    }
}

pub(in crate::store) fn key(key: &RecordKey) -> Vec<u8> {
    let mut out = Vec::new();
    for name in &key.names {
        encode::put_short_string(&mut out, name.as_bytes());
    }
    out
}

pub(in crate::store) fn encode_value(kind: RecordKind, key: &[u8], record: &Record) -> Vec<u8> {
    seal::Record::of(&record.to_json()).seal(name(kind), key)
}

/// Reads a record; `None` when it is malformed.
pub(in crate::store) fn decode(kind: RecordKind, key: &[u8], value: &[u8]) -> Option<Record> {
    Record::from_json(kind, open(name(kind), key, value)?.rest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::directory::VhostRecord;

    #[test]
    fn a_record_reads_back_as_written() {
        let record = Record::Vhost(VhostRecord { name: "orders".to_owned(), ..VhostRecord::default() });
        let key = key(&record.key());
        assert_eq!(key, b"\x06orders\0\0");
        let value = encode_value(RecordKind::Vhost, &key, &record);
        assert_eq!(decode(RecordKind::Vhost, &key, &value), Some(record));
        assert_eq!((decode(RecordKind::User, &key, &value), decode(RecordKind::Vhost, &key, b"\x02{}")), (None, None));
    }
}
