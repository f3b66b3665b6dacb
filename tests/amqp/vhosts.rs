//! Vhosts and users that come, go and have limits.

use leveret::engine::directory::{PermissionRecord, Record, VhostRecord};
use leveret_protocol::{basic, queue};

use crate::support::{Fixture, Options, long, passive, persistent, plain, s, table};

const EVERYTHING: [&str; 3] = [".*", ".*", ".*"];

fn fixture() -> Option<Fixture> {
    let fixture = Fixture::new()?;
    fixture.broker.directory()?;
    Some(fixture)
}

fn as_user(fixture: &Fixture, user: &str, vhost: &'static str) -> Options {
    Options { response: Some(plain(user, user)), vhost, ..fixture.broker.options() }
}

fn durable(name: &str) -> queue::Declare {
    queue::Declare { queue: s(name), durable: true, ..queue::Declare::default() }
}

#[test]
fn a_vhost_is_entered_with_a_permission_only() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    directory.vhost("orders", &[]);
    let mut refused = Options { vhost: "orders", ..fixture.broker.options() }.ask_to_open();
    refused.expect_connection_close(530, "access to vhost 'orders' refused for user 'guest'", (10, 40));
    // An empty entry is enough.
    directory.permit("orders", "guest", ["", "", ""]);
    Options { vhost: "orders", ..fixture.broker.options() }.open();
}

#[test]
fn names_in_one_vhost_are_not_those_in_another() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    directory.vhost("a", &[]);
    directory.permit("a", "guest", EVERYTHING);
    let mut there = Options { vhost: "a", ..fixture.broker.options() }.open();
    let mut here = fixture.open();
    for client in [&mut there, &mut here] {
        client.declare(1, durable("q"));
    }
    there.enqueue(1, "q", &["there"]);
    here.expect_ready(1, "q", 0);
    there.expect_ready(1, "q", 1);
}

#[test]
fn a_deleted_vhost_takes_everything_with_it() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    directory.vhost("a", &[]);
    directory.permit("a", "guest", EVERYTHING);
    let mut client = Options { vhost: "a", ..fixture.broker.options() }.open();
    client.declare(1, durable("q"));
    client.bind(1, "q", "amq.direct", "k");
    client.select_confirms(1);
    client.publish_with(1, "", "q", &persistent(), "gone");
    client.expect_ack(1, 1);
    directory.remove(&Record::Vhost(VhostRecord { name: "a".to_owned(), ..VhostRecord::default() }));
    client.expect_connection_close(320, "vhost 'a' is deleted", (0, 0));
    let mut refused = Options { vhost: "a", ..fixture.broker.options() }.ask_to_open();
    refused.expect_connection_close(530, "vhost a not found", (10, 40));
    // Made anew it is empty, after a restart too.
    let fixture = fixture.restart();
    let directory = fixture.broker.directory().expect("ours");
    directory.vhost("a", &[]);
    directory.permit("a", "guest", EVERYTHING);
    let mut client = Options { vhost: "a", ..fixture.broker.options() }.open();
    client.send(1, passive("q"));
    client.expect_channel_close(1, 404, "no queue 'q' in vhost 'a'", (50, 10));
}

#[test]
fn limits_on_connections_queues_and_channels_hold() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    directory.vhost("small", &[("max-connections", 1), ("max-queues", 1)]);
    directory.user("one", &[], &[("max-connections", 1), ("max-channels", 2)]);
    for (vhost, user) in [("small", "guest"), ("/", "one")] {
        directory.permit(vhost, user, EVERYTHING);
    }
    let mut first = Options { vhost: "small", ..fixture.broker.options() }.open();
    let mut refused = Options { vhost: "small", ..fixture.broker.options() }.ask_to_open();
    let text = "access to vhost 'small' refused for user 'guest': connection limit (1) is reached";
    refused.expect_connection_close(530, text, (10, 40));
    first.declare(1, durable("q"));
    first.declare(1, durable("q"));
    first.send(1, durable("q2"));
    let text = "cannot declare queue 'q2': queue limit in vhost 'small' (1) is reached";
    first.expect_channel_close(1, 406, text, (50, 10));
    first.close();
    // The place is free again.
    Options { vhost: "small", ..fixture.broker.options() }.open().close();

    let mut only = as_user(&fixture, "one", "/").open();
    let mut refused = as_user(&fixture, "one", "/").ask_to_open();
    let text = "connection refused for user 'one': user connection limit (1) is reached";
    refused.expect_connection_close(530, text, (10, 40));
    only.open_channel(2);
    only.close_channel(2);
    only.open_channel(2);
    only.send(3, leveret_protocol::channel::Open::default());
    let text = "number of channels opened for user 'one' has reached the maximum allowed user limit of (2)";
    only.expect_connection_close(530, text, (0, 0));
}

#[test]
fn a_deleted_user_is_cut_off() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    directory.user("clerk", &[], &[]);
    directory.permit("/", "clerk", EVERYTHING);
    let mut client = as_user(&fixture, "clerk", "/").open();
    let record = PermissionRecord {
        user: "clerk".to_owned(),
        vhost: "/".to_owned(),
        configure: String::new(),
        write: String::new(),
        read: String::new(),
    };
    directory.remove(&Record::User(leveret::engine::directory::User {
        name: record.user.clone(),
        password_hash: String::new(),
        hashing_algorithm: leveret::engine::directory::HashingAlgorithm::default(),
        tags: Vec::new(),
        limits: std::collections::BTreeMap::new(),
    }));
    client.expect_connection_close(320, "user 'clerk' is deleted", (0, 0));
    let mut refused = as_user(&fixture, "clerk", "/").log_in();
    refused.expect_connection_close_code(403);
}

#[test]
fn the_default_queue_type_of_a_vhost_fills_in_for_the_client() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    let default_queue_type = Some("quorum".to_owned());
    directory.put(Record::Vhost(VhostRecord { name: "v".to_owned(), default_queue_type, ..VhostRecord::default() }));
    directory.permit("v", "guest", EVERYTHING);
    let mut client = Options { vhost: "v", ..fixture.broker.options() }.open();
    client.declare(1, durable("q"));
    client.send(1, queue::Declare { arguments: table([("x-queue-type", long("classic"))]), ..durable("q") });
    let text = "inequivalent arg 'x-queue-type' for queue 'q' in vhost 'v': received 'classic' but current is 'quorum'";
    client.expect_channel_close(1, 406, text, (50, 10));
    // What a quorum queue cannot be stays classic.
    client.open_channel(1);
    client.declare(1, queue::Declare { durable: false, exclusive: true, ..durable("e") });
    client.call::<basic::GetEmpty>(1, basic::Get { queue: s("e"), ..basic::Get::default() });
}
