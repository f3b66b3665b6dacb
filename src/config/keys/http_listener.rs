//! How port and address of an [`HttpListener`] are read and shown.

use std::net::SocketAddr;

use crate::config::HttpListener;
use crate::config::key::{Given, Shown};

/// Takes a port, or `none` for no listener.
pub(super) fn set_port(listener: &mut HttpListener, given: &Given<'_>) -> Result<(), String> {
    if given.value == "none" {
        listener.listen_on(Vec::new());
    } else {
        listener.set_port(given.number()?);
    }
    Ok(())
}

pub(super) fn set_address(listener: &mut HttpListener, given: &Given<'_>) -> Result<(), String> {
    listener.set_address(given.value.parse().map_err(|_| format!("no address: '{}'", given.value))?);
    Ok(())
}

pub(super) fn port(listener: &HttpListener) -> Shown {
    Shown::or(listener.addresses.first().map(SocketAddr::port), "none")
}

pub(super) fn address(listener: &HttpListener) -> Shown {
    Shown::or(listener.addresses.first().map(SocketAddr::ip), "none")
}
