//! Messages in queues: looking at them without taking them, deleting and moving chosen ones.
//!
//! All of it goes through a queue step by step ([`Scan`](crate::server::scan::Scan)), off the data path, and ends when enough
//! was found, at the end of the queue, or when its time is up; then a cursor says where to go on.

mod choice;
mod info;
mod mover;
mod walk;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Operator, OperatorError};
use crate::engine::message::Timestamp;
use crate::engine::queue::{MessageId, Pick, Seen, Standing};
use crate::server::clock;
use crate::server::queue_cell::QueueCell;
use crate::server::transfer::{Load, Parcel, Stays};
use crate::server::work::Work;

pub(super) use choice::parsed_condition;
pub(crate) use choice::{Choice, MessageState};
pub(crate) use info::{BodyWish, HolderInfo, MessageInfo};
pub(crate) use mover::Destination;
pub(super) use mover::{Headers, Mover};
pub(super) use walk::Walk;

/// Messages of one answer, unless somebody asks for another number.
const LIMIT_DEFAULT: u64 = 100;
/// Messages of one answer at most.
const LIMIT_MAX: u64 = 10_000;
/// Octets of bodies and properties in one answer, after which it ends.
const ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// Messages that are deleted or moved in one transaction.
pub(super) const STEP_MESSAGES: usize = 128;
/// Octets of bodies moved in one transaction, or a little more.
pub(super) const STEP_BYTES: u64 = 1024 * 1024;
/// How long connections may take to say which messages they hold.
const HOLDS_TIMEOUT: Duration = Duration::from_secs(2);
/// Reasons told of messages that stay, at most.
pub(super) const FAILURES_MAX: usize = 20;

/// What is to be shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PeekQuestion {
    /// Which messages.
    pub(crate) choice: Choice,
    /// How much of their bodies.
    pub(crate) body: BodyWish,
    /// Octets of a body's head.
    pub(crate) body_bytes: Option<usize>,
}

/// Messages that were found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Peeked {
    pub(crate) messages: Vec<MessageInfo>,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<String>,
    /// How many were looked at.
    pub(crate) scanned: u64,
}

/// What became of chosen messages.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Changed {
    /// Deleted, or moved.
    pub(crate) count: u64,
    /// Messages that were chosen and stay, with the reasons of some of them.
    pub(crate) failed: u64,
    pub(crate) failures: Vec<Failure>,
    /// Ids that no ready message has.
    pub(crate) not_found: Vec<String>,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<String>,
    /// How many were looked at.
    pub(crate) scanned: u64,
}

/// A message that stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    pub(crate) id: String,
    pub(crate) reason: String,
}

/// What is to be done with chosen messages.
enum Act {
    Delete,
    Move(Mover),
}

impl Operator {
    /// Shows messages of a queue. Nothing changes for them.
    pub(crate) async fn peek_messages(
        &self,
        vhost: &str,
        queue: &str,
        question: &PeekQuestion,
    ) -> Result<Peeked, OperatorError> {
        let cell = self.queue_cell(vhost, queue)?;
        let now = clock::now();
        let mut walk = Walk::new(&self.registry, &cell, &question.choice, now)?;
        let limit = question.choice.limit(LIMIT_DEFAULT, LIMIT_MAX);
        let (mut found, mut messages, mut octets) = (Vec::new(), Vec::new(), 0);
        while (messages.len() as u64) < limit && octets < ANSWER_BYTES {
            let Some((source, seen)) = walk.next().await? else { break };
            let info = MessageInfo::new(&source, &seen, question, now);
            octets += info.payload.as_ref().map_or(0, String::len) + seen.message().properties().len();
            if seen.standing == Standing::Unacked {
                found.push((seen.id, seen.delivered_at, messages.len()));
            }
            messages.push(info);
        }
        let holders = self.holders(&cell, found.iter().map(|(id, ..)| *id).collect()).await;
        for (id, delivered_at, at) in found {
            let since = delivered_at.map(Timestamp::as_millis);
            messages[at].holder = holders.get(&id).map(|holder| HolderInfo { since, ..holder.clone() });
        }
        Ok(Peeked { messages, next: walk.cursor(), scanned: walk.scanned() })
    }

    /// Who holds these unacked messages, as far as the connections tell.
    async fn holders(&self, cell: &Arc<QueueCell>, messages: HashSet<MessageId>) -> HashMap<MessageId, HolderInfo> {
        let mut holders = HashMap::new();
        if messages.is_empty() {
            return holders;
        }
        let messages = Arc::new(messages);
        let there = |vhost: &Arc<crate::server::registry::VhostCell>| Arc::ptr_eq(vhost, &cell.vhost);
        let asked: Vec<_> = self
            .registry
            .connections()
            .into_iter()
            .filter(|connection| there(&connection.vhost))
            .map(|connection| (connection.outbox.ask_holds(cell.id, messages.clone()), connection))
            .collect();
        let deadline = clock::instant() + HOLDS_TIMEOUT;
        for (mut answer, connection) in asked {
            let left = deadline.saturating_duration_since(clock::instant());
            let held = match tokio::time::timeout(left, &mut answer).await {
                Ok(held) => held.unwrap_or_default(),
                Err(_) => answer.try_recv().unwrap_or_default(),
            };
            for each in held {
                let facts = &connection.facts;
                let number = each.channel.get();
                let holder = HolderInfo {
                    connection: facts.name(),
                    connection_pid: self.connection_pid(facts.id),
                    channel: number,
                    channel_pid: self.pid(facts.id.get(), number.into()),
                    user: facts.user.to_string(),
                    consumer_tag: each.consumer_tag.map(|tag| tag.to_string()),
                    since: None,
                };
                holders.insert(each.message, holder);
            }
        }
        holders
    }

    /// Deletes chosen messages that are ready. They are not dead-lettered.
    pub(crate) async fn delete_messages(
        &self,
        vhost: &str,
        queue: &str,
        choice: &Choice,
    ) -> Result<Changed, OperatorError> {
        let cell = self.queue_cell(vhost, queue)?;
        let changed = self.change(&cell, choice, &Act::Delete).await?;
        if changed.count > 0 {
            tracing::info!(queue, vhost, deleted = changed.count, "messages deleted by an operator");
        }
        Ok(changed)
    }

    /// Moves chosen messages that are ready. What each of them does to all queues is one transaction.
    pub(crate) async fn move_messages(
        &self,
        vhost: &str,
        queue: &str,
        choice: &Choice,
        to: &Destination,
    ) -> Result<Changed, OperatorError> {
        let cell = self.queue_cell(vhost, queue)?;
        let mover = Mover::new(self, &cell, to, Headers::Untouched)?;
        let changed = self.change(&cell, choice, &Act::Move(mover)).await?;
        if changed.count > 0 {
            tracing::info!(queue, vhost, moved = changed.count, "messages moved by an operator");
        }
        Ok(changed)
    }

    async fn change(&self, cell: &Arc<QueueCell>, choice: &Choice, act: &Act) -> Result<Changed, OperatorError> {
        if cell.stream.is_some() {
            return Err(OperatorError::Unsupported("messages of a stream cannot be deleted or moved".to_owned()));
        }
        let choice = choice.of_ready()?;
        let mut walk = Walk::new(&self.registry, cell, &choice, clock::now())?;
        walk.stop_at_end_of_now();
        let limit = choice.limit(u64::MAX, u64::MAX);
        let mut changed = Changed::default();
        let mut chosen = 0;
        let mut found = HashSet::new();
        loop {
            let (mut step, mut octets) = (Vec::new(), 0);
            while step.len() < STEP_MESSAGES && octets < STEP_BYTES && chosen < limit {
                let Some((source, seen)) = walk.next().await? else { break };
                if step.first().is_some_and(|(first, _): &(Arc<QueueCell>, Seen)| first.id != source.id) {
                    walk.put_back(source, seen);
                    break;
                }
                chosen += 1;
                octets += seen.message().body_len() as u64;
                step.push((source, seen));
            }
            let Some((source, _)) = step.first().cloned() else { break };
            let all: Vec<Seen> = step.into_iter().map(|(_, seen)| seen).collect();
            found.extend(all.iter().map(|seen| walk::shown_id(&source, seen.id)));
            let (count, failures) = self.act(&source, &all, act);
            changed.count += count;
            changed.failed += failures.len() as u64;
            let room = FAILURES_MAX - changed.failures.len();
            changed.failures.extend(failures.into_iter().take(room));
            self.registry.flushed().await;
        }
        changed.not_found = choice.ids.iter().filter(|id| !found.contains(*id)).cloned().collect();
        changed.next = walk.cursor();
        changed.scanned = walk.scanned();
        Ok(changed)
    }

    /// Deletes or moves messages of one queue. Returns how many, and which stay for what reason.
    fn act(&self, source: &Arc<QueueCell>, all: &[Seen], act: &Act) -> (u64, Vec<Failure>) {
        let (mut work, now) = (Work::default(), clock::now());
        let mut failures = Vec::new();
        let taken = match act {
            Act::Delete => {
                let picks: Vec<Pick> = all.iter().map(Seen::pick).collect();
                let taken = source.turn(&self.registry, &mut work, |queue, fx| queue.withdraw(now, &picks, fx));
                taken.unwrap_or_default()
            }
            Act::Move(mover) => {
                let mut load = Load::default();
                let mut parcels: Vec<Parcel> = Vec::with_capacity(all.len());
                for seen in all {
                    match mover.pack(source, seen, now, &mut load) {
                        Ok(parcel) => parcels.push(parcel),
                        Err(stays) => {
                            failures.push(Failure { id: walk::shown_id(source, seen.id), reason: stays.to_string() });
                        }
                    }
                }
                self.registry.carry_over(source, &parcels, now, &mut work)
            }
        };
        self.registry.finish(&mut work, None);
        (taken.iter().filter(|taken| **taken).count() as u64, failures)
    }
}

impl std::fmt::Display for Stays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unroutable => "no queue would get it",
            Self::Full => "a queue that would get it is full",
        })
    }
}
