//! Connections that do not log in: only so many, for only so long.

use crate::support::{DEADLINE, Options, TunedBroker, millis};

#[test]
fn a_thousand_silent_connections_keep_nobody_out() {
    let broker = TunedBroker::start(|config| {
        config.handshake_connections_max = Some(100);
        config.handshake_timeout = std::time::Duration::from_secs(600);
    });
    let mut silent: Vec<_> = (0..1000).map(|_| broker.options().raw()).collect();
    let started = std::time::Instant::now();
    broker.open().close();
    assert!(started.elapsed() < DEADLINE);
    // The oldest had to make room for the others.
    assert!(silent[0].is_closed_within(DEADLINE) && silent[500].is_closed_within(DEADLINE));
    assert!(!silent[999].is_closed_within(millis(50)));
}

#[test]
fn whoever_has_logged_in_is_not_counted() {
    let broker = TunedBroker::start(|config| config.handshake_connections_max = Some(2));
    let mut open: Vec<_> = (0..10).map(|_| broker.open()).collect();
    let _silent: Vec<_> = (0..10).map(|_| broker.options().raw()).collect();
    broker.open().close();
    for client in &mut open {
        client.open_channel(2);
    }
}

#[test]
fn the_whole_handshake_has_one_deadline() {
    let broker = TunedBroker::start(|config| config.handshake_timeout = millis(300));
    let (mut started, _) = broker.options().begin();
    let mut silent = broker.options().raw();
    assert!(started.is_closed_within(DEADLINE) && silent.is_closed_within(DEADLINE));
    let options = Options { response: Some(b"\0guest\0wrong".to_vec()), ..broker.options() };
    options.log_in().expect_connection_close(
        403,
        "Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
        (0, 0),
    );
}
