//! Publishing: as fast as the broker, the confirms or the backlog allow, or on a schedule.
//!
//! Without a schedule one thread writes and, when its window is full, reads confirms. On a schedule it must do neither late,
//! so that confirms are read by a second thread.

use std::iter;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use leveret_protocol::{FrameKind, RawFrame};

use super::args::PerfArgs;
use super::client::{Client, TICK, check_other_frame, write_all};
use super::error::PerfError;
use super::latency::Latencies;
use super::messages::Messages;
use super::outstanding::Outstanding;
use super::progress::{Phase, Progress};
use super::schedule::Schedule;

/// How long a publisher sleeps that has run ahead of the consumers.
const BACKLOG_PAUSE_NS: u64 = 1_000_000;

/// How often a publisher that expects nothing looks whether the broker has something to say: it may have closed the channel.
const LOOK_EVERY_NS: u64 = 250_000_000;

/// How many messages are published before confirms are looked for although the window is open. Confirms for so many fit the
/// socket's buffers; a broker that cannot write them would read no publishes either.
const READ_EVERY_MESSAGES: u64 = 1024;

/// What bounds the messages that a publisher has on their way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    /// Its own unconfirmed messages.
    Unconfirmed(u64),
    /// The messages of all publishers that wait to be consumed.
    Backlog(u64),
    /// Nothing but the socket.
    Socket,
}

impl Bound {
    pub(super) fn new(args: &PerfArgs) -> Self {
        match args {
            PerfArgs { confirm: 1.., .. } => Self::Unconfirmed(args.confirm.into()),
            PerfArgs { consumers: 1.., rate: 0, .. } => Self::Backlog(args.max_backlog),
            PerfArgs { .. } => Self::Socket,
        }
    }
}

/// A connection that publishes.
#[derive(Debug)]
pub(super) struct Publisher<'a> {
    pub(super) client: Client,
    pub(super) messages: Messages,
    pub(super) bound: Bound,
    pub(super) schedule: Option<Schedule>,
    pub(super) progress: &'a Progress,
}

impl Publisher<'_> {
    /// Publishes until the run is over, and waits for all confirms. Returns the latencies of the confirms.
    pub(super) fn run(mut self) -> Result<Latencies, PerfError> {
        let confirms = match (self.schedule.take(), self.bound) {
            (None, Bound::Unconfirmed(window)) => self.flood_confirmed(window)?,
            (None, Bound::Backlog(max_backlog)) => self.flood(max_backlog)?,
            (None, Bound::Socket) => self.flood(u64::MAX)?,
            (Some(schedule), Bound::Unconfirmed(window)) => self.pace_confirmed(schedule, window)?,
            (Some(schedule), Bound::Backlog(_) | Bound::Socket) => self.pace(schedule)?,
        };
        self.client.close()?;
        Ok(confirms.latencies)
    }

    fn flood(&mut self, max_backlog: u64) -> Result<Confirms, PerfError> {
        let mut confirms = Confirms::new();
        let mut look_at_ns = 0;
        while !self.progress.has_reached(Phase::Drain) {
            let now_ns = self.progress.clock.now_ns();
            if now_ns >= look_at_ns {
                self.client.fill_available()?;
                confirms.take(&mut self.client, self.progress)?;
                look_at_ns = now_ns + LOOK_EVERY_NS;
            }
            let room =
                if max_backlog == u64::MAX { u64::MAX } else { max_backlog.saturating_sub(self.progress.backlog()) };
            if room == 0 {
                self.progress.clock.sleep_until(now_ns + BACKLOG_PAUSE_NS);
            } else {
                let count = to_count(room).min(self.messages.max_count());
                self.client.write(self.messages.stamp(iter::repeat_n(now_ns, count)))?;
                self.progress.add_published(to_u64(count));
            }
        }
        Ok(confirms)
    }

    fn flood_confirmed(&mut self, window: u64) -> Result<Confirms, PerfError> {
        let mut confirms = Confirms::new();
        let mut unread = 0;
        while !self.progress.has_reached(Phase::Drain) {
            let room = window - confirms.outstanding.count();
            if room == 0 || unread >= READ_EVERY_MESSAGES {
                if room == 0 {
                    self.client.fill()?
                } else {
                    self.client.fill_available()?
                };
                confirms.take(&mut self.client, self.progress)?;
                unread = 0;
            } else {
                let count = to_count(room).min(self.messages.max_count());
                let now_ns = self.progress.clock.now_ns();
                confirms.push(iter::repeat_n(now_ns, count));
                self.client.write(self.messages.stamp(iter::repeat_n(now_ns, count)))?;
                self.progress.add_published(to_u64(count));
                unread += to_u64(count);
            }
        }
        while confirms.outstanding.count() != 0 {
            self.client.fill()?;
            confirms.take(&mut self.client, self.progress)?;
        }
        Ok(confirms)
    }

    fn pace(&mut self, schedule: Schedule) -> Result<Confirms, PerfError> {
        let Self { client, messages, progress, .. } = self;
        let mut confirms = Confirms::new();
        let mut look_at_ns = 0;
        schedule.follow(progress, messages.max_count(), |due| {
            let count = due.len();
            client.write(messages.stamp(due))?;
            progress.add_published(to_u64(count));
            let now_ns = progress.clock.now_ns();
            if now_ns >= look_at_ns {
                client.fill_available()?;
                confirms.take(client, progress)?;
                look_at_ns = now_ns + LOOK_EVERY_NS;
            }
            Ok(count)
        })?;
        Ok(confirms)
    }

    fn pace_confirmed(&mut self, schedule: Schedule, window: u64) -> Result<Confirms, PerfError> {
        let Self { client, messages, progress, .. } = self;
        let stream = client.stream()?;
        let shared = SharedConfirms::new();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let result = shared.read(client, progress);
                if result.is_err() {
                    progress.fail();
                }
                result
            });
            let written = schedule.follow(progress, messages.max_count(), |due| {
                let count = shared.admit(window, due.clone());
                write_stream(&stream, messages.stamp(due.take(count)), progress)?;
                progress.add_published(to_u64(count));
                Ok(count)
            });
            shared.is_written.store(true, Relaxed);
            // The reader knows why the broker closed the socket, so its error goes first.
            match reader.join() {
                Ok(read) => read.and(written),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })?;
        Ok(shared.confirms.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

fn write_stream(stream: &TcpStream, octets: &[u8], progress: &Progress) -> Result<(), PerfError> {
    let on_stall =
        || if progress.has_reached(Phase::Abort) { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(()) };
    write_all(stream, octets, on_stall).map_err(PerfError::Io)
}

/// The confirms of a publisher.
#[derive(Debug)]
struct Confirms {
    outstanding: Outstanding,
    latencies: Latencies,
}

impl Confirms {
    fn new() -> Self {
        Self { outstanding: Outstanding::new(), latencies: Latencies::new() }
    }

    fn push(&mut self, due_ns: impl Iterator<Item = u64>) {
        due_ns.for_each(|due_ns| self.outstanding.push(due_ns));
    }

    /// Handles all that has been read.
    fn take(&mut self, client: &mut Client, progress: &Progress) -> Result<(), PerfError> {
        let now_ns = progress.clock.now_ns();
        let (mut confirmed, mut nacked) = (0, 0);
        while let Some(frame) = client.next_frame()? {
            let Some(confirm) = Confirm::of(&frame) else {
                check_other_frame(&frame)?;
                continue;
            };
            let latencies = &mut self.latencies;
            let settled = self.outstanding.settle(confirm.tag, confirm.multiple, |due_ns| {
                latencies.record(due_ns, now_ns, progress);
            });
            if settled == 0 {
                return Err(PerfError::Unexpected(format!("confirm of {}, which is not outstanding", confirm.tag)));
            }
            *(if confirm.is_nack { &mut nacked } else { &mut confirmed }) += settled;
        }
        self.latencies.flush(now_ns, progress);
        progress.add_confirmed(confirmed);
        progress.add_nacked(nacked);
        Ok(())
    }
}

/// The arguments of `basic.ack` or `basic.nack` from the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Confirm {
    tag: u64,
    multiple: bool,
    is_nack: bool,
}

impl Confirm {
    /// The confirm in a frame. The other bits of the octet with `multiple` may be anything.
    #[inline]
    fn of(frame: &RawFrame<'_>) -> Option<Self> {
        const ACK: [u8; 4] = [0, 60, 0, 80];
        const NACK: [u8; 4] = [0, 60, 0, 120];
        let (ids, arguments) = frame.payload.split_first_chunk()?;
        let is_nack = *ids == NACK;
        if frame.kind != FrameKind::Method.octet() || (*ids != ACK && !is_nack) {
            return None;
        }
        let (tag, bits) = arguments.split_first_chunk()?;
        Some(Self { tag: u64::from_be_bytes(*tag), multiple: bits.first()? & 1 == 1, is_nack })
    }
}

/// Confirms between the thread that publishes and the one that reads them.
#[derive(Debug)]
struct SharedConfirms {
    confirms: Mutex<Confirms>,
    settled: Condvar,
    is_written: AtomicBool,
}

impl SharedConfirms {
    fn new() -> Self {
        Self { confirms: Mutex::new(Confirms::new()), settled: Condvar::new(), is_written: AtomicBool::new(false) }
    }

    /// Adds the first of these publishes to the outstanding ones, as many as there is room for; waits at most a [`TICK`] for
    /// room. Returns how many they are.
    fn admit(&self, window: u64, due_ns: impl ExactSizeIterator<Item = u64>) -> usize {
        let is_full = |confirms: &mut Confirms| confirms.outstanding.count() >= window;
        let (mut confirms, _) =
            self.settled.wait_timeout_while(self.lock(), TICK, is_full).unwrap_or_else(PoisonError::into_inner);
        let count = to_count(window.saturating_sub(confirms.outstanding.count())).min(due_ns.len());
        confirms.push(due_ns.take(count));
        count
    }

    /// Reads confirms until all is written and confirmed.
    fn read(&self, client: &mut Client, progress: &Progress) -> Result<(), PerfError> {
        while !self.is_written.load(Relaxed) || self.lock().outstanding.count() != 0 {
            client.fill()?;
            self.lock().take(client, progress)?;
            self.settled.notify_one();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Confirms> {
        self.confirms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_protocol::{DeliveryTag, Method, basic, split_frame};

    fn confirm(method: impl Into<Method>) -> Option<Confirm> {
        let mut out = Vec::new();
        method.into().encode_frame(super::super::client::CHANNEL, &mut out);
        let (frame, _) = split_frame(&out, 4096).expect("the frame is well-formed").expect("the frame is complete");
        Confirm::of(&frame)
    }

    #[test]
    fn acks_and_nacks_are_confirms() {
        let delivery_tag = DeliveryTag::new(7);
        assert_eq!(
            confirm(basic::Ack { delivery_tag, multiple: true }),
            Some(Confirm { tag: 7, multiple: true, is_nack: false })
        );
        assert_eq!(
            confirm(basic::Nack { delivery_tag, multiple: false, requeue: true }),
            Some(Confirm { tag: 7, multiple: false, is_nack: true })
        );
        assert_eq!(confirm(basic::Reject { delivery_tag, requeue: true }), None);
        assert_eq!(confirm(basic::QosOk), None);
    }

    #[test]
    fn no_more_is_admitted_than_the_window_holds() {
        let shared = SharedConfirms::new();
        assert_eq!(shared.admit(3, [1, 2].into_iter()), 2);
        assert_eq!(shared.admit(3, [3, 4].into_iter()), 1);
        assert_eq!(shared.admit(3, [4].into_iter()), 0);
        shared.lock().outstanding.settle(3, true, |_| {});
        assert_eq!(shared.admit(3, [4].into_iter()), 1);
    }
}
