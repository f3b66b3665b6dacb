//! Fanout exchange: to every queue bound, whatever the key (spec §3.1.3.2).

use super::{Destination, Destinations};

/// Everybody bound.
#[derive(Debug, Default)]
pub struct Fanout(Destinations);

impl Fanout {
    pub(super) fn bind(&mut self, destination: &Destination) {
        self.0.add(destination);
    }

    pub(super) fn unbind(&mut self, destination: &Destination) {
        self.0.remove(destination);
    }

    pub(super) fn route<'a>(&'a self, out: &mut Vec<&'a Destination>) {
        self.0.collect(out);
    }
}
