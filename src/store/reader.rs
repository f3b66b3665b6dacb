//! Brings stored messages back, on a thread of its own.

use std::collections::{HashSet, VecDeque};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use redb::{Database, ReadTransaction, ReadableDatabase, TableError};
use tracing::error;

use super::damage::{examine, is_settled, marks_of, next_batch, queue_name};
use super::disk::{FILE_NAME, Shared};
use super::schema::batches::{BATCHES, SETTLED, decode_batch, decode_settled};
use super::schema::damaged::{self, DAMAGED};
use super::schema::lanes::{LANES, LaneState};
use super::schema::logs::{LOGS, LogState};
use super::schema::parts;
use super::schema::queues::QUEUES;
use super::spill::Spill;
use super::{LoadReply, LoadRequest};
use crate::panics::contained;
use crate::server::clock;

/// How long to wait after a failed read before the next one.
const READ_RETRY: Duration = Duration::from_secs(1);

pub(super) fn read_loop(
    database: &RwLock<Database>,
    shared: &Shared,
    spill: &Spill,
    requests: &mpsc::Receiver<LoadRequest>,
) {
    let mut reader = Reader { database, shared, spill, failing: HashSet::new() };
    // What could not be read is tried again; others do not wait for it.
    let mut later: VecDeque<(Instant, LoadRequest)> = VecDeque::new();
    loop {
        let next = match later.front() {
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some((due, _)) => requests.recv_timeout(due.saturating_duration_since(clock::instant())),
        };
        let request = match next {
            Ok(request) => request,
            Err(RecvTimeoutError::Timeout) => match later.pop_front() {
                Some((_, request)) => request,
                None => continue,
            },
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let is_behind = shared.backlog.is_behind();
        let catch_up = || is_behind && shared.backlog.request();
        match reader.read(&request, catch_up) {
            Some(reply) => (request.reply)(reply),
            None => later.push_back((clock::instant() + READ_RETRY, request)),
        }
    }
}

/// Answers a request at once, if need be with nothing: then the queue asks again. `catch_up` is called when the database may
/// lack what is wanted: whether it has more now.
#[cfg(test)]
pub(super) fn answer(
    database: &RwLock<Database>,
    shared: &Shared,
    spill: &Spill,
    request: LoadRequest,
    catch_up: impl FnOnce() -> bool,
) {
    let reply = Reader { database, shared, spill, failing: HashSet::new() }.read(&request, catch_up);
    let nothing = LoadReply { complete_below: request.from_seq, ..LoadReply::default() };
    (request.reply)(reply.unwrap_or(nothing));
}

struct Reader<'a> {
    database: &'a RwLock<Database>,
    shared: &'a Shared,
    spill: &'a Spill,
    /// Lanes that cannot be read, and were reported.
    failing: HashSet<u64>,
}

impl Reader<'_> {
    /// Reads what is asked for; `None` if it cannot be read now.
    fn read(&mut self, request: &LoadRequest, catch_up: impl FnOnce() -> bool) -> Option<LoadReply> {
        let Self { database, shared, spill, .. } = *self;
        let lane = request.lane.get();
        // redb panics where it finds pages that it did not write.
        let found = contained(|| {
            let reply = load(&database.read(), shared, request)?;
            // The end of what the database has may not be the end of what there is.
            let again = request.latest && reply.complete_below == u64::MAX && catch_up();
            let mut reply = if again { load(&database.read(), shared, request)? } else { reply };
            spill.complete(request, &mut reply)?;
            Ok::<_, redb::Error>(reply)
        });
        let cause = match found {
            Ok(Ok(reply)) => {
                self.failing.remove(&lane);
                return Some(reply);
            }
            Ok(Err(cause)) => cause.to_string(),
            Err(panic) => format!("the file is damaged: {panic}"),
        };
        if self.failing.insert(lane) {
            error!(
                lane,
                from_seq = request.from_seq,
                file = %shared.data_dir.join(FILE_NAME).display(),
                cause,
                "messages cannot be read; trying again and again"
            );
        }
        None
    }
}

/// Reads the live messages of a lane from a sequence number on. A damaged batch is reported, given to the writer to be set
/// aside, and passed over.
fn load(database: &Database, shared: &Shared, request: &LoadRequest) -> Result<LoadReply, redb::Error> {
    let (lane, max_bytes) = (request.lane.get(), request.octets());
    let txn = database.begin_read()?;
    let batches = txn.open_table(BATCHES)?;
    let settled = txn.open_table(SETTLED)?;
    let parts = parts::open(&txn)?;
    let head_seq = head_seq(&txn, lane)?;
    let start = batches
        .range((lane, 0)..=(lane, request.from_seq))?
        .next_back()
        .transpose()?
        .map_or(request.from_seq, |(key, _)| key.value().1);
    let file = || shared.data_dir.join(FILE_NAME);
    let mut reply = LoadReply { complete_below: u64::MAX, ..LoadReply::default() };
    let mut octets = 0;
    for entry in batches.range((lane, start)..=(lane, u64::MAX))? {
        let (key, value) = entry?;
        let key = key.value();
        let (_, first_seq) = key;
        if octets >= max_bytes {
            reply.complete_below = first_seq;
            break;
        }
        let batch = parts::whole(key, value.value(), parts.as_ref())?;
        octets += batch.len();
        let row = settled.get(key)?;
        let bitmap = row.as_ref().map(|row| decode_settled(key, row.value()));
        if bitmap == Some(None) {
            shared.repairs.found_row(key, &queue_name(&txn.open_table(QUEUES)?, lane)?, &file());
            shared.prompt();
        }
        let marks = bitmap.flatten().map(marks_of);
        let is_settled = |seq| is_settled(first_seq, seq, head_seq, marks.as_ref());
        // Read back means stored: any ticket that is durable already will do.
        if let Some((_, loaded)) = decode_batch(key, batch, request.from_seq, is_settled, 1) {
            reply.loaded.extend(loaded);
            continue;
        }
        let batch = parts::whole(key, value.value(), parts.as_ref())?;
        let broken = examine(key, &batch, is_settled, || next_batch(&batches, key))?;
        let live = broken.live.iter().flatten().filter(|gone| gone.seq >= request.from_seq);
        reply.gone.extend(live.copied());
        reply.known_gone += broken.end_seq.saturating_sub(first_seq.max(request.from_seq));
        let queue = queue_name(&txn.open_table(QUEUES)?, lane)?;
        if shared.repairs.found(&broken, &queue, &file(), clock::now()) {
            shared.prompt();
        }
    }
    if shared.repairs.damage().batches > 0 {
        reply.known_gone += set_aside_in(&txn, lane, request.from_seq..reply.complete_below)?;
    }
    Ok(reply)
}

/// Sequence numbers in a range which belong to what was set aside before.
fn set_aside_in(txn: &ReadTransaction, lane: u64, range: std::ops::Range<u64>) -> Result<u64, redb::Error> {
    let table = match txn.open_table(DAMAGED) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(0),
        Err(cause) => return Err(cause.into()),
    };
    let mut sum = 0;
    for entry in table.range((lane, 0)..(lane, range.end))? {
        let (key, value) = entry?;
        let (_, first_seq) = key.value();
        let end_seq = damaged::decode(key.value(), value.value()).map_or(first_seq, |(aside, _)| aside.end_seq);
        sum += end_seq.min(range.end).saturating_sub(first_seq.max(range.start));
    }
    Ok(sum)
}

/// Below this number nothing of a lane or stream is left, whatever its batches have.
fn head_seq(txn: &ReadTransaction, lane: u64) -> Result<u64, redb::Error> {
    if let Some(value) = txn.open_table(LANES)?.get(lane)? {
        return Ok(LaneState::decode(lane, value.value()).map_or(0, |state| state.head_seq));
    }
    let log = txn.open_table(LOGS)?.get(lane)?;
    Ok(log.and_then(|value| LogState::decode(lane, value.value())).map_or(0, |state| state.first_seq))
}
