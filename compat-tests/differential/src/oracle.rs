//! A RabbitMQ node to compare with: one started here from Debian's package, or one that runs already.
//!
//! The node that is started here has everything of its own: node name, ports, EPMD, data, logs, cookie. It reads Erlang from
//! its standard input, which is how vhosts are made and commands of rabbitmqctl are done without starting an Erlang for each;
//! and it ends when that input does, so it cannot outlive the harness.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::session::Control;

/// Where Debian's package `rabbitmq-server` has the script that runs a node as whoever calls it.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Types of exchanges that scenarios use and that are not built in.
const PLUGINS: &str = "[rabbitmq_consistent_hash_exchange,rabbitmq_random_exchange,rabbitmq_recent_history_exchange,\
                       rabbitmq_sharding].\n";

const START_PATIENCE: Duration = Duration::from_secs(120);
const EVAL_PATIENCE: Duration = Duration::from_secs(90);

/// A RabbitMQ node.
pub(crate) struct Oracle {
    addr: SocketAddr,
    node: Node,
    restarts: Rendezvous,
}

enum Node {
    Own(Box<Mutex<Own>>),
    /// A command that does what rabbitmqctl does.
    Running(Option<String>),
}

struct Own {
    server: Child,
    epmd: Child,
    input: ChildStdin,
    output: Receiver<String>,
    evaluated: u64,
    directory: tempfile::TempDir,
}

impl Drop for Own {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.epmd] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Oracle {
    /// Whether Debian's package is there.
    pub(crate) fn is_installed() -> bool {
        Path::new(SERVER).exists()
    }

    /// A node that runs already.
    pub(crate) const fn running(addr: SocketAddr, ctl: Option<String>) -> Self {
        Self { addr, node: Node::Running(ctl), restarts: Rendezvous::new() }
    }

    /// Starts a node and waits until it serves.
    pub(crate) fn start() -> Result<Self, String> {
        Self::start_with(PLUGINS, "collect_statistics_interval = 60000\n")
    }

    /// The same, with these plugins and these lines of configuration.
    fn start_with(plugins: &str, settings: &str) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|cause| format!("no temporary directory: {cause}"))?;
        let [port, distribution, epmd_port] = free_ports()?;
        let epmd = Command::new("epmd")
            .args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|cause| format!("epmd does not start: {cause}"))?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut own = start_server(directory, epmd, [port, distribution, epmd_port], plugins, settings)?;
        let deadline = Instant::now() + START_PATIENCE;
        while own.eval("rabbit:is_running()").as_deref() != Ok("true") {
            if let Ok(Some(status)) = own.server.try_wait() {
                return Err(format!("RabbitMQ ended: {status}\n{}", own.log()));
            }
            if Instant::now() > deadline {
                return Err(format!("RabbitMQ did not start in time\n{}", own.log()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(Self { addr, node: Node::Own(Box::new(Mutex::new(own))), restarts: Rendezvous::new() })
    }

    /// What the node says that it is.
    pub(crate) fn version(&self) -> String {
        let version = self.eval("rabbit_misc:version()").unwrap_or_default();
        format!("RabbitMQ {} at {}", version.trim_matches('"'), self.addr)
    }

    /// Whether the harness may make vhosts on it and restart it.
    pub(crate) const fn can_be_controlled(&self) -> bool {
        !matches!(self.node, Node::Running(None))
    }

    /// Evaluates Erlang on the node.
    pub(crate) fn eval(&self, expression: &str) -> Result<String, String> {
        match &self.node {
            Node::Own(own) => own.lock().unwrap_or_else(PoisonError::into_inner).eval(expression),
            Node::Running(Some(ctl)) => {
                let output = Command::new("sh")
                    .args(["-c", &format!("{ctl} eval \"$0\""), &format!("{expression}.")])
                    .output()
                    .map_err(|cause| format!("{ctl}: {cause}"))?;
                let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                if output.status.success() { Ok(text) } else { Err(format!("{ctl} eval: {}: {text}", output.status)) }
            }
            Node::Running(None) => Err("the oracle cannot be controlled: --oracle-ctl is missing".to_owned()),
        }
    }

    /// Makes a vhost that `guest` may use.
    pub(crate) fn add_vhost(&self, vhost: &str) -> Result<(), String> {
        let made = self.eval(&format!(
            "begin rabbit_vhost:add(<<\"{vhost}\">>, <<\"differential\">>), \
             rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, <<\"{vhost}\">>, <<\".*\">>, <<\".*\">>, \
             <<\".*\">>, <<\"differential\">>) end"
        ))?;
        if made == "ok" { Ok(()) } else { Err(format!("no vhost on the oracle: {made}")) }
    }

    /// Deletes a vhost in the background: with all of them a restart would take minutes.
    pub(crate) fn delete_vhost(&self, vhost: &str) {
        let delete = format!("rabbit_vhost:delete(<<\"{vhost}\">>, <<\"differential\">>)");
        // That a vhost stays disturbs nobody.
        let _ = self.eval(&format!("begin spawn(fun() -> {delete} end), ok end"));
    }

    /// So many sessions will restart the node; it is restarted when all of them want it.
    pub(crate) fn expect_restarts(&self, sessions: usize) {
        self.restarts.expect(sessions);
    }

    /// A session that restarts the node has ended.
    pub(crate) fn leave_restarts(&self) {
        self.restarts.leave(|| self.restart());
    }

    fn restart(&self) -> Result<(), String> {
        let restarted = self.eval("begin rabbit:stop(), rabbit:start(), rabbit:is_running() end")?;
        if restarted == "true" { Ok(()) } else { Err(format!("RabbitMQ does not restart: {restarted}")) }
    }
}

fn start_server(
    directory: tempfile::TempDir,
    epmd: Child,
    [port, distribution, epmd_port]: [u16; 3],
    plugins: &str,
    settings: &str,
) -> Result<Own, String> {
    let path = directory.path();
    let write = |name: &str, text: &str| {
        std::fs::write(path.join(name), text).map_err(|cause| format!("cannot write {name}: {cause}"))
    };
    write("plugins", plugins)?;
    write("rabbitmq.conf", &format!("{settings}log.console = false\n"))?;
    let log = std::fs::File::create(path.join("stderr")).map_err(|cause| format!("no log: {cause}"))?;
    let mut server = Command::new(SERVER)
        .current_dir(path)
        .env("HOME", path)
        .env("RABBITMQ_ALLOW_INPUT", "1")
        .env("RABBITMQ_NODENAME", format!("differential{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", epmd_port.to_string())
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        .env("RABBITMQ_MNESIA_BASE", path.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", path.join("log"))
        .env("RABBITMQ_CONF_ENV_FILE", path.join("rabbitmq-env.conf"))
        .env("RABBITMQ_CONFIG_FILE", path.join("rabbitmq"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", path.join("advanced"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", path.join("plugins"))
        .env_remove("RABBITMQ_PID_FILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|cause| format!("{SERVER} does not start: {cause}"))?;
    let input = server.stdin.take().ok_or("no input for RabbitMQ")?;
    let stdout = server.stdout.take().ok_or("no output of RabbitMQ")?;
    let (sender, output) = channel();
    // Ends with the node's output.
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    Ok(Own { server, epmd, input, output, evaluated: 0, directory })
}

impl Own {
    /// Types the expression into the node's shell and reads its value.
    fn eval(&mut self, expression: &str) -> Result<String, String> {
        self.evaluated += 1;
        let begin = format!("<<<{} ", self.evaluated);
        let line =
            format!("io:format(\"~n{begin}~ts>>>~n\", [io_lib:format(\"~0tp\", [catch begin {expression} end])]).\n");
        self.input.write_all(line.as_bytes()).map_err(|cause| format!("RabbitMQ does not listen: {cause}"))?;
        let deadline = Instant::now() + EVAL_PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(line) => {
                    if let Some((_, value)) = line.split_once(&begin)
                        && let Some((value, _)) = value.rsplit_once(">>>")
                    {
                        return Ok(value.to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err(format!("RabbitMQ does not answer: {expression}")),
                Err(RecvTimeoutError::Disconnected) => return Err(format!("RabbitMQ is gone\n{}", self.log())),
            }
        }
    }

    /// The last lines of the node's logs.
    fn log(&self) -> String {
        let mut shown = String::new();
        let logs = std::fs::read_dir(self.directory.path().join("log")).into_iter().flatten().flatten();
        let logs = logs.map(|entry| entry.path()).chain([self.directory.path().join("stderr")]);
        for log in logs.filter(|path| path.is_file()) {
            let text = std::fs::read(&log).map(|octets| String::from_utf8_lossy(&octets).into_owned());
            let text = text.unwrap_or_default();
            let skipped = text.lines().count().saturating_sub(20);
            shown.extend(text.lines().skip(skipped).map(|line| format!("  | {line}\n")));
        }
        shown
    }
}

/// A RabbitMQ node with its management API, for whoever speaks HTTP to it. It ends when it is dropped.
pub struct Managed {
    /// Where its management API listens.
    pub management: SocketAddr,
    /// Where it listens for AMQP.
    pub amqp: SocketAddr,
    _node: Oracle,
}

/// A RabbitMQ node as it comes: no plugins, nothing configured but where its data lies. It ends when it is dropped.
pub struct Plain {
    /// Where it listens for AMQP.
    pub amqp: SocketAddr,
    /// Its process, or the parent of it.
    pub pid: u32,
    /// What it says that it is.
    pub version: String,
    _node: Oracle,
}

/// Starts a RabbitMQ node as it comes; `None` where Debian's package is missing.
pub fn start_plain() -> Result<Option<Plain>, String> {
    if !Oracle::is_installed() {
        return Ok(None);
    }
    let node = Oracle::start_with("[].\n", "")?;
    let pid = match &node.node {
        Node::Own(own) => own.lock().unwrap_or_else(PoisonError::into_inner).server.id(),
        Node::Running(_) => return Err("the node was not started here".to_owned()),
    };
    let version = node.eval("rabbit_misc:version()")?.trim_matches('"').to_owned();
    Ok(Some(Plain { amqp: node.addr, pid, version, _node: node }))
}

/// Starts a RabbitMQ node with its management API; `None` where Debian's package is missing.
pub fn start_managed() -> Result<Option<Managed>, String> {
    if !Oracle::is_installed() {
        return Ok(None);
    }
    let [port] = free_ports()?;
    let plugins = PLUGINS.replace('[', "[rabbitmq_management,");
    let settings = format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n");
    let node = Oracle::start_with(&plugins, &settings)?;
    let management = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(Some(Managed { management, amqp: node.addr, _node: node }))
}

/// Ports that nobody listens on, as far as can be known.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let bind =
        || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|cause| format!("no free port: {cause}"));
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = bind()?;
        *port = listener.local_addr().map_err(|cause| format!("no free port: {cause}"))?.port();
        // Kept until all are chosen, so that they differ.
        listeners.push(listener);
    }
    Ok(ports)
}

/// The oracle as one session sees it.
pub(crate) struct OracleControl<'a> {
    pub(crate) oracle: &'a Oracle,
    pub(crate) vhost: String,
}

impl Control for OracleControl<'_> {
    fn addr(&self) -> SocketAddr {
        self.oracle.addr
    }

    fn vhost(&self) -> &str {
        &self.vhost
    }

    fn restart(&mut self) -> Result<(), String> {
        self.oracle.restarts.arrive(|| self.oracle.restart())
    }

    fn kill(&mut self) -> Result<(), String> {
        self.restart()
    }

    fn ctl(&mut self, arguments: &[String]) -> Result<String, String> {
        let expression = crate::ctl::expression(arguments)?;
        let result = self.oracle.eval(&expression)?;
        let failed = result.starts_with("{'EXIT'") || result.starts_with("{error") || result.starts_with("{badrpc");
        if failed { Err(format!("{expression}: {result}")) } else { Ok(result) }
    }
}

/// Where sessions that want the node restarted wait for each other, so that one restart serves all.
struct Rendezvous {
    state: Mutex<Waiting>,
    happened: Condvar,
}

struct Waiting {
    members: usize,
    arrived: usize,
    round: u64,
    outcome: Result<(), String>,
}

impl Rendezvous {
    const fn new() -> Self {
        let state = Waiting { members: 0, arrived: 0, round: 0, outcome: Ok(()) };
        Self { state: Mutex::new(state), happened: Condvar::new() }
    }

    fn expect(&self, members: usize) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).members = members;
    }

    fn arrive(&self, act: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.arrived += 1;
        if state.arrived >= state.members {
            self.happen(&mut state, act);
            return state.outcome.clone();
        }
        let round = state.round;
        while state.round == round {
            state = self.happened.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.outcome.clone()
    }

    fn leave(&self, act: impl FnOnce() -> Result<(), String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.members = state.members.saturating_sub(1);
        if state.arrived > 0 && state.arrived >= state.members {
            self.happen(&mut state, act);
        }
    }

    fn happen(&self, state: &mut Waiting, act: impl FnOnce() -> Result<(), String>) {
        state.outcome = act();
        state.arrived = 0;
        state.round += 1;
        self.happened.notify_all();
    }
}
