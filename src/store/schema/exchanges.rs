//! Table `exchanges`: durable exchanges. Key: vhost and name, two short strings.
//!
//! Content: `flags u8 (1 auto-delete, 2 internal) │ type short string │ arguments table`.

use leveret_protocol::{ShortString, encode, table};
use redb::TableDefinition;

use super::Reader;
use super::seal::{Record, open};
use crate::engine::vhost::ExchangeRecord;

pub(in crate::store) const EXCHANGES: TableDefinition<&[u8], &[u8]> = TableDefinition::new(NAME);

const NAME: &str = "exchanges";

pub(in crate::store) fn key(vhost: &ShortString, name: &ShortString) -> Vec<u8> {
    let mut out = Vec::new();
    encode::put_short_string(&mut out, vhost.as_bytes());
    encode::put_short_string(&mut out, name.as_bytes());
    out
}

pub(in crate::store) fn encode_value(key: &[u8], record: &ExchangeRecord) -> Vec<u8> {
    let mut sealed = Record::new().u8(u8::from(record.auto_delete) | (u8::from(record.internal) << 1));
    encode::put_short_string(sealed.content(), record.kind.as_bytes());
    table::put_table(sealed.content(), &record.arguments);
    sealed.seal(NAME, key)
}

pub(in crate::store) fn decode(key: &[u8], value: &[u8]) -> Option<(ShortString, ExchangeRecord)> {
    let mut value = open(NAME, key, value)?;
    let mut key = Reader::new(key);
    let vhost = key.short_string()?;
    let name = key.short_string()?;
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
        let key = key(&vhost, &record.name);
        let read = decode(&key, &encode_value(&key, &record));
        assert_eq!(read, Some((vhost, record)));
    }
}
