//! Tables of the directory, one a kind of record: `vhosts`, `users`, `permissions`, `topic_permissions`, `policies`,
//! `operator_policies`, `parameters`, `global_parameters`. Key: up to three names, short strings, the vhost's first.
//!
//! Value, format 1: `format u8 │ JSON`, the record as RabbitMQ's definitions have it.

use leveret_protocol::encode;
use redb::TableDefinition;

use super::Reader;
use crate::engine::directory::{Record, RecordKey, RecordKind};

const FORMAT: u8 = 1;

/// The table of a kind of record.
pub(in crate::store) const fn table(kind: RecordKind) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match kind {
        RecordKind::Vhost => "vhosts",
        RecordKind::User => "users",
        RecordKind::Permission => "permissions",
        RecordKind::TopicPermission => "topic_permissions",
        RecordKind::Policy => "policies",
        RecordKind::OperatorPolicy => "operator_policies",
        RecordKind::Parameter => "parameters",
        RecordKind::GlobalParameter => "global_parameters",
    })
}

pub(in crate::store) fn key(key: &RecordKey) -> Vec<u8> {
    let mut out = Vec::new();
    for name in &key.names {
        encode::put_short_string(&mut out, name.as_bytes());
    }
    out
}

pub(in crate::store) fn encode_value(record: &Record) -> Vec<u8> {
    let mut out = vec![FORMAT];
    out.extend(record.to_json());
    out
}

/// Reads a record; `None` when it is malformed.
pub(in crate::store) fn decode(kind: RecordKind, value: &[u8]) -> Option<Record> {
    let mut value = Reader::new(value);
    if value.u8()? != FORMAT {
        return None;
    }
    Record::from_json(kind, value.rest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::directory::VhostRecord;

    #[test]
    fn a_record_reads_back_as_written() {
        let record = Record::Vhost(VhostRecord { name: "orders".to_owned(), ..VhostRecord::default() });
        assert_eq!(decode(RecordKind::Vhost, &encode_value(&record)), Some(record.clone()));
        assert_eq!(key(&record.key()), b"\x06orders\0\0");
        assert_eq!(decode(RecordKind::Vhost, b"\x02{}"), None);
    }
}
