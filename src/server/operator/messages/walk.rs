//! Going through what an operator means: a queue, or what waits in front of delayed-message exchanges for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::choice::{Choice, MessageState};
use crate::engine::condition::Condition;
use crate::engine::exchange::Routing;
use crate::engine::message::Timestamp;
use crate::engine::queue::{MessageId, QueueId, Seen};
use crate::server::clock;
use crate::server::operator::OperatorError;
use crate::server::placing::routing_keys;
use crate::server::queue_cell::QueueCell;
use crate::server::registry::Registry;
use crate::server::scan::Scan;

/// An id as operators see it. A delayed message's says in which internal queue it is, too.
pub(super) fn shown_id(source: &QueueCell, id: MessageId) -> String {
    if source.delays { format!("{}/{id}", source.id.get()) } else { id.to_string() }
}

/// An id that an operator wrote, and the internal queue in it.
fn parse_id(text: &str) -> Result<(Option<QueueId>, MessageId), OperatorError> {
    let (queue, id) = text.split_once('/').map_or((None, text), |(queue, id)| (Some(queue), id));
    let queue = queue.map(str::parse).transpose();
    let queue = queue.map_err(|_| OperatorError::Invalid(format!("'{text}' is no message id")))?;
    Ok((queue.map(QueueId::new), id.parse().map_err(OperatorError::Invalid)?))
}

/// On the way through what an operator means.
#[derive(Debug)]
pub(in crate::server::operator) struct Walk {
    registry: Arc<Registry>,
    /// The queue that is asked about.
    queue: Arc<QueueCell>,
    state: MessageState,
    condition: Condition,
    now: Timestamp,
    deadline: Instant,
    course: Course,
    put_back: Option<(Arc<QueueCell>, Seen)>,
    stop_at_end: bool,
    /// Messages looked at in queues that are done.
    done: u64,
}

#[derive(Debug)]
enum Course {
    /// One queue after another.
    Through { current: Option<(Arc<QueueCell>, Scan)>, rest: VecDeque<Arc<QueueCell>> },
    /// From id to id.
    Ids { current: Option<(Arc<QueueCell>, Scan)>, rest: VecDeque<(Arc<QueueCell>, MessageId)> },
}

impl Walk {
    /// Goes through what is meant of a queue.
    pub(in crate::server::operator) fn new(
        registry: &Arc<Registry>,
        queue: &Arc<QueueCell>,
        choice: &Choice,
        now: Timestamp,
    ) -> Result<Self, OperatorError> {
        let condition = choice.parsed_condition()?;
        let delayed = choice.state == MessageState::Delayed;
        let sources = if delayed { delay_queues(registry, queue) } else { vec![queue.clone()] };
        let source = |id: Option<QueueId>| {
            let source = sources.iter().find(|source| id.map_or(!delayed, |id| delayed && source.id == id));
            source.cloned()
        };
        let ids = choice.checked_ids()?.iter().map(|text| parse_id(text)).collect::<Result<Vec<_>, _>>()?;
        let from = choice.from.as_deref().map(parse_id).transpose()?;
        let scan = |source: &Arc<QueueCell>, id| Scan::new(registry, source, choice.state.wanted(), id);
        let course = if ids.is_empty() {
            let mut rest: VecDeque<_> = sources.iter().cloned().collect();
            let current = match from {
                Some((number, id)) => {
                    let first = source(number).ok_or_else(|| {
                        OperatorError::Invalid("the cursor belongs to another queue, or another state".to_owned())
                    })?;
                    rest.retain(|source| source.id > first.id);
                    let scan = scan(&first, Some(id));
                    Some((first, scan))
                }
                None => rest.pop_front().map(|first| {
                    let scan = scan(&first, None);
                    (first, scan)
                }),
            };
            Course::Through { current, rest }
        } else {
            let mut rest: Vec<_> = ids.into_iter().filter_map(|(number, id)| Some((source(number)?, id))).collect();
            rest.sort_by_key(|(source, id)| (source.id, std::cmp::Reverse(id.lane), id.seq));
            rest.dedup_by_key(|(source, id)| (source.id, *id));
            Course::Ids { current: None, rest: rest.into() }
        };
        Ok(Self {
            registry: registry.clone(),
            queue: queue.clone(),
            state: choice.state,
            condition,
            now,
            deadline: clock::instant() + choice.time(),
            course,
            put_back: None,
            stop_at_end: false,
            done: 0,
        })
    }

    /// What comes from now on is left out.
    pub(in crate::server::operator) fn stop_at_end_of_now(&mut self) {
        self.stop_at_end = true;
        if let Course::Through { current, .. } = &mut self.course {
            *current = current.take().map(|(source, scan)| (source, scan.stop_at_end_of_now()));
        }
    }

    /// From now on it may take this long.
    pub(in crate::server::operator) fn renew(&mut self, time: Duration) {
        self.deadline = clock::instant() + time;
    }

    /// The next message that is meant, and the queue that it is in; `None` at the end, or when time is up.
    pub(in crate::server::operator) async fn next(&mut self) -> Result<Option<(Arc<QueueCell>, Seen)>, OperatorError> {
        if let Some(back) = self.put_back.take() {
            return Ok(Some(back));
        }
        while let Some((source, seen)) = self.next_of_any().await? {
            if self.is_meant(&source, &seen) {
                return Ok(Some((source, seen)));
            }
        }
        Ok(None)
    }

    /// Has a message come again.
    pub(super) fn put_back(&mut self, source: Arc<QueueCell>, seen: Seen) {
        self.put_back = Some((source, seen));
    }

    fn is_meant(&self, source: &Arc<QueueCell>, seen: &Seen) -> bool {
        let message = seen.message();
        if !self.condition.is_met(&message, self.now) {
            return false;
        }
        if self.state != MessageState::Delayed {
            return true;
        }
        let keys = routing_keys(&message);
        let routing = Routing::new(&keys, message.properties(), self.registry.random());
        let route = source.vhost.state.read().route(source.name.as_bytes(), &routing);
        route.is_some_and(|route| route.queues.contains(&self.queue.id))
    }

    async fn next_of_any(&mut self) -> Result<Option<(Arc<QueueCell>, Seen)>, OperatorError> {
        let unreadable =
            |_| OperatorError::Unsupported("the store cannot read the messages now; see the broker's log".to_owned());
        let deadline = self.deadline;
        let in_time = || clock::instant() < deadline;
        let wanted = self.state.wanted();
        loop {
            match &mut self.course {
                Course::Through { current, rest } => {
                    let Some((source, scan)) = current else { return Ok(None) };
                    if let Some(seen) = scan.next(in_time).await.map_err(unreadable)? {
                        return Ok(Some((source.clone(), seen)));
                    }
                    if scan.cursor().is_some() {
                        return Ok(None);
                    }
                    self.done += scan.count;
                    let (registry, stop_at_end) = (&self.registry, self.stop_at_end);
                    *current = rest.pop_front().map(|source| {
                        let scan = Scan::new(registry, &source, wanted, None);
                        (source, if stop_at_end { scan.stop_at_end_of_now() } else { scan })
                    });
                }
                Course::Ids { current, rest } => {
                    if !in_time() {
                        return Ok(None);
                    }
                    let Some((source, id)) = rest.pop_front() else { return Ok(None) };
                    let (_, scan) = match current {
                        Some((same, scan)) if same.id == source.id => {
                            scan.seek(id);
                            (same, scan)
                        }
                        other => {
                            let (source, scan) =
                                other.insert((source.clone(), Scan::new(&self.registry, &source, wanted, Some(id))));
                            (source, scan)
                        }
                    };
                    // Whoever asks for one message is told of it, if it is there.
                    let seen = scan.next(|| true).await.map_err(unreadable)?;
                    self.done += 1;
                    if let Some(seen) = seen {
                        if seen.id == id {
                            return Ok(Some((source, seen)));
                        }
                        scan.put_back(seen);
                    }
                }
            }
        }
    }

    /// Where to go on; `None` at the end. Ids have no cursor: those that were not looked at are asked for again.
    pub(in crate::server::operator) fn cursor(&self) -> Option<String> {
        if let Some((source, seen)) = &self.put_back {
            return Some(shown_id(source, seen.id));
        }
        match &self.course {
            Course::Through { current, rest } => {
                let (source, scan) = current.as_ref()?;
                match scan.cursor() {
                    Some(id) => Some(shown_id(source, id)),
                    None => rest.front().map(|source| shown_id(source, MessageId { lane: u8::MAX, seq: 0 })),
                }
            }
            Course::Ids { rest, .. } => rest.front().map(|(source, id)| shown_id(source, *id)),
        }
    }

    /// How many messages were looked at.
    pub(in crate::server::operator) fn scanned(&self) -> u64 {
        match &self.course {
            Course::Through { current, .. } => self.done + current.as_ref().map_or(0, |(_, scan)| scan.count),
            Course::Ids { .. } => self.done,
        }
    }
}

/// The internal queues of a vhost's delayed-message exchanges, by number.
fn delay_queues(registry: &Arc<Registry>, queue: &QueueCell) -> Vec<Arc<QueueCell>> {
    let ids = queue.vhost.state.read().delay_queues();
    ids.into_iter().filter_map(|id| registry.queue(id)).collect()
}
