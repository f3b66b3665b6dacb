//! The real binary as a process: start, kill, stop, and what it logged.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long starting and stopping may take on a machine that has other things to do.
const DEADLINE: Duration = Duration::from_secs(60);

/// Lines of the log shown when a test fails.
const TAIL_LINES: usize = 40;

/// A broker process. Dropping it kills it.
pub struct Broker {
    child: Child,
    /// Where it listens.
    pub addr: SocketAddr,
    /// The store says that the last stop was orderly.
    pub clean_start: bool,
    tee: Option<JoinHandle<()>>,
    log: PathBuf,
}

/// What the log said up to "Server startup complete".
struct Started {
    addr: SocketAddr,
    clean: bool,
}

/// How a broker is started.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    pub data_dir: &'a Path,
    /// Where its log is appended to.
    pub log: &'a Path,
    /// Its configuration file.
    pub config: Option<&'a Path>,
    /// A program with arguments that starts it.
    pub wrapper: &'a [&'a str],
}

impl<'a> Launch<'a> {
    pub const fn new(data_dir: &'a Path, log: &'a Path) -> Self {
        Self { data_dir, log, config: None, wrapper: &[] }
    }

    /// Starts it and waits until it serves.
    pub fn start(&self) -> Broker {
        self.attempt().unwrap_or_else(|status| {
            panic!("the broker does not start ({status:?})\n{}", log_tail(self.log));
        })
    }

    /// The same for one that may refuse.
    pub fn try_start(&self) -> Option<Broker> {
        self.attempt().ok()
    }

    /// Starts one that is expected to refuse; its status and what it wrote.
    pub fn start_in_vain(&self) -> (ExitStatus, String) {
        let (mut child, stderr) = self.spawn();
        let tee = copy_log(stderr, self.log, None);
        let status = wait(&mut child);
        tee.join().expect("the log can be written");
        (status, std::fs::read_to_string(self.log).expect("the log can be read"))
    }

    fn attempt(&self) -> Result<Broker, std::io::Result<ExitStatus>> {
        let (mut child, stderr) = self.spawn();
        let (sender, started) = mpsc::channel();
        let tee = copy_log(stderr, self.log, Some(sender));
        let Ok(Started { addr, clean }) = started.recv_timeout(DEADLINE) else {
            // Either it has ended or it hangs; then it must not outlive the test.
            let _ = child.kill();
            let status = child.wait();
            let _ = tee.join();
            return Err(status);
        };
        Ok(Broker { child, addr, clean_start: clean, tee: Some(tee), log: self.log.to_owned() })
    }

    fn spawn(&self) -> (Child, ChildStderr) {
        let mut file = open_log(self.log);
        writeln!(file, "--- start").expect("the log can be written");
        let binary = env!("CARGO_BIN_EXE_leveret");
        let mut command = match self.wrapper {
            [] => Command::new(binary),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
        };
        command
            .args([
                "server",
                "--listen",
                "127.0.0.1:0",
                "--management-listen",
                "none",
                "--prometheus-listen",
                "none",
                "--data-dir",
            ])
            .arg(self.data_dir);
        if let Some(config) = self.config {
            command.arg("--config").arg(config);
        }
        let mut child = command
            // Nothing of the caller's environment configures it.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("NO_COLOR", "1")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the broker's binary can be run");
        let stderr = child.stderr.take().expect("it is piped");
        (child, stderr)
    }
}

impl Broker {
    /// Starts a broker on a data directory and waits until it serves. Its log is appended to `log`.
    pub fn start(data_dir: &Path, log: &Path) -> Self {
        Launch::new(data_dir, log).start()
    }

    /// Starts a broker and kills it after `lifetime`, wherever it is by then.
    pub fn start_and_kill(data_dir: &Path, log: &Path, lifetime: Duration) {
        let (mut child, stderr) = Launch::new(data_dir, log).spawn();
        let tee = copy_log(stderr, log, None);
        std::thread::sleep(lifetime);
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
        tee.join().expect("the log can be written");
        check_log(log);
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
        self.finish_log();
    }

    /// SIGTERM, and kill -9 a moment later.
    pub fn terminate_and_kill(mut self, patience: Duration) {
        self.send_sigterm();
        std::thread::sleep(patience);
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
        self.finish_log();
    }

    /// SIGTERM; the broker must end by itself, with success.
    pub fn terminate(mut self) {
        self.send_sigterm();
        let status = wait(&mut self.child);
        self.finish_log();
        assert!(status.success(), "the broker ends with {status}\n{}", log_tail(&self.log));
    }

    /// SIGTERM, without waiting for anything.
    pub fn send_sigterm(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status().expect("kill can be run");
        assert!(status.success(), "kill -TERM {pid}: {status}");
    }

    /// The broker has been told to stop: it must end by itself, with success.
    pub fn wait_for_end(mut self) {
        let status = wait(&mut self.child);
        self.finish_log();
        assert!(status.success(), "the broker ends with {status}\n{}", log_tail(&self.log));
    }

    /// The broker must end by itself, whatever its log says and with whatever status.
    pub fn wait_for_failure(mut self) -> ExitStatus {
        let status = wait(&mut self.child);
        if let Some(tee) = self.tee.take() {
            tee.join().expect("the log can be written");
        }
        status
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    fn finish_log(&mut self) {
        if let Some(tee) = self.tee.take() {
            tee.join().expect("the log can be written");
        }
        check_log(&self.log);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already; the test that drops it early has failed or does not care.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(tee) = self.tee.take() {
            let _ = tee.join();
        }
    }
}

fn open_log(log: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(log).expect("the log can be written")
}

/// Copies what the broker writes to the log, and tells when it serves.
fn copy_log(stderr: ChildStderr, log: &Path, started: Option<mpsc::Sender<Started>>) -> JoinHandle<()> {
    let mut file = open_log(log);
    std::thread::spawn(move || {
        let (mut addr, mut clean) = (None, false);
        for line in BufReader::new(stderr).lines() {
            let Ok(line) = line else { break };
            writeln!(file, "{line}").expect("the log can be written");
            if let Some(value) = field(&line, "listening for AMQP 0-9-1", "address") {
                addr = value.parse().ok();
            } else if let Some(value) = field(&line, "store opened", "clean") {
                clean = value == "true";
            } else if line.contains("Server startup complete")
                && let (Some(sender), Some(addr)) = (&started, addr)
            {
                // Nobody listens any more if the test has given up.
                let _ = sender.send(Started { addr, clean });
            }
        }
    })
}

/// The value of a field in the log line with this message.
fn field<'a>(line: &'a str, message: &str, name: &str) -> Option<&'a str> {
    let (_, fields) = line.split_once(message)?;
    fields.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status;
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            panic!("the broker does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Fails when the log has a panic or an ERROR in it.
pub fn check_log(log: &Path) {
    let text = std::fs::read_to_string(log).expect("the log can be read");
    let bad = text.lines().find(|line| line.contains("panicked") || line.contains(" ERROR "));
    if let Some(bad) = bad {
        panic!("in the broker's log: {bad}\n{}", log_tail(log));
    }
}

/// The end of the log.
pub fn log_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    format!("the broker's log ends with:\n  {}", tail.join("\n  "))
}
