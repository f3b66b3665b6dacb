//! Table `bindings`: bindings between durable ends. The key says it all; the content is empty.
//!
//! Key: `vhost short string │ source short string │ kind u8 (0 queue, 1 exchange) │ queue number u64 or exchange short
//! string │ routing key short string │ arguments table`.

use leveret_protocol::{ShortString, encode, table};
use redb::TableDefinition;

use super::Reader;
use super::seal::{Record, open};
use crate::engine::exchange::Destination;
use crate::engine::queue::QueueId;
use crate::engine::vhost::Binding;

pub(in crate::store) const BINDINGS: TableDefinition<&[u8], &[u8]> = TableDefinition::new(NAME);
/// The table in a store of format 1, with values of another type.
pub(in crate::store) const BINDINGS_1: TableDefinition<&[u8], ()> = TableDefinition::new(NAME);

const NAME: &str = "bindings";

pub(in crate::store) fn key(vhost: &ShortString, binding: &Binding) -> Vec<u8> {
    let mut out = Vec::new();
    encode::put_short_string(&mut out, vhost.as_bytes());
    encode::put_short_string(&mut out, binding.source.as_bytes());
    match &binding.destination {
        Destination::Queue(id) => {
            out.push(0);
            encode::put_u64(&mut out, id.get());
        }
        Destination::Exchange(name) => {
            out.push(1);
            encode::put_short_string(&mut out, name.as_bytes());
        }
    }
    encode::put_short_string(&mut out, binding.routing_key.as_bytes());
    table::put_table(&mut out, &binding.arguments);
    out
}

pub(in crate::store) fn value(key: &[u8]) -> Vec<u8> {
    Record::new().seal(NAME, key)
}

pub(in crate::store) fn decode(key: &[u8], value: &[u8]) -> Option<(ShortString, Binding)> {
    open(NAME, key, value)?;
    let mut key = Reader::new(key);
    let vhost = key.short_string()?;
    let source = key.short_string()?;
    let destination = match key.u8()? {
        0 => Destination::Queue(QueueId::new(key.u64()?)),
        1 => Destination::Exchange(key.short_string()?),
        _ => return None,
    };
    Some((vhost, Binding { source, destination, routing_key: key.short_string()?, arguments: key.table()? }))
}

#[cfg(test)]
mod tests {
    use leveret_protocol::FieldTable;

    use super::*;

    #[test]
    fn a_binding_reads_back_as_written() {
        let vhost = ShortString::from_static("/");
        for destination in [Destination::Queue(QueueId::new(7)), Destination::Exchange(ShortString::from_static("y"))] {
            let binding = Binding {
                source: ShortString::from_static("x"),
                destination,
                routing_key: ShortString::from_static("k"),
                arguments: FieldTable::new(),
            };
            let key = key(&vhost, &binding);
            assert_eq!(decode(&key, &value(&key)), Some((vhost.clone(), binding)));
            assert_eq!(decode(&key, &value(b"another")), None);
        }
    }
}
