//! The brokers under test.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use leveret::engine::directory::{
    HashingAlgorithm, PermissionRecord, PolicyRecord, Record, TopicPermissionRecord, User, VhostRecord,
};
use tokio::runtime::Runtime;

use super::{Client, Options, wait_until};

/// The address of a broker outside this process to test instead of the embedded one.
const ADDRESS_VARIABLE: &str = "LEVERET_TEST_BROKER";

/// A shell command that restarts that broker and returns when it is up; without it, tests that need a restart pass by.
const RESTART_VARIABLE: &str = "LEVERET_TEST_RESTART";

/// Whether a broker outside this process is being tested, which is taken to be RabbitMQ 3.10.
pub fn is_oracle() -> bool {
    oracle_address().is_some()
}

/// The broker that all tests share.
pub struct TestBroker {
    addr: SocketAddr,
}

impl TestBroker {
    /// The shared broker, started by whoever needs it first. It ends with the process.
    pub fn start() -> &'static Self {
        static SHARED: OnceLock<TestBroker> = OnceLock::new();
        SHARED.get_or_init(|| {
            let addr = oracle_address().unwrap_or_else(|| {
                let broker: &leveret::Broker = Box::leak(Box::new(start_embedded(leveret::DataDir::Ephemeral)));
                broker.amqp_addr()
            });
            Self { addr }
        })
    }

    /// A broker of the test's own that keeps its data in `data_dir`; `None` if that cannot be had from the oracle.
    pub fn start_own(data_dir: &Path) -> Option<OwnBroker> {
        if is_oracle() {
            return std::env::var(RESTART_VARIABLE).ok().map(|command| OwnBroker::Oracle { command });
        }
        let broker = start_embedded(leveret::DataDir::Path(data_dir.to_path_buf()));
        Some(OwnBroker::Embedded { broker, data_dir: data_dir.to_path_buf() })
    }

    /// A broker with this configuration, in memory; never the oracle.
    pub fn start_with(config: leveret::Config) -> OwnBroker {
        let broker = runtime().block_on(leveret::Broker::start(config)).expect("the broker starts");
        OwnBroker::Embedded { broker, data_dir: std::path::PathBuf::new() }
    }

    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// A broker that one test has for itself and may restart.
pub enum OwnBroker {
    Embedded { broker: leveret::Broker, data_dir: std::path::PathBuf },
    Oracle { command: String },
}

impl OwnBroker {
    pub fn options(&self) -> Options {
        let addr = match self {
            Self::Embedded { broker, .. } => broker.amqp_addr(),
            Self::Oracle { .. } => oracle_address().expect("there is an oracle"),
        };
        Options { addr: Some(addr), ..Options::default() }
    }

    /// A connection with channel 1 open.
    pub fn open(&self) -> Client {
        self.options().open()
    }

    /// Stops the broker in good order and starts it again on the same data.
    pub fn restart(self) -> Self {
        self.restart_after(Duration::ZERO)
    }

    /// As [`restart`](Self::restart), the broker being down for as long, or longer if it is the oracle.
    pub fn restart_after(self, pause: Duration) -> Self {
        match self {
            Self::Embedded { broker, data_dir } => {
                shut_down(broker);
                std::thread::sleep(pause);
                let broker = start_embedded(leveret::DataDir::Path(data_dir.clone()));
                Self::Embedded { broker, data_dir }
            }
            Self::Oracle { command } => {
                let status = Command::new("sh").args(["-c", &command]).status().expect("the shell starts");
                assert!(status.success(), "{command}: {status}");
                let addr = oracle_address().expect("there is an oracle");
                wait_until("the oracle listens again", || std::net::TcpStream::connect(addr).is_ok());
                Self::Oracle { command }
            }
        }
    }

    /// Takes records of the directory; `None` for the oracle, whose directory the tests leave alone.
    pub fn directory(&self) -> Option<DirectoryOf<'_>> {
        match self {
            Self::Embedded { broker, .. } => Some(DirectoryOf { broker }),
            Self::Oracle { .. } => None,
        }
    }

    pub fn stop(self) {
        if let Self::Embedded { broker, .. } = self {
            shut_down(broker);
        }
    }
}

/// A broker with an empty data directory, which goes with the test.
pub struct Fixture {
    pub broker: OwnBroker,
    _data_dir: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Option<Self> {
        let data_dir = tempfile::tempdir().expect("a temporary directory");
        let broker = TestBroker::start_own(data_dir.path())?;
        Some(Self { broker, _data_dir: data_dir })
    }

    pub fn restart(self) -> Self {
        Self { broker: self.broker.restart(), ..self }
    }

    pub fn restart_after(self, pause: Duration) -> Self {
        Self { broker: self.broker.restart_after(pause), ..self }
    }

    #[track_caller]
    pub fn open(&self) -> Client {
        self.broker.open()
    }
}

/// Vhosts, users, rights and policies of a broker.
pub struct DirectoryOf<'a> {
    broker: &'a leveret::Broker,
}

impl DirectoryOf<'_> {
    #[track_caller]
    pub fn put(&self, record: Record) {
        runtime().block_on(self.broker.put(record)).expect("the record is taken");
    }

    #[track_caller]
    pub fn remove(&self, record: &Record) {
        runtime().block_on(self.broker.remove(&record.key())).expect("the record is there");
    }

    pub fn vhost(&self, name: &str, limits: &[(&str, i64)]) {
        let limits = limits.iter().map(|(name, limit)| ((*name).to_owned(), *limit)).collect();
        self.put(Record::Vhost(VhostRecord { name: name.to_owned(), limits, ..VhostRecord::default() }));
    }

    /// A user whose password is its name.
    pub fn user(&self, name: &str, tags: &[&str], limits: &[(&str, i64)]) {
        self.put(Record::User(User {
            name: name.to_owned(),
            password_hash: leveret::Broker::hash_password(name),
            hashing_algorithm: HashingAlgorithm::default(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            limits: limits.iter().map(|(name, limit)| ((*name).to_owned(), *limit)).collect(),
        }));
    }

    /// Configure, write, read.
    pub fn permit(&self, vhost: &str, user: &str, [configure, write, read]: [&str; 3]) {
        self.put(Record::Permission(PermissionRecord {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            configure: configure.to_owned(),
            write: write.to_owned(),
            read: read.to_owned(),
        }));
    }

    pub fn permit_topics(&self, user: &str, exchange: &str, write: &str, read: &str) {
        self.put(Record::TopicPermission(TopicPermissionRecord {
            user: user.to_owned(),
            vhost: "/".to_owned(),
            exchange: exchange.to_owned(),
            write: write.to_owned(),
            read: read.to_owned(),
        }));
    }
}

/// A policy of the default vhost for queues and exchanges alike.
pub fn policy(name: &str, pattern: &str, priority: i64, definition: serde_json::Value) -> PolicyRecord {
    let serde_json::Value::Object(definition) = definition else { panic!("a definition is an object") };
    PolicyRecord {
        vhost: "/".to_owned(),
        name: name.to_owned(),
        pattern: pattern.to_owned(),
        apply_to: "all".to_owned(),
        priority,
        definition,
    }
}

/// A broker of the test's own with settings of its own, which the oracle does not have. Dropping it ends its tasks with the
/// process; clients that are still open would keep an orderly stop waiting.
pub struct TunedBroker {
    broker: leveret::Broker,
}

impl TunedBroker {
    /// A broker in memory with the default settings but for what `tune` changes.
    pub fn start(tune: impl FnOnce(&mut leveret::Config)) -> Self {
        Self::try_start(tune).expect("the broker starts")
    }

    /// The same for one that may refuse, and why it does.
    pub fn try_start(tune: impl FnOnce(&mut leveret::Config)) -> Result<Self, String> {
        let mut config = leveret::Config::for_tests();
        tune(&mut config);
        let broker = runtime().block_on(leveret::Broker::start(config));
        broker.map(|broker| Self { broker }).map_err(|cause| cause.to_string())
    }

    pub fn options(&self) -> Options {
        Options { addr: Some(self.broker.amqp_addr()), ..Options::default() }
    }

    /// A connection with channel 1 open.
    pub fn open(&self) -> Client {
        self.options().open()
    }

    /// Vhosts, users, rights and policies.
    pub fn directory(&self) -> DirectoryOf<'_> {
        DirectoryOf { broker: &self.broker }
    }

    /// Loads the configuration and all certificates again.
    pub fn reload(&self) {
        runtime().block_on(self.broker.reload());
    }

    /// Begins to stop it in good order; the thread ends when it has.
    pub fn stop_in_background(self) -> std::thread::JoinHandle<()> {
        std::thread::spawn(|| shut_down(self.broker))
    }
}

impl std::ops::Deref for TunedBroker {
    type Target = leveret::Broker;

    fn deref(&self) -> &leveret::Broker {
        &self.broker
    }
}

fn oracle_address() -> Option<SocketAddr> {
    let address = std::env::var(ADDRESS_VARIABLE).ok()?;
    let mut resolved = address.to_socket_addrs().expect("LEVERET_TEST_BROKER is host:port");
    Some(resolved.next().expect("LEVERET_TEST_BROKER resolves"))
}

/// The one place that knows how to start the broker.
fn start_embedded(data_dir: leveret::DataDir) -> leveret::Broker {
    let config = leveret::Config { data_dir, ..leveret::Config::for_tests() };
    runtime().block_on(leveret::Broker::start(config)).expect("the broker starts")
}

fn shut_down(broker: leveret::Broker) {
    runtime().block_on(broker.shutdown());
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    })
}
