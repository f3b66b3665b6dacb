//! Logins that failed, by the address that they came from: each makes the next one wait longer.
//!
//! Right credentials never wait, so that a client with an old password does not hinder others behind its address. But of
//! those who are made to wait only so many may do so at once; then everybody from there is turned away unheard. So
//! somebody who guesses gets some ten guesses a second, however many connections they open.
//!
//! Memory is bounded: so many addresses, those forgotten first that were silent longest.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Addresses that are remembered.
const SOURCES_MAX: usize = 4096;
/// After this long without a failure an address starts anew.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// What the first failure costs; each further one doubles it.
const DELAY_MIN: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_millis(1600);
/// Failures of an address that wait for their answer.
const WAITING_MAX: u32 = 16;

#[derive(Debug)]
struct Source {
    failures: u32,
    waiting: u32,
    last: Instant,
}

/// Who failed to log in.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, Source>>);

/// A whole network of IPv6 belongs to one customer.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let segments = address.segments();
            Ipv6Addr::new(segments[0], segments[1], segments[2], segments[3], 0, 0, 0, 0).into()
        }
    }
}

impl Attempts {
    /// Whether an address is heard at all.
    pub(super) fn is_heard(&self, from: IpAddr) -> bool {
        self.0.lock().get(&source_of(from)).is_none_or(|source| source.waiting < WAITING_MAX)
    }

    /// A login failed: how long to wait before saying so. [`Attempts::answered`] must follow.
    pub(super) fn failed(&self, from: IpAddr, now: Instant) -> Duration {
        let mut sources = self.0.lock();
        let key = source_of(from);
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&key) {
            forget(&mut sources, now);
        }
        let source = sources.entry(key).or_insert(Source { failures: 0, waiting: 0, last: now });
        if now.saturating_duration_since(source.last) > FORGET_AFTER {
            source.failures = 0;
        }
        let delay = DELAY_MIN.saturating_mul(1 << source.failures.min(8)).min(DELAY_MAX);
        source.failures = source.failures.saturating_add(1);
        source.waiting += 1;
        source.last = now;
        delay
    }

    /// The answer to a failure is on its way.
    pub(super) fn answered(&self, from: IpAddr) {
        if let Some(source) = self.0.lock().get_mut(&source_of(from)) {
            source.waiting = source.waiting.saturating_sub(1);
        }
    }
}

/// Makes room: those that were silent for long, or else the half that was silent longest. Nobody who waits is forgotten.
fn forget(sources: &mut HashMap<IpAddr, Source>, now: Instant) {
    sources.retain(|_, source| source.waiting > 0 || now.saturating_duration_since(source.last) <= FORGET_AFTER);
    if sources.len() < SOURCES_MAX {
        return;
    }
    let mut times: Vec<Instant> = sources.values().map(|source| source.last).collect();
    let middle = times.len() / 2;
    let (_, middle, _) = times.select_nth_unstable(middle);
    let middle = *middle;
    sources.retain(|_, source| source.waiting > 0 || source.last > middle);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::clock;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn each_failure_costs_more_until_it_is_forgotten() {
        let (attempts, start) = (Attempts::default(), clock::instant());
        let costs: Vec<_> = (0..8).map(|_| attempts.failed(PEER, start).as_millis()).collect();
        assert_eq!(costs, [50, 100, 200, 400, 800, 1600, 1600, 1600]);
        assert_eq!(attempts.failed("192.0.2.2".parse().expect("address"), start), DELAY_MIN);
        assert_eq!(attempts.failed(PEER, start + FORGET_AFTER + DELAY_MIN), DELAY_MIN);
    }

    #[test]
    fn who_makes_too_many_wait_is_not_heard() {
        let (attempts, start) = (Attempts::default(), clock::instant());
        for _ in 0..WAITING_MAX {
            assert!(attempts.is_heard(PEER));
            attempts.failed(PEER, start);
        }
        assert!(!attempts.is_heard(PEER));
        attempts.answered(PEER);
        assert!(attempts.is_heard(PEER));
    }

    #[test]
    fn memory_is_bounded() {
        let (attempts, start) = (Attempts::default(), clock::instant());
        for number in 0..3 * SOURCES_MAX {
            let address = IpAddr::V4(std::net::Ipv4Addr::from(u32::try_from(number).expect("small")));
            attempts.failed(address, start + Duration::from_millis(number as u64));
            attempts.answered(address);
        }
        assert!(attempts.0.lock().len() <= SOURCES_MAX);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let of = |text: &str| source_of(text.parse().expect("address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_eq!(of("::ffff:192.0.2.1"), PEER);
    }
}
