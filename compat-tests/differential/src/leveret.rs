//! A Leveret of a session's own: the real program, with data that vanish afterwards.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::oracle::free_ports;
use crate::session::Control;

const START_PATIENCE: Duration = Duration::from_secs(30);
const STOP_PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Leveret {
    binary: PathBuf,
    child: Child,
    directory: tempfile::TempDir,
    addr: SocketAddr,
    vhost: String,
}

impl Drop for Leveret {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Leveret {
    /// Starts the program with one vhost of that name.
    pub(crate) fn start(binary: &Path, vhost: &str) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|cause| format!("no temporary directory: {cause}"))?;
        let config = format!("default_vhost = {vhost}\n");
        std::fs::write(directory.path().join("config"), config)
            .map_err(|cause| format!("no configuration: {cause}"))?;
        // Somebody else may take the port in between.
        let mut attempts = 0;
        loop {
            let [port] = free_ports()?;
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            match spawn(binary, directory.path(), addr) {
                Ok(child) => {
                    return Ok(Self { binary: binary.to_owned(), child, directory, addr, vhost: vhost.to_owned() });
                }
                Err(cause) if attempts == 3 => return Err(cause),
                Err(_) => attempts += 1,
            }
        }
    }

    /// Stops the program. It must end by itself, in time and without having panicked.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status();
        if !killed.is_ok_and(|status| status.success()) {
            return Err(format!("Leveret has ended before\n{}", self.log()));
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => return Err("Leveret does not stop".to_owned()),
                Err(cause) => return Err(format!("Leveret cannot be waited for: {cause}")),
            }
        };
        let log = self.log();
        if !status.success() || log.contains("panicked at") {
            return Err(format!("Leveret ended: {status}\n{log}"));
        }
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

fn spawn(binary: &Path, directory: &Path, addr: SocketAddr) -> Result<Child, String> {
    let log_path = directory.join("log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path);
    let log = log.map_err(|cause| format!("no log: {cause}"))?;
    let before = log.metadata().map_or(0, |metadata| metadata.len());
    let mut child = Command::new(binary)
        .arg("server")
        .arg("--data-dir")
        .arg(directory.join("data"))
        .arg("--config")
        .arg(directory.join("config"))
        .args(["--listen", &addr.to_string(), "--management-listen", "none", "--prometheus-listen", "none"])
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|cause| format!("{} does not start: {cause}", binary.display()))?;
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        let text = std::fs::read(&log_path).unwrap_or_default();
        let text = String::from_utf8_lossy(text.get(usize::try_from(before).unwrap_or(0)..).unwrap_or_default());
        if text.contains("Server startup complete") {
            return Ok(child);
        }
        if Instant::now() > deadline || child.try_wait().is_ok_and(|status| status.is_some()) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("Leveret did not start\n{text}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Control for Leveret {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn vhost(&self) -> &str {
        &self.vhost
    }

    fn restart(&mut self) -> Result<(), String> {
        self.stop()?;
        self.child = spawn(&self.binary, self.directory.path(), self.addr)?;
        Ok(())
    }

    fn kill(&mut self) -> Result<(), String> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map_err(|cause| format!("Leveret cannot be killed: {cause}"))?;
        self.child = spawn(&self.binary, self.directory.path(), self.addr)?;
        Ok(())
    }

    fn ctl(&mut self, arguments: &[String]) -> Result<String, String> {
        let output = Command::new(&self.binary)
            .arg("ctl")
            .arg("--data-dir")
            .arg(self.directory.path().join("data"))
            .args(arguments)
            .output()
            .map_err(|cause| format!("leveret ctl does not start: {cause}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("leveret ctl: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
        }
    }
}
