//! Consuming: deliveries are taken apart only as far as needed, and acknowledged in batches of frames.

use leveret_protocol::{FrameKind, HeaderRef, Method, RawFrame, basic};

use super::client::{CHANNEL, Client, check_other_frame};
use super::error::PerfError;
use super::latency::Latencies;
use super::messages::TIMESTAMP_BYTES;
use super::progress::{Phase, Progress};
use super::topology::consumer_tag;

/// The octets of a frame with `basic.ack`.
const ACK_FRAME_BYTES: usize = 21;

/// A connection that consumes.
#[derive(Debug)]
pub(super) struct Consumer<'a> {
    pub(super) client: Client,
    pub(super) acks: Acks,
    /// Whether bodies begin with a time of this run.
    pub(super) has_timestamps: bool,
    pub(super) write_bytes: usize,
    pub(super) progress: &'a Progress,
}

impl Consumer<'_> {
    /// Consumes until the run is over. Returns the latencies of the deliveries.
    pub(super) fn run(self) -> Result<Latencies, PerfError> {
        let Self { mut client, acks, has_timestamps, write_bytes, progress } = self;
        let mut deliveries = Deliveries::new(acks, has_timestamps);
        let mut is_cancelling = false;
        while !deliveries.is_cancelled {
            if !is_cancelling && progress.has_reached(Phase::Stop) {
                client.send(basic::Cancel { consumer_tag: consumer_tag(), no_wait: false })?;
                is_cancelling = true;
            }
            client.fill()?;
            deliveries.now_ns = progress.clock.now_ns();
            while let Some(frame) = client.next_frame()? {
                deliveries.on_frame(&frame, progress)?;
                if deliveries.acks.frames.len() + ACK_FRAME_BYTES > write_bytes {
                    flush(&mut client, &mut deliveries.acks)?;
                }
            }
            flush(&mut client, &mut deliveries.acks)?;
            deliveries.count(progress);
        }
        deliveries.acks.finish();
        flush(&mut client, &mut deliveries.acks)?;
        client.close()?;
        Ok(deliveries.latencies)
    }
}

#[inline]
fn flush(client: &mut Client, acks: &mut Acks) -> Result<(), PerfError> {
    if !acks.frames.is_empty() {
        client.write(&acks.frames)?;
        acks.frames.clear();
    }
    Ok(())
}

/// Where a channel stands between a deliver method and its last body frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Assembly {
    Idle,
    AwaitingHeader { tag: u64 },
    AwaitingBody { tag: u64, remaining: u64, is_first: bool },
}

/// What has been delivered on a channel.
#[derive(Debug)]
struct Deliveries {
    assembly: Assembly,
    acks: Acks,
    latencies: Latencies,
    has_timestamps: bool,
    /// When the octets at hand were read.
    now_ns: u64,
    /// Deliveries not yet counted elsewhere.
    consumed: u64,
    /// How many of them had been delivered before.
    redelivered: u64,
    /// Whether the broker has said that there will be no more.
    is_cancelled: bool,
}

impl Deliveries {
    fn new(acks: Acks, has_timestamps: bool) -> Self {
        Self {
            assembly: Assembly::Idle,
            acks,
            latencies: Latencies::new(),
            has_timestamps,
            now_ns: 0,
            consumed: 0,
            redelivered: 0,
            is_cancelled: false,
        }
    }

    /// Hands on the counts.
    fn count(&mut self, progress: &Progress) {
        self.latencies.flush(self.now_ns, progress);
        if self.consumed != 0 {
            progress.add_consumed(self.consumed, self.redelivered);
        }
        (self.consumed, self.redelivered) = (0, 0);
    }

    #[inline]
    fn on_frame(&mut self, frame: &RawFrame<'_>, progress: &Progress) -> Result<(), PerfError> {
        match (FrameKind::from_octet(frame.kind), self.assembly) {
            (Some(FrameKind::Method), Assembly::Idle) => self.on_method(frame),
            (Some(FrameKind::Header), Assembly::AwaitingHeader { tag }) => self.on_header(tag, frame.payload),
            (Some(FrameKind::Body), Assembly::AwaitingBody { tag, remaining, is_first }) => {
                if is_first {
                    self.on_timestamp(frame.payload, progress);
                }
                self.on_body(tag, remaining, frame.payload.len())
            }
            // A heartbeat, or a method for the connection; anything else breaks the sequence.
            _ if frame.channel != CHANNEL => check_other_frame(frame),
            _ => Err(PerfError::Unexpected(format!("a frame of type {} within a content", frame.kind))),
        }
    }

    #[inline]
    fn on_method(&mut self, frame: &RawFrame<'_>) -> Result<(), PerfError> {
        if let Some((tag, is_redelivered)) = deliver(frame.payload) {
            self.redelivered += u64::from(is_redelivered);
            self.assembly = Assembly::AwaitingHeader { tag };
            return Ok(());
        }
        if let Ok(Method::BasicCancelOk(_)) = Method::decode(frame.payload) {
            self.is_cancelled = true;
            return Ok(());
        }
        check_other_frame(frame)
    }

    #[inline]
    fn on_header(&mut self, tag: u64, payload: &[u8]) -> Result<(), PerfError> {
        let remaining = HeaderRef::decode(payload).map_err(PerfError::Decode)?.body_size;
        if remaining == 0 {
            self.complete(tag);
        } else {
            self.assembly = Assembly::AwaitingBody { tag, remaining, is_first: true };
        }
        Ok(())
    }

    #[inline]
    fn on_timestamp(&mut self, payload: &[u8], progress: &Progress) {
        if let Some(due_ns) = payload.first_chunk::<TIMESTAMP_BYTES>().filter(|_| self.has_timestamps) {
            self.latencies.record(u64::from_be_bytes(*due_ns), self.now_ns, progress);
        }
    }

    #[inline]
    fn on_body(&mut self, tag: u64, remaining: u64, len: usize) -> Result<(), PerfError> {
        match u64::try_from(len).ok().and_then(|len| remaining.checked_sub(len)) {
            Some(0) => self.complete(tag),
            Some(remaining) => self.assembly = Assembly::AwaitingBody { tag, remaining, is_first: false },
            None => return Err(PerfError::Unexpected(String::from("a body longer than its header says"))),
        }
        Ok(())
    }

    #[inline]
    fn complete(&mut self, tag: u64) {
        self.assembly = Assembly::Idle;
        self.consumed += 1;
        self.acks.on_delivery(tag);
    }
}

/// Delivery tag and redelivered flag, if a method is `basic.deliver`.
#[inline]
fn deliver(payload: &[u8]) -> Option<(u64, bool)> {
    const DELIVER: [u8; 4] = [0, 60, 0, 60];
    let (consumer_tag_len, rest) = payload.strip_prefix(&DELIVER)?.split_first()?;
    let (tag, rest) = rest.get(usize::from(*consumer_tag_len)..)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*tag), rest.first()? & 1 == 1))
}

/// Acknowledgements to be written.
#[derive(Debug)]
pub(super) struct Acks {
    /// Every how many deliveries an ack is due; 0 is never.
    every: u16,
    /// Deliveries since the last ack.
    unacked: u16,
    last_tag: u64,
    frames: Vec<u8>,
}

impl Acks {
    /// Acknowledges every Nth delivery.
    pub(super) fn every(every: u16) -> Self {
        Self { every, unacked: 0, last_tag: 0, frames: Vec::new() }
    }

    /// Acknowledges nothing.
    pub(super) fn never() -> Self {
        Self::every(0)
    }

    #[inline]
    fn on_delivery(&mut self, tag: u64) {
        if self.every != 0 {
            self.last_tag = tag;
            self.unacked += 1;
            if self.unacked == self.every {
                self.put(self.every > 1);
            }
        }
    }

    /// Acknowledges what is left.
    fn finish(&mut self) {
        if self.unacked != 0 {
            self.put(true);
        }
    }

    #[inline]
    fn put(&mut self, multiple: bool) {
        const BEFORE_TAG: [u8; 11] = [1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80];
        let mut frame = [0; ACK_FRAME_BYTES];
        frame[..11].copy_from_slice(&BEFORE_TAG);
        frame[11..19].copy_from_slice(&self.last_tag.to_be_bytes());
        frame[19] = u8::from(multiple);
        frame[20] = leveret_protocol::FRAME_END;
        self.frames.extend_from_slice(&frame);
        self.unacked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::clock::Clock;
    use leveret_protocol::{DeliveryTag, ShortString, encode_content, split_frame};

    fn delivery(tag: u64, redelivered: bool, body: &[u8]) -> Vec<u8> {
        let deliver = basic::Deliver {
            consumer_tag: consumer_tag(),
            delivery_tag: DeliveryTag::new(tag),
            redelivered,
            exchange: ShortString::default(),
            routing_key: ShortString::from_static("q"),
        };
        let mut out = Vec::new();
        Method::from(deliver).encode_frame(CHANNEL, &mut out);
        encode_content(CHANNEL, &[0, 0], body, 20, &mut out);
        out
    }

    fn feed(deliveries: &mut Deliveries, mut octets: &[u8], progress: &Progress) -> Result<(), PerfError> {
        while let Some((frame, consumed)) = split_frame(octets, 4096).expect("frames are well-formed") {
            deliveries.on_frame(&frame, progress)?;
            octets = &octets[consumed..];
        }
        Ok(())
    }

    /// Tag and `multiple` of the acks written.
    fn acks(deliveries: &Deliveries) -> Vec<(u64, bool)> {
        let mut octets = &deliveries.acks.frames[..];
        let mut acks = Vec::new();
        while let Some((frame, consumed)) = split_frame(octets, 4096).expect("frames are well-formed") {
            match Method::decode(frame.payload) {
                Ok(Method::BasicAck(ack)) => acks.push((ack.delivery_tag.get(), ack.multiple)),
                other => panic!("not an ack: {other:?}"),
            }
            octets = &octets[consumed..];
        }
        acks
    }

    #[test]
    fn deliveries_are_counted_timed_and_acknowledged() {
        let progress = Progress::new(Clock::start(), 0, 1);
        progress.begin_measurement();
        let mut deliveries = Deliveries::new(Acks::every(1), true);
        let due_ns = progress.clock.now_ns();
        deliveries.now_ns = due_ns + 1_000_000;
        let body = [&due_ns.to_be_bytes()[..], &[7; 30]].concat();
        feed(&mut deliveries, &delivery(1, false, &body), &progress).expect("the delivery is good");
        feed(&mut deliveries, &delivery(2, true, b""), &progress).expect("the delivery is good");
        assert_eq!(acks(&deliveries), [(1, false), (2, false)]);
        deliveries.count(&progress);
        assert_eq!((progress.counts().consumed, progress.counts().redelivered), (2, 1));
        let quantiles = deliveries.latencies.quantiles().expect("one body had a time");
        assert_eq!((quantiles.count, quantiles.max), (1, 1000));
    }

    #[test]
    fn multiple_acks_leave_a_rest_to_the_end() {
        let progress = Progress::new(Clock::start(), 0, 1);
        let mut deliveries = Deliveries::new(Acks::every(3), false);
        for tag in 1..=8 {
            feed(&mut deliveries, &delivery(tag, false, b"x"), &progress).expect("the delivery is good");
        }
        assert_eq!(acks(&deliveries), [(3, true), (6, true)]);
        deliveries.acks.finish();
        deliveries.acks.finish();
        assert_eq!(acks(&deliveries), [(3, true), (6, true), (8, true)]);
    }

    #[test]
    fn frames_out_of_sequence_and_closes_are_errors() {
        let progress = Progress::new(Clock::start(), 0, 1);
        let check = |octets: &[u8], text: &str| {
            let mut deliveries = Deliveries::new(Acks::never(), false);
            let error = feed(&mut deliveries, octets, &progress).expect_err("the octets are wrong");
            assert_eq!(error.to_string(), text);
        };
        let whole = delivery(1, false, b"x");
        let header_offset = split_frame(&whole, 4096).expect("well-formed").expect("complete").1;
        check(&whole[header_offset..], "unexpected from the broker: a frame of type 2 within a content");
        check(
            &whole.repeat(2)[..header_offset].repeat(2),
            "unexpected from the broker: a frame of type 1 within a content",
        );
        let mut cancel = Vec::new();
        Method::from(basic::Cancel { consumer_tag: consumer_tag(), no_wait: true }).encode_frame(CHANNEL, &mut cancel);
        check(&cancel, "unexpected from the broker: basic.cancel");
    }
}
