//! Arguments of queues: which values are accepted, which are compared when a queue is declared again (RabbitMQ's
//! extensions).

use leveret_protocol::{FieldTable, FieldValue, queue};

use crate::support::{Client, exclusive, int, is_oracle, long, table, unique};

/// Declares a queue with one argument, which must be refused for this reason.
#[track_caller]
fn check_bad_argument(name: &str, value: FieldValue, reason: &str) {
    check_bad_arguments(table([(name, value)]), name, reason);
}

#[track_caller]
fn check_bad_arguments(arguments: FieldTable, name: &str, reason: &str) {
    let mut client = Client::open();
    let queue = unique("q");
    client.send(1, queue::Declare { arguments, ..exclusive(&queue) });
    let text = format!("invalid arg '{name}' for queue '{queue}' in vhost '/': {reason}");
    client.expect_channel_close(1, 406, &text, (50, 10));
}

/// Declares a queue with one argument, which must be accepted.
#[track_caller]
fn check_good_argument(name: &str, value: FieldValue) {
    let mut client = Client::open();
    client.temporary_queue_with(1, table([(name, value)]));
}

#[test]
fn redeclaring_with_another_argument_is_refused() {
    let ttl = |value: FieldValue| table([("x-message-ttl", value)]);
    let mut client = Client::open();
    let with = client.temporary_queue_with(1, ttl(int(1000)));
    let without = client.temporary_queue(1);
    for (name, arguments, difference) in [
        (&with, ttl(int(2000)), "received '2000' but current is '1000'"),
        (&with, FieldTable::new(), "received none but current is the value '1000' of type 'signedint'"),
        (&with, ttl(long("1000")), "received '1000' but current is '1000'"),
        (&without, ttl(int(1000)), "received the value '1000' of type 'signedint' but current is none"),
    ] {
        client.send(1, queue::Declare { arguments, ..exclusive(name) });
        let text = format!("inequivalent arg 'x-message-ttl' for queue '{name}' in vhost '/': {difference}");
        client.expect_channel_close(1, 406, &text, (50, 10));
        client.open_channel(1);
    }
}

#[test]
fn arguments_that_nobody_knows_are_not_compared() {
    let mut client = Client::open();
    let name = client.temporary_queue_with(1, table([("x-odd", int(1))]));
    client.declare(1, exclusive(&name));
    client.declare(1, queue::Declare { arguments: table([("x-odder", long("2"))]), ..exclusive(&name) });
}

#[test]
fn a_classic_queue_is_what_one_gets_without_asking() {
    let mut client = Client::open();
    let name = client.temporary_queue(1);
    let arguments = table([("x-queue-type", long("classic"))]);
    client.declare(1, queue::Declare { arguments: arguments.clone(), ..exclusive(&name) });
    let name = client.temporary_queue_with(1, arguments);
    client.declare(1, exclusive(&name));
}

#[test]
fn integers_of_every_width_are_accepted_and_equivalent() {
    let fives = [
        FieldValue::Int8(5),
        FieldValue::UInt8(5),
        FieldValue::Int16(5),
        FieldValue::UInt16(5),
        FieldValue::Int32(5),
        FieldValue::UInt32(5),
        FieldValue::Int64(5),
    ];
    let mut client = Client::open();
    for argument in ["x-max-length", "x-max-length-bytes", "x-max-priority"] {
        for created in &fives {
            let name = client.temporary_queue_with(1, table([(argument, created.clone())]));
            for redeclared in &fives {
                let arguments = table([(argument, redeclared.clone())]);
                client.declare(1, queue::Declare { arguments, ..exclusive(&name) });
            }
            client.delete_queue(1, &name);
        }
    }
    for argument in ["x-expires", "x-message-ttl"] {
        for created in [FieldValue::Int16(30_000), FieldValue::Int32(30_000), FieldValue::Int64(30_000)] {
            let name = client.temporary_queue_with(1, table([(argument, created)]));
            let arguments = table([(argument, FieldValue::UInt16(30_000))]);
            client.declare(1, queue::Declare { arguments, ..exclusive(&name) });
        }
    }
}

#[test]
fn an_integer_argument_must_be_an_integer() {
    for name in ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority"] {
        check_bad_argument(name, long("5"), "\"expected integer, got longstr\"");
        check_bad_argument(name, FieldValue::Double(5.0), "\"expected integer, got double\"");
        check_bad_argument(name, FieldValue::Boolean(true), "\"expected integer, got bool\"");
        check_bad_argument(name, FieldValue::Void, "\"expected integer, got void\"");
        check_bad_argument(name, int(-1), "{value_negative,-1}");
    }
}

#[test]
fn times_have_their_bounds() {
    check_bad_argument("x-expires", int(0), "{value_zero,0}");
    for name in ["x-message-ttl", "x-expires"] {
        check_bad_argument(name, FieldValue::Int64(315_360_000_001), "{value_too_large,315360000001}");
        check_good_argument(name, FieldValue::Int64(315_360_000_000));
    }
    check_good_argument("x-message-ttl", int(0));
}

#[test]
fn lengths_and_priorities_have_their_bounds() {
    check_good_argument("x-max-length", int(0));
    check_good_argument("x-max-length-bytes", int(0));
    check_good_argument("x-max-length-bytes", FieldValue::Int64(1 << 40));
    check_good_argument("x-max-priority", int(0));
    check_good_argument("x-max-priority", int(255));
    check_bad_argument("x-max-priority", int(256), "{max_value_exceeded,256}");
}

#[test]
fn overflow_must_be_a_known_word() {
    for word in ["drop-head", "reject-publish", "reject-publish-dlx"] {
        check_good_argument("x-overflow", long(word));
    }
    check_bad_argument("x-overflow", long("foo"), "invalid_overflow");
    check_bad_argument("x-overflow", int(1), "{unacceptable_type,signedint}");
}

#[test]
fn dead_letter_arguments_must_be_strings_that_belong_together() {
    check_good_argument("x-dead-letter-exchange", long(""));
    check_good_argument("x-dead-letter-exchange", long("not there yet"));
    check_bad_argument("x-dead-letter-routing-key", long("k"), "routing_key_but_no_dlx_defined");
    let arguments = table([("x-dead-letter-exchange", long("")), ("x-dead-letter-routing-key", int(1))]);
    check_bad_arguments(arguments, "x-dead-letter-routing-key", "{unacceptable_type,signedint}");
    let mut client = Client::open();
    let name = unique("q");
    client.send(1, queue::Declare { arguments: table([("x-dead-letter-exchange", int(1))]), ..exclusive(&name) });
    let text = format!("invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue '{name}' in vhost '/'");
    client.expect_channel_close(1, 406, &text, (50, 10));
}

#[test]
fn single_active_consumer_must_be_a_boolean() {
    check_good_argument("x-single-active-consumer", FieldValue::Boolean(false));
    check_bad_argument("x-single-active-consumer", long("true"), "{unacceptable_type,longstr}");
}

#[test]
fn the_queue_type_must_be_a_known_word() {
    check_bad_argument("x-queue-type", long("foo"), "\"unsupported queue type 'foo'\"");
    check_bad_argument("x-queue-type", long("CLASSIC"), "\"unsupported queue type 'CLASSIC'\"");
    check_bad_argument("x-queue-type", int(1), "{unacceptable_type,signedint}");
}

#[test]
fn legacy_and_unknown_arguments_are_accepted() {
    check_good_argument("x-queue-mode", long("lazy"));
    check_good_argument("x-queue-version", int(2));
    check_good_argument("x-ha-policy", long("all"));
    check_good_argument("my own", FieldTable::new().into());
}

#[test]
fn an_argument_of_another_queue_type_is_refused() {
    for (argument, value) in
        [("x-delivery-limit", int(3)), ("x-max-age", long("1h")), ("x-quorum-initial-group-size", int(3))]
    {
        let mut client = Client::open();
        let name = unique("q");
        client.send(1, queue::Declare { arguments: table([(argument, value)]), ..exclusive(&name) });
        let text =
            format!("invalid arg '{argument}' for queue '{name}' in vhost '/' of queue type rabbit_classic_queue");
        client.expect_channel_close(1, 406, &text, (50, 10));
    }
}

#[test]
fn an_unused_default_queue_type_may_be_named_by_an_empty_string() {
    if is_oracle() {
        return; // 3.10 refuses "", 4.x takes it for "the default".
    }
    check_good_argument("x-queue-type", long(""));
}
