//! The memory alarm of the real binary: its allocator gives back what is freed, so that an alarm ends by itself.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use leveret_protocol::{Method, connection};

use crate::support::{Client, Options, exclusive, is_oracle, no_properties, publish_to};

const MIB: u64 = 1024 * 1024;
const LIMIT: u64 = 96 * MIB;
/// What the broker may use beyond its limit: what comes between two looks, and what is read but not processed.
const SLACK: u64 = 96 * MIB;
/// The allocator gives memory back within ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The real binary with a configuration of its own.
pub struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    /// Starts it with these lines of configuration, in memory or on a directory.
    pub fn start(lines: &str, data_dir: Option<&Path>) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let addr = free.expect("there is a free port");
        let config = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(config.path(), lines).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        command.arg("server");
        match data_dir {
            Some(path) => command.arg("--data-dir").arg(path),
            None => command.arg("--ephemeral"),
        };
        let child = command
            .args([
                "--listen",
                &addr.to_string(),
                "--management-listen",
                "none",
                "--prometheus-listen",
                "none",
                "--config",
            ])
            .arg(config.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("the broker starts");
        let process = Self { child, addr };
        crate::support::wait_until("the broker listens", || TcpStream::connect(addr).is_ok());
        process
    }

    /// Octets of memory that it uses, as the system counts them.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line for its memory");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }

    pub fn open(&self) -> Client {
        Options { addr: Some(self.addr), ..Options::default() }.open()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; then the test has failed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn transient_messages_stop_their_publisher_at_the_limit_and_consuming_them_frees_it() {
    if is_oracle() {
        return;
    }
    let broker = Process::start(&format!("vm_memory_high_watermark.absolute = {LIMIT}\n"), None);
    let mut publisher = broker.open();
    let queue = crate::support::unique("memory");
    publisher.declare(1, leveret_protocol::queue::Declare { exclusive: false, ..exclusive(&queue) });
    let message = publisher.content_frames(1, publish_to("", &queue), &no_properties(), &[7; 1000]);
    let chunk = message.repeat(200);
    // Writes until it is blocked: what is not read fits no socket, so a whole write in vain would wait for ever.
    let mut sent = 0_u32;
    let blocked = |client: &mut Client, wait: Duration| {
        client.next_matching(wait, |arrived| matches!(arrived.method, Method::ConnectionBlocked(_))).is_some()
    };
    while !blocked(&mut publisher, Duration::from_millis(1)) {
        assert!(publisher.try_send_bytes(&chunk), "blocked without a word after {sent} messages");
        sent += 200;
        assert!(u64::from(sent) * 1000 < 4 * (LIMIT + SLACK), "{} octets used, never blocked", broker.memory());
    }
    assert!(u64::from(sent) * 1000 > LIMIT / 4, "blocked after {sent} messages");
    let memory = broker.memory();
    assert!(memory < LIMIT + SLACK, "{memory} octets");

    let mut consumer = broker.open();
    consumer.consume_no_ack(1, &queue);
    let begun = Instant::now();
    let mut received = 0;
    let mut unblocked = false;
    while !unblocked || received < sent {
        assert!(begun.elapsed() < PATIENCE, "{received} of {sent} received, {} octets used", broker.memory());
        while consumer.next(Duration::from_millis(50)).is_some() {
            received += 1;
        }
        let next = publisher.next(Duration::from_millis(1));
        unblocked |= next.is_some_and(|arrived| arrived.method == Method::from(connection::Unblocked {}));
    }
    assert_eq!(received, sent);
    // What the publisher had sent meanwhile may have brought it near the limit again; that is given back as well.
    while broker.memory() > LIMIT / 2 {
        assert!(begun.elapsed() < PATIENCE, "{} octets", broker.memory());
        std::thread::sleep(Duration::from_millis(100));
    }
}
