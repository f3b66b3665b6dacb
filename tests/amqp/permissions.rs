//! Permissions and topic permissions: who may do what to which name (RabbitMQ's access control).
//!
//! They need users of their own, so they run on brokers of their own; the oracle's users are left alone.

use leveret_protocol::{Method, basic, exchange, queue};

use crate::support::{
    Client, DirectoryOf, Fixture, Options, consume, long, no_properties, passive, plain, publish_to, s, table,
};

const USER: &str = "clerk";

fn fixture(rights: [&str; 3]) -> Option<Fixture> {
    let fixture = Fixture::new()?;
    let directory = fixture.broker.directory()?;
    directory.user(USER, &[], &[]);
    directory.permit("/", USER, rights);
    Some(fixture)
}

fn directory(fixture: &Fixture) -> DirectoryOf<'_> {
    fixture.broker.directory().expect("a broker of our own")
}

fn options(fixture: &Fixture) -> Options {
    Options { response: Some(plain(USER, USER)), ..fixture.broker.options() }
}

#[track_caller]
fn check_refused(client: &mut Client, method: impl Into<Method>, what: &str) {
    let method = method.into();
    let (class, number) = method.ids();
    client.open_channel(9);
    client.send(9, method);
    let text = format!("{what} refused for user '{USER}'");
    client.expect_channel_close(9, 403, &text, (class.get(), number.get()));
}

fn declare(name: &str) -> queue::Declare {
    queue::Declare { queue: s(name), ..queue::Declare::default() }
}

fn declare_exchange(name: &str) -> exchange::Declare {
    exchange::Declare { exchange: s(name), kind: s("topic"), ..exchange::Declare::default() }
}

fn bind(queue: &str, exchange: &str, key: &str) -> queue::Bind {
    queue::Bind { queue: s(queue), exchange: s(exchange), routing_key: s(key), ..queue::Bind::default() }
}

#[test]
fn each_operation_needs_its_right() {
    let Some(fixture) = fixture(["^c", "^w", "^r"]) else { return };
    let mut owner = fixture.open();
    for name in ["c", "w", "r"] {
        owner.call::<queue::DeclareOk>(1, declare(name));
        owner.call::<exchange::DeclareOk>(1, declare_exchange(name));
    }
    let mut client = options(&fixture).open();
    let queue = |right: &str, name: &str| format!("{right} access to queue '{name}' in vhost '/'");
    let exchange = |right: &str, name: &str| format!("{right} access to exchange '{name}' in vhost '/'");
    client.call::<queue::DeclareOk>(1, declare("c"));
    check_refused(&mut client, declare("r"), &queue("configure", "r"));
    check_refused(&mut client, declare("missing"), &queue("configure", "missing"));
    check_refused(&mut client, queue::Delete { queue: s("r"), ..queue::Delete::default() }, &queue("configure", "r"));
    client.call::<exchange::DeclareOk>(1, declare_exchange("c"));
    check_refused(&mut client, declare_exchange("w"), &exchange("configure", "w"));
    let delete = exchange::Delete { exchange: s("w"), ..exchange::Delete::default() };
    check_refused(&mut client, delete, &exchange("configure", "w"));
    client.call::<queue::BindOk>(1, bind("w", "r", "k"));
    check_refused(&mut client, bind("r", "r", "k"), &queue("write", "r"));
    check_refused(&mut client, bind("w", "w", "k"), &exchange("read", "w"));
    let unbind = queue::Unbind { queue: s("r"), exchange: s("r"), routing_key: s("k"), ..queue::Unbind::default() };
    check_refused(&mut client, unbind, &queue("write", "r"));
    let e2e = |destination: &str, source: &str| exchange::Bind {
        destination: s(destination),
        source: s(source),
        ..exchange::Bind::default()
    };
    client.call::<exchange::BindOk>(1, e2e("w", "r"));
    check_refused(&mut client, e2e("r", "r"), &exchange("write", "r"));
    check_refused(&mut client, e2e("w", "w"), &exchange("read", "w"));
    client.consume(1, "r");
    check_refused(&mut client, consume("w"), &queue("read", "w"));
    check_refused(&mut client, basic::Get { queue: s("w"), ..basic::Get::default() }, &queue("read", "w"));
    check_refused(&mut client, queue::Purge { queue: s("w"), ..queue::Purge::default() }, &queue("read", "w"));
    // Passive declarations need no right.
    client.call::<queue::DeclareOk>(1, passive("w"));
}

#[test]
fn publishing_needs_write_on_the_exchange() {
    let Some(fixture) = fixture([".*", "^w$", ".*"]) else { return };
    let mut client = options(&fixture).open();
    client.call::<exchange::DeclareOk>(1, declare_exchange("w"));
    client.select_confirms(1);
    client.publish(1, "w", "k", "allowed");
    client.expect_ack(1, 1);
    for (name, shown) in [("", "amq.default"), ("amq.fanout", "amq.fanout"), ("missing", "missing")] {
        client.open_channel(2);
        client.send_content(2, publish_to(name, "k"), &no_properties(), b"refused");
        let text = format!("write access to exchange '{shown}' in vhost '/' refused for user '{USER}'");
        client.expect_channel_close(2, 403, &text, (60, 40));
    }
}

#[test]
fn a_dead_letter_or_alternate_exchange_needs_rights_of_its_own() {
    let Some(fixture) = fixture([".*", "^mine$", "^q"]) else { return };
    let mut client = options(&fixture).open();
    let queue = |name: &str, exchange: &str| queue::Declare {
        arguments: table([("x-dead-letter-exchange", long(exchange))]),
        ..declare(name)
    };
    client.call::<queue::DeclareOk>(1, queue("q", "mine"));
    check_refused(&mut client, queue("q2", "theirs"), "write access to exchange 'theirs' in vhost '/'");
    check_refused(&mut client, queue("p", "mine"), "read access to queue 'p' in vhost '/'");
    // What exists is only compared.
    client.call::<queue::DeclareOk>(1, queue("q", "mine"));
    let exchange = |name: &str, alternate: &str| exchange::Declare {
        arguments: table([("alternate-exchange", long(alternate))]),
        ..declare_exchange(name)
    };
    client.call::<exchange::DeclareOk>(1, exchange("qx", "mine"));
    check_refused(&mut client, exchange("qy", "theirs"), "write access to exchange 'theirs' in vhost '/'");
    check_refused(&mut client, exchange("x", "mine"), "read access to exchange 'x' in vhost '/'");
}

#[test]
fn topic_permissions_restrict_keys_at_their_exchange_only() {
    let Some(fixture) = fixture([".*", ".*", ".*"]) else { return };
    directory(&fixture).permit_topics(USER, "amq.topic", "^{username}\\.", "^r");
    let mut client = options(&fixture).open();
    client.declare(1, declare("q"));
    let topic =
        |right: &str, key: &str| format!("{right} access to topic '{key}' in exchange 'amq.topic' in vhost '/'");
    client.call::<queue::BindOk>(1, bind("q", "amq.topic", "r.#"));
    check_refused(&mut client, bind("q", "amq.topic", "#"), &topic("read", "#"));
    client.call::<queue::BindOk>(1, bind("q", "amq.direct", "b.x"));
    client.select_confirms(1);
    client.publish(1, "amq.topic", "clerk.x", "allowed");
    client.publish(1, "amq.direct", "b.x", "not restricted");
    client.expect_confirms(1, 1..=2);
    client.open_channel(2);
    client.send_content(2, publish_to("amq.topic", "b.x"), &no_properties(), b"refused");
    let text = format!("{} refused for user '{USER}'", topic("write", "b.x"));
    client.expect_channel_close(2, 403, &text, (60, 40));
}

#[test]
fn changed_rights_count_on_open_channels_at_once() {
    let Some(fixture) = fixture([".*", ".*", ".*"]) else { return };
    let mut client = options(&fixture).open();
    client.declare(1, declare("q"));
    client.select_confirms(1);
    client.publish(1, "", "q", "allowed");
    client.expect_ack(1, 1);
    directory(&fixture).permit("/", USER, [".*", "^nothing$", ".*"]);
    client.publish(1, "", "q", "refused");
    let text = format!("write access to exchange 'amq.default' in vhost '/' refused for user '{USER}'");
    client.expect_channel_close(1, 403, &text, (60, 40));
}

#[test]
fn changed_rights_count_for_connections_to_come() {
    let Some(fixture) = fixture(["^a", "", ""]) else { return };
    directory(&fixture).user("other", &[], &[]);
    directory(&fixture).permit("/", "other", ["^c", "", ""]);
    let other = Options { response: Some(plain("other", "other")), ..fixture.broker.options() };
    // Rights are kept for all connections of a user: each user's for itself, and none longer than they count.
    for (rights, own, others) in [("^a", "a1", "b1"), ("^b", "b2", "a2"), ("^a", "a3", "b3")] {
        directory(&fixture).permit("/", USER, [rights, "", ""]);
        for _ in 0..2 {
            let mut client = options(&fixture).open();
            client.call::<queue::DeclareOk>(1, declare(own));
            check_refused(&mut client, declare(others), &format!("configure access to queue '{others}' in vhost '/'"));
            other.clone().open().call::<queue::DeclareOk>(1, declare("c"));
        }
    }
}

#[test]
fn an_impersonator_publishes_with_the_id_of_another() {
    let Some(fixture) = fixture([".*", ".*", ".*"]) else { return };
    directory(&fixture).user(USER, &["impersonator"], &[]);
    let mut client = options(&fixture).open();
    client.declare(1, declare("q"));
    let properties = leveret_protocol::BasicProperties { user_id: Some(s("somebody")), ..no_properties() };
    client.publish_with(1, "", "q", &properties, "theirs");
    assert_eq!(client.wait_get(1, "q").text(), "theirs");
}

#[test]
fn rights_and_users_survive_a_restart() {
    let Some(fixture) = fixture(["^c", "", ""]) else { return };
    let fixture = fixture.restart();
    let mut client = options(&fixture).open();
    client.call::<queue::DeclareOk>(1, declare("c"));
    check_refused(&mut client, declare("d"), "configure access to queue 'd' in vhost '/'");
}
