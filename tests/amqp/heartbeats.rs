//! Heartbeats (spec §4.2.7).

use std::time::Instant;

use leveret_protocol::FRAME_END;

use crate::support::{Client, Options, millis};

const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, FRAME_END];

fn every_second() -> Client {
    Options { heartbeat: 1, ..Options::default() }.open()
}

#[test]
fn a_client_that_falls_silent_is_cut_off_without_a_word() {
    let begun = Instant::now();
    let mut client = every_second();
    client.expect_eof();
    let took = begun.elapsed();
    assert!(took >= millis(1_500) && took <= millis(4_000), "{took:?}");
}

#[test]
fn what_was_unacked_on_a_connection_cut_off_is_ready_again() {
    let mut owner = Client::open();
    let queue = crate::support::unique("q");
    owner.declare(1, leveret_protocol::queue::Declare { exclusive: false, ..crate::support::exclusive(&queue) });
    owner.enqueue(1, &queue, &["x"]);
    let mut silent = every_second();
    silent.consume(1, &queue);
    silent.expect_deliver(1);
    owner.wait_ready(1, &queue, 1);
    owner.delete_queue(1, &queue);
}

#[test]
fn a_client_that_sends_heartbeats_is_kept() {
    let begun = Instant::now();
    let mut client = every_second();
    while begun.elapsed() < millis(4_000) {
        client.send_bytes(&HEARTBEAT);
        client.expect_nothing_for(millis(500));
    }
    client.barrier(1);
}

#[test]
fn any_octets_are_a_sign_of_life() {
    let begun = Instant::now();
    let mut client = every_second();
    let queue = client.temporary_queue(1);
    while begun.elapsed() < millis(4_000) {
        client.enqueue(1, &queue, &["x"]);
        client.expect_nothing_for(millis(500));
    }
    client.barrier(1);
}

#[test]
fn the_broker_sends_heartbeats_when_it_has_nothing_to_say() {
    let begun = Instant::now();
    let mut client = every_second();
    while begun.elapsed() < millis(3_100) {
        client.send_bytes(&HEARTBEAT);
        client.expect_nothing_for(millis(500));
    }
    let heartbeats = client.heartbeats();
    assert!((3..=8).contains(&heartbeats), "{heartbeats} heartbeats in 3 s, about one in half a second is due");
}

#[test]
fn without_heartbeats_nobody_minds_silence() {
    let mut client = Client::open();
    client.expect_nothing_for(millis(4_000));
    assert_eq!(client.heartbeats(), 0);
    client.barrier(1);
}
