//! Policies and operator policies: settings by name, changed while queues are in use (RabbitMQ extension).

use leveret::engine::directory::Record;
use leveret_protocol::{FieldTable, queue};
use serde_json::json;

use crate::support::{Client, Fixture, int, long, policy, s, table};

fn fixture() -> Option<Fixture> {
    let fixture = Fixture::new()?;
    fixture.broker.directory()?;
    Some(fixture)
}

fn queue_with(client: &mut Client, name: &str, arguments: FieldTable) {
    client.declare(1, queue::Declare { queue: s(name), durable: true, arguments, ..queue::Declare::default() });
}

#[test]
fn a_lowered_length_drops_from_the_head_at_once_and_goes_with_its_policy() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    let mut client = fixture.open();
    queue_with(&mut client, "q", FieldTable::new());
    client.fill(1, "q", &["1", "2", "3", "4", "5"]);
    let short = Record::Policy(policy("short", "^q$", 0, json!({"max-length": 2})));
    directory.put(short.clone());
    assert_eq!(client.drain(1, "q"), ["4", "5"]);
    client.enqueue(1, "q", &["1", "2", "3"]);
    client.wait_ready(1, "q", 2);
    directory.remove(&short);
    client.enqueue(1, "q", &["4", "5"]);
    client.wait_ready(1, "q", 4);
}

#[test]
fn the_smaller_of_argument_policy_and_operator_policy_counts() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    directory.put(Record::Policy(policy("p", "^q", 0, json!({"max-length": 3}))));
    directory.put(Record::OperatorPolicy(policy("o", "^q2$", 0, json!({"max-length": 2}))));
    let mut client = fixture.open();
    for (name, argument, kept) in [("q1", 1, 1), ("q2", 5, 2), ("q3", 5, 3)] {
        queue_with(&mut client, name, table([("x-max-length", int(argument))]));
        client.enqueue(1, name, &["1", "2", "3", "4"]);
        client.wait_ready(1, name, kept);
    }
}

#[test]
fn one_policy_applies_and_none_with_a_key_of_another_type() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    directory.put(Record::Policy(policy("low", "^q", 1, json!({"max-length": 1}))));
    directory.put(Record::Policy(policy("high", "^q1$", 2, json!({"max-length-bytes": 1000}))));
    directory.put(Record::Policy(policy("higher", "^q2$", 3, json!({"max-length": 2, "delivery-limit": 5}))));
    let mut client = fixture.open();
    for (name, kept) in [("q1", 3), ("q2", 1), ("q3", 1)] {
        queue_with(&mut client, name, FieldTable::new());
        client.enqueue(1, name, &["1", "2", "3"]);
        client.wait_ready(1, name, kept);
    }
}

#[test]
fn dead_letters_follow_the_argument_before_the_policy() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    let definition = json!({"dead-letter-exchange": "", "dead-letter-routing-key": "by-policy"});
    directory.put(Record::Policy(policy("p", "^work", 0, definition)));
    let mut client = fixture.open();
    for name in ["by-policy", "by-argument"] {
        queue_with(&mut client, name, FieldTable::new());
    }
    queue_with(&mut client, "work1", FieldTable::new());
    let own = [("x-dead-letter-exchange", long("")), ("x-dead-letter-routing-key", long("by-argument"))];
    queue_with(&mut client, "work2", table(own));
    for (work, dead) in [("work1", "by-policy"), ("work2", "by-argument")] {
        client.enqueue(1, work, &[work]);
        client.expect_ready(1, work, 1);
        let tag = client.try_get(1, work, false).expect("a message").method.delivery_tag;
        client.reject(1, tag.get(), false);
        assert_eq!(client.wait_get(1, dead).text(), work);
    }
}

#[test]
fn a_time_to_live_and_an_expiry_come_with_a_policy() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    let mut client = fixture.open();
    queue_with(&mut client, "q", FieldTable::new());
    client.fill(1, "q", &["old"]);
    directory.put(Record::Policy(policy("p", "^q$", 0, json!({"message-ttl": 50}))));
    client.wait_ready(1, "q", 0);
    directory.put(Record::Policy(policy("p", "^q$", 0, json!({"expires": 50}))));
    // Looking at the queue would be a use of it.
    std::thread::sleep(crate::support::millis(400));
    assert!(!client.queue_exists("q"));
}

#[test]
fn an_alternate_exchange_comes_with_a_policy() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    let mut client = fixture.open();
    queue_with(&mut client, "caught", FieldTable::new());
    client.bind(1, "caught", "amq.fanout", "");
    client.select_confirms(1);
    client.publish(1, "amq.direct", "nowhere", "lost");
    client.expect_ack(1, 1);
    directory.put(Record::Policy(policy("p", "^amq.direct$", 0, json!({"alternate-exchange": "amq.fanout"}))));
    client.publish(1, "amq.direct", "nowhere", "caught");
    client.expect_ack(1, 2);
    assert_eq!(client.drain(1, "caught"), ["caught"]);
}

#[test]
fn policies_survive_a_restart() {
    let Some(fixture) = fixture() else { return };
    let directory = fixture.broker.directory().expect("ours");
    directory.put(Record::Policy(policy("p", "^q$", 0, json!({"max-length": 1}))));
    queue_with(&mut fixture.open(), "q", FieldTable::new());
    let fixture = fixture.restart();
    let mut client = fixture.open();
    client.enqueue(1, "q", &["1", "2"]);
    client.wait_ready(1, "q", 1);
}
