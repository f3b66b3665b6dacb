//! Connections that have not logged in yet: only so many at once.
//!
//! One more than that ends the one that has waited longest among those of the address that has most of them. So a flood of
//! silent connections ends itself and others still get in; a client that logs in needs a few round trips, no more.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Who waits. The lock is a leaf.
#[derive(Debug)]
pub(crate) struct WaitingRoom(Mutex<Room>);

#[derive(Debug, Default)]
struct Room {
    max: Option<usize>,
    next: u64,
    /// By address; the smaller a number the longer it waits.
    waiting: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
    count: usize,
    ended: u64,
}

/// A place in the room, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<WaitingRoom>,
    address: IpAddr,
    number: u64,
    ended: CancellationToken,
}

impl WaitingRoom {
    pub(super) fn new(max: Option<usize>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Room { max, ..Room::default() })))
    }

    /// Another size; it counts from the next that enters on.
    pub(super) fn resize(&self, max: Option<usize>) {
        self.0.lock().max = max;
    }

    /// Lets a connection in.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Place {
        let ended = CancellationToken::new();
        let mut room = self.0.lock();
        while room.max.is_some_and(|max| room.count >= max.max(1)) {
            room.end_one();
        }
        let number = room.next;
        room.next += 1;
        room.count += 1;
        room.waiting.entry(address).or_default().insert(number, ended.clone());
        Place { room: self.clone(), address, number, ended }
    }

    /// How many wait, and how many had to go.
    #[cfg(test)]
    fn figures(&self) -> (usize, u64) {
        let room = self.0.lock();
        (room.count, room.ended)
    }
}

impl Room {
    fn end_one(&mut self) {
        let oldest = |waiting: &BTreeMap<u64, CancellationToken>| waiting.keys().next().copied();
        let crowd = self.waiting.iter().max_by_key(|(_, waiting)| (waiting.len(), std::cmp::Reverse(oldest(waiting))));
        let Some((address, Some(number))) = crowd.map(|(address, waiting)| (*address, oldest(waiting))) else {
            // There is nobody; the count says otherwise only if it is wrong.
            self.count = 0;
            return;
        };
        if let Some(token) = self.remove(address, number) {
            self.ended += 1;
            token.cancel();
        }
    }

    fn remove(&mut self, address: IpAddr, number: u64) -> Option<CancellationToken> {
        let waiting = self.waiting.get_mut(&address)?;
        let token = waiting.remove(&number);
        if waiting.is_empty() {
            self.waiting.remove(&address);
        }
        if token.is_some() {
            self.count -= 1;
        }
        token
    }
}

impl Place {
    /// Completes when the connection has to go because too many wait.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.0.lock().remove(self.address, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CROWD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn one_too_many_ends_the_oldest_of_the_largest_crowd() {
        let room = WaitingRoom::new(Some(3));
        let other = room.enter(OTHER);
        let (first, second) = (room.enter(CROWD), room.enter(CROWD));
        assert_eq!(room.figures(), (3, 0));
        let third = room.enter(CROWD);
        assert!(first.ended.is_cancelled() && !second.ended.is_cancelled() && !other.ended.is_cancelled());
        drop(first);
        assert_eq!(room.figures(), (3, 1));
        drop(second);
        let _fourth = room.enter(OTHER);
        assert_eq!(room.figures(), (3, 1));
        assert!(!third.ended.is_cancelled() && !other.ended.is_cancelled());
    }

    #[test]
    fn a_place_is_given_back_and_the_size_may_change() {
        let room = WaitingRoom::new(None);
        let all: Vec<Place> = (0..100).map(|_| room.enter(CROWD)).collect();
        assert_eq!(room.figures(), (100, 0));
        room.resize(Some(1));
        let last = room.enter(OTHER);
        assert_eq!(room.figures(), (1, 100));
        assert!(all.iter().all(|place| place.ended.is_cancelled()) && !last.ended.is_cancelled());
        drop((all, last));
        assert_eq!(room.figures(), (0, 100));
        assert!(room.0.lock().waiting.is_empty());
    }
}
