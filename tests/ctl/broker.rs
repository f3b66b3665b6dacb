//! A broker process of the test's own, and its tools.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long starting and stopping may take on a machine that has other things to do.
const DEADLINE: Duration = Duration::from_secs(60);

/// The name that the node and its tools are given, as the recording has it.
pub(crate) const NODE: &str = "compat@localhost";

/// A broker on a data directory of its own. Dropping it kills it.
pub(crate) struct Broker {
    child: Child,
    dir: TempDir,
}

/// What a tool wrote and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Broker {
    /// Starts a broker and waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_under(tempfile::tempdir().expect("a directory"), &[])
    }

    /// The same in this directory, with these variables in its environment.
    pub(crate) fn start_under(dir: TempDir, variables: &[(&str, &str)]) -> Self {
        let child = spawn_under(dir.path(), &[], variables);
        let broker = Self { child, dir };
        for tool in ["rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-queues", "rabbitmq-plugins", "rabbitmq-upgrade"] {
            symlink(env!("CARGO_BIN_EXE_leveret"), broker.dir.path().join(tool)).expect("linked");
        }
        assert_eq!(broker.run("rabbitmqctl", &["await_startup", "-t", "60"]).code, 0);
        broker
    }

    /// Starts it again on the same data with further flags, after it has stopped.
    pub(crate) fn start_again(&mut self, flags: &[&str]) {
        self.child = spawn(self.dir.path(), flags);
        assert_eq!(self.run("rabbitmqctl", &["await_startup", "-t", "60"]).code, 0);
    }

    /// Starts it with flags that keep it from starting.
    pub(crate) fn start_in_vain(&mut self, flags: &[&str]) {
        self.start_in_vain_under(flags, &[]);
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_in_vain_under(&mut self, flags: &[&str], variables: &[(&str, &str)]) {
        self.child = spawn_under(self.dir.path(), flags, variables);
        assert!(!self.wait(), "it starts");
    }

    /// A place for a test's files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a tool.
    pub(crate) fn run(&self, tool: &str, arguments: &[&str]) -> Ran {
        ran(&self.command(tool).args(arguments).stdin(Stdio::null()).output().expect("the tool can be run"))
    }

    /// Runs `rabbitmqctl`, which must succeed, quietly; what it wrote.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let ran = self.run("rabbitmqctl", &[&["-q"], arguments].concat());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments:?}: {}", ran.out);
        ran.out
    }

    /// A tool with nothing of the caller's environment.
    pub(crate) fn command(&self, tool: &str) -> Command {
        let mut command = Command::new(self.dir.path().join(tool));
        command.env_clear().env("RABBITMQ_NODENAME", NODE);
        command.env("LEVERET_CONTROL_SOCKET", self.dir.path().join("data/control.sock"));
        command
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(sent.expect("kill can be run").success(), "kill -{name}");
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port_of("amqp")
    }

    /// The port on which it speaks a protocol, by RabbitMQ's word for it.
    pub(crate) fn port_of(&self, protocol: &str) -> u16 {
        let listeners = self.run("rabbitmq-diagnostics", &["listeners", "--formatter=json"]).out;
        let listeners: serde_json::Value = serde_json::from_str(&listeners).expect("JSON");
        let mut all = listeners["listeners"].as_array().expect("a list").iter();
        let listener = all.find(|each| each["protocol"] == protocol).expect("it listens");
        u16::try_from(listener["port"].as_u64().expect("a port")).expect("a port")
    }

    /// Waits until the process has ended by itself; whether with success.
    pub(crate) fn wait(&mut self) -> bool {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status.success();
            }
            assert!(Instant::now() < deadline, "the broker does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &Path, flags: &[&str]) -> Child {
    spawn_under(dir, flags, &[])
}

fn spawn_under(dir: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_leveret"))
        .args(["server", "--listen", "127.0.0.1:0", "--management-listen", "none", "--prometheus-listen", "none"])
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(flags)
        .env_clear()
        .env("RABBITMQ_NODENAME", NODE)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("log")).expect("a log"))
        .spawn()
        .expect("the broker's binary can be run")
}

/// What a process wrote and how it ended.
pub(crate) fn ran(output: &Output) -> Ran {
    Ran {
        out: String::from_utf8(output.stdout.clone()).expect("text"),
        err: String::from_utf8(output.stderr.clone()).expect("text"),
        code: output.status.code().expect("it was not killed"),
    }
}
