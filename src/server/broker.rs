//! Starting and stopping a broker.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use leveret_protocol::ShortString;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::alarms::{Meter, ResourceStatus};
use super::directory::hash_password;
use super::listener::Door;
use super::operator::{LogControl, Operator, Protocol, ServedAddress, SettingsControl};
use super::registry::Registry;
use super::tls::{self, Acceptor};
use super::{alarms, budget, clock, listener, statistics, timer};
use crate::config::{Config, ControlSocket, DataDir, HttpListener, HttpsSettings, Limit, Settings};
#[cfg(unix)]
use crate::control::{self, server::ControlServer};
use crate::definitions;
use crate::engine::directory::{DirectoryError, Record, RecordKey, User, VhostRecord};
use crate::error::AmqpError;
use crate::log_file::LogFile;
use crate::management::{self, Management};
use crate::store::disk::DiskStore;
use crate::store::memory::MemoryStore;
use crate::store::{Recovered, Store};

/// How long clients may take to answer the close of a broker that stops.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// Why a broker does not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// A running broker. [`Broker::shutdown`] stops it in good order; dropping it only stops accepting connections.
#[derive(Debug)]
pub struct Broker {
    registry: Arc<Registry>,
    served: Vec<ServedAddress>,
    tasks: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
    timer: JoinHandle<()>,
    sweeper: tokio::task::JoinHandle<()>,
    monitor: JoinHandle<()>,
    /// Ends the thread that works out rates, by being dropped.
    _statistics: mpsc::Sender<()>,
    operator: Operator,
    management: Option<Box<Management>>,
    #[cfg(unix)]
    control: Option<ControlServer>,
}

impl Broker {
    /// Starts a broker on the current tokio runtime. It accepts connections when this returns.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let broker = leveret::Broker::start(leveret::Config::for_tests()).await.unwrap();
    /// let url = broker.amqp_url();
    /// assert!(url.starts_with("amqp://127.0.0.1:"));
    /// broker.shutdown().await;
    /// # });
    /// ```
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let doors = bind_amqp(&config)?;
        let management_doors =
            bind_http("the management HTTP API", &config.management.listen, "management.ssl", &config.management_ssl)?;
        let metrics_doors =
            bind_http("Prometheus", &config.prometheus.listen, "prometheus.ssl", &config.prometheus_ssl)?;
        let failed = CancellationToken::new();
        let (store, recovered): (Arc<dyn Store>, Recovered) = match &config.data_dir {
            DataDir::Ephemeral => (Arc::new(MemoryStore::default()), Recovered { clean: true, ..Recovered::default() }),
            DataDir::Path(path) => {
                let failed = failed.clone();
                let (store, recovered) = DiskStore::open(path, clock::seed(), move || failed.cancel())
                    .map_err(|cause| StartError(cause.to_string()))?;
                (Arc::new(store), recovered)
            }
        };
        let registry = Registry::new(config, store, recovered, clock::seed(), clock::now());
        // A resource that is low from the start stops the first publisher.
        let mut meter = Meter::new(&registry.config.data_dir, registry.config.resource_limits.total_memory);
        alarms::look(&registry, &mut meter);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut served = Vec::new();
        for door in &doors {
            let address = door.listener.local_addr().map_err(|cause| StartError(cause.to_string()))?;
            let protocol = if door.tls.is_some() { Protocol::AmqpOverTls } else { Protocol::Amqp };
            served.push(ServedAddress { address, protocol });
        }
        for door in &management_doors {
            let address = door.listener.local_addr().map_err(|cause| StartError(cause.to_string()))?;
            let protocol = if door.tls.is_some() { Protocol::Https } else { Protocol::Http };
            served.push(ServedAddress { address, protocol });
        }
        for door in &metrics_doors {
            let address = door.listener.local_addr().map_err(|cause| StartError(cause.to_string()))?;
            let protocol = if door.tls.is_some() { Protocol::PrometheusOverTls } else { Protocol::Prometheus };
            served.push(ServedAddress { address, protocol });
        }
        let operator = Operator::new(registry.clone(), served.clone());
        let of_amqp = doors.iter().find_map(|door| door.tls.clone());
        let of_http = management_doors.iter().chain(&metrics_doors).filter_map(|door| door.tls.clone());
        of_amqp.into_iter().chain(of_http).for_each(|acceptor| operator.add_acceptor(acceptor));
        if let Some(path) = &registry.config.load_definitions {
            load_definitions(&operator, path).await?;
        }
        #[cfg(unix)]
        let control = open_control(&registry.config, &operator)?;
        for (door, ServedAddress { address, protocol }) in doors.into_iter().zip(&served) {
            info!(%address, "listening for {}", protocol.purpose());
            tasks.spawn(listener::run(door, registry.clone(), tasks.clone(), stop.clone()));
        }
        let management = if management_doors.is_empty() && metrics_doors.is_empty() {
            None
        } else {
            let management = Management::start(management_doors, metrics_doors, operator.clone());
            Some(Box::new(management.map_err(StartError)?))
        };
        let timer = tokio::spawn(timer::run(registry.clone()));
        let monitor = tokio::spawn(alarms::run(registry.clone(), meter));
        let sweeper = tokio::spawn(budget::run(registry.clone()));
        let statistics = start_statistics(&registry)?;
        Ok(Self {
            registry,
            served,
            tasks,
            stop,
            failed,
            timer,
            sweeper,
            monitor,
            _statistics: statistics,
            operator,
            management,
            #[cfg(unix)]
            control,
        })
    }

    /// The address of the first listener.
    ///
    /// # Panics
    /// When the configuration had no listener.
    pub fn amqp_addr(&self) -> SocketAddr {
        self.served[0].address
    }

    /// The addresses where AMQP is spoken over TLS.
    pub fn amqps_addrs(&self) -> Vec<SocketAddr> {
        let over_tls = self.served.iter().filter(|served| served.protocol == Protocol::AmqpOverTls);
        over_tls.map(|served| served.address).collect()
    }

    /// The address of the management HTTP API's first listener, if it has one.
    pub fn management_addr(&self) -> Option<SocketAddr> {
        self.management.as_ref().and_then(|management| management.addresses().first().copied())
    }

    /// The address of the first listener for metrics.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        let plain = self.operator.address_of(Protocol::Prometheus);
        plain.or_else(|| self.operator.address_of(Protocol::PrometheusOverTls))
    }

    /// A URL for clients: the first listener with the default vhost.
    pub fn amqp_url(&self) -> String {
        format!("amqp://{}", self.amqp_addr())
    }

    /// Takes a record of the directory, new or changed: a vhost, a user, rights, a policy. Returns when it is on disk; it
    /// counts at once.
    ///
    /// # Errors
    /// When the record breaks a rule, or refers to something that does not exist.
    pub async fn put(&self, record: Record) -> Result<(), DirectoryError> {
        self.registry.put_record(record)?;
        self.registry.flushed().await;
        Ok(())
    }

    /// Removes a record with what refers to it. Connections of a user or in a vhost that goes are closed.
    ///
    /// # Errors
    /// When there is no such record.
    pub async fn remove(&self, key: &RecordKey) -> Result<(), DirectoryError> {
        self.registry.remove_record(key)?;
        self.registry.flushed().await;
        Ok(())
    }

    /// Changes a user in place, as [`Broker::put`] does.
    ///
    /// # Errors
    /// When there is no such user, or the change breaks a rule.
    pub async fn change_user(&self, name: &str, change: impl FnOnce(&mut User)) -> Result<(), DirectoryError> {
        self.registry.change_user(name, change)?;
        self.registry.flushed().await;
        Ok(())
    }

    /// Changes a vhost's own record in place, as [`Broker::put`] does.
    ///
    /// # Errors
    /// When there is no such vhost, or the change breaks a rule.
    pub async fn change_vhost(&self, name: &str, change: impl FnOnce(&mut VhostRecord)) -> Result<(), DirectoryError> {
        self.registry.change_vhost(name, change)?;
        self.registry.flushed().await;
        Ok(())
    }

    /// The hash of a password for a [`User`].
    pub fn hash_password(password: &str) -> String {
        hash_password(password.as_bytes())
    }

    /// How memory and disk stand, and which alarms are in effect.
    pub fn resource_status(&self) -> ResourceStatus {
        self.registry.resource_status()
    }

    /// Sets the memory that the process may use before publishers are stopped, until a restart.
    pub fn set_memory_limit(&self, limit: Limit) {
        self.registry.set_memory_limit(limit);
    }

    /// Sets the space that must be free on the data directory's disk, until a restart.
    pub fn set_disk_free_limit(&self, limit: Limit) {
        self.registry.set_disk_free_limit(limit);
    }

    /// Switches copies of all that is published and delivered in a vhost to `amq.rabbitmq.trace` on or off, until a
    /// restart. False if there is no such vhost.
    pub fn set_tracing(&self, vhost: &ShortString, on: bool) -> bool {
        self.registry.set_tracing(vhost, on)
    }

    /// Completes when the store failed: the broker must be stopped.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Completes when an operator asked for a stop over the control socket: whoever started the broker shuts it down.
    pub async fn stop_requested(&self) {
        self.operator.stop_requested().await;
    }

    /// Says how what is logged is changed, by directives of `tracing`, for operators who want it changed.
    pub fn control_log(&self, set_level: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) {
        self.operator.control_log(LogControl::new(set_level));
    }

    /// Says what file is logged to, for operators who want a new one begun.
    pub fn control_log_file(&self, file: Arc<LogFile>) {
        self.operator.control_log_file(file);
    }

    /// Says how the configuration is loaded again, for operators who have changed it.
    pub fn control_settings(&self, load: impl Fn() -> Result<Settings, String> + Send + Sync + 'static) {
        self.operator.control_settings(SettingsControl::new(load));
    }

    /// Loads the configuration and all certificates again. What can change does; the rest, and what cannot be used, is
    /// named in the log.
    pub async fn reload(&self) {
        // Its outcome is in the log.
        let _done = self.operator.reload_apart().await;
    }

    /// Stops in good order: no new connections, every client is told (320), what is durable is on disk.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(management) = &self.management {
            management.stop();
        }
        #[cfg(unix)]
        if let Some(control) = &mut self.control {
            control.hide();
        }
        let reason = AmqpError::ConnectionForced("broker forced connection closure with reason 'shutdown'".to_owned());
        self.registry.close_connections(&reason);
        self.tasks.close();
        if tokio::time::timeout(SHUTDOWN_PATIENCE, self.tasks.wait()).await.is_err() {
            info!(connections = self.registry.connection_count(), "clients that did not answer are cut off");
        }
        self.operator.stop_redrives(SHUTDOWN_PATIENCE).await;
        self.timer.abort();
        self.sweeper.abort();
        self.monitor.abort();
        let (registry, management) = (self.registry.clone(), self.management.take());
        let closed = tokio::task::spawn_blocking(move || {
            if let Some(mut management) = management {
                management.join();
            }
            registry.close();
        })
        .await;
        if closed.is_err() {
            tracing::error!("closing the store panicked");
        }
        info!("stopped");
    }
}

/// Starts the thread that works out rates: it must not be where the messages are.
fn start_statistics(registry: &Arc<Registry>) -> Result<mpsc::Sender<()>, StartError> {
    let (running, stop) = mpsc::channel();
    let (registry, interval) = (registry.clone(), registry.config.statistics_interval);
    std::thread::Builder::new()
        .name("statistics".to_owned())
        .spawn(move || statistics::run(&registry, interval, &stop))
        .map_err(|cause| StartError(format!("cannot start the thread of the statistics: {cause}")))?;
    Ok(running)
}

/// Opens listeners for HTTP. Those that were asked for must be there; of the default ones another broker on this machine may
/// have taken the port.
fn bind_http(
    what: &str,
    listen: &HttpListener,
    prefix: &'static str,
    over_tls: &HttpsSettings,
) -> Result<Vec<management::Door>, StartError> {
    let mut doors = Vec::new();
    for address in &listen.addresses {
        match management::bind(*address) {
            Ok(listener) => {
                info!(%address, "listening for {what}");
                doors.push(management::Door { listener, tls: None });
            }
            Err(cause) if listen.is_default => tracing::warn!(cause, "not listening"),
            Err(cause) => return Err(StartError(cause)),
        }
    }
    if let Some(address) = over_tls.address() {
        let acceptor = Acceptor::new(prefix, &over_tls.tls, tls::HTTP).map_err(StartError)?;
        let listener = management::bind(address).map_err(StartError)?;
        info!(%address, "listening for {what} over TLS");
        doors.push(management::Door { listener, tls: Some(acceptor) });
    }
    Ok(doors)
}

/// Opens the listeners for AMQP.
fn bind_amqp(config: &Config) -> Result<Vec<Door>, StartError> {
    let tls = (!config.tls_listen.is_empty()).then(|| Acceptor::new("ssl_options", &config.tls, tls::AMQP));
    let tls = tls.transpose().map_err(StartError)?;
    let mut doors = Vec::new();
    let addresses = config.listen.iter().map(|address| (address, None));
    let tls_addresses = config.tls_listen.iter().map(|address| (address, tls.clone()));
    for (address, tls) in addresses.chain(tls_addresses) {
        match listener::bind(*address, config.sockets.backlog) {
            Ok(listener) => doors.push(Door { listener, tls }),
            // A machine without IPv6 still gets a broker on the default addresses.
            Err(cause) if config.listen_is_default && address.is_ipv6() => info!(cause, "not listening"),
            Err(cause) => return Err(StartError(cause)),
        }
    }
    Ok(doors)
}

/// Takes in the definitions that the configuration names, before anybody can connect.
async fn load_definitions(operator: &Operator, path: &std::path::Path) -> Result<(), StartError> {
    for (file, definitions) in definitions::read(path).map_err(|cause| StartError(cause.to_string()))? {
        let imported = operator.import(definitions, "/").await;
        let imported = imported.map_err(|cause| StartError(format!("definitions {file}: {cause}")))?;
        info!(file, taken = imported.taken, "definitions taken in");
        for kept in imported.kept {
            tracing::warn!(file, "left as it is, although the definitions differ: {kept}");
        }
    }
    Ok(())
}

/// Opens the control socket. One that was asked for must be there; one that nobody named is done without.
#[cfg(unix)]
fn open_control(config: &Config, operator: &Operator) -> Result<Option<ControlServer>, StartError> {
    let Some(path) = control::socket_path(config) else { return Ok(None) };
    match ControlServer::start(&path, operator.clone()) {
        Ok(control) => Ok(Some(control)),
        Err(cause) if matches!(config.control_socket, ControlSocket::Path(_)) => Err(StartError(cause)),
        Err(cause) => {
            tracing::warn!(cause, "operators' tools cannot reach this broker");
            Ok(None)
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.cancel();
        self.timer.abort();
        self.sweeper.abort();
        self.monitor.abort();
    }
}
