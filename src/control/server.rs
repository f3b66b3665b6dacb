//! The broker's side of the control socket.
//!
//! Invariants: the socket is never open to anybody but its owner; what stands in its place is replaced only if it is a
//! socket that nobody serves; a client can make the broker hold one line of bounded length, and only so many clients at
//! once.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use super::request::Request;
use super::{Fault, REQUEST_MAX_BYTES, Reply, ReplyLine, RequestLine, VERSION};
use crate::server::operator::Operator;

/// Clients at once; more wait to be accepted. Tools come and go within milliseconds.
const CLIENTS_MAX: usize = 32;
/// How long a client may take for its next request, or to take an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait when the system has no more sockets to give.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The socket while the broker runs. Dropping it ends its clients and removes the file.
#[derive(Debug)]
pub(crate) struct ControlServer {
    socket: SocketFile,
    task: JoinHandle<()>,
}

impl ControlServer {
    /// Opens the socket and serves it.
    pub(crate) fn start(path: &Path, operator: Operator) -> Result<Self, String> {
        let (listener, socket) =
            bind(path).map_err(|cause| format!("cannot open the control socket {}: {cause}", path.display()))?;
        info!(path = %path.display(), "control socket open");
        Ok(Self { socket, task: tokio::spawn(serve(listener, operator)) })
    }

    /// Takes the socket out of the file system; who is connected stays so until the drop.
    pub(crate) fn hide(&mut self) {
        self.socket.remove();
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The file of a socket, told from a later one in the same place by its number.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    fn remove(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Binds in a directory that only we can enter, and moves the socket to its place when its mode is right: there is no
/// moment at which somebody else could open it.
fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is not a socket"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another broker serves it"));
        }
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let nest = parent.join(format!(".ctl{}", std::process::id()));
    let _stale = fs::remove_dir_all(&nest);
    fs::DirBuilder::new().mode(0o700).create(&nest)?;
    let bound = bind_in(&nest.join("s"), path);
    let _gone = fs::remove_dir_all(&nest);
    bound
}

fn bind_in(nested: &Path, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let listener = UnixListener::bind(nested)?;
    fs::set_permissions(nested, fs::Permissions::from_mode(0o600))?;
    let inode = fs::symlink_metadata(nested)?.ino();
    fs::rename(nested, path)?;
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

async fn serve(listener: UnixListener, operator: Operator) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let operator = operator.clone();
                clients.spawn(async move {
                    if let Err(cause) = client(socket, &operator).await {
                        info!(%cause, "a client of the control socket was lost");
                    }
                    drop(place);
                });
            }
            Err(cause) => {
                warn!(%cause, "the control socket cannot accept; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Answers one client's requests until it leaves, falls silent or breaks the rules.
async fn client(socket: UnixStream, operator: &Operator) -> io::Result<()> {
    let (reading, mut writing) = socket.into_split();
    let mut reading = BufReader::new(reading);
    let mut line = Vec::new();
    loop {
        line.clear();
        // One octet more than allowed shows that there are too many.
        let mut bounded = (&mut reading).take(REQUEST_MAX_BYTES + 1);
        let Ok(read) = tokio::time::timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await else {
            return Ok(());
        };
        if read? == 0 {
            return Ok(());
        }
        let too_long = line.len() as u64 > REQUEST_MAX_BYTES;
        let (reply, last) = if too_long {
            (Err(Fault::bad_request(format!("a request has at most {REQUEST_MAX_BYTES} octets"))), false)
        } else {
            answer(&line, operator).await
        };
        let reply = match reply {
            Ok(value) => Reply::Ok(value),
            Err(fault) => Reply::Fault(fault),
        };
        let mut out = serde_json::to_vec(&ReplyLine { v: VERSION, reply }).map_err(io::Error::other)?;
        out.push(b'\n');
        let Ok(written) = tokio::time::timeout(PATIENCE, writing.write_all(&out)).await else { return Ok(()) };
        written?;
        if too_long {
            return Ok(());
        }
        if last {
            // The socket closes with the broker, which is what the client waits for.
            return std::future::pending().await;
        }
    }
}

async fn answer(line: &[u8], operator: &Operator) -> (Result<serde_json::Value, Fault>, bool) {
    let request = match parse(line) {
        Ok(request) => request,
        Err(fault) => return (Err(fault), false),
    };
    let last = request.is_last();
    (request.answer(operator).await, last)
}

fn parse(line: &[u8]) -> Result<Request, Fault> {
    let line: RequestLine =
        serde_json::from_slice(line).map_err(|cause| Fault::bad_request(format!("not a request: {cause}")))?;
    if line.v != VERSION {
        return Err(Fault::bad_request(format!("this broker speaks version {VERSION}, not {}", line.v)));
    }
    serde_json::from_value(line.request).map_err(|cause| Fault::bad_request(format!("not a request: {cause}")))
}

#[cfg(test)]
mod tests {
    use super::super::request::NodeRequest;
    use super::*;

    #[test]
    fn requests_are_lines_of_json_with_a_version() {
        assert_eq!(parse(br#"{"v":1,"request":{"node":"ping"}}"#), Ok(Request::Node(NodeRequest::Ping)));
        let refused = |line: &str| parse(line.as_bytes()).expect_err("it is bad").text;
        assert_eq!(refused(r#"{"v":2,"request":{"node":"ping"}}"#), "this broker speaks version 1, not 2");
        assert!(refused("ping").starts_with("not a request: "));
        assert!(refused(r#"{"v":1,"request":{"node":"explode"}}"#).contains("unknown variant `explode`"));
        assert!(refused(&format!("{{\"v\":1,\"request\":{}", "[".repeat(100_000))).contains("recursion limit"));
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let (listener, mut socket) = bind(&path).expect("a stale socket is replaced");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert!(bind(&path).expect_err("it is served").to_string().contains("another broker"));
        socket.remove();
        assert!(!path.exists());
        drop(listener);
        fs::write(&path, "a letter").expect("written");
        assert!(bind(&path).expect_err("it is a file").to_string().contains("not a socket"));
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1, "nothing else is left behind");
    }
}
