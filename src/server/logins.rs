//! How many logins there were, and how many failed, by protocol.

use std::sync::atomic::{AtomicU64, Ordering};

/// What somebody logs in over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginProtocol {
    Amqp,
    Http,
}

impl LoginProtocol {
    pub(crate) const ALL: [Self; 2] = [Self::Amqp, Self::Http];

    /// RabbitMQ's word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Amqp => "amqp091",
            Self::Http => "http",
        }
    }
}

#[derive(Debug, Default)]
struct Counter {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// Counts logins.
#[derive(Debug, Default)]
pub(crate) struct Logins([Counter; 2]);

/// Logins over a protocol since they were last set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoginFigures {
    pub(crate) protocol: LoginProtocol,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

impl Logins {
    /// Counts one.
    pub(crate) fn count(&self, protocol: LoginProtocol, succeeded: bool) {
        let counter = &self.0[protocol as usize];
        let outcome = if succeeded { &counter.succeeded } else { &counter.failed };
        outcome.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted.
    pub(crate) fn figures(&self) -> [LoginFigures; 2] {
        LoginProtocol::ALL.map(|protocol| {
            let counter = &self.0[protocol as usize];
            LoginFigures {
                protocol,
                succeeded: counter.succeeded.load(Ordering::Relaxed),
                failed: counter.failed.load(Ordering::Relaxed),
            }
        })
    }

    /// Starts again at zero.
    pub(crate) fn reset(&self) {
        for counter in &self.0 {
            counter.succeeded.store(0, Ordering::Relaxed);
            counter.failed.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_counted_apart() {
        let logins = Logins::default();
        logins.count(LoginProtocol::Http, true);
        logins.count(LoginProtocol::Http, false);
        logins.count(LoginProtocol::Amqp, false);
        let [amqp, http] = logins.figures();
        assert_eq!((amqp.protocol.name(), amqp.succeeded, amqp.failed), ("amqp091", 0, 1));
        assert_eq!((http.protocol.name(), http.succeeded, http.failed), ("http", 1, 1));
        logins.reset();
        assert!(logins.figures().iter().all(|figures| (figures.succeeded, figures.failed) == (0, 0)));
    }
}
