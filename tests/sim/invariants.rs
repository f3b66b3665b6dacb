//! The bookkeeper: what clients have seen, and what the broker may do after that.
//!
//! It knows nothing of the broker's inside. For each message and each queue that it was routed to there is a *token*; the
//! token moves to the queue of dead letters with its message. A *group* is what has to be on disk as a whole: one publish,
//! or all that a transaction did. The rules:
//!
//! - What was confirmed is there until somebody settles it; what is seen after a crash was whole on disk, so all of its
//!   group is there. What was rolled back, refused or never committed is never seen.
//! - A message is in one place: not delivered while somebody holds it, not after its ack, not after it moved.
//! - A queue keeps the order of each publisher, but for what is redelivered; what is redelivered says so, and only that.
//!
//! Where a crash or a lost connection leaves the clients in doubt, both outcomes are allowed, until one is seen.

use std::collections::{BTreeMap, BTreeSet};

use super::entities::Entities;
use super::queues::{KINDS, Kind};

/// A channel from its opening to its end.
pub(super) type Uid = u64;

/// A message in a queue, or among its dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TokenId {
    pub(super) message: u64,
    /// The queue that it was published to.
    pub(super) queue: usize,
}

/// Whether clients have settled a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Live,
    /// Perhaps: nobody knows whether the ack arrived, or was stored.
    Doubtful,
    /// For certain, at least until a crash.
    Gone,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
struct Token {
    group: u64,
    publisher: Uid,
    order: u64,
    level: u8,
    persistent: bool,
    epoch: u32,
    /// When it was published, on the bookkeeper's own clock.
    born: u64,
    fate: Fate,
    /// It is gone even after a crash.
    for_good: bool,
    /// The transaction that acked it.
    acked_by: Option<u64>,
    holder: Option<Uid>,
    seen: bool,
    seen_dead: bool,
    moved: bool,
    /// Deliveries from its first queue since the last crash.
    deliveries: u32,
    last_seen: Option<u32>,
    drained: u32,
}

/// What the broker has said of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    /// Not yet committed.
    Held,
    /// It has no effect, for ever.
    Void,
    /// Nothing was said.
    Open,
    /// It is on disk, as far as it is durable.
    Kept,
}

#[derive(Debug)]
struct Group {
    tokens: Vec<TokenId>,
    /// What a transaction acked.
    acks: Vec<TokenId>,
    promise: Promise,
    epoch: u32,
    /// Seen after a restart.
    proven: bool,
}

#[derive(Debug, Default)]
struct Touched {
    queues: BTreeSet<usize>,
    without_ack: BTreeSet<usize>,
    /// What the broker delivers to it may go back unseen.
    leaving: bool,
    /// basic.recover was sent so often and not answered.
    recovering: u32,
}

/// A message as it was delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) channel: Uid,
    pub(super) queue: usize,
    pub(super) message: u64,
    pub(super) redelivered: bool,
    pub(super) no_ack: bool,
    /// By basic.get.
    pub(super) got: bool,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ack,
    Reject,
    Requeue,
}

/// Messages that have to come in order: seen by whom (a channel, and whether by basic.get), of which publisher, queue and
/// priority.
type Line = (Option<(Uid, bool)>, Uid, usize, u8);

/// What is known of everything.
#[derive(Debug, Default)]
pub(super) struct Book {
    tokens: BTreeMap<TokenId, Token>,
    groups: BTreeMap<u64, Group>,
    channels: BTreeMap<Uid, Touched>,
    /// When somebody last lost sight of deliveries of a queue.
    blurred: BTreeMap<usize, u64>,
    /// The last order of a publisher that a channel has seen from a queue, by consumers and by basic.get apart: an answer may
    /// overtake deliveries.
    orders: BTreeMap<Line, u64>,
    epoch: u32,
    clock: u64,
    /// The broker is stopping: everybody is cut off.
    pub(super) stopping: bool,
    draining: bool,
    pub(super) counts: Counts,
    pub(super) entities: Entities,
    violation: Option<String>,
}

/// How much of everything there was, so that a test can show that it tests something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) published: u64,
    pub(super) confirmed: u64,
    pub(super) refused: u64,
    pub(super) committed: u64,
    pub(super) defined: u64,
    pub(super) delivered: u64,
    pub(super) redelivered: u64,
    pub(super) dead: u64,
    pub(super) drained: u64,
    pub(super) crashes: u64,
    pub(super) restarts: u64,
    pub(super) connections_lost: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.confirmed += other.confirmed;
        self.refused += other.refused;
        self.committed += other.committed;
        self.defined += other.defined;
        self.delivered += other.delivered;
        self.redelivered += other.redelivered;
        self.dead += other.dead;
        self.drained += other.drained;
        self.crashes += other.crashes;
        self.restarts += other.restarts;
        self.connections_lost += other.connections_lost;
    }
}

/// Whether a message must be back after a restart, as far as its queue goes.
fn is_stored(kind: &Kind, token: &Token) -> bool {
    // A transient message's dead letter is transient, and the queues of dead letters are classic.
    kind.durable && (token.persistent || (kind.quorum && kind.dead.is_none()))
}

/// Whether a message may be back after a restart.
fn may_return(kind: &Kind, token: &Token) -> bool {
    kind.durable && (token.persistent || kind.quorum)
}

impl Book {
    /// Notes that a rule was broken; the first one counts.
    pub(super) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    /// The rule that was broken.
    pub(super) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Whether a channel has taken messages of any queue.
    pub(super) fn has_touched(&self, uid: Uid) -> bool {
        self.channels.get(&uid).is_some_and(|touched| !touched.queues.is_empty())
    }

    /// Whether the broker may still hear something of a channel.
    pub(super) fn lives(&self, uid: Uid) -> bool {
        self.channels.contains_key(&uid)
    }

    /// A channel is open, or about to be.
    pub(super) fn opened(&mut self) -> Uid {
        let uid = self.tick();
        self.channels.insert(uid, Touched::default());
        uid
    }

    /// A channel takes messages of a queue from now on.
    pub(super) fn touches(&mut self, uid: Uid, queue: usize, no_ack: bool) {
        let touched = self.channels.entry(uid).or_default();
        touched.queues.insert(queue);
        if no_ack {
            touched.without_ack.insert(queue);
        }
    }

    /// A channel has ended, or nothing more is heard of it. `held` is what was delivered to it and not settled.
    pub(super) fn ended(&mut self, uid: Uid, held: impl Iterator<Item = TokenId>) {
        self.released(held);
        let now = self.tick();
        let Some(touched) = self.channels.remove(&uid) else { return };
        for &queue in &touched.queues {
            self.blurred.insert(queue, now);
        }
        // What was on its way is lost, or may have come back once too often.
        let gone = |queue: &&usize| KINDS[**queue].limit.is_some() && KINDS[**queue].dead.is_none();
        for queue in touched.without_ack.iter().chain(touched.queues.iter().filter(gone)) {
            let source = KINDS[*queue].source(*queue);
            for (id, token) in &mut self.tokens {
                if id.queue == source && token.fate == Fate::Live {
                    token.fate = Fate::Doubtful;
                }
            }
        }
    }

    /// A channel is about to end, or its client is cut off: what it has goes back, and nobody sees what it still gets.
    pub(super) fn leaves(&mut self, uid: Uid, held: impl Iterator<Item = TokenId>) {
        self.released(held);
        if let Some(touched) = self.channels.get_mut(&uid) {
            touched.leaving = true;
        }
    }

    /// basic.recover was sent, or answered: in between, what is on its way to the channel goes back unseen.
    pub(super) fn recovers(&mut self, uid: Uid, answered: bool) {
        if let Some(touched) = self.channels.get_mut(&uid) {
            touched.recovering = if answered { touched.recovering - 1 } else { touched.recovering + 1 };
        }
    }

    /// Deliveries go back to their queues.
    pub(super) fn released(&mut self, held: impl Iterator<Item = TokenId>) {
        for id in held {
            if let Some(token) = self.tokens.get_mut(&id) {
                token.holder = None;
            }
        }
    }

    /// A group to which a transaction adds until its commit.
    pub(super) fn begin(&mut self, promise_held: bool) -> u64 {
        let group = self.tick();
        let promise = if promise_held { Promise::Held } else { Promise::Open };
        let epoch = self.epoch;
        self.groups.insert(group, Group { tokens: Vec::new(), acks: Vec::new(), promise, epoch, proven: false });
        group
    }

    /// A message is sent to these queues. Returns its number.
    pub(super) fn published(&mut self, uid: Uid, group: u64, queues: &[usize], persistent: bool, priority: u8) -> u64 {
        let message = self.tick();
        self.counts.published += 1;
        let epoch = self.epoch;
        for &queue in queues {
            let id = TokenId { message, queue };
            let token = Token {
                group,
                publisher: uid,
                order: message,
                level: if KINDS[queue].priorities { priority } else { 0 },
                persistent,
                epoch,
                born: message,
                fate: Fate::Live,
                for_good: false,
                acked_by: None,
                holder: None,
                seen: false,
                seen_dead: false,
                moved: false,
                deliveries: 0,
                last_seen: None,
                drained: 0,
            };
            self.tokens.insert(id, token);
            if let Some(group) = self.groups.get_mut(&group) {
                group.tokens.push(id);
            }
        }
        message
    }

    /// tx.commit is sent, with these settlements.
    pub(super) fn committing(&mut self, uid: Uid, group: u64, settled: &[(TokenId, Outcome)]) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.promise = Promise::Open;
        }
        for &(id, outcome) in settled {
            self.settled(uid, id, outcome);
            if outcome == Outcome::Ack
                && let (Some(of_group), Some(token)) = (self.groups.get_mut(&group), self.tokens.get_mut(&id))
            {
                of_group.acks.push(id);
                token.acked_by = Some(group);
            }
        }
    }

    /// Nothing of the group counts: it was rolled back, or never committed.
    pub(super) fn voided(&mut self, group: u64) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.promise = Promise::Void;
        }
    }

    /// The broker said that the group is safe.
    pub(super) fn promised(&mut self, id: u64) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.promise = Promise::Kept;
        for ack in group.acks.clone() {
            if let Some(token) = self.tokens.get_mut(&ack) {
                token.fate = Fate::Gone;
                token.for_good = true;
                token.holder = None;
            }
        }
    }

    /// basic.nack came for a publish: some queue was full.
    pub(super) fn refused(&mut self, id: u64) {
        self.counts.refused += 1;
        let Some(group) = self.groups.get_mut(&id) else { return };
        if let [only] = group.tokens.as_slice() {
            group.promise = Promise::Void;
            let queue = KINDS[only.queue];
            if !queue.refuses {
                self.fail(|| format!("{} refused a publish", queue.name));
            }
        }
    }

    /// A client sends what becomes of a delivery. True when the message must not be seen any more once that is carried out.
    pub(super) fn settled(&mut self, uid: Uid, id: TokenId, outcome: Outcome) -> bool {
        let Some(token) = self.tokens.get_mut(&id) else { return false };
        let kind = &KINDS[id.queue];
        let lives_on = match outcome {
            Outcome::Ack => false,
            Outcome::Reject => kind.dead.is_some() && !token.moved,
            // One that came back too often may be gone.
            Outcome::Requeue => kind.limit.is_none() || kind.dead.is_some(),
        };
        if outcome == Outcome::Requeue || lives_on {
            token.holder = None;
        } else {
            // It must not be seen as long as this channel is there to ack it.
            token.holder = Some(uid);
        }
        if !lives_on && token.fate == Fate::Live {
            token.fate = Fate::Doubtful;
        }
        !lives_on && outcome != Outcome::Requeue
    }

    /// The broker has carried out the ack or reject for certain.
    pub(super) fn carried_out(&mut self, id: TokenId) {
        if let Some(token) = self.tokens.get_mut(&id) {
            token.holder = None;
            token.fate = Fate::Gone;
        }
    }

    /// A message was delivered. Returns its token; `None` if it must not exist.
    pub(super) fn delivered(&mut self, seen: Seen) -> Option<TokenId> {
        let Seen { channel, queue, message, redelivered, no_ack, got } = seen;
        let now = self.tick();
        let (epoch, draining) = (self.epoch, self.draining);
        let kind = &KINDS[queue];
        let id = TokenId { message, queue: kind.source(queue) };
        let dead = kind.letters_of.is_some();
        let Some(token) = self.tokens.get_mut(&id) else {
            self.fail(|| format!("message {message} in {} was never sent there", kind.name));
            return None;
        };
        let mut broken = Vec::new();
        let mut rule = |holds: bool, what: &str| {
            if !holds {
                broken.push(what.to_owned());
            }
        };
        let group = self.groups.get_mut(&token.group).expect("every token has its group");
        rule(group.promise != Promise::Void, "it was rolled back, refused or never committed");
        rule(group.promise != Promise::Held, "its transaction was not committed");
        let source = &KINDS[id.queue];
        rule(token.epoch == epoch || may_return(source, token), "it was transient and outlived a restart");
        rule(token.fate != Fate::Gone, "it was settled");
        let holder = token.holder.filter(|holder| self.channels.get(holder).is_some_and(|channel| !channel.leaving));
        rule(holder.is_none(), "somebody else has it, or has acked it");
        rule(dead || !token.moved, "it is a dead letter already");
        let was_seen = if dead { token.seen_dead } else { token.seen };
        rule(redelivered || !was_seen, "it is redelivered without saying so");
        let blurred = self.blurred.get(&queue).is_some_and(|blurred| *blurred > token.born)
            || self
                .channels
                .values()
                .any(|channel| (channel.leaving || channel.recovering > 0) && channel.queues.contains(&queue));
        rule(!redelivered || was_seen || blurred, "it says redelivered, but never was delivered");
        if !dead {
            token.deliveries += 1;
            rule(source.limit.is_none_or(|limit| token.deliveries <= limit + 1), "it came back too often");
        }
        let in_order = (!redelivered || draining) && !dead && source.ordered;
        if in_order {
            let channel = (!draining).then_some((channel, got));
            let last = self.orders.insert((channel, token.publisher, queue, token.level), token.order);
            rule(last.is_none_or(|last| last < token.order), "a later one came before it");
        }
        token.seen |= !dead;
        token.seen_dead |= dead;
        token.moved |= dead;
        token.last_seen = Some(epoch);
        token.holder = (!no_ack).then_some(channel);
        token.acked_by = None;
        token.fate = if no_ack { Fate::Gone } else { Fate::Live };
        if draining {
            token.drained += 1;
            self.counts.drained += 1;
        }
        // A dead letter may have been stored before what it is a copy of: by whoever made it.
        group.proven |= group.epoch < epoch && !dead;
        self.counts.delivered += 1;
        self.counts.redelivered += u64::from(redelivered);
        self.counts.dead += u64::from(dead);
        if !broken.is_empty() {
            let text = format!("message {message} from {} at {now}: {}; {token:?}", kind.name, broken.join(", "));
            self.fail(|| text);
        }
        Some(id)
    }

    /// A delivery was seen that the broker has taken back meanwhile.
    pub(super) fn glimpsed(&mut self, queue: usize, message: u64) {
        let kind = &KINDS[queue];
        if let Some(token) = self.tokens.get_mut(&TokenId { message, queue: kind.source(queue) }) {
            let dead = kind.letters_of.is_some();
            token.seen |= !dead;
            token.seen_dead |= dead;
            token.moved |= dead;
            if kind.limit.is_some() && kind.dead.is_none() && token.fate == Fate::Live {
                // It may have come back once too often.
                token.fate = Fate::Doubtful;
            }
        }
    }

    /// The broker stops in good order, or is killed. All channels have ended.
    pub(super) fn restarted(&mut self, crash: bool) {
        let now = self.tick();
        self.epoch += 1;
        self.stopping = false;
        if crash {
            self.counts.crashes += 1;
            for queue in 0..KINDS.len() {
                self.blurred.insert(queue, now);
            }
        } else {
            self.counts.restarts += 1;
        }
        for (id, token) in &mut self.tokens {
            token.holder = None;
            if crash {
                token.deliveries = 0;
                token.moved = false;
                token.seen_dead = false;
                if token.fate == Fate::Gone && !token.for_good {
                    token.fate = Fate::Doubtful;
                }
            }
            if !may_return(&KINDS[id.queue], token) {
                token.fate = Fate::Gone;
                token.for_good = true;
            }
        }
    }

    /// From now on every queue is emptied by one client, which nobody disturbs.
    pub(super) fn start_draining(&mut self) {
        self.draining = true;
    }

    /// How many messages must be in a queue or among its dead letters, with those that clients hold.
    pub(super) fn owed(&self, queue: usize) -> u64 {
        let owed = self.tokens.iter().filter(|(id, token)| id.queue == queue && self.is_owed(id, token));
        u64::try_from(owed.count()).expect("64 bits")
    }

    fn is_owed(&self, id: &TokenId, token: &Token) -> bool {
        self.is_promised(id, token) && token.fate == Fate::Live
    }

    /// Whether the message must have come into the queue, and must not have been lost by a restart.
    fn is_promised(&self, id: &TokenId, token: &Token) -> bool {
        let (group, kind) = (&self.groups[&token.group], &KINDS[id.queue]);
        // Of what was not confirmed some queues may have refused their part.
        let promised = group.promise == Promise::Kept || (group.proven && !kind.refuses);
        promised && (token.epoch == self.epoch || is_stored(kind, token))
    }

    /// All queues are empty: what was owed must have been found.
    pub(super) fn check_drained(&mut self) {
        let mut broken = Vec::new();
        for (id, token) in &self.tokens {
            let group = &self.groups[&token.group];
            let lost = token.drained == 0 && self.is_owed(id, token);
            if lost || token.drained > 1 {
                broken.push(format!("{id:?} was found {} times at the end: {token:?} of {group:?}", token.drained));
            }
        }
        for (id, group) in &self.groups {
            self.check_acks(*id, group, &mut broken);
        }
        if let Some(first) = broken.first() {
            let text = format!("{first} (and {} more)", broken.len() - 1);
            self.fail(|| text);
        }
    }

    /// A transaction whose publishes outlived a crash settled its deliveries too; one whose publishes did not, did not.
    fn check_acks(&self, number: u64, group: &Group, broken: &mut Vec<String>) {
        if group.promise != Promise::Open || group.epoch == self.epoch {
            return;
        }
        let durable = |id: &&TokenId| is_stored(&KINDS[id.queue], &self.tokens[id]);
        let back = |token: &Token| token.last_seen.is_some_and(|epoch| epoch > group.epoch);
        if group.proven {
            for id in group.acks.iter().filter(|id| back(&self.tokens[id])) {
                broken.push(format!("{id:?} is back, but the transaction that acked it was stored: {group:?}"));
            }
            return;
        }
        let undone = group.tokens.iter().filter(durable).any(|id| {
            let token = &self.tokens[id];
            // Nobody settled it, and it may not have been refused: only the crash can have taken it.
            token.fate == Fate::Live && token.drained == 0 && !KINDS[id.queue].refuses
        });
        if undone {
            for id in group.acks.iter().filter(durable) {
                let token = &self.tokens[id];
                // Nobody else has settled it since.
                let by_it = token.acked_by == Some(number);
                if by_it && self.is_promised(id, token) && !back(token) {
                    broken.push(format!("{id:?} is gone, but the transaction that acked it was not stored: {group:?}"));
                }
            }
        }
    }
}
