//! Table `exchanges`: durable exchanges. Key: vhost and name, two short strings.
//!
//! Value, format 1: `format u8 │ flags u8 (1 auto-delete, 2 internal) │ type short string │ arguments table`.

use leveret_protocol::{ShortString, encode, table};
use redb::TableDefinition;

use super::Reader;
use crate::engine::vhost::ExchangeRecord;

pub(in crate::store) const EXCHANGES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("exchanges");

const FORMAT: u8 = 1;

pub(in crate::store) fn key(vhost: &ShortString, name: &ShortString) -> Vec<u8> {
    let mut out = Vec::new();
    encode::put_short_string(&mut out, vhost.as_bytes());
    encode::put_short_string(&mut out, name.as_bytes());
    out
}

pub(in crate::store) fn encode_value(record: &ExchangeRecord) -> Vec<u8> {
    let mut out = vec![FORMAT, u8::from(record.auto_delete) | (u8::from(record.internal) << 1)];
    encode::put_short_string(&mut out, record.kind.as_bytes());
    table::put_table(&mut out, &record.arguments);
    out
}

pub(in crate::store) fn decode(key: &[u8], value: &[u8]) -> Option<(ShortString, ExchangeRecord)> {
    let mut key = Reader::new(key);
    let vhost = key.short_string()?;
    let name = key.short_string()?;
    let mut value = Reader::new(value);
    if value.u8()? != FORMAT {
        return None;
    }
    let flags = value.u8()?;
    let record = ExchangeRecord {
        name,
        kind: value.short_string()?,
        durable: true,
        auto_delete: flags & 1 != 0,
        internal: flags & 2 != 0,
        arguments: value.table()?,
    };
    Some((vhost, record))
}

#[cfg(test)]
mod tests {
    use leveret_protocol::FieldValue;

    use super::*;

    #[test]
    fn an_exchange_reads_back_as_written() {
        let vhost = ShortString::from_static("/");
        let record = ExchangeRecord {
            name: ShortString::from_static("x"),
            kind: ShortString::from_static("topic"),
            durable: true,
            auto_delete: true,
            internal: false,
            arguments: [(ShortString::from_static("a"), FieldValue::Int32(1))].into_iter().collect(),
        };
        let read = decode(&key(&vhost, &record.name), &encode_value(&record));
        assert_eq!(read, Some((vhost, record)));
    }
}
