//! Loading the configuration again while the broker runs: what can change does, and the rest is named.
//!
//! Certificates and keys are read again each time, whether or not their keys changed. What cannot be used – a file with a
//! mistake, a certificate without its key – leaves everything that it concerns as it is.

use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::{Operator, OperatorError};
use crate::config::{Config, Settings, TlsSettings};
use crate::server::tls::{Acceptor, Held};

/// How the configuration is loaded again; whoever loaded it provides it.
#[derive(Clone)]
pub(crate) struct SettingsControl(Arc<Load>);

type Load = dyn Fn() -> Result<Settings, String> + Send + Sync;

impl SettingsControl {
    pub(crate) fn new(load: impl Fn() -> Result<Settings, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(load))
    }
}

impl fmt::Debug for SettingsControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SettingsControl")
    }
}

/// What is needed to load the configuration again.
#[derive(Debug)]
pub(super) struct Reloading {
    control: OnceLock<SettingsControl>,
    /// What was loaded last, without what waits for a restart. The lock is held during a reload: one at a time.
    loaded: Mutex<Config>,
    acceptors: Mutex<Vec<Arc<Acceptor>>>,
}

impl Reloading {
    pub(super) fn new(config: Config) -> Self {
        Self { control: OnceLock::new(), loaded: Mutex::new(config), acceptors: Mutex::default() }
    }
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// Keys whose new values count now.
    pub(crate) changed: Vec<String>,
    /// Keys whose new values wait for a restart.
    pub(crate) waiting: Vec<String>,
    /// The listeners, by the prefixes of their keys, whose certificates were read again.
    pub(crate) certificates: Vec<String>,
    /// What could not be used, and stays as it was.
    pub(crate) refused: Vec<String>,
}

impl Operator {
    /// Says how the configuration is loaded again; only the first word counts.
    pub(crate) fn control_settings(&self, control: SettingsControl) {
        let _kept = self.node.reloading.control.set(control);
    }

    /// Has the certificates of a listener read again with each reload.
    pub(crate) fn add_acceptor(&self, acceptor: Arc<Acceptor>) {
        self.node.reloading.acceptors.lock().push(acceptor);
    }

    /// The certificates that listeners use.
    pub(crate) fn certificates(&self) -> Vec<Held> {
        let acceptors = self.node.reloading.acceptors.lock();
        acceptors.iter().flat_map(|acceptor| acceptor.certificates()).collect()
    }

    /// Loads the configuration again, on a thread where reading files disturbs nobody.
    pub(crate) async fn reload_apart(&self) -> Result<Reloaded, OperatorError> {
        let operator = self.clone();
        let done = tokio::task::spawn_blocking(move || operator.reload()).await;
        done.unwrap_or_else(|_| Err(OperatorError::Unsupported("the reload failed; see the log".to_owned())))
    }

    /// Loads the configuration again.
    fn reload(&self) -> Result<Reloaded, OperatorError> {
        let reloading = &self.node.reloading;
        let mut loaded = reloading.loaded.lock();
        let new = match reloading.control.get() {
            None => loaded.clone(),
            Some(control) => match (control.0)() {
                Ok(settings) => settings.config,
                Err(cause) => {
                    error!(cause, "the configuration has a mistake: the old one stays");
                    return Err(OperatorError::Invalid(cause));
                }
            },
        };
        let (mut now, waiting) = loaded.differences(&new);
        let mut reloaded = Reloaded::default();
        for acceptor in reloading.acceptors.lock().iter() {
            let prefix = acceptor.prefix();
            match acceptor.reload(settings_of(&new, prefix)) {
                Ok(()) => reloaded.certificates.push(prefix.to_owned()),
                Err(cause) => {
                    error!(cause, "TLS is not reloaded: new connections get the old certificate");
                    reloaded.refused.push(cause);
                    now.retain(|key| !key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')));
                }
            }
        }
        loaded.take_over(&now, &new);
        self.registry.change_live(|live| live.take_over(&now, &new));
        if now.iter().any(|key| key.starts_with("log."))
            && let Some(control) = self.node.log_control.get()
            && let Err(cause) = new.logging.directives(None).and_then(|directives| (control.0)(&directives))
        {
            reloaded.refused.push(cause);
        }
        reloaded.changed = now.iter().map(|key| (*key).to_owned()).collect();
        reloaded.waiting = waiting.iter().map(|key| (*key).to_owned()).collect();
        info!(changed = ?reloaded.changed, certificates = ?reloaded.certificates, "configuration reloaded");
        if !reloaded.waiting.is_empty() {
            warn!(keys = ?reloaded.waiting, "these settings have changed and wait for a restart");
        }
        Ok(reloaded)
    }
}

fn settings_of<'a>(config: &'a Config, prefix: &str) -> &'a TlsSettings {
    match prefix {
        "management.ssl" => &config.management_ssl.tls,
        "prometheus.ssl" => &config.prometheus_ssl.tls,
        _ => &config.tls,
    }
}
