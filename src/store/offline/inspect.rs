//! What a store has, without a broker.

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableError};
use serde::Serialize;

use super::{damaged, guarded, open, read_all};
use crate::engine::directory::Record;
use crate::engine::queue::QueueType;
use crate::engine::vhost::QueueRecord;
use crate::store::damage::{is_settled, marks_of, queue_name};
use crate::store::disk::{FILE_NAME, Replayed};
use crate::store::recovery::Found;
use crate::store::schema::batches::{BATCHES, SETTLED, decode_batch, decode_settled};
use crate::store::schema::damaged::{self as table, DAMAGED};
use crate::store::schema::meta::{Facts, KEY_NODE, read_format};
use crate::store::schema::parts;
use crate::store::schema::queues::QUEUES;
use crate::store::{LaneKey, StoreError};

/// What a store has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Its file.
    pub file: String,
    /// The file's octets.
    pub file_bytes: u64,
    /// The version of its layout.
    pub format: u64,
    /// The number that names it.
    pub node: Option<u64>,
    /// The last stop was orderly.
    pub clean: bool,
    /// Records of the journal that the database does not have yet; what is shown has them.
    pub journal_records: u64,
    /// How many of them are damaged.
    pub journal_damaged: u64,
    /// How many definitions there are.
    pub definitions: Definitions,
    /// Queues by number, without streams.
    pub queues: Vec<QueueFigures>,
    /// Streams by number.
    pub streams: Vec<StreamFigures>,
    /// What was set aside because it is damaged.
    pub damaged: Vec<SetAside>,
}

/// How many definitions there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Definitions {
    /// Vhosts.
    pub vhosts: u64,
    /// Users.
    pub users: u64,
    /// Permissions and topic permissions.
    pub permissions: u64,
    /// Policies and operator policies.
    pub policies: u64,
    /// Parameters, global ones too.
    pub parameters: u64,
    /// Exchanges.
    pub exchanges: u64,
    /// Queues and streams.
    pub queues: u64,
    /// Bindings.
    pub bindings: u64,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueueFigures {
    /// Its vhost.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Messages that are not settled. Which of them were delivered is known only to the broker that ran.
    pub messages: u64,
    /// Octets of their bodies.
    pub body_bytes: u64,
    /// Messages that came back.
    pub returned: u64,
    /// When the oldest one came, in milliseconds since 1970.
    pub oldest_at: Option<u64>,
}

/// A stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamFigures {
    /// Its vhost.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// The first offset that it has.
    pub first_offset: u64,
    /// The offset that the next message gets.
    pub next_offset: u64,
    /// Octets of its messages as they are stored.
    pub record_bytes: u64,
    /// Blocks of about a megabyte, the last of which is open.
    pub blocks: u64,
    /// When the oldest message came, in milliseconds since 1970.
    pub oldest_at: Option<u64>,
}

/// A batch of messages that was set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// The queue, as logs name it.
    pub queue: String,
    /// Lane of the queue.
    pub lane: u8,
    /// First sequence number.
    pub first_seq: u64,
    /// Last sequence number that it may have had.
    pub last_seq: u64,
    /// Messages that were lost, if they could be counted.
    pub messages: Option<u64>,
    /// When that was found, in milliseconds since 1970.
    pub at: u64,
    /// Octets that are kept.
    pub bytes: u64,
}

/// Looks at the store in a directory. Damaged records are left out: see [`verify`](super::verify).
pub fn inspect(dir: &Path) -> Result<Inspection, StoreError> {
    let file = dir.join(FILE_NAME);
    let database = Arc::new(RwLock::new(open(&file)?));
    let look = || -> Result<Inspection, StoreError> {
        let wrong = |cause: redb::Error| damaged(&file, &cause);
        let format = read_format_of(&database.read()).map_err(wrong)?;
        // A store of an earlier format is brought up to date in memory, and has what is in its journal alone.
        let Replayed { found, records, damaged, .. } = read_all(&database, dir)?;
        let mut inspection = figures(&database.read(), found).map_err(wrong)?;
        (inspection.journal_records, inspection.journal_damaged) = (records, damaged);
        inspection.format = format;
        inspection.file = file.display().to_string();
        inspection.file_bytes = std::fs::metadata(&file).map_or(0, |found| found.len());
        Ok(inspection)
    };
    guarded(look).map_err(|panic| damaged(&file, &panic))?
}

fn read_format_of(database: &Database) -> Result<u64, redb::Error> {
    Ok(read_format(&database.begin_read()?)?.unwrap_or(0))
}

fn figures(database: &Database, found: Found) -> Result<Inspection, redb::Error> {
    let txn = database.begin_read()?;
    let Found { mut recovered, .. } = found;
    let mut inspection = Inspection {
        clean: recovered.clean,
        node: Facts::read(&txn)?.get(KEY_NODE),
        definitions: Definitions {
            exchanges: recovered.exchanges.len() as u64,
            queues: recovered.queues.len() as u64,
            bindings: recovered.bindings.len() as u64,
            ..count(&recovered.directory)
        },
        damaged: set_aside(&txn)?,
        ..Inspection::default()
    };
    recovered.queues.sort_by_key(|(_, record, _)| record.id.get());
    for (vhost, record, lanes) in &recovered.queues {
        let (vhost, name) = (vhost.to_string(), record.name.to_string());
        if let Some(log) = recovered.logs.get(&record.id) {
            let first_offset = log.blocks.first().map_or(log.next_seq, |block| block.first_seq);
            inspection.streams.push(StreamFigures {
                vhost,
                name,
                first_offset,
                next_offset: log.next_seq,
                record_bytes: log.blocks.iter().map(|block| block.record_bytes).sum(),
                blocks: log.blocks.len() as u64,
                oldest_at: oldest(&txn, LaneKey::new(record.id, 0).get(), first_offset)?,
            });
            continue;
        }
        let mut oldest_at = None;
        for lane in lanes.iter().filter(|lane| lane.count > 0) {
            let at = oldest(&txn, LaneKey::new(record.id, lane.lane).get(), lane.head_seq)?;
            oldest_at = oldest_at.into_iter().chain(at).min();
        }
        inspection.queues.push(QueueFigures {
            vhost,
            name,
            kind: kind_of(record).to_owned(),
            messages: lanes.iter().map(|lane| lane.count).sum(),
            body_bytes: lanes.iter().map(|lane| lane.body_bytes).sum(),
            returned: lanes.iter().map(|lane| lane.returns.len() as u64).sum(),
            oldest_at,
        });
    }
    Ok(inspection)
}

fn kind_of(record: &QueueRecord) -> &'static str {
    QueueType::from_arguments(&record.arguments).unwrap_or_default().as_str()
}

fn count(directory: &[Record]) -> Definitions {
    let mut counts = Definitions::default();
    for record in directory {
        let count = match record {
            Record::Vhost(_) => &mut counts.vhosts,
            Record::User(_) => &mut counts.users,
            Record::Permission(_) | Record::TopicPermission(_) => &mut counts.permissions,
            Record::Policy(_) | Record::OperatorPolicy(_) => &mut counts.policies,
            Record::Parameter(_) | Record::GlobalParameter(_) => &mut counts.parameters,
        };
        *count += 1;
    }
    counts
}

/// When the first live message of a lane came.
fn oldest(txn: &ReadTransaction, lane: u64, head_seq: u64) -> Result<Option<u64>, redb::Error> {
    let (batches, settled, parts) = (txn.open_table(BATCHES)?, txn.open_table(SETTLED)?, parts::open(txn)?);
    for entry in batches.range((lane, 0)..=(lane, u64::MAX))? {
        let (key, value) = entry?;
        let key = key.value();
        let row = settled.get(key)?;
        let marks = row.as_ref().and_then(|row| decode_settled(key, row.value())).map(marks_of);
        let is_settled = |seq| is_settled(key.1, seq, head_seq, marks.as_ref());
        let batch = parts::whole(key, value.value(), parts.as_ref())?;
        let live = decode_batch(key, batch, 0, is_settled, 1).map(|(_, live)| live).unwrap_or_default();
        if let Some(first) = live.first() {
            return Ok(Some(first.arena.message(first.index).enqueued_at().as_millis()));
        }
    }
    Ok(None)
}

fn set_aside(txn: &ReadTransaction) -> Result<Vec<SetAside>, redb::Error> {
    let rows = match txn.open_table(DAMAGED) {
        Ok(rows) => rows,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(cause) => return Err(cause.into()),
    };
    let queues = txn.open_table(QUEUES)?;
    let mut found = Vec::new();
    for entry in rows.iter()? {
        let (key, value) = entry?;
        let (lane, first_seq) = key.value();
        let Some((aside, octets)) = table::decode(key.value(), value.value()) else { continue };
        found.push(SetAside {
            queue: queue_name(&queues, lane)?,
            lane: LaneKey::from_number(lane).lane(),
            first_seq,
            last_seq: aside.end_seq.saturating_sub(1),
            messages: aside.lost.map(|(messages, _)| messages),
            at: aside.at.as_millis(),
            bytes: octets.len() as u64,
        });
    }
    Ok(found)
}
