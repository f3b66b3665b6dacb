//! What a store has, as text.

use std::fmt::Write;
use std::sync::mpsc::channel;

use leveret::engine::directory::Record;
use leveret::store::disk::DiskStore;
use leveret::store::{LaneKey, LoadReply, LoadRequest, Recovered, Store};

/// Octets of a body that are shown.
const SHOWN: usize = 40;

/// Everything that was recovered, and all messages.
pub(crate) fn of(store: &DiskStore, mut recovered: Recovered) -> String {
    let mut out = format!("clean {}\nnext queue {}\n", recovered.clean, recovered.next_queue_id);
    let mut lines: Vec<_> = recovered.directory.iter().map(of_directory).collect();
    lines.sort();
    let exchanges = recovered.exchanges.iter().map(|(vhost, record)| format!("exchange {vhost} {record:?}"));
    lines.extend(exchanges);
    lines.extend(recovered.bindings.iter().map(|(vhost, binding)| format!("binding {vhost} {binding:?}")));
    recovered.queues.sort_by_key(|(_, record, _)| record.id.get());
    for (vhost, record, lanes) in &recovered.queues {
        lines.push(format!("queue {vhost} {record:?}"));
        for lane in lanes {
            lines.push(format!("  {lane:?}"));
            lines.extend(messages(store, LaneKey::new(record.id, lane.lane)));
        }
        if let Some(log) = recovered.logs.get(&record.id) {
            let blocks = log.blocks.iter().map(|block| (block.first_seq, block.count, block.record_bytes));
            lines.push(format!("  stream up to {}, blocks {:?}", log.next_seq, blocks.collect::<Vec<_>>()));
            lines.extend(messages(store, LaneKey::new(record.id, 0)));
        }
    }
    for line in lines {
        writeln!(out, "{line}").expect("a string takes everything");
    }
    out
}

/// A line without the flag that says how the stop before was.
pub(crate) fn without_redelivered(line: &str) -> String {
    let Some((before, after)) = line.split_once("redelivered_below: ") else { return line.to_owned() };
    format!("{before}{}", after.trim_start_matches(|digit: char| digit.is_ascii_digit()))
}

fn of_directory(record: &Record) -> String {
    let mut json: serde_json::Value = serde_json::from_slice(&record.to_json()).expect("JSON");
    // Salted, so that no two stores have the same.
    if let Some(hash) = json.get_mut("password_hash") {
        *hash = "…".into();
    }
    format!("{:?} {json}", record.key().kind)
}

fn messages(store: &DiskStore, lane: LaneKey) -> Vec<String> {
    let mut lines = Vec::new();
    let mut from_seq = 0;
    while from_seq < u64::MAX {
        let (sender, receiver) = channel();
        let reply = Box::new(move |reply| sender.send(reply).expect("somebody waits"));
        store.load(LoadRequest { lane, from_seq, max_bytes: 10_000, latest: true, window: None, reply });
        let LoadReply { loaded, complete_below, .. } = receiver.recv().expect("answered");
        for part in loaded {
            for nth in 0..part.count {
                let message = part.arena.message(part.index + nth);
                let body = message.body();
                let shown = body[..body.len().min(SHOWN)].escape_ascii();
                lines.push(format!(
                    "    {} to '{}' '{}', priority {}, expiration {:?}, properties {}, {} octets: {shown}",
                    part.first_seq + u64::from(nth),
                    message.exchange().escape_ascii(),
                    message.routing_key().escape_ascii(),
                    message.priority(),
                    message.expiration_ms(),
                    message.properties().escape_ascii(),
                    body.len(),
                ));
            }
        }
        from_seq = complete_below;
    }
    lines
}
