//! What goes into an exchange and out of it.

use std::collections::HashMap;
use std::sync::Arc;

use leveret_protocol::ShortString;
use parking_lot::Mutex;

use super::{Flow, Statistics};
use crate::engine::statistics::{Count, Counts};
use crate::server::registry::VhostCell;

/// The figures of one exchange. An exchange that nobody published to has none.
#[derive(Debug, Default)]
pub(in crate::server) struct ExchangeStatistics(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    flow: Flow,
    hot: bool,
}

impl ExchangeStatistics {
    fn add(self: &Arc<Self>, statistics: &Statistics, into: u64, out: u64) {
        let mut counts = Counts::default();
        counts[Count::PublishIn] = into;
        counts[Count::PublishOut] = out;
        let mut state = self.0.lock();
        state.flow.add(&counts);
        if !std::mem::replace(&mut state.hot, true) {
            drop(state);
            statistics.exchange_is_hot(self);
        }
    }

    /// An interval is over. False when there is nothing to look at any more.
    pub(super) fn tick(&self, interval_ms: u64) -> bool {
        let mut state = self.0.lock();
        state.hot = state.flow.tick(interval_ms);
        state.hot
    }

    pub(in crate::server) fn flow(&self) -> Flow {
        self.0.lock().flow.clone()
    }
}

#[derive(Debug)]
struct Tally {
    exchange: Arc<ExchangeStatistics>,
    into: u64,
    out: u64,
}

/// What a connection published to each exchange in this turn.
#[derive(Debug, Default)]
pub(in crate::server) struct ExchangeTallies {
    all: Vec<Tally>,
    by_name: HashMap<Vec<u8>, usize>,
    /// The exchange of the publish at hand.
    current: usize,
    touched: Vec<usize>,
}

impl ExchangeTallies {
    /// The number of an exchange here.
    pub(in crate::server) fn number(&mut self, vhost: &VhostCell, exchange: &[u8]) -> usize {
        if let Some(number) = self.by_name.get(exchange) {
            return *number;
        }
        let name = ShortString::try_from(exchange).unwrap_or_default();
        self.all.push(Tally { exchange: vhost.exchange_statistics(&name), into: 0, out: 0 });
        self.by_name.insert(exchange.to_vec(), self.all.len() - 1);
        self.all.len() - 1
    }

    /// The next publish is to this exchange.
    #[inline]
    pub(in crate::server) fn select(&mut self, number: usize) {
        self.current = number;
    }

    /// A message was published to the exchange selected last, and routed to so many queues.
    #[inline]
    pub(in crate::server) fn count(&mut self, routed: u64) {
        let Some(tally) = self.all.get_mut(self.current) else { return };
        if tally.into == 0 {
            self.touched.push(self.current);
        }
        tally.into += 1;
        tally.out += routed;
    }

    /// Tells the exchanges.
    #[inline]
    pub(in crate::server) fn flush(&mut self, statistics: &Statistics) {
        for number in self.touched.drain(..) {
            let tally = &mut self.all[number];
            tally.exchange.add(statistics, std::mem::take(&mut tally.into), std::mem::take(&mut tally.out));
        }
    }
}
