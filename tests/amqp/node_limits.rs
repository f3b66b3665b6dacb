//! How many connections and channels the whole broker takes.

use crate::support::TunedBroker;

#[test]
fn connections_beyond_the_nodes_limit_are_refused_until_one_has_gone() {
    let broker = TunedBroker::start(|config| config.node_limits.connections = Some(2));
    let first = broker.open();
    let _second = broker.open();
    let mut third = broker.options().ask_to_open();
    third.expect_connection_close(530, "connection refused: node connection limit (2) is reached", (10, 40));
    first.close();
    crate::support::wait_until("there is room for another", || {
        let mut client = broker.options().ask_to_open();
        let next = client.next(crate::support::DEADLINE).expect("an answer");
        matches!(next.method, leveret_protocol::Method::ConnectionOpenOk(_))
    });
}

#[test]
fn a_channel_beyond_the_nodes_limit_ends_its_connection() {
    let broker = TunedBroker::start(|config| {
        config.node_limits.channels = Some(2);
        config.node_name = "rabbit@here".to_owned();
    });
    let mut first = broker.open();
    first.open_channel(2);
    first.close_channel(2);
    let mut second = broker.open();
    second.send(2, leveret_protocol::channel::Open::default());
    let text = "number of channels opened on node 'rabbit@here' has reached the maximum allowed limit of (2)";
    second.expect_connection_close(530, text, (0, 0));
    // Its channels are free again.
    first.open_channel(2);
}
