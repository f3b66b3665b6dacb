//! Brings stored messages back, on a thread of its own.

use std::sync::mpsc;
use std::time::Duration;

use redb::{Database, ReadableDatabase};
use tracing::error;

use super::schema::batches::{BATCHES, SETTLED, decode_batch, decode_settled};
use super::schema::lanes::{LANES, LaneState};
use super::{LoadReply, LoadRequest};
use crate::engine::queue::Marks;

/// How long to wait after a failed read before the next one.
const READ_RETRY: Duration = Duration::from_secs(1);

pub(super) fn read_loop(database: &Database, requests: &mpsc::Receiver<LoadRequest>) {
    while let Ok(request) = requests.recv() {
        answer(database, request, || std::thread::sleep(READ_RETRY));
    }
}

/// Answers a request; `wait` is called before the answer that nothing can be read.
pub(super) fn answer(database: &Database, request: LoadRequest, wait: impl FnOnce()) {
    let reply = load(database, &request).unwrap_or_else(|cause| {
        error!(lane = request.lane.get(), from_seq = request.from_seq, %cause, "messages cannot be read");
        // Nothing is given up: the queue asks again.
        wait();
        LoadReply { loaded: Vec::new(), complete_below: request.from_seq }
    });
    (request.reply)(reply);
}

/// Reads the live messages of a lane from a sequence number on. A damaged batch is reported and passed over.
fn load(database: &Database, request: &LoadRequest) -> Result<LoadReply, redb::Error> {
    let lane = request.lane.get();
    let txn = database.begin_read()?;
    let batches = txn.open_table(BATCHES)?;
    let settled = txn.open_table(SETTLED)?;
    let head_seq = txn
        .open_table(LANES)?
        .get(lane)?
        .and_then(|value| LaneState::decode(lane, value.value()))
        .map_or(0, |state| state.head_seq);
    let start = batches
        .range((lane, 0)..=(lane, request.from_seq))?
        .next_back()
        .transpose()?
        .map_or(request.from_seq, |(key, _)| key.value().1);
    let mut reply = LoadReply { loaded: Vec::new(), complete_below: u64::MAX };
    let mut octets = 0;
    for entry in batches.range((lane, start)..=(lane, u64::MAX))? {
        let (key, value) = entry?;
        let (_, first_seq) = key.value();
        if octets >= request.max_bytes {
            reply.complete_below = first_seq;
            break;
        }
        octets += value.value().len();
        let marks = settled.get((lane, first_seq))?.and_then(|row| {
            let Some(bitmap) = decode_settled((lane, first_seq), row.value()) else {
                error!(lane, first_seq, "what is settled of a batch cannot be read: its messages come back");
                return None;
            };
            let mut marks = Marks::new(bitmap.len() as u64 * 8);
            marks.settle_bytes(bitmap);
            Some(marks)
        });
        let is_settled = |seq: u64| {
            seq < head_seq
                || marks
                    .as_ref()
                    .is_some_and(|marks| seq - first_seq < marks.span() && marks.is_settled(seq - first_seq))
        };
        // Read back means stored: any ticket that is durable already will do.
        if let Some((_, loaded)) = decode_batch((lane, first_seq), value.value(), request.from_seq, is_settled, 1) {
            reply.loaded.extend(loaded);
        } else {
            error!(lane, first_seq, "a batch of messages is damaged and passed over");
        }
    }
    Ok(reply)
}
