//! What must be, may be and must not be in the queues, and the comparison with what is.
//!
//! A message is one token for each queue that it was routed to. A token lies in its home queue, or in that queue's graveyard
//! once it died, or it is gone. What clients did since the last look says where it may be now; what one operation did to
//! several tokens (a [`Group`]) must show as a whole or not at all. After a comparison everything is certain again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write;

use crate::log::{Delivery, Done, Ending, Log, Published, Removal, Settlement, Transaction, Verdict};
use crate::messages::{Came, MessageId, Queue, Sent};

/// Problems described in full.
const PROBLEMS_SHOWN: usize = 8;

/// Rounds after which a message that is gone is forgotten, if it does not turn up again before. A message that nobody
/// knows is a problem, too; only its history is lost.
const REMEMBERED_ROUNDS: u32 = 4;

/// What happened before a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// kill -9: nobody knows what was delivered, and only what is stored is there.
    Kill,
    /// An orderly stop: only what is stored is there.
    Stop,
    /// All connections were lost, and the broker went on.
    Cut,
}

impl After {
    /// What became of the broker, by what it says when it starts.
    pub const fn start(clean: bool) -> Self {
        if clean { Self::Stop } else { Self::Kill }
    }
}

/// How sure something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Certainty {
    No,
    Perhaps,
    Yes,
}

#[derive(Clone, Debug)]
struct Token {
    home: Queue,
    /// Where it was at the last look, or where it was published since; `None` once it is gone.
    at: Option<Queue>,
    exists: Certainty,
    acked: Certainty,
    /// How many operations may have taken it away: it goes back to its queue when a consumer goes, and to another one.
    takers: u32,
    /// Whether it left its home for the graveyard because somebody said so.
    rejected: Certainty,
    /// It was there at the last look.
    old: bool,
}

impl Token {
    /// Whether it may have gone from its home to the graveyard since the last look.
    fn may_have_died(&self) -> bool {
        self.at == Some(self.home) && (self.rejected != Certainty::No || self.home.drains_itself())
    }

    fn must_be_there(&self) -> bool {
        self.at.is_some() && self.exists == Certainty::Yes && self.acked == Certainty::No
    }

    /// The places where it may lie.
    fn chain(&self) -> impl Iterator<Item = Queue> {
        [Some(self.home), self.home.graveyard()].into_iter().flatten()
    }
}

#[derive(Clone, Debug)]
struct Known {
    sent: Sent,
    tokens: Vec<Token>,
    /// Queues that it was delivered from, and whether it once came without the flag of a redelivery.
    delivered: BTreeMap<Queue, bool>,
    /// What happened in which round, for messages of failure.
    history: Vec<(u32, String)>,
}

/// What one operation in doubt did: it created tokens and acked tokens.
#[derive(Debug)]
struct Group {
    created: Vec<(MessageId, Queue)>,
    acked: Vec<(MessageId, Queue)>,
}

/// A message as it was found in a queue.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: MessageId,
    pub redelivered: bool,
    pub came: Came,
}

/// What is in each queue, in order.
pub type Contents = BTreeMap<Queue, Vec<Seen>>;

/// How much was seen, so that a test that sees nothing does not pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub published: usize,
    pub confirmed: usize,
    pub transactions: usize,
    pub deliveries: usize,
    pub found: usize,
    pub moved: usize,
    /// Those of them that had come back too often.
    pub given_up: usize,
    /// Tokens of which it was not certain whether they would be there.
    pub in_doubt: usize,
    /// Operations on several queues whose outcome was not known.
    pub groups_in_doubt: usize,
    /// Purged queues and deleted queues.
    pub removals: usize,
    /// Acks and rejects that were known to be stored.
    pub settled_for_sure: usize,
}

/// Everything that is known about the messages.
#[derive(Debug, Default)]
pub struct Ledger {
    round: u32,
    messages: HashMap<MessageId, Known>,
    /// Messages with a token that is not gone.
    live: BTreeSet<MessageId>,
    groups: Vec<Group>,
    /// Messages that were found to be gone, by the round in which they were.
    gone: Vec<(u32, MessageId)>,
    problems: Vec<String>,
    pub totals: Totals,
}

impl Ledger {
    pub fn begin_round(&mut self, round: u32) {
        self.round = round;
    }

    pub const fn round(&self) -> u32 {
        self.round
    }

    /// Problems found so far, described; `None` if there are none.
    pub fn verdict(&self) -> Option<String> {
        if self.problems.is_empty() {
            return None;
        }
        let mut text = format!("{} problems in round {}:", self.problems.len(), self.round);
        for problem in self.problems.iter().take(PROBLEMS_SHOWN) {
            write!(text, "\n- {problem}").expect("strings take everything");
        }
        Some(text)
    }

    fn problem(&mut self, what: &str, id: MessageId) {
        let known = match self.messages.get(&id) {
            Some(Known { sent, history, .. }) => format!("{sent:?}; {history:?}"),
            None => "never published".to_owned(),
        };
        self.problems.push(format!("{id:?}: {what} ({known})"));
    }

    fn note(&mut self, id: MessageId, event: impl Into<String>) {
        if let Some(known) = self.messages.get_mut(&id) {
            known.history.push((self.round, event.into()));
        }
    }

    /// Takes in what the clients of a round did and saw.
    pub fn absorb(&mut self, log: Log) {
        self.problems.extend(log.problems);
        for published in log.published {
            self.on_published(published);
        }
        for transaction in log.transactions {
            self.on_transaction(transaction);
        }
        let mut settled = BTreeSet::new();
        for settlement in &log.settlements {
            self.on_settlement(settlement);
            let Settlement { queue, id, verdict, .. } = *settlement;
            // Where nobody leaves, what left the queue cannot be delivered from it once more.
            let leaves = verdict != Verdict::Requeue && !log.deserted.contains(&queue);
            if leaves && !settled.insert((queue, id)) {
                self.problem(&format!("settled twice in {}", queue.name()), id);
            }
        }
        self.on_auto_ack(&log.auto_acked);
        for removal in &log.removals {
            self.on_removal(removal);
        }
        self.on_deliveries(log.deliveries, &log.deserted);
    }

    fn add(&mut self, sent: Sent, exists: Certainty, event: String) {
        let at = |home| (exists != Certainty::No).then_some(home);
        let token = |home| Token {
            home,
            at: at(home),
            exists,
            acked: Certainty::No,
            takers: 0,
            rejected: Certainty::No,
            old: false,
        };
        let tokens = sent.route.queues().into_iter().map(token).collect();
        let known = Known { sent, tokens, delivered: BTreeMap::new(), history: vec![(self.round, event)] };
        if exists == Certainty::No {
            self.gone.push((self.round, sent.id));
        } else {
            self.live.insert(sent.id);
        }
        if self.messages.insert(sent.id, known).is_some() {
            self.problem("published twice: the test is wrong", sent.id);
        }
    }

    fn on_published(&mut self, published: Published) {
        let Published { sent, confirmed } = published;
        self.totals.published += 1;
        self.totals.confirmed += usize::from(confirmed);
        if confirmed {
            self.add(sent, Certainty::Yes, "confirmed".to_owned());
            return;
        }
        self.add(sent, Certainty::Perhaps, "not confirmed".to_owned());
        let created: Vec<_> = sent.route.queues().into_iter().map(|queue| (sent.id, queue)).collect();
        if created.len() > 1 && sent.persistent {
            self.groups.push(Group { created, acked: Vec::new() });
        }
    }

    fn on_transaction(&mut self, transaction: Transaction) {
        let Transaction { created, acked, ending } = transaction;
        self.totals.transactions += 1;
        let certainty = match ending {
            Ending::Committed => Certainty::Yes,
            Ending::InDoubt => Certainty::Perhaps,
            Ending::RolledBack => Certainty::No,
        };
        for sent in &created {
            self.add(*sent, certainty, format!("published in a transaction, {ending:?}"));
        }
        let first = created.first().map(|sent| sent.id);
        for &(queue, id) in &acked {
            self.note(id, format!("acked in {} in a transaction, {ending:?}, with {first:?}", queue.name()));
            let token = self.token_in(id, queue);
            match token {
                // It is settled once; a second transaction can only have it after the first was rolled back. In other
                // queues it may come back from a consumer whose ack was not read.
                Some(token) if queue == Queue::TxIn && certainty != Certainty::No && token.acked != Certainty::No => {
                    self.problem("acked in two transactions", id);
                }
                Some(token) => {
                    token.acked = token.acked.max(certainty);
                    token.takers += u32::from(certainty != Certainty::No);
                }
                None => self.problem(&format!("delivered from {}, where it cannot be", queue.name()), id),
            }
        }
        if ending == Ending::InDoubt {
            let created = created.iter().flat_map(|sent| sent.route.queues().into_iter().map(|queue| (sent.id, queue)));
            let acked = acked.into_iter().map(|(queue, id)| (id, queue)).collect();
            self.groups.push(Group { created: created.collect(), acked });
        }
    }

    /// The token that lies or may come to lie in this queue.
    fn token_in(&mut self, id: MessageId, queue: Queue) -> Option<&mut Token> {
        let known = self.messages.get_mut(&id)?;
        known.tokens.iter_mut().find(|token| token.at.is_some() && token.chain().any(|place| place == queue))
    }

    fn on_settlement(&mut self, settlement: &Settlement) {
        let Settlement { queue, id, verdict, stored } = *settlement;
        self.note(id, format!("{verdict:?} in {}{}", queue.name(), if stored { ", stored" } else { "" }));
        let certainty = if stored { Certainty::Yes } else { Certainty::Perhaps };
        self.totals.settled_for_sure += usize::from(stored && verdict != Verdict::Requeue);
        if verdict != Verdict::Requeue
            && let Some(token) = self.token_in(id, queue)
        {
            token.takers += 1;
        }
        match (self.token_in(id, queue), verdict) {
            // Reported with the delivery.
            (None, _) | (_, Verdict::Requeue) => {}
            (Some(token), Verdict::Ack) => token.acked = token.acked.max(certainty),
            (Some(token), Verdict::Reject) => token.rejected = token.rejected.max(certainty),
        }
    }

    /// A queue without consumers lost what was in it, all at once.
    fn on_removal(&mut self, removal: &Removal) {
        let Removal { queue, stream, below, done } = *removal;
        let certainty = match done {
            Done::No => return,
            Done::InDoubt => Certainty::Perhaps,
            Done::Yes => Certainty::Yes,
        };
        self.totals.removals += 1;
        let mut removed = Vec::new();
        for id in &self.live {
            let Some(known) = self.messages.get_mut(id) else { continue };
            let before = id.stream == stream && id.number < below;
            for token in known.tokens.iter_mut().filter(|token| token.at == Some(queue) && (token.old || before)) {
                if token.acked == Certainty::No {
                    removed.push((*id, queue));
                }
                token.takers += 1;
                token.acked = token.acked.max(certainty);
            }
        }
        for (id, _) in &removed {
            self.note(*id, format!("removed with all in {}, {done:?}", queue.name()));
        }
        if done == Done::InDoubt {
            self.groups.push(Group { created: Vec::new(), acked: removed });
        }
    }

    /// What a consumer without acks got is gone, whether it arrived or not.
    fn on_auto_ack(&mut self, queues: &BTreeSet<Queue>) {
        for id in &self.live {
            let Some(known) = self.messages.get_mut(id) else { continue };
            for token in known.tokens.iter_mut().filter(|token| queues.contains(&token.home)) {
                token.acked = token.acked.max(Certainty::Perhaps);
                token.takers += 1;
            }
        }
    }

    /// Checks deliveries: known messages, as they were published, flagged as they must be, in order.
    fn on_deliveries(&mut self, deliveries: Vec<Delivery>, deserted: &BTreeSet<Queue>) {
        self.totals.deliveries += deliveries.len();
        let mut last: HashMap<(u32, Queue, u32, u8), u32> = HashMap::new();
        let mut first: BTreeSet<(Queue, MessageId)> = BTreeSet::new();
        for delivery in deliveries.iter().filter(|delivery| !delivery.redelivered) {
            first.insert((delivery.queue, delivery.id));
        }
        for delivery in deliveries {
            let Delivery { queue, id, redelivered, consumer, came } = delivery;
            self.note(id, format!("delivered from {} to {consumer}, {}", queue.name(), flag(redelivered)));
            let Some(token) = self.token_in(id, queue) else {
                self.problem(&format!("delivered from {}, where it cannot be", queue.name()), id);
                continue;
            };
            let (old, at, home) = (token.old, token.at, token.home);
            if old && at != Some(home) && queue == home {
                self.problem(&format!("delivered from {} after it died there", queue.name()), id);
                continue;
            }
            let known = self.messages.get_mut(&id).expect("it has a token");
            let came_unflagged = known.delivered.get(&queue).copied();
            let slot = known.delivered.entry(queue).or_insert(false);
            *slot |= !redelivered;
            let sent = known.sent;
            if let Some(fault) = sent.fault(queue, &came) {
                self.problem(&fault, id);
            }
            if !redelivered && came_unflagged == Some(true) {
                self.problem(&format!("delivered from {} again, without the flag", queue.name()), id);
            }
            // Everything that was there at the last look had been delivered then.
            if !redelivered && old && at == Some(queue) {
                self.problem(&format!("delivered from {} without the flag after a restart", queue.name()), id);
            }
            let is_new = !old || at != Some(queue);
            if redelivered && is_new && !deserted.contains(&queue) && !first.contains(&(queue, id)) {
                self.problem(&format!("flagged at its first delivery from {}", queue.name()), id);
            }
            if !redelivered && queue.death().is_none() {
                let last = last.entry((consumer, queue, id.stream, sent.priority)).or_insert(id.number);
                let before = std::mem::replace(last, id.number);
                if before > id.number {
                    self.problem(&format!("delivered from {} after {before}", queue.name()), id);
                }
            }
        }
    }

    /// Tokens that must be in one of two queues and have been seen in neither, because they move by themselves.
    pub fn in_transit(&self, contents: &Contents, after: After) -> Vec<MessageId> {
        let mut found = HashSet::new();
        for (&queue, seen) in contents {
            found.extend(seen.iter().map(|seen| (queue, seen.id)));
        }
        let moving = |id: &&MessageId| {
            let known = &self.messages[*id];
            let seen = |token: &Token| token.chain().any(|queue| found.contains(&(queue, **id)));
            (known.sent.persistent || after == After::Cut)
                && known.tokens.iter().any(|token| token.home.drains_itself() && token.must_be_there() && !seen(token))
        };
        self.live.iter().filter(moving).copied().collect()
    }

    /// Compares what was found with what must, may and must not be there.
    pub fn compare(&mut self, contents: &Contents, after: After) {
        let mut places: HashMap<MessageId, Vec<Queue>> = HashMap::new();
        for (&queue, found) in contents {
            self.totals.found += found.len();
            self.check_order(queue, found);
            for seen in found {
                self.check_found(queue, seen, after);
                places.entry(seen.id).or_default().push(queue);
            }
        }
        let live: Vec<_> = self.live.iter().copied().collect();
        let mut located: HashMap<(MessageId, Queue), Option<Queue>> = HashMap::new();
        for id in live {
            let found = places.remove(&id).unwrap_or_default();
            self.check_places(id, found, after, &mut located);
        }
        for (id, found) in places {
            let names: Vec<_> = found.iter().map(|queue| queue.name()).collect();
            self.problem(&format!("found in {names:?}, but it was gone"), id);
        }
        for group in std::mem::take(&mut self.groups) {
            self.check_group(&group, &located);
        }
        self.settle_accounts(&located);
        self.forget();
    }

    /// Forgets what has been gone for long.
    fn forget(&mut self) {
        let (round, messages) = (self.round, &mut self.messages);
        self.gone.retain(|(gone, id)| {
            let recent = gone + REMEMBERED_ROUNDS > round;
            if !recent {
                messages.remove(id);
            }
            recent
        });
    }

    fn check_order(&mut self, queue: Queue, found: &[Seen]) {
        if queue.death().is_some() {
            return;
        }
        let mut last: HashMap<(u32, u8), u32> = HashMap::new();
        let mut last_priority = u8::MAX;
        for seen in found {
            let Some(known) = self.messages.get(&seen.id) else { continue };
            let priority = known.sent.priority;
            if priority > last_priority {
                self.problem(&format!("found in {} behind a lower priority", queue.name()), seen.id);
            }
            last_priority = priority;
            let number = seen.id.number;
            if let Some(before) = last.insert((seen.id.stream, priority), number)
                && before >= number
            {
                self.problem(&format!("found in {} behind {before} of its stream", queue.name()), seen.id);
            }
        }
    }

    fn check_found(&mut self, queue: Queue, seen: &Seen, after: After) {
        let Some(known) = self.messages.get(&seen.id) else { return };
        if let Some(fault) = known.sent.fault(queue, &seen.came) {
            self.problem(&format!("found in {}: {fault}", queue.name()), seen.id);
            return;
        }
        // A message may have died after the restart: then it is new in its graveyard.
        let may_be_new = queue.death().is_some_and(|(source, _)| source.drains_itself());
        let must_be_flagged = match after {
            After::Kill => !may_be_new,
            After::Stop | After::Cut => known.delivered.contains_key(&queue),
        };
        if must_be_flagged && !seen.redelivered {
            self.problem(&format!("found in {} without the flag", queue.name()), seen.id);
        }
    }

    fn check_places(
        &mut self,
        id: MessageId,
        mut found: Vec<Queue>,
        after: After,
        located: &mut HashMap<(MessageId, Queue), Option<Queue>>,
    ) {
        let known = &self.messages[&id];
        // Without a restart memory is as good as disk.
        let persistent = known.sent.persistent || after == After::Cut;
        let mut faults = Vec::new();
        for token in known.tokens.iter().filter(|token| token.at.is_some()) {
            let here: Vec<_> = found.extract_if(.., |queue| token.chain().any(|place| place == *queue)).collect();
            let names: Vec<_> = here.iter().map(|queue| queue.name()).collect();
            let place = here.first().copied();
            located.insert((id, token.home), place);
            if here.len() > 1 {
                faults.push(format!("found more than once: {names:?}"));
                continue;
            }
            self.totals.in_doubt += usize::from(!token.must_be_there());
            match place {
                None if persistent && token.must_be_there() => {
                    faults.push(format!("LOST from {}", token.at.unwrap_or(token.home).name()));
                }
                None => {}
                Some(queue) if !persistent => {
                    faults.push(format!("found in {} though it is transient", queue.name()));
                }
                Some(queue) if token.acked == Certainty::Yes => {
                    faults.push(format!("found in {} after it was removed for good", queue.name()));
                }
                Some(queue) if queue == token.home && token.rejected == Certainty::Yes => {
                    faults.push(format!("found in {} after its death was stored", queue.name()));
                }
                Some(queue) => {
                    let died = token.at != Some(queue);
                    self.totals.moved += usize::from(died);
                    self.totals.given_up += usize::from(died && queue == Queue::GivenUp);
                    if died && !token.may_have_died() {
                        faults.push(format!("moved from {:?} to {} for no reason", token.at, queue.name()));
                    }
                }
            }
        }
        faults.extend(found.into_iter().map(|queue| format!("found in {}, where it cannot be", queue.name())));
        for fault in faults {
            self.problem(&fault, id);
        }
    }

    /// An operation in doubt was done as a whole or not at all.
    fn check_group(&mut self, group: &Group, located: &HashMap<(MessageId, Queue), Option<Queue>>) {
        self.totals.groups_in_doubt += 1;
        let is_there = |token: &(MessageId, Queue)| located.get(token).is_some_and(Option::is_some);
        // What was acked since says nothing by its absence.
        let is_missing = |token: &(MessageId, Queue)| {
            let (id, home) = *token;
            let tokens = &self.messages[&id].tokens;
            let unacked = tokens.iter().any(|token| token.home == home && token.acked == Certainty::No);
            unacked && !is_there(&(id, home))
        };
        // Only of what certainly existed, and nobody else may have taken, does absence say that the ack was carried out.
        let is_acked = |token: &(MessageId, Queue)| {
            let (id, home) = *token;
            let tokens = &self.messages[&id].tokens;
            let mut mine = tokens.iter().filter(|token| token.home == home);
            let existed = mine.any(|token| token.exists == Certainty::Yes && token.takers <= 1);
            existed && self.messages[&id].sent.persistent && !is_there(&(id, home))
        };
        let done =
            group.created.iter().find(|token| is_there(token)).or(group.acked.iter().find(|token| is_acked(token)));
        let undone =
            group.created.iter().find(|token| is_missing(token)).or(group.acked.iter().find(|token| is_there(token)));
        if let (Some(&(done, done_in)), Some(&(undone, undone_in))) = (done, undone) {
            let what = format!(
                "one operation was done here ({}) but not for {undone:?} ({}); it was to create {:?} and to ack {:?}",
                done_in.name(),
                undone_in.name(),
                group.created,
                group.acked
            );
            self.problem(&what, done);
            self.problem("the other half of the same operation", undone);
        }
    }

    /// Takes what was found as what is.
    fn settle_accounts(&mut self, located: &HashMap<(MessageId, Queue), Option<Queue>>) {
        let mut gone = Vec::new();
        for id in &self.live {
            let Some(known) = self.messages.get_mut(id) else { continue };
            for token in known.tokens.iter_mut().filter(|token| token.at.is_some()) {
                let place = located.get(&(*id, token.home)).copied().flatten();
                known.history.push((
                    self.round,
                    match place {
                        Some(queue) => format!("then found in {}", queue.name()),
                        None => format!("then gone from {}", token.home.name()),
                    },
                ));
                *token = Token {
                    home: token.home,
                    at: place,
                    exists: Certainty::Yes,
                    acked: Certainty::No,
                    takers: 0,
                    rejected: Certainty::No,
                    old: true,
                };
                // A move that the crash undid will be made again, with a new copy.
                for queue in token.chain().filter(|queue| Some(*queue) != place) {
                    known.delivered.remove(&queue);
                }
                if let Some(queue) = place {
                    known.delivered.entry(queue).or_insert(false);
                }
            }
            if known.tokens.iter().all(|token| token.at.is_none()) {
                gone.push(*id);
            }
        }
        for id in gone {
            self.live.remove(&id);
            self.gone.push((self.round, id));
        }
    }

    /// These were acked in a transaction that was committed: they must never be seen again.
    pub fn removed(&mut self, queue: Queue, ids: &[MessageId]) {
        for &id in ids {
            self.note(id, format!("removed from {}", queue.name()));
            if let Some(token) = self.token_in(id, queue) {
                token.at = None;
            }
            if self.messages[&id].tokens.iter().all(|token| token.at.is_none()) {
                self.live.remove(&id);
                self.gone.push((self.round, id));
            }
        }
    }
}

const fn flag(redelivered: bool) -> &'static str {
    if redelivered { "redelivered" } else { "for the first time" }
}
