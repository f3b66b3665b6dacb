//! Messages as the broker keeps them: encoded records, packed into arenas.
//!
//! A publisher's consecutive messages for the same destinations are packed into one [`Arena`]: one allocation, shared by
//! every queue they go to, by the store and by the deliveries under way. A queue refers to a message by arena and index,
//! so moving a thousand messages from a publisher to a consumer touches one reference count.
//!
//! A record is laid out so that a delivery is a few copies, and so that the store writes it as it is:
//!
//! ```text
//! head_len u32 │ body_len u32 │ head: flags u8 · priority u8 · enqueued_at u64 · expiration u64 · route_len u16
//!              │              │       route (exchange, routing key: short strings) · properties (flags and list)
//!              │              │ body, unless it is kept outside the arena (flag OUTSIDE)
//! ```
//!
//! Numbers are big-endian. Invariant: every offset in an arena points at a whole record; [`Arena::from_records`] checks
//! what comes from a disk, [`ArenaBuilder`] guarantees it for what comes from a connection.
//! Not here: which messages are ready or unacked (`queue`), what a batch looks like on disk (`store`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// Bodies of at least this many octets stay where they were received instead of being copied into the arena.
pub const OUTSIDE_BODY_MIN_BYTES: usize = 4 * 1024;

/// The bit of `priority` in the first octet of the property flags (spec §4.2.6.1).
const PRIORITY_PRESENT: u8 = 0x08;
const FLAG_PERSISTENT: u8 = 1;
const FLAG_OUTSIDE: u8 = 2;
const FLAG_BROKER_DEATHS: u8 = 4;
const LENGTHS: usize = 8;
const FIXED_HEAD: usize = 20;
const NO_EXPIRATION: u64 = u64::MAX;

/// Wall-clock time in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The given number of milliseconds since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This moment and `millis` more, at most the end of time.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// What a publisher sent, before it is packed: the parts of one message.
#[derive(Clone, Debug)]
pub struct MessageParts<'a> {
    /// Exchange it was published to.
    pub exchange: &'a [u8],
    /// Routing key it was published with.
    pub routing_key: &'a [u8],
    /// Property flags and property list, as received (spec §4.2.6.1).
    pub properties: &'a [u8],
    /// The body.
    pub body: Body<'a>,
    /// `delivery-mode` 2.
    pub persistent: bool,
    /// The `priority` property, 0 if absent.
    pub priority: u8,
    /// The `expiration` property in milliseconds.
    pub expiration_ms: Option<u64>,
    /// The `x-death` header in the properties was written by the broker, not by a client.
    pub broker_deaths: bool,
    /// When it enters its queues.
    pub enqueued_at: Timestamp,
}

/// A message body on its way into an arena.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// Octets to be copied.
    Borrowed(&'a [u8]),
    /// Octets that are shared already; kept as they are when large.
    Shared(Bytes),
}

impl Body<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(octets) => octets,
            Self::Shared(octets) => octets,
        }
    }
}

/// Packs messages into an [`Arena`].
#[derive(Debug, Default)]
pub struct ArenaBuilder {
    data: Vec<u8>,
    offsets: Vec<u32>,
    outside: Vec<Bytes>,
    body_bytes: u64,
    any_expiration: bool,
}

impl ArenaBuilder {
    /// An empty arena in the making.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty arena in the making with room for this many octets and messages.
    pub fn with_capacity(octets: usize, messages: usize) -> Self {
        Self {
            data: Vec::with_capacity(octets),
            offsets: Vec::with_capacity(messages),
            outside: Vec::new(),
            body_bytes: 0,
            any_expiration: false,
        }
    }

    /// Number of messages so far.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// No message so far.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Octets that the messages so far hold, bodies kept outside included.
    pub fn size_bytes(&self) -> usize {
        self.data.len() + self.outside.iter().map(Bytes::len).sum::<usize>()
    }

    /// Appends one message.
    pub fn push(&mut self, parts: &MessageParts<'_>) {
        let body = parts.body.as_slice();
        let outside = match &parts.body {
            Body::Shared(octets) if octets.len() >= OUTSIDE_BODY_MIN_BYTES => Some(octets.clone()),
            Body::Shared(_) | Body::Borrowed(_) => None,
        };
        let mut flags = 0;
        if parts.persistent {
            flags |= FLAG_PERSISTENT;
        }
        if parts.broker_deaths {
            flags |= FLAG_BROKER_DEATHS;
        }
        if outside.is_some() {
            flags |= FLAG_OUTSIDE;
        }
        let route_len = 2 + parts.exchange.len() + parts.routing_key.len();
        let head_len = FIXED_HEAD + route_len + parts.properties.len();
        let inline_len = if outside.is_some() { 4 } else { body.len() };
        self.offsets.push(u32_len(self.data.len()));
        self.data.reserve(LENGTHS + head_len + inline_len);

        let mut fixed = [0_u8; LENGTHS + FIXED_HEAD + 1];
        fixed[0..4].copy_from_slice(&u32_len(head_len).to_be_bytes());
        fixed[4..8].copy_from_slice(&u32_len(body.len()).to_be_bytes());
        fixed[8] = flags;
        fixed[9] = parts.priority;
        fixed[10..18].copy_from_slice(&parts.enqueued_at.as_millis().to_be_bytes());
        fixed[18..26].copy_from_slice(&parts.expiration_ms.unwrap_or(NO_EXPIRATION).to_be_bytes());
        fixed[26..28].copy_from_slice(&u16_len(route_len).to_be_bytes());
        fixed[28] = u8_len(parts.exchange.len());
        self.data.extend_from_slice(&fixed);
        self.data.extend_from_slice(parts.exchange);
        self.data.push(u8_len(parts.routing_key.len()));
        self.data.extend_from_slice(parts.routing_key);
        self.data.extend_from_slice(parts.properties);
        match outside {
            Some(octets) => {
                self.data.extend_from_slice(&u32_len(self.outside.len()).to_be_bytes());
                self.outside.push(octets);
            }
            None => self.data.extend_from_slice(body),
        }
        self.body_bytes += body.len() as u64;
        self.any_expiration |= parts.expiration_ms.is_some();
    }

    /// The finished arena.
    pub fn finish(mut self) -> Arc<Arena> {
        if self.data.capacity() - self.data.len() > self.data.len() / 4 + 64 {
            self.data.shrink_to_fit();
        }
        Arc::new(Arena {
            data: Bytes::from(self.data),
            offsets: self.offsets.into_boxed_slice(),
            outside: self.outside.into_boxed_slice(),
            body_bytes: self.body_bytes,
            any_expiration: self.any_expiration,
            ticket: AtomicU64::new(0),
        })
    }
}

/// Immutable, shared records of one or more messages.
#[derive(Debug)]
pub struct Arena {
    data: Bytes,
    offsets: Box<[u32]>,
    outside: Box<[Bytes]>,
    body_bytes: u64,
    any_expiration: bool,
    ticket: AtomicU64,
}

impl Arena {
    /// Checks and adopts records read from a disk: each starts at one of `offsets`.
    ///
    /// `None` when an offset does not point at a whole, well-formed record.
    pub fn from_records(data: Bytes, offsets: Vec<u32>, stored_under: u64) -> Option<Arc<Self>> {
        let mut body_bytes = 0;
        let mut any_expiration = false;
        for &offset in &offsets {
            let record = data.get(offset as usize..)?;
            body_bytes += check_record(record)?;
            any_expiration |= read_u64(record, LENGTHS + 10) != NO_EXPIRATION;
        }
        Some(Arc::new(Self {
            data,
            offsets: offsets.into_boxed_slice(),
            outside: Box::default(),
            body_bytes,
            any_expiration,
            ticket: AtomicU64::new(stored_under),
        }))
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Number of messages, as indexes count them.
    pub fn count(&self) -> u32 {
        u32_len(self.offsets.len())
    }

    /// Whether there is no message in it.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Sum of the body sizes in octets.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether any of the messages has an `expiration` of its own.
    pub fn any_expiration(&self) -> bool {
        self.any_expiration
    }

    /// Octets that the arena keeps in memory.
    pub fn size_bytes(&self) -> usize {
        self.data.len() + self.offsets.len() * 4 + self.outside.iter().map(Bytes::len).sum::<usize>() + 96
    }

    /// Messages `index..index + count` in an arena of their own, known to the store as these are. Nothing of this one is
    /// held by it.
    ///
    /// # Panics
    /// When there are fewer messages.
    #[must_use]
    pub fn excerpt(&self, index: u32, count: u32) -> Arc<Self> {
        let messages = index..index + count;
        let octets = messages.clone().map(|at| self.message(at).record_len()).sum();
        let mut data = Vec::with_capacity(octets);
        let mut offsets = Vec::with_capacity(count as usize);
        for at in messages {
            offsets.push(u32_len(data.len()));
            self.message(at).write_record(&mut data);
        }
        let whole = Self::from_records(Bytes::from(data), offsets, self.ticket());
        whole.expect("records of an arena are well-formed")
    }

    /// The share that `count` of its messages have of the octets in memory.
    pub fn share_bytes(&self, count: u32) -> usize {
        let all = self.count();
        if count >= all {
            return self.size_bytes();
        }
        let share = self.size_bytes() as u128 * u128::from(count) / u128::from(all);
        usize::try_from(share).unwrap_or(usize::MAX)
    }

    /// Remembers under which ticket the store took these messages (0: it did not).
    pub fn set_ticket(&self, ticket: u64) {
        self.ticket.store(ticket, Ordering::Release);
    }

    /// The ticket under which the store took these messages; 0 as long as it has not.
    pub fn ticket(&self) -> u64 {
        self.ticket.load(Ordering::Acquire)
    }

    /// Appends the records of `count` messages from `index` on, as [`Message::write_record`] does, side by side.
    pub fn write_records(&self, index: u32, count: u32, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for message in (index..index + count).map(|at| self.message(at)) {
            if message.head[0] & FLAG_OUTSIDE != 0 {
                out.extend_from_slice(&self.data[std::mem::take(&mut run)]);
                message.write_record(out);
                continue;
            }
            if message.start != run.end {
                out.extend_from_slice(&self.data[run]);
                run = message.start..message.start;
            }
            run.end += message.record_len();
        }
        out.extend_from_slice(&self.data[run]);
    }

    /// The message at `index`.
    ///
    /// # Panics
    /// When `index` is not below [`Arena::len`].
    #[inline]
    pub fn message(&self, index: u32) -> Message<'_> {
        let start = self.offsets[index as usize] as usize;
        let data = &self.data[start..];
        let head_len = read_u32(data, 0) as usize;
        let body_len = read_u32(data, 4) as usize;
        Message { arena: self, start, head: &data[LENGTHS..LENGTHS + head_len], body_len }
    }
}

/// One message of an arena.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    arena: &'a Arena,
    start: usize,
    head: &'a [u8],
    body_len: usize,
}

impl<'a> Message<'a> {
    /// `delivery-mode` 2.
    pub fn is_persistent(&self) -> bool {
        self.head[0] & FLAG_PERSISTENT != 0
    }

    /// Whether the `x-death` header was written by the broker.
    pub fn has_broker_deaths(&self) -> bool {
        self.head[0] & FLAG_BROKER_DEATHS != 0
    }

    /// The `priority` property, 0 if absent.
    pub fn priority(&self) -> u8 {
        self.head[1]
    }

    /// Whether the publisher gave it a `priority`.
    pub fn has_priority(&self) -> bool {
        self.properties().first().is_some_and(|flags| flags & PRIORITY_PRESENT != 0)
    }

    /// When it entered its queues.
    pub fn enqueued_at(&self) -> Timestamp {
        Timestamp(read_u64(self.head, 2))
    }

    /// The `expiration` property in milliseconds.
    pub fn expiration_ms(&self) -> Option<u64> {
        Some(read_u64(self.head, 10)).filter(|millis| *millis != NO_EXPIRATION)
    }

    /// Exchange and routing key, encoded as two short strings.
    #[inline]
    pub fn route(&self) -> &'a [u8] {
        &self.head[FIXED_HEAD..FIXED_HEAD + read_u16(self.head, 18) as usize]
    }

    /// Exchange that it was published to.
    pub fn exchange(&self) -> &'a [u8] {
        let route = self.route();
        &route[1..=usize::from(route[0])]
    }

    /// Routing key that it was published with.
    pub fn routing_key(&self) -> &'a [u8] {
        let route = self.route();
        &route[2 + usize::from(route[0])..]
    }

    /// Property flags and property list, as received.
    #[inline]
    pub fn properties(&self) -> &'a [u8] {
        &self.head[FIXED_HEAD + read_u16(self.head, 18) as usize..]
    }

    /// Size of the body in octets.
    #[inline]
    pub fn body_len(&self) -> usize {
        self.body_len
    }

    /// The body.
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        let after_head = self.start + LENGTHS + self.head.len();
        if self.head[0] & FLAG_OUTSIDE == 0 {
            &self.arena.data[after_head..after_head + self.body_len]
        } else {
            &self.arena.outside[read_u32(&self.arena.data, after_head) as usize]
        }
    }

    /// The body as shared octets, without a copy.
    pub fn shared_body(&self) -> Bytes {
        let after_head = self.start + LENGTHS + self.head.len();
        if self.head[0] & FLAG_OUTSIDE == 0 {
            self.arena.data.slice(after_head..after_head + self.body_len)
        } else {
            self.arena.outside[read_u32(&self.arena.data, after_head) as usize].clone()
        }
    }

    /// The same message in an arena of its own, which the store has not taken.
    pub fn apart(&self) -> Arc<Arena> {
        let mut builder = ArenaBuilder::with_capacity(self.record_len(), 1);
        self.copy_into(&mut builder);
        builder.finish()
    }

    fn copy_into(&self, builder: &mut ArenaBuilder) {
        let body = if self.body_len < OUTSIDE_BODY_MIN_BYTES {
            Body::Borrowed(self.body())
        } else {
            Body::Shared(self.shared_body())
        };
        builder.push(&MessageParts {
            exchange: self.exchange(),
            routing_key: self.routing_key(),
            properties: self.properties(),
            body,
            persistent: self.is_persistent(),
            priority: self.priority(),
            expiration_ms: self.expiration_ms(),
            broker_deaths: self.has_broker_deaths(),
            enqueued_at: self.enqueued_at(),
        });
    }

    /// Octets of the record as [`Message::write_record`] writes it.
    pub fn record_len(&self) -> usize {
        LENGTHS + self.head.len() + self.body_len
    }

    /// Appends the record with its body inside: the form in which it is stored.
    pub fn write_record(&self, out: &mut Vec<u8>) {
        if self.head[0] & FLAG_OUTSIDE == 0 {
            out.extend_from_slice(&self.arena.data[self.start..self.start + self.record_len()]);
            return;
        }
        out.extend_from_slice(&u32_len(self.head.len()).to_be_bytes());
        out.extend_from_slice(&u32_len(self.body_len).to_be_bytes());
        out.push(self.head[0] & !FLAG_OUTSIDE);
        out.extend_from_slice(&self.head[1..]);
        out.extend_from_slice(self.body());
    }
}

/// Length of the record at the start of `data`, if it is whole and well-formed.
pub fn record_len(data: &[u8]) -> Option<usize> {
    check_record(data)?;
    Some(LENGTHS + read_u32(data, 0) as usize + read_u32(data, 4) as usize)
}

/// Octets of the body of the record at the start of `data`, if it is whole and well-formed.
pub fn record_body_len(data: &[u8]) -> Option<u64> {
    check_record(data)
}

/// The body length of the record at the start of `data`, if it is whole and well-formed.
fn check_record(data: &[u8]) -> Option<u64> {
    if data.len() < LENGTHS + FIXED_HEAD + 2 {
        return None;
    }
    let head_len = read_u32(data, 0) as usize;
    let body_len = read_u32(data, 4) as usize;
    let head = data.get(LENGTHS..LENGTHS.checked_add(head_len)?)?;
    data.get(LENGTHS + head_len..(LENGTHS + head_len).checked_add(body_len)?)?;
    if head_len < FIXED_HEAD || head[0] & FLAG_OUTSIDE != 0 {
        return None;
    }
    let route = head.get(FIXED_HEAD..FIXED_HEAD + read_u16(head, 18) as usize)?;
    let exchange_len = usize::from(*route.first()?);
    let key_len = usize::from(*route.get(1 + exchange_len)?);
    (route.len() == 2 + exchange_len + key_len).then_some(body_len as u64)
}

#[inline]
fn read_u16(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([data[at], data[at + 1]])
}

#[inline]
fn read_u32(data: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(data[at..at + 4].try_into().expect("a slice of four octets"))
}

#[inline]
fn read_u64(data: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(data[at..at + 8].try_into().expect("a slice of eight octets"))
}

fn u32_len(len: usize) -> u32 {
    u32::try_from(len).expect("arenas are cut long before 4 GiB")
}

fn u16_len(len: usize) -> u16 {
    u16::try_from(len).expect("two short strings are at most 512 octets")
}

fn u8_len(len: usize) -> u8 {
    u8::try_from(len).expect("a short string has at most 255 octets")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(body: Body<'_>) -> MessageParts<'_> {
        MessageParts {
            exchange: b"amq.topic",
            routing_key: b"a.b",
            properties: &[0x10, 0, 2],
            body,
            persistent: true,
            priority: 7,
            expiration_ms: Some(1500),
            broker_deaths: false,
            enqueued_at: Timestamp::from_millis(42),
        }
    }

    #[test]
    fn a_message_comes_back_as_it_was_packed() {
        let large = Bytes::from(vec![9; OUTSIDE_BODY_MIN_BYTES]);
        let mut builder = ArenaBuilder::new();
        builder.push(&parts(Body::Borrowed(b"hello")));
        builder.push(&parts(Body::Shared(large.clone())));
        let arena = builder.finish();
        for (index, body) in [(0, &b"hello"[..]), (1, &large[..])] {
            let message = arena.message(index);
            assert_eq!((message.exchange(), message.routing_key()), (&b"amq.topic"[..], &b"a.b"[..]));
            assert_eq!(message.properties(), &[0x10, 0, 2]);
            assert_eq!(message.body(), body);
            assert_eq!(message.shared_body(), body);
            assert_eq!((message.priority(), message.expiration_ms()), (7, Some(1500)));
            assert!(message.is_persistent() && !message.has_broker_deaths());
            assert_eq!(message.enqueued_at(), Timestamp::from_millis(42));
            let (mut record, mut copied) = (Vec::new(), Vec::new());
            message.write_record(&mut record);
            message.apart().message(0).write_record(&mut copied);
            assert_eq!(copied, record);
        }
    }

    #[test]
    fn a_stored_record_reads_back_equal_and_torn_ones_are_refused() {
        let mut builder = ArenaBuilder::new();
        builder.push(&parts(Body::Shared(Bytes::from(vec![9; OUTSIDE_BODY_MIN_BYTES]))));
        let arena = builder.finish();
        let mut record = Vec::new();
        arena.message(0).write_record(&mut record);
        assert_eq!(record.len(), arena.message(0).record_len());
        assert_eq!(record_len(&record), Some(record.len()));
        let read = Arena::from_records(Bytes::from(record.clone()), vec![0], 1).expect("whole record");
        assert_eq!(read.message(0).body(), arena.message(0).body());
        for cut in 0..record.len() {
            assert_eq!(record_len(&record[..cut]), None, "cut at {cut}");
        }
    }
}
