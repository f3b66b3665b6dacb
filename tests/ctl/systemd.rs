//! What systemd is told, by a stand-in for it: the socket of `NOTIFY_SOCKET`. And that the unit in `deploy/` is one.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lapin::{Connection, ConnectionProperties};

use super::broker::Broker;

const DEADLINE: Duration = Duration::from_secs(10);
/// As the unit's `WatchdogSec`, but shorter.
const WATCHDOG: Duration = Duration::from_millis(400);

/// What stands where systemd would, and the broker under it.
struct Manager {
    socket: UnixDatagram,
    broker: Broker,
}

impl Manager {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("set");
        let watchdog = WATCHDOG.as_micros().to_string();
        let variables = [("NOTIFY_SOCKET", path.to_str().expect("text")), ("WATCHDOG_USEC", &watchdog)];
        let broker = Broker::start_under(dir, &variables);
        Self { socket, broker }
    }

    /// The lines of the next message.
    fn next(&self) -> Vec<String> {
        let mut octets = [0; 4096];
        let length = self.socket.recv(&mut octets).expect("a message in time");
        let text = std::str::from_utf8(&octets[..length]).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    /// The next message that does not only say that the broker is alive.
    fn next_news(&self) -> Vec<String> {
        std::iter::repeat_with(|| self.next()).find(|lines| *lines != ["WATCHDOG=1"]).expect("they do not end")
    }

    /// When the reload began that the next two messages tell of.
    fn expect_reload(&self) -> u64 {
        let [begin, at, status] = &self.next_news()[..] else { panic!("three lines") };
        assert_eq!((begin.as_str(), status.as_str()), ("RELOADING=1", "STATUS=loading the configuration again"));
        assert_eq!(self.next_news(), ["READY=1", "STATUS=serving"]);
        at.strip_prefix("MONOTONIC_USEC=").and_then(|at| at.parse().ok()).expect("a time")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_what_the_broker_does_and_that_it_lives() {
    let mut manager = Manager::start();
    assert_eq!(manager.next_news(), ["READY=1", "STATUS=serving"]);
    // What is ready takes connections.
    let url = format!("amqp://127.0.0.1:{}", manager.broker.port());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("it serves");
    // Twice in each period, which begins anew with each.
    let mut last = Instant::now();
    for _ in 0..5 {
        assert_eq!(manager.next(), ["WATCHDOG=1"]);
        assert!(last.elapsed() < WATCHDOG * 5, "the watchdog starves: {:?}", last.elapsed());
        last = Instant::now();
    }
    manager.broker.signal("HUP");
    let first = manager.expect_reload();
    manager.broker.signal("HUP");
    assert!(manager.expect_reload() > first);
    assert!(connection.status().connected(), "a reload ends no connection");

    let begin = Instant::now();
    manager.broker.signal("TERM");
    assert_eq!(manager.next_news(), ["STOPPING=1", "STATUS=stopping: clients are told, what waits is written"]);
    assert!(manager.broker.wait(), "it ends with success");
    // The unit allows a minute.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    while connection.status().connected() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the client was told");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_broker_that_does_not_start_is_not_ready() {
    let mut broker = Broker::start();
    broker.ctl(&["stop"]);
    assert!(broker.wait());
    let path = broker.file("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_nonblocking(true).expect("set");
    let variables = [("NOTIFY_SOCKET", path.to_str().expect("text"))];
    broker.start_in_vain_under(&["--config", "/nowhere"], &variables);
    let told = socket.recv(&mut [0; 64]).expect_err("nothing is to be told");
    assert_eq!(told.kind(), ErrorKind::WouldBlock);
}

#[test]
fn the_unit_is_valid() {
    let root = tempfile::tempdir().expect("a directory");
    // The unit without its path, which is where the binary of this build is not.
    let unit = include_str!("../../deploy/leveret.service").replace("/usr/bin/leveret", env!("CARGO_BIN_EXE_leveret"));
    let path = root.path().join("leveret.service");
    std::fs::write(&path, unit).expect("written");
    match verify(&path) {
        None => eprintln!("skipped: there is no systemd-analyze"),
        Some((success, said)) => assert!(success && said.is_empty(), "{said}"),
    }
}

fn verify(unit: &Path) -> Option<(bool, String)> {
    let ran = match Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit).output() {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return None,
        ran => ran.expect("it can be run"),
    };
    let said = String::from_utf8_lossy(&ran.stderr);
    // What it says of the machine's other units is none of ours.
    let ours = said.lines().filter(|line| line.contains("leveret.service")).collect::<Vec<_>>().join("\n");
    Some((ran.status.success() || ours.is_empty(), ours))
}
