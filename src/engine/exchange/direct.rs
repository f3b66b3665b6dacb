//! Direct exchange: to the queues bound with the message's routing key (spec §3.1.3.1).

use std::collections::HashMap;

use leveret_protocol::ShortString;

use super::{Destination, Destinations};

/// Destinations by binding key.
#[derive(Debug, Default)]
pub struct Direct(HashMap<ShortString, Destinations>);

impl Direct {
    pub(super) fn bind(&mut self, key: &ShortString, destination: &Destination) {
        self.0.entry(key.clone()).or_default().add(destination);
    }

    pub(super) fn unbind(&mut self, key: &ShortString, destination: &Destination) {
        if let Some(destinations) = self.0.get_mut(key.as_bytes()) {
            destinations.remove(destination);
            if destinations.is_empty() {
                self.0.remove(key.as_bytes());
            }
        }
    }

    pub(super) fn route<'a>(&'a self, key: &[u8], out: &mut Vec<&'a Destination>) {
        if let Some(destinations) = self.0.get(key) {
            destinations.collect(out);
        }
    }
}
