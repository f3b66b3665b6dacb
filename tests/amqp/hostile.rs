//! Bad input and bad manners, after which the broker must still serve everybody else.

use std::time::{Duration, Instant};

use leveret_protocol::{FieldTable, FieldValue, Method, PROTOCOL_HEADER, basic, channel, exchange, queue};

use crate::support::{
    Client, DEADLINE, Options, Random, close_connection_method, consume, exclusive, frame, header_frame, is_oracle,
    method_frame, no_properties, publish_to, s, table, unique, with_headers,
};

/// Connections that misbehave at the same time; their sockets are closed together, so that the broker reads what came
/// before it notices that they are gone.
const BATCH: usize = 25;

/// A client that has been there all the time, and one that comes now, can work.
#[track_caller]
fn check_alive(witness: &mut Client) {
    for client in [witness, &mut Client::open()] {
        let queue = client.temporary_queue(1);
        client.enqueue(1, &queue, &["alive"]);
        assert_eq!(client.get(1, &queue).text(), "alive");
        client.delete_queue(1, &queue);
    }
}

/// What to add to all seeds, for those who look for more cases: `LEVERET_TEST_SEED=1000 cargo test --test amqp hostile`.
fn exploration() -> u64 {
    std::env::var("LEVERET_TEST_SEED").map_or(0, |seed| seed.parse().expect("LEVERET_TEST_SEED is a number"))
}

/// Does something bad on many fresh connections.
#[track_caller]
fn misbehave(
    seed: u64,
    cases: usize,
    mut begin: impl FnMut() -> Client,
    mut octets: impl FnMut(&mut Random) -> Vec<u8>,
) {
    let mut witness = Client::open();
    let mut random = Random::new(seed + exploration());
    let mut batch = Vec::new();
    for _ in 0..cases {
        let mut client = begin();
        client.try_send_bytes(&octets(&mut random));
        batch.push(client);
        if batch.len() == BATCH {
            check_alive(&mut witness);
            batch.clear();
        }
    }
    check_alive(&mut witness);
}

/// A small session in octets, on channel 1, with contents, tables and transactions in it.
fn session() -> Vec<u8> {
    let name = unique("fuzzed");
    let mut octets = Vec::new();
    let arguments = table([("x-max-length", FieldValue::Int8(5)), ("x-unknown", FieldTable::new().into())]);
    let declare = queue::Declare { auto_delete: true, arguments, ..exclusive(&name) };
    let bind = queue::Bind {
        queue: s(&name),
        exchange: s("amq.headers"),
        arguments: table([("x-match", crate::support::long("any")), ("a", FieldValue::Int32(1))]),
        ..queue::Bind::default()
    };
    let methods: [Method; 5] = [
        declare.into(),
        bind.into(),
        exchange::Declare { exchange: s("amq.topic"), passive: true, ..exchange::Declare::default() }.into(),
        basic::Qos { prefetch_count: 2, ..basic::Qos::default() }.into(),
        basic::Consume { consumer_tag: s("c"), ..consume(&name) }.into(),
    ];
    for method in methods {
        octets.extend_from_slice(&method_frame(1, method));
    }
    let properties = with_headers(table([("a", FieldValue::Int32(1)), ("list", FieldValue::Array(vec![]))]));
    let mut property_octets = Vec::new();
    properties.encode(&mut property_octets);
    for _ in 0..3 {
        octets.extend_from_slice(&method_frame(1, publish_to("amq.headers", "key")));
        let channel = leveret_protocol::ChannelId::new(1);
        leveret_protocol::encode_content(channel, &property_octets, b"body", 4096, &mut octets);
    }
    octets.extend_from_slice(&method_frame(1, basic::Ack { multiple: true, ..basic::Ack::default() }));
    octets.extend_from_slice(&method_frame(1, channel::Flow { active: true }));
    octets
}

#[test]
fn random_octets_on_fresh_sockets_harm_nobody() {
    misbehave(
        1,
        300,
        || Options::default().raw(),
        |random| {
            let len = random.below(200) + 1;
            random.octets(len)
        },
    );
}

#[test]
fn random_octets_after_the_protocol_header_harm_nobody() {
    let begin = || {
        let mut client = Options::default().raw();
        client.send_bytes(&PROTOCOL_HEADER);
        client
    };
    misbehave(2, 200, begin, |random| {
        let len = random.below(400) + 1;
        random.octets(len)
    });
}

#[test]
fn random_octets_after_the_handshake_harm_nobody() {
    misbehave(3, 200, Client::open, |random| {
        let len = random.below(400) + 1;
        random.octets(len)
    });
}

#[test]
fn random_payloads_in_good_frames_harm_nobody() {
    misbehave(4, 300, Client::open, |random| {
        let len = random.below(60);
        let mut payload = random.octets(len);
        // Half of them name a method that exists, so that its arguments are looked at.
        if random.below(2) == 0 && payload.len() > 4 {
            let methods = [(20, 40), (40, 10), (40, 30), (50, 10), (50, 20), (60, 10), (60, 20), (60, 40), (60, 80)];
            let (class, method) = methods[random.below(methods.len())];
            payload[..4].copy_from_slice(&[0, class, 0, method]);
        }
        let kind = [1, 1, 1, 2, 3, 8][random.below(6)];
        let channel = u16::try_from(random.below(2)).expect("fits");
        frame(kind, channel, &payload)
    });
}

#[test]
fn sessions_with_a_few_changed_octets_harm_nobody() {
    misbehave(5, 300, Client::open, |random| {
        let mut octets = session();
        for _ in 0..=random.below(3) {
            let position = random.below(octets.len());
            octets[position] = random.octets(1)[0];
        }
        octets
    });
}

#[test]
fn handshakes_with_a_few_changed_octets_harm_nobody() {
    misbehave(
        6,
        200,
        || Options::default().raw(),
        |random| {
            let mut octets = Options::default().pipelined();
            for _ in 0..=random.below(3) {
                let position = random.below(octets.len());
                octets[position] = random.octets(1)[0];
            }
            octets
        },
    );
}

#[test]
fn sessions_cut_short_harm_nobody() {
    misbehave(7, 200, Client::open, |random| {
        let mut octets = session();
        octets.truncate(random.below(octets.len()));
        octets
    });
}

#[test]
fn frames_in_a_random_order_harm_nobody() {
    misbehave(8, 200, Client::open, |random| {
        let pieces = [
            method_frame(1, publish_to("", "nowhere")),
            header_frame(1, 60, 0, 3),
            frame(3, 1, b"abc"),
            frame(3, 1, b""),
            frame(8, 0, b""),
            method_frame(1, channel::Open::default()),
            method_frame(1, crate::support::close_channel_method()),
            method_frame(1, channel::CloseOk),
            method_frame(1, leveret_protocol::tx::Select),
            method_frame(1, leveret_protocol::tx::Commit),
            method_frame(1, leveret_protocol::confirm::Select::default()),
            method_frame(1, basic::Recover { requeue: true }),
            method_frame(2, channel::Open::default()),
        ];
        (0..10).flat_map(|_| pieces[random.below(pieces.len())].clone()).collect()
    });
}

#[test]
fn half_frames_followed_by_a_disconnect_leave_nothing_behind() {
    let mut witness = Client::open();
    let queue = witness.temporary_queue(1);
    let mut whole = method_frame(1, publish_to("", &queue));
    whole.extend_from_slice(&header_frame(1, 60, 0, 10));
    whole.extend_from_slice(&frame(3, 1, b"0123456789"));
    for len in 1..whole.len() {
        let mut client = Client::open();
        client.send_bytes(&whole[..len]);
        if len % 2 == 0 {
            client.shut_down_sending();
            client.is_closed_within(DEADLINE);
        }
    }
    check_alive(&mut witness);
    witness.expect_empty(1, &queue);
}

#[test]
fn deeply_nested_tables_end_at_most_their_connection() {
    let mut witness = Client::open();
    for depth in [10, 100, 5_000] {
        let mut content = Vec::new();
        for _ in 0..depth {
            let mut outer = vec![1, b'k', b'F'];
            outer.extend_from_slice(&u32::try_from(content.len()).expect("fits").to_be_bytes());
            outer.extend_from_slice(&content);
            content = outer;
        }
        let mut payload = vec![0, 50, 0, 10, 0, 0, 0, 4];
        payload.extend_from_slice(&u32::try_from(content.len()).expect("fits").to_be_bytes());
        payload.extend_from_slice(&content);
        let mut client = Client::open();
        client.send_bytes(&frame(1, 1, &payload));
        let answer = client.next(DEADLINE).map(|arrived| arrived.method);
        let expected = match &answer {
            Some(Method::QueueDeclareOk(_)) => depth == 10 || is_oracle(),
            Some(Method::ConnectionClose(_)) => depth > 10,
            _ => is_oracle(),
        };
        assert!(expected, "depth {depth}: {answer:?}");
    }
    check_alive(&mut witness);
}

#[test]
fn a_silent_crowd_does_not_keep_others_from_working() {
    // Both ends of a connection may be in this process.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open_files = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    let open_files = open_files.and_then(|number| number.parse().ok()).unwrap_or(1024);
    let crowd: Vec<Client> = (0..500.min((open_files - 300) / 2)).map(|_| Options::default().raw()).collect();
    let begun = Instant::now();
    check_alive(&mut Client::open());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    drop(crowd);
    check_alive(&mut Client::open());
}

#[test]
fn many_connections_that_come_and_go_leave_nothing_behind() {
    let mut witness = Client::open();
    let mut names = Vec::new();
    for round in 0..100 {
        let mut client = Client::open();
        names.push(client.temporary_queue(1));
        if round % 2 == 0 {
            client.send(0, close_connection_method());
        }
    }
    for name in names {
        crate::support::wait_until("the queue is gone", || !witness.queue_exists(&name));
    }
    check_alive(&mut witness);
}

#[test]
fn a_client_that_never_reads_its_deliveries_does_not_get_them_all() {
    const MESSAGES: usize = 3_000;
    let body = vec![b'x'; 16 * 1024];
    let mut publisher = Client::open();
    let queue = unique("deep");
    publisher.declare(1, queue::Declare { queue: s(&queue), ..queue::Declare::default() });
    publisher.select_confirms(1);
    for _ in 0..MESSAGES {
        publisher.send_content(1, publish_to("", &queue), &no_properties(), &body);
    }
    publisher.expect_confirms(1, 1..=3_000);

    let mut sleeper = Client::open();
    sleeper.send(1, consume(&queue));
    // The kernel's buffers and the broker's take what they hold; the rest stays in the queue, for others.
    let mut reader = Client::open();
    crate::support::wait_until("the sleeper has been given something", || {
        usize::try_from(reader.ready(1, &queue)).expect("fits") < MESSAGES
    });
    reader.consume_no_ack(1, &queue);
    let mut read = 0;
    while reader.next_on(1, Duration::from_secs(1)).is_some() {
        read += 1;
    }
    assert!(read > MESSAGES / 2, "of {MESSAGES} messages only {read} were left for the client that reads");

    drop(sleeper);
    for _ in read..MESSAGES {
        reader.expect_deliver(1);
    }
    publisher.delete_queue(1, &queue);
}

#[test]
fn a_consumer_that_wakes_up_gets_the_rest_in_order() {
    const MESSAGES: usize = 1_500;
    let mut client = Client::open();
    let queue = unique("deep");
    client.declare(1, queue::Declare { queue: s(&queue), ..queue::Declare::default() });
    let mut sleeper = Client::open();
    sleeper.consume_no_ack(1, &queue);
    let body = |number: usize| format!("{number:0>32768}").into_bytes();
    client.select_confirms(1);
    for number in 0..MESSAGES {
        client.send_content(1, publish_to("", &queue), &no_properties(), &body(number));
    }
    client.expect_confirms(1, 1..=1_500);
    for number in 0..MESSAGES {
        assert!(sleeper.expect_deliver(1).body == body(number), "message {number} is out of place");
    }
    assert_eq!(client.delete_queue(1, &queue), 0);
}

#[test]
fn declarations_that_race_harm_nobody() {
    let mut witness = Client::open();
    let queues = [unique("q"), unique("q"), unique("q")];
    let exchanges = [unique("x"), unique("x"), unique("x")];
    let race = |seed: u64| {
        let mut random = Random::new(seed);
        let mut client = Client::open();
        for _ in 0..150 {
            let queue = s(&queues[random.below(3)]);
            let exchange = s(&exchanges[random.below(3)]);
            let other = s(&exchanges[random.below(3)]);
            let kind = s("fanout");
            let method: Method = match random.below(10) {
                0 | 1 => queue::Declare { queue, auto_delete: random.below(2) == 0, ..Default::default() }.into(),
                2 => queue::Delete { queue, ..Default::default() }.into(),
                3 => exchange::Declare { exchange, kind, auto_delete: true, ..Default::default() }.into(),
                4 => exchange::Delete { exchange, ..Default::default() }.into(),
                5 => queue::Bind { queue, exchange, ..Default::default() }.into(),
                6 => exchange::Bind { destination: other, source: exchange, ..Default::default() }.into(),
                7 => queue::Unbind { queue, exchange, ..Default::default() }.into(),
                8 => basic::Consume { queue, no_ack: true, ..Default::default() }.into(),
                _ => queue::Purge { queue, ..Default::default() }.into(),
            };
            client.send(1, method);
            client.publish(1, "", &queues[0], "x");
            client.publish(1, "amq.fanout", "", "x");
            // An answer of some kind, open-ok in the end; deliveries and cancels come in between.
            loop {
                let arrived = client.next_on(1, DEADLINE).expect("an answer");
                match arrived.method {
                    Method::BasicDeliver(_) | Method::BasicCancel(_) => {}
                    Method::ChannelClose(close) => {
                        assert!(matches!(close.reply_code.get(), 404 | 406), "{close:?}");
                        client.send(1, channel::CloseOk);
                        client.send(1, channel::Open::default());
                    }
                    _ => break,
                }
            }
        }
        client.close();
    };
    std::thread::scope(|scope| {
        for seed in 0..6 {
            scope.spawn(move || race(seed));
        }
    });
    check_alive(&mut witness);
    for queue in &queues {
        witness.delete_queue(1, queue);
    }
    for exchange in &exchanges {
        witness.delete_exchange(1, exchange);
    }
}

#[test]
fn a_client_that_never_reads_its_answers_does_not_stop_others() {
    let mut witness = Client::open();
    let queue = witness.temporary_queue(1);
    let body = vec![b'x'; 100_000];
    witness.send_content(1, publish_to("", &queue), &no_properties(), &body);
    let mut rude = Client::open();
    let name = rude.temporary_queue(1);
    rude.send_content(1, publish_to("", &name), &no_properties(), &body);
    // Each get is answered with 100 kB, and the message goes back at once.
    let mut octets = Vec::new();
    for _ in 0..500 {
        octets.extend_from_slice(&method_frame(1, basic::Get { queue: s(&name), no_ack: false }));
        octets.extend_from_slice(&method_frame(1, basic::RecoverAsync { requeue: true }));
    }
    rude.try_send_bytes(&octets);
    check_alive(&mut witness);
    assert_eq!(witness.get(1, &queue).body.len(), body.len());
}

#[test]
fn thousands_of_pipelined_errors_are_answered_once() {
    let mut client = Client::open();
    let bad = method_frame(1, crate::support::passive("nowhere"));
    client.send_bytes(&bad.repeat(5_000));
    client.expect_channel_close(1, 404, "no queue 'nowhere' in vhost '/'", (50, 10));
    client.open_channel(1);
    client.barrier(1);
}
