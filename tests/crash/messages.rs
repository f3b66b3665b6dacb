//! The messages of this test and the ways that they go.
//!
//! A message is known by its number within a stream: what one publisher sends on one channel. Its body says which message it
//! is and can be checked to the last octet.
//!
//! ```text
//! default exchange ─► first, second, ranked (x-max-priority), tx-in, tx-left, tx-right, washed (is purged)
//!                  ─► work ──rejected──► dead        bounded ──x-max-length──► overflow        brief ──TTL──► expired
//!                  ─► failing (quorum) ──x-delivery-limit──► given-up
//! fan (fanout)     ─► fan-a, fan-b
//! topics (topic)   ─► topic-all and one of topic-even, topic-odd, reborn (is deleted and declared again)
//! shifts (topic)   ─► shifted, while it is bound
//! wide (topic)     ─► the plain ones of many-0 … many-999, of which there are six kinds (see [`Many`])
//! ```

use std::fmt;
use std::sync::LazyLock;

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, LongString, ShortString, basic};

use crate::client::{Content, Outcome, problem, s};
use crate::random::Random;

/// The highest priority of [`Queue::Ranked`].
pub const MAX_PRIORITY: u8 = 3;

/// The length limit of [`Queue::Bounded`].
pub const MAX_LENGTH: i32 = 100;

/// How long a message stays in [`Queue::Brief`] and its like.
pub const TTL_MS: i32 = 100;

/// Returns that a message of [`Queue::Failing`] survives.
pub const DELIVERY_LIMIT: i32 = 4;

/// An expiration that never comes.
const LONG_MS: u32 = 3_600_000;

/// How many queues [`Queue::Many`] stands for.
pub const MANY: u16 = 1000;

/// Over how many of them the clients of a round spread their work.
pub const WIDTHS: [u16; 3] = [1, 10, MANY];

/// The octets that say which message a body is: stream, number, length and a checksum of them.
const HEAD_BYTES: usize = 16;

/// The largest body.
const BODY_MAX_BYTES: u64 = 20 * 1024;

/// A durable queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    First,
    Second,
    FanA,
    FanB,
    TopicAll,
    TopicEven,
    TopicOdd,
    Work,
    Dead,
    Bounded,
    Overflow,
    Brief,
    Expired,
    TxIn,
    TxLeft,
    TxRight,
    Ranked,
    Failing,
    GivenUp,
    Washed,
    Reborn,
    Shifted,
    /// One of [`MANY`].
    Many(u16),
}

/// What one of the many queues is like; eight in a row make two plain ones and one or two of each other kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    Plain,
    /// What is rejected goes to the next one.
    Work,
    Dead,
    /// With priorities.
    Ranked,
    /// What expires goes to the next one.
    Brief,
    Expired,
}

impl Many {
    pub const fn of(number: u16) -> Self {
        match number % 8 {
            1 => Self::Work,
            2 => Self::Dead,
            3 | 7 => Self::Ranked,
            5 => Self::Brief,
            6 => Self::Expired,
            _ => Self::Plain,
        }
    }
}

static MANY_NAMES: LazyLock<Vec<String>> = LazyLock::new(|| (0..MANY).map(|number| format!("many-{number}")).collect());

impl Queue {
    /// Where messages come from before where they go to: the order in which the queues are looked at.
    pub const ALL: [Self; 22] = [
        Self::First,
        Self::Second,
        Self::FanA,
        Self::FanB,
        Self::TopicAll,
        Self::TopicEven,
        Self::TopicOdd,
        Self::Work,
        Self::Dead,
        Self::Bounded,
        Self::Overflow,
        Self::Brief,
        Self::Expired,
        Self::TxIn,
        Self::TxLeft,
        Self::TxRight,
        Self::Ranked,
        Self::Failing,
        Self::GivenUp,
        Self::Washed,
        Self::Reborn,
        Self::Shifted,
    ];

    /// The many queues.
    pub fn many() -> impl Iterator<Item = Self> {
        (0..MANY).map(Self::Many)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::FanA => "fan-a",
            Self::FanB => "fan-b",
            Self::TopicAll => "topic-all",
            Self::TopicEven => "topic-even",
            Self::TopicOdd => "topic-odd",
            Self::Work => "work",
            Self::Dead => "dead",
            Self::Bounded => "bounded",
            Self::Overflow => "overflow",
            Self::Brief => "brief",
            Self::Expired => "expired",
            Self::TxIn => "tx-in",
            Self::TxLeft => "tx-left",
            Self::TxRight => "tx-right",
            Self::Ranked => "ranked",
            Self::Failing => "failing",
            Self::GivenUp => "given-up",
            Self::Washed => "washed",
            Self::Reborn => "reborn",
            Self::Shifted => "shifted",
            Self::Many(number) => &MANY_NAMES[usize::from(number)],
        }
    }

    /// Where its dead letters go.
    pub const fn graveyard(self) -> Option<Self> {
        match self {
            Self::Work => Some(Self::Dead),
            Self::Bounded => Some(Self::Overflow),
            Self::Brief => Some(Self::Expired),
            Self::Failing => Some(Self::GivenUp),
            Self::Many(number) if matches!(Many::of(number), Many::Work | Many::Brief) => Some(Self::Many(number + 1)),
            _ => None,
        }
    }

    /// Where its messages died, and why.
    pub const fn death(self) -> Option<(Self, &'static str)> {
        match self {
            Self::Dead => Some((Self::Work, "rejected")),
            Self::Overflow => Some((Self::Bounded, "maxlen")),
            Self::Expired => Some((Self::Brief, "expired")),
            Self::GivenUp => Some((Self::Failing, "delivery_limit")),
            Self::Many(number) => match Many::of(number) {
                Many::Dead => Some((Self::Many(number - 1), "rejected")),
                Many::Expired => Some((Self::Many(number - 1), "expired")),
                _ => None,
            },
            _ => None,
        }
    }

    /// Messages leave it for its graveyard by themselves: at their time, for want of room, or because they came back once
    /// too often, from a look, too.
    pub const fn drains_itself(self) -> bool {
        self.is_brief() || matches!(self, Self::Bounded | Self::Failing)
    }

    /// Messages expire in it.
    pub const fn is_brief(self) -> bool {
        match self {
            Self::Brief => true,
            Self::Many(number) => matches!(Many::of(number), Many::Brief),
            _ => false,
        }
    }

    /// It has priorities.
    pub const fn is_ranked(self) -> bool {
        match self {
            Self::Ranked => true,
            Self::Many(number) => matches!(Many::of(number), Many::Ranked),
            _ => false,
        }
    }
}

/// A way to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this queue, through the default exchange.
    To(Queue),
    /// To both fan queues.
    Fan,
    /// To topic-all and topic-even.
    Even,
    /// To topic-all and topic-odd.
    Odd,
    /// To topic-all and reborn.
    Reborn,
    /// The same when reborn is not bound: to topic-all.
    Unborn,
    /// To shifted, when it is bound.
    Shifted,
    /// To each plain one of the first so many of the many queues; one of [`WIDTHS`].
    Spread(u16),
}

impl Route {
    pub const fn exchange(self) -> &'static str {
        match self {
            Self::To(_) => "",
            Self::Fan => "fan",
            Self::Even | Self::Odd | Self::Reborn | Self::Unborn => "topics",
            Self::Shifted => "shifts",
            Self::Spread(_) => "wide",
        }
    }

    pub fn key(self) -> &'static str {
        match self {
            Self::To(queue) => queue.name(),
            Self::Fan => "anything",
            Self::Even => "number.even.x",
            Self::Odd => "number.odd.x",
            Self::Reborn | Self::Unborn => "again.born",
            Self::Shifted => "shift.word",
            Self::Spread(1) => "wide.one",
            Self::Spread(10) => "wide.ten",
            Self::Spread(_) => "wide.thousand",
        }
    }

    /// The queues that it leads to.
    pub fn queues(self) -> Vec<Queue> {
        match self {
            Self::To(queue) => vec![queue],
            Self::Fan => vec![Queue::FanA, Queue::FanB],
            Self::Even => vec![Queue::TopicAll, Queue::TopicEven],
            Self::Odd => vec![Queue::TopicAll, Queue::TopicOdd],
            Self::Reborn => vec![Queue::TopicAll, Queue::Reborn],
            Self::Unborn => vec![Queue::TopicAll],
            Self::Shifted => vec![Queue::Shifted],
            Self::Spread(width) => {
                (0..width).filter(|number| Many::of(*number) == Many::Plain).map(Queue::Many).collect()
            }
        }
    }
}

/// Which message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    pub stream: u32,
    pub number: u32,
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.stream, self.number)
    }
}

/// A message as it is published.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub id: MessageId,
    pub route: Route,
    pub persistent: bool,
    pub priority: u8,
    /// Its own time to live in milliseconds.
    pub expiration: Option<u32>,
    pub len: u32,
}

impl Sent {
    /// A large persistent message.
    pub fn large(id: MessageId, route: Route, random: &mut Random) -> Self {
        let len = u32::try_from(random.between(BODY_MAX_BYTES / 2, BODY_MAX_BYTES)).expect("small");
        Self { id, route, persistent: true, priority: 0, expiration: None, len }
    }

    /// A message of a random size: most are small, a few need several frames.
    pub fn new(id: MessageId, route: Route, random: &mut Random) -> Self {
        let len = match random.between(0, 19) {
            0 => random.between(4096, BODY_MAX_BYTES),
            1..=5 => random.between(200, 4096),
            _ => random.between(16, 200),
        };
        let priority = match route {
            Route::To(queue) if queue.is_ranked() => {
                u8::try_from(random.between(0, MAX_PRIORITY.into())).expect("small")
            }
            _ => 0,
        };
        let expiration = match route {
            Route::To(queue) if queue.is_brief() && random.once_in(3) => {
                Some(u32::try_from(random.between(0, 300)).expect("small"))
            }
            Route::To(Queue::Bounded | Queue::Work) if random.once_in(3) => Some(LONG_MS),
            _ => None,
        };
        let len = u32::try_from(len).expect("small");
        // A quorum queue stores everything.
        let persistent = route == Route::To(Queue::Failing) || !random.once_in(16);
        Self { id, route, persistent, priority, expiration, len }
    }

    pub fn publish(&self) -> basic::Publish {
        basic::Publish {
            exchange: s(self.route.exchange()),
            routing_key: s(self.route.key()),
            mandatory: self.id.number.is_multiple_of(3),
            immediate: false,
        }
    }

    pub fn properties(&self) -> BasicProperties {
        let id = self.id;
        BasicProperties {
            delivery_mode: Some(if self.persistent { 2 } else { 1 }),
            priority: matches!(self.route, Route::To(queue) if queue.is_ranked()).then_some(self.priority),
            expiration: self.expiration.map(|millis| s(&millis.to_string())),
            message_id: id.number.is_multiple_of(2).then(|| s(&format!("{id:?}"))),
            headers: id.number.is_multiple_of(5).then(|| {
                let number = FieldValue::Int64(i64::from(id.number));
                FieldTable::from_iter([(s("number"), number), (s("stream"), FieldValue::Int64(i64::from(id.stream)))])
            }),
            ..BasicProperties::default()
        }
    }

    pub fn body(&self) -> Vec<u8> {
        make_body(self.id, self.len)
    }

    /// What is wrong with this message as it came from a queue; `None` if nothing is.
    pub fn fault(&self, queue: Queue, came: &Came) -> Option<String> {
        let (exchange, key) = match queue.death() {
            None => (self.route.exchange(), self.route.key()),
            Some(_) => ("graveyard", queue.name()),
        };
        if came.len != self.len {
            return Some(format!("has {} octets instead of {}", came.len, self.len));
        }
        if came.exchange != exchange || came.key != key {
            return Some(format!("comes from {:?} with {:?}", came.exchange, came.key));
        }
        let mut properties = came.properties.clone();
        let mut expected = self.properties();
        if let Some((source, reason)) = queue.death() {
            let expiration = expected.expiration.take();
            if let Err(fault) = take_death(&mut properties, source, reason, expiration.as_ref()) {
                return Some(format!("{fault}: {:?}", came.properties));
            }
        }
        if queue == Queue::Failing
            && let Err(fault) = take_returns(&mut properties)
        {
            return Some(format!("{fault}: {:?}", came.properties));
        }
        (properties != expected).then(|| format!("has other properties: {properties:?}"))
    }
}

/// What came with a body.
#[derive(Clone, Debug)]
pub struct Came {
    pub exchange: ShortString,
    pub key: ShortString,
    pub len: u32,
    pub properties: BasicProperties,
}

impl Came {
    /// Checks the body, and tells which message it is.
    pub fn read(exchange: ShortString, key: ShortString, content: Content) -> Outcome<(MessageId, Self)> {
        let Content { properties, body } = content;
        let Some(id) = identify(&body) else {
            return problem(format!("a body that is no message's: {:?}", &body[..body.len().min(64)]));
        };
        let len = u32::try_from(body.len()).expect("small");
        if body != make_body(id, len) {
            return problem(format!("{id:?} has been changed on its way"));
        }
        Ok((id, Self { exchange, key, len, properties }))
    }
}

fn make_body(id: MessageId, len: u32) -> Vec<u8> {
    let MessageId { stream, number } = id;
    let octets = usize::try_from(len).expect("small");
    let mut body = Vec::with_capacity(octets + 8);
    for word in [stream, number, len, checksum(stream, number, len)] {
        body.extend_from_slice(&word.to_be_bytes());
    }
    let mut filling = Random::new(u64::from(stream) << 32 | u64::from(number));
    while body.len() < octets {
        body.extend_from_slice(&filling.next().to_be_bytes());
    }
    body.truncate(octets);
    body
}

/// Which message a body is.
fn identify(body: &[u8]) -> Option<MessageId> {
    let word = |at: usize| Some(u32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let (stream, number, len) = (word(0)?, word(4)?, word(8)?);
    let sound = word(HEAD_BYTES - 4)? == checksum(stream, number, len) && usize::try_from(len) == Ok(body.len());
    sound.then_some(MessageId { stream, number })
}

fn checksum(stream: u32, number: u32, len: u32) -> u32 {
    stream.rotate_left(7) ^ number.rotate_left(17) ^ len ^ 0x1EFE_1234
}

/// Removes what the broker added to a dead letter; the message must have died exactly once.
fn take_death(
    properties: &mut BasicProperties,
    source: Queue,
    reason: &str,
    expiration: Option<&ShortString>,
) -> Result<(), String> {
    let mut headers = properties.headers.take().ok_or("no headers")?;
    let text = |value: Option<FieldValue>| match value {
        Some(FieldValue::LongString(text)) => Some(text),
        _ => None,
    };
    let is = |found: Option<LongString>, expected: &str| found.is_some_and(|found| found == expected);
    for which in ["first", "last"] {
        if !is(text(headers.remove(format!("x-{which}-death-queue"))), source.name()) {
            return Err(format!("x-{which}-death-queue"));
        }
        if !is(text(headers.remove(format!("x-{which}-death-reason"))), reason) {
            return Err(format!("x-{which}-death-reason"));
        }
        headers.remove(format!("x-{which}-death-exchange")).ok_or_else(|| format!("x-{which}-death-exchange"))?;
    }
    let deaths = headers.remove("x-death").ok_or("no x-death")?;
    let [FieldValue::Table(death)] = deaths.as_array().unwrap_or_default() else { return Err("several deaths".into()) };
    if death.get("count").and_then(FieldValue::as_integer) != Some(1) {
        return Err("it died more than once".into());
    }
    if !is(text(death.get("queue").cloned()), source.name()) || !is(text(death.get("reason").cloned()), reason) {
        return Err("it died elsewhere or otherwise".into());
    }
    let original = death.get("original-expiration").map(|value| text(Some(value.clone())));
    let same = match (&original, &expiration) {
        (None, None) => true,
        (Some(Some(text)), Some(millis)) => *text.as_bytes() == *millis.as_bytes(),
        _ => false,
    };
    if !same {
        return Err(format!("its expiration was {expiration:?}"));
    }
    // Headers were absent before, or had entries.
    properties.headers = (!headers.is_empty()).then_some(headers);
    Ok(())
}

/// Removes what the broker says about how often a message came back.
fn take_returns(properties: &mut BasicProperties) -> Result<(), String> {
    let Some(headers) = &mut properties.headers else { return Ok(()) };
    let Some(count) = headers.remove("x-delivery-count") else { return Ok(()) };
    if !count.as_integer().is_some_and(|count| (1..=i64::from(DELIVERY_LIMIT)).contains(&count)) {
        return Err("a strange x-delivery-count".into());
    }
    if headers.is_empty() {
        properties.headers = None;
    }
    Ok(())
}
