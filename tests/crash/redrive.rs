//! Dead letters on their way back: a kill at any moment of a redrive neither loses nor doubles one.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use leveret_protocol::{BasicProperties, FieldTable, LongString, Method, ShortString, basic, queue};
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::client::{Arrived, Client, Outcome, problem, s};
use crate::random::Random;
use crate::traffic::confirm_mode;

/// Where messages are published to, and where they are when they are dead.
const WORK: &str = "redrive-work";
const DEAD: &str = "redrive-dead";

/// How many there are.
pub const MESSAGES: u32 = 4000;

fn declare(client: &mut Client, name: &str) -> Outcome<u32> {
    let mut arguments = FieldTable::new();
    if name == WORK {
        arguments.push(ShortString::from_static("x-dead-letter-exchange"), LongString::from_static(""));
        arguments.push(ShortString::from_static("x-dead-letter-routing-key"), LongString::from_static(DEAD));
    }
    client.send(1, queue::Declare { queue: s(name), durable: true, arguments, ..Default::default() });
    match client.call()? {
        Method::QueueDeclareOk(ok) => Ok(ok.message_count),
        other => problem(format!("unexpected: {other:?}")),
    }
}

/// Publishes everything and has it die.
pub fn fill(addr: SocketAddr) -> Outcome<()> {
    let mut client = Client::open(addr, 131_072)?;
    confirm_mode(&mut client, 1)?;
    declare(&mut client, DEAD)?;
    declare(&mut client, WORK)?;
    for number in 0..MESSAGES {
        let properties = BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() };
        let publish = basic::Publish { routing_key: s(WORK), ..basic::Publish::default() };
        let body = format!("{number}{}", " ".repeat(usize::try_from(number % 300).expect("small")));
        client.publish(1, publish, &properties, body.as_bytes());
    }
    let mut confirmed = 0;
    while confirmed < u64::from(MESSAGES) {
        match client.call()? {
            Method::BasicAck(ack) if ack.multiple => confirmed = confirmed.max(ack.delivery_tag.get()),
            Method::BasicAck(_) => confirmed += 1,
            other => return problem(format!("unexpected: {other:?}")),
        }
    }
    client.open_channel(2)?;
    let mut last = None;
    for _ in 0..MESSAGES {
        client.send(2, basic::Get { queue: s(WORK), no_ack: false });
        let Method::BasicGetOk(get) = client.next()?.method else { return problem("a message is missing") };
        last = Some(get.delivery_tag);
    }
    let delivery_tag = last.expect("there are messages");
    client.send(2, basic::Nack { delivery_tag, multiple: true, requeue: false });
    while declare(&mut client, DEAD)? < MESSAGES {
        std::thread::sleep(Duration::from_millis(5));
    }
    client.close()
}

/// Starts to move everything from one of the queues to the other, and kills the broker soon. Returns how many there were in
/// the queue that is emptied.
pub fn move_and_kill(broker: Broker, data: &Path, back: bool, random: &mut Random) -> Outcome<u32> {
    let mut client = Client::open(broker.addr, 4096)?;
    client.open_channel(1)?;
    let there = declare(&mut client, if back { DEAD } else { WORK })?;
    let elsewhere = declare(&mut client, if back { WORK } else { DEAD })?;
    if there + elsewhere != MESSAGES {
        return problem(format!("{there} and {elsewhere} messages instead of {MESSAGES} in all"));
    }
    let (queue, to) = if back { (DEAD, json!("source")) } else { (WORK, json!({"queue": DEAD})) };
    let order = json!({"to": to, "keep_headers": true});
    let request = json!({"v": 1, "request": {"messages": {"redrive": {"vhost": "/", "queue": queue, "order": order}}}});
    let answer = ask(data, &request);
    if answer["ok"]["state"] != "running" {
        return problem(format!("the redrive does not run: {answer}"));
    }
    std::thread::sleep(Duration::from_micros(random.between(0, 120_000)));
    broker.kill();
    drop(client);
    Ok(there)
}

fn ask(data: &Path, request: &Value) -> Value {
    let mut socket = UnixStream::connect(data.join("control.sock")).expect("the control socket is open");
    socket.write_all(format!("{request}\n").as_bytes()).expect("it is read");
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).expect("it answers");
    serde_json::from_str(&line).expect("an answer is JSON")
}

/// Takes everything from both queues: each message is there once.
pub fn check(addr: SocketAddr) -> Outcome<()> {
    let mut client = Client::open(addr, 131_072)?;
    client.open_channel(1)?;
    let mut seen = BTreeSet::new();
    for name in [WORK, DEAD] {
        loop {
            client.send(1, basic::Get { queue: s(name), no_ack: true });
            let Arrived { method, content, .. } = client.next()?;
            let (Method::BasicGetOk(_), Some(content)) = (method, content) else { break };
            let body = String::from_utf8_lossy(&content.body).trim_end().to_owned();
            if !seen.insert(body.clone()) {
                return problem(format!("message {body} is there twice"));
            }
        }
    }
    if seen.len() != usize::try_from(MESSAGES).expect("small") {
        return problem(format!("{} of {MESSAGES} messages are there", seen.len()));
    }
    client.close()
}
