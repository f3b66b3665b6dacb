//! The node: whether it is there, what it is, stopping it, its log.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::{BOTH, CTL, DIAGNOSTICS, EVERY};
use crate::built_in::PLUGINS;
use crate::config::Setting;
use crate::control::client::ClientError;
use crate::control::request::{NodeRequest, Request};
use crate::ctl::call::Call;
use crate::ctl::failure::{Failure, TEMPORARY, UNAVAILABLE};
use crate::ctl::output::Output;
use crate::ctl::parse::Patience;
use crate::ctl::table::{Command, Group};
use crate::server::operator::{ListenerInfo, NodeInfo, Reloaded};

/// How often a broker that is awaited is tried.
const POLL: Duration = Duration::from_millis(100);
/// How long a start is awaited unless the caller says otherwise; RabbitMQ's tools wait as long.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(300);

const NODE: Group = Group::Nodes;
const MONITORING: Group = Group::Monitoring;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "await_startup",
        group: NODE,
        tools: BOTH,
        usage: "",
        about: "Waits for the broker to start on the target node",
        args: (0, 0),
        switches: &[],
        run: await_startup,
    },
    Command {
        name: "await_online_nodes",
        group: Group::Cluster,
        tools: CTL,
        usage: "<count> [--timeout <timeout>]",
        about: "Waits for <count> nodes to join the cluster",
        args: (1, 1),
        switches: &[],
        run: await_online_nodes,
    },
    Command {
        name: "wait",
        group: NODE,
        tools: CTL,
        usage: "[<pidfile>] [--pid|-P <pid>] [--timeout <timeout>]",
        about: "Waits for the broker to start. The process is found by its control socket",
        args: (0, 1),
        switches: &["pid="],
        run: await_startup,
    },
    Command {
        name: "ping",
        group: MONITORING,
        tools: BOTH,
        usage: "[--timeout <timeout>]",
        about: "Checks that the broker runs and answers on its control socket",
        args: (0, 0),
        switches: &[],
        run: ping,
    },
    Command {
        name: "status",
        group: MONITORING,
        tools: BOTH,
        usage: "[--unit <unit>] [--timeout <timeout>]",
        about: "Displays status of a node",
        args: (0, 0),
        switches: &["unit="],
        run: status,
    },
    Command {
        name: "is_running",
        group: MONITORING,
        tools: DIAGNOSTICS,
        usage: "[--timeout <timeout>]",
        about: "Queries the running status of the target node",
        args: (0, 0),
        switches: &[],
        run: is_running,
    },
    Command {
        name: "is_booting",
        group: MONITORING,
        tools: DIAGNOSTICS,
        usage: "[--timeout <timeout>]",
        about: "Checks if the broker is still booting on the target node",
        args: (0, 0),
        switches: &[],
        run: is_booting,
    },
    Command {
        name: "server_version",
        group: MONITORING,
        tools: DIAGNOSTICS,
        usage: "[--timeout <timeout>]",
        about: "Displays the RabbitMQ version whose behaviour the target node follows",
        args: (0, 0),
        switches: &[],
        run: server_version,
    },
    Command {
        name: "erlang_version",
        group: MONITORING,
        tools: DIAGNOSTICS,
        usage: "[--timeout <timeout>]",
        about: "Says that there is no Erlang",
        args: (0, 0),
        switches: &["details", "offline"],
        run: erlang_version,
    },
    Command {
        name: "listeners",
        group: MONITORING,
        tools: DIAGNOSTICS,
        usage: "[--timeout <timeout>]",
        about: "Lists active connection listeners (bound interface, port, protocol) on the target node",
        args: (0, 0),
        switches: &[],
        run: listeners,
    },
    Command {
        name: "memory_breakdown",
        group: MONITORING,
        tools: DIAGNOSTICS,
        usage: "[--unit <unit>] [--timeout <timeout>]",
        about: "Provides a memory usage breakdown on the target node",
        args: (0, 0),
        switches: &["unit="],
        run: memory_breakdown,
    },
    Command {
        name: "environment",
        group: Group::Configuration,
        tools: BOTH,
        usage: "",
        about: "Displays the effective configuration, and where it comes from",
        args: (0, 0),
        switches: &[],
        run: environment,
    },
    Command {
        name: "effective_config",
        group: Group::Configuration,
        tools: BOTH,
        usage: "",
        about: "Displays the effective configuration, and where it comes from",
        args: (0, 0),
        switches: &[],
        run: environment,
    },
    Command {
        name: "reload",
        group: Group::Configuration,
        tools: CTL,
        usage: "[--timeout <timeout>]",
        about: "Loads the configuration and all certificates again, and says what waits for a restart",
        args: (0, 0),
        switches: &[],
        run: reload,
    },
    Command {
        name: "stop",
        group: NODE,
        tools: CTL,
        usage: "[--idempotent] [<pidfile>]",
        about: "Stops the broker in good order and waits until it has gone",
        args: (0, 1),
        switches: &["idempotent"],
        run: stop,
    },
    Command {
        name: "shutdown",
        group: NODE,
        tools: CTL,
        usage: "[--wait] [--timeout <timeout>]",
        about: "Stops the broker in good order and waits until it has gone",
        args: (0, 0),
        switches: &["wait"],
        run: shutdown,
    },
    Command {
        name: "stop_app",
        group: NODE,
        tools: CTL,
        usage: "",
        about: "Not there: broker and process are one. See 'stop'",
        args: (0, 0),
        switches: &[],
        run: |call| Err(one_process(call, "Stopping rabbit application on node", "stop it with 'stop'")),
    },
    Command {
        name: "start_app",
        group: NODE,
        tools: CTL,
        usage: "",
        about: "Succeeds if the broker runs: broker and process are one",
        args: (0, 0),
        switches: &[],
        run: start_app,
    },
    Command {
        name: "reset",
        group: NODE,
        tools: CTL,
        usage: "",
        about: "Not there: stop the broker and remove its data directory",
        args: (0, 0),
        switches: &[],
        run: |call| Err(one_process(call, "Resetting node", "stop the broker and remove its data directory")),
    },
    Command {
        name: "force_reset",
        group: NODE,
        tools: CTL,
        usage: "",
        about: "Not there: stop the broker and remove its data directory",
        args: (0, 0),
        switches: &[],
        run: |call| {
            Err(one_process(call, "Forcefully resetting node", "stop the broker and remove its data directory"))
        },
    },
    Command {
        name: "rotate_logs",
        group: NODE,
        tools: CTL,
        usage: "",
        about: "Begins a new log file, if the broker logs to one",
        args: (0, 0),
        switches: &[],
        run: rotate_logs,
    },
    Command {
        name: "set_log_level",
        group: Group::Configuration,
        tools: BOTH,
        usage: "<log_level>",
        about: "Sets log level in the running node",
        args: (1, 1),
        switches: &[],
        run: set_log_level,
    },
    Command {
        name: "log_location",
        group: Group::Configuration,
        tools: DIAGNOSTICS,
        usage: "[--all|-a] [--timeout <timeout>]",
        about: "Shows where the log goes",
        args: (0, 0),
        switches: &["all", "a"],
        run: log_location,
    },
    Command {
        name: "force_gc",
        group: Group::Operations,
        tools: CTL,
        usage: "[--timeout <timeout>]",
        about: "Does nothing: there is no garbage collector",
        args: (0, 0),
        switches: &[],
        run: force_gc,
    },
    Command {
        name: "report",
        group: MONITORING,
        tools: EVERY,
        usage: "",
        about: "Generate a server status report containing a concatenation of all server status information for support purposes",
        args: (0, 0),
        switches: &[],
        run: report,
    },
];

/// What the node is and uses.
pub(super) fn info(call: &mut Call<'_>) -> Result<NodeInfo, Failure> {
    call.ask(&Request::Node(NodeRequest::Status))
}

/// Asks for an answer, whatever it is.
fn pinged(call: &mut Call<'_>) -> Result<(), ClientError> {
    call.try_ask(&Request::Node(NodeRequest::Ping)).map(|_| ())
}

fn ping(call: &mut Call<'_>) -> Result<Output, Failure> {
    let millis = call.timeout().map_or_else(|| "infinity".to_owned(), |timeout| format!("{} ms", timeout.as_millis()));
    let node = call.node();
    call.banner(&format!(
        "Will ping {node}. This only checks if the OS process is running and answers on its control socket. \
         Timeout: {millis}."
    ))?;
    match pinged(call) {
        Ok(()) => Ok(Output::Message("Ping succeeded".to_owned())),
        Err(_) => Err(Failure::error(UNAVAILABLE, format!("Failed to connect and authenticate to {node} in {millis}"))),
    }
}

fn await_startup(call: &mut Call<'_>) -> Result<Output, Failure> {
    let timeout = match call.options.timeout {
        None => Some(STARTUP_TIMEOUT),
        Some(Patience::For(timeout)) => Some(timeout),
        Some(Patience::Infinite) => None,
    };
    let mut waited = Duration::ZERO;
    loop {
        match pinged(call) {
            Ok(()) => return Ok(Output::Done),
            Err(error) if timeout.is_some_and(|timeout| waited >= timeout) => {
                let failure = call.failed(&error);
                let code = if matches!(error, ClientError::Unreachable(_)) { failure.code } else { TEMPORARY };
                return Err(Failure { code, ..failure });
            }
            Err(_) => {}
        }
        sleep(POLL);
        waited += POLL;
    }
}

fn await_online_nodes(call: &mut Call<'_>) -> Result<Output, Failure> {
    let count: u32 = call
        .word(0)
        .parse()
        .map_err(|_| call.invalid("Bad argument: target number of nodes must be greater than 0"))?;
    let node = call.node();
    call.banner(&format!("Will wait for at least {count} nodes to join the cluster of {node}. Timeout: 300 seconds."))?;
    if count > 1 {
        return Err(Failure::error(UNAVAILABLE, "this broker is one node: no other can join it"));
    }
    await_startup(call)
}

fn is_running(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node();
    call.banner(&format!("Asking node {node} for its status ..."))?;
    pinged(call).map_err(|error| call.failed(&error))?;
    let text = format!("RabbitMQ on node {node} is fully booted and running");
    let json = json!({"message": text, "result": true});
    Ok(Output::Value { text, json })
}

fn is_booting(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node();
    call.banner(&format!("Asking node {node} for its boot status ..."))?;
    pinged(call).map_err(|error| call.failed(&error))?;
    let text = format!(
        "RabbitMQ on node {node} is fully booted (check with is_running), stopped or has not started booting yet"
    );
    let json = json!({"message": text, "result": false});
    Ok(Output::Value { text, json })
}

fn server_version(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Asking node {} for its RabbitMQ version...", call.node()))?;
    Ok(Output::text(info(call)?.rabbitmq_version))
}

fn erlang_version(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Asking node {} for its Erlang/OTP version...", call.node()))?;
    let info = info(call)?;
    Ok(Output::text(format!("none: this is Leveret {}, which does not run on Erlang", info.version)))
}

/// A listener in a sentence.
pub(super) fn listener_line(listener: &ListenerInfo) -> String {
    let ListenerInfo { interface, port, protocol, purpose, .. } = listener;
    format!("Interface: {interface}, port: {port}, protocol: {}, purpose: {purpose}", protocol.name())
}

fn listeners(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Asking node {} to report its protocol listeners ...", call.node()))?;
    let info = info(call)?;
    let text = info.listeners.iter().map(listener_line).collect::<Vec<_>>().join("\n");
    let json = json!({"result": "ok", "node": call.node(), "listeners": info.listeners});
    Ok(Output::Value { text, json })
}

/// Octets in the unit asked for; gigabytes by default.
fn amount(call: &Call<'_>, bytes: u64) -> Result<String, Failure> {
    let (divisor, unit) = match call.own("unit").map(str::to_ascii_lowercase).as_deref() {
        None | Some("gb" | "gigabytes") => (1e9, "gb"),
        Some("gib" | "gibibytes") => (f64::from(1 << 30), "gib"),
        Some("mb" | "megabytes") => (1e6, "mb"),
        Some("mib" | "mebibytes") => (f64::from(1 << 20), "mib"),
        Some("kb" | "kilobytes") => (1e3, "kb"),
        Some("kib" | "kibibytes") => (f64::from(1 << 10), "kib"),
        Some("b" | "bytes") => (1.0, "bytes"),
        Some(other) => return Err(call.misused(&format!("unit '{other}' is not supported"))),
    };
    // Four digits behind the point, zeros at the end left out but for one.
    let text = format!("{:.4}", approximate(bytes) / divisor);
    let text = text.trim_end_matches('0');
    Ok(format!("{text}{} {unit}", if text.ends_with('.') { "0" } else { "" }))
}

/// A number to be shown in larger units.
fn approximate(number: u64) -> f64 {
    let (high, low) = (u32::try_from(number >> 32), u32::try_from(number & 0xffff_ffff));
    f64::from(high.unwrap_or(u32::MAX)) * 4_294_967_296.0 + f64::from(low.unwrap_or(u32::MAX))
}

fn status(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Status of node {} ...", call.node()))?;
    let info = info(call)?;
    let text = status_text(call, &info)?;
    Ok(Output::Value { text, json: status_json(&info) })
}

fn status_text(call: &Call<'_>, info: &NodeInfo) -> Result<String, Failure> {
    let data = info.data_dir.as_deref().unwrap_or("none: everything is in memory");
    let plugins: Vec<_> = PLUGINS.iter().map(|plugin| format!(" * {plugin}")).collect();
    let listeners: Vec<_> = info.listeners.iter().map(listener_line).collect();
    let sections = [
        (
            "Runtime",
            format!(
                "OS PID: {}\nOS: {}\nUptime (seconds): {}\nIs under maintenance?: {}\nRabbitMQ version: {}\n\
             Leveret version: {}\nNode name: {}",
                info.os_pid,
                info.os,
                info.uptime_seconds,
                info.draining,
                info.rabbitmq_version,
                info.version,
                info.name
            ),
        ),
        ("Plugins", format!("Enabled plugins:\n\n{}", plugins.join("\n"))),
        ("Data directory", format!("Node data directory: {data}\nDamaged and set aside: {}", damage(info))),
        ("Log file(s)", format!(" * {}", info.log_files.join("\n * "))),
        ("Alarms", alarms_text(info)),
        (
            "Memory",
            format!(
                "Total memory used: {}\nCalculation strategy: rss\nMemory high watermark: {}\n\nmessages: {}",
                amount(call, info.memory_bytes)?,
                amount(call, info.memory_limit_bytes)?,
                amount(call, info.message_bytes)?
            ),
        ),
        (
            "File Descriptors",
            format!("Total: {}, limit: {}\nSockets: {}", info.open_files, info.open_files_limit, info.connections),
        ),
        (
            "Free Disk Space",
            format!(
                "Low free disk space watermark: {}\nFree disk space: {}",
                amount(call, info.disk_free_limit_bytes)?,
                info.disk_free_bytes.map_or(Ok("not known".to_owned()), |free| amount(call, free))?
            ),
        ),
        (
            "Totals",
            format!(
                "Connection count: {}\nQueue count: {}\nVirtual host count: {}",
                info.connections, info.queues, info.vhosts
            ),
        ),
        ("Listeners", listeners.join("\n")),
    ];
    Ok(sections.map(|(heading, text)| format!("{heading}\n\n{text}")).join("\n\n"))
}

/// What the store has lost.
fn damage(info: &NodeInfo) -> String {
    match (info.damaged_batches, info.damaged_messages) {
        (0, _) => "nothing".to_owned(),
        (batches, messages) => format!("batches: {batches}, messages in them: {messages}"),
    }
}

/// The alarms, one a line.
pub(super) fn alarms_text(info: &NodeInfo) -> String {
    if info.alarms.is_empty() { "(none)".to_owned() } else { info.alarms.join("\n") }
}

fn status_json(info: &NodeInfo) -> Value {
    json!({
        "pid": info.os_pid,
        "os": info.os,
        "uptime": info.uptime_seconds,
        "is_under_maintenance": info.draining,
        "rabbitmq_version": info.rabbitmq_version,
        "product_name": "Leveret",
        "product_version": info.version,
        "node": info.name,
        "data_directory": info.data_dir,
        "damaged": {"batches": info.damaged_batches, "messages": info.damaged_messages},
        "active_plugins": PLUGINS,
        "alarms": info.alarms,
        "listeners": info.listeners,
        "log_files": info.log_files,
        "memory": {"strategy": "rss", "total": {"rss": info.memory_bytes}, "messages": info.message_bytes},
        "vm_memory_high_watermark_limit": info.memory_limit_bytes,
        "disk_free": info.disk_free_bytes,
        "disk_free_limit": info.disk_free_limit_bytes,
        "file_descriptors": {
            "total_used": info.open_files,
            "total_limit": info.open_files_limit,
            "sockets_used": info.connections,
        },
        "totals": {
            "connection_count": info.connections,
            "queue_count": info.queues,
            "virtual_host_count": info.vhosts,
        },
    })
}

fn memory_breakdown(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Reporting memory breakdown on node {}...", call.node()))?;
    let info = info(call)?;
    let total = info.memory_bytes.max(1);
    let messages = info.message_bytes.min(total);
    let mut lines = Vec::new();
    let mut json = serde_json::Map::new();
    for (what, bytes) in [("messages", messages), ("other", total - messages)] {
        let percentage = (approximate(bytes) / approximate(total) * 10_000.0).round() / 100.0;
        lines.push(format!("{what}: {} ({percentage}%)", amount(call, bytes)?));
        json.insert(what.to_owned(), json!({"bytes": bytes, "percentage": percentage}));
    }
    Ok(Output::Value { text: lines.join("\n"), json: Value::Object(json) })
}

fn environment(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Application environment of node {} ...", call.node()))?;
    let settings: Vec<Setting> = call.ask(&Request::Node(NodeRequest::Environment))?;
    let text = settings.iter().map(Setting::to_string).collect::<Vec<_>>().join("\n");
    Ok(Output::Value { text, json: json!(settings) })
}

fn reload(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Loading the configuration of node {} again ...", call.node()))?;
    let done: Reloaded = call.ask(&Request::Node(NodeRequest::Reload))?;
    let mut lines = Vec::new();
    for (what, names) in [
        ("changed", &done.changed),
        ("certificates read again", &done.certificates),
        ("waits for a restart", &done.waiting),
        ("refused, and stays as it was", &done.refused),
    ] {
        lines.extend(names.iter().map(|name| format!("{what}: {name}")));
    }
    if lines.is_empty() {
        lines.push("nothing has changed".to_owned());
    }
    let text = lines.join("\n");
    if done.refused.is_empty() {
        Ok(Output::Value { text, json: json!(done) })
    } else {
        Err(Failure::error(UNAVAILABLE, text))
    }
}

fn stop(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Stopping and halting node {} ...", call.node()))?;
    match call.try_ask(&Request::Node(NodeRequest::Stop)) {
        Err(ClientError::Unreachable(_)) if call.has("idempotent") => Ok(Output::Done),
        Err(error) => Err(call.failed(&error)),
        Ok(_) => gone(call),
    }
}

fn shutdown(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node();
    let pid = info(call)?.os_pid;
    call.banner(&format!("Shutting down RabbitMQ node {node} running at PID {pid}"))?;
    call.try_ask(&Request::Node(NodeRequest::Stop)).map_err(|error| call.failed(&error))?;
    gone(call)?;
    call.banner(&format!("RabbitMQ node {node} running at PID {pid} successfully shut down"))?;
    Ok(Output::Done)
}

fn gone(call: &mut Call<'_>) -> Result<Output, Failure> {
    if call.wait_for_end() {
        Ok(Output::Done)
    } else {
        Err(Failure::error(TEMPORARY, "the broker was told to stop and still runs"))
    }
}

/// What RabbitMQ does to the application inside its virtual machine cannot be done here.
fn one_process(call: &Call<'_>, what: &str, advice: &str) -> Failure {
    match call.banner(&format!("{what} {} ...", call.node())) {
        Ok(()) => Failure::error(UNAVAILABLE, format!("the broker and its process are one: {advice}")),
        Err(failure) => failure,
    }
}

fn start_app(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Starting node {} ...", call.node()))?;
    pinged(call).map_err(|error| call.failed(&error))?;
    Ok(Output::Done)
}

fn rotate_logs(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Rotating logs for node {} ...", call.node()))?;
    let has_file: bool = call.ask(&Request::Node(NodeRequest::RotateLog))?;
    if !has_file {
        call.banner("The log goes to no file: whoever collects it rotates it.")?;
    }
    Ok(Output::Done)
}

fn set_log_level(call: &mut Call<'_>) -> Result<Output, Failure> {
    let level = call.word(0).to_owned();
    call.ask::<Value>(&Request::Node(NodeRequest::SetLogLevel { level }))?;
    Ok(Output::Done)
}

fn log_location(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Log file location(s) on node {} ...", call.node()))?;
    Ok(Output::text(info(call)?.log_files.join("\n")))
}

fn force_gc(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Nothing to do on node {}: there is no garbage collector", call.node()))?;
    Ok(Output::Done)
}

fn report(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.banner(&format!("Reporting server status of node {} ...", call.node()))?;
    let info = info(call)?;
    let mut text = format!("Status of node {}\n\n{}\n", call.node(), status_text(call, &info)?);
    text.extend(["\n", &super::cluster::status_text(&info), "\n"]);
    let settings: Vec<Setting> = call.ask(&Request::Node(NodeRequest::Environment))?;
    text += "\nEnvironment\n\n";
    text.extend(settings.iter().map(|setting| format!("{setting}\n")));
    text += &super::listings::report(call)?;
    Ok(Output::text(text.trim_end()))
}
