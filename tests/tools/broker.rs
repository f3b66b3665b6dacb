//! A broker process of the test's own, and the tools.

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long starting may take on a machine that has other things to do.
const DEADLINE: Duration = Duration::from_secs(60);

/// A broker on a directory. Dropping it kills it.
pub(crate) struct Broker {
    child: Child,
    port: u16,
}

/// What a tool wrote and whether it succeeded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) success: bool,
}

impl Broker {
    /// Starts a broker and waits until it answers.
    pub(crate) fn start(dir: &Path) -> Self {
        // Free a moment ago; nobody else on this machine asks for one by number.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let child = Command::new(env!("CARGO_BIN_EXE_leveret"))
            .args([
                "server",
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--management-listen",
                "none",
                "--prometheus-listen",
                "none",
                "--data-dir",
            ])
            .arg(dir)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.with_extension("log")).expect("a log"))
            .spawn()
            .expect("the broker's binary can be run");
        let broker = Self { child, port };
        let deadline = Instant::now() + DEADLINE;
        // The control socket is opened last.
        while std::os::unix::net::UnixStream::connect(dir.join("control.sock")).is_err() {
            assert!(Instant::now() < deadline, "the broker does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        broker
    }

    pub(crate) fn uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// Stops it in good order.
    pub(crate) fn stop(mut self, dir: &Path) {
        let data_dir = format!("--data-dir={}", dir.display());
        done(&["ctl", "-q", &data_dir, "stop"]);
        assert!(self.child.wait().expect("a child can be waited for").success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a tool.
pub(crate) fn leveret(arguments: &[&str]) -> Ran {
    let ran = Command::new(env!("CARGO_BIN_EXE_leveret")).args(arguments).env_clear().stdin(Stdio::null()).output();
    let ran = ran.expect("the tool can be run");
    Ran {
        out: String::from_utf8(ran.stdout).expect("text"),
        err: String::from_utf8(ran.stderr).expect("text"),
        success: ran.status.success(),
    }
}

/// Runs a tool that must succeed; what it wrote.
pub(crate) fn done(arguments: &[&str]) -> String {
    let ran = leveret(arguments);
    assert!(ran.success && ran.err.is_empty(), "{arguments:?}: {ran:?}");
    ran.out
}

/// Runs a tool that must fail; its complaint.
pub(crate) fn refused(arguments: &[&str]) -> String {
    let ran = leveret(arguments);
    assert!(!ran.success, "{arguments:?}: {ran:?}");
    ran.err
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A directory with the checked-in store of this name.
pub(crate) fn unpack(name: &str, dir: &Path) -> PathBuf {
    let stores = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores");
    let packed = std::fs::File::open(stores.join(name).with_extension("redb.gz")).expect("checked in");
    let mut octets = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut octets).expect("packed by gzip");
    std::fs::create_dir_all(dir).expect("made");
    std::fs::write(dir.join("leveret.redb"), octets).expect("written");
    dir.join("leveret.redb")
}
