//! The `leveret` command: flags, configuration, logging, and the broker's life.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use leveret::config::{Format, Logging, Settings, Target};
#[cfg(unix)]
use leveret::ctl::Tool;
use leveret::log_file::LogFile;
use leveret::{Broker, Config, ControlSocket, DataDir};
use sd_notify::NotifyState;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// glibc's allocator keeps what is freed, so a memory alarm would never end; this one gives it back within ten seconds.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// An AMQP 0-9-1 message broker, a drop-in for RabbitMQ's clients.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Without a command the broker runs with its defaults: 127.0.0.1 and [::1], port \
                                        5672, data in the user's data folder."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker (the default)
    Server(ServerArgs),
    /// Copy the definitions and messages of a running broker to a file
    #[cfg(unix)]
    Backup(leveret::tools::BackupArgs),
    /// Make a backup the store of a stopped broker
    Restore(leveret::tools::RestoreArgs),
    /// Show what the store of a stopped broker has
    Inspect(leveret::tools::InspectArgs),
    /// Check every checksum of a stopped broker's store, or of a backup
    Verify(leveret::tools::VerifyArgs),
    /// Print all keys of the configuration file, with defaults and meanings, as Markdown
    Reference,
    /// Load any AMQP 0-9-1 broker and measure what it does
    Perf(leveret::perf::PerfArgs),
    #[cfg(unix)]
    /// Look at and change a running broker, with rabbitmqctl's commands (`leveret ctl help`)
    #[command(disable_help_flag = true)]
    Ctl {
        /// A command and what belongs to it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Args, Clone, Debug, Default)]
struct ServerArgs {
    /// Directory of definitions and messages; created if it is missing
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address and port to listen on; may be given more than once
    #[arg(long, value_name = "ADDR:PORT", value_parser = leveret::config::parse_listen)]
    listen: Vec<SocketAddr>,
    /// Address and port of the management HTTP API, or `none`; may be given more than once
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_management_listen)]
    management_listen: Vec<Option<SocketAddr>>,
    /// Address and port of the metrics for Prometheus, or `none`; may be given more than once
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_management_listen)]
    prometheus_listen: Vec<Option<SocketAddr>>,
    /// Keep everything in memory: nothing survives a restart
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// Where operators' tools reach the broker; by default in the data directory
    #[arg(long, value_name = "PATH")]
    control_socket: Option<PathBuf>,
    /// Configuration in rabbitmq.conf's format (also from `RABBITMQ_CONFIG_FILE`)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// error, warning, info, debug or none; `RUST_LOG` overrides it
    #[arg(long, value_name = "LEVEL", value_parser = ["error", "warning", "info", "debug", "none"])]
    log_level: Option<String>,
    /// Log one JSON object a line
    #[arg(long)]
    log_json: bool,
}

fn main() -> ExitCode {
    #[cfg(unix)]
    let mut arguments = std::env::args_os();
    #[cfg(unix)]
    if let Some(tool) = arguments.next().as_deref().and_then(Tool::from_program) {
        let arguments: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
        return leveret::ctl::run(tool, &arguments);
    }
    let result = match Cli::parse().command {
        None => run_server(&ServerArgs::default()),
        Some(Command::Server(args)) => run_server(&args),
        #[cfg(unix)]
        Some(Command::Ctl { arguments }) => return leveret::ctl::run(Tool::Leveret, &arguments),
        #[cfg(unix)]
        Some(Command::Backup(args)) => leveret::tools::backup(&args),
        Some(Command::Restore(args)) => leveret::tools::restore(&args),
        Some(Command::Inspect(args)) => leveret::tools::inspect(&args),
        Some(Command::Reference) => {
            println!("{}", leveret::config::reference());
            Ok(())
        }
        Some(Command::Verify(args)) => leveret::tools::verify(&args),
        Some(Command::Perf(args)) => leveret::perf::run(&args).map_err(|cause| cause.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("leveret: {cause}");
            ExitCode::FAILURE
        }
    }
}

/// An address and port, or `none` for no listener.
fn parse_management_listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "none" { Ok(None) } else { leveret::config::parse_listen(text).map(Some) }
}

/// Flags over environment over file over defaults.
fn settings(args: &ServerArgs) -> Result<Settings, String> {
    let mut settings = Settings::gather(args.config.as_deref()).map_err(|cause| cause.to_string())?;
    if !args.listen.is_empty() {
        settings.listen_on(args.listen.clone());
        settings.set_by("listeners.tcp.*", "flag --listen".to_owned());
    }
    if !args.management_listen.is_empty() {
        settings.config.management.listen.listen_on(args.management_listen.iter().copied().flatten().collect());
        for key in ["management.tcp.ip", "management.tcp.port"] {
            settings.set_by(key, "flag --management-listen".to_owned());
        }
    }
    if !args.prometheus_listen.is_empty() {
        settings.config.prometheus.listen.listen_on(args.prometheus_listen.iter().copied().flatten().collect());
        for key in ["prometheus.tcp.ip", "prometheus.tcp.port"] {
            settings.set_by(key, "flag --prometheus-listen".to_owned());
        }
    }
    if let Some(path) = &args.data_dir {
        settings.config.data_dir = DataDir::Path(path.clone());
        settings.set_by("data_dir", "flag --data-dir".to_owned());
    }
    if let Some(path) = &args.control_socket {
        settings.config.control_socket = ControlSocket::Path(path.clone());
        settings.set_by("control.socket", "flag --control-socket".to_owned());
    }
    if args.ephemeral {
        settings.make_ephemeral();
    }
    if let Some(level) = &args.log_level {
        settings.config.logging.level.clone_from(level);
        settings.set_by("log.console.level", "flag --log-level".to_owned());
    }
    if args.log_json {
        settings.config.logging.format = Format::Json;
        settings.set_by("log.console.formatter", "flag --log-json".to_owned());
    }
    Ok(settings)
}

/// Changes what is logged, by directives.
type SetLog = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Where the log goes: each line to all of these.
#[derive(Clone)]
struct Sinks {
    console: Option<Target>,
    file: Option<Arc<LogFile>>,
}

impl Sinks {
    fn open(logging: &Logging) -> Result<Self, String> {
        let open = |path: PathBuf| {
            LogFile::open(path.clone(), logging.rotation)
                .map_err(|cause| format!("the log file {} cannot be written: {cause}", path.display()))
        };
        let file = logging.path().map(open).transpose()?.map(Arc::new);
        Ok(Self { console: logging.console.then_some(logging.target), file })
    }

    /// Colours are for people.
    fn is_terminal(&self) -> bool {
        self.file.is_none()
            && match self.console {
                Some(Target::Stderr) => std::io::stderr().is_terminal(),
                Some(Target::Stdout) => std::io::stdout().is_terminal(),
                None => false,
            }
    }
}

impl Write for Sinks {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let to_console = match self.console {
            Some(Target::Stderr) => std::io::stderr().write_all(line),
            Some(Target::Stdout) => std::io::stdout().write_all(line),
            None => Ok(()),
        };
        if let Some(file) = &self.file {
            file.as_ref().write_all(line)?;
        }
        to_console.map(|()| line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self.console {
            Some(Target::Stderr) => std::io::stderr().flush(),
            Some(Target::Stdout) => std::io::stdout().flush(),
            None => Ok(()),
        }
    }
}

/// Starts logging; returns how what is logged is changed.
fn init_logging(logging: &Logging, sinks: Sinks) -> Result<SetLog, String> {
    let read = |directives: &str| EnvFilter::try_new(directives).map_err(|cause| format!("log level: {cause}"));
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) => EnvFilter::try_new(directives).map_err(|cause| format!("RUST_LOG: {cause}"))?,
        Err(_) => read(&logging.directives(None)?)?,
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(sinks.is_terminal());
    let subscriber = subscriber.with_writer(move || sinks.clone());
    // The two kinds of subscribers have handles of different types.
    match logging.format {
        Format::Plain => {
            let subscriber = subscriber.with_target(false).with_filter_reloading();
            let handle = subscriber.reload_handle();
            subscriber.init();
            Ok(Box::new(move |directives| handle.reload(read(directives)?).map_err(|cause| cause.to_string())))
        }
        Format::Json => {
            let subscriber = subscriber.json().with_filter_reloading();
            let handle = subscriber.reload_handle();
            subscriber.init();
            Ok(Box::new(move |directives| handle.reload(read(directives)?).map_err(|cause| cause.to_string())))
        }
    }
}

/// How `systemctl status` shows a broker that does its work.
const SERVING: &str = "serving";

fn run_server(args: &ServerArgs) -> Result<(), String> {
    let settings = settings(args)?;
    let sinks = Sinks::open(&settings.config.logging)?;
    let log_file = sinks.file.clone();
    let set_log = init_logging(&settings.config.logging, sinks)?;
    for note in &settings.notes {
        info!("configuration: {note}");
    }
    // Each connection is a file: take as many as the system lets this process have.
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => info!(files, "open files at most"),
        Err(cause) => info!(%cause, "the limit of open files stays as it is"),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| format!("cannot start the runtime: {cause}"))?;
    let args = args.clone();
    runtime.block_on(serve(settings.config, (set_log, log_file), move || self::settings(&args)))
}

async fn serve(
    config: Config,
    (set_log, log_file): (SetLog, Option<Arc<LogFile>>),
    load: impl Fn() -> Result<Settings, String> + Send + Sync + 'static,
) -> Result<(), String> {
    let data_dir = match &config.data_dir {
        DataDir::Ephemeral => "(memory)".to_owned(),
        DataDir::Path(path) => path.display().to_string(),
    };
    info!(
        version = env!("CARGO_PKG_VERSION"),
        data_dir,
        listen = ?config.listen,
        listen_tls = ?config.tls_listen,
        user = config.default_user,
        vhost = %config.default_vhost,
        heartbeat = config.heartbeat_seconds,
        frame_max = config.frame_max,
        channel_max = config.channel_max,
        max_message_size = config.max_message_size,
        node = config.node_name,
        resource_limits = ?config.resource_limits,
        node_limits = ?config.node_limits,
        "Leveret starts"
    );
    let (stop, reload) = (stop_signal()?, reload_signal()?);
    let broker = Broker::start(config).await.map_err(|cause| cause.to_string())?;
    broker.control_log(set_log);
    if let Some(file) = log_file {
        broker.control_log_file(file);
    }
    broker.control_settings(load);
    info!("Server startup complete");
    tell_systemd(&[NotifyState::Ready, NotifyState::Status(SERVING)]);
    let watchdog = sd_notify::watchdog_enabled().map(|patience| tokio::spawn(feed_watchdog(patience)));
    let failed = tokio::select! {
        signal = stop => {
            info!(signal, "stopping");
            false
        }
        () = broker.stop_requested() => false,
        () = broker.failed() => true,
        never = reload_on_signal(&broker, reload) => never,
    };
    tell_systemd(&[NotifyState::Stopping, NotifyState::Status("stopping: clients are told, what waits is written")]);
    broker.shutdown().await;
    if let Some(watchdog) = watchdog {
        watchdog.abort();
    }
    if failed {
        error!("stopped because the store failed");
        return Err("the store failed; see the log".to_owned());
    }
    Ok(())
}

/// Tells systemd how the service stands, if it wants to know.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(cause) = sd_notify::notify(state) {
        info!(%cause, "systemd cannot be told");
    }
}

/// Tells systemd that the runtime is alive, as long as it is. It is the one that messages go through.
async fn feed_watchdog(patience: std::time::Duration) {
    let mut due = tokio::time::interval(patience / 2);
    loop {
        due.tick().await;
        tell_systemd(&[NotifyState::Watchdog]);
    }
}

/// Loads the configuration again at each SIGHUP.
#[cfg(unix)]
async fn reload_on_signal(broker: &Broker, mut signal: tokio::signal::unix::Signal) -> bool {
    while signal.recv().await.is_some() {
        info!("SIGHUP: the configuration is loaded again");
        // systemd wants to know when, to tell this reload from an earlier one.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            tell_systemd(&[NotifyState::Reloading, now, NotifyState::Status("loading the configuration again")]);
        }
        broker.reload().await;
        tell_systemd(&[NotifyState::Ready, NotifyState::Status(SERVING)]);
    }
    std::future::pending().await
}

#[cfg(unix)]
fn reload_signal() -> Result<tokio::signal::unix::Signal, String> {
    let hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
    hangup.map_err(|cause| format!("cannot listen for signals: {cause}"))
}

#[cfg(not(unix))]
async fn reload_on_signal(_: &Broker, (): ()) -> bool {
    std::future::pending().await
}

#[cfg(not(unix))]
fn reload_signal() -> Result<(), String> {
    Ok(())
}

/// Completes at SIGTERM or SIGINT.
#[cfg(unix)]
fn stop_signal() -> Result<impl Future<Output = &'static str>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|cause| format!("cannot listen for signals: {cause}"));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Completes at Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> Result<impl Future<Output = &'static str>, String> {
    Ok(async {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            Err(_) => std::future::pending().await,
        }
    })
}
