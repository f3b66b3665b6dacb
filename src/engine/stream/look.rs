//! A look at messages of a stream without reading it as a consumer does. Their ids are their offsets.

use super::Stream;
use crate::engine::queue::{Loaded, Look, MessageId, Next, Seen, Standing};

const fn id(seq: u64) -> MessageId {
    MessageId { lane: 0, seq }
}

impl Stream {
    /// Looks at messages in memory, from an offset on, `max` at most.
    pub fn look(&self, from_seq: u64, max: usize) -> Look {
        let (mut seq, mut seen) = (from_seq.max(self.first_seq), Vec::new());
        loop {
            if seq >= self.next_seq {
                return Look { seen, next: Next::End };
            }
            if seen.len() >= max {
                return Look { seen, next: Next::At(id(seq)) };
            }
            let Some(part) = self.cache.peek(seq) else {
                let until_seq = self.cache.next_from(seq).unwrap_or(u64::MAX).min(self.next_seq);
                return Look { seen, next: Next::Disk { from: id(seq), until_seq } };
            };
            let end = (part.first_seq + u64::from(part.count)).min(seq + (max - seen.len()) as u64);
            seen.extend(messages(part, seq, end));
            seq = end;
        }
    }

    /// Which of the messages that were read from the disk are still there, below an offset.
    pub fn seen_on_disk(&self, loaded: &[Loaded], below_seq: u64) -> Vec<Seen> {
        loaded.iter().flat_map(|part| messages(part, self.first_seq, below_seq)).collect()
    }
}

/// The messages of a part from one offset on, below another.
fn messages(part: &Loaded, from_seq: u64, below_seq: u64) -> impl Iterator<Item = Seen> {
    let all = (0..part.count).map(|nth| (part.first_seq + u64::from(nth), part.index + nth));
    all.filter(move |(seq, _)| (from_seq..below_seq).contains(seq)).map(|(seq, index)| Seen {
        id: id(seq),
        standing: Standing::Ready,
        redelivered: false,
        delivery_count: 0,
        delivered_at: None,
        arena: part.arena.clone(),
        index,
        kept: part.kept,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::message::{ArenaBuilder, Body, MessageParts, Timestamp};
    use crate::engine::queue::Kept;
    use crate::engine::stream::{Block, RecoveredLog, Retention};

    fn part(first_seq: u64, count: u32) -> Loaded {
        let mut builder = ArenaBuilder::new();
        for _ in 0..count {
            builder.push(&MessageParts {
                exchange: b"",
                routing_key: b"s",
                properties: &[0, 0],
                body: Body::Borrowed(b"x"),
                persistent: true,
                priority: 0,
                expiration_ms: None,
                broker_deaths: false,
                enqueued_at: Timestamp::from_millis(0),
            });
        }
        let arena: Arc<_> = builder.finish();
        Loaded { first_seq, arena, index: 0, count, kept: Kept::Durable }
    }

    fn offsets(seen: &[Seen]) -> Vec<u64> {
        seen.iter().map(|each| each.id.seq).collect()
    }

    #[test]
    fn a_look_says_what_only_the_disk_has() {
        let block = Block { first_seq: 5, count: 20, record_bytes: 20, last_time: Timestamp::from_millis(0) };
        let log = RecoveredLog { next_seq: 25, blocks: vec![block] };
        let retention = Retention { max_age_ms: None, max_bytes: None, segment_bytes: 1 << 20 };
        let mut stream = Stream::new(retention, &log);
        stream.committed(Timestamp::from_millis(0), vec![part(25, 4)], &[], &mut Vec::new());
        let look = stream.look(0, 3);
        assert_eq!((offsets(&look.seen), look.next), (vec![], Next::Disk { from: id(5), until_seq: 25 }));
        assert_eq!(offsets(&stream.seen_on_disk(&[part(3, 10)], 8)), [5, 6, 7]);
        let look = stream.look(25, 3);
        assert_eq!((offsets(&look.seen), look.next), (vec![25, 26, 27], Next::At(id(28))));
        let look = stream.look(28, 3);
        assert_eq!((offsets(&look.seen), look.next), (vec![28], Next::End));
    }
}
