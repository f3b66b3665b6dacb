//! Arguments of queues: which values are accepted, which are compared when a queue is declared again (RabbitMQ's
//! extensions).

use leveret_protocol::{FieldTable, FieldValue, queue};

use crate::support::{Client, exclusive, int, is_oracle, long, s, table, unique};

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
    check_good_argument("x-queue-version", int(1));
    check_good_argument("x-queue-version", int(2));
    check_good_argument("x-ha-policy", long("all"));
    check_good_argument("my own", FieldTable::new().into());
    check_bad_argument("x-queue-version", int(3), "\"unsupported queue version '3'\"");
}

/// A durable queue of this type with one argument, which must be refused with this text.
#[track_caller]
fn check_refused(queue_type: &str, entries: &FieldTable, text: impl Fn(&str) -> String) {
    let mut client = Client::open();
    let name = unique("q");
    let mut arguments = table([("x-queue-type", long(queue_type))]);
    for (name, value) in entries {
        arguments.insert(name.clone(), value.clone());
    }
    client.send(1, queue::Declare { queue: s(&name), durable: true, arguments, ..queue::Declare::default() });
    client.expect_channel_close(1, 406, &text(&name), (50, 10));
}

#[track_caller]
fn check_bad_of_type(queue_type: &str, argument: &str, value: FieldValue, reason: &str) {
    check_refused(queue_type, &table([(argument, value)]), |name| {
        format!("invalid arg '{argument}' for queue '{name}' in vhost '/': {reason}")
    });
}

#[test]
fn an_argument_of_another_queue_type_is_refused() {
    let check = |queue_type: &str, argument: &str, value: FieldValue| {
        check_refused(queue_type, &table([(argument, value)]), |name| {
            format!("invalid arg '{argument}' for queue '{name}' in vhost '/' of queue type rabbit_{queue_type}_queue")
        });
    };
    check("classic", "x-max-age", long("1h"));
    check("classic", "x-quorum-initial-group-size", int(3));
    check("classic", "x-dead-letter-strategy", long("at-least-once"));
    check("classic", "x-max-in-memory-length", int(3));
    check("classic", "x-initial-cluster-size", int(3));
    check("quorum", "x-max-priority", int(3));
    check("quorum", "x-queue-mode", long("lazy"));
    check("quorum", "x-stream-max-segment-size-bytes", int(3));
    for (argument, value) in [
        ("x-message-ttl", int(3)),
        ("x-expires", int(3)),
        ("x-max-length", int(3)),
        ("x-dead-letter-exchange", long("")),
        ("x-single-active-consumer", FieldValue::Boolean(true)),
        ("x-overflow", long("drop-head")),
        ("x-max-priority", int(3)),
        ("x-delivery-limit", int(3)),
    ] {
        check("stream", argument, value);
    }
}

#[test]
fn a_delivery_limit_is_accepted_for_classic_queues() {
    if is_oracle() {
        return; // It is ours that every type may have one.
    }
    check_good_argument("x-delivery-limit", int(3));
    check_good_argument("x-delivery-limit", long("not looked at"));
}

#[test]
fn the_arguments_of_quorum_queues_have_their_bounds() {
    check_bad_of_type("quorum", "x-message-ttl", int(-1), "{value_negative,-1}");
    check_bad_of_type("quorum", "x-max-length", long("1"), "\"expected integer, got longstr\"");
    check_bad_of_type("quorum", "x-quorum-initial-group-size", int(0), "{value_zero,0}");
    check_bad_of_type("quorum", "x-quorum-initial-group-size", int(-1), "{value_negative,-1}");
    check_bad_of_type("quorum", "x-max-in-memory-bytes", int(-1), "{value_negative,-1}");
    check_bad_of_type("quorum", "x-dead-letter-strategy", long("foo"), "invalid_dlx_strategy");
    check_bad_of_type("quorum", "x-dead-letter-strategy", int(1), "{unacceptable_type,signedint}");
    check_bad_of_type("quorum", "x-queue-leader-locator", long("foo"), "invalid_queue_locator_arg");
    check_bad_of_type("quorum", "x-overflow", long("foo"), "invalid_overflow");
}

#[test]
fn the_arguments_of_streams_have_their_bounds() {
    for age in ["0s", "5", "5x", "x", "-5s", ""] {
        if is_oracle() && matches!(age, "" | "x" | "-5s") {
            continue; // 3.10 crashes.
        }
        check_bad_of_type("stream", "x-max-age", long(age), "invalid_max_age");
    }
    check_bad_of_type("stream", "x-max-age", int(5), "{unacceptable_type,signedint}");
    check_bad_of_type("stream", "x-initial-cluster-size", int(0), "{value_zero,0}");
    check_bad_of_type("stream", "x-max-length-bytes", int(-1), "{value_negative,-1}");
    check_bad_of_type("stream", "x-stream-max-segment-size-bytes", int(-1), "{value_negative,-1}");
    let size = table([("x-stream-max-segment-size-bytes", FieldValue::Int64(3_000_000_001))]);
    check_refused("stream", &size, |_| "Exceeded max value for x-stream-max-segment-size-bytes".to_owned());
    if is_oracle() {
        return; // 3.10 knows no filters.
    }
    for (value, text) in [
        (int(15), "Invalid value for x-stream-filter-size-bytes"),
        (int(256), "Invalid value for x-stream-filter-size-bytes"),
        (long("16"), "Invalid type for x-stream-filter-size-bytes"),
    ] {
        check_refused("stream", &table([("x-stream-filter-size-bytes", value)]), |_| text.to_owned());
    }
}

#[test]
fn a_bad_value_is_named_before_an_argument_of_another_type() {
    let arguments = table([("x-max-priority", int(3)), ("x-max-length", int(-1))]);
    check_refused("quorum", &arguments, |name| {
        format!("invalid arg 'x-max-length' for queue '{name}' in vhost '/': {{value_negative,-1}}")
    });
    let arguments = table([("x-max-length", int(-1)), ("x-expires", int(0)), ("x-message-ttl", int(-1))]);
    check_refused("classic", &arguments, |name| {
        format!("invalid arg 'x-expires' for queue '{name}' in vhost '/': {{value_zero,0}}")
    });
}

#[test]
fn quorum_queues_and_streams_are_durable_and_shared() {
    for queue_type in ["quorum", "stream"] {
        let mut client = Client::open();
        let name = unique("q");
        let arguments = table([("x-queue-type", long(queue_type))]);
        for (durable, exclusive, auto_delete, property) in [
            (false, false, false, "non-durable"),
            (false, true, false, "exclusive-owner"),
            (true, true, false, "exclusive-owner"),
            (false, true, true, "auto-delete"),
            (true, false, true, "auto-delete"),
        ] {
            let declare = queue::Declare {
                queue: s(&name),
                durable,
                exclusive,
                auto_delete,
                arguments: arguments.clone(),
                ..queue::Declare::default()
            };
            client.send(1, declare);
            let text = format!("invalid property '{property}' for queue '{name}' in vhost '/'");
            client.expect_channel_close(1, 406, &text, (50, 10));
            client.open_channel(1);
        }
        client.send(1, queue::Declare { durable: true, arguments, ..queue::Declare::default() });
        let text = format!("Cannot declare a server-named queue for type rabbit_{queue_type}_queue");
        client.expect_channel_close(1, 406, &text, (50, 10));
    }
}

#[test]
fn another_type_is_another_queue() {
    let mut client = Client::open();
    let name = client.durable_queue_with(1, FieldTable::new());
    let arguments = table([("x-queue-type", long("quorum"))]);
    client.send(1, queue::Declare { queue: s(&name), durable: true, arguments, ..queue::Declare::default() });
    // 4.x always has a type, 3.10 only if one was asked for.
    let difference = if is_oracle() {
        "received the value 'quorum' of type 'longstr' but current is none"
    } else {
        "received 'quorum' but current is 'classic'"
    };
    let text = format!("inequivalent arg 'x-queue-type' for queue '{name}' in vhost '/': {difference}");
    client.expect_channel_close(1, 406, &text, (50, 10));
    client.open_channel(1);
    client.delete_queue(1, &name);
}

#[test]
fn the_prefix_of_a_server_named_queue_can_be_chosen() {
    if is_oracle() {
        return; // Since 4.3.
    }
    let mut client = Client::open();
    let declare = |prefix: FieldValue| queue::Declare {
        exclusive: true,
        arguments: table([("x-name-prefix", prefix)]),
        ..queue::Declare::default()
    };
    let ok = client.declare(1, declare(long("mine")));
    let name = ok.queue.as_str().expect("text").to_owned();
    assert!(name.starts_with("mine-") && name.len() == "mine-".len() + 22, "{name}");
    // It is not kept: the queue is the same without it.
    client.declare(1, exclusive(&name));
    let long_prefix = "x".repeat(65);
    client.send(1, declare(long(&long_prefix)));
    let text = format!("Queue name prefix '{long_prefix}' exceeds the 64-byte limit");
    client.expect_channel_close(1, 406, &text, (50, 10));
    client.open_channel(1);
    client.send(1, declare(long("amq.mine")));
    client.expect_channel_close_code(1, 403);
}

#[test]
fn an_unused_default_queue_type_may_be_named_by_an_empty_string() {
    if is_oracle() {
        return; // 3.10 refuses "", 4.x takes it for "the default".
    }
    check_good_argument("x-queue-type", long(""));
}
