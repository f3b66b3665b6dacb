//! Table `queues`: durable queues. Key: the queue's number.
//!
//! Content: `flags u8 (1 auto-delete, 2 messages wait in it for a delayed-message exchange of its name) │ shard u32 (0) │
//! vhost short string │ name short string │ arguments table`. Everything else refers to a queue by its number.

use leveret_protocol::{ShortString, encode, table};
use redb::TableDefinition;

use super::seal::{Record, open};
use crate::engine::queue::QueueId;
use crate::engine::vhost::QueueRecord;

pub(in crate::store) const QUEUES: TableDefinition<u64, &[u8]> = TableDefinition::new(NAME);

const NAME: &str = "queues";

pub(in crate::store) fn encode_value(vhost: &ShortString, record: &QueueRecord) -> Vec<u8> {
    let mut sealed = Record::new().u8(u8::from(record.auto_delete) | u8::from(record.delays) << 1);
    let out = sealed.content();
    encode::put_u32(out, 0);
    encode::put_short_string(out, vhost.as_bytes());
    encode::put_short_string(out, record.name.as_bytes());
    table::put_table(out, &record.arguments);
    sealed.seal(NAME, record.id.get())
}

pub(in crate::store) fn decode(id: u64, value: &[u8]) -> Option<(ShortString, QueueRecord)> {
    let mut value = open(NAME, id, value)?;
    let flags = value.u8()?;
    value.u32()?;
    let vhost = value.short_string()?;
    let record = QueueRecord {
        id: QueueId::new(id),
        name: value.short_string()?,
        durable: true,
        auto_delete: flags & 1 != 0,
        exclusive_owner: None,
        arguments: value.table()?,
        delays: flags & 2 != 0,
    };
    Some((vhost, record))
}

#[cfg(test)]
mod tests {
    use leveret_protocol::FieldTable;

    use super::*;

    #[test]
    fn a_queue_reads_back_as_written() {
        let vhost = ShortString::from_static("v");
        let record = QueueRecord {
            id: QueueId::new(9),
            name: ShortString::from_static("q"),
            durable: true,
            auto_delete: true,
            exclusive_owner: None,
            arguments: FieldTable::new(),
            delays: true,
        };
        assert_eq!(decode(9, &encode_value(&vhost, &record)), Some((vhost, record)));
    }
}
